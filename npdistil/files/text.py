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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import InputError
from .rows import ROWS, SIZE, Options, Reader, Window, cell, dumps, missing_column, pyarrow

log = logging.getLogger(__name__)
LONGEST = 2**24  # bytes of a line, characters of a CSV field: an unclosed quote would take in the rest of the file
BLOCK = 2**18  # bytes read at once
# The longer first: that of UTF-32 begins as that of UTF-16 does.
MARKS = {codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be", codecs.BOM_UTF8: "utf-8"}
MARKS |= {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
BROKEN = (EOFError, OSError, UnicodeError, zlib.error)  # what reading raises in the middle of a file
SPACE = re.compile(r"[ \t\r\n]*")
QUOTED = re.compile(r'["\r\n]|^[ \t]|[ \t]$')  # cells that other readers could take for something else without quotes
MOST_DIGITS = 17  # that a float64 tells apart


class Record(NamedTuple):
    """One row of the input, and its place there."""

    raw: bytes  # in UTF-8
    value: Any  # CSV: a list of strings; else the line
    text: Any  # what the column has
    error: str  # why it is no row; "" if it is one
    lines: tuple[int, int]  # its first and last
    place: int  # where the next one starts


class Recoded(io.RawIOBase):
    """Bytes of another encoding, read as UTF-8; those that are not of it become what is not UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self.stream, self.rest = stream, b""
        self.decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")

    def readable(self) -> bool:
        """As `io.RawIOBase.readable`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As `io.RawIOBase.readinto`."""
        while not self.rest:
            raw = self.stream.read(BLOCK)
            self.rest = self.decoder.decode(raw, final=not raw).encode("utf-8", "surrogatepass")
            if not raw:
                break
        some, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(some)] = some
        return len(some)


class Lines:
    """Lines of a stream as strings, and how far they have been read."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self.stream, self.encoding = stream, encoding
        self.place = self.line = self.before = 0  # bytes and lines that were read; lines before this record
        self.raw: list[bytes] = []  # lines of this record
        self.error = ""  # what was wrong with them

    def skip(self, place: int, line: int) -> None:
        """Go on from a place after so many lines."""
        while self.place < place and (some := self.stream.read(min(BLOCK, place - self.place))):
            self.place += len(some)
            self.line = self.before = line

    def record(self, value: Any, text: Any, error: str = "") -> Record:
        """One of what was read since the last."""
        error = self.error or error
        found = Record(b"".join(self.raw), value, text, error, (self.before + 1, self.line), self.place)
        self.raw, self.error, self.before = [], "", self.line
        return found

    def __iter__(self) -> "Lines":
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
        self.raw.append(raw)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.error = self.error or f"not {self.encoding}: {error.reason} at byte {error.start} of the line"
            return raw.decode("utf-8", "replace")


class TextReader(Reader):
    """What the formats that are lines share."""

    def __init__(self, path: Path | None, options: Options) -> None:
        self.path, self.options, self.name = path, options, str(path or "standard input")
        self.files = ExitStack()
        self.total = path.stat().st_size if path else 0
        with self.files:
            self.below: Any = self.files.enter_context(path.open("rb")) if path else sys.stdin.buffer
            try:
                self.lines = self._lines(self.below)
                self.start()
            except BROKEN as error:
                raise InputError(f"{self.name} cannot be read: {error}") from None
            self.files = self.files.pop_all()

    def close(self) -> None:
        """As `Reader.close`."""
        self.files.close()

    def _lines(self, raw: Any) -> Lines:
        """Its lines, decompressed and in UTF-8, without a mark of the encoding at the start."""
        if self.options.compression == "gz":
            raw = gzip.GzipFile(fileobj=raw)
        elif self.options.compression == "zst":
            raw = pyarrow()[0].CompressedInputStream(raw, "zstd")
        stream = raw if hasattr(raw, "peek") else io.BufferedReader(raw, BLOCK)
        first, encoding = stream.peek(4)[:4], self.options.encoding
        mark = next((mark for mark in MARKS if first.startswith(mark)), b"")
        name = codecs.lookup(encoding or MARKS.get(mark, "utf-8")).name
        if mark and name in (MARKS[mark], "utf-8-sig"):
            stream.read(len(mark))
        if name not in ("utf-8", "utf-8-sig"):
            stream = io.BufferedReader(Recoded(stream, name), BLOCK)
            if encoding is None:
                log.warning("%s is read as %s, by the mark at its start", self.name, name)
        return Lines(stream, name)

    def start(self) -> None:
        """Read what stands before the rows."""

    @abstractmethod
    def rows(self) -> Iterator[Record]:
        """The records that follow."""

    @abstractmethod
    def appended(self, record: Record, added: dict[str, Any]) -> bytes:
        """A record's own bytes with new values behind them."""

    def header(self, added: Iterable[str]) -> bytes:
        """What stands before the rows of an output in the same format."""
        return b""

    def windows(self, place: int, line: int) -> Iterator[Window]:
        """As `Reader.windows`."""
        self.lines.skip(place, line)
        window, size = Window(), 0
        try:
            for record in self.rows():
                error = record.error
                if not error and record.text is not None and not isinstance(record.text, str):
                    error = f"its text is a {type(record.text).__name__}, not a text"
                window.lines.append(record.lines)
                window.texts.append(None if error else record.text)
                window.errors.append(error)
                window.records.append(None if record.error else record)
                window.place, window.line = record.place, record.lines[1]
                size += len(record.raw)
                if len(window.lines) == ROWS or size >= SIZE:
                    window.read = self.below.tell() if self.path else 0
                    yield window
                    window, size = Window(), 0
        except BROKEN as error:
            raise InputError(f"{self.name} cannot be read on after line {self.lines.line}: {error}") from None
        if window.lines:
            window.read = self.total
            yield window


class Plain(TextReader):
    """One text a line."""

    columns = ("text",)

    def rows(self) -> Iterator[Record]:
        """As `TextReader.rows`."""
        for line in self.lines:
            yield self.lines.record(line, line.removesuffix("\n").removesuffix("\r"))

    def values(self, record: Record) -> dict[str, Any]:
        """As `Reader.values`."""
        return {"text": record.text}

    def appended(self, record: Record, added: dict[str, Any]) -> bytes:
        """As `TextReader.appended`; there is no place for them."""
        raise NotImplementedError


class Json(TextReader):
    """One JSON object a line."""

    def start(self) -> None:
        """As `TextReader.start`."""
        self.read, self.read_exactly = _Objects(_whole, float), _Objects(_integer, _exact)

    def rows(self) -> Iterator[Record]:
        """As `TextReader.rows`."""
        lines, column = self.lines, self.options.column
        for line in lines:
            if not line.strip():
                lines.record(line, None)
                continue
            error, text = "", None
            try:
                values = self.read(line)
                text = values.get(column)
                if not values:
                    error = "not a JSON object with a text in it"
                elif column in self.read.twice:
                    error = f"it has {column!r} twice"
                elif column not in values:
                    error = missing_column(column, values)
                elif taken := [name for name in self.options.added if name in values]:
                    error = f"it has {taken[0]!r} already; give the new ones a prefix"
            except (ValueError, RecursionError) as problem:  # a UnicodeEncodeError is a ValueError
                error = f"not JSON: {problem}"
            yield lines.record(line, text, error)

    def values(self, record: Record) -> dict[str, Any]:
        """As `Reader.values`; no number that a float64 would change."""
        try:
            return self._unique(self.read_exactly, record.value)
        except ValueError:
            for name, value in self.json(record).items():
                try:
                    self.read_exactly.decode(value)
                except ValueError as error:  # noqa: PERF203
                    raise ValueError(f"{name!r}: {error}") from None
            raise

    def _unique(self, read: "_Objects", line: str) -> dict[str, Any]:
        values = read(line)
        if read.twice:
            raise ValueError(f"it has {next(iter(read.twice))!r} twice")
        return values

    def json(self, record: Record) -> dict[str, str]:
        """As `Reader.json`: each value as it is written in the line."""
        self._unique(self.read, record.value)
        line, decoder, found = record.value, json.JSONDecoder(parse_int=_whole), {}

        def after(at: int) -> int:
            return SPACE.match(line, at).end()  # type: ignore[union-attr] # it matches always

        at = after(0)
        while line[at] != "}":
            name, at = decoder.raw_decode(line, after(at + 1))  # behind { or a comma
            start = after(after(at) + 1)  # behind the colon
            at = decoder.raw_decode(line, start)[1]
            found[name] = line[start:at]
            at = after(at)
        return found

    def cells(self, record: Record) -> dict[str, str]:
        """As `Reader.cells`: all but texts as they are written in the line."""
        return {
            name: json.loads(value) if value.startswith('"') else "" if value == "null" else value
            for name, value in self.json(record).items()
        }

    def appended(self, record: Record, added: dict[str, Any]) -> bytes:
        """As `TextReader.appended`."""
        body = record.raw.rstrip()
        end = record.raw[len(body) :] or b"\n"
        more = f", {dumps(added)[1:]}"
        return body[:-1] + more.encode() + end


def _exact(digits: str) -> float:
    """A float that is the number written, as far as a float64 can be told from others."""
    value, significand = float(digits), digits.lower().partition("e")[0].lstrip("-").replace(".", "").strip("0")
    if len(significand) > MOST_DIGITS or (significand and not 1e-307 < abs(value) < 1e308):
        raise ValueError(f"a float64 does not hold {digits:.80}")
    return value


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 3:  # more than any int64 has, and maybe more than Python reads
        raise ValueError(f"an int64 does not hold {digits:.80}")
    return int(digits)


def _whole(digits: str) -> float:
    """An integer; one that is too long for Python's as a float."""
    return int(digits) if len(digits) < 4000 else float(digits)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no value of JSON")


class _Objects:
    """Reads JSON objects; `twice` has names that stood twice in one of the last one's."""

    def __init__(self, parse_int: Any, parse_float: Any) -> None:
        self.twice: set[str] = set()
        # `json.loads` would make another at every call.
        self.decode = json.JSONDecoder(
            object_pairs_hook=self._made, parse_constant=_refuse, parse_int=parse_int, parse_float=parse_float
        ).decode

    def _made(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            self.twice.update(name for name in found if names.count(name) > 1)
        return found

    def __call__(self, line: str) -> dict[str, Any]:
        """An object, {} for any other value; ValueError where it is not JSON."""
        self.twice = set()
        values = self.decode(line)
        if "\\ud" in line or "\\uD" in line:  # may be half of a character, which no file can hold
            dumps(values).encode()
        return values if isinstance(values, dict) else {}


class Csv(TextReader):
    """Cells with a delimiter between and double quotes; the first line names the columns, or their numbers do."""

    columns: Sequence[str]

    def start(self) -> None:
        """As `TextReader.start`."""
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # the whole process's; Python has no other
        self.table = csv.reader(self.lines, strict=True, delimiter=self.options.delimiter)
        error = ""
        try:
            self.columns = next(self.table, [])
        except csv.Error as problem:
            error = _problem(problem)
        self.first = self.lines.record(self.columns, None, error)
        if self.first.error:
            raise InputError(f"{self.name}, line 1: {self.first.error}")
        if not self.columns:
            raise InputError(f"{self.name}: the first line should name the columns")
        self.end = b"\r\n" if self.first.raw.endswith(b"\r\n") else b"\n"
        if not self.options.header:
            self.columns = [str(i + 1) for i, _ in enumerate(self.columns)]

    def windows(self, place: int, line: int) -> Iterator[Window]:
        """As `Reader.windows`."""
        self.again = not (place or self.options.header)  # the first line is a row
        return super().windows(place, line)

    def rows(self) -> Iterator[Record]:
        """As `TextReader.rows`."""
        column = list(self.columns).index(self.options.column)
        if self.again:
            yield self.first._replace(text=self.first.value[column])
        while True:
            fields, error = None, ""
            try:
                fields = next(self.table)
            except StopIteration:
                return
            except csv.Error as problem:
                error = _problem(problem)
            if fields and len(fields) != len(self.columns):
                error = f"{len(fields)} fields for {len(self.columns)} columns"
            record = self.lines.record(fields, fields[column] if fields and not error else None, error)
            if fields != []:  # of a blank line
                yield record

    def values(self, record: Record) -> dict[str, Any]:
        """As `Reader.values`."""
        return dict(zip(self.columns, record.value, strict=True))

    def appended(self, record: Record, added: dict[str, Any]) -> bytes:
        """As `TextReader.appended`."""
        return self._longer(record.raw, map(cell, added.values()))

    def header(self, added: Iterable[str]) -> bytes:
        """As `TextReader.header`."""
        return self._longer(self.first.raw, added) if self.options.header else b""

    def _longer(self, line: bytes, cells: Iterable[str]) -> bytes:
        body = line.removesuffix(b"\n").removesuffix(b"\r")
        delimiter = self.options.delimiter
        more = delimiter.join(["", *[quoted(each, delimiter) for each in cells]])
        return body + more.encode() + (line[len(body) :] or self.end)


def _problem(error: csv.Error) -> str:
    """Without its advice on how to open a file in Python."""
    return f"not CSV: {str(error).partition(' - ')[0]}"


def quoted(value: str, delimiter: str) -> str:
    """A cell as it stands in a line."""
    return '"' + value.replace('"', '""') + '"' if delimiter in value or QUOTED.search(value) else value
