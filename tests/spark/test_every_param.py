"""Every param of every stage with a model: a value that shows in columns, rows or in what a worker is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npdistil.errors import InputError
from npdistil.spark import models

pytestmark = pytest.mark.filterwarnings("ignore:.*longer texts are cut:UserWarning")
Make = Callable[..., Path]
LONG = "the film was good and i like it , not bad at all . where is the city john lives in ? it was very boring . " * 2
NER = {"architectures": ["DistilBertForTokenClassification"], "id2label": {0: "B-LOC", 1: "B-PER", 2: "I-PER"}}
NLI = {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}}
OF_ALL: dict[str, Any] = {"batchSize": 3, "engine": "compiled", "precision": "int8", "outputCol": "other"}
OF_TEXTS: dict[str, Any] = OF_ALL | {"inputCol": "other"}
# Stage -> what its model is, params beside, and each param with a value that must show. Not here: model, caseSensitive
# and inputCols, which have tests of their own.
STAGES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "DistilBertForSequenceClassification": (
        {},
        {"longText": "truncate"},
        OF_TEXTS
        | {"activation": "none", "coalesceSentences": True, "labelCol": "other", "longText": "windows"}
        | {"maxSentenceLength": 8, "scoreCol": "other", "threshold": 0.9999, "truncatedCol": "other"},
    ),
    "DistilBertForTokenClassification": (NER, {}, OF_TEXTS | {"aggregation": "none"}),
    "DistilBertForZeroShotClassification": (
        NLI,
        {"candidateLabels": ["film", "food"]},
        OF_TEXTS
        | {"candidateLabels": ["film", "city"], "hypothesis": "not {}", "multiLabel": True}
        | {"labelCol": "other", "scoreCol": "other"},
    ),
    "DistilBertEmbeddings": (
        {},
        {"longText": "truncate"},
        OF_TEXTS | {"longText": "windows", "maxSentenceLength": 8, "normalize": True, "pooling": "max"},
    ),
    "DistilBertForQuestionAnswering": (
        {"architectures": ["DistilBertForQuestionAnswering"]},
        {"inputCols": ["a", "b"]},
        OF_ALL | {"maxSentenceLength": 16},
    ),
    "DistilBertForMultipleChoice": (
        {"architectures": ["DistilBertForMultipleChoice"]},
        {"inputCols": ["a", "b"]},
        OF_ALL | {"choicesDelimiter": "|"},
    ),
}
APART = {"model", "caseSensitive", "inputCols"}
# Which shows in jobs alone; test_annotators.py has it.
ELSEWHERE = {("DistilBertEmbeddings", "outputAsVector")}


FOR_TEXTS = [
    ("DistilBertForSequenceClassification", "inputCol", "text"),
    ("DistilBertForSequenceClassification", "labelCol", "best"),
    ("DistilBertForSequenceClassification", "scoreCol", "best"),
    ("DistilBertForSequenceClassification", "truncatedCol", "cut"),
    ("DistilBertForTokenClassification", "inputCol", "text"),
    ("DistilBertForZeroShotClassification", "labelCol", "best"),
    ("DistilBertEmbeddings", "outputAsVector", True),
]
FOR_ANNOTATORS = {
    ("DistilBertForTokenClassification", "maxSentenceLength"): 8,
    ("DistilBertForZeroShotClassification", "coalesceSentences"): True,
}


def shown(stage: Any) -> str:
    """Columns and rows of a stage without a job, or what annotators' workers are told."""
    made = stage._make(None)
    if stage.hasParam("inputCol"):
        kinds = dict.fromkeys(("text", "other"), "string")
        told = json.loads(made.model.arguments)
        beside = {name: told[name] for name in ("engine", "precision", "batch_size")}
        return repr((stage._sources(kinds), stage._columns(), beside, made([LONG, "good"])))
    return repr((stage._columns(), made.make, made.model.arguments))


def test_no_stage_and_no_param_is_left_out_here() -> None:
    kinds = {kind.__name__: kind for kind in vars(models).values() if isinstance(kind, type) and hasattr(kind, "task")}
    assert {*STAGES} == {*kinds} - {"ModelStage"}
    for name, (_, _, params) in STAGES.items():
        own = {param.name for param in kinds[name]().params} - APART
        assert own - {*params} == {param for stage, param in {*ELSEWHERE, *FOR_ANNOTATORS} if stage == name}


@pytest.mark.parametrize(("name", "param"), [(name, param) for name in STAGES for param in STAGES[name][2]])
def test_a_param_shows(make: Make, name: str, param: str) -> None:
    changes, beside, params = STAGES[name]
    given = {"model": str(make(**changes, max_position_embeddings=40)), "engine": "numpy"} | beside
    kind = getattr(models, name)
    assert shown(kind(**given)) == shown(kind(**given))
    assert shown(kind(**given | {param: params[param]})) != shown(kind(**given))


@pytest.mark.parametrize(("name", "param"), FOR_ANNOTATORS)
def test_a_param_of_annotators_is_refused_where_it_would_do_nothing(make: Make, name: str, param: str) -> None:
    changes, beside, _ = STAGES[name]
    given = {"model": str(make(**changes)), "engine": "numpy", param: FOR_ANNOTATORS[name, param]} | beside
    kind = getattr(models, name)
    with pytest.raises(InputError, match=f"{param} is .*; it is for annotators: set inputCols"):
        kind(**given)._make(None)
    told = [kind(**given, inputCols=["a", "b"], outputCol="c")._make(None)]
    del given[param]
    told.append(kind(**given, inputCols=["a", "b"], outputCol="c")._make(None))
    assert repr(told[0].make) != repr(told[1].make)


@pytest.mark.parametrize(("name", "param", "value"), FOR_TEXTS)
def test_a_param_of_a_column_of_texts_is_refused_beside_input_cols(
    make: Make, name: str, param: str, value: Any
) -> None:
    changes, beside, _ = STAGES[name]
    given = {"model": str(make(**changes)), "engine": "numpy", "inputCols": ["a", "b"], "outputCol": "c"} | beside
    kind = getattr(models, name)
    kind(**given)._make(None)
    with pytest.raises(InputError, match=f"{param} is {value}; it is for a column of texts, not beside inputCols"):
        kind(**given | {param: value})._make(None)


def test_a_name_for_a_column_that_is_not_made_is_refused(make: Make) -> None:
    given = {"model": str(make()), "engine": "numpy", "truncatedCol": "cut"}
    for more in ({}, {"longText": "windows"}, {"longText": "truncate", "coalesceSentences": True}):
        with pytest.raises(InputError, match='truncatedCol is cut; that column comes with longText="truncate" alone'):
            models.DistilBertForSequenceClassification(**given | more)._make(None)
