"""The forward, step for step as distilbert/encoder.py has it, on a chunk of texts whose rows lie end to end.

Where there are more chunks than threads, each thread takes chunks from ids to hidden states by itself. What is left
over they take together: every stage of a chunk is cut into items, and whoever comes claims the next (share.py). Both
run the same code. `room` is where a chunk's rows are, `own` what the thread alone writes to.
"""

from typing import Any

from .attention import attention
from .gemm import GROUP, OFFSET, WIDTH, linear_panel
from .layout import BLOCK_STAGES, CHUNK, JOB, LAYER, LINE, LINEAR, NONE, ROOM
from .rowwise import copy, layer_norm, quantize, table_vector
from .share import claim, report, reset, wait
from .simd import LANES, get_int, kernel, record_of, set_float, store

job_at, layer_at, room_at, chunk_at = record_of(JOB), record_of(LAYER), record_of(ROOM), record_of(CHUNK)
LAYER_SIZE, ROOM_SIZE, CHUNK_SIZE = LAYER.itemsize, ROOM.itemsize, CHUNK.itemsize
ITEM = 4  # rows of an item of row work


@kernel
def count(n: int, size: int) -> int:
    """How many items of up to `size` make n."""
    return (n + size - 1) // size


@kernel
def prepare(job: Any, x: int, n: int, operand: Any, row: int) -> None:
    """Row `row` of an operand from float32 [n] at x: quantised for int8 layers, as it is for float32 ones."""
    out = operand.rows + row * operand.step
    if job.int8:
        set_float(operand.scales + row * 4, quantize(x, n, out, GROUP, OFFSET))
    elif out != x:  # most operands are the very rows
        copy(x, n, out)


@kernel
def embed(job: Any, room: Any, first: int, rows: int, stage: int) -> None:
    """Rows of the batch, from `first` on -> x: word plus position, normalised."""
    items, done = count(rows, ITEM), 0
    item = claim(stage)
    while item < items:
        for row in range(item * ITEM, min(item * ITEM + ITEM, rows)):
            word, place = get_int(job.ids + (first + row) * 8), get_int(job.places + (first + row) * 8)
            x = room.x + row * job.step
            for i in range(0, job.dim, LANES):
                y = table_vector(job.words.kind, job.words.weight, word, job.dim, i, job.words.scale)
                z = table_vector(job.positions.kind, job.positions.weight, place, job.dim, i, job.positions.scale)
                store(x + i * 4, y + z)
            layer_norm(x, job.norm.weight, job.norm.bias, job.dim, x)
            prepare(job, x, job.dim, room.x_operand, row)
        done += 1
        item = claim(stage)
    report(stage, done)
    wait(stage, items)


@kernel
def linear(
    lin: Any, operand: Any, rows: int, out: int, out_step: int, activation: int, residual: int, stage: int
) -> int:
    """A linear layer on `rows` rows, and what follows it; returns the items to wait for, and does not wait."""
    panels, done = count(lin.n, WIDTH), 0
    panel = claim(stage)
    while panel < panels:
        linear_panel(lin, panel, operand, rows, out, out_step, activation, residual)
        done += 1
        panel = claim(stage)
    report(stage, done)
    return panels


@kernel
def prepare_rows(job: Any, x: int, step: int, n: int, rows: int, operand: Any, stage: int) -> None:
    """An operand from the float32 rows at x."""
    items, done = count(rows, ITEM), 0
    item = claim(stage)
    while item < items:
        for row in range(item * ITEM, min(item * ITEM + ITEM, rows)):
            prepare(job, x + row * step, n, operand, row)
        done += 1
        item = claim(stage)
    report(stage, done)
    wait(stage, items)


@kernel
def normalise_rows(job: Any, norm: Any, x: int, rows: int, operand: Any, first: int, stage: int) -> None:
    """Layer norm of the rows at x, in place; they are rows `first` and after of the operand."""
    items, done = count(rows, ITEM), 0
    item = claim(stage)
    while item < items:
        for row in range(item * ITEM, min(item * ITEM + ITEM, rows)):
            layer_norm(x + row * job.step, norm.weight, norm.bias, job.dim, x + row * job.step)
            prepare(job, x + row * job.step, job.dim, operand, first + row)
        done += 1
        item = claim(stage)
    report(stage, done)
    wait(stage, items)


@kernel
def attend(job: Any, room: Any, own: Any, chunk: Any, pruned: int, stage: int) -> None:
    """Attention of the chunk's texts, an item for each head: q, k, v -> context; `pruned` as in `block`."""
    size = job.dim // job.n_heads
    items, done = (chunk.stop - chunk.start) * job.n_heads, 0
    item = claim(stage)
    while item < items:
        text, column = chunk.start + item // job.n_heads, item % job.n_heads * size * 4
        start, stop = get_int(job.bounds + text * 8), get_int(job.bounds + text * 8 + 8)
        first, last = start, stop
        query = start - get_int(job.bounds + chunk.start * 8)
        key = query * job.step + column
        if pruned:
            first, last = get_int(job.wanted_bounds + text * 8), get_int(job.wanted_bounds + text * 8 + 8)
            query = first - chunk.first
        row = query * job.step + column
        attention(
            own, job.zeros, room.q + row, room.k + key, room.v + key, room.context + row, job.step, last - first,
            stop - start, size,
        )  # fmt: skip
        done += 1
        item = claim(stage)
    report(stage, done)
    wait(stage, items)


@kernel
def feed_forward(
    job: Any, layer: Any, room: Any, context: int, x: int, rows: int, operand: Any, first: int, stage: int
) -> None:
    """What follows attention, on a block of rows of context and x, x being rows `first` and after of its operand.

    What comes in between stays in the buffers of `room`.
    """
    prepare_rows(job, context, job.step, job.dim, rows, room.context_operand, stage)
    items = linear(layer.out_lin, room.context_operand, rows, room.y, job.step, NONE, x, stage + LINE)
    wait(stage + LINE, items)
    normalise_rows(job, layer.sa_layer_norm, room.y, rows, room.y_operand, 0, stage + 2 * LINE)
    hidden, step = room.hidden, job.hidden_step
    items = linear(layer.lin1, room.y_operand, rows, hidden, step, job.activation, 0, stage + 3 * LINE)
    wait(stage + 3 * LINE, items)
    if job.int8:
        prepare_rows(job, hidden, step, job.hidden_dim, rows, room.hidden_operand, stage + 4 * LINE)
    items = linear(layer.lin2, room.hidden_operand, rows, x, job.step, NONE, room.y, stage + 5 * LINE)
    wait(stage + 5 * LINE, items)
    normalise_rows(job, layer.output_layer_norm, x, rows, operand, first, stage + 6 * LINE)


@kernel
def block(job: Any, layer: Any, room: Any, own: Any, chunk: Any, pruned: int, threads: int, stage: int) -> None:
    """One block of the model: attention, then feed-forward, each added to what it came from and normalised.

    Where it is `pruned`, only the wanted rows come out, as the rows of `room.wanted`: keys and values come from all
    rows, everything else is done for these.
    """
    rows = get_int(job.bounds + chunk.stop * 8) - get_int(job.bounds + chunk.start * 8)
    keys = linear(layer.k_lin, room.x_operand, rows, room.k, job.step, NONE, 0, stage)
    values = linear(layer.v_lin, room.x_operand, rows, room.v, job.step, NONE, 0, stage + LINE)
    x, operand = room.x, room.x_operand
    if pruned:
        x, operand, rows = room.wanted, room.wanted_operand, chunk.last - chunk.first
    queries = linear(layer.q_lin, operand, rows, room.q, job.step, NONE, 0, stage + 2 * LINE)
    wait(stage, keys)
    wait(stage + LINE, values)
    wait(stage + 2 * LINE, queries)
    attend(job, room, own, chunk, pruned, stage + 3 * LINE)
    stage += 4 * LINE
    blocks = count(rows, job.block)
    if blocks < threads:  # together
        for i in range(blocks):
            first, last = rows * i // blocks, rows * (i + 1) // blocks
            context = room.context + first * job.step
            feed_forward(job, layer, room, context, x + first * job.step, last - first, operand, first, stage)
            stage += BLOCK_STAGES * LINE
    else:  # each by itself, and as many for each
        blocks = count(blocks, threads) * threads
        done = 0
        i = claim(stage)
        while i < blocks:
            first, last = rows * i // blocks, rows * (i + 1) // blocks
            context = room.context + first * job.step
            reset(own.block_counters, BLOCK_STAGES)
            feed_forward(
                job, layer, own, context, x + first * job.step, last - first, operand, first, own.block_counters
            )
            done += 1
            i = claim(stage)
        report(stage, done)
        wait(stage, blocks)


@kernel
def gather(job: Any, room: Any, chunk: Any, stage: int) -> None:
    """The wanted rows of x, and their operand."""
    rows, start = chunk.last - chunk.first, get_int(job.bounds + chunk.start * 8)
    items, done = count(rows, ITEM), 0
    item = claim(stage)
    while item < items:
        for row in range(item * ITEM, min(item * ITEM + ITEM, rows)):
            x = room.x + (get_int(job.wanted + (chunk.first + row) * 8) - start) * job.step
            copy(x, job.dim, room.wanted + row * job.step)
            prepare(job, room.wanted + row * job.step, job.dim, room.wanted_operand, row)
        done += 1
        item = claim(stage)
    report(stage, done)
    wait(stage, items)


@kernel
def give(job: Any, x: int, first: int, rows: int, stage: int) -> None:
    """Rows at x -> rows `first` and after of the result, which has no room between them."""
    items, done = count(rows, ITEM), 0
    item = claim(stage)
    while item < items:
        for row in range(item * ITEM, min(item * ITEM + ITEM, rows)):
            copy(x + row * job.step, job.dim, job.out + (first + row) * job.dim * 4)
        done += 1
        item = claim(stage)
    report(stage, done)
    wait(stage, items)


@kernel
def encode(job: Any, room: Any, own: Any, chunk: Any, threads: int, stage: int) -> None:
    """Token ids in, hidden states of the wanted rows out."""
    first, last = get_int(job.bounds + chunk.start * 8), get_int(job.bounds + chunk.stop * 8)
    embed(job, room, first, last - first, stage)
    stage += LINE
    pruned = int(chunk.last - chunk.first < last - first)
    for i in range(job.n_layers):
        layer = layer_at(job.layers + i * LAYER_SIZE)
        at_end = pruned if i == job.n_layers - 1 else 0
        if at_end:
            gather(job, room, chunk, stage)
            stage += LINE
        block(job, layer, room, own, chunk, at_end, threads, stage)
        stage += job.layer_stages * LINE
    give(job, room.wanted if pruned else room.x, chunk.first, chunk.last - chunk.first, stage)


@kernel
def head_linear(job: Any) -> None:
    """The linear layer of a head, on its own: operand [rows, inputs] -> out [rows, n up to whole vectors]."""
    stage = job.counters
    wait(stage, linear(job.lin, job.operand, job.rows, job.out, job.out_step, NONE, 0, stage))


@kernel
def run(address: int, rank: int) -> None:
    """Take part in the job at `address` as thread `rank`. Thread 0 returns when the job is done."""
    job = job_at(address)
    if job.task == LINEAR:
        head_linear(job)
        return
    own = room_at(job.rooms + rank * ROOM_SIZE)
    stage = job.counters + LINE
    for i in range(job.alone, job.n_chunks):
        encode(job, room_at(job.rooms), own, chunk_at(job.chunks + i * CHUNK_SIZE), job.threads, stage)
        stage += job.chunk_stages * LINE
    done = 0
    i = claim(job.counters)
    while i < job.alone:
        reset(own.counters, job.chunk_stages)
        encode(job, own, own, chunk_at(job.chunks + i * CHUNK_SIZE), 1, own.counters)
        done += 1
        i = claim(job.counters)
    report(job.counters, done)
    if rank == 0:
        wait(job.counters, job.alone)
