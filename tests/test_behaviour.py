"""What the bundled model answers to 200 short texts by kind, right or wrong, is what its card says."""

import json
from collections import Counter
from pathlib import Path

import pytest

import npdistil

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "behaviour.json").read_text(encoding="utf-8"))
LINES = [line.split("\t") for line in (HERE / "behaviour.tsv").read_text(encoding="utf-8").split("\n")[1:] if line]


@pytest.fixture(scope="module")
def model() -> npdistil.Model:
    return npdistil.load(engine="numpy")


@pytest.mark.parametrize("kind", RECORDED)
def test_the_answers_of_each_kind_are_those_on_record(model: npdistil.Model, kind: str) -> None:
    lines = [(expected, text) for found, expected, text in LINES if found == kind]
    answers = model.predict([text for _, text in lines])
    counts = Counter(f"{expected}, answered {answer}" for (expected, _), answer in zip(lines, answers, strict=True))
    assert counts == RECORDED[kind]


def test_there_are_200_different_lines_and_every_kind_is_on_record() -> None:
    assert len({text for _, _, text in LINES}) == len(LINES) == 200
    assert {kind for kind, _, _ in LINES} == set(RECORDED)
    assert {expected for _, expected, _ in LINES} == {"POSITIVE", "NEGATIVE", "neutral"}
