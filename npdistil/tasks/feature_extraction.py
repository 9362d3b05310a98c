"""Feature extraction: the hidden states of every token of a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..arguments import tensor
from ..batch import Inputs, Outputs
from ..settings import flag_or, setting, whole
from ..text import laid_out
from .base import TRUNCATES, Task, TaskSettings, whole_or_cut


@dataclass(frozen=True, kw_only=True)
class FeatureExtractionSettings(TaskSettings):
    """Settings of feature extraction."""

    return_tensors: bool | str = setting(
        False,
        flag_or("np", "pt"),
        'True or "np" gives arrays instead of nested lists; "pt" those of torch where it is installed.',
    )
    truncation: bool | str = setting(
        False,
        TRUNCATES,
        "whether a text is cut at what the tokenizer and the model allow (transformers' names of strategies differ for "
        "pairs alone); otherwise a longer one is refused.",
    )
    batch_size: int = setting(32, whole(), "texts that a thread runs at once; results do not depend on it.")


class FeatureExtraction(Task[FeatureExtractionSettings]):
    """transformers' pipeline of that name: the last hidden states of every token.

    Items are texts. An answer is [1, L, D], as nested lists or as a float32 array.
    """

    settings_type = FeatureExtractionSettings
    architectures = ()  # every head stands on hidden states

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        read = whole_or_cut(self.checkpoint, items, self.settings.truncation)
        return laid_out([[each] for each in read], output="hidden_states")

    def postprocess(self, outputs: Outputs) -> list[Any]:
        states = [each[None] for (each,) in outputs.by_item()]
        if self.settings.return_tensors == "pt":
            return [*map(tensor, states)]
        return states if self.settings.return_tensors else [each.tolist() for each in states]
