"""Pipelines and tokenizers against transformers' own where people seldom look: arguments, texts, settings."""

import json
import unicodedata
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, DistilBertConfig

import npdistil

Answers = Callable[[str], tuple[Any, Any]]
SCORE = 2e-5  # largest difference of scores
PAIR = {"text": "Who lives in Paris?", "text_pair": "John does."}
LONG = "Anna Smith left New York for Paris, where she met Dr. O'Neill of the UN; it wasn't bad. " * 40
NAMES = "Sarah Jessica lives in ΑΘΗΝΑ,São Paulo & 東京; e-mail: sarah@example.org (☃ 🙂 unaffable)."
SPECIAL = "\N{ZERO WIDTH SPACE}\N{RIGHT-TO-LEFT OVERRIDE}\N{REPLACEMENT CHARACTER}\0\x1f\x7f\x85\u2028\ufeff"
SCRIPTS = (
    "Aaé ßıİǆ Ωως Ёё אב عَر अक ไทยำ ཀ 한ᄀ カガヴ 漢㐀𠀀 Ꭰꭰ ხ Ⴀ ՔՐ ክ Ꮳ 𝔞𝟘Ａ１ ﬁ "
    "² ½ € ‰ – “ ” … ¡¿ 👩‍👩‍👧 🇩🇪 e\u0301\u0323"
)


def made(directory: Path, tokenizer: Path, architecture: str, **changes: Any) -> Path:
    """A small model of random weights, as transformers saves it."""
    torch.manual_seed(5)
    config = DistilBertConfig(n_layers=2, dim=48, n_heads=3, hidden_dim=96, initializer_range=0.3, **changes)
    getattr(transformers, architecture)(config).eval().save_pretrained(directory)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(directory)
    return directory


def same(ours: Any, theirs: Any) -> None:
    """The same lists and keys in the same order, with scores that are near."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for name in theirs:
            same(ours[name], theirs[name])
    elif isinstance(theirs, list):
        assert isinstance(ours, list)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(ours, float):
        assert ours == pytest.approx(float(theirs), abs=SCORE)
    else:
        assert ours == theirs


# Text classification


@pytest.fixture(scope="module")
def classifiers(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Kind of model -> the two pipelines."""
    kinds: dict[str, dict[str, Any]] = {
        "two": {"num_labels": 2},
        "five": {"id2label": dict(enumerate(("anger", "fear", "joy", "love", "none")))},
        "one": {"num_labels": 1},
        "many": {"num_labels": 4, "problem_type": "multi_label_classification"},
        "regression": {"num_labels": 1, "problem_type": "regression"},
        "two values": {"num_labels": 2, "problem_type": "regression"},
    }
    kept: dict[str, tuple[Any, Any]] = {}

    def both(kind: str) -> tuple[Any, Any]:
        if kind not in kept:
            directory = made(
                tmp_path_factory.mktemp("model"), bundled, "DistilBertForSequenceClassification", **kinds[kind]
            )
            theirs = transformers.pipeline("text-classification", str(directory), device="cpu")
            kept[kind] = npdistil.pipeline("text-classification", directory), theirs
        return kept[kind]

    return both


@pytest.mark.parametrize("kind", ["two", "five", "one", "many", "regression", "two values"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"top_k": 1},
        {"top_k": 3},
        {"top_k": None},
        {"top_k": 100},
        {"function_to_apply": "none"},
        {"function_to_apply": "sigmoid", "top_k": None},
        {"function_to_apply": "softmax", "top_k": 2},
        {"truncation": True, "top_k": None},
    ],
    ids=str,
)
def test_text_classification(classifiers: Answers, kind: str, arguments: dict[str, Any]) -> None:
    ours, theirs = classifiers(kind)
    inputs: list[Any] = [
        "I like you.",
        "",
        [NAMES],
        ["I like you.", "", SPECIAL, SCRIPTS],
        PAIR,
        [PAIR, {"text": "a"}, {"text": "a", "text_pair": ""}],
    ]
    if "truncation" in arguments:
        inputs += [LONG, [LONG, "a"], {"text": "a", "text_pair": LONG}]
    for each in inputs:
        same(ours(each, **arguments), theirs(each, **arguments))


def test_generators_give_what_lists_do(classifiers: Answers) -> None:
    ours, theirs = classifiers("five")
    texts = ["I like you.", NAMES, "", "bad"]
    for arguments in ({"batch_size": 3}, {"top_k": 2}):
        same(list(ours((each for each in texts), **arguments)), list(theirs((each for each in texts), **arguments)))


# Token classification


@pytest.fixture(scope="module")
def taggers(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    labels = dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")))
    directory = made(tmp_path_factory.mktemp("ner"), bundled, "DistilBertForTokenClassification", id2label=labels)
    return directory, transformers.pipeline("token-classification", str(directory), device="cpu")


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("ignored", [None, [], ["O", "PER"], ["I-LOC"]], ids=str)
def test_token_classification(taggers: tuple[Path, Any], strategy: str, ignored: list[str] | None) -> None:
    directory, theirs = taggers
    arguments: dict[str, Any] = {"aggregation_strategy": strategy}
    if ignored is not None:
        arguments["ignore_labels"] = ignored
    ours = npdistil.pipeline("token-classification", directory)
    for text in (NAMES, "a", "", SCRIPTS, SPECIAL, [NAMES, "John"], [NAMES]):
        same(ours(text, **arguments), theirs(text, **arguments))


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("delimiter", [" ", "", "--"], ids=repr)
def test_token_classification_of_words(taggers: tuple[Path, Any], strategy: str, delimiter: str) -> None:
    directory, theirs = taggers
    arguments = {"aggregation_strategy": strategy, "is_split_into_words": True, "delimiter": delimiter}
    ours = npdistil.pipeline("token-classification", directory)
    words = ["Sarah", "Jessica's", "e-mail", "unaffable", "東京", ",", "x"]
    same(ours([words, words[1:3]], **arguments), theirs([words, words[1:3]], **arguments))  # type: ignore[call-overload]


@pytest.mark.parametrize("strategy", ["simple", "first", "average", "max"])
@pytest.mark.parametrize("stride", [0, 32, 128])
def test_token_classification_of_long_texts_in_windows(taggers: tuple[Path, Any], strategy: str, stride: int) -> None:
    directory, theirs = taggers
    arguments: dict[str, Any] = {"aggregation_strategy": strategy, "stride": stride}
    same(npdistil.pipeline("token-classification", directory, **arguments)(LONG), theirs(LONG, **arguments))


# Tokenizers


@pytest.fixture(scope="module")
def tokenizers(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """Ours and theirs, from tokenizer.json and from vocab.txt with each setting of letter case and accents."""
    from npdistil.checkpoint.folder import Folder
    from npdistil.checkpoint.tokenizer import read_tokenization

    vocabulary = json.loads((bundled / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    lines = "".join(f"{token}\n" for token, _ in sorted(vocabulary.items(), key=lambda item: item[1]))
    found = {
        "tokenizer.json": (read_tokenization(Folder(bundled), 2**20).tokenizer, AutoTokenizer.from_pretrained(bundled))
    }
    for name, chosen in {
        "uncased": {"do_lower_case": True},
        "cased": {"do_lower_case": False},
        "accents": {"do_lower_case": True, "strip_accents": False},
        "cased, no accents": {"do_lower_case": False, "strip_accents": True},
        "no Chinese": {"tokenize_chinese_chars": False},
    }.items():
        directory = tmp_path_factory.mktemp("tokenizer")
        (directory / "vocab.txt").write_text(lines, encoding="utf-8")
        (directory / "config.json").write_text('{"model_type": "distilbert"}')
        stored = {"tokenizer_class": "DistilBertTokenizer"} | chosen
        (directory / "tokenizer_config.json").write_text(json.dumps(stored))
        with nullcontext() if chosen.get("do_lower_case", True) else pytest.warns(match="keeps capital letters"):
            ours = read_tokenization(Folder(directory), 2**20).tokenizer
        found[name] = ours, AutoTokenizer.from_pretrained(directory)
    return found


KINDS = ["tokenizer.json", "uncased", "cased", "accents", "cased, no accents", "no Chinese"]


@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_of_naughty_texts_and_of_every_script(
    tokenizers: dict[str, tuple[Any, Any]], naughty: list[str], kind: str
) -> None:
    ours, theirs = tokenizers[kind]
    texts = [*naughty, SPECIAL, SCRIPTS, NAMES, *SPECIAL, "[MASK] [SEP]a [mask]", "[UNK][PAD]", " [CLS] "]
    assert [each.ids for each in ours.encode_batch(texts)] == theirs(texts)["input_ids"]
    pairs = [(text, other) for text, other in pairwise(texts) if other]
    assert [each.ids for each in ours.encode_batch(pairs)] == theirs(*map(list, zip(*pairs, strict=True)))["input_ids"]


@pytest.mark.parametrize("kind", ["tokenizer.json", "cased"])
def test_token_ids_of_every_character(tokenizers: dict[str, tuple[Any, Any]], kind: str) -> None:
    """Each of them between two letters, so that a blank shows."""
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000 and unicodedata.category(chr(i)) != "Cn"]
    assert len(characters) > 250_000
    ours, theirs = tokenizers[kind]
    texts = [" ".join(f"a{each}b" for each in characters[i : i + 2000]) for i in range(0, len(characters), 2000)]
    texts += [" ".join(characters[i : i + 2000]) for i in range(0, len(characters), 2000)]
    assert [each.ids for each in ours.encode_batch(texts)] == theirs(texts)["input_ids"]


@given(text=st.text(max_size=80) | st.text(alphabet=SCRIPTS + SPECIAL + "[MASK]#' ", max_size=60))
@settings(max_examples=100)
def test_token_ids_of_any_text(tokenizers: dict[str, tuple[Any, Any]], text: str) -> None:
    for ours, theirs in tokenizers.values():
        assert ours.encode(text).ids == theirs(text)["input_ids"]


@pytest.mark.parametrize("piece", ["a", "An hour, too long. ", "\0"], ids=repr)
def test_token_ids_of_a_million_characters(tokenizers: dict[str, tuple[Any, Any]], piece: str) -> None:
    ours, theirs = tokenizers["tokenizer.json"]
    text = piece * (10**6 // len(piece))
    assert ours.encode(text).ids == theirs(text)["input_ids"]
