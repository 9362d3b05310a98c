"""A text's hidden states have the same bits alone, in any batch, in any order, on any threads, on any machine."""

import ctypes
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from encoders import checkpoint, encoder, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from npdistil.checkpoint.weights import Checkpoint
from npdistil.compiled import build, emit
from npdistil.compiled.cpu import features
from npdistil.compiled.encoder import CompiledEncoder
from npdistil.compiled.isa import BY_NAME, ISAS
from npdistil.compiled.kernels import SYMBOL, Files, Kernels, as_run, system

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


# Rows of a product up to, beyond and between those of the tiles of every instruction set.
LENGTHS = [[1, 7, 60, 3], *([n] for n in (1, 6, 7, 15, 16, 17, 31, 32, 33, 47, 49, 64, 65, 80)), [90, 90, 5]]
SCRIPT = (
    f"LENGTHS = {LENGTHS}"
    + """
import hashlib, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from encoders import encoder, texts
from npdistil.checkpoint.weights import read_checkpoint
digest = hashlib.sha256()
found = read_checkpoint(Path(sys.argv[3]))
for precision in ("float32", "int8"):
    one = encoder(found, precision)
    for lengths in LENGTHS:
        digest.update(one.encode(*texts(lengths)).tobytes())
print(one.isa.name, digest.hexdigest())
"""
)


def bits(found: Checkpoint, **variables: str) -> list[str]:
    """The instruction set that a process with these variables uses, and the digest of what it computes."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(here), str(here.parent), str(found.directory)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | variables,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def found(tmp_path: Path) -> Checkpoint:
    return checkpoint(tmp_path, dim=72, n_heads=3, hidden_dim=130, max_position_embeddings=LONGEST)


def own_digest(found: Checkpoint) -> str:
    digest = hashlib.sha256()
    for precision in ("float32", "int8"):
        for lengths in LENGTHS:
            digest.update(encoder(found, precision).encode(*texts(lengths)).tobytes())
    return digest.hexdigest()


OWN = system()
MISSING = {isa.name: isa.needs - features(OWN, Files(OWN).load) for isa in ISAS if isa.architecture == OWN}


@pytest.mark.parametrize("isa", MISSING)
def test_on_every_instruction_set(found: Checkpoint, isa: str) -> None:
    if MISSING[isa]:
        pytest.skip(f"this processor lacks {', '.join(MISSING[isa])}")
    assert bits(found, NPDISTIL_ISA=isa) == [isa, own_digest(found)]


@pytest.mark.once
@pytest.mark.skipif(OWN != "x86_64" or bool(MISSING["avx512vnni"]), reason="needs AVX-512 VNNI")
def test_on_avx_vnni_with_the_instruction_as_avx_512_has_it(
    found: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For processors without AVX-VNNI: its tiles, its layout and its calls, of which LLVM makes the same instruction in
    # the encoding of AVX-512 VNNI.
    if wrong := build.wrong_tools():
        pytest.skip("; ".join(wrong))
    simulated = replace(BY_NAME["avxvnni"], cpu="x86-64-v4", features="+avx512vnni")
    code = "import sys; from dataclasses import replace; from npdistil.compiled import emit, isa; "
    code += "wanted = replace(isa.BY_NAME['avxvnni'], cpu='x86-64-v4', features='+avx512vnni'); "
    code += "open(sys.argv[1], 'wb').write(emit.emit(wanted))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.o")], check=True)
    emit.link(tmp_path / "a.o", tmp_path / "a.so")
    run = as_run(ctypes.CDLL(str(tmp_path / "a.so"))[SYMBOL])
    expected = own_digest(found)
    monkeypatch.setattr("npdistil.compiled.encoder.kernels", lambda: Kernels(simulated, run, "simulated"))
    assert encoder(found).isa.interleave == 4
    assert own_digest(found) == expected


def test_compiled_for_this_very_processor(found: Checkpoint) -> None:
    pytest.importorskip("numba")
    isa, digest = bits(found, NPDISTIL_ISA="jit")
    assert not MISSING[isa]
    assert digest == own_digest(found)
