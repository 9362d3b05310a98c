"""What a file's rows are on their way from any reader to any writer."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import MissingExtraError

# Suffixes, each with the format's name and what stands between cells of CSV.
FORMATS = {
    "csv": ("csv", ","),
    "tsv": ("csv", "\t"),
    "jsonl": ("jsonl", ","),
    "ndjson": ("jsonl", ","),
    "txt": ("txt", ","),
    "parquet": ("parquet", ","),
}
COMPRESSIONS = ("gz", "zst")
ROWS, SIZE = 2048, 2**21  # a window ends with the row that reaches either; bytes, of all columns


def _plain(value: Any) -> Any:
    """What NumPy has in an answer, or Arrow in a column, as JSON can hold it."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


# One encoder for all: `json.dumps` would make another at every call.
dumps = json.JSONEncoder(ensure_ascii=False, default=_plain).encode
finite = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def cell(value: Any) -> str:
    """A CSV cell of a value: a text as it is, nothing for null, JSON of all else."""
    return value if isinstance(value, str) else "" if value is None else dumps(value)


@dataclass(frozen=True)
class Options:
    """How a file is read, or written.

    Attributes:
        format: "csv", "jsonl", "txt" or "parquet".
        compression: "gz", "zst" or "".
        delimiter: between the cells of CSV.
        column: that has the texts.
        added: names of the new columns, and their types.
        header: whether the first line of CSV names the columns.
        encoding: of text; None: what a mark at its start says, or UTF-8.
    """

    format: str
    compression: str
    delimiter: str
    column: str
    added: dict[str, Any]
    header: bool = True
    encoding: str | None = None


@dataclass
class Window:
    """Some rows, one after the other.

    Attributes:
        lines: of each the first and last line (Parquet: the number of the row).
        texts: what the column has; None: nothing.
        errors: why a row has no answer; "" if all is well.
        records: what the reader has of each row; None: it cannot be written. Parquet: places in `table`.
        table: of all rows, where they come from Parquet.
        place: where the next row starts: bytes (Parquet: rows).
        line: the last line.
        read: of `Reader.total`.
    """

    lines: list[tuple[int, int]] = field(default_factory=list)
    texts: list[Any] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    records: Any = field(default_factory=list)
    table: Any = None
    place: int = 0
    line: int = 0
    read: int = 0


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
    def values(self, record: Any) -> dict[str, Any]:
        """A row's values by column; ValueError where Python has none that is the same."""

    @abstractmethod
    def close(self) -> None:
        """No more is read."""

    def cells(self, record: Any) -> dict[str, str]:
        """A row's values by column, as CSV has them."""
        return {name: cell(value) for name, value in self.values(record).items()}

    def json(self, record: Any) -> dict[str, str]:
        """A row's values by column, as JSON writes them; ValueError for NaN and infinity, which it does not have."""
        try:
            return {name: finite(value) for name, value in self.values(record).items()}
        except ValueError as error:
            raise ValueError(f"{error}; write CSV or Parquet") from None

    def records(self, window: Window) -> Iterable[Any]:
        """What `values`, `cells` and `json` take, row by row."""
        return window.records

    def converted(self, window: Window, convert: Callable[[Any], Any]) -> list[Any]:
        """Rows as another format has them; None for those that it cannot hold, whose errors go into the window."""
        rows: list[Any] = []
        for i, record in enumerate(self.records(window)):
            rows.append(None)
            try:
                if record is not None:
                    rows[-1] = convert(record)
            except (ValueError, RecursionError) as error:
                window.errors[i] = str(error)
        return rows


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
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow", "files") from None
    return pa, pq
