"""What stands where: the records through which Python and the kernels speak. Fields of int64 are addresses or sizes.

A step is the number of bytes from one row of a buffer to the next.
"""

from typing import Any

import numpy as np

NONE, GELU, GELU_TANH, RELU, SILU, SIGMOID, TANH = range(7)
ACTIVATIONS = {  # the names that distilbert.encoder.ACTIVATIONS has
    "gelu": GELU,
    "gelu_python": GELU,
    "gelu_new": GELU_TANH,
    "gelu_pytorch_tanh": GELU_TANH,
    "relu": RELU,
    "silu": SILU,
    "swish": SILU,
    "sigmoid": SIGMOID,
    "tanh": TANH,
}
FLOAT32, FLOAT16, INT8 = range(3)  # of an embedding table
TABLES = {"float32": FLOAT32, "float16": FLOAT16, "int8": INT8}
ENCODE, LINEAR = range(2)

QUERIES = 48  # rows of a text whose attention scores are in the cache at a time
LINE = 64  # bytes that two cores exchange at a time: what different threads write stands in different lines
# Counters of one stage of the work: items claimed, and (`DONE` bytes after) items done.
DONE = 8


def record(*fields: Any) -> np.dtype[Any]:
    """A record of int64, but for fields that come with a type."""
    return np.dtype([field if isinstance(field, tuple) else (field, np.int64) for field in fields], align=True)


LIN = record(
    "panels",  # the weights, see panels.py
    "start",  # [n] what sums start from: the bias in float32, in int8 what takes the activations' offset off
    "scale",  # [n] int8: of each column
    "bias",  # [n] int8
    "n",  # columns, that is outputs
    "steps",  # of the kernel along the inputs, 4 bytes of activations each
    "int8",  # 1 or 0
)
NORM = record("weight", "bias")
LAYER = record(
    ("q_lin", LIN),
    ("k_lin", LIN),
    ("v_lin", LIN),
    ("out_lin", LIN),
    ("sa_layer_norm", NORM),
    ("lin1", LIN),
    ("lin2", LIN),
    ("output_layer_norm", NORM),
)
TABLE = record("weight", "scale", "kind")
# Rows that a product takes: the float32 rows themselves, or their int8 form and the scale of each.
OPERAND = record("rows", "step", "scales")
# The buffers of one thread.
ROOM = record(
    # a chunk of texts
    "x",
    "q",
    "k",
    "v",
    "context",
    "wanted",  # of the last block: the rows that were asked for
    ("x_operand", OPERAND),
    ("wanted_operand", OPERAND),
    # a block of rows
    "y",
    "hidden",
    ("context_operand", OPERAND),
    ("y_operand", OPERAND),
    ("hidden_operand", OPERAND),
    # one head of one text: keys transposed, scores of some queries and the sums of their rows, what comes out
    "keys",
    "keys_step",
    "scores",
    "scores_step",
    "sums",
    "heads",
    "heads_step",
    # counters of work that is not shared
    "counters",
    "block_counters",
)
# Texts `start` to `stop` of a batch, and `first` to `last` of the wanted rows (both exclusive).
CHUNK = record("start", "stop", "first", "last")
JOB = record(
    "task",
    "threads",
    "rooms",
    "counters",
    # ENCODE: the model
    "dim",
    "hidden_dim",
    "n_heads",
    "n_layers",
    "layers",
    "activation",
    "int8",
    ("words", TABLE),
    ("positions", TABLE),
    ("norm", NORM),
    # the batch
    "ids",
    "places",  # the position of each row in its text
    "bounds",
    "wanted",  # row numbers
    "wanted_bounds",  # of each text, in `wanted`
    "out",
    # the work
    "chunks",
    "n_chunks",
    "alone",  # as many of them are done by one thread each
    "chunk_stages",
    "layer_stages",
    "block",  # rows that go through a feed-forward layer at a time
    "step",  # of rows of dim float32
    "hidden_step",
    "zeros",  # as many as a panel has columns
    # LINEAR: operand [rows, inputs] -> out
    ("lin", LIN),
    ("operand", OPERAND),
    "rows",
    "out_step",
)
BLOCK_STAGES = 7  # of forward.feed_forward
ATTENTION_STAGES = 4  # of forward.block before that
