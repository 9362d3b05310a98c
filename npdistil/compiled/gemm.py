"""Matrix products: tiles of accumulators that stay in registers while the weights stream past in panels.

A tile is up to 6 rows by 4 vectors of 16 columns (AMX has tiles of its own, of 16 rows, see `_emit_amx`). Each sum of
it starts from the bias, or 0, and adds its products one after the other, in the order of the inputs, whatever the
tile's shape: that is why a row's float32 result depends on no other row, on no number of threads and on no instruction
set. Sums of integers are exact in any order, so there smmla may take rows two by two (`_emit_smmla_tile`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from .isa import compiled_for
from .layout import NONE, TANH
from .rowwise import activate, activate_rarely
from .simd import (
    F32,
    I8,
    I16,
    I32,
    I64,
    LANES,
    VECTOR,
    Value,
    broadcast,
    declared,
    emit_broadcast,
    f32x16,
    get_float,
    i32x16,
    i64,
    keep,
    kernel,
    load,
    load_int32,
    memory,
    operation,
    pointer,
    shuffled,
    store,
    to_float,
    void,
)

ISA = compiled_for()
WIDTH = ISA.vectors * LANES  # columns of a panel
INTERLEAVE, OFFSET = ISA.interleave, ISA.offset
ACTIVATION_BYTES = ISA.activation_bytes
TILE_ROWS, TILE_VECTORS, ROWS_TOGETHER = ISA.rows, ISA.vectors, ISA.rows_together
INT8_VECTOR = LANES * INTERLEAVE  # bytes of a panel that one step of 16 columns takes
AMX_ROWS, AMX_BYTES = 16, 64  # of a tile of AMX
# With 2 vectors and more; AMX goes through as many as stay in the L1 cache with their sums.
INT8_TILE_ROWS = 4 * AMX_ROWS if ISA.tiles else TILE_ROWS


def _parts(builder: Value, x: Value, count: int) -> list[Value]:
    """A vector as `count` shorter ones."""
    size = x.type.count // count
    return [shuffled(builder, x, x, list(range(i * size, (i + 1) * size))) for i in range(count)]


def _joined(builder: Value, parts: list[Value]) -> Value:
    while len(parts) > 1:
        size = parts[0].type.count
        parts = [shuffled(builder, x, y, list(range(2 * size))) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _dot(builder: Value, name: str, count: int, byte_operands: bool, total: Value, x: Value, y: Value) -> Value:
    """An instruction that adds the products of 4 pairs of bytes to each int32, on `count` parts of the vectors."""
    lanes = LANES // count
    of_ints, of_bytes = ir.VectorType(I32, lanes), ir.VectorType(I8, 4 * lanes)
    taken = of_bytes if byte_operands else of_ints  # LLVM up to 21 took int32; it still reads modules of that form
    dot = declared(builder, name, of_ints, of_ints, taken, taken)
    totals, xs, ys = (_parts(builder, v, count) for v in (total, x, y))
    return _joined(
        builder,
        [
            builder.call(dot, [t, builder.bitcast(a, taken), builder.bitcast(b, taken)])
            for t, a, b in zip(totals, xs, ys, strict=True)
        ],
    )


def _madd(builder: Value, name: str, count: int, total: Value, x: Value, y: Value) -> Value:
    """As `_dot`, of 2 pairs of int16."""
    of_ints, of_shorts = ir.VectorType(I32, LANES // count), ir.VectorType(I16, 2 * LANES // count)
    madd = declared(builder, name, of_ints, of_shorts, of_shorts)
    products = [
        builder.call(madd, [a, b]) for a, b in zip(_parts(builder, x, count), _parts(builder, y, count), strict=True)
    ]
    return builder.add(total, _joined(builder, products))


def _multiply_add(builder: Value, total: Value, row: Value, column: Value) -> Value:
    """Total int32 [16] + 4 bytes of a row, in all lanes, times 4 bytes' worth of each column."""
    if ISA.name in ("amx", "avx512vnni"):
        return _dot(builder, "llvm.x86.avx512.vpdpbusd.512", 1, False, total, row, column)
    if ISA.name == "avxvnni":
        return _dot(builder, "llvm.x86.avx512.vpdpbusd.256", 2, False, total, row, column)
    if ISA.name == "dotprod":
        return _dot(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", 4, True, total, row, column)
    row = builder.bitcast(row, ir.VectorType(I16, 2 * LANES))
    if ISA.name == "avx512":
        return _madd(builder, "llvm.x86.avx512.pmaddw.d.512", 1, total, row, column)
    if ISA.name == "avx2":
        return _madd(builder, "llvm.x86.avx2.pmadd.wd", 2, total, row, column)
    for odd in (0, 1):
        lanes = list(range(odd, 2 * LANES, 2))
        x, y = (builder.sext(shuffled(builder, v, v, lanes), i32x16.llvm_type) for v in (row, column))
        total = builder.add(total, builder.mul(x, y))
    return total


def _at(builder: Value, base: Value, count: Value | int, stride: Value | int, offset: int = 0) -> Value:
    """An address."""
    count, stride = (ir.Constant(I64, x) if isinstance(x, int) else x for x in (count, stride))
    return builder.add(builder.add(base, builder.mul(count, stride)), ir.Constant(I64, offset))


def _emit_loop(
    builder: Value, steps: Value, starts: list[Value], body: Callable[[Value, list[Value]], list[Value]]
) -> list[Value]:
    """Sums that begin as `starts`, and are renewed by `body` (number of the step, sums) at each step, one at least."""
    before, loop, after = builder.block, builder.append_basic_block("inputs"), builder.append_basic_block("sums")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, sums = builder.phi(I64), [builder.phi(each.type) for each in starts]
    totals = body(k, sums)
    following = builder.add(k, ir.Constant(I64, 1))
    for phi, first, again in zip([k, *sums], [ir.Constant(I64, 0), *starts], [following, *totals], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(again, loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
    builder.position_at_end(after)
    return totals


def _emit_tile(builder: Value, int8: bool, rows: int, vectors: int, operands: list[Value]) -> None:
    """The product of `rows` rows and `vectors` vectors of columns: a loop with everything in it unrolled."""
    a, a_stride, b, b_stride, start, c, c_stride, steps = operands
    kind = i32x16.llvm_type if int8 else f32x16.llvm_type
    size = INT8_VECTOR if int8 else VECTOR
    starts = [builder.load(pointer(builder, _at(builder, start, j, VECTOR), kind), align=4) for j in range(vectors)]
    row_starts = [_at(builder, a, i, a_stride) for i in range(rows)]

    def step(k: Value, sums: list[Value]) -> list[Value]:
        columns = []
        for j in range(vectors):
            address = _at(builder, b, k, b_stride, j * size)
            if int8:
                packed = ir.VectorType(I8, size)
                column = builder.load(pointer(builder, address, packed), align=INT8_VECTOR)
                if ACTIVATION_BYTES == 2:
                    column = builder.sext(column, ir.VectorType(I16, size))
                columns.append(column)
            else:
                columns.append(builder.load(pointer(builder, address, kind), align=4))
        totals = []
        for i in range(rows):
            place = pointer(builder, _at(builder, row_starts[i], k, 4), I32 if int8 else F32)
            row = emit_broadcast(builder, builder.load(place, align=2 if int8 else 4))
            for column, total in zip(columns, sums[i * vectors : (i + 1) * vectors], strict=True):
                if int8:
                    totals.append(_multiply_add(builder, total, row, column))
                else:
                    fma = declared(builder, "llvm.fma.v16f32", kind, kind, kind, kind)
                    totals.append(builder.call(fma, [row, column, total]))
        return totals

    totals = _emit_loop(builder, steps, starts * rows, step)
    for i in range(rows):
        for j in range(vectors):
            place = pointer(builder, _at(builder, c, i, c_stride, j * VECTOR), kind)
            builder.store(totals[i * vectors + j], place, align=4)


def _emit_smmla_tile(builder: Value, rows: int, vectors: int, operands: list[Value]) -> None:
    """As `_emit_tile`, in int8, with sums of 2 rows and 2 columns each; an odd last row is taken twice, stored once.

    Rows are loaded first and columns as they are used: 24 sums, 3 pairs of rows and a pair of columns fit in registers.
    """
    a, a_stride, b, b_stride, start, c, c_stride, steps = operands
    of_ints, of_bytes, of_half = ir.VectorType(I32, 4), ir.VectorType(I8, 16), ir.VectorType(I8, 8)
    smmla = declared(builder, "llvm.aarch64.neon.smmla.v4i32.v16i8", of_ints, of_ints, of_bytes, of_bytes)
    pairs, columns = range(0, rows, 2), range(0, vectors * LANES, 2)
    row_starts = [_at(builder, a, i, a_stride) for i in range(rows)]
    starts = []
    for j in columns:
        both = builder.load(pointer(builder, _at(builder, start, j, 4), ir.VectorType(I32, 2)), align=4)
        starts += [shuffled(builder, both, both, [0, 1, 0, 1])] * len(pairs)

    def step(k: Value, sums: list[Value]) -> list[Value]:
        halves = [builder.load(pointer(builder, _at(builder, each, k, 8), of_half), align=1) for each in row_starts]
        taken = [_joined(builder, [halves[i], halves[min(i + 1, rows - 1)]]) for i in pairs]
        totals: list[Value] = []
        for j in columns:
            column = builder.load(pointer(builder, _at(builder, b, k, b_stride, j * 8), of_bytes), align=16)
            for row in taken:
                totals.append(builder.call(smmla, [sums[len(totals)], row, column]))
        return totals

    totals = _emit_loop(builder, steps, starts, step)
    for i in range(rows):
        lanes = [0, 1] if i % 2 == 0 else [2, 3]
        of_row = [shuffled(builder, each, each, lanes) for each in totals[i // 2 :: len(pairs)]]
        for j in range(vectors):
            place = pointer(builder, _at(builder, c, i, c_stride, j * VECTOR), i32x16.llvm_type)
            builder.store(_joined(builder, of_row[8 * j : 8 * j + 8]), place, align=4)


def _emit_shapes(builder: Value, int8: bool, rows: Value, vectors: Value, *operands: Value) -> None:
    """A function of tiles of every shape."""
    done = builder.append_basic_block("done")
    choice = builder.add(builder.mul(rows, ir.Constant(I64, 8)), vectors)
    shapes = builder.switch(choice, done)
    for m in range(1, TILE_ROWS + 1):
        for n in range(1, TILE_VECTORS + 1):
            case = builder.append_basic_block(f"tile_{m}_{n}")
            shapes.add_case(ir.Constant(I64, 8 * m + n), case)
            builder.position_at_end(case)
            if int8 and ROWS_TOGETHER == 2:
                _emit_smmla_tile(builder, m, n, list(operands))
            else:
                _emit_tile(builder, int8, m, n, list(operands))
            builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()


def _amx(builder: Value, name: str, *operands: Value) -> None:
    """An instruction on tiles, which have the numbers 0 to 7."""
    values = [ir.Constant(I8, each) if isinstance(each, int) else each for each in operands]
    builder.call(declared(builder, f"llvm.x86.{name}", ir.VoidType(), *(each.type for each in values)), values)


def _emit_amx_tiles(builder: Value, tall: bool, a: list[Value], c: list[Value], operands: list[Value]) -> None:
    """The product of 16 rows, or where it is `tall` of twice 16, and 32 columns.

    Tiles 0 to 3 are sums, 4 and 5 rows of activations, 6 and 7 columns of weights: a panel has 4 bytes of each input's
    columns side by side, as a tile wants them, so they are loaded from where they lie.
    """
    a_stride, b, b_stride, start, c_stride, steps = operands
    halves = [0, 1] if tall else [0]

    def load(tile: int, address: Value, stride: Value) -> None:
        _amx(builder, "tileloadd64", tile, pointer(builder, address, I8), stride)

    def after(address: Value, count: int) -> Value:
        return builder.add(address, ir.Constant(I64, count))

    for half in halves:
        for j in range(2):
            load(2 * half + j, after(start, j * VECTOR), ir.Constant(I64, 0))  # the same in every row
    with cgutils.for_range_slice(builder, ir.Constant(I64, 0), steps, ir.Constant(I64, AMX_BYTES // 4)) as (k, _):
        column = builder.add(b, builder.mul(k, b_stride))
        for j in range(2):
            load(6 + j, after(column, j * INT8_VECTOR), b_stride)
        for half in halves:
            load(4 + half, builder.add(a[half], builder.mul(k, ir.Constant(I64, 4))), a_stride)
            for j in range(2):
                _amx(builder, "tdpbusd", 2 * half + j, 4 + half, 6 + j)
    for half in halves:
        for j in range(2):
            _amx(builder, "tilestored64", 2 * half + j, pointer(builder, after(c[half], j * VECTOR), I8), c_stride)


def _emit_amx(builder: Value, rows: Value, vectors: Value, operands: list[Value]) -> None:
    """The product of any number of rows and 2 to 4 vectors of columns on AMX.

    The last tiles overlap those before them where there is not enough for whole ones. Fewer than 16 rows are computed
    as 16, of which the other ones are whatever lies there, and only the rows themselves are copied to c.
    """
    a, a_stride, b, b_stride, start, c, c_stride, steps = operands

    def number(i: int) -> Value:
        return ir.Constant(I64, i)

    def least(x: Value, y: Value) -> Value:
        return builder.select(builder.icmp_signed("<", x, y), x, y)

    few = builder.icmp_signed("<", rows, number(AMX_ROWS))
    room = ir.ArrayType(I8, AMX_ROWS * TILE_VECTORS * VECTOR)
    with builder.goto_entry_block():
        spare = builder.alloca(room)
    spare.align = VECTOR
    spare = builder.ptrtoint(spare, I64)
    out, out_stride = builder.select(few, spare, c), builder.select(few, number(TILE_VECTORS * VECTOR), c_stride)
    last_row = builder.select(few, number(0), builder.sub(rows, number(AMX_ROWS)))
    last_vector = builder.sub(vectors, number(2))
    with cgutils.for_range_slice(builder, number(0), vectors, number(2)) as (column, _):
        j = least(column, last_vector)
        at = builder.mul(j, number(VECTOR))
        with cgutils.for_range_slice(builder, number(0), rows, number(2 * AMX_ROWS)) as (row, _):
            firsts = [least(row, last_row), least(builder.add(row, number(AMX_ROWS)), last_row)]
            rows_a = [builder.add(a, builder.mul(i, a_stride)) for i in firsts]
            rows_c = [builder.add(builder.add(out, at), builder.mul(i, out_stride)) for i in firsts]
            weights = builder.add(b, builder.mul(j, number(INT8_VECTOR)))
            rest = [a_stride, weights, b_stride, builder.add(start, at), out_stride, steps]
            tall = builder.icmp_signed(">", firsts[1], firsts[0])
            with builder.if_else(tall) as (then, otherwise):
                with then:
                    _emit_amx_tiles(builder, True, rows_a, rows_c, rest)
                with otherwise:
                    _emit_amx_tiles(builder, False, rows_a, rows_c, rest)
    with builder.if_then(few), cgutils.for_range(builder, rows) as row, cgutils.for_range(builder, vectors) as vector:
        at = builder.mul(vector.index, number(VECTOR))
        source = builder.add(builder.add(spare, builder.mul(row.index, out_stride)), at)
        target = builder.add(builder.add(c, builder.mul(row.index, c_stride)), at)
        sums = builder.load(pointer(builder, source, i32x16.llvm_type), align=VECTOR)
        builder.store(sums, pointer(builder, target, i32x16.llvm_type), align=4)
    builder.ret_void()


def _emit_float(builder: Value, rows: Value, vectors: Value, *operands: Value) -> None:
    _emit_shapes(builder, False, rows, vectors, *operands)


def _emit_int8(builder: Value, rows: Value, vectors: Value, *operands: Value) -> None:
    """The same, and on AMX what is more than one tile of the other kind, which takes no longer there."""
    if ISA.tiles:
        with builder.if_then(builder.icmp_signed(">", rows, ir.Constant(I64, TILE_ROWS))):
            _emit_amx(builder, rows, vectors, list(operands))
    _emit_shapes(builder, True, rows, vectors, *operands)


def _tile_operation(int8: bool) -> Any:
    def reference(
        rows: int,
        vectors: int,
        a: int,
        a_stride: int,
        b: int,
        b_stride: int,
        start: int,
        c: int,
        c_stride: int,
        steps: int,
    ) -> None:
        n = vectors * LANES
        if rows > (INT8_TILE_ROWS if int8 and vectors > 1 else TILE_ROWS):
            raise IndexError(f"there is no tile of {rows} rows and {vectors} vectors")
        if rows > TILE_ROWS:  # on AMX 16 are read, whatever lies there
            memory(a, (AMX_ROWS - 1) * a_stride + steps * INTERLEAVE, np.uint8)
        for i in range(rows):
            if int8:
                stored = np.int16 if ACTIVATION_BYTES == 2 else np.uint8 if OFFSET else np.int8
                x = memory(a + i * a_stride, steps * INTERLEAVE, stored).astype(np.int64)
                y = [memory(b + k * b_stride, n * INTERLEAVE, np.int8).reshape(n, INTERLEAVE) for k in range(steps)]
                products = np.einsum("kng,kg->n", np.array(y, np.int64), x.reshape(steps, INTERLEAVE))
                memory(c + i * c_stride, n, np.int32)[:] = memory(start, n, np.int32) + products
            else:
                x = memory(a + i * a_stride, steps, np.float32)
                total = memory(start, n, np.float32).copy()
                for k in range(steps):
                    column = memory(b + k * b_stride, n, np.float32).astype(np.float64)
                    total = (column * np.float64(x[k]) + total).astype(np.float32)
                memory(c + i * c_stride, n, np.float32)[:] = total

    @operation(void, *[i64] * 10, reference=reference)
    def tile(builder: Value, *operands: Value) -> None:
        """A call of a function of all shapes, which stands once in the machine code however often it is called."""
        name = f"npdistil_{'int8' if int8 else 'float'}_tile"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [I64] * len(operands)), name)
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            emit = _emit_int8 if int8 else _emit_float
            emit(ir.IRBuilder(function.append_basic_block()), *function.args)
        builder.call(function, operands)

    return tile


# c [rows, 16 vectors] = start + a [rows, K] @ b [K, 16 vectors], with strides in bytes. K is `steps` float32, or
# `steps` times INTERLEAVE quantised activations.
float_tile = _tile_operation(int8=False)
int8_tile = _tile_operation(int8=True)


@operation(void, reference=lambda: None)
def configure_tiles(builder: Value) -> None:
    """Give this thread's 8 tiles of AMX, where the kernels are for it, their shape: 16 rows of 64 bytes."""
    if ISA.tiles:
        content = bytearray(64)
        content[0] = 1  # the palette
        content[16:32] = AMX_BYTES.to_bytes(2, "little") * 8
        content[48:56] = bytes([AMX_ROWS] * 8)
        shape = cgutils.global_constant(builder, "npdistil_tiles", cgutils.make_bytearray(content))
        load = declared(builder, "llvm.x86.ldtilecfg", ir.VoidType(), I8.as_pointer())
        builder.call(load, [shape.bitcast(I8.as_pointer())])


@operation(void, reference=lambda: None)
def release_tiles(builder: Value) -> None:
    """Give them back, so that the system has nothing of them to save."""
    if ISA.tiles:
        builder.call(declared(builder, "llvm.x86.tilerelease", ir.VoidType()), [])


@kernel
def tile_count(rows: int, most: int) -> int:
    """How many tiles of `most` rows at most `rows` rows make, as equal as can be: 8 rows are 4 + 4, not 6 + 2."""
    return (rows + most - 1) // most


@kernel
def tile_start(rows: int, tiles: int, i: int) -> int:
    """The first row of tile i; rows that are taken together are in one tile."""
    groups = (rows + ROWS_TOGETHER - 1) // ROWS_TOGETHER
    return min(groups * i // tiles * ROWS_TOGETHER, rows)


@kernel
def float_product(
    rows: int, n: int, a: int, a_stride: int, b: int, b_stride: int, start: int, c: int, c_stride: int, steps: int
) -> None:
    """C [rows, n] = start + a @ b on float32 tiles, n up to a panel's width; whole vectors of c are written."""
    tiles = tile_count(rows, TILE_ROWS)
    vectors = (n + LANES - 1) // LANES
    for i in range(tiles):
        first, last = tile_start(rows, tiles, i), tile_start(rows, tiles, i + 1)
        float_tile(
            last - first,
            vectors,
            a + first * a_stride,
            a_stride,
            b,
            b_stride,
            start,
            c + first * c_stride,
            c_stride,
            steps,
        )


@kernel
def linear_panel(
    lin: Any, panel: int, operand: Any, rows: int, out: int, out_stride: int, activation: int, residual: int
) -> None:
    """One panel's columns of a linear layer for `rows` rows, and what follows it while they are in the L1 cache.

    `activation` may be NONE; `residual` is the address of rows to be added, with the stride of `out`, or 0.
    """
    column = panel * WIDTH
    n = min(WIDTH, lin.n - column)
    vectors = (n + LANES - 1) // LANES
    stride = vectors * (INT8_VECTOR if lin.int8 else VECTOR)
    weights = lin.panels + panel * lin.steps * TILE_VECTORS * (INT8_VECTOR if lin.int8 else VECTOR)
    start = lin.start + column * 4
    tiles = tile_count(rows, INT8_TILE_ROWS if lin.int8 and vectors > 1 else TILE_ROWS)
    for i in range(tiles):
        first, last = tile_start(rows, tiles, i), tile_start(rows, tiles, i + 1)
        a = operand.rows + first * operand.stride
        c = out + first * out_stride + column * 4
        if lin.int8:
            int8_tile(last - first, vectors, a, operand.stride, weights, stride, start, c, out_stride, lin.steps)
        else:
            float_tile(last - first, vectors, a, operand.stride, weights, stride, start, c, out_stride, lin.steps)
        added = residual + first * out_stride + column * 4
        for row in range(last - first):
            x_scale = np.float32(1)
            if lin.int8:
                x_scale = get_float(operand.scales + (first + row) * 4)
            finish(
                lin, column, n, x_scale, c + row * out_stride, activation, added + row * out_stride if residual else 0
            )


@kernel
def finish(lin: Any, column: int, n: int, x_scale: np.float32, c: int, activation: int, residual: int) -> None:
    """Sums of one row -> outputs of the layer, in place: scales and bias where it is int8, activation, residual."""
    factor = broadcast(x_scale)
    common = activation if activation <= TANH else NONE
    for i in range(0, n * 4, VECTOR):
        if lin.int8:
            scale, bias = load(lin.scale + column * 4 + i), load(lin.bias + column * 4 + i)
            y = to_float(load_int32(c + i)) * (factor * scale) + bias
        else:
            y = load(c + i)
        if common != NONE:
            y = keep(activate(common, y), n - i // 4, 0.0)
        if residual:
            y = y + load(residual + i)
        store(c + i, y)
    if activation > TANH:  # a loop of their own keeps that of the common ones short; no residual follows them
        for i in range(0, n * 4, VECTOR):
            store(c + i, keep(activate_rarely(activation, load(c + i)), n - i // 4, 0.0))
