"""What a result was measured on."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# The instruction sets that matrix products ask for.
FLAGS = ("fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")
IMPLIED = ("fma", "avx2", "avx512f")  # by those that come after them
PACKAGES = (
    *("npdistil", "numpy", "numba", "llvmlite", "tokenizers", "safetensors", "torch", "transformers"),
    *("onnx", "onnxruntime", "openvino", "nncf", "ctranslate2"),
)


def describe(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """CPU, its flags, memory, system, versions, commit and time, for the head of a result file."""
    flags = set(_field("flags", "Features").split())
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _field("model name") or platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": " ".join((platform.system(), platform.release().partition("-")[0], *platform.libc_ver())),
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := version_of(name))},
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def in_short(described: Mapping[str, Any]) -> str:
    """What `describe` found, as a table is headed: processor, CPUs, day and npdistil's version."""
    told = [flag for flag in described["flags"] if flag not in IMPLIED] or described["flags"]
    ours = described["versions"].get("npdistil")
    parts = [f"{described['cpu']} ({', '.join(told)})", f"{described['cpus']} CPUs", described["date"][:10]]
    return ", ".join([*parts, *([f"npdistil {ours}"] if ours else [])])


def busy_seconds() -> float:
    """CPU time that all processes of this machine have used since boot."""
    user, nice, system, _, _, interrupts, softer = _cpu_times()[:7]
    return user + nice + system + interrupts + softer


def stolen() -> float:
    """Seconds of CPU that the hypervisor has given to others since boot."""
    return _cpu_times()[7]


def _cpu_times() -> list[float]:
    first = Path("/proc/stat").read_text().splitlines()[0]  # the sum of all CPUs
    return [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in first.split()[1:]]


def _field(*names: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def version_of(package: str) -> str | None:
    """Of an installed package; None where it is not. Of npdistil, what runs: metadata is as old as its installation."""
    if package == "npdistil":
        import npdistil

        return npdistil.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit that is checked out, with a mark if files differ from it."""
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True, check=False
    )
    return run.stdout.strip() or "unknown"
