"""What a file's rows are on their way from any reader to any writer."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, MissingExtraError

ROWS, SIZE = 2048, 2**20  # a window ends with the row that reaches either; bytes, of all columns

# One for all: `json.dumps` would make another at every call. NumPy's numbers and arrays have `tolist`.
ENCODER = json.JSONEncoder(ensure_ascii=False, default=methodcaller("tolist"))


def dumps(value: Any) -> str:
    """JSON of a value of a row or an answer."""
    if type(value) is float and isfinite(value):  # most are; the encoder writes the same in ten times the time
        return repr(value)
    return ENCODER.encode(value)


@dataclass(frozen=True)
class Options:
    """How a file is read, or written."""

    format: str  # "csv", "jsonl", "txt" or "parquet"
    compression: str  # "gz", "zst" or ""
    delimiter: str  # between the cells of CSV
    column: str  # that has the texts
    added: dict[str, Any]  # names of the new columns, and their types
    header: bool  # whether the first line of CSV names the columns
    encoding: str | None  # of text; None: what a mark at its start says, or UTF-8


class Row(NamedTuple):
    """One row of the input."""

    value: Any  # CSV: a list of strings; JSON, plain text: the line; Parquet: its place in the table; None: unreadable
    text: str | None  # what the column has; None: nothing, or nothing that can be answered
    error: str  # why there is no answer; "" if all is well
    lines: tuple[int, int]  # its first and last; Parquet: the number of the row
    place: int  # where the next one starts
    raw: bytes = b""  # as it stands in the file, in UTF-8


class Reader(ABC):
    """What each input format brings.

    Attributes:
        path: of the input; None: standard input.
        options: how it is read.
        name: of the input, for errors.
        total: how much there is to read: bytes, or rows of Parquet; 0: unknown.
        read: how much of it has been read.
        columns: their names; None: each row has its own.
    """

    total = read = 0
    columns: Sequence[str] | None = None

    def __init__(self, path: Path | None, options: Options) -> None:
        self.path, self.options, self.name = path, options, str(path or "standard input")

    @abstractmethod
    def windows(self, place: int, line: int) -> Iterator[list[Row]]:
        """All rows from a place on, some thousand at a time; `line` are the lines before it."""

    @abstractmethod
    def json(self, row: Row) -> dict[str, str]:
        """A row's values by column, as JSON writes them, or NaN; ValueError where that is not the same."""


def missing_column(column: str, columns: Iterable[Any]) -> str:
    """What is wrong with a row or file without the column."""
    return f"no column {column!r}; it has {', '.join(map(str, columns)):.200}"


def check_column(columns: Iterable[Any], column: str, name: str, advice: str = "") -> None:
    """InputError unless there is one column of that name; where there is none, with advice."""
    if (count := [*columns].count(column)) != 1:
        what = f"{count} columns {column!r}" if count else missing_column(column, columns) + advice
        raise InputError(f"{name} has {what}")


def pyarrow() -> tuple[Any, Any]:
    """pyarrow, and its module for Parquet.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow", "files") from None
    return pa, pq
