"""The one switch: which encoder runs, in which precision, on how many threads."""

import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from . import blas
from .batch import blocks, check_ids
from .checkpoint.config import Config
from .distilbert import encoder
from .distilbert.encoder import Array, Params
from .errors import InputError
from .forks import loading, loads
from .settings import check, choice, whole

ENGINES = ("auto", "numpy", "compiled")
PRECISIONS = ("float32", "int8")
MAX_TOKENS = 1024  # rows in flight: memory is bounded by these, not by the batch; more do not make it faster

Item = TypeVar("Item")


class Encoder(Protocol):
    """What an engine brings. Rows of both results depend on no other text and not on threads, bit for bit.

    Attributes:
        name: the engine's, "numpy" or "compiled".
        threads: how many it may use.
        at_once: tokens that `encode` should be given at most: memory grows with them, and Ctrl-C may wait for them.
    """

    name: str
    threads: int
    at_once: int

    def encode(self, ids: Array, bounds: Array, rows: Array | None = None, positions: Array | None = None) -> Array:
        """Ids int64 [T] and bounds int64 [B + 1] -> last hidden states float32 [T, D], or [R, D] at `rows`.

        `positions` int64 [T] are rows of the position table, by default counted from 0 in every text.
        """

    def linear(self, x: Array, weight: Array, bias: Array) -> Array:
        """The operator that heads run on: float32 [M, in], [out, in], [out] -> [M, out]."""

    def on_one_thread(self) -> "Encoder":
        """The same encoder, which works on the thread that calls it and on no other."""


class NumpyEncoder:
    """`encoder.encode`, in blocks of whole texts, which threads share among them. A single text has one thread.

    Every product runs on the thread that asks for it, because a BLAS with threads of its own adds up in an order that
    depends on how many these are; blas.py says for which BLAS that holds.
    """

    name = "numpy"
    at_once = 16 * MAX_TOKENS  # between its blocks it listens to signals

    def __init__(self, config: Config, params: Params, threads: int, max_tokens: int = MAX_TOKENS) -> None:
        int8 = "weight_scale" in params["layer"][0]["ffn"]["lin1"]
        # A BLAS adds up in an order that depends on the number of rows. Integers do not mind, so int8 takes many
        # texts at a time; float32 takes one, or its result would depend on its neighbours. What int8 computes in
        # float32 beside its products keeps rows apart: attention's products are of one text, NumPy adds up each row
        # (mean, softmax) by itself, in an order that depends on its length alone, and exp and GELU give a number the
        # same bits wherever it stands in the array (tests/test_specification.py).
        self.max_tokens = max(1, max_tokens // threads) if int8 else 1
        self.threads = threads
        self.vocab_size, self.max_length = config.vocab_size, config.max_position_embeddings
        self.settings = config.encoder_settings
        self.params = params | {"layer": [_floats(block) for block in params["layer"]]} if int8 else params

    def encode(self, ids: Array, bounds: Array, rows: Array | None = None, positions: Array | None = None) -> Array:
        """As `Encoder.encode`."""
        check_ids(ids, bounds, self.vocab_size, self.max_length)
        output_rows = np.arange(len(ids)) if rows is None else rows
        out = np.empty((len(output_rows), self.params["embeddings"]["LayerNorm"]["weight"].size), np.float32)

        def encode_block(texts: tuple[int, int]) -> None:
            i, j = texts
            first, last = bounds[i], bounds[j]
            own = None if positions is None else positions[first:last]
            hidden = encoder.encode(
                ids[first:last], bounds[i : j + 1] - first, **self.params, **self.settings, positions=own
            )
            some = slice(*np.searchsorted(output_rows, [first, last]))
            out[some] = hidden[output_rows[some] - first]

        with blas.one_thread():
            _shared(encode_block, blocks(bounds, self.max_tokens), self.threads)
        return out

    def on_one_thread(self) -> "NumpyEncoder":
        """As `Encoder.on_one_thread`."""
        one = copy(self)
        one.threads, one.at_once = 1, MAX_TOKENS  # no signal interrupts it
        return one

    def linear(self, x: Array, weight: Array, bias: Array) -> Array:
        """As `Encoder.linear`, a product for each row: how a BLAS adds up depends on how many rows it is given."""
        with blas.one_thread():
            return np.matmul(x[:, None, :], weight.T)[:, 0, :] + bias


def _shared(work: Callable[[Item], None], items: Iterable[Item], threads: int) -> None:
    """Call `work` for every item, on at most `threads` threads: this one, and others where there are items for them."""
    todo = list(items)
    left = iter(todo)

    def turns() -> None:
        try:
            for item in left:
                work(item)
        except BaseException:
            todo.clear()  # nobody takes another
            raise

    helpers = min(threads, len(todo)) - 1
    if helpers < 1:
        turns()
        return
    with loading:
        from concurrent.futures import Future, ThreadPoolExecutor

    helping: list[Future[None]] = []
    with ThreadPoolExecutor(helpers, "npdistil") as pool:
        with suppress(RuntimeError):  # the system gives no more threads: those that there are do the work
            helping.extend(pool.submit(turns) for _ in range(helpers))
        turns()
    for each in helping:
        each.result()


def _floats(node: Params) -> Params:
    """int8 weights as the same integers in float32, in which the product runs, once and not at every call."""
    return {
        name: _floats(child) if isinstance(child, dict) else child.astype(np.float32, copy=False)
        for name, child in node.items()
    }


@loads
def make_encoder(config: Config, params: Params, engine: str, threads: int | None) -> Encoder:
    """The encoder for `engine`; params are in the wanted precision already.

    Raises:
        InputError: no engine of this name.
        EngineError: "compiled" on a machine that no kernels are for, where "auto" takes the numpy engine and warns; or
            kernels that are damaged, cannot be loaded, or are not what NPDISTIL_ISA asks for.
        MissingExtraError: NPDISTIL_ISA=jit without numba.
    """
    check("engine", choice(*ENGINES), engine)
    threads = thread_count(threads)
    if engine == "auto" and (reason := why_not_compiled()):
        _warn(reason)
        engine = "numpy"
    if engine == "numpy":
        return NumpyEncoder(config, params, threads)
    from .compiled.encoder import CompiledEncoder

    return CompiledEncoder(config, params, threads, MAX_TOKENS)


@loads
def why_not_compiled() -> str | None:
    """Why "auto" takes the numpy engine on this machine; None where it takes the compiled one.

    Raises:
        EngineError, MissingExtraError: as `make_encoder` with "auto".
    """
    from .compiled.kernels import NoKernelsError, kernels

    try:
        kernels()
    except NoKernelsError as error:
        return str(error)
    return None


@lru_cache(maxsize=1)
def _warn(reason: str) -> None:
    """Once in a process."""
    warnings.warn(f"running on the numpy engine, which is slower: {reason}", RuntimeWarning, stacklevel=6)


def thread_count(asked: int | None = None) -> int:
    """Threads to use: `asked`, else NPDISTIL_THREADS, else the CPUs that this process may use.

    These are the CPUs of its affinity mask, and no more than the quota of its cgroup, so that a container with two
    CPUs on a host with 64 runs two threads.

    Raises:
        InputError: not a whole number from 1 to 1024.
    """
    source, value = "threads", asked
    if value is None and (text := os.environ.get("NPDISTIL_THREADS")):
        source, value = "NPDISTIL_THREADS", int(text) if text.isdecimal() and len(text) < 9 else 0
        if not value:
            raise InputError(f"NPDISTIL_THREADS is {text!r:.40}; expected a whole number from 1 to 1024")
    if value is None:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(cpus, _cgroup_quota() or cpus, 1024))
    check(source, whole(1, 1024), value)
    return int(value)


def _cgroup_quota(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """CPUs that the control groups of this process allow, rounded up; None where they set no limit.

    Linux: cgroups 2 (a line `0::/path` in `own`; the limits of all groups above hold too), then cgroups 1.
    """
    try:
        groups = [line.split("::/", 1)[1] for line in own.read_text().splitlines() if line.startswith("0::/")]
    except OSError:
        return None
    paths = [Path(os.path.normpath(root / group)) for group in groups]
    folders = [folder for path in paths if path.is_relative_to(root) for folder in (path, *path.parents)]
    found = [_read(folder / "cpu.max") for folder in folders if folder.is_relative_to(root)]
    found.append(" ".join(_read(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")))
    limits = [text.split() for text in found]
    cpus = [-(-int(q[0]) // int(q[1])) for q in limits if len(q) == 2 and all(map(str.isdecimal, q)) and int(q[1])]
    return max(1, min(cpus)) if cpus else None  # no limit is written as "max", or as -1


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
