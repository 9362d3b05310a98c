"""Multiple choice: which of several answers goes with a text best."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from ..distilbert import heads
from ..distilbert.encoder import softmax
from ..errors import InputError
from ..model import Model
from ..text import tokenize
from .base import Task, run

Answer: TypeAlias = dict[str, Any]  # {"choice": int, "text": str, "scores": list[float]}


class MultipleChoice(Task):
    """The choice that DistilBertForMultipleChoice gives the largest logit; transformers has no pipeline for it.

    Args, also an argument of the call:
        batch_size: questions that are run at once.
    """

    architecture = "DistilBertForMultipleChoice"

    def __init__(self, model: Model, *, batch_size: int = 32) -> None:
        super().__init__(model, {"batch_size": batch_size})

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """Choose.

        Args:
            inputs: {"text": str, "choices": list[str]}, each choice being read as the second text of a pair; a list
                or an iterator of these.
            settings: as for the class.

        Returns:
            {"choice": its number, "text": the choice, "scores": a probability for each choice}; for several a list, or
            a lazy iterator, of these.

        Raises:
            InputError: an input or a setting that the model cannot take.
        """
        return run(inputs, (dict,), self.choose(settings)["batch_size"], self._answers)

    def _answers(self, items: list[Any]) -> Iterator[Answer]:
        model = self.model
        for item in items:
            if not isinstance(item, dict) or set(item) != {"text", "choices"} or not _are_choices(item["choices"]):
                raise InputError(f'expected {{"text": str, "choices": [str, ...]}}, found {item!r:.80}')
        pairs = [(item["text"], choice) for item in items for choice in item["choices"]]
        hidden = model.hidden_states([encoding.ids for encoding in tokenize(model.tokenizer, pairs)])
        first = np.stack([states[0] for states in hidden])
        logits = heads.multiple_choice(first, **model.checkpoint.head, linear=model.encoder.linear)
        ends = np.cumsum([len(item["choices"]) for item in items])
        for item, row in zip(items, np.split(logits.astype(np.float64), ends[:-1]), strict=True):
            best = int(row.argmax())
            yield {"choice": best, "text": item["choices"][best], "scores": softmax(row).tolist()}


def _are_choices(choices: Any) -> bool:
    return isinstance(choices, (list, tuple)) and bool(choices) and all(isinstance(each, str) for each in choices)
