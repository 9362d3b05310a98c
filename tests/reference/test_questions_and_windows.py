"""question-answering over windows, strides, long questions and ways to call it, against transformers 4's pipeline."""

from itertools import product
from typing import Any

import other_tokenizers
import pytest
import transformers
from pipelines_compared import Matrix, write_model

import npdistil

pytestmark = [
    pytest.mark.skipif(
        not hasattr(transformers, "QuestionAnsweringPipeline"),
        reason="transformers 5 has no question-answering; it is compared where 4.57 is installed",
    ),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:__array__ implementation:DeprecationWarning"),
]
WORDS = "Sarah Jessica lives in New York and José in Berlin, the newest city (it was great). 1 23 😀 x ".split()
LONG = " ".join(WORDS * 6)
QUESTION, OTHER = "Who lives in Berlin?", "where is it"


@pytest.fixture(scope="module", params=["wordpiece", "byte-bpe", "unigram"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """Both pipelines, on a model for up to 64 tokens whose tokenizer says 48."""
    directory = tmp_path_factory.mktemp("qa")
    tokenizer = other_tokenizers.build(request.param)
    write_model(directory, tokenizer, "DistilBertForQuestionAnswering", max_position_embeddings=64)
    other_tokenizers.write(directory, tokenizer, model_max_length=48)
    theirs = transformers.pipeline("question-answering", str(directory), device="cpu")

    def possible(*inputs: Any, **given: Any) -> Any:
        """Without spans that end before they begin or at no word: they score 0 there, and are not given here."""
        answers = theirs(*inputs, **given)
        if not isinstance(answers, list) or not answers or isinstance(answers[0], list):
            return answers
        kept = [each for each in answers if each["score"] > 0]
        return kept[0] if len(kept) == 1 else kept

    return Matrix(npdistil.pipeline("question-answering", directory), possible)


def test_windows(pair: Matrix) -> None:
    contexts = ["Berlin", "José 😀 Berlin", LONG, LONG[:200]]
    for context, length, stride, top_k in product(contexts, [None, 40, 64], [None, 0, 5, 20], [1, 3, 40]):
        given: dict[str, Any] = {"max_seq_len": length, "doc_stride": stride, "top_k": top_k}
        pair.compare(question=QUESTION, context=context, **given)
    print(pair)


def test_answers(pair: Matrix) -> None:
    ways = product([1, 2, 15], [False, True], [False, True], [1, 4])
    for most, impossible, align, top_k in ways:
        given: dict[str, Any] = {
            "max_answer_len": most,
            "handle_impossible_answer": impossible,
            "align_to_words": align,
        }
        for context in ("José 😀 Berlin", LONG):
            pair.compare(question=QUESTION, context=context, top_k=top_k, **given)
    print(pair)


def test_long_questions(pair: Matrix) -> None:
    for count, length, stride, most in product([3, 8, 20, 60], [None, 64], [None, 2, 60], [None, 4, 64]):
        question = " ".join((WORDS * 4)[:count])
        given: dict[str, Any] = {"max_seq_len": length, "doc_stride": stride}
        given |= {} if most is None else {"max_question_len": most}
        pair.compare(
            question=question,
            context="José 😀 Berlin" if count < 20 else LONG,
            on_purpose="a question longer than max_question_len is refused" if most else "",
            **given,
        )
    print(pair)


def test_ways_to_call(pair: Matrix) -> None:
    item = {"question": QUESTION, "context": LONG}
    inputs: list[tuple[Any, ...]] = [(item,), ([item],), ([item, item],), (QUESTION, LONG), ([],), (5,), ("a",)]
    inputs += [
        ({"question": QUESTION},),
        ({"question": "", "context": LONG},),
        ({"question": QUESTION, "context": ""},),
    ]
    for each, top_k in product(inputs, [1, 2]):
        pair.compare(*each, top_k=top_k)
    for question, context in product(
        [QUESTION, [QUESTION], [QUESTION, OTHER], []], [LONG, [LONG], [LONG, "Berlin"], []]
    ):
        pair.compare(question=question, context=context)
    print(pair)
