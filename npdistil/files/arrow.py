"""Arrow: batches in, the same batches with columns appended out; Parquet, and what becomes of it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import InputError
from .rows import ROWS, SIZE, Options, Reader, Row, check_column, dumps, pyarrow
from .text import exact

ROW_GROUP = 2**22  # bytes in memory of a row group of the Parquet that is written
DEEPEST = 40  # lists and structs in one another: of a list Parquet makes two, and Arrow reads no more than 100
EXACT = 2**53  # up to which a float64 has every integer
FOUND = {str: "string", bool: "bool", int: "int", float: "float", dict: "an object", list: "a list"}
WIDER = {frozenset(("int", "int64")): "int64", frozenset(("int", "float")): "float"}


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


def schema_of(kinds: dict[str, Any]) -> Any:
    """A schema with these columns."""
    return pyarrow()[0].schema([(name, arrow_type(kind)) for name, kind in kinds.items()])


def appended(schema: Any, kinds: dict[str, Any]) -> Any:
    """A schema with more columns; its metadata stays."""
    return pyarrow()[0].schema([*schema, *schema_of(kinds)], metadata=schema.metadata)


def columns_of(kinds: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[Any]:
    """An array for each column: of the values that the rows have there."""
    library = pyarrow()[0]
    return [library.array([row.get(name) for row in rows], arrow_type(kind)) for name, kind in kinds.items()]


def widened(kind: Any, value: Any, deep: int = 0) -> Any:
    """What `arrow_type` takes for a column with values of `kind` and this one of JSON.

    Arrow's own inference makes 1 of true and of 1.5; here ValueError says that no type has both exactly.
    """
    if value is None:
        return kind
    if deep > DEEPEST:
        raise ValueError(f"more than {DEEPEST} lists and objects in one another")
    if isinstance(value, dict) and isinstance(kind, dict | None):
        kind = kind or {}
        return kind | {name: widened(kind.get(name), each, deep + 1) for name, each in value.items()}
    if isinstance(value, list) and isinstance(kind, tuple | None):
        (element,) = kind or (None,)
        for each in value:
            element = widened(element, each, deep + 1)
        return (element,)
    found = FOUND[type(value)]
    if found == "int" and abs(value) > EXACT:
        found = "int64"
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"an int64 does not hold {value!s:.80}")
    have = "an object" if isinstance(kind, dict) else "a list" if isinstance(kind, tuple) else kind
    if have in (None, found):
        return found
    if wider := WIDER.get(frozenset((have, found))):
        return wider
    raise ValueError(f"found {found} where {have} was")


class Parquet(Reader):
    """Lines are rows, which lie in `table`, a window's."""

    def __init__(self, path: Path | None, options: Options, files: ExitStack) -> None:
        super().__init__(path, options)
        arrow, parquet = pyarrow()
        if path is None:
            raise InputError("Parquet cannot be read from standard input; give a file")
        try:
            self.file = parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
            files.callback(self.file.close)
            self.schema = self.file.schema_arrow
            self.columns: Sequence[str] = self.schema.names
        except (ValueError, arrow.ArrowException, OSError) as error:  # names may be not UTF-8
            raise _broken(error, f"{path} cannot be read as Parquet") from None
        self.total: int = self.file.metadata.num_rows

    def windows(self, place: int, line: int) -> Iterator[list[Row]]:
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
            raise _broken(error, f"{self.name} cannot be read on after row {first}") from None
        if batches:
            yield self._window(batches, first)

    def _window(self, batches: list[Any], last: int) -> list[Row]:
        self.read, self.table = last, pyarrow()[0].Table.from_batches(batches)
        self.values: list[list[Any]] = []  # of each column; read when the first row asks
        texts = zip(*column_texts(self.table[self.options.column]), strict=True)
        start = last - len(self.table)
        return [Row(i, text, error, (n := start + i + 1, n), n) for i, (text, error) in enumerate(texts)]

    def json(self, row: Row) -> dict[str, str]:
        self.values = self.values or [*map(_values, self.table.columns)]
        found = [column[row.value] for column in self.values]
        if wrong := next((each for each in found if isinstance(each, ValueError)), None):
            raise wrong
        return dict(zip(self.columns, map(dumps, found), strict=True))


def _broken(error: Exception, what: str) -> Exception:
    """What pyarrow raised, as ours where it is about the bytes; without a number of its own an OSError is."""
    return error if getattr(error, "errno", None) else InputError(f"{what}: {str(error).strip()}")


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

    def is_one_of(*names: str) -> bool:
        return any(getattr(types, f"is_{name}")(kind) for name in names)

    if is_one_of("dictionary"):
        return _plain(kind.value_type)
    if is_one_of("struct") and len({each.name for each in kind}) == len(kind):
        return arrow.struct([each.with_type(_plain(each.type)) for each in kind])
    if is_one_of("fixed_size_list"):
        return arrow.list_(_plain(kind.value_type), kind.list_size)
    if is_one_of("list", "large_list"):
        return (arrow.list_ if is_one_of("list") else arrow.large_list)(_plain(kind.value_type))
    if is_one_of("decimal", "timestamp", "date", "time"):
        return arrow.string()
    if is_one_of("float16"):  # whose values are NumPy's in older versions
        return arrow.float32()
    if is_one_of("string", "large_string", "string_view", "boolean", "integer", "floating", "null"):
        return kind
    raise TypeError(kind)


def check_text_column(schema: Any, column: str, name: str) -> None:
    """InputError unless a schema has one column of that name, of strings."""
    check_column(schema.names, column, name)
    types, kind = pyarrow()[0].types, schema.field(column).type
    value = kind.value_type if types.is_dictionary(kind) else kind
    if not any(each(value) for each in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)):
        raise InputError(f"column {column!r} of {name} is {kind}; expected strings")


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


class ParquetWriter:
    """Windows are streams of Arrow's, one after the other; at the end they become Parquet.

    Where the input has no types, `kinds` has them.
    """

    def __init__(self, reader: Reader, options: Options, kinds: dict[str, Any]) -> None:
        self.reader, self.options, self.kinds = reader, options, kinds
        arrow, parquet = pyarrow()
        self.codec, own, self.convert, self.appends = "SNAPPY", schema_of(kinds), self._fitting, False
        if isinstance(reader, Parquet):
            own, self.convert, self.appends = reader.schema, lambda row: (reader.table, row.value), True
            metadata = reader.file.metadata
            if metadata.num_row_groups and metadata.num_columns:
                self.codec = metadata.row_group(0).column(0).compression.replace("UNCOMPRESSED", "NONE")
        self.schema = appended(own, options.added)
        try:
            parquet.ParquetWriter(arrow.BufferOutputStream(), self.schema).close()
        except arrow.ArrowException as error:
            raise self._refused(error) from None

    def _refused(self, error: Exception) -> InputError:
        return InputError(f"{self.reader.name} cannot become Parquet: {error}; write JSON lines")

    def header(self) -> bytes:
        return b""  # a stream of Arrow has its own

    def _fitting(self, row: Row) -> Any:
        values = exact(self.reader.json(row))
        for name, value in values.items():
            try:
                kind = self.kinds.get(name)  # none where no row fits that has it
                if widened(kind, value) != kind:
                    raise ValueError(f"{value!r:.80} is no {kind}")  # noqa: TRY301
            except ValueError as error:  # noqa: PERF203
                raise ValueError(f"{name!r}: {error}") from None
        return values

    def encode(self, rows: Sequence[Any], added: Sequence[dict[str, Any]]) -> Any:
        arrow = pyarrow()[0]
        if isinstance(self.reader, Parquet):
            table = rows[0][0]  # of this window; the reader may be at the next one
            runs = [[i for _, (_, i) in run] for _, run in groupby(enumerate(rows), lambda each: each[1][1] - each[0])]
            columns = arrow.concat_tables([table.slice(run[0], len(run)) for run in runs]).columns
        else:
            columns = columns_of(self.kinds, rows)
        columns = [*columns, *columns_of(self.options.added, added)]
        data = arrow.BufferOutputStream()
        try:
            with arrow.ipc.new_stream(data, self.schema) as stream:
                stream.write_table(arrow.Table.from_arrays(columns, schema=self.schema))
        except arrow.ArrowInvalid as error:  # nested too deep, which only rows show
            raise self._refused(error) from None
        return data.getvalue()  # as Arrow holds it: no copy

    def finish(self, partial: Path, target: Path) -> None:
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
