"""The installed kernels on processors that this machine is not: the same bits, or the NumPy engine and its reason.

    python benchmarks/emulated.py FOLDER --out benchmarks/results/emulated.json

Downloads into FOLDER, once: QEMU and an AArch64 Python from Debian's packages (with apt-get, as root, on Debian or
Ubuntu) and this package's dependencies from PyPI. Every run is a process of its own that has neither numba nor
llvmlite; it computes the bundled model's hidden states and logits of lists of random lengths in both precisions, and
their digest must be the one of this machine's own processor. What it prints first is its list of features, so that an
emulator that gives a processor more than its name says is seen. Takes nine minutes of CPU time.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).resolve().parents[1]
# What each should run on; None is the NumPy engine.
PROCESSORS: dict[str, dict[str, str | None]] = {
    "x86_64": {"Nehalem": None, "Haswell": "avx2", "EPYC-Rome": "avx2", "max": "avx2"},
    "aarch64": {
        "cortex-a53": "neon",
        "cortex-a57": "neon",
        "cortex-a76": "dotprod",
        "neoverse-n1": "dotprod",
        "max": "i8mm",
    },
}
DEBIAN = ("python3.11", "libstdc++6", "libgcc-s1")  # of AArch64, with all that they need
PACKAGES = ("numpy", "safetensors", "tokenizers")

BITS = """
import hashlib, json, random, sys, warnings
sys.modules["numba"] = sys.modules["llvmlite"] = None
import npdistil
from npdistil.compiled.cpu import features
from npdistil.compiled.kernels import Files, system
numbers = random.Random(0)
lists = [[101, *(numbers.randrange(1000, 30000) for _ in range(numbers.randrange(1, 40))), 102] for _ in range(12)]
result = {"features": sorted(features(system(), Files(system()).load)), "rows": sum(map(len, lists))}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for precision in ("float32", "int8"):
        model = npdistil.load(precision=precision, threads=2)
        digest = hashlib.sha256(model.logits(lists).tobytes())
        for states in model.hidden_states(lists):
            digest.update(states.tobytes())
        result[precision] = digest.hexdigest()
result["engine"] = model.engine
result["isa"] = model.encoder.isa.name if model.engine == "compiled" else None
result["warnings"] = [text for text in (str(each.message) for each in caught) if "engine" in text]
result["label"] = str(model.predict(["I like you. I love you."])[0])
print(json.dumps(result))
"""


def prepare(folder: Path) -> None:
    """QEMU, the AArch64 Python and its packages, as far as they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "qemu").exists():
        packages = folder / "packages"
        packages.mkdir(exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", "qemu-user-static"], check=True, cwd=packages)
        for file in packages.glob("*.deb"):
            subprocess.run(["dpkg", "-x", file, folder / "qemu"], check=True)
    if not (folder / "aarch64").exists():
        state = folder / "apt"
        for part in ("state/lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        of = {"Dir::State": state / "state", "Dir::State::status": state / "status", "Dir::Cache": state / "cache"}
        own = {"APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "root"}
        options = [part for name, value in (of | own).items() for part in ("-o", f"{name}={value}")]
        subprocess.run(["apt-get", *options, "update", "-qq"], check=True)
        wanted = ["install", "-qq", "-y", "--download-only", "--no-install-recommends", *DEBIAN]
        subprocess.run(["apt-get", *options, *wanted], check=True, stdout=subprocess.DEVNULL)
        for file in (state / "cache" / "archives").glob("*.deb"):
            subprocess.run(["dpkg", "-x", file, folder / "aarch64"], check=True)
    if not (folder / "aarch64-packages").exists():
        tags = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28)]
        only = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11", *tags]
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", folder / "aarch64-packages", *only, *PACKAGES], check=True)


def emulated(folder: Path, architecture: str, cpu: str) -> list[str | Path]:
    """A Python on that processor."""
    qemu: list[str | Path] = [folder / "qemu" / "usr" / "bin" / f"qemu-{architecture}-static", "-cpu", cpu]
    if architecture == "x86_64":
        return [*qemu, sys.executable]
    root = folder / "aarch64"
    return [*qemu, "-L", root, root / "usr" / "bin" / "python3.11"]


def bits(command: list[str | Path], path: list[Path]) -> dict[str, Any]:
    """What one process finds, and what it prints as its last words where it fails."""
    # OpenBLAS is to choose its own kernel; the one that a variable names may need what the processor lacks.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*command, "-c", BITS], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return {"failed": done.returncode, "error": done.stderr.strip().splitlines()[-3:]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="The installed kernels on other processors.")
    parser.add_argument("folder", type=Path, help="what is downloaded is kept here")
    parser.add_argument("--out", type=Path, help="write the result here, as JSON")
    options = parser.parse_args()
    folder = options.folder.resolve()
    prepare(folder)

    here = bits([sys.executable], [ROOT])
    print(f"this processor: {here['isa']}")
    result: dict[str, Any] = {"benchmark": "emulated", "machine": machine.describe(), "here": here, "processors": {}}
    wrong = []
    for architecture, processors in PROCESSORS.items():
        path = [ROOT, *([folder / "aarch64-packages"] if architecture == "aarch64" else [])]
        for cpu, isa in processors.items():
            found = bits(emulated(folder, architecture, cpu), path)
            same = all(found.get(precision) == here[precision] for precision in ("float32", "int8"))
            fine = "failed" not in found and found["isa"] == isa and found["label"] == here["label"]
            fine = fine and (same if isa else len(found["warnings"]) == 1)
            found["same_bits"] = same
            result["processors"][f"{architecture} {cpu}"] = found
            print(f"{architecture} {cpu}: {'as expected' if fine else 'WRONG'}, {found.get('isa') or found}")
            wrong += [] if fine else [cpu]
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(f"wrong on {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
