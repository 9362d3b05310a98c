"""Text classification: the label of a text or of a pair of texts, and its score."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np

from ..batch import Inputs, Outputs
from ..distilbert.encoder import Array
from ..distilbert.heads import FUNCTIONS, best_first, scores
from ..settings import UNSET, Unset, choice, flag, number, setting, whole
from ..text import TRUNCATION, Text, as_texts, cut, laid_out
from .base import LongTextSettings, LongTextTask, truncation, truncation_strategy

Answer: TypeAlias = dict[str, Any]  # {"label": str, "score": float}
COMBINE: dict[str, Callable[[Array], Array]] = {  # scores of the parts of a text [parts, C] -> [C]
    "mean": lambda scores: scores.mean(axis=0),
    "max": lambda scores: scores.max(axis=0),
    "first": lambda scores: scores[0],
}


def combined(scores: Array, how: str) -> Array:  # [parts, C] -> [C]
    """The scores of a text of those of its parts, by one of `COMBINE`; most have one part, whose scores they are."""
    return scores[0] if len(scores) == 1 else COMBINE[how](scores)


@dataclass(frozen=True, kw_only=True)
class TextClassificationSettings(LongTextSettings):
    """Settings of text classification."""

    top_k: int | Unset | None = setting(
        UNSET,
        whole(),
        "how many labels to give, best first; None gives all. When it is given, a text's answer is a list.",
        None,
        UNSET,
    )
    return_all_scores: bool = setting(
        False, flag(), "True gives all labels in the model's order, where `top_k` is not given."
    )
    function_to_apply: str | None = setting(
        None,
        choice(*FUNCTIONS),
        "what makes scores of logits; by default what the model's problem_type asks for.",
        None,
    )
    threshold: float | None = setting(
        None, number(), "give the labels that score at least this much, and maybe none.", None
    )
    combine: str = setting(
        "mean",
        choice(*COMBINE, "none"),
        'what becomes of the scores of windows or sentences: their "mean", the "max" of each label, those of the '
        '"first"; or "none": the answer is a list with that of each, with "start" and "end" in the text, of a pair in '
        "the one with more tokens.",
    )
    truncation: bool | str = setting(
        False,
        truncation(),
        'True or "longest_first" is `long_text="truncate"`, without saying so in the answer: of a pair the longer text '
        'loses tokens until both are of one length, and then both do. "only_first" or "only_second" cuts that text.',
    )
    batch_size: int = setting(256, whole(), "texts that are run at once; results do not depend on it.")


class TextClassification(LongTextTask[TextClassificationSettings]):
    """transformers' pipeline of that name: same calls, same arguments, same results.

    One thing differs: a text of more tokens than the model has positions for is not an IndexError. It is scored in
    overlapping windows whose mean is the answer; `truncation` takes its first tokens, as in transformers, and
    `long_text="error"` refuses it. With `long_text="truncate"` the answer to a text that was cut has "truncated": True.

    Items are strings, or pairs {"text", "text_pair"}. For a string a call gives a list with one {"label", "score"}, for
    a pair that dict, for a list a list of dicts, for an iterator a lazy iterator of dicts. With `top_k`, a list of
    dicts stands wherever there was a dict; given in the call, a string's is not wrapped in another list.
    """

    settings_type = TextClassificationSettings
    answer = "labels"
    columns = ("label", "score")

    def resolve(self) -> None:
        """As `Task.resolve`."""
        strategy = truncation_strategy(self.settings.truncation)
        self.strategy, self.notes_cuts = strategy or TRUNCATION[0], strategy is None
        self.gives_all = self.settings.return_all_scores and self.settings.top_k is UNSET
        super().resolve()
        self.function = self.settings.function_to_apply or self.checkpoint.config.function

    def chosen_long_text(self) -> str:
        """As `LongTextTask.chosen_long_text`."""
        return self.settings.long_text if self.notes_cuts else "truncate"

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; a text's parts are its sequences."""
        return self.laid_out(as_texts(items))

    def laid_out(self, texts: Sequence[Text]) -> Inputs:
        """As `preprocess`, for strings and tuples of two."""
        return laid_out(cut(self.tokenizer, texts, *self.how))

    def postprocess(self, outputs: Outputs) -> list[Any]:
        """As `Task.postprocess`."""
        combine = self.settings.combine
        answers: list[Any] = []
        for read, rows in zip(outputs.inputs.context, self.part_scores(outputs), strict=True):
            # Who gives `truncation` knows, and gets what transformers gives.
            note: Answer = {"truncated": True} if read[0].truncated and self.notes_cuts else {}
            if combine == "none":
                spans = [dict(zip(("start", "end"), part.span(), strict=True)) for part in read]
                answers.append([self._chosen(row, note | span) for row, span in zip(rows, spans, strict=True)])
            else:
                answers.append(self._chosen(combined(rows, combine), note))
        return answers

    def part_scores(self, outputs: Outputs) -> list[Array]:
        """Scores of each label for each part: for each text float64 [parts, C]."""
        if not outputs.values:
            return []
        logits = np.concatenate(outputs.values)
        if not np.isfinite(logits).all():
            [*outputs.by_item()]  # says which
        rows = scores(logits, self.function)
        return [rows[i:j] for i, j in pairwise(accumulate(outputs.inputs.counts, initial=0))]

    def _chosen(self, row: Array, note: Answer) -> Answer | list[Answer]:
        """The labels to give, best first; one by itself unless more may be asked for."""
        labels, top_k, threshold = self.checkpoint.config.labels, self.settings.top_k, self.settings.threshold
        order, values = range(len(row)) if self.gives_all else best_first(row), row.tolist()
        answers: list[Answer] = [{"label": labels[i], "score": values[i]} | note for i in order]
        if threshold is not None:
            answers = [answer for answer in answers if answer["score"] >= threshold]
        elif top_k is UNSET and not self.gives_all:
            return answers[0]
        return answers if isinstance(top_k, Unset) else answers[:top_k]

    def rows(self, answer: Any) -> Iterator[list[Any]]:
        """As `Task.rows`."""
        return ([each["label"], each["score"]] for each in answer)

    def shaped(self, answers: list[Any], inputs: Any, given: Mapping[str, Any]) -> Any:
        """As `Task.shaped`; transformers wraps a string's answer in a list, unless the call has `top_k`."""
        if not self.is_item(inputs):
            return answers
        (answer,) = answers
        wrapped = isinstance(inputs, str) and "top_k" not in given
        return (
            [answer]
            if wrapped and (isinstance(answer, dict) or self.settings.top_k is not UNSET or self.gives_all)
            else answer
        )

    @property
    def added_columns(self) -> dict[str, Any]:
        """As `Task.added_columns`: label and score, or "labels"; and whether the text was cut."""
        settings = self.settings
        if settings.combine == "none":
            return {}
        one: dict[str, Any] = {"label": "string", "score": "float"}
        several = self.gives_all or not (settings.top_k is UNSET and settings.threshold is None)
        notes = settings.long_text == "truncate" and not settings.truncation
        return ({"labels": (one,)} if several else one) | ({"truncated": "bool"} if notes else {})

    def added_values(self, answer: Answer | list[Answer]) -> list[Any]:
        """As `Task.added_values`."""
        labels = answer if isinstance(answer, list) else [answer]
        values: list[Any] = []
        for column in self.added_columns:
            if column == "labels":
                values.append([{name: each[name] for name in self.columns} for each in labels])
            elif column == "truncated":
                values.append(any("truncated" in each for each in labels))
            else:
                values.append(labels[0][column])
        return values
