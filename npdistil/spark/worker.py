"""What runs in a Python worker of Spark: Arrow batches with texts -> the same with new columns."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pyspark import SparkFiles

from ..pipelines import Pipeline, pipeline

Row = tuple[Any, ...]  # a value for each new column
Answers = list[dict[str, Any]]


@lru_cache(maxsize=4)  # a worker serves one application; nearly always the same pipeline
def make_pipeline(arguments: str, archive: str | None) -> Pipeline:
    """A pipeline from JSON of `npdistil.pipeline`'s arguments; with `archive`, its model came along under this name."""
    given = json.loads(arguments)
    return pipeline(**(given | {"model": SparkFiles.get(archive)} if archive else given))


@dataclass(frozen=True)
class AddColumns:
    """What a stage has its workers do.

    Attributes:
        arguments: those of `npdistil.pipeline`, as JSON.
        archive: name of the model among the files that travel with the application; None: it lies where it is named.
        source: name of the column with the texts.
        columns: names of the new columns, with their types.
        row: (a text, the answer to it) -> a value for each new column.
    """

    arguments: str
    archive: str | None
    source: str
    columns: dict[str, pa.DataType]
    row: Callable[[str, Any], Row]

    def rows(self, texts: Sequence[str | None]) -> list[Row]:
        """Values for the new columns of each text; none where there is no text."""
        given = [text for text in texts if text is not None]
        answers = iter(make_pipeline(self.arguments, self.archive)(given))
        nothing = (None,) * len(self.columns)
        return [nothing if text is None else self.row(text, next(answers)) for text in texts]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches with the new columns; empty ones are left out."""
        for batch in batches:
            if batch.num_rows:
                values = zip(*self.rows(batch.column(self.source).to_pylist()), strict=True)
                new = [pa.array(each, kind) for each, kind in zip(values, self.columns.values(), strict=True)]
                yield pa.RecordBatch.from_arrays([*batch.columns, *new], [*batch.schema.names, *self.columns])


def labelled(text: str, answer: Answers, threshold: float | None) -> Row:
    """The best label and its score, none where it does not reach the threshold, and the scores of all."""
    best = answer[0]
    reached = threshold is None or best["score"] >= threshold
    scores = [(each["label"], each["score"]) for each in answer]
    return best["label"] if reached else None, best["score"] if reached else None, scores


def annotated(text: str, answer: list[Any], threshold: float | None) -> Row:
    """One column: annotations of the text, or of each of its sentences."""
    whole = [each | {"start": 0, "end": len(text)} for each in answer if isinstance(each, dict)]
    annotations = [
        {
            "annotatorType": "category",
            "begin": label["start"],
            "end": label["end"] - 1,
            "result": label["label"],
            "metadata": [("sentence", str(number)), *((each["label"], str(each["score"])) for each in labels)],
            "embeddings": [],
        }
        for number, labels in enumerate([whole] if whole else answer)
        for label in (labels[:1] if threshold is None else labels)
        if threshold is None or label["score"] >= threshold
    ]
    return (annotations,)


def entities(text: str, answer: Answers) -> Row:
    """One column: entities, whether of tokens or of groups."""
    names = ("score", "word", "start", "end")
    return (
        [{"entity": each.get("entity", each.get("entity_group"))} | {n: each[n] for n in names} for each in answer],
    )


def judged(text: str, answer: dict[str, Any]) -> Row:
    """The best of the labels that were given and its score, and the scores of all."""
    labels, scores = answer["labels"], answer["scores"]
    return labels[0], scores[0], [*zip(labels, scores, strict=True)]


def vector(text: str, answer: Any) -> Row:
    """One column: the answer as it is."""
    return (answer,)
