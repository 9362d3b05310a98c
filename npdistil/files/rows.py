"""What a file's rows are on their way from any reader to any writer."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import MissingExtraError

ROWS, SIZE = 2048, 2**22  # a window ends with the row that reaches either; bytes, of all columns
FAMILY = {"tsv": "csv", "ndjson": "jsonl"}  # formats that are one


def _plain(value: Any) -> Any:
    """What NumPy has in an answer, or Arrow in a column, as JSON can hold it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


# One encoder for all: `json.dumps` would make another at every call.
dumps = json.JSONEncoder(ensure_ascii=False, default=_plain).encode


@dataclass(frozen=True)
class Options:
    """How a file is read, or written.

    Attributes:
        format: its suffix without what it is compressed by.
        compression: "gz", "zst" or "".
        column: that has the texts.
        added: names of the new columns, and their types.
        delimiter: between the cells of CSV.
        header: whether the first line of CSV names the columns.
        encoding: of text; None: what a mark at its start says, or UTF-8.
    """

    format: str
    compression: str
    column: str
    added: dict[str, Any]
    delimiter: str = ","
    header: bool = True
    encoding: str | None = None


@dataclass
class Window:
    """Some rows, one after the other.

    Attributes:
        lines: of each the first and last line (Parquet: the number of the row).
        texts: what the column has; None: nothing.
        errors: why a row is none, or cannot be written; "" if all is well.
        refused: why what the column has is no text; "" if it is one.
        records: what the reader has of each row; Parquet: one table of all.
        place: where the next row starts: bytes (Parquet: rows).
        line: the last line.
        read: of `Reader.total`.
    """

    lines: list[tuple[int, int]] = field(default_factory=list)
    texts: list[Any] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    records: Any = field(default_factory=list)
    place: int = 0
    line: int = 0
    read: int = 0

    def add(self, line: int, last_line: int, record: Any, text: Any, error: str) -> None:
        """One more row."""
        is_text = text is None or isinstance(text, str)
        self.lines.append((line, last_line))
        self.texts.append(text if is_text and not error else None)
        self.errors.append(error)
        self.refused.append("" if is_text else f"its text is a {type(text).__name__}, not a text")
        self.records.append(record)


class Reader(ABC):
    """What each input format brings.

    Attributes:
        total: how much there is to read: bytes, or rows of Parquet; 0: unknown.
        columns: their names; None: each row has its own.
        name: of the input, for errors.
        options: how it is read.
    """

    options: Options

    total: int
    columns: Sequence[str] | None = None
    name: str

    @abstractmethod
    def windows(self, place: int, line: int) -> Iterator[Window]:
        """All rows from a place on; `line` are the lines before it."""

    @abstractmethod
    def json(self, record: Any) -> dict[str, str]:
        """A row's values by column, as JSON writes them; ValueError where it cannot."""

    @abstractmethod
    def close(self) -> None:
        """No more is read."""

    def rows(self, window: Window) -> Iterable[Any]:
        """What `json` takes, row by row."""
        return window.records


def missing_column(column: str, columns: Iterable[str]) -> str:
    """What is wrong with a row or file without the column."""
    return f"no column {column!r}; it has {', '.join(map(str, columns))}"


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
