"""Text classification: the label of a text or of a pair of texts, and its score."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np

from ..batch import Inputs, Outputs
from ..distilbert.encoder import Array
from ..distilbert.heads import FUNCTIONS, scores
from ..errors import InputError
from ..settings import UNSET, Unset, choice, flag, number, setting, spoken, whole
from ..text import TRUNCATION, Text, as_texts, cut, laid_out
from .base import TRUNCATES, LongTextSettings, LongTextTask, truncation_strategy

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
        TRUNCATES,
        'True or "longest_first" is `long_text="truncate"`, without saying so in the answer: of a pair the longer text '
        'loses tokens until both are of one length, and then both do. "only_first" or "only_second" cuts that text.',
    )
    batch_size: int = setting(256, whole(), "texts that a thread runs at once; results do not depend on it.")


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
        strategy = truncation_strategy(self.settings.truncation)
        self.strategy, self.notes_cuts = strategy or TRUNCATION[0], strategy is None
        unset = self.settings.top_k is UNSET
        self.gives_all = self.settings.return_all_scores and unset
        self.several = self.gives_all or not (unset and self.settings.threshold is None)
        super().resolve()
        self.function = self.settings.function_to_apply or self.checkpoint.config.function

    def chosen_long_text(self) -> str:
        chosen = self.settings.long_text
        if self.notes_cuts:
            return chosen
        if chosen in ("error", "sentences"):
            raise InputError(
                f"{spoken('truncation')} is {self.settings.truncation!r}, which cuts texts, and {spoken('long_text')} "
                f"is {chosen!r}, which does not; leave one of them out"
            )
        return "truncate"

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; a text's parts are its sequences."""
        return self.laid_out(as_texts(items))

    def laid_out(self, texts: Sequence[Text]) -> Inputs:
        """As `preprocess`, for strings and tuples of two."""
        return laid_out(cut(self.tokenizer, texts, *self.how))

    def postprocess(self, outputs: Outputs) -> list[Any]:
        combine, texts = self.settings.combine, self.part_scores(outputs)
        # Who gives `truncation` knows, and gets what transformers gives.
        notes: list[Answer] = [
            {"truncated": True} if read[0].truncated and self.notes_cuts else {} for read in outputs.inputs.context
        ]
        if combine != "none":
            return self._chosen([combined(rows, combine) for rows in texts], notes)
        answers = []
        for read, rows, note in zip(outputs.inputs.context, texts, notes, strict=True):
            spans = [dict(zip(("start", "end"), part.span(), strict=True)) for part in read]
            answers.append(self._chosen([*rows], [note | span for span in spans]))
        return answers

    def part_scores(self, outputs: Outputs) -> list[Array]:
        """Scores of each label for each part: for each text float64 [parts, C]."""
        if not outputs.values:
            return []
        rows = scores(outputs.rows(), self.function)
        return [rows[i:j] for i, j in pairwise(accumulate(outputs.inputs.counts, initial=0))]

    def _chosen(self, scores: Sequence[Array], notes: Sequence[Answer]) -> list[Any]:
        """The labels to give for each [C] of some scores, best first; one by itself unless more may be asked for."""
        if not scores:
            return []
        labels, top_k, threshold = self.checkpoint.config.labels, self.settings.top_k, self.settings.threshold
        rows, answers = np.array(scores), []
        orders = (-rows).argsort(axis=1, kind="stable")  # of equal scores the first label comes first
        if self.gives_all:
            orders = np.tile(np.arange(len(labels)), (len(rows), 1))
        orders = orders[:, : (None if isinstance(top_k, Unset) else top_k) if self.several else 1]
        for row, order, note in zip(rows.tolist(), orders.tolist(), notes, strict=True):
            found = [{"label": labels[i], "score": row[i], **note} for i in order]
            if threshold is not None:
                found = [each for each in found if each["score"] >= threshold]
            answers.append(found if self.several else found[0])
        return answers

    def rows(self, answer: Any) -> Iterator[list[Any]]:
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
        return ({"labels": (one,)} if self.several else one) | ({"truncated": "bool"} if self._says_cuts else {})

    def added_values(self, answer: Answer | list[Answer]) -> list[Any]:
        labels = answer if isinstance(answer, list) else [answer]
        if self.several:
            values: list[Any] = [[{name: each[name] for name in self.columns} for each in labels]]
        else:
            values = [labels[0]["label"], labels[0]["score"]]
        return [*values, any("truncated" in each for each in labels)] if self._says_cuts else values

    @property
    def _says_cuts(self) -> bool:
        return self.settings.long_text == "truncate" and not self.settings.truncation
