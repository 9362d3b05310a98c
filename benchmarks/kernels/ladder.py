"""A matrix product, from three loops to the limit of one core, a step at a time.

    python benchmarks/kernels/ladder.py            # needs numpy and numba; the last step AVX-512 VNNI

DistilBERT spends nine tenths of its time in products `y = x @ w.T` of M rows of activations with weights that stay
the same. Each step here computes the same product, is checked against the step before it, and only then timed, on one
thread. The share is of what this core can do at best, which is measured too: multiply-adds on registers alone, which
wait for no memory.

Legend: M rows of x, K their width, N outputs; x: [M, K], w: [N, K], y: [M, N].
"""

import os

os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic

Array: TypeAlias = npt.NDArray[Any]
Value: TypeAlias = Any  # of LLVM's
Product: TypeAlias = Callable[[Array, Array, Array], object]  # (x, w, y), which fills y

LANES = 16  # float32 or int32 numbers in one vector of 64 bytes
FEATURES = binding.get_host_cpu_features()
WIDE = bool(FEATURES.get("avx512f"))
VNNI = bool(FEATURES.get("avx512vnni"))
# A tile of ROWS x VECTORS sums stays in registers. AVX-512 has 32 of them, room for 6 x 4 sums, 4 vectors of weights
# and one of x. AVX2 has 16, half as wide: 6 x 1 sums fill 12.
ROWS, VECTORS = (6, 4) if WIDE else (6, 1)
PANEL = VECTORS * LANES  # outputs that a panel of weights holds


# 1. Three loops ------------------------------------------------------------------------------------------------------


def loops(x: Array, w: Array, y: Array) -> None:
    """As the formula says it. In Python every multiply-add is looked up, boxed and counted: some 100 ns each."""
    for m in range(x.shape[0]):
        for n in range(w.shape[0]):
            total = np.float32(0)
            for k in range(x.shape[1]):
                total += x[m, k] * w[n, k]
            y[m, n] = total


# 2. The same loops, compiled. Each sum waits for the one before it, 4 cycles a multiply-add, one number at a time.
compiled_loops = njit(loops)


# 3. NumPy: the machine's BLAS. It packs the weights at every call, which only pays off for many rows. -----------------


def blas(x: Array, w: Array, y: Array) -> None:
    """One call."""
    np.matmul(x, w.T, out=y)


# 4. Blocked ----------------------------------------------------------------------------------------------------------


@njit(error_model="numpy")
def blocked(x: Array, w: Array, y: Array, block_k: int = 128, block_n: int = 512) -> None:
    """The innermost loop runs over outputs, which wait for nobody, so the compiler makes vectors of them.

    For that the weights are stored as [K, N]. A block of them, 256 KB, stays in the second-level cache while all rows
    of x pass over it.
    """
    y[:] = 0
    for first_n in range(0, w.shape[1], block_n):
        for first_k in range(0, x.shape[1], block_k):
            for m in range(x.shape[0]):
                sums = y[m, first_n : first_n + block_n]
                for k in range(first_k, min(first_k + block_k, x.shape[1])):
                    value, weights = x[m, k], w[k, first_n : first_n + block_n]
                    for n in range(sums.size):
                        sums[n] += value * weights[n]


# 5. Panels -----------------------------------------------------------------------------------------------------------


def panels(w: Array) -> Array:
    """[N, K] -> [N / PANEL, K, PANEL], once, when the model is loaded: read in order, every byte of it used."""
    return aligned(w.reshape(-1, PANEL, w.shape[1]).transpose(0, 2, 1))


@njit(error_model="numpy")
def panel_loops(x: Array, w: Array, y: Array) -> None:
    """Sums stay in a small array that never leaves the first-level cache; y is written once, not K times."""
    sums = np.empty(w.shape[2], np.float32)
    for p in range(w.shape[0]):
        for m in range(x.shape[0]):
            sums[:] = 0
            for k in range(x.shape[1]):
                value = x[m, k]
                for n in range(w.shape[2]):
                    sums[n] += value * w[p, k, n]
            y[m, p * w.shape[2] : (p + 1) * w.shape[2]] = sums


# 6 and 7. A tile of sums in registers --------------------------------------------------------------------------------

I8, I32, I64, F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


@dataclass(frozen=True)
class Kind:
    """What differs between the two tiles: both take 4 bytes of each row of x a step, one float32 or four int8."""

    element: ir.Type
    vector: ir.Type
    zero: float
    name: str  # of LLVM's multiply-add
    operations: int  # a multiplication and an addition count as two

    def multiply_add(self, builder: ir.IRBuilder, sums: Value, weights: Value, value: Value) -> Value:
        """One instruction: sums + weights * value, in each of 16 lanes (int8: the sum of 4 products in each)."""
        # LLVM from 22 on takes bytes where the bytes are multiplied, and still reads this form.
        function = builder.module.globals.get(self.name) or ir.Function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), self.name
        )
        if self.element is F32:
            return builder.call(function, [value, weights, sums])
        weights, value = (builder.bitcast(each, self.vector) for each in (weights, value))
        return builder.call(function, [sums, weights, value])


FLOAT = Kind(F32, ir.VectorType(F32, LANES), 0.0, "llvm.fma.v16f32", 2 * LANES)
INT8 = Kind(I32, ir.VectorType(I32, LANES), 0, "llvm.x86.avx512.vpdpbusd.512", 8 * LANES)


def tile_kernel(kind: Kind) -> Product:
    """y[ROWS, PANEL] = x[ROWS, K] @ panel[K, PANEL], as LLVM instructions in a numba function.

    Every load of a vector of weights serves ROWS multiply-adds, and every number of x VECTORS of them, so the
    arithmetic units and not the loads are what limits it. There are more sums than a multiply-add takes cycles, so
    none has to wait. Arguments are addresses, and distances between rows in bytes.
    """

    @intrinsic
    def tile(typing_context: Any, x: Value, x_row: Value, panel: Value, y: Value, y_row: Value, steps: Value) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
            x, x_row, panel, y, y_row, steps = arguments

            def at(base: Value, offset: Value, kind: ir.Type) -> Value:
                return builder.inttoptr(builder.add(base, offset), kind.as_pointer())

            before, loop = builder.block, builder.append_basic_block("loop")
            after = builder.append_basic_block("after")
            builder.branch(loop)
            builder.position_at_end(loop)
            step = builder.phi(I64)
            step.add_incoming(I64(0), before)
            sums = [[builder.phi(kind.vector) for _ in range(VECTORS)] for _ in range(ROWS)]
            new: list[list[Value]] = [[None] * VECTORS for _ in range(ROWS)]
            first = builder.mul(step, I64(VECTORS * 64))
            weights = [
                builder.load(at(panel, builder.add(first, I64(64 * j)), kind.vector), align=64) for j in range(VECTORS)
            ]
            for i in range(ROWS):
                offset = builder.add(builder.mul(step, I64(4)), builder.mul(x_row, I64(i)))
                value = everywhere(builder, builder.load(at(x, offset, kind.element), align=4), kind.vector)
                for j in range(VECTORS):
                    new[i][j] = kind.multiply_add(builder, sums[i][j], weights[j], value)
                    sums[i][j].add_incoming(kind.vector([kind.zero] * LANES), before)
                    sums[i][j].add_incoming(new[i][j], loop)
            following = builder.add(step, I64(1))
            step.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
            builder.position_at_end(after)
            for i in range(ROWS):
                for j in range(VECTORS):
                    offset = builder.add(builder.mul(y_row, I64(i)), I64(64 * j))
                    builder.store(new[i][j], at(y, offset, kind.vector), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    @njit
    def product(x: Array, w: Array, y: Array) -> None:
        row, steps = x.shape[1] * x.itemsize, x.shape[1] * x.itemsize // 4
        for p in range(w.shape[0]):
            panel = w.ctypes.data + p * steps * VECTORS * 64
            for m in range(0, x.shape[0], ROWS):
                to = y.ctypes.data + (m * y.shape[1] + p * PANEL) * 4
                tile(x.ctypes.data + m * row, row, panel, to, y.shape[1] * 4, steps)

    multiply: Product = product
    return multiply


def everywhere(builder: ir.IRBuilder, value: Value, vector: ir.Type) -> Value:
    """One number in all lanes."""
    undefined = vector(ir.Undefined)
    first = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(first, undefined, ir.VectorType(I32, LANES)([0] * LANES))


def int8_panels(w: Array) -> Array:
    """Unsigned bytes [N, K] -> [N / PANEL, K / 4, PANEL, 4]: the four that one lane multiplies lie side by side."""
    return aligned(w.reshape(-1, PANEL, w.shape[1] // 4, 4).transpose(0, 2, 1, 3))


def quantize_rows(values: Array) -> tuple[Array, Array]:
    """float32 [R, K] -> int8 [R, K] and one scale for each row."""
    scale = np.abs(values).max(axis=1, keepdims=True) / 127
    return np.rint(values / scale).astype(np.int8), scale


# The limit of this core ----------------------------------------------------------------------------------------------


def limit_kernel(kind: Kind, chains: int) -> Callable[[int], float]:
    """Multiply-adds on `chains` registers and nothing else; returns a number, so that none can be left out."""

    @intrinsic
    def spin(typing_context: Any, count: Value) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Value:
            before, loop = builder.block, builder.append_basic_block("loop")
            after = builder.append_basic_block("after")
            # Both factors come from the argument, or the compiler would compute the answer itself.
            low = builder.trunc(arguments[0], I32)
            number = builder.uitofp(low, F32) if kind.element is F32 else low
            factor = everywhere(builder, number, kind.vector)
            builder.branch(loop)
            builder.position_at_end(loop)
            step = builder.phi(I64)
            step.add_incoming(arguments[0], before)
            sums = [builder.phi(kind.vector) for _ in range(chains)]
            new = [kind.multiply_add(builder, each, factor, factor) for each in sums]
            for i in range(chains):
                sums[i].add_incoming(kind.vector([kind.zero + i] * LANES), before)
                sums[i].add_incoming(new[i], loop)
            following = builder.sub(step, I64(1))
            step.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed(">", following, I64(0)), loop, after)
            builder.position_at_end(after)
            total = new[0]
            for each in new[1:]:
                total = builder.fadd(total, each) if kind.element is F32 else builder.add(total, each)
            number = builder.extract_element(total, I32(0))
            return number if kind.element is F32 else builder.sitofp(number, F32)

        return types.float32(types.int64), generate

    @njit
    def run(count: int) -> Any:
        return spin(count)

    return run


def limit(kind: Kind) -> float:
    """Operations a second of one core at best: the most of 20 tries."""
    chains, count = ROWS * VECTORS, 1_000_000
    run = limit_kernel(kind, chains)
    run(1)
    best = min(seconds_of(lambda: run(count)) for _ in range(20))
    return kind.operations * chains * count / best


# Checking and timing -------------------------------------------------------------------------------------------------


def aligned(array: Array) -> Array:
    """A copy that begins at a multiple of 64 bytes."""
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def seconds_of(work: Callable[[], object]) -> float:
    """Of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def check(name: str, got: Array, expected: Array, tolerance: float) -> float:
    """The largest difference; raises if it is more than `tolerance`."""
    difference = float(np.abs(got.astype(np.float64) - expected).max())
    if not difference <= tolerance:
        raise SystemExit(f"{name}: differs from the step before by {difference:.1e}, more than {tolerance:.1e}")
    return difference


def climb(m: int, k: int, n: int, seconds: float) -> dict[str, Any]:
    """Every step, checked and timed on M x K x N; `seconds` for each."""
    rng = np.random.default_rng(0)
    x = aligned(rng.standard_normal((m, k)).astype(np.float32))
    w = rng.standard_normal((n, k)).astype(np.float32)
    limits = {"float32": limit(FLOAT)} | ({"int8": limit(INT8)} if VNNI else {})
    print(f"this core: {', '.join(f'{rate / 1e9:.0f} G {kind} operations/s' for kind, rate in limits.items())} at best")
    print(f"\nM = {m}, K = {k}, N = {n}{'':18} largest difference    time    G operations/s  share of the limit")
    packed = panels(w)
    steps: list[
        tuple[str, Product, Array, int]
    ] = [  # name, function, its weights, rows that it can be asked for in reasonable time
        ("1 loops in Python", loops, w[:PANEL], 1),
        ("2 loops, compiled", compiled_loops, w, m),
        ("3 NumPy", blas, w, m),
        ("4 blocked", blocked, np.ascontiguousarray(w.T), m),
        ("5 panels", panel_loops, packed, m),
        ("6 vector micro-kernel", tile_kernel(FLOAT), packed, m),
    ]
    before: Array | None = None
    rows = []
    for name, function, weights, some in steps:
        outputs = PANEL if function is loops else n
        y = np.full((some, outputs), np.nan, np.float32)
        function(x[:some], weights, y)
        difference = 0.0
        if before is not None:
            part = y[: len(before), : before.shape[1]]
            difference = check(name, part, before, 2e-5 * np.sqrt(k) * 4)
        before = y
        rows.append(
            timed(
                name,
                partial(function, x[:some], weights, y),
                2 * some * outputs * k,
                limits["float32"],
                difference,
                seconds,
            )
        )
    if VNNI:
        rows.append(int8_step(x, w, y, limits["int8"], seconds))
    else:
        print("7 int8                  skipped: this CPU has no AVX-512 VNNI")
    return {"m": m, "k": k, "n": n, "limits": limits, "steps": rows}


def int8_step(x: Array, w: Array, before: Array, at_best: float, seconds: float) -> dict[str, Any]:
    """The product of int8 rows, exact in integers; the scales turn it back into floats, near those of step 6."""
    (x8, x_scale), (w8, w_scale) = quantize_rows(x), quantize_rows(w)
    x8 = aligned(x8)
    packed = int8_panels((w8.astype(np.int16) + 128).astype(np.uint8))  # the instruction wants one side unsigned
    sums = np.zeros(before.shape, np.int32)
    function = tile_kernel(INT8)
    function(x8, packed, sums)
    exact = sums - 128 * x8.sum(axis=1, keepdims=True, dtype=np.int32)  # takes the 128 out again
    check("7 int8, in integers", exact, x8.astype(np.int32) @ w8.T.astype(np.int32), 0)
    # Rounding moves a factor by a share of its step, sqrt(1/12) in the mean square; K products add up at random.
    steps = np.hypot(x_scale.max() * np.sqrt((w**2).mean()), w_scale.max() * np.sqrt((x**2).mean()))
    allowed = 6 * np.sqrt(x.shape[1] / 12) * steps
    difference = check("7 int8", exact * x_scale * w_scale.T, before, allowed)
    operations = 2 * x.shape[0] * w.shape[0] * x.shape[1]
    return timed("7 int8", lambda: function(x8, packed, sums), operations, at_best, difference, seconds)


def timed(
    name: str, work: Callable[[], object], operations: int, at_best: float, difference: float, seconds: float
) -> dict[str, Any]:
    """The best of the runs that fit into `seconds`: whatever disturbs a run only makes it longer."""
    end, best = time.perf_counter() + seconds, np.inf
    while time.perf_counter() < end or best == np.inf:
        best = min(best, seconds_of(work))
    rate = operations / best
    print(f"{name:44} {difference:10.1e} {best * 1e6:9.0f} us {rate / 1e9:13.2f} {rate / at_best:16.1%}", flush=True)
    return {"step": name, "largest_difference": difference, "seconds": best, "rate": rate, "share": rate / at_best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=30, help=f"M, a multiple of {ROWS}: tokens of a batch")
    parser.add_argument("--width", type=int, default=768, help="K, a multiple of 4")
    parser.add_argument("--outputs", type=int, default=3072, help=f"N, a multiple of {PANEL}")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each step")
    parser.add_argument("--json", action="store_true", help="one more line, for programs")
    options = parser.parse_args()
    if options.rows % ROWS or options.width % 4 or options.outputs % PANEL or options.rows < 1:
        parser.error(f"rows come in multiples of {ROWS}, the width of 4, outputs of {PANEL}")
    result = climb(options.rows, options.width, options.outputs, options.seconds)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
