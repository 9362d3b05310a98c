"""Vectors of 16 lanes as numba values, memory by address, atomics; nothing else.

Each operation is an intrinsic that emits LLVM IR, with a reference in NumPy that serves where NPDISTIL_CHECKED is 1.
The references refuse every address outside the arrays given to `allow`, so a forward that runs on them proves its own
address arithmetic.

A target with narrower registers splits a vector without changing any lane, and sums over lanes follow one fixed
tree: results do not depend on the target. Nor do they on the compiler: `a * b + c` is rounded twice, for no operation
has a flag (`contract`, `fast`) with which LLVM may fuse two, and only `fma` asks for that; quotients and square roots
are the nearest float32, as IEEE 754 says.
"""

import contextlib
import ctypes
import inspect
import operator
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import from_dtype, njit, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing import signature as typed
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, models, register_model

from .kernels import CHECKED

LANES = 16
VECTOR = 64  # bytes of a vector
Vector: TypeAlias = Any  # 16 lanes: a numba value, or an array where the compiler is off
Value: TypeAlias = Any  # of LLVM's
Function = TypeVar("Function", bound=Callable[..., Any])

I1, I8, I16, I32, I64, F32 = (
    ir.IntType(1),
    ir.IntType(8),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.FloatType(),
)
COMPILED = not CHECKED


def kernel(function: Function) -> Function:
    """Compile a function: no check of divisors, which would keep loops from becoming vectors, and no way in for Python.

    build.py and jit.py find the one that is called.
    """
    if not COMPILED:
        return function
    compiled: Function = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return compiled


class VectorType(types.Type):
    """numba's type of 16 lanes."""

    def __init__(self, name: str, llvm_type: Value) -> None:
        self.llvm_type = llvm_type
        super().__init__(name)


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    """A vector is held in LLVM's own vector type."""

    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, kind.llvm_type)


f32x16 = VectorType("f32x16", ir.VectorType(F32, LANES))
i32x16 = VectorType("i32x16", ir.VectorType(I32, LANES))
f32, i64, void = types.float32, types.int64, types.void


def operation(result: types.Type, *operands: types.Type, reference: Callable[..., Any]) -> Callable[[Function], Any]:
    """Decorate a function `(builder, *values) -> value` that emits IR; `reference` does the same in NumPy."""

    def decorate(emit: Function) -> Any:
        def definition(typingctx: Any, *arguments: Any) -> Any:
            def codegen(context: Any, builder: Value, _: Any, values: Any) -> Any:
                value = emit(builder, *values)
                return context.get_dummy_value() if result is void else value

            return result(*operands), codegen

        names = ["typingctx", *(f"operand{i}" for i in range(len(operands)))]
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, positional) for name in names])
        definition.__signature__ = signature  # type: ignore[attr-defined] # numba counts these
        definition.__name__, definition.__doc__ = emit.__name__, emit.__doc__
        return intrinsic(definition) if COMPILED else reference

    return decorate


def declared(builder: Value, name: str, result: Value, *operands: Value) -> Value:
    """A function or LLVM intrinsic of this name, declared once a module."""
    found = builder.module.globals.get(name)
    return found or ir.Function(builder.module, ir.FunctionType(result, operands), name)


def pointer(builder: Value, address: Value, kind: Value) -> Value:
    """An integer as a pointer."""
    return builder.inttoptr(address, kind.as_pointer())


def emit_broadcast(builder: Value, value: Value, lanes: int = LANES) -> Value:
    """One value in all lanes."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def shuffled(builder: Value, x: Value, y: Value, lanes: list[int]) -> Value:
    """These lanes of x, and of y after it."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def constant(element: Value, value: float) -> Value:
    """The same constant in all lanes."""
    return ir.Constant(ir.VectorType(element, LANES), [value] * LANES)


def first_lanes(builder: Value, count: Value) -> Value:
    """A mask of the first `count` lanes, or of all."""
    numbers = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, emit_broadcast(builder, count))


# --- Memory. Addresses are integers; `part` is how many lanes are there, 16 or more meaning all.

extents: list[tuple[int, int]] = []  # what the references may touch


def allow(*arrays: npt.NDArray[Any]) -> None:
    """Let the references touch these arrays."""
    extents.extend((a.ctypes.data, a.ctypes.data + a.nbytes) for a in arrays)


@contextlib.contextmanager
def allowed(*arrays: npt.NDArray[Any]) -> Iterator[None]:
    """As `allow`, for a while."""
    before = len(extents)
    allow(*arrays)
    try:
        yield
    finally:
        del extents[before:]


def memory(address: int, count: int, dtype: Any) -> npt.NDArray[Any]:
    """The array of `count` elements at `address`; IndexError outside of what is allowed."""
    size = count * np.dtype(dtype).itemsize
    if not any(start <= address and address + size <= stop for start, stop in extents):
        raise IndexError(f"{size} bytes at {address:#x} are outside of every buffer")
    return np.frombuffer((ctypes.c_char * size).from_address(int(address)), dtype)


def _load_reference(dtype: Any, result: Any) -> Callable[..., Any]:
    def reference(address: int, part: int = LANES) -> npt.NDArray[Any]:
        lanes, count = np.zeros(LANES, result), min(part, LANES)
        lanes[:count] = memory(address, count, dtype)
        return lanes

    return reference


def _store_reference(dtype: Any) -> Callable[..., None]:
    def reference(address: int, lanes: npt.NDArray[Any], part: int = LANES) -> None:
        count = min(part, LANES)
        memory(address, count, dtype)[:] = lanes[:count].astype(dtype)

    return reference


def _masked_load(builder: Value, element: Value, address: Value, part: Value) -> Value:
    kind = ir.VectorType(element, LANES)
    bits = element.width if isinstance(element, ir.IntType) else 32
    name = f"llvm.masked.load.v16{'f' if element is F32 else 'i'}{bits}.p0"
    # The alignment is an operand up to LLVM 21; later versions upgrade a module in that form.
    load = declared(builder, name, kind, kind.as_pointer(), I32, ir.VectorType(I1, LANES), kind)
    mask = first_lanes(builder, part)
    return builder.call(load, [pointer(builder, address, kind), ir.Constant(I32, 1), mask, constant(element, 0)])


@operation(f32x16, i64, reference=_load_reference(np.float32, np.float32))
def load(builder: Value, address: Value) -> Value:
    """16 float32."""
    return builder.load(pointer(builder, address, f32x16.llvm_type), align=4)


@operation(f32x16, i64, i64, reference=_load_reference(np.float32, np.float32))
def load_part(builder: Value, address: Value, part: Value) -> Value:
    """The first `part` float32, and zeros."""
    return _masked_load(builder, F32, address, part)


@operation(i32x16, i64, i64, reference=_load_reference(np.int8, np.int32))
def load_part_int8(builder: Value, address: Value, part: Value) -> Value:
    """The first `part` int8, and zeros."""
    return builder.sext(_masked_load(builder, I8, address, part), i32x16.llvm_type)


@operation(f32x16, i64, i64, reference=_load_reference(np.float16, np.float32))
def load_part_float16(builder: Value, address: Value, part: Value) -> Value:
    """The first `part` float16 (finite), and zeros.

    Exponent and fraction are moved to their places in a float32, and the product mends the exponent's bias, also of
    subnormal numbers.
    """
    bits = builder.zext(_masked_load(builder, I16, address, part), i32x16.llvm_type)
    size = builder.shl(builder.and_(bits, constant(I32, 0x7FFF)), constant(I32, 13))
    sign = builder.shl(builder.and_(bits, constant(I32, 0x8000)), constant(I32, 16))
    size = builder.fmul(builder.bitcast(size, f32x16.llvm_type), constant(F32, 2.0**112))
    return builder.bitcast(builder.or_(builder.bitcast(size, i32x16.llvm_type), sign), f32x16.llvm_type)


@operation(i32x16, i64, reference=_load_reference(np.int32, np.int32))
def load_int32(builder: Value, address: Value) -> Value:
    """16 int32."""
    return builder.load(pointer(builder, address, i32x16.llvm_type), align=4)


@operation(void, i64, f32x16, reference=_store_reference(np.float32))
def store(builder: Value, address: Value, lanes: Value) -> None:
    """16 float32."""
    builder.store(lanes, pointer(builder, address, f32x16.llvm_type), align=4)


@operation(void, i64, f32x16, i64, reference=_store_reference(np.float32))
def store_part(builder: Value, address: Value, lanes: Value, part: Value) -> None:
    """The first `part` lanes, as float32."""
    kind = f32x16.llvm_type
    name = "llvm.masked.store.v16f32.p0"
    masked = declared(builder, name, ir.VoidType(), kind, kind.as_pointer(), I32, ir.VectorType(I1, LANES))
    builder.call(masked, [lanes, pointer(builder, address, kind), ir.Constant(I32, 4), first_lanes(builder, part)])


@operation(void, i64, i32x16, reference=_store_reference(np.uint8))
def store_int8(builder: Value, address: Value, lanes: Value) -> None:
    """The low 8 bits of each lane."""
    kind = ir.VectorType(I8, LANES)
    builder.store(builder.trunc(lanes, kind), pointer(builder, address, kind), align=1)


@operation(void, i64, i32x16, reference=_store_reference(np.int16))
def store_int16(builder: Value, address: Value, lanes: Value) -> None:
    """The low 16 bits of each lane."""
    kind = ir.VectorType(I16, LANES)
    builder.store(builder.trunc(lanes, kind), pointer(builder, address, kind), align=1)


@operation(f32, i64, reference=lambda address: memory(address, 1, np.float32)[0])
def get_float(builder: Value, address: Value) -> Value:
    """A float32."""
    return builder.load(pointer(builder, address, F32), align=4)


@operation(void, i64, f32, reference=lambda address, value: memory(address, 1, np.float32).fill(value))
def set_float(builder: Value, address: Value, value: Value) -> None:
    """A float32."""
    builder.store(value, pointer(builder, address, F32), align=4)


@operation(i64, i64, reference=lambda address: int(memory(address, 1, np.int64)[0]))
def get_int(builder: Value, address: Value) -> Value:
    """An int64."""
    return builder.load(pointer(builder, address, I64), align=8)


@operation(void, i64, i64, reference=lambda address, value: memory(address, 1, np.int64).fill(value))
def set_int(builder: Value, address: Value, value: Value) -> None:
    """An int64."""
    builder.store(value, pointer(builder, address, I64), align=8)


def record_of(layout: np.dtype[Any]) -> Any:
    """A function from an address to the record of this layout that lies there."""

    def reference(address: int) -> Any:
        return memory(address, 1, layout).view(np.recarray)[0]

    if not COMPILED:
        return reference
    kind = from_dtype(layout)

    @intrinsic
    def record(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Value, _: Any, values: Any) -> Value:
            return builder.inttoptr(values[0], context.get_value_type(kind))

        return kind(i64), codegen

    return record


def _transposed_reference(source: int, source_stride: int, rows: int, columns: int, out: int, out_stride: int) -> None:
    for j in range(LANES):
        row = min(j, rows - 1)
        values = _load_reference(np.float32, np.float32)(source + row * source_stride, columns)
        for i in range(LANES):
            memory(out + i * out_stride + j * 4, 1, np.float32)[0] = values[i]


@operation(void, i64, i64, i64, i64, i64, i64, reference=_transposed_reference)
def transpose(
    builder: Value, source: Value, source_stride: Value, rows: Value, columns: Value, out: Value, out_stride: Value
) -> None:
    """Columns of a 16 x 16 square of 4-byte values as rows. Strides are bytes from row to row.

    Only `rows` x `columns` are read: rows after the last repeat it, columns after the last are zero.
    """
    last = builder.sub(rows, ir.Constant(I64, 1))
    vectors = []
    for j in range(LANES):
        number = ir.Constant(I64, j)
        row = builder.select(builder.icmp_signed("<", number, rows), number, last)
        vectors.append(_masked_load(builder, F32, builder.add(source, builder.mul(row, source_stride)), columns))
    for distance in (1, 2, 4, 8):  # exchange the squares off the diagonal, of 1, 2, 4, 8 lanes
        low = [i if not i & distance else LANES + i - distance for i in range(LANES)]
        high = [i + distance if not i & distance else LANES + i for i in range(LANES)]
        for j in range(LANES):
            if not j & distance:
                x, y = vectors[j], vectors[j + distance]
                vectors[j], vectors[j + distance] = shuffled(builder, x, y, low), shuffled(builder, x, y, high)
    for j, lanes in enumerate(vectors):
        at = builder.add(out, builder.mul(out_stride, ir.Constant(I64, j)))
        builder.store(lanes, pointer(builder, at, f32x16.llvm_type), align=4)


# --- Arithmetic.

for _infix, _emit in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():

    @infer_global(_infix)
    class _Infix(ConcreteTemplate):
        cases = [typed(f32x16, f32x16, f32x16)]  # noqa: RUF012 - numba's own form

    @lower_builtin(_infix, f32x16, f32x16)
    def _lower(context: Any, builder: Value, sig: Any, values: Any, emit: str = _emit) -> Value:
        return getattr(builder, emit)(*values)


@operation(f32x16, f32, reference=lambda value: np.full(LANES, value, np.float32))
def broadcast(builder: Value, value: Value) -> Value:
    """One float32 in all lanes."""
    return emit_broadcast(builder, value)


@operation(f32x16, f32x16, f32x16, f32x16, reference=lambda x, y, z: (x.astype(np.float64) * y + z).astype(np.float32))
def fma(builder: Value, x: Value, y: Value, z: Value) -> Value:
    """Each x * y + z, rounded once."""
    kind = f32x16.llvm_type
    return builder.call(declared(builder, "llvm.fma.v16f32", kind, kind, kind, kind), [x, y, z])


@operation(f32x16, f32x16, f32x16, reference=np.maximum)
def maximum(builder: Value, x: Value, y: Value) -> Value:
    """The larger of each pair."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


@operation(f32x16, f32x16, f32x16, reference=np.minimum)
def minimum(builder: Value, x: Value, y: Value) -> Value:
    """The smaller of each pair."""
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)


@operation(f32x16, f32x16, reference=np.abs)
def absolute(builder: Value, x: Value) -> Value:
    """Each without its sign."""
    return builder.call(declared(builder, "llvm.fabs.v16f32", f32x16.llvm_type, f32x16.llvm_type), [x])


@operation(f32x16, f32x16, reference=np.rint)
def rint(builder: Value, x: Value) -> Value:
    """The nearest whole number, of two the even one."""
    return builder.call(declared(builder, "llvm.roundeven.v16f32", f32x16.llvm_type, f32x16.llvm_type), [x])


@operation(
    f32x16, f32x16, i64, f32, reference=lambda x, part, other: np.where(np.arange(LANES) < part, x, np.float32(other))
)
def keep(builder: Value, x: Value, part: Value, other: Value) -> Value:
    """The first `part` lanes, and `other` in those after."""
    return builder.select(first_lanes(builder, part), x, emit_broadcast(builder, other))


@operation(i32x16, f32x16, reference=lambda x: x.astype(np.int32))
def to_int(builder: Value, x: Value) -> Value:
    """Whole float32 as int32."""
    return builder.fptosi(x, i32x16.llvm_type)


@operation(f32x16, i32x16, reference=lambda x: x.astype(np.float32))
def to_float(builder: Value, x: Value) -> Value:
    """int32 as the nearest float32."""
    return builder.sitofp(x, f32x16.llvm_type)


@operation(f32x16, f32x16, i32x16, reference=lambda x, n: np.ldexp(x, n))
def scale_by_power(builder: Value, x: Value, n: Value) -> Value:
    """X times 2**n, where neither x nor the result is subnormal."""
    bits = builder.bitcast(x, i32x16.llvm_type)
    return builder.bitcast(builder.add(bits, builder.shl(n, constant(I32, 23))), f32x16.llvm_type)


def _reduced(combine: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    def reference(x: npt.NDArray[Any]) -> Any:
        while len(x) > 1:
            x = combine(x[: len(x) // 2], x[len(x) // 2 :])
        return x[0]

    return reference


def _reduce(builder: Value, x: Value, combine: Callable[[Value, Value], Value]) -> Value:
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        low, high = list(range(lanes)), list(range(lanes, 2 * lanes))
        x = combine(shuffled(builder, x, x, low), shuffled(builder, x, x, high))
    return builder.extract_element(x, ir.Constant(I32, 0))


@operation(f32, f32x16, reference=_reduced(np.add))
def add_lanes(builder: Value, x: Value) -> Value:
    """The sum of all lanes: halves added to each other, 8, 4, 2, 1."""
    return _reduce(builder, x, builder.fadd)


@operation(f32, f32x16, reference=_reduced(np.maximum))
def max_lanes(builder: Value, x: Value) -> Value:
    """The largest lane."""
    return _reduce(builder, x, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


# --- Between threads.


def _fetch_add_reference(address: int, value: int) -> int:
    cell = memory(address, 1, np.int64)
    before = int(cell[0])
    cell[0] += value
    return before


@operation(i64, i64, i64, reference=_fetch_add_reference)
def fetch_add(builder: Value, address: Value, value: Value) -> Value:
    """Add to an int64 that other threads add to; what it was before. Orders memory both ways."""
    return builder.atomic_rmw("add", pointer(builder, address, I64), value, "acq_rel")


@operation(i64, i64, reference=lambda address: int(memory(address, 1, np.int64)[0]))
def load_acquire(builder: Value, address: Value) -> Value:
    """An int64 that another thread writes, and with it everything that the thread wrote before."""
    return builder.load_atomic(pointer(builder, address, I64), "acquire", 8)


@operation(void, reference=lambda: None)
def pause(builder: Value) -> None:
    """Tell the core that this loop waits."""
    triple = builder.module.triple
    if triple.startswith("x86_64"):
        builder.call(declared(builder, "llvm.x86.sse2.pause", ir.VoidType()), [])
    elif triple.startswith(("aarch64", "arm64")):
        builder.call(declared(builder, "llvm.aarch64.hint", ir.VoidType(), I32), [ir.Constant(I32, 1)])


@operation(i64, reference=time.monotonic_ns)
def nanoseconds(builder: Value) -> Value:
    """The time since some moment. From the C library, which asks the system only where it cannot tell by itself."""
    moment = cgutils.alloca_once(builder, ir.ArrayType(I64, 2))
    clock = 1 if "linux" in builder.module.triple else time.CLOCK_MONOTONIC
    get_time = declared(builder, "clock_gettime", I32, I32, moment.type)
    builder.call(get_time, [ir.Constant(I32, clock), moment])
    seconds, rest = cgutils.unpack_tuple(builder, builder.load(moment), 2)
    return builder.add(builder.mul(seconds, ir.Constant(I64, 10**9)), rest)


@operation(void, i64, reference=lambda microseconds: None)
def sleep(builder: Value, microseconds: Value) -> None:
    """Give the core to others; for 0, only if others wait for it. From the C library."""
    pause_for = declared(builder, "usleep", I32, I32)
    give = declared(builder, "sched_yield", I32)
    with builder.if_else(builder.icmp_signed(">", microseconds, ir.Constant(I64, 0))) as (then, otherwise):
        with then:
            builder.call(pause_for, [builder.trunc(microseconds, I32)])
        with otherwise:
            builder.call(give, [])
