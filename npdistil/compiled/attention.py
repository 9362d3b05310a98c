"""Attention of one head over one text, on the packed rows, on the tiles that float32 linear layers run on."""

from typing import Any

import numpy as np

from .gemm import WIDTH, float_product
from .layout import QUERIES
from .rowwise import softmax
from .simd import LANES, get_float, kernel, load, set_float, splat, store, store_part, transpose


@kernel
def attention(
    room: Any, zeros: int, q: int, k: int, v: int, context: int, step: int, queries: int, length: int, size: int
) -> None:
    """softmax(q k^T / sqrt(size)) v: q [queries, size], k and v [length, size] -> context [queries, size].

    All four have rows `step` bytes apart; `zeros` is the address of a panel's width of zeros.
    """
    factor = np.float32(1) / np.sqrt(np.float32(size))
    for row in range(0, length, LANES):
        for column in range(0, size, LANES):
            block, out = k + row * step + column * 4, room.keys + column * room.keys_step + row * 4
            transpose(block, step, length - row, size - column, out, room.keys_step)
    for first in range(0, queries, QUERIES):
        rows = min(QUERIES, queries - first)
        some = q + first * step
        for column in range(0, length, WIDTH):
            n, out = min(WIDTH, length - column), room.scores + column * 4
            keys = room.keys + column * 4
            float_product(rows, n, some, step, keys, room.keys_step, zeros, out, room.scores_step, size)
        for row in range(rows):
            set_float(room.sums + row * 4, softmax(room.scores + row * room.scores_step, length, factor))
        for column in range(0, size, WIDTH):
            n, out = min(WIDTH, size - column), room.heads + column * 4
            values = v + column * 4
            float_product(rows, n, room.scores, room.scores_step, values, step, zeros, out, room.heads_step, length)
        for row in range(rows):
            share = splat(np.float32(1) / get_float(room.sums + row * 4))
            x, out = room.heads + row * room.heads_step, context + (first + row) * step
            for column in range(0, size, LANES):
                y = load(x + column * 4) * share
                if size - column >= LANES:
                    store(out + column * 4, y)
                else:  # the lanes after it belong to the next head
                    store_part(out + column * 4, y, size - column)
