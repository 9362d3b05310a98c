"""The buffers that a forward works in: how long each is, and sets of them that calls use one after the other."""

from typing import Any

import numpy as np

from ..checkpoint.config import Config
from ..distilbert.encoder import Array
from .isa import ISA
from .layout import CACHE_LINE, QUERIES, ROW_BLOCK_STAGES, STAGE, WORKSPACE
from .panels import LANES, aligned_zeros, rounded_up

BLOCK_ROWS = 64  # of a row block: what comes in between in a feed-forward layer stays in the L2 cache
SPARE = 64 * 4 + 64  # bytes after a buffer that whole vectors may read and write, and nobody uses

# What a product takes, and the buffer of as many and as wide float32 rows; in float32 it is that buffer itself, but
# for rows of context, of which a row block is copied.
OPERANDS = {
    "x_operand": "x",
    "output_operand": "output",
    "context_operand": "y",
    "y_operand": "y",
    "hidden_operand": "hidden",
}


def workspace_layout(
    config: Config, isa: ISA, int8: bool, rows: int, chunk_stages: int
) -> tuple[dict[str, int], dict[str, int]]:
    """The size in bytes of each buffer of a workspace, and the strides, by the names of layout.WORKSPACE.

    `rows` is how many a chunk may have, and a text.
    """
    size = rounded_up(config.dim // config.n_heads, LANES)
    stride, hidden_stride = rounded_up(config.dim, LANES) * 4, rounded_up(config.hidden_dim, LANES) * 4
    long_stride = rounded_up(rows, LANES) * 4  # of rows with a column for each token of a text
    sizes = dict.fromkeys(("x", "q", "k", "v", "context", "output"), rows * stride)
    sizes |= {
        "y": BLOCK_ROWS * stride,
        "hidden": BLOCK_ROWS * hidden_stride,
        "keys": size * long_stride,
        "scores": QUERIES * long_stride,
        "sums": QUERIES * 4,
        "head_context": QUERIES * size * 4,
        "counters": chunk_stages * STAGE,
        "row_block_counters": ROW_BLOCK_STAGES * STAGE,
    }
    strides = {"keys_stride": long_stride, "scores_stride": long_stride, "head_context_stride": size * 4}
    for name, of in OPERANDS.items():
        float_stride = hidden_stride if of == "hidden" else stride
        count = sizes[of] // float_stride
        strides[f"{name}.stride"] = float_stride
        if int8:
            strides[f"{name}.stride"] = float_stride // 4 * isa.activation_bytes
            sizes |= {f"{name}.rows": count * strides[f"{name}.stride"], f"{name}.scales": count * 4}
        elif name == "context_operand":
            sizes[f"{name}.rows"] = count * stride
    return {name: rounded_up(size + SPARE, CACHE_LINE) for name, size in sizes.items()}, strides


class PooledWorkspaces:
    """A workspace for each thread of a call. Pages that were never written to take no memory.

    Attributes:
        records: layout.WORKSPACE [threads].
        buffers: each buffer by itself.
    """

    def __init__(self, sizes: dict[str, int], strides: dict[str, int], threads: int, guard: int) -> None:
        """`guard` bytes between two buffers belong to none."""
        total = sum(sizes.values()) + guard * len(sizes)
        memory = aligned_zeros(total * threads)
        self.records = np.zeros(threads, WORKSPACE)
        self.buffers: list[Array] = []
        for record, start in zip(self.records, range(0, total * threads, total), strict=True):
            at = start
            for path, size in sizes.items():
                self.buffers.append(memory[at : at + size])
                _set(record, path, memory.ctypes.data + at)
                at += size + guard
            for path, stride in strides.items():
                _set(record, path, stride)
            for name, of in OPERANDS.items():
                if not record[name]["rows"]:  # float32 rows are their own operand
                    record[name]["rows"] = record[of]


def _set(record: Any, path: str, value: int) -> None:
    field, _, part = path.partition(".")
    if part:
        record[field][part] = value
    else:
        record[field] = value
