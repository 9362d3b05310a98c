"""Packing, checking, windows and chunks."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from npdistil.batch import blocks, check_ids, chunks, pack
from npdistil.checkpoint.folder import Folder
from npdistil.checkpoint.tokenizer import read_tokenization
from npdistil.errors import InputError
from npdistil.text import (
    SENTENCE_END,
    Text,
    as_text,
    laid_out,
    parts,
    sentences,
    tokenize,
    tokenize_words,
    truncated,
    window_positions,
)

TEXTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), max_size=6)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(directory)
    return read_tokenization(Folder(directory), len(tiny.VOCABULARY)).tokenizer


# pack and check_ids


def packed(texts: Any) -> tuple[Any, Any]:
    """As an engine does it that has ten words and seven positions."""
    ids, bounds = pack(texts)
    check_ids(ids, bounds, 10, 7)
    return ids, bounds


@given(texts=TEXTS)
def test_pack_lays_texts_end_to_end(texts: list[list[int]]) -> None:
    ids, bounds = packed(texts)
    assert ids.dtype == bounds.dtype == np.int64
    assert bounds[0] == 0
    assert [ids[i:j].tolist() for i, j in itertools.pairwise(bounds)] == texts


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_pack_takes_arrays_of_any_integers(dtype: type) -> None:
    ids, bounds = packed(np.array([[1, 2], [3, 4]], dtype))
    assert ids.dtype == np.int64
    assert ids.tolist() == [1, 2, 3, 4]
    assert bounds.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([[]], "text 0 has 0 tokens"),
        ([[1], []], "text 1 has 0 tokens"),
        ([[1] * 8], "text 0 has 8 tokens; the model takes 1 to 7"),
        ([[1, 10]], "text 0 has the token id 10"),
        ([[1], [2, 3], [4, -1]], "text 2 has the token id -1"),
        ([[10], [-1]], "text 0 has the token id 10"),
        ([[1.0]], "whole numbers"),
        ([[float("nan")]], "whole numbers"),
        ([[True]], "whole numbers"),
        ([["1"]], "whole numbers"),
        ([[None]], "whole numbers"),
        ([[b"1"]], "whole numbers"),
        ([[[1]]], "whole numbers"),
        ([[[1], [2, 3]]], "whole numbers"),
        ([[1, [2]]], "whole numbers"),
        ([1, 2, 3], "whole numbers"),
        ([None], "whole numbers"),
        ([{1, 2}], "whole numbers"),
        ([{"input_ids": [1]}], "whole numbers"),
        (["123"], "whole numbers"),
        ([[2**31]], "token id 2147483648"),
        ([[2**63 - 1]], "token id 9223372036854775807"),
        ([[2**63]], "token id 9223372036854775808"),
        ([[2**64 - 1]], "token id 18446744073709551615"),
        ([[2**64]], "whole numbers"),
        ([[-(2**63)]], "token id -9223372036854775808"),
        ([[-(2**63) - 1]], "whole numbers"),
        ([[10**400]], "whole numbers"),
        ([[1, 2**63]], "whole numbers"),
        ("ids", "string"),
        (b"ids", "string"),
    ],
)
def test_pack_refuses_what_no_model_can_take_and_says_where(texts: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        packed(texts)


@pytest.mark.parametrize("texts", [None, 5, 1.5, object()])
def test_pack_refuses_what_is_no_list(texts: Any) -> None:
    with pytest.raises(InputError, match="expected a list of lists of token ids, found a"):
        packed(texts)


@given(texts=st.lists(st.lists(st.integers(-3, 12) | st.booleans() | st.none() | st.floats(), max_size=9), max_size=4))
def test_pack_gives_good_ids_or_an_input_error(texts: Any) -> None:
    try:
        ids, _ = packed(texts)
    except InputError:
        return
    assert ((ids >= 0) & (ids < 10)).all()


# blocks


@given(lengths=st.lists(st.integers(1, 30), max_size=20), most=st.integers(1, 40))
def test_blocks_cover_all_texts_in_order_with_at_most_so_many_rows(lengths: list[int], most: int) -> None:
    bounds = np.cumsum([0, *lengths])
    pairs = list(blocks(bounds, most))
    assert [i for pair in pairs for i in range(*pair)] == list(range(len(lengths)))
    for i, j in pairs:
        assert i < j
        assert bounds[j] - bounds[i] <= most or j == i + 1


# texts


def test_one_text_and_many_are_encoded_alike(tokenizer: Tokenizer) -> None:
    texts: list[Text] = ["a film", ("a", "film"), "", "東京"]
    many = [encoding.ids for encoding in tokenize(tokenizer, texts)]
    assert many == [tokenize(tokenizer, [text])[0].ids for text in texts]


@pytest.mark.parametrize(
    "bad", [None, 1, b"a", ["a"], {"text": "a"}, (), ("a", "b", "c"), ("a", None), ("a", 1), (("a",), "b")]
)
@pytest.mark.parametrize("others", [[], ["a"]])
def test_what_is_no_text_is_refused_with_its_number(tokenizer: Tokenizer, bad: Any, others: list[str]) -> None:
    with pytest.raises(InputError, match=f"text {len(others)} "):
        tokenize(tokenizer, [*others, bad])


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", ("a", "\ud83d"), "é\udc80"])
def test_lone_surrogates_are_refused_with_their_place(tokenizer: Tokenizer, text: Any) -> None:
    with pytest.raises(InputError, match=r"lone surrogate U\+D[8-F]"):
        tokenize(tokenizer, [text])


@pytest.mark.parametrize("bad", ["a b", [1], [["a"]], None, [None], ["\ud800"]])
def test_what_is_no_list_of_words_is_refused(tokenizer: Tokenizer, bad: Any) -> None:
    with pytest.raises(InputError):
        tokenize_words(tokenizer, [["a"], bad])


# windows


@given(
    words=st.integers(0, 60),
    length=st.integers(4, 24),
    data=st.data(),
)
def test_windows_cover_every_token_with_the_special_ones_in_each(
    tokenizer: Tokenizer, words: int, length: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(0, length - 3))
    encoding = tokenizer.encode(" ".join(tiny.WORDS[i % 5] for i in range(words)))
    cuts = window_positions(encoding, length, stride)
    last = len(encoding.ids) - 1
    assert {i for cut in cuts for i in cut} == set(range(last + 1))
    ids = laid_out([parts(encoding, length, stride)]).token_ids
    assert ids == [[encoding.ids[i] for i in cut] for cut in cuts]
    for cut in cuts:
        assert cut[0] == 0
        assert cut[-1] == last
        assert [*cut[1:-1]] == list(range(cut[1], cut[1] + len(cut) - 2)) if len(cut) > 2 else True
    if last + 1 <= length:
        assert len(cuts) == 1
    else:
        assert all(len(cut) == length for cut in cuts)
        shared = [len(set(a) & set(b)) - 2 for a, b in itertools.pairwise(cuts)]
        assert all(n == stride for n in shared[:-1])
        assert shared[-1] >= stride
        assert len(cuts) == len({tuple(cut) for cut in cuts})


@given(first=st.integers(0, 40), second=st.integers(0, 40), stride=st.integers(0, 8))
def test_of_a_pair_the_longer_text_is_cut_and_the_other_stands_in_every_window(
    tokenizer: Tokenizer, first: int, second: int, stride: int
) -> None:
    encoding = tokenizer.encode("a " * first, "film " * second)
    total, shorter = first + second + 3, min(first, second)
    if total > 20 and 20 - shorter - 3 <= stride:
        with pytest.raises(InputError, match="shorten"):
            window_positions(encoding, 20, stride)
        return
    cuts = window_positions(encoding, 20, stride)
    assert {i for cut in cuts for i in cut} == set(range(total))
    whole = range(1, first + 1) if first <= second else range(first + 2, total - 1)
    for cut in cuts:
        assert {0, first + 1, total - 1, *whole} <= {*cut}
    if total > 20:
        assert window_positions(encoding, 20, stride) == window_positions(
            encoding, 20, stride, which=int(first <= second)
        )


@pytest.mark.parametrize(
    ("counts", "strategy", "kept"),
    [  # of a pair cut to 15 tokens, 3 of them special
        ((8, 3), "longest_first", (8, 3)),
        ((30, 3), "longest_first", (9, 3)),
        ((3, 30), "longest_first", (3, 9)),
        ((30, 30), "longest_first", (6, 6)),
        ((7, 30), "longest_first", (6, 6)),
        ((30, 3), "only_first", (9, 3)),
        ((3, 30), "only_second", (3, 9)),
        ((30, 11), "only_first", (1, 11)),
        ((11, 5), "only_second", (11, 1)),
        ((30, 0), "only_first", (12, 0)),
        ((30, 0), "longest_first", (12, 0)),
    ],
)
def test_pairs_are_cut_as_in_transformers(
    tokenizer: Tokenizer, counts: tuple[int, int], strategy: str, kept: tuple[int, int]
) -> None:
    encoding = tokenizer.encode("a " * counts[0], "film " * counts[1])
    for side in ("right", "left"):
        positions = truncated(encoding, 15, strategy, side).positions
        assert [sum(encoding.sequence_ids[i] == n for i in positions) for n in (0, 1)] == [*kept]
        assert {0, counts[0] + 1, sum(counts) + 2} <= {*positions}
        first = [i for i in positions if encoding.sequence_ids[i] == 0]
        assert first[0] == (1 if side == "right" else counts[0] - kept[0] + 1)
        assert first == [*range(first[0], first[0] + kept[0])]


def test_the_odd_token_is_the_longer_texts(tokenizer: Tokenizer) -> None:
    for counts, kept in {(20, 10): (7, 6), (10, 20): (6, 7), (20, 20): (6, 7)}.items():
        encoding = tokenizer.encode("a " * counts[0], "film " * counts[1])
        positions = truncated(encoding, 16).positions
        assert tuple(sum(encoding.sequence_ids[i] == n for i in positions) for n in (0, 1)) == kept


@pytest.mark.parametrize(
    ("counts", "strategy"), [((3, 30), "only_first"), ((30, 3), "only_second"), ((30, 0), "only_second")]
)
def test_a_text_too_short_to_be_cut_alone_is_refused(
    tokenizer: Tokenizer, counts: tuple[int, int], strategy: str
) -> None:
    with pytest.raises(
        InputError, match=f"truncation='{strategy}' may cut {counts[strategy == 'only_second']} of them"
    ):
        truncated(tokenizer.encode("a " * counts[0], "film " * counts[1]), 15, strategy)


# chunks


@given(count=st.integers(0, 20), size=st.integers(1, 8))
def test_chunks_hold_everything_in_order(count: int, size: int) -> None:
    found = list(chunks(range(count), size))
    assert [item for chunk in found for item in chunk] == list(range(count))
    assert all(len(chunk) == size for chunk in found[:-1])
    assert all(found)


def test_chunks_draw_no_more_than_was_asked_for() -> None:
    drawn = []

    def items() -> Any:
        for i in range(10):
            drawn.append(i)
            yield i

    found = chunks(items(), 3)
    assert drawn == []
    next(found)
    assert drawn == [0, 1, 2]


# as_text


def test_as_text_takes_strings_and_pairs_as_transformers_does() -> None:
    assert as_text("a") == "a"
    assert as_text({"text": "a"}) == "a"
    assert as_text({"text": "a", "text_pair": None}) == "a"
    assert as_text({"text": "a", "text_pair": "b"}) == ("a", "b")
    assert as_text(("a", "b")) == ("a", "b")


@pytest.mark.parametrize(
    "bad", [1, b"a", ["a"], ["a", "b"], ("a",), {}, {"text_pair": "a"}, {"text": "a", "pair": "b"}, Path("a")]
)
def test_as_text_refuses_everything_else(bad: Any) -> None:
    with pytest.raises(InputError, match="^text 7 is a .*; expected a string, or a pair as"):
        as_text(bad, 7)


# sentences


@given(st.text(alphabet="ab .!?…\"')\n\t。」", max_size=40))
def test_marks_are_looked_at_once_and_end_the_same_sentences(text: str) -> None:
    looked_at_often = re.compile(SENTENCE_END.pattern.removeprefix("(?<![.!?\\u2026])"))
    assert looked_at_often.pattern != SENTENCE_END.pattern
    assert [m.end() for m in SENTENCE_END.finditer(text)] == [m.end() for m in looked_at_often.finditer(text)]


@pytest.mark.parametrize(
    "text", ["." * 200_000, ".'" * 100_000, ".)" * 100_000 + "x", ". " * 100_000], ids=lambda t: t[:4]
)
def test_sentences_are_split_in_linear_time(text: str) -> None:
    """Where every mark began a new search, these took minutes."""
    assert len(sentences(text)) == max(1, text.count(". "))
