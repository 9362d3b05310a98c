"""What a batch of texts is, for every call that takes several: one function decides, whatever holds them."""

import collections
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import npdistil
from npdistil.bench import bench
from npdistil.errors import InputError
from npdistil.text import items_of

Make = Callable[..., Path]
TEXTS = ["I like it!", "the film is boring", "", "a", "the movie was very good . not bad ?"]


class MapStyle:
    """As torch's Dataset, and the KeyDataset of transformers: numbers and a length, nothing else."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, i: int) -> str:
        return {0: self.texts[0], **dict(enumerate(self.texts))}[i]  # KeyError beyond the end, not IndexError


class Streamed:
    """As torch's IterableDataset: no length."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)


LISTS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": collections.deque,
    "dict's values": lambda texts: dict(enumerate(texts)).values(),
    "dict's keys": lambda texts: dict.fromkeys(texts).keys(),
    "NumPy str": np.array,
    "NumPy object": lambda texts: np.array(texts, object),
    "NumPy column": lambda texts: np.array(texts)[:, None],
    "pandas Series": pd.Series,
    "pandas Series, other index": lambda texts: pd.Series(texts, index=range(5, 5 + len(texts))),
    "pandas Series of objects": lambda texts: pd.Series(texts, dtype=object),
    "pandas Series of Arrow": lambda texts: pd.Series(texts, dtype="string[pyarrow]"),
    "pandas categories": lambda texts: pd.Series(texts, dtype="category"),
    "pandas Index": pd.Index,
    "pandas array": lambda texts: pd.array(texts, dtype="string"),
    "pandas frame": lambda texts: pd.DataFrame({"text": texts}),
    "pandas frame, number as name": lambda texts: pd.DataFrame(texts),
    "Polars Series": pl.Series,
    "Polars categories": lambda texts: pl.Series(texts, dtype=pl.Categorical),
    "Polars frame": lambda texts: pl.DataFrame({"text": texts}),
    "Arrow array": pa.array,
    "Arrow large strings": lambda texts: pa.array(texts, pa.large_string()),
    "Arrow dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "Arrow chunked array": lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
    "Arrow table": lambda texts: pa.table({"text": texts}),
    "Arrow batch": lambda texts: pa.record_batch({"text": texts}),
}
LAZY: dict[str, Callable[[list[str]], Any]] = {
    "iterator": iter,
    "generator": lambda texts: (text for text in texts),
    "map": lambda texts: map(str, texts),
    "map-style data set": MapStyle,
    "iterable data set": Streamed,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> npdistil.Model:
    import tiny

    return npdistil.load(tiny.write(tmp_path_factory.mktemp("model")), threads=1)


@pytest.mark.parametrize("container", [*LISTS, *LAZY])
def test_texts_in_any_container_are_those_in_a_list(small: npdistil.Model, container: str) -> None:
    def batch() -> Any:
        return (LISTS | LAZY)[container](TEXTS)

    assert [*items_of(batch())] == TEXTS
    for run in (small.predict, small.predict_proba, small.scores, npdistil.Embedder(small).transform):
        expected = run(TEXTS)
        found = run(batch())
        assert (found.shape, found.tolist()) == (expected.shape, expected.tolist())
    assert npdistil.Embedder(small).fit(batch()).fit_transform(batch()).shape == (5, 8)


@pytest.mark.parametrize("container", LISTS)
@pytest.mark.parametrize("task", ["text-classification", "embedding", "explanation", "feature-extraction"])
def test_a_pipeline_gives_a_list_for_what_has_a_length(small: npdistil.Model, task: str, container: str) -> None:
    pipe = npdistil.pipeline(task, small, batch_size=2)  # type: ignore[call-overload]
    found = pipe(LISTS[container](TEXTS))
    assert isinstance(found, list)
    np.testing.assert_equal(found, pipe(TEXTS))


@pytest.mark.parametrize("container", LAZY)
def test_a_pipeline_gives_an_iterator_for_what_is_read_as_it_goes(small: npdistil.Model, container: str) -> None:
    pipe = npdistil.pipeline("text-classification", small, batch_size=2)
    found = pipe(LAZY[container](TEXTS))
    assert next(found) == pipe(TEXTS)[0]
    assert [*found] == pipe(TEXTS)[1:]


def test_pairs_are_tuples_or_dicts_everywhere(small: npdistil.Model) -> None:
    tuples, dicts = [("good", "bad")], [{"text": "good", "text_pair": "bad"}]
    assert small.predict_proba(dicts).tolist() == small.predict_proba(tuples).tolist()
    pipe = npdistil.pipeline("text-classification", small)
    assert pipe(tuples) == pipe(dicts)
    embed = npdistil.Embedder(small)
    assert embed.transform(tuples).tolist() == embed.transform(dicts).tolist()
    structs = pa.array(dicts * 2)
    assert small.predict_proba(structs).tolist() == small.predict_proba(tuples * 2).tolist()


def test_questions_and_contexts_come_in_columns(make: Make) -> None:
    ask = npdistil.pipeline("question-answering", make(architectures=["DistilBertForQuestionAnswering"]))
    questions, contexts = ["who ?", "where ?"], ["john lives in paris .", "sarah lives in london ."]
    expected = ask(question=questions, context=contexts)
    frame = pd.DataFrame({"q": questions, "c": contexts})
    assert ask(question=frame["q"], context=frame["c"]) == expected
    assert ask(question=pa.array(questions), context=contexts[0]) == ask(question=questions, context=contexts[0])


TWO = {"text": TEXTS, "stars": [1, 2, 3, 4, 5]}
REFUSED: list[tuple[Any, str]] = [
    ("a text", "expected a list of texts, found a string; put it in a list"),
    (b"a text", "expected a list of texts, found bytes; put it in a list"),
    ({"text": "a"}, "found a dict: {'text': 'a'}"),
    ({"text": TEXTS}, "found a dict: "),
    ({"a", "b"}, "found a set: "),
    (None, "found a NoneType: None"),
    (5, "found a int: 5"),
    (pd.DataFrame(TWO), "found a DataFrame of pandas with the columns text, stars: give one of them, as data['text']"),
    (pl.DataFrame(TWO), "found a DataFrame of polars with the columns text, stars: give one of them, as data['text']"),
    (pa.table(TWO), "found a Table of pyarrow with the columns text, stars: give one of them, as data['text']"),
    (pa.RecordBatch.from_pydict(TWO), "found a RecordBatch of pyarrow with the columns text, stars"),
    (pd.DataFrame({"a": ["b"], "c": ["d"]}), "with the columns a, c: give one of them, as data['a']"),
    (pd.DataFrame(index=[1, 2]), "found a DataFrame of pandas of the shape [2, 0]"),
    (np.array([["a", "b"]]), "found a ndarray of numpy of the shape [1, 2]: give one column of it"),
    (np.array("a"), "found a ndarray of numpy of the shape []"),
    (pl.LazyFrame(TWO), "found a LazyFrame: "),
    (pa.scalar("a"), "found a StringScalar: "),
    (["a", None], "text 1 is missing: it is None; leave such rows out, or give them a string"),
    (iter(["a", "b", None]), "text 2 is missing: it is None"),
    (["a"] * 700 + [None], "text 700 is missing"),
    (pd.Series(["a", float("nan")]), "text 1 is missing: it is nan"),
    (pd.Series(["a", None], dtype=object), "text 1 is missing: it is None"),
    (pd.Series(["a", pd.NA], dtype="string[python]"), "text 1 is missing: it is "),
    (pd.Series(["a", pd.NA], dtype=object), "text 1 is missing: it is <NA>"),
    (pd.Series(["a", pd.NaT], dtype=object), "text 1 is missing: it is NaT"),
    (pl.Series(["a", None]), "text 1 is missing: it is None"),
    (pa.array([None, "a"]), "text 0 is missing: it is None"),
    (np.array(["a", np.float32("nan")], object), "text 1 is a float"),
    (pd.Series([1, 2]), "text 0 is a int: 1; expected a string"),
    (np.array([b"a"]), "text 0 is a bytes: b'a'; expected a string"),
]


@pytest.mark.parametrize(("batch", "says"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_batch_of_texts_is_refused_by_name(small: npdistil.Model, batch: Any, says: str) -> None:
    if says.startswith("text 2"):  # an iterator serves once
        with pytest.raises(InputError) as found:
            small.predict(batch)
        assert says in str(found.value)
        return
    for run in (small.predict, small.scores, small.predict_proba, npdistil.Embedder(small).transform):
        with pytest.raises(InputError) as found:
            run(batch)
        assert says in str(found.value)
    if not isinstance(batch, (str, dict)):
        with pytest.raises(InputError) as found:
            npdistil.pipeline("text-classification", small)(batch)
        assert says in str(found.value)


def test_a_long_batch_names_the_text_of_all_where_one_is_wrong(small: npdistil.Model) -> None:
    pipe = npdistil.pipeline("text-classification", small, batch_size=4)
    with pytest.raises(InputError, match="^from text 8 on, text 2 is a int: 5"):
        pipe(["a"] * 10 + [5])
    answers = pipe(iter(["a"] * 10 + [None]))
    assert len([next(answers)["label"] for _ in range(10)]) == 10  # what comes before it is answered
    with pytest.raises(InputError, match="^text 10 is missing"):
        next(answers)


def test_texts_to_measure_with_are_a_batch_too(small: npdistil.Model) -> None:
    with pytest.raises(InputError, match="found a string; put it in a list"):
        bench(small, "not letter by letter", 0.01)


def test_columns_go_through_scikit_learns_transformers(small: npdistil.Model) -> None:
    frame = pd.DataFrame(TWO)
    expected = npdistil.Embedder(small).transform(TEXTS)
    for column in ("text", ["text"]):  # a Series, and a frame of one column
        columns = ColumnTransformer([("vectors", npdistil.Embedder(small), column)])
        assert columns.fit_transform(frame).tolist() == expected.tolist()
    fitted = make_pipeline(columns, LogisticRegression()).fit(frame, [0, 1, 0, 1, 0])
    assert fitted.predict(frame).shape == (5,)


def test_the_core_imports_no_library_of_tables(small: npdistil.Model) -> None:
    names = ("pandas", "polars", "pyarrow", "sklearn", "datasets", "torch")
    code = (
        f"import sys, npdistil; m = npdistil.load({str(small.checkpoint.directory)!r}); m.predict(['a']); "
        f"npdistil.Embedder(m).transform(['a']); print([n for n in {names} if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
