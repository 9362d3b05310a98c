"""Batches beside each other: what becomes of their threads."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import npdistil
from npdistil.workers import Workers

Make = Callable[..., Path]

ENDS = """
import sys, threading
import npdistil

begun, never = threading.Event(), threading.Event()

def run(model, task, items):
    begun.set()
    never.wait()

npdistil.Model.run = run
pipe = npdistil.pipeline("sentiment-analysis", npdistil.load(sys.argv[1], engine="numpy", threads=2), batch_size=2)
threading.Thread(target=pipe, args=(["good"] * 9,), daemon=True).start()
begun.wait()
"""


def left() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("npdistil-batches")]


def test_a_process_ends_whatever_batches_a_daemon_thread_has_begun(make: Make) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(make())], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_threads_are_started_leaves_none(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = threading.Thread.start, list[threading.Thread]()

    def start(self: threading.Thread) -> None:
        if started:
            raise KeyboardInterrupt
        started.append(self)
        real(self)

    pipe = npdistil.pipeline("text-classification", make(), engine="numpy", threads=3, batch_size=2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            pipe(["good"] * 9)
    assert started
    assert not left()
    assert len(pipe(["good"] * 9)) == 9


def test_batches_that_are_under_way_stay_so_where_the_system_gives_no_more_threads(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, goes_on = Workers(npdistil.load(make(), engine="numpy", threads=8)), threading.Event()

    def run(model: npdistil.Model, batch: int) -> tuple[npdistil.Model, int]:
        goes_on.wait()
        return model, batch

    def start(self: threading.Thread) -> None:
        goes_on.set()
        raise RuntimeError("can't start new thread")

    first = workers.begin(run, [0, 1])
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        second = workers.begin(run, [2, 3, 4])
    found = [*first, *second]
    assert [batch for _, batch in found] == [0, 1, 2, 3, 4]
    assert found[0][0].logits([[2, 3]]).shape == (1, 2)  # which was not cancelled
    workers.stop()
    assert not left()


def test_an_error_in_a_batch_leaves_no_thread(make: Make) -> None:
    pipe = npdistil.pipeline("text-classification", make(), engine="numpy", threads=3, batch_size=2, long_text="error")
    with pytest.raises(npdistil.errors.InputError, match="from text 4 on, text 1 has 32 tokens"):
        pipe(["good"] * 5 + ["good " * 30] + ["good"] * 20)
    assert not left()


def test_one_thread_of_many_takes_no_more_at_once_than_one_thread_alone(engine: str) -> None:
    """No signal interrupts what it has taken."""
    many = npdistil.load(engine=engine, threads=64).on_one_thread()
    assert many.encoder.at_once <= max(1024, npdistil.load(engine="auto", threads=1).encoder.at_once)


def test_of_callers_at_the_same_time_one_has_workers_and_all_have_the_same_answers(make: Make) -> None:
    pipe = npdistil.pipeline("text-classification", make(), engine="numpy", threads=3, batch_size=2)
    texts = [f"good {i}" for i in range(40)]
    right = pipe(texts)

    def call(_: int) -> tuple[Any, int]:
        return pipe(texts), len(left())

    with ThreadPoolExecutor(12) as callers:
        found, counts = zip(*callers.map(call, range(12)), strict=True)
    assert [*found] == [right] * 12
    assert max(counts) <= 3
    assert not left()
