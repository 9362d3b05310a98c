"""One text after a pause: milliseconds of a call against how long nothing was asked for before it.

    python benchmarks/pauses.py --out benchmarks/results/pauses.json      # 4 minutes

So meets a model who sends it a text now and then: threads sleep and must be woken, and caches and clock have gone to
others. Full-size DistilBERT, ids to logits, one text. Each runtime is in a process of its own, all in turn within a
round, and while one is measured the others are stopped, so that none of their threads spins. The models are those of
compare.py, which checks what they say. Needs `pip install ".[bench]"`.
"""

import argparse
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import machine
import report
from compare import DISTURBED, Cache, find_model, say
from data import default_data
from peers import PEERS
from worker import Worker

RUNTIMES = [
    f"{name} {precision}" for precision in ("int8", "float32") for name in ("npdistil", "OpenVINO", "ONNX Runtime")
]
LENGTHS = (8, 16, 32, 128)  # tokens
PAUSES = {0: 0.25, 2: 0.25, 20: 0.5, 200: 1.0}  # milliseconds -> seconds of a turn
LEAST = 5  # calls of a turn

Times = dict[str, dict[str, dict[str, list[list[int]]]]]  # tokens -> milliseconds of pause -> runtime -> rounds


@contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    """A worker that is stopped before and after."""
    worker.process.send_signal(signal.SIGCONT)
    try:
        yield worker
    finally:
        worker.process.send_signal(signal.SIGSTOP)


def measure(
    workers: Mapping[str, Worker], lengths: Sequence[int], pauses: Mapping[int, float], rounds: int
) -> dict[str, Any]:
    """Microseconds of each call, and the CPUs that other processes kept busy in each turn."""
    times: Times = {str(n): {str(pause): {name: [] for name in workers} for pause in pauses} for n in lengths}
    others: dict[str, list[float]] = {name: [] for name in workers}
    with ExitStack() as stack:
        for worker in workers.values():
            worker.process.send_signal(signal.SIGSTOP)
            stack.callback(worker.process.send_signal, signal.SIGCONT)
        for i in range(rounds):
            for n in lengths:
                ids = [101, *range(2000, 1998 + n), 102]
                for pause, seconds in pauses.items():
                    for name in list(workers)[:: -1 if i % 2 else 1]:
                        with running(workers[name]) as worker:
                            answer = worker.ask(
                                "latency", token_ids=ids, seconds=seconds, least=LEAST, pause=pause / 1e3
                            )
                        times[str(n)][str(pause)][name].append([round(1e6 * each) for each in answer["seconds"]])
                        others[name].append(round(answer["others"], 3))
                        if answer["others"] > DISTURBED:
                            say(f"  {name}, {n} tokens: other processes kept {answer['others']:.2f} CPUs busy")
    return {"latency_us": times, "others_busy": others}


def table(times: Times) -> tuple[report.Row, list[report.Row]]:
    """Head and rows: the median of the rounds' medians, in brackets all calls' 90th percentile, in milliseconds."""
    pauses = next(iter(times.values()))
    names = next(iter(pauses.values()))
    rows = [
        (name, n, *(_cell(times[n][pause][name]) for pause in pauses))
        for precision in dict.fromkeys(PEERS[name].precision for name in names)
        for n in times
        for name in names
        if PEERS[name].precision == precision
    ]
    return ("runtime", "tokens", *(f"after {pause} ms" if pause != "0" else "at once" for pause in pauses)), rows


def _cell(turns: list[list[int]]) -> str:
    middle = median(report.medians({"": turns})[""])
    slowest = report.percentile([each / 1e3 for turn in turns for each in turn], 0.9)
    return f"{report.short(middle)} ({report.short(slowest)})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of one text against the pause before it.")
    parser.add_argument("--out", type=Path, help="write the result here, as JSON")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "npdistil-benchmarks")
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    cache = Cache(options.cache, options.data)
    model, _ = find_model("full-size", None, cache)
    kinds = {name: PEERS[name].kind for name in RUNTIMES}
    files = {name: cache.get(kind, model, {}) if kind else model for name, kind in kinds.items()}
    head = {"benchmark": "pauses", "threads": options.threads, "machine": machine.describe()}
    stolen = machine.stolen()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npdistil-pauses-")))
        workers = {
            name: stack.enter_context(Worker(name, model, files[name], options.threads, folder / name))
            for name in RUNTIMES
        }
        result = head | measure(workers, LENGTHS, PAUSES, options.rounds)
    result["stolen_seconds"] = machine.stolen() - stolen
    if options.out:
        report.write(options.out, result)
    print(report.markdown(*table(result["latency_us"])))


if __name__ == "__main__":
    main()
