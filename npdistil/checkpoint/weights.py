"""A model directory, as the Hugging Face Hub has it <-> Config and arrays, checked by name, shape, type and value."""

import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from ..distilbert.encoder import Array, Params
from ..distilbert.heads import SHAPES
from ..errors import CheckpointError
from .config import Config, read_config, read_json
from .tokenizer import FILES as TOKENIZER_FILES
from .tokenizer import Tokenization, read_tokenization

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8}  # NumPy has no bfloat16
TABLES = ("embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight")
IGNORED = {"embeddings.position_ids"}  # 0, 1, 2, ...: a buffer that older versions of transformers saved


@dataclass(frozen=True)
class Checkpoint:
    """What a model directory holds.

    `params` is the encoder's tree as `encoder.encode` takes it, `head` that of `config.architecture`. Embedding
    tables stay memory-mapped in the type of the file (float32, float16, or int8 with a `weight_scale`); all else
    is float32, but for the weights of int8 layers.
    """

    directory: Path
    config: Config
    params: Params
    head: Params
    size: int  # bytes of the weights on disk
    own_tokenization: Tokenization | None = field(default=None, repr=False)
    mapped: tuple[mmap.mmap, ...] = field(default=(), repr=False)  # the files

    @property
    def tokenization(self) -> Tokenization:
        """The tokenizer and what is said beside it.

        Raises:
            CheckpointError: the directory has none; token ids can be used without.
        """
        if self.own_tokenization is None:
            return read_tokenization(self.directory, self.config.vocab_size)
        return self.own_tokenization

    @property
    def tokenizer(self) -> Tokenizer:
        """The `tokenizers.Tokenizer`; neither truncates nor pads.

        Raises:
            CheckpointError: as `tokenization`.
        """
        return self.tokenization.tokenizer

    def release(self) -> None:
        """Let go of the pages that have been read; those that are needed come back from the page cache."""
        for data in self.mapped:
            data.madvise(mmap.MADV_DONTNEED)


def read_checkpoint(directory: str | os.PathLike[str]) -> Checkpoint:
    """Read and check a model directory.

    Raises:
        CheckpointError: anything missing, broken, of another shape or type, or not finite; says all of it at once.

    Example:
        >>> import npdistil
        >>> checkpoint = npdistil.read_checkpoint(npdistil.bundled_model())
        >>> checkpoint.config.labels, checkpoint.params["embeddings"]["word_embeddings"]["weight"].shape
        (('NEGATIVE', 'POSITIVE'), (30522, 384))
    """
    directory = Path(directory)
    if not os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        raise CheckpointError(f"{directory} is not a directory with a model: expected config.json and {SINGLE} in it")
    config = read_config(directory)
    files = weight_files(directory)
    tensors: dict[str, Array] = {}
    mapped = []
    for file in files:
        found, data = read_tensors(file)
        mapped.append(data)
        for name, array in found.items():
            name = name.removeprefix("distilbert.")
            if name in tensors:
                raise CheckpointError(f"{file}: {name} is there twice")
            tensors[name] = array
    if config.tied:
        tensors.pop("vocab_projector.weight", None)
    _check(config, tensors, directory)
    params, head = _trees(config, tensors)
    size = sum(file.stat().st_size for file in files)
    has_tokenizer = any((directory / name).exists() for name in TOKENIZER_FILES)
    tokenization = read_tokenization(directory, config.vocab_size) if has_tokenizer else None
    checkpoint = Checkpoint(directory, config, params, head, size, tokenization, tuple(mapped))
    checkpoint.release()  # checking has read every page
    return checkpoint


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model directory: one, or the shards that an index names."""
    if (directory / SINGLE).exists():
        return [directory / SINGLE]
    if (directory / INDEX).exists():
        index = read_json(directory / INDEX)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{directory / INDEX} has no weight_map, which should name a file for each tensor")
        names = sorted({str(name) for name in weight_map.values()})
        if strange := [name for name in names if Path(name).name != name]:
            raise CheckpointError(f"{directory / INDEX} names files outside of its folder: {', '.join(strange)}")
        if missing := [name for name in names if not os.path.isfile(directory / name)]:  # noqa: PTH113 - as above
            raise CheckpointError(f"{directory} lacks shards that its index names: {', '.join(missing)}")
        return [directory / name for name in names]
    if pickled := [*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.pth")]:
        raise CheckpointError(
            f"{pickled[0]} is a pickle, which can run any code when it is opened, and is not read. "
            "Convert it once, where torch and transformers are installed: python -c 'import sys; from transformers "
            "import AutoModelForSequenceClassification as M; "
            f"M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])' {directory}"
        )
    raise CheckpointError(f"{directory} has neither {SINGLE} nor {INDEX}")


def read_tensors(file: Path) -> tuple[dict[str, Array], mmap.mmap]:
    """The tensors of one safetensors file, and the memory that they are mapped to; bfloat16 is copied into float32.

    The library checks the header (lengths, offsets, overlaps). Its own NumPy reader copies every tensor, so the
    checked offsets are mapped here.
    """
    try:
        with safe_open(file, framework="numpy"):
            pass
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is not a whole safetensors file: {error}") from None
    header.pop("__metadata__", None)
    header = {name: entry for name, entry in header.items() if name.removeprefix("distilbert.") not in IGNORED}
    if strange := {name: entry["dtype"] for name, entry in header.items() if entry["dtype"] not in DTYPES}:
        known = ", ".join(DTYPES)
        raise CheckpointError(f"{file} has tensors of types that cannot be read: {_listed(strange)}; known: {known}")
    try:
        return {name: _array(data, 8 + length, **entry) for name, entry in header.items()}, data
    except ValueError as error:  # a shape that no array can have, as [0, 2**63]
        raise CheckpointError(f"{file} has a tensor that is too large: {error}") from None


def _array(data: mmap.mmap, start: int, dtype: str, shape: list[int], data_offsets: list[int]) -> Array:
    """One tensor, in place; bfloat16, the upper half of a float32, as a copy."""
    kind, count = np.dtype(DTYPES[dtype]), math.prod(shape)
    array = np.frombuffer(data, kind, count, start + data_offsets[0]) if count else np.empty(0, kind)
    if dtype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return np.require(array, requirements="A").reshape(shape)


def expected_shapes(config: Config, scales: set[str]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each tensor that a checkpoint of this configuration has, without the prefix.

    `scales` are the names among these that end in `weight_scale` and are there: those layers are int8.
    """
    sizes = {"D": config.dim, "F": config.hidden_dim, "V": config.vocab_size, "C": len(config.labels)}
    shapes: dict[str, tuple[int, ...]] = {
        TABLES[0]: (config.vocab_size, config.dim),
        TABLES[1]: (config.max_position_embeddings, config.dim),
    }
    linears: dict[str, tuple[Any, Any]] = dict(SHAPES[config.architecture])
    norms = ["embeddings.LayerNorm"]
    for i in range(config.n_layers):
        layer = f"transformer.layer.{i}"
        linears |= {f"{layer}.attention.{name}": ("D", "D") for name in ("q_lin", "k_lin", "v_lin", "out_lin")}
        linears |= {f"{layer}.ffn.lin1": ("F", "D"), f"{layer}.ffn.lin2": ("D", "F")}
        norms += [f"{layer}.sa_layer_norm", f"{layer}.output_layer_norm"]
        if config.quantized:
            scales = scales | {f"{name}.weight_scale" for name in linears if name.startswith(layer)}
    if "vocab_projector" in linears:
        norms.append("vocab_layer_norm")
    for name, letters in linears.items():
        out, width = (sizes.get(letter, letter) for letter in letters)
        shapes |= {f"{name}.weight": (out, width), f"{name}.bias": (out,)}
    for name in norms:
        shapes |= {f"{name}.weight": (config.dim,), f"{name}.bias": (config.dim,)}
    if config.tied:
        shapes.pop("vocab_projector.weight", None)
    if config.quantized:
        weights = {name.removesuffix("_scale") for name in scales}
        shapes |= {f"{name}_scale": (shape[0], 1) for name, shape in shapes.items() if name in weights}
    return shapes


def is_finite(array: Array) -> bool:
    """Whether an array has neither NaN nor infinity, at the speed of memory: a sum with either is not finite."""
    if array.dtype == np.int8:
        return True
    if array.dtype == np.float16:  # slow to add up; its exponent is all ones for NaN and infinity
        return array.size == 0 or int((array.view(np.uint16) & np.uint16(0x7FFF)).max()) < 0x7C00
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def _check(config: Config, tensors: Mapping[str, Array], directory: Path) -> None:
    expected = expected_shapes(config, {name for name in tensors if name.endswith("weight_scale")})
    int8 = {name for name in expected if f"{name}_scale" in expected}
    missing = {name: list(shape) for name, shape in expected.items() if name not in tensors}
    unexpected = {name: list(array.shape) for name, array in tensors.items() if name not in expected}
    known = {name: array for name, array in tensors.items() if name in expected}
    mismatched = {
        name: f"{list(array.shape)} for {list(expected[name])}"
        for name, array in known.items()
        if array.shape != expected[name]
    }
    mistyped = {
        name: f"{array.dtype} for {'int8' if name in int8 else 'a float'}"
        for name, array in known.items()
        if (array.dtype == np.int8) != (name in int8)
    }
    infinite = {name: "NaN or infinity" for name, array in known.items() if not is_finite(array)}
    found: dict[str, Mapping[str, object]] = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": mismatched,
        "of the wrong type": mistyped,
        "not finite": infinite,
    }
    if wrong := "; ".join(f"{what}: {_listed(names)}" for what, names in found.items() if names):
        raise CheckpointError(f"{directory} does not hold the {config.architecture} that its config.json says: {wrong}")


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"{name} ({what})" for name, what in sorted(names.items()))


def _trees(config: Config, tensors: Mapping[str, Array]) -> tuple[Params, Params]:
    """Dotted names -> nested dicts; the encoder's blocks become a list."""
    root: Params = {}
    for name, array in tensors.items():
        *parents, leaf = name.split(".")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        if name not in TABLES and array.dtype == np.float16:
            array = array.astype(np.float32)
        node[leaf] = array
    layer = root["transformer"]["layer"]
    params = {"embeddings": root["embeddings"], "layer": [layer[str(i)] for i in range(config.n_layers)]}
    head = {name: root[name] for name in root if name not in ("embeddings", "transformer")}
    if config.tied and "vocab_projector" in head:
        table = root["embeddings"]["word_embeddings"]
        head["vocab_projector"] |= table
    for name, layer in head.items():
        head[name] = dequantized(layer)
    return params, head


def dequantized(layer: Params) -> Params:
    """An int8 layer as the float32 layer that it stands for; any other with its weight in float32."""
    weight = layer["weight"].astype(np.float32, copy=False)
    if "weight_scale" in layer:
        weight = weight * layer["weight_scale"]
    return {"weight": weight} | {name: array for name, array in layer.items() if not name.startswith("weight")}
