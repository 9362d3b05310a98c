"""Whole files: rows with a text in, the same rows with answers out; CSV, JSON lines, plain text or Parquet.

Nothing of a row changes: windows of some thousand rows come from a reader, and go to a writer with columns appended.
Where input and output are the same format of text, each record keeps its own bytes and gets cells or members behind
them; Parquet stays Arrow's batches, which get columns; between formats a row is what JSON writes of its values, and
what a type cannot hold exactly is a bad row and never another value. After each window what has been done is on disk:
beside the output lie `OUTPUT.partial` with the rows so far and `OUTPUT.journal`, which says how far the input has been
read. The same call made again goes on from there. Many files are so many outputs, one after the other.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from .. import atomic
from ..errors import InputError
from ..pipelines import Pipeline
from ..settings import check, choice, shown, string
from . import arrow, many
from .journal import beside, journal_of
from .rows import COMPRESSIONS, FORMATS, Options, pyarrow
from .run import Answers, Progress, Run, Summary
from .text import Csv, Json, Plain
from .writers import writer_of

ON_ERROR = ("stop", "skip", "null")
OF_USE = {
    "delimiter": "only CSV has one, and .tsv is written with tabs",
    "header": "only CSV can be without",
    "encoding": "Parquet says itself how its texts are encoded",
    "prefix": "plain text has no names of columns",
}
READERS: dict[str, Any] = {"csv": Csv, "jsonl": Json, "txt": Plain, "parquet": arrow.Parquet}


def annotate_file(
    pipe: Pipeline,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    column: str = "text",
    on_error: str = "stop",
    prefix: str = "",
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool = True,
    input_format: str | None = None,
    output_format: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    r"""Answer the texts of a file, or of many: the same rows with columns appended.

    Formats go by suffix: .csv, .tsv, .jsonl (.ndjson), .txt, .parquet (extra `files`), and the first five with .gz or
    .zst (extra `files`) behind. Classification adds `label` and `score`; or, if the task gives several, `labels`, a
    list of {"label", "score"}; with `long_text="truncate"` also `truncated`. Token classification adds `entities`,
    zero-shot classification `labels`, embedding `vector`. In CSV lists are written as JSON. A row without a text, or
    with blanks alone, has nulls there. A short text that comes again is computed once; the bits would be the same.

    Args:
        pipe: text, token or zero-shot classification, or embedding, with the settings to use.
        source: file to read, or "-" for standard input; plain text is one text a line. A directory stands for the
            files in it and below, but those whose names begin with "_" or "."; a pattern, as ``reviews/**/*.csv``, for
            the files that it matches.
        target: file to write, or "-" for standard output. A file appears when it is whole; until then see the module's
            description. For a directory or pattern the directory in which each file's output has its place and name.
        column: the column that has the texts.
        on_error: what a row that cannot be read or answered does: "stop" the run; "skip" it and write its line and the
            reason to `TARGET.errors.jsonl`; "null" does the same, but keeps the row, with nulls, where it can be read.
        prefix: put before the names of the new columns.
        delimiter: between the cells of CSV; by default a comma, in .tsv a tab.
        encoding: of text that is read, a name that Python knows; by default what a mark at its start says, or UTF-8.
            What is written is UTF-8.
        header: whether the first line of CSV names the columns; else they are called "1", "2" and so on, and CSV is
            written without.
        input_format: "csv", "jsonl.gz" and so on, where the name does not say it.
        output_format: as `input_format`; on standard output, and for many files, by default that of the input. Many
            files' outputs get it as suffix.
        progress: called after each window of rows, and between the batches that its texts are run in; for many files
            with bytes of all of them.

    Raises:
        InputError: another task; a file, format or column that cannot be used; a setting that these formats have no use
            for; a bad row, with "stop"; an input that changes meanwhile; what an interrupted run with another input,
            model or setting has left.
        MissingExtraError: Parquet without pyarrow.
        OSError: reading or writing failed; what has been done stays, and the same call goes on.

    Example:
        >>> import npdistil
        >>> from pathlib import Path
        >>> _ = Path("reviews.csv").write_text("text\nA joy.\nA mess.\n")
        >>> summary = annotate_file(npdistil.pipeline("sentiment-analysis"), "reviews.csv", "labels.jsonl")
        >>> summary.rows
        2
        >>> Path("labels.jsonl").read_text().splitlines()[0]
        '{"text": "A joy.", "label": "POSITIVE", "score": 0.9...}'
    """
    check("on_error", choice(*ON_ERROR), on_error)
    for name, path in (("source", source), ("target", target)):
        if not isinstance(path, str | os.PathLike) or not str(path) or "\0" in str(path):
            raise InputError(f"{name} is {shown(path)}; expected a path")
    for name, value in (("prefix", prefix), ("delimiter", delimiter), ("encoding", encoding)):
        check(name, string(), value, None)
    if encoding is not None:
        try:
            "a".encode(encoding)  # also says whether it is one of texts, which `codecs.lookup` does not
        except (LookupError, ValueError):
            raise InputError(f"encoding is {encoding!r:.80}; expected a name that Python knows, as utf-8") from None
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise InputError(f"delimiter is {delimiter!r:.80}; expected one character, and no quote")
    answers = Answers(pipe, prefix)

    used = {"delimiter": delimiter is None, "header": header, "encoding": encoding is None, "prefix": not prefix}

    def planned(path: Path | None, out: Path | None, written: str | None) -> Plan:
        given = _format(path, input_format, "read")
        taken = given if out is None and written is None else _format(out, written, "write")
        reading = Options(*given[:2], delimiter or given[2], column, answers.added, header, encoding)
        tab = taken[2] if taken[2] == "\t" else delimiter or ","
        used["delimiter"] |= given[0] == "csv" or (taken[0] == "csv" and tab == delimiter)
        used["header"] |= "csv" in (given[0], taken[0])
        used["encoding"] |= given[0] != "parquet"
        used["prefix"] |= taken[0] != "txt"
        return Plan(path, out, reading, replace(reading, format=taken[0], compression=taken[1], delimiter=tab))

    def check_used() -> None:
        if ignored := [name for name, of_use in used.items() if not of_use]:
            raise InputError(f"{ignored[0]} is of no use from {source} to {target}: {OF_USE[ignored[0]]}")

    read, out = os.fspath(source), None if os.fspath(target) == "-" else Path(target)
    if not many.is_many(read):
        one = planned(None if read == "-" else Path(read), out, output_format)
        check_used()
        return _annotate(answers, one, on_error, progress, one_of_many=False)
    if out is None:
        raise InputError(f"{read} may be many files, whose outputs go into a directory; name one")
    plans = [planned(*pair, output_format or input_format) for pair in many.pairs(read, out, output_format)]
    check_used()
    sizes = [path.stat().st_size for path, *_ in plans if path]
    done: list[Summary] = []

    def so_far(read: int, total: int, _: int) -> None:
        if progress:
            begun = sum(sizes[: len(done)]) + sizes[len(done)] * read // max(1, total)
            progress(begun, sum(sizes), answers.texts)

    for each in plans:
        done.append(_annotate(answers, each, on_error, so_far, one_of_many=True))  # noqa: PERF401 - `so_far` looks
    for each in plans:
        if each.out:
            journal_of(each.out).unlink(missing_ok=True)
    return Summary(*(sum(getattr(one, each.name) for one in done) for each in fields(Summary)))


class Plan(NamedTuple):
    """What is read and written, and how; None: the standard streams."""

    path: Path | None
    out: Path | None
    reading: Options
    writing: Options


def _annotate(answers: Answers, plan: Plan, on_error: str, progress: Progress | None, *, one_of_many: bool) -> Summary:
    path, out, reading, writing = plan
    if path is not None and not path.is_file():
        raise InputError(f"{path} is not a file")
    if out is None and writing.format == "parquet":
        raise InputError("Parquet cannot be written to standard output; give a file")
    if out is not None and out.exists() and not out.is_file():  # a device or a pipe would be replaced too
        raise InputError(f"{out} is {'a directory' if out.is_dir() else 'no file'}; expected the name of a file")
    if path and out:
        for each in [out, *beside(out)]:
            if path.resolve() == each.resolve() or (each.exists() and path.samefile(each)):
                why = "" if each == out else " and would be written beside the output"
                raise InputError(f"{each} is the input{why}; choose another name for the output")
        if one_of_many:
            atomic.directory(out.parent)
    if out and not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: {out.parent} is not a directory")
    with closing(READERS[reading.format](path, reading)) as reader:
        if isinstance(reader, arrow.Parquet):
            arrow.check_text_column(reader.schema, reading.column, reader.name)
        elif reader.columns is not None:
            arrow.check_column(reader.columns, reading.column, reader.name)
        answers.check_free(reader.columns or (), reader.name)
        run = Run(answers, reader, writer_of(reader, writing), path, on_error)
        return run.into(out, progress, one_of_many=one_of_many)


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
    check("on_error", choice("stop", "null"), on_error)
    check("prefix", string(), prefix)
    library = pyarrow()[0]
    answers = Answers(pipe, prefix)
    if not hasattr(data, "__arrow_c_stream__"):
        raise InputError(f"found a {type(data).__name__}; expected a table with __arrow_c_stream__")
    batches = library.RecordBatchReader.from_stream(data)
    arrow.check_text_column(batches.schema, column, "the table")
    answers.check_free(batches.schema.names, "the table")
    schema = arrow.appended(batches.schema, answers.added)

    def annotated() -> Iterator[Any]:
        first = 0
        for batch in batches:
            texts, errors = arrow.column_texts(batch.column(schema.names.index(column)))
            values, problems = answers(texts)
            for i, error in enumerate(map(max, errors, problems)):
                if error and on_error == "stop":
                    raise InputError(f"row {first + i}: {error}")
            first += len(batch)
            columns = [*batch.columns, *arrow.columns_of(answers.added, values)]
            yield library.RecordBatch.from_arrays(columns, schema=schema)

    return library.RecordBatchReader.from_batches(schema, annotated())


def _format(path: Path | None, given: str | None, verb: str) -> tuple[str, str, str]:
    """Format, compression and delimiter."""
    if given is None and path is None:
        raise InputError('"-" has no suffix that says the format; give it, for example input_format="csv"')
    words = (given or (path.name if path else "")).lower().split(".")
    compression = words.pop() if words[-1] in COMPRESSIONS and len(words) > 1 else ""
    name = words[-1] if given or len(words) > 1 else ""
    if name not in FORMATS or (compression and name == "parquet") or (given and len(words) > 1):
        what = "of this suffix" if given or len(words) > 1 else "without a suffix"
        option = f"; {'input' if verb == 'read' else 'output'}_format says what has another name" * (not given)
        raise InputError(
            f"{given or path}: cannot {verb} files {what}; known are .{', .'.join(FORMATS)}, and but for the "
            f"last the same with .gz or .zst{option}"
        )
    return FORMATS[name][0], compression, FORMATS[name][1]
