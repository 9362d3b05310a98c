"""Arrow: batches in, the same batches with columns appended out; Parquet, and what becomes of it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import InputError
from .rows import ROWS, SIZE, Options, Reader, Window, missing_column, pyarrow

ROW_GROUP = 2**22  # bytes in memory of a row group of the Parquet that is written
DEEPEST = 40  # lists and structs in one another: of a list Parquet makes two, and Arrow reads no more than 100
EXACT = 2**53  # up to which a float64 has every integer
WIDER = {("int", "int64"): "int64", ("int64", "int"): "int64", ("int", "float"): "float", ("float", "int"): "float"}


def arrow_type(kind: Any) -> Any:
    """The type of a column in Arrow: "string", "bool", "int" or "int64", "float", "float32"; None: no value says what.

    A tuple is a list of what it has; a dict a struct. Lists of a fixed size would be natural for vectors, but pyarrow
    before 24 cannot read a column of Parquet that has such lists and nulls.
    """
    arrow = pyarrow()[0]
    if isinstance(kind, dict):
        return arrow.struct([(name, arrow_type(each)) for name, each in kind.items()])
    if isinstance(kind, tuple):
        return arrow.list_(arrow_type(kind[0]))
    names = {"int": "int64", "float": "float64", None: "string"}  # text can hold all that comes
    return arrow.type_for_alias(names.get(kind, kind))


def widened(kind: Any, value: Any, deep: int = 0) -> Any:
    """What `arrow_type` takes for a column with values of `kind` and this one of JSON.

    Arrow's own inference makes 1 of true and of 1.5; here ValueError says that no type has both exactly.
    """
    if value is None:
        return kind
    if deep > DEEPEST:
        raise ValueError(f"more than {DEEPEST} lists and objects in one another")
    if isinstance(value, dict):
        if isinstance(kind, dict | None):
            kind = kind or {}
            return kind | {name: widened(kind.get(name), each, deep + 1) for name, each in value.items()}
        found = "an object"
    elif isinstance(value, list):
        if isinstance(kind, tuple | None):
            (element,) = kind or (None,)
            for each in value:
                element = widened(element, each, deep + 1)
            return (element,)
        found = "a list"
    else:
        found = {str: "string", bool: "bool", int: "int", float: "float"}[type(value)]
        if found == "int" and abs(value) > EXACT:
            found = "int64"
            if not -(2**63) <= value < 2**63:
                raise ValueError(f"an int64 does not hold {value!s:.80}")
        if kind in (None, found):
            return found
        if isinstance(kind, str) and (kind, found) in WIDER:
            return WIDER[kind, found]
    have = "an object" if isinstance(kind, dict) else "a list" if isinstance(kind, tuple) else kind
    raise ValueError(f"found {found} where {have} was")


class Parquet(Reader):
    """Lines are rows."""

    def __init__(self, path: Path | None, options: Options) -> None:
        arrow, parquet = pyarrow()
        if path is None:
            raise InputError("Parquet cannot be read from standard input; give a file")
        try:
            self.file = parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
            self.schema = self.file.schema_arrow
            self.columns: Sequence[str] = self.schema.names
        except (ValueError, arrow.ArrowException, OSError) as error:  # names may be not UTF-8
            raise self._broken(error, f"{path} cannot be read as Parquet") from None
        self.total: int = self.file.metadata.num_rows
        self.name, self.options = str(path), options

    def windows(self, place: int, line: int) -> Iterator[Window]:
        """As `Reader.windows`."""
        metadata = self.file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        first = begin = 0
        while begin < len(groups) and first + groups[begin].num_rows <= place:
            first, begin = first + groups[begin].num_rows, begin + 1
        widest = max((each.total_byte_size // max(1, each.num_rows) for each in groups[begin:]), default=0)
        rows = max(1, min(ROWS // 4, SIZE // 4 // max(1, widest)))
        batches: list[Any] = []
        try:
            for batch in self.file.iter_batches(rows, row_groups=[*range(begin, len(groups))], use_threads=False):
                batches.append(batch[max(0, place - first) :])
                first += len(batch)
                if sum(each.nbytes for each in batches) >= SIZE or sum(map(len, batches)) >= ROWS:
                    yield self._window(batches, first)
                    batches = []
        except (pyarrow()[0].ArrowException, OSError) as error:
            raise self._broken(error, f"{self.name} cannot be read on after row {first}") from None
        if batches:
            yield self._window(batches, first)

    def _broken(self, error: Exception, what: str) -> Exception:
        """What pyarrow raised, as ours where it is about the bytes; without a number of its own an OSError is."""
        return error if getattr(error, "errno", None) else InputError(f"{what}: {str(error).strip()}")

    def close(self) -> None:
        """As `Reader.close`."""
        self.file.close()

    def _window(self, batches: list[Any], last: int) -> Window:
        table = pyarrow()[0].Table.from_batches(batches)
        texts, errors = column_texts(table[self.options.column])
        lines = [(i, i) for i in range(last - len(table) + 1, last + 1)]
        return Window(lines, texts, errors, range(len(table)), table, last, last, last)

    def records(self, window: Window) -> Iterable[Any]:
        """As `Reader.records`: a value of each column, or what reading it raises."""
        return zip(*(_values(each) for each in window.table.columns), strict=True)

    def values(self, record: Any) -> dict[str, Any]:
        """As `Reader.values`."""
        for value in record:
            if isinstance(value, ValueError):
                raise value
        return dict(zip(self.columns, record, strict=True))


def column_texts(column: Any) -> tuple[list[Any], list[str]]:
    """The strings of a column, and what is wrong with each."""
    texts = _values(column)
    errors = [f"not UTF-8: {each}" if isinstance(each, ValueError) else "" for each in texts]
    return [None if error else text for text, error in zip(texts, errors, strict=True)], errors


def _values(column: Any) -> list[Any]:
    """What JSON has for the values of a column; a ValueError in the place of one that cannot be had."""
    try:
        return list(column.cast(_plain(column.type)).to_pylist())
    except (pyarrow()[0].ArrowException, ValueError, OverflowError) as error:
        if len(column) == 1:
            return [ValueError(str(error))]
        half = len(column) // 2
        return _values(column[:half]) + _values(column[half:])


def _plain(kind: Any) -> Any:
    """The type whose values JSON has and that says all that a type says; TypeError where there is none."""
    arrow, types = pyarrow()[0], pyarrow()[0].types
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_struct(kind) and len({each.name for each in kind}) == len(kind):
        return arrow.struct([each.with_type(_plain(each.type)) for each in kind])
    if types.is_fixed_size_list(kind):
        return arrow.list_(_plain(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        return (arrow.large_list if types.is_large_list(kind) else arrow.list_)(_plain(kind.value_type))
    if any(each(kind) for each in (types.is_decimal, types.is_timestamp, types.is_date, types.is_time)):
        return arrow.string()
    if types.is_float16(kind):  # whose values are NumPy's in older versions
        return arrow.float32()
    if is_text(kind) or any(
        each(kind) for each in (types.is_boolean, types.is_integer, types.is_floating, types.is_null)
    ):
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
    check_column(schema.names, column, name)
    kind = schema.field(column).type
    if not is_text(kind) and not pyarrow()[0].types.is_null(kind):
        raise InputError(f"column {column!r} of {name} is {kind}; expected strings")


def check_column(columns: Sequence[str], column: str, name: str) -> None:
    """InputError unless there is one column of that name."""
    if (count := list(columns).count(column)) != 1:
        raise InputError(f"{name} has {f'{count} columns {column!r}' if count else missing_column(column, columns)}")


def check_plain(schema: Any, name: str) -> None:
    """InputError where text cannot say all that a column's values say."""
    arrow = pyarrow()[0]
    for each in schema:
        try:
            arrow.nulls(1, each.type).cast(_plain(each.type)).to_pylist()
            zone = getattr(each.type, "tz", None)
            arrow.array([0]).cast(arrow.timestamp("s", zone)).cast("string")
        except (TypeError, arrow.ArrowException):  # noqa: PERF203
            raise InputError(
                f"column {each.name!r} of {name} is {each.type}, which only Parquet can hold; write Parquet"
            ) from None


def appended(schema: Any, added: dict[str, Any]) -> Any:
    """A schema with more columns."""
    for name, kind in added.items():
        schema = schema.append(pyarrow()[0].field(name, arrow_type(kind)))
    return schema


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
        arrow, parquet = pyarrow()
        self.appends = isinstance(reader, Parquet)
        self.codec, self.schema = "SNAPPY", arrow.schema([(name, arrow_type(kind)) for name, kind in kinds.items()])
        if isinstance(reader, Parquet):
            self.schema, metadata = reader.schema, reader.file.metadata
            if metadata.num_row_groups and metadata.num_columns:
                self.codec = metadata.row_group(0).column(0).compression.replace("UNCOMPRESSED", "NONE")
        self.schema = appended(self.schema, options.added)
        try:
            parquet.ParquetWriter(arrow.BufferOutputStream(), self.schema).close()
        except arrow.ArrowException as error:
            raise InputError(f"{reader.name} cannot become Parquet: {error}; write JSON lines") from None

    def header(self) -> bytes:
        """What stands before the rows."""
        return _stream(self.schema, [])

    def converted(self, window: Window) -> Any:
        """Rows as `encode` takes them; None for those that do not fit, whose errors go into the window."""
        return window.records if self.appends else self.reader.converted(window, self._fitting)

    def _fitting(self, record: Any) -> dict[str, Any]:
        row = self.reader.values(record)
        for name, value in row.items():
            try:
                kind = self.kinds.get(name)  # none where no row fits that has it
                if widened(kind, value) != kind:
                    raise ValueError(f"{value!r:.80} is no {kind}")  # noqa: TRY301
            except ValueError as error:  # noqa: PERF203
                raise ValueError(f"{name!r}: {error}") from None
        return row

    def encode(self, window: Window, rows: list[Any], added: list[dict[str, Any]]) -> bytes:
        """Rows as they are written."""
        arrow = pyarrow()[0]
        if self.appends:
            runs = [[i for _, i in run] for _, run in groupby(enumerate(rows), lambda each: each[1] - each[0])]
            columns = arrow.concat_tables([window.table.slice(run[0], len(run)) for run in runs]).columns
        else:
            columns = columns_of(self.kinds, rows)
        columns = [*columns, *columns_of(self.options.added, added)]
        try:
            return _stream(self.schema, [arrow.Table.from_arrays(columns, schema=self.schema)])
        except arrow.ArrowInvalid as error:  # nested too deep, which only rows show
            raise InputError(f"{self.reader.name} cannot become Parquet: {error}; write JSON lines") from None

    def finish(self, partial: Path, target: Path) -> None:
        """The whole output from what is written; it appears at once."""
        arrow, parquet = pyarrow()
        beside = target.with_name(target.name + ".new")
        try:
            with (
                arrow.OSFile(str(partial)) as file,
                atomic.create(beside) as out,
                parquet.ParquetWriter(out, self.schema, compression=self.codec) as writer,
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


def _stream(schema: Any, tables: list[Any]) -> Any:
    """Bytes, as Arrow holds them: no copy."""
    arrow = pyarrow()[0]
    data = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(data, schema) as stream:
        for table in tables:
            stream.write_table(table)
    return data.getvalue()
