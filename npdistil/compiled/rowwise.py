"""What happens to one row, or to one vector of it: activations, softmax, layer norm, quantisation, embeddings.

Addresses are bytes; `n` counts a row's elements. Where `n` is no multiple of 16, the lanes after it are written too:
as zeros, so that they never disturb a sum or a maximum. Buffers are long enough for them.
"""

import numpy as np

from .layout import (
    FLOAT16,
    GELU,
    GELU_10,
    GELU_TANH,
    HARDSWISH,
    INT8,
    LEAKY_RELU,
    MISH,
    QUICK_GELU,
    RELU,
    RELU2,
    RELU6,
    SIGMOID,
    SILU,
)
from .simd import (
    LANES,
    VECTOR,
    Vector,
    absolute,
    add_lanes,
    broadcast,
    fma,
    get_float,
    keep,
    kernel,
    load,
    load_part,
    load_part_float16,
    load_part_int8,
    max_lanes,
    maximum,
    minimum,
    rint,
    scale_by_power,
    store,
    store_int8,
    store_int16,
    store_part,
    to_float,
    to_int,
)

TINY = np.finfo(np.float32).eps  # the scale of a row of zeros, as in distilbert.encoder.quantize_rows
ONE = np.float32(1)


@kernel
def exp(x: Vector) -> Vector:
    """e**x to 8e-8 of itself for -87 < x < 88, and what it is at the nearest end outside.

    2**n * e**r with |r| < ln(2) / 2; the polynomial is a minimax fit of (e**r - 1 - r) / r**2.
    """
    x = minimum(maximum(x, broadcast(-87.0)), broadcast(88.0))
    n = rint(x * broadcast(1.4426950408889634))
    r = fma(n, broadcast(-0.693359375), x)  # ln 2 in two parts: n times the first is exact
    r = fma(n, broadcast(2.12194440e-4), r)
    p = fma(r, broadcast(0.0013814535923302174), broadcast(0.00836874544620514))
    p = fma(p, r, broadcast(0.04166839271783829))
    p = fma(p, r, broadcast(0.1666652113199234))
    p = fma(p, r, broadcast(0.4999999403953552))
    p = fma(p, r, broadcast(1.0))
    p = fma(p, r, broadcast(1.0))
    return scale_by_power(p, to_int(n))


@kernel
def normal(x: Vector) -> Vector:
    """The normal distribution function, which is 1/2 + x P(x**2) to 1.1e-7, that is erf to 2.2e-7.

    P is a minimax polynomial for |x| < 5.2, written in t = 2 x**2 / 5.2**2 - 1, where its terms do not cancel.
    """
    c = minimum(maximum(x, broadcast(-5.2)), broadcast(5.2))
    t = fma(c * c, broadcast(0.0739644970414201), broadcast(-1.0))
    p = fma(t, broadcast(0.0002023854322033003), broadcast(-0.0005622886237688363))
    p = fma(p, t, broadcast(0.0006007742485962808))
    p = fma(p, t, broadcast(-0.0009785209549590945))
    p = fma(p, t, broadcast(0.0026624237652868032))
    p = fma(p, t, broadcast(-0.005067361984401941))
    p = fma(p, t, broadcast(0.00801010150462389))
    p = fma(p, t, broadcast(-0.012353362515568733))
    p = fma(p, t, broadcast(0.018133919686079025))
    p = fma(p, t, broadcast(-0.024763448163866997))
    p = fma(p, t, broadcast(0.0319623239338398))
    p = fma(p, t, broadcast(-0.03992539644241333))
    p = fma(p, t, broadcast(0.05002611130475998))
    p = fma(p, t, broadcast(-0.06774380803108215))
    p = fma(p, t, broadcast(0.1359499841928482))
    return fma(c, p, broadcast(0.5))


@kernel
def gelu(x: Vector) -> Vector:
    """X times the normal distribution function."""
    return maximum(x, broadcast(-5.2)) * normal(x)


@kernel
def sigmoid(x: Vector) -> Vector:
    """1 / (1 + e**-x)."""
    return broadcast(1.0) / (broadcast(1.0) + exp(broadcast(0.0) - x))


@kernel
def gelu_tanh(x: Vector) -> Vector:
    """GELU by its tanh approximation: x sigmoid(2 u), because (1 + tanh u) / 2 is sigmoid(2 u)."""
    cube = x * x * x
    return x * sigmoid(broadcast(1.5957691216057308) * fma(broadcast(0.044715), cube, x))


@kernel
def mish(x: Vector) -> Vector:
    """X times tanh(log(1 + e)), where e is e**x: with n = e (e + 2) the tanh is n / (n + 2), and 1 above 20."""
    e = exp(minimum(x, broadcast(20.0)))
    n = e * (e + broadcast(2.0))
    return x * (n / (n + broadcast(2.0)))


@kernel
def activate(activation: int, x: Vector) -> Vector:
    """One of the activations of layout up to TANH."""
    if activation == GELU:
        return gelu(x)
    if activation == GELU_TANH:
        return gelu_tanh(x)
    if activation == RELU:
        return maximum(x, broadcast(0.0))
    if activation == SILU:
        return x * sigmoid(x)
    if activation == SIGMOID:
        return sigmoid(x)
    return fma(broadcast(2.0), sigmoid(x + x), broadcast(-1.0))  # tanh


@kernel
def activate_rarely(activation: int, x: Vector) -> Vector:
    """One of those after it."""
    if activation == GELU_10:
        return minimum(gelu(x), broadcast(10.0))  # and never below -0.2
    if activation == QUICK_GELU:
        return x * sigmoid(broadcast(1.702) * x)
    if activation == RELU2:
        return maximum(x, broadcast(0.0)) * maximum(x, broadcast(0.0))
    if activation == RELU6:
        return minimum(maximum(x, broadcast(0.0)), broadcast(6.0))
    if activation == LEAKY_RELU:
        return maximum(x, broadcast(0.01) * x)
    if activation == HARDSWISH:
        return x * minimum(maximum(x + broadcast(3.0), broadcast(0.0)), broadcast(6.0)) * broadcast(1.0 / 6.0)
    if activation == MISH:
        return mish(x)
    return normal((x - broadcast(0.707107)) * broadcast(1.0 / 0.282095))  # laplace


@kernel
def layer_norm(x: int, weight: int, bias: int, epsilon: np.float32, n: int, out: int) -> None:
    """float32 [n] at x -> float32 [n] at out, which may be x; lanes after n are zeros in x, weight and bias."""
    size = n * 4
    total = broadcast(0.0)
    for i in range(0, size, VECTOR):
        total = total + load(x + i)
    mean = broadcast(add_lanes(total) / np.float32(n))
    total = broadcast(0.0)
    for i in range(0, size, VECTOR):
        centred = keep(load(x + i) - mean, n - i // 4, 0.0)
        total = fma(centred, centred, total)
    variance = add_lanes(total) / np.float32(n)
    factor = broadcast(ONE / np.sqrt(variance + epsilon))
    for i in range(0, size, VECTOR):
        store(out + i, fma((load(x + i) - mean) * factor, load(weight + i), load(bias + i)))


@kernel
def quantize(x: int, n: int, out: int, itemsize: int, offset: int) -> np.float32:
    """float32 [n] at x -> its int8 plus `offset` at out, in elements of 1 or 2 bytes; returns the scale.

    As distilbert.encoder.quantize_rows, bit for bit.
    """
    size = n * 4
    largest = broadcast(0.0)
    for i in range(0, size, VECTOR):
        largest = maximum(largest, absolute(load(x + i)))
    scale = max_lanes(largest) / np.float32(127.5)
    if scale == np.float32(0):
        scale = TINY
    divisor = broadcast(scale)
    shift = broadcast(np.float32(offset))
    for i in range(0, size, VECTOR):
        whole = minimum(maximum(rint(load(x + i) / divisor), broadcast(-128.0)), broadcast(127.0)) + shift
        if itemsize == 1:
            store_int8(out + i // 4, to_int(whole))
        else:
            store_int16(out + i // 2, to_int(whole))
    return scale


@kernel
def softmax(x: int, n: int, scale: np.float32) -> np.float32:
    """float32 [n] at x -> exp(scale * (x - max x)) in place, lanes after n zero; returns their sum, not divided by."""
    size = n * 4
    largest = broadcast(-np.inf)
    for i in range(0, size, VECTOR):
        largest = maximum(largest, keep(load(x + i), n - i // 4, -np.inf))
    top = broadcast(max_lanes(largest))
    factor = broadcast(scale)
    total = broadcast(0.0)
    for i in range(0, size, VECTOR):
        p = keep(exp((load(x + i) - top) * factor), n - i // 4, 0.0)
        total = total + p
        store(x + i, p)
    return add_lanes(total)


@kernel
def table_vector(kind: int, table: int, row: int, n: int, i: int, scales: int) -> Vector:
    """Elements i to i + 16 of a row of an embedding table [?, n], as far as there are any."""
    if kind == FLOAT16:
        return load_part_float16(table + (row * n + i) * 2, n - i)
    if kind == INT8:
        return to_float(load_part_int8(table + row * n + i, n - i)) * broadcast(get_float(scales + row * 4))
    return load_part(table + (row * n + i) * 4, n - i)


@kernel
def copy(x: int, n: int, out: int) -> None:
    """float32 [n], and nothing after it."""
    for i in range(0, n, LANES):
        store_part(out + i * 4, load(x + i * 4), n - i)
