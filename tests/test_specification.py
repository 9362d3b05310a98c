"""Properties of the specification's primitives, and that a text's bits depend on no other text."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npdistil.checkpoint.quantize import in_precision
from npdistil.checkpoint.weights import read_checkpoint
from npdistil.distilbert import encoder
from npdistil.distilbert.encoder import Array
from npdistil.engine import NumpyEncoder

LINE = np.linspace(-8, 8, 20001)


def floats(*shape: int, size: float = 100) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    return hnp.arrays(np.float32, shape, elements=st.floats(-size, size, width=32))


def test_erf_is_within_1_5e_7_of_the_standard_library() -> None:
    difference = np.abs(encoder.erf(LINE) - [math.erf(x) for x in LINE]).max()
    print(f"largest difference {difference:.2e}")
    assert difference <= 1.5e-7


def test_erf_of_float32_is_float32_within_6e_7() -> None:
    line = LINE.astype(np.float32)
    ours = encoder.erf(line)
    assert ours.dtype == np.float32
    # 1.5e-7 of the formula, and the roundings of its five steps: terms of up to 1.45 are good to 6e-8 to 1.2e-7 each.
    difference = np.abs(ours - [math.erf(x) for x in line.tolist()]).max()
    print(f"largest difference {difference:.2e}")
    assert difference <= 6e-7


def test_gelu_is_x_times_the_normal_distribution() -> None:
    expected = [0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in LINE]
    assert np.abs(encoder.gelu(LINE) - expected).max() <= 4e-7


def test_gelu_tanh_is_near_gelu_and_not_the_same() -> None:
    difference = np.abs(encoder.gelu_tanh(LINE) - encoder.gelu(LINE)).max()
    assert 1e-4 < difference < 1e-3


@pytest.mark.parametrize("name", sorted(encoder.ACTIVATIONS))
def test_activations_keep_float32_and_stay_finite_on_any_float(name: str) -> None:
    line = np.array([0, -0.0, 1e-30, -1e-30, 1, -1, 50, -50, 1e4, -1e4, 1e12, -1e12], np.float32)
    ours = encoder.ACTIVATIONS[name](line)
    assert ours.dtype == np.float32
    assert np.isfinite(ours).all()


@given(x=floats(3, 7, size=2.0**100))
def test_softmax_rows_are_positive_and_add_up_to_1(x: Array) -> None:
    p = encoder.softmax(x)
    assert p.dtype == np.float32
    assert (p >= 0).all()
    assert np.abs(p.sum(axis=-1) - 1).max() <= 1e-6


@given(x=floats(1, 5), shift=st.floats(-100, 100, width=32))
def test_softmax_does_not_see_what_is_added_to_a_whole_row(x: Array, shift: float) -> None:
    assert encoder.softmax(x + np.float32(shift)) == pytest.approx(encoder.softmax(x), abs=2e-5)


@given(x=floats(4, 16), weight=floats(16), bias=floats(16))
def test_layer_norm_equals_its_formula_in_float64(x: Array, weight: Array, bias: Array) -> None:
    wide = x.astype(np.float64)
    deviation = wide.std(axis=-1, keepdims=True)
    ours = encoder.layer_norm(x, weight, bias)
    assert ours.dtype == np.float32
    steady = deviation[:, 0] > 1e-3 * (1 + np.abs(wide).max(axis=-1))  # else rounding is all that is left
    expected = (wide - wide.mean(axis=-1, keepdims=True)) / np.sqrt(deviation**2 + 1e-12) * weight + bias
    assert np.abs((ours - expected)[steady]).max(initial=0) <= 2e-2


def test_layer_norm_of_a_constant_row_is_the_bias() -> None:
    bias = np.arange(8, dtype=np.float32)
    assert np.array_equal(
        encoder.layer_norm(np.full((2, 8), 3, np.float32), np.ones(8, np.float32), bias), [bias, bias]
    )


@given(st.data())
@settings(max_examples=40)
def test_int8_product_is_exact(data: st.DataObject) -> None:
    rows, out = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    width = data.draw(st.sampled_from([1, 7, 1023, 1024, 1025, 2048, 3072]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    low = data.draw(st.sampled_from([-128, 120]))  # 120: every product is large, and sums grow as far as they can
    x, weight = random.integers(low, 128, (rows, width)), random.integers(low, 128, (out, width))
    ours = encoder.int8_product(x.astype(np.float32), weight.astype(np.int8))
    exact = x @ weight.T
    assert ours.dtype == np.float32
    assert np.array_equal(ours, exact.astype(np.float32))  # beyond 2**24 the one rounding is that of the result


@pytest.mark.parametrize("width", [1024, 1025, 3072])
def test_int8_product_is_exact_at_its_extremes(width: int) -> None:
    x, weight = np.full((1, width), -128, np.float32), np.full((1, width), -128, np.int8)
    assert encoder.int8_product(x, weight)[0, 0] == np.float32(128 * 128 * width)


def quantized_plainly(row: list[np.float32]) -> tuple[list[int], np.float32]:
    """Symmetric int8 of one row, one number after the other: what compressed-tensors does."""
    largest = max(abs(x) for x in row)
    scale = np.float32(largest / np.float32(127.5))
    if scale == 0:
        scale = np.finfo(np.float32).eps
    return [max(-128, min(127, round(float(x / scale)))) for x in row], scale  # round() goes to even, too


@given(x=floats(3, 9) | floats(2, 1) | floats(4, 5, size=2.0**-30))
def test_quantize_rows_equals_a_plain_restatement(x: Array) -> None:
    integers, scale = encoder.quantize_rows(x)
    assert integers.shape == x.shape
    assert scale.shape == (len(x), 1)
    assert integers.dtype == scale.dtype == np.float32
    for i, row in enumerate(x):
        plain, plain_scale = quantized_plainly(list(row))
        assert integers[i].tolist() == plain
        assert scale[i, 0] == plain_scale


def test_quantize_rows_of_zeros_is_zeros() -> None:
    integers, scale = encoder.quantize_rows(np.zeros((2, 3), np.float32))
    assert not integers.any()
    assert (scale > 0).all()


@given(x=floats(4, 6), weight=floats(5, 6), bias=floats(5))
def test_an_int8_linear_layer_is_near_the_float_layer_that_it_stands_for(x: Array, weight: Array, bias: Array) -> None:
    integers, scale = encoder.quantize_rows(weight)
    ours = encoder.linear(x, integers.astype(np.int8), bias, scale)
    exact = x.astype(np.float64) @ (integers * scale).astype(np.float64).T + bias
    # Each number of a row of x is off by at most half a step, or at the positive end by a whole one.
    bound = np.abs(x).max(axis=1, keepdims=True) / 127.5 * np.abs(integers * scale).sum(axis=1) + 1e-2
    assert (np.abs(ours - exact) <= bound).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_embedding_gives_the_tables_rows_in_float32(dtype: npt.DTypeLike) -> None:
    table = np.arange(-6, 6).reshape(4, 3).astype(dtype)
    scale = np.array([[1], [2], [0.5], [4]], np.float32) if dtype is np.int8 else None
    rows = encoder.embedding(np.array([3, 0, 3]), table, scale)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, (table * (1 if scale is None else scale))[[3, 0, 3]])


def test_positions_count_from_0_in_every_text() -> None:
    words, positions = np.zeros((1, 4), np.float32), np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    norm: encoder.Params = {"weight": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}
    x = encoder.embed(np.zeros(5, np.int64), np.array([0, 2, 5]), {"weight": words}, {"weight": positions}, norm)
    assert np.array_equal(x, encoder.layer_norm(positions[[0, 1, 0, 1, 2]], **norm))


def test_attention_weights_are_a_distribution_over_the_tokens_of_the_text() -> None:
    q, k = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    weights = encoder.attention_weights(q, k)
    assert weights.shape == (3, 5, 5)
    plain = np.exp((q[1, 2] @ k[1].T) / 2)
    assert weights[1, 2] == pytest.approx(plain / plain.sum(), abs=1e-6)


def test_split_heads_gives_each_head_neighbouring_columns() -> None:
    assert np.array_equal(encoder.split_heads(np.arange(12).reshape(2, 6), 3)[1], [[2, 3], [8, 9]])


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NumpyEncoder]:
    directory = tmp_path_factory.mktemp("model")
    tiny.write(directory, dim=36, hidden_dim=1100, n_heads=3, max_position_embeddings=40)
    checkpoint = read_checkpoint(directory)
    return {
        precision: NumpyEncoder(checkpoint.config, in_precision(checkpoint.params, precision), 1, max_tokens=50)
        for precision in ("float32", "int8")
    }


def packed(texts: list[list[int]]) -> tuple[Array, Array]:
    return np.array([i for text in texts for i in text], np.int64), np.cumsum([0, *map(len, texts)])


@pytest.mark.parametrize("precision", ["float32", "int8"])
@given(
    texts=st.lists(st.lists(st.integers(0, len(tiny.VOCABULARY) - 1), min_size=1, max_size=40), min_size=1, max_size=8),
    data=st.data(),
)
@settings(max_examples=40)
def test_a_texts_bits_are_the_same_alone_and_in_any_batch_in_any_order(
    encoders: dict[str, NumpyEncoder], precision: str, texts: list[list[int]], data: st.DataObject
) -> None:
    encoder = encoders[precision]
    order = data.draw(st.permutations(range(len(texts))))
    ids, bounds = packed([texts[i] for i in order])
    together = np.split(encoder.encode(ids, bounds), bounds[1:-1])
    for place, i in enumerate(order):
        assert encoder.encode(*packed([texts[i]])).tobytes() == together[place].tobytes()


@pytest.mark.parametrize("precision", ["float32", "int8"])
@given(data=st.data(), lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6))
@settings(max_examples=25)
def test_chosen_rows_are_those_of_the_whole(
    encoders: dict[str, NumpyEncoder], precision: str, data: st.DataObject, lengths: list[int]
) -> None:
    random = np.random.default_rng(len(lengths))
    ids, bounds = packed([random.integers(0, len(tiny.VOCABULARY), n).tolist() for n in lengths])
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(ids) - 1)))), np.int64)
    encoder = encoders[precision]
    assert encoder.encode(ids, bounds, rows=rows).tobytes() == encoder.encode(ids, bounds)[rows].tobytes()


@given(rows=st.integers(1, 9), i=st.integers(0, 8), seed=st.integers(0, 1000))
def test_the_linear_operator_of_heads_keeps_rows_apart(
    encoders: dict[str, NumpyEncoder], rows: int, i: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x, weight, bias = (random.normal(size=shape).astype(np.float32) for shape in ((rows, 36), (7, 36), (7,)))
    i = min(i, rows - 1)
    whole = encoders["float32"].linear(x, weight, bias)
    assert whole.shape == (rows, 7)
    assert np.allclose(whole, x @ weight.T + bias, atol=1e-4)
    assert encoders["float32"].linear(x[i : i + 1], weight, bias).tobytes() == whole[i].tobytes()


def test_no_texts_give_no_rows(encoders: dict[str, NumpyEncoder]) -> None:
    for each in encoders.values():
        assert each.encode(np.empty(0, np.int64), np.zeros(1, np.int64)).shape == (0, 36)


@pytest.mark.filterwarnings("error")
def test_exp_and_tanh_of_what_is_beyond_all_numbers_need_no_warning() -> None:
    ends = np.array([-np.inf, -1e300, 1e300, np.inf])
    assert encoder.exp(ends).tolist() == [0, 0, np.inf, np.inf]
    assert encoder.tanh(ends).tolist() == [-1, -1, 1, 1]
    assert encoder.sigmoid(ends).tolist() == [0, 0, 1, 1]
