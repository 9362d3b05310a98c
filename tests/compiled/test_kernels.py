"""Which kernels are taken, from which files, and what happens where there are none or bad ones."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import npdistil
import npdistil.engine
from npdistil.cli.info import _kernels
from npdistil.compiled import kernels as module
from npdistil.compiled import tiles
from npdistil.compiled.cpu import ARM_FEATURES, X86_FEATURES, arm_features, features, x86_features
from npdistil.compiled.isa import AMX, BY_NAME, ISAS
from npdistil.compiled.kernels import FOLDER, NoKernelsError, kernels, system
from npdistil.errors import EngineError

ALL = frozenset().union(*(isa.needs for isa in ISAS))


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`kernels` as in a process that has none yet, without a setting of the user's."""
    monkeypatch.delenv("NPDISTIL_ISA", raising=False)
    return kernels.__wrapped__


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this architecture's files, which is what is installed."""
    copy = tmp_path / "kernels"
    shutil.copytree(FOLDER, copy)
    monkeypatch.setattr(module, "FOLDER", copy)
    return copy / system()


def runs_on(monkeypatch: pytest.MonkeyPatch, again: Any) -> None:
    """Have models ask for kernels anew."""
    monkeypatch.setattr(module, "kernels", again)
    monkeypatch.setattr("npdistil.compiled.encoder.kernels", again)


def best() -> str:
    """The instruction set that this process takes by itself; no file is loaded that a test changes."""
    found = features(system(), module.Files(system()).load)
    fitting = (isa for isa in ISAS if isa.architecture == system() and isa.needs <= found)
    return next(isa.name for isa in fitting if not (isa.tiles and tiles.refused()))


def has(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    monkeypatch.setattr("npdistil.compiled.cpu.features", lambda architecture, load: frozenset(features))


@pytest.fixture
def tiles_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system gives AMX's tiles, and they are not tried: kernels for it are loaded on any x86-64, and never run."""
    monkeypatch.setattr(tiles, "refused", lambda: "")
    monkeypatch.setattr(tiles, "wrong", lambda isa, run: "")


@pytest.mark.usefixtures("tiles_work")
def test_the_first_that_fits_is_taken(again: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for isa in ISAS:
        if isa.architecture == system():
            has(monkeypatch, *isa.needs)
            assert again().isa.needs <= isa.needs
    has(monkeypatch, *ALL)
    assert again().isa == next(isa for isa in ISAS if isa.architecture == system())
    assert again().origin == "installed"


@pytest.mark.usefixtures("tiles_work")
def test_another_one_can_be_asked_for(again: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, *ALL)
    for isa in ISAS:
        monkeypatch.setenv("NPDISTIL_ISA", isa.name)
        if isa.architecture == system():
            assert again().isa is isa
        else:
            with pytest.raises(EngineError, match=f"{isa.name} is of another architecture"):
                again()


def test_one_that_the_processor_lacks_is_an_error_for_every_engine_but_numpy(
    again: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    best = next(isa for isa in ISAS if isa.architecture == system())
    last = [isa for isa in ISAS if isa.architecture == system()][-1]
    has(monkeypatch, *last.needs)
    monkeypatch.setenv("NPDISTIL_ISA", best.name)
    with pytest.raises(EngineError, match=f"NPDISTIL_ISA is {best.name}: the processor lacks") as caught:
        again()
    assert not isinstance(caught.value, NoKernelsError), "no fallback from what was asked for"
    runs_on(monkeypatch, again)
    with pytest.raises(EngineError, match="lacks"):
        npdistil.load(tiny.write(tmp_path / "model"))
    assert npdistil.load(tmp_path / "model", engine="numpy").engine == "numpy"


REFUSED = "the system gives this process no tile registers for AMX (Invalid argument)"


@pytest.mark.skipif(system() != "x86_64", reason="AMX is of x86-64")
@pytest.mark.parametrize("how", ["refused", "wrong"])
def test_without_tiles_that_work_the_next_one_is_taken_and_why_is_said(
    again: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    has(monkeypatch, *ALL)
    monkeypatch.setattr(tiles, "refused", lambda: REFUSED if how == "refused" else "")
    monkeypatch.setattr(tiles, "wrong", lambda isa, run: REFUSED)
    found = again()
    assert (found.isa.name, found.refused) == ("avx512vnni", REFUSED)
    runs_on(monkeypatch, lambda: found)
    monkeypatch.setattr("npdistil.cli.info.why_not_compiled", lambda: None)
    assert _kernels() == f"avx512vnni, installed; {REFUSED}"
    monkeypatch.setenv("NPDISTIL_ISA", "amx")
    with pytest.raises(EngineError, match="NPDISTIL_ISA is amx: the system gives this process no tile reg") as caught:
        again()
    assert not isinstance(caught.value, NoKernelsError), "no fallback from what was asked for"


def test_kernels_that_compute_another_product_are_found_out() -> None:
    assert tiles.wrong(BY_NAME["amx"], lambda call, rank: None) == "AMX computes 1700 of 1700 known sums wrong here"


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(1, 150), inputs=st.integers(1, 300), outputs=st.integers(1, 300))
def test_an_int8_product_of_any_shape_is_exact(rows: int, inputs: int, outputs: int) -> None:
    assert tiles.wrong(kernels().isa, kernels().run, rows, inputs, outputs) == ""


def needs_tiles() -> None:
    if system() != "x86_64" or not BY_NAME["amx"].needs <= features(system(), module.Files(system()).load):
        pytest.skip("this processor lacks AMX")
    if reason := tiles.refused():
        pytest.skip(reason)


def test_amx_is_taken_where_there_is_some(again: Any) -> None:
    needs_tiles()
    assert (again().isa.name, again().refused) == ("amx", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_amx_works_in_a_process_forked_after_it_was_used(tmp_path: Path) -> None:
    needs_tiles()
    script = f"""
import os, sys
import npdistil
model = npdistil.load({str(tiny.write(tmp_path / "model"))!r}, precision="int8", threads=2)
assert model.encoder.isa.name == "amx"
ids = [[2, 3, 4], [5] * 20, [6]] * 40
expected = model.logits(ids).tobytes()
child = os.fork()
if not child:
    os._exit(model.logits(ids).tobytes() != expected)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = os.environ | {"NPDISTIL_ISA": "amx"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


@pytest.mark.parametrize("name", ["AVX2", "avx", "none", " ", "x" * 1000])
def test_an_unknown_name_is_refused(again: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NPDISTIL_ISA", name)
    with pytest.raises(EngineError, match="known are amx, avx512vnni, .* and jit") as caught:
        again()
    assert len(str(caught.value)) < 200


def test_a_processor_that_no_file_fits_gets_the_numpy_engine_and_one_warning(
    again: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    has(monkeypatch, "sse3")
    runs_on(monkeypatch, again)
    npdistil.engine._warn.cache_clear()
    directory = tiny.write(tmp_path / "model")
    with pytest.warns(RuntimeWarning, match="numpy engine, which is slower: the processor lacks ") as caught:
        models = [npdistil.load(directory) for _ in range(3)]
    assert [model.engine for model in models] == ["numpy"] * 3
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "lacks" in (npdistil.engine.why_not_compiled() or "")
    with pytest.raises(EngineError, match="the processor lacks"):
        npdistil.load(directory, engine="compiled")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        npdistil.load(directory, engine="numpy")
    npdistil.engine._warn.cache_clear()


@pytest.mark.parametrize(
    ("name", "value"),
    [("sys.platform", "darwin"), ("sys.platform", "win32"), ("sys.maxsize", 2**31 - 1), ("os.uname", 0)],
)
def test_other_systems_have_no_kernels(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    if value:
        monkeypatch.setattr(name, value)
    else:
        monkeypatch.delattr(name)
    with pytest.raises(NoKernelsError, match="kernels are made for Linux on x86-64 and AArch64"):
        system()


def test_an_installation_for_another_system_has_no_kernels(again: Any, folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(NoKernelsError, match="it was built for another system"):
        again()


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


COMMITTED = Path(__file__).parents[2] / "npdistil" / "compiled" / "kernels"

DAMAGE: dict[str, Any] = {
    "one bit": damage,
    "empty": lambda file: file.write_bytes(b""),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "more": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "missing": lambda file: file.unlink(),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "another instruction set's": lambda file: file.write_bytes((COMMITTED / "aarch64" / "neon.so").read_bytes() + b" "),
}


@pytest.mark.parametrize("harm", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_an_error_and_no_fallback(
    again: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harm: Any
) -> None:
    harm(folder / f"{best()}.so")
    with pytest.raises(EngineError, match="install npdistil again") as caught:
        again()
    assert not isinstance(caught.value, NoKernelsError)
    runs_on(monkeypatch, again)
    with pytest.raises(EngineError, match="install npdistil again"):
        npdistil.load(tiny.write(tmp_path / "model"))


def test_a_file_that_does_not_load_is_an_error(again: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{best()}.so"
    (folder / name).write_bytes(b"not a shared object")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name]["sha256"] = hashlib.sha256(b"not a shared object").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EngineError, match="cannot be loaded"):
        again()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"files": []}', "null"])
def test_a_damaged_manifest_is_an_error(again: Any, folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(EngineError, match="install npdistil again") as caught:
        again()
    assert not isinstance(caught.value, NoKernelsError)


# Processors, by what they answer.


def answers(*names: str, highest: int = 7) -> Any:
    """A processor that has these features."""

    def cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        if leaf in (0, 0x80000000):
            return (highest if leaf == 0 else 0x80000008), 0, 0, 0
        if leaf & 0x7FFFFFFF > (highest if leaf < 0x80000000 else 8):
            return (0xFFFFFFFF,) * 4  # what was asked for is not there, and anything may come
        registers = [0, 0, 0, 0]
        for (its_leaf, its_subleaf, register), bits in X86_FEATURES.items():
            if (leaf, subleaf) == (its_leaf, its_subleaf):
                registers[register] |= sum(1 << bit for bit, name in bits.items() if name in names)
        if leaf == 7 and subleaf == 0:
            registers[0] = 1  # the highest subleaf
        if leaf == 1 and "osxsave" in names:
            registers[2] |= 1 << 27
        return tuple(registers)  # type: ignore[return-value]

    return cpuid


X86 = frozenset().union(*(isa.needs for isa in ISAS if isa.architecture == "x86_64"))


def xgetbv_of(state: int) -> Any:
    return lambda: state


def test_everything_that_is_asked_for_has_a_bit() -> None:
    assert {name for bits in X86_FEATURES.values() for name in bits.values()} == X86
    assert set(ARM_FEATURES.values()) == ALL - X86


@pytest.mark.parametrize("name", sorted(X86))
def test_each_feature_is_read_by_itself(name: str) -> None:
    assert x86_features(answers(name, "osxsave"), xgetbv_of(0x600E7)) == {name}
    assert x86_features(answers(*(X86 - {name}), "osxsave"), xgetbv_of(0x600E7)) == X86 - {name}


def test_registers_that_the_system_does_not_save_are_not_there() -> None:
    cpuid = answers(*X86, "osxsave")
    assert BY_NAME["amx"].needs <= x86_features(cpuid, xgetbv_of(0x600E7))
    for half in (0xE7, 0x200E7, 0x400E7):
        assert BY_NAME["amx"].needs - x86_features(cpuid, xgetbv_of(half)) == AMX
    assert BY_NAME["avx512vnni"].needs <= x86_features(cpuid, xgetbv_of(0xE7))
    without_zmm = x86_features(cpuid, xgetbv_of(0x7))
    assert BY_NAME["avxvnni"].needs <= without_zmm
    assert not BY_NAME["avx512"].needs <= without_zmm
    assert not BY_NAME["avx2"].needs <= x86_features(cpuid, xgetbv_of(0x3))
    assert not BY_NAME["avx2"].needs <= x86_features(cpuid, xgetbv_of(0x5))


def test_a_system_without_xgetbv_is_not_asked() -> None:
    def never() -> int:
        raise AssertionError

    assert "avx" not in x86_features(answers(*X86), never)


def test_leaves_that_an_old_processor_does_not_have_are_not_asked() -> None:
    found = x86_features(answers(*X86, "osxsave", highest=1), xgetbv_of(0x7))
    assert "fma" in found
    assert not found & {"avx2", "bmi", "avxvnni", "avx512f"}


def test_arm_features_come_from_the_auxiliary_vector() -> None:
    assert arm_features(lambda entry: 0) == frozenset()
    assert arm_features(lambda entry: 1 << 1) == {"neon"}
    vector = {16: 1 << 1 | 1 << 8 | 1 << 20, 26: 1 << 13}
    assert arm_features(lambda entry: vector[entry] if entry == 16 else 0) == {"neon", "lse", "dotprod"}
    assert arm_features(lambda entry: vector[entry]) == BY_NAME["dotprod"].needs | BY_NAME["i8mm"].needs


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_is_found_here_is_what_the_kernel_says() -> None:
    if system() != "x86_64":
        pytest.skip("/proc/cpuinfo has other names on AArch64")
    flags = set(
        next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    )
    theirs = {"sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "sahf": "lahf_lm", "lzcnt": "abm", "bmi": "bmi1"}
    theirs |= {"avx512vnni": "avx512_vnni", "avxvnni": "avx_vnni", "amx-tile": "amx_tile", "amx-int8": "amx_int8"}
    found = features("x86_64", module.Files("x86_64").load)
    assert found == {name for name in X86 if theirs.get(name, name) in flags}


def test_neither_numba_nor_llvmlite_is_imported(tmp_path: Path) -> None:
    script = f"""
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
import npdistil
model = npdistil.load({str(tiny.write(tmp_path / "model"))!r})
print(model.engine, len(model.predict(["a film"])))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("compiled 1\n", "")
