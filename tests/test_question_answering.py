"""Question answering: spans and their scores, no answer, repeated answers, windows, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer

from npdistil import pipeline
from npdistil.checkpoint.folder import Folder
from npdistil.checkpoint.tokenizer import read_tokenization
from npdistil.distilbert import heads
from npdistil.distilbert.encoder import softmax
from npdistil.errors import InputError
from npdistil.tasks.question_answering import QuestionAnsweringSettings, best_answers

Make = Callable[..., Path]
QUESTION, CONTEXT = "who ?", "john lives in paris . anna x12 ."
LONG = "the city is great . john lives in paris . she like it . " * 6  # far more tokens than 24 positions
CLS = tiny.VOCABULARY.index("[CLS]")
SETTINGS = QuestionAnsweringSettings(align_to_words=False)


@pytest.fixture
def ask(make: Make, engine: str) -> Any:
    directory = make(architectures=["DistilBertForQuestionAnswering"], seed=2)
    return pipeline("question-answering", directory, engine=engine, threads=1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(directory)
    return read_tokenization(Folder(directory), 30522).tokenizer


def logits(encoding: Encoding, **values: float) -> Any:
    """0 everywhere but at the tokens given; of a token that is there twice, at the first."""
    out = np.zeros(len(encoding.ids), np.float32)
    for word, value in values.items():
        out[encoding.tokens.index(word)] = value
    return out


def best(tokenizer: Tokenizer, context: str, start: dict[str, float], end: dict[str, float], **settings: Any) -> Any:
    """`best_answers` of one window with all tokens."""
    encoding = tokenizer.encode(QUESTION, context)
    window = [*range(len(encoding.ids))]
    return best_answers(
        context,
        encoding,
        [(window, logits(encoding, **start), logits(encoding, **end))],
        SETTINGS.replaced(settings),
        CLS,
    )


# Spans


def test_the_best_span_is_the_likeliest_start_times_the_likeliest_end(tokenizer: Tokenizer) -> None:
    (answer,) = best(tokenizer, CONTEXT, {"in": 5}, {"paris": 4})
    # 12 tokens of the context and the first token; 0 where nothing is given
    encoding = tokenizer.encode(QUESTION, CONTEXT)
    others = sum(each == 1 for each in encoding.sequence_ids)
    expected = np.exp(5) / (np.exp(5) + others) * np.exp(4) / (np.exp(4) + others)
    assert answer == {"score": pytest.approx(expected), "start": 11, "end": 19, "answer": "in paris"}


def test_an_answer_never_ends_before_it_starts(tokenizer: Tokenizer) -> None:
    for answer in best(tokenizer, CONTEXT, {"paris": 9}, {"john": 9}, top_k=20):
        assert answer["start"] < answer["end"]


def test_an_answer_has_at_most_as_many_tokens_as_asked_for(tokenizer: Tokenizer) -> None:
    start, end = {"john": 9.0}, {"paris": 9.0}
    assert best(tokenizer, CONTEXT, start, end, max_answer_len=4)[0]["answer"] == "john lives in paris"
    (shorter,) = best(tokenizer, CONTEXT, start, end, max_answer_len=3)
    assert len(shorter["answer"].split()) <= 3


def test_nothing_of_the_question_is_an_answer(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode("john lives", "in paris")
    start = np.array([0, 50, 50, 50, 0, 0, 50], np.float32)
    (answer,) = best_answers("in paris", encoding, [([*range(7)], start, start)], SETTINGS, CLS)
    assert answer["answer"] in ("in", "paris", "in paris")


def test_answers_are_stretched_to_whole_words_unless_told_otherwise(tokenizer: Tokenizer) -> None:
    start, end = {"##1": 9.0}, {"##1": 9.0}
    (token,) = best(tokenizer, CONTEXT, start, end)
    assert (token["answer"], CONTEXT[token["start"] : token["end"]]) == ("1", "1")
    (word,) = best(tokenizer, CONTEXT, start, end, align_to_words=True)
    assert (word["answer"], CONTEXT[word["start"] : word["end"]]) == ("x12", "x12")


def test_spans_that_are_one_answer_have_their_scores_added(tokenizer: Tokenizer) -> None:
    """`x`, `x1` and `x12` are one word, so as answers they are one."""
    start, end = {"x": 5.0}, {"x": 5.0, "##1": 5.0, "##2": 5.0}
    single = sum(each["score"] for each in best(tokenizer, CONTEXT, start, end, top_k=3))
    first = best(tokenizer, CONTEXT, start, end, align_to_words=True, top_k=3)[0]
    assert first["answer"] == "x12"
    assert first["score"] >= single > 0.9 / 3 * 3 * 0.9


def test_the_same_answer_twice_in_a_text_is_one_with_the_first_place(tokenizer: Tokenizer) -> None:
    context = "Paris . john . paris"
    encoding = tokenizer.encode(QUESTION, context)
    places = [i for i, word in enumerate(encoding.tokens) if word == "paris"]
    both = np.zeros(len(encoding.ids), np.float32)
    both[places] = [8, 7.5]
    # Spans from one to the other are too long.
    settings = SETTINGS.replaced({"top_k": 2, "max_answer_len": 1})
    first, *_ = best_answers(context, encoding, [([*range(len(both))], both, both)], settings, CLS)
    starts = softmax(both[[0, *(i for i, s in enumerate(encoding.sequence_ids) if s == 1)]].astype(np.float64))
    expected = np.sort(starts)[-2:]
    assert first == {"score": pytest.approx((expected**2).sum(), rel=1e-6), "start": 0, "end": 5, "answer": "Paris"}


def test_windows_compete_with_the_scores_that_they_have_alone(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode(QUESTION, CONTEXT)
    tokens = encoding.tokens
    head = [*range(4)]  # [CLS] who ? [SEP]
    john, paris = tokens.index("john"), tokens.index("paris")
    last = len(tokens) - 1
    windows = []
    for place, height in ((john, 3), (paris, 6)):
        window = [*head, place, last]
        values = np.array([0, 0, 0, 0, height, 0], np.float32)
        windows.append((window, values, values))
    answers = best_answers(CONTEXT, encoding, windows, SETTINGS.replaced({"top_k": 2}), CLS)
    chance = [(np.exp(height) / (np.exp(height) + 1)) ** 2 for height in (6, 3)]
    assert [each["answer"] for each in answers] == ["paris", "john"]
    assert [each["score"] for each in answers] == pytest.approx(chance)


# No answer


def test_no_answer_scores_what_the_first_token_does(tokenizer: Tokenizer) -> None:
    start, end = {"[CLS]": 4.0}, {"[CLS]": 4.0}
    (none,) = best(tokenizer, CONTEXT, start, end, handle_impossible_answer=True)
    others = sum(each == 1 for each in tokenizer.encode(QUESTION, CONTEXT).sequence_ids)
    expected = (np.exp(4) / (np.exp(4) + others)) ** 2
    assert none == {"score": pytest.approx(expected), "start": 0, "end": 0, "answer": ""}
    (some,) = best(tokenizer, CONTEXT, start, end)
    assert some["answer"]


def test_no_answer_stands_among_the_others_by_its_score(tokenizer: Tokenizer) -> None:
    start, end = {"[CLS]": 4.0, "paris": 6.0}, {"[CLS]": 4.0, "paris": 6.0}
    answers = best(tokenizer, CONTEXT, start, end, handle_impossible_answer=True, top_k=5)
    assert [each["answer"] for each in answers][:1] == ["paris"]
    assert "" in [each["answer"] for each in answers]
    scores = [each["score"] for each in answers]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("heights", [(5.0, 2.0), (2.0, 5.0)])
def test_over_windows_the_least_chance_of_no_answer_counts(tokenizer: Tokenizer, heights: tuple[float, float]) -> None:
    encoding = tokenizer.encode(QUESTION, CONTEXT)
    window = [*range(len(encoding.ids))]
    rows = [(window, *[logits(encoding, **{"[CLS]": height})] * 2) for height in heights]
    chosen = SETTINGS.replaced({"handle_impossible_answer": True, "top_k": 10})

    def no_answer(windows: list[Any]) -> float:
        answers = best_answers(CONTEXT, encoding, windows, chosen, CLS)
        return next(float(answer["score"]) for answer in answers if not answer["answer"])

    alone = [no_answer([row]) for row in rows]
    assert alone[0] != alone[1]
    assert no_answer(rows) == min(alone)


# Hostile numbers


@pytest.mark.parametrize("height", [1e4, 1e6, 3e38, -1e6])
def test_any_finite_logits_give_finite_scores(tokenizer: Tokenizer, height: float) -> None:
    values = {"paris": height}
    for answer in best(tokenizer, CONTEXT, values, values, top_k=3, handle_impossible_answer=True):
        assert 0 <= answer["score"] <= 1
    if height > 0:
        (answer,) = best(tokenizer, CONTEXT, values, values)
        assert answer == {"score": 1.0, "start": 14, "end": 19, "answer": "paris"}


def test_the_question_does_not_win_where_all_logits_are_far_below_zero(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode(QUESTION, CONTEXT)
    low = np.full(len(encoding.ids), -1e6, np.float32)
    low[1:3] = 0  # the question
    answers = best_answers(CONTEXT, encoding, [([*range(len(low))], low, low)], SETTINGS.replaced({"top_k": 3}), CLS)
    assert all(CONTEXT[each["start"] : each["end"]] == each["answer"] != "" for each in answers)


@given(
    start=st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6),
    end=st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6),
    most=st.integers(1, 4),
    align=st.booleans(),
)
def test_every_answer_is_a_place_in_the_context(
    tokenizer: Tokenizer, start: list[float], end: list[float], most: int, align: bool
) -> None:
    context = "a x1"
    encoding = tokenizer.encode("b", context)
    assert encoding.tokens == ["[CLS]", "b", "[SEP]", "a", "x", "##1", "[SEP]"]
    values = [np.array([*each[:3], *each[3:], 0], np.float32) for each in (start, end)]
    chosen = SETTINGS.replaced({"top_k": 4, "max_answer_len": most, "align_to_words": align})
    for answer in best_answers(context, encoding, [([*range(7)], values[0], values[1])], chosen, CLS):
        assert answer["answer"] == context[answer["start"] : answer["end"]]
        assert answer["answer"] or answer["score"] == 0
        assert 0 <= answer["score"] <= 1 + 1e-9
        if not align:
            assert len(tokenizer.encode(answer["answer"]).ids) - 2 <= most


# Whole questions


def test_a_question_gets_the_span_of_its_logits(ask: Any) -> None:
    encoding = ask.model.tokenizer.encode(QUESTION, CONTEXT)
    (hidden,) = ask.model.hidden_states([encoding.ids])
    start, end = heads.question_answering(hidden, **ask.model.checkpoint.head)
    inside = np.array([i == 0 or s == 1 for i, s in enumerate(encoding.sequence_ids)])
    p_start, p_end = (softmax(np.where(inside, each, -np.inf).astype(np.float64)) for each in (start, end))
    spans = {
        (i, j): p_start[i] * p_end[j]
        for i in range(1, len(inside))
        for j in range(i, len(inside))
        if inside[i] and inside[j]
    }
    (i, j), score = max(spans.items(), key=lambda item: item[1])
    answer = ask(question=QUESTION, context=CONTEXT, align_to_words=False)
    assert list(answer) == ["score", "start", "end", "answer"]
    assert (answer["start"], answer["end"]) == (encoding.offsets[i][0], encoding.offsets[j][1])
    assert answer["score"] == pytest.approx(score, rel=1e-4)
    assert type(answer["score"]) is float


def test_questions_may_be_asked_in_every_way_of_transformers(ask: Any) -> None:
    one = ask(question=QUESTION, context=CONTEXT)
    item, other = {"question": QUESTION, "context": CONTEXT}, {"question": "where ?", "context": "in paris"}
    assert ask(item) == one
    assert ask([item, other]) == [one, ask(other)]
    assert ask([item]) == one
    assert ask(question=[QUESTION, "where ?"], context=CONTEXT) == [one, ask(question="where ?", context=CONTEXT)]
    assert ask(question=[QUESTION, "where ?"], context=[CONTEXT, "in paris"]) == [one, ask(other)]
    lazy = ask(iter([item, other]), batch_size=1)
    assert isinstance(lazy, Iterator)
    assert list(lazy) == [one, ask(other)]


def test_top_k_gives_a_list_best_first(ask: Any) -> None:
    answers = ask(question=QUESTION, context=CONTEXT, top_k=3)
    assert len(answers) == 3
    assert answers[0] == ask(question=QUESTION, context=CONTEXT)
    assert [each["score"] for each in answers] == sorted((each["score"] for each in answers), reverse=True)


def test_where_fewer_answers_exist_than_asked_for_all_are_given(ask: Any) -> None:
    answers = ask(question=QUESTION, context="paris", top_k=5)
    likely = [each for each in (answers if isinstance(answers, list) else [answers]) if each["score"] > 0]
    assert likely == [ask(question=QUESTION, context="paris")]
    assert likely[0]["answer"] == "paris"


def test_a_long_context_is_read_in_windows_to_its_end(make: Make) -> None:
    """Only `zzz`, at the very end, has a high start and end: its embedding alone is what the head looks for."""
    settings: dict[str, Any] = {
        "architectures": ["DistilBertForQuestionAnswering"],
        "vocab_size": len(tiny.VOCABULARY) + 1,
    }
    arrays = tiny.tensors(tiny.config(**settings))
    for name, array in arrays.items():
        if name.lower().endswith("norm.weight"):
            array[:] = 1
        elif "word_embeddings" in name:
            array[:, 0] = -5
            array[-1, 0] = 50
        else:  # blocks that hand on what comes in, and a head that looks at the first number alone
            array[:] = 0
    arrays["qa_outputs.weight"][:, 0] = 10
    directory = make(**settings, arrays=arrays, tokenizer=None)
    tiny.write_tokenizer(directory, vocabulary=[*tiny.VOCABULARY, "zzz"])
    ask = pipeline("question-answering", directory, engine="numpy")
    for context in (f"{LONG}zzz", f"zzz {LONG}", f"{LONG}zzz {LONG}"):
        for stride in (None, 1, 3, 12):
            answer = ask(question=QUESTION, context=context, doc_stride=stride)
            assert (answer["answer"], answer["start"]) == ("zzz", context.index("zzz")), (stride, context[:8])
            assert answer["score"] > 0.99


def test_places_are_characters_of_the_context_as_it_was_given(ask: Any) -> None:
    context = "  \t東京 CAFÉ, E\u0301X12\n\n" + LONG
    for answer in ask(question=QUESTION, context=context, top_k=10):
        assert context[answer["start"] : answer["end"]] == answer["answer"]


def test_a_question_is_never_cut(ask: Any) -> None:
    long = "who lives in paris " * 4
    assert ask(question=long, context="in paris") != ask(question="who lives in", context="in paris")
    assert ask(question=long, context="in paris", max_question_len=16) == ask(question=long, context="in paris")
    with pytest.raises(InputError, match="question 1 has 16 tokens; max_question_len allows 15"):
        ask(question=["who", long], context="in paris", max_question_len=15)
    with pytest.raises(InputError, match="shorten the other text of the pair, or the stride"):
        ask(question=long, context=LONG)


def test_a_list_of_one_question_is_as_that_question_as_in_transformers(ask: Any) -> None:
    alone = ask(question=QUESTION, context=CONTEXT)
    item = {"question": QUESTION, "context": CONTEXT}
    assert ask([item]) == ask(item) == ask(question=[QUESTION], context=[CONTEXT]) == ask(QUESTION, CONTEXT) == alone
    assert ask([item], top_k=2) == ask(item, top_k=2)
    assert ask([item, item]) == [alone, alone]
    assert ask([]) == []


def test_shorter_windows_may_be_asked_for(ask: Any) -> None:
    answer = ask(question=QUESTION, context=LONG, max_seq_len=10, doc_stride=2)
    assert LONG[answer["start"] : answer["end"]] == answer["answer"]


def test_batches_change_nothing(ask: Any) -> None:
    items = [{"question": QUESTION, "context": context} for context in (CONTEXT, LONG, "paris", LONG[::2])]
    assert ask(items, batch_size=1) == ask(items, batch_size=3) == [ask(item) for item in items]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"top_k": 0}, "top_k is 0"),
        ({"max_answer_len": 0}, "max_answer_len is 0"),
        ({"max_question_len": -1}, "max_question_len is -1"),
        ({"max_seq_len": 0}, "max_seq_len is 0"),
        ({"doc_stride": -1}, "doc_stride is -1"),
        ({"handle_impossible_answer": "yes"}, "handle_impossible_answer is 'yes'"),
        ({"align_to_words": 2}, "align_to_words is 2"),
        ({"topk": 0}, "top_k is 0"),
        ({"doc_stride": 24}, "stride"),
    ],
)
def test_wrong_settings_are_refused(ask: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ask(question=QUESTION, context=LONG, **settings)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "expected a question and a context"),
        ({"question": QUESTION}, "expected a question and a context"),
        ({"question": [QUESTION], "context": [CONTEXT, CONTEXT]}, "of the same length"),
        ({"question": "", "context": CONTEXT}, "the question is empty"),
        ({"question": " \n", "context": CONTEXT}, "the question is empty"),
        ({"question": QUESTION, "context": ""}, "question 0: the context is empty"),
        (
            {"inputs": [{"question": "a", "context": "b"}, {"question": "a", "context": 5}]},
            "question 1: the context is 5; expected",
        ),
        ({"inputs": [{"question": "a", "context": "b"}, "a"]}, "question 1 is 'a'; expected {"),
        ({"inputs": {"question": QUESTION}}, "expected"),
        ({"inputs": {"question": QUESTION, "context": CONTEXT, "id": 1}}, "expected"),
        ({"inputs": {"question": QUESTION, "context": None}}, "context"),
        ({"inputs": {"question": 5, "context": CONTEXT}}, "question"),
        ({"inputs": QUESTION}, "found a string"),
        ({"inputs": {"question": QUESTION, "context": CONTEXT}, "question": QUESTION}, "not all three"),
        ({"question": QUESTION, "context": "a \ud800"}, "surrogate"),
        ({"question": "\ud800", "context": CONTEXT}, "surrogate"),
    ],
)
def test_wrong_inputs_are_refused(ask: Any, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ask(**arguments)


def test_another_head_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="needs a DistilBertForQuestionAnswering"):
        pipeline("question-answering", make(), engine="numpy")
