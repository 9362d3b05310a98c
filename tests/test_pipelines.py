"""The protocol: what a pipeline answers is a task's postprocess of the model's forward of its preprocess."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import npdistil
from npdistil.batch import Inputs, Outputs
from npdistil.distilbert.encoder import Array
from npdistil.pipelines import TASKS

Make = Callable[..., Path]
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
LONG = "the film was good and i like it , not bad at all . " * 3
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[Any]]] = {  # task -> model, settings, items
    "text-classification": ({}, {}, ["good", LONG, {"text": "a", "text_pair": "b"}]),
    "token-classification": (
        {"architectures": ["DistilBertForTokenClassification"]},
        {},
        ["john lives in paris", LONG],
    ),
    "question-answering": (
        {"architectures": ["DistilBertForQuestionAnswering"]},
        {"doc_stride": 4},
        [{"question": "who", "context": LONG}, {"question": "where is it", "context": "in paris"}],
    ),
    "fill-mask": ({"architectures": ["DistilBertForMaskedLM"]}, {}, ["a [MASK] film", "[MASK] [MASK]"]),
    "zero-shot-classification": ({"id2label": NLI}, {"candidate_labels": "film,food"}, ["good", "a b"]),
    "feature-extraction": ({"architectures": ["DistilBertModel"]}, {}, ["good", "a b"]),
    "embedding": ({"architectures": ["DistilBertModel"]}, {}, ["good", LONG]),
    "multiple-choice": (
        {"architectures": ["DistilBertForMultipleChoice"]},
        {},
        [{"text": "a", "choices": ["b", "c"]}, {"text": "b", "choices": ["a"]}],
    ),
    "explanation": ({}, {}, ["a good film", "bad"]),
}


def same(ours: Any, theirs: Any) -> bool:
    return repr(ours) == repr(theirs)


def test_there_is_a_case_for_every_task() -> None:
    assert {TASKS[task] for task in CASES} == {*TASKS.values()}


@pytest.mark.parametrize("task", CASES)
def test_a_pipeline_is_preprocess_forward_and_postprocess(make: Make, engine: str, task: str) -> None:
    changes, settings, items = CASES[task]
    pipe = npdistil.pipeline(task, make(**changes), engine=engine, **settings)  # type: ignore[call-overload]
    answers = pipe.processor.postprocess(pipe.model.forward(pipe.processor.preprocess(items)))
    assert len(answers) == len(items)
    assert same(answers, pipe(items))
    assert same(answers, [*pipe(iter(items))])
    assert same(answers, [pipe.run([item])[0] for item in items])  # alone, and among others


@pytest.mark.parametrize("task", CASES)
def test_forward_can_be_cut_between_any_two_sequences(make: Make, engine: str, task: str) -> None:
    """What a door that mixes requests relies on: a sequence's output does not depend on those around it."""
    changes, settings, items = CASES[task]
    pipe = npdistil.pipeline(task, make(**changes), engine=engine, **settings)  # type: ignore[call-overload]
    inputs = pipe.processor.preprocess(items)
    values: list[Array] = []
    for i, ids in enumerate(inputs.token_ids):
        rows = None if inputs.rows is None else [inputs.rows[i]]
        values += pipe.model.forward(Inputs([ids], [1], inputs.output, rows)).values
    assert same(pipe.processor.postprocess(Outputs(inputs, values)), pipe.run(items))


def test_logits_of_some_tokens_are_those_of_all_at_these_places(make: Make, engine: str) -> None:
    model = npdistil.load(make(architectures=["DistilBertForTokenClassification"]), engine=engine)
    ids = [[2, 9, 10, 11, 3], [2, 12, 3]]
    whole = model.forward(Inputs(ids)).values
    some = model.forward(Inputs(ids, rows=[[1, 3], [2]])).values
    assert np.array_equal(some[0], whole[0][[1, 3]])
    assert np.array_equal(some[1], whole[1][[2]])


def test_a_checkpoint_without_a_head_has_no_logits(make: Make) -> None:
    model = npdistil.load(make(architectures=["DistilBertModel"]), engine="numpy")
    with pytest.raises(npdistil.InputError, match="DistilBertModel, which has no head"):
        model.forward(Inputs([[2, 3]]))
    assert model.forward(Inputs([[2, 3]], output="attentions")).values[0].shape == (2, 2, 2, 2)


def test_settings_of_a_call_do_not_stay(make: Make) -> None:
    pipe = npdistil.pipeline("text-classification", make(), engine="numpy")
    before = pipe(["good"])
    assert len(pipe(["good"], top_k=None)[0]) == 2
    assert pipe(["good"]) == before


@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_an_error_and_no_answer(make: Make, task: str, number: float) -> None:
    changes, settings, items = CASES[task]
    pipe = npdistil.pipeline(task, make(**changes), engine="numpy", **settings)  # type: ignore[call-overload]
    outputs = pipe.model.forward(pipe.processor.preprocess(items))
    values = [np.array(each) for each in outputs.values]
    values[-1].flat[-1] = number
    with pytest.raises(npdistil.EngineError, match=f"item {len(outputs.inputs.counts) - 1} are not all finite"):
        pipe.processor.postprocess(Outputs(outputs.inputs, values))


def test_weights_that_overflow_are_an_error(make: Make, engine: str) -> None:
    settings = tiny.config()
    arrays = tiny.tensors(settings)
    arrays["classifier.weight"] = np.full_like(arrays["classifier.weight"], 1e38)
    arrays["pre_classifier.bias"] = np.full_like(arrays["pre_classifier.bias"], 1e4)
    model = npdistil.load(make(arrays=arrays), engine=engine)
    with np.errstate(over="ignore"):
        for answer in (
            lambda: npdistil.pipeline("text-classification", model)("good"),
            lambda: model.predict(["good"]),
        ):
            with pytest.raises(npdistil.EngineError, match="item 0 are not all finite"):
                answer()
