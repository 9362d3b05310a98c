"""Heads: what they compute, written out, and the shapes that they give."""

from typing import Any

import numpy as np
import pytest
import tiny

from npdistil.distilbert import encoder, heads

D, C, V, T = 6, 4, 9, 5


def layer(out: int, width: int = D, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "weight": random.normal(size=(out, width)).astype(np.float32),
        "bias": random.normal(size=out).astype(np.float32),
    }


HIDDEN = np.random.default_rng(7).normal(size=(T, D)).astype(np.float32)


def test_sequence_classification_is_two_layers_with_a_relu_between() -> None:
    first, second = layer(D), layer(C, seed=1)
    inner = HIDDEN @ first["weight"].T + first["bias"]
    assert (inner < 0).any()
    expected = inner.clip(min=0) @ second["weight"].T + second["bias"]
    assert heads.sequence_classification(HIDDEN, first, second) == pytest.approx(expected, abs=1e-6)


def test_multiple_choice_gives_one_logit_for_each_choice() -> None:
    first, second = layer(D), layer(1, seed=1)
    logits = heads.multiple_choice(HIDDEN, first, second)
    assert logits.shape == (T,)
    assert np.array_equal(logits, heads.sequence_classification(HIDDEN, first, second)[:, 0])


def test_token_classification_is_one_layer() -> None:
    classifier = layer(C)
    expected = HIDDEN @ classifier["weight"].T + classifier["bias"]
    assert heads.token_classification(HIDDEN, classifier) == pytest.approx(expected, abs=1e-6)


def test_question_answering_gives_starts_and_ends() -> None:
    outputs = layer(2)
    start, end = heads.question_answering(HIDDEN, outputs)
    both = HIDDEN @ outputs["weight"].T + outputs["bias"]
    assert start == pytest.approx(both[:, 0], abs=1e-6)
    assert end == pytest.approx(both[:, 1], abs=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_masked_lm_uses_the_models_activation(activation: str) -> None:
    transform, projector = layer(D), layer(V, seed=1)
    norm: encoder.Params = {"weight": np.ones(D, np.float32), "bias": np.zeros(D, np.float32)}
    inner = encoder.ACTIVATIONS[activation](HIDDEN @ transform["weight"].T + transform["bias"])
    expected = encoder.layer_norm(inner, **norm) @ projector["weight"].T + projector["bias"]
    assert heads.masked_lm(HIDDEN, transform, norm, projector, activation) == pytest.approx(expected, abs=1e-5)


def test_every_architecture_that_can_be_read_is_one_of_transformers() -> None:
    assert set(heads.SHAPES) == set(tiny.HEADS)


def test_heads_run_on_the_operator_that_they_are_given() -> None:
    seen: list[tuple[int, ...]] = []

    def spy(x: Any, weight: Any, bias: Any) -> Any:
        seen.append(weight.shape)
        return encoder.linear(x, weight, bias)

    heads.sequence_classification(HIDDEN, layer(D), layer(C), linear=spy)
    heads.token_classification(HIDDEN, layer(C), linear=spy)
    heads.question_answering(HIDDEN, layer(2), linear=spy)
    norm = {"weight": np.ones(D, np.float32), "bias": np.zeros(D, np.float32)}
    heads.masked_lm(HIDDEN, layer(D), norm, layer(V), "relu", linear=spy)
    assert seen == [(D, D), (C, D), (C, D), (2, D), (D, D), (V, D)]
