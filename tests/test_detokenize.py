"""weights/detokenize.py: what a treebank split comes together again, and nothing else changes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st


def load_detokenize() -> ModuleType:
    path = Path(__file__).parents[1] / "weights" / "detokenize.py"
    spec = importlib.util.spec_from_file_location("detokenize", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


natural = load_detokenize().natural

CASES = [
    ("it 's a charming journey . ", "it's a charming journey."),
    ("i do n't , ca n't and wo n't like it", "i don't, can't and won't like it"),
    (
        "they 've said we 'd win , i 'm sure you 'll agree , we 're done",
        "they've said we'd win, i'm sure you'll agree, we're done",
    ),
    ("the actors ' faces", "the actors' faces"),
    ("you can not say you 're gon na like it", "you cannot say you're gonna like it"),
    ("-lrb- the actor -RRB- is fine", "(the actor) is fine"),
    ("( the actor ) , not ( me ) !", "(the actor), not (me)!"),
    ("( d ) oes n't bother", "(d)oesn't bother"),
    ("a `` best man '' clone", 'a "best man" clone'),
    ("`` simone , '' and", '"simone," and'),
    ("wrong with '' independent film '' as a concept", 'wrong with "independent film" as a concept'),
    ("best man '' clone", 'best man" clone'),
    ("another ` spectacle . '", "another 'spectacle.'"),
    ("slow -- very slow", "slow - very slow"),
    ("funny ... or not . . .", "funny... or not..."),
    ("... but it works", "... but it works"),
    ("skate / surf culture", "skate/surf culture"),
    ("haul 'em to the '70s", "haul 'em to the '70s"),
    ("a $ 40 million film , # 3 , 50 % off", "a $40 million film, #3, 50% off"),
    ("what a mélange : naïve ; good ?", "what a mélange: naïve; good?"),
    ("a well-made , punch-drunk pic", "a well-made, punch-drunk pic"),
    ("", ""),
]


@pytest.mark.parametrize(("treebank", "expected"), CASES)
def test_treebank_text_becomes_what_people_type(treebank: str, expected: str) -> None:
    assert natural(treebank) == expected


def test_typographic_form_has_curly_quotes_and_long_dashes() -> None:
    assert natural("it 's `` so '' -- ` so ' good", typographic=True) == (
        "it\N{RIGHT SINGLE QUOTATION MARK}s \N{LEFT DOUBLE QUOTATION MARK}so\N{RIGHT DOUBLE QUOTATION MARK}\N{EM DASH}"
        "\N{LEFT SINGLE QUOTATION MARK}so\N{RIGHT SINGLE QUOTATION MARK} good"
    )


@pytest.mark.parametrize("text", [expected for _, expected in CASES])
def test_natural_text_stays_as_it_is(text: str) -> None:
    assert natural(text) == text


@given(st.lists(st.from_regex(r"[a-z0-9é]{1,8}", fullmatch=True)))
def test_plain_words_keep_their_letters_and_their_order(words: list[str]) -> None:
    assert natural(" ".join(words)).replace(" ", "") == "".join(words)


@given(st.text())
def test_any_text_gives_a_text_without_space_at_its_ends(text: str) -> None:
    assert natural(text) == natural(text).strip()
