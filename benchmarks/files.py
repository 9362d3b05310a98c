"""Whole files: their share of the throughput of lists, what a row costs without the model, and peak memory.

    python benchmarks/files.py --out benchmarks/results/files.json

With the bundled model and texts of SST-2. A ratio is taken inside each round, in which the forward alone, the pipeline
and every format have a turn; what is asked is of the pipeline's, which is given the same texts as a list. For what a
row costs without the model, answers are ready: all is done but tokens, forward and scores. Peak memory is that of the
command in a process and an environment of its own, which holds what `pip install "npdistil[files]"` brings and nothing
else: pyarrow imports pandas where there is one. `--parts` measures some of it again, and keeps the other figures.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import data
import machine
import pyarrow as pa
import pyarrow.parquet as pq
import report
import startup

import npdistil
from npdistil.batch import chunks
from npdistil.files import annotate_file
from npdistil.files.run import REMEMBERED
from npdistil.pipelines import Pipeline

PAGE = Path(__file__).resolve().parents[1] / "docs" / "files.md"
NEEDS = ("npdistil", "numpy", "tokenizers", "pyarrow")
FORMATS = {"jsonl": "JSON lines", "csv": "CSV", "parquet": "Parquet"}
THREADS = {"one thread": 1, "two threads": 2}
SHARES = {"one thread": 0.97, "two threads": 0.92}  # what is asked: of the pipeline's throughput, at least
MICROSECONDS, PEAK = 10, 192  # a row without the model, MB; at most
DISTINCT = REMEMBERED + 2_000  # texts of a long file
WIDE = 400_000  # characters of a wide row's other column
PARTS = ("share", "rows", "long", "wide")
COMMAND = """
import re, sys
from pathlib import Path
from npdistil.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


class Ready(Pipeline):
    """A pipeline that has the same answer to every text already."""

    def __call__(self, *inputs: Any, **_: Any) -> Any:
        """As `Pipeline.__call__`."""
        return [{"label": "POSITIVE", "score": 0.9987654321}] * len(inputs[0])


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Rows in the format of the path's suffix."""
    if path.suffix == ".parquet":
        found = iter(rows)
        first = next(found)
        columns = list(first)
        with pq.ParquetWriter(path, pa.Table.from_pylist([first]).schema) as out:
            out.write_table(pa.Table.from_pylist([first]))
            per_group = max(1, 2**22 // len(str(first)))
            for some in chunks(found, min(per_group, 100_000)):
                out.write_table(pa.table({name: [row[name] for row in some] for name in columns}))
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".jsonl":
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        found = iter(rows)
        first = next(found)
        table = csv.DictWriter(stream, first)
        table.writeheader()
        table.writerow(first)
        table.writerows(found)


def narrow(texts: list[str], count: int) -> Iterator[dict[str, Any]]:
    """Rows with a number, a text and a word beside it.

    The texts of a long file come again before they are forgotten, which takes the most memory and saves time.
    """
    choose = random.Random(1)
    for i in range(count):
        text = texts[i] if i < DISTINCT else texts[choose.randrange(DISTINCT - REMEMBERED, DISTINCT)]
        yield {"id": i, "text": text, "source": f"page-{i % 97}"}


def wide(texts: list[str], size: int) -> Iterator[dict[str, Any]]:
    """Rows whose other column makes them so many bytes in all."""
    others = [os.urandom(WIDE // 2).hex() for _ in range(50)]
    for i in range(size // WIDE):
        yield {"id": i, "text": texts[i % len(texts)], "page": others[i % len(others)]}


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def share(texts: list[str], rounds: int, threads: int, scratch: Path) -> dict[str, Any]:
    """Texts a second of the forward on token ids that are ready, of the pipeline, and of every format."""
    pipe = npdistil.pipeline("sentiment-analysis", threads=threads)
    some = [*chunks(texts, pipe.processor.settings.batch_size)]
    inputs = [pipe.processor.preprocess(each) for each in some]
    work: dict[str, Callable[[], Any]] = {
        "forward": lambda: [pipe.model.forward(each) for each in inputs],
        "pipeline": lambda: pipe(texts),
    }
    for name in FORMATS:
        source, out = scratch / f"in.{name}", scratch / f"out.{name}"
        write(source, narrow(texts, len(texts)))
        work[name] = partial(annotate_file, pipe, source, out)
    pipe(texts[:500])
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, each in work.items():
            found[name].append(len(texts) / timed(each))
    return found


def without_model(texts: list[str], rounds: int, count: int, scratch: Path) -> dict[str, list[float]]:
    """Microseconds a row."""
    pipe = Ready(npdistil.load(threads=1), task="sentiment-analysis")
    found: dict[str, list[float]] = {name: [] for name in FORMATS}
    for name in FORMATS:
        write(scratch / f"in.{name}", narrow(texts, count))
    for _ in range(rounds):
        for name in FORMATS:
            seconds = timed(partial(annotate_file, pipe, scratch / f"in.{name}", scratch / f"out.{name}"))
            found[name].append(seconds / count * 1e6)
    return found


def memory(rows: Iterable[dict[str, Any]], name: str, scratch: Path, python: str) -> dict[str, Any]:
    """Peak of the command on a file of these rows."""
    source, out = scratch / f"memory.{name}", scratch / f"memory-out.{name}"
    write(source, rows)
    command = [python, "-c", COMMAND, "classify", "--input", str(source), "--output", str(out)]
    seconds = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    seconds = time.perf_counter() - seconds
    found = {"bytes": source.stat().st_size, "peak": int(done.stdout) * 1024, "seconds": seconds}
    source.unlink()
    out.unlink()
    return found


def table(result: dict[str, Any]) -> str:
    """What was asked and what came out, in Markdown."""
    rows: list[report.Row] = []

    def add(what: str, values: Iterable[str], asked: str, met: Iterable[bool]) -> None:
        rows.append((what, *values, asked, "yes" if all(met) else "NO"))

    for name, rates in result.get("texts a second", {}).items():
        asked = SHARES[name]
        for against in ("pipeline", "forward"):
            found = [median(a / b for a, b in zip(rates[each], rates[against], strict=True)) for each in FORMATS]
            what = f"share of the {against}'s {median(rates[against]):,.0f} texts a second, {name}"
            if against == "pipeline":
                add(what, (f"{each:.1%}" for each in found), f"{asked:.0%}", (each >= asked for each in found))
            else:
                rows.append((what, *(f"{each:.1%}" for each in found), "", ""))
    if costs := result.get("microseconds a row without the model"):
        found = [median(costs[each]) for each in FORMATS]
        what = "a row without the model, microseconds"
        add(what, (f"{each:.1f}" for each in found), f"{MICROSECONDS}", (each <= MICROSECONDS for each in found))
    for what, peaks in result.get("memory", {}).items():
        found = [peaks[each]["peak"] / 1e6 for each in FORMATS]
        add(
            f"peak memory, {what}", (f"{each:.0f} MB" for each in found), f"{PEAK} MB", (each <= PEAK for each in found)
        )
    what = "The bundled model"
    if "texts" in result:
        what += f"; throughput on {result['texts']:,} distinct texts of SST-2's training set, "
        what += f"{report.tokens('SST-2 train, distinct')} in the mean"
    head = report.measured_on(what, result, "../benchmarks/results/files.json")
    return f"{head}\n\n{report.markdown(('', *FORMATS.values(), 'asked', 'met'), rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Whole files: throughput, cost of a row, memory.")
    parser.add_argument("--data", type=Path, default=data.default_data())
    parser.add_argument("--texts", type=int, default=4_000, help="whose throughput is measured")
    parser.add_argument("--rows", type=int, default=300_000, help="of the long file")
    parser.add_argument("--bytes", type=int, default=10**9, help="of the file of wide rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    texts = [*dict.fromkeys(text for text, _ in data.sst2(options.data, "train"))]
    result: dict[str, Any] = {}
    if options.out and options.out.exists():
        result = json.loads(options.out.read_text(encoding="utf-8"))
    result |= {"benchmark": "files", "machine": machine.describe(NEEDS)}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if "share" in options.parts:
            some = data.distinct(texts, options.texts)
            result["texts"] = options.texts
            result["texts a second"] = {
                name: share(some, options.rounds, number, scratch) for name, number in THREADS.items()
            }
        if "rows" in options.parts:
            found = without_model(texts, options.rounds, options.rows, scratch)
            result["microseconds a row without the model"] = found
        if {"long", "wide"} & {*options.parts}:
            python = startup.core(str(scratch / "environment"), "[files]")
            kinds: dict[str, tuple[str, Callable[[], Iterable[dict[str, Any]]]]] = {
                "long": (f"{options.rows:,} rows", lambda: narrow(texts, options.rows)),
                "wide": (
                    f"{options.bytes / 1e9:g} GB in rows of {WIDE // 1000} kB",
                    lambda: wide(texts, options.bytes),
                ),
            }
            for kind, (what, rows) in kinds.items():
                if kind in options.parts:
                    peaks = {name: memory(rows(), name, scratch, python) for name in FORMATS}
                    result["memory"] = {**result.get("memory", {}), what: peaks}
    print(json.dumps(result, indent=1))
    if options.out:
        report.write(options.out, result)
        text = report.fill(PAGE.read_text(encoding="utf-8"), {"figures": table(result)})
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
