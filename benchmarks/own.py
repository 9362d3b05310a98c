"""Your own model: your ONNX file under ONNX Runtime, beside npdistil on the folder that it was exported from.

    python benchmarks/own.py my-distilbert --onnx model.onnx --texts texts.txt      # about two minutes

Labels are compared before anything is timed. Each runtime is in a process of its own; all take turns within a round,
and while one is measured the others are stopped. ONNX Runtime gets the batch size that suits it, one batch on all
threads or one on each; npdistil gets all texts at once. A float model is measured in int8 too, as `npdistil quantize`
makes it. Needs `pip install . onnxruntime`.
"""

import argparse
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from typing import Any

import machine
import numpy as np
import report
from compare import DISTURBED, LEAST_AGREEMENT, say
from data import evenly
from pauses import running
from peers import OWN
from tokenizers import Tokenizer
from worker import Worker, WorkerError

import npdistil
from npdistil.bench import TEXTS

RIVAL = "ONNX Runtime"
ADAPTER = "ONNX file"  # in peers.py
IN_FOLDER = ("model.onnx", "onnx/model.onnx")  # where exporters put it
CHECKED, FEW = 500, 16  # texts that are checked, at most; texts that are timed first
BATCHES = (1, 8, 32)
PAUSES = (0, 20, 200)  # milliseconds before each call of one text
LEAST = 5  # calls of a turn
SINGLY = "texts a second, one at a time"

Sides = Mapping[str, tuple[str, Path]]  # title -> adapter in peers.py and what it loads; the first is the rival


class Processes:
    """One for each runtime; all but the one that is asked something are stopped."""

    def __init__(self, stack: ExitStack, tokenizer: Path, threads: int) -> None:
        self.stack, self.tokenizer, self.threads = stack, tokenizer, threads
        self.logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npdistil-own-")))
        self.workers: dict[str, Worker] = {}

    def start(self, title: str, side: tuple[str, Path], streams: int = 1) -> None:
        """One that runs `streams` batches at a time, each on its share of the threads."""
        peer, files = side
        log = self.logs / f"{title}.log"
        worker = self.stack.enter_context(Worker(peer, self.tokenizer, files, self.threads // streams, log, streams))
        worker.process.send_signal(signal.SIGSTOP)
        self.stack.callback(worker.process.send_signal, signal.SIGCONT)
        self.workers[title] = worker

    def ask(self, title: str, do: str, **request: Any) -> Any:
        """Its answer."""
        with running(self.workers[title]) as worker:
            return worker.ask(do, **request)


def cutting(model: npdistil.Model, folder: Path) -> Tokenizer:
    """The model's tokenizer, which cuts texts where npdistil does; also in `folder`, where adapters read it."""
    path = str(folder / "tokenizer.json")
    model.checkpoint.tokenizer.save(path)
    tokenizer = Tokenizer.from_file(path)
    tokenizer.enable_truncation(model.checkpoint.max_length, direction=model.tokenizer.truncation_side)
    tokenizer.save(path)
    return tokenizer


def sides(model: npdistil.Model, folder: Path, onnx: Path, scratch: Path) -> Sides:
    """What is compared: the ONNX file, the folder as it is, and an int8 copy of a float one."""
    engine = "npdistil" if model.engine == "compiled" else f"npdistil {model.engine}"
    found = {RIVAL: (ADAPTER, onnx), f"{engine} {model.precision}": (f"{engine} {model.precision}", folder)}
    if model.precision == "float32":
        npdistil.quantize_checkpoint(folder, scratch / "int8")
        found[f"{engine} int8"] = (f"{engine} int8", scratch / "int8")
    return found


def check(processes: Processes, token_ids: Sequence[Sequence[int]]) -> dict[str, dict[str, float]]:
    """Of each runtime but the first: on what share its labels are the first's, and how far its logits are away."""
    order = sorted(token_ids, key=len)
    batches = [order[start : start + 16] for start in range(0, len(order), 16)]
    logits = {title: np.concatenate(processes.ask(title, "logits", batches=batches)) for title in processes.workers}
    (rival, expected), *others = logits.items()
    for title, each in others:
        if each.shape != expected.shape:
            counts = f"{rival} gives {expected.shape[1]} labels and {title} {each.shape[1]}"
            raise WorkerError(f"{counts}, so they do not run the same model")
    return {
        title: {
            "agreement": float((each.argmax(axis=1) == expected.argmax(axis=1)).mean()),
            "largest difference": float(np.abs(each - expected).max()),
        }
        for title, each in others
    }


def rate(processes: Processes, title: str, texts: Sequence[str], batch: int) -> float:
    """Texts a second, the better of two turns: in the first, memory is asked for."""
    processes.ask(title, "texts", some=texts)
    return len(texts) / min(processes.ask(title, "predict", texts="some", batch=batch)["seconds"] for _ in range(2))


def measure(
    compared: Sides,
    place: Path,
    token_ids: Sequence[Sequence[int]],
    texts: Sequence[str],
    *,
    threads: int,
    rounds: int,
    seconds: float,
    agree: float,
) -> dict[str, Any]:
    """All figures of the runtimes in `compared`, on `threads` each.

    Args:
        compared: the first is what the others are checked against; its batch size is searched.
        place: the folder with the tokenizer that all of them read.
        token_ids: of the texts that are checked; the one of median length is timed by itself.
        texts: what throughput is measured on, again from the first where there are few.
        threads: of each runtime.
        rounds: in each of which all take their turns.
        seconds: of a turn of many texts, about; one of single texts takes a quarter of it.
        agree: the least share of labels that the first two must have in common.

    Raises:
        WorkerError: a runtime that does not run, or labels that differ.
    """
    rival, *ours = compared
    with ExitStack() as stack:
        processes = Processes(stack, place, threads)
        for title, side in compared.items():
            processes.start(title, side)
        checks = check(processes, token_ids)
        same = checks[ours[0]]["agreement"]
        if same < agree:
            raise WorkerError(
                f"{ours[0]} and {rival} give the same label to {same:.1%} of {len(token_ids)} texts, so they do not "
                f"run the same model; nothing was timed (--agree sets the least share, now {agree:.0%})"
            )
        count = max(FEW, int(seconds * rate(processes, rival, evenly(texts, min(len(texts), FEW)), 8)))
        chosen = evenly(texts, count) if count <= len(texts) else [texts[i % len(texts)] for i in range(count)]
        streams = {rival: 1}
        if threads > 1:
            each = f"{rival}, a batch on each thread"
            processes.start(each, compared[rival], threads)
            streams[each] = threads
        say(f"looking for the batch size that suits {rival}")
        tried = evenly(chosen, max(FEW, count // 4))
        rates = {(way, size): rate(processes, way, tried, size) for way in streams for size in BATCHES}
        best, batch = max(rates, key=lambda way: rates[way])
        runs = {title: (best, batch) if title == rival else (title, 0) for title in compared}
        for process, _ in runs.values():
            processes.ask(process, "texts", all=chosen)
        for title in compared:
            processes.ask(title, "texts", some=tried)
        one = sorted(token_ids, key=len)[len(token_ids) // 2]
        turns: dict[str, dict[str, list[float]]] = {
            work: {title: [] for title in compared} for work in ("texts a second", SINGLY, *map(waiting, PAUSES))
        }
        calls: dict[str, dict[str, list[float]]] = {
            waiting(pause): {title: [] for title in compared} for pause in PAUSES
        }
        others: list[float] = []
        for i in range(rounds):
            say(f"round {i + 1} of {rounds}")
            order = [*compared][:: -1 if i % 2 else 1]
            for title in order:
                process, size = runs[title]
                answer = processes.ask(process, "predict", texts="all", batch=size)
                turns["texts a second"][title].append(count / answer["seconds"])
                others.append(answer["others"])
            for title in order:
                answer = processes.ask(title, "predict", texts="some", batch=1)
                turns[SINGLY][title].append(len(tried) / answer["seconds"])
                others.append(answer["others"])
            for pause in PAUSES:
                for title in order:
                    asked = {"token_ids": one, "seconds": seconds / 4, "least": LEAST, "pause": pause / 1e3}
                    answer = processes.ask(title, "latency", **asked)
                    turns[waiting(pause)][title].append(1e3 * median(answer["seconds"]))
                    calls[waiting(pause)][title] += [1e3 * each for each in answer["seconds"]]
                    others.append(answer["others"])
    return {
        "threads": threads,
        "texts": len(texts),
        "texts of a turn": count,
        "tokens a text": mean(map(len, token_ids)),
        "tokens of the text timed by itself": len(one),
        "batch": f"{batch}" if streams[best] == 1 else f"{batch} on each thread",
        "checked": len(token_ids),
        "checks": checks,
        "turns": turns,
        "90th percentile": {
            work: {title: report.percentile(each, 0.9) for title, each in of.items()} for work, of in calls.items()
        },
        "CPUs busy with others": mean(others),
        "peak memory": {
            title: peak(place, side, threads, streams.get(runs[title][0], 1), chosen, runs[title][1])
            for title, side in compared.items()
        },
    }


def peak(place: Path, side: tuple[str, Path], threads: int, streams: int, texts: Sequence[str], batch: int) -> int:
    """Bytes at the most of a fresh process that loads the model and labels the texts."""
    with ExitStack() as stack:
        processes = Processes(stack, place, threads)
        processes.start("alone", side, streams)
        processes.ask("alone", "texts", all=texts)
        processes.ask("alone", "predict", texts="all", batch=batch)
        return int(processes.ask("alone", "memory"))


def waiting(pause: int) -> str:
    """What is timed, in the words of the table."""
    return f"ms, one text after {pause} ms" if pause else "ms, one text"


def table(result: Mapping[str, Any]) -> tuple[report.Row, list[report.Row]]:
    """A column for each runtime; ± half the range of the rounds, in brackets the ratio to the first one.

    One text has the 90th percentile of all calls beside its median.
    """
    titles = [*result["peak memory"]]
    rival = titles[0]
    memory = {title: [each / 1e6] for title, each in result["peak memory"].items()}
    rows: list[report.Row] = []
    for work, turns in (*result["turns"].items(), ("peak memory, MB", memory)):
        cells = []
        for title in titles:
            ratio = median(a / b for a, b in zip(turns[title], turns[rival], strict=True))
            slowest = result["90th percentile"].get(work, {}).get(title)
            parts = [report.with_spread(turns[title])]
            parts += [f"p90 {report.short(slowest)}"] if slowest is not None else []
            cells.append(", ".join(parts) + ("" if title == rival else f" ({ratio:.2f})"))
        rows.append((work, *cells))
    checks = result["checks"].values()
    rows.append((f"labels as {rival}'s", "", *(f"{each['agreement']:.1%}" for each in checks)))
    rows.append(("largest difference of a logit", "", *(f"{each['largest difference']:.1e}" for each in checks)))
    return ("", *titles), rows


def told(result: Mapping[str, Any]) -> str:
    """What was measured, the table, and how to read it."""
    what = (
        f"{result['texts of a turn']} texts a turn, of your {result['texts']}; {result['tokens a text']:.0f} tokens a "
        f"text in the mean, {result['tokens of the text timed by itself']} in the one that is timed by itself; "
        f"{RIVAL}'s batch size {result['batch']}; {result['threads']} threads of {machine.in_short(result['machine'])}."
    )
    how = (
        f"In brackets: the ratio to {RIVAL}, the median over the rounds. Above 1 is better in texts a second, below 1 "
        "in milliseconds and MB. Figures are medians of the rounds, ± half of their range, p90 the 90th percentile of "
        "all calls. What differs by less than the two ± together, or in memory by less than 5 %, is noise. Texts a "
        "second are from strings to labels, milliseconds from token ids to logits."
    )
    busy = result["CPUs busy with others"]
    if busy > DISTURBED:
        how += f" Other processes kept {busy:.1f} CPUs busy meanwhile: measure again when they rest."
    return f"{report.filled(what)}\n\n{report.text(*table(result))}\n\n{report.filled(how)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Your ONNX file under ONNX Runtime, beside npdistil on the folder that it was exported from."
    )
    parser.add_argument(
        "model", type=Path, help="the folder that transformers saved: a DistilBertForSequenceClassification"
    )
    places = " or ".join(f"MODEL/{name}" for name in IN_FOLDER)
    parser.add_argument("--onnx", type=Path, help=f"what was exported of it; by default {places}")
    parser.add_argument("--texts", type=Path, help="a text a line; by default short reviews in English")
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each runtime (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="in which all take turns (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one turn, about (default 3)")
    parser.add_argument("--agree", type=float, default=LEAST_AGREEMENT, metavar="SHARE",
                        help="of labels that must be the same, or nothing is timed (default %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    if missing := OWN[ADAPTER].missing:
        parser.error(f"not installed: pip install {' '.join(missing)}")
    onnx = options.onnx or next((path for name in IN_FOLDER if (path := options.model / name).exists()), None)
    if not onnx or not onnx.is_file():
        parser.error(
            f"no ONNX file: {onnx or options.model}; `optimum-cli export onnx --model {options.model} FOLDER` makes one"
        )
    texts = [*TEXTS] * 16
    if options.texts:
        try:
            texts = [line for line in options.texts.read_text(encoding="utf-8").split("\n") if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            parser.error(f"{options.texts} cannot be read: {error}")
    if not texts:
        parser.error(f"no texts in {options.texts}")
    if options.threads < 1 or options.rounds < 1 or options.seconds <= 0:
        parser.error("--threads, --rounds and --seconds must be positive")
    with tempfile.TemporaryDirectory(prefix="npdistil-own-") as folder:
        scratch = Path(folder)
        try:
            model = npdistil.load(options.model)
            config = model.config
            if config.architecture != "DistilBertForSequenceClassification" or config.num_labels < 2:
                labels = f" with {config.num_labels} label" if config.num_labels == 1 else ""
                parser.error(f"{options.model} is a {config.class_name}{labels}; only classifiers are compared here")
            cut = cutting(model, scratch)
            compared = sides(model, options.model, onnx, scratch)
            some = evenly(texts, min(len(texts), CHECKED))
            token_ids = [encoding.ids for encoding in cut.encode_batch(some)]
            del model
            result: dict[str, Any] = {"benchmark": "own", "machine": machine.describe()}
            result |= measure(
                compared, scratch, token_ids, texts,
                threads=options.threads, rounds=options.rounds, seconds=options.seconds, agree=options.agree,
            )  # fmt: skip
        except (npdistil.NpdistilError, WorkerError) as error:
            raise SystemExit(f"{parser.prog}: {error}") from None
    if options.out:
        report.write(options.out, result)
    print(told(result))


if __name__ == "__main__":
    main()
