"""`npdistil classify`, `ner`, `qa` and so on: a task on texts, or on the rows of a file."""

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ..batch import chunks
from ..errors import InputError
from ..pipelines import Pipeline, task_type
from ..settings import Kind
from ..tasks.base import Task
from ..text import is_empty
from . import texts_of
from .options import add_model, add_settings, add_texts, examples, loaded, progress_bar, read_text, settings_of, ticking

Result: TypeAlias = tuple[str, Any]  # a text, and the answer to it
TASK_MODEL_HELP = "directory or name on the Hugging Face Hub of a model that was made for this task"
FILES_HELP = """CSV, JSON lines, plain text or Parquet (pip install "npdistil[files]"), by suffix: .csv .tsv .jsonl .txt
.parquet, text with .gz or .zst behind too. A run that was interrupted goes on when the same command is given again. A
directory or a pattern in quotes ('reviews/*.parquet') is many files; --output is then the directory for theirs."""
ON_FILES = ("classify", "ner", "zero-shot", "embed")
FILE_OPTIONS = ("output", "column", "on_error", "prefix", "delimiter", "encoding", "input_format", "output_format")


class Command(NamedTuple):
    """A command for a task."""

    task: str  # of `pipelines.TASKS`
    texts: str
    examples: tuple[str, ...]
    defaults: dict[str, Any] = {}  # where they differ from the task's  # noqa: RUF012 - never changed
    left_out: tuple[str, ...] = ()  # settings for which a line of text is of no use


COMMANDS = {
    "classify": Command(
        "text-classification",
        "texts",
        (
            'npdistil classify "I like you. I love you."',
            "npdistil classify --top-k 0 --format json 'Not bad at all.'",
            "npdistil classify --format jsonl < reviews.txt > labels.jsonl",
            "npdistil classify --model ./my-distilbert 'one text' 'another'",
            "npdistil classify --input reviews.csv --column review --output scored.csv",
        ),
    ),
    "ner": Command(
        "token-classification",
        "texts",
        (
            "npdistil ner --model ./my-ner 'Sarah lives in London.'",
            "npdistil ner --model ./my-ner --format jsonl < texts.txt > entities.jsonl",
        ),
        {"aggregation_strategy": "simple"},
        ("is_split_into_words", "delimiter"),
    ),
    "qa": Command(
        "question-answering",
        "questions",
        (
            "npdistil qa --model ./my-qa --context 'Sarah lives in London.' 'Who lives in London?'",
            "npdistil qa --model ./my-qa --context-file article.txt < questions.txt",
        ),
    ),
    "fill-mask": Command(
        "fill-mask",
        "texts with [MASK], or what the tokenizer calls it",
        ("npdistil fill-mask --model distilbert-base-uncased 'It was a [MASK] film.'",),
    ),
    "zero-shot": Command(
        "zero-shot-classification",
        "texts",
        ("npdistil zero-shot --model ./my-mnli --candidate-labels 'film,food,sport' 'The pasta was cold.'",),
    ),
    "choose": Command(
        "multiple-choice",
        "texts",
        ("npdistil choose --model ./my-choice --choices 'I took an umbrella.,I got a tan.' 'It rained, so'",),
    ),
    "embed": Command(
        "embedding", "texts", ("npdistil embed --model ./my-sentence-encoder --normalize < texts.txt > vectors.jsonl",)
    ),
}


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """The options of a task's command: its texts, the model, its settings, and how answers are printed."""
    about = COMMANDS[name]
    task = task_type(about.task)
    add_texts(command, about.texts)
    add_model(command, *([] if name == "classify" else [TASK_MODEL_HELP]))
    for field, kind in task.beside.items():
        either = command.add_mutually_exclusive_group(required=True)
        either.add_argument(f"--{field}", type=kind.parse, help="what goes with every text")
        either.add_argument(f"--{field}-file", type=Path, metavar="FILE", help="a file that has it")
    add_settings(command, task.settings_type, *about.left_out, defaults=about.defaults)
    formats = ("text", "jsonl", "json", "csv") if task.columns else ("jsonl", "json")
    command.add_argument("--format", choices=formats, help=f"default: {formats[0]}")
    if name in ON_FILES:
        group = command.add_argument_group("whole files", FILES_HELP)
        group.add_argument("--input", metavar="FILE", help="rows with a text in each; -: standard input")
        group.add_argument("--output", metavar="FILE", help="the same rows, with their answers; -: standard output")
        group.add_argument("--column", metavar="NAME", help="the column with the texts (default: text)")
        group.add_argument("--prefix", metavar="P", help="put before the names of the new columns")
        group.add_argument(
            "--on-error",
            choices=("stop", "skip", "null"),
            help="a row that has no answer: stop (default); go on, and write why to OUTPUT.errors.jsonl (skip); the "
            "same, and keep the row, with nulls, if the row can be read (null)",
        )
        group.add_argument("--delimiter", metavar="C", help="between cells of CSV (default: comma, in .tsv tab)")
        group.add_argument("--no-header", action="store_true", help="CSV whose columns are called 1, 2 and so on")
        group.add_argument("--encoding", metavar="NAME", help="of text that is read (default: utf-8, or its mark)")
        for each in ("input", "output"):
            group.add_argument(f"--{each}-format", metavar="F", help="csv, jsonl.gz and so on, where no suffix says it")
    examples(command, *about.examples)
    command.set_defaults(run=run, command=name, input=None)


def run(options: argparse.Namespace) -> None:
    """Answer texts, or the rows of a file."""
    task = task_type(COMMANDS[options.command].task)
    settings = settings_of(options, task.settings_type)
    if options.command in ON_FILES:
        _check_file_options(options)
    if options.command == "classify":
        if options.input is None:  # as many labels as asked for, in a list
            if not settings.get("return_all_scores"):
                settings.setdefault("top_k", None if settings.get("threshold") is not None else 1)
            if settings.get("combine") == "none" and options.format not in ("json", "jsonl"):
                raise InputError("--combine none gives places in the text too: use --format jsonl or json")
        elif settings.get("top_k") == 1:
            del settings["top_k"]
    beside = {field: _beside(options, field, kind) for field, kind in task.beside.items()}
    pipe = Pipeline(loaded(options), task=COMMANDS[options.command].task, **settings)
    if options.input is not None:
        _annotate_file(pipe, options)
    else:
        write = {"json": _write_json, "jsonl": _write_jsonl, "csv": _write_csv}.get(
            options.format, _write_text if task.columns else _write_jsonl
        )
        write(pipe.processor, _results(pipe, options, beside))


def _beside(options: argparse.Namespace, field: str, kind: Kind) -> Any:
    """What goes with every text, from the option of its name or from a file."""
    path = getattr(options, f"{field}_file")
    return kind.parse(read_text(path)) if path else getattr(options, field)


def _results(pipe: Pipeline, options: argparse.Namespace, beside: dict[str, Any]) -> Iterator[Result]:
    """Each text with its answer, a batch at a time; None for an empty one."""
    task = pipe.processor
    typed = not options.text and sys.stdin is not None and sys.stdin.isatty()  # and each answer is wanted at once
    for some in chunks(texts_of(options), 1 if typed else task.settings.batch_size):
        read = [text for text in some if not is_empty(text)]
        items = [{task.text: text, **beside} for text in read] if task.text else read
        answers = iter(pipe.model.run(task, items) if items else [])
        yield from ((text, None if is_empty(text) else next(answers)) for text in some)


def _write_text(task: Task[Any], results: Iterable[Result]) -> None:
    """Labels in a line a text; else the rows of an answer with tabs between, and a blank line between texts."""
    for number, (_, answer) in enumerate(results):
        rows = [[_cell(value) for value in row] for row in ([] if answer is None else task.rows(answer))]
        if task.answer == "labels":
            print("\t".join(" ".join(row) for row in rows), flush=True)
        else:
            print(*([""] if number else []), *("\t".join(row) for row in rows), sep="\n", flush=True)


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _record(task: Task[Any], text: str, answer: Any) -> dict[str, Any]:
    return {"text": text, task.answer: answer}


def _python(value: Any) -> Any:
    """What JSON has for NumPy's numbers and arrays."""
    return value.tolist()


def _write_json(task: Task[Any], results: Iterable[Result]) -> None:
    rows = [_record(task, *result) for result in results]
    print(json.dumps(rows, ensure_ascii=False, indent=2, default=_python))


def _write_jsonl(task: Task[Any], results: Iterable[Result]) -> None:
    for result in results:
        print(json.dumps(_record(task, *result), ensure_ascii=False, default=_python), flush=True)


def _write_csv(task: Task[Any], results: Iterable[Result]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["text", *task.columns])
    nothing = [[""] * len(task.columns)]
    for text, answer in results:
        writer.writerows([text, *row] for row in (nothing if answer is None else task.rows(answer)))


# Whole files.


def _check_file_options(options: argparse.Namespace) -> None:
    given = [name for name in FILE_OPTIONS if getattr(options, name) is not None]
    given += ["no_header"] * options.no_header
    if options.input is None and given:
        raise InputError(f"{', '.join('--' + name.replace('_', '-') for name in given)}: only with --input")
    if options.input is not None and (options.text or options.format):
        raise InputError("--input goes without texts and --format; a pattern that means many files needs quotes")
    if options.input is not None and options.output is None:
        raise InputError("--output is missing; - is standard output")
    if empty := [name for name in ("input", "output") if getattr(options, name) == ""]:
        raise InputError(f"--{empty[0]} is empty; expected the name of a file")


def _annotate_file(pipe: Pipeline, options: argparse.Namespace) -> None:
    from ..files import annotate_file
    from ..files.run import BadRowError

    # Arrow reads it when it is imported; its own allocator would keep 20 MB more of what was freed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    given = {name: value for name in FILE_OPTIONS[1:] if (value := getattr(options, name)) is not None}
    given["header"] = not options.no_header
    if given.get("delimiter") in ("\\t", "tab"):
        given["delimiter"] = "\t"
    start = time.perf_counter()
    try:
        with _file_progress() as progress:
            done = annotate_file(pipe, options.input, options.output, progress=progress, **given)
    except KeyboardInterrupt:
        what = "the same command starts from the beginning"
        if _is_begun(options.output):
            what = "the same command goes on from here"
            if options.input == "-":
                what = f"what was finished is of no use, as standard input is gone; delete {_left(options.output)}"
        print(f"stopped; {what}", file=sys.stderr)
        raise
    except BadRowError as error:
        what = ""
        if _is_begun(options.output):
            what = f"; what was finished is kept for that in {_left(options.output)}; delete these if you mend the row"
            if options.input == "-":
                what = f"; delete {_left(options.output)} before"
        raise InputError(f"{error}{what}") from None
    except OSError as error:
        if "-" in (options.input, options.output):
            raise
        name, reason = str(error.filename or options.output), error.strerror or str(error)
        if name.startswith(options.output) and name != options.input:
            reason = f"{options.output} cannot be written: {reason}" + f" ({name})" * (name != options.output)
        else:
            reason = f"{name}: {reason}"
        what = "; when that is mended, the same command goes on from here" * _is_begun(options.output)
        raise OSError(error.errno, reason + what) from None
    rate = (done.rows + done.bad - done.resumed) / (time.perf_counter() - start)
    went_on = f", {done.resumed:,} of them by an earlier run" if done.resumed else ""
    empty = f", {done.empty:,} without a text and so without an answer" if done.empty else ""
    files = f"{done.files:,} files, " if Path(options.output).is_dir() else ""
    where = "standard output" if options.output == "-" else options.output
    print(f"{where}: {files}{_rows(done.rows)}{went_on}{empty}, {rate:,.0f} texts/s", file=sys.stderr)
    if done.bad and options.output != "-":
        report = f"{options.output}/**/*.errors.jsonl" if files else f"{options.output}.errors.jsonl"
        print(f"{report}: {_rows(done.bad)} that could not be answered", file=sys.stderr)


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _is_begun(output: str) -> bool:
    """Whether there is a journal, from which a run goes on."""
    from ..files.journal import journal_of

    if output == "-":
        return False
    target = Path(output)
    return any(target.rglob("*.journal")) if target.is_dir() else journal_of(target).exists()


def _left(output: str) -> str:
    """The files that an interrupted run has left."""
    from ..files.journal import left

    return f"{output}/**/*.partial and *.journal" if Path(output).is_dir() else left(Path(output))


@contextmanager
def _file_progress() -> Iterator[Callable[[int, int, int], None] | None]:
    """A bar with texts a second and the time left, where standard error is a terminal."""
    tqdm = progress_bar()
    if tqdm is None:
        yield None
        return
    shown = "{percentage:3.0f}%|{bar}| {elapsed}"
    with ticking(tqdm(bar_format=shown, leave=False, miniters=1)) as bar:  # at progress drawn every 0.1 s at most
        first: list[tuple[int, int]] = []  # read and texts after the first batch: an earlier run's rows took no time

        def progress(read: int, total: int, texts: int) -> None:
            if not first:
                first.append((read, texts))
                bar.reset(total)
                bar.initial = bar.n = bar.last_print_n = read
                bar.refresh()
            elif read > first[0][0] and (seconds := bar.format_dict["elapsed"]):
                bar.bar_format = shown + ", {remaining} left{postfix}"
                bar.set_postfix_str(f"{(texts - first[0][1]) / seconds:,.0f} texts/s", refresh=False)
            bar.update(read - bar.n)

        yield progress
