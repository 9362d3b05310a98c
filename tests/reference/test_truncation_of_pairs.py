"""Which tokens of texts and pairs stay where they are cut, and the answers to them, against transformers."""

from itertools import product
from pathlib import Path
from typing import Any

import other_tokenizers
import pytest
import transformers
from pipelines_compared import Matrix, write_model
from transformers import AutoTokenizer

import npdistil
from npdistil.text import TRUNCATION, tokenize, truncated

WORDS = [1, 2, 3, 4, 5, 6, 9, 14]
LABELS = {0: "contradiction", 1: "neutral", 2: "entailment"}
NUMBERS = {name: number for number, name in LABELS.items()}


@pytest.fixture(params=["right", "left"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A classifier for texts of up to 24 tokens, which its tokenizer cuts to 20, on one side or the other."""
    tokenizer = other_tokenizers.build("wordpiece")
    settings: dict[str, Any] = {"max_position_embeddings": 24, "id2label": LABELS, "label2id": NUMBERS}
    write_model(tmp_path, tokenizer, "DistilBertForSequenceClassification", **settings)
    other_tokenizers.write(tmp_path, tokenizer, model_max_length=20, truncation_side=request.param)
    return tmp_path


def test_ids_of_pairs(directory: Path) -> None:
    model, reference = npdistil.load(directory, engine="numpy"), AutoTokenizer.from_pretrained(directory)
    side = model.checkpoint.tokenization.truncation_side

    def ours(text: str, pair: str | None, strategy: str, max_length: int) -> list[int]:
        (encoding,) = tokenize(model.checkpoint.tokenizer, [text if pair is None else (text, pair)])
        return [encoding.ids[i] for i in truncated(encoding, max_length, strategy, side).positions]

    def theirs(text: str, pair: str | None, strategy: str, max_length: int) -> list[int]:
        ids: list[int] = reference(text, pair, truncation=strategy, max_length=max_length)["input_ids"]
        return ids

    matrix = Matrix(ours, theirs)
    first, second = "film a is good bad".split() * 3, "was it".split() * 7
    for n, m, strategy, length in product([0, *WORDS], [None, *WORDS], TRUNCATION, range(4, 24)):
        matrix.compare(" ".join(first[:n]), None if m is None else " ".join(second[:m]), strategy, length)
    print(matrix)


def pairs() -> list[Any]:
    words = "Sarah lives in New York and it was a good film ".split()
    lengths = [(0, 3), (3, 2), (8, 12), (12, 8), (15, 15), (30, 3), (3, 30), (25, 40), (40, 25), (40, 0)]
    texts = [{"text": " ".join((words * 4)[:a]), "text_pair": " ".join((words * 4)[3:][:b])} for a, b in lengths]
    return [*texts, " ".join(words * 3), "a film", texts[:3]]


def test_answers_to_pairs_that_are_cut(directory: Path) -> None:
    theirs = transformers.pipeline("text-classification", str(directory), device="cpu")
    matrix = Matrix(npdistil.pipeline("text-classification", directory), theirs)
    for item, strategy, length in product(pairs(), [True, *TRUNCATION], [None, 8, 13, 24]):
        given: dict[str, Any] = {"truncation": strategy} | ({} if length is None else {"max_length": length})
        matrix.compare(item, top_k=None, **given)
    for item, strategy in product(pairs(), [False, "do_not_truncate"]):
        long = len(npdistil.load(directory, engine="numpy").tokenizer.encode(str(item)).ids) > 30
        matrix.compare(item, top_k=None, truncation=strategy, on_purpose="long texts are read in windows" * long)
    print(matrix)


def test_labels_and_hypotheses(directory: Path) -> None:
    """Of zero-shot classification, whose premises the reference cuts."""
    theirs = transformers.pipeline("zero-shot-classification", str(directory), device="cpu")
    ours = npdistil.pipeline("zero-shot-classification", directory, truncation=True)
    matrix = Matrix(ours, theirs)
    words = "Sarah lives in New York and it was a good film ".split() * 4
    premises: list[Any] = [" ".join(words[:n]) for n in (1, 5, 12, 40)] + [["a film", "Berlin"], ["a film"], []]
    labels: list[Any] = [
        "film",
        ["film", "good"],
        "film, good ,York",
        ["good", "{}"],
        ["", "film"],
        [],
        "",
        ["film", "film"],
    ]
    templates = ["It is {}.", "{}", "{0} or {0} film", "It is {{}} {}"]
    for premise, label, template, several in product(premises, labels, templates, [False, True]):
        matrix.compare(
            premise,
            candidate_labels=label,
            hypothesis_template=template,
            multi_label=several,
            on_purpose="no texts give no answers, but labels are checked" if premise == [] else "",
        )
    refused = ["film", "It is {{}}.", "{0:.0}", "{", "{} {}", "{name}", "{:.1}", "{0.x}"]
    for template, label in product(refused, [["film", "food"], ["film"]]):
        matrix.compare(
            premises[1],
            candidate_labels=label,
            hypothesis_template=template,
            on_purpose="a template that takes less than the label in is refused, whatever the labels",
        )
    print(matrix)
