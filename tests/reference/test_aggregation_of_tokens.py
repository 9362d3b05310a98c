"""token-classification over tokenizers of each kind, strategies, texts and words, against transformers' pipeline."""

from itertools import product
from pathlib import Path
from typing import Any

import other_tokenizers
import pytest
import transformers
from pipelines_compared import Matrix, write_model

import npdistil

LABELS = dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")))
STRATEGIES = ("none", "simple", "first", "average", "max")
TEXTS: list[Any] = [
    *("José 😀 Berlin", "Sarah Jessica lives in New York.", "nothing 東京 x", "", "  Berlin \n\tParis"),
    "It's   a don't-know (Newest) <mask> <unk>x",
    ["José 😀 Berlin", "a"],
    ["José 😀 Berlin"],
]
WORDS: list[Any] = [
    ["José", "😀", "Berlin", "unaffable", "e-mail", "a b"],
    [["José", "Berlin"], ["x"]],
    [["José", "Berlin"]],
    ["Berlin"],
    "Berlin",
    [["José"], "Berlin"],
    [],
]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("kind", other_tokenizers.KINDS)
def test_aggregation(tmp_path: Path, kind: str) -> None:
    tokenizer = other_tokenizers.build(kind)
    directory = write_model(tmp_path, tokenizer, "DistilBertForTokenClassification", id2label=LABELS)
    other_tokenizers.write(directory, tokenizer)
    theirs = transformers.pipeline("token-classification", str(directory), device="cpu")
    matrix = Matrix(npdistil.pipeline("token-classification", directory), theirs)
    ignored: list[dict[str, Any]] = [{}, {"ignore_labels": []}, {"ignore_labels": None}]
    joined: list[dict[str, Any]] = [{}, {"delimiter": "--"}, {"delimiter": None}]
    joined += [{"delimiter": "", "ignore_labels": ["MISC", "O"]}]
    cases = [*product(TEXTS, STRATEGIES, ignored)]
    cases += product(WORDS, STRATEGIES, [each | {"is_split_into_words": True} for each in joined])
    for text, strategy, more in cases:
        purpose = "a pipeline of no texts gives no answers" if text == [] else ""
        matrix.compare(text, on_purpose=purpose, aggregation_strategy=strategy, **more)
    print(matrix)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_windows(tmp_path: Path, kind: str) -> None:
    tokenizer = other_tokenizers.build(kind)
    directory = write_model(tmp_path, tokenizer, "DistilBertForTokenClassification", id2label=LABELS)
    other_tokenizers.write(directory, tokenizer, model_max_length=16)
    theirs = transformers.pipeline("token-classification", str(directory), device="cpu")
    matrix = Matrix(npdistil.pipeline("token-classification", directory), theirs)
    words = " ".join(TEXTS[:3]).split()
    for count, stride, strategy in product([1, 5, 12, 40], [0, 1, 5, 13], STRATEGIES[1:]):
        text = (words * 4)[:count]
        matrix.compare(" ".join(text), stride=stride, aggregation_strategy=strategy)
        matrix.compare([text], stride=stride, aggregation_strategy=strategy, is_split_into_words=True)
    print(matrix)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_none_in_a_call_leaves_what_the_pipeline_was_made_with(tmp_path: Path) -> None:
    tokenizer = other_tokenizers.build("wordpiece")
    directory = write_model(tmp_path, tokenizer, "DistilBertForTokenClassification", id2label=LABELS)
    other_tokenizers.write(directory, tokenizer)
    made: dict[str, Any] = {"ignore_labels": ["LOC"], "aggregation_strategy": "simple"}
    theirs = transformers.pipeline("token-classification", str(directory), device="cpu", **made)
    ours = npdistil.pipeline("token-classification", directory, **made)
    given: dict[str, Any] = {"ignore_labels": None, "aggregation_strategy": None}
    Matrix(ours, theirs).compare(TEXTS[1], **given)
    assert "LOC" not in str(ours(TEXTS[1], **given))
    assert "LOC" in str(ours(TEXTS[1], ignore_labels=["O"]))
