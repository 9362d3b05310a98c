"""Whole files: windows of some thousand rows come from a reader, and go to a writer with columns appended.

Nothing else of a row changes. Where input and output are the same format of text, each record keeps its own bytes and
gets cells or members behind them; Parquet stays Arrow's batches, which get columns; between formats a row is what JSON
writes of its values, and what a type cannot hold exactly is a bad row and never another value. After each window what
has been done is on disk: beside the output lie `OUTPUT.partial` with the rows so far and `OUTPUT.journal`, which says
how far the input has been read, and the same call made again goes on from there. Many files are so many outputs, one
after the other.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

from ..errors import InputError
from ..pipelines import Pipeline
from ..settings import check, choice, shown, spoken, string
from . import places
from .formats import format_of, reader_of, writer_of
from .frames import annotate_batches
from .journal import journal_of
from .rows import Options
from .run import Answers, Progress, Run, Summary

__all__ = ["Summary", "annotate_batches", "annotate_file"]


# Settings: how a file must be read or written for them to be of use, and what to say where it is not.
OF_USE: dict[str, tuple[Callable[[Options, Options], bool], str]] = {
    "delimiter": (
        lambda r, w: r.format == "csv" or (w.format == "csv" and w.delimiter == r.delimiter),
        "only CSV has one, and .tsv is written with tabs",
    ),
    "header": (lambda r, w: "csv" in (r.format, w.format), "only CSV can be without"),
    "encoding": (lambda r, w: r.format != "parquet", "Parquet says itself how its texts are encoded"),
    "prefix": (lambda r, w: w.format != "txt", "plain text has no names of columns"),
}


def annotate_file(
    pipe: Pipeline,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    column: str = "text",
    on_error: str = "stop",
    prefix: str = "",
    delimiter: str | None = None,
    encoding: str | None = None,
    header: bool = True,
    input_format: str | None = None,
    output_format: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    r"""Answer the texts of a file, or of many: the same rows with columns appended.

    Formats go by suffix: .csv, .tsv, .jsonl (.ndjson), .txt, .parquet (extra `files`), and the first five with .gz or
    .zst (extra `files`) behind. Classification adds `label` and `score`; or, if the task gives several, `labels`, a
    list of {"label", "score"}; with `long_text="truncate"` also `truncated`. Token classification adds `entities`,
    zero-shot classification `labels`, embedding `vector`. In CSV lists are written as JSON. A row without a text, or
    with blanks alone, has nulls there. A short text that comes again is computed once; the bits would be the same.

    Args:
        pipe: text, token or zero-shot classification, or embedding, with the settings to use.
        source: file to read, or "-" for standard input; plain text is one text a line. A directory stands for the
            files in it and below, but those whose names begin with "_" or "."; a pattern, as ``reviews/**/*.csv``, for
            the files that it matches.
        target: file to write, or "-" for standard output. A file appears when it is whole; until then see the module's
            description. For a directory or pattern the directory in which each file's output has its place and name.
        column: the column that has the texts.
        on_error: what a row that cannot be read or answered does: "stop" the run; "skip" it and write its line and the
            reason to `TARGET.errors.jsonl`; "null" does the same, but keeps the row, with nulls, where it can be read.
        prefix: put before the names of the new columns.
        delimiter: between the cells of CSV; by default a comma, in .tsv a tab.
        encoding: of text that is read, a name that Python knows; by default what a mark at its start says, or UTF-8.
            What is written is UTF-8.
        header: whether the first line of CSV names the columns; else they are called "1", "2" and so on, and CSV is
            written without.
        input_format: "csv", "jsonl.gz" and so on, where the name does not say it.
        output_format: as `input_format`; on standard output, and for many files, by default that of the input. Many
            files' outputs get it as suffix.
        progress: called after each window of rows, and between the batches that its texts are run in; for many files
            with bytes of all of them.

    Raises:
        InputError: another task; a file, format or column that cannot be used; a setting that these formats have no use
            for; a bad row, with "stop"; an input that changes meanwhile; what an interrupted run with another input,
            model or setting has left.
        MissingExtraError: Parquet without pyarrow.
        OSError: reading or writing failed; what has been done stays, and the same call goes on.

    Example:
        >>> import npdistil
        >>> from pathlib import Path
        >>> _ = Path("reviews.csv").write_text("text\nA joy.\nA mess.\n")
        >>> summary = annotate_file(npdistil.pipeline("sentiment-analysis"), "reviews.csv", "labels.jsonl")
        >>> summary.rows
        2
        >>> Path("labels.jsonl").read_text().splitlines()[0]
        '{"text": "A joy.", "label": "POSITIVE", "score": 0.9...}'
    """
    check("on_error", choice("stop", "skip", "null"), on_error)
    for name, place in (("source", source), ("target", target)):
        if not isinstance(place, str | os.PathLike) or not str(place) or "\0" in str(place):
            raise InputError(f"{name} is {shown(place)}; expected a path")
    for name, value in (("prefix", prefix), ("delimiter", delimiter), ("encoding", encoding)):
        check(name, string(), value, None)
    if encoding is not None:
        try:
            "a".encode(encoding)  # also says whether it is one of texts, which `codecs.lookup` does not
        except (LookupError, ValueError):
            found = f"{spoken('encoding', '')} is {encoding!r:.80}"
            raise InputError(f"{found}; expected a name that Python knows, as utf-8") from None
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise InputError(f"{spoken('delimiter', '')} is {delimiter!r:.80}; expected one character, and no quote")
    answers = Answers(pipe, prefix)

    def planned(
        path: Path | None, out: Path | None, written: str | None
    ) -> tuple[Path | None, Path | None, Options, Options]:
        given = format_of(path, input_format, "read")
        taken = given if out is None and written is None else format_of(out, written, "write")
        reading = Options(*given[:2], delimiter or given[2], column, answers.added, header, encoding)
        tab = taken[2] if taken[2] == "\t" else delimiter or ","
        return path, out, reading, replace(reading, format=taken[0], compression=taken[1], delimiter=tab)

    read, out = os.fspath(source), None if os.fspath(target) == "-" else Path(target)
    if several := places.is_many(read):
        if out is None:
            raise InputError(f"{read} may be many files, whose outputs go into a directory; name one")
        paths = places.pairs(read, out, output_format)
        plans = [planned(*each, output_format or input_format) for each in paths]
    else:
        plans = [planned(None if read == "-" else Path(read), out, output_format)]
    chosen = {"delimiter": delimiter, "header": not header, "encoding": encoding, "prefix": prefix}
    for name, (of_use, why) in OF_USE.items():
        if chosen[name] and not any(of_use(*how) for _, _, *how in plans):
            raise InputError(f"{name} is of no use from {source} to {target}: {why}")
    sizes = [path.stat().st_size for path, *_ in plans if path] if several else []
    done: list[Summary] = []

    def so_far(read: int, total: int, texts: int) -> None:
        """Of many files: bytes of all of them."""
        if progress:
            begun = sum(sizes[: len(done)]) + sizes[len(done)] * read // max(1, total)
            progress(begun, sum(sizes), texts)

    for path, out, reading, writing in plans:
        places.check_place(path, out, one_of_many=several)
        if out is None and writing.format == "parquet":
            raise InputError("Parquet cannot be written to standard output; give a file")
        with ExitStack() as files:
            files.callback(answers.workers.stop)
            reader = reader_of(path, reading, files)
            answers.check_free(reader.columns or (), reader.name)
            run = Run(answers, reader, writer_of(reader, writing), on_error)
            done.append(run.into(out, so_far if several else progress, one_of_many=several))
    for _, made, *_ in plans:
        if made and several:
            journal_of(made).unlink(missing_ok=True)
    return Summary(*(sum(getattr(each, field.name) for each in done) for field in fields(Summary)))
