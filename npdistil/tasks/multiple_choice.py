"""Multiple choice: which of several answers goes with a text best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..batch import Inputs, Outputs
from ..distilbert.encoder import softmax
from ..errors import InputError
from ..results import Chosen
from ..settings import Kind, setting, shown, string, strings, whole
from ..text import laid_out, tokenize, wholes
from .base import Task, TaskSettings

CHOICES = strings(1)


def _holds(item: Mapping[str, Any]) -> bool:
    return string().takes(item["text"]) and CHOICES.takes(item["choices"])


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceSettings(TaskSettings):
    """Settings of multiple choice."""

    batch_size: int = setting(32, whole(), "questions that a thread runs at once; results do not depend on it.")


class MultipleChoice(Task[MultipleChoiceSettings]):
    """The choice that DistilBertForMultipleChoice gives the largest logit; transformers has no pipeline for it.

    Items are {"text": str, "choices": list[str]}, each choice being read as the second text of a pair. An answer is
    {"choice": its number, "text": the choice, "scores": a probability for each choice}.
    """

    settings_type = MultipleChoiceSettings
    architectures = ("DistilBertForMultipleChoice",)
    items = "questions with their choices"
    text = "text"
    beside: ClassVar[Mapping[str, Kind]] = {"choices": CHOICES}
    columns = ("choice", "text", "scores")

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; a question's choices are its sequences."""
        for i, item in enumerate(items):
            if not isinstance(item, dict) or set(item) != {"text", "choices"} or not _holds(item):
                wanted = '{"text": str, "choices": [str, ...]} without lone surrogates'
                raise InputError(f"question {i} is {shown(item)}; expected {wanted}")
        pairs = [(item["text"], choice) for item in items for choice in item["choices"]]
        read = iter(wholes(tokenize(self.checkpoint.tokenizer, pairs)))
        cuts = [[next(read) for _ in item["choices"]] for item in items]
        most = self.checkpoint.config.max_position_embeddings
        for i, cut in enumerate(cuts):
            if (count := max(len(each.positions) for each in cut)) > most:
                raise InputError(f"question {i} and its longest choice have {count} tokens; the model takes {most}")
        return laid_out(cuts, context=items)

    def postprocess(self, outputs: Outputs) -> list[Chosen]:
        answers: list[Chosen] = []
        for item, logits in zip(outputs.inputs.context, outputs.by_item(), strict=True):
            row = np.concatenate(logits)[:, 0].astype(np.float64)
            best = int(row.argmax())
            answers.append({"choice": best, "text": item["choices"][best], "scores": softmax(row).tolist()})
        return answers
