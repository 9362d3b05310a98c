"""Zero-shot classification: labels chosen at the call, judged by a model of natural language inference."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..distilbert.encoder import Array, softmax
from ..errors import InputError
from ..model import STRIDE, Model
from ..text import ids_at, tokenize, window_positions
from .base import UNSET, Task, check_choice, run

Answer: TypeAlias = dict[str, Any]  # {"sequence": str, "labels": list[str], "scores": list[float]}


class ZeroShotClassification(Task):
    """transformers' pipeline of that name: same arguments, same results (Yin et al. 2019, arXiv:1909.00161).

    Each text is a premise and each label makes a hypothesis; a label's score comes from the logit of "entailment".
    One thing differs: a premise that does not fit beside its hypothesis is not cut silently. It is read in
    overlapping windows, whose logits are averaged.

    Each setting is also an argument of the call.

    Args:
        candidate_labels: a list of labels, or a string of them with commas between.
        hypothesis_template: a sentence with {} where the label goes.
        multi_label: whether several labels may be true: each is then judged alone, entailment against contradiction.
        batch_size: texts that are run at once.
    """

    def __init__(
        self,
        model: Model,
        *,
        candidate_labels: str | Sequence[str] = UNSET,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        batch_size: int = 16,
    ) -> None:
        entailment = next(
            (i for i, label in enumerate(model.config.labels) if label.lower().startswith("entail")), None
        )
        if entailment is None:
            raise InputError(
                f"{model.checkpoint.directory} has the labels {', '.join(model.config.labels)}; zero-shot "
                "classification needs a model of natural language inference, with a label that begins with 'entail'"
            )
        self.entailment = entailment
        settings: dict[str, Any] = {
            "candidate_labels": candidate_labels,
            "hypothesis_template": hypothesis_template,
            "multi_label": multi_label,
            "batch_size": batch_size,
        }
        super().__init__(model, settings)

    def check(self, chosen: dict[str, Any]) -> None:
        """Refuse values that the task cannot take."""
        super().check(chosen)
        check_choice("multi_label", chosen["multi_label"], (False, True))
        _hypotheses(["a label"], chosen["hypothesis_template"])
        if chosen["candidate_labels"] is not UNSET:
            _labels(chosen["candidate_labels"])

    def __call__(self, inputs: Any, candidate_labels: Any = UNSET, **settings: Any) -> Any:
        """Classify.

        Args:
            inputs: a text, a list or an iterator of texts.
            candidate_labels: as for the class.
            settings: as for the class.

        Returns:
            For a text {"sequence", "labels", "scores"}, best label first; for several texts a list, or a lazy
            iterator, of these.

        Raises:
            InputError: an input or a setting that the model cannot take.
        """
        given = {} if candidate_labels is UNSET else {"candidate_labels": candidate_labels}
        chosen = self.choose(settings | given)
        labels = _labels(chosen["candidate_labels"])
        hypotheses = _hypotheses(labels, chosen["hypothesis_template"])
        size = chosen["batch_size"]
        return run(inputs, (str,), size, lambda texts: self._answers(texts, labels, hypotheses, chosen["multi_label"]))

    def _answers(self, texts: list[str], labels: list[str], hypotheses: list[str], multi: bool) -> Iterator[Answer]:
        logits = self._logits([(text, hypothesis) for text in texts for hypothesis in hypotheses])
        for text, rows in zip(texts, logits.reshape(len(texts), len(labels), -1), strict=True):
            entailment = rows[:, self.entailment]
            if multi or len(labels) == 1:
                contradiction = rows[:, -1 if self.entailment == 0 else 0]
                scores = softmax(np.stack([contradiction, entailment], axis=1))[:, 1]
            else:
                scores = softmax(entailment)
            order = np.argsort(-scores, kind="stable")
            yield {"sequence": text, "labels": [labels[i] for i in order], "scores": scores[order].tolist()}

    def _logits(self, pairs: list[tuple[str, str]]) -> Array:
        """The mean over the windows of each pair: float64 [pairs, C]."""
        length = self.model.config.max_position_embeddings
        stride = min(STRIDE, length // 4)
        encodings = tokenize(self.model.tokenizer, pairs)
        cuts = [window_positions(encoding, length, stride, cut_first=True) for encoding in encodings]
        ids = [each for encoding, cut in zip(encodings, cuts, strict=True) for each in ids_at(encoding, cut)]
        ends = np.cumsum([len(cut) for cut in cuts])
        logits = np.split(self.model.logits(ids).astype(np.float64), ends[:-1])
        return np.array([windows.mean(axis=0) for windows in logits])


def _labels(given: Any) -> list[str]:
    if given is UNSET:
        raise InputError("candidate_labels are missing: a list of labels, or a string of them with commas between")
    labels = [each.strip() for each in given.split(",")] if isinstance(given, str) else given
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"candidate_labels is {given!r:.80}; expected a string or a list of strings")
    labels = [label for label in labels if label]
    if not labels:
        raise InputError("candidate_labels has no label")
    return labels


def _hypotheses(labels: list[str], template: Any) -> list[str]:
    if not isinstance(template, str):
        raise InputError(f"hypothesis_template is {template!r:.80}; expected a string")
    try:
        hypotheses = [template.format(label) for label in labels]
    except (IndexError, KeyError, ValueError):
        hypotheses = [template]
    if template in hypotheses:
        raise InputError(f"hypothesis_template is {template!r:.80}; expected one {{}}, where the label goes")
    return hypotheses
