"""A text's hidden states have the same bits alone, in any batch, in any order, on any threads, on any machine."""

import hashlib
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from helpers import checkpoint, encoder, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from npdistil.checkpoint.weights import Checkpoint
from npdistil.compiled.encoder import CompiledEncoder
from npdistil.compiled.isa import PROBE, Target

LONGEST = 90


@lru_cache
def encoders(directory: Path, precision: str) -> tuple[Checkpoint, list[CompiledEncoder]]:
    found = checkpoint(directory, dim=72, n_heads=3, hidden_dim=130, max_position_embeddings=LONGEST, seed=1)
    return found, [
        encoder(found, precision, threads, max_tokens) for threads, max_tokens in ((1, 64), (2, 512), (4, 90))
    ]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_alone_in_a_batch_in_any_order_on_any_threads(
    tmp_path_factory: pytest.TempPathFactory, precision: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "same-bits"
    _, engines = encoders(folder, precision)
    lengths = data.draw(st.lists(st.integers(1, LONGEST), min_size=1, max_size=12))
    seeds = data.draw(st.lists(st.integers(0, 3), min_size=len(lengths), max_size=len(lengths)))
    order = data.draw(st.permutations(range(len(lengths))))
    lone = [texts([length], seed) for length, seed in zip(lengths, seeds, strict=True)]
    alone = [engines[0].encode(*each).tobytes() for each in lone]
    ids = np.concatenate([lone[i][0] for i in order])
    bounds = np.cumsum([0, *(lengths[i] for i in order)])
    for engine in engines:
        whole = engine.encode(ids, bounds)
        first = engine.encode(ids, bounds, bounds[:-1].copy())
        for place, i in enumerate(order):
            part = whole[bounds[place] : bounds[place + 1]]
            assert part.tobytes() == alone[i]
            assert first[place].tobytes() == part[0].tobytes()


def test_on_every_run(tmp_path: Path) -> None:
    one = encoder(checkpoint(tmp_path, max_position_embeddings=300, dim=72, n_heads=3), threads=3)
    ids, bounds = texts([300, 5, 80, 1])
    assert len({one.encode(ids, bounds).tobytes() for _ in range(30)}) == 1


SCRIPT = """
import hashlib, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from helpers import encoder, texts
from npdistil.checkpoint.weights import read_checkpoint
digest = hashlib.sha256()
found = read_checkpoint(Path(sys.argv[3]))
for precision in ("float32", "int8"):
    one = encoder(found, precision)
    digest.update(one.encode(*texts([1, 7, 60, 3])).tobytes())
print(one.isa.name, digest.hexdigest())
"""
MACHINES = {  # every ISA of x86-64: AVX-512 with and without VNNI, AVX2
    "cascadelake": "avx512vnni",
    "skylake-avx512": "avx512",
    "haswell": "avx2",
    "x86-64-v3": "avx2",
}


def runs_here(cpu: str) -> bool:
    """Whether this machine has what code for that one needs."""
    target = Target.current()
    if not target.triple.startswith("x86_64"):
        return False
    features = {name for name, there in llvm.get_host_cpu_features().items() if there}
    needed = {
        "cascadelake": {"avx512f", "avx512bw", "avx512vl", "avx512vnni"},
        "skylake-avx512": {"avx512f", "avx512bw"},
    }
    return needed.get(cpu, {"avx2", "fma"}) <= features


@pytest.mark.parametrize("cpu", MACHINES)
def test_on_every_instruction_set(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, cpu: str) -> None:
    if not runs_here(cpu):
        pytest.skip(f"this machine cannot run code for {cpu}")
    found = checkpoint(tmp_path, dim=72, n_heads=3, hidden_dim=130, max_position_embeddings=LONGEST)
    digest = hashlib.sha256()
    for precision in ("float32", "int8"):
        digest.update(encoder(found, precision).encode(*texts([1, 7, 60, 3])).tobytes())
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(here), str(here.parent), str(found.directory)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [MACHINES[cpu], digest.hexdigest()]


def test_a_machine_without_fused_multiply_add_gets_the_numpy_engine(tmp_path: Path) -> None:
    found = checkpoint(tmp_path)
    script = f"""
import npdistil
print(npdistil.load({str(found.directory)!r}).engine)
npdistil.load({str(found.directory)!r}, engine="compiled")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": ""},
    )
    if not Target.current().triple.startswith("x86_64"):
        pytest.skip("x86-64 only")
    assert done.stdout == "numpy\n"
    assert "EngineError: the compiled engine needs fused multiply-add" in done.stderr


@pytest.mark.parametrize(("cpu", "isa"), [("neoverse-n1", "dotprod"), ("cortex-a72", "neon"), ("apple-m1", "dotprod")])
def test_arm_processors_get_the_isa_that_they_have(cpu: str, isa: str) -> None:
    target = Target("aarch64-unknown-linux-gnu", cpu, "")
    assert target.isa().name == isa
    assert "fmla" in target.machine(jit=False).emit_assembly(llvm.parse_assembly(PROBE))
