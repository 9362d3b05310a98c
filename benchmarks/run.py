"""Everything at once: compare, pauses, start-up, stages, ladder, sizes; then the tables of README.md and the pictures.

    python benchmarks/run.py            # --quick: less of everything, results not kept

Needs `pip install ".[bench]"`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import report

HERE = Path(__file__).resolve().parent
LADDER_NEEDS = ("npdistil", "numpy", "numba", "llvmlite")


def run(script: str, *arguments: str) -> str:
    """A script of this folder; its output, which is also shown."""
    print(f"$ python benchmarks/{script} {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, str(HERE / script), *arguments], check=True, stdout=subprocess.PIPE)
    output = done.stdout.decode()
    print(output, flush=True)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description="All benchmarks, tables and pictures.")
    parser.add_argument("--quick", action="store_true", help="less of everything, into a scratch directory")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "npdistil-benchmarks")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=["compare", "pauses", "startup", "stages", "isas", "sizes", "ladder"],
    )
    options = parser.parse_args()
    results, readme = HERE / "results", HERE / "README.md"
    if options.quick:
        results = Path(tempfile.mkdtemp(prefix="npdistil-benchmarks-"))
        readme = results / "README.md"
        readme.write_text((HERE / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    cache = ("--cache", str(options.cache))
    if "compare" not in options.without:
        run("compare.py", *cache, "--out", str(results / "compare.json"), *(["--quick"] if options.quick else []))
    if "pauses" not in options.without:
        run("pauses.py", *cache, "--out", str(results / "pauses.json"), *(["--rounds", "1"] if options.quick else []))
    if "startup" not in options.without:
        rounds = ("--rounds", "3", "--cold-rounds", "1") if options.quick else ()
        run("startup.py", *cache, "--out", str(results / "startup.json"), *rounds)
    if "stages" not in options.without:
        run("stages.py", *cache, "--out", str(results / "stages.json"), *(["--rounds", "1"] if options.quick else []))
    if "isas" not in options.without:
        run("isas.py", *cache, "--out", str(results / "isas.json"), *(["--rounds", "1"] if options.quick else []))
    if "ladder" not in options.without:
        ladder = json.loads(run("kernels/ladder.py", "--json").splitlines()[-1])
        report.write(
            results / "ladder.json", {"benchmark": "ladder", "machine": machine.describe(LADDER_NEEDS)} | ladder
        )
    if "sizes" not in options.without and not options.quick:
        run("sizes.py", "--out", str(results / "sizes.json"))
    run("plots.py", "--results", str(results), "--readme", str(readme))


if __name__ == "__main__":
    main()
