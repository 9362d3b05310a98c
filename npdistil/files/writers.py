"""What writes a format: rows as bytes that can be added to, and at the end a file of its name."""

import gzip
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import InputError
from . import arrow
from .rows import FAMILY, Options, Reader, Window, dumps, pyarrow
from .text import Csv, Json, cell, loads, quoted

LABELS = ({"label": "string", "score": "float"},)  # the type of several labels


class TextWriter:
    """Records of the input's own bytes with new values behind them; or objects, cells or labels in lines."""

    def __init__(self, reader: Reader, options: Options, names: Sequence[str]) -> None:
        self.reader: Any = reader
        self.options, self.names = options, names
        format = FAMILY.get(options.format, options.format)  # noqa: A001
        self.labels = format == "txt"
        own = isinstance(reader, {"csv": Csv, "jsonl": Json}.get(format, type(None)))
        self.appends = own and (format != "csv" or options.delimiter == reader.options.delimiter)
        self.cells = format == "csv"

    def header(self) -> bytes:
        """What stands before the rows."""
        if self.appends:
            return self._packed(self.reader.header(self.options.added))
        if self.cells and self.options.header:
            return self._packed(self._line([*self.names, *self.options.added]))
        return b""

    def _line(self, cells: Sequence[str]) -> bytes:
        delimiter = self.options.delimiter
        return (delimiter.join(quoted(each, delimiter) for each in cells) + "\n").encode()

    def converted(self, window: Window) -> list[dict[str, str]]:
        """As `ParquetWriter.converted`."""
        if self.appends or self.labels:
            return []
        rows: list[dict[str, str]] = []
        for i, record in enumerate(self.reader.rows(window)):
            rows.append({})
            try:
                if not window.errors[i]:
                    rows[-1] = self.reader.json(record)
                    for name, value in rows[-1].items():
                        _check_json(name, value, self.cells)
            except (ValueError, RecursionError) as error:
                window.errors[i] = str(error)
        return rows

    def encode(self, window: Window, rows: list[dict[str, str]], kept: list[int], added: list[dict[str, Any]]) -> bytes:
        """As `ParquetWriter.encode`."""
        if self.labels:
            return self._packed("".join(_labels([*row.values()]) + "\n" for row in added).encode())
        texts = [{name: dumps(value) for name, value in row.items()} for row in added]
        if self.appends:
            records = window.records
            return self._packed(
                b"".join(self.reader.appended(records[i], new) for i, new in zip(kept, texts, strict=True))
            )
        lines = []
        for i, new in zip(kept, texts, strict=True):
            row = rows[i] | new
            if self.cells:
                lines.append(self._line([cell(row.get(name, "null")) for name in (*self.names, *new)]))
            else:
                lines.append(f"{{{', '.join(f'{dumps(name)}: {value}' for name, value in row.items())}}}\n".encode())
        return self._packed(b"".join(lines))

    def _packed(self, data: bytes) -> bytes:
        """Compressed each for itself: what lies behind one another is read as one."""
        if self.options.compression == "gz":
            return gzip.compress(data, mtime=0)
        return pyarrow()[0].compress(data, "zstd", asbytes=True) if self.options.compression else data

    def finish(self, partial: Path, target: Path) -> None:
        """The whole output from what is written; it appears at once."""
        atomic.move(partial, target)


def _check_json(name: str, value: str, cells: bool) -> None:
    """ValueError for what Python takes for JSON and nobody else does."""
    if not cells and ("NaN" in value or "Infinity" in value) and not value.startswith('"'):
        try:
            loads(f'{{"": {value}}}')
        except ValueError:
            raise ValueError(f"{name!r} is {value:.80}, which JSON cannot hold; write CSV or Parquet") from None


def _labels(cells: list[Any]) -> str:
    """Labels and scores as `npdistil classify` prints them."""
    if cells[0] is None:
        return ""
    labels = cells[0] if isinstance(cells[0], list) else [{"label": cells[0], "score": cells[1]}]
    return "\t".join(f"{each['label']} {each['score']:.4f}" for each in labels)


def writer_of(reader: Reader, options: Options, taken: tuple[str, str], delimiter: str | None) -> Any:
    """What writes a format, from what a reader has."""
    tab = "\t" if taken[0] == "tsv" else delimiter or ","
    options = replace(options, format=taken[0], compression=taken[1], delimiter=tab)
    family, tables = FAMILY.get(taken[0], taken[0]), taken[0] == "parquet"
    kinds = {} if reader.columns is None else dict.fromkeys(reader.columns, "string")
    if reader.columns is None and (tables or family == "csv"):
        kinds = _kinds(reader, tables)
    if isinstance(reader, arrow.Parquet) and not tables:
        arrow.check_plain(reader.schema)
    if family == "txt" and next(iter(options.added.values())) not in ("string", LABELS):
        raise InputError("plain text takes labels alone; write CSV, JSON lines or Parquet")
    writer = arrow.ParquetWriter(reader, options, kinds) if tables else TextWriter(reader, options, [*kinds])
    if len(kinds) < len(reader.columns or ()) and not writer.appends:
        twice = next(name for name in kinds if list(reader.columns or ()).count(name) > 1)
        raise InputError(f"{reader.name} has two columns {twice!r}")
    return writer


def _kinds(reader: Any, types: bool) -> dict[str, Any]:
    """Names of a JSON file's columns and their types, from a first pass over all of it."""
    path = reader.path
    if path is None:
        raise InputError(
            "a table's columns must be known before its first row; give a file, or write JSON lines where JSON comes "
            "from standard input"
        )
    found: dict[str, Any] = {}
    with closing(Json(path, reader.options)) as first:
        for window in first.windows(0, 0):
            for record, error in zip(window.records, window.errors, strict=True):
                try:
                    row = {} if error else first.json(record)
                    kinds = {name: arrow.kind_of(arrow.python(value)) if types else None for name, value in row.items()}
                    found |= {name: arrow.merged(found.get(name), kind) for name, kind in kinds.items()}
                except (ValueError, RecursionError):  # noqa: PERF203 - a bad row, as will be said when it comes
                    continue
    return found
