"""A loaded model: logits, hidden states, predictions as scikit-learn has them, long texts, and what is refused."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

import npdistil
from npdistil.distilbert import encoder, heads
from npdistil.distilbert.encoder import sigmoid, softmax
from npdistil.errors import CheckpointError, InputError
from npdistil.model import load
from npdistil.tasks.text_classification import TextClassification
from npdistil.text import laid_out, parts

Make = Callable[..., Path]
TEXTS = ["I like it!", "the film is boring", "", "a", "the movie was very good . not bad ?"]
FIVE = {str(i): name for i, name in enumerate(("anger", "fear", "joy", "love", "none"))}
LONG = "the film was good and i like it , not bad at all . " * 20  # far more tokens than 24 positions


@pytest.fixture
def small(make: Make, engine: str) -> npdistil.Model:
    return load(make(), engine=engine, threads=1)


def ids(loaded: npdistil.Model, texts: list[str]) -> list[list[int]]:
    return [loaded.tokenizer.encode(text).ids for text in texts]


# Token ids in


def test_logits_are_float32_one_row_a_text(small: npdistil.Model) -> None:
    logits = small.logits(ids(small, TEXTS))
    assert logits.shape == (5, 2)
    assert logits.dtype == np.float32


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_layers_states_end_in_the_hidden_states(make: Make, precision: str) -> None:
    small = load(make(), engine="numpy", precision=precision)
    rows = ids(small, TEXTS)
    for states, last in zip(small.all_hidden_states(rows), small.hidden_states(rows), strict=True):
        assert states.shape == (small.config.n_layers + 1, *last.shape)
        assert np.array_equal(states[-1], last)


def test_attentions_are_shares_of_all_tokens_in_each_layer_and_head(small: npdistil.Model) -> None:
    rows = ids(small, TEXTS)
    for row, weights in zip(rows, small.attentions(rows), strict=True):
        assert weights.shape == (small.config.n_layers, small.config.n_heads, len(row), len(row))
        assert weights.dtype == np.float32
        assert weights.min() >= 0
        assert np.allclose(weights.sum(axis=-1), 1)
    assert small.attentions([]) == small.all_hidden_states([]) == []


def test_logits_are_the_heads_answer_to_the_first_hidden_states(small: npdistil.Model) -> None:
    rows = ids(small, TEXTS)
    first = np.stack([states[0] for states in small.hidden_states(rows)])
    expected = heads.sequence_classification(first, **small.checkpoint.head)
    assert small.logits(rows) == pytest.approx(expected, abs=2e-6)


def test_hidden_states_are_float32_one_array_a_text(small: npdistil.Model) -> None:
    states = small.hidden_states([[2, 5, 3], [2], list(range(24))])
    assert [each.shape for each in states] == [(3, 8), (1, 8), (24, 8)]
    assert {each.dtype for each in states} == {np.dtype(np.float32)}


def test_the_numpy_engine_runs_the_specification(make: Make) -> None:
    loaded = load(make(), engine="numpy")
    (row,) = ids(loaded, ["the film is good"])
    config = loaded.config
    expected = encoder.encode(
        np.array(row),
        np.array([0, len(row)]),
        **loaded.checkpoint.params,
        n_heads=config.n_heads,
        activation=config.activation,
    )
    assert np.array_equal(loaded.hidden_states([row])[0], expected)


def test_no_texts_give_empty_results(small: npdistil.Model) -> None:
    assert small.logits([]).shape == (0, 2)
    assert small.hidden_states([]) == []
    assert small.predict([]).shape == (0,)
    assert small.predict_proba([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("token_ids", "says"),
    [
        ([[2, 3], []], "text 1 has 0 tokens; the model takes 1 to 24"),
        ([[2] * 25], "text 0 has 25 tokens; the model takes 1 to 24"),
        ([[2], [2, -1]], "text 1 has the token id -1"),
        ([[2, 10**6]], "text 0 has the token id 1000000"),
        ([[2**63]], "text 0 has the token id 9223372036854775808"),
        ([[2, 2**63]], "text 0"),
        ([[2, 2**64]], "text 0 is not a flat list of whole numbers"),
        ([[2, 3.0]], "text 0 is not a flat list of whole numbers"),
        ([[2, True, None]], "text 0 is not a flat list of whole numbers"),
        ([[True]], "text 0 is not a flat list of whole numbers"),
        ([[[2, 3]]], "text 0 is not a flat list of whole numbers"),
        ([[2, [3]]], "text 0 is not a flat list of whole numbers"),
        ([2, 3], "text 0 is not a flat list of whole numbers: put the token ids of a single text in a list"),
        ({"input_ids": [[2, 3]]}, "found a dict; give its input_ids"),
        ("I like it", "found a string"),
    ],
)
def test_bad_token_ids_are_refused_and_say_which(small: npdistil.Model, token_ids: Any, says: str) -> None:
    for run in (small.logits, small.hidden_states):
        with pytest.raises(InputError, match=says):
            run(token_ids)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_arrays_of_any_whole_numbers_are_token_ids(small: npdistil.Model, kind: Any) -> None:
    row = [2, 5, 9, 3]
    one: Any = np.array(row, kind)
    two: Any = np.array([row, row], kind)
    assert np.array_equal(small.logits([one]), small.logits([row]))
    assert np.array_equal(small.logits(two), small.logits([row, tuple(row)]))


def test_logits_need_a_classifiers_head(make: Make) -> None:
    loaded = load(make(architectures=["DistilBertForTokenClassification"]), engine="numpy")
    with pytest.raises(InputError, match="DistilBertForTokenClassification; text classification needs a"):
        loaded.logits([[2, 3]])
    assert loaded.hidden_states([[2, 3]])[0].shape == (2, 8)


# Predictions


def test_probabilities_are_the_softmax_of_the_logits(small: npdistil.Model) -> None:
    probabilities = small.predict_proba(TEXTS)
    assert probabilities.shape == (5, 2)
    assert probabilities.dtype == np.float64
    assert np.array_equal(probabilities, softmax(small.logits(ids(small, TEXTS)).astype(np.float64)))
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-15)


def test_predictions_are_the_likeliest_classes_by_name(make: Make, engine: str) -> None:
    loaded = load(make(id2label=FIVE), engine=engine, threads=1)
    assert loaded.classes_.tolist() == list(FIVE.values())
    predictions = loaded.predict(TEXTS)
    assert predictions.dtype.kind == "U"
    assert predictions.tolist() == [loaded.classes_[row.argmax()] for row in loaded.predict_proba(TEXTS)]


def test_a_multi_label_model_predicts_which_labels_hold(make: Make) -> None:
    loaded = load(make(id2label=FIVE, problem_type="multi_label_classification"), engine="numpy")
    probabilities = loaded.predict_proba(TEXTS)
    assert np.array_equal(probabilities, sigmoid(loaded.logits(ids(loaded, TEXTS)).astype(np.float64)))
    held = loaded.predict(TEXTS)
    assert held.shape == (5, 5)
    assert held.dtype == np.bool_
    assert np.array_equal(held, probabilities >= 0.5)


def test_a_label_holds_from_one_half_on(make: Make) -> None:
    settings: dict[str, Any] = {"id2label": dict(enumerate("abc")), "problem_type": "multi_label_classification"}
    arrays = tiny.tensors(tiny.config(**settings))
    arrays["classifier.weight"][:], arrays["classifier.bias"][:] = 0, [-0.1, 0, 0.1]
    loaded = load(make(**settings, arrays=arrays), engine="numpy")
    assert loaded.predict_proba(TEXTS)[0] == pytest.approx([0.475, 0.5, 0.525], abs=1e-4)
    assert loaded.predict(TEXTS).tolist() == [[False, True, True]] * 5


def test_a_regression_has_scores_but_no_probabilities(make: Make) -> None:
    loaded = load(make(id2label={"0": "stars"}, problem_type="regression"), engine="numpy")
    assert np.array_equal(loaded.scores(TEXTS), loaded.logits(ids(loaded, TEXTS)).astype(np.float64))
    for run in (loaded.predict, loaded.predict_proba):
        with pytest.raises(InputError, match="regression"):
            run(TEXTS)


def test_a_pair_is_a_tuple(small: npdistil.Model) -> None:
    pair = small.tokenizer.encode("who lives in paris ?", "john").ids
    expected = softmax(small.logits([pair]).astype(np.float64))
    assert np.array_equal(small.predict_proba([("who lives in paris ?", "john")]), expected)


@pytest.mark.parametrize("container", [tuple, iter, np.array, lambda texts: (text for text in texts)])
def test_texts_come_in_any_container(small: npdistil.Model, container: Callable[[list[str]], Any]) -> None:
    assert small.predict(container(TEXTS)).tolist() == small.predict(TEXTS).tolist()


def test_scikit_learns_metrics_take_predictions_and_probabilities(small: npdistil.Model) -> None:
    """scikit-learn sorts labels by name, and these labels are in that order."""
    predictions, probabilities = small.predict(TEXTS), small.predict_proba(TEXTS)
    assert accuracy_score(predictions, predictions) == 1
    truth = ["NEGATIVE", "POSITIVE", "NEGATIVE", "POSITIVE", "NEGATIVE"]
    expected = sum(a == b for a, b in zip(truth, predictions.tolist(), strict=True)) / 5
    assert accuracy_score(truth, predictions) == pytest.approx(expected)
    chances = [row[truth[i] == "POSITIVE"] for i, row in enumerate(probabilities.tolist())]
    assert log_loss(truth, probabilities, labels=small.classes_) == pytest.approx(-np.log(chances).mean())
    positive = probabilities[:, list(small.classes_).index("POSITIVE")]
    assert 0 <= roc_auc_score([t == "POSITIVE" for t in truth], positive) <= 1


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ("I like it", "expected a list of texts, found a string"),
        (["good", 5], "text 1 is a int: 5; expected a string, or a pair"),
        (["good", None], "text 1 is missing: it is None"),
        ([b"good"], "text 0 is a bytes"),
        ([["good", "bad"]], "text 0 is a list"),
        ([("a", "b", "c")], "text 0 is a tuple"),
        ([("a", 1)], "text 0 is a int"),
        (["good", "bad \ud800"], r"text 1 has the lone surrogate U\+D800 at character 4"),
        ([("good", "\udfff")], r"text 0 has the lone surrogate U\+DFFF at character 0"),
    ],
)
def test_bad_texts_are_refused_and_say_which(small: npdistil.Model, texts: Any, says: str) -> None:
    for run in (small.predict, small.predict_proba):
        with pytest.raises(InputError, match=says):
            run(texts)


def test_a_texts_bits_do_not_depend_on_its_neighbours(make: Make, engine: str) -> None:
    for precision in ("float32", "int8"):
        loaded = load(make(), engine=engine, precision=precision, threads=1)
        texts = [*TEXTS, LONG]
        alone = np.concatenate([loaded.predict_proba([text]) for text in texts])
        assert loaded.predict_proba(texts).tobytes() == alone.tobytes()
        assert loaded.predict_proba(texts[::-1])[::-1].tobytes() == alone.tobytes()


def test_many_threads_may_use_one_model(small: npdistil.Model) -> None:
    expected = small.predict_proba(TEXTS).tobytes()
    with ThreadPoolExecutor(4) as callers:
        found = [*callers.map(lambda _: small.predict_proba(TEXTS).tobytes(), range(20))]
    assert found == [expected] * 20


# Long texts


def window_scores(loaded: npdistil.Model, text: str, length: int, stride: int) -> Any:
    rows = laid_out([parts(loaded.tokenizer.encode(text), length, stride)]).token_ids
    return softmax(loaded.logits(rows).astype(np.float64))


def test_a_long_text_is_scored_by_the_mean_of_its_windows(small: npdistil.Model) -> None:
    scores = window_scores(small, LONG, 24, 6)
    assert len(scores) > 10
    assert small.predict_proba([LONG]) == pytest.approx(scores.mean(axis=0)[None])


@pytest.mark.parametrize(("combine", "index"), [("mean", None), ("max", None), ("first", 0)])
def test_windows_are_combined_as_asked(small: npdistil.Model, combine: str, index: int | None) -> None:
    scores = window_scores(small, LONG, 16, 3)
    expected = scores[index] if index is not None else {"mean": scores.mean(axis=0), "max": scores.max(axis=0)}[combine]
    found = small.scores([LONG, "good"], max_length=16, stride=3, combine=combine)
    assert found[0] == pytest.approx(expected)
    assert found[1] == pytest.approx(small.predict_proba(["good"])[0])


def test_truncation_reads_the_first_tokens_with_the_special_ones_around(small: npdistil.Model) -> None:
    whole = small.tokenizer.encode(LONG).ids
    for length in (4, 10, 24):
        expected = softmax(small.logits([[*whole[: length - 1], whole[-1]]]).astype(np.float64))
        assert np.array_equal(small.scores([LONG], long_text="truncate", max_length=length), expected)
    assert TextClassification(small.checkpoint, long_text="truncate").preprocess([LONG]).context[0][0].truncated
    assert not TextClassification(small.checkpoint, long_text="truncate").preprocess(["good"]).context[0][0].truncated


def test_a_long_text_is_an_error_where_that_is_asked_for(small: npdistil.Model) -> None:
    count = len(small.tokenizer.encode(LONG).ids)
    with pytest.raises(InputError, match=f"text 1 has {count} tokens; 24 are allowed"):
        small.scores(["good", LONG], long_text="error")
    with pytest.raises(InputError, match="tokens; 5 are allowed"):
        small.scores(["the film is good"], long_text="error", max_length=5)
    assert small.scores(["good"], long_text="error").shape == (1, 2)


def test_many_texts_are_scored_some_at_a_time_and_errors_say_where(small: npdistil.Model) -> None:
    texts = ["good", "bad film", "a"] * 3
    assert np.array_equal(small.scores(texts, batch_size=2), small.scores(texts))
    with pytest.raises(InputError, match="text 7 is missing"):
        small.scores([*texts[:7], None], batch_size=2)
    with pytest.raises(InputError, match="from text 6 on, text 1 has 12 tokens; 6 are allowed"):
        small.scores([*texts[:7], "a " * 10], batch_size=2, long_text="error", max_length=6)


def test_sentences_are_scored_one_by_one(small: npdistil.Model) -> None:
    text = "I like it. The film is boring!\nvery very bad"
    expected = small.predict_proba(["I like it.", "The film is boring!", "very very bad"])
    assert small.scores([text], long_text="sentences") == pytest.approx(expected.mean(axis=0)[None])
    (cut,) = TextClassification(small.checkpoint, long_text="sentences").preprocess([text]).context
    assert [text[slice(*part.span())] for part in cut] == ["I like it.", "The film is boring!", "very very bad"]
    with pytest.raises(InputError, match="pairs cannot be read by sentences"):
        small.scores([("a", "b")], long_text="sentences")


def test_every_character_of_a_long_text_is_in_a_window(small: npdistil.Model) -> None:
    (cut,) = TextClassification(small.checkpoint, max_length=20, stride=5).preprocess([LONG]).context
    spans = [part.span() for part in cut]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(LONG.rstrip())
    assert all(after[0] < before[1] for before, after in pairwise(spans))
    assert {len(part.positions) for part in cut} == {20}


def test_a_text_of_exactly_as_many_tokens_as_fit_is_whole(small: npdistil.Model) -> None:
    for words, count in ((22, 1), (23, 2)):
        (cut,) = TextClassification(small.checkpoint).preprocess([" ".join(["good"] * words)]).context
        assert len(cut) == count


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"long_text": "split"}, "long_text is 'split'; known are windows, sentences, truncate, error"),
        ({"combine": "median"}, "combine is 'median'; known are mean, max, first"),
        ({"function_to_apply": "tanh"}, "known are none, sigmoid, softmax"),
        ({"max_length": 3}, "max_length is 3; expected a whole number from 4"),
        ({"max_length": 25}, "max_length is 25"),
        ({"max_length": 10.0}, "max_length is 10.0"),
        ({"max_length": True}, "max_length is True"),
        ({"stride": -1}, "stride is -1"),
        ({"stride": 1.5}, "stride is 1.5"),
        ({"stride": 22}, "stride of 22"),
    ],
)
def test_impossible_settings_are_refused(small: npdistil.Model, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        small.scores([LONG], **settings)


# Loading


def test_engine_precision_and_threads_are_as_asked(make: Make, engine: str) -> None:
    for precision in ("float32", "int8"):
        loaded = load(make(), engine=engine, precision=precision, threads=2)
        assert (loaded.engine, loaded.precision, loaded.threads) == (engine, precision, 2)
        assert repr(loaded).endswith(f": {engine}, {precision}>")


def test_precision_is_by_default_that_of_the_checkpoint(make: Make, tmp_path: Path) -> None:
    source = make()
    npdistil.quantize_checkpoint(source, tmp_path / "int8")
    assert load(source, engine="numpy").precision == "float32"
    assert load(make(dtype="F16"), engine="numpy").precision == "float32"
    assert load(tmp_path / "int8", engine="numpy").precision == "int8"
    assert load(tmp_path / "int8", engine="numpy", precision="float32").precision == "float32"


def test_precisions_are_near_each_other_and_not_the_same(make: Make, engine: str) -> None:
    directory = make(dim=32, hidden_dim=64)
    exact, coarse = (load(directory, engine=engine, precision=p, threads=1) for p in ("float32", "int8"))
    difference = np.abs(exact.predict_proba(TEXTS) - coarse.predict_proba(TEXTS)).max()
    print(f"{engine}: int8 moves a probability by at most {difference:.1e}")
    assert 0 < difference < 0.1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"engine": "onnx"}, "engine is 'onnx'; known are auto, numpy, compiled"),
        ({"precision": "float16"}, "precision is 'float16'; known are float32, int8"),
        ({"precision": 8}, "precision is 8"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": "two"}, "threads is 'two'"),
    ],
)
def test_unknown_engines_precisions_and_threads_are_refused(make: Make, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        load(make(), **settings)


def test_misspelt_arguments_are_refused(make: Make) -> None:
    with pytest.raises(TypeError, match="precison"):
        load(make(), precison="int8")  # type: ignore[call-arg]


def test_a_path_may_be_a_string_or_a_path(make: Make) -> None:
    directory = make()
    assert load(str(directory), engine="numpy").predict(["good"]) == load(directory, engine="numpy").predict(["good"])


def test_a_model_without_a_tokenizer_takes_token_ids_and_says_why_not_texts(make: Make) -> None:
    loaded = load(make(tokenizer=None), engine="numpy")
    assert loaded.logits([[2, 5, 3]]).shape == (1, 2)
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor vocab\.txt"):
        loaded.predict(["good"])


def test_the_bundled_model_knows_love_from_hate(bundled: Path, engine: str) -> None:
    loaded = load(engine=engine)
    assert loaded.checkpoint.directory == bundled
    assert loaded.precision == "int8"
    assert loaded.predict(["I love it.", "I hate it."]).tolist() == ["POSITIVE", "NEGATIVE"]


def test_a_loaded_model_maps_no_page_of_its_file(make: Make, engine: str) -> None:
    """A file that is written over would change the answers, and one that is cut short would end the process."""
    directory = make(dim=128, hidden_dim=4096)
    loaded = load(directory, engine=engine)
    held, mapping = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            mapping = line.endswith(str(directory / "model.safetensors"))
        elif mapping and line.startswith("Rss:"):
            held += int(line.split()[1]) * 1024
    print(f"{held:,} of {loaded.checkpoint.size:,} bytes")
    assert held == 0
