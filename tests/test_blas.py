"""The NumPy engine's bits depend neither on a text's neighbours nor on threads, whichever kernels OpenBLAS runs."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import npdistil
from npdistil import blas, distilbert

NUMPY: Any = sys.modules.get("numpy._core._multiarray_umath") or sys.modules["numpy.core._multiarray_umath"]
# OpenBLAS's kernels on x86-64, and what of NumPy's names for a processor's features they need.
KERNELS = {
    "": (),  # the machine's own
    "Prescott": (),
    "Nehalem": ("SSE42",),
    "Sandybridge": ("AVX",),
    "Haswell": ("AVX2", "FMA3"),
    "Zen": ("AVX2", "FMA3"),
    "SkylakeX": ("AVX512_SKX",),
}
SIZES: dict[str, dict[str, Any]] = {  # of a real model; and such that no row starts where a vector register would like
    "even": {"dim": 384, "hidden_dim": 1536, "n_heads": 12, "n_layers": 1, "max_position_embeddings": 256},
    "odd": {"dim": 77, "hidden_dim": 141, "n_heads": 7, "max_position_embeddings": 256},
}
CODE = """
import hashlib, itertools, json, sys
import numpy as np
import npdistil

random = np.random.default_rng(0)
texts = [random.integers(0, 90, n).tolist() for n in (1, 2, 3, 5, 8, 25, 31, 64, 100, 256)]
digests = {}
for directory, precision, threads in itertools.product(sys.argv[1:], ("float32", "int8"), (1, 3)):
    model = npdistil.load(directory, engine="numpy", precision=precision, threads=threads)
    alone = [model.hidden_states([text])[0] for text in texts]
    for batch in (model.hidden_states(texts), model.hidden_states(texts[::-1])[::-1]):
        assert all(map(np.array_equal, alone, batch)), (directory, precision, threads, "neighbours")
    logits = model.logits(texts)
    assert np.array_equal(logits, np.concatenate([model.logits([text]) for text in texts])), "neighbours of logits"
    digest = hashlib.sha256(b"".join(map(np.ndarray.tobytes, [*alone, logits]))).hexdigest()
    assert digests.setdefault(f"{directory} {precision}", digest) == digest, (directory, precision, threads, "threads")
print(json.dumps(digests))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(tiny.write(folder / name, tokenizer=None, **settings)) for name, settings in SIZES.items()]


@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: kernels or "own")
def test_a_text_has_the_same_bits_alone_in_a_batch_and_on_any_number_of_threads(
    kernels: str, models: list[str]
) -> None:
    if not all(NUMPY.__cpu_features__.get(feature) for feature in KERNELS[kernels]):
        pytest.skip(f"this processor lacks {' or '.join(KERNELS[kernels])}")
    if kernels == "Prescott" and NUMPY.__cpu_baseline__[-1:] != ["SSE3"]:
        pytest.skip("this NumPy needs a later processor, and NumPy 2.5's OpenBLAS crashes on these kernels")
    if not blas._openblas():
        pytest.skip("NumPy's BLAS is no OpenBLAS")
    found = []
    for threads in ("1", "3"):
        settings = {"OPENBLAS_NUM_THREADS": threads} | ({"OPENBLAS_CORETYPE": kernels} if kernels else {})
        done = subprocess.run(
            [sys.executable, "-c", CODE, *models],
            capture_output=True, text=True, check=False, timeout=300, env=os.environ | settings,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]


def test_the_blas_has_its_threads_back_afterwards() -> None:
    found = blas._openblas()
    if found is None:
        pytest.skip("NumPy's BLAS is no OpenBLAS")
    get_threads, set_threads = found
    before = get_threads()
    try:
        set_threads(2)
        with blas.one_thread():
            with blas.one_thread():
                assert get_threads() == 1
            assert get_threads() == 1
        assert get_threads() == 2
        with pytest.raises(ZeroDivisionError), blas.one_thread():
            raise ZeroDivisionError
        assert get_threads() == 2
    finally:
        set_threads(before)


def test_numpys_own_wheels_are_held() -> None:
    """Of NumPy as pip installs it on Linux, so that the tests above do not pass for having been skipped."""
    if not (Path(np.__file__).parents[1] / "numpy.libs").is_dir():
        pytest.skip("NumPy is not from a wheel")
    assert blas._openblas()


def test_threads_share_the_texts_of_a_batch(models: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    both = threading.Barrier(2, timeout=300)
    real = distilbert.encoder.encode

    def encode(*args: Any, **settings: Any) -> Any:
        seen.add(threading.get_ident())
        both.wait()
        return real(*args, **settings)

    monkeypatch.setattr("npdistil.distilbert.encoder.encode", encode)
    npdistil.load(models[1], engine="numpy", threads=2).hidden_states([[1, 2], [3, 4]])
    assert len(seen) == 2


def test_where_no_thread_can_be_started_the_caller_does_it_all(
    models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [[1, 2], [3, 4], [5]]
    expected = npdistil.load(models[1], engine="numpy", threads=1).hidden_states(texts)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    found = npdistil.load(models[1], engine="numpy", threads=3).hidden_states(texts)
    assert all(map(np.array_equal, expected, found))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_thread_reaches_the_caller(
    models: list[str], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    def encode(*args: Any, **settings: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("npdistil.distilbert.encoder.encode", encode)
    model = npdistil.load(models[1], engine="numpy", threads=threads)
    with pytest.raises(MemoryError):
        model.hidden_states([[1, 2], [3, 4]])
