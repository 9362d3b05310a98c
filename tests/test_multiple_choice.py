"""Multiple choice: the best choice and the probabilities of all, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npdistil import pipeline
from npdistil.distilbert import heads
from npdistil.distilbert.encoder import softmax
from npdistil.errors import InputError

Make = Callable[..., Path]
ITEM: dict[str, Any] = {"text": "where is the film ?", "choices": ["in paris", "john", "very good , not bad", ""]}


@pytest.fixture
def choose(make: Make, engine: str) -> Any:
    return pipeline("multiple-choice", make(architectures=["DistilBertForMultipleChoice"]), engine=engine, threads=1)


def test_the_choice_with_the_largest_logit_is_given(choose: Any) -> None:
    model = choose.model
    ids = [model.tokenizer.encode(ITEM["text"], choice).ids for choice in ITEM["choices"]]
    first = np.stack([each[0] for each in model.hidden_states(ids)])
    logits = heads.multiple_choice(first, **model.checkpoint.head).astype(np.float64)
    answer = choose(ITEM)
    assert list(answer) == ["choice", "text", "scores"]
    assert answer["choice"] == logits.argmax()
    assert answer["text"] == ITEM["choices"][answer["choice"]]
    assert answer["scores"] == pytest.approx(softmax(logits).tolist(), abs=1e-6)
    assert sum(answer["scores"]) == pytest.approx(1)


def test_the_order_of_choices_changes_only_the_order_of_scores(choose: Any) -> None:
    answer = choose(ITEM)
    turned = choose(ITEM | {"choices": ITEM["choices"][::-1]})
    assert turned["text"] == answer["text"]
    assert turned["choice"] == 3 - answer["choice"]
    assert turned["scores"][::-1] == pytest.approx(answer["scores"], rel=1e-12)


def test_a_single_choice_is_certain(choose: Any) -> None:
    assert choose({"text": "a", "choices": ("john",)}) == {"choice": 0, "text": "john", "scores": [1.0]}


def test_lists_iterators_and_batches_give_the_same(choose: Any) -> None:
    items = [ITEM, {"text": "who ?", "choices": ["john", "paris"]}, {"text": "", "choices": ["a"]}]
    expected = [choose(item) for item in items]
    assert choose(items) == choose(items, batch_size=2) == expected
    lazy = choose(iter(items), batch_size=1)
    assert isinstance(lazy, Iterator)
    assert list(lazy) == expected
    assert choose([]) == []


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"text": "a"}, "question 0 is .*; expected"),
        ({"text": "a", "choices": []}, "expected"),
        ({"text": "a", "choices": "bc"}, "expected"),
        ({"text": "a", "choices": ["b", 5]}, "expected"),
        ({"text": "a", "choices": ["b"], "label": 0}, "expected"),
        ([ITEM, {"text": 5, "choices": ["b"]}], "question 1 is .*; expected"),
        ([ITEM, {"text": "a", "choices": ["\ud800"]}], "question 1 is .* without lone surrogates"),
        ({"text": "\ud800", "choices": ["a"]}, "question 0 is .* without lone surrogates"),
        ([ITEM, {"text": "good " * 40, "choices": ["a", "b c"]}], "question 1 and its longest choice have 45 tokens"),
        ("a", "expected a list of questions with their choices, found a string$"),
        ([ITEM, 5], "question 1 is 5; expected"),
        ([ITEM, None], "question 1 is missing: it is None; leave such rows out, or give them a dict"),
        (None, "an iterator of questions with their choices; found a NoneType"),
    ],
)
def test_wrong_inputs_are_refused(choose: Any, inputs: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        choose(inputs)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"top_k": 1}])
def test_wrong_settings_are_refused(choose: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        choose(ITEM, **settings)


def test_another_head_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="needs a DistilBertForMultipleChoice"):
        pipeline("multiple-choice", make(), engine="numpy")
