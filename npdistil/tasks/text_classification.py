"""Text classification: the label of a text or of a pair of texts, and its score."""

from collections.abc import Iterator
from typing import Any, TypeAlias

from ..batch import as_text
from ..model import Array
from ..pretrained import LONG_TEXT, Model
from ..scores import FUNCTIONS
from .base import UNSET, Task, check_choice, check_count, run

Answer: TypeAlias = dict[str, Any]  # {"label": str, "score": float}


class TextClassification(Task):
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
        batch_size: texts that are tokenised and scored at once; results do not depend on it.
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
        batch_size: int = 256,
    ) -> None:
        settings: dict[str, Any] = {
            "top_k": top_k,
            "function_to_apply": function_to_apply,
            "truncation": truncation,
            "max_length": max_length,
            "long_text": long_text,
            "batch_size": batch_size,
        }
        super().__init__(model, settings)

    def check(self, chosen: dict[str, Any]) -> None:
        """Refuse values that the task cannot take."""
        super().check(chosen)
        check_count("top_k", chosen["top_k"], None, UNSET)
        check_choice("function_to_apply", chosen["function_to_apply"], (None, *FUNCTIONS))
        check_choice("truncation", chosen["truncation"], (False, True))
        check_choice("long_text", chosen["long_text"], LONG_TEXT)

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
        chosen = self.choose(settings)
        answer = run(inputs, (str, dict), chosen["batch_size"], lambda items: self._answers(items, chosen))
        return [answer] if isinstance(inputs, str) and "top_k" not in settings else answer

    def _answers(self, items: list[Any], chosen: dict[str, Any]) -> Iterator[Answer | list[Answer]]:
        long_text = "truncate" if chosen["truncation"] else chosen["long_text"]
        texts = [as_text(item) for item in items]
        for row in self.model.scores(texts, chosen["function_to_apply"], long_text, chosen["max_length"]):
            answers = self._ranked(row)
            yield answers[0] if chosen["top_k"] is UNSET else answers[: chosen["top_k"]]

    def _ranked(self, scores: Array) -> list[Answer]:
        order = (-scores).argsort(kind="stable")
        return [{"label": self.model.config.labels[i], "score": float(scores[i])} for i in order]
