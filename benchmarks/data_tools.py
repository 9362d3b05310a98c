"""Data tools: what share of npdistil's own throughput is left in each, its start included.

`pip install . daft "dask[dataframe]" datasets duckdb polars "ray[data]"`, then `python benchmarks/data_tools.py --out
benchmarks/results/data-tools.json`, which runs the code of docs/data-tools.md on SST-2 and writes the figures there.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import data
import machine
import report

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data-tools.md"
PACKAGES = {
    "pandas": "pandas",
    "Polars": "polars",
    "DuckDB": "duckdb",
    "Hugging Face datasets": "datasets",
    "Dask": "dask",
    "Ray Data": "ray",
    "Daft": "daft",
}
AT_ONCE = {"Hugging Face datasets": 2, "Dask": 2, "Ray Data": 2}  # processes that score; elsewhere one
START = """
import sys, time
import numpy as np
{first}
texts = {texts}
if __name__ == "__main__":
    positive(["warm", None])
    start = time.perf_counter()
"""
END = """
    seconds = time.perf_counter() - start
    np.save(sys.argv[1], np.array([each if isinstance(each, float) else np.nan for each in reviews["positive"]], float))
    print(f"{seconds:.2f}")
"""


def blocks() -> tuple[str, dict[str, str]]:
    """The code of the page that comes first, and that under each title."""
    first, *others = PAGE.read_text(encoding="utf-8").split("\n## ")
    return _code(first), {each.split("\n", 1)[0]: _code(each) for each in others}


def _code(text: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(block)


def script(block: str, texts: Sequence[str | None], threads: int = 1) -> str:
    """A program that scores texts with a block of the page, writes the values to a file and prints the seconds."""
    first = blocks()[0].replace("threads=1", f"threads={threads}")
    indented = "".join(f"    {line}" if line.strip() else line for line in block.splitlines(keepends=True))
    return START.format(first=first, texts=repr([*texts])) + indented + END


def run(program: str, scratch: Path) -> float:
    """Seconds that a script says it took; its values are in found.npy."""
    path = scratch / "script.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path), str(scratch / "found.npy")],
        stdout=subprocess.PIPE, text=True, check=True, timeout=500, cwd=scratch,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="npdistil in data tools and without them.")
    parser.add_argument("--data", type=Path, default=data.default_data())
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    texts = [text for text, _ in data.sst2(options.data, "train")][: options.rows]
    result = measure(texts, options.rounds)
    print(json.dumps(result, indent=1))
    if options.out:
        report.write(options.out, result)
        PAGE.write_text(report.fill(PAGE.read_text(encoding="utf-8"), {"data-tools": table(result)}), encoding="utf-8")


def measure(texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Seconds in each tool, and of as many threads without one, in each round."""
    seconds: dict[str, list[float]] = {}
    alone = 'reviews = {"positive": positive(texts)}\n'
    programs = {f"{n} without a tool": script(alone, texts, n) for n in sorted({1, *AT_ONCE.values()})}
    programs |= {title: script(block, texts) for title, block in blocks()[1].items()}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(rounds):
            for title, program in programs.items():
                seconds.setdefault(title, []).append(run(program, Path(scratch)))
                print(f"{title}: {seconds[title][-1]:.1f} s", file=sys.stderr, flush=True)
    versions = ("npdistil", "numpy", "tokenizers", "pyarrow", *PACKAGES.values())
    return {"benchmark": "data-tools", "machine": machine.describe(versions), "rows": len(texts), "seconds": seconds}


def table(result: Mapping[str, Any]) -> str:
    """What the page shows."""
    seconds, versions, rows = result["seconds"], result["machine"]["versions"], []
    for title, package in PACKAGES.items():
        alone = seconds[f"{AT_ONCE.get(title, 1)} without a tool"]
        share = statistics.median(a / b for a, b in zip(alone, seconds[title], strict=True))
        rate = result["rows"] / statistics.median(seconds[title])
        rows.append((f"{title} {versions[package]}", str(AT_ONCE.get(title, 1)), f"{rate:,.0f}", f"{share:.0%}"))
    mean = report.tokens("SST-2 train, first")
    what = f"The bundled model, {result['rows']:,} texts of SST-2's training set, {mean} in the mean"
    head = report.measured_on(what, result, "../benchmarks/results/data-tools.json")
    return f"{head}\n\n{report.markdown(('tool', 'processes', 'texts a second', 'share'), rows)}"


if __name__ == "__main__":
    main()
