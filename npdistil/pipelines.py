"""`pipeline`: a task and a model, called as transformers' pipelines are."""

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .batch import chunks
from .errors import InputError
from .model import Model, load
from .tasks.base import Task

# Task -> module of tasks/ and the class in it.
TASKS: dict[str, tuple[str, str]] = {
    "text-classification": ("text_classification", "TextClassification"),
    "sentiment-analysis": ("text_classification", "TextClassification"),
    "token-classification": ("token_classification", "TokenClassification"),
    "ner": ("token_classification", "TokenClassification"),
    "question-answering": ("question_answering", "QuestionAnswering"),
    "fill-mask": ("fill_mask", "FillMask"),
    "zero-shot-classification": ("zero_shot_classification", "ZeroShotClassification"),
    "feature-extraction": ("feature_extraction", "FeatureExtraction"),
    "embedding": ("embedding", "Embedding"),
    "multiple-choice": ("multiple_choice", "MultipleChoice"),
    "explanation": ("explanation", "ExplanationTask"),
}


def task_type(task: str) -> type[Task[Any]]:
    """The class of a task.

    Raises:
        InputError: none of `TASKS`.
    """
    if task not in TASKS:
        raise InputError(f"task is {task!r:.80}; known are {', '.join(TASKS)}")
    module, name = TASKS[task]
    found: type[Task[Any]] = getattr(importlib.import_module(f".tasks.{module}", __package__), name)
    return found


class Pipeline:
    """A task on a model. Made by `pipeline`; any number of threads may use it at once.

    Attributes:
        task: what is done before the model's forward and after it, with its settings.
        model: what computes.
    """

    def __init__(self, task: Task[Any], model: Model) -> None:
        self.task, self.model = task, model

    def __repr__(self) -> str:
        return f"<npdistil.Pipeline {type(self.task).__name__} on {self.model!r}>"

    def __call__(self, *inputs: Any, **given: Any) -> Any:
        """Answers: one for one item, a list for a list, a lazy iterator for an iterator.

        Args:
            inputs: an item, a list or an iterator of items, as the task's class says.
            given: settings of this call.

        Raises:
            InputError: an item or a setting that the model cannot take.
        """
        items, given = self.task.arguments(*inputs, **given)
        task = self.task.replaced(given)
        if task.is_item(items):
            return task.shaped(self._run(task, [items]), items, given)
        if isinstance(items, list):
            return task.shaped([*self._answers(task, items)], items, given)
        if isinstance(items, Iterator):
            return self._answers(task, items)
        raise InputError(f"expected an item, a list of items or an iterator, found {type(items).__name__}")

    def run(self, items: Sequence[Any]) -> list[Any]:
        """An answer for each item, all of them at once."""
        return self._run(self.task, items)

    def _run(self, task: Task[Any], items: Sequence[Any]) -> list[Any]:
        return task.postprocess(self.model.forward(task.preprocess(items)))

    def _answers(self, task: Task[Any], items: Iterable[Any]) -> Iterator[Any]:
        for chunk in chunks(items, task.settings.batch_size):
            yield from self._run(task, chunk)


def pipeline(
    task: str,
    model: str | os.PathLike[str] | Model | None = None,
    *,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    **settings: Any,
) -> Pipeline:
    """A callable for a task: `pipeline("sentiment-analysis")("I like you.")`.

    Args:
        task: one of `TASKS`; "sentiment-analysis" and "ner" are other names of text and token classification.
        model: what `load` takes, or a loaded `Model`; None is the bundled sentiment classifier.
        engine: as for `load`.
        precision: as for `load`.
        threads: as for `load`.
        settings: defaults for the task's own settings; see the class of the task.

    Raises:
        InputError: an unknown task or setting; and what `load` raises.

    Example:
        >>> import npdistil
        >>> classify = npdistil.pipeline("sentiment-analysis")
        >>> [each["label"] for each in classify(["I love it.", "I hate it."])]
        ['POSITIVE', 'NEGATIVE']
    """
    kind = task_type(task)
    if not isinstance(model, Model):
        model = load(model, engine=engine, precision=precision, threads=threads)
    elif engine != "auto" or precision is not None or threads is not None:
        raise InputError("engine, precision and threads belong to `load`; this model is loaded already")
    return Pipeline(kind(model.checkpoint, **settings), model)
