"""Whole files: rows with a text in, the same rows with labels out; CSV, JSON lines, plain text or Parquet.

A file is read in windows of some thousand rows, so memory does not grow with it, and rows keep their order. After each
window what has been done is on disk: beside the output lie `OUTPUT.partial` with the rows so far and `OUTPUT.journal`,
which says how far the input has been read. The same call made again goes on from there.
"""

import csv
import fcntl
import io
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..checkpoint.weights import weight_files
from ..errors import InputError, MissingExtraError
from ..tasks.base import UNSET, check_choice
from ..tasks.text_classification import TextClassification

ON_ERROR = ("stop", "skip")
ROWS, CHARACTERS = 2048, 500_000  # a window ends with the row that reaches either
REMEMBERED, SHORT = 50_000, 500  # answers kept for texts that come again, of texts of at most so many characters
ROW_GROUP = 2**23  # bytes in memory of a row group of the Parquet that is written
LONGEST = 2**24  # bytes of a line, characters of a CSV field: an unclosed quote would take in the rest of the file

Values = dict[str, Any]
Progress = Callable[[int, int, int], None]  # read so far and in all, in bytes (Parquet: rows); texts of this run


class Row(NamedTuple):
    """One row of the input."""

    line: int  # where it starts, from 1 (Parquet: the number of the row)
    values: Values  # by column
    error: str  # why it is none; "" if it is one
    place: int  # where the next one starts: bytes (Parquet: rows)
    last_line: int


@dataclass
class Summary:
    """What `classify_file` did: rows written, rows that went to the report, and how many of both an earlier run did."""

    rows: int
    bad: int
    resumed: int


class Reader(Protocol):
    """What each input format brings."""

    total: int  # bytes, or rows of Parquet
    columns: Sequence[str] | None  # None: each row has its own

    def rows(self, place: int, line: int) -> Iterator[Row]:
        """All rows from a place on; `line` are the lines before it."""
        ...


class Writer(Protocol):
    """What each output format brings. What is written so far can be added to at any time."""

    def start(self, rows: list[Values], written: Path | None) -> bytes:
        """What stands before the rows; `rows` are those of the first window, or `written` is what is there already."""
        ...

    def refusal(self, values: Values) -> str:
        """Why a row cannot be written; "" if it can."""
        ...

    def encode(self, rows: list[Values]) -> bytes:
        """Rows as they are written."""
        ...

    def finish(self, partial: Path, target: Path) -> None:
        """The whole output from what is written; it appears at once."""
        ...


def classify_file(
    task: TextClassification,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    column: str = "text",
    on_error: str = "stop",
    prefix: str = "",
    progress: Progress | None = None,
) -> Summary:
    r"""Classify the texts of a file. Formats go by suffix: .csv, .jsonl (.ndjson), .txt, .parquet (extra `files`).

    Each row is written with the columns `label` and `score`; or, if the task gives several, `labels`, a list of
    {"label", "score"} (in CSV as JSON). With `long_text="truncate"` the column `truncated` says what was cut. Equal
    texts are computed once; the results would be the same bits.

    Args:
        task: classifier, with the settings to use.
        source: file to read; plain text is one text a line.
        target: file to write. It appears when it is whole; until then see the module's description.
        column: the column that has the texts.
        on_error: what a row that cannot be read or classified does: "stop" the run, or "skip" it and write its line
            and the reason to `TARGET.errors.jsonl`.
        prefix: put before the names of the new columns.
        progress: called after each window.

    Raises:
        InputError: a file, format or column that cannot be used; a bad row, with "stop"; what an interrupted run with
            another input, model or setting has left.
        MissingExtraError: Parquet without pyarrow.
        OSError: reading or writing failed; what has been done stays, and the same call goes on.

    Example:
        >>> import npdistil
        >>> from pathlib import Path
        >>> _ = Path("reviews.csv").write_text("text\nA joy.\nA mess.\n")
        >>> summary = classify_file(npdistil.pipeline("sentiment-analysis"), "reviews.csv", "labels.jsonl")
        >>> summary.rows
        2
        >>> Path("labels.jsonl").read_text().splitlines()[0]
        '{"text": "A joy.", "label": "POSITIVE", "score": 0.9...}'
    """
    source, target = Path(source), Path(target)
    check_choice("on_error", on_error, ON_ERROR)
    if task.settings["combine"] == "none":
        raise InputError('combine="none" gives a list for each text; files take one answer a row')
    reader = _choose(source, READERS, "read")(source)
    if target.is_dir():
        raise InputError(f"{target} is a directory; expected the name of a file")
    if source.resolve() == target.resolve():
        raise InputError(f"{target} is the input; choose another name for the output")
    if reader.columns is not None and column not in reader.columns:
        raise InputError(f"{source} has no column {column!r}; it has {', '.join(reader.columns)}")
    new = _new_columns(task, prefix)
    if taken := [name for name in new if name in (reader.columns or ())]:
        raise InputError(f"{source} has a column {taken[0]!r} already; give a prefix for the new ones")
    writer = _choose(target, WRITERS, "write")(reader, column, new)
    answers = _Answers(task)
    with _Work(target, _job(task, source, column, prefix)) as work:
        done = work.state
        resumed, texts = done.rows + done.bad, 0
        started = bool(done.bytes)
        if started and not done.finishing:
            writer.start([], work.partial)
        for window in _windows(reader.rows(done.place, done.line), column):
            rows, bad = [], []
            for row in window:
                error = row.error or _text_error(row.values, column, new)
                if error or (started and (error := writer.refusal(row.values))):
                    bad.append((row, error))
                else:
                    rows.append(row)
            found = answers([row.values[column] for row in rows])
            good = []
            for row, answer in zip(rows, found, strict=True):
                if isinstance(answer, InputError):
                    bad.append((row, str(answer).replace("text 0", "the text", 1)))
                else:
                    good.append(row.values | dict(zip(new, _cells(answer, prefix, new), strict=True)))
            if bad and on_error == "stop":
                row, error = min(bad, key=lambda each: each[0].line)
                raise InputError(f"{source}, {_where(row)}: {error}")
            bad.sort(key=lambda each: each[0].line)
            report = [{"line": row.line, "last_line": row.last_line, "error": error} for row, error in bad]
            written = b""
            if good:
                written = (b"" if started else writer.start(good, None)) + writer.encode(good)
                started = True
            work.add(written, report, len(good), window[-1])
            texts += len(window)
            if progress:
                progress(window[-1].place, reader.total, texts)
        if not started and not done.finishing:
            work.add(writer.start([], None), [], 0, None)
        work.finish(writer)
        return Summary(done.rows, done.bad, resumed)


def _job(task: TextClassification, source: Path, column: str, prefix: str) -> Values:
    """All that the output depends on."""
    model, status = task.model, source.stat()
    weights = [file.stat() for file in weight_files(model.checkpoint.directory)]
    settings = {name: v for name, v in task.settings.items() if v is not UNSET and name != "batch_size"}
    return {
        "input": [str(source.resolve()), status.st_size, status.st_mtime_ns],
        "model": [str(model.checkpoint.directory.resolve()), *([each.st_size, each.st_mtime_ns] for each in weights)],
        "engine": [model.engine, model.precision],
        "settings": settings | {"column": column, "prefix": prefix},
    }


def _choose(path: Path, known: dict[str, Any], verb: str) -> Any:
    kind = known.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: cannot {verb} files of this suffix; known are {', '.join(known)}")
    if verb == "read" and not path.is_file():
        raise InputError(f"{path} is not a file")
    return kind


def _new_columns(task: TextClassification, prefix: str) -> list[str]:
    several = task.settings["top_k"] is not UNSET or task.settings["threshold"] is not None
    names = ["labels"] if several else ["label", "score"]
    if task.settings["long_text"] == "truncate" and not task.settings["truncation"]:
        names.append("truncated")
    return [prefix + name for name in names]


def _cells(answer: Any, prefix: str, new: list[str]) -> Iterator[Any]:
    """The values of the new columns."""
    for name in (each.removeprefix(prefix) for each in new):
        if name == "labels":
            yield [{"label": each["label"], "score": each["score"]} for each in answer]
        elif name == "truncated":
            first = answer[0] if isinstance(answer, list) and answer else answer
            yield bool(first) and first.get("truncated", False)
        else:
            yield answer[name]


def _windows(rows: Iterable[Row], column: str) -> Iterator[list[Row]]:
    window: list[Row] = []
    size = 0
    for row in rows:
        window.append(row)
        size += len(str(row.values.get(column, "")))
        if len(window) == ROWS or size >= CHARACTERS:
            yield window
            window, size = [], 0
    if window:
        yield window


def _text_error(values: Values, column: str, new: list[str]) -> str:
    if column not in values:
        return f"no {column!r}; it has {', '.join(map(str, values))}"
    if not isinstance(values[column], str):
        return (
            f"{column!r} is {'empty' if values[column] is None else f'a {type(values[column]).__name__}'}, not a text"
        )
    taken = [name for name in new if name in values]
    return f"it has {taken[0]!r} already; give a prefix for the new ones" if taken else ""


def _where(row: Row) -> str:
    return f"line {row.line}" if row.line == row.last_line else f"lines {row.line} to {row.last_line}"


class _Answers:
    """Texts -> answers, or the error that a text is; each text that is remembered is computed once."""

    def __init__(self, task: TextClassification) -> None:
        self.task = task
        self.known: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, texts: list[str]) -> list[Any]:
        fresh = [text for text in dict.fromkeys(texts) if text not in self.known]
        window = {text: self.known[text] for text in texts if text in self.known}
        window |= zip(fresh, self._compute(fresh), strict=True)
        for text in window:
            if len(text) <= SHORT:
                self.known[text] = window[text]
                self.known.move_to_end(text)
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)
        return [window[text] for text in texts]

    def _compute(self, texts: list[str]) -> list[Any]:
        try:
            return self.task(texts)
        except InputError as error:  # of one of them; halving finds it
            if len(texts) == 1:
                return [error]
            half = len(texts) // 2
            return self._compute(texts[:half]) + self._compute(texts[half:])


@dataclass
class _State:
    """How far a run has come: what the journal holds beside the job."""

    place: int = 0
    line: int = 0
    rows: int = 0
    bad: int = 0
    bytes: int = 0  # of OUTPUT.partial
    error_bytes: int = 0
    finishing: bool = False  # all rows are written; files are being moved to their names


class _Work:
    """The files beside an output that is being written: rows and report so far, and the journal that vouches for them.

    What lies behind the journal's byte counts was being written when the run was interrupted, and is cut off.
    """

    def __init__(self, target: Path, job: Values) -> None:
        self.target = target
        self.partial, self.bad, self.journal = (
            target.with_name(target.name + suffix) for suffix in (".partial", ".errors.partial", ".journal")
        )
        self.report = target.with_name(target.name + ".errors.jsonl")
        self.job = json.loads(json.dumps(job))
        self.state = _State()
        self.files = ExitStack()

    def __enter__(self) -> "_Work":
        with self.files:
            self.rows_file = self._open(self.partial)
            with suppress(OSError):  # a file system without locks
                try:
                    fcntl.flock(self.rows_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(f"{self.target} is being written by another process") from None
            if self.journal.exists():
                self._resume()
            self.bad_file = self._open(self.bad)
            for file, size in ((self.rows_file, self.state.bytes), (self.bad_file, self.state.error_bytes)):
                file.seek(0, os.SEEK_END)
                if file.tell() < size and not self.state.finishing:
                    raise InputError(f"{self._leftover()} do not fit together")
                file.truncate(min(size, file.tell()))
                file.seek(0, os.SEEK_END)
            self.files = self.files.pop_all()
        return self

    def _open(self, path: Path) -> io.BufferedRandom:
        return self.files.enter_context(os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b"))

    def _leftover(self) -> str:
        return f"{self.partial} and {self.journal.name}, which an interrupted run has left,"

    def _resume(self) -> None:
        try:
            found = json.loads(self.journal.read_bytes())
            job, self.state = found["job"], _State(**found["state"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self.journal} is not a journal of this program: {error}") from None
        if changed := [name for name in self.job if job.get(name) != self.job[name]]:
            raise InputError(
                f"{self._leftover()} are of another {' and '.join(changed)}; delete them to start from the beginning"
            )

    def add(self, rows: bytes, report: list[Values], count: int, last: Row | None) -> None:
        """Write the rows of a window and its report, then the journal."""
        self.rows_file.write(rows)
        self.bad_file.write(b"".join(_json_line(each) for each in report))
        for file in (self.rows_file, self.bad_file):
            file.flush()
            os.fsync(file.fileno())
        state = self.state
        state.rows, state.bad = state.rows + count, state.bad + len(report)
        state.bytes, state.error_bytes = self.rows_file.tell(), self.bad_file.tell()
        if last:
            state.place, state.line = last.place, last.last_line
        self._write_journal()

    def _write_journal(self) -> None:
        beside = self.journal.with_name(self.journal.name + ".new")
        beside.write_text(json.dumps({"job": self.job, "state": asdict(self.state)}), encoding="utf-8")
        beside.replace(self.journal)

    def finish(self, writer: Writer) -> None:
        """Give the files their names; whatever is interrupted here is done again."""
        if not self.state.finishing:
            self.state.finishing = True
            self._write_journal()
        if self.state.bad:
            if self.bad.stat().st_size == self.state.error_bytes:  # or it has its name already
                self.bad.replace(self.report)
        else:
            self.report.unlink(missing_ok=True)  # of an earlier file of this name
        if self.partial.stat().st_size == self.state.bytes:
            writer.finish(self.partial, self.target)
        self.journal.unlink()

    def __exit__(self, kind: object, *_: object) -> None:
        self.files.close()
        if kind is None or not self.journal.exists():  # done, or nothing worth keeping
            self.partial.unlink(missing_ok=True)
            self.bad.unlink(missing_ok=True)


# --- reading


class _Lines:
    """Lines of a file as strings, and how far they have been read."""

    def __init__(self, stream: io.BufferedReader, place: int, line: int) -> None:
        self.stream, self.place, self.line = stream, place, line
        self.error = ""  # what was wrong with a line since this was last set
        stream.seek(place)
        if place == 0 and stream.peek(3)[:3] == b"\xef\xbb\xbf":  # a mark of the encoding, no part of the text
            self.place = stream.seek(3)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        raw = rest = self.stream.readline(LONGEST)
        if not raw:
            raise StopIteration
        self.place, self.line = self.place + len(raw), self.line + 1
        while len(rest) == LONGEST and not rest.endswith(b"\n"):
            self.error = f"a line of more than {LONGEST:,} bytes"
            rest = self.stream.readline(LONGEST)
            self.place += len(rest)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.error = self.error or f"not UTF-8: {error.reason} at byte {error.start} of the line"
            return raw.decode("utf-8", "replace")


class _TextReader:
    """What the formats that are lines share. A record is a row's values, what is wrong with it, or None for no row."""

    columns: Sequence[str] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.total = path.stat().st_size
        self.start = (0, 0)  # place and line of the first row

    def rows(self, place: int, line: int) -> Iterator[Row]:
        """As `Reader.rows`."""
        place, line = max((place, line), self.start)
        with self.path.open("rb") as stream:
            lines = _Lines(stream, place, line)
            for record in self._records(lines):
                error = lines.error or (record if isinstance(record, str) else "")
                values = record if isinstance(record, dict) and not error else {}
                if values or error:
                    yield Row(line + 1, values, error, lines.place, lines.line)
                line, lines.error = lines.line, ""

    def _records(self, lines: _Lines) -> Iterator[Values | str | None]:
        raise NotImplementedError


class _PlainText(_TextReader):
    columns = ("text",)

    def _records(self, lines: _Lines) -> Iterator[Values | str | None]:
        for line in lines:
            yield {"text": line.removesuffix("\n").removesuffix("\r")}


class _JsonLines(_TextReader):
    def _records(self, lines: _Lines) -> Iterator[Values | str | None]:
        for line in lines:
            yield _json_record(line) if line.strip() else None


def _json_record(line: str) -> Values | str:
    try:
        found = json.loads(line)
        if "\\ud" in line.lower():  # may be half of a character, which no file can hold
            _json_line(found)
    except (ValueError, RecursionError) as error:  # a UnicodeEncodeError is a ValueError
        return f"not JSON: {error}"
    return found if isinstance(found, dict) and found else "not a JSON object with a text in it"


class _Csv(_TextReader):
    columns: Sequence[str]

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # the whole process's; Python has no other
        with path.open("rb") as stream:
            lines = _Lines(stream, 0, 0)
            try:
                self.columns = next(csv.reader(lines, strict=True), [])
            except csv.Error as error:
                lines.error = f"not CSV: {error}"
            self.start = (lines.place, lines.line)
        if lines.error:
            raise InputError(f"{path}, line 1: {lines.error}")
        if not self.columns:
            raise InputError(f"{path}: the first line should name the columns")
        if twice := [name for name in self.columns if self.columns.count(name) > 1]:
            raise InputError(f"{path} has two columns {twice[0]!r}")

    def _records(self, lines: _Lines) -> Iterator[Values | str | None]:
        reader = csv.reader(lines, strict=True)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"not CSV: {error}"
                continue
            if fields and len(fields) != len(self.columns):
                yield f"{len(fields)} fields for {len(self.columns)} columns"
            else:
                yield dict(zip(self.columns, fields, strict=True)) if fields else None


class _Parquet:
    """Values are pyarrow's scalars, which keep every type as it is, but for strings."""

    def __init__(self, path: Path) -> None:
        parquet, arrow = _pyarrow()
        try:
            self.file = parquet.ParquetFile(path)
        except arrow.ArrowException as error:
            raise InputError(f"{path} is not a Parquet file: {error}") from None
        self.total: int = self.file.metadata.num_rows
        self.schema = arrow.schema([_decoded(field) for field in self.file.schema_arrow])
        self.columns: Sequence[str] = self.schema.names
        if twice := [name for name in self.columns if self.columns.count(name) > 1]:
            raise InputError(f"{path} has two columns {twice[0]!r}")

    def rows(self, place: int, line: int) -> Iterator[Row]:
        """As `Reader.rows`; a line is a row."""
        group, first, groups = 0, 0, self.file.metadata
        while group < groups.num_row_groups and first + groups.row_group(group).num_rows <= place:
            first += groups.row_group(group).num_rows
            group += 1
        for batch in self.file.iter_batches(256, row_groups=[*range(group, groups.num_row_groups)]):
            columns = [_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                first += 1
                if first > place:
                    yield Row(first, dict(zip(self.columns, values, strict=True)), "", first, first)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("pyarrow", "files") from None
    return pq, pa


def _decoded(field: Any) -> Any:
    """A column of codes, as it is without them."""
    return field.with_type(field.type.value_type) if _is_coded(field) else field


def _is_coded(column: Any) -> bool:
    return str(column.type).startswith("dictionary<")


def _values(column: Any) -> list[Any]:
    if _is_coded(column):
        column = column.dictionary_decode()
    if str(column.type) in ("string", "large_string", "string_view"):
        return list(column.to_pylist())
    return [each if each.is_valid else None for each in column]


# --- writing


def _json_line(values: Values) -> bytes:
    return (json.dumps(values, ensure_ascii=False, default=_python) + "\n").encode()


def _python(value: Any) -> Any:
    """What JSON has for one of pyarrow's scalars; dates and the like are written out."""
    found = value.as_py() if hasattr(value, "as_py") else value
    return found if isinstance(found, (bool, int, float, str, list, dict, type(None))) else str(found)


class _LineWriter:
    """What the formats that are lines share."""

    def __init__(self, reader: Any, column: str, new: list[str]) -> None:
        self.columns: list[str] | None = None if reader.columns is None else [*reader.columns, *new]
        self.new = new
        for field in getattr(reader, "schema", ()):
            if not _is_plain(str(field.type)):
                raise InputError(f"column {field.name!r} is {field.type}, which only Parquet can hold; write Parquet")

    def start(self, rows: list[Values], written: Path | None) -> bytes:
        """As `Writer.start`."""
        return b""

    def refusal(self, values: Values) -> str:
        """As `Writer.refusal`."""
        return ""

    def finish(self, partial: Path, target: Path) -> None:
        """As `Writer.finish`."""
        partial.replace(target)


def _is_plain(kind: str) -> bool:
    """Whether text can say all that a value of this type of Parquet's is."""
    return not any(word in kind for word in ("binary", "[ns", "extension", "map<", "duration", "interval"))


class _JsonWriter(_LineWriter):
    def encode(self, rows: list[Values]) -> bytes:
        """As `Writer.encode`."""
        return b"".join(map(_json_line, rows))


class _TextWriter(_LineWriter):
    """Labels and scores alone, as `npdistil classify` prints them."""

    def encode(self, rows: list[Values]) -> bytes:
        """As `Writer.encode`."""
        return "".join(self._line([row[name] for name in self.new]) + "\n" for row in rows).encode()

    def _line(self, cells: list[Any]) -> str:
        labels = cells[0] if isinstance(cells[0], list) else [{"label": cells[0], "score": cells[1]}]
        return "\t".join(f"{each['label']} {each['score']:.4f}" for each in labels)


class _CsvWriter(_LineWriter):
    def start(self, rows: list[Values], written: Path | None) -> bytes:
        """As `Writer.start`."""
        if self.columns is None and written:
            self.columns = [*(_Csv(written).columns)]
        if self.columns is None:
            names = dict.fromkeys(name for row in rows for name in row)
            self.columns = [name for name in names if name not in self.new] + self.new
        return self._table([self.columns])

    def refusal(self, values: Values) -> str:
        """As `Writer.refusal`."""
        return _strange(values, self.columns or [])

    def encode(self, rows: list[Values]) -> bytes:
        """As `Writer.encode`."""
        return self._table([[self._cell(row.get(name)) for name in self.columns or ()] for row in rows])

    def _cell(self, value: Any) -> Any:
        value = _python(value)
        return json.dumps(value, ensure_ascii=False, default=_python) if isinstance(value, (list, dict)) else value

    def _table(self, rows: list[list[Any]]) -> bytes:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(rows)
        return table.getvalue().encode()


def _strange(values: Values, columns: Sequence[str]) -> str:
    return next((f"{name!r} is in none of the first rows" for name in values if name not in columns), "")


class _ParquetWriter:
    """Rows so far are messages of Arrow's streaming format, one after the other; at the end they become Parquet."""

    def __init__(self, reader: Any, column: str, new: list[str]) -> None:
        self.parquet, self.arrow = _pyarrow()
        self.reader, self.new = reader, new
        self.schema: Any = None

    def start(self, rows: list[Values], written: Path | None) -> bytes:
        """As `Writer.start`; where the input has no types, those that the first rows have."""
        if written:
            with self.arrow.ipc.open_stream(str(written)) as stream:
                self.schema = stream.schema
            return b""
        arrow = self.arrow
        labels = arrow.list_(arrow.struct([("label", arrow.string()), ("score", arrow.float64())]))
        kinds = {"labels": labels, "label": arrow.string(), "score": arrow.float64(), "truncated": arrow.bool_()}
        fields = self._fields(rows)
        fields += [arrow.field(name, next(kinds[k] for k in kinds if name.endswith(k))) for name in self.new]
        self.schema = arrow.schema(fields)
        return bytes(self.schema.serialize())

    def _fields(self, rows: list[Values]) -> list[Any]:
        if hasattr(self.reader, "schema"):
            return [*self.reader.schema]
        names = dict.fromkeys(self.reader.columns or (name for row in rows for name in row if name not in self.new))
        fields = []
        for name in names:
            try:
                kind = self.arrow.array([row.get(name) for row in rows]).type
            except self.arrow.ArrowException as error:
                raise InputError(f"{name!r} has values of more than one type: {error}") from None
            # Without any value a column may become anything; text can hold all.
            fields.append(self.arrow.field(name, self.arrow.string() if self.arrow.types.is_null(kind) else kind))
        return fields

    def refusal(self, values: Values) -> str:
        """As `Writer.refusal`."""
        if hasattr(self.reader, "schema") or self.reader.columns:  # types are given
            return ""
        if strange := _strange(values, self.schema.names):
            return strange
        name = ""
        try:
            for name, value in values.items():
                self.arrow.array([value], self.schema.field(name).type)
        except self.arrow.ArrowException as error:
            return f"{name!r} is not {self.schema.field(name).type}, as it is in the first rows: {error}"
        return ""

    def encode(self, rows: list[Values]) -> bytes:
        """As `Writer.encode`."""
        arrays = [self.arrow.array([row.get(field.name) for row in rows], field.type) for field in self.schema]
        return bytes(self.arrow.record_batch(arrays, schema=self.schema).serialize())

    def finish(self, partial: Path, target: Path) -> None:
        """As `Writer.finish`."""
        beside = target.with_name(target.name + ".new")
        try:
            with (
                self.arrow.OSFile(str(partial)) as file,
                self.arrow.ipc.open_stream(file) as stream,
                self.parquet.ParquetWriter(beside, stream.schema) as writer,
            ):
                group: list[Any] = []
                for batch in stream:
                    group.append(batch)
                    if sum(each.nbytes for each in group) >= ROW_GROUP:
                        writer.write_table(self.arrow.Table.from_batches(group))
                        group = []
                writer.write_table(self.arrow.Table.from_batches(group, stream.schema))
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)


READERS = {".csv": _Csv, ".jsonl": _JsonLines, ".ndjson": _JsonLines, ".txt": _PlainText, ".parquet": _Parquet}
WRITERS = {
    ".csv": _CsvWriter,
    ".jsonl": _JsonWriter,
    ".ndjson": _JsonWriter,
    ".txt": _TextWriter,
    ".parquet": _ParquetWriter,
}
