"""Arrow: batches in, the same batches with columns appended out; Parquet, and what becomes of it."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import InputError
from .rows import ROWS, SIZE, Options, Reader, Window, dumps, missing_column, pyarrow

ROW_GROUP = 2**23  # bytes in memory of a row group of the Parquet that is written
MOST_DIGITS, EXACT = 17, 2**53  # that a float64 tells apart; up to which it has every integer
TOGETHER = {frozenset(("int", "int64")): "int64", frozenset(("int", "float")): "float"}


def arrow_type(kind: Any) -> Any:
    """The type of a column in Arrow: "string", "bool", "int" or "int64", "float", "float32"; None: no value says what.

    A tuple is a list of what it has; a dict a struct. Lists of a fixed size would be natural for vectors, but pyarrow
    before 24 cannot read a column of Parquet that has such lists and nulls.
    """
    arrow = pyarrow()[0]
    if isinstance(kind, dict):
        return arrow.struct([(name, arrow_type(each)) for name, each in kind.items()])
    if isinstance(kind, (tuple, list)):
        return arrow.list_(arrow_type(kind[0]))
    names = {"int": "int64", "float": "float64", None: "string"}  # text can hold all that comes
    return arrow.type_for_alias(names.get(kind, kind))


def kind_of(value: Any) -> Any:
    """What `arrow_type` takes for a value of JSON; ValueError where no column could hold it exactly."""
    if isinstance(value, dict):
        return {name: kind_of(each) for name, each in value.items()}
    if isinstance(value, list):
        found = None
        for each in value:
            found = merged(found, kind_of(each))
        return (found,)
    if isinstance(value, Decimal):
        if len(value.normalize().as_tuple().digits) > MOST_DIGITS or (value and not 1e-307 < abs(value) < 1e308):
            raise ValueError(f"a float64 does not hold {value}")
        return "float"
    if type(value) is int and abs(value) > EXACT:
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"an int64 does not hold {value}")
        return "int64"
    return {str: "string", bool: "bool", int: "int"}.get(type(value))


def merged(a: Any, b: Any) -> Any:
    """The type of a column that has values of both; ValueError where there is none."""
    if a == b or b is None:
        return a
    if a is None:
        return b
    if isinstance(a, dict) and isinstance(b, dict):
        return {name: merged(a.get(name), b.get(name)) for name in a | b}
    if isinstance(a, tuple) and isinstance(b, tuple):
        return (merged(a[0], b[0]),)
    if isinstance(a, str) and isinstance(b, str) and (together := TOGETHER.get(frozenset((a, b)))):
        return together
    raise ValueError(f"found {_name(b)} where {_name(a)} was")


def _name(kind: Any) -> str:
    return "an object" if isinstance(kind, dict) else "a list" if isinstance(kind, tuple) else f"{kind}"


def python(text: str) -> Any:
    """A value of JSON, with its digits."""
    return json.loads(text, parse_float=Decimal)


class Parquet(Reader):
    """Lines are rows."""

    def __init__(self, path: Path | None, options: Options) -> None:
        arrow, parquet = pyarrow()
        if path is None:
            raise InputError("Parquet cannot be read from standard input; give a file")
        try:
            self.file = parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
            self.schema = self.file.schema_arrow
        except arrow.ArrowException as error:
            raise InputError(f"{path} is not a Parquet file: {error}") from None
        self.total: int = self.file.metadata.num_rows
        self.columns: Sequence[str] = self.schema.names
        self.name, self.options = str(path), options

    def windows(self, place: int, line: int) -> Iterator[Window]:
        """As `Reader.windows`."""
        arrow, groups = pyarrow()[0], self.file.metadata
        first, group = 0, 0
        while group < groups.num_row_groups and first + groups.row_group(group).num_rows <= place:
            first += groups.row_group(group).num_rows
            group += 1
        rest = [groups.row_group(i) for i in range(group, groups.num_row_groups)]
        widest = max((each.total_byte_size // max(1, each.num_rows) for each in rest), default=0)
        batches: list[Any] = []
        size = 0
        try:
            for batch in self.file.iter_batches(
                max(1, min(ROWS // 4, SIZE // max(1, widest))), row_groups=[*range(group, groups.num_row_groups)]
            ):
                start, first = max(0, place - first), first + len(batch)
                if start < len(batch):
                    batches.append(batch[start:])
                    size += batches[-1].nbytes
                if size >= SIZE or sum(map(len, batches)) >= ROWS:
                    yield self._window(batches, first)
                    batches, size = [], 0
        except arrow.ArrowException as error:
            raise InputError(f"{self.name} cannot be read on after row {first}: {error}") from None
        if batches:
            yield self._window(batches, first)

    def close(self) -> None:
        """As `Reader.close`."""
        self.file.close()

    def _window(self, batches: list[Any], last: int) -> Window:
        table = pyarrow()[0].Table.from_batches(batches)
        texts, errors = column_texts(table[self.options.column])
        lines = [(i, i) for i in range(last - len(table) + 1, last + 1)]
        return Window(lines, texts, [""] * len(lines), errors, table, last, last, last)

    def rows(self, window: Window) -> Iterable[Any]:
        """As `Reader.rows`: a value of each column, or what reading it raises."""
        return zip(*(_values(each) for each in window.records.columns), strict=True)

    def json(self, record: Any) -> dict[str, str]:
        """As `Reader.json`."""
        for value in record:
            if isinstance(value, ValueError):
                raise value
        return dict(zip(self.columns, map(dumps, record), strict=True))


def column_texts(column: Any) -> tuple[list[Any], list[str]]:
    """The strings of a column, and what is wrong with each."""
    texts = _values(column)
    errors = [f"not UTF-8: {each}" if isinstance(each, ValueError) else "" for each in texts]
    return [None if error else text for text, error in zip(texts, errors, strict=True)], errors


def _values(column: Any) -> list[Any]:
    """What JSON has for the values of a column; a ValueError in the place of one that cannot be had."""
    arrow = pyarrow()[0]
    try:
        return list(column.cast(_plain(column.type)).to_pylist())
    except (arrow.ArrowException, ValueError, OverflowError) as error:
        if len(column) == 1:
            return [ValueError(str(error))]
        half = len(column) // 2
        return _values(column[:half]) + _values(column[half:])


def _plain(kind: Any) -> Any:
    """The type whose values JSON has and that says all that a type says; TypeError where there is none."""
    arrow, types = pyarrow()[0], pyarrow()[0].types
    if isinstance(kind, arrow.BaseExtensionType) or types.is_map(kind) or types.is_union(kind):
        raise TypeError(kind)
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_struct(kind):
        if len({each.name for each in kind}) < len(kind):
            raise TypeError(kind)
        return arrow.struct([each.with_type(_plain(each.type)) for each in kind])
    if types.is_fixed_size_list(kind):
        return arrow.list_(_plain(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        return (arrow.large_list if types.is_large_list(kind) else arrow.list_)(_plain(kind.value_type))
    if types.is_decimal(kind) or (
        types.is_temporal(kind) and not types.is_duration(kind) and not types.is_interval(kind)
    ):
        return arrow.string()
    if is_text(kind) or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return kind
    if types.is_null(kind):
        return kind
    raise TypeError(kind)


def is_text(kind: Any) -> bool:
    """Whether values of an Arrow type are strings."""
    types = pyarrow()[0].types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(each(kind) for each in (types.is_string, types.is_large_string, types.is_string_view))


def check_text_column(schema: Any, column: str, name: str) -> None:
    """InputError unless a schema has one column of that name, of strings."""
    if (count := schema.names.count(column)) != 1:
        found = f"{count} columns {column!r}" if count else missing_column(column, schema.names)
        raise InputError(f"{name} has {found}")
    kind = schema.field(column).type
    if not is_text(kind) and not pyarrow()[0].types.is_null(kind):
        raise InputError(f"column {column!r} of {name} is {kind}; expected strings")


def check_plain(schema: Any) -> None:
    """InputError where text cannot say all that a column's values say."""
    arrow = pyarrow()[0]
    for each in schema:
        try:
            arrow.nulls(1, each.type).cast(_plain(each.type)).to_pylist()
            zone = getattr(each.type, "tz", None)
            arrow.array([0]).cast(arrow.timestamp("s", zone)).cast("string")
        except (TypeError, arrow.ArrowException):  # noqa: PERF203
            raise InputError(
                f"column {each.name!r} is {each.type}, which only Parquet can hold; write Parquet"
            ) from None


def columns_of(kinds: dict[str, Any], rows: list[dict[str, Any]]) -> list[Any]:
    """An array for each column: of the values that the rows have there."""
    library = pyarrow()[0]
    return [library.array([row.get(name) for row in rows], arrow_type(kind)) for name, kind in kinds.items()]


class ParquetWriter:
    """Windows are streams of Arrow's, one after the other; at the end they become Parquet.

    Where the input has no types, `kinds` has them.
    """

    def __init__(self, reader: Reader, options: Options, kinds: dict[str, Any]) -> None:
        self.reader, self.options, self.kinds = reader, options, kinds
        self.appends = isinstance(reader, Parquet)
        new = [(name, arrow_type(kind)) for name, kind in options.added.items()]
        arrow = pyarrow()[0]
        if isinstance(reader, Parquet):
            self.schema = reader.schema
            for name, kind in new:
                self.schema = self.schema.append(arrow.field(name, kind))
        else:
            fields = []
            for name, kind in kinds.items():
                if empty := _empty(kind):
                    raise InputError(f"column {name!r} has {empty}, which Parquet cannot hold; write JSON lines")
                fields.append((name, arrow_type(kind)))
            self.schema = arrow.schema([*fields, *new])

    def header(self) -> bytes:
        """What stands before the rows."""
        return _stream(self.schema, [])

    def converted(self, window: Window) -> list[Any]:
        """Rows as `encode` takes them; errors of those that do not fit go into the window."""
        if isinstance(self.reader, Parquet):
            return []
        rows: list[Any] = []
        for i, record in enumerate(window.records):
            rows.append(None)
            if window.errors[i]:
                continue
            name = ""
            try:
                values = {name: python(value) for name, value in self.reader.json(record).items()}
                for name, value in values.items():
                    kind = self.kinds.get(name)
                    _check_kind(value, kind)
                rows[-1] = values
            except (ValueError, RecursionError) as error:
                window.errors[i] = f"{name!r}: {error}" if name else str(error)
        return rows

    def encode(self, window: Window, rows: list[Any], kept: list[int], added: list[dict[str, Any]]) -> bytes:
        """Rows as they are written."""
        arrow = pyarrow()[0]
        if isinstance(self.reader, Parquet):
            runs = [[i for _, i in run] for _, run in groupby(enumerate(kept), lambda each: each[1] - each[0])]
            columns = arrow.concat_tables([window.records.slice(run[0], len(run)) for run in runs]).columns
        else:
            columns = columns_of(self.kinds, [_number(rows[i]) for i in kept])
        columns = [*columns, *columns_of(self.options.added, added)]
        return _stream(self.schema, [arrow.Table.from_arrays(columns, schema=self.schema)])

    def finish(self, partial: Path, target: Path) -> None:
        """The whole output from what is written; it appears at once."""
        arrow, parquet = pyarrow()
        beside = target.with_name(target.name + ".new")
        codec = "SNAPPY"
        if isinstance(self.reader, Parquet) and self.reader.file.metadata.num_row_groups and len(self.reader.columns):
            codec = self.reader.file.metadata.row_group(0).column(0).compression.replace("UNCOMPRESSED", "NONE")
        try:
            with (
                arrow.OSFile(str(partial)) as file,
                atomic.create(beside) as out,
                parquet.ParquetWriter(out, self.schema, compression=codec) as writer,
            ):
                group: list[Any] = []
                while file.tell() < file.size():
                    with arrow.ipc.open_stream(file) as stream:
                        group += stream
                    if sum(each.nbytes for each in group) >= ROW_GROUP:
                        writer.write_table(arrow.Table.from_batches(group))
                        group = []
                writer.write_table(arrow.Table.from_batches(group, self.schema))
            atomic.move(beside, target)
        finally:
            beside.unlink(missing_ok=True)


def _check_kind(value: Any, kind: Any) -> None:
    """ValueError unless a column of the type can hold a value as it is."""
    found = kind_of(value)
    if merged(kind, found) != kind:
        raise ValueError(f"found {_name(found)} where {_name(kind)} was")


def _empty(kind: Any) -> str:
    """What of a type Parquet has no way to write."""
    if isinstance(kind, dict):
        return next(filter(None, map(_empty, kind.values())), "") if kind else "only empty objects"
    return _empty(kind[0]) if isinstance(kind, tuple) else ""


def _number(value: Any) -> Any:
    """A value with floats in it in the place of decimals."""
    if isinstance(value, dict):
        return {name: _number(each) for name, each in value.items()}
    if isinstance(value, list):
        return [*map(_number, value)]
    return float(value) if isinstance(value, Decimal) else value


def _stream(schema: Any, tables: list[Any]) -> bytes:
    arrow = pyarrow()[0]
    data = io.BytesIO()
    with arrow.ipc.new_stream(data, schema) as stream:
        for table in tables:
            stream.write_table(table)
    return data.getvalue()
