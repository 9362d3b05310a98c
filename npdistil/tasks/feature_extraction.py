"""Feature extraction: the hidden states of every token of a text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..arguments import tensor
from ..batch import Inputs, Outputs
from ..settings import choice, setting, whole
from ..text import laid_out, tokenize, truncated, wholes
from .base import Task, TaskSettings, truncation, truncation_strategy


@dataclass(frozen=True, kw_only=True)
class FeatureExtractionSettings(TaskSettings):
    """Settings of feature extraction."""

    return_tensors: bool | str = setting(
        False,
        replace(
            choice("np", "pt"),
            expected="known are True, False, np, pt",
            takes=lambda value: isinstance(value, bool) or choice("np", "pt").takes(value),
            schema={"enum": [True, False, "np", "pt"]},
        ),
        'True or "np" gives arrays instead of nested lists; "pt" those of torch where it is installed.',
    )
    truncation: bool | str = setting(
        False,
        truncation(),
        "whether a text is cut at what the tokenizer and the model allow (transformers' names of strategies differ for "
        "pairs alone); otherwise a longer one is refused.",
    )
    batch_size: int = setting(32, whole(), "texts that are run at once; results do not depend on it.")


class FeatureExtraction(Task[FeatureExtractionSettings]):
    """transformers' pipeline of that name: the last hidden states of every token.

    Items are texts. An answer is [1, L, D], as nested lists or as a float32 array.
    """

    settings_type = FeatureExtractionSettings
    architectures = ()  # every head stands on hidden states

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`."""
        encodings = tokenize(self.checkpoint.tokenizer, items)
        if strategy := truncation_strategy(self.settings.truncation):
            most, side = self.checkpoint.max_length, self.checkpoint.truncation_side
            return laid_out([[truncated(each, most, strategy, side)] for each in encodings], output="hidden_states")
        return laid_out([[each] for each in wholes(encodings)], output="hidden_states")

    def postprocess(self, outputs: Outputs) -> list[Any]:
        """As `Task.postprocess`."""
        states = [each[None] for (each,) in outputs.by_item()]
        if self.settings.return_tensors == "pt":
            return [*map(tensor, states)]
        return states if self.settings.return_tensors else [each.tolist() for each in states]
