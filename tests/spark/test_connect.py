"""Spark Connect: the same results through a local server."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import npdistil

Make = Callable[..., Path]
MISSING = [name for name in ("grpc", "grpc_status") if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"Spark Connect is not installed: {', '.join(MISSING)} missing")
def test_everything_works_through_a_server(make: Make, tmp_path: Path) -> None:
    model, other = make(), make(seed=7)
    before, after = (scores(directory) for directory in (model, other))
    vector = npdistil.Embedder(npdistil.load(model, threads=1)).transform(["good film"])
    script = Path(__file__).parent / "connect.py"
    done = subprocess.run(
        [sys.executable, str(script), str(model), str(other), str(tmp_path)],
        stdout=subprocess.PIPE,
        timeout=900,
        check=True,
    )
    found = json.loads(next(line for line in done.stdout.decode().splitlines() if line.startswith("{")))
    assert ".connect." in found["session"]
    assert found["metadata"] == {"annotatorType": "category"}
    assert found["annotated"] == found["stage"] == found["pipeline"] == [[max(before, key=before.__getitem__)], []]
    assert found["plain"] == [before, None]
    assert found["sql"] == [before]
    assert np.array(found["vector"], np.float32).tobytes() == vector.tobytes()
    assert found["late"] == [before, None]  # of the files that travelled with it
    assert found["again"] == [after, None] != [before, None]


def scores(model: Path) -> dict[str, float]:
    (answer,) = npdistil.pipeline("text-classification", model, threads=1)(["good film"], top_k=None)
    return {each["label"]: each["score"] for each in answer}
