"""Whole files: rows with a text in, the same rows with labels out; CSV, JSON lines, plain text or Parquet.

A file is read in windows of some thousand rows, so memory does not grow with it, and rows keep their order. After each
window what has been done is on disk: beside the output lie `OUTPUT.partial` with the rows so far and `OUTPUT.journal`,
which says how far the input has been read. The same call made again goes on from there.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.weights import weight_files
from ..errors import InputError
from ..pipelines import Pipeline
from ..settings import UNSET, check, choice
from ..tasks.text_classification import TextClassification
from .journal import PartialOutput
from .readers import READERS, Row, Values
from .writers import WRITERS

ON_ERROR = ("stop", "skip")
ROWS, CHARACTERS = 2048, 500_000  # a window ends with the row that reaches either
REMEMBERED, SHORT = 50_000, 500  # answers kept for texts that come again, of texts of at most so many characters

Progress = Callable[[int, int, int], None]  # read so far and in all, in bytes (Parquet: rows); texts of this run


@dataclass
class Summary:
    """What `classify_file` did: rows written, rows that went to the report, and how many of both an earlier run did."""

    rows: int
    bad: int
    resumed: int


def classify_file(
    pipe: Pipeline,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    column: str = "text",
    on_error: str = "stop",
    prefix: str = "",
    progress: Progress | None = None,
) -> Summary:
    r"""Classify the texts of a file. Formats go by suffix: .csv, .jsonl (.ndjson), .txt, .parquet (extra `files`).

    Each row is written with the columns `label` and `score`; or, if the task gives several, `labels`, a list of
    {"label", "score"} (in CSV as JSON). With `long_text="truncate"` the column `truncated` says what was cut. Equal
    texts are computed once; the results would be the same bits.

    Args:
        pipe: text classification, with the settings to use.
        source: file to read; plain text is one text a line.
        target: file to write. It appears when it is whole; until then see the module's description.
        column: the column that has the texts.
        on_error: what a row that cannot be read or classified does: "stop" the run, or "skip" it and write its line
            and the reason to `TARGET.errors.jsonl`.
        prefix: put before the names of the new columns.
        progress: called after each window.

    Raises:
        InputError: another task; a file, format or column that cannot be used; a bad row, with "stop"; what an
            interrupted run with another input, model or setting has left.
        MissingExtraError: Parquet without pyarrow.
        OSError: reading or writing failed; what has been done stays, and the same call goes on.

    Example:
        >>> import npdistil
        >>> from pathlib import Path
        >>> _ = Path("reviews.csv").write_text("text\nA joy.\nA mess.\n")
        >>> summary = classify_file(npdistil.pipeline("sentiment-analysis"), "reviews.csv", "labels.jsonl")
        >>> summary.rows
        2
        >>> Path("labels.jsonl").read_text().splitlines()[0]
        '{"text": "A joy.", "label": "POSITIVE", "score": 0.9...}'
    """
    source, target, task = Path(source), Path(target), pipe.processor
    check("on_error", choice(*ON_ERROR), on_error)
    if not isinstance(task, TextClassification):
        raise InputError(f"the task is {type(task).__name__}; files take text classification")
    if task.settings.combine == "none":
        raise InputError('combine="none" gives a list for each text; files take one answer a row')
    reader = _choose(source, READERS, "read")(source)
    if target.is_dir():
        raise InputError(f"{target} is a directory; expected the name of a file")
    if source.resolve() == target.resolve():
        raise InputError(f"{target} is the input; choose another name for the output")
    if reader.columns is not None and column not in reader.columns:
        raise InputError(f"{source} has no column {column!r}; it has {', '.join(reader.columns)}")
    new = {prefix + name: name for name in task.added_columns}
    if taken := [name for name in new if name in (reader.columns or ())]:
        raise InputError(f"{source} has a column {taken[0]!r} already; give a prefix for the new ones")
    writer = _choose(target, WRITERS, "write")(reader, new)
    answers = _Answers(pipe)
    with PartialOutput(target, _depends_on(pipe, source, column, prefix)) as output:
        state, texts = output.state, 0
        resumed, started = state.rows + state.bad, state.bytes > 0
        if started and not state.finishing:
            writer.start([], output.partial)
        for window in _windows(reader.rows(state.place, state.line), column):
            errors = {row.line: row.error or _text_error(row.values, column, new) for row in window}
            if started:
                errors |= {row.line: errors[row.line] or writer.refusal(row.values) for row in window}
            rows, good = [row for row in window if not errors[row.line]], []
            for row, answer in zip(rows, answers([row.values[column] for row in rows]), strict=True):
                if isinstance(answer, InputError):
                    errors[row.line] = str(answer).replace("text 0", "the text", 1)
                else:
                    good.append(row.values | dict(zip(new, task.added_values(answer), strict=True)))
            bad = [row for row in window if errors[row.line]]
            if bad and on_error == "stop":
                raise InputError(f"{source}, {_where(bad[0])}: {errors[bad[0].line]}")
            report = [{"line": row.line, "last_line": row.last_line, "error": errors[row.line]} for row in bad]
            head = writer.start(good, None) if good and not started else b""
            output.add(head + writer.encode(good) if good else b"", report, len(good), window[-1])
            started, texts = started or bool(good), texts + len(window)
            if progress:
                progress(window[-1].place, reader.total, texts)
        if not started and not state.finishing:
            output.add(writer.start([], None), [], 0, None)
        output.finish(writer)
        return Summary(state.rows, state.bad, resumed)


def _depends_on(pipe: Pipeline, source: Path, column: str, prefix: str) -> Values:
    """All that the output depends on."""
    model, status = pipe.model, source.stat()
    weights = [file.stat() for file in weight_files(model.checkpoint.directory)]
    settings = {name: v for name, v in vars(pipe.processor.settings).items() if v is not UNSET and name != "batch_size"}
    return {
        "input": [str(source.resolve()), status.st_size, status.st_mtime_ns],
        "model": [str(model.checkpoint.directory.resolve()), *([each.st_size, each.st_mtime_ns] for each in weights)],
        "engine": [model.engine, model.precision],
        "settings": settings | {"column": column, "prefix": prefix},
    }


def _choose(path: Path, known: dict[str, Any], verb: str) -> Any:
    kind = known.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: cannot {verb} files of this suffix; known are {', '.join(known)}")
    if verb == "read" and not path.is_file():
        raise InputError(f"{path} is not a file")
    return kind


def _windows(rows: Iterable[Row], column: str) -> Iterator[list[Row]]:
    window: list[Row] = []
    size = 0
    for row in rows:
        window.append(row)
        size += len(str(row.values.get(column, "")))
        if len(window) == ROWS or size >= CHARACTERS:
            yield window
            window, size = [], 0
    if window:
        yield window


def _text_error(values: Values, column: str, new: Iterable[str]) -> str:
    if column not in values:
        return f"no {column!r}; it has {', '.join(map(str, values))}"
    text = values[column]
    if not isinstance(text, str):
        return f"{column!r} is {'empty' if text is None else f'a {type(text).__name__}'}, not a text"
    taken = [name for name in new if name in values]
    return f"it has {taken[0]!r} already; give a prefix for the new ones" if taken else ""


def _where(row: Row) -> str:
    return f"line {row.line}" if row.line == row.last_line else f"lines {row.line} to {row.last_line}"


class _Answers:
    """Texts -> answers, or the error that a text is; each text that is remembered is computed once."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe = pipe
        self.known: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        fresh = [text for text in dict.fromkeys(texts) if text not in self.known]
        window = {text: self.known[text] for text in texts if text in self.known}
        window |= zip(fresh, self._compute(fresh), strict=True)
        for text in window:
            if len(text) <= SHORT:
                self.known[text] = window[text]
                self.known.move_to_end(text)
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)
        return [window[text] for text in texts]

    def _compute(self, texts: list[str]) -> list[Any]:
        try:
            return [*self.pipe(texts)]
        except InputError as error:  # of one of them; halving finds it
            if len(texts) == 1:
                return [error]
            half = len(texts) // 2
            return self._compute(texts[:half]) + self._compute(texts[half:])
