"""Fill mask: words and their probabilities, several masks, targets, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from npdistil import pipeline
from npdistil.distilbert import heads
from npdistil.distilbert.encoder import softmax
from npdistil.errors import InputError

Make = Callable[..., Path]
TEXT = "the [MASK] is good"
TWO = "[MASK] film is [MASK] !"


@pytest.fixture
def fill(make: Make, engine: str) -> Any:
    return pipeline("fill-mask", make(architectures=["DistilBertForMaskedLM"]), engine=engine, threads=1)


def probabilities(fill: Any, text: str) -> Any:
    """float64 [masks, V]."""
    encoding = fill.model.tokenizer.encode(text)
    (hidden,) = fill.model.hidden_states([encoding.ids])
    masks = [i for i, each in enumerate(encoding.tokens) if each == "[MASK]"]
    head, activation = fill.model.checkpoint.head, fill.model.config.activation
    return softmax(heads.masked_lm(hidden[masks], **head, activation=activation).astype(np.float64))


def test_a_mask_gets_its_five_likeliest_words_best_first(fill: Any) -> None:
    (expected,) = probabilities(fill, TEXT)
    answers = fill(TEXT)
    assert [each["token"] for each in answers] == (-expected).argsort()[:5].tolist()
    for each in answers:
        assert list(each) == ["score", "token", "token_str", "sequence"]
        assert each["score"] == pytest.approx(expected[each["token"]], rel=1e-4)
        assert [type(each[name]) for name in each] == [float, int, str, str]
        assert each["token_str"] == fill.model.tokenizer.decode([each["token"]])


def test_the_sequence_is_the_text_with_the_word_in_its_place(fill: Any) -> None:
    for word in ("film", "movie", "!"):
        (answer,) = fill(TEXT, targets=word)
        assert answer["token"] == tiny.VOCABULARY.index(word)
        assert answer["token_str"] == word
    assert fill(TEXT, targets="film")[0]["sequence"] == "the film is good"


def test_several_masks_get_a_list_each_that_shows_the_others(fill: Any) -> None:
    first, second = fill(TWO, targets=["good", "bad"])
    assert {each["sequence"] for each in first} == {f"[CLS] {word} film is [MASK]! [SEP]" for word in ("good", "bad")}
    assert {each["sequence"] for each in second} == {f"[CLS] [MASK] film is {word}! [SEP]" for word in ("good", "bad")}
    expected = probabilities(fill, TWO)
    for row, answers in zip(expected, (first, second), strict=True):
        for each in answers:
            assert each["score"] == pytest.approx(row[each["token"]], rel=1e-4)


def test_top_k_is_how_many(fill: Any) -> None:
    assert len(fill(TEXT, top_k=1)) == 1
    everything = fill(TEXT, top_k=10**6)
    assert len(everything) == len(tiny.VOCABULARY)
    assert sum(each["score"] for each in everything) == pytest.approx(1, abs=1e-5)
    assert everything[:5] == fill(TEXT)


def test_targets_have_their_scores_among_all_words(fill: Any) -> None:
    everything = {each["token_str"]: each for each in fill(TEXT, top_k=10**6)}
    answers = fill(TEXT, targets=["bad", "film", "good", "film"])
    assert sorted(each["token_str"] for each in answers) == ["bad", "film", "good"]
    assert all(each == everything[each["token_str"]] for each in answers)
    assert [each["score"] for each in answers] == sorted((each["score"] for each in answers), reverse=True)
    assert (
        fill(TEXT, targets=["bad", "film"], top_k=1)
        == sorted(fill(TEXT, targets=["bad", "film"]), key=lambda each: -each["score"])[:1]
    )


def test_a_target_is_read_as_the_tokenizer_does(fill: Any) -> None:
    assert fill(TEXT, targets="FILM") == fill(TEXT, targets="film")
    assert fill(TEXT, targets="##t")[0]["token"] == tiny.VOCABULARY.index("##t")


@pytest.mark.parametrize("targets", ["caf1", ["film", "xyz"], "", [""], [5], [None], [], "a film"])
def test_a_target_that_is_not_one_word_of_the_vocabulary_is_refused(fill: Any, targets: Any) -> None:
    with pytest.raises(InputError, match="target"):
        fill(TEXT, targets=targets)
    with pytest.raises(InputError, match="target"):
        pipeline("fill-mask", fill.model, targets=targets)


def test_an_untied_projector_is_used(make: Make) -> None:
    settings: dict[str, Any] = {"architectures": ["DistilBertForMaskedLM"]}
    tied, untied = (
        pipeline("fill-mask", make(**settings, tie_word_embeddings=each), engine="numpy") for each in (True, False)
    )
    (expected,) = probabilities(untied, TEXT)
    assert untied(TEXT)[0]["score"] == pytest.approx(expected.max(), rel=1e-5)
    assert untied(TEXT) != tied(TEXT)


def test_lists_iterators_and_batches_give_the_same(fill: Any) -> None:
    texts = [TEXT, TWO, "[MASK]"]
    expected = [fill(text) for text in texts]
    assert fill(texts) == fill(texts, batch_size=1) == expected
    lazy = fill(iter(texts), batch_size=2)
    assert isinstance(lazy, Iterator)
    assert list(lazy) == expected
    assert fill([]) == []


def test_a_list_of_one_text_is_as_that_text_as_in_transformers(fill: Any) -> None:
    assert fill([TEXT]) == fill(TEXT)


@pytest.mark.parametrize("given", [{"truncation": True}, {"tokenizer_kwargs": {"truncation": True}}])
def test_a_long_text_is_cut_where_that_is_asked_for(fill: Any, given: dict[str, Any]) -> None:
    rest = " good" * 40
    kept = TEXT + rest[: 5 * (24 - len(fill.tokenizer.encode(TEXT).ids))]
    assert len(fill.tokenizer.encode(kept).ids) == 24
    assert fill(TEXT + rest, **given) == fill(kept)
    assert fill(TEXT, **given) == fill(TEXT)
    with pytest.raises(InputError, match=r"text 0 has no \[MASK\] in what is left of it"):
        fill(rest + " [MASK]", **given)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ("the film is good", r"text 0 has no \[MASK\]"),
        ([TEXT, "a"], r"text 1 has no \[MASK\]"),
        ("", r"text 0 has no \[MASK\]"),
        ("good " * 40 + "[MASK]", "text 0 has 43 tokens; the model takes 1 to 24"),
        ("[MASK] \ud800", "surrogate"),
        (None, "found a NoneType"),
        ([5], "text 0 is a int"),
    ],
)
def test_wrong_inputs_are_refused(fill: Any, inputs: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        fill(inputs)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"topk": 1}, "unknown setting: topk"),
        ({"targets": 5}, "target"),
    ],
)
def test_wrong_settings_are_refused(fill: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        fill(TEXT, **settings)


def test_another_head_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="needs a DistilBertForMaskedLM"):
        pipeline("fill-mask", make(), engine="numpy")
