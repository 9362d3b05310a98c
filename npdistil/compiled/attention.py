"""Attention of one head over one text, on the packed rows, on the tiles that float32 linear layers run on."""

from typing import Any

import numpy as np

from .gemm import WIDTH, float_product
from .layout import QUERIES
from .rowwise import softmax
from .simd import LANES, broadcast, get_float, kernel, load, set_float, store, store_part, transpose


@kernel
def attention(
    workspace: Any, zeros: int, q: int, k: int, v: int, context: int, stride: int, queries: int, length: int, size: int
) -> None:
    """softmax(q k^T / sqrt(size)) v: q [queries, size], k and v [length, size] -> context [queries, size].

    All four have rows `stride` bytes apart; `zeros` is the address of a panel's width of zeros.
    """
    factor = np.float32(1) / np.sqrt(np.float32(size))
    for row in range(0, length, LANES):
        for column in range(0, size, LANES):
            square, out = k + row * stride + column * 4, workspace.keys + column * workspace.keys_stride + row * 4
            transpose(square, stride, length - row, size - column, out, workspace.keys_stride)
    for first in range(0, queries, QUERIES):
        rows = min(QUERIES, queries - first)
        some = q + first * stride
        for column in range(0, length, WIDTH):
            n, out = min(WIDTH, length - column), workspace.scores + column * 4
            keys = workspace.keys + column * 4
            float_product(rows, n, some, stride, keys, workspace.keys_stride, zeros, out, workspace.scores_stride, size)
        for row in range(rows):
            set_float(
                workspace.sums + row * 4, softmax(workspace.scores + row * workspace.scores_stride, length, factor)
            )
        for column in range(0, size, WIDTH):
            n, out = min(WIDTH, size - column), workspace.head_context + column * 4
            values = v + column * 4
            float_product(
                rows,
                n,
                workspace.scores,
                workspace.scores_stride,
                values,
                stride,
                zeros,
                out,
                workspace.head_context_stride,
                length,
            )
        # The softmax's division: here, because what comes out is narrower than the scores.
        for row in range(rows):
            inverse = broadcast(np.float32(1) / get_float(workspace.sums + row * 4))
            x, out = workspace.head_context + row * workspace.head_context_stride, context + (first + row) * stride
            for column in range(0, size, LANES):
                y = load(x + column * 4) * inverse
                if size - column >= LANES:
                    store(out + column * 4, y)
                else:  # the lanes after it belong to the next head
                    store_part(out + column * 4, y, size - column)
