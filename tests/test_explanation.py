"""Explanations: what a word's value is, what the values add up to, and what is shown."""

import base64
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npdistil
from npdistil.cli import main
from npdistil.errors import InputError
from npdistil.model import Model
from npdistil.tasks.explanation import log_odds, wants_colour, words_of
from npdistil.text import tokenize

Make = Callable[..., Path]


@pytest.fixture
def model(make: Make) -> Model:
    return npdistil.load(make(), engine="numpy")


def odds_without(model: Model, text: str, left_out: set[int], label: int) -> float:
    """Straight from the definition: the text's tokens without those of some words."""
    (encoding,) = tokenize(model.checkpoint.tokenizer, [text])
    gone = {token for i, (_, _, tokens) in enumerate(words_of(text, encoding)) if i in left_out for token in tokens}
    ids = [token for i, token in enumerate(encoding.ids) if i not in gone]
    p = np.exp(model.logits([ids])[0].astype(np.float64))
    return float(np.log(p[label] / (p.sum() - p[label])))


def test_occlusion_is_the_log_odds_with_the_word_minus_those_without_it(model: Model) -> None:
    text = "the film is not bad"
    found = npdistil.explain(model, text, "POSITIVE")
    for i, word in enumerate(found.words):
        expected = odds_without(model, text, set(), 1) - odds_without(model, text, {i}, 1)
        assert word.value == pytest.approx(expected, abs=1e-6), word
    assert found.log_odds == pytest.approx(odds_without(model, text, set(), 1), abs=1e-6)
    assert found.base == pytest.approx(odds_without(model, text, {*range(5)}, 1), abs=1e-6)


def test_labels_with_one_name_keep_their_scores_and_can_be_asked_for(make: Make) -> None:
    plain = npdistil.load(make(id2label={0: "A", 1: "B", 2: "C"}), engine="numpy")
    double = npdistil.load(make(id2label={0: "A", 1: "B", 2: "A"}), engine="numpy")
    names = {"A": "A (0)", "B": "B", "C": "A (2)"}
    for label, name in names.items():
        expected, found = npdistil.explain(plain, "a good film", label), npdistil.explain(double, "a good film", name)
        assert found.label == name
        assert [*found.scores.items()] == [(names[each], score) for each, score in expected.scores.items()]
        assert found.words == expected.words
    with pytest.raises(InputError, match=r"label is 'A'; known are A \(0\), B, A \(2\)"):
        npdistil.explain(double, "a good film", "A")


def test_shapley_is_the_mean_over_all_orders_of_what_a_word_adds(model: Model) -> None:
    text = "not a bad film"
    found = npdistil.explain(model, text, "NEGATIVE", method="shapley")
    expected = np.zeros(4)
    orders = list(itertools.permutations(range(4)))
    for order in orders:
        for place, word in enumerate(order):
            before = odds_without(model, text, {*order[place:]}, 0)
            expected[word] += (odds_without(model, text, {*order[place + 1 :]}, 0) - before) / len(orders)
    np.testing.assert_allclose([word.value for word in found.words], expected, atol=1e-6)


@given(words=st.lists(st.sampled_from(["good", "bad", "not", "the", "film", "!"]), max_size=14))
def test_shapley_values_add_up_to_all_that_the_words_change(words: list[str], tiny_model: Model) -> None:
    found = npdistil.explain(tiny_model, " ".join(words), method="shapley", samples=4)
    assert len(found.words) == len(words)
    assert sum(word.value for word in found.words) == pytest.approx(found.log_odds - found.base, abs=1e-9)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    import tiny

    return npdistil.load(tiny.write(tmp_path_factory.mktemp("explained") / "model"), engine="numpy")


def test_the_same_text_is_explained_in_the_same_way_every_time(model: Model) -> None:
    text = " ".join(["good bad not film"] * 3)
    one, two = (npdistil.explain(model, text, method="shapley", samples=3) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I don't like 'it'!", ["I", "don't", "like", "'", "it", "'", "!"]),
        ("John\u2019s café, it's", ["John\u2019s", "café", ",", "it's"]),
        ("東京 good-bad", ["東", "京", "good", "-", "bad"]),
        ("  ", []),
        ("", []),
        ("'tis good'", ["'", "tis", "good", "'"]),
    ],
)
def test_words_are_those_of_the_tokenizer_with_apostrophes_inside(model: Model, text: str, words: list[str]) -> None:
    found = npdistil.explain(model, text)
    assert [word.text for word in found.words] == words
    assert [text[word.start : word.end] for word in found.words] == words


def test_scores_and_attention_are_those_of_the_model(model: Model) -> None:
    text = "a great film"
    found = npdistil.explain(model, text, attention=True)
    (encoding,) = tokenize(model.checkpoint.tokenizer, [text])
    assert found.tokens == encoding.tokens
    np.testing.assert_array_equal(found.attention, model.attentions([encoding.ids])[0])
    labels = npdistil.pipeline("text-classification", model)(text, top_k=None)
    assert found.scores == {each["label"]: each["score"] for each in labels}
    assert found.label == labels[0]["label"]


def test_log_odds_of_labels_that_do_not_exclude_each_other_are_logits(make: Make) -> None:
    labels = {str(i): name for i, name in enumerate("abc")}
    logits = np.array([[1.0, -2.0, 0.5]])
    for problem, expected in (("multi_label_classification", -2.0), ("regression", -2.0), (None, None)):
        config = npdistil.load(make(id2label=labels, problem_type=problem), engine="numpy").config
        wanted = -2.0 - np.log(np.exp(1.0) + np.exp(0.5)) if expected is None else expected
        assert log_odds(logits, 1, config)[0] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "good " * 30}, "32 tokens"),
        ({"text": 3}, "text 0 is a int"),
        ({"text": "\ud800"}, "lone surrogate"),
        ({"text": "good", "label": "MAYBE"}, "known are NEGATIVE, POSITIVE"),
        ({"text": "good", "method": "magic"}, "known are occlusion, shapley"),
        ({"text": "good", "samples": 0}, "whole number from 1"),
    ],
)
def test_what_cannot_be_explained_is_refused(model: Model, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        npdistil.explain(model, **arguments)  # type: ignore[arg-type]


def test_a_model_without_classes_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="ExplanationTask needs a DistilBertForSequenceClassification"):
        npdistil.explain(npdistil.load(make(architectures=["DistilBertModel"]), engine="numpy"), "good")


def test_html_is_one_file_that_holds_everything_and_runs_nothing_of_the_text(make: Make) -> None:
    model = npdistil.load(make(max_position_embeddings=64), engine="numpy")
    page = npdistil.explain(model, "</script><script>alert(1)</script>", attention=True).as_html()
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert data
    found = json.loads(data[1])
    assert found["text"] == "</script><script>alert(1)</script>"
    assert len(base64.b64decode(found["attention"]["bytes"])) == np.prod(found["attention"]["shape"])
    assert "alert(1)" not in page.replace(data[0], "")
    assert not re.search(r"(src|href)\s*=", page), "it would need another file"
    assert "function showWords" in page
    assert ".word" in page


def test_the_command_prints_words_with_values(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--model", str(make()), "--engine", "numpy", "not bad", "good"]) == 0
    shown = capsys.readouterr().out
    assert re.fullmatch(
        r"(POSI|NEGA)TIVE 0\.\d{4}\n +[+-]\d\.\d{3}  not\n +[+-]\d\.\d{3}  bad\n\n"
        r"(POSI|NEGA)TIVE 0\.\d{4}\n +[+-]\d\.\d{3}  good\n",
        shown,
    ), shown


def test_colours_are_for_terminals(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    found = npdistil.explain(model, "not bad")
    assert "\033[" in found.as_text(colour=True)
    assert "\033[" not in found.as_text()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(True)


def test_the_command_gives_json_with_attention(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["explain", "--model", str(make()), "--engine", "numpy", "--format", "json", "--attention", "good film"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert np.shape(found["attention"]) == (2, 2, 4, 4)
    np.testing.assert_allclose(np.sum(found["attention"], axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attention", "good"], "--attention goes with --format json"),
        (["--format", "html", "a", "b"], "--format html takes one text"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == 2
    assert message in capsys.readouterr().err
