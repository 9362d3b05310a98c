"""What stands on the encoder: each head a pure function of the last hidden states.

Letters as in `encoder.py`. A head reads rows of its own text alone. Its `linear` is an argument: by default that of
`encoder.py`, whose product may round a row differently beside other rows. `Model` passes the one of the engine that it
runs on (`NumpyEncoder.linear` in `engine.py`, `CompiledEncoder.linear` in `compiled/encoder.py`), in which no row
depends on another, bit for bit.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .encoder import (
    ACTIVATIONS,
    EPSILON,
    LOG2_HIGH,
    LOG2_LOW,
    Array,
    Params,
    layer_norm,
    linear,
    relu,
    sigmoid,
    softmax,
    tanh,
)

Linear: TypeAlias = Callable[..., Array]  # (x [M, in], weight [out, in], bias [out]) -> [M, out]


def activated(function: Callable[[Array], Array], x: Array) -> Array:  # [...] -> [...]
    """A function of x, worked out in float64: so it has the same bits on every processor, see `exp`.

    >>> activated(relu, np.array([-1.0, 2.0], np.float32))
    array([0., 2.], dtype=float32)
    """
    return function(x.astype(np.float64)).astype(x.dtype)


def sequence_classification(
    first: Array, pre_classifier: Params, classifier: Params, linear: Linear = linear, pooler: str = "relu"
) -> Array:  # [B, D], the hidden state of each text's first token -> [B, C]
    """Logits of each class for each text.

    `pooler` is what follows the first layer, whatever the encoder's activation: "relu" in DistilBERT, "tanh" in BERT,
    where that layer is called the pooler.

    >>> same = {"weight": np.eye(2), "bias": np.zeros(2)}
    >>> sequence_classification(np.array([[3.0, -1.0]]), pre_classifier=same, classifier=same)
    array([[3., 0.]])
    """
    return linear(activated(ACTIVATIONS[pooler], linear(first, **pre_classifier)), **classifier)


def multiple_choice(
    first: Array, pre_classifier: Params, classifier: Params, linear: Linear = linear, pooler: str = "relu"
) -> Array:  # [choices, D] -> [choices]
    """One logit for each choice; every choice was encoded as a text of its own.

    >>> same, total = {"weight": np.eye(2), "bias": np.zeros(2)}, {"weight": np.ones((1, 2)), "bias": np.zeros(1)}
    >>> multiple_choice(np.array([[3.0, -1.0], [1.0, 1.0]]), pre_classifier=same, classifier=total)
    array([3., 2.])
    """
    return sequence_classification(first, pre_classifier, classifier, linear, pooler)[:, 0]


def token_classification(hidden: Array, classifier: Params, linear: Linear = linear) -> Array:  # [T, D] -> [T, C]
    """Logits of each class for each token.

    >>> two = {"weight": np.array([[1.0], [2.0]]), "bias": np.zeros(2)}
    >>> token_classification(np.array([[3.0], [5.0]]), classifier=two)
    array([[ 3.,  6.],
           [ 5., 10.]])
    """
    return linear(hidden, **classifier)


def question_answering(
    hidden: Array, qa_outputs: Params, linear: Linear = linear
) -> tuple[Array, Array]:  # [T, D] -> [T], [T]
    """For each token: the logit that the answer starts here, and that it ends here.

    >>> two = {"weight": np.array([[1.0], [2.0]]), "bias": np.zeros(2)}
    >>> question_answering(np.array([[3.0], [5.0]]), qa_outputs=two)
    (array([3., 5.]), array([ 6., 10.]))
    """
    start, end = linear(hidden, **qa_outputs).T
    return start, end


def masked_lm(
    hidden: Array,
    vocab_transform: Params,
    vocab_layer_norm: Params,
    vocab_projector: Params,
    activation: str,
    linear: Linear = linear,
    eps: float = EPSILON,
) -> Array:  # [M, D] -> [M, V]
    """Logits of each word of the vocabulary for each row. The projector's weight is the word embeddings' own.

    >>> same, unit = {"weight": np.eye(2), "bias": np.zeros(2)}, {"weight": np.ones(2), "bias": np.zeros(2)}
    >>> masked_lm(np.array([[1.0, 3.0]]), same, unit, same, activation="relu")
    array([[-1.,  1.]])
    """
    x = activated(ACTIVATIONS[activation], linear(hidden, **vocab_transform))
    x = layer_norm(x, **vocab_layer_norm, eps=eps)
    return linear(x, **vocab_projector)


FUNCTIONS = ("none", "sigmoid", "softmax")


def scores(logits: Array, function: str) -> Array:  # [B, C] -> [B, C]
    """Scores by one of `FUNCTIONS`, in float64, so that a row of probabilities adds up to 1 to the last digit shown.

    >>> scores(np.log(np.array([[1.0, 3.0]])), "softmax")
    array([[0.25, 0.75]])
    """
    logits = logits.astype(np.float64)
    return {"none": lambda x: x, "sigmoid": sigmoid, "softmax": softmax}[function](logits)


def log(x: Array) -> Array:  # [...] -> [...]
    """The natural logarithm of x > 0, in float64 to the last place or the one before.

    >>> log(np.array([1.0, 10.0]))
    array([0.        , 2.30258509])
    """
    part, twos = np.frexp(x)
    small = part < 0.5**0.5
    part, twos = np.where(small, 2 * part, part), twos - small
    ratio = (part - 1) / (part + 1)  # log(part) = 2 artanh(ratio)
    square, series = ratio * ratio, np.zeros_like(ratio)
    for n in range(23, 0, -2):
        series = series * square + 2 / n
    return twos * LOG2_HIGH + (ratio * series + twos * LOG2_LOW)


def best_first(scores: Array) -> list[int]:  # [C] -> C numbers
    """The numbers of the classes, best first; of equal scores the first one.

    >>> best_first(np.array([0.2, 0.5, 0.2]))
    [1, 0, 2]
    """
    order: list[int] = (-scores).argsort(kind="stable").tolist()
    return order


# What makes one vector of the hidden states of some tokens, whose places in the text are given: [n, D], [n] -> [D].
# The names are those of sentence-transformers' Pooling.
POOLING: dict[str, Callable[[Array, Array], Array]] = {
    "mean": lambda states, places: states.mean(axis=0),
    "cls": lambda states, places: states[0],
    "max": lambda states, places: states.max(axis=0),
    "mean_sqrt_len_tokens": lambda states, places: states.sum(axis=0) / np.float32(len(states) ** 0.5),
    "weightedmean": lambda states, places: (states * places[:, None]).sum(axis=0) / places.sum(dtype=np.float32),
    "lasttoken": lambda states, places: states[-1],
}


def pool(states: Array, pooling: str, rows: Array | None = None) -> Array:  # [L, D] -> [D], or a multiple of it
    """One vector of a text, by one of `POOLING`; by several with + between, side by side.

    Only `rows` are looked at, where they are given; "weightedmean" weighs a token by its place in the text, from 1 on.

    >>> pool(np.array([[1.0, 4.0], [3.0, 2.0]]), "mean+max")
    array([2., 3., 3., 4.])
    """
    rows = np.arange(len(states)) if rows is None else rows
    some, places = states[rows], (rows + 1).astype(states.dtype)
    return np.concatenate([POOLING[name](some, places) for name in pooling.split("+")])


def unit(x: Array) -> Array:  # [D] -> [D]
    """A vector scaled to length 1; one of zeros stays as it is.

    >>> unit(np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """
    return x / np.maximum(np.sqrt((x * x).sum()), np.asarray(1e-12, x.dtype))


# torch's names of what a Dense module of sentence-transformers may end with.
DENSE_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "Identity": lambda x: x,
    "Tanh": tanh,
    "ReLU": relu,
    "GELU": ACTIVATIONS["gelu"],
    "SiLU": ACTIVATIONS["silu"],
    "Sigmoid": sigmoid,
}


def dense(
    x: Array, activation: str, weight: Array, bias: Array | float = 0.0, shortcut: Array | None = None
) -> Array:  # [in] -> [out]
    """A linear layer behind the pooling; what it is given is added to its answer where it has a `shortcut` [out, in].

    >>> dense(np.array([1.0, -3.0]), "ReLU", weight=np.eye(2))
    array([1., 0.])
    """
    out = activated(DENSE_ACTIVATIONS[activation], (weight * x).sum(axis=1) + bias)  # a BLAS adds up in its own order
    return out if shortcut is None else out + (shortcut * x).sum(axis=1)


# Architecture in config.json -> the head's linear layers: name -> (out, in), in letters of encoder.py.
SHAPES: dict[str, dict[str, tuple[Any, Any]]] = {
    "DistilBertModel": {},
    "DistilBertForSequenceClassification": {"pre_classifier": ("D", "D"), "classifier": ("C", "D")},
    "DistilBertForMultipleChoice": {"pre_classifier": ("D", "D"), "classifier": (1, "D")},
    "DistilBertForTokenClassification": {"classifier": ("C", "D")},
    "DistilBertForQuestionAnswering": {"qa_outputs": (2, "D")},
    "DistilBertForMaskedLM": {"vocab_transform": ("D", "D"), "vocab_projector": ("V", "D")},
}

FIRST_TOKEN = ("DistilBertForSequenceClassification", "DistilBertForMultipleChoice")  # these read no other state


def logits(
    architecture: str,
    hidden: Array,
    head: Params,
    activation: str,
    linear: Linear = linear,
    pooler: str = "relu",
    eps: float = EPSILON,
) -> Array:  # [R, D] -> [R, C]
    """What the head of an architecture says of hidden states: a row of logits for each.

    C is the number of labels; 1 for multiple choice, 2 for question answering (start and end), V for a masked LM.

    >>> two = {"weight": np.array([[1.0], [2.0]]), "bias": np.zeros(2)}
    >>> logits("DistilBertForQuestionAnswering", np.array([[3.0], [5.0]]), {"qa_outputs": two}, "gelu")
    array([[ 3.,  6.],
           [ 5., 10.]])
    """
    if architecture == "DistilBertForSequenceClassification":
        return sequence_classification(hidden, **head, linear=linear, pooler=pooler)
    if architecture == "DistilBertForMultipleChoice":
        return multiple_choice(hidden, **head, linear=linear, pooler=pooler)[:, None]
    if architecture == "DistilBertForTokenClassification":
        return token_classification(hidden, **head, linear=linear)
    if architecture == "DistilBertForQuestionAnswering":
        return np.stack(question_answering(hidden, **head, linear=linear), axis=1)
    return masked_lm(hidden, **head, activation=activation, linear=linear, eps=eps)
