"""What each input format brings: rows, one after the other, and where each of them ends."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, MissingExtraError

LONGEST = 2**24  # bytes of a line, characters of a CSV field: an unclosed quote would take in the rest of the file

Values = dict[str, Any]


class Row(NamedTuple):
    """One row of the input."""

    line: int  # where it starts, from 1 (Parquet: the number of the row)
    values: Values  # by column
    error: str  # why it is none; "" if it is one
    place: int  # where the next one starts: bytes (Parquet: rows)
    last_line: int


class Reader(ABC):
    """What each input format brings."""

    total: int  # bytes, or rows of Parquet
    columns: Sequence[str] | None = None  # None: each row has its own
    schema: Any = None  # pyarrow's, where the format has types

    @abstractmethod
    def rows(self, place: int, line: int) -> Iterator[Row]:
        """All rows from a place on; `line` are the lines before it."""


class Lines:
    """Lines of a file as strings, and how far they have been read."""

    def __init__(self, stream: io.BufferedReader, place: int, line: int) -> None:
        self.stream, self.place, self.line = stream, place, line
        self.error = ""  # what was wrong with a line since this was last set
        stream.seek(place)
        if place == 0 and stream.peek(3)[:3] == b"\xef\xbb\xbf":  # a mark of the encoding, no part of the text
            self.place = stream.seek(3)

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
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.error = self.error or f"not UTF-8: {error.reason} at byte {error.start} of the line"
            return raw.decode("utf-8", "replace")


class _Text(Reader):
    """What the formats that are lines share. A record is a row's values, what is wrong with it, or None for no row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.total = path.stat().st_size
        self.start = (0, 0)  # place and line of the first row

    def rows(self, place: int, line: int) -> Iterator[Row]:
        place, line = max((place, line), self.start)
        with self.path.open("rb") as stream:
            lines = Lines(stream, place, line)
            for record in self._records(lines):
                error = lines.error or (record if isinstance(record, str) else "")
                values = record if isinstance(record, dict) and not error else {}
                if values or error:
                    yield Row(line + 1, values, error, lines.place, lines.line)
                line, lines.error = lines.line, ""

    def _records(self, lines: Lines) -> Iterator[Values | str | None]:
        raise NotImplementedError


class _Plain(_Text):
    """One text a line."""

    columns = ("text",)

    def _records(self, lines: Lines) -> Iterator[Values | str | None]:
        for line in lines:
            yield {"text": line.removesuffix("\n").removesuffix("\r")}


class _Json(_Text):
    """One JSON object a line."""

    def _records(self, lines: Lines) -> Iterator[Values | str | None]:
        for line in lines:
            yield _json_record(line) if line.strip() else None


def _json_record(line: str) -> Values | str:
    try:
        found = json.loads(line)
        if "\\ud" in line.lower():  # may be half of a character, which no file can hold
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # a UnicodeEncodeError is a ValueError
        return f"not JSON: {error}"
    return found if isinstance(found, dict) and found else "not a JSON object with a text in it"


class Csv(_Text):
    """Commas and double quotes; the first line names the columns."""

    columns: Sequence[str]

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))  # the whole process's; Python has no other
        with path.open("rb") as stream:
            lines = Lines(stream, 0, 0)
            try:
                self.columns = next(csv.reader(lines, strict=True), [])
            except csv.Error as error:
                lines.error = f"not CSV: {error}"
            self.start = (lines.place, lines.line)
        if lines.error:
            raise InputError(f"{path}, line 1: {lines.error}")
        if not self.columns:
            raise InputError(f"{path}: the first line should name the columns")
        _refuse_twice(path, self.columns)

    def _records(self, lines: Lines) -> Iterator[Values | str | None]:
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


class _Parquet(Reader):
    """Lines are rows. Values are pyarrow's scalars, which keep every type as it is, but for strings."""

    def __init__(self, path: Path) -> None:
        arrow, parquet = pyarrow()
        try:
            self.file = parquet.ParquetFile(path)
        except arrow.ArrowException as error:
            raise InputError(f"{path} is not a Parquet file: {error}") from None
        self.total: int = self.file.metadata.num_rows
        self.schema = arrow.schema([_decoded(field) for field in self.file.schema_arrow])
        self.columns: Sequence[str] = self.schema.names
        _refuse_twice(path, self.columns)

    def rows(self, place: int, line: int) -> Iterator[Row]:
        group, first, groups = 0, 0, self.file.metadata
        while group < groups.num_row_groups and first + groups.row_group(group).num_rows <= place:
            first += groups.row_group(group).num_rows
            group += 1
        for batch in self.file.iter_batches(256, row_groups=[*range(group, groups.num_row_groups)]):
            for values in zip(*map(_values, batch.columns), strict=True):
                first += 1
                if first > place:
                    yield Row(first, dict(zip(self.columns, values, strict=True)), "", first, first)


def pyarrow() -> tuple[Any, Any]:
    """pyarrow, and its module for Parquet.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("pyarrow", "files") from None
    return pa, pq


def _refuse_twice(path: Path, columns: Sequence[str]) -> None:
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise InputError(f"{path} has two columns {twice[0]!r}")


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


READERS = {".csv": Csv, ".jsonl": _Json, ".ndjson": _Json, ".txt": _Plain, ".parquet": _Parquet}
