"""What writes a format: rows as bytes that can be added to, and at the end a file of its name."""

import gzip
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import InputError
from . import arrow
from .rows import Options, Reader, Window, cell, dumps, pyarrow
from .text import Csv, Json, quoted

LABELS = ({"label": "string", "score": "float"},)  # the type of several labels


class TextWriter:
    """Records of the input's own bytes with new values behind them; or objects, cells or labels in lines."""

    def __init__(self, reader: Reader, options: Options, names: Sequence[str]) -> None:
        self.reader, self.options, self.names = reader, options, names
        csv, json = options.format == "csv", options.format == "jsonl"
        same = isinstance(reader, Csv) and options.delimiter == reader.options.delimiter
        self.appends = (csv and same) or (json and isinstance(reader, Json))
        self.line: Callable[[Any, dict[str, Any]], bytes] = self._cells if csv else self._object if json else _labels
        if self.appends:
            self.line = reader.appended  # type: ignore[attr-defined]
        self.convert: Callable[[Any], Any] = reader.cells if csv else reader.json

    def header(self) -> bytes:
        """What stands before the rows."""
        if self.appends:
            return self._packed(self.reader.header(self.options.added))  # type: ignore[attr-defined]
        if self.options.format == "csv" and self.options.header:
            return self._packed(self._row([*self.names, *self.options.added]))
        return b""

    def converted(self, window: Window) -> Any:
        """As `ParquetWriter.converted`."""
        if self.appends or self.options.format == "txt":
            return window.records
        return self.reader.converted(window, self.convert)

    def encode(self, window: Window, rows: list[Any], added: list[dict[str, Any]]) -> bytes:
        """As `ParquetWriter.encode`."""
        return self._packed(b"".join(map(self.line, rows, added)))

    def finish(self, partial: Path, target: Path) -> None:
        """The whole output from what is written; it appears at once."""
        atomic.move(partial, target)

    def _packed(self, data: bytes) -> bytes:
        """Compressed each for itself: what lies behind one another is read as one."""
        if self.options.compression == "gz":
            return gzip.compress(data, mtime=0)
        return pyarrow()[0].compress(data, "zstd", asbytes=True) if self.options.compression else data

    def _object(self, row: dict[str, str], added: dict[str, Any]) -> bytes:
        own = ", ".join(f"{dumps(name)}: {value}" for name, value in row.items())
        return f"{{{own}, {dumps(added)[1:]}\n".encode()

    def _cells(self, row: dict[str, str], added: dict[str, Any]) -> bytes:
        return self._row([*(row.get(name, "") for name in self.names), *map(cell, added.values())])

    def _row(self, cells: Sequence[str]) -> bytes:
        delimiter = self.options.delimiter
        return (delimiter.join(quoted(each, delimiter) for each in cells) + "\n").encode()


def _labels(_: Any, added: dict[str, Any]) -> bytes:
    """Labels and scores as `npdistil classify` prints them."""
    first, *more = added.values()
    labels = first if isinstance(first, list) else [] if first is None else [{"label": first, "score": more[0]}]
    return ("\t".join(f"{each['label']} {each['score']:.4f}" for each in labels) + "\n").encode()


def writer_of(reader: Reader, options: Options) -> TextWriter | arrow.ParquetWriter:
    """What writes a format, from what a reader has."""
    columns, to_parquet = reader.columns, options.format == "parquet"
    kinds = dict.fromkeys(columns or (), "string")
    if columns is None and options.format in ("csv", "parquet"):
        kinds = _kinds(reader, to_parquet)
    if isinstance(reader, arrow.Parquet) and options.format in ("csv", "jsonl"):
        arrow.check_plain(reader.schema, reader.name)
    if options.format == "txt" and next(iter(options.added.values())) not in ("string", LABELS):
        raise InputError("plain text takes labels alone; write CSV, JSON lines or Parquet")
    writer = arrow.ParquetWriter(reader, options, kinds) if to_parquet else TextWriter(reader, options, [*kinds])
    if columns and len(kinds) < len(columns) and not writer.appends and options.format != "txt":
        twice = next(name for name in kinds if list(columns).count(name) > 1)
        raise InputError(f"{reader.name} has two columns {twice!r}")
    return writer


def _kinds(reader: Any, types: bool) -> dict[str, Any]:
    """Names of a JSON file's columns and their types, from a first pass over all of it."""
    if reader.path is None:
        raise InputError(
            "a table's columns must be known before its first row; give a file, or write JSON lines where JSON comes "
            "from standard input"
        )
    found: dict[str, Any] = {}

    def take(record: Any) -> None:
        nonlocal found
        row = first.values(record) if types else first.json(record)
        found |= {name: arrow.widened(found.get(name), value) if types else None for name, value in row.items()}

    with closing(Json(reader.path, reader.options)) as first:
        for window in first.windows(0, 0):
            first.converted(window, take)  # a bad row is left out, as will be said when it comes
    return found
