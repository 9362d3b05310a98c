"""What runs in a Python worker of Spark: Arrow batches -> the same with new columns."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pyspark import SparkFiles

from ..checkpoint.hub import bundled_model
from ..errors import CheckpointError
from ..pipelines import Pipeline, pipeline
from ..text import is_empty
from .annotation import Annotation, Annotations, documents, run
from .files import fingerprint

Row = tuple[Any, ...]  # a value for each new column
Answers = list[dict[str, Any]]


@dataclass(frozen=True)
class OnModel:
    """A pipeline on a worker.

    Attributes:
        arguments: those of `npdistil.pipeline`, as JSON.
        archive: name of the model among the files that travel with the application; None: it lies where it is named.
        state: what the driver found in the model's directory: its `fingerprint`.
    """

    arguments: str
    archive: str | None
    state: str

    def pipeline(self) -> Pipeline:
        """The pipeline; made once in a process.

        Raises:
            CheckpointError: the model's directory has changed. Every batch looks, or some workers would go on with what
                they have of the old model.
        """
        given = json.loads(self.arguments)["model"]
        directory = given or bundled_model()
        if not self.archive and fingerprint(directory, times=bool(given)) != self.state:
            raise CheckpointError(f"{directory} is not what it was when the stage was applied: transform again")
        return _made(self)


@lru_cache(maxsize=4)  # a worker serves one application; nearly always the same pipeline
def _made(work: OnModel) -> Pipeline:
    given = json.loads(work.arguments)
    if work.archive:
        given["model"] = SparkFiles.get(work.archive)
    return pipeline(**given)


@dataclass(frozen=True)
class OfTexts:
    """New columns from a column of strings.

    Attributes:
        model: what answers.
        row: (a text, the answer to it) -> a value for each new column.
        count: how many there are.
    """

    model: OnModel
    row: Callable[[str, Any], Row]
    count: int

    def __call__(self, texts: Sequence[str | None]) -> list[Row]:
        """Values for the new columns of each text; none where there is no text, or an empty one."""
        given = [None if text is None or is_empty(text) else text for text in texts]
        answers = zip(given, run(self.model.pipeline(), given), strict=True)
        return [(None,) * self.count if text is None else self.row(text, answer) for text, answer in answers]


@dataclass(frozen=True)
class OfAnnotations:
    """One new column of annotations from others.

    Attributes:
        make: (a pipeline, if there is a model; for each source the annotations of all rows) -> annotations of the rows.
        model: what answers, if anything does.
    """

    make: Callable[..., Iterable[Annotations]]
    model: OnModel | None = None

    def __call__(self, *sources: Sequence[Any]) -> list[Row]:
        """A new column's annotations for each row; a source of strings is one of documents."""
        given = [[_annotations(value) for value in values] for values in sources]
        first = (self.model.pipeline(),) if self.model else ()
        return [(row,) for row in self.make(*first, *given)]


def _annotations(value: Any) -> Annotations:
    if value is None or isinstance(value, str):
        return documents(value)
    return [each if isinstance(each, Annotation) else Annotation.of(each) for each in value]


@dataclass(frozen=True)
class AddColumns:
    """What a stage has its workers do; columns have their numbers for names.

    Attributes:
        make: values of the source columns -> values of the new ones, row by row.
        sources: places of the columns that are read.
        types: of the new columns.
    """

    make: Callable[..., list[Row]]
    sources: Sequence[int]
    types: Sequence[pa.DataType]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches with the new columns; empty ones are left out."""
        for batch in batches:
            if batch.num_rows:
                values = zip(*self.make(*(batch.column(i).to_pylist() for i in self.sources)), strict=True)
                new = [_array(each, kind) for each, kind in zip(values, self.types, strict=True)]
                whole = [*batch.columns, *new]
                yield pa.RecordBatch.from_arrays(whole, [*map(str, range(len(whole)))])


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if any(isinstance(value, list) and value and isinstance(value[0], Annotation) for value in values):
        values = [
            value and [asdict(each) | {"metadata": [*each.metadata.items()]} for each in value] for value in values
        ]
    return pa.array(values, kind)


def labelled(text: str, answer: Answers, threshold: float | None, *, notes_cuts: bool) -> Row:
    """The best label and its score, none below the threshold, and the scores of all; whether the text was cut."""
    best = answer[0]
    reached = threshold is None or best["score"] >= threshold
    scores = [(each["label"], each["score"]) for each in answer]
    cut = (any("truncated" in each for each in answer),) if notes_cuts else ()
    return best["label"] if reached else None, best["score"] if reached else None, scores, *cut


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


def assembled(count: int, about: Sequence[str], cleanup: str, *sources: Sequence[Any]) -> list[Row]:
    """A column of documents for each of `count` columns of texts, which those with their ids and metadata follow."""
    rows = []
    for values in zip(*sources, strict=True):
        beside = dict(zip(about, values[count:], strict=True))
        metadata = dict(beside.get("metadataCol") or {})
        if beside.get("idCol") is not None:
            metadata["id"] = str(beside["idCol"])
        rows.append(tuple(documents(text, cleanup, metadata) for text in values[:count]))
    return rows
