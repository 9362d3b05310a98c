"""Holds NumPy's BLAS to one thread, so that a product has the same bits however many threads there are.

A BLAS cuts a product into pieces for its threads, and some of its kernels add up in another order at the edges of a
piece than inside. OpenBLAS, which NumPy's wheels for Linux and Windows bring, can be told how many threads to use.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

_lock = threading.Lock()
_callers = 0  # of `one_thread` that have not left it
_before = 1  # threads that the BLAS had when the first of them came


def _start_anew() -> None:
    """In a forked process the threads that were in `one_thread` are gone."""
    global _lock, _callers
    _lock, _callers = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


@contextmanager
def one_thread() -> Iterator[None]:
    """Products in here run on the thread that asks for them; the last to leave gives the BLAS its threads back.

    The setting is the process's. Whoever multiplies elsewhere in the process meanwhile has one thread too, and must not
    set the number itself. Does nothing with any other BLAS than OpenBLAS.
    """
    global _callers, _before
    found = _openblas()
    if found is None:
        yield
        return
    get_threads, set_threads = found
    with _lock:
        if not _callers:
            _before = get_threads()
            set_threads(1)
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if not _callers:
                set_threads(_before)


@cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """OpenBLAS's two functions, of the copy that NumPy uses: get the number of threads, and set it."""
    # Asking the module that is linked with it finds that very copy. Windows looks into the named file alone.
    beside = Path(np.__file__).parents[1] / "numpy.libs"
    files = [str(np.linalg._umath_linalg.__file__), *map(str, sorted(beside.glob("*openblas*")))]
    for file in files:
        try:
            library = ctypes.CDLL(file)
        except OSError:
            continue
        for prefix in ("scipy_", ""):  # NumPy's own build and others name them in their own ways
            for suffix in ("64_", "", "_64"):
                try:
                    get_threads = library[f"{prefix}openblas_get_num_threads{suffix}"]
                    set_threads = library[f"{prefix}openblas_set_num_threads{suffix}"]
                except AttributeError:
                    continue
                set_threads.restype = None
                return get_threads, set_threads
    return None
