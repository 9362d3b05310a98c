"""Places that stopped, slowed or broke an engine that compiles where it runs: each a process of its own."""

import compileall
import ctypes
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tiny

import npdistil
from npdistil.compiled import threads
from npdistil.compiled.threads import Team

PACKAGE = Path(npdistil.__file__).parent
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1

SCRIPT = """
import sys
import npdistil
model = npdistil.load(sys.argv[1], threads=4)
ids = [[2, 3, 4], [5] * 20, [6]] * 40
one = npdistil.load(sys.argv[1], threads=1)
assert model.logits(ids).tobytes() == one.logits(ids).tobytes()
print(model.engine, *(name for name in ("numba", "llvmlite") if name in sys.modules))
"""


def run(
    directory: Path, script: str = SCRIPT, path: Path | None = None, timeout: float = 300, **variables: str
) -> subprocess.CompletedProcess[str]:
    """In a process that sees the package at `path`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NPDISTIL_", "NUMBA_"))}
    environment |= {"PYTHONPATH": str(path or PACKAGE.parent)} | variables
    return subprocess.run(
        [sys.executable, "-c", script, str(directory)],
        capture_output=True, text=True, check=False, env=environment, timeout=timeout, cwd="/",
    )  # fmt: skip


def runs(done: subprocess.CompletedProcess[str], expected: str = "compiled\n") -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "model")


@pytest.mark.parametrize(
    "variables",
    [
        {"NUMBA_DISABLE_JIT": "1"},
        {"NUMBA_OPT": "0"},
        {"NUMBA_ENABLE_AVX": "0"},
        {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""},
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F"},
        {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
    ],
    ids=str,
)
def test_variables_of_others_change_nothing(directory: Path, variables: dict[str, str]) -> None:
    others: dict[str, Any] = {**variables}
    done = run(directory, **others)
    assert (done.returncode, done.stdout) == (0, "compiled\n")


def test_nothing_is_written(directory: Path, tmp_path: Path) -> None:
    script = """
import sys
def refuse(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise SystemExit(f"writes {arguments}")
    if event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link"):
        raise SystemExit(f"{event} {arguments}")
sys.dont_write_bytecode = True
sys.addaudithook(refuse)
""" + SCRIPT.replace("import sys\n", "", 1)
    runs(run(directory, script))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's")
def test_memory_that_is_written_to_is_never_executed(directory: Path) -> None:
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:  # PR_GET_MDWE
        pytest.skip("this kernel has no PR_SET_MDWE")
    script = f"""
import ctypes
assert ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0) == 0
import mmap
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    raise SystemExit("memory is not denied")
except PermissionError:
    pass
"""
    runs(run(directory, script + SCRIPT))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_where_no_thread_can_be_started_the_caller_works_alone(directory: Path) -> None:
    script = SCRIPT.replace(
        "ids = ",
        """
import os, resource, _thread
one = npdistil.load(sys.argv[1], threads=1)
one.logits([[1]])
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
os.setuid(65534)
try:
    _thread.start_new_thread(print, ())
    raise SystemExit("threads are not limited")
except RuntimeError:
    pass
ids = """,
    ).replace("\none = npdistil.load(sys.argv[1], threads=1)\nassert", "\nassert")
    runs(run(directory, script, OPENBLAS_NUM_THREADS="1"))


def test_helpers_that_cannot_start_are_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refuse)
    team = Team()
    team.ask([lambda: None] * 3)
    assert not team.helpers
    assert team._tasks.empty(), "what nobody will ever take must not pile up"


GREEN = """
import _thread, queue, threading
def green(function, arguments=(), keywords=None):
    raise SystemExit("a thread that would run on the caller's own")
def patch():
    class Queue:
        def put(self, item): raise SystemExit("a queue for green threads")
        get = put
    _thread.start_new_thread = threading._start_new_thread = green
    queue.SimpleQueue = Queue
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_green_threads_before_and_after_the_model_is_loaded(directory: Path, when: str) -> None:
    patched = "import npdistil\nmodel = npdistil.load(sys.argv[1], threads=4)\npatch()\n"
    script = f"import sys\n{GREEN}" + ("patch()\n" if when == "before" else patched)
    script += SCRIPT.replace("import sys\n", "", 1)
    if when == "after":
        script = script.replace("model = npdistil.load(sys.argv[1], threads=4)\nids", "ids")
    runs(run(directory, script))


def copied(folder: Path) -> Path:
    """The package elsewhere, without what is large and not needed here."""
    shutil.copytree(PACKAGE, folder / "npdistil", ignore=shutil.ignore_patterns("__pycache__", "weights", "page"))
    return folder


def test_without_sources_on_the_disk(directory: Path, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    assert compileall.compile_dir(folder, quiet=1, legacy=True)
    for file in folder.rglob("*.py"):
        file.unlink()
    runs(run(directory, path=folder))


def test_from_a_zip_file(directory: Path, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    with zipfile.ZipFile(tmp_path / "npdistil.zip", "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    runs(run(directory, path=tmp_path / "npdistil.zip"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_only_installed_files_are_executed(directory: Path) -> None:
    script = (
        SCRIPT
        + """
mapped = {line.split()[-1] for line in open("/proc/self/maps") if " r-xp " in line and "/" in line}
ours = sorted(file for file in mapped if "/npdistil/" in file and file.endswith(".so"))
from pathlib import Path
assert ours and all(Path(file).parents[1].name == "kernels" for file in ours), ours
"""
    )
    runs(run(directory, script))


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_a_system_without_posix_gets_the_numpy_engine(directory: Path, platform: str) -> None:
    script = f"""
import mmap, os, sys, warnings
import ctypes, numpy, platform, subprocess, tempfile, multiprocessing, asyncio  # which look at the real system
for name in ("register_at_fork", "sched_getaffinity", "uname", "memfd_create"):
    delattr(os, name)
for name in ("MAP_PRIVATE", "MAP_ANONYMOUS", "MADV_HUGEPAGE"):
    delattr(mmap, name)
sys.platform = {platform!r}
from npdistil.compiled.panels import aligned_zeros
from npdistil.compiled import threads
assert aligned_zeros(10).tolist() == [0] * 10
from npdistil import engine
print(engine.why_not_compiled())
"""
    done = run(directory, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kernels are made for Linux on x86-64 and AArch64; this is 64-bit Python on ")
