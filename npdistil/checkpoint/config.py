"""What config.json says about a DistilBERT or a BERT, checked."""

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..distilbert.encoder import ACTIVATIONS, EPSILON
from ..distilbert.heads import SHAPES
from ..errors import CheckpointError
from .folder import Folder

# Field -> the names it goes by in config.json, of which BERT knows the last alone, its value where none is given (as in
# transformers' DistilBertConfig), and the largest that is believed: far above every real model, far below what
# overflows.
SIZES: dict[str, tuple[tuple[str, ...], int, int]] = {
    "vocab_size": (("vocab_size",), 30522, 2**24),
    "max_position_embeddings": (("max_position_embeddings",), 512, 2**20),
    "n_layers": (("n_layers", "num_hidden_layers"), 6, 2**10),
    "n_heads": (("n_heads", "num_attention_heads"), 12, 2**10),
    "dim": (("dim", "hidden_size"), 768, 2**16),
    "hidden_dim": (("hidden_dim", "intermediate_size"), 3072, 2**18),
}
BERT_LAYERS = 12  # where BERT's config.json says none; all its other sizes are DistilBERT's
# What makes of a BERT something else than an encoder with a table of positions.
ENCODER = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
# Of sentence-transformers, versions 4 and later and before: the function of a cross-encoder's only logit.
CROSS_ENCODER = ("activation_fn", "sbert_ce_default_activation_function")
FUNCTIONS = {"Sigmoid": "sigmoid", "Identity": "none"}
PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")
# The one quantised form that is read and written: compressed-tensors, int-quantized; of weights, and of activations.
QUANTIZED = {"quant_method": "compressed-tensors", "format": "int-quantized"}
WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
ROWS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}


@dataclass(frozen=True)
class Config:
    """Sizes and settings of a DistilBERT, or of a BERT in DistilBERT's names.

    Sizes are counts: `dim` (D) is the width of the model, `hidden_dim` (F) that of the feed-forward layers,
    `max_position_embeddings` (P) the most tokens that a text may have. `architecture` names the head as
    transformers does ("DistilBertForSequenceClassification", ...), `labels` the classes in the order of the
    logits. `tied` says that the masked-LM head projects with the word embeddings, `quantized` that the
    checkpoint's linear layers are int8. `label2id` are the numbers of labels by name as config.json has them, which
    may differ from `labels`: transformers' zero-shot classification goes by these. Without it, the place in `labels`.
    `model_type` is "distilbert" or "bert". Of the latter, `type_vocab_size` is the number of token types,
    `architecture` names the same head of DistilBERT's, and `layer_norm_eps` may be another than DistilBERT's.
    `logit_function` makes the score of a cross-encoder's only logit, where the file says so: "sigmoid" or "none".
    """

    vocab_size: int
    max_position_embeddings: int
    n_layers: int
    n_heads: int
    dim: int
    hidden_dim: int
    activation: str
    architecture: str
    labels: tuple[str, ...]
    problem_type: str | None
    tied: bool
    quantized: bool
    label2id: Mapping[str, int] = field(default_factory=dict, hash=False)
    model_type: str = "distilbert"
    type_vocab_size: int = 1
    layer_norm_eps: float = EPSILON
    logit_function: str | None = None

    @property
    def encoder_settings(self) -> dict[str, Any]:
        """What `encoder.encode` takes beside ids and parameters."""
        return {"n_heads": self.n_heads, "activation": self.activation, "eps": self.layer_norm_eps}

    @property
    def pooler(self) -> str:
        """What follows `pre_classifier`, as `heads.logits` takes it."""
        return "tanh" if self.model_type == "bert" else "relu"

    @property
    def class_name(self) -> str:
        """The class of transformers."""
        return self.architecture.removeprefix("Distil") if self.model_type == "bert" else self.architecture

    @property
    def id2label(self) -> dict[int, str]:
        """Labels by their numbers."""
        return dict(enumerate(self.labels))

    @property
    def num_labels(self) -> int:
        """How many there are."""
        return len(self.labels)

    @property
    def function(self) -> str:
        """What makes scores of this model's logits: a cross-encoder's own, or transformers' rule."""
        if self.logit_function:
            return self.logit_function
        if self.problem_type == "regression":
            return "none"
        if self.problem_type == "multi_label_classification" or len(self.labels) == 1:
            return "sigmoid"
        return "softmax"

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config.json") -> "Config":
        """The checked form of a parsed config.json.

        Raises:
            CheckpointError: another model type, or a value that no DistilBERT can have; names `source`.
        """
        model_type = raw.get("model_type", "distilbert")
        if model_type not in ("distilbert", "bert"):
            raise CheckpointError(
                f"{source}: model_type is {model_type!r:.80}; only 'distilbert' and 'bert' can be loaded"
            )
        is_bert = model_type == "bert"
        sizes = {field: _size(raw, source, *known, is_bert) for field, known in SIZES.items()}
        if sizes["dim"] % sizes["n_heads"]:
            raise CheckpointError(f"{source}: dim {sizes['dim']} is not a multiple of n_heads {sizes['n_heads']}")
        name = "hidden_act" if is_bert else "activation"
        activation = raw.get(name, "gelu")
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise CheckpointError(f"{source}: {name} is {activation!r:.80}; known are {', '.join(ACTIVATIONS)}")
        if is_bert:
            _check_encoder(raw, source, sizes["dim"])
        labels = _labels(raw, source)
        problem_type = raw.get("problem_type")
        if not any(problem_type == known for known in PROBLEM_TYPES):
            raise CheckpointError(
                f"{source}: problem_type is {problem_type!r}; known are {', '.join(map(str, PROBLEM_TYPES))}"
            )
        return cls(
            **sizes,
            activation=activation,
            architecture=_architecture(raw, source, is_bert),
            labels=labels,
            problem_type=problem_type,
            tied=_tied(raw, source),
            quantized=_quantized(raw, source),
            label2id=_label2id(raw, source, labels),
            model_type=model_type,
            type_vocab_size=_size(raw, source, ("type_vocab_size",), 2, 16) if is_bert else 1,
            layer_norm_eps=_epsilon(raw, source, is_bert),
            logit_function=_logit_function(raw, source) if len(labels) == 1 else None,
        )


def read_config(directory: Path) -> Config:
    """The config.json of a model directory; CheckpointError where it is missing, broken or impossible."""
    folder = Folder(directory)
    return Config.from_dict(folder.object("config.json", needed=True), str(directory / "config.json"))


def _size(
    raw: Mapping[str, Any], source: str, names: tuple[str, ...], default: int, largest: int, is_bert: bool = False
) -> int:
    if is_bert:
        names, default = names[-1:], BERT_LAYERS if "n_layers" in names else default
    given = {name: raw[name] for name in names if name in raw}
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
            raise CheckpointError(f"{source}: {name} is {value!r}; expected a whole number from 1 to {largest}")
    if len(set(given.values())) > 1:
        raise CheckpointError(f"{source}: {' and '.join(given)} are two names of one size, but differ: {given}")
    return next(iter(given.values()), default)


def _check_encoder(raw: Mapping[str, Any], source: str, dim: int) -> None:
    """CheckpointError where a BERT is more than an encoder, or another one."""
    for name, only in (ENCODER | {"embedding_size": dim}).items():
        if raw.get(name, only) not in (None, only):
            raise CheckpointError(f"{source}: {name} is {raw[name]!r:.80}; only {only!r} can be read of a BERT")


def _epsilon(raw: Mapping[str, Any], source: str, is_bert: bool) -> float:
    epsilon = raw.get("layer_norm_eps", EPSILON)
    if not is_bert:
        if epsilon != EPSILON:
            warnings.warn(
                f"{source}: layer_norm_eps is {epsilon!r:.40}, a setting that DistilBERT does not have; as in "
                f"transformers, {EPSILON} is used",
                stacklevel=3,
            )
        return EPSILON
    if not isinstance(epsilon, (int, float)) or isinstance(epsilon, bool) or not 1e-30 <= epsilon <= 1:
        raise CheckpointError(f"{source}: layer_norm_eps is {epsilon!r:.80}; expected a number from 1e-30 to 1")
    return float(epsilon)


def _logit_function(raw: Mapping[str, Any], source: str) -> str | None:
    """What a cross-encoder of sentence-transformers does with its only logit; None where the file does not say."""
    own = raw.get("sentence_transformers")
    for name, given in zip(CROSS_ENCODER, (own if isinstance(own, dict) else {}, raw), strict=True):
        if (function := given.get(name)) is not None:
            last = str(function).rpartition(".")[2]
            if not str(function).startswith("torch.nn.") or last not in FUNCTIONS:
                raise CheckpointError(
                    f"{source}: {name} is {function!r:.120}; known of torch.nn are {', '.join(FUNCTIONS)}"
                )
            return FUNCTIONS[last]
    return None


def architecture_of(names: Collection[str]) -> str:
    """The head that tensors of these names belong to, where config.json says none.

    >>> architecture_of({"embeddings.word_embeddings.weight", "qa_outputs.weight"})
    'DistilBertForQuestionAnswering'
    """
    layers = {name.split(".")[0] for name in names}
    for architecture in (
        "DistilBertForSequenceClassification",
        "DistilBertForTokenClassification",
        "DistilBertForQuestionAnswering",
    ):
        if layers >= {*SHAPES[architecture]}:
            return architecture
    return "DistilBertForMaskedLM" if "vocab_transform" in layers else "DistilBertModel"


def _architecture(raw: Mapping[str, Any], source: str, is_bert: bool) -> str:
    architectures = raw.get("architectures")
    if architectures is None or architectures == []:
        return "DistilBertModel"  # unless the tensors say more
    known = {name.removeprefix("Distil") if is_bert else name: name for name in SHAPES}
    if is_bert:
        known["BertForPreTraining"] = "DistilBertForMaskedLM"  # and a head that nothing here asks for
    first = architectures[0] if isinstance(architectures, list) else None
    if not isinstance(first, str) or first not in known:
        raise CheckpointError(f"{source}: architectures is {architectures!r:.200}; known are {', '.join(known)}")
    return known[first]


def _tied(raw: Mapping[str, Any], source: str) -> bool:
    tied = raw.get("tie_word_embeddings", True)
    if not isinstance(tied, bool):
        raise CheckpointError(f"{source}: tie_word_embeddings is {tied!r}; expected true or false")
    return tied


def _labels(raw: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Labels in the order of the logits: the keys of id2label are numbers written as strings."""
    named = raw.get("id2label")
    if named is None:
        count = raw.get("num_labels", 2)  # and label2id is not looked at, as in transformers
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 2**20:
            raise CheckpointError(f"{source}: num_labels is {count!r}; expected a whole number above 0")
        return tuple(f"LABEL_{i}" for i in range(count))
    try:
        by_id = {int(key): str(name) if type(name) is int else name for key, name in named.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        by_id = {}
    if not by_id or len(by_id) != len(named) or not all(isinstance(name, str) for name in by_id.values()):
        raise CheckpointError(f"{source}: id2label is {named!r:.200}; expected each number mapped to a name")
    if sorted(by_id) != list(range(len(by_id))):
        raise CheckpointError(
            f"{source}: id2label has the ids {sorted(by_id)!s:.200}; expected 0, 1, 2, ... without gaps"
        )
    return tuple(by_id[i] for i in range(len(by_id)))


def _label2id(raw: Mapping[str, Any], source: str, labels: tuple[str, ...]) -> dict[str, int]:
    """Numbers of labels by name: those that config.json has, or else the first place in `labels`."""
    numbers = raw.get("label2id")
    if not numbers or raw.get("id2label") is None:
        return {label: labels.index(label) for label in labels}
    try:
        return {str(name): int(number) for name, number in numbers.items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise CheckpointError(
            f"{source}: label2id is {numbers!r:.200}; expected each name mapped to a number"
        ) from None


def _quantized(raw: Mapping[str, Any], source: str) -> bool:
    """True for the one quantised form that is read: compressed-tensors, int-quantized, per channel and token.

    Embeddings may have a group of their own, of weights alone.
    """
    quantization = raw.get("quantization_config")
    if quantization is None:
        return False
    wanted: list[tuple[str, Any, Mapping[str, Any]]] = [("quantization_config", quantization, QUANTIZED)]
    groups = quantization.get("config_groups") if isinstance(quantization, dict) else None
    for name, group in groups.items() if isinstance(groups, dict) and groups else [("(none)", {})]:
        parts = group if isinstance(group, dict) else {}
        place = f"quantization_config {name}"
        wanted.append((f"{place}.weights", parts.get("weights"), WEIGHTS))
        if parts.get("targets") != ["Embedding"]:
            wanted.append((f"{place}.input_activations", parts.get("input_activations"), ROWS))
    for place, found, settings in wanted:
        given = found if isinstance(found, dict) else {}
        for key, value in settings.items():
            if given.get(key, False if key == "dynamic" else None) != value:
                raise CheckpointError(
                    f"{source}: {place!r:.120} has {key} = {given.get(key)!r:.200}; only {value!r} can be read. "
                    "Load the checkpoint from before its quantisation, or use `npdistil quantize` on that"
                )
    return True
