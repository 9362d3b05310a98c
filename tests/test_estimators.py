"""The estimators: scikit-learn's own checks and meta-estimators, and parameters that are obeyed when they change."""

import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.utils import estimator_checks, estimator_html_repr

import npdistil
from npdistil import Classifier, Embedder
from npdistil.errors import InputError, MissingExtraError

Make = Callable[..., Path]
TEXTS = ["I like it!", "the film is boring", "", "a", "the movie was very good . not bad ?", "bad film"]
VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
NOT_SORTED = {"0": "sad", "1": "glad", "2": "mad"}
ESTIMATORS = [Embedder, Classifier]


@pytest.fixture
def small(make: Make) -> npdistil.Model:
    return npdistil.load(make(), threads=1)


@pytest.fixture
def three(make: Make) -> npdistil.Model:
    return npdistil.load(make(seed=9, id2label=NOT_SORTED), threads=1)


def answers(estimator: Any, texts: Any) -> Any:
    return (estimator.transform if hasattr(estimator, "transform") else estimator.predict_proba)(texts)


# What scikit-learn asks of every estimator


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.skipif(VERSION < (1, 6), reason="scikit-learn before 1.6 cannot be told that an estimator takes texts")
def test_check_estimator_passes(kind: Any, small: npdistil.Model) -> None:
    """Of these scikit-learn makes data for none, and says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", estimator_checks.SkipTestWarning)
        estimator_checks.check_estimator(kind(small))


@pytest.mark.parametrize(
    "name",
    [
        "do_not_raise_errors_in_init_or_set_params",
        "estimator_cloneable",
        "estimator_repr",
        "estimator_tags_renamed",
        "fit_check_is_fitted",
        "get_params_invariance",
        "mixin_order",
        "n_features_in_after_fitting",
        "no_attributes_set_in_init",
        "parameters_default_constructible",
        "requires_y_none",
        "set_params",
        "valid_tag_types",
    ],
)
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_checks_that_need_no_numbers_pass(kind: Any, small: npdistil.Model, name: str) -> None:
    check = getattr(estimator_checks, f"check_{name}", None)
    if check is None or VERSION < (1, 6):
        pytest.skip(f"scikit-learn {sklearn.__version__} has no such check for texts")
    check(kind.__name__, kind(small))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_what_other_checks_ask_for_holds_with_texts(kind: Any, small: npdistil.Model) -> None:
    fitted = kind(small).fit(TEXTS, None)
    expected = answers(fitted, TEXTS)
    before = {name: id(value) for name, value in vars(fitted).items()}
    assert np.array_equal(answers(fitted, TEXTS), expected)
    assert {name: id(value) for name, value in vars(fitted).items()} == before  # dict unchanged
    assert np.array_equal(answers(fitted.fit(TEXTS), TEXTS), expected)  # fit idempotent
    assert np.array_equal(answers(kind(small), TEXTS), expected)  # nothing needs to be fitted
    order = [3, 0, 5, 1, 4, 2]
    assert np.array_equal(answers(fitted, [TEXTS[i] for i in order]), expected[order])
    assert np.array_equal(np.concatenate([answers(fitted, [text]) for text in TEXTS]), expected)
    other = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(answers(other, TEXTS), expected)
    assert answers(make_pipeline(kind(small)), TEXTS).tobytes() == expected.tobytes()
    assert len(answers(fitted, [])) == 0


# Parameters


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_are_obeyed_whenever_they_are_set(kind: Any, make: Make) -> None:
    first, second = make(), make(seed=1)
    estimator = kind(first, max_length=4).fit()
    model = estimator.model_
    for settings in ({"max_length": 6}, {"long_text": "truncate"}, {"stride": 0}):
        expected = answers(kind(**estimator.get_params() | settings), TEXTS)
        assert np.array_equal(answers(estimator.set_params(**settings), TEXTS), expected)
        assert estimator.model_ is model  # not loaded again
    estimator.max_length = 5
    assert np.array_equal(answers(estimator, TEXTS), answers(kind(**estimator.get_params()), TEXTS))
    estimator.set_params(model=second)
    assert np.array_equal(answers(estimator, TEXTS), answers(kind(**estimator.get_params()), TEXTS))
    assert estimator.model_.checkpoint.directory == second


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", None, True])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_wrong_batch_size_is_refused_at_fit_and_after_it(kind: Any, small: npdistil.Model, batch_size: Any) -> None:
    wrong = kind(small, batch_size=batch_size)  # kept, as scikit-learn wants it
    for run in (wrong.fit, lambda: answers(wrong, TEXTS)):
        with pytest.raises(InputError, match="batch_size is .*; expected a whole number from 1 to"):
            run()
    fitted = kind(small).fit().set_params(batch_size=batch_size)
    with pytest.raises(InputError, match="batch_size is "):
        answers(fitted, TEXTS)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_settings_have_names_and_show_what_was_given(kind: Any, small: npdistil.Model) -> None:
    with pytest.raises(InputError, match="unknown setting: max_len; known are model, "):
        kind(small, max_len=3)
    with pytest.raises(InputError, match="unknown setting: C"):
        kind(small).set_params(C=1)
    assert repr(kind(batch_size=3, long_text="truncate")) == f"{kind.__name__}(batch_size=3, long_text='truncate')"
    assert repr(kind(None)) == f"{kind.__name__}()"
    assert "max_length: tokens, special ones included" in kind.__doc__
    assert "model: what `load` takes" in kind.__doc__
    copied = clone(kind(small, max_length=5))
    assert copied.get_params() == kind(small, max_length=5).get_params()


def test_a_notebook_shows_estimators_as_scikit_learn_does(small: npdistil.Model) -> None:
    pipe = make_pipeline(Embedder(small, pooling="max"), LogisticRegression())
    shown = estimator_html_repr(pipe)
    assert "Embedder" in shown
    assert "pooling" in shown
    assert "Embedder" in (Embedder(small)._repr_html_() or "")
    assert "Classifier" in (Classifier(small)._repr_html_() or "")


# Embedder


def test_columns_of_vectors_have_names(small: npdistil.Model) -> None:
    embedder = Embedder(small)
    names = embedder.get_feature_names_out()
    assert names.tolist() == [f"embedder{i}" for i in range(8)]
    assert Embedder(small, pooling="mean+max", truncate_dim=9).get_feature_names_out().shape == (9,)
    union = FeatureUnion([("vectors", Embedder(small)), ("words", CountVectorizer())]).fit(TEXTS)
    assert union.get_feature_names_out()[:2].tolist() == ["vectors__embedder0", "vectors__embedder1"]
    assert make_pipeline(Embedder(small)).fit(TEXTS).get_feature_names_out().tolist() == names.tolist()


def test_set_output_gives_frames(small: npdistil.Model) -> None:
    expected = Embedder(small).transform(TEXTS)
    column = pd.Series(TEXTS, index=range(10, 16))
    embedder = Embedder(small).set_output(transform="pandas")
    for batch, index in ((TEXTS, range(6)), (column, range(10, 16)), (column.to_frame(), range(10, 16))):
        found = embedder.transform(batch)
        assert isinstance(found, pd.DataFrame)
        assert found.columns.tolist() == [f"embedder{i}" for i in range(8)]
        assert found.index.tolist() == [*index]
        assert np.array_equal(found.to_numpy(), expected)
    assert isinstance(clone(embedder).fit_transform(column), pd.DataFrame)
    assert isinstance(embedder.set_output(transform=None).transform(TEXTS), pd.DataFrame)
    assert isinstance(pickle.loads(pickle.dumps(embedder)).transform(TEXTS), pd.DataFrame)
    frame = embedder.set_output(transform="polars").transform(TEXTS)
    assert isinstance(frame, pl.DataFrame)
    assert (frame.columns[:2], frame.shape) == (["embedder0", "embedder1"], (6, 8))
    assert np.array_equal(frame.to_numpy(), expected)
    assert isinstance(embedder.set_output(transform="default").transform(TEXTS), np.ndarray)
    assert embedder.set_output(transform="pandas").transform([]).shape == (0, 8)
    with pytest.raises(InputError, match="transform is 'arrow'; known are default, pandas, polars"):
        embedder.set_output(transform="arrow")


def test_scikit_learns_own_ways_to_ask_for_frames_are_obeyed(small: npdistil.Model) -> None:
    frame = pd.DataFrame({"text": TEXTS, "stars": range(6)})
    steps = [("vectors", Embedder(small), "text"), ("as it is", "passthrough", ["stars"])]
    found = ColumnTransformer(steps).set_output(transform="pandas").fit_transform(frame)
    assert isinstance(found, pd.DataFrame)
    assert found.columns[:1].tolist() == ["vectors__embedder0"]
    assert found["as it is__stars"].tolist() == [*range(6)]
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(Embedder(small).transform(TEXTS), pd.DataFrame)
    assert isinstance(Embedder(small).transform(TEXTS), np.ndarray)


def test_a_frame_without_its_library_names_the_extra(small: npdistil.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match=r'this needs polars.*pip install "npdistil\[frames\]"'):
        Embedder(small).set_output(transform="polars").transform(TEXTS)


def test_estimators_work_without_scikit_learn(small: npdistil.Model) -> None:
    code = (
        f"import sys; sys.modules['sklearn'] = None; import npdistil; m = {str(small.checkpoint.directory)!r}\n"
        "print(npdistil.Embedder(m).fit_transform(['a']).shape, npdistil.Classifier(m).fit().predict(['a']).shape)\n"
        "print(npdistil.Embedder(m)._repr_html_())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 8) (1,)\nNone\n"


# Classifier


def test_a_classifier_answers_as_the_model_in_the_order_of_names(three: npdistil.Model) -> None:
    classifier = Classifier(three).fit(TEXTS)
    assert is_classifier(classifier)
    assert classifier.classes_.tolist() == ["glad", "mad", "sad"]
    probabilities = classifier.predict_proba(TEXTS)
    assert np.array_equal(probabilities, three.predict_proba(TEXTS)[:, [1, 2, 0]])
    assert np.array_equal(classifier.predict(TEXTS), three.predict(TEXTS))
    assert len({*classifier.predict(TEXTS).tolist()}) > 1
    scores = classifier.decision_function(TEXTS)
    assert scores.shape == (6, 3)
    np.testing.assert_allclose(scores, np.log(probabilities), rtol=0, atol=1e-15)


def test_two_classes_have_one_score(small: npdistil.Model) -> None:
    classifier = Classifier(small)
    scores = classifier.decision_function(TEXTS)
    logits = small.logits([each.ids for each in small.tokenizer.encode_batch(TEXTS)])
    assert scores == pytest.approx(logits[:, 1] - logits[:, 0], abs=1e-5)
    assert np.array_equal(scores > 0, classifier.predict(TEXTS) == "POSITIVE")


def test_the_score_is_the_share_that_is_right(small: npdistil.Model) -> None:
    predicted = small.predict(TEXTS)
    truth = predicted.copy()
    truth[:2] = ["POSITIVE" if label == "NEGATIVE" else "NEGATIVE" for label in predicted[:2]]
    classifier = Classifier(small).fit(TEXTS, truth)
    assert classifier.score(TEXTS, truth) == pytest.approx(4 / 6)
    assert classifier.score(TEXTS, truth.tolist(), sample_weight=[0, 0, 1, 1, 1, 1]) == 1
    assert cross_val_score(Classifier(small), TEXTS, truth, cv=2).mean() == pytest.approx(4 / 6)
    assert np.array_equal(cross_val_predict(Classifier(small), TEXTS, truth, cv=2), predicted)


def test_settings_reach_the_scores(small: npdistil.Model) -> None:
    long = ["the film was good and i like it , not bad at all . " * 9]
    for settings in (
        {"combine": "max"},
        {"long_text": "truncate"},
        {"truncation": True},
        {"max_length": 8, "stride": 1},
    ):
        expected = small.scores(long, **settings)
        assert np.array_equal(Classifier(small, **settings).predict_proba(long), expected)
        assert not np.array_equal(Classifier(small).predict_proba(long), expected)
    truth = small.predict(TEXTS)
    search = GridSearchCV(Classifier(small), {"combine": ["mean", "max"], "max_length": [8, 12]}, cv=2).fit(
        TEXTS, truth
    )
    assert search.best_params_ == {"combine": "mean", "max_length": 8}
    assert search.best_score_ == 1


def test_y_may_call_the_classes_otherwise(three: npdistil.Model) -> None:
    names = three.predict(TEXTS)
    french = {"sad": "triste", "glad": "content", "mad": "fou"}
    y = [french[name] for name in names]
    classifier = Classifier(three, classes=["triste", "content", "fou"]).fit(TEXTS, y)
    assert classifier.classes_.tolist() == ["content", "fou", "triste"]
    assert classifier.predict(TEXTS).tolist() == y
    numbers = [[*NOT_SORTED.values()].index(name) for name in names]
    by_number = Classifier(three, classes=[0, 1, 2]).fit(TEXTS, numbers)
    assert by_number.predict(TEXTS).tolist() == numbers
    assert np.array_equal(by_number.predict_proba(TEXTS), three.predict_proba(TEXTS))
    alphabetical = [sorted(NOT_SORTED.values()).index(name) for name in names]
    coded = Classifier(three, classes=three.config.labels).fit(TEXTS, [0, 1, 2, 0, 1, 2])
    assert coded.predict(TEXTS).tolist() == alphabetical
    again = pickle.loads(pickle.dumps(coded)).set_params(batch_size=2)  # which y it was fitted with stays
    assert again.predict(TEXTS).tolist() == alphabetical
    assert coded.fit(TEXTS).predict(TEXTS).tolist() == names.tolist()


def test_numbers_mean_labels_where_both_orders_agree(small: npdistil.Model) -> None:
    numbers = (small.predict(TEXTS) == "POSITIVE").astype(int)
    fitted = Classifier(small).fit(TEXTS, [0, 1, 1, 0, 1, 1])
    assert np.array_equal(fitted.predict(TEXTS), numbers)
    assert np.array_equal(Classifier(small, classes=[False, True]).fit(TEXTS, numbers > 0).predict(TEXTS), numbers > 0)


@pytest.mark.parametrize(
    ("settings", "y", "says"),
    [
        (
            {},
            [0, 1, 2, 0, 1, 2],
            "y has numbers, and the model's labels are sad, glad, mad: give `classes`, the numbers",
        ),
        ({}, ["sad", "happy"], "y has the classes happy, sad; known are sad, glad, mad: give `classes`"),
        ({}, [0, 3], "y has the classes 0, 3; known are sad, glad, mad"),
        ({}, [0, 1], "y has the classes 0, 1; known are"),
        ({}, [0.5, 1.0], "y has the classes 0.5, 1.0; known are"),
        (
            {"classes": ["a", "b"]},
            None,
            "the classes are a, b; the model's labels are sad, glad, mad: give `classes`, a",
        ),
        ({"classes": ["a", "b", "a"]}, None, "the classes are a, b, a; the model's labels are sad, glad, mad"),
        ({"classes": "abc"}, None, "classes is 'abc'; expected a list of values, one for each of the model's labels"),
        ({"combine": "none"}, None, "combine is 'none'; known are mean, max, first"),
        ({"long_text": "cut"}, None, "long_text is 'cut'"),
    ],
)
def test_classes_that_are_not_the_models_are_refused(
    three: npdistil.Model, settings: dict[str, Any], y: Any, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        Classifier(three, **settings).fit(TEXTS, y)


@pytest.mark.parametrize(
    "changes",
    [
        {"id2label": {"0": "stars"}, "problem_type": "regression"},
        {"problem_type": "multi_label_classification"},
        {"architectures": ["DistilBertForTokenClassification"]},
    ],
)
def test_a_model_of_another_kind_is_no_classifier(make: Make, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="does not give one of several labels to a text"):
        Classifier(make(**changes)).fit()


def test_a_classifier_without_fit_is_calibrated_as_it_stands(small: npdistil.Model) -> None:
    frozen = pytest.importorskip("sklearn.frozen", reason="FrozenEstimator came with scikit-learn 1.6")
    texts, truth = TEXTS * 4, np.tile(["POSITIVE", "NEGATIVE", "NEGATIVE", "POSITIVE", "POSITIVE", "NEGATIVE"], 4)
    for classifier in (Classifier(small), Classifier(small).fit(texts, truth)):
        calibrated = CalibratedClassifierCV(frozen.FrozenEstimator(classifier), cv=2).fit(texts, truth)
        assert calibrated.classes_.tolist() == ["NEGATIVE", "POSITIVE"]
        odds, probabilities = Classifier(small).decision_function(texts), calibrated.predict_proba(texts)[:, 1]
        order = np.argsort(odds, kind="stable")
        steps = np.diff(probabilities[order])
        assert (steps >= -1e-12).all() or (steps <= 1e-12).all()  # a monotone function of the scores
    refitted = CalibratedClassifierCV(Classifier(small), cv=2).fit(texts, truth)
    assert refitted.predict_proba(texts).shape == (24, 2)


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_classifiers_vote(three: npdistil.Model, voting: str) -> None:
    truth = np.array(["sad", "glad", "mad"] * 6)
    words = make_pipeline(CountVectorizer(token_pattern="."), LogisticRegression(C=1e-6))  # knows next to nothing
    ours = Classifier(three, classes=three.config.labels)
    weights = [3, 1]  # so that ours decides
    voters = VotingClassifier([("ours", ours), ("words", words)], voting=voting, weights=weights)
    voters.fit(TEXTS * 3, truth)
    assert np.array_equal(voters.predict(TEXTS), three.predict(TEXTS))
    with pytest.raises(InputError, match="VotingClassifier"):
        VotingClassifier([("ours", Classifier(three))], voting=voting).fit(TEXTS * 3, truth)


def test_frozen_classifiers_vote_with_their_probabilities(three: npdistil.Model) -> None:
    frozen = pytest.importorskip("sklearn.frozen", reason="FrozenEstimator came with scikit-learn 1.6")
    truth = np.array(["sad", "glad", "mad"] * 6)
    voters = VotingClassifier([("ours", frozen.FrozenEstimator(Classifier(three)))], voting="soft").fit(
        TEXTS * 3, truth
    )
    assert np.array_equal(voters.predict(TEXTS), three.predict(TEXTS))
    assert np.array_equal(voters.predict_proba(TEXTS), three.predict_proba(TEXTS)[:, [1, 2, 0]])
