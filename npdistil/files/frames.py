"""Texts or a frame in memory: answers beside them, in the library that they came in."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..batch import MOST_ITEMS, chunks
from ..errors import InputError
from ..pipelines import Pipeline, pipeline
from ..settings import check, choice, string
from ..text import is_missing, values_of
from . import annotate_batches
from .rows import pyarrow
from .run import Answers


def annotate(
    data: Any,
    model: Any = None,
    *,
    column: str | None = None,
    prefix: str = "",
    on_error: str = "stop",
    **settings: Any,
) -> Any:
    """Answer texts or the rows of a frame: the same rows with columns appended, in the same library.

    The columns are those of `annotate_file`. A row without a text, or with blanks alone, has nulls there. A short
    text that comes again is computed once.

    Args:
        data: a frame or a Series of pandas or Polars, a table or an array of Arrow, anything else with
            `__arrow_c_stream__`; or texts without a frame, as `text.items_of` takes them. It is not changed.
        model: what `pipeline` returns; or what `load` takes, or a loaded model, whose head says the task. None is the
            bundled sentiment classifier.
        column: that has the texts; by default "text", or the only one.
        prefix: put before the names of the new columns.
        on_error: what a text that cannot be answered does: "stop", or leave a "null".
        settings: as for `pipeline`, `task` too; none with a pipeline, which has its own.

    Returns:
        A frame of pandas or Polars, or a table of Arrow; a Series or an array is its first column, by its name, or as
        "text". For texts without a frame a list of dicts, and for an iterator an iterator of these.

    Raises:
        InputError: a task that rows do not take, no such column or a name that is taken, a text that cannot be
            answered, by its row; and as `pipeline`.

    Example:
        >>> import npdistil
        >>> npdistil.annotate(["I like you. I love you."])
        [{'text': 'I like you. I love you.', 'label': 'POSITIVE', 'score': 0.9...}]
    """
    check("on_error", choice("stop", "null"), on_error)
    check("prefix", string(), prefix)
    if isinstance(data, (str, bytes)):
        values_of(data)  # which refuses it
    pipe = _pipeline(model, settings)
    for name, frame in (("pandas", _pandas), ("polars", _polars)):
        library = sys.modules.get(name)  # or nobody could have made one of its frames
        if library and isinstance(data, (library.DataFrame, library.Series)):
            if isinstance(data, library.Series):
                name = "text" if data.name in (None, "") else data.name
                data, column = data.to_frame(name), name
            rows = _Rows(pipe, prefix, on_error, [*data.columns], column)
            return frame(library, data, rows.added, rows.values([*values_of(data[rows.column])]))
        if name == "polars" and library and isinstance(data, library.LazyFrame):
            raise InputError("found a LazyFrame of polars; collect() it first")
    library = sys.modules.get("pyarrow")
    if library and isinstance(data, (library.Array, library.ChunkedArray)):
        data = library.table({"text": data})
    if hasattr(data, "__arrow_c_stream__"):
        stream = pyarrow()[0].RecordBatchReader.from_stream(data)
        column = _Rows(pipe, prefix, on_error, stream.schema.names, column).column
        return annotate_batches(stream, pipe, column=column, prefix=prefix, on_error=on_error).read_all()
    texts = values_of(data)
    records = _records(_Rows(pipe, prefix, on_error, ["text"], "text"), texts)
    return [*records] if isinstance(texts, list) else records


def _pipeline(model: Any, settings: dict[str, Any]) -> Pipeline:
    if not isinstance(model, Pipeline):
        task: Any = settings.pop("task", None) or ("text-classification" if model is None else None)
        made: Pipeline = pipeline(task, model, **settings)
        return made
    if settings:
        raise InputError(f"{', '.join(settings)}: these belong to `pipeline`; this one is made already")
    return model


class _Rows:
    """How the texts of a column become the values of new ones."""

    def __init__(self, pipe: Pipeline, prefix: str, on_error: str, columns: list[Any], column: str | None) -> None:
        self.pipe, self.on_error = pipe, on_error
        self.answers = Answers(pipe, prefix)
        self.added = self.answers.added
        self.column = (columns[0] if len(columns) == 1 else "text") if column is None else column
        if (count := columns.count(self.column)) != 1:
            found = f"{count or 'no'} column{'s' if count else ''} {self.column!r}"
            raise InputError(f"the frame has {found}; its columns are {', '.join(map(str, columns)):.200}")
        self.answers.check_free(columns, "the frame")
        self.first = 0

    def values(self, texts: list[Any]) -> list[dict[str, Any]]:
        """The new columns' values for each of the next texts."""
        strings = [text if isinstance(text, str) else None for text in texts]
        values, errors = self.answers(strings)
        for i, (text, error) in enumerate(zip(texts, errors, strict=True)):
            if not (isinstance(text, str) or is_missing(text)):
                error = f"its text is a {type(text).__name__}, not a text"
            if error and self.on_error == "stop":
                raise InputError(f"row {self.first + i}: {error}")
        self.first += len(texts)
        return values


def _records(rows: _Rows, texts: Any) -> Iterator[dict[str, Any]]:
    for some in chunks(texts, min(rows.pipe.processor.settings.batch_size, MOST_ITEMS)):
        values = rows.values(some)
        yield from ({"text": text} | row for text, row in zip(some, values, strict=True))


def _pandas(pandas: Any, frame: Any, added: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    types = {"string": pandas.Series([""]).dtype, "float": "float64", "bool": "boolean"}  # which all have nulls
    new = {}
    for name, kind in added.items():
        dtype = types[kind] if isinstance(kind, str) else "object"
        new[name] = pandas.Series([row[name] for row in rows], dtype=dtype).set_axis(frame.index)
    return frame.assign(**new)


def _polars(polars: Any, frame: Any, added: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    names = {"string": "String", "bool": "Boolean", "int": "Int64", "float": "Float64", "float32": "Float32"}

    def dtype(kind: Any) -> Any:
        if isinstance(kind, dict):
            return polars.Struct({name: dtype(each) for name, each in kind.items()})
        return polars.List(dtype(kind[0])) if isinstance(kind, tuple) else getattr(polars, names[kind])

    def value(of: Any) -> Any:  # Polars takes no list of arrays of which some are missing
        return polars.Series(of) if isinstance(of, np.ndarray) else of

    return frame.with_columns(
        polars.Series(name, [value(row[name]) for row in rows], dtype(kind)) for name, kind in added.items()
    )
