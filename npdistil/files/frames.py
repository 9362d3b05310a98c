"""Tables and texts in memory: answers beside them, in the library that they came in."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..batch import MOST_ITEMS, chunks
from ..errors import InputError
from ..pipelines import Pipeline, pipeline
from ..settings import check, choice, string
from ..text import is_missing, values_of
from . import arrow
from .rows import check_column, pyarrow
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
    _check(on_error, prefix)
    if isinstance(data, (str, bytes)):
        values_of(data)  # which refuses it
    if not isinstance(model, Pipeline):
        task: Any = settings.pop("task", None) or ("text-classification" if model is None else None)
        model = pipeline(task, model, **settings)
    elif settings:
        raise InputError(f"{', '.join(settings)}: these belong to `pipeline`; this one is made already")
    answers = Answers(model, prefix)
    for name, beside in (("pandas", _pandas), ("polars", _polars)):
        library = sys.modules.get(name)  # or nobody could have made one of its frames
        if library and isinstance(data, (library.DataFrame, library.Series)):
            if isinstance(data, library.Series):
                column = "text" if data.name in (None, "") else data.name
                data = data.to_frame(column)
            column = _column([*data.columns], column, answers, "the frame")
            return beside(library, data, answers.added, _values([*values_of(data[column])], answers, on_error))
        if name == "polars" and library and isinstance(data, library.LazyFrame):
            raise InputError("found a LazyFrame of polars; collect() it first")
    library = sys.modules.get("pyarrow")
    if library and isinstance(data, (library.Array, library.ChunkedArray)):
        data = library.table({"text": data})
    if hasattr(data, "__arrow_c_stream__"):
        return _annotated(data, answers, column, on_error).read_all()
    texts = values_of(data)
    records = _records(texts, answers, on_error)
    return [*records] if isinstance(texts, list) else records


def annotate_batches(
    data: Any, pipe: Pipeline, *, column: str = "text", prefix: str = "", on_error: str = "stop"
) -> Any:
    """Answer the texts of a table that lies in memory or comes in batches: the same batches with columns appended.

    Args:
        data: anything with `__arrow_c_stream__`: an Arrow table or record batch reader, a DataFrame of pandas or
            Polars, a relation of DuckDB.
        pipe: as for `annotate_file`.
        column: as for `annotate_file`.
        prefix: as for `annotate_file`.
        on_error: what a text that cannot be answered does: "stop", or leave a "null".

    Returns:
        A `pyarrow.RecordBatchReader` that answers a batch when it is asked for; it has `__arrow_c_stream__` too. A row
        without a text has nulls.

    Raises:
        InputError: another task or column, or no table; a text that cannot be answered, when its batch is asked for.
        MissingExtraError: pyarrow is not installed.

    Example:
        >>> import npdistil, pyarrow
        >>> table = pyarrow.table({"id": [1, 2], "text": ["A joy.", None]})
        >>> annotate_batches(table, npdistil.pipeline("sentiment-analysis")).read_all()["label"].to_pylist()
        ['POSITIVE', None]
    """
    _check(on_error, prefix)
    return _annotated(data, Answers(pipe, prefix), column, on_error)


def _check(on_error: str, prefix: str) -> None:
    check("on_error", choice("stop", "null"), on_error)
    check("prefix", string(), prefix)


def _column(columns: list[Any], given: str | None, answers: Answers, name: str) -> str:
    """Which of a frame's columns has the texts; none may have the name of a new one."""
    column: str = given if given is not None else columns[0] if len(columns) == 1 else "text"
    check_column(columns, column, name)
    answers.check_free(columns, name)
    return column


def _values(
    texts: list[Any], answers: Answers, on_error: str, errors: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The new columns' values for each of the next texts; of some it may be known already that they are wrong."""
    first = answers.texts
    values, problems = answers([text if isinstance(text, str) else None for text in texts])
    for i, (text, error, problem) in enumerate(zip(texts, errors or problems, problems, strict=True)):
        is_text = isinstance(text, str) or is_missing(text)
        wrong = error or problem if is_text else f"its text is a {type(text).__name__}, not a text"
        if wrong and on_error == "stop":
            raise InputError(f"row {first + i}: {wrong}")
    return values


def _records(texts: Any, answers: Answers, on_error: str) -> Iterator[dict[str, Any]]:
    for some in chunks(texts, min(answers.pipe.processor.settings.batch_size, MOST_ITEMS)):
        values = _values(some, answers, on_error)
        yield from ({"text": text} | row for text, row in zip(some, values, strict=True))


def _annotated(data: Any, answers: Answers, column: str | None, on_error: str) -> Any:
    """The batches of a stream of Arrow with columns appended, as they are asked for."""
    library = pyarrow()[0]
    if not hasattr(data, "__arrow_c_stream__"):
        raise InputError(f"found a {type(data).__name__}; expected a table with __arrow_c_stream__")
    batches = library.RecordBatchReader.from_stream(data)
    column = _column(batches.schema.names, column, answers, "the table")
    arrow.check_text_column(batches.schema, column, "the table")
    schema = arrow.appended(batches.schema, answers.added)

    def annotated() -> Iterator[Any]:
        for batch in batches:
            texts, errors = arrow.column_texts(batch.column(schema.names.index(column)))
            values = _values(texts, answers, on_error, errors)
            columns = [*batch.columns, *arrow.columns_of(answers.added, values)]
            yield library.RecordBatch.from_arrays(columns, schema=schema)

    return library.RecordBatchReader.from_batches(schema, annotated())


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
