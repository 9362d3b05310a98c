"""CSV, JSON lines and plain text: records that keep their own bytes."""

import codecs
import csv
import gzip
import io
import json
import logging
import re
import sys
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import InputError
from ..settings import spoken
from .rows import ROWS, SIZE, Options, Reader, Row, dumps, missing_column, pyarrow

log = logging.getLogger(__name__)
LONGEST = 2**24  # bytes of a line, characters of a CSV field: an unclosed quote would take in the rest of the file
BLOCK = 2**18  # bytes read at once
# The longer first: that of UTF-32 begins as that of UTF-16 does.
MARKS = {codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be", codecs.BOM_UTF8: "utf-8"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
BROKEN = (EOFError, OSError, UnicodeError, zlib.error)  # what reading raises in the middle of a file
SPACE = re.compile(r"[ \t\r\n]*")
QUOTED = re.compile(r'["\r\n]|^[ \t]|[ \t]$')  # cells that other readers could take for something else without quotes
MAYBE_QUOTED = re.compile(r'["\r\n \t]')
MOST_DIGITS = 17  # that a float64 tells apart


class TextReader(Reader):
    """What the formats that are lines share."""

    def __init__(self, path: Path | None, options: Options, files: ExitStack) -> None:
        super().__init__(path, options)
        self.total = path.stat().st_size if path else 0
        self.below: Any = files.enter_context(path.open("rb")) if path else sys.stdin.buffer
        self.place = self.line = self.before = 0  # bytes and lines that were read; lines before this row
        self.raw: list[bytes] = []  # lines of this row
        self.error = ""  # what is wrong with them
        try:
            self.readline = self._opened(files)
            self.lines = self._lines()
            self.start()
        except BROKEN as error:
            raise InputError(f"{self.name} cannot be read: {error}") from None

    def _opened(self, files: ExitStack) -> Callable[[int], bytes]:
        """What reads a line, decompressed and in UTF-8, without a mark of the encoding at the start."""
        stream = self.below
        if self.options.compression == "gz":
            stream = gzip.GzipFile(fileobj=stream)
        elif self.options.compression == "zst":
            stream = pyarrow()[0].CompressedInputStream(stream, "zstd")
        if not hasattr(stream, "peek"):
            stream = io.BufferedReader(stream, BLOCK)
        first, encoding = stream.peek(4)[:4], self.options.encoding
        mark = next((mark for mark in MARKS if first.startswith(mark)), b"")
        self.encoding = codecs.lookup(encoding or MARKS.get(mark, "utf-8")).name
        if mark and self.encoding in (MARKS[mark], "utf-8-sig"):
            stream.read(len(mark))
        if self.encoding in ("utf-8", "utf-8-sig"):
            return stream.readline
        if encoding is None:
            log.warning("%s is read as %s, by the mark at its start", self.name, self.encoding)
        # What is not of the encoding becomes what is not UTF-8.
        text = io.TextIOWrapper(stream, self.encoding, "surrogateescape", newline="\n")
        files.callback(text.detach)  # or it would close standard input
        return lambda size: text.readline(size).encode("utf-8", "surrogatepass")

    def _lines(self) -> Iterator[str]:
        """Lines as strings; how far they have been read, and what is wrong with them, is noted."""
        while raw := self.readline(LONGEST):
            self.place, self.line, rest = self.place + len(raw), self.line + 1, raw
            while len(rest) >= LONGEST and not rest.endswith(b"\n"):
                self.error = f"a line of more than {LONGEST:,} bytes"
                rest = self.readline(LONGEST)
                self.place += len(rest)
            self.raw.append(raw)
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                what = f"not {self.encoding}: {error.reason} at byte {error.start} of the line; "
                what += f"{spoken('encoding')} names another"
                self.error = self.error or what
                line = raw.decode("utf-8", "replace")
            yield line

    def row(self, value: Any, text: Any, error: str = "") -> Row:
        """One of what was read since the last."""
        error = self.error or error
        if error:
            value = text = None
        elif text is not None and not isinstance(text, str):
            text, error = None, f"its text is a {type(text).__name__}, not a text"
        found = Row(value, text, error, (self.before + 1, self.line), self.place, b"".join(self.raw))
        self.raw, self.error, self.before = [], "", self.line
        return found

    def start(self) -> None:
        """Read what stands before the rows."""

    @abstractmethod
    def rows(self, place: int) -> Iterator[Row]:
        """Those from a place on."""

    def windows(self, place: int, line: int) -> Iterator[list[Row]]:
        window: list[Row] = []
        size = 0
        try:
            while self.place < place and next(self.lines, None) is not None:
                self.raw, self.error, self.before, self.line = [], "", line, line
            for row in self.rows(place):
                window.append(row)
                size += len(row.raw)
                if len(window) == ROWS or size >= SIZE:
                    self.read = self.below.tell() if self.path else 0
                    yield window
                    window, size = [], 0
        except BROKEN as error:
            raise InputError(f"{self.name} cannot be read on after line {self.line}: {error}") from None
        self.read = self.total
        if window:
            yield window


class Plain(TextReader):
    """One text a line."""

    columns = ("text",)

    def rows(self, place: int) -> Iterator[Row]:
        for line in self.lines:
            text = line.removesuffix("\n").removesuffix("\r")
            yield self.row(text, text)

    def json(self, row: Row) -> dict[str, str]:
        return {"text": dumps(row.value)}


class Csv(TextReader):
    """Cells with a delimiter between and double quotes; the first line names the columns, or their numbers do."""

    columns: Sequence[str]

    def start(self) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # the whole process's; Python has no other
        self.table = csv.reader(self.lines, strict=True, delimiter=self.options.delimiter)
        fields, error = self._fields()
        self.first = self.row(fields, None, error)
        if self.first.error:
            raise InputError(f"{self.name}, line 1: {self.first.error}")
        if not fields:
            raise InputError(f"{self.name}: the first line should name the columns")
        self.columns = fields if self.options.header else [str(i + 1) for i, _ in enumerate(fields)]
        self.end = b"\r\n" if self.first.raw.endswith(b"\r\n") else b"\n"

    def _fields(self) -> tuple[list[str] | None, str]:
        """Those of the next row, none at the end, and what is wrong with them."""
        try:
            return next(self.table, None), ""
        except csv.Error as error:  # without its advice on how to open a file in Python
            return [], f"not CSV: {str(error).partition(' - ')[0]}"

    def rows(self, place: int) -> Iterator[Row]:
        column = [*self.columns].index(self.options.column)
        if not (place or self.options.header):
            yield self.first._replace(text=self.first.value[column])
        while True:
            fields, error = self._fields()
            if fields is None:
                return
            if fields and len(fields) != len(self.columns):
                error = f"{len(fields)} field{'s' * (len(fields) != 1)} for {len(self.columns)} columns"
            row = self.row(fields, fields[column] if fields and not error else None, error)
            if fields or error:  # and no blank line
                yield row

    def json(self, row: Row) -> dict[str, str]:
        return {name: dumps(value) for name, value in zip(self.columns, row.value, strict=True)}

    def appended(self, row: Row, added: dict[str, Any]) -> bytes:
        """A row's own bytes with new cells behind them."""
        return self._longer(row.raw, map(cell, added.values()))

    def header(self) -> bytes:
        """The first line with the names of new columns behind it."""
        return self._longer(self.first.raw, self.options.added) if self.options.header else b""

    def _longer(self, line: bytes, cells: Iterable[str]) -> bytes:
        body = line.removesuffix(b"\n").removesuffix(b"\r")
        return body + joined(["", *cells], self.options.delimiter) + (line[len(body) :] or self.end)


def cell(value: Any) -> str:
    """A CSV cell of a value: a text as it is, nothing for null, JSON of all else."""
    return value if isinstance(value, str) else "" if value is None else dumps(value)


def joined(cells: Iterable[str], delimiter: str) -> bytes:
    """Cells as they stand in a line, in quotes where they need them."""
    cells = [*cells]
    line = delimiter.join(cells)
    if line.count(delimiter) >= len(cells) or MAYBE_QUOTED.search(line):
        line = delimiter.join(
            '"' + each.replace('"', '""') + '"' if delimiter in each or QUOTED.search(each) else each for each in cells
        )
    return line.encode()


class Json(TextReader):
    """One JSON object a line."""

    def rows(self, place: int) -> Iterator[Row]:
        column, key = self.options.column, dumps(self.options.column)
        for line in self.lines:
            if not line.strip():
                self.row(line, None)
                continue
            error, text = "", None
            try:
                try:
                    found = QUICK.decode(line)
                except ValueError:  # maybe an integer of more digits than Python reads
                    found = ANY.decode(line)
                values = found if isinstance(found, dict) else {}
                text = values.get(column)
                if not values:
                    error = "not a JSON object with a text in it"
                elif ("\\" in line or line.count(key) > 1) and _is_twice(column, line, values):
                    error = f"it has {column!r} twice"
                elif column not in values:
                    error = missing_column(column, values)
                elif taken := [name for name in self.options.added if name in values]:
                    error = f"it has {taken[0]!r} already; give the new ones a {spoken('prefix')}"
            except (ValueError, RecursionError) as problem:  # a UnicodeEncodeError is a ValueError
                error = f"not JSON: {problem}"
            yield self.row(line, text, error)

    def json(self, row: Row) -> dict[str, str]:
        """As `Reader.json`: each value as it is written in the line."""
        line, found = row.value, {}
        UNIQUE.decode(line)

        def after(at: int) -> int:
            return SPACE.match(line, at).end()  # type: ignore[union-attr] # it matches always

        at = after(0)
        while line[at] != "}":
            name, at = ANY.raw_decode(line, after(at + 1))  # behind { or a comma
            start = after(after(at) + 1)  # behind the colon
            at = ANY.raw_decode(line, start)[1]
            found[name] = line[start:at]
            at = after(at)
        return found

    def appended(self, row: Row, added: dict[str, Any]) -> bytes:
        """A row's own bytes with new members behind them."""
        body = row.raw.rstrip()
        end = row.raw[len(body) :] or b"\n"
        return body[:-1] + f", {_members(added)}}}".encode() + end


_key = lru_cache(dumps)  # a file's new columns are few


def _members(values: dict[str, Any]) -> str:
    return ", ".join([f"{_key(name)}: {dumps(value)}" for name, value in values.items()])


def _is_twice(column: str, line: str, values: dict[str, Any]) -> bool:
    """Whether an object has a name twice; ValueError for half of a character, which no file can hold."""
    if "\\u" in line:
        dumps(values).encode()
    return [name for name, _ in PAIRS.decode(line)].count(column) > 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no value of JSON")


def _int64(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 3:  # more than any int64 has, and maybe more than Python reads
        raise ValueError(f"an int64 does not hold {digits:.80}")
    return int(digits)


def _float64(digits: str) -> float:
    """A float that is the number written, as far as a float64 can be told from others."""
    value, significand = float(digits), digits.lower().partition("e")[0].lstrip("-").replace(".", "").strip("0")
    if len(significand) > MOST_DIGITS or (significand and not 1e-307 < abs(value) < 1e308):
        raise ValueError(f"a float64 does not hold {digits:.80}")
    return value


# `json.loads` would make another at every call.
QUICK = json.JSONDecoder(parse_constant=_refuse)
ANY = json.JSONDecoder(parse_constant=_refuse, parse_int=float)
PAIRS = json.JSONDecoder(object_pairs_hook=list, parse_int=float)
UNIQUE = json.JSONDecoder(object_pairs_hook=_unique, parse_int=float)
EXACT = json.JSONDecoder(parse_int=_int64, parse_float=_float64)


def exact(members: dict[str, str]) -> dict[str, Any]:
    """The values of what `Reader.json` gives; ValueError where Python has none that is the same."""
    found = {}
    for name, value in members.items():
        try:
            found[name] = value[1:-1] if value[0] == '"' and "\\" not in value else EXACT.decode(value)
        except ValueError as error:  # noqa: PERF203
            raise ValueError(f"{name!r}: {error}") from None
    return found


class TextWriter:
    """Rows of the input's own bytes with new values behind them; or objects, cells or labels in lines."""

    def __init__(self, reader: Reader, options: Options, names: Sequence[str]) -> None:
        self.reader, self.options, self.names = reader, options, names
        self.convert: Callable[[Row], Any] = lambda row: row
        self.line: Callable[[Any, dict[str, Any]], bytes] = _labels
        self.first, self.appends = b"", True
        if options.format == "csv" and isinstance(reader, Csv) and options.delimiter == reader.options.delimiter:
            self.first, self.line = reader.header(), reader.appended
        elif options.format == "jsonl" and isinstance(reader, Json):
            self.line = reader.appended
        elif options.format == "jsonl":
            self.appends, self.convert, self.line = False, self._own, _object
        elif options.format == "csv":
            self.appends, self.convert, self.line = False, self._cells, self._joined
            if options.header:
                self.first = joined([*names, *options.added], options.delimiter) + b"\n"

    def header(self) -> bytes:
        """What stands before the rows."""
        return self._packed(self.first)

    def encode(self, rows: Sequence[Any], added: Sequence[dict[str, Any]]) -> bytes:
        """Rows, of what `convert` made of each, and their new values, as they are written."""
        return self._packed(b"".join(map(self.line, rows, added)))

    def finish(self, partial: Path, target: Path) -> None:
        """The whole output from what is written; it appears at once."""
        atomic.move(partial, target)

    def _packed(self, data: bytes) -> bytes:
        """Compressed each for itself: what lies behind one another is read as one."""
        if self.options.compression == "gz":
            return gzip.compress(data, mtime=0)
        return pyarrow()[0].compress(data, "zstd", asbytes=True) if self.options.compression else data

    def _own(self, row: Row) -> str:
        own = ", ".join(f"{dumps(name)}: {value}" for name, value in self.reader.json(row).items())
        if "NaN" in own or "Infinity" in own:
            try:
                QUICK.decode(f"{{{own}}}")
            except ValueError as error:
                raise ValueError(f"{error}; write CSV or Parquet") from None
        return own

    def _cells(self, row: Row) -> list[str]:
        found = self.reader.json(row)
        values = (found.get(name, "null") for name in self.names)
        return [json.loads(each) if each[0] == '"' else "" if each == "null" else each for each in values]

    def _joined(self, cells: list[str], added: dict[str, Any]) -> bytes:
        return joined([*cells, *map(cell, added.values())], self.options.delimiter) + b"\n"


def _object(own: str, added: dict[str, Any]) -> bytes:
    return f"{{{own}, {_members(added)}}}\n".encode()


def _labels(_: Any, added: dict[str, Any]) -> bytes:
    """Labels and scores as `npdistil classify` prints them."""
    first, *more = added.values()
    labels = first if isinstance(first, list) else [] if first is None else [{"label": first, "score": more[0]}]
    return ("\t".join(f"{each['label']} {each['score']:.4f}" for each in labels) + "\n").encode()
