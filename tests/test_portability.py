"""The package without what only some systems have: Windows' Python has no fcntl, no resource, no madvise, no fork."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

WITHOUT = """
import mmap, os, signal, sys

for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline", "syslog", "_posixshmem"):
    sys.modules[name] = None
for module, names in {
    os: "fork forkpty register_at_fork sched_getaffinity sched_setaffinity sched_yield getuid geteuid getgid umask "
        "pread pwrite preadv pwritev posix_fadvise fdatasync sysconf statvfs nice getloadavg O_CLOEXEC O_DIRECTORY "
        "O_NOFOLLOW O_SYNC",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGKILL SIGPIPE SIGALRM alarm setitimer pthread_sigmask",
    mmap: " ".join(name for name in dir(mmap) if name.startswith(("MADV_", "MAP_", "PROT_"))),
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


class Mapping(mmap.mmap):
    def __getattribute__(self, name):
        if name in ("madvise", "seekable"):
            raise AttributeError(name)
        return super().__getattribute__(name)


mmap.mmap = Mapping
"""
CODE = """
import npdistil
from npdistil.cli import main

sys.exit(main(sys.argv[1:]))
"""


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + CODE, *arguments],
        capture_output=True, text=True, check=False, timeout=300, cwd=cwd, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_taken_away_is_missed() -> None:
    """The proof that the tests below can fail."""
    done = subprocess.run([sys.executable, "-c", f"{WITHOUT}\nimport resource"], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in done.stderr


def test_texts_are_classified(bundled: Path, tmp_path: Path) -> None:
    assert run("classify", "--engine", "numpy", "I like you. I love you.", cwd=tmp_path).startswith("POSITIVE")


@pytest.mark.parametrize("words", ["info model", "embed --model=model good", "explain --model=model good"])
def test_commands_run(words: str, tmp_path: Path) -> None:
    tiny.write(tmp_path / "model")
    assert run(*words.split(), "--engine", "numpy", cwd=tmp_path)


def test_a_file_is_classified(tmp_path: Path) -> None:
    tiny.write(tmp_path / "model")
    (tmp_path / "in.csv").write_text("text\ngood\nbad\n")
    options = ("--input", "in.csv", "--column", "text", "--output", "out.jsonl")
    run("classify", "--engine", "numpy", "--model", "model", *options, cwd=tmp_path)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_a_checkpoint_is_quantised(tmp_path: Path) -> None:
    tiny.write(tmp_path / "model")
    run("quantize", "model", "int8", cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8", "model"]


def test_memory_is_unknown_to_the_benchmark(tmp_path: Path) -> None:
    tiny.write(tmp_path / "model")
    command = ("bench", "--engine", "numpy", "--model", "model", "--seconds", "0.1")
    assert "peak memory of the process is not known here" in run(*command, cwd=tmp_path)
    assert json.loads(run(*command, "--json", cwd=tmp_path).splitlines()[-1])["peak_memory_mb"] is None
