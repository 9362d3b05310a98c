"""What a run does with each window of rows."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..batch import batches_of
from ..errors import InputError
from ..model import Model
from ..pipelines import Pipeline
from ..settings import UNSET, spoken
from ..text import is_empty
from ..workers import Workers
from .arrow import ParquetWriter
from .journal import Output, PartialOutput, Report, where
from .rows import Reader, Row
from .text import TextWriter

REMEMBERED, SHORT = 30_000, 500  # answers kept for texts that come again, of texts of at most so many characters

Progress = Callable[[int, int, int], None]  # read so far and in all, in bytes (Parquet: rows); texts of this run
Told = Callable[[float, int], None]  # the part of a window that is done, and the texts answered so far
Answer = tuple[dict[str, Any], str]  # the new columns' values, and what is wrong, or ""


class BadRowError(InputError):
    """A row that cannot be read or answered, where that stops the run."""


@dataclass
class Summary:
    """What `annotate_file` did.

    Attributes:
        rows: that were written.
        bad: rows in the report.
        resumed: how many of both an earlier run did.
        empty: rows written without an answer, as they have no text.
        files: that were written.
    """

    rows: int
    bad: int
    resumed: int
    empty: int = 0
    files: int = 1


class Answers:
    """Texts -> the new columns' values, and what is wrong with a text; each that is remembered is computed once."""

    def __init__(self, pipe: Pipeline, prefix: str) -> None:
        self.pipe, self.prefix, task = pipe, prefix, pipe.processor
        if not task.added_columns:
            raise InputError(
                f"the task is {type(task).__name__}, as it is set; rows take text classification, token "
                "classification, zero-shot classification or embedding, and one answer each"
            )
        self.added = {prefix + name: kind for name, kind in task.added_columns.items()}
        self.known: OrderedDict[str, Any] = OrderedDict()
        self.longest = 0 if ("float32",) in self.added.values() else SHORT  # no vector is remembered
        self.nothing = dict.fromkeys(self.added), ""
        self.texts = 0  # that were answered
        self.workers = Workers(pipe.model)

    def __call__(self, texts: Sequence[str | None]) -> tuple[list[dict[str, Any]], list[str]]:
        """Of each text, nulls where there is nothing to answer; errors are "" where all is well."""
        try:
            return self.begun(texts)()
        finally:
            self.workers.stop()

    def begun(self, texts: Sequence[str | None]) -> Callable[..., tuple[list[dict[str, Any]], list[str]]]:
        """What gives the same when it is called, with a `Told` or without: it may be computed in the meantime."""
        wanted = [text for text in dict.fromkeys(texts) if text is not None and not is_empty(text)]
        found = {text: self.known[text] for text in wanted if text in self.known}
        fresh = [text for text in wanted if text not in found]
        batches = batches_of(fresh, self.pipe.processor.settings.batch_size, self.pipe.model.threads)
        computed = self.workers.begin(self._compute, batches)

        def ended(told: Told | None = None) -> tuple[list[dict[str, Any]], list[str]]:
            done = 0
            for batch, answers in zip(batches, computed, strict=True):
                if told and done:
                    told(done / len(fresh), self.texts + len(texts) * done // len(fresh))
                found.update(zip(batch, answers, strict=True))
                done += len(batch)
            self.texts += len(texts)
            for text, answer in found.items():
                if len(text) <= self.longest:
                    self.known[text] = answer
                    self.known.move_to_end(text)
            while len(self.known) > REMEMBERED:
                self.known.popitem(last=False)
            pairs = [self.nothing if text is None else found.get(text, self.nothing) for text in texts]
            return [values for values, _ in pairs], [error for _, error in pairs]

        return ended

    def check_free(self, columns: Iterable[Any], name: str) -> None:
        """InputError where there is a column of a new one's name."""
        if taken := [each for each in columns if each in self.added]:
            raise InputError(f"{name} has a column {taken[0]!r} already; give the new ones a {spoken('prefix')}")

    def _compute(self, model: Model, texts: list[str]) -> list[Answer]:
        pipe, task = copy(self.pipe), self.pipe.processor
        pipe.model = model
        try:
            answers = pipe(texts)
            return [(dict(zip(self.added, task.added_values(each), strict=True)), "") for each in answers]
        except InputError as error:  # of one of them; halving finds it
            if len(texts) == 1:
                return [(self.nothing[0], str(error).replace("text 0", "the text", 1))]
            half = len(texts) // 2
            return self._compute(model, texts[:half]) + self._compute(model, texts[half:])


@dataclass
class Begun:
    """A window whose answers may be under way.

    Attributes:
        window: its rows, as they were read.
        rows: what the output's format makes of each; None: nothing.
        errors: what is wrong with each, or "".
        texts: those to answer.
        answers: as `Answers.begun`.
        read: how much of the input has been read with it.
    """

    window: list[Row]
    rows: list[Any]
    errors: list[str]
    texts: list[str | None]
    answers: Callable[..., tuple[list[dict[str, Any]], list[str]]]
    read: int


class Run:
    """Rows of a reader, with answers, to a writer."""

    def __init__(self, answers: Answers, reader: Reader, writer: ParquetWriter | TextWriter, on_error: str) -> None:
        self.answers, self.reader, self.writer, self.on_error = answers, reader, writer, on_error
        self.empty = 0  # rows without a text

    def into(self, out: Path | None, progress: Progress | None, *, one_of_many: bool) -> Summary:
        """All of it into a file, or to standard output."""
        reader, before = self.reader, _state_of(self.reader.path)
        with PartialOutput(out, self._depends_on(), one_of_many) if out else nullcontext(Output(reader.name)) as output:
            done = output.state
            resumed, self.empty = done.rows + done.bad, done.empty
            header = b"" if done.bytes or done.finishing else self.writer.header()
            read = None if resumed else 0  # so far
            for each in self._begun(() if done.finishing else reader.windows(done.place, done.line)):
                before_it = each.read if read is None else read  # nobody counted what an earlier run has read
                read, last = each.read, each.window[-1]

                def told(part: float, texts: int, start: int = before_it, stop: int = each.read) -> None:
                    if progress:
                        progress(int(start + (stop - start) * part), reader.total, texts)

                rows, report, count = self._answered(each, told)
                done.empty = self.empty
                output.add(header + rows if header else rows, report, count, last.place, last.lines[1])
                header = b""
                told(1, self.answers.texts)
                del each, rows  # before the next are read
            if header:  # and no row
                output.add(header, [], 0, done.place, done.line)
            if _state_of(reader.path) != before:
                raise InputError(f"{reader.path} has changed while it was read; run this again when it is whole")
            output.finish(self.writer.finish)
        return Summary(done.rows, done.bad, resumed, self.empty)

    def _begun(self, windows: Iterable[list[Row]]) -> Iterator[Begun]:
        """Windows; where workers are at one the next is begun before it is given, unless that is standard input's."""
        left, ready = iter(windows), list[Begun]()
        while True:
            problem = None
            try:
                window = next(left, None)
            except Exception as error:  # noqa: BLE001 - what was read before it is written first
                window, problem = None, error
            if window:
                ready.append(self._begin(window))
            if not window or len(ready) > (self.answers.workers.busy and self.reader.path is not None):
                yield from ready[:1]
                del ready[:1]
            if problem:
                raise problem
            if not window:
                return

    def _begin(self, window: list[Row]) -> Begun:
        rows, errors = [], []
        for row in window:
            made, error = None, row.error
            try:
                made = None if row.value is None else self.writer.convert(row)
            except (ValueError, RecursionError) as problem:  # the output's format cannot hold it
                error = str(problem)
            rows.append(made)
            errors.append(error)
        texts = [None if error else row.text for row, error in zip(window, errors, strict=True)]
        return Begun(window, rows, errors, texts, self.answers.begun(texts), self.reader.read)

    def _answered(self, begun: Begun, told: Told) -> tuple[bytes, Report, int]:
        """A window's rows as they are written, its report, and how many rows were kept."""
        window, rows, texts = begun.window, begun.rows, begun.texts
        values, problems = begun.answers(told)
        errors = [error or problem for error, problem in zip(begun.errors, problems, strict=True)]
        bad = [i for i, error in enumerate(errors) if error]
        if bad and self.on_error == "stop":
            place = f"{self.reader.name}, {where(*window[bad[0]].lines)}"
            raise BadRowError(f"{place}: {errors[bad[0]]}; {spoken('on_error')} skip goes on without such rows")
        kept = [i for i, error in enumerate(errors) if not error or (self.on_error == "null" and rows[i] is not None)]
        self.empty += sum(not errors[i] and is_empty(texts[i] or "") for i in kept)
        report = [{"line": window[i].lines[0], "last_line": window[i].lines[1], "error": errors[i]} for i in bad]
        data = self.writer.encode([rows[i] for i in kept], [values[i] for i in kept]) if kept else b""
        return data, report, len(kept)

    def _depends_on(self) -> dict[str, Any]:
        """All that the output depends on."""
        pipe, options, path = self.answers.pipe, self.reader.options, self.reader.path
        given = {name: value for name, value in vars(pipe.processor.settings).items() if value is not UNSET}
        settings = {name: repr(value) for name, value in given.items() if name != "batch_size"}
        rows = {name: getattr(options, name) for name in ("column", "delimiter", "header", "encoding")}
        written = self.writer.options
        rows |= {"prefix": self.answers.prefix, "on_error": self.on_error == "null"}
        rows |= {"input_format": options.format + options.compression}
        rows |= {"output_format": written.format + written.compression}
        return {
            # What came from standard input is gone; no other run can go on.
            "input": [str(path.resolve()), _digest(path)] if path else os.urandom(16).hex(),
            "model": pipe.model.checkpoint.fingerprint,
            "engine": [pipe.model.engine, pipe.model.precision],
            "task": pipe.task,
            "settings": settings,
            "options": rows,
        }


def _state_of(path: Path | None) -> tuple[int, int] | None:
    return (path.stat().st_size, path.stat().st_mtime_ns) if path else None


def _digest(path: Path) -> str:
    found = hashlib.blake2b()
    with path.open("rb") as file:
        while some := file.read(2**20):
            found.update(some)
    return found.hexdigest()
