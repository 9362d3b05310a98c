"""Names of special tokens, and how tokens become words: the tokenizer's own, whichever kind it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import other_tokenizers
import pytest

import npdistil
from npdistil.errors import InputError

Make = Callable[..., Path]
LABELS = {0: "O", 1: "B-PER", 2: "I-PER"}


@pytest.fixture
def opened(make: Make) -> Callable[..., Any]:
    """A pipeline on a model with a tokenizer of a kind."""

    def opened(task: str, kind: str, architecture: str, **settings: Any) -> Any:
        tokenizer = other_tokenizers.build(kind)
        rows = max(tokenizer.get_vocab().values()) + 1
        directory = make(architectures=[architecture], vocab_size=rows, tokenizer=None, id2label=LABELS)
        other_tokenizers.write(directory, tokenizer, **settings)
        return npdistil.pipeline(task, directory, engine="numpy")  # type: ignore[call-overload]

    return opened


@pytest.mark.parametrize("kind", other_tokenizers.KINDS)
def test_a_mask_has_the_tokenizers_name(opened: Callable[..., Any], kind: str) -> None:
    fill = opened("fill-mask", kind, "DistilBertForMaskedLM")
    assert len(fill("It was a <mask> film.")) == 5
    with pytest.raises(InputError, match="text 0 has no <mask>"):
        fill("It was a [MASK] film.")


@pytest.mark.parametrize(
    ("kind", "target", "word", "sequence"),
    [
        ("wordpiece", "was", "was", "It was a was film."),
        ("byte-bpe", "Ġit", " it", "It was a  it film."),
        ("suffix-bpe", "was</w>", "was", "It was a was film ."),
        ("unigram", "a", "a", "It was a a film."),
        ("wordlevel", "was", "was", "It was a was film ."),
    ],
)
def test_a_filled_text_is_decoded_as_its_tokenizer_does(
    opened: Callable[..., Any], kind: str, target: str, word: str, sequence: str
) -> None:
    """As transformers 5.24 does."""
    (answer,) = opened("fill-mask", kind, "DistilBertForMaskedLM")("It was a <mask> film.", targets=target)
    assert (answer["token_str"], answer["sequence"]) == (word, sequence)


@pytest.mark.parametrize(("says", "sequence"), [(True, "It's a was film."), (False, "It ' s a was film.")])
def test_blanks_are_cleaned_up_where_the_directory_says_so(
    opened: Callable[..., Any], says: bool, sequence: str
) -> None:
    fill = opened("fill-mask", "wordpiece", "DistilBertForMaskedLM", clean_up_tokenization_spaces=says)
    assert fill("It's a <mask> film.", targets="was")[0]["sequence"] == sequence


def test_special_tokens_are_shown_as_words(opened: Callable[..., Any]) -> None:
    fill = opened("fill-mask", "wordpiece", "DistilBertForMaskedLM")
    answers = fill("a <mask> film", targets=["<sep>", "<unk>", "<pad>"])
    assert {each["token_str"] for each in answers} == {"<sep>", "<unk>", "<pad>"}
    assert {each["sequence"] for each in answers} == {"a film"}


@pytest.mark.parametrize("targets", ["🙂", ["a", "東京"]])
@pytest.mark.parametrize("kind", other_tokenizers.KINDS)
def test_a_target_that_would_be_the_unknown_token_is_refused(
    opened: Callable[..., Any], kind: str, targets: Any
) -> None:
    fill = opened("fill-mask", kind, "DistilBertForMaskedLM")
    with pytest.raises(InputError, match="is not one token of the vocabulary"):
        fill("a <mask> film", targets=targets)


def test_a_tokenizer_without_a_mask_token_is_refused(opened: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="the tokenizer has no mask token"):
        opened("fill-mask", "wordpiece", "DistilBertForMaskedLM", mask_token="<hidden>")


@pytest.mark.parametrize("strategy", ["first", "average", "max"])
@pytest.mark.parametrize("kind", ["wordpiece", "suffix-bpe", "unigram", "wordlevel"])
def test_an_unknown_word_is_a_word_of_its_own(opened: Callable[..., Any], kind: str, strategy: str) -> None:
    ner = opened("ner", kind, "DistilBertForTokenClassification")
    task = ner.processor.replaced({"aggregation_strategy": strategy})
    (tokens,) = tokens_of(task, "José 😀 Berlin")
    assert [each["is_subword"] for each in tokens if each["word"] == "😀"] == [False]


def tokens_of(task: Any, text: str) -> Any:
    """What a task makes of the tokens of one text before it aggregates them."""
    ((item, cut),) = task.preprocess([text]).context
    return task._tokens(item, cut, [np.zeros((len(part.positions), len(LABELS))) for part in cut])


@pytest.mark.parametrize("kind", other_tokenizers.KINDS)
def test_words_of_entities_are_decoded(opened: Callable[..., Any], kind: str) -> None:
    ner = opened("ner", kind, "DistilBertForTokenClassification")
    found = ner("Sarah lives in Berlin", aggregation_strategy="simple", ignore_labels=[])
    assert not {*"ĠÃ▁#"} & {*"".join(each["word"] for each in found)}
    assert "".join(each["word"].replace(" ", "") for each in found) == "SarahlivesinBerlin"


def test_names_come_from_special_tokens_map_where_the_other_file_says_nothing(make: Make) -> None:
    tokenizer = other_tokenizers.build("wordpiece")
    rows = max(tokenizer.get_vocab().values()) + 1
    directory = make(architectures=["DistilBertForMaskedLM"], vocab_size=rows, tokenizer=None)
    tokenizer.save(str(directory / "tokenizer.json"))
    names = other_tokenizers.ANGLE | {"mask_token": {"content": "<mask>", "lstrip": True}}
    (directory / "special_tokens_map.json").write_text(json.dumps(names))
    fill = npdistil.pipeline("fill-mask", directory, engine="numpy")
    assert len(fill("It was a <mask> film.")) == 5
