"""The tile registers of AMX: a process asks the system for them once, and makes sure that they compute what is right.

The permission is the whole process's, and that of processes forked from it. Threads give the tiles their shape at the
start of each forward and release them at its end (forward.run).
"""

import ctypes
import os

import numpy as np

from .isa import ISA
from .kernels import Run
from .layout import CACHE_LINE, CALL, LINEAR, STAGE
from .panels import aligned_zeros, linear_size, pack_linear
from .workspace import SPARE

ARCH_PRCTL = 158  # the number of the call on x86-64
ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 0x1023, 18


def refused() -> str:
    """Ask Linux for the tiles; why this process does not get them, or nothing."""
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    if syscall(*map(ctypes.c_long, (ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA))) == 0:
        return ""
    return f"the system gives this process no tile registers for AMX ({os.strerror(ctypes.get_errno())})"


def wrong(isa: ISA, run: Run, rows: int = 17, inputs: int = 100, outputs: int = 100) -> str:
    """Compute a product of signed bytes that is known; what is wrong with it, or nothing.

    Sums of up to 1000 inputs are float32 exactly.
    """
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (rows, inputs))
    weight = rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
    zeros, ones = np.zeros(outputs, np.float32), np.ones(outputs, np.float32)
    lin = pack_linear(weight, zeros, isa, aligned_zeros(linear_size(weight, isa)), ones)
    stored = rng.integers(0, 128, (rows + 16) * inputs + SPARE).astype(
        np.uint8 if isa.activation_bytes == 1 else np.int16
    )
    stored[: x.size] = (x + isa.offset).astype(stored.dtype).reshape(-1)
    scales, out = np.ones(rows, np.float32), np.zeros((rows, lin["start"].size), np.float32)
    counters = np.zeros(STAGE + CACHE_LINE, np.uint8)
    call = np.zeros((), CALL)
    call["function"], call["threads"], call["int8"] = LINEAR, 1, 1
    call["counters"] = counters.ctypes.data + -counters.ctypes.data % CACHE_LINE
    call["linear_layer"] = tuple(v.ctypes.data if isinstance(v, np.ndarray) else v for v in lin.values())
    call["operand"] = stored.ctypes.data, inputs * isa.activation_bytes, scales.ctypes.data
    call["rows"], call["out"], call["out_stride"] = rows, out.ctypes.data, out.strides[0]
    run(call.ctypes.data, 0)
    expected = x @ weight.T
    if differing := np.count_nonzero(out[:, :outputs] != expected):
        return f"AMX computes {differing} of {expected.size} known sums wrong here"
    return ""
