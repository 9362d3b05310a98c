"""From process start to the printed label, and the memory that it takes: fresh processes, warm page cache.

    python benchmarks/startup.py --out benchmarks/results/startup.json

Every command is started anew in each round, all commands in turn, so that a noisy machine disturbs all alike. npdistil
runs in an environment of its own that holds what `pip install npdistil` brings and nothing else; the others run in the
one that this script runs in. This process imports only the standard library: a child's peak memory would otherwise
begin with its parent's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import machine
import report

ROOT = Path(__file__).resolve().parents[1]

TEXT = "I like you. I love you."
NPDISTIL = """
import sys
from npdistil.cli import main
sys.exit(main(sys.argv[1:]))
"""
HEAD = """
import sys
from tokenizers import Tokenizer
model, files, text = sys.argv[1:]
tokenizer = Tokenizer.from_file(model + "/tokenizer.json")
tokenizer.no_padding()
ids = tokenizer.encode(text).ids
"""
ONNX_RUNTIME = (
    HEAD
    + """
import numpy, onnxruntime
session = onnxruntime.InferenceSession(files + "/model.onnx", providers=["CPUExecutionProvider"])
logits = session.run(None, {"input_ids": numpy.array([ids]), "attention_mask": numpy.ones((1, len(ids)), "int64")})[0]
print(["NEGATIVE", "POSITIVE"][logits.argmax()])
"""
)
OPENVINO = (
    HEAD
    + """
import numpy, openvino
compiled = openvino.Core().compile_model(files + "/model.xml", "CPU")
logits = compiled([numpy.array([ids]), numpy.ones((1, len(ids)), "int64")])[0]
print(["NEGATIVE", "POSITIVE"][logits.argmax()])
"""
)
CTRANSLATE2 = (
    HEAD
    + """
import numpy, ctranslate2
from safetensors.numpy import load_file
encoder = ctranslate2.Encoder(files, device="cpu", compute_type="int8", inter_threads=1)
first = numpy.asarray(encoder.forward_batch([ids]).last_hidden_state)[:, 0]
head = load_file(files + "/head.safetensors")
hidden = numpy.maximum(first @ head["pre_classifier.weight"].T + head["pre_classifier.bias"], 0)
logits = hidden @ head["classifier.weight"].T + head["classifier.bias"]
print(["NEGATIVE", "POSITIVE"][logits.argmax()])
"""
)
TRANSFORMERS = """
import sys
from transformers import pipeline
print(pipeline("text-classification", sys.argv[1])(sys.argv[3])[0]["label"])
"""
COLD = ", cold page cache"  # ends the name of a command that was started so
IMPORT = "From process start to a line printed after the import"
IMPORTS = ("numpy", "npdistil", "onnxruntime", "openvino", "ctranslate2", "torch")
# What is asked of npdistil: seconds, MB.
TARGETS = {
    "npdistil numpy, bundled": (0.3, 120.0),
    "npdistil numpy float32, full size": (0.4, None),
    "npdistil int8, bundled": (0.25, 100.0),
    "npdistil int8, full size": (0.45, None),
}


def core(folder: str, extra: str = "") -> str:
    """The Python of a fresh environment in `folder` with the core install, or one extra, alone; byte code included."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(Path(folder) / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, f"{ROOT}{extra}"], check=True)
    return python


def commands(models: dict[str, dict[str, str]], npdistil: str) -> dict[str, list[str]]:
    """What is started, by name; `models` is what the cache holds of both models, by kind; `npdistil` is its Python."""
    python = [sys.executable, "-c"]
    full, bundled = models["full-size"], models["bundled"]
    classify = [npdistil, "-c", NPDISTIL, "classify", TEXT]
    found = {
        "npdistil numpy, bundled": [*classify, "--engine", "numpy"],
        "npdistil int8, bundled": [*classify, "--engine", "compiled"],
        "npdistil numpy float32, full size": [*classify, "--engine", "numpy", "--model", full["model"]],
        "npdistil float32, full size": [*classify, "--engine", "compiled", "--model", full["model"]],
        "npdistil int8, full size": [*classify, "--engine", "compiled", "--model", full["npdistil-int8"]],
    }
    for size, at in (("bundled", bundled), ("full size", full)):
        for name, script, kind in (
            ("ONNX Runtime int8", ONNX_RUNTIME, "onnx-int8"),
            ("ONNX Runtime float32", ONNX_RUNTIME, "onnx-float32"),
            ("OpenVINO int8", OPENVINO, "openvino-int8"),
            ("CTranslate2 int8", CTRANSLATE2, "ctranslate2"),
            ("transformers float32", TRANSFORMERS, "model"),
        ):
            if kind in at:
                found[f"{name}, {size}"] = [*python, script, at["model"], at[kind], TEXT]
    for name in IMPORTS:
        found[f"import {name}"] = [
            npdistil if name == "npdistil" else sys.executable,
            "-c",
            f"import {name}; print('done')",
        ]
    return found


def measure(command: list[str], environment: dict[str, str]) -> tuple[float, int, float]:
    """Seconds until the first line of output is there, peak resident memory in bytes, CPUs that others kept busy."""
    start, busy = time.perf_counter(), machine.busy_seconds()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        others = machine.busy_seconds() - busy - usage.ru_utime - usage.ru_stime
        others /= time.perf_counter() - start
    if process.returncode or not line.strip():
        raise RuntimeError(f"{errors.strip().splitlines()[-1:] or 'no output'} (exit code {process.returncode})")
    return seconds, usage.ru_maxrss * 1024, round(others, 3)


def cold(command: list[str]) -> tuple[float, int, float]:
    """The same where nothing that Python or the model reads is in the page cache, as at a machine's first start."""
    prefix = Path(command[0]).parents[1]
    folders = [prefix, Path(sys.base_prefix), *(Path(part) for part in command if Path(part).is_dir())]
    for file in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return measure(command, {})


def tables(result: dict[str, Any]) -> list[report.Table]:
    """With a warm page cache, with a cold one, and imports alone: seconds with their spread, peak memory, targets."""
    label = "From process start to the printed label of one short text"
    parts: dict[str, list[report.Row]] = {f"{label}, page cache warm": [], f"{label}, page cache cold": [], IMPORT: []}
    warm, uncached, imports = parts.values()
    for name, found in result["commands"].items():
        seconds, peak = median(found["seconds"]), median(found["peak"]) / 1e6
        low, high = min(found["seconds"]), max(found["seconds"])
        others = f"{max(0.0, median(found['others_busy'])):.2f}"
        row = (f"{seconds:.2f} ({low:.2f} to {high:.2f})", f"{peak:.0f}", others)
        if name.endswith(COLD):
            uncached.append((name.removesuffix(COLD), *row))
        elif name.startswith("import "):
            imports.append((name, *row))
        else:
            warm.append((name, *row, *_asked(name, seconds, peak)))
    head = ("command", "seconds", "peak MB", "CPUs busy with others")
    return [(what, head if rows is not warm else (*head, "asked", "met"), rows) for what, rows in parts.items() if rows]


def _asked(name: str, seconds: float, peak: float) -> tuple[str, str]:
    """What was asked of a command, and whether it is met; nothing of most."""
    if name not in TARGETS:
        return "", ""
    most_seconds, most_peak = TARGETS[name]
    met = seconds <= most_seconds and (most_peak is None or peak <= most_peak)
    return f"{most_seconds} s" + (f", {most_peak:.0f} MB" if most_peak else ""), "yes" if met else "NO"


def main() -> None:
    parser = argparse.ArgumentParser(description="Process start to printed label.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold-rounds", type=int, default=2, help="with a cold page cache")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "npdistil-benchmarks")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="", help="commands that contain this text")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    models = json.loads(prepared(options.cache, options.data))
    result: dict[str, Any] = {"benchmark": "startup", "machine": machine.describe(), "text": TEXT}
    with tempfile.TemporaryDirectory(prefix="npdistil-startup-") as folder:
        chosen = {name: each for name, each in commands(models, core(folder)).items() if options.only in name}
        times, skipped = timed(chosen, options.rounds, options.cold_rounds)
    columns = {
        name: dict(zip(("seconds", "peak", "others_busy"), zip(*found, strict=True), strict=True))
        for name, found in times.items()
    }
    result |= {"commands": columns, "skipped": skipped}
    if options.out:
        report.write(options.out, result)
    print("\n\n".join(f"{what}:\n\n{report.text(head, rows)}" for what, head, rows in tables(result)))


def timed(
    chosen: dict[str, list[str]], rounds: int, cold_rounds: int
) -> tuple[dict[str, list[tuple[float, int, float]]], dict[str, str]]:
    """What `measure` gave of each command in each round, those with a cold page cache last; why others gave nothing."""
    times: dict[str, list[tuple[float, int, float]]] = {}
    skipped = {}
    for name, command in chosen.items():
        try:
            measure(command, {})  # fills the page cache
            times[name] = []
        except RuntimeError as error:  # noqa: PERF203 - one failure must not end the others
            skipped[name] = str(error)
            print(f"SKIPPED {name}: {error}", file=sys.stderr)
    for _ in range(rounds):
        for name, found in times.items():
            found.append(measure(chosen[name], {}))
    for name in [name for name in times if "int8" in name and cold_rounds]:
        times[f"{name}{COLD}"] = [cold(chosen[name]) for _ in range(cold_rounds)]
    return times, skipped


def prepared(cache: Path, data: Path | None) -> str:
    """Directories of both models by kind, as JSON; made in a process of its own, which may import what it likes."""
    command = [sys.executable, str(Path(__file__).with_name("compare.py")), "--prepare", "--cache", str(cache)]
    run = subprocess.run([*command, *(["--data", str(data)] if data else [])], stdout=subprocess.PIPE, check=True)
    return run.stdout.decode()


if __name__ == "__main__":
    main()
