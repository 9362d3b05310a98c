"""Question answering: the span of a context that answers a question, as transformers 4's pipeline finds it."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from tokenizers import Encoding

from ..distilbert import heads
from ..distilbert.encoder import Array, softmax
from ..errors import InputError
from ..model import Model
from ..text import ids_at, tokenize, window_positions
from .base import Task, check_choice, check_count, run

Answer: TypeAlias = dict[str, Any]  # {"score": float, "start": int, "end": int, "answer": str}


class QuestionAnswering(Task):
    """transformers 4's pipeline of that name: same arguments, same results.

    A context that does not fit beside its question is read in windows. In each, everything outside of the context is
    left out before the softmax, the score of an answer is the probability of its start times that of its end, and
    that of "no answer" is the first token's. The same answer found twice has its scores added.

    Each setting is also an argument of the call.

    Args:
        top_k: how many answers to give, best first; a single one is a bare dict.
        doc_stride: tokens that neighbouring windows share; by default a half of `max_seq_len`, at most 128.
        max_answer_len: the most tokens that an answer may have.
        max_seq_len: tokens in a window, question and special ones included; by default 384, or what the model takes.
        max_question_len: tokens of the question that are used.
        handle_impossible_answer: whether the empty answer may be given.
        align_to_words: whether an answer is stretched to whole words.
        batch_size: questions that are run at once.
    """

    architecture = "DistilBertForQuestionAnswering"

    def __init__(
        self,
        model: Model,
        *,
        top_k: int = 1,
        doc_stride: int | None = None,
        max_answer_len: int = 15,
        max_seq_len: int | None = None,
        max_question_len: int = 64,
        handle_impossible_answer: bool = False,
        align_to_words: bool = True,
        batch_size: int = 32,
    ) -> None:
        settings: dict[str, Any] = {
            "top_k": top_k,
            "doc_stride": doc_stride,
            "max_answer_len": max_answer_len,
            "max_seq_len": max_seq_len,
            "max_question_len": max_question_len,
            "handle_impossible_answer": handle_impossible_answer,
            "align_to_words": align_to_words,
            "batch_size": batch_size,
        }
        super().__init__(model, settings)

    def check(self, chosen: dict[str, Any]) -> None:
        """Refuse values that the task cannot take."""
        super().check(chosen)
        for name in ("top_k", "max_answer_len", "max_question_len"):
            check_count(name, chosen[name])
        check_count("doc_stride", chosen["doc_stride"], None, 0)
        check_count("max_seq_len", chosen["max_seq_len"], None)
        for name in ("handle_impossible_answer", "align_to_words"):
            check_choice(name, chosen[name], (False, True))

    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **settings: Any) -> Any:
        """Answer.

        Args:
            inputs: {"question", "context"}, a list or an iterator of these; or instead of it:
            question: a question, or a list of them.
            context: what holds the answer; one for all questions, or a list with one for each.
            settings: as for the class.

        Returns:
            {"score", "start", "end", "answer"}, where start and end are characters in the context; a list of these
            where more than one was asked for and found; for several questions a list, or a lazy iterator, of these.

        Raises:
            InputError: an input or a setting that the model cannot take.
        """
        chosen = self.choose(settings)
        if inputs is None:
            inputs = _paired(question, context)
        elif question is not None or context is not None:
            raise InputError("give question and context, or one argument that holds both, not all three")
        return run(inputs, (dict,), chosen["batch_size"], lambda items: self._answers(items, chosen))

    def _answers(self, items: list[Any], chosen: dict[str, Any]) -> Iterator[Answer | list[Answer]]:
        limit = self.model.config.max_position_embeddings
        length = min(chosen["max_seq_len"] or 384, limit)
        stride = min(length // 2, 128) if chosen["doc_stride"] is None else chosen["doc_stride"]
        questions = [self._question(item, chosen["max_question_len"]) for item in items]
        encodings = tokenize(
            self.model.tokenizer, [(q, item["context"]) for q, item in zip(questions, items, strict=True)]
        )
        for encoding in encodings:
            if 1 not in encoding.sequence_ids:
                raise InputError("the context is empty")
        cuts = [window_positions(encoding, length, stride, reach_back=False) for encoding in encodings]
        ids = [each for encoding, cut in zip(encodings, cuts, strict=True) for each in ids_at(encoding, cut)]
        hidden = iter(self.model.hidden_states(ids))
        for item, encoding, cut in zip(items, encodings, cuts, strict=True):
            windows = []
            for window in cut:
                head = self.model.checkpoint.head
                start, end = heads.question_answering(next(hidden), **head, linear=self.model.encoder.linear)
                windows.append((window, start, end))
            answers = best_answers(item["context"], encoding, windows, chosen)
            yield answers[0] if len(answers) == 1 else answers

    def _question(self, item: Any, most: int) -> str:
        """The question, cut to its first `most` tokens."""
        if not isinstance(item, dict) or set(item) != {"question", "context"}:
            raise InputError(f'expected {{"question": ..., "context": ...}}, found {item!r:.80}')
        if not isinstance(item["context"], str) or not item["context"].strip():
            raise InputError("the context is empty")
        if not isinstance(item["question"], str) or not item["question"].strip():
            raise InputError("the question is empty")
        (encoding,) = tokenize(self.model.tokenizer, [item["question"]])
        words = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        if len(words) <= most:
            return str(item["question"])
        return str(item["question"][: encoding.offsets[words[most - 1]][1]])


def _paired(question: Any, context: Any) -> Any:
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    if isinstance(question, list):
        contexts = [context] * len(question) if isinstance(context, str) else context
        if isinstance(contexts, list) and len(contexts) == len(question):
            return [{"question": q, "context": c} for q, c in zip(question, contexts, strict=True)]
    raise InputError("expected a question and a context, or lists of both of the same length")


def best_answers(
    context: str, encoding: Encoding, windows: list[tuple[list[int], Array, Array]], chosen: dict[str, Any]
) -> list[Answer]:
    """The best spans over all windows (positions, start logits, end logits) of one question, best first."""
    no_answer = 1e6
    answers: dict[str, Answer] = {}
    # Stretched to words, several spans may be one answer, so more are looked at than are given.
    candidates = chosen["top_k"] * 2 + 10 if chosen["align_to_words"] else chosen["top_k"]
    sequences, offsets = encoding.sequence_ids, encoding.offsets
    for window, start_logits, end_logits in windows:
        in_context = np.array([sequences[i] == 1 for i in window])
        allowed = in_context.copy()
        allowed[0] = True  # the first token stands for "no answer"
        start, end = (softmax(np.where(allowed, each, -1e4).astype(np.float64)) for each in (start_logits, end_logits))
        no_answer = min(no_answer, float(start[0] * end[0]))
        start[0] = end[0] = 0
        scores = np.tril(np.triu(np.outer(start, end)), chosen["max_answer_len"] - 1)
        for flat in np.argsort(-scores, axis=None, kind="stable")[:candidates]:
            first, last = divmod(int(flat), len(window))
            if not (in_context[first] and in_context[last]):
                continue
            begin, stop = _characters(encoding, offsets, window[first], window[last], chosen["align_to_words"])
            text = context[begin:stop]
            score = float(scores[first, last])
            if text.lower() in answers:
                answers[text.lower()]["score"] += score
            else:
                answers[text.lower()] = {"score": score, "start": begin, "end": stop, "answer": text}
    found = list(answers.values())
    if chosen["handle_impossible_answer"]:
        found.append({"score": no_answer, "start": 0, "end": 0, "answer": ""})
    return sorted(found, key=lambda answer: -answer["score"])[: chosen["top_k"]]


def _characters(
    encoding: Encoding, offsets: list[tuple[int, int]], first: int, last: int, align: bool
) -> tuple[int, int]:
    """Where the tokens from `first` to `last` begin and end in the context."""
    if align:
        words = [encoding.token_to_word(token) for token in (first, last)]
        spans = [encoding.word_to_chars(word, 1) for word in words if word is not None]
        if len(spans) == 2 and spans[0] and spans[1]:
            return spans[0][0], spans[1][1]
    return offsets[first][0], offsets[last][1]
