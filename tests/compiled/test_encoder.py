"""The compiled engine computes what the specification says, and lets nothing unchecked reach its kernels."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoders import Array, checkpoint, encoder, reference, texts

import npdistil
from npdistil.checkpoint.quantize import in_precision
from npdistil.distilbert.encoder import ACTIVATIONS
from npdistil.errors import InputError

SHAPES: dict[str, dict[str, Any]] = {
    "narrower than a vector": {},
    "not a multiple of a vector": {"dim": 24, "n_heads": 3, "hidden_dim": 40, "n_layers": 1},
    "one wide head": {"dim": 48, "n_heads": 1, "hidden_dim": 100, "n_layers": 3},
    "many panels": {"dim": 128, "n_heads": 4, "hidden_dim": 200, "max_position_embeddings": 300},
    "odd everything": {"dim": 15, "n_heads": 5, "hidden_dim": 7, "n_layers": 2, "max_position_embeddings": 70},
}
LENGTHS = [[1], [2], [7], [24], [3, 1, 24, 9], [5] * 40]


def close(got: Array, expected: Array, most: float) -> None:
    difference = float(np.abs(got - expected).max(initial=0))
    print(f"largest difference {difference:.2e}")
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    assert difference <= most


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_hidden_states_are_those_of_the_specification(
    tmp_path: Path, shape: dict[str, Any], lengths: list[int]
) -> None:
    found = checkpoint(tmp_path, **shape)
    ids, bounds = texts(lengths)
    close(encoder(found).encode(ids, bounds), reference(found).encode(ids, bounds), 2e-5)


def test_texts_as_long_as_the_position_table_are_no_exception(tmp_path: Path) -> None:
    found = checkpoint(tmp_path, **SHAPES["many panels"])
    ids, bounds = texts([300, 299, 1])
    close(encoder(found).encode(ids, bounds), reference(found).encode(ids, bounds), 2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_the_specification(tmp_path: Path, activation: str) -> None:
    found = checkpoint(tmp_path, activation=activation, dim=24, n_heads=2, hidden_dim=40)
    ids, bounds = texts([9, 3])
    close(encoder(found).encode(ids, bounds), reference(found).encode(ids, bounds), 2e-5)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_int8_hidden_states_are_those_of_the_specification(tmp_path: Path, shape: dict[str, Any]) -> None:
    # A last bit before quantisation may decide which of two neighbouring integers a value becomes: one layer's outputs
    # then differ by a step of its quantisation. With one layer and short texts few values stand on such an edge.
    found = checkpoint(tmp_path, **(shape | {"n_layers": 1}))
    ids, bounds = texts([1, 2, 3])
    got, expected = encoder(found, "int8").encode(ids, bounds), reference(found, "int8").encode(ids, bounds)
    difference = np.abs(got - expected)
    print(f"largest difference {difference.max():.2e}, median {np.median(difference):.2e}")
    assert difference.max() < 0.1
    assert np.median(difference) < 1e-3


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_tables_of_every_type(tmp_path: Path, dtype: str) -> None:
    found = checkpoint(tmp_path, dtype=dtype)
    ids, bounds = texts([5, 2])
    close(encoder(found).encode(ids, bounds), reference(found).encode(ids, bounds), 2e-5)


def test_int8_tables(tmp_path: Path) -> None:
    found = checkpoint(tmp_path)
    params = in_precision(found.params, "int8")
    table = params["embeddings"]["word_embeddings"]["weight"]
    scale = np.abs(table).max(axis=1, keepdims=True) / np.float32(127)
    small = {"weight": np.rint(table / scale).astype(np.int8), "weight_scale": scale}
    params = params | {"embeddings": params["embeddings"] | {"word_embeddings": small}}
    from npdistil.compiled.encoder import CompiledEncoder
    from npdistil.engine import NumpyEncoder

    ids, bounds = texts([1, 1, 2])
    expected = NumpyEncoder(found.config, params, 1).encode(ids, bounds)
    got = CompiledEncoder(found.config, params, 1, 64).encode(ids, bounds)
    assert np.median(np.abs(got - expected)) < 1e-4


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_layer_that_is_packed_does_not_stay_in_memory(tmp_path: Path, precision: str) -> None:
    from npdistil.compiled.encoder import CompiledEncoder

    found = checkpoint(tmp_path)
    params = in_precision(found.params, precision)
    found.release()
    weights = [weakref.ref(each["weight"]) for layer in params["layer"] for each in layer["ffn"].values()]
    assert all(weight() is not None for weight in weights)
    one = CompiledEncoder(found.config, params, 1, 64)
    assert [weight() for weight in weights] == [None] * len(weights)
    assert params["layer"] == []
    assert np.isfinite(one.encode(*texts([3]))).all()


def test_only_wanted_rows_come_out_and_they_are_the_same(tmp_path: Path) -> None:
    found = checkpoint(tmp_path, **SHAPES["many panels"])
    ids, bounds = texts([30, 1, 250, 4])
    one = encoder(found)
    whole = one.encode(ids, bounds)
    for rows in ([0], [284], [0, 30, 31, 281], [5, 6, 280], [*range(285)], [31]):
        wanted = np.array(rows)
        assert one.encode(ids, bounds, wanted).tobytes() == whole[wanted].tobytes()


def test_no_texts_and_no_wanted_rows(tmp_path: Path) -> None:
    one = encoder(checkpoint(tmp_path))
    assert one.encode(np.empty(0, np.int64), np.zeros(1, np.int64)).shape == (0, 8)
    ids, bounds = texts([3])
    assert one.encode(ids, bounds, np.empty(0, np.int64)).shape == (0, 8)


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 6, 7, 191, 192, 193, 400])
@pytest.mark.parametrize("outputs", [1, 2, 16, 63, 64, 65, 200])
def test_a_linear_layer_of_a_head(tmp_path: Path, rows: int, outputs: int) -> None:
    one = encoder(checkpoint(tmp_path, dim=24, n_heads=2))
    random = np.random.default_rng(0)
    x, weight, bias = (random.standard_normal(shape, np.float32) for shape in ((rows, 24), (outputs, 24), (outputs,)))
    close(one.linear(x, weight, bias), (x.astype(np.float64) @ weight.T + bias).astype(np.float32), 1e-5)


def test_a_row_of_a_linear_layer_has_the_same_bits_beside_others(tmp_path: Path) -> None:
    one = encoder(checkpoint(tmp_path, dim=24, n_heads=2))
    random = np.random.default_rng(0)
    x, weight, bias = (random.standard_normal(shape, np.float32) for shape in ((300, 24), (70, 24), (70,)))
    whole = one.linear(x, weight, bias)
    for i in (0, 1, 17, 299):
        assert one.linear(x[i : i + 1], weight, bias).tobytes() == whole[i : i + 1].tobytes()


BAD: dict[str, dict[str, Array]] = {
    "ids of another type": {"ids": np.zeros(5, np.int32)},
    "ids of two dimensions": {"ids": np.zeros((5, 1), np.int64)},
    "ids with gaps between": {"ids": np.zeros(10, np.int64)[::2]},
    "an id below 0": {"ids": np.array([0, 0, -1, 0, 0])},
    "an id beyond the vocabulary": {"ids": np.array([0, 0, 0, 0, 10_000])},
    "fewer ids than bounds say": {"ids": np.zeros(4, np.int64)},
    "more ids than bounds say": {"ids": np.zeros(6, np.int64)},
    "bounds of another type": {"bounds": np.array([0.0, 2.0, 5.0])},
    "no bounds": {"bounds": np.empty(0, np.int64)},
    "bounds that start late": {"bounds": np.array([1, 2, 5])},
    "bounds that go back": {"bounds": np.array([0, 6, 5])},
    "an empty text": {"bounds": np.array([0, 2, 2, 5])},
    "rows of another type": {"rows": np.array([0.0])},
    "a row below 0": {"rows": np.array([-1, 0])},
    "a row beyond the last": {"rows": np.array([0, 5])},
    "rows in another order": {"rows": np.array([2, 1])},
    "a row twice": {"rows": np.array([1, 1])},
    "rows with gaps between": {"rows": np.arange(4)[::2]},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_kernels_must_not_see_is_refused(tmp_path: Path, bad: dict[str, Array]) -> None:
    good = {"ids": np.zeros(5, np.int64), "bounds": np.array([0, 2, 5]), "rows": np.array([0, 2])}
    one = encoder(checkpoint(tmp_path))
    assert one.encode(**good).shape == (2, 8)
    with pytest.raises(InputError):
        one.encode(**(good | bad))


def test_a_text_longer_than_the_position_table_is_refused(tmp_path: Path) -> None:
    one = encoder(checkpoint(tmp_path))
    with pytest.raises(InputError, match="25 tokens"):
        one.encode(*texts([25]))


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 8), (3, 7), (3,)),
        ((2, 8), (3, 8), (4,)),
        ((8,), (3, 8), (3,)),
        ((2, 8), (3, 8, 1), (3,)),
    ],
    ids=str,
)
def test_linear_layers_that_do_not_fit_are_refused(tmp_path: Path, shapes: tuple[tuple[int, ...], ...]) -> None:
    one = encoder(checkpoint(tmp_path))
    x, weight, bias = (np.ones(shape, np.float32) for shape in shapes)
    with pytest.raises(InputError):
        one.linear(x, weight, bias)


def test_linear_layers_of_another_type_are_refused(tmp_path: Path) -> None:
    one = encoder(checkpoint(tmp_path))
    x, weight, bias = np.ones((2, 8)), np.ones((3, 8), np.float32), np.ones(3, np.float32)
    with pytest.raises(InputError, match="float64"):
        one.linear(x, weight, bias)


def test_auto_takes_the_compiled_engine_and_says_so(tmp_path: Path) -> None:
    found = checkpoint(tmp_path)
    model = npdistil.load(found.directory)
    assert model.engine == "compiled"
    assert "compiled" in repr(model)
    assert npdistil.load(found.directory, engine="numpy").engine == "numpy"


def test_both_engines_give_the_bundled_model_the_same_answers(bundled: Path) -> None:
    lines = ["I like you.", "What a mess.", "Not bad at all!", "", "the film " * 300]
    answers = [npdistil.load(bundled, engine=engine).predict_proba(lines) for engine in ("numpy", "compiled")]
    difference = float(np.abs(answers[0] - answers[1]).max())
    print(f"largest difference {difference:.1e}")
    assert difference < 0.03
