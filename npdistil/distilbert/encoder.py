"""DistilBERT's encoder as pure functions on NumPy arrays: the specification of this package.

DistilBERT (Sanh et al. 2019, arXiv:1910.01108) is half of BERT (Devlin et al. 2018, arXiv:1810.04805)
without token types and pooler: embeddings, then N post-norm Transformer blocks (Vaswani et al. 2017,
arXiv:1706.03762, section 3). Read from `encode` at the end upwards, or from the primitives down.

A BERT encoder is the same function. Its token types are added to its positions when a file is read: row t * P + p of
the position table is then position p in a text of type t, and `positions` says which row each token takes.

Texts are never padded. A batch is one array of all their tokens laid end to end, and `bounds` says where
each text starts and stops: texts of 5, 9 and 3 tokens give T = 17 rows and bounds = [0, 5, 14, 17]. Only
attention looks across rows, so only attention needs `bounds`, and nothing needs a mask.

    T  rows (tokens) in the batch     B  texts in the batch     L  tokens of one text
    D  width of the model             H  attention heads        F  width of the feed-forward layer
    V  vocabulary size                P  positions              C  classes

Parameters carry the names that they have in the checkpoint and arrive by `**`: `q_lin` is a dict of `weight`
and `bias`. Where that dict also holds a `weight_scale`, the layer is an int8 one.

What is specified are numbers, not their last bits: in a float32 product over all rows (`x @ weight.T`), a BLAS may
round a row otherwise beside other rows. That a text has the same bits in any batch is the engines' part:
`engine.NumpyEncoder` gives these functions one float32 text at a time.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import factorial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Params: TypeAlias = dict[str, Any]  # a tree of dicts and lists, as in the checkpoint, with arrays as leaves

# log(2) in two parts, of which the first has so few bits that its multiples are exact (as in Sun's fdlibm).
LOG2_HIGH, LOG2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
TAYLOR = tuple(1 / factorial(n) for n in range(13, 0, -1))  # of exp
EPSILON = 1e-12  # of every layer norm; fixed in DistilBERT, a setting of BERT
EXACT_INT_SUM = 1024  # products of two int8 that can be added up in float32 without rounding: 2**24 / 2**14


def exp(x: Array) -> Array:  # [...] -> [...]
    """The exponential function. In float64, which scores are in, with the same bits on every processor.

    NumPy has code of its own for each family of processors, and the last bits differ. + - * / and powers of two, IEEE
    754 rounds alike everywhere. float32 takes NumPy's, which is faster.

    >>> exp(np.array([0.0, 1.0, -1000.0]))
    array([1.        , 2.71828183, 0.        ])
    """
    if x.dtype == np.float32:
        return np.exp(x)
    x = np.minimum(np.maximum(x, -1000.0), 1000.0)  # 0 and infinity from there on
    twos = np.rint(x * (1 / (LOG2_HIGH + LOG2_LOW)))
    rest = x - twos * LOG2_HIGH - twos * LOG2_LOW  # up to log(2) / 2
    series = rest * TAYLOR[0]
    for factor in TAYLOR[1:]:
        series += factor
        series *= rest
    with np.errstate(over="ignore", invalid="ignore"):  # of infinity, and of NaN, which stays what it is
        return np.ldexp(series + 1, twos.astype(np.int32))


def tanh(x: Array) -> Array:  # [...] -> [...]
    """The hyperbolic tangent; in float64 as `exp`, and within 1e-13.

    >>> tanh(np.array([-1.0, 0.0, 1000.0]))
    array([-0.76159416,  0.        ,  1.        ])
    """
    if x.dtype == np.float32:
        return np.tanh(x)
    x = np.minimum(np.maximum(x, -20.0), 20.0)  # 1 from there on, to the last bit
    falling, square = exp(-2 * np.abs(x)), x * x
    near_0 = x * (1 - square / 3 + 2 * square * square / 15)
    return np.where(square < 1e-6, near_0, np.copysign((1 - falling) / (1 + falling), x))


def erf(x: Array) -> Array:  # [...] -> [...]
    """The error function, within 1.5e-7: Abramowitz and Stegun, formula 7.1.26.

    >>> erf(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.8427,  0.    ,  0.8427])
    """
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.copysign(1 - series * exp(-x * x), x)


def gelu(x: Array) -> Array:  # [...] -> [...]
    """Each x times the chance that a standard normal value is below it (Hendrycks and Gimpel, arXiv:1606.08415).

    >>> gelu(np.array([-3.0, 0.0, 3.0])).round(3)
    array([-0.004,  0.   ,  2.996])
    """
    return 0.5 * x * (1 + erf(x * np.float32(0.5**0.5)))


def gelu_tanh(x: Array) -> Array:  # [...] -> [...]
    """The approximation of `gelu` by tanh, from the same paper, that some checkpoints were trained with."""
    return 0.5 * x * (1 + tanh(np.float32((2 / np.pi) ** 0.5) * (x + 0.044715 * x * x * x)))


def relu(x: Array) -> Array:  # [...] -> [...]
    """The positive part (Nair and Hinton 2010)."""
    return np.maximum(x, 0)


def silu(x: Array) -> Array:  # [...] -> [...]
    """Each x times its sigmoid, from the paper of `gelu`."""
    return x * sigmoid(x)


def sigmoid(x: Array) -> Array:  # [...] -> [...]
    """The logistic function 1 / (1 + exp(-x)), written with tanh so that no x overflows."""
    return 0.5 * (1 + tanh(0.5 * x))


def mish(x: Array) -> Array:  # [...] -> [...]
    """Each x times tanh(log(1 + exp(x))) (Misra 2019, arXiv:1908.08681), which is a quotient of powers of exp(x)."""
    power = exp(np.minimum(x, 20))  # no number is nearer to 1 than the quotient from there on
    squares = power * (power + 2)
    return x * (squares / (squares + 2))


def laplace(x: Array) -> Array:  # [...] -> [...]
    """A normal distribution function that is close to relu(x)**2 (Ma et al. 2022, arXiv:2209.10655)."""
    return 0.5 * (1 + erf((x - 0.707107) * np.float32(0.5**0.5 / 0.282095)))


# The names that config.json may give, as in transformers' activations.py, but for those with parameters of their own.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_10": lambda x: np.clip(gelu(x), -10, 10),
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": relu,
    "relu2": lambda x: relu(x) ** 2,
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.maximum(x, 0.01 * x),
    "silu": silu,
    "swish": silu,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "mish": mish,
    "laplace": laplace,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "linear": lambda x: x,
}


def softmax(x: Array) -> Array:  # [..., n] -> [..., n]
    """Positive rows that sum to 1, in proportion to exp(x).

    >>> softmax(np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """
    powers = exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = EPSILON) -> Array:  # [T, D], [D], [D] -> [T, D]
    """Each row to mean 0 and variance 1, then scaled and shifted (Ba et al. 2016, arXiv:1607.06450).

    >>> layer_norm(np.array([[1.0, 3.0]]), weight=np.ones(2), bias=np.zeros(2))
    array([[-1.,  1.]])
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


def linear(x: Array, weight: Array, bias: Array, weight_scale: Array | None = None) -> Array:
    # [T, in], [out, in], [out], [out, 1] -> [T, out]
    """The product of x and weight, plus bias; with a `weight_scale`, a product of integers.

    An int8 weight stands for weight * weight_scale. Rows of x are quantised as they come, so that a row's result
    depends on no other row, and the sum of integer products is exact.

    >>> linear(np.array([[1.0, 2.0]]), weight=np.array([[10.0, 1.0]]), bias=np.array([0.5]))
    array([[12.5]])
    """
    if weight_scale is None:
        return x @ weight.T + bias
    x_int, x_scale = quantize_rows(x)
    return int8_product(x_int, weight) * (x_scale * weight_scale.T) + bias


def quantize_rows(x: Array) -> tuple[Array, Array]:  # [T, n] -> integers -128..127 [T, n], scale [T, 1]
    """Symmetric int8 a row, x = integers * scale, as the compressed-tensors format defines it.

    >>> quantize_rows(np.array([[0.0, -25.6, 127.5]]))
    (array([[   0.,  -26.,  127.]]), array([[1.]]))
    """
    scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127.5)
    scale = np.where(scale == 0, np.finfo(np.float32).eps, scale)
    return np.clip(np.rint(x / scale), -128, 127), scale


def int8_product(x: Array, weight: Array) -> Array:  # [T, in], [out, in] -> [T, out], exact
    """Product of integers held in float32, where matrix products are fast: exact for up to 1024 terms at a time."""
    steps = range(0, x.shape[1], EXACT_INT_SUM)
    parts = (x[:, k : k + EXACT_INT_SUM] @ weight[:, k : k + EXACT_INT_SUM].T.astype(np.float32) for k in steps)
    if len(steps) == 1:
        return next(parts)
    return np.sum([part.astype(np.int32) for part in parts], axis=0).astype(np.float32)


def embedding(ids: Array, weight: Array, weight_scale: Array | None = None) -> Array:  # [T], [V, D], [V, 1] -> [T, D]
    """The rows of a table; float16 and int8 tables become float32 here, a row at a time.

    >>> embedding(np.array([2, 0]), weight=np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    array([[4., 5.],
           [0., 1.]], dtype=float32)
    """
    rows = weight[ids].astype(np.float32)
    return rows if weight_scale is None else rows * weight_scale[ids]


def embed(
    ids: Array,
    bounds: Array,
    word_embeddings: Params,
    position_embeddings: Params,
    LayerNorm: Params,  # noqa: N803 - the name in the checkpoint
    positions: Array | None = None,
    eps: float = EPSILON,
) -> Array:  # [T], [B + 1] -> [T, D]
    """Word plus position, normalised. Positions [T] count from 0 in every text, unless they are given."""
    if positions is None:
        positions = np.arange(len(ids)) - np.repeat(bounds[:-1], np.diff(bounds).astype(np.intp))
    x = embedding(ids, **word_embeddings) + embedding(positions, **position_embeddings)
    return layer_norm(x, **LayerNorm, eps=eps)


def attention_weights(q: Array, k: Array) -> Array:  # [H, L, D/H], [H, L, D/H] -> [H, L, L]
    """How much each token (row) looks at each token (column) of its text, a head at a time.

    >>> q = k = np.array([[[0.0], [2.0]]])  # one head of width 1, two tokens
    >>> attention_weights(q, k).round(2)
    array([[[0.5 , 0.5 ],
            [0.02, 0.98]]])
    """
    return softmax(q @ k.transpose(0, 2, 1) * q.shape[-1] ** -0.5)


def split_heads(x: Array, n_heads: int) -> Array:  # [L, D] -> [H, L, D/H]
    """Each head takes its share of the width.

    >>> split_heads(np.array([[1, 2, 3, 4]]), n_heads=2)
    array([[[1, 2]],
    <BLANKLINE>
           [[3, 4]]])
    """
    return x.reshape(len(x), n_heads, -1).transpose(1, 0, 2)


def self_attention(
    x: Array, bounds: Array, q_lin: Params, k_lin: Params, v_lin: Params, out_lin: Params, n_heads: int
) -> Array:  # [T, D], [B + 1] -> [T, D]
    """Every token gathers from all tokens of its own text (Vaswani et al., section 3.2).

    >>> same = {"weight": np.eye(1), "bias": np.zeros(1)}
    >>> x = np.array([[5.0], [0.0], [4.0]])  # a text of one token, and one of two
    >>> self_attention(x, np.array([0, 1, 3]), same, same, same, same, n_heads=1).round(2)
    array([[5.],
           [2.],
           [4.]])
    """
    q, k, v = linear(x, **q_lin), linear(x, **k_lin), linear(x, **v_lin)  # [T, D] each
    context = np.empty_like(q)
    for start, stop in pairwise(bounds):  # text by text
        q_text, k_text, v_text = (split_heads(a[start:stop], n_heads) for a in (q, k, v))  # [H, L, D/H] each
        heads = attention_weights(q_text, k_text) @ v_text  # [H, L, L] @ [H, L, D/H] -> [H, L, D/H]
        context[start:stop] = heads.transpose(1, 0, 2).reshape(stop - start, -1)  # heads side by side: [L, D]
    return linear(context, **out_lin)


def feed_forward(x: Array, lin1: Params, lin2: Params, activation: str) -> Array:  # [T, D] -> [T, D]
    """Each token by itself: widen to F, activate, narrow again (Vaswani et al., section 3.3).

    >>> same = {"weight": np.eye(2), "bias": np.ones(2)}
    >>> feed_forward(np.array([[-4.0, 2.0]]), lin1=same, lin2=same, activation="relu")
    array([[1., 4.]])
    """
    return linear(ACTIVATIONS[activation](linear(x, **lin1)), **lin2)


def block(
    x: Array,
    bounds: Array,
    attention: Params,
    sa_layer_norm: Params,
    ffn: Params,
    output_layer_norm: Params,
    n_heads: int,
    activation: str,
    eps: float = EPSILON,
) -> Array:  # [T, D], [B + 1] -> [T, D]
    """Attention, then feed-forward, each added to what it came from and normalised."""
    x = layer_norm(x + self_attention(x, bounds, **attention, n_heads=n_heads), **sa_layer_norm, eps=eps)
    return layer_norm(x + feed_forward(x, **ffn, activation=activation), **output_layer_norm, eps=eps)


def hidden_states(
    ids: Array,
    bounds: Array,
    embeddings: Params,
    layer: list[Params],
    n_heads: int,
    activation: str,
    eps: float = EPSILON,
    positions: Array | None = None,
) -> Iterator[Array]:  # [T], [B + 1] -> N + 1 times [T, D]
    """What goes into the first block, and what comes out of each."""
    x = embed(ids, bounds, **embeddings, positions=positions, eps=eps)
    yield x
    for parameters in layer:
        x = block(x, bounds, **parameters, n_heads=n_heads, activation=activation, eps=eps)
        yield x


def encode(
    ids: Array, bounds: Array, embeddings: Params, layer: list[Params], **settings: Any
) -> Array:  # [T], [B + 1] -> [T, D]
    """Token ids in, the last hidden state of every token out: what each head stands on. Settings as `hidden_states`."""
    *_, last = hidden_states(ids, bounds, embeddings, layer, **settings)
    return last
