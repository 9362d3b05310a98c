"""Compiled kernels on disk: found again, rebuilt when they are broken, done without when there is no place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import checkpoint

from npdistil.compiled import cache
from npdistil.compiled.cache import object_file

CODE = b"not really machine code"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NPDISTIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_is_whole_or_not_there(own_cache: Path) -> None:
    file = own_cache / "kernels.o"
    cache._replace(file, CODE)
    assert cache._read(file) == CODE
    assert [path.name for path in own_cache.iterdir()] == ["kernels.o"]
    umask = os.umask(0)
    os.umask(umask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask, "one user fills an image, another reads it"
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:10], b"", b"x" + whole[1:]):
        file.write_bytes(broken)
        assert cache._read(file) is None


def test_what_is_there_is_not_compiled_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setattr(cache, "_compile", lambda: built.append(1) or CODE)
    assert cache.warm_up() == cache.warm_up() == object_file()
    assert len(built) == 1
    object_file().write_bytes(b"broken")
    cache.warm_up()
    assert len(built) == 2
    assert object_file().parent == own_cache


def test_a_place_that_cannot_be_written_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NPDISTIL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match="NPDISTIL_CACHE") as caught:
        cache._write(object_file(), CODE)
    assert len(caught) == 1
    monkeypatch.setattr(cache, "_compile", lambda: CODE)
    with pytest.raises(OSError, match="cache"):
        cache.warm_up()


def test_another_machine_gets_another_file(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = object_file()
    monkeypatch.setenv("NUMBA_CPU_NAME", "haswell")
    assert object_file() != here


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"NPDISTIL_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/npdistil"),
        ({"HOME": "/c"}, "/c/.cache/npdistil"),
    ],
)
def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("NPDISTIL_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache.directory() == Path(expected)


def test_a_warm_start_needs_no_numba(tmp_path: Path) -> None:
    found = checkpoint(tmp_path)
    cache.machine_code()  # fills the cache that this process has
    script = f"""
import sys
import npdistil
model = npdistil.load({str(found.directory)!r}, engine="compiled")
print(model.predict(["a film"])[0], "numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"


def test_without_a_home_and_a_place_to_write_it_still_works(tmp_path: Path) -> None:
    if os.geteuid() == 0 and not Path("/proc/self").exists():
        pytest.skip("no place that cannot be written")
    found = checkpoint(tmp_path)
    script = f"""
import npdistil
print(npdistil.load({str(found.directory)!r}, engine="compiled").engine)
"""
    variables = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=variables | {"NPDISTIL_CACHE": "/proc/self/cache"},
    )
    assert done.stdout == "compiled\n"
    assert done.stderr.count("RuntimeWarning") == 1


COUNT = """
import sys, time
from npdistil.compiled import cache
def compile_once():
    with open(sys.argv[1], "a") as stream:
        stream.write("compiled\\n")
    time.sleep(0.5)  # the others come meanwhile
    return b"code"
cache._compile, cache._linked = compile_once, lambda code: code
assert cache.machine_code() == b"code"
"""


def test_of_processes_that_start_together_one_compiles_and_the_others_wait(own_cache: Path, tmp_path: Path) -> None:
    runs = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path / "log")]) for _ in range(4)]
    assert [run.wait(60) for run in runs] == [0] * 4
    assert (tmp_path / "log").read_text() == "compiled\n"
