"""Text classification: the label of a text or of a pair of texts, and its score."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from ..batch import Text, as_text, chunks
from ..errors import InputError
from ..model import Array
from ..pretrained import Model

Answer: TypeAlias = dict[str, Any]  # {"label": str, "score": float}

UNSET: Any = object()  # top_k=None means all labels, so "not given" is something else
BATCH_SIZE = 256  # texts that are tokenised and scored at once; results do not depend on it


class TextClassification:
    """transformers' pipeline of that name: same calls, same arguments, same results.

    One thing differs: a text of more tokens than the model has positions for is not an IndexError. It is scored in
    overlapping windows whose mean is the answer; `truncation=True` takes its first tokens, as in transformers, and
    `long_text="error"` refuses it.

    Args, each also an argument of the call:
        top_k: how many labels to give, best first; None gives all. When it is given, a text's answer is a list.
        function_to_apply: "softmax", "sigmoid", "none"; by default what the model's problem_type asks for.
        truncation: True is `long_text="truncate"`.
        max_length: tokens, special ones included, that count as long.
        long_text: "windows", "truncate" or "error".
        batch_size: texts that are taken from an iterator at once.
    """

    def __init__(
        self,
        model: Model,
        *,
        top_k: int | None = UNSET,
        function_to_apply: str | None = None,
        truncation: bool = False,
        max_length: int | None = None,
        long_text: str = "windows",
        batch_size: int = BATCH_SIZE,
    ) -> None:
        self.model = model
        self.defaults: dict[str, Any] = {
            "top_k": top_k,
            "function_to_apply": function_to_apply,
            "truncation": truncation,
            "max_length": max_length,
            "long_text": long_text,
            "batch_size": batch_size,
        }
        model.logits([])  # a model without the right head is refused here, not at the first text

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """Classify.

        Args:
            inputs: a string; a pair {"text", "text_pair"}; a list of these; or an iterator of these.
            settings: as for the class.

        Returns:
            For a string a list with one {"label", "score"}, for a pair that dict, for a list a list of dicts, for an
            iterator a lazy iterator of dicts. With `top_k`, a list of dicts stands wherever there was a dict; given in
            this call, a string's is not wrapped in another list.

        Raises:
            InputError: an input or a setting that the model cannot take.
        """
        if unknown := [name for name in settings if name not in self.defaults]:
            raise InputError(f"unknown setting: {', '.join(unknown)}; known are {', '.join(self.defaults)}")
        chosen = self.defaults | settings
        _check_count("top_k", chosen["top_k"], allow=(None, UNSET))
        _check_count("batch_size", chosen["batch_size"], allow=())
        if isinstance(inputs, (str, dict)):
            (answer,) = self._answers([inputs], chosen)
            return [answer] if isinstance(inputs, str) and "top_k" not in settings else answer
        if isinstance(inputs, list):
            return list(self._answers(inputs, chosen))
        if isinstance(inputs, Iterator):
            return self._answers(inputs, chosen)
        raise InputError(f"expected a string, a pair, a list or an iterator, found {type(inputs).__name__}")

    def _answers(self, inputs: Iterable[Any], chosen: dict[str, Any]) -> Iterator[Any]:
        long_text = "truncate" if chosen["truncation"] else chosen["long_text"]
        for chunk in chunks(inputs, chosen["batch_size"]):
            texts: list[Text] = [as_text(item) for item in chunk]
            scores = self.model.scores(texts, chosen["function_to_apply"], long_text, chosen["max_length"])
            for row in scores:
                yield self._answer(row, chosen["top_k"])

    def _answer(self, scores: Array, top_k: Any) -> Answer | list[Answer]:
        order = (-scores).argsort(kind="stable")
        best = [{"label": self.model.config.labels[i], "score": float(scores[i])} for i in order]
        return best[0] if top_k is UNSET else best[:top_k]


def _check_count(name: str, value: Any, allow: tuple[Any, ...]) -> None:
    if value in allow:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number above 0")
