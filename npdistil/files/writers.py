"""What each output format brings: rows as bytes that can be added to, and at the end a file of its name."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import InputError
from .readers import Csv, Reader, Values, pyarrow

ROW_GROUP = 2**23  # bytes in memory of a row group of the Parquet that is written


def json_line(values: Values) -> bytes:
    """An object on a line of its own."""
    return (_json(values) + "\n").encode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_python)


def _python(value: Any) -> Any:
    """What JSON has for one of pyarrow's scalars; dates and the like are written out."""
    found = value.as_py() if hasattr(value, "as_py") else value
    return found if isinstance(found, (bool, int, float, str, list, dict, type(None))) else str(found)


class Writer:
    """What each output format brings; what is written so far can be added to at any time. This one is for text.

    `new` are the new columns, and what of an answer each of them holds.
    """

    def __init__(self, reader: Reader, new: Mapping[str, str]) -> None:
        self.columns = None if reader.columns is None else [*reader.columns, *new]
        self.new = new
        for field in reader.schema or ():
            if not _is_plain(str(field.type)):
                raise InputError(f"column {field.name!r} is {field.type}, which only Parquet can hold; write Parquet")

    def start(self, rows: list[Values], written: Path | None) -> bytes:
        """What stands before the rows; `rows` are those of the first window, or `written` is what is there already."""
        return b""

    def refusal(self, values: Values) -> str:
        """Why a row cannot be written; "" if it can."""
        return ""

    def encode(self, rows: list[Values]) -> bytes:
        """Rows as they are written."""
        raise NotImplementedError

    def finish(self, partial: Path, target: Path) -> None:
        """The whole output from what is written; it appears at once."""
        atomic.move(partial, target)


def _is_plain(kind: str) -> bool:
    """Whether text can say all that a value of this type of Parquet's is."""
    return not any(word in kind for word in ("binary", "[ns", "extension", "map<", "duration", "interval"))


class _Json(Writer):
    """One JSON object a line."""

    def encode(self, rows: list[Values]) -> bytes:
        return b"".join(map(json_line, rows))


class _Text(Writer):
    """Labels and scores alone, as `npdistil classify` prints them."""

    def encode(self, rows: list[Values]) -> bytes:
        return "".join(self._line([row[name] for name in self.new]) + "\n" for row in rows).encode()

    def _line(self, cells: list[Any]) -> str:
        labels = cells[0] if isinstance(cells[0], list) else [{"label": cells[0], "score": cells[1]}]
        return "\t".join(f"{each['label']} {each['score']:.4f}" for each in labels)


class _Csv(Writer):
    """Commas and double quotes; lists and objects as JSON."""

    def start(self, rows: list[Values], written: Path | None) -> bytes:
        if self.columns is None and written:
            self.columns = [*Csv(written).columns]
        if self.columns is None:
            names = dict.fromkeys(name for row in rows for name in row)
            self.columns = [*(name for name in names if name not in self.new), *self.new]
        return self._table([self.columns])

    def refusal(self, values: Values) -> str:
        return _unknown(values, self.columns or ())

    def encode(self, rows: list[Values]) -> bytes:
        return self._table([[self._cell(row.get(name)) for name in self.columns or ()] for row in rows])

    def _cell(self, value: Any) -> Any:
        value = _python(value)
        return _json(value) if isinstance(value, (list, dict)) else value

    def _table(self, rows: list[list[Any]]) -> bytes:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(rows)
        return table.getvalue().encode()


def _unknown(values: Values, columns: Sequence[str]) -> str:
    return next((f"{name!r} is in none of the first rows" for name in values if name not in columns), "")


class _Parquet(Writer):
    """Rows so far are messages of Arrow's streaming format, one after the other; at the end they become Parquet.

    Where the input has no types, columns have those of the first rows.
    """

    def __init__(self, reader: Reader, new: Mapping[str, str]) -> None:
        self.arrow, self.parquet = pyarrow()
        self.reader, self.new = reader, new
        self.schema: Any = None

    def start(self, rows: list[Values], written: Path | None) -> bytes:
        arrow = self.arrow
        if written:
            with arrow.ipc.open_stream(str(written)) as stream:
                self.schema = stream.schema
            return b""
        label, score = ("label", arrow.string()), ("score", arrow.float64())
        kinds = dict([label, score]) | {"labels": arrow.list_(arrow.struct([label, score])), "truncated": arrow.bool_()}
        fields = self._fields(rows) if self.reader.schema is None else self.reader.schema
        self.schema = arrow.schema([*fields, *((name, kinds[what]) for name, what in self.new.items())])
        return bytes(self.schema.serialize())

    def _fields(self, rows: list[Values]) -> list[tuple[str, Any]]:
        names = dict.fromkeys(self.reader.columns or (name for row in rows for name in row if name not in self.new))
        fields = []
        for name in names:
            try:
                kind = self.arrow.array([row.get(name) for row in rows]).type
            except self.arrow.ArrowException as error:
                raise InputError(f"{name!r} has values of more than one type: {error}") from None
            # Without any value a column may become anything; text can hold all.
            fields.append((name, self.arrow.string() if self.arrow.types.is_null(kind) else kind))
        return fields

    def refusal(self, values: Values) -> str:
        if self.reader.columns:  # each row has the columns and types of the first
            return ""
        if unknown := _unknown(values, self.schema.names):
            return unknown
        name = ""
        try:
            for name, value in values.items():
                self.arrow.array([value], self.schema.field(name).type)
        except self.arrow.ArrowException as error:
            return f"{name!r} is not {self.schema.field(name).type}, as it is in the first rows: {error}"
        return ""

    def encode(self, rows: list[Values]) -> bytes:
        arrays = [self.arrow.array([row.get(field.name) for row in rows], field.type) for field in self.schema]
        return bytes(self.arrow.record_batch(arrays, schema=self.schema).serialize())

    def finish(self, partial: Path, target: Path) -> None:
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
            atomic.move(beside, target)
        finally:
            beside.unlink(missing_ok=True)


WRITERS = {".csv": _Csv, ".jsonl": _Json, ".ndjson": _Json, ".txt": _Text, ".parquet": _Parquet}
