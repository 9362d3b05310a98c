"""Zero-shot classification: labels chosen at the call, judged by a model of natural language inference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import numpy as np

from ..batch import Inputs, Outputs
from ..checkpoint.weights import Checkpoint
from ..distilbert.encoder import softmax
from ..distilbert.heads import best_first
from ..errors import InputError
from ..results import Judged
from ..settings import UNSET, Unset, flag, one_or_several, setting, spoken, string, whole
from ..text import default_stride, laid_out, parts, tokenize, truncated
from .base import Task, TaskSettings


@dataclass(frozen=True, kw_only=True)
class ZeroShotClassificationSettings(TaskSettings):
    """Settings of zero-shot classification."""

    candidate_labels: str | Sequence[str] | Unset = setting(
        UNSET, one_or_several("string", 0, str), "a list of labels, or a string of them with commas between.", UNSET
    )
    hypothesis_template: str = setting("This example is {}.", string(), "a sentence with {} where the label goes.")
    multi_label: bool = setting(
        False,
        flag(),
        "whether several labels may be true: each is then judged alone, entailment against contradiction.",
    )
    truncation: bool = setting(
        False,
        flag(),
        "True reads the first tokens of a text that does not fit beside its hypothesis, as transformers does.",
    )
    batch_size: int = setting(16, whole(), "texts that a thread runs at once; results do not depend on it.")


class ZeroShotClassification(Task[ZeroShotClassificationSettings]):
    """transformers' pipeline of that name: same arguments, same results (Yin et al. 2019, arXiv:1909.00161).

    Each text is a premise and each label makes a hypothesis; a label's score comes from the logit of "entailment".
    One thing differs: a premise that does not fit beside its hypothesis is not cut silently. It is read in
    overlapping windows, whose logits are averaged; `truncation=True` takes its first tokens, as in transformers.

    Items are texts. An answer is {"sequence", "labels", "scores"}, best label first. `candidate_labels` may be given to
    a call by place, too.
    """

    settings_type = ZeroShotClassificationSettings
    columns = ("labels", "scores")

    def __init__(self, checkpoint: Checkpoint, /, **settings: Any) -> None:
        labels, numbers = checkpoint.config.labels, checkpoint.config.label2id  # which may differ; transformers' rule
        entailment = next((i for label, i in numbers.items() if label.lower().startswith("entail")), None)
        if entailment is None or not 0 <= entailment < len(labels):
            raise InputError(
                f"{checkpoint.directory} has the labels {', '.join(numbers)}; zero-shot "
                "classification needs a model of natural language inference, with a label that begins with 'entail'"
            )
        self.entailment = entailment
        super().__init__(checkpoint, **settings)

    def resolve(self) -> None:
        given = self.settings.candidate_labels
        self.labels = [] if given is UNSET else _labels(given)
        self.hypotheses = _hypotheses(self.labels, self.settings.hypothesis_template)

    def rows(self, answer: Any) -> Iterator[list[Any]]:
        """As `Task.rows`; a row a label."""
        return ([*pair] for pair in zip(answer["labels"], answer["scores"], strict=True))

    @property
    def added_columns(self) -> dict[str, Any]:
        """As `Task.added_columns`: the labels, best first."""
        return {"labels": ({"label": "string", "score": "float"},)}

    def added_values(self, answer: Any) -> list[Any]:
        return [[{"label": label, "score": score} for label, score in self.rows(answer)]]

    def arguments(self, *inputs: Any, **given: Any) -> tuple[Any, dict[str, Any]]:
        """As `Task.arguments`; labels may come second."""
        if len(inputs) == 2 and "candidate_labels" not in given:
            return inputs[0], given | {"candidate_labels": inputs[1]}
        return super().arguments(*inputs, **given)

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; an item is a text with one of the hypotheses, and its windows are its sequences."""
        if not self.labels:
            raise InputError("candidate_labels are missing: a list of labels, or a string of them with commas between")
        if pair := next((item for item in items if not isinstance(item, str)), None):
            raise InputError(f"expected a str, a list of these or an iterator, found {type(pair).__name__}")
        pairs = [(text, hypothesis) for text in items for hypothesis in self.hypotheses]
        encodings = tokenize(self.checkpoint.tokenizer, pairs)
        length, side = self.checkpoint.max_length, self.checkpoint.tokenization.truncation_side
        if self.settings.truncation:
            cuts = [[truncated(encoding, length, "only_first", side)] for encoding in encodings]
        else:
            cuts = [parts(encoding, length, default_stride(length), which=0) for encoding in encodings]
        return laid_out(cuts, context=items)

    def postprocess(self, outputs: Outputs) -> list[Judged]:
        logits = np.array([np.concatenate(windows).mean(axis=0, dtype=np.float64) for windows in outputs.by_item()])
        texts, labels = outputs.inputs.context, self.labels
        answers: list[Judged] = []
        for text, rows in zip(texts, logits.reshape(len(texts), len(labels), -1), strict=True):
            entailment = rows[:, self.entailment]
            if self.settings.multi_label or len(labels) == 1:
                contradiction = rows[:, -1 if self.entailment == 0 else 0]
                scores = softmax(np.stack([contradiction, entailment], axis=1))[:, 1]
            else:
                scores = softmax(entailment)
            order = best_first(scores)
            answers.append({"sequence": text, "labels": [labels[i] for i in order], "scores": scores[order].tolist()})
        return answers


def _labels(given: Any) -> list[str]:
    if isinstance(given, str):
        given = [label for each in given.split(",") if (label := each.strip())]
    if not given:
        raise InputError("candidate_labels has no label")
    return [*given]


def _hypotheses(labels: list[str], template: str) -> list[str]:
    """A hypothesis for each label; other labels have other hypotheses."""
    try:
        places = [place[1:] for place in Formatter().parse(template) if place[1] is not None]
    except ValueError:  # a single brace
        places = []
    # Only the label as it is: formats could shorten labels to the same text, or blow them up.
    if places != [("", "", None)] and {*places} != {("0", "", None)}:
        found = f"{spoken('hypothesis_template', '')} is {template!r:.80}"
        raise InputError(f"{found}; expected one {{}}, where the label goes")
    return [template.format(label) for label in labels]
