"""The forward, step for step as distilbert/encoder.py has it, on a chunk of texts whose rows lie end to end.

Read from `run` at the end upwards; docs/kernels.md follows a text of 30 tokens through it on two threads. Every thread
runs all of this code. Each step is a stage, cut into items: `claimed(stage, n)` gives a thread items that no other
gets, `wait(stage, n)` returns once all are done, `shared` is both (share.py). The chunks beyond a multiple of the
number of threads they do together, before the others; of these each thread takes whole chunks from ids to hidden states
by itself, with counters of its own.

The arguments are records of layout.py: `workspace` is where a chunk's rows are, that of thread 0 where threads share
the chunk, else the thread's own. `own` is the thread's: of it a shared chunk uses what attention needs for a head and,
where each thread takes row blocks by itself, what a row block needs: up to `block_rows` rows that go through the
feed-forward layer at a time. An `operand` is rows as a product takes them: bytes with a scale each for int8, or the
float32 rows themselves. Numbers that are added to addresses are bytes, 4 for each float32.
"""

from typing import Any

from .attention import attention
from .gemm import ACTIVATION_BYTES, OFFSET, WIDTH, configure_tiles, linear_panel, release_tiles
from .layout import CALL, CHUNK, LAYER, LINEAR, NONE, ROW_BLOCK_STAGES, STAGE, WORKSPACE
from .rowwise import copy, layer_norm, quantize, table_vector
from .share import claimed, reset, shared, shared_rows, wait
from .simd import LANES, get_int, kernel, record_of, set_float, store

call_at, layer_at, workspace_at, chunk_at = record_of(CALL), record_of(LAYER), record_of(WORKSPACE), record_of(CHUNK)
LAYER_SIZE, WORKSPACE_SIZE, CHUNK_SIZE = LAYER.itemsize, WORKSPACE.itemsize, CHUNK.itemsize


@kernel
def prepare(call: Any, x: int, n: int, operand: Any, row: int) -> None:
    """Row `row` of an operand from float32 [n] at x: quantised for int8 layers, as it is for float32 ones."""
    out = operand.rows + row * operand.stride
    if call.int8:
        set_float(operand.scales + row * 4, quantize(x, n, out, ACTIVATION_BYTES, OFFSET))
    elif out != x:  # most operands are the very rows
        copy(x, n, out)


@kernel
def embed(call: Any, workspace: Any, first: int, rows: int, stage: int) -> None:
    """Rows of the batch, from `first` on -> x: word plus position, normalised."""
    words, positions, norm = call.word_embeddings, call.position_embeddings, call.embedding_norm
    for row in shared_rows(stage, rows):
        word, position = get_int(call.ids + (first + row) * 8), get_int(call.position_ids + (first + row) * 8)
        x = workspace.x + row * call.row_stride
        for i in range(0, call.dim, LANES):
            y = table_vector(words.kind, words.weight, word, call.dim, i, words.scale)
            z = table_vector(positions.kind, positions.weight, position, call.dim, i, positions.scale)
            store(x + i * 4, y + z)
        layer_norm(x, norm.weight, norm.bias, call.epsilon, call.dim, x)
        prepare(call, x, call.dim, workspace.x_operand, row)


@kernel
def linear(
    lin: Any, operand: Any, rows: int, out: int, out_stride: int, activation: int, residual: int, stage: int
) -> int:
    """A linear layer on `rows` rows, and what follows it; returns the items to wait for, and does not wait."""
    panels = (lin.n + WIDTH - 1) // WIDTH
    for panel in claimed(stage, panels):
        linear_panel(lin, panel, operand, rows, out, out_stride, activation, residual)
    return panels


@kernel
def prepare_rows(call: Any, x: int, stride: int, n: int, rows: int, operand: Any, stage: int) -> None:
    """An operand from the float32 rows at x."""
    for row in shared_rows(stage, rows):
        prepare(call, x + row * stride, n, operand, row)


@kernel
def normalise_rows(call: Any, norm: Any, x: int, rows: int, operand: Any, first: int, stage: int) -> None:
    """Layer norm of the rows at x, in place; they are rows `first` and after of the operand."""
    for row in shared_rows(stage, rows):
        at = x + row * call.row_stride
        layer_norm(at, norm.weight, norm.bias, call.epsilon, call.dim, at)
        prepare(call, at, call.dim, operand, first + row)


@kernel
def attend(call: Any, workspace: Any, own: Any, chunk: Any, pruned: int, stage: int) -> None:
    """Attention of the chunk's texts, an item for each head of each text: q, k, v -> context.

    `pruned` as in `encoder_layer`.
    """
    size = call.dim // call.n_heads
    for item in shared(stage, (chunk.stop - chunk.start) * call.n_heads):
        text, column = chunk.start + item // call.n_heads, item % call.n_heads * size * 4
        start, stop = get_int(call.bounds + text * 8), get_int(call.bounds + text * 8 + 8)
        first, last = start, stop
        query = start - get_int(call.bounds + chunk.start * 8)
        key = query * call.row_stride + column
        if pruned:
            first, last = get_int(call.output_bounds + text * 8), get_int(call.output_bounds + text * 8 + 8)
            query = first - chunk.first
        row = query * call.row_stride + column
        attention(
            own, call.zeros, workspace.q + row, workspace.k + key, workspace.v + key, workspace.context + row,
            call.row_stride, last - first, stop - start, size,
        )  # fmt: skip


@kernel
def feed_forward(
    call: Any, layer: Any, workspace: Any, context: int, x: int, rows: int, operand: Any, first: int, stage: int
) -> None:
    """What follows attention, its output layer and norm too, on a row block of context and x.

    x is rows `first` and after of `operand`. What comes in between stays in the buffers of `workspace`.
    """
    stride, hidden, hidden_stride = call.row_stride, workspace.hidden, call.hidden_stride
    prepare_rows(call, context, stride, call.dim, rows, workspace.context_operand, stage)
    items = linear(layer.out_lin, workspace.context_operand, rows, workspace.y, stride, NONE, x, stage + STAGE)
    wait(stage + STAGE, items)
    normalise_rows(call, layer.sa_layer_norm, workspace.y, rows, workspace.y_operand, 0, stage + 2 * STAGE)
    activation = call.activation
    items = linear(
        layer.lin1, workspace.y_operand, rows, hidden, hidden_stride, activation, 0, stage + 3 * STAGE
    )  # fmt: skip
    wait(stage + 3 * STAGE, items)
    if call.int8:
        prepare_rows(call, hidden, hidden_stride, call.hidden_dim, rows, workspace.hidden_operand, stage + 4 * STAGE)
    items = linear(layer.lin2, workspace.hidden_operand, rows, x, stride, NONE, workspace.y, stage + 5 * STAGE)
    wait(stage + 5 * STAGE, items)
    normalise_rows(call, layer.output_layer_norm, x, rows, operand, first, stage + 6 * STAGE)


@kernel
def encoder_layer(
    call: Any, layer: Any, workspace: Any, own: Any, chunk: Any, pruned: int, threads: int, stage: int
) -> None:
    """One layer of the model, `block` of the specification: attention, then feed-forward, each added to its input.

    Where it is `pruned`, only the output rows are computed, into `workspace.output`: keys and values come from all
    rows, everything else is done for these.
    """
    rows = get_int(call.bounds + chunk.stop * 8) - get_int(call.bounds + chunk.start * 8)
    stride = call.row_stride
    keys = linear(layer.k_lin, workspace.x_operand, rows, workspace.k, stride, NONE, 0, stage)
    values = linear(layer.v_lin, workspace.x_operand, rows, workspace.v, stride, NONE, 0, stage + STAGE)
    x, operand = workspace.x, workspace.x_operand
    if pruned:
        x, operand, rows = workspace.output, workspace.output_operand, chunk.last - chunk.first
    queries = linear(layer.q_lin, operand, rows, workspace.q, stride, NONE, 0, stage + 2 * STAGE)
    wait(stage, keys)
    wait(stage + STAGE, values)
    wait(stage + 2 * STAGE, queries)
    attend(call, workspace, own, chunk, pruned, stage + 3 * STAGE)
    stage += 4 * STAGE
    blocks = (rows + call.block_rows - 1) // call.block_rows
    if blocks < threads:  # together
        for i in range(blocks):
            first, last = rows * i // blocks, rows * (i + 1) // blocks
            context = workspace.context + first * stride
            feed_forward(call, layer, workspace, context, x + first * stride, last - first, operand, first, stage)
            stage += ROW_BLOCK_STAGES * STAGE
    else:  # each by itself, and as many for each
        blocks = (blocks + threads - 1) // threads * threads
        for i in shared(stage, blocks):
            first, last = rows * i // blocks, rows * (i + 1) // blocks
            context = workspace.context + first * stride
            reset(own.row_block_counters, ROW_BLOCK_STAGES)
            feed_forward(
                call, layer, own, context, x + first * stride, last - first, operand, first, own.row_block_counters
            )


@kernel
def gather(call: Any, workspace: Any, chunk: Any, stage: int) -> None:
    """The output rows of x, and their operand."""
    rows, start = chunk.last - chunk.first, get_int(call.bounds + chunk.start * 8)
    for row in shared_rows(stage, rows):
        x = workspace.x + (get_int(call.output_rows + (chunk.first + row) * 8) - start) * call.row_stride
        out = workspace.output + row * call.row_stride
        copy(x, call.dim, out)
        prepare(call, out, call.dim, workspace.output_operand, row)


@kernel
def write_output(call: Any, x: int, first: int, rows: int, stage: int) -> None:
    """Rows at x -> rows `first` and after of the result, which has nothing between its rows."""
    for row in shared_rows(stage, rows):
        copy(x + row * call.row_stride, call.dim, call.out + (first + row) * call.dim * 4)


@kernel
def encode(call: Any, workspace: Any, own: Any, chunk: Any, threads: int, stage: int) -> None:
    """Token ids in, hidden states of the output rows out."""
    first, last = get_int(call.bounds + chunk.start * 8), get_int(call.bounds + chunk.stop * 8)
    embed(call, workspace, first, last - first, stage)
    stage += STAGE
    pruned = int(chunk.last - chunk.first < last - first)
    for i in range(call.n_layers):
        layer = layer_at(call.layers + i * LAYER_SIZE)
        at_end = pruned if i == call.n_layers - 1 else 0
        if at_end:
            gather(call, workspace, chunk, stage)
            stage += STAGE
        encoder_layer(call, layer, workspace, own, chunk, at_end, threads, stage)
        stage += call.layer_stages * STAGE
    x = workspace.output if pruned else workspace.x
    write_output(call, x, chunk.first, chunk.last - chunk.first, stage)


@kernel
def head_linear(call: Any) -> None:
    """The linear layer of a head, on its own: operand [rows, inputs] -> out [rows, n up to whole vectors]."""
    stage = call.counters
    wait(stage, linear(call.linear_layer, call.operand, call.rows, call.out, call.out_stride, NONE, 0, stage))


@kernel
def encode_chunks(call: Any, rank: int) -> None:
    """The forward of a batch. Thread 0 returns when it is done."""
    own = workspace_at(call.workspaces + rank * WORKSPACE_SIZE)
    shared_workspace, stage = workspace_at(call.workspaces), call.counters + STAGE
    for i in range(call.n_unshared, call.n_chunks):
        encode(call, shared_workspace, own, chunk_at(call.chunks + i * CHUNK_SIZE), call.threads, stage)
        stage += call.chunk_stages * STAGE
    for i in claimed(call.counters, call.n_unshared):
        reset(own.counters, call.chunk_stages)
        encode(call, own, own, chunk_at(call.chunks + i * CHUNK_SIZE), 1, own.counters)
    if rank == 0:
        wait(call.counters, call.n_unshared)


@kernel
def run(address: int, rank: int) -> None:
    """Take part in the call at `address` as thread `rank`. Thread 0 returns when the call is done."""
    call = call_at(address)
    if call.int8:
        configure_tiles()
    if call.function == LINEAR:
        head_linear(call)
    else:
        encode_chunks(call, rank)
    if call.int8:
        release_tiles()
