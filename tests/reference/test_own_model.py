"""benchmarks/own.py on a small model and what torch exports of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import transformers

import npdistil

pytest.importorskip("onnxruntime")

OWN = Path(__file__).parents[2] / "benchmarks" / "own.py"
TEXTS = ["the film is not good", "i like it", "it was a boring movie , i hate it", "東 京", "great " * 40]


def export(folder: Path, path: Path) -> None:
    """Logits of ids and a mask, for any number of texts of any length."""
    ids = torch.tensor([[2, 7, 9, 3], [2, 7, 3, 0]])
    axes = {"input_ids": {0: "B", 1: "L"}, "attention_mask": {0: "B", 1: "L"}, "logits": {0: "B"}}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, return_dict=False).eval()
    torch.onnx.export(
        model, (ids, (ids > 0).long()), str(path),
        input_names=["input_ids", "attention_mask"], output_names=["logits"], dynamic_axes=axes, dynamo=False,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # the exporter's notes on its own future
def test_an_onnx_file_is_compared_with_the_folder_that_it_was_exported_from(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "model")
    export(folder, folder / "model.onnx")
    other = tiny.write(tmp_path / "other", seed=1)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")

    def run(model: Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(OWN), str(model), "--onnx", str(folder / "model.onnx")]
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
