"""Whole files: rows with a text in, the same rows with answers out; CSV, JSON lines, plain text or Parquet.

Nothing of a row changes: windows of some thousand rows come from a reader, and go to a writer with columns appended.
Where input and output are the same format of text, each record keeps its own bytes and gets cells or members behind
them; Parquet stays Arrow's batches, which get columns; between formats a row is what JSON writes of its values, and
what a type cannot hold exactly is a bad row and never another value. After each window what has been done is on disk:
beside the output lie `OUTPUT.partial` with the rows so far and `OUTPUT.journal`, which says how far the input has been
read. The same call made again goes on from there.
"""

import codecs
import hashlib
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..pipelines import Pipeline
from ..settings import UNSET, check, choice, string
from ..text import is_empty
from . import arrow
from .journal import PartialOutput
from .rows import Options, Reader, Window, missing_column, pyarrow
from .text import Csv, Json, Plain
from .writers import writer_of

ON_ERROR = ("stop", "skip", "null")
REMEMBERED, SHORT = 50_000, 500  # answers kept for texts that come again, of texts of at most so many characters
READERS = {"csv": Csv, "tsv": Csv, "jsonl": Json, "ndjson": Json, "txt": Plain, "parquet": arrow.Parquet}

Progress = Callable[[int, int, int], None]  # read so far and in all, in bytes (Parquet: rows); texts of this run


@dataclass
class Summary:
    """What `annotate_file` did.

    Attributes:
        rows: that were written.
        bad: rows in the report.
        resumed: how many of both an earlier run did.
        empty: rows written without an answer, as they have no text.
    """

    rows: int
    bad: int
    resumed: int
    empty: int = 0


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
    r"""Answer the texts of a file: the same rows with columns appended.

    Formats go by suffix: .csv, .tsv, .jsonl (.ndjson), .txt, .parquet (extra `files`), and the first five with .gz or
    .zst (extra `files`) behind. Classification adds `label` and `score`; or, if the task gives several, `labels`, a
    list of {"label", "score"}; with `long_text="truncate"` also `truncated`. Token classification adds `entities`,
    zero-shot classification `labels`, embedding `vector`. In CSV lists are written as JSON. A row without a text, or
    with blanks alone, has nulls there. Equal texts are computed once; the results would be the same bits.

    Args:
        pipe: text, token or zero-shot classification, or embedding, with the settings to use.
        source: file to read, or "-" for standard input; plain text is one text a line.
        target: file to write, or "-" for standard output. A file appears when it is whole; until then see the module's
            description.
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
        output_format: as `input_format`; on standard output by default that of the input.
        progress: called after each window.

    Raises:
        InputError: another task; a file, format or column that cannot be used; a bad row, with "stop"; an input that
            changes meanwhile; what an interrupted run with another input, model or setting has left.
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
    for name, value in (("prefix", prefix), ("delimiter", delimiter), ("encoding", encoding)):
        check(name, string(), value, None)
    added = _added(pipe, prefix)
    path = None if os.fspath(source) == "-" else Path(source)
    out = None if os.fspath(target) == "-" else Path(target)
    given = _format(path, input_format, "read")
    taken = given if out is None and output_format is None else _format(out, output_format, "write")
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise InputError(f"encoding is {encoding!r:.80}; expected a name that Python knows, as utf-8") from None
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise InputError(f"delimiter is {delimiter!r:.80}; expected one character, and no quote")
    tab = "\t" if given[0] == "tsv" else ","
    options = Options(*given, column, added, delimiter or tab, header, encoding)
    if path is not None and not path.is_file():
        raise InputError(f"{path} is not a file")
    if out is not None:
        _check_target(path, out)
    with closing(READERS[given[0]](path, options)) as reader:
        _check_columns(reader, options)
        rows = _Rows(pipe, reader, writer_of(reader, options, taken, delimiter), on_error)
        return rows.stream(sys.stdout.buffer) if out is None else rows.into(out, path, progress)


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
    added = _added(pipe, prefix)
    if not hasattr(data, "__arrow_c_stream__"):
        raise InputError(f"found a {type(data).__name__}; expected a table with __arrow_c_stream__")
    batches = library.RecordBatchReader.from_stream(data)
    arrow.check_text_column(batches.schema, column, "the table")
    _check_taken(added, batches.schema.names, "the table")
    schema, answers = batches.schema, _Answers(pipe)
    for name, kind in added.items():
        schema = schema.append(library.field(name, arrow.arrow_type(kind)))

    def annotated() -> Iterator[Any]:
        first = 0
        for batch in batches:
            texts, errors = arrow.column_texts(batch.column(schema.names.index(column)))
            values, problems = _added_values(pipe, answers, added, texts)
            for i, error in enumerate(map(max, errors, problems)):
                if error and on_error == "stop":
                    raise InputError(f"row {first + i}: {error}")
            first += len(batch)
            yield library.RecordBatch.from_arrays([*batch.columns, *arrow.columns_of(added, values)], schema=schema)

    return library.RecordBatchReader.from_batches(schema, annotated())


def _added(pipe: Pipeline, prefix: str) -> dict[str, Any]:
    """Names and types of the new columns."""
    task = pipe.processor
    if not task.added_columns:
        raise InputError(
            f"the task is {type(task).__name__}, as it is set; rows take text classification, token classification, "
            "zero-shot classification or embedding, and one answer each"
        )
    return {prefix + name: kind for name, kind in task.added_columns.items()}


def _format(path: Path | None, given: str | None, verb: str) -> tuple[str, str]:
    """Format and compression."""
    if given is None and path is None:
        raise InputError('"-" has no suffix that says the format; give it, for example input_format="csv"')
    words = (given or (path.name if path else "")).lower().split(".")
    compression = words.pop() if words[-1] in ("gz", "zst") and len(words) > 1 else ""
    name = words[-1] if given or len(words) > 1 else ""
    if name not in READERS or (compression and name == "parquet") or (given and len(words) > 1):
        raise InputError(
            f"{given or path}: cannot {verb} files of this suffix; known are .{', .'.join(READERS)}, and but for the "
            "last the same with .gz or .zst"
        )
    return name, compression


def _check_target(source: Path | None, target: Path) -> None:
    if target.is_dir():
        raise InputError(f"{target} is a directory; expected the name of a file")
    if source is None:
        return
    for suffix in ("", ".partial", ".journal", ".errors.jsonl", ".errors.partial", ".new", ".journal.new"):
        path = target.with_name(target.name + suffix)
        if source.resolve() == path.resolve() or (path.exists() and path.samefile(source)):
            why = " and would be written beside the output" if suffix else ""
            raise InputError(f"{path} is the input{why}; choose another name for the output")


def _check_taken(added: dict[str, Any], columns: Sequence[str], name: str) -> None:
    if taken := [each for each in added if each in columns]:
        raise InputError(f"{name} has a column {taken[0]!r} already; give a prefix for the new ones")


def _check_columns(reader: Reader, options: Options) -> None:
    if reader.columns is None:
        return
    if isinstance(reader, arrow.Parquet):
        arrow.check_text_column(reader.schema, options.column, reader.name)
    if (count := list(reader.columns).count(options.column)) != 1:
        found = f"two columns {options.column!r}" if count else missing_column(options.column, reader.columns)
        raise InputError(f"{reader.name} has {found}")
    _check_taken(options.added, reader.columns, reader.name)


def _depends_on(pipe: Pipeline, source: Path | None, options: Options, keeps: bool) -> dict[str, Any]:
    """All that the output depends on."""
    digest = hashlib.blake2b()
    if source:
        with source.open("rb") as file:
            while some := file.read(2**20):
                digest.update(some)
    model = pipe.model
    settings = {name: v for name, v in vars(pipe.processor.settings).items() if v is not UNSET and name != "batch_size"}
    read = [options.column, options.added, options.delimiter, options.header, options.encoding, keeps]
    return {
        # What came from standard input is gone; no other run can go on.
        "input": [str(source.resolve()), digest.hexdigest()] if source else os.urandom(16).hex(),
        "model": model.checkpoint.fingerprint,
        "engine": [model.engine, model.precision],
        "settings": [pipe.task, {name: repr(value) for name, value in settings.items()}, read],
    }


class _Rows:
    """What a run does with each window."""

    def __init__(self, pipe: Pipeline, reader: Reader, writer: Any, on_error: str) -> None:
        self.pipe, self.reader, self.writer, self.on_error = pipe, reader, writer, on_error
        self.answers = _Answers(pipe)
        self.texts = self.empty = 0

    def into(self, out: Path, path: Path | None, progress: Progress | None) -> Summary:
        """All of it into a file."""
        before = path.stat() if path else None
        with PartialOutput(out, _depends_on(self.pipe, path, self.reader.options, self.on_error == "null")) as output:
            done = output.state
            resumed = done.rows + done.bad
            if not (done.bytes or done.finishing):
                output.add(self.writer.header(), [], 0, None)
            for window, data, report, kept in self.windows(done.place, done.line):
                output.add(data, report, kept, window)
                if progress:
                    progress(window.read, self.reader.total, self.texts)
            after = path.stat() if path else None
            if before and after and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise InputError(f"{path} has changed while it was read; run this again when it is whole")
            output.finish(self.writer.finish)
        return Summary(done.rows, done.bad, resumed, self.empty)

    def windows(self, place: int, line: int) -> Iterator[tuple[Window, bytes, list[dict[str, Any]], int]]:
        """Each window, its rows as they are written, its report, and how many rows were kept."""
        for window in self.reader.windows(place, line):
            rows = self.writer.converted(window)
            texts = [None if error else text for text, error in zip(window.texts, window.errors, strict=True)]
            values, problems = _added_values(self.pipe, self.answers, self.reader.options.added, texts)
            errors = [
                error or refused or problem
                for error, refused, problem in zip(window.errors, window.refused, problems, strict=True)
            ]
            bad = [i for i, error in enumerate(errors) if error]
            if bad and self.on_error == "stop":
                raise InputError(f"{self.reader.name}, {_where(*window.lines[bad[0]])}: {errors[bad[0]]}")
            keeps = self.on_error == "null"
            kept = [i for i, error in enumerate(errors) if not error or (keeps and not window.errors[i])]
            self.texts += len(texts)
            self.empty += sum(not errors[i] and is_empty(texts[i] or "") for i in kept)
            report = [{"line": window.lines[i][0], "last_line": window.lines[i][1], "error": errors[i]} for i in bad]
            yield (
                window,
                self.writer.encode(window, rows, kept, [values[i] for i in kept]) if kept else b"",
                report,
                len(kept),
            )

    def stream(self, out: Any) -> Summary:
        """All of it to a stream; errors that do not stop it are its report's, on standard error."""
        done = Summary(0, 0, 0)
        out.write(self.writer.header())
        for _, data, report, kept in self.windows(0, 0):
            out.write(data)
            out.flush()
            for each in report:
                sys.stderr.write(f"{self.reader.name}, {_where(each['line'], each['last_line'])}: {each['error']}\n")
            done = replace(done, rows=done.rows + kept, bad=done.bad + len(report), empty=self.empty)
        return done


def _where(line: int, last_line: int) -> str:
    return f"line {line}" if line == last_line else f"lines {line} to {last_line}"


def _added_values(
    pipe: Pipeline, answers: "_Answers", added: dict[str, Any], texts: Sequence[str | None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The new columns' values for each text, and what is wrong with it; nulls where there is nothing to answer."""
    answered = iter(answers([text for text in texts if text is not None and not is_empty(text)]))
    values: list[dict[str, Any]] = []
    errors: list[str] = []
    for text in texts:
        answer = None if text is None or is_empty(text) else next(answered)
        failed = isinstance(answer, InputError)
        errors.append(str(answer).replace("text 0", "the text", 1) if failed else "")
        row = [None] * len(added) if answer is None or failed else pipe.processor.added_values(answer)
        values.append(dict(zip(added, row, strict=True)))
    return values, errors


class _Answers:
    """Texts -> answers, or the error that a text is; each text that is remembered is computed once."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe = pipe
        self.known: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        fresh = [text for text in dict.fromkeys(texts) if text not in self.known]
        window = {text: self.known[text] for text in texts if text in self.known}
        window |= zip(fresh, self._compute(fresh), strict=True)
        for text, answer in window.items():
            if len(text) <= SHORT and not isinstance(answer, np.ndarray):
                self.known[text] = answer
                self.known.move_to_end(text)
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)
        return [window[text] for text in texts]

    def _compute(self, texts: list[str]) -> list[Any]:
        try:
            return [*self.pipe(texts)] if texts else []
        except InputError as error:  # of one of them; halving finds it
            if len(texts) == 1:
                return [error]
            half = len(texts) // 2
            return self._compute(texts[:half]) + self._compute(texts[half:])
