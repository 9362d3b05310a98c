"""float32 <-> int8 in the compressed-tensors `int-quantized` convention, and the error that it makes.

Weights of the encoder's linear layers become int8 with one symmetric scale for each output channel; activations are
quantised a row at a time as they come (`encoder.quantize_rows`), so nothing is calibrated. Embeddings are stored as
int8 with a scale for each row, and are float32 when they are used. Layer norm, GELU and softmax stay float32, and so
do the heads.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .. import atomic
from ..distilbert.encoder import Array, Params, quantize_rows
from ..errors import CheckpointError
from .adapter import CONFIG as ADAPTER_CONFIG
from .bert import POOLER, bert_name
from .config import QUANTIZED, ROWS, WEIGHTS
from .folder import Folder
from .tokenizer import ADDED_TOKENS, FILES, SETTINGS, SPECIAL_TOKENS
from .weights import INDEX, SINGLE, TABLES, Checkpoint, dequantized, read_checkpoint

FORMAT: dict[str, Any] = {
    **QUANTIZED,
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {"targets": ["Linear"], "format": "int-quantized", "weights": WEIGHTS, "input_activations": ROWS},
        "group_1": {"targets": ["Embedding"], "format": "int-quantized", "weights": WEIGHTS},
    },
}
TOKENIZER_FILES = (*FILES, SETTINGS, SPECIAL_TOKENS, ADDED_TOKENS)  # kept, whichever of them are read
LINEARS = ("attention", "ffn")  # parts of a block whose layers become int8


def quantize_linear(weight: Array, bias: Array) -> Params:
    """An int8 layer from a float one: weight float32 [out, in] -> int8 [out, in] and weight_scale [out, 1]."""
    return quantize_weight(weight) | {"bias": bias}


def quantize_weight(weight: Array) -> Params:
    """An int8 weight and its scales from a float one: [out, in] -> [out, in] and float32 [out, 1]."""
    integers, scale = quantize_rows(np.asarray(weight, np.float32))
    return {"weight": integers.astype(np.int8), "weight_scale": scale}


def in_precision(params: Params, precision: str) -> Params:
    """The encoder's tree with every linear layer of its blocks in "int8" or "float32"; the rest is shared."""
    int8 = precision == "int8"

    def converted(layer: Params) -> Params:
        if ("weight_scale" in layer) == int8:
            return layer
        return quantize_linear(**layer) if int8 else dequantized(layer)

    def block(given: Params) -> Params:
        return given | {part: {name: converted(layer) for name, layer in given[part].items()} for part in LINEARS}

    return params | {"layer": [block(each) for each in params["layer"]]}


def weight_errors(params: Params) -> list[tuple[str, float]]:
    """Name and relative error |int8 - float| / |float| (Frobenius norms) of each linear layer of the encoder."""
    errors = []
    for i, block in enumerate(params["layer"]):
        for part in LINEARS:
            for name, layer in block[part].items():
                rounded = dequantized(quantize_linear(**layer))["weight"]
                size = max(np.linalg.norm(layer["weight"]), np.finfo(np.float32).tiny)  # all zeros have no error
                error = np.linalg.norm(rounded - layer["weight"]) / size
                errors.append((f"layer.{i}.{part}.{name}", float(error)))
    return errors


def quantize_checkpoint(src: str | os.PathLike[str], dst: str | os.PathLike[str]) -> list[tuple[str, float]]:
    """Write `src`, a float checkpoint, to the new directory `dst` with int8 linear layers and embeddings.

    Embeddings that a masked-LM head projects with become float16. What else the directory says (tokenizer, pooling,
    prompts, lengths) is kept, and an adapter is merged. transformers opens the result where its
    `compressed-tensors` package is installed. The directory appears whole or not at all.

    Returns:
        `weight_errors` of what was written.

    Raises:
        CheckpointError: `src` cannot be read or is int8 already, or `dst` exists or cannot be written.

    Example:
        >>> import npdistil
        >>> errors = npdistil.quantize_checkpoint("my-distilbert", "my-distilbert-int8")
        >>> max(error for layer, error in errors) < 0.01  # of a layer's weights, relative
        True
        >>> npdistil.load("my-distilbert-int8").precision
        'int8'
    """
    import shutil  # these here, since every model that is loaded needs the functions above
    import tempfile

    from safetensors.numpy import save

    src, dst = Path(src), Path(dst)
    checkpoint = read_checkpoint(src)
    encoder = Path(checkpoint.encoder_folder)
    if checkpoint.config.quantized:
        raise CheckpointError(f"{src} is int8 already")
    if os.path.lexists(dst):  # Path.exists raises for names that are too long
        raise CheckpointError(f"{dst} exists; choose a new directory")
    raw = Folder(src / encoder).object("config.json")
    raw["architectures"] = [checkpoint.config.class_name]
    if not checkpoint.config.tied:  # which the file of weights may have said
        raw["tie_word_embeddings"] = False
    params, tied = in_precision(checkpoint.params, "int8"), checkpoint.config.tied
    weights, head = checkpoint.weights, checkpoint.head
    # As the files have them: a BERT's token types apart from its positions, and a pooler that its head may not use.
    stored = weights.tree(name for name in TABLES if name in weights.shapes)["embeddings"]
    if checkpoint.config.model_type == "bert":
        head = head | weights.tree(name for name in weights.shapes if name.startswith(POOLER))
    groups = FORMAT["config_groups"]
    if tied and "vocab_projector" in checkpoint.head:
        groups = {name: group for name, group in groups.items() if group["targets"] != ["Embedding"]}
    else:
        stored = {name: quantize_weight(table["weight"]) for name, table in stored.items()}
    params["embeddings"] = params["embeddings"] | stored
    tensors = {_stored_name(name, checkpoint): tensor for name, tensor in _flat(params, head, tied).items()}
    ignored = {_stored_name(f"{name}.weight", checkpoint).rpartition(".")[0] for name in head}
    raw["quantization_config"] = FORMAT | {"config_groups": groups, "ignore": sorted(ignored)}
    try:
        dst.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=dst.parent, prefix=f".{dst.name}-") as scratch:
            beside = Path(scratch) / dst.name
            (beside / encoder).mkdir(parents=True)
            (beside / encoder / SINGLE).write_bytes(save(tensors, metadata={"format": "pt"}))
            (beside / encoder / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
            for name in _kept(checkpoint):
                (beside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(src / name, beside / name)
            atomic.move(beside, dst)
    except OSError as error:
        raise CheckpointError(f"{dst} cannot be written: {error}") from None
    return weight_errors(checkpoint.params)


def _kept(checkpoint: Checkpoint) -> list[Path]:
    """The files that say more than the model's configuration and weights: they go into a copy as they are.

    An adapter is merged into the weights, and not needed any more.
    """
    encoder = Path(checkpoint.encoder_folder)
    replaced = {encoder / name for name in ("config.json", SINGLE, INDEX, ADAPTER_CONFIG)}
    modules = [file.path.relative_to(checkpoint.directory) for file in checkpoint.module_files]
    unread = [encoder / name for name in TOKENIZER_FILES if (checkpoint.directory / encoder / name).exists()]
    return [name for name in dict.fromkeys([*map(Path, checkpoint.files), *modules, *unread]) if name not in replaced]


def _stored_name(name: str, checkpoint: Checkpoint) -> str:
    """The name of a tensor in transformers; a bare encoder's has no prefix."""
    model_type = checkpoint.config.model_type
    name = bert_name(name) if model_type == "bert" else name
    inside = name.startswith(("embeddings.", "transformer.", "encoder.", "pooler."))
    return f"{model_type}.{name}" if inside and checkpoint.head else name


def _flat(params: Params, head: Params, tied: bool) -> dict[str, Array]:
    """The trees as tensors by DistilBERT's names, without the prefix."""
    layers = {str(i): block for i, block in enumerate(params["layer"])}
    root: Params = {"embeddings": params["embeddings"], "transformer": {"layer": layers}} | head
    tensors: dict[str, Array] = {}

    def walk(node: Params, prefix: str) -> None:
        for name, child in node.items():
            if isinstance(child, dict):
                walk(child, f"{prefix}{name}.")
            else:
                table = f"{prefix}{name}" in TABLES and child.dtype != np.int8
                tensors[f"{prefix}{name}"] = np.ascontiguousarray(child, np.float16 if table else None)

    walk(root, "")
    if tied:
        tensors.pop("vocab_projector.weight", None)
    return tensors
