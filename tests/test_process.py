"""The command as a process of its own: warnings, Ctrl-C and the system's limits never end in a traceback."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npdistil.checkpoint.tokenizer import reserve

COMMAND = [sys.executable, "-m", "npdistil"]


def run(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "timeout": 120, "check": False} | settings
    return subprocess.run([*COMMAND, *arguments], **settings)


def test_a_warning_is_one_line_of_ours_and_comes_once(make: Callable[..., Path], tmp_path: Path) -> None:
    model, table = make(layer_norm_eps=1e-5), tmp_path / "dev.tsv"
    table.write_text("text\tlabel\ngood\t1\n")
    done = run("quantize", str(model), str(tmp_path / "int8"), "--eval", str(table))  # which reads the model twice
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "int8" not in line]
    assert line.startswith(f"npdistil: warning: {model}/config.json: layer_norm_eps is 1e-05, a setting that")
    odd = model.rename(tmp_path / os.fsdecode(b"two\n  lines \xff"))
    done = run("classify", "--engine", "numpy", "--model", str(odd), "good")
    assert done.stderr.startswith(f"npdistil: warning: {tmp_path}/two lines \\udcff/config.json: ")
    assert done.stderr.count("\n") == 1


def test_without_standard_error_nothing_else_is_printed_on_standard_output(tmp_path: Path) -> None:
    command = [*COMMAND, "classify", "--engine", "numpy"]
    for more, code, out in ((["--model", str(tmp_path), "good"], 2, ""), (["good"], 0, "POSITIVE")):
        shell = 'exec "$0" "$@" 2>&-'
        done = subprocess.run(
            ["sh", "-c", shell, *command, *more], stdout=subprocess.PIPE, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stdout.partition(" ")[0]) == (code, out)


# Sends `number` to itself when `module` is imported.
INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name.endswith(wanted) and not sent:
            sent.append(name)
            os.kill(os.getpid(), number)

wanted, number, sent = sys.argv.pop(1), int(sys.argv.pop(1)), []
sys.meta_path.insert(0, Finder())
runpy.run_module("npdistil", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "module",
    [
        *("npdistil.cli", "argparse", "npdistil.cli.task", "numpy", "._multiarray_umath", "numpy.linalg"),
        *("safetensors", "tokenizers", "tokenizers.tokenizers", "npdistil.compiled.kernels", "ctypes"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_sigterm_while_a_module_is_imported_ends_it_without_a_word(module: str, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, str(int(number)), "classify", "good"],
        capture_output=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, b"", b"")


def test_sigterm_ends_process_1_too() -> None:
    """As the first of a container, for which the system does nothing of itself."""
    as_process_1 = ["unshare", "--pid", "--fork"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*as_process_1, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs unshare, and the right to make a namespace of processes")
    number = str(int(signal.SIGTERM))
    command = [*as_process_1, sys.executable, "-c", INTERRUPTED, "numpy", number, "classify", "good"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_ignored(number: int) -> None:
    """As `nohup`, and a shell without job control for what it runs in the background, have it."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "numpy", str(int(number)), "classify", "--engine", "numpy", "good"],
        capture_output=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"POSITIVE")


# Limits of the system.


def one_line_at_most(done: subprocess.CompletedProcess[str]) -> None:
    assert done.stderr.count("\n") <= 1, done.stderr
    if done.returncode != 0:
        assert done.stderr.startswith("npdistil: error: ") or (
            done.returncode == 1 and done.stderr.startswith("OpenBLAS error: ")  # which ends the process by itself
        )


@pytest.mark.parametrize("megabytes", [60, 150, 300])
@pytest.mark.parametrize("command", [("classify", "good", "bad"), ("info",), ("explain", "good")])
def test_too_little_address_space_is_one_line(megabytes: int, command: tuple[str, ...]) -> None:
    resource = pytest.importorskip("resource")
    limit = (megabytes * 10**6,) * 2
    one_line_at_most(run(*command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit)))


def test_a_module_that_cannot_be_loaded_is_one_line_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "safetensors.py").write_text("raise ImportError('pages\\nof\\nadvice') from ImportError('no segment')")
    done = run("classify", "good", env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "npdistil: error: a module cannot be imported: no segment\n"


def test_memory_that_the_tokenizer_will_not_get_is_an_error_before_the_work() -> None:
    reserve(2**20)
    with pytest.raises(MemoryError, match="the tokenizer needs"):
        reserve(2**62)


@pytest.fixture
def without_threads() -> list[str]:
    """What a command is put behind so that its process has its first thread and no other."""
    as_another = ["setpriv", "--reuid=61234", "--regid=61234", "--clear-groups"]  # root has no such limit
    as_another += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # and may have Python for itself
    before = [*(as_another if os.getuid() == 0 else []), "prlimit", "--nproc=1:1"]
    if missing := [name for name in (before[0], "prlimit") if not shutil.which(name)]:
        pytest.skip(f"needs {missing[0]}")
    code = "import _thread; _thread.start_new_thread(print, ())"
    done = subprocess.run(
        [*before, sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    if "can't start new thread" not in done.stderr:
        pytest.skip(f"a process cannot be held to one thread here: {done.stderr or 'it started another'}")
    return before


@pytest.mark.parametrize("command", [("classify",), ("classify", "--engine", "numpy"), ("embed",)])
def test_where_no_thread_can_be_started_the_answers_are_the_same_and_nothing_is_said(
    without_threads: list[str], command: tuple[str, ...]
) -> None:
    words = [*COMMAND, *command, "--threads", "3", "good", "bad", "I like you. I love you."]
    free, held = (
        subprocess.run([*before, *words], capture_output=True, text=True, timeout=120, check=False)
        for before in ([], without_threads)
    )
    assert (free.returncode, free.stderr) == (0, "")
    assert (held.returncode, held.stderr) == (0, "")
    assert held.stdout == free.stdout
