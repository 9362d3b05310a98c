"""Answers to pairs that are cut and to long questions, as transformers 5.24 (questions: 4.57.6) gave them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

import npdistil

Make = Callable[..., Path]
LONG = "the film was good and i like it not bad at a . "
QUESTION = (
    "who lives in paris and who in the city where john was who lives in paris and who in the city where john was?"
)
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}


@pytest.mark.parametrize(
    ("first", "second", "settings", "score"),
    [
        (3, 4, {"truncation": True}, 0.9940045475959778),
        (4, 3, {"truncation": True}, 0.9940045475959778),
        (1, 4, {"truncation": True}, 0.9966521859169006),
        (4, 1, {"truncation": "longest_first"}, 0.9781838059425354),
        (3, 4, {"truncation": "only_first"}, 0.9949386119842529),
        (4, 3, {"truncation": "only_first"}, 0.9939643740653992),
        (1, 4, {"truncation": "only_second"}, 0.9553896784782410),
        (3, 4, {"truncation": True, "max_length": 12}, 0.9947565793991089),
    ],
    ids=str,
)
def test_pairs(make: Make, engine: str, first: int, second: int, settings: dict[str, Any], score: float) -> None:
    classify = npdistil.pipeline("text-classification", make(), engine=engine, **settings)
    answer = classify({"text": LONG * first, "text_pair": "who lives in paris ? " * second})
    assert answer == {"label": "POSITIVE", "score": pytest.approx(score, abs=1e-6)}


def test_premises(make: Make, engine: str) -> None:
    judge = npdistil.pipeline("zero-shot-classification", make(id2label=NLI), engine=engine, truncation=True)
    answer = judge(LONG * 4, ["good", "bad"], hypothesis_template="it was {} .")
    assert answer["labels"] == ["bad", "good"]
    assert answer["scores"] == pytest.approx([0.5248358845710754, 0.47516414523124695], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "answers"),
    [
        (
            {"question": QUESTION, "context": LONG * 3 + "john lives in paris", "doc_stride": 4},
            (0.028490197379142046, 87, 91, "at a"),
        ),
        (
            {"question": ["who"], "context": "john lives in paris", "top_k": 2},
            [(0.09877817332744598, 11, 19, "in paris"), (0.06671611964702606, 0, 19, "john lives in paris")],
        ),
        (
            {"question": "who lives in paris", "context": LONG * 8, "top_k": 3, "doc_stride": 8},
            [
                (0.04487123456783593, 322, 326, "at a"),
                (0.023483036318793893, 295, 326, "good and i like it not bad at a"),
                (0.023094554198905826, 177, 185, "bad at a"),
            ],
        ),
    ],
    ids=["a long question", "a list of one", "many windows"],
)
def test_questions(make: Make, engine: str, given: dict[str, Any], answers: Any) -> None:
    check_answers(make, engine, given, answers)


@pytest.mark.parametrize(
    ("context", "answers"),
    [
        (LONG * 3 + "john lives in paris", (0.02761712670326233, 0, 12, "the film was")),
        (LONG * 8, (0.008212411776185036, 329, 350, "the film was good and")),
    ],
    ids=["two windows", "many windows"],
)
def test_windows_are_counted_from_the_end_where_texts_are_cut_on_the_left(
    make: Make, engine: str, context: str, answers: Any
) -> None:
    given = {"question": "who lives in paris", "context": context, "doc_stride": 4}
    check_answers(make, engine, given, answers, truncation_side="left")


def check_answers(make: Make, engine: str, given: dict[str, Any], answers: Any, **settings: Any) -> None:
    directory = make(architectures=["DistilBertForQuestionAnswering"], max_position_embeddings=48)
    tiny.write_tokenizer(directory, model_max_length=48, **settings)
    found = npdistil.pipeline("question-answering", directory, engine=engine)(**given)

    def near(score: float, start: int, end: int, answer: str) -> dict[str, Any]:
        return {"score": pytest.approx(score, abs=1e-6), "start": start, "end": end, "answer": answer}

    assert found == ([near(*each) for each in answers] if isinstance(answers, list) else near(*answers))
