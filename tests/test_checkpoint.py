"""Model directories: every form that is read gives the same model, and every attack gives one clear error."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

import npdistil
from npdistil.checkpoint.quantize import quantize_checkpoint
from npdistil.checkpoint.tensors import is_finite
from npdistil.checkpoint.weights import INDEX, SINGLE, Checkpoint, read_checkpoint
from npdistil.errors import CheckpointError

Make = Callable[..., Path]
ARCHITECTURES = sorted(tiny.HEADS)


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """A tree's arrays by their dotted names."""
    if isinstance(node, np.ndarray):
        return {path: node}
    items = enumerate(node) if isinstance(node, list) else node.items()
    return {name: leaf for key, child in items for name, leaf in leaves(child, f"{path}.{key}".strip(".")).items()}


def every_array(checkpoint: Checkpoint) -> dict[str, Any]:
    return leaves(checkpoint.params) | leaves(checkpoint.head)


def assert_equal(one: Checkpoint, other: Checkpoint) -> None:
    assert one.config == other.config
    ours, theirs = every_array(one), every_array(other)
    assert sorted(ours) == sorted(theirs)
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype, name
        assert np.array_equal(array, theirs[name]), name


# What is read


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("changes", [{"prefix": False}, {"shards": 3}], ids=str)
def test_prefix_and_shards_make_no_difference(make: Make, architecture: str, changes: dict[str, Any]) -> None:
    plain = read_checkpoint(make(architectures=[architecture]))
    assert_equal(read_checkpoint(make(architectures=[architecture], **changes)), plain)


def test_aliases_in_the_config_make_no_difference(make: Make) -> None:
    directory = make()
    plain = read_checkpoint(directory)
    settings = json.loads((directory / "config.json").read_text())
    for name, alias in (("dim", "hidden_size"), ("n_layers", "num_hidden_layers"), ("n_heads", "num_attention_heads")):
        settings[alias] = settings.pop(name)
    (directory / "config.json").write_text(json.dumps(settings))
    assert_equal(read_checkpoint(directory), plain)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_float_type_is_read_to_the_last_bit(make: Make, architecture: str, dtype: str) -> None:
    arrays = tiny.tensors(tiny.config(architectures=[architecture]))
    read = every_array(read_checkpoint(make(arrays=arrays, dtype=dtype, architectures=[architecture])))
    for name, array in arrays.items():
        if dtype == "F16":
            array = array.astype(np.float16)
        elif dtype == "BF16":
            array = (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        found = read[name.removeprefix("distilbert.").removeprefix("transformer.")]
        assert np.array_equal(found, array), name
        if "_embeddings" in name and dtype == "F16":
            assert found.dtype == np.float16
        else:
            assert found.dtype == np.float32, name


def test_types_may_be_mixed(make: Make) -> None:
    names = list(tiny.tensors(tiny.config()))
    mixed = {name: ("F32", "F16", "BF16")[i % 3] for i, name in enumerate(names)}
    assert len(every_array(read_checkpoint(make(dtype=mixed)))) == len(names)


@pytest.mark.parametrize("shift", range(1, 4))
def test_arrays_are_aligned_wherever_the_header_ends(make: Make, shift: int) -> None:
    directory = make()
    plain = read_checkpoint(directory)
    whole = (directory / SINGLE).read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    moved = make()
    (moved / SINGLE).write_bytes(tiny.with_header(whole[8:end] + b" " * shift, whole[end:]))
    assert_equal(read_checkpoint(moved), plain)
    assert all(array.flags.aligned for array in every_array(read_checkpoint(moved)).values())


def test_a_buffer_of_position_ids_is_ignored(make: Make) -> None:
    directory = make()
    plain = read_checkpoint(directory)
    arrays = tiny.tensors(tiny.config())
    arrays["distilbert.embeddings.position_ids"] = np.arange(24, dtype=np.int64)[None]
    assert_equal(read_checkpoint(make(arrays=arrays, dtype={"distilbert.embeddings.position_ids": "I64"})), plain)


def test_a_tied_projector_is_the_embedding_table_whether_or_not_it_is_in_the_file(make: Make) -> None:
    changes = {"architectures": ["DistilBertForMaskedLM"]}
    absent = read_checkpoint(make(**changes))
    arrays = tiny.tensors(tiny.config(**changes))
    arrays["vocab_projector.weight"] = arrays["distilbert.embeddings.word_embeddings.weight"]
    assert_equal(read_checkpoint(make(arrays=arrays, **changes)), absent)
    table = absent.params["embeddings"]["word_embeddings"]["weight"]
    assert np.array_equal(absent.head["vocab_projector"]["weight"], table)


def test_an_untied_projector_is_its_own_table(make: Make) -> None:
    directory = make(architectures=["DistilBertForMaskedLM"], tie_word_embeddings=False)
    checkpoint = read_checkpoint(directory)
    table = checkpoint.params["embeddings"]["word_embeddings"]["weight"]
    assert not np.array_equal(checkpoint.head["vocab_projector"]["weight"], table)


@pytest.mark.parametrize("shards", [1, 3])
def test_size_is_that_of_the_weights_on_disk(make: Make, shards: int) -> None:
    directory = make(shards=shards)
    assert read_checkpoint(directory).size == sum(f.stat().st_size for f in directory.glob("*.safetensors"))


def test_int8_embedding_tables_come_with_their_scales(make: Make) -> None:
    directory = make()
    quantize_checkpoint(directory, directory / "int8")
    arrays = int8_arrays(directory / "int8")
    table = np.arange(len(tiny.VOCABULARY) * 8).reshape(-1, 8).astype(np.int8)
    arrays["distilbert.embeddings.word_embeddings.weight"] = table
    arrays["distilbert.embeddings.word_embeddings.weight_scale"] = np.ones((len(table), 1), np.float32)
    (directory / "int8" / SINGLE).write_bytes(tiny.serialized(arrays))
    words = read_checkpoint(directory / "int8").params["embeddings"]["word_embeddings"]
    assert np.array_equal(words["weight"], table)
    assert words["weight_scale"].shape == (len(table), 1)


def int8_arrays(directory: Path) -> dict[str, Any]:
    arrays = load_file(directory / SINGLE)
    return {name: a if a.dtype == np.int8 else a.astype(np.float32) for name, a in arrays.items()}


# What is not: files


def refused(directory: Path, *says: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(directory)
    message = str(caught.value)
    assert "\n" not in message
    for part in says:
        assert part in message
    return message


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "config.json")


def test_a_file_in_the_folders_place_is_named(make: Make) -> None:
    refused(make() / SINGLE, SINGLE)


def test_an_empty_folder_lacks_its_config(tmp_path: Path) -> None:
    refused(tmp_path, "config.json does not exist")


@pytest.mark.parametrize("path", ["nul\0byte", "x" * 300, "x/" * 3000, "\ud800"])
def test_paths_that_no_file_can_have_are_refused(path: str) -> None:
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_missing_weights_are_named(make: Make) -> None:
    directory = make()
    (directory / SINGLE).unlink()
    refused(directory, SINGLE, INDEX)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_a_pickle_is_refused_unopened_with_the_command_that_converts_it(make: Make, name: str) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(directory / "sprung"),))

    directory = make()
    (directory / SINGLE).unlink()
    (directory / name).write_bytes(pickle.dumps(Trap()))
    refused(directory, name, "pickle", "save_pretrained", str(directory))
    assert not (directory / "sprung").exists()


def test_safetensors_are_read_where_a_pickle_lies_beside_them(make: Make) -> None:
    directory = make()
    (directory / "pytorch_model.bin").write_bytes(b"anything")
    read_checkpoint(directory)


def test_a_directory_in_the_place_of_the_weights_is_refused(make: Make) -> None:
    directory = make()
    (directory / SINGLE).unlink()
    (directory / SINGLE).mkdir()
    refused(directory, SINGLE)


def header(**entry: Any) -> bytes:
    whole = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry}
    return json.dumps(whole).encode()


HOSTILE = {
    "empty": b"",
    "only a length": (8).to_bytes(8, "little"),
    "length beyond the file": (10**6).to_bytes(8, "little") + b"{}",
    "length of 2**63": (2**63).to_bytes(8, "little") + b"{}",
    "length of 2**64 - 1": b"\xff" * 8 + b"{}",
    "length of 0": tiny.with_header(b"", b""),
    "no JSON": tiny.with_header(b"not json", b""),
    "no UTF-8": tiny.with_header(b'{"\xff": 1}', b""),
    "a list": tiny.with_header(b"[]", b""),
    "null": tiny.with_header(b"null", b""),
    "deep": tiny.with_header(b'{"a":' * 50_000, b""),
    "an entry that is null": tiny.with_header(b'{"a": null}', b""),
    "unknown type": tiny.with_header(header(dtype="F31"), bytes(8)),
    "type that is a number": tiny.with_header(header(dtype=32), bytes(8)),
    "missing shape": tiny.with_header(b'{"a": {"dtype": "F32", "data_offsets": [0, 8]}}', bytes(8)),
    "negative shape": tiny.with_header(header(shape=[-2]), bytes(8)),
    "shape of strings": tiny.with_header(header(shape=["2"]), bytes(8)),
    "shape that overflows": tiny.with_header(header(shape=[2**33, 2**33]), bytes(8)),
    "shape that overflows to 0": tiny.with_header(header(shape=[2**32, 2**32], data_offsets=[0, 0]), b""),
    "shape beyond 64 bits": tiny.with_header(header(shape=[2**70]), bytes(8)),
    "shape with a hidden zero": tiny.with_header(header(shape=[0, 2**63], data_offsets=[0, 0]), b""),
    "shape other than the bytes": tiny.with_header(header(shape=[3]), bytes(8)),
    "offsets beyond the file": tiny.with_header(header(data_offsets=[0, 800], shape=[200]), bytes(8)),
    "offsets back to front": tiny.with_header(header(data_offsets=[8, 0]), bytes(8)),
    "offsets that are negative": tiny.with_header(header(data_offsets=[-8, 0]), bytes(8)),
    "bytes that belong to nothing": tiny.with_header(header(), bytes(16)),
    "hole": tiny.with_header(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}',
        bytes(12),
    ),
    "overlap": tiny.with_header(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        bytes(12),
    ),
    "same name twice": tiny.with_header(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}',
        bytes(8),
    ),
    "same name twice, the other way": tiny.with_header(
        b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        bytes(8),
    ),
    "metadata of numbers": tiny.with_header(b'{"__metadata__": {"a": 1}}', b""),
    "a zip": b"PK\x03\x04" + bytes(100),
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(make: Make, name: str) -> None:
    directory = make()
    (directory / SINGLE).write_bytes(HOSTILE[name])
    refused(directory, str(directory))


@pytest.mark.parametrize("dtype", ["I64", "I32", "U8", "BOOL", "F8_E4M3", "C64"])
def test_types_that_are_no_weights_are_named(make: Make, dtype: str) -> None:
    size = {"I64": 8, "I32": 4, "C64": 8}.get(dtype, 1)
    directory = make()
    whole = (directory / SINGLE).read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    entries = json.loads(whole[8:end])
    del entries["classifier.bias"]
    last = max(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
    # What stood last is left out, so that the new one can stand there.
    entries["classifier.bias"] = {"dtype": dtype, "shape": [2], "data_offsets": [last, last + 2 * size]}
    content = tiny.with_header(json.dumps(entries).encode(), whole[end : end + last] + bytes(2 * size))
    (directory / SINGLE).write_bytes(content)
    try:
        with safe_open(directory / SINGLE, framework="numpy"):
            named: tuple[str, ...] = f"classifier.bias in a type that cannot be read: {dtype}", "F32"
    except SafetensorError:  # an older library does not know this type itself
        named = ("is not a whole safetensors file",)
    refused(directory, SINGLE, *named)


@pytest.mark.parametrize("cut", [1, 9, 100, 1000, -1, -100])
def test_a_cut_file_is_refused(make: Make, cut: int) -> None:
    directory = make()
    whole = (directory / SINGLE).read_bytes()
    (directory / SINGLE).write_bytes(whole[:cut])
    refused(directory, str(directory / SINGLE), "whole safetensors file")


# What is not: shards


def index(directory: Path, content: object) -> Path:
    (directory / INDEX).write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize(
    "content", [[], None, {}, {"weight_map": None}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": "x"}]
)
def test_an_index_without_a_map_is_refused(make: Make, content: object) -> None:
    refused(index(make(shards=2), content), INDEX, "weight_map")


def test_a_broken_index_is_refused(make: Make) -> None:
    directory = make(shards=2)
    (directory / INDEX).write_text("{")
    refused(directory, INDEX)


@pytest.mark.parametrize(
    "name",
    ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".", "", "~/x", "x\0y", "x" * 300, "\ud800", 7, None],
)
def test_shards_that_are_no_files_of_the_folder_are_refused(make: Make, name: object) -> None:
    directory = make(shards=2)
    (directory.parent / "x.safetensors").write_bytes(tiny.serialized({"a": np.zeros(1, np.float32)}))
    refused(index(directory, {"weight_map": {"a": name}}), str(directory))


def test_a_missing_shard_is_named(make: Make) -> None:
    directory = make(shards=3)
    (directory / "model-00002-of-00003.safetensors").unlink()
    refused(directory, "model-00002-of-00003.safetensors")


def test_a_tensor_in_two_shards_is_refused(make: Make) -> None:
    directory = make(shards=2)
    first, second = sorted(directory.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    refused(directory, "twice")


def test_a_tensor_with_and_without_prefix_is_refused(make: Make) -> None:
    arrays = tiny.tensors(tiny.config()) | tiny.tensors(tiny.config(), prefix=False)
    refused(make(arrays=arrays), "twice")


# What is not: tensors

NAMES = list(tiny.tensors(tiny.config()))
PLAIN_NAMES = [name.removeprefix("distilbert.") for name in NAMES]


def test_missing_unexpected_and_wrongly_shaped_tensors_are_all_named_in_one_message(make: Make) -> None:
    arrays = tiny.tensors(tiny.config())
    del arrays["classifier.bias"], arrays["distilbert.transformer.layer.1.ffn.lin2.weight"]
    arrays["distilbert.pooler.dense.weight"] = np.zeros((8, 8), np.float32)
    arrays["extra"] = np.zeros((), np.float32)
    arrays["pre_classifier.weight"] = np.zeros((8, 9), np.float32)
    arrays["distilbert.embeddings.LayerNorm.bias"] = np.zeros((), np.float32)
    arrays["classifier.weight"] = np.full((2, 8), np.nan, np.float32)
    arrays["pre_classifier.bias"] = np.zeros(8, np.int8)
    refused(
        make(arrays=arrays),
        "missing: classifier.bias ([2]), transformer.layer.1.ffn.lin2.weight ([8, 12])",
        "unexpected: extra ([]), pooler.dense.weight ([8, 8])",
        "of another shape: embeddings.LayerNorm.bias ([] for [8]), pre_classifier.weight ([8, 9] for [8, 8])",
        "of the wrong type: pre_classifier.bias (int8 for a float)",
        "not finite: classifier.weight",
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_tensor_is_missed_by_name_and_shape(make: Make, name: str) -> None:
    arrays = tiny.tensors(tiny.config())
    shape = list(arrays.pop(name).shape)
    refused(make(arrays=arrays), f"missing: {name.removeprefix('distilbert.')} ({shape})")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_without_its_tensors_is_refused(make: Make, architecture: str) -> None:
    bare = tiny.tensors(tiny.config(architectures=["DistilBertModel"]))
    if architecture == "DistilBertModel":
        read_checkpoint(make(arrays=bare, architectures=[architecture]))
    else:
        message = refused(make(arrays=bare, architectures=[architecture]), architecture, "missing")
        for name in tiny.HEADS[architecture]:
            assert f"{name}.weight" in message


def test_a_head_that_the_config_does_not_name_is_left_out_with_a_warning(make: Make) -> None:
    directory = make(arrays=tiny.tensors(tiny.config()), architectures=["DistilBertModel"])
    with pytest.warns(match="left out: classifier.bias"):
        assert read_checkpoint(directory).head == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("name", NAMES)
def test_one_nan_or_infinity_in_any_tensor_of_any_type_is_refused(
    make: Make, name: str, dtype: str, bad: float
) -> None:
    arrays = tiny.tensors(tiny.config())
    arrays[name].flat[arrays[name].size // 2] = bad
    message = refused(make(arrays=arrays, dtype=dtype), "not finite")
    assert message.count("NaN or infinity") == 1
    assert name.removeprefix("distilbert.") in message


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_scales_of_int8_layers_that_are_not_finite_are_refused(make: Make, dtype: str, bad: float) -> None:
    directory = make()
    quantize_checkpoint(directory, directory / "int8")
    arrays = int8_arrays(directory / "int8")
    name = "distilbert.transformer.layer.1.attention.v_lin.weight_scale"
    arrays[name][3] = bad
    (directory / "int8" / SINGLE).write_bytes(tiny.serialized(arrays, dtype))
    refused(directory / "int8", "not finite: transformer.layer.1.attention.v_lin.weight_scale")


def test_large_finite_weights_are_no_infinity() -> None:
    assert is_finite(np.full(10, 3e38, np.float32))  # the sum overflows
    assert is_finite(np.full(10, 65504, np.float16))
    assert is_finite(np.array([3e38, -3e38], np.float32))
    assert is_finite(np.empty((0, 3), np.float32))
    assert is_finite(np.empty((0, 3), np.float16))


def test_infinities_that_cancel_are_seen() -> None:
    assert not is_finite(np.array([np.inf, -np.inf], np.float32))
    assert not is_finite(np.array([-np.inf, np.inf], np.float16))


def test_int8_weights_without_their_config_are_of_the_wrong_type(make: Make) -> None:
    directory = make()
    quantize_checkpoint(directory, directory / "int8")
    (directory / SINGLE).write_bytes((directory / "int8" / SINGLE).read_bytes())
    refused(directory, "of the wrong type", "int8 for a float", "unexpected", "q_lin.weight_scale")


def test_float_weights_with_the_config_of_int8_ones_lack_their_scales(make: Make) -> None:
    directory = make()
    quantize_checkpoint(directory, directory / "int8")
    (directory / "int8" / SINGLE).write_bytes((directory / SINGLE).read_bytes())
    refused(directory / "int8", "missing", "q_lin.weight_scale ([8, 1])", "float32 for int8")


def test_scales_of_another_shape_are_refused(make: Make) -> None:
    directory = make()
    quantize_checkpoint(directory, directory / "int8")
    arrays = int8_arrays(directory / "int8")
    name = "distilbert.transformer.layer.0.ffn.lin1.weight_scale"
    arrays[name] = arrays[name].reshape(-1)
    (directory / "int8" / SINGLE).write_bytes(tiny.serialized(arrays))
    refused(directory / "int8", "transformer.layer.0.ffn.lin1.weight_scale ([12] for [12, 1])")


@pytest.mark.parametrize(("field", "value"), [("vocab_size", 2**24), ("dim", 2**16), ("n_layers", 2**10)])
def test_a_config_that_claims_too_much_is_refused_without_the_memory_for_it(make: Make, field: str, value: int) -> None:
    directory = make()
    settings = json.loads((directory / "config.json").read_text()) | {field: value}
    (directory / "config.json").write_text(json.dumps(settings))
    refused(directory, "does not hold")


# Fuzzing: a good file with a few bytes changed either loads or is refused

GOOD = tiny.serialized(tiny.tensors(tiny.config(n_layers=1, vocab_size=7, max_position_embeddings=4)))
HEADER_END = 8 + int.from_bytes(GOOD[:8], "little")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fuzzed")
    return tiny.write(directory, n_layers=1, vocab_size=7, max_position_embeddings=4, tokenizer=None)


def reads_or_refuses(directory: Path, content: bytes) -> None:
    (directory / SINGLE).unlink(missing_ok=True)  # a new file: what is mapped still must not change under its user
    (directory / SINGLE).write_bytes(content)
    try:
        checkpoint = read_checkpoint(directory)
    except CheckpointError as error:
        assert str(directory) in str(error)
    else:
        assert all(np.isfinite(array).all() for array in every_array(checkpoint).values())


@given(
    changes=st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), min_size=1, max_size=3)
    | st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8)
)
@settings(max_examples=300)
def test_changed_bytes_load_or_are_refused(fuzzed: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    reads_or_refuses(fuzzed, bytes(content))


@given(start=st.integers(0, len(GOOD)), length=st.integers(0, 40), insert=st.binary(max_size=20))
@settings(max_examples=150)
def test_cut_and_inserted_bytes_load_or_are_refused(fuzzed: Path, start: int, length: int, insert: bytes) -> None:
    reads_or_refuses(fuzzed, GOOD[:start] + insert + GOOD[start + length :])


VALUES = st.one_of(
    st.integers(-1, 2**65), st.lists(st.integers(-1, 2**64), max_size=3), st.sampled_from(["F16", "BF16", "I8"])
)


@given(data=st.data())
@settings(max_examples=200)
def test_changed_headers_load_or_are_refused(fuzzed: Path, data: st.DataObject) -> None:
    content = json.loads(GOOD[8:HEADER_END])
    for name in data.draw(st.lists(st.sampled_from(sorted(set(content) - {"__metadata__"})), min_size=1, max_size=2)):
        key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        content[name][key] = data.draw(VALUES)
    reads_or_refuses(fuzzed, tiny.with_header(json.dumps(content).encode(), GOOD[HEADER_END:]))


# What is left out, renamed or rounded, as the reference does or better


def renamed(arrays: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    return {change(name): array for name, array in arrays.items()}


@pytest.mark.parametrize("norm", ["LayerNorm", "layer_norm"])
def test_norms_by_the_names_of_tensorflow_are_read(make: Make, norm: str) -> None:
    arrays = renamed(
        tiny.tensors(tiny.config()),
        lambda name: name.replace(f"{norm}.weight", f"{norm}.gamma").replace(f"{norm}.bias", f"{norm}.beta"),
    )
    assert_equal(read_checkpoint(make(arrays=arrays)), read_checkpoint(make()))


def test_names_of_a_compiled_model_are_read_without_what_torch_compile_puts_there(make: Make) -> None:
    arrays = renamed(tiny.tensors(tiny.config()), lambda name: f"_orig_mod.{name}")
    directory = make(arrays=arrays)
    with pytest.warns(match="40 tensors with _orig_mod. in their names"):
        found = read_checkpoint(directory)
    assert_equal(found, read_checkpoint(make()))


@pytest.mark.parametrize("name", ["loss_fct.weight", "position_ids", "distilbert.pooler.dense.weight"])
def test_stray_tensors_are_left_out_with_one_warning(make: Make, name: str) -> None:
    arrays = tiny.tensors(tiny.config()) | {name: np.arange(3)}
    directory = make(arrays=arrays, dtype={name: "I64"})
    with pytest.warns(match=rf"left out: {name.removeprefix('distilbert.')} \(\[3\]\)"):
        found = read_checkpoint(directory)
    assert_equal(found, read_checkpoint(make()))


def test_a_block_more_than_config_json_says_is_an_error(make: Make) -> None:
    refused(make(arrays=tiny.tensors(tiny.config(n_layers=3))), "unexpected: transformer.layer.2.attention.k_lin.bias")


def test_float64_is_rounded_and_must_fit(make: Make) -> None:
    arrays = {name: array.astype(np.float64) * (1 + 1e-12) for name, array in tiny.tensors(tiny.config()).items()}
    assert_equal(read_checkpoint(make(arrays=arrays, dtype="F64")), read_checkpoint(make()))
    arrays["classifier.bias"][0] = 1e300
    refused(make(arrays=arrays, dtype="F64"), "not finite: classifier.bias")


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if "Choice" not in name])
@pytest.mark.parametrize("absent", [None, []])
def test_the_tensors_say_which_head_it_is_where_config_json_does_not(
    make: Make, architecture: str, absent: Any
) -> None:
    directory = make(architectures=[architecture])
    settings = json.loads((directory / "config.json").read_text()) | {"architectures": absent}
    (directory / "config.json").write_text(json.dumps(settings))
    assert_equal(read_checkpoint(directory), read_checkpoint(make(architectures=[architecture])))


def masked(make: Make, projector: Any, alone: bool = False) -> Path:
    arrays = tiny.tensors(tiny.config(architectures=["DistilBertForMaskedLM"]))
    words = arrays["distilbert.embeddings.word_embeddings.weight"]
    arrays["vocab_projector.weight"] = words * projector
    if alone:
        del arrays["distilbert.embeddings.word_embeddings.weight"]
    return make(arrays=arrays, architectures=["DistilBertForMaskedLM"])


def test_a_projector_of_its_own_is_used_although_config_json_says_that_it_is_tied(make: Make, tmp_path: Path) -> None:
    directory = masked(make, 2)
    with pytest.warns(match="vocab_projector.weight that is not its word embeddings"):
        found = read_checkpoint(directory)
    table = found.params["embeddings"]["word_embeddings"]["weight"]
    assert np.array_equal(found.head["vocab_projector"]["weight"], 2 * table)
    assert not found.config.tied
    with pytest.warns(match="vocab_projector.weight"):
        quantize_checkpoint(directory, tmp_path / "int8")
    copy = read_checkpoint(tmp_path / "int8")
    assert np.array_equal(copy.head["vocab_projector"]["weight"], found.head["vocab_projector"]["weight"])


def test_a_projector_alone_is_the_table_of_words_too(make: Make) -> None:
    assert_equal(read_checkpoint(masked(make, 1, alone=True)), read_checkpoint(masked(make, 1)))


# What a file that cannot be read is said to be


@pytest.mark.parametrize("name", ["config.json", SINGLE, "tokenizer.json", "tokenizer_config.json"])
def test_a_git_lfs_pointer_is_called_one(make: Make, name: str) -> None:
    directory = make()
    (directory / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    refused(directory, str(directory / name), "pointer of Git LFS", "git lfs pull")


@pytest.mark.parametrize("name", ["config.json", SINGLE, "tokenizer.json"])
def test_a_link_that_leads_nowhere_is_called_one(make: Make, name: str) -> None:
    directory = make()
    (directory / name).unlink()
    (directory / name).symlink_to("../blobs/4d7a")
    refused(directory, str(directory / name), "is a link to ../blobs/4d7a, which does not exist")


@pytest.mark.parametrize("name", ["config.json", SINGLE, "tokenizer.json"])
def test_a_file_that_this_user_may_not_read_is_no_broken_one(
    make: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make()
    (directory / name).chmod(0o600)
    own_open, own_read = os.open, Path.read_bytes

    def denied(path: Any, *arguments: Any, **more: Any) -> int:  # as root, who may run this, everything can be read
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return own_open(path, *arguments, **more)

    def denied_too(path: Path) -> bytes:
        denied(path, os.O_RDONLY)
        return own_read(path)

    monkeypatch.setattr(os, "open", denied)
    monkeypatch.setattr(Path, "read_bytes", denied_too)
    refused(directory, str(directory / name), "no permission", "mode is 0600")


# What happens to a file afterwards


def test_all_is_read_at_load(make: Make, engine: str) -> None:
    directory = make()
    loaded = npdistil.load(directory, engine=engine, threads=1)
    expected = npdistil.load(make(), engine=engine, threads=1).scores(["i like it"])
    directory.rename(directory.with_name("elsewhere"))
    assert np.array_equal(loaded.scores(["i like it"]), expected)


@pytest.mark.parametrize("change", ["written over", "cut short", "emptied"])
def test_a_file_that_changes_under_a_model_changes_no_answer(make: Make, engine: str, change: str) -> None:
    directory = make(dim=64, hidden_dim=256)
    loaded = npdistil.load(directory, engine=engine, threads=1)
    texts = ["i like it", "the film was boring"]
    expected = loaded.scores(texts)
    if change == "written over":
        (directory / SINGLE).write_bytes(tiny.serialized(tiny.tensors(tiny.config(dim=64, hidden_dim=256), seed=1)))
    else:
        os.truncate(directory / SINGLE, 5000 if change == "cut short" else 0)
    assert np.array_equal(loaded.scores(texts), expected)
    if engine == "compiled":  # what is not held is read again, and noticed
        with pytest.raises(CheckpointError, match=r"model\.safetensors was (changed|cut short) after it was loaded"):
            loaded.attentions([[2, 5, 3]])
    with pytest.raises(CheckpointError, match="after it was loaded"):
        _ = loaded.checkpoint.fingerprint


# The fingerprint


def test_a_fingerprint_is_that_of_the_content(make: Make, tmp_path: Path) -> None:
    directory = make()
    first = read_checkpoint(directory).fingerprint
    assert read_checkpoint(make()).fingerprint == first == read_checkpoint(directory).fingerprint
    assert len(first) == 64
    assert read_checkpoint(make(seed=1)).fingerprint != first
    (directory / "README.md").write_text("says nothing to a model")
    assert read_checkpoint(directory).fingerprint == first
    tiny.write_tokenizer(directory, truncation_side="left")
    assert read_checkpoint(directory).fingerprint != first


# Adapters


def lora(directory: Path, module: str = "transformer.layer.0.attention.q_lin", **changes: Any) -> tuple[Any, Any]:
    """An adapter beside the model; gives A and B."""
    random = np.random.default_rng(7)
    a, b = (random.normal(size=shape).astype(np.float32) for shape in ((2, 8), (8, 2)))
    name = f"base_model.model.distilbert.{module}"
    arrays = {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    arrays["base_model.model.classifier.bias"] = np.array([1, 2], np.float32)
    (directory / "adapter_model.safetensors").write_bytes(tiny.serialized(arrays))
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "modules_to_save": ["classifier"], "bias": "none"}
    settings |= {"base_model_name_or_path": "somebody/base"} | changes
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    return a, b


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, 3.0),
        ({"use_rslora": True}, 6 / 2**0.5),
        ({"fan_in_fan_out": True}, 3.0),
        ({"alpha_pattern": {"q_lin": 1}}, 0.5),
        ({"alpha_pattern": {"k_lin": 1}}, 3.0),
    ],
    ids=str,
)
def test_a_lora_adapter_is_merged(make: Make, changes: dict[str, Any], scale: float) -> None:
    directory = make()
    plain = read_checkpoint(directory)
    a, b = lora(directory, **changes)
    merged = read_checkpoint(directory)
    expected = plain.params["layer"][0]["attention"]["q_lin"]["weight"] + np.float32(scale) * (b @ a)
    assert merged.params["layer"][0]["attention"]["q_lin"]["weight"] == pytest.approx(expected, abs=1e-5)
    assert merged.head["classifier"]["bias"].tolist() == [1, 2]
    assert np.array_equal(
        merged.params["layer"][1]["ffn"]["lin1"]["weight"], plain.params["layer"][1]["ffn"]["lin1"]["weight"]
    )
    assert merged.fingerprint != plain.fingerprint


def test_an_int8_copy_has_the_adapter_in_it(make: Make, tmp_path: Path) -> None:
    directory = make()
    lora(directory)
    quantize_checkpoint(directory, tmp_path / "int8")
    assert not (tmp_path / "int8" / "adapter_config.json").exists()
    assert read_checkpoint(tmp_path / "int8").head["classifier"]["bias"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; only LORA can be merged"),
        ({"use_dora": True}, "use_dora = True"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"something_new": [1]}, r"something_new = \[1\]"),
        ({"lora_alpha": "much"}, "lora_alpha is 'much'"),
    ],
)
def test_other_adapters_are_refused_by_name(make: Make, changes: dict[str, Any], says: str) -> None:
    directory = make()
    lora(directory, **changes)
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(directory)


def test_an_adapter_for_a_layer_that_is_not_there_is_refused(make: Make) -> None:
    directory = make()
    lora(directory, module="transformer.layer.7.attention.q_lin")
    refused(directory, "the adapter has and the model has not", "transformer.layer.7.attention.q_lin.weight ([8, 8])")


def test_a_directory_of_an_adapter_alone_says_what_it_is(make: Make) -> None:
    directory = make()
    lora(directory)
    (directory / "config.json").unlink()
    refused(directory, "holds an adapter, not a model", "somebody/base")
