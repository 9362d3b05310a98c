"""The protocol between Python and the kernels: every record that both see, and who writes what.

Python calls one function, `run(address of a CALL, rank)`, once for each thread that takes part, and gets nothing back
but memory that was written to. Ranks are 0 (the caller, for whom it returns when the call is done) to `threads` - 1.

| record | made by | written to by kernels |
| --- | --- | --- |
| LINEAR_LAYER, NORM, LAYER, TABLE, and the weights that they point to | encoder.py, when a model is loaded | never |
| WORKSPACE, one for each thread | workspace.py, reused from call to call | only the buffers that it points to |
| CHUNK, one for each part of a batch | encoder.py, for each call | never |
| CALL | encoder.py, for each call, from a copy of what is the same for all | only `out` and the counters |

A field is an int64, but for `epsilon`: an address where it names an array, or a number. What an address points to is
float32 and begins a row every `..._stride` bytes where nothing else is said. Every buffer is longer than its rows by
workspace.SPARE bytes, which vectors may read and write and nobody uses. Kernels check nothing: encoder.py checks every
number that an address is made of before it calls.
"""

from typing import Any

import numpy as np

NONE, GELU, GELU_TANH, RELU, SILU, SIGMOID, TANH = range(7)
GELU_10, QUICK_GELU, RELU2, RELU6, LEAKY_RELU, HARDSWISH, MISH, LAPLACE = range(7, 15)
ACTIVATIONS = {  # the names that distilbert.encoder.ACTIVATIONS has
    "gelu": GELU,
    "gelu_python": GELU,
    "gelu_10": GELU_10,
    "gelu_new": GELU_TANH,
    "gelu_fast": GELU_TANH,
    "gelu_accurate": GELU_TANH,
    "gelu_pytorch_tanh": GELU_TANH,
    "gelu_python_tanh": GELU_TANH,
    "quick_gelu": QUICK_GELU,
    "relu": RELU,
    "relu2": RELU2,
    "relu6": RELU6,
    "leaky_relu": LEAKY_RELU,
    "silu": SILU,
    "swish": SILU,
    "hardswish": HARDSWISH,
    "mish": MISH,
    "laplace": LAPLACE,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "linear": NONE,
}
FLOAT32, FLOAT16, INT8 = range(3)  # of an embedding table
TABLES = {"float32": FLOAT32, "float16": FLOAT16, "int8": INT8}
ENCODE, LINEAR = range(2)

QUERIES = 48  # rows of a text whose attention scores are in the cache at a time
CACHE_LINE = 64  # bytes that two cores exchange at a time: what different threads write is in different lines
STAGE = CACHE_LINE  # bytes of the counters of one stage of the work (share.py): int64 items claimed, and
DONE = 8  # this many bytes after it, int64 items done


def record(*fields: Any) -> np.dtype[Any]:
    """A record of int64, but for fields that come with a type."""
    return np.dtype([field if isinstance(field, tuple) else (field, np.int64) for field in fields], align=True)


LINEAR_LAYER = record(
    "panels",  # the weights, see panels.py
    "start",  # [n] what sums start from: float32 the bias, or int32 what takes the activations' offset off
    "scale",  # [n] int8: of each column
    "bias",  # [n] int8
    "n",  # columns, that is outputs
    "steps",  # of the kernel along the inputs: one each in float32, ISA.interleave in int8
    "int8",  # 1 or 0
)
NORM = record("weight", "bias")
LAYER = record(
    ("q_lin", LINEAR_LAYER),
    ("k_lin", LINEAR_LAYER),
    ("v_lin", LINEAR_LAYER),
    ("out_lin", LINEAR_LAYER),
    ("sa_layer_norm", NORM),
    ("lin1", LINEAR_LAYER),
    ("lin2", LINEAR_LAYER),
    ("output_layer_norm", NORM),
)
TABLE = record("weight", "scale", "kind")
# Rows that a product takes: the float32 rows themselves, or their int8 form and the scale of each.
OPERAND = record("rows", "stride", "scales")
# The buffers of one thread; those of thread 0 are also where rows lie that all threads work on.
WORKSPACE = record(
    # a chunk of texts
    "x",
    "q",
    "k",
    "v",
    "context",
    "output",  # of the last layer: the output rows alone
    ("x_operand", OPERAND),
    ("output_operand", OPERAND),
    # a row block
    "y",
    "hidden",
    ("context_operand", OPERAND),
    ("y_operand", OPERAND),
    ("hidden_operand", OPERAND),
    # one head of one text: keys transposed, scores of some queries and the sums of their rows, what comes out
    "keys",
    "keys_stride",
    "scores",
    "scores_stride",
    "sums",
    "head_context",
    "head_context_stride",
    # counters of work that is not shared
    "counters",
    "row_block_counters",
)
# Texts `start` up to `stop` of a batch, and `first` up to `last` of its output rows: the ends do not belong.
CHUNK = record("start", "stop", "first", "last")
CALL = record(
    "function",  # ENCODE or LINEAR
    "threads",
    "workspaces",  # [threads]
    "counters",  # of all stages that threads share, zeros at the start
    # ENCODE: the model
    "dim",
    "hidden_dim",
    "n_heads",
    "n_layers",
    "layers",  # [n_layers]
    "activation",
    ("epsilon", np.float32),  # of every layer norm
    "int8",  # 1 or 0
    ("word_embeddings", TABLE),
    ("position_embeddings", TABLE),
    ("embedding_norm", NORM),
    # the batch: T rows of B texts, of which R are asked for
    "ids",  # int64 [T]
    "position_ids",  # int64 [T], each row's row of the position table
    "bounds",  # int64 [B + 1], where texts begin and end: cu_seqlens of the attention kernels for packed rows
    "output_rows",  # int64 [R], in ascending order
    "output_bounds",  # int64 [B + 1], as `bounds`, in `output_rows`
    "out",  # [R, dim], without anything between rows
    # the work
    "chunks",
    "n_chunks",
    "n_unshared",  # as many of them, the first ones, are taken whole by one thread each; all work on each of the others
    "chunk_stages",
    "layer_stages",
    "block_rows",  # of a row block: as many go through a feed-forward layer at a time
    "row_stride",  # of rows of dim float32
    "hidden_stride",
    "zeros",  # as many as a panel has columns
    # LINEAR: operand [rows, inputs] -> out
    ("linear_layer", LINEAR_LAYER),
    ("operand", OPERAND),
    "rows",
    "out_stride",
)
ROW_BLOCK_STAGES = 7  # of forward.feed_forward
ATTENTION_STAGES = 4  # of forward.encoder_layer before that
