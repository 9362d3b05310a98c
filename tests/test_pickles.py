"""What is loaded can be pickled: a model is its directory and what it was loaded with, and copies share its weights."""

import copy
import io
import multiprocessing
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import tiny
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import npdistil
from npdistil.errors import CheckpointError, InputError, MissingExtraError
from npdistil.model import load
from npdistil.settings import UNSET
from npdistil.tasks.text_classification import TextClassificationSettings

Make = Callable[..., Path]
TEXTS = ["I like it!", "the film is boring", "", "a", "the movie was very good . not bad ?"]
LABELS = [1, 0, 0, 1, 1]
MANY_TEXTS, MANY_LABELS = TEXTS * 4, LABELS * 4


def again(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_pickled_model_gives_the_same_bits(make: Make, engine: str, precision: str, protocol: int) -> None:
    model = load(make(), engine=engine, precision=precision, threads=3)
    data = pickle.dumps(model, protocol)
    assert len(data) < 1000
    other = pickle.loads(data)
    assert other is not model
    assert (other.engine, other.precision, other.threads) == (engine, precision, 3)
    assert other.predict_proba(TEXTS).tobytes() == model.predict_proba(TEXTS).tobytes()
    assert other.classes_.tolist() == model.classes_.tolist()


def test_what_was_left_to_the_machine_is_left_to_the_next_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(load(make()))
    monkeypatch.setenv("NPDISTIL_THREADS", "5")
    assert pickle.loads(data).threads == 5
    assert pickle.loads(pickle.dumps(load(make(), threads=2))).threads == 2


def test_the_bundled_model_is_pickled_by_name(bundled: Path) -> None:
    for model in (load(), load(bundled)):
        data = pickle.dumps(model)
        assert os.fsencode(bundled.parent) not in data
        assert again(model).predict(["I love it."]).tolist() == ["POSITIVE"]


def test_a_relative_directory_is_found_from_elsewhere(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make()
    monkeypatch.chdir(directory.parent)
    model = load(directory.name)
    assert model.checkpoint.directory == directory
    monkeypatch.chdir("/")
    assert again(model).predict_proba(TEXTS).tobytes() == model.predict_proba(TEXTS).tobytes()


def test_a_directory_that_is_gone_or_has_changed_is_refused(make: Make) -> None:
    directory = make()
    data = pickle.dumps(load(directory))
    tiny.write(directory, seed=1)
    with pytest.raises(CheckpointError, match=f"^{directory} has changed since its model was pickled: its files have"):
        pickle.loads(data)
    tiny.write(directory)
    assert pickle.loads(data).checkpoint.directory == directory
    (directory / "added_tokens.json").write_text("{}")  # another file that a model is read from
    with pytest.raises(CheckpointError, match="has changed"):
        pickle.loads(data)
    shutil.rmtree(directory)
    with pytest.raises(CheckpointError, match=f"^{directory} is gone: a pickle of a model names its directory and"):
        pickle.loads(data)


def test_a_model_whose_files_changed_under_it_is_not_pickled(make: Make) -> None:
    directory = make()
    model = load(directory)
    path = directory / "model.safetensors"
    content = path.read_bytes()
    os.truncate(path, 0)
    path.write_bytes(content[:-4] + b"\0\0\0\0")
    os.utime(path, ns=(1, 1))
    with pytest.raises(CheckpointError, match="was changed after it was loaded"):
        pickle.dumps(model)


def test_copies_share_the_weights(make: Make) -> None:
    model = load(make())
    pipe = npdistil.pipeline("sentiment-analysis", model, top_k=None)
    for copied in (copy.copy, copy.deepcopy):
        assert copied(model) is model
        assert copied(model.checkpoint) is model.checkpoint
        other = copied(pipe)
        assert other is not pipe
        assert other.model is model
        assert other.processor.checkpoint is model.checkpoint
        assert other(TEXTS) == pipe(TEXTS)


CALLS: list[tuple[str, dict[str, Any], dict[str, Any], Any]] = [
    ("text-classification", {}, {"top_k": 2}, TEXTS),
    ("text-classification", {}, {}, TEXTS),
    ("explanation", {}, {"label": "POSITIVE"}, TEXTS),
    ("embedding", {}, {"pooling": "max"}, TEXTS),
    ("feature-extraction", {}, {}, TEXTS),
    ("ner", {"architectures": ["DistilBertForTokenClassification"]}, {"ignore_labels": ["x"]}, TEXTS),
    ("fill-mask", {"architectures": ["DistilBertForMaskedLM"]}, {"targets": ["good"]}, ["it is [MASK] ."]),
    (
        "question-answering",
        {"architectures": ["DistilBertForQuestionAnswering"]},
        {"top_k": 2},
        {"question": "who ?", "context": "john lives in paris ."},
    ),
    (
        "zero-shot-classification",
        {"id2label": {"0": "contradiction", "1": "entailment"}},
        {"candidate_labels": ["film", "food"]},
        TEXTS[:1],
    ),
    (
        "multiple-choice",
        {"architectures": ["DistilBertForMultipleChoice"], "id2label": {"0": "a"}},
        {},
        {"text": "i like", "choices": ["it", "the film"]},
    ),
]


@pytest.mark.parametrize(("task", "changes", "settings", "items"), CALLS)
def test_pipelines_are_pickled_with_their_settings(
    make: Make, task: str, changes: dict[str, Any], settings: dict[str, Any], items: Any
) -> None:
    pipe = npdistil.pipeline(task, make(**changes), **settings)  # type: ignore[call-overload]
    other = again(pipe)
    assert other.processor.settings == pipe.processor.settings
    assert other.processor.checkpoint is other.model.checkpoint  # read once
    found, expected = (each(items) for each in (other, pipe))
    np.testing.assert_equal(found, expected)


def test_sentinels_stay_single() -> None:
    assert again(UNSET) is copy.deepcopy(UNSET) is UNSET
    settings = TextClassificationSettings()
    assert again(settings).top_k is UNSET
    assert again(settings) == settings


def test_errors_can_be_pickled() -> None:
    for error in (CheckpointError("a"), InputError("b"), MissingExtraError("numba", "jit")):
        assert str(again(error)) == str(error)
        assert type(again(error)) is type(error)


# scikit-learn


def test_scikit_learn_clones_an_embedder_that_has_a_model(make: Make) -> None:
    model = load(make())
    embedder = npdistil.Embedder(model, pooling="max").fit()
    other = clone(embedder)
    assert other.get_params() == embedder.get_params()
    assert other.model is model


def test_a_fitted_pipeline_is_dumped_by_joblib(make: Make) -> None:
    fitted = make_pipeline(npdistil.Embedder(load(make())), LogisticRegression()).fit(TEXTS, LABELS)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    assert file.tell() < 5000
    file.seek(0)
    other = joblib.load(file)
    assert other[0].model_ is other[0].model  # one model
    assert other.predict_proba(TEXTS).tobytes() == fitted.predict_proba(TEXTS).tobytes()


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_cross_validation_runs_in_processes_and_in_threads(make: Make, backend: str) -> None:
    model = load(make(), threads=1)
    estimator = make_pipeline(npdistil.Embedder(model), LogisticRegression())
    expected = cross_val_score(estimator, MANY_TEXTS, MANY_LABELS, cv=2)
    with joblib.parallel_backend(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # loky tells of its semaphores
        found = cross_val_score(estimator, MANY_TEXTS, MANY_LABELS, cv=2, n_jobs=2)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_processes_take_models_and_pipelines(make: Make, engine: str, method: str) -> None:
    model = load(make(), engine=engine, threads=2)
    pipe = npdistil.pipeline("sentiment-analysis", model)
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        assert pool.submit(model.predict_proba, TEXTS).result().tobytes() == model.predict_proba(TEXTS).tobytes()
        assert pool.submit(pipe, TEXTS).result() == pipe(TEXTS)
