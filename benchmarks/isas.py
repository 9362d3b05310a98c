"""The kernels that come with the package, by instruction set, and those compiled for this very processor.

    python benchmarks/isas.py --out benchmarks/results/isas.json

Full-size DistilBERT, ids to logits. One process for each, all in turn within a round. On a processor that has more, a
lower instruction set is a simulation: its clock and its memory stay as they are. Needs `pip install ".[bench]"`.
"""

import argparse
import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import data
import machine
import report
import startup
from worker import Worker

WORKS = {
    "256 x 25 tokens": (25, 256, 2.5),
    "128": (128, 1, 0.6),
    "16": (16, 1, 0.4),
}  # tokens, texts, seconds of a turn
EXACT = "jit"  # what NPDISTIL_ISA calls kernels compiled for this very processor


def measure(models: dict[str, Path], names: list[str], threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds of a call, the median of each round: precision -> instruction set -> work -> rounds."""
    found: dict[str, dict[str, Any]] = {}
    for precision, model in models.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="npdistil-isas-")))
            workers = {}
            for name in names:
                os.environ["NPDISTIL_ISA"] = name
                peer = Worker(f"npdistil {precision}", model, model, threads, folder / name)
                workers[name] = stack.enter_context(peer)
            times: dict[str, Any] = {name: {work: [] for work in WORKS} for name in names}
            for _ in range(rounds):
                for work, (tokens, texts, seconds) in WORKS.items():
                    ids = [101, *range(2000, 1998 + tokens), 102]
                    for name, worker in workers.items():
                        answer = worker.ask("latency", token_ids=ids, seconds=seconds, least=2, texts=texts)
                        times[name][work].append(median(answer["seconds"]))
        found[precision] = times
    return found


def table(found: dict[str, dict[str, Any]]) -> tuple[report.Row, list[report.Row]]:
    """Head and rows in milliseconds."""
    head = ("instruction set", *(f"{precision}, {work}" for precision in found for work in WORKS))
    names = next(iter(found.values()))
    shown = {EXACT: "this processor"}
    rows = [
        (
            shown.get(name, name),
            *(report.short(1e3 * median(found[each][name][work])) for each in found for work in WORKS),
        )
        for name in names
    ]
    return head, rows


def main() -> None:
    from npdistil.compiled.cpu import features
    from npdistil.compiled.isa import ISAS
    from npdistil.compiled.kernels import Files, system

    parser = argparse.ArgumentParser(description="Installed kernels against those compiled for this processor.")
    parser.add_argument("--out", type=Path, help="write the result here, as JSON")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "npdistil-benchmarks")
    parser.add_argument("--data", type=Path, default=data.default_data())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    here = features(system(), Files(system()).load)
    names = [isa.name for isa in ISAS if isa.needs <= here]
    full = json.loads(startup.prepared(options.cache, options.data))["full-size"]
    models = {"float32": Path(full["model"]), "int8": Path(full["npdistil-int8"])}
    found = measure(models, [EXACT, *names], options.threads, options.rounds)
    result = {"benchmark": "isas", "machine": machine.describe(("numpy", "numba", "llvmlite")), "seconds": found}
    if options.out:
        report.write(options.out, result)
    print(report.markdown(*table(found)))


if __name__ == "__main__":
    main()
