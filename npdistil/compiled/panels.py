"""Weights in the order in which the kernels read them: packed once, when a model is loaded.

A panel holds 16 to 64 columns (outputs) for all inputs, input by input: float32 [K, columns], or int8
[K / interleave, columns, interleave], where `interleave` weights of one column stand side by side.
Columns are filled up with zeros to whole vectors, int8 inputs to what a step of the kernel takes.
"""

import contextlib
import mmap
from typing import Any

import numpy as np

from ..distilbert.encoder import Array, Params
from .isa import ISA

LANES = 16


def rounded_up(n: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-n // unit) * unit


def aligned_zeros(size: int) -> Array:
    """uint8 [size], zeros, from the start of a page, and on large pages where the system has some to give."""
    if hasattr(mmap, "MAP_PRIVATE"):
        # Python's default is memory shared with children, which the system never puts on large pages.
        memory = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:  # Windows
        memory = mmap.mmap(-1, max(1, size))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a Linux without large pages; small ones do
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)[:size]


def padded(values: Array, dtype: Any, size: int) -> Array:
    """A vector [n] with zeros after it, [size]."""
    out = np.zeros(size, dtype)
    out[: values.size] = values.reshape(-1)
    return out


def pack(weight: Array, interleave: int, inputs: int, width: int, packed: Array) -> Array:
    """float32 or int8 [out, in] -> its panels, one after the other: [out up to 16, inputs] elements.

    `interleave` is 1 for float32; `inputs` is a multiple of it, `in` or more; `width` is the number of columns of each
    panel but the last; `packed` are the bytes to write to.
    """
    n, k = weight.shape
    columns = rounded_up(n, LANES)
    if columns != n or inputs != k:
        weight = np.pad(weight, ((0, columns - n), (0, inputs - k)))
    # What is interleaved stays together: it is moved as one number, several times as fast.
    together = np.dtype(f"u{interleave * weight.itemsize}")
    moved, to = np.ascontiguousarray(weight).view(together), packed.view(together)
    done = 0
    for first in range(0, columns, width):
        part = moved[first : first + width]
        to[done : done + part.size].reshape(part.shape[::-1])[...] = part.T
        done += part.size
    return packed.view(weight.dtype)


def linear_size(weight: Array, isa: ISA) -> int:
    """Bytes of the panels of a linear layer, a multiple of 64."""
    n, k = weight.shape
    return rounded_up(n, LANES) * (rounded_up(k, isa.inputs) if weight.dtype == np.int8 else k) * weight.itemsize


def pack_linear(weight: Array, bias: Array, isa: ISA, out: Array, weight_scale: Array | None = None) -> Params:
    """The fields of layout.LINEAR_LAYER, with arrays where it has addresses; panels are written to `out`."""
    n, k = weight.shape
    columns, width = rounded_up(n, LANES), isa.vectors * LANES
    bias = padded(bias, np.float32, columns)
    if weight_scale is None:
        panels = pack(weight, 1, k, width, out)
        return {"panels": panels, "start": bias, "scale": bias, "bias": bias, "n": n, "steps": k, "int8": 0}
    # (x + offset) w summed up is x w summed up, and offset times the sum of w.
    start = -isa.offset * weight.sum(axis=1, dtype=np.int64)
    inputs = rounded_up(k, isa.inputs)
    return {
        "panels": pack(weight, isa.interleave, inputs, width, out),
        "start": padded(start, np.int32, columns),
        "scale": padded(weight_scale, np.float32, columns),
        "bias": bias,
        "n": n,
        "steps": inputs // isa.interleave,
        "int8": 1,
    }
