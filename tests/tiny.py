"""DistilBERT directories with random weights, small enough to be written in a few milliseconds.

Written with NumPy and the standard library alone: the tensor names, their shapes and the file format are stated
here a second time, from transformers' checkpoints and not from the package under test.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

Array = npt.NDArray[Any]

WORDS = [
    *"the a film is good bad very not and i like hate it you love movie was boring great ? ! . , ' - where".split(),
    *"what who city paris lives in he she john 東 京 ко ##т caf ##e ##é".split(),
]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
VOCABULARY = list(
    dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS, *(f"##{c}" for c in LETTERS)])
)
HEADS: dict[str, dict[str, tuple[str | int, str | int]]] = {
    "DistilBertModel": {},
    "DistilBertForSequenceClassification": {"pre_classifier": ("D", "D"), "classifier": ("C", "D")},
    "DistilBertForMultipleChoice": {"pre_classifier": ("D", "D"), "classifier": (1, "D")},
    "DistilBertForTokenClassification": {"classifier": ("C", "D")},
    "DistilBertForQuestionAnswering": {"qa_outputs": (2, "D")},
    "DistilBertForMaskedLM": {"vocab_transform": ("D", "D"), "vocab_layer_norm": ("norm", "D")},
}
LINEARS = {
    "attention.q_lin": ("D", "D"),
    "attention.k_lin": ("D", "D"),
    "attention.v_lin": ("D", "D"),
    "attention.out_lin": ("D", "D"),
    "ffn.lin1": ("F", "D"),
    "ffn.lin2": ("D", "F"),
}


def config(**changes: Any) -> dict[str, Any]:
    """What stands in a config.json; None takes a key away."""
    whole = {
        "model_type": "distilbert",
        "architectures": ["DistilBertForSequenceClassification"],
        "vocab_size": len(VOCABULARY),
        "max_position_embeddings": 24,
        "n_layers": 2,
        "n_heads": 2,
        "dim": 8,
        "hidden_dim": 12,
        "activation": "gelu",
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def tensors(settings: Mapping[str, Any], seed: int = 0, prefix: bool = True) -> dict[str, Array]:
    """Random float32 weights of the size that makes every part matter."""
    random = np.random.default_rng(seed)
    sizes = {"D": settings.get("dim", settings.get("hidden_size")), "C": len(settings.get("id2label", "ab"))}
    sizes |= {"F": settings.get("hidden_dim", settings.get("intermediate_size")), "V": settings["vocab_size"]}
    dim = sizes["D"]

    def normal(*shape: int) -> Array:
        return random.normal(0, 1.5 / dim**0.5 if len(shape) == 2 else 0.2, shape).astype(np.float32)

    def linear(out: int, width: int) -> dict[str, Array]:
        return {"weight": normal(out, width), "bias": normal(out)}

    def norm() -> dict[str, Array]:
        return {"weight": 1 + normal(dim), "bias": normal(dim)}

    encoder: dict[str, Mapping[str, Array]] = {
        "embeddings.word_embeddings": {"weight": normal(sizes["V"], dim)},
        "embeddings.position_embeddings": {"weight": normal(settings["max_position_embeddings"], dim)},
        "embeddings.LayerNorm": norm(),
    }
    for i in range(settings.get("n_layers", settings.get("num_hidden_layers", 0))):
        for name, (out, width) in LINEARS.items():
            encoder[f"transformer.layer.{i}.{name}"] = linear(sizes[out], sizes[width])
        encoder[f"transformer.layer.{i}.sa_layer_norm"] = norm()
        encoder[f"transformer.layer.{i}.output_layer_norm"] = norm()
    parts = {("distilbert." if prefix else "") + name: part for name, part in encoder.items()}
    architecture = settings["architectures"][0]
    for name, (out_letter, width_letter) in HEADS[architecture].items():
        if out_letter == "norm":
            parts[name] = norm()
        else:
            parts[name] = linear(*(sizes.get(str(size), size) for size in (out_letter, width_letter)))
    if architecture == "DistilBertForMaskedLM":
        parts["vocab_projector"] = {"bias": normal(sizes["V"])}
        if not settings.get("tie_word_embeddings", True):
            parts["vocab_projector"] = linear(sizes["V"], dim)
    return {f"{name}.{leaf}": array for name, part in parts.items() for leaf, array in part.items()}


def encoded(array: Array, dtype: str) -> bytes:
    """An array's bytes in a type of safetensors."""
    if dtype == "BF16":
        return (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return array.astype({"F32": "<f4", "F16": "<f2", "I8": "i1", "I64": "<i8", "F64": "<f8"}[dtype]).tobytes()


def serialized(arrays: Mapping[str, Array], dtype: str | Mapping[str, str] = "F32") -> bytes:
    """A safetensors file: length of the header, header, data. `dtype` is one for all floats, or one a name."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in arrays.items():
        its = dtype if isinstance(dtype, str) else dtype.get(name, "F32")
        its = "I8" if array.dtype == np.int8 else its
        raw = encoded(array, its)
        header[name] = {"dtype": its, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return with_header(text + b" " * (-len(text) % 8), data)  # filled up as the library does, so that data is aligned


def with_header(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def write_tokenizer(directory: Path, kind: str = "json", vocabulary: list[str] | None = None, **settings: Any) -> None:
    """A tokenizer as "json" (tokenizer.json) or "vocab" (vocab.txt); `settings` go into tokenizer_config.json."""
    vocabulary = vocabulary or VOCABULARY
    if kind == "vocab":
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    else:
        numbered = {token: i for i, token in enumerate(vocabulary)}
        BertWordPieceTokenizer(vocab=numbered).save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": True} | settings
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def write(
    directory: Path,
    *,
    arrays: Mapping[str, Array] | None = None,
    dtype: str | Mapping[str, str] = "F32",
    prefix: bool = True,
    shards: int = 1,
    tokenizer: str | None = "json",
    seed: int = 0,
    **changes: Any,
) -> Path:
    """A model directory; `changes` are those to `config`."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = config(**changes)
    (directory / "config.json").write_text(json.dumps(settings))
    arrays = tensors(settings, seed, prefix) if arrays is None else arrays
    if shards == 1:
        (directory / "model.safetensors").write_bytes(serialized(arrays, dtype))
    else:
        files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        weight_map = {name: files[i % shards] for i, name in enumerate(arrays)}
        for file in files:
            own = {name: array for name, array in arrays.items() if weight_map[name] == file}
            (directory / file).write_bytes(serialized(own, dtype))
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    if tokenizer:
        write_tokenizer(directory, tokenizer)
    return directory


# Part of a tensor's name in DistilBERT -> in BERT.
BERT_NAMES = {
    "transformer.layer": "encoder.layer",
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "output_layer_norm": "output.LayerNorm",
    "pre_classifier": "pooler.dense",
    "vocab_transform": "cls.predictions.transform.dense",
    "vocab_layer_norm": "cls.predictions.transform.LayerNorm",
    "vocab_projector.weight": "cls.predictions.decoder.weight",
    "vocab_projector.bias": "cls.predictions.bias",
}


def bert_config(head: str = "ForSequenceClassification", **changes: Any) -> dict[str, Any]:
    """What stands in a BERT's config.json; None takes a key away."""
    whole = {
        "model_type": "bert",
        "architectures": [f"Bert{head}"],
        "vocab_size": len(VOCABULARY),
        "max_position_embeddings": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 12,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def bert_tensors(settings: Mapping[str, Any], head: str, seed: int = 0, prefix: bool = True) -> dict[str, Array]:
    """Random weights by BERT's names."""
    head = "ForMaskedLM" if head == "ForPreTraining" else head
    arrays = tensors({**settings, "architectures": [f"DistilBert{head}"]}, seed, prefix=False)
    random = np.random.default_rng(seed + 1)
    dim = settings["hidden_size"]
    types = random.normal(0, 1.5 / dim**0.5, (settings.get("type_vocab_size", 2), dim))
    arrays["embeddings.token_type_embeddings.weight"] = types.astype(np.float32)
    if head == "Model":
        pooler = random.normal(0, 0.3, (dim, dim)), random.normal(0, 0.3, dim)
        arrays |= {f"pooler.dense.{n}": a.astype(np.float32) for n, a in zip(("weight", "bias"), pooler, strict=True)}
    found = {}
    for name, array in arrays.items():
        for ours, theirs in BERT_NAMES.items():
            name = name.replace(ours, theirs)
        inside = name.startswith(("embeddings", "encoder", "pooler"))
        found[f"bert.{name}" if prefix and inside else name] = array
    return found


def write_bert(
    directory: Path,
    head: str = "ForSequenceClassification",
    *,
    arrays: Mapping[str, Array] | None = None,
    dtype: str | Mapping[str, str] = "F32",
    prefix: bool = True,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """A BERT's directory; `changes` are those to `bert_config`."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = bert_config(head, **changes)
    (directory / "config.json").write_text(json.dumps(settings))
    arrays = bert_tensors(settings, head, seed, prefix) if arrays is None else arrays
    (directory / "model.safetensors").write_bytes(serialized(arrays, dtype))
    write_tokenizer(directory, tokenizer_class="BertTokenizer")
    return directory
