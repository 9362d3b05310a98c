"""The command as a process of its own: warnings, Ctrl-C and the system's limits never end in a traceback."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name.endswith(wanted) and not sent:
            sent.append(name)
            os.kill(os.getpid(), signal.SIGINT)

wanted, sent = sys.argv.pop(1), []
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
def test_ctrl_c_while_a_module_is_imported_ends_with_130_and_no_word(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, "classify", "good"],
        capture_output=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_ctrl_c_that_is_ignored_stays_ignored() -> None:
    """As `nohup`, and a shell without job control for what it runs in the background, have it."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "numpy", "classify", "--engine", "numpy", "good"],
        capture_output=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"POSITIVE")
