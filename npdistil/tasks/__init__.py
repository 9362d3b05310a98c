"""Text in, answers out: one file a task, with the calls and results of transformers' pipelines."""

import importlib
import inspect
import os
from typing import Any

from ..errors import InputError
from ..model import Model, load

# Task -> module here and the class in it.
TASKS: dict[str, tuple[str, str]] = {
    "text-classification": ("text_classification", "TextClassification"),
    "sentiment-analysis": ("text_classification", "TextClassification"),
    "token-classification": ("token_classification", "TokenClassification"),
    "ner": ("token_classification", "TokenClassification"),
    "question-answering": ("question_answering", "QuestionAnswering"),
    "fill-mask": ("fill_mask", "FillMask"),
    "zero-shot-classification": ("zero_shot_classification", "ZeroShotClassification"),
    "feature-extraction": ("feature_extraction", "FeatureExtraction"),
    "multiple-choice": ("multiple_choice", "MultipleChoice"),
}


def pipeline(
    task: str,
    model: str | os.PathLike[str] | Model | None = None,
    *,
    engine: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    **settings: Any,
) -> Any:
    """A callable for a task: `pipeline("sentiment-analysis")("I like you.")`.

    Args:
        task: one of `TASKS`; "sentiment-analysis" and "ner" are other names of text and token classification.
        model: what `load` takes, or a loaded `Model`; None is the bundled sentiment classifier.
        engine: as for `load`.
        precision: as for `load`.
        threads: as for `load`.
        settings: defaults for the task's own arguments; see the class of the task.

    Raises:
        InputError: an unknown task or setting; and what `load` raises.

    Example:
        >>> import npdistil
        >>> classify = npdistil.pipeline("sentiment-analysis")
        >>> [each["label"] for each in classify(["I love it.", "I hate it."])]
        ['POSITIVE', 'NEGATIVE']
    """
    if task not in TASKS:
        raise InputError(f"task is {task!r}; known are {', '.join(TASKS)}")
    module, name = TASKS[task]
    if not isinstance(model, Model):
        model = load(model, engine=engine, precision=precision, threads=threads)
    elif engine != "auto" or precision is not None or threads is not None:
        raise InputError("engine, precision and threads belong to `load`; this model is loaded already")
    kind = getattr(importlib.import_module(f".{module}", __name__), name)
    known = [*inspect.signature(kind).parameters][1:]
    if unknown := [each for each in settings if each not in known]:
        raise InputError(f"unknown setting: {', '.join(unknown)}; known are {', '.join(known)}")
    return kind(model, **settings)
