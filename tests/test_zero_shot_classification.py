"""Zero-shot classification: entailment turned into scores, labels, templates, long premises, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npdistil import pipeline
from npdistil.distilbert.encoder import softmax
from npdistil.errors import InputError

Make = Callable[..., Path]
NLI = ("contradiction", "neutral", "entailment")
TEXT, LABELS = "I like the film", ["good", "bad", "boring"]
LONG = "the film was good and i like it , not bad at all . " * 5


def made(make: Make, labels: tuple[str, ...] = NLI, engine: str = "numpy", **settings: Any) -> Any:
    directory = make(id2label=dict(enumerate(labels)), max_position_embeddings=40)
    return pipeline("zero-shot-classification", directory, engine=engine, threads=1, **settings)


@pytest.fixture
def judge(make: Make, engine: str) -> Any:
    return made(make, engine=engine)


def logits(judge: Any, text: str, labels: list[str], template: str = "This example is {}.") -> Any:
    """float64 [labels, 3]."""
    encode = judge.model.tokenizer.encode
    return judge.model.logits([encode(text, template.format(each)).ids for each in labels]).astype(np.float64)


def by_label(answer: dict[str, Any]) -> dict[str, float]:
    return dict(zip(answer["labels"], answer["scores"], strict=True))


def test_labels_compete_by_their_entailment(judge: Any) -> None:
    answer = judge(TEXT, LABELS)
    assert list(answer) == ["sequence", "labels", "scores"]
    assert answer["sequence"] == TEXT
    expected = softmax(logits(judge, TEXT, LABELS)[:, 2])
    assert by_label(answer) == pytest.approx(dict(zip(LABELS, expected, strict=True)))
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    assert sum(answer["scores"]) == pytest.approx(1)
    assert {type(score) for score in answer["scores"]} == {float}


def test_with_multi_label_each_label_is_judged_alone(judge: Any) -> None:
    answer = by_label(judge(TEXT, LABELS, multi_label=True))
    expected = softmax(logits(judge, TEXT, LABELS)[:, [0, 2]])[:, 1]
    assert answer == pytest.approx(dict(zip(LABELS, expected, strict=True)))
    for label in LABELS:
        assert by_label(judge(TEXT, [label])) == pytest.approx({label: answer[label]})


@pytest.mark.parametrize(
    ("labels", "entailment", "contradiction"),
    [
        (("entailment", "neutral", "contradiction"), 0, -1),
        (("contradiction", "entailment", "neutral"), 1, 0),
        (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), 2, 0),
        (("not", "Entailed"), 1, 0),
        (("entail", "no"), 0, -1),
    ],
)
def test_entailment_is_found_by_its_name_and_contradiction_as_in_transformers(
    make: Make, labels: tuple[str, ...], entailment: int, contradiction: int
) -> None:
    judge = made(make, labels)
    rows = logits(judge, TEXT, LABELS)
    assert by_label(judge(TEXT, LABELS)) == pytest.approx(dict(zip(LABELS, softmax(rows[:, entailment]), strict=True)))
    alone = softmax(rows[:, [contradiction, entailment]])[:, 1]
    assert by_label(judge(TEXT, LABELS, multi_label=True)) == pytest.approx(dict(zip(LABELS, alone, strict=True)))


def test_labels_may_be_a_string_with_commas(judge: Any) -> None:
    assert judge(TEXT, " good,bad , boring,") == judge(TEXT, LABELS)
    assert judge(TEXT, candidate_labels="good,bad,boring") == judge(TEXT, tuple(LABELS))


def test_the_hypothesis_is_made_from_the_template(judge: Any) -> None:
    template = "it was {} !"
    expected = softmax(logits(judge, TEXT, LABELS, template)[:, 2])
    answer = judge(TEXT, LABELS, hypothesis_template=template)
    assert by_label(answer) == pytest.approx(dict(zip(LABELS, expected, strict=True)))
    assert answer != judge(TEXT, LABELS)


def test_labels_may_have_braces_and_templates_may_name_the_label_twice(judge: Any) -> None:
    labels = ["{}", "good", "{0}", "{"]
    assert sorted(judge(TEXT, labels)["labels"]) == sorted(labels)
    expected = softmax(logits(judge, TEXT, LABELS, "{0} is {0} , not {{ }}")[:, 2])
    answer = judge(TEXT, LABELS, hypothesis_template="{0} is {0} , not {{ }}")
    assert by_label(answer) == pytest.approx(dict(zip(LABELS, expected, strict=True)))


def test_a_label_of_a_list_may_be_empty_as_in_transformers(judge: Any) -> None:
    assert sorted(judge(TEXT, ["", "good"])["labels"]) == ["", "good"]


def test_a_long_premise_may_be_cut_instead(judge: Any) -> None:
    long, template = "the film was good and i like it " * 6, "{} ."
    cut = judge(long, LABELS, hypothesis_template=template, truncation=True)
    words = long.split()[: 40 - 3 - 2]  # beside special tokens and the hypothesis
    assert by_label(cut) == pytest.approx(by_label(judge(" ".join(words), LABELS, hypothesis_template=template)))
    assert cut["scores"] != judge(long, LABELS, hypothesis_template=template)["scores"]
    assert judge(TEXT, LABELS, truncation=True) == judge(TEXT, LABELS)


def test_settings_may_be_given_beforehand(make: Make) -> None:
    judge = made(make, candidate_labels=LABELS, multi_label=True)
    assert judge(TEXT) == judge(TEXT, LABELS, multi_label=True)
    assert judge(TEXT, ["good"])["labels"] == ["good"]


def test_lists_iterators_and_batches_give_the_same(judge: Any) -> None:
    texts = [TEXT, "", "a", LONG]
    expected = [judge(text, LABELS) for text in texts]
    assert judge(texts, LABELS) == judge(texts, LABELS, batch_size=3) == expected
    assert judge([TEXT], LABELS) == [judge(TEXT, LABELS)]
    lazy = judge(iter(texts), LABELS, batch_size=1)
    assert isinstance(lazy, Iterator)
    assert list(lazy) == expected


def test_a_long_premise_is_read_to_its_end(judge: Any) -> None:
    assert judge(LONG, LABELS) != judge(LONG + "very boring film", LABELS)
    assert judge(LONG, LABELS) != judge("hate " + LONG, LABELS)
    assert sum(judge(LONG, LABELS)["scores"]) == pytest.approx(1)


def test_a_hypothesis_that_leaves_no_room_is_refused(judge: Any) -> None:
    with pytest.raises(InputError, match="shorten the other text"):
        judge(LONG, ["good " * 40])


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([], "no label"),
        ("", "no label"),
        (" , ", "no label"),
        (5, "expected a string or a list of strings"),
        ([5], "expected a string or a list of strings"),
        (None, "expected a string or a list of strings"),
        (["\ud800"], "surrogate"),
    ],
)
def test_wrong_labels_are_refused(judge: Any, labels: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        judge(TEXT, labels)


def test_missing_labels_are_asked_for(judge: Any) -> None:
    with pytest.raises(InputError, match="candidate_labels are missing"):
        judge(TEXT)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hypothesis_template": "It is good."}, "expected one {}"),
        ({"hypothesis_template": "{} {}"}, "expected one {}"),
        ({"hypothesis_template": "{name}"}, "expected one {}"),
        ({"hypothesis_template": "It is about {{}}."}, "expected one {}"),
        ({"hypothesis_template": "It is about {0:.0}."}, "expected one {}"),
        ({"hypothesis_template": "It is about {:>9}."}, "expected one {}"),
        ({"hypothesis_template": "It is about {0.__class__}."}, "expected one {}"),
        ({"hypothesis_template": "{0} {}"}, "expected one {}"),
        ({"hypothesis_template": "}"}, "expected one {}"),
        ({"hypothesis_template": "{"}, "expected one {}"),
        ({"hypothesis_template": 5}, "expected a string"),
        ({"multi_label": "yes"}, "multi_label is 'yes'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"multi_class": "yes"}, "multi_label is 'yes'"),
    ],
)
def test_wrong_settings_are_refused(judge: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        judge(TEXT, LABELS, **settings)


@pytest.mark.parametrize("inputs", [None, 5, {"text": "a"}, [5], (5,), "\ud800"])
def test_wrong_inputs_are_refused(judge: Any, inputs: Any) -> None:
    with pytest.raises(InputError):
        judge(inputs, LABELS)


def test_a_model_without_entailment_is_refused_with_its_labels(make: Make) -> None:
    with pytest.raises(InputError, match="has the labels NEGATIVE, POSITIVE; zero-shot"):
        pipeline("zero-shot-classification", make(), engine="numpy")
