"""Token classification: aggregation as transformers has it, windows, words, and what is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders

import npdistil
from npdistil import pipeline
from npdistil.distilbert import heads
from npdistil.distilbert.encoder import softmax
from npdistil.errors import InputError
from npdistil.tasks.token_classification import STRATEGIES, aggregate, without_overlaps

Make = Callable[..., Path]
JOIN = decoders.WordPiece().decode
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
TEXT = "John lives in Paris, she lives in caf 123 !"
LONG = "john lives in paris and she hate the city . " * 8  # more tokens than 24 positions


@pytest.fixture
def ner(make: Make, engine: str) -> Any:
    directory = make(architectures=["DistilBertForTokenClassification"], id2label=dict(enumerate(LABELS)), seed=4)
    return pipeline("token-classification", directory, engine=engine, threads=1, ignore_labels=[], stride=6)


def token(word: str, start: int, scores: list[float], index: int = 1, subword: bool = False) -> dict[str, Any]:
    return {
        "word": word,
        "scores": np.array(scores),
        "start": start,
        "end": start + len(word.removeprefix("##")),
        "index": index,
        "is_subword": subword,
    }


def one_hot(label: str, score: float = 1.0) -> list[float]:
    return [score if each == label else 0.0 for each in LABELS]


# Aggregation


def test_entities_are_those_of_transformers_own_tests(shared_data: Path) -> None:
    path = shared_data / "tasks" / "token_classification_aggregate_cases.json"
    cases = json.loads(path.read_text(encoding="utf-8"))
    assert len(cases) == 11
    for case in cases:
        tokens = [each | {"scores": np.array(each["scores"])} for each in case["pre_entities"]]
        labels = [case["id2label"][str(i)] for i in range(len(case["id2label"]))]
        found = aggregate(tokens, case["strategy"], labels, JOIN)
        digits = 3 if case["rounded_3_decimals"] else 12
        assert [each | {"score": round(each["score"], digits)} for each in found] == case["expected"], case["test"]


def test_a_group_ends_where_the_class_changes_and_where_a_new_one_begins() -> None:
    labels = ["B-PER", "I-PER", "B-PER", "I-LOC", "I-LOC", "O", "O", "I-LOC", "B-LOC", "I-PER"]
    tokens = [token("ab", 3 * i, one_hot(label), i) for i, label in enumerate(labels)]
    found = [(each["entity_group"], each["start"], each["end"]) for each in aggregate(tokens, "simple", LABELS, JOIN)]
    assert found == [
        ("PER", 0, 5),
        ("PER", 6, 8),
        ("LOC", 9, 14),
        ("O", 15, 20),
        ("LOC", 21, 23),
        ("LOC", 24, 26),
        ("PER", 27, 29),
    ]


def test_a_groups_score_is_the_mean_of_its_parts() -> None:
    tokens = [token("a", 0, one_hot("B-PER", 0.5)), token("b", 2, one_hot("I-PER", 0.9))]
    (group,) = aggregate(tokens, "simple", LABELS, JOIN)
    assert group == {"entity_group": "PER", "score": pytest.approx(0.7), "word": "a b", "start": 0, "end": 3}


@pytest.mark.parametrize(
    ("strategy", "label", "score"), [("first", "B-PER", 0.6), ("max", "I-LOC", 0.7), ("average", "I-LOC", 0.45)]
)
def test_the_tokens_of_a_word_agree_as_the_strategy_says(strategy: str, label: str, score: float) -> None:
    tokens = [token("ca", 0, [0, 0.6, 0, 0.2, 0.2]), token("##fe", 2, [0.1, 0.2, 0, 0, 0.7], 2, subword=True)]
    (group,) = aggregate(tokens, strategy, LABELS, JOIN)
    assert group == {
        "entity_group": label[2:],
        "score": pytest.approx(score),
        "word": "cafe",
        "start": 0,
        "end": 4,
    }


def test_a_text_that_begins_inside_of_a_word_is_a_word() -> None:
    """As a window may."""
    (group,) = aggregate([token("##fe", 2, one_hot("I-LOC"), subword=True)], "first", LABELS, JOIN)
    assert (group["entity_group"], group["start"], group["end"]) == ("LOC", 2, 4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_tokens_give_no_entities(strategy: str) -> None:
    assert aggregate([], strategy, LABELS, JOIN) == []


@given(
    numbers=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12),
    strategy=st.sampled_from(STRATEGIES[1:]),
)
def test_groups_cover_every_token_once_and_in_order(numbers: list[tuple[int, bool]], strategy: str) -> None:
    tokens = [
        token("##x" if subword else "x", 2 * i, one_hot(LABELS[label]), i, subword)
        for i, (label, subword) in enumerate(numbers)
    ]
    found = aggregate(tokens, strategy, LABELS, JOIN)
    covered = [each for group in found for each in range(group["start"], group["end"], 2)]
    assert covered == [each["start"] for each in tokens]
    assert all(0 < group["score"] <= 1 for group in found)


# Overlaps of windows


def entity(start: int, end: int, score: float = 0.5) -> dict[str, Any]:
    return {"entity_group": "PER", "score": score, "word": "", "start": start, "end": end}


@pytest.mark.parametrize(
    ("entities", "kept"),
    [
        ([], []),
        ([(0, 2), (2, 4)], [(0, 2), (2, 4)]),
        ([(0, 4), (1, 3)], [(0, 4)]),
        ([(0, 2), (1, 5)], [(1, 5)]),
        ([(5, 7), (0, 2)], [(0, 2), (5, 7)]),
        ([(0, 3), (2, 5), (4, 9)], [(0, 3), (4, 9)]),
        ([(0, 2), (0, 2)], [(0, 2)]),
    ],
)
def test_of_entities_that_overlap_the_longer_is_kept(entities: list[Any], kept: list[Any]) -> None:
    found = without_overlaps([entity(*span) for span in entities])
    assert [(each["start"], each["end"]) for each in found] == kept


def test_of_two_of_the_same_length_the_higher_score_is_kept() -> None:
    for order in (1, -1):
        assert without_overlaps([entity(0, 2, 0.4), entity(1, 3, 0.6)][::order]) == [entity(1, 3, 0.6)]


# Whole texts


def test_each_token_has_its_likeliest_label_and_its_place(ner: Any) -> None:
    encoding = ner.model.tokenizer.encode(TEXT)
    (hidden,) = ner.model.hidden_states([encoding.ids])
    scores = softmax(heads.token_classification(hidden, **ner.model.checkpoint.head))
    found = ner(TEXT)
    assert [each["index"] for each in found] == [*range(1, len(encoding.ids) - 1)]
    for each in found:
        i = each["index"]
        assert list(each) == ["entity", "score", "index", "word", "start", "end"]
        assert each["entity"] == LABELS[scores[i].argmax()]
        assert each["score"] == pytest.approx(scores[i].max(), abs=1e-6)
        assert type(each["score"]) is float
        assert (each["start"], each["end"]) == encoding.offsets[i]
        assert each["word"] == encoding.tokens[i]


def test_an_unknown_word_stands_as_it_is_in_the_text(ner: Any) -> None:
    assert [each["word"] for each in ner("a ☃ b")] == ["a", "☃", "b"]


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
def test_groups_have_the_keys_of_transformers_and_lie_in_the_text(ner: Any, strategy: str) -> None:
    found = ner(TEXT, aggregation_strategy=strategy)
    assert found
    for group in found:
        assert list(group) == ["entity_group", "score", "word", "start", "end"]
        assert group["entity_group"] in ("O", "PER", "LOC")
        assert 0 <= group["start"] < group["end"] <= len(TEXT)
    assert found[-1]["end"] == len(TEXT)


def test_ignored_labels_are_left_out(ner: Any) -> None:
    everything = ner(TEXT)
    present = {each["entity"] for each in everything}
    assert len(present) > 1
    for label in present:
        assert ner(TEXT, ignore_labels=[label]) == [each for each in everything if each["entity"] != label]
    groups = ner(TEXT, aggregation_strategy="simple")
    assert ner(TEXT, aggregation_strategy="simple", ignore_labels=["PER"]) == [
        each for each in groups if each["entity_group"] != "PER"
    ]


def test_what_is_outside_is_left_out_by_default(ner: Any) -> None:
    task = pipeline("ner", ner.model)
    assert task(TEXT) == [each for each in ner(TEXT) if each["entity"] != "O"]


def test_lists_iterators_and_batches_give_the_same(ner: Any) -> None:
    texts = [TEXT, "", "a", LONG, "john"]
    expected = [ner(text) for text in texts]
    assert expected[1] == []
    assert ner(texts) == ner(texts, batch_size=2) == expected
    lazy = ner(iter(texts), batch_size=1)
    assert isinstance(lazy, Iterator)
    assert list(lazy) == expected
    assert ner([]) == []
    assert ner(["a"]) == [ner("a")]


def test_a_long_text_is_covered_by_its_windows(ner: Any) -> None:
    found = ner(LONG)
    places = [each["start"] for each in found]
    assert places == sorted(set(places))
    encoding = ner.model.tokenizer.encode(LONG)
    assert places == [start for start, end in encoding.offsets if end > start]
    assert [each["index"] for each in found] == [*range(1, len(encoding.ids) - 1)]


def test_a_long_text_needs_no_setting_however_few_positions_a_model_has(ner: Any) -> None:
    places = [each["start"] for each in pipeline("ner", ner.model, ignore_labels=[])(LONG)]
    assert places == [each["start"] for each in ner(LONG)]


def test_a_stride_of_all_positions_leaves_no_room(ner: Any) -> None:
    with pytest.raises(InputError, match="windows of 24 tokens with a stride of 22 leave"):
        ner(LONG, stride=22)
    assert ner("john", stride=22)


def test_words_are_kept_together_and_placed_in_the_joined_text(ner: Any) -> None:
    words = ["John", "lives", "in", "", "Paris", "x12"]
    for delimiter in (" ", "", "--"):
        joined = delimiter.join(words)
        (found,) = ner(words, is_split_into_words=True, delimiter=delimiter)
        tokens = [each["word"] for each in found]
        assert tokens == ["john", "lives", "in", "paris", "x", "##1", "##2"]
        assert [joined[each["start"] : each["end"]] for each in found] == ["John", "lives", "in", "Paris", *"x12"]


def test_several_texts_of_words(ner: Any) -> None:
    texts = [["John", "lives"], ["a"], []]
    assert ner(texts, is_split_into_words=True) == [ner([text], is_split_into_words=True)[0] for text in texts]


def test_one_list_of_words_gives_a_list_of_answers_as_in_transformers(ner: Any) -> None:
    words = ["John", "lives"]
    assert ner(words, is_split_into_words=True) == ner([words], is_split_into_words=True)
    assert [each["word"] for each in ner(words, is_split_into_words=True)[0]] == ["john", "lives"]
    assert ner([], is_split_into_words=True) == []


def test_none_leaves_what_the_pipeline_was_made_with(ner: Any) -> None:
    some = pipeline("ner", ner.model, ignore_labels=["LOC"], aggregation_strategy="simple")
    assert some(TEXT, ignore_labels=None, aggregation_strategy=None, stride=None, delimiter=None) == some(TEXT)
    assert pipeline("ner", ner.model, ignore_labels=None, delimiter=None)(TEXT) == pipeline("ner", ner.model)(TEXT)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"aggregation_strategy": "best"}, "aggregation_strategy is 'best'; known are none, simple"),
        ({"ignore_labels": "O"}, "ignore_labels is 'O'; expected a list of strings"),
        ({"is_split_into_words": "yes"}, "is_split_into_words is 'yes'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"grouped": True}, "unknown setting: grouped"),
    ],
)
def test_wrong_settings_are_refused(ner: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ner(TEXT, **settings)


@pytest.mark.parametrize("inputs", [None, 5, {"text": "a"}, [5], [["a", "b"]], "\ud800", [None], (5,)])
def test_inputs_that_are_no_text_are_refused(ner: Any, inputs: Any) -> None:
    with pytest.raises(InputError):
        ner(inputs)


@pytest.mark.parametrize("inputs", ["John lives", [["a", 5]], ["a", 5], [["a\ud800"]]])
def test_inputs_that_are_no_words_are_refused(ner: Any, inputs: Any) -> None:
    with pytest.raises(InputError):
        ner(inputs, is_split_into_words=True)


def test_another_head_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="needs a DistilBertForTokenClassification"):
        pipeline("ner", make(), engine="numpy")


def test_scores_do_not_depend_on_other_texts(ner: Any) -> None:
    texts = [TEXT, LONG, "a"]
    assert ner(texts) == [ner(text) for text in texts]
    assert isinstance(ner.model, npdistil.Model)
