"""float32 -> int8: the numbers, the file that is written, and that it is written whole or not at all."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file

import npdistil
from npdistil import quantize_checkpoint, read_checkpoint
from npdistil.checkpoint.quantize import in_precision, quantize_linear, weight_errors
from npdistil.errors import CheckpointError

Make = Callable[..., Path]
SIZES = {"dim": 32, "hidden_dim": 48, "n_heads": 4}
IDS = [np.random.default_rng(3).integers(0, 90, n).tolist() for n in (1, 5, 24, 9, 16)]


# Numbers


def test_a_row_is_scaled_so_that_its_largest_number_is_half_a_step_beyond_127() -> None:
    weight = np.array([[-2, 0.5, 1], [0, 0, 0], [1e-3, 3e-3, -1e-3]], np.float32)
    layer = quantize_linear(weight, np.ones(3, np.float32))
    assert layer["weight"].dtype == np.int8
    assert layer["weight_scale"].shape == (3, 1)
    assert layer["weight_scale"].dtype == np.float32
    assert layer["weight_scale"][[0, 2], 0] == pytest.approx([2 / 127.5, 3e-3 / 127.5])
    assert layer["weight"][0].tolist() in ([-128, 32, 64], [-127, 32, 64])
    assert layer["weight"][1].tolist() == [0, 0, 0]
    assert layer["weight_scale"][1, 0] > 0
    assert layer["weight"][2].tolist() == [42, 127, -42]
    assert layer["bias"].tolist() == [1, 1, 1]


def test_no_weight_moves_by_more_than_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(50, 70)).astype(np.float32)
    layer = quantize_linear(weight, np.zeros(50, np.float32))
    distance = np.abs(layer["weight"] * layer["weight_scale"] - weight)
    assert (distance <= 0.5001 * layer["weight_scale"]).all()
    assert distance.max() > 0


def test_weights_that_are_whole_steps_stay_as_they_are() -> None:
    integers = np.random.default_rng(0).integers(-127, 128, (20, 30))
    integers[:, 0] = 127
    weight = (integers * (2 / 255)).astype(np.float32)
    layer = quantize_linear(weight * np.float32(127.5 / 127), np.zeros(20, np.float32))
    assert np.abs(layer["weight"] - integers).max() <= 1


def test_precision_is_changed_only_in_linear_layers_of_the_encoder(make: Make) -> None:
    params = read_checkpoint(make()).params
    int8 = in_precision(params, "int8")
    assert int8["embeddings"] is params["embeddings"]
    for old, new in zip(params["layer"], int8["layer"], strict=True):
        assert new["sa_layer_norm"] is old["sa_layer_norm"]
        assert new["output_layer_norm"] is old["output_layer_norm"]
        layers = [*new["attention"].values(), *new["ffn"].values()]
        assert [layer["weight"].dtype for layer in layers] == [np.int8] * 6
        assert [layer["bias"].dtype for layer in layers] == [np.float32] * 6
    assert "weight_scale" not in params["layer"][0]["ffn"]["lin1"]


def test_what_has_the_wanted_precision_already_is_shared(make: Make) -> None:
    params = read_checkpoint(make()).params
    lin1 = params["layer"][0]["ffn"]["lin1"]
    assert in_precision(params, "float32")["layer"][0]["ffn"]["lin1"] is lin1
    int8 = in_precision(params, "int8")
    assert in_precision(int8, "int8")["layer"][0]["ffn"]["lin1"] is int8["layer"][0]["ffn"]["lin1"]


def test_int8_made_float_and_int8_again_is_the_same(make: Make) -> None:
    params = in_precision(read_checkpoint(make(**SIZES)).params, "int8")
    again = in_precision(in_precision(params, "float32"), "int8")
    for old, new in zip(params["layer"], again["layer"], strict=True):
        for name in ("lin1", "lin2"):
            # 127 of 127.5 became the largest, so a step is 127 or 128 parts in 127.5 of the old one.
            ratio = new["ffn"][name]["weight_scale"] / old["ffn"][name]["weight_scale"]
            assert ((ratio > 0.996) & (ratio < 1.004)).all()
            assert np.abs(new["ffn"][name]["weight"].astype(int) - old["ffn"][name]["weight"]).max() <= 1


# The table of errors


def test_the_error_of_each_linear_layer_is_given_by_name(make: Make, tmp_path: Path) -> None:
    source = make(**SIZES)
    errors = quantize_checkpoint(source, tmp_path / "int8")
    assert errors == weight_errors(read_checkpoint(source).params)
    parts = [f"attention.{name}" for name in ("q_lin", "k_lin", "v_lin", "out_lin")] + ["ffn.lin1", "ffn.lin2"]
    assert sorted(name for name, _ in errors) == sorted(f"layer.{i}.{part}" for i in range(2) for part in parts)
    assert all(1e-4 < error < 0.02 for _, error in errors)


def test_an_error_is_the_distance_from_the_weights_in_parts_of_their_size(make: Make) -> None:
    params = read_checkpoint(make(**SIZES)).params
    weight = params["layer"][1]["ffn"]["lin2"]["weight"].astype(np.float64)
    layer = quantize_linear(**params["layer"][1]["ffn"]["lin2"])
    rounded = layer["weight"] * layer["weight_scale"].astype(np.float64)
    expected = ((rounded - weight) ** 2).sum() ** 0.5 / (weight**2).sum() ** 0.5
    assert dict(weight_errors(params))["layer.1.ffn.lin2"] == pytest.approx(expected, rel=1e-3)


def test_a_layer_of_zeros_has_no_error(make: Make, tmp_path: Path) -> None:
    arrays = tiny.tensors(tiny.config())
    arrays["distilbert.transformer.layer.0.ffn.lin1.weight"][:] = 0
    errors = dict(quantize_checkpoint(make(arrays=arrays), tmp_path / "int8"))
    assert errors["layer.0.ffn.lin1"] == 0


# The directory that is written


def test_what_is_written_is_read_and_gives_the_very_same_bits(make: Make, tmp_path: Path) -> None:
    source = make(**SIZES)
    quantize_checkpoint(source, tmp_path / "int8")
    written = npdistil.load(tmp_path / "int8", engine="numpy")
    assert (written.precision, written.config.quantized) == ("int8", True)
    checkpoint = read_checkpoint(source)
    for old, new in zip(
        in_precision(checkpoint.params, "int8")["layer"], written.checkpoint.params["layer"], strict=True
    ):
        for name in ("weight", "weight_scale", "bias"):
            assert new["attention"]["q_lin"][name].tobytes() == old["attention"]["q_lin"][name].tobytes()
    for name, layer in checkpoint.head.items():
        assert written.checkpoint.head[name]["weight"].tobytes() == layer["weight"].tobytes()
    # Only the embeddings were rounded in addition, so asking for int8 of the source differs by that alone.
    difference = np.abs(written.logits(IDS) - npdistil.load(source, engine="numpy", precision="int8").logits(IDS)).max()
    print(f"int8 embeddings: largest difference of logits {difference:.1e}")
    assert difference < 0.2


@pytest.mark.parametrize("architecture", sorted(tiny.HEADS))
@pytest.mark.parametrize("prefix", [True, False])
def test_every_head_survives(make: Make, tmp_path: Path, architecture: str, prefix: bool) -> None:
    source = make(architectures=[architecture], prefix=prefix)
    quantize_checkpoint(source, tmp_path / "int8")
    old, new = read_checkpoint(source), read_checkpoint(tmp_path / "int8")
    assert new.config.architecture == architecture
    assert sorted(new.head) == sorted(old.head)


def test_an_untied_projector_is_kept_and_a_tied_one_is_not_stored(make: Make, tmp_path: Path) -> None:
    for tied in (True, False):
        source = make(architectures=["DistilBertForMaskedLM"], tie_word_embeddings=tied)
        target = tmp_path / f"int8-{tied}"
        quantize_checkpoint(source, target)
        tensors = load_file(target / "model.safetensors")
        assert ("vocab_projector.weight" in tensors) == (not tied)
        # What the projector needs too stays finer.
        words = tensors["distilbert.embeddings.word_embeddings.weight"]
        assert words.dtype == (np.float16 if tied else np.int8)
        stored = json.loads((target / "config.json").read_text())["quantization_config"]["config_groups"]
        assert sorted(group["targets"] for group in stored.values()) == [["Embedding"]] * (not tied) + [["Linear"]]
        assert read_checkpoint(target).head["vocab_projector"]["weight"].shape == (len(tiny.VOCABULARY), 8)


def test_the_file_has_the_names_and_types_of_compressed_tensors(make: Make, tmp_path: Path) -> None:
    quantize_checkpoint(make(), tmp_path / "int8")
    tensors = load_file(tmp_path / "int8" / "model.safetensors")
    types = {name.split(".", 4)[-1] if ".layer." in name else name: a.dtype.name for name, a in tensors.items()}
    for table in ("word_embeddings", "position_embeddings"):
        assert types[f"distilbert.embeddings.{table}.weight"] == "int8"
        assert types[f"distilbert.embeddings.{table}.weight_scale"] == "float32"
    assert types["distilbert.embeddings.LayerNorm.weight"] == "float32"
    assert types["classifier.weight"] == types["pre_classifier.weight"] == "float32"
    for part in ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"):
        assert [types[f"{part}.{leaf}"] for leaf in ("weight", "weight_scale", "bias")] == [
            "int8",
            "float32",
            "float32",
        ]
    stored = json.loads((tmp_path / "int8" / "config.json").read_text())
    quantization = stored.pop("quantization_config")
    assert stored == tiny.config()
    assert quantization["ignore"] == ["classifier", "pre_classifier"]
    assert (quantization["quant_method"], quantization["format"]) == ("compressed-tensors", "int-quantized")


def test_tokenizer_files_come_along_byte_for_byte(make: Make, tmp_path: Path) -> None:
    source = make()
    (source / "special_tokens_map.json").write_text('{"unk_token": "[UNK]"}')
    tiny.write_tokenizer(source, "vocab")
    (source / "notes.txt").write_text("not a part of a model")
    quantize_checkpoint(source, tmp_path / "int8")
    names = {"tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"}
    assert {path.name for path in (tmp_path / "int8").iterdir()} == names | {"config.json", "model.safetensors"}
    assert all((tmp_path / "int8" / name).read_bytes() == (source / name).read_bytes() for name in names)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_half_precision_and_sharded_sources_become_one_file(
    make: Make, tmp_path: Path, dtype: str, shards: int
) -> None:
    quantize_checkpoint(make(dtype=dtype, shards=shards), tmp_path / "int8")
    assert npdistil.load(tmp_path / "int8", engine="numpy").logits(IDS).shape == (5, 2)


def test_missing_parents_of_the_target_are_made(make: Make, tmp_path: Path) -> None:
    quantize_checkpoint(str(make()), str(tmp_path / "a" / "b" / "c"))
    assert read_checkpoint(tmp_path / "a" / "b" / "c").config.quantized


def test_the_source_stays_as_it_was(make: Make, tmp_path: Path) -> None:
    source = make()
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    quantize_checkpoint(source, tmp_path / "int8")
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


# What is refused, and that nothing is left then


def left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_int8_source_is_refused(make: Make, tmp_path: Path) -> None:
    quantize_checkpoint(make(), tmp_path / "int8")
    with pytest.raises(CheckpointError, match="int8 already"):
        quantize_checkpoint(tmp_path / "int8", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("kind", ["directory", "empty directory", "file", "source"])
def test_an_existing_target_is_refused_and_kept(make: Make, tmp_path: Path, kind: str) -> None:
    source = make()
    target = source if kind == "source" else tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind != "source":
        target.mkdir()
        if kind == "directory":
            (target / "mine").write_text("mine")
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(CheckpointError, match="exists; choose a new directory"):
        quantize_checkpoint(source, target)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_broken_source_leaves_nothing(make: Make, tmp_path: Path) -> None:
    source = make()
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    before = left(tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        quantize_checkpoint(source, tmp_path / "int8")
    assert left(tmp_path) == before


def test_a_target_that_cannot_be_made_is_one_clear_error(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file" / "int8", tmp_path / ("x" * 300)):
        with pytest.raises(CheckpointError, match="cannot be written|exists"):
            quantize_checkpoint(make(), target)


@pytest.mark.parametrize("fails", ["write_bytes", "write_text", "replace"])
def test_a_disk_that_fills_up_leaves_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    source = make()
    before = left(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, fails, full)
    with pytest.raises(CheckpointError, match="int8 cannot be written: .*No space"):
        quantize_checkpoint(source, tmp_path / "int8")
    assert left(tmp_path) == before


def test_nothing_is_seen_under_its_name_before_it_is_whole(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    copy = shutil.copyfile

    def spy(source: Path, target: Path) -> None:
        seen.append((tmp_path / "int8").exists())
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", spy)
    quantize_checkpoint(make(), tmp_path / "int8")
    assert seen == [False, False]


def test_the_command_prints_the_largest_errors_and_writes_the_directory(make: Make, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "npdistil", "quantize", str(make()), str(tmp_path / "int8")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "layer.0.ffn.lin1" in done.stdout or "layer.1" in done.stdout
    assert read_checkpoint(tmp_path / "int8").config.quantized
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 2
    assert again.stderr.startswith("npdistil: error: ")
