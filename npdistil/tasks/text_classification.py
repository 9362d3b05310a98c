"""Text classification: the label of a text or of a pair of texts, and its score."""

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from ..distilbert.encoder import Array
from ..errors import InputError
from ..model import COMBINE, LONG_TEXT, Model
from ..scores import FUNCTIONS
from ..text import as_text
from .base import UNSET, Task, check_choice, check_count, run

Answer: TypeAlias = dict[str, Any]  # {"label": str, "score": float}


class TextClassification(Task):
    """transformers' pipeline of that name: same calls, same arguments, same results.

    One thing differs: a text of more tokens than the model has positions for is not an IndexError. It is scored in
    overlapping windows whose mean is the answer; `truncation=True` takes its first tokens, as in transformers, and
    `long_text="error"` refuses it. With `long_text="truncate"` the answer to a text that was cut has "truncated": True.

    Each setting is also an argument of the call.

    Args:
        top_k: how many labels to give, best first; None gives all. When it is given, a text's answer is a list.
        function_to_apply: "softmax", "sigmoid", "none"; by default what the model's problem_type asks for.
        truncation: True is `long_text="truncate"`, without that note.
        threshold: of a multi-label model, give the labels that score at least this much, and maybe none.
        max_length: texts of more tokens than this, special ones included, are long.
        long_text: "windows", "sentences", "truncate" or "error"; see `Model.cut`.
        stride: tokens that neighbouring windows share.
        combine: what becomes of the scores of windows or sentences: their "mean", the "max" of each label, those of
            the "first"; or "none": the answer is a list with that of each, with "start" and "end" in the text.
        batch_size: texts that are tokenised and scored at once; results do not depend on it.
    """

    def __init__(
        self,
        model: Model,
        *,
        top_k: int | None = UNSET,
        function_to_apply: str | None = None,
        truncation: bool = False,
        threshold: float | None = None,
        max_length: int | None = None,
        long_text: str = "windows",
        stride: int | None = None,
        combine: str = "mean",
        batch_size: int = 256,
    ) -> None:
        settings: dict[str, Any] = {
            "top_k": top_k,
            "function_to_apply": function_to_apply,
            "truncation": truncation,
            "threshold": threshold,
            "max_length": max_length,
            "long_text": long_text,
            "stride": stride,
            "combine": combine,
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
        check_choice("combine", chosen["combine"], (*COMBINE, "none"))
        threshold = chosen["threshold"]
        number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
        if threshold is not None and not (number and math.isfinite(threshold)):
            raise InputError(f"threshold is {threshold!r}; expected a number")

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
        wrapped = isinstance(inputs, str) and "top_k" not in settings
        return [answer] if wrapped and (isinstance(answer, dict) or chosen["top_k"] is not UNSET) else answer

    def _answers(self, items: list[Any], chosen: dict[str, Any]) -> Iterator[Any]:
        long_text = "truncate" if chosen["truncation"] else chosen["long_text"]
        cuts = self.model.cut([as_text(item) for item in items], long_text, chosen["max_length"], chosen["stride"])
        for cut, rows in zip(cuts, self.model.part_scores(cuts, chosen["function_to_apply"]), strict=True):
            # Who says `truncation=True` knows, and gets what transformers gives.
            note: Answer = {"truncated": True} if cut[0].truncated and not chosen["truncation"] else {}
            if chosen["combine"] == "none":
                spans = [note | {"start": part.start, "end": part.end} for part in cut]
                yield [self._chosen(row, chosen, span) for row, span in zip(rows, spans, strict=True)]
            else:
                yield self._chosen(COMBINE[chosen["combine"]](rows), chosen, note)

    def _chosen(self, scores: Array, chosen: dict[str, Any], note: Answer) -> Answer | list[Answer]:
        """The labels to give, best first; one by itself unless more may be asked for."""
        order = (-scores).argsort(kind="stable")
        answers = [{"label": self.model.config.labels[i], "score": float(scores[i])} | note for i in order]
        top_k, threshold = chosen["top_k"], chosen["threshold"]
        if threshold is not None:
            answers = [answer for answer in answers if answer["score"] >= threshold]
            return answers if top_k is UNSET else answers[:top_k]
        return answers[0] if top_k is UNSET else answers[:top_k]
