"""Any number of Python threads may use one model at once, before and after a fork, and memory stays bounded."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from encoders import checkpoint, encoder, texts

from npdistil.compiled import threads
from npdistil.compiled.encoder import CompiledEncoder
from npdistil.compiled.threads import Team

WIDE = {"dim": 48, "n_heads": 3, "hidden_dim": 100, "max_position_embeddings": 120}


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_callers_at_once_get_the_answers_that_they_get_alone(tmp_path: Path, threads: int) -> None:
    one = encoder(checkpoint(tmp_path, **WIDE), threads=threads)
    work = [texts([seed % 100 + 1, 3, seed % 7 + 1], seed) for seed in range(24)]
    alone = [one.encode(*each).tobytes() for each in work]
    with ThreadPoolExecutor(12) as pool:
        together = [result.tobytes() for result in pool.map(lambda each: one.encode(*each), work * 10)]
    assert together == alone * 10


def test_buffers_are_given_back_and_do_not_only_grow(tmp_path: Path) -> None:
    one = encoder(checkpoint(tmp_path, **WIDE), threads=2)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda seed: one.encode(*texts([50, 9], seed)), range(400)))
    settle(one)
    assert len(one._pool) <= one.threads


def settle(one: CompiledEncoder) -> None:
    """Wait for helpers to look at what was left for them."""
    deadline = time.monotonic() + 120
    while not one._pool and time.monotonic() < deadline:
        time.sleep(0.01)


def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    found = checkpoint(tmp_path, **WIDE)
    script = f"""
import resource, sys
import numpy as np
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from encoders import encoder, texts
from npdistil.checkpoint.weights import read_checkpoint
one = encoder(read_checkpoint({str(found.directory)!r}), threads=2)
ids, bounds = texts([100] * 20)
one.encode(ids, bounds, bounds[:-1].copy())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ids, bounds = texts([100] * 2000)
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # of the input itself
one.encode(ids, bounds, bounds[:-1].copy())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before - own)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    print(f"{done.stdout.strip()} KB more for a batch of 2000 texts than for one of 20")
    assert int(done.stdout) < 16_000  # 200,000 rows of hidden states alone would be 38 MB


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_child_after_a_fork_gets_the_same_answers(tmp_path: Path) -> None:
    one = encoder(checkpoint(tmp_path, **WIDE), threads=2)
    ids, bounds = texts([100, 20, 3])
    before = one.encode(ids, bounds).tobytes()  # the team is there now
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            one.encode(ids, bounds)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        children = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(240)
                os._exit(0 if all(one.encode(ids, bounds).tobytes() == before for _ in range(20)) else 1)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 5
    finally:
        stop.set()
        busy.join()
    assert one.encode(ids, bounds).tobytes() == before


def test_a_team_has_as_many_helpers_as_were_asked_for_at_once() -> None:
    team, done = Team(), threading.Barrier(4)

    def wait() -> None:
        done.wait()

    team.ask([wait] * 3)
    done.wait(timeout=300)
    assert len(team.helpers) == 3
    team.ask([lambda: None])
    assert len(team.helpers) == 3


@pytest.fixture
def cores() -> Iterator[list[int]]:
    """Those that this thread may run on, and has back afterwards."""
    if not hasattr(os, "sched_setaffinity") or not threads.sched_getcpu:
        pytest.skip("this system does not say on which core a thread is")
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two cores")
    yield sorted(before)
    os.sched_setaffinity(0, before)


def masks(team: Team, helpers: int = 1) -> list[set[int]]:
    """What cores helpers may run on while each does a task."""
    found: list[set[int]] = []
    done = threading.Barrier(helpers + 1)

    def task() -> None:
        found.append(os.sched_getaffinity(0))
        done.wait()

    while not all(helper.waits for helper in team.helpers):
        time.sleep(0.001)
    team.ask([task] * helpers)
    done.wait(timeout=300)
    return found


def test_a_helper_that_waits_is_woken_on_another_core_than_the_callers(cores: list[int]) -> None:
    team = Team()
    masks(team)
    for core in (*cores[:2], cores[0]):
        os.sched_setaffinity(0, {core})
        assert masks(team) == [{*cores} - {core}]


def test_helpers_spread_over_all_cores_where_there_is_none_for_each(cores: list[int]) -> None:
    team = Team()
    masks(team, len(cores))
    os.sched_setaffinity(0, {cores[0]})
    assert masks(team, len(cores)) == [{*cores}] * len(cores)


def test_a_mask_that_somebody_else_has_set_for_a_helper_stays(cores: list[int]) -> None:
    team = Team()
    masks(team)
    os.sched_setaffinity(0, {cores[1]})
    masks(team)
    os.sched_setaffinity(team.helpers[0].number, {cores[1]})
    for core in cores[:2]:
        os.sched_setaffinity(0, {core})
        assert masks(team) == [{cores[1]}]


def test_where_the_system_does_not_say_the_core_helpers_are_left_alone(
    cores: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "sched_getcpu", None)
    team = Team()
    masks(team)
    assert masks(team) == [{*cores}]


def test_a_forward_ends_with_fewer_cores_than_threads(tmp_path: Path) -> None:
    found = checkpoint(tmp_path, **WIDE)
    script = f"""
import os, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
from encoders import encoder, texts
from npdistil.checkpoint.weights import read_checkpoint
one = encoder(read_checkpoint({str(found.directory)!r}), threads=6)
print(len({{one.encode(*texts([120, 3])).tobytes() for _ in range(5)}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "1\n"


@pytest.mark.parametrize("nanoseconds", [1, 20, 200])
def test_how_long_a_thread_pauses_and_offers_its_core_is_a_time_and_not_a_count(
    monkeypatch: pytest.MonkeyPatch, nanoseconds: int
) -> None:
    pytest.importorskip("numba")
    from npdistil.compiled import share

    takes = {"pause": nanoseconds, "offer": 10 * nanoseconds, "sleep": 60_000}
    now = 1
    done: list[tuple[str, int]] = []
    looks: list[int] = []

    def does(what: str) -> None:
        nonlocal now
        now += takes[what]
        done.append((what, now))

    def look() -> int:
        looks.append(len(done))
        return now

    monkeypatch.setattr(share, "pause", lambda: does("pause"))
    monkeypatch.setattr(share, "sleep", lambda microseconds: does("sleep" if microseconds else "offer"))
    monkeypatch.setattr(share, "nanoseconds", look)
    monkeypatch.setattr(share, "load_acquire", lambda address: int(now > 20_000_000))
    getattr(share.wait, "py_func", share.wait)(0, 1)
    assert [what for what, _ in itertools.groupby(done, lambda each: each[0])] == ["pause", "offer", "sleep"]
    assert looks[0] == share.TURNS, "a short wait never asks for the time"
    last = dict(done)  # when each was done for the last time
    for what, least in (("pause", share.PAUSING), ("offer", share.PAUSING + share.OFFERING)):
        assert least < last[what] < least + (share.TURNS + 1) * (takes["pause"] + takes["offer"])
