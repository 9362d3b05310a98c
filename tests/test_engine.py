"""The switch between engines, and how many threads are used."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npdistil
from npdistil.engine import ENGINES, _cgroup_quota, thread_count
from npdistil.errors import InputError

Make = Callable[..., Path]
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture(autouse=True)
def no_setting_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPDISTIL_THREADS", raising=False)


def test_asked_for_threads_are_used() -> None:
    assert thread_count(3) == 3
    assert thread_count(1024) == 1024


def test_asking_goes_before_the_environment_and_that_before_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPDISTIL_THREADS", "7")
    assert thread_count() == 7
    assert thread_count(2) == 2


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPDISTIL_THREADS", "")
    assert 1 <= thread_count() <= CPUS


@pytest.mark.parametrize("value", [0, -1, 1025, 2**70, 1.0, "2", True, [1]])
def test_impossible_counts_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="threads is .*1 to 1024"):
        thread_count(value)


@pytest.mark.parametrize("value", ["0", "-1", "1025", "two", "1.5", " ", "1e3", "0x2", "9" * 5000, "²"])
def test_impossible_variables_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("NPDISTIL_THREADS", value)
    with pytest.raises(InputError, match="NPDISTIL_THREADS is .*1 to 1024"):
        thread_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's CPU affinity")
def test_the_affinity_of_the_process_is_heeded() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from npdistil.engine import thread_count; print(thread_count())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NPDISTIL_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "1\n"


def quota(tmp_path: Path, own: str, **files: str) -> int | None:
    """`_cgroup_quota` on a tree of files; a name's "__" stands for a slash."""
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        path = tmp_path / "cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return _cgroup_quota(tmp_path / "own", tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("1000 100000\n", 1),
        ("50000 50000\n", 1),
        ("", None),
        ("max", None),
        ("200000 0", None),
        ("200000 x", None),
        ("-1 100000", None),
    ],
)
def test_cgroup_2_limits_are_rounded_up_to_whole_cpus(tmp_path: Path, limit: str, cpus: int | None) -> None:
    assert quota(tmp_path, "0::/\n", cpu_max=limit) == cpus


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    limits = {"a__b__cpu_max": "max 100000", "a__cpu_max": "300000 100000", "cpu_max": "800000 100000"}
    assert quota(tmp_path, "1:name=systemd:/x\n0::/a/b\n", **limits) == 3


def test_groups_beside_the_own_do_not_count(tmp_path: Path) -> None:
    assert quota(tmp_path, "0::/a\n", other__cpu_max="100000 100000", a__cpu_max="max 100000") is None


def test_cgroup_1_limits_count(tmp_path: Path) -> None:
    files = {"cpu__cpu_cfs_quota_us": "250000", "cpu__cpu_cfs_period_us": "100000"}
    assert quota(tmp_path, "4:cpu,cpuacct:/docker/1\n", **files) == 3


def test_cgroup_1_without_a_limit(tmp_path: Path) -> None:
    files = {"cpu__cpu_cfs_quota_us": "-1", "cpu__cpu_cfs_period_us": "100000"}
    assert quota(tmp_path, "4:cpu,cpuacct:/\n", **files) is None


def test_a_machine_without_cgroups_has_no_limit(tmp_path: Path) -> None:
    assert _cgroup_quota(tmp_path / "nothing", tmp_path / "nothing") is None


def test_a_group_outside_of_the_mount_reads_nothing_beyond_it(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000")
    assert quota(tmp_path, "0::/../\n", cpu_max="max 100000") is None


# Engines


@pytest.mark.parametrize("engine", ["", "torch", "Numpy", None, 1, ["numpy"]])
def test_an_unknown_engine_is_refused_with_those_that_are_known(make: Make, engine: Any) -> None:
    with pytest.raises(InputError, match=f"known are {', '.join(ENGINES)}"):
        npdistil.load(make(), engine=engine)


def test_the_engine_that_was_asked_for_runs(make: Make, engine: str) -> None:
    model = npdistil.load(make(), engine=engine, threads=1)
    assert model.engine == engine
    assert model.threads == 1


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_engines_give_the_specifications_hidden_states(make: Make, engine: str, precision: str) -> None:
    directory = make(dim=32, hidden_dim=64, n_heads=4)
    random = np.random.default_rng(0)
    texts = [random.integers(0, 90, n).tolist() for n in (1, 24, 3, 7, 24, 2)]
    ours = npdistil.load(directory, engine=engine, precision=precision).hidden_states(texts)
    plain = npdistil.load(directory, engine="numpy", precision=precision).hidden_states(texts)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, plain, strict=True))
    print(f"{engine}, {precision}: largest difference {difference:.1e}")
    # int8: where the last bit of a row decides between two integers, rounding becomes visible.
    assert difference <= (2e-5 if precision == "float32" else 0.1)
