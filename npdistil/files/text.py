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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import InputError
from .rows import ROWS, SIZE, Options, Reader, Window, dumps, missing_column, pyarrow

log = logging.getLogger(__name__)
LONGEST = 2**24  # bytes of a line, characters of a CSV field: an unclosed quote would take in the rest of the file
BLOCK = 2**18  # bytes read at once
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
SPACE = re.compile(r"[ \t\r\n]*")
QUOTED = re.compile(r'["\r\n]|^[ \t]|[ \t]$')  # cells that other readers could take for something else without quotes


class Record(NamedTuple):
    """One row of the input, and its place there."""

    raw: bytes  # in UTF-8
    fields: Any  # CSV: a list of strings; else the line
    text: Any  # what the column has
    error: str  # why it is no row; "" if it is one


class Recoded(io.RawIOBase):
    """Bytes of another encoding, read as UTF-8; those that are not of it stay as they are, which is not UTF-8."""

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
            self.rest = self.decoder.decode(raw, final=not raw).encode("utf-8", "surrogateescape")
            if not raw:
                break
        some, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(some)] = some
        return len(some)


class Lines:
    """Lines of a stream as strings, and how far they have been read."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self.stream, self.encoding = stream, encoding
        self.place = self.line = 0
        self.raw: list[bytes] = []  # lines and what was wrong with them, since these were last taken
        self.error = ""
        self.again: list[bytes] = []  # lines that were looked at, and come once more

    def look(self) -> None:
        """Have the lines of `raw` come once more."""
        self.again, self.raw = self.raw, []
        self.place, self.line = self.place - sum(map(len, self.again)), self.line - len(self.again)

    def skip(self, place: int, line: int) -> None:
        """Go on from a place after so many lines."""
        if place <= self.place:
            return
        self.place, self.again = self.place + sum(map(len, self.again)), []
        while self.place < place and (some := self.stream.read(min(BLOCK, place - self.place))):
            self.place += len(some)
        self.line = line

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        raw = rest = self.again.pop(0) if self.again else self.stream.readline(LONGEST)
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
        raw: Any = self.files.enter_context(path.open("rb")) if path else sys.stdin.buffer
        self.below = raw
        try:
            self.lines = self._lines(raw)
            self.start(self.lines)
        except (EOFError, OSError, zlib.error) as error:
            self.close()
            raise InputError(f"{self.name} cannot be read: {error}") from None
        except InputError:
            self.close()
            raise

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

    def start(self, lines: Lines) -> None:
        """Read what stands before the rows."""

    def records(self, lines: Lines) -> Iterator[Record | None]:
        """Its records; None for lines that are none."""
        raise NotImplementedError

    def windows(self, place: int, line: int) -> Iterator[Window]:
        """As `Reader.windows`."""
        lines = self.lines
        lines.skip(place, line)
        window, size, line = Window(), 0, lines.line
        try:
            for record in self.records(lines):
                if record is not None:
                    error = lines.error or record.error
                    window.add(line + 1, lines.line, record, record.text, error)
                    size += len(record.raw)
                lines.error, line, lines.raw = "", lines.line, []
                window.place, window.line, window.read = lines.place, lines.line, self._read()
                if len(window.lines) == ROWS or size >= SIZE:
                    yield window
                    window, size = Window(), 0
        except (EOFError, OSError, zlib.error, UnicodeError) as error:
            raise InputError(f"{self.name} cannot be read on after line {lines.line}: {error}") from None
        if window.lines:
            yield window

    def _read(self) -> int:
        return int(self.below.tell()) if self.path else 0

    def json(self, record: Record) -> dict[str, str]:
        """A row's values by column, as JSON writes them."""
        raise NotImplementedError

    def appended(self, record: Record, added: dict[str, str]) -> bytes:
        """A record's own bytes with new values behind them."""
        raise NotImplementedError

    def header(self, added: Iterable[str]) -> bytes:
        """What stands before the rows of an output in the same format."""
        return b""


class Plain(TextReader):
    """One text a line."""

    columns = ("text",)

    def records(self, lines: Lines) -> Iterator[Record | None]:
        """As `TextReader.records`."""
        for line in lines:
            text = line.removesuffix("\n").removesuffix("\r")
            yield Record(lines.raw[0], text, text, "")

    def json(self, record: Record) -> dict[str, str]:
        """As `TextReader.json`."""
        return {"text": dumps(record.text)}


class Json(TextReader):
    """One JSON object a line."""

    def records(self, lines: Lines) -> Iterator[Record | None]:
        """As `TextReader.records`."""
        for line in lines:
            if not line.strip():
                yield None
                continue
            try:
                values, twice = loads(line)
                error = "" if values else "not a JSON object with a text in it"
                if self.options.column in twice:
                    error = f"it has {self.options.column!r} twice"
                elif values and self.options.column not in values:
                    error = missing_column(self.options.column, values)
                elif taken := [name for name in self.options.added if name in values]:
                    error = f"it has {taken[0]!r} already; give a prefix for the new ones"
                text = values.get(self.options.column)
            except (ValueError, RecursionError) as problem:  # a UnicodeEncodeError is a ValueError
                error, text = f"not JSON: {problem}", None
            yield Record(lines.raw[0], line, text, error)

    def json(self, record: Record) -> dict[str, str]:
        """As `TextReader.json`."""
        _, twice = loads(record.fields)
        if twice:
            raise ValueError(f"it has {next(iter(twice))!r} twice")
        return members(record.fields)

    def appended(self, record: Record, added: dict[str, str]) -> bytes:
        """As `TextReader.appended`."""
        body = record.raw.rstrip()
        end = record.raw[len(body) :] or b"\n"
        more = "".join(f", {dumps(name)}: {value}" for name, value in added.items())
        return b"".join((body[:-1], more.encode(), b"}", end))


def loads(line: str) -> tuple[dict[str, Any], set[str]]:
    """A JSON object, and names that stand twice in one object; ValueError where it is none."""
    twice: set[str] = set()

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice.update(name for name in found if names.count(name) > 1)
        return found

    values = json.loads(line, object_pairs_hook=made, parse_constant=refuse, parse_int=whole)
    if "\\ud" in line.lower():  # may be half of a character, which no file can hold
        dumps(values).encode()
    return (values, twice) if isinstance(values, dict) else ({}, twice)


def refuse(constant: str) -> Any:
    """ValueError for NaN and Infinity, which are not JSON."""
    raise ValueError(f"{constant} is no value of JSON")


def whole(digits: str) -> float:
    """An integer; one that is too long for Python's as a float."""
    return int(digits) if len(digits) < 4000 else float(digits)


def members(line: str) -> dict[str, str]:
    """What stands in a JSON object, each value as it is written there."""
    decoder, found = json.JSONDecoder(parse_int=whole), {}
    at = SPACE.match(line).end() + 1  # type: ignore[union-attr] # it matches always
    while True:
        name, at = decoder.raw_decode(line, SPACE.match(line, at).end())  # type: ignore[union-attr]
        start = SPACE.match(line, SPACE.match(line, at).end() + 1).end()  # type: ignore[union-attr] # behind the colon
        _, at = decoder.raw_decode(line, start)
        found[name] = line[start:at]
        at = SPACE.match(line, at).end() + 1  # type: ignore[union-attr] # behind the comma
        if line[at - 1] == "}":
            return found


class Csv(TextReader):
    """Cells with a delimiter between and double quotes; the first line names the columns, or their numbers do."""

    columns: Sequence[str]

    def start(self, lines: Lines) -> None:
        """As `TextReader.start`."""
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # the whole process's; Python has no other
        try:
            self.columns = next(self._reader(lines), [])
        except csv.Error as error:
            lines.error = f"not CSV: {error}"
        if lines.error:
            raise InputError(f"{self.name}, line 1: {lines.error}")
        if not self.columns:
            raise InputError(f"{self.name}: the first line should name the columns")
        self.first = b"".join(lines.raw)
        self.end = b"\r\n" if self.first.endswith(b"\r\n") else b"\n"
        if self.options.header:
            lines.raw = []
        else:
            self.columns = [str(i + 1) for i, _ in enumerate(self.columns)]
            lines.look()

    def _reader(self, lines: Iterator[str]) -> Any:
        return csv.reader(lines, strict=True, delimiter=self.options.delimiter)

    def records(self, lines: Lines) -> Iterator[Record | None]:
        """As `TextReader.records`."""
        reader, column = self._reader(lines), self.columns.index(self.options.column)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(b"", None, None, f"not CSV: {error}")
                continue
            if fields and len(fields) != len(self.columns):
                yield Record(b"", None, None, f"{len(fields)} fields for {len(self.columns)} columns")
            else:
                yield Record(b"".join(lines.raw), fields, fields[column], "") if fields else None

    def json(self, record: Record) -> dict[str, str]:
        """As `TextReader.json`."""
        return dict(zip(self.columns, map(dumps, record.fields), strict=True))

    def appended(self, record: Record, added: dict[str, str]) -> bytes:
        """As `TextReader.appended`."""
        body = record.raw.removesuffix(b"\n").removesuffix(b"\r")
        return body + self._more(map(cell, added.values())) + (record.raw[len(body) :] or self.end)

    def header(self, added: Iterable[str]) -> bytes:
        """As `TextReader.header`."""
        if not self.options.header:
            return b""
        return self.first.removesuffix(b"\n").removesuffix(b"\r") + self._more(added) + self.end

    def _more(self, cells: Iterable[str]) -> bytes:
        return "".join(self.options.delimiter + quoted(each, self.options.delimiter) for each in cells).encode()


def cell(value: str) -> str:
    """A CSV cell of a value as JSON writes it: a text as it is, nothing for null."""
    return json.loads(value) if value.startswith('"') else "" if value == "null" else value


def quoted(value: str, delimiter: str) -> str:
    """A cell as it stands in a line."""
    return '"' + value.replace('"', '""') + '"' if delimiter in value or QUOTED.search(value) else value
