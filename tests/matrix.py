"""Model directories made from a matrix of facts, and what the reference makes of them.

A directory is described by a choice on each axis. Every single choice is tried alone, and then combinations drawn with
a fixed seed. `compare` asks both sides the same questions and sorts the answers: equal, different for a reason that is
written down here, or wrong.
"""

import json
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tiny

from npdistil.distilbert.encoder import ACTIVATIONS
from npdistil.errors import NpdistilError

Facts = dict[str, Any]
ROOM = 8  # rows of the embedding table beyond the vocabulary
TEXTS = [
    "",
    "The film is GOOD",
    "<user> got Covid19 [E1] and i like it",
    "a [MASK] film, not [SEP] boring!",
    "Café 東京 <e> ко",
    "the film was good and i like it , not bad at all . where is the city john lives in ? it was very boring",
    "Paris " * 30,
]


def drawn(axes: Mapping[str, Sequence[Any]], more: int, seed: int) -> Iterator[Facts]:
    """The first choice of every axis; each other choice alone; then `more` combinations."""
    plain = {name: choices[0] for name, choices in axes.items()}
    yield plain
    for name, choices in axes.items():
        for choice in choices[1:]:
            yield plain | {name: choice}
    dice = random.Random(seed)
    for _ in range(more):  # half of the axes at a time, or odd facts would hide each other
        yield {name: dice.choice(choices) if dice.random() < 0.5 else choices[0] for name, choices in axes.items()}


@dataclass
class Counts:
    """How the answers compare."""

    tried: int = 0
    equal: int = 0
    refused_by_both: int = 0
    different: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    largest: float = 0.0

    def report(self, name: str) -> str:
        lines = [
            f"{name}: {self.tried} situations, {self.equal} equal (numbers differ by at most {self.largest:.1e}), "
            f"{self.refused_by_both} refused by both, {self.different.total()} different on purpose, "
            f"{len(self.wrong)} wrong",
            *(f"    {count:5} {reason}" for reason, count in self.different.most_common()),
            *(f"    WRONG {each}" for each in self.wrong[:20]),
        ]
        return "\n".join(lines)


def answer(ask: Callable[[], Any], errors: tuple[type[BaseException], ...]) -> Any:
    """What a side says, or the error that it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ask()
        except errors as error:
            return error


def compare(
    counts: Counts,
    facts: Facts,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    reason: Callable[[Facts, Any, Any], str],
    tolerance: float = 2e-5,
) -> None:
    """Ask both, and count; `reason` says why two answers may differ, or ""."""
    counts.tried += 1
    # The reference raises whatever comes; only ours must be errors of our own.
    got, expected = answer(ours, (NpdistilError,)), answer(theirs, (Exception,))
    if isinstance(got, Exception) and isinstance(expected, Exception):
        counts.refused_by_both += 1
    elif (
        not isinstance(got, Exception)
        and not isinstance(expected, Exception)
        and (is_equal(got, expected, tolerance, counts))
    ):
        counts.equal += 1
    elif why := reason(facts, got, expected):
        counts.different[why] += 1
    else:
        counts.wrong.append(f"{facts}: {got!r:.200} for {expected!r:.200}".replace("\n", " "))


def is_equal(got: Any, expected: Any, tolerance: float, counts: Counts) -> bool:
    if isinstance(expected, np.ndarray):
        got = np.asarray(got)
        if got.shape != expected.shape:
            return False
        # Beside the largest number, where that is above 1: float32 has seven digits, and one side rounds as the other.
        scale = max(1.0, float(np.abs(expected).max())) if got.size else 1.0
        difference = float(np.abs(got - expected).max()) / scale if got.size else 0.0
        if difference <= tolerance:
            counts.largest = max(counts.largest, difference)
        return difference <= tolerance
    if isinstance(expected, (list, tuple)):
        return len(got) == len(expected) and all(
            is_equal(one, other, tolerance, counts) for one, other in zip(got, expected, strict=True)
        )
    if isinstance(expected, dict):
        return list(got) == list(expected) and all(is_equal(got[k], expected[k], tolerance, counts) for k in expected)
    if isinstance(expected, float):
        return is_equal(np.asarray(got), np.asarray(expected), tolerance, counts)
    return bool(got == expected)


# Directories

ADDED = ["<user>", "covid19", "[E1]"]
START = len(tiny.VOCABULARY)


def token(content: str, special: bool = False, **more: bool) -> dict[str, Any]:
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": not special, "special": special}
    return {"content": content} | flags | more


TOKENIZER: dict[str, Sequence[Any]] = {
    "file": ["tokenizer.json", "vocab.txt"],
    "class": [
        "DistilBertTokenizer",
        "DistilBertTokenizerFast",
        "BertTokenizer",
        "BertTokenizerFast",
        "ElectraTokenizer",
        "PreTrainedTokenizerFast",
        "TokenizersBackend",
        "BertJapaneseTokenizer",
        "RobertaTokenizer",
        "NobodysTokenizer",
        None,
    ],
    "added": [
        None,
        "added_tokens.json",
        "added_tokens_decoder",
        "decoder with spaces",
        "additional_special_tokens",
        "extra_special_tokens",
        "special_tokens_map.json",
        "map with objects",
        "map and added_tokens.json",
        "own token",
    ],
    "do_lower_case": [True, False, None],
    "strip_accents": [None, True, False],
    "tokenize_chinese_chars": [None, False],
    "model_max_length": [None, 8, 16, 512, 10**30],
    "truncation_side": [None, "left", "right"],
    "stored truncation": [None, "left"],
    "first token": [None, "BOM"],
    "split_special_tokens": [None, True],
}


def write_tokenizer(directory: Path, facts: Facts) -> None:
    """The tokenizer's files as the facts say."""
    settings: dict[str, Any] = {}
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "model_max_length", "truncation_side"):
        if facts[name] is not None:
            settings[name] = facts[name]
    if facts["split_special_tokens"]:
        settings["split_special_tokens"] = True
    if facts["class"]:
        settings["tokenizer_class"] = facts["class"]
    added = facts["added"]
    numbered = {content: START + i for i, content in enumerate(ADDED)}
    if added == "added_tokens.json":
        (directory / "added_tokens.json").write_text(json.dumps(numbered))
    elif added in ("added_tokens_decoder", "decoder with spaces"):
        more = {"lstrip": True, "rstrip": True} if added == "decoder with spaces" else {}
        own = {n: token(tiny.VOCABULARY[n], special=True) for n in range(5)}
        new = {n: token(content, special=content == "[E1]", **more) for content, n in numbered.items()}
        settings["added_tokens_decoder"] = {str(n): each for n, each in (own | new).items()}
    elif added in ("additional_special_tokens", "extra_special_tokens"):
        settings[added] = ADDED
    elif added in ("special_tokens_map.json", "map with objects"):
        listed = [token(each, special=True) if added == "map with objects" else each for each in ("<user>", "[E1]")]
        stored = {"additional_special_tokens": listed, "mask_token": token("[MASK]", special=True)}
        (directory / "special_tokens_map.json").write_text(json.dumps(stored))
    elif added == "map and added_tokens.json":
        (directory / "added_tokens.json").write_text(json.dumps(numbered))
        (directory / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["[E1]"]}))
    elif added == "own token":
        settings["user_token"] = "<user>"
    if facts["file"] == "vocab.txt":
        start = "\ufeff" if facts["first token"] == "BOM" else ""
        lines = "".join(f"{each}\n" for each in tiny.VOCABULARY)
        (directory / "vocab.txt").write_text(start + lines, encoding="utf-8")
    else:
        tiny.write_tokenizer(directory)
        if facts["stored truncation"]:
            path = directory / "tokenizer.json"
            stored = json.loads(path.read_text())
            stored["truncation"] = {"direction": "Left", "max_length": 12, "strategy": "LongestFirst", "stride": 0}
            path.write_text(json.dumps(stored))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


MODEL: dict[str, Sequence[Any]] = {
    "head": [
        "DistilBertForSequenceClassification",
        "DistilBertForTokenClassification",
        "DistilBertForQuestionAnswering",
        "DistilBertForMaskedLM",
        "DistilBertModel",
    ],
    "architectures": ["named", "absent", "null"],
    "dtype": ["F32", "F64", "F16", "BF16"],
    "prefix": [True, False],
    "shards": [1, 2],
    "norms": [None, "gamma", "all gamma"],
    "stray": [None, "loss_fct.weight", "position_ids", "pooler", "distilbert.embeddings.position_ids"],
    "compiled": [None, "_orig_mod."],
    "labels": [None, "integers", "twice", "one", "three", "absent"],
    "label2id": [None, "other way round", "strange"],
    "problem_type": [None, "multi_label_classification", "regression"],
    "layer_norm_eps": [None, 1e-5],
    "activation": [*ACTIVATIONS, "prelu", "sqrtsoftplus", "swiglu"],
    "projector": [None, "of its own", "alone", "the same"],
}


def write_model(directory: Path, facts: Facts) -> Path:
    """config.json and weights as the facts say, with a plain tokenizer."""
    named: dict[Any, Any] = {
        "integers": {"0": 5, "1": 7},
        "twice": {"0": "x", "1": "x"},
        "one": {"0": "x"},
        "three": {"0": "x", "1": "y", "2": "z"},
        "absent": None,
    }
    labels = named.get(facts["labels"], {"0": "NEGATIVE", "1": "POSITIVE"})
    changes: dict[str, Any] = {
        "architectures": [facts["head"]],
        "id2label": labels,
        "problem_type": facts["problem_type"],
        "layer_norm_eps": facts["layer_norm_eps"],
        "activation": facts["activation"],
    }
    if facts["label2id"] and labels:
        names = [str(name) for name in labels.values()]
        turned = facts["label2id"] == "other way round"
        changes["label2id"] = {n: len(names) - 1 - i if turned else i + 5 for i, n in enumerate(names)}
    arrays = tiny.tensors(tiny.config(**changes), prefix=facts["prefix"])
    words = ("distilbert." if facts["prefix"] else "") + "embeddings.word_embeddings.weight"
    if facts["head"] == "DistilBertForMaskedLM" and facts["projector"]:
        arrays["vocab_projector.weight"] = arrays[words] * (2 if facts["projector"] == "of its own" else 1)
        if facts["projector"] == "alone":
            del arrays[words]
    if facts["norms"]:
        ends = ("LayerNorm", "layer_norm") if facts["norms"] == "all gamma" else ("LayerNorm",)
        for end in ends:
            arrays = {
                name.replace(f"{end}.weight", f"{end}.gamma").replace(f"{end}.bias", f"{end}.beta"): array
                for name, array in arrays.items()
            }
    stray = facts["stray"]
    types: dict[str, Any] = dict.fromkeys(arrays, facts["dtype"])
    if stray:
        name = "distilbert.pooler.dense.weight" if stray == "pooler" else stray
        arrays[name] = np.zeros((1, 24), np.float32)
        types[name] = "I64" if "position" in stray else facts["dtype"]
    start = facts["compiled"] or ""
    arrays = {start + name: array for name, array in arrays.items()}
    types = {start + name: kind for name, kind in types.items()}
    tiny.write(directory, arrays=arrays, dtype=types, shards=facts["shards"], **changes)
    if facts["shards"] > 1:  # the reference asks for it
        path = directory / "model.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {"total_size": 1}} | json.loads(path.read_text())))
    if facts["architectures"] != "named":
        config = json.loads((directory / "config.json").read_text())
        config["architectures"] = None
        if facts["architectures"] == "absent":
            del config["architectures"]
        (directory / "config.json").write_text(json.dumps(config))
    return directory


BERT: dict[str, Sequence[Any]] = {
    "head": [
        "ForSequenceClassification",
        "ForMultipleChoice",
        "ForTokenClassification",
        "ForQuestionAnswering",
        "ForMaskedLM",
        "ForPreTraining",
        "Model",
    ],
    "architectures": ["named", "absent", "null"],
    "dtype": ["F32", "F16", "BF16", "F64"],
    "prefix": [True, False],
    "norms": [None, "gamma"],
    "stray": [None, "loss_fct.weight", "position_ids", "seq_relationship", "pooler"],
    "decoder": [None, "the same", "of its own", "bias twice", "bias of the decoder"],
    "type_vocab_size": [2, 1, 3, None],
    "layer_norm_eps": [1e-12, None, 1e-5, 1e-2],
    "hidden_act": ["gelu", *(name for name in ACTIVATIONS if name != "gelu"), "prelu", "swiglu"],
    "position_embedding_type": [None, "absolute", "relative_key"],
    "is_decoder": [None, False, True],
    "add_cross_attention": [None, True],
    "class": [
        "BertTokenizer",
        "BertTokenizerFast",
        "DistilBertTokenizer",
        "ElectraTokenizer",
        "PreTrainedTokenizerFast",
        "TokenizersBackend",
        None,
    ],
    "model_input_names": [None, ["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]],
    "labels": [None, "one", "three"],
    "problem_type": [None, "multi_label_classification", "regression"],
    "cross-encoder": [None, "Identity", "Sigmoid", "old Identity", "old Sigmoid", "Tanh"],
    "engine": ["numpy", "compiled"],
}


def write_bert(directory: Path, facts: Facts) -> Path:
    """A BERT as the facts say."""
    head = facts["head"]
    labels = {"one": {"0": "x"}, "three": {"0": "x", "1": "y", "2": "z"}}.get(facts["labels"], {"0": "a", "1": "b"})
    names = ["type_vocab_size", "layer_norm_eps", "hidden_act", "problem_type"]
    names += ["position_embedding_type", "is_decoder", "add_cross_attention"]
    changes: dict[str, Any] = {name: facts[name] for name in names} | {"id2label": labels}
    if function := facts["cross-encoder"]:
        kind = "linear" if "Identity" in function else "activation"
        dotted = f"torch.nn.modules.{kind}.{function.split()[-1]}"
        new = {"sentence_transformers": {"activation_fn": dotted, "version": "6.2.0"}}
        changes |= {"sbert_ce_default_activation_function": dotted} if "old" in function else new
    if facts["architectures"] != "named":
        changes["architectures"] = None
    arrays = tiny.bert_tensors(tiny.bert_config(head, **changes), head, prefix=facts["prefix"])
    start = "bert." if facts["prefix"] else ""
    if head in ("ForMaskedLM", "ForPreTraining"):
        table, bias = arrays[f"{start}embeddings.word_embeddings.weight"], arrays["cls.predictions.bias"]
        if facts["decoder"] in ("the same", "of its own"):
            arrays["cls.predictions.decoder.weight"] = table * (2 if facts["decoder"] == "of its own" else 1)
        elif facts["decoder"]:
            arrays["cls.predictions.decoder.bias"] = bias
            if facts["decoder"] == "bias of the decoder":
                del arrays["cls.predictions.bias"]
    if facts["norms"]:
        ends = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for own, other in ends.items():
            arrays = {name.replace(own, other): array for name, array in arrays.items()}
    types: dict[str, Any] = dict.fromkeys(arrays, facts["dtype"])
    strays: dict[Any, dict[str, Any]] = {
        None: {},
        "loss_fct.weight": {"loss_fct.weight": np.ones(2, np.float32)},
        "position_ids": {f"{start}embeddings.position_ids": np.arange(24)[None]},
        "seq_relationship": {"cls.seq_relationship.weight": np.ones((2, 8), np.float32)},
        "pooler": {
            f"{start}pooler.dense.weight": np.ones((8, 8), np.float32),
            f"{start}pooler.dense.bias": np.ones(8, np.float32),
        },
    }
    for name, array in strays[facts["stray"]].items():
        if name not in arrays:
            arrays[name], types[name] = array, "I64" if "position" in name else "F32"
    tiny.write_bert(directory, head, arrays=arrays, dtype=types, **changes)
    if facts["architectures"] == "null":
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": None}))
    settings: dict[str, Any] = {
        "do_lower_case": True,
        "tokenizer_class": facts["class"],
        "model_input_names": facts["model_input_names"],
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


OLD_NAMES = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
SENTENCE: dict[str, Sequence[Any]] = {
    "modes": [
        ("mean",),
        ("cls",),
        ("max",),
        ("mean_sqrt_len_tokens",),
        ("weightedmean",),
        ("lasttoken",),
        ("mean", "max"),
        ("lasttoken", "cls", "mean"),
        (),
        ("median",),
    ],
    "style": ["new", "old"],
    "types": ["sentence_transformers.models.", "new"],
    "pooling folder": ["1_Pooling", "pool"],
    "transformer folder": ["", "0_Transformer"],
    "dense": [None, "Tanh", "Identity", "GELU", "no bias", "residual", "square residual", "untrusted"],
    "normalize": [None, "last", "before dense"],
    "max_seq_length": [None, 6, 20],
    "model_max_length": [None, 10],
    "do_lower_case": [None, True],
    "prompts": [None, "stored", "default", "null", "default not stored"],
    "include_prompt": [True, False],
    "truncate_dim": [None, 3],
    "extra": [None, "Dropout", "LayerNorm", "custom"],
    "modules.json": ["there", "absent"],
    "call": [{}, {"prompt_name": "query"}, {"prompt": "a film: "}, {"prompt_name": "other"}, {"truncate_dim": 2}],
    "call normalize": [False, True],
}
NEW_TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    "Dropout": "sentence_transformers.sentence_transformer.modules.dropout.Dropout",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
}


def write_sentence(directory: Path, facts: Facts) -> Path:
    """A directory of sentence-transformers."""
    inner = directory / facts["transformer folder"]
    tiny.write(inner, architectures=["DistilBertModel"], prefix=False)
    settings: dict[str, Any] = {"tokenizer_class": "DistilBertTokenizer"}
    if facts["model_max_length"]:
        settings["model_max_length"] = facts["model_max_length"]
    (inner / "tokenizer_config.json").write_text(json.dumps(settings))
    width = 8 * max(1, len(facts["modes"]))
    modules: list[tuple[str, str]] = [
        ("Transformer", facts["transformer folder"]),
        ("Pooling", facts["pooling folder"]),
    ]
    pooling: dict[str, Any] = {"include_prompt": facts["include_prompt"]}
    if facts["style"] == "new":
        pooling |= {"embedding_dimension": 8}
        if facts["modes"]:
            pooling["pooling_mode"] = facts["modes"][0] if len(facts["modes"]) == 1 else list(facts["modes"])
    else:
        pooling |= {"word_embedding_dimension": 8}
        pooling |= {f"pooling_mode_{old}": mode in facts["modes"] for mode, old in OLD_NAMES.items()}
        if "median" in facts["modes"]:
            pooling["pooling_mode_median_tokens"] = True
    write_json(directory / facts["pooling folder"] / "config.json", pooling)
    if facts["normalize"] == "before dense":
        modules.append(("Normalize", "2_Normalize"))
    if facts["extra"]:
        modules.append((facts["extra"], "extra"))
        write_json(
            directory / "extra" / "config.json",
            {"dimension": width} if facts["extra"] == "LayerNorm" else {"dropout": 0.5},
        )
        if facts["extra"] == "LayerNorm":
            arrays = {"norm.weight": np.ones(width, np.float32), "norm.bias": np.ones(width, np.float32)}
            (directory / "extra" / "model.safetensors").write_bytes(tiny.serialized(arrays))
    if kind := facts["dense"]:
        modules.append(("Dense", "2_Dense"))
        out = width if kind == "square residual" else 5
        random_numbers = np.random.default_rng(3)
        arrays = {"linear.weight": random_numbers.normal(0, 0.4, (out, width)).astype(np.float32)}
        if kind != "no bias":
            arrays["linear.bias"] = random_numbers.normal(0, 0.4, out).astype(np.float32)
        if kind == "residual":
            arrays["residual.weight"] = random_numbers.normal(0, 0.4, (out, width)).astype(np.float32)
        names = {"Identity": "torch.nn.modules.linear.Identity", "untrusted": "my.own.Activation"}
        config = {
            "in_features": width,
            "out_features": out,
            "bias": kind != "no bias",
            "activation_function": names.get(kind, f"torch.nn.modules.activation.{kind if kind == 'GELU' else 'Tanh'}"),
        }
        if "residual" in kind:
            config["use_residual"] = True
        write_json(directory / "2_Dense" / "config.json", config)
        (directory / "2_Dense" / "model.safetensors").write_bytes(tiny.serialized(arrays))
    if facts["normalize"] == "last":
        modules.append(("Normalize", "3_Normalize"))
    lengths: dict[str, Any] = {}
    if facts["max_seq_length"]:
        lengths["max_seq_length"] = facts["max_seq_length"]
    if facts["do_lower_case"]:
        lengths["do_lower_case"] = True
    if lengths:
        write_json(inner / "sentence_bert_config.json", lengths)
    prompts_by_kind: dict[Any, dict[str, Any]] = {
        None: {},
        "stored": {"prompts": {"query": "it is: ", "other": "the "}},
        "default": {"prompts": {"query": "it is: ", "other": "the "}, "default_prompt_name": "other"},
        "null": {"prompts": {"query": None, "other": "the "}, "default_prompt_name": None},
        "default not stored": {"prompts": {"query": "it is: "}, "default_prompt_name": "absent"},
    }
    prompts = prompts_by_kind[facts["prompts"]]
    if facts["truncate_dim"]:
        prompts = prompts | {"truncate_dim": facts["truncate_dim"]}
    if prompts:
        write_json(directory / "config_sentence_transformers.json", prompts)
    if facts["modules.json"] == "there":
        types = [
            "custom.modules.Thing"
            if kind == "custom"
            else NEW_TYPES[kind]
            if facts["types"] == "new"
            else facts["types"] + kind
            for kind, _ in modules
        ]
        listed = [
            {"idx": i, "name": str(i), "path": path, "type": name}
            for i, (name, (_, path)) in enumerate(zip(types, modules, strict=True))
        ]
        write_json(directory / "modules.json", listed)
    return directory


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


ADAPTER: dict[str, Sequence[Any]] = {
    "r": [4, 1],
    "lora_alpha": [8, 3],
    "use_rslora": [False, True],
    "fan_in_fan_out": [False, True],
    "target_modules": [["q_lin", "v_lin"], ["lin1", "lin2", "out_lin"], ["word_embeddings", "k_lin"], "all-linear"],
    "modules_to_save": [["classifier", "pre_classifier"], None],
    "rank_pattern": [{}, {"layer.1.attention.q_lin": 2}],
    "alpha_pattern": [{}, {"q_lin": 5}],
    "bias": ["none", "all"],
    "use_dora": [False, True],
    "lora_bias": [False, True],
    "init_lora_weights": [True, "gaussian"],
    "kind": ["LoraConfig", "LoHaConfig", "IA3Config"],
    "dtype": ["F32", "F16"],
}
