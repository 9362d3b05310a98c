"""What each runtime takes on disk: installed in a fresh environment, all its files summed up.

python benchmarks/sizes.py --out benchmarks/results/sizes.json      # downloads what pip does not have yet
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import report

ROOT = Path(__file__).resolve().parents[1]
# Enough to turn a string into a label. The runtimes get the tokenizers library; transformers brings its own.
TORCH = machine.version_of("torch")
NEEDS = {
    "npdistil": [str(ROOT)],
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


def installed(needs: list[str], python: str) -> dict[str, Any]:
    """Bytes that `pip install` adds to a fresh environment, without byte code, and the versions of what it added."""
    with tempfile.TemporaryDirectory(prefix="npdistil-size-") as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = Path(folder) / "bin" / "python"
        before = _bytes(Path(folder))
        quiet = ["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([inside, *quiet, *needs], check=True)
        size = _bytes(Path(folder)) - before
        listed = subprocess.run(
            [inside, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        kept = [line for line in listed if not line.startswith(("pip==", "setuptools=="))]
    return {"bytes": size, "packages": kept}


def _bytes(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc")


def table(result: dict[str, Any]) -> tuple[report.Row, list[report.Row]]:
    """Head and rows, smallest first."""
    found = sorted(result["installed"].items(), key=lambda item: item[1]["bytes"])
    rows: list[report.Row] = [(name, f"{each['bytes'] / 1e6:.0f}", str(len(each["packages"]))) for name, each in found]
    return ("installed", "MB", "packages"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Installed size of npdistil and of other runtimes.")
    parser.add_argument("--only", nargs="+", choices=NEEDS, default=list(NEEDS))
    parser.add_argument("--python", default=sys.executable, help="the Python whose environments are made")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found, skipped = {}, {}
    for name in options.only:
        try:
            found[name] = installed(NEEDS[name], options.python)
            print(f"{name:24} {found[name]['bytes'] / 1e6:7.0f} MB", flush=True)
        except subprocess.CalledProcessError as error:  # noqa: PERF203 - one failure must not end the others
            skipped[name] = f"exit code {error.returncode}: {' '.join(map(str, error.cmd[-3:]))}"
            print(f"SKIPPED {name}: {skipped[name]}", file=sys.stderr)
    result = {"benchmark": "sizes", "machine": machine.describe(()), "installed": found, "skipped": skipped}
    if options.out:
        report.write(options.out, result)


if __name__ == "__main__":
    main()
