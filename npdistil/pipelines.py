"""`pipeline`: a task and a model, called as transformers' pipelines are."""

import importlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .batch import in_chunks
from .errors import InputError
from .model import Model, load
from .tasks.base import Task
from .tasks.explanation import Explanation, ExplanationTask
from .text import items_of

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
            inputs: an item, or several of them, as `text.items_of` takes them; what an item is the task's class says.
            given: settings of this call.

        Raises:
            InputError: an item or a setting that the model cannot take.
        """
        items, given = self.task.arguments(*inputs, **given)
        task = self.task.replaced(given)
        if task.is_item(items):
            return task.shaped(self.model.run(task, [items]), items, given)
        several = items_of(items)
        answers = in_chunks(partial(self.model.run, task), several, task.settings.batch_size)
        return task.shaped([*answers], several, given) if isinstance(several, list) else answers

    def run(self, items: Sequence[Any]) -> list[Any]:
        """An answer for each item, all of them at once."""
        return self.model.run(self.task, items)


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


def explain(
    model: Model, text: str, label: str | None = None, *, attention: bool = False, **settings: Any
) -> Explanation:
    """How much each word of a text adds to the log-odds of a label.

    Args:
        model: for sequence classification.
        text: one that the model reads at once, so up to 512 tokens for the bundled model.
        label: by default the one with the highest score.
        attention: whether to give the attention of each layer and head too.
        settings: `method` and `samples`, as for the task "explanation".

    Raises:
        InputError: a longer text, a label or a setting that the model cannot take, or a model with another head.

    Example:
        >>> import npdistil
        >>> found = npdistil.explain(npdistil.load(), "A tedious film.")
        >>> found.label, max(found.words, key=lambda word: word.value).text
        ('NEGATIVE', 'tedious')
    """
    task = ExplanationTask(model.checkpoint, label=label, **settings)
    inputs = task.preprocess([text])
    (found,) = task.postprocess(model.forward(inputs))
    return replace(found, attention=model.attentions(inputs.token_ids[:1])[0]) if attention else found
