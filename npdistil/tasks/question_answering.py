"""Question answering: the span of a context that answers a question, as transformers 4's pipeline finds it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tokenizers import Encoding

from ..batch import Inputs, Outputs
from ..distilbert.encoder import Array, softmax
from ..errors import InputError
from ..results import Found
from ..settings import Kind, check, flag, setting, shown, spoken, string, whole
from ..text import is_empty, items_of, laid_out, parts, tokenize
from .base import Task, TaskSettings

LEAST_LENGTH = 5  # tokens of a window: three special ones, and one each of question and context


@dataclass(frozen=True, kw_only=True)
class QuestionAnsweringSettings(TaskSettings):
    """Settings of question answering."""

    top_k: int = setting(1, whole(), "how many answers to give, best first; a single one is a bare dict.")
    doc_stride: int | None = setting(
        None, whole(0), "tokens that neighbouring windows share; by default a half of `max_seq_len`, at most 128.", None
    )
    max_answer_len: int = setting(15, whole(), "the most tokens that an answer may have.")
    max_seq_len: int | None = setting(
        None,
        whole(LEAST_LENGTH),
        "tokens in a window, question and special ones included; by default 384, or what the model takes.",
        None,
    )
    max_question_len: int | None = setting(
        None, whole(), "tokens above which a question is refused; a question is never cut.", None
    )
    handle_impossible_answer: bool = setting(False, flag(), "whether the empty answer may be given.")
    align_to_words: bool = setting(True, flag(), "whether an answer is stretched to whole words.")
    batch_size: int = setting(32, whole(), "questions that a thread runs at once; results do not depend on it.")


class QuestionAnswering(Task[QuestionAnsweringSettings]):
    """transformers 4's pipeline of that name: same arguments, same results.

    A context that does not fit beside its question is read in windows. In each, everything outside of the context is
    left out before the softmax, the score of an answer is the probability of its start times that of its end, and
    that of "no answer" is the first token's. The same answer found twice has its scores added.

    A question stands whole in every window, as with transformers' fast tokenizers, which do not look at
    `max_question_len`; here a longer question is refused.

    Items are {"question", "context"}; a call may have a question and a context instead, by place or by name, each a
    string or a list. As in transformers, a list of one question gets that question's answer. An answer is {"score",
    "start", "end", "answer"}, where start and end are characters in the context; or a list of these where more than one
    was asked for and found.
    """

    settings_type = QuestionAnsweringSettings
    architectures = ("DistilBertForQuestionAnswering",)
    items = "questions with their contexts"
    text = "question"
    beside: ClassVar[Mapping[str, Kind]] = {"context": string()}
    columns = ("answer", "score", "start", "end")

    def resolve(self) -> None:
        self.cls_token = self.checkpoint.special_ids.get("cls_token")
        limit = self.checkpoint.config.max_position_embeddings
        check("max_seq_len", whole(LEAST_LENGTH, limit), self.settings.max_seq_len, None)
        self.length = self.settings.max_seq_len or min(384, self.checkpoint.max_length, limit)
        given = self.settings.doc_stride
        self.stride = min(self.length // 2, 128) if given is None else given
        if self.stride > self.length:
            raise InputError(f"{spoken('doc_stride', '')} is {self.stride}; windows have {self.length} tokens")

    def arguments(
        self, *inputs: Any, question: Any = None, context: Any = None, **given: Any
    ) -> tuple[Any, dict[str, Any]]:
        """As `Task.arguments`; question and context may be two, by place or by name, and questions several by place."""
        if not inputs:
            return _paired(question, context), given
        if question is not None or context is not None:
            raise InputError("give question and context, or one argument that holds both, not all three")
        if len(inputs) == 2 and isinstance(inputs[0], str):
            return _paired(*inputs), given
        return inputs[0] if len(inputs) == 1 else [*inputs], given

    def shaped(self, answers: list[Any], inputs: Any, given: Mapping[str, Any]) -> Any:
        """As `Task.shaped`; transformers does not wrap the answer to a list of one."""
        return answers[0] if len(answers) == 1 else answers

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; the windows of a context beside its question are its sequences."""
        encodings = tokenize(self.checkpoint.tokenizer, [_pair(item, i) for i, item in enumerate(items)])
        most = self.settings.max_question_len
        for i, sequences in enumerate(encoding.sequence_ids for encoding in encodings):
            if 1 not in sequences:
                raise InputError(f"question {i}: the context is empty")
            if most is not None and (count := sequences.count(0)) > most:
                raise InputError(f"question {i} has {count} tokens; max_question_len allows {most}")
        how: dict[str, Any] = {"reach_back": False, "which": 1, "side": self.checkpoint.tokenization.truncation_side}
        cuts = [parts(encoding, self.length, self.stride, **how) for encoding in encodings]
        return laid_out(cuts, context=[*zip(items, cuts, strict=True)])

    def postprocess(self, outputs: Outputs) -> list[Found | list[Found]]:
        found = []
        for (item, cut), logits in zip(outputs.inputs.context, outputs.by_item(), strict=True):
            windows = [(part.positions, *each.T) for part, each in zip(cut, logits, strict=True)]
            answers = best_answers(item["context"], cut[0].encoding, windows, self.settings, self.cls_token)
            found.append(answers[0] if len(answers) == 1 else answers)
        return found


def _pair(item: Any, number: int) -> tuple[str, str]:
    """Question and context."""
    if not isinstance(item, dict) or set(item) != {"question", "context"}:
        raise InputError(f'question {number} is {shown(item)}; expected {{"question": ..., "context": ...}}')
    for name in ("context", "question"):
        if not isinstance(item[name], str):
            raise InputError(f"question {number}: the {name} is {shown(item[name])}; expected a string")
        if is_empty(item[name]):
            raise InputError(f"question {number}: the {name} is empty")
    return item["question"], item["context"]


def _paired(question: Any, context: Any) -> Any:
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    if question is not None and context is not None and not isinstance(question, str):
        questions = [*items_of(question)]
        contexts = [context] * len(questions) if isinstance(context, str) else [*items_of(context)]
        if len(contexts) == len(questions):
            return [{"question": q, "context": c} for q, c in zip(questions, contexts, strict=True)]
    raise InputError("expected a question and a context, or lists of both of the same length")


def best_answers(
    context: str,
    encoding: Encoding,
    windows: Sequence[tuple[Sequence[int], Array, Array]],
    settings: QuestionAnsweringSettings,
    cls_token: int | None,
) -> list[Found]:
    """The best spans over all windows (positions, start logits, end logits) of one question, best first."""
    no_answer = 1e6
    answers: dict[str, Found] = {}
    # Stretched to words, several spans may be one answer, so more are looked at than are given.
    candidates = settings.top_k * 2 + 10 if settings.align_to_words else settings.top_k
    sequences, offsets, ids, words = encoding.sequence_ids, encoding.offsets, encoding.ids, encoding.word_ids
    for window, start_logits, end_logits in windows:
        in_context = np.array([sequences[i] == 1 for i in window])
        inside = [words[i] if sequences[i] == 1 else None for i in window]
        allowed = in_context | [ids[i] == cls_token for i in window]  # the first token stands for "no answer"
        start, end = (softmax(np.where(allowed, each, -1e4).astype(np.float64)) for each in (start_logits, end_logits))
        no_answer = min(no_answer, float(start[0] * end[0]))
        start[0] = end[0] = 0
        scores = np.tril(np.triu(np.outer(start, end)), settings.max_answer_len - 1)
        for flat in np.argsort(-scores, axis=None, kind="stable")[:candidates]:
            first, last = divmod(int(flat), len(window))
            if not (in_context[first] and in_context[last] and first <= last < first + settings.max_answer_len):
                continue
            score = float(scores[first, last])
            if settings.align_to_words:
                first = inside.index(inside[first])
                last = len(inside) - 1 - inside[::-1].index(inside[last])
            begin, stop = offsets[window[first]][0], offsets[window[last]][1]
            text = context[begin:stop]
            if text.lower() in answers:
                answers[text.lower()]["score"] += score
            else:
                answers[text.lower()] = {"score": score, "start": begin, "end": stop, "answer": text}
    found = list(answers.values())
    if settings.handle_impossible_answer:
        found.append({"score": no_answer, "start": 0, "end": 0, "answer": ""})
    return sorted(found, key=lambda answer: -answer["score"])[: settings.top_k]
