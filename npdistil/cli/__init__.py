"""The command `npdistil`: results on standard output, everything else on standard error."""

import argparse
import csv
import dataclasses
import importlib.util
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import __version__
from ..batch import chunks
from ..bench import bench, table
from ..checkpoint.quantize import quantize_checkpoint
from ..distilbert.encoder import Array
from ..engine import ENGINES, PRECISIONS
from ..errors import InputError, MissingExtraError, NpdistilError
from ..model import LONG_TEXT, Model, load
from ..scores import FUNCTIONS, default_function
from ..tasks import pipeline
from ..tasks.explanation import METHODS, explain, wants_colour

Item = TypeVar("Item")
FAILED, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for any error, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    if sys.stdout is None:
        print("npdistil: error: standard output is closed", file=sys.stderr)
        return FAILED
    # Not the locale's encoding, and no silent repair of what is not UTF-8.
    for stream, encoding in ((sys.stdin, "utf-8-sig"), (sys.stdout, "utf-8")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors="strict")
    if sys.stderr is not None and sys.stderr.isatty():  # whoever waits sees what for
        logging.basicConfig(format="npdistil: %(message)s")
        logging.getLogger("npdistil").setLevel(logging.INFO)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, as `head` does; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (NpdistilError, OSError) as error:
        print(f"npdistil: error: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    return 0


def _classify(options: argparse.Namespace) -> None:
    of_files = {name: getattr(options, name) for name in ("output", "column", "on_error", "prefix")}
    given = [f"--{name.replace('_', '-')}" for name, value in of_files.items() if value is not None]
    if options.input is None and given:
        raise InputError(f"{', '.join(given)}: only with --input")
    if options.input is not None and (options.text or options.format or options.output is None):
        raise InputError("--input goes with --output, and without texts and --format")
    several: dict[str, Any] = {}
    if options.input is None or options.top_k not in (None, 1) or options.threshold is not None:
        several["top_k"] = _top_k(options)
    classify = pipeline(
        "text-classification",
        _load(options),
        function_to_apply=options.function,
        threshold=options.threshold,
        long_text=options.long_text,
        batch_size=_batch_size(options),
        **several,
    )
    if options.input is not None:
        return _classify_file(classify, options)
    write = {"json": _write_json, "jsonl": _write_jsonl, "csv": _write_csv}.get(options.format, _write_text)
    return write(_answered(classify, options.text or _lines()))


def _top_k(options: argparse.Namespace) -> int | None:
    """Labels to show: the best one, or all that reach a threshold, unless a number is given; None is all."""
    if options.top_k is None:
        return 1 if options.threshold is None else None
    return options.top_k or None


def _classify_file(classify: Any, options: argparse.Namespace) -> None:
    from ..files import classify_file

    names = {name: getattr(options, name) for name in ("column", "on_error", "prefix")}
    given = {name: value for name, value in names.items() if value is not None}
    start = time.perf_counter()
    try:
        with _file_progress() as progress:
            done = classify_file(classify, options.input, options.output, progress=progress, **given)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    except OSError as error:
        reason = f"{error.filename or options.output}: {error.strerror or error}"
        raise OSError(error.errno, f"{reason}; when that is mended, the same command goes on from here") from None
    rate = (done.rows + done.bad - done.resumed) / (time.perf_counter() - start)
    went_on = f", {done.resumed:,} of them by an earlier run" if done.resumed else ""
    print(f"{options.output}: {done.rows:,} rows{went_on}, {rate:,.0f} texts/s", file=sys.stderr)
    if done.bad:
        print(f"{options.output}.errors.jsonl: {done.bad:,} rows that could not be classified", file=sys.stderr)


@contextmanager
def _file_progress() -> Iterator[Callable[[int, int, int], None] | None]:
    """A bar with texts a second and the time left, where standard error is a terminal."""
    tqdm = _tqdm()
    if tqdm is None:
        yield None
        return
    with tqdm(bar_format="{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}", leave=False) as bar:
        first: list[tuple[int, int]] = []  # read and texts after the first window: an earlier run's rows took no time

        def progress(read: int, total: int, texts: int) -> None:
            if not first:
                first.append((read, texts))
                bar.reset(total)
                bar.initial = bar.n = read
            bar.update(read - bar.n)
            if seconds := bar.format_dict["elapsed"]:
                bar.set_postfix_str(f"{(texts - first[0][1]) / seconds:,.0f} texts/s")

        yield progress


Result = tuple[str, Any]  # a text and the answer to it: of `classify`, its labels with their scores, best first


def _answered(task: Callable[[Iterator[Any]], Iterable[Any]], texts: Iterable[str], **same: str) -> Iterator[Result]:
    """Each text with its answer; with `same`, what the task takes is {"question": text, **same}."""
    seen: list[str] = []

    def remembered() -> Iterator[Any]:
        for text in texts:
            seen.append(text)
            yield {"question": text, **same} if same else text

    return ((seen.pop(0), answer) for answer in task(remembered()))


def _write_text(results: Iterable[Result]) -> None:
    for _, labels in results:
        print("\t".join(f"{each['label']} {each['score']:.4f}" for each in labels), flush=True)


def _write_json(results: Iterable[Result]) -> None:
    rows = [{"text": text, "labels": labels} for text, labels in results]
    print(json.dumps(rows, ensure_ascii=False, indent=2))


def _write_jsonl(results: Iterable[Result]) -> None:
    for text, labels in results:
        print(json.dumps({"text": text, "labels": labels}, ensure_ascii=False), flush=True)


def _write_csv(results: Iterable[Result]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["text", "label", "score"])
    for text, labels in results:
        writer.writerows([text, each["label"], each["score"]] for each in labels)


def _ner(options: argparse.Namespace) -> None:
    _run_task(options, "ner", ("entity_group", "word", "score", "start", "end"), aggregation_strategy=options.join)


def _qa(options: argparse.Namespace) -> None:
    context = options.context
    if options.context_file:
        try:
            context = options.context_file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{options.context_file} is not UTF-8: {error}") from None
    _run_task(
        options,
        "question-answering",
        ("answer", "score", "start", "end"),
        {"context": context},
        top_k=options.top_k,
        handle_impossible_answer=options.or_none,
    )


def _fill_mask(options: argparse.Namespace) -> None:
    targets = None if options.targets is None else [word.strip() for word in options.targets.split(",")]
    _run_task(options, "fill-mask", ("token_str", "score", "sequence"), top_k=options.top_k, targets=targets)


def _zero_shot(options: argparse.Namespace) -> None:
    _run_task(
        options,
        "zero-shot-classification",
        ("labels", "scores"),
        candidate_labels=options.labels,
        multi_label=options.multi_label,
        hypothesis_template=options.template,
    )


def _run_task(
    options: argparse.Namespace,
    task: str,
    columns: tuple[str, ...],
    same: dict[str, str] | None = None,
    **settings: Any,
) -> None:
    """Print the answers of a task: as JSON lines, or in columns with tabs between and a blank line between texts."""
    run = pipeline(task, _load(options), batch_size=_batch_size(options), **settings)
    for number, (text, answer) in enumerate(_answered(run, options.text or _lines(), **(same or {}))):
        if options.format == "jsonl":
            print(json.dumps({"text": text, "answer": answer}, ensure_ascii=False, default=float), flush=True)
            continue
        if number:
            print()
        for row in _rows(answer):
            cells = (row[name if name in row else "entity"] for name in columns)
            print("\t".join(f"{each:.4f}" if isinstance(each, float) else str(each) for each in cells))
        sys.stdout.flush()


def _rows(answer: Any) -> Iterator[dict[str, Any]]:
    """What a task answers, one dict after the other, whatever it lies in."""
    if isinstance(answer, list):
        for each in answer:
            yield from _rows(each)
    elif "labels" in answer:
        for label, score in zip(answer["labels"], answer["scores"], strict=True):
            yield {"labels": label, "scores": score}
    else:
        yield answer


def _embed(options: argparse.Namespace) -> None:
    from ..tasks.feature_extraction import Embedder

    size = _batch_size(options)
    embedder = Embedder(_load(options), pooling=options.pooling, normalize=options.normalize, batch_size=size)
    for some in chunks(options.text or _lines(), size):
        for text, vector in zip(some, embedder.fit_transform(some), strict=True):
            print(json.dumps({"text": text, "vector": vector.tolist()}, ensure_ascii=False), flush=True)


def _explain(options: argparse.Namespace) -> None:
    if options.attention and options.format == "text":
        raise InputError("--attention goes with --format json; html has it always")
    if options.format == "html" and len(options.text) != 1:
        raise InputError("--format html takes one text, as an argument")
    model, attention = _load(options), options.attention or options.format == "html"
    how = {"method": options.method, "samples": options.samples, "attention": attention}
    for number, text in enumerate(options.text or _lines()):
        found = explain(model, text, options.label, **how)
        if options.format == "html":
            sys.stdout.write(found.as_html())
        elif options.format == "json":
            weights = {} if found.attention is None else {"attention": found.attention.tolist()}
            print(json.dumps(found.as_dict() | weights, ensure_ascii=False), flush=True)
        else:
            print(("\n" if number else "") + found.as_text(wants_colour(sys.stdout.isatty())), flush=True)


def _serve(options: argparse.Namespace) -> None:
    for package in ("starlette", "uvicorn", "httptools", "prometheus_client"):
        if not importlib.util.find_spec(package):
            raise MissingExtraError(package, "serve")
    from ..serve.app import Settings
    from ..serve.server import serve

    given = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(Settings)}
    given["token"] = os.environ.get("NPDISTIL_TOKEN")  # one that is set to nothing is a mistake, and refused
    if options.token_file:
        try:
            given["token"] = options.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the token cannot be read: {error}") from None
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    serve(_load(options), options.host, options.port, settings)


def _batch_size(options: argparse.Namespace) -> int:
    """One text at a time for somebody who types them."""
    return 1 if not options.text and sys.stdin.isatty() else 256


def _lines() -> Iterator[str]:
    try:
        for line in sys.stdin or ():  # None where it is closed
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8: {error}") from None


def _info(options: argparse.Namespace) -> None:
    model = _load(options)
    config = model.config
    # Read from the checkpoint, where a weight shared by two layers is counted once.
    tied = model.checkpoint.head.get("vocab_projector", {}).get("weight")
    count = (
        _count(model.checkpoint.params)
        + _count(model.checkpoint.head)
        - (tied.size if config.tied and tied is not None else 0)
    )
    rows = {
        "model": str(model.checkpoint.directory),
        "architecture": config.architecture,
        "layers": f"{config.n_layers} of width {config.dim}, {config.n_heads} heads, feed-forward {config.hidden_dim}",
        "parameters": f"{count:,}",
        "vocabulary": f"{config.vocab_size:,} tokens, texts up to {config.max_position_embeddings}",
        "labels": f"{', '.join(config.labels)} ({default_function(config)})",
        "weights": f"{model.checkpoint.size / 1e6:.1f} MB on disk, {'int8' if config.quantized else 'float'}",
        "engine": f"{model.engine}, {model.precision}",
        "threads": str(model.threads),
        "version": __version__,
    }
    for name, value in rows.items():
        print(f"{name:<13} {value}")


def _count(node: Any) -> int:
    """Parameters in a tree, scales of int8 weights not counted."""
    if isinstance(node, dict):
        return sum(_count(child) for name, child in node.items() if name != "weight_scale")
    return sum(map(_count, node)) if isinstance(node, list) else int(node.size)


def _eval(options: argparse.Namespace) -> None:
    model = _load(options)
    texts, labels = _labelled(options.file, model.config.labels)
    size = 256
    predicted = [
        model.scores(texts[i : i + size], long_text=options.long_text).argmax(axis=1)
        for i in _progress(range(0, len(texts), size))
    ]
    confusion = np.zeros((len(model.config.labels),) * 2, np.int64)  # [true, predicted]
    np.add.at(confusion, (labels, np.concatenate(predicted)), 1)
    _print_evaluation(confusion, model.config.labels)


def _print_evaluation(confusion: Array, names: Sequence[str]) -> None:
    right, total = int(confusion.trace()), int(confusion.sum())
    f1 = [2 * confusion[i, i] / max(1, confusion[i].sum() + confusion[:, i].sum()) for i in range(len(names))]
    width = max(map(len, (*names, "true \\ predicted"))) + 2
    print(f"accuracy  {right / total:.4f}  ({right} of {total})")
    by_class = ", ".join(f"{name} {value:.4f}" for name, value in zip(names, f1, strict=True))
    print(f"F1        {np.mean(f1):.4f}  ({by_class})")
    print("true \\ predicted".ljust(width) + "".join(name.rjust(width) for name in names))
    for name, row in zip(names, confusion, strict=True):
        print(name.ljust(width) + "".join(str(n).rjust(width) for n in row))


def _labelled(path: Path, names: Sequence[str]) -> tuple[list[str], Array]:
    """Texts and label numbers from a TSV file with a header that has `sentence` or `text`, and `label`."""
    try:
        # Not splitlines(): it also splits at U+0085, which is in some texts.
        rows = [
            line.split("\t") for line in path.read_bytes().decode("utf-8").replace("\r\n", "\n").split("\n") if line
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    header = rows[0] if rows else []
    column = next((name for name in ("sentence", "text") if name in header), None)
    if column is None or "label" not in header:
        raise InputError(f"{path}: the first line should name the columns sentence (or text) and label, tabs between")
    if len(rows) == 1:
        raise InputError(f"{path} has no rows below its header")
    numbers = {name: i for i, name in enumerate(names)} | {str(i): i for i in range(len(names))}
    texts, labels = [], []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header) or (label := row[header.index("label")].strip()) not in numbers:
            raise InputError(
                f"{path}, row {number}: expected {len(header)} columns and a label among {', '.join(numbers)}"
            )
        texts.append(row[header.index(column)])
        labels.append(numbers[label])
    return texts, np.array(labels)


def _progress(items: Sequence[Item]) -> Iterable[Item]:
    """A progress bar around the items where standard error is a terminal."""
    tqdm = _tqdm()
    bar: Iterable[Item] = tqdm(items, unit="batch", leave=False) if tqdm else items
    return bar


def _tqdm() -> Any:
    """The progress bar, or None where nobody would see it or it is not installed."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        print(f"no progress bar: {MissingExtraError('tqdm', 'progress')}", file=sys.stderr)
        return None
    return tqdm


def _quantize(options: argparse.Namespace) -> None:
    errors = quantize_checkpoint(options.src, options.dst)
    print("relative error of each int8 weight, |int8 - float| / |float|:")
    for name, error in errors:
        print(f"  {name:<28} {error:.5f}")
    if options.eval:
        for path, title in ((options.src, "float32"), (options.dst, "int8")):
            model = load(path, engine=options.engine)
            texts, labels = _labelled(options.eval, model.config.labels)
            right = int((model.scores(texts).argmax(axis=1) == labels).sum())
            print(f"accuracy {title:<8} {right / len(texts):.4f}  ({right} of {len(texts)})")
    print(f"written: {options.dst}")


def _warmup(options: argparse.Namespace) -> None:
    if not importlib.util.find_spec("numba"):
        raise MissingExtraError("numba", "fast")
    from ..compiled.cache import warm_up

    print(f"compiled kernels are in {warm_up()}")


def _bench(options: argparse.Namespace) -> None:
    texts = None
    if options.file:
        try:
            texts = [line for line in options.file.read_text(encoding="utf-8").split("\n") if line]
        except UnicodeDecodeError as error:
            raise InputError(f"{options.file} is not UTF-8: {error}") from None
    result = bench(_load(options), texts, options.seconds)
    print(table(result))
    print(json.dumps(result))


def _load(options: argparse.Namespace) -> Model:
    return load(options.model, engine=options.engine, precision=options.precision, threads=options.threads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="npdistil",
        description="DistilBERT inference on a CPU: text in, labels out.",
        epilog='examples:\n  npdistil classify "I like you. I love you."\n  npdistil classify --help',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"npdistil {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(
        commands,
        "classify",
        _classify,
        "label texts, or lines on standard input",
        'npdistil classify "I like you. I love you."',
        "npdistil classify --top-k 0 --format json 'Not bad at all.'",
        "npdistil classify --format jsonl < reviews.txt > labels.jsonl",
        "npdistil classify --model ./my-distilbert 'one text' 'another'",
        "npdistil classify --input reviews.csv --column review --output scored.parquet",
    )
    command.add_argument("text", nargs="*", metavar="TEXT", help="texts; none: each line of standard input is one")
    _model_options(command)
    command.add_argument("--top-k", type=int, metavar="K", help="labels to show, best first; 0: all (default 1)")
    command.add_argument("--threshold", type=float, metavar="P", help="show all labels that score at least this much")
    command.add_argument("--format", choices=("text", "json", "jsonl", "csv"), help="default: text")
    command.add_argument("--function", choices=FUNCTIONS, help="from logits to scores; default: as the model asks for")
    command.add_argument("--long-text", choices=LONG_TEXT, default="windows", help=LONG_TEXT_HELP)
    group = command.add_argument_group("whole files", FILES_HELP)
    group.add_argument("--input", type=Path, metavar="FILE", help="rows with a text in each")
    group.add_argument("--output", type=Path, metavar="FILE", help="the same rows, with their labels")
    group.add_argument("--column", metavar="NAME", help="the column with the texts (default: text)")
    group.add_argument("--prefix", metavar="P", help="put before the names of the new columns, label and score")
    group.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        help="a row that cannot be read: stop (default), or write it to OUTPUT.errors.jsonl and go on",
    )

    command = _command(
        commands,
        "ner",
        _ner,
        "find names and other entities: class, word, score, first and last character",
        "npdistil ner --model ./my-ner 'Sarah lives in London.'",
        "npdistil ner --model ./my-ner --format jsonl < texts.txt > entities.jsonl",
    )
    _task_options(command, "TEXT", "texts")
    command.add_argument(
        "--join",
        choices=("none", "simple", "first", "average", "max"),
        default="simple",
        help="how tokens become entities, as transformers' aggregation_strategy (default simple)",
    )

    command = _command(
        commands,
        "qa",
        _qa,
        "answer questions from a text: answer, score, first and last character",
        "npdistil qa --model ./my-qa --context 'Sarah lives in London.' 'Who lives in London?'",
        "npdistil qa --model ./my-qa --context-file article.txt < questions.txt",
    )
    _task_options(command, "QUESTION", "questions")
    group = command.add_mutually_exclusive_group(required=True)
    group.add_argument("--context", metavar="TEXT", help="the text that has the answers")
    group.add_argument("--context-file", type=Path, metavar="FILE.txt", help="a file with that text")
    command.add_argument("--top-k", type=int, default=1, metavar="K", help="answers to show, best first (default 1)")
    command.add_argument("--or-none", action="store_true", help="let 'no answer' be an answer")

    command = _command(
        commands,
        "fill-mask",
        _fill_mask,
        "words for [MASK]: word, score, text",
        "npdistil fill-mask --model distilbert-base-uncased 'It was a [MASK] film.'",
    )
    _task_options(command, "TEXT", "texts with [MASK]")
    command.add_argument("--top-k", type=int, default=5, metavar="K", help="words to show, best first (default 5)")
    command.add_argument("--targets", metavar="A,B,C", help="choose among these words only, with commas between")

    command = _command(
        commands,
        "zero-shot",
        _zero_shot,
        "classify by labels of your own, with a model for natural language inference: label, score",
        "npdistil zero-shot --model ./my-mnli --labels 'film,food,sport' 'The pasta was cold.'",
    )
    _task_options(command, "TEXT", "texts")
    command.add_argument("--labels", required=True, metavar="A,B,C", help="labels with commas between")
    command.add_argument("--multi-label", action="store_true", help="score each label by itself")
    command.add_argument(
        "--template", default="This example is {}.", metavar="T", help="hypothesis (default: 'This example is {}.')"
    )

    command = _command(
        commands,
        "embed",
        _embed,
        "a vector for each text, as JSON lines",
        "npdistil embed --model ./my-sentence-encoder --normalize < texts.txt > vectors.jsonl",
    )
    command.add_argument("text", nargs="*", metavar="TEXT", help="texts; none: each line of standard input is one")
    _model_options(command)
    command.add_argument(
        "--pooling",
        choices=("mean", "cls", "max"),
        help="from hidden states to a vector; default: what the model's 1_Pooling says, or else mean",
    )
    command.add_argument("--normalize", action="store_true", help="scale vectors to length 1")

    command = _command(
        commands,
        "explain",
        _explain,
        "say how much each word adds to the log-odds of the label",
        "npdistil explain 'Not bad at all.'",
        "npdistil explain --method shapley --label NEGATIVE 'Great cast, dreadful film.'",
        "npdistil explain --format html 'Not bad at all.' > why.html",
    )
    command.add_argument("text", nargs="*", metavar="TEXT", help="texts; none: each line of standard input is one")
    _model_options(command)
    command.add_argument("--label", metavar="LABEL", help="the label to explain; default: the best one")
    command.add_argument("--method", choices=METHODS, default="occlusion", help=METHOD_HELP)
    command.add_argument(
        "--samples", type=int, default=16, metavar="N", help="orders of words that shapley samples (default 16)"
    )
    command.add_argument("--format", choices=("text", "json", "html"), default="text", help="default: text")
    command.add_argument("--attention", action="store_true", help="give the attention of each layer and head too")

    command = _command(
        commands,
        "info",
        _info,
        "say what a model is and how it would run",
        "npdistil info",
        "npdistil info ./my-distilbert",
    )
    command.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    _engine_options(command)

    command = _command(
        commands,
        "eval",
        _eval,
        "accuracy, F1 and confusion matrix on a labelled file",
        "npdistil eval dev.tsv",
        "npdistil eval dev.tsv --model ./my-distilbert --precision int8",
    )
    command.add_argument(
        "file", type=Path, metavar="FILE.tsv", help="header with sentence (or text) and label, tabs between"
    )
    _model_options(command)
    command.add_argument("--long-text", choices=LONG_TEXT, default="windows", help=LONG_TEXT_HELP)

    command = _command(
        commands,
        "quantize",
        _quantize,
        "write an int8 copy of a float checkpoint, and say what error that made",
        "npdistil quantize ./my-distilbert ./my-distilbert-int8 --eval dev.tsv",
    )
    command.add_argument("src", type=Path, metavar="SRC", help="directory of the float checkpoint")
    command.add_argument("dst", type=Path, metavar="DST", help="new directory")
    command.add_argument("--eval", type=Path, metavar="FILE.tsv", help="also compare the accuracy of both on this file")
    command.add_argument("--engine", choices=ENGINES, default="auto", help="for --eval; default: auto")

    command = _command(
        commands,
        "bench",
        _bench,
        "measure throughput, latency and memory on this machine; a table, then one line of JSON",
        "npdistil bench",
        "npdistil bench --model ./my-distilbert --file texts.txt --seconds 60",
    )
    command.add_argument("--file", type=Path, metavar="FILE.txt", help="texts to measure with, one a line")
    command.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long, about (default 10)")
    _model_options(command)

    command = _command(
        commands,
        "serve",
        _serve,
        "answer requests over HTTP, with a page to look at",
        "npdistil serve",
        "NPDISTIL_TOKEN=secret npdistil serve --host 0.0.0.0 --port 8000 --model ./my-distilbert",
    )
    command.add_argument("--host", default="127.0.0.1", metavar="H", help="default 127.0.0.1: this machine only")
    command.add_argument("--port", type=int, default=8080, metavar="N", help="default 8080; 0: any that is free")
    command.add_argument(
        "--token-file", type=Path, metavar="FILE", help="ask clients for the token in this file, or in NPDISTIL_TOKEN"
    )
    command.add_argument(
        "--allow-origin", nargs="+", metavar="URL", help="pages of these origins may use it (CORS); default: none"
    )
    for name, kind, about in SERVE_LIMITS:
        command.add_argument(f"--{name}", type=kind, metavar="N", help=about)
    _model_options(command)

    _command(
        commands,
        "warmup",
        _warmup,
        "compile the kernels of the compiled engine now, for example when an image is built",
        "NPDISTIL_CACHE=/opt/npdistil-cache npdistil warmup",
    )

    return parser


FILES_HELP = """CSV, JSON lines, plain text or Parquet (pip install "npdistil[files]"), by suffix: .csv .jsonl .txt
.parquet. A run that was interrupted goes on when the same command is given again."""
MODEL_HELP = "directory or name on the Hugging Face Hub; default: the bundled sentiment classifier"
SERVE_LIMITS: tuple[tuple[str, Callable[[str], Any], str], ...] = (
    ("max-batch-tokens", int, "that are run together (default 1024)"),
    ("max-queue-tokens", int, "that may wait; above, the answer is 429 at once (default 131072)"),
    ("max-request-tokens", int, "of one request (default 65536)"),
    ("max-request-texts", int, "of one request (default 1024)"),
    ("max-body-bytes", int, "of one request (default 1000000)"),
    ("gather-ms", float, "to wait for company before a batch that is not full (default 0)"),
    ("timeout", float, "seconds for a body to arrive, and for an answer (default 30)"),
)
METHOD_HELP = """occlusion: what is lost without the word (default); shapley: what it adds to the words before it,
mean over orders, which sums to the whole"""
LONG_TEXT_HELP = """texts longer than the model: mean over windows (default), first tokens only, or an error; sentences:
mean over the sentences of any text"""
TASK_MODEL_HELP = "directory or name on the Hugging Face Hub of a model that was made for this task"


def _command(commands: Any, name: str, run: Any, about: str, *examples: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about[0].upper() + about[1:] + ".",
        epilog="\n  ".join(("examples:", *examples)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _task_options(command: argparse.ArgumentParser, name: str, what: str) -> None:
    command.add_argument("text", nargs="*", metavar=name, help=f"{what}; none: each line of standard input is one")
    _model_options(command, TASK_MODEL_HELP)
    command.add_argument("--format", choices=("text", "jsonl"), default="text", help="default: text, tabs between")


def _model_options(command: argparse.ArgumentParser, about: str = MODEL_HELP) -> None:
    command.add_argument("--model", metavar="MODEL", help=about)
    _engine_options(command)


def _engine_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--engine", choices=ENGINES, default="auto", help="default: compiled where numba is installed")
    command.add_argument("--precision", choices=PRECISIONS, help="default: the checkpoint's own")
    command.add_argument("--threads", type=int, metavar="N", help="default: the CPUs that this process may use")
