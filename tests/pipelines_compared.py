"""Pipelines of both sides called in the same way, over matrices of inputs and arguments; their answers compared."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from transformers import DistilBertConfig

import npdistil

SCORE = 2e-5  # largest difference of scores


def write_model(directory: Path, tokenizer: Tokenizer, architecture: str, **changes: Any) -> Path:
    """A small model of random weights with a row for each token, as transformers saves it; without its tokenizer."""
    torch.manual_seed(5)
    rows = max(tokenizer.get_vocab().values()) + 1
    config = DistilBertConfig(
        **{"vocab_size": rows, "n_layers": 2, "dim": 48, "n_heads": 3, "hidden_dim": 96, "initializer_range": 0.3}
        | changes
    )
    getattr(transformers, architecture)(config).eval().save_pretrained(directory)
    return directory


def same(ours: Any, theirs: Any) -> bool:
    """The same lists and keys in the same order, with scores that are near."""
    if isinstance(theirs, torch.Tensor):
        ours, theirs = np.asarray(ours), theirs.numpy()
        return bool(ours.shape == theirs.shape and np.abs(ours - theirs).max(initial=0) <= SCORE)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[name], theirs[name]) for name in theirs)
    if isinstance(theirs, (list, tuple)):
        matches = isinstance(ours, (list, tuple)) and len(ours) == len(theirs)
        return matches and all(same(one, other) for one, other in zip(ours, theirs, strict=True))
    if isinstance(ours, float):
        return bool(abs(ours - float(theirs)) <= SCORE)
    return bool(ours == theirs)


def outcome(call: Callable[..., Any], *inputs: Any, **given: Any) -> tuple[str, Any]:
    """What a call answers, or why it refuses."""
    try:
        return "answer", call(*inputs, **given)
    except npdistil.errors.NpdistilError as error:
        return "refused", str(error)
    except BaseException as error:  # the reference's; its tokenizers panic outside of Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit, Warning)):
            raise
        return "refused", f"{type(error).__name__}: {error}"


class Matrix:
    """Two pipelines, and counts of situations: tried, equal, and different on purpose for a reason."""

    def __init__(self, ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
        self.ours, self.theirs = ours, theirs
        self.tried = self.equal = 0
        self.different: Counter[str] = Counter()

    def compare(self, *inputs: Any, on_purpose: str = "", **given: Any) -> None:
        """Both answer a call the same, or both refuse it, or they differ and `on_purpose` says why."""
        self.tried += 1
        (mine, own), (their, other) = (outcome(call, *inputs, **given) for call in (self.ours, self.theirs))
        if mine == their and (mine == "refused" or same(own, other)):
            self.equal += 1
        elif on_purpose:
            self.different[on_purpose] += 1
        else:
            pytest.fail(f"{inputs!r:.600} {given}\nours:   {mine} {own!r:.600}\ntheirs: {their} {other!r:.600}")

    def __str__(self) -> str:
        different = "".join(f", {count} different on purpose ({why})" for why, count in self.different.items())
        return f"{self.tried} tried, {self.equal} equal{different}"
