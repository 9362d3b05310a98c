"""Logits -> scores, as a model's `problem_type` and number of labels ask for."""

import numpy as np

from .checkpoint.config import Config
from .distilbert.encoder import Array, sigmoid, softmax
from .errors import InputError

FUNCTIONS = ("none", "sigmoid", "softmax")


def default_function(config: Config) -> str:
    """What turns this model's logits into scores: transformers' rule for text classification."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or len(config.labels) == 1:
        return "sigmoid"
    return "softmax"


def apply_function(function: str, logits: Array) -> Array:  # [B, C] -> [B, C]
    """Scores in float64, so that a row of probabilities adds up to 1 to the last digit shown.

    Raises:
        InputError: not one of "none", "sigmoid", "softmax".
    """
    logits = logits.astype(np.float64)
    if function == "none":
        return logits
    if function == "sigmoid":
        return sigmoid(logits)
    if function == "softmax":
        return softmax(logits)
    raise InputError(f"function_to_apply is {function!r}; known are {', '.join(FUNCTIONS)}")


def best_first(scores: Array) -> list[int]:  # [C] -> C numbers
    """The numbers of the labels, best first; of equal scores the first one."""
    order: list[int] = (-scores).argsort(kind="stable").tolist()
    return order
