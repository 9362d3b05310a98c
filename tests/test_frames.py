"""`annotate`: texts or a frame in memory, the same rows back in the same library with answers beside them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import tiny

import npdistil
from npdistil.errors import InputError

TEXTS = ["good", None, " ", "bad very bad", "good", ""]
READ = ["good", "bad very bad"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> npdistil.Model:
    return npdistil.load(tiny.write(tmp_path_factory.mktemp("model")), threads=1)


MADE: dict[str, Callable[[list[Any]], Any]] = {
    "pandas frame": lambda texts: pd.DataFrame({"id": range(len(texts)), "text": texts}, index=[5, 5, 6, 7, 8, 9]),
    "pandas frame of objects": lambda texts: pd.DataFrame({"text": texts}, dtype=object),
    "pandas Series": lambda texts: pd.Series(texts, name="text"),
    "pandas categories": lambda texts: pd.Series(texts, dtype="category", name="text"),
    "Polars frame": lambda texts: pl.DataFrame({"id": range(len(texts)), "text": texts}),
    "Polars Series": lambda texts: pl.Series("text", texts),
    "Arrow table": lambda texts: pa.table({"id": range(len(texts)), "text": texts}),
    "Arrow batch": lambda texts: pa.record_batch({"text": texts}),
    "Arrow array": pa.array,
    "Arrow chunked array": lambda texts: pa.chunked_array([texts[:2], texts[2:]]),
    "list": list,
    "NumPy": lambda texts: np.array(texts, object),
}
GIVEN: dict[str, dict[str, Any]] = {
    "label": {},
    "labels": {"top_k": None},
    "truncated": {"long_text": "truncate"},
    "vector": {"task": "embedding"},
}


def plain(value: Any) -> Any:
    """A value with None where a library has nothing."""
    nothing = value is pd.NA or (isinstance(value, float) and value != value)
    return None if nothing else value


def records(result: Any) -> list[dict[str, Any]]:
    """Rows of any library."""
    if isinstance(result, pd.DataFrame):
        rows = result.astype(object).to_numpy().tolist()
        return [dict(zip(result.columns, map(plain, row), strict=True)) for row in rows]
    rows = result.to_dicts() if isinstance(result, pl.DataFrame) else result
    return rows.to_pylist() if isinstance(rows, pa.Table) else rows


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("made", MADE)
def test_every_row_has_its_own_answer_and_nulls_where_there_is_no_text(
    model: npdistil.Model, made: str, kind: str
) -> None:
    given = GIVEN[kind]
    found = records(npdistil.annotate(MADE[made](TEXTS), model, **given))
    settings = {name: value for name, value in given.items() if name != "task"}
    pipe: Any = npdistil.Pipeline(model, task=given.get("task", "text-classification"), **settings)
    answers = dict(zip(READ, pipe(READ), strict=True))
    assert [row["text"] for row in found] == TEXTS
    for row in found:
        answer = answers.get(row["text"])
        if answer is None:
            assert row[kind] is None
        elif kind == "vector":
            assert np.array_equal(np.asarray(row[kind], np.float32), answer)
        elif kind == "labels":
            assert row[kind] == answer
        else:
            assert (row["label"], row["score"]) == (answer["label"], answer["score"])
            assert row.get("truncated", False) is False


def test_a_frame_comes_back_in_its_own_library_with_all_that_it_had(model: npdistil.Model) -> None:
    frame = MADE["pandas frame"](TEXTS)
    before = frame.copy()
    found = npdistil.annotate(frame, model)
    assert isinstance(found, pd.DataFrame)
    assert found.index.tolist() == [5, 5, 6, 7, 8, 9]
    assert found.columns.tolist() == ["id", "text", "label", "score"]
    pd.testing.assert_frame_equal(found[["id", "text"]], before)
    pd.testing.assert_frame_equal(frame, before)
    assert isinstance(npdistil.annotate(pl.Series("text", TEXTS), model), pl.DataFrame)
    table = MADE["Arrow table"](TEXTS).replace_schema_metadata({"a": "b"})
    assert npdistil.annotate(table, model).schema.metadata == {b"a": b"b"}
    assert npdistil.annotate(table.to_reader(2), model).num_rows == 6


@pytest.mark.parametrize("kind", GIVEN)
def test_types_of_the_new_columns_depend_on_no_value(model: npdistil.Model, kind: str) -> None:
    of_pandas, of_polars = set(), set()
    for texts in ([], [None], ["good"], ["good", None]):
        of_pandas.add(str(npdistil.annotate(pd.DataFrame({"text": texts}), model, **GIVEN[kind]).dtypes[kind]))
        frame = pl.DataFrame({"text": texts}, {"text": pl.String})
        of_polars.add(str(npdistil.annotate(frame, model, **GIVEN[kind]).schema[kind]))
    assert (len(of_pandas), len(of_polars)) == (1, 1)


def test_a_text_that_was_cut_is_noted_in_its_row(model: npdistil.Model) -> None:
    frame = pd.DataFrame({"text": ["good " * 50, "good", None]})
    found = npdistil.annotate(frame, model, long_text="truncate")["truncated"]
    assert found.tolist() == [True, False, pd.NA]
    assert str(found.dtype) == "boolean"


def test_texts_without_a_length_are_answered_as_they_are_asked_for(model: npdistil.Model) -> None:
    drawn = []

    def texts() -> Iterator[str]:
        for i in range(10):
            drawn.append(i)
            yield "good"

    answers = npdistil.annotate(texts(), model, batch_size=2)
    assert next(answers)["text"] == "good"
    assert len(drawn) == 2


def test_the_column_is_text_or_the_only_one_or_the_one_that_is_named(model: npdistil.Model) -> None:
    frame = pd.DataFrame({"review": ["good"], "text": ["bad"]})
    good, bad = npdistil.pipeline("text-classification", model)(["good", "bad"])
    assert npdistil.annotate(frame, model)["score"].tolist() == [bad["score"]]
    assert npdistil.annotate(frame, model, column="review", prefix="my_")["my_score"].tolist() == [good["score"]]
    assert npdistil.annotate(frame[["review"]], model)["score"].tolist() == [good["score"]]
    assert npdistil.annotate(pl.Series("a", ["good"]), model).columns == ["a", "label", "score"]
    assert npdistil.annotate(pl.Series(["good"]), model).columns == ["text", "label", "score"]
    assert npdistil.annotate(pd.Series(["good"]), model).columns.tolist() == ["text", "label", "score"]
    assert npdistil.annotate(pa.table({"a": ["good"]}), model).column_names == ["a", "label", "score"]


def test_a_pipeline_brings_its_own_settings_and_no_model_is_the_bundled_one(model: npdistil.Model) -> None:
    pipe = npdistil.pipeline("text-classification", model, function_to_apply="none")
    (row,) = npdistil.annotate(["good"], pipe)
    assert row == {"text": "good", **pipe(["good"])[0]}
    assert npdistil.annotate(["I like you. I love you."])[0]["label"] == "POSITIVE"
    with pytest.raises(InputError, match="top_k: these belong to `pipeline`"):
        npdistil.annotate(["good"], pipe, top_k=2)


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ("good", {}, "found a string; put it in a list"),
    (pd.DataFrame({"a": ["x"], "b": ["y"]}), {}, "the frame has no column 'text'; it has a, b"),
    (pl.DataFrame({"a": ["x"]}), {"column": "b"}, "the frame has no column 'b'; it has a"),
    (pa.table({"a": ["x"], "b": ["x"]}), {}, "no column 'text'"),
    (pd.DataFrame([["x", "y"]], columns=["text", "text"]), {}, "the frame has 2 columns 'text'"),
    (
        pd.DataFrame({"text": ["x"], "label": ["y"]}),
        {},
        "the frame has a column 'label' already; give the new ones a `prefix`",
    ),
    (pd.Series(["x"], name="label"), {}, "the frame has a column 'label' already"),
    (pd.DataFrame({"text": ["x", 5]}), {}, "row 1: its text is a int, not a text"),
    (["x", ["y"]], {}, "row 1: its text is a list, not a text"),
    (["x", "y\ud800"], {}, "row 1: the text has the lone surrogate"),
    (pl.LazyFrame({"text": ["x"]}), {}, r"collect\(\) it first"),
    ({"text": ["x"]}, {}, "found a dict"),
    (5, {}, "found a int"),
    (["x"], {"on_error": "skip"}, "on_error is 'skip'"),
    (["x"], {"combine": "none"}, "one answer each"),
    (["x"], {"colum": "a"}, "unknown setting: colum"),
]


@pytest.mark.parametrize(("data", "given", "says"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_annotated_is_refused_by_name(
    model: npdistil.Model, data: Any, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        npdistil.annotate(data, model, **given)


def test_a_row_that_cannot_be_answered_may_have_nulls(model: npdistil.Model) -> None:
    for data in (["good", "x\ud800", 5], pd.DataFrame({"text": ["good", "x\ud800", 5]})):
        rows = records(npdistil.annotate(data, model, on_error="null"))
        assert [row["label"] is None for row in rows] == [False, True, True]


def test_the_name_of_the_card_opens_the_bundled_model_and_says_so() -> None:
    name = "en.classify.distilbert_sequence.sst2"
    with pytest.warns(UserWarning, match=f"{name} is not what Spark NLP has under it, but the bundled model"):
        model = npdistil.load(name)
    assert model.checkpoint.directory == npdistil.bundled_model()
    (row,) = npdistil.annotate(["I like you. I love you."], model)
    assert row == {"text": "I like you. I love you.", **npdistil.pipeline("sentiment-analysis")(row["text"])[0]}
