"""Feature extraction and embeddings: shapes, pooling, scikit-learn's pipelines, and what is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import npdistil
from npdistil import Embedder, pipeline
from npdistil.errors import CheckpointError, InputError
from npdistil.tasks.embedding import Embedding

Make = Callable[..., Path]
TEXTS = ["I like it!", "", "the film was boring", "a"]
LONG = "the film was good and i like it , not bad at all . " * 5


@pytest.fixture
def loaded(make: Make, engine: str) -> npdistil.Model:
    return npdistil.load(make(architectures=["DistilBertModel"]), engine=engine, threads=1)


@pytest.fixture
def extract(loaded: npdistil.Model) -> Any:
    return pipeline("feature-extraction", loaded)


def states(loaded: npdistil.Model, text: str) -> Any:
    return loaded.hidden_states([loaded.tokenizer.encode(text).ids])[0]


# The pipeline


def test_a_text_gives_its_hidden_states_as_nested_lists(extract: Any) -> None:
    found = extract("I like it!")
    assert found == states(extract.model, "I like it!")[None].tolist()
    assert (len(found), len(found[0]), len(found[0][0])) == (1, 6, 8)


def test_arrays_are_given_where_asked_for(extract: Any) -> None:
    found = extract("a", return_tensors=True)
    assert (found.shape, found.dtype) == ((1, 3, 8), np.float32)
    assert found.tolist() == extract("a")


def test_lists_iterators_and_batches_give_the_same(extract: Any) -> None:
    expected = [extract(text) for text in TEXTS]
    assert extract(TEXTS) == extract(TEXTS, batch_size=3) == expected
    lazy = extract(iter(TEXTS), batch_size=1)
    assert isinstance(lazy, Iterator)
    assert list(lazy) == expected


def test_a_long_text_is_refused_or_cut_as_asked(extract: Any) -> None:
    with pytest.raises(InputError, match=r"tokens; the model takes 1 to 24"):
        extract(LONG)
    (rows,) = extract(LONG, truncation=True)
    ids = extract.model.tokenizer.encode(LONG).ids
    assert rows == extract.model.hidden_states([[*ids[:23], ids[-1]]])[0].tolist()


@pytest.mark.parametrize("architecture", sorted(tiny.HEADS))
def test_a_model_with_any_head_will_do(make: Make, architecture: str) -> None:
    extract = pipeline("feature-extraction", make(architectures=[architecture]), engine="numpy")
    assert len(extract("a")[0]) == 3


@pytest.mark.parametrize(
    "settings", [{"return_tensors": "np"}, {"truncation": 1.5}, {"batch_size": 0}, {"pool": "mean"}]
)
def test_wrong_settings_are_refused(extract: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        extract("a", **settings)


@pytest.mark.parametrize("inputs", [None, 5, [5], ("a",), {"text": "a"}, "\ud800"])
def test_wrong_inputs_are_refused(extract: Any, inputs: Any) -> None:
    with pytest.raises(InputError):
        extract(inputs)


# One vector a text


def test_a_vector_is_the_mean_the_first_or_the_largest_of_the_hidden_states(loaded: npdistil.Model) -> None:
    rows = [states(loaded, text) for text in TEXTS]
    pools: dict[str, Callable[[Any], Any]] = {
        "mean": lambda each: each.mean(axis=0),
        "cls": lambda each: each[0],
        "max": lambda each: each.max(axis=0),
    }
    for pooling, pool in pools.items():
        found = Embedder(loaded, pooling=pooling).transform(TEXTS)
        assert found.shape == (4, 8)
        assert found.dtype == np.float32
        assert found == pytest.approx(np.stack([pool(each) for each in rows]), abs=1e-6)


def test_normalized_vectors_have_length_1(loaded: npdistil.Model) -> None:
    plain, unit = (Embedder(loaded, normalize=each).transform(TEXTS) for each in (False, True))
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1, abs=1e-6)
    assert unit == pytest.approx(plain / np.linalg.norm(plain, axis=1, keepdims=True), abs=1e-6)


def test_a_texts_vector_has_the_same_bits_alone_and_in_any_batch(loaded: npdistil.Model) -> None:
    texts = [*TEXTS, LONG]
    alone = np.concatenate([Embedder(loaded).transform([text]) for text in texts])
    for size in (1, 2, 64):
        assert Embedder(loaded, batch_size=size).transform(texts).tobytes() == alone.tobytes()


def test_the_vector_of_a_long_text_is_the_mean_over_its_windows(loaded: npdistil.Model) -> None:
    parts = loaded.hidden_states(Embedding(loaded.checkpoint).preprocess([LONG]).token_ids)
    expected = np.mean([each.mean(axis=0) for each in parts], axis=0)
    assert Embedder(loaded).transform([LONG])[0] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="24 are allowed"):
        Embedder(loaded, long_text="error").transform([LONG])


def stored(make: Make, **modes: bool) -> Path:
    directory = make(architectures=["DistilBertModel"])
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 8} | modes))
    return directory


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [("pooling_mode_mean_tokens", "mean"), ("pooling_mode_cls_token", "cls"), ("pooling_mode_max_tokens", "max")],
)
def test_the_pooling_that_sentence_transformers_stored_is_used(make: Make, mode: str, pooling: str) -> None:
    modes = {
        f"pooling_mode_{each}": False for each in ("mean_tokens", "cls_token", "max_tokens", "weightedmean_tokens")
    }
    model = npdistil.load(stored(make, **modes | {mode: True}), engine="numpy")
    assert np.array_equal(Embedder(model).transform(TEXTS), Embedder(model, pooling=pooling).transform(TEXTS))


def test_a_stored_pooling_that_is_not_known_is_refused(make: Make) -> None:
    with pytest.raises(CheckpointError, match="1_Pooling.*pooling_mode_other_tokens"):
        npdistil.load(stored(make, pooling_mode_other_tokens=True), engine="numpy")


def test_no_texts_give_no_rows(loaded: npdistil.Model) -> None:
    assert Embedder(loaded).transform([]).shape == (0, 8)


@pytest.mark.parametrize("texts", ["one string", [5], [None], [("a",)], ["\ud800"]])
def test_wrong_texts_are_refused(loaded: npdistil.Model, texts: Any) -> None:
    with pytest.raises(InputError):
        Embedder(loaded).transform(texts)


@pytest.mark.parametrize("settings", [{"pooling": "sum"}, {"normalize": "l2"}, {"long_text": "cut"}])
def test_wrong_settings_of_an_embedder_are_refused(loaded: npdistil.Model, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        Embedder(loaded, **settings).fit(TEXTS)


# scikit-learn


def test_an_embedder_is_a_step_of_scikit_learns_pipelines(make: Make) -> None:
    loaded = npdistil.load(make(architectures=["DistilBertModel"], dim=32), engine="numpy")
    texts = ["good film", "bad film", "very good", "very bad", "i like it", "i hate it"] * 3
    labels = ["yes", "no"] * 9
    classifier = make_pipeline(Embedder(loaded, normalize=True), LogisticRegression(C=10_000.0, max_iter=2000))
    classifier.fit(texts, labels)
    assert classifier.score(texts, labels) == 1
    assert classifier.predict_proba(["good film"]).shape == (1, 2)


def test_scikit_learn_can_copy_an_embedder_and_change_its_settings(make: Make) -> None:
    directory = str(make(architectures=["DistilBertModel"]))
    embedder = Embedder(directory, pooling="max", batch_size=3)
    copy = clone(embedder)
    assert copy is not embedder
    assert copy.get_params() == embedder.get_params()
    assert copy.set_params(pooling="cls", normalize=True) is copy
    assert (copy.pooling, copy.normalize, embedder.pooling) == ("cls", True, "max")
    with pytest.raises(InputError, match="unknown setting: size"):
        copy.set_params(size=5)
    assert np.array_equal(embedder.fit_transform(TEXTS), embedder.fit(TEXTS).transform(TEXTS))
