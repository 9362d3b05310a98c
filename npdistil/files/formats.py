"""Which format a file has, and what reads and writes it."""

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..settings import spoken
from .arrow import Parquet, ParquetWriter, check_plain, check_text_column, widened
from .rows import Options, Reader, check_column
from .text import Csv, Json, Plain, TextReader, TextWriter, exact

FORMATS = {"csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "txt": "txt", "parquet": "parquet"}
COMPRESSIONS = ("gz", "zst")
READERS: dict[str, type[TextReader] | type[Parquet]] = {"csv": Csv, "jsonl": Json, "txt": Plain, "parquet": Parquet}
LABELS = ({"label": "string", "score": "float"},)  # the type of several labels


def format_of(path: Path | None, given: str | None, verb: str) -> tuple[str, str, str]:
    """Format, compression and delimiter: as they are given, or by the name of what one will "read" or "write"."""
    if given is None and path is None:
        raise InputError(f'"-" has no suffix that says the format; {spoken("input_format")} does, as csv')
    stem, suffix, compression = _split(f".{given}" if given else path.name if path else "")
    if not suffix or (compression and suffix == "parquet") or (given and stem):
        what = "of this suffix" if given or suffix or "." in stem else "without a suffix"
        option = f"; {spoken('input_format' if verb == 'read' else 'output_format')} says what has another name" * (
            not given
        )
        raise InputError(
            f"{given or path}: cannot {verb} files {what}; known are .{', .'.join(FORMATS)}, and but for the "
            f"last the same with .gz or .zst{option}"
        )
    return FORMATS[suffix], compression, "\t" if suffix == "tsv" else ","


def renamed(name: str, suffix: str) -> str:
    """A file's name with another suffix in the place of those that say its format."""
    return f"{_split(name)[0]}.{suffix}"


def _split(name: str) -> tuple[str, str, str]:
    """A file's name without the suffixes of its format and compression, and these; "" where it has none."""
    words = name.split(".")
    compression = words.pop().lower() if len(words) > 1 and words[-1].lower() in COMPRESSIONS else ""
    suffix = words.pop().lower() if len(words) > 1 and words[-1].lower() in FORMATS else ""
    return ".".join(words), suffix, compression


def reader_of(path: Path | None, options: Options, files: ExitStack) -> Reader:
    """What reads a format; what it opens is closed with `files`. InputError where there is no column of texts."""
    reader = READERS[options.format](path, options, files)
    if isinstance(reader, Parquet):
        check_text_column(reader.schema, options.column, reader.name)
    elif reader.columns is not None:
        check_column(reader.columns, options.column, reader.name, _other_delimiter(reader))
    return reader


def _other_delimiter(reader: Reader) -> str:
    """What to say where a column's name looks like several."""
    names = "".join(reader.columns or ()) if isinstance(reader, Csv) else ""
    other = next((each for each in ";\t|," if each in names), "")
    return f"; {spoken('delimiter')} says what stands between cells, where it is {other!r}" * bool(other)


def writer_of(reader: Reader, options: Options) -> TextWriter | ParquetWriter:
    """What writes a format. InputError where it cannot hold what the reader has, or what the task answers."""
    columns, to_parquet = reader.columns, options.format == "parquet"
    kinds = dict.fromkeys(columns or (), "string")
    if columns is None and options.format in ("csv", "parquet"):
        kinds = _kinds(reader, to_parquet)
    if isinstance(reader, Parquet) and options.format in ("csv", "jsonl"):
        check_plain(reader.schema, reader.name)
    if options.format == "txt" and next(iter(options.added.values())) not in ("string", LABELS):
        raise InputError("plain text takes labels alone; write CSV, JSON lines or Parquet")
    writer = ParquetWriter(reader, options, kinds) if to_parquet else TextWriter(reader, options, [*kinds])
    if columns and len(kinds) < len(columns) and not writer.appends:
        twice = next(name for name in kinds if [*columns].count(name) > 1)
        raise InputError(f"{reader.name} has two columns {twice!r}")
    return writer


def _kinds(reader: Reader, typed: bool) -> dict[str, Any]:
    """Names of a JSON file's columns and their types, from a first pass over all of it."""
    if reader.path is None:
        raise InputError(
            "a table's columns must be known before its first row; give a file, or write JSON lines where JSON comes "
            "from standard input"
        )
    found: dict[str, Any] = {}
    with ExitStack() as files:
        first = Json(reader.path, reader.options, files)
        for row in (row for window in first.windows(0, 0) for row in window if row.value is not None):
            with suppress(ValueError, RecursionError):  # a bad row is left out, as will be said when it comes
                members = first.json(row)
                values = exact(members) if typed else members
                found |= {name: widened(found.get(name), value) if typed else None for name, value in values.items()}
    return found
