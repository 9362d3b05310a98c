"""What each runtime takes on disk: installed in a fresh environment, all its files summed up.

python benchmarks/sizes.py --out benchmarks/results/sizes.json      # downloads what pip does not have yet
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import report

ROOT = Path(__file__).resolve().parents[1]
LEAN = "npdistil, without what tokenizers brings"
# Enough to turn a string into a label. The runtimes get the tokenizers library; transformers brings its own.
TORCH = machine.version_of("torch")
NEEDS = {
    "npdistil": [str(ROOT)],
    LEAN: ["numpy", "safetensors"],
    "npdistil[jit]": [f"{ROOT}[jit]"],
    "ONNX Runtime": ["onnxruntime", "tokenizers"],
    "CTranslate2": ["ctranslate2", "tokenizers", "safetensors"],
    "OpenVINO": ["openvino", "tokenizers"],
    "transformers + torch": ["transformers", "torch"],  # on Linux with a GPU's libraries
    "transformers + torch for CPUs": [
        "transformers",
        f"torch=={TORCH}" if TORCH else "torch",
    ],  # the build that is timed
}


# Installed without what they ask for, as docs/minimal.md says.
ALONE = {LEAN: ["tokenizers", str(ROOT)]}
# Bytes of each distribution's files, asked for in its environment.
BY_PACKAGE = """
import json
from importlib.metadata import distributions
def size(file):
    path = file.locate()
    return path.stat().st_size if path.is_file() and path.suffix != ".pyc" else 0
print(json.dumps({
    each.name: sum(map(size, each.files or ())) for each in distributions() if each.name not in ("pip", "setuptools")
}))
"""


def installed(needs: list[str], alone: list[str], python: str) -> dict[str, Any]:
    """Bytes that `pip install` adds to a fresh environment, without byte code: of all, and of each package it added."""
    with tempfile.TemporaryDirectory(prefix="npdistil-size-") as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = Path(folder) / "bin" / "python"
        before = _bytes(Path(folder))
        quiet = ["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([inside, *quiet, *needs], check=True)
        if alone:
            subprocess.run([inside, *quiet, "--no-deps", *alone], check=True)
        size = _bytes(Path(folder)) - before
        each = subprocess.run([inside, "-c", BY_PACKAGE], check=True, capture_output=True)
        listed = subprocess.run(
            [inside, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        kept = [line for line in listed if not line.startswith(("pip==", "setuptools=="))]
    return {"bytes": size, "packages": kept, "by_package": json.loads(each.stdout)}


def _bytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc")


def table(result: dict[str, Any]) -> tuple[report.Row, list[report.Row]]:
    """Head and rows, smallest first."""
    found = sorted(result["installed"].items(), key=lambda item: item[1]["bytes"])
    rows: list[report.Row] = [(name, f"{each['bytes'] / 1e6:.0f}", str(len(each["packages"]))) for name, each in found]
    return ("installed", "MB", "packages"), rows


def parts(result: dict[str, Any]) -> tuple[report.Row, list[report.Row]]:
    """Head and rows of what the core is made of, largest first; what is below a megabyte in one row."""
    found = sorted(result["installed"]["npdistil"]["by_package"].items(), key=lambda item: -item[1])
    rows: list[report.Row] = [(name, f"{size / 1e6:.1f}") for name, size in found if size >= 1e6]
    small = [size for _, size in found if size < 1e6]
    return ("of which", "MB"), [*rows, (f"{len(small)} others", f"{sum(small) / 1e6:.1f}")]


def main() -> None:
    parser = argparse.ArgumentParser(description="Installed size of npdistil and of other runtimes.")
    parser.add_argument("--only", nargs="+", choices=NEEDS, default=list(NEEDS))
    parser.add_argument("--python", default=sys.executable, help="the Python whose environments are made")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found, skipped = {}, {}
    for name in options.only:
        try:
            found[name] = installed(NEEDS[name], ALONE.get(name, []), options.python)
            print(f"{name:42} {found[name]['bytes'] / 1e6:7.0f} MB", flush=True)
        except subprocess.CalledProcessError as error:  # noqa: PERF203 - one failure must not end the others
            skipped[name] = f"exit code {error.returncode}: {' '.join(map(str, error.cmd[-3:]))}"
            print(f"SKIPPED {name}: {skipped[name]}", file=sys.stderr)
    result = {"benchmark": "sizes", "machine": machine.describe(()), "installed": found, "skipped": skipped}
    if options.out:
        report.write(options.out, result)


if __name__ == "__main__":
    main()
