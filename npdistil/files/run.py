"""What a run does with each window of rows."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..batch import MOST_ITEMS
from ..errors import InputError
from ..pipelines import Pipeline
from ..settings import UNSET
from ..text import is_empty
from .arrow import ParquetWriter
from .journal import PartialOutput, Stream, where
from .rows import Reader, Window
from .writers import TextWriter

REMEMBERED, SHORT = 30_000, 500  # answers kept for texts that come again, of texts of at most so many characters

Progress = Callable[[int, int, int], None]  # read so far and in all, in bytes (Parquet: rows); texts of this run


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
        self.pipe, task = pipe, pipe.processor
        if not task.added_columns:
            raise InputError(
                f"the task is {type(task).__name__}, as it is set; rows take text classification, token "
                "classification, zero-shot classification or embedding, and one answer each"
            )
        self.added = {prefix + name: kind for name, kind in task.added_columns.items()}
        self.known: OrderedDict[str, Any] = OrderedDict()
        self.nothing = dict.fromkeys(self.added), ""
        self.texts = 0  # that were answered

    def __call__(
        self, texts: Sequence[str | None], told: Callable[[float, int], None] | None = None
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Of each text, nulls where there is nothing to answer; errors are "" where all is well.

        `told` is called between batches, with the part that is done and the texts answered so far.
        """
        wanted = [text for text in dict.fromkeys(texts) if text is not None and not is_empty(text)]
        fresh = [text for text in wanted if text not in self.known]
        found = {text: self.known[text] for text in wanted if text in self.known}
        size = min(self.pipe.processor.settings.batch_size, MOST_ITEMS)
        for i in range(0, len(fresh), size):
            if told and i:
                told(i / len(fresh), self.texts + len(texts) * i // len(fresh))
            some = fresh[i : i + size]
            found |= zip(some, self._compute(some), strict=True)
        self.texts += len(texts)
        for text, answer in found.items():
            if len(text) <= SHORT and not isinstance(next(iter(answer[0].values())), np.ndarray):
                self.known[text] = answer
                self.known.move_to_end(text)
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)
        pairs = [found.get(text, self.nothing) if text is not None else self.nothing for text in texts]
        return [values for values, _ in pairs], [error for _, error in pairs]

    def check_free(self, columns: Sequence[str], name: str) -> None:
        """InputError where there is a column of a new one's name."""
        if taken := [each for each in self.added if each in columns]:
            raise InputError(f"{name} has a column {taken[0]!r} already; give the new ones a prefix")

    def _compute(self, texts: list[str]) -> list[tuple[dict[str, Any], str]]:
        try:
            task, answers = self.pipe.processor, self.pipe(texts)
            return [(dict(zip(self.added, task.added_values(each), strict=True)), "") for each in answers]
        except InputError as error:  # of one of them; halving finds it
            if len(texts) == 1:
                return [(self.nothing[0], str(error).replace("text 0", "the text", 1))]
            half = len(texts) // 2
            return self._compute(texts[:half]) + self._compute(texts[half:])


class Run:
    """Rows of a reader, with answers, to a writer."""

    def __init__(
        self, answers: Answers, reader: Reader, writer: ParquetWriter | TextWriter, path: Path | None, on_error: str
    ) -> None:
        self.answers, self.reader, self.writer, self.path, self.on_error = answers, reader, writer, path, on_error
        self.empty = 0

    def into(self, out: Path | None, progress: Progress | None, *, one_of_many: bool) -> Summary:
        """All of it into a file, or to standard output."""
        before = _state_of(self.path)
        with (
            PartialOutput(out, self._depends_on(), one_of_many=one_of_many)
            if out
            else nullcontext(Stream(self.reader.name))
        ) as output:
            done = output.state
            resumed = done.rows + done.bad
            if not (done.bytes or done.finishing):
                output.add(self.writer.header(), [], 0, None)
            read = None if resumed else 0  # so far
            for window in () if done.finishing else self.reader.windows(done.place, done.line):
                begun = window.read if read is None else read  # nobody counted what an earlier run has read

                def told(part: float, texts: int, begun: int = begun, end: int = window.read) -> None:
                    if progress:
                        progress(int(begun + (end - begun) * part), self.reader.total, texts)

                output.add(*self._answered(window, told), window)
                told(1, self.answers.texts)
                read = window.read
            if _state_of(self.path) != before:
                raise InputError(f"{self.path} has changed while it was read; run this again when it is whole")
            output.finish(self.writer.finish)
        return Summary(done.rows, done.bad, resumed, self.empty)

    def _answered(self, window: Window, told: Callable[[float, int], None]) -> tuple[bytes, list[dict[str, Any]], int]:
        """A window's rows as they are written, its report, and how many rows were kept."""
        rows = self.writer.converted(window)
        texts = [None if error else text for text, error in zip(window.texts, window.errors, strict=True)]
        values, problems = self.answers(texts, told)
        errors = [error or problem for error, problem in zip(window.errors, problems, strict=True)]
        bad = [i for i, error in enumerate(errors) if error]
        if bad and self.on_error == "stop":
            raise InputError(f"{self.reader.name}, {where(*window.lines[bad[0]])}: {errors[bad[0]]}")
        kept = [i for i, error in enumerate(errors) if not error or (self.on_error == "null" and rows[i] is not None)]
        self.empty += sum(not errors[i] and is_empty(texts[i] or "") for i in kept)
        report = [{"line": window.lines[i][0], "last_line": window.lines[i][1], "error": errors[i]} for i in bad]
        data = self.writer.encode(window, [rows[i] for i in kept], [values[i] for i in kept]) if kept else b""
        return data, report, len(kept)

    def _depends_on(self) -> dict[str, Any]:
        """All that the output depends on."""
        pipe, options = self.answers.pipe, self.reader.options
        settings = {
            name: repr(v)
            for name, v in vars(pipe.processor.settings).items()
            if v is not UNSET and name != "batch_size"
        }
        read = [options.column, options.added, options.delimiter, options.header, options.encoding]
        return {
            # What came from standard input is gone; no other run can go on.
            "input": [str(self.path.resolve()), _digest(self.path)] if self.path else os.urandom(16).hex(),
            "model": pipe.model.checkpoint.fingerprint,
            "engine": [pipe.model.engine, pipe.model.precision],
            "settings": [pipe.task, settings, read, self.on_error == "null"],
        }


def _state_of(path: Path | None) -> tuple[int, int] | None:
    return (path.stat().st_size, path.stat().st_mtime_ns) if path else None


def _digest(path: Path) -> str:
    found = hashlib.blake2b()
    with path.open("rb") as file:
        while some := file.read(2**20):
            found.update(some)
    return found.hexdigest()
