"""benchmarks/own.py on small models and what torch exports of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import transformers

import npdistil

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import own
import peers

pytest.importorskip("onnxruntime")

TEXTS = ["the film is not good", "i like it", "it was a boring movie , i hate it", "東 京", "great " * 40]
pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's notes on its own future


def export(folder: Path, path: Path, *more: str) -> None:
    """Logits of ids, a mask and `more`, for any number of texts of any length."""
    ids = torch.tensor([[2, 7, 9, 3], [2, 7, 3, 0]])
    names = ["input_ids", "attention_mask", *more]
    axes = {name: {0: "B", 1: "L"} for name in names} | {"logits": {0: "B"}}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, return_dict=False).eval()
    torch.onnx.export(
        model, (ids, (ids > 0).long(), *(torch.zeros_like(ids) for _ in more)), str(path),
        input_names=names, output_names=["logits"], dynamic_axes=axes, dynamo=False,
    )  # fmt: skip


def test_an_onnx_file_is_compared_with_the_folder_that_it_was_exported_from(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "model")
    export(folder, folder / "model.onnx")
    other = tiny.write(tmp_path / "other", seed=1)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")

    def run(model: Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, own.__file__, str(model), "--onnx", str(folder / "model.onnx")]
        command += ["--texts", str(tmp_path / "texts.txt"), "--rounds", "1", "--seconds", "0.01", "--agree", "1"]
        path = os.pathsep.join([str(Path(npdistil.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, timeout=500, check=False
        )

    done = run(folder)
    assert done.returncode == 0, done.stderr
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert rows["labels as ONNX Runtime's"].split()[0] == "100.0%"
    assert float(rows["largest difference of a logit"].split()[0]) < 1e-5
    assert {"texts a second", "ms, one text", "ms, one text after 200 ms", "peak memory, MB"} <= rows.keys()
    failed = run(other)
    assert failed.returncode == 1
    assert "so they do not run the same model; nothing was timed" in failed.stderr


def test_a_berts_file_gets_token_types_and_texts_are_cut_as_npdistil_cuts_them(tmp_path: Path) -> None:
    folder = tiny.write_bert(tmp_path / "model")
    export(folder, tmp_path / "model.onnx", "token_type_ids")
    model = npdistil.load(folder)
    own.cutting(model, tmp_path)
    runner = peers.OnnxFile(tmp_path, tmp_path / "model.onnx", 1, "as exported")
    ids = [encoding.ids for encoding in runner.tokenizer.encode_batch(TEXTS)]
    assert max(map(len, ids)) == model.config.max_position_embeddings
    assert np.abs(runner.logits(ids) - model.logits(ids)).max() < 1e-5
    assert runner.predict(TEXTS, 2) == model.scores(TEXTS, long_text="truncate").argmax(axis=1).tolist()


def test_a_file_that_asks_for_something_else_is_refused_by_the_name_of_it(tmp_path: Path) -> None:
    folder = tiny.write_bert(tmp_path / "model")
    export(folder, tmp_path / "model.onnx", "token_type_ids", "position_ids")
    own.cutting(npdistil.load(folder), tmp_path)
    with pytest.raises(ValueError, match="asks for position_ids, which own.py does not give"):
        peers.OnnxFile(tmp_path, tmp_path / "model.onnx", 1, "as exported")
