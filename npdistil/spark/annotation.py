"""Annotations as annotation pipelines have them, and what makes them; of plain values, so without Spark too.

Fields, and which texts get how many annotations, are those of Spark NLP (annotators' `annotate` and `batchAnnotate`
there). `begin` and `end` count UTF-16 units, as the JVM's strings do, and `end` is inclusive.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from ..batch import Inputs, Outputs, chunks
from ..distilbert.encoder import Array, softmax
from ..errors import InputError
from ..pipelines import Pipeline
from ..text import Part, is_empty, laid_out, sentences, tokenize, truncated

DOCUMENT, TOKEN, CATEGORY, CHUNK, NAMED_ENTITY = "document", "token", "category", "chunk", "named_entity"
WORD_EMBEDDINGS, SENTENCE_EMBEDDINGS = "word_embeddings", "sentence_embeddings"
THRESHOLD = 0.5  # of a label's sigmoid, where none is set
PROTECTED = "\u2188"  # stands for a blank inside of a tokeniser's exception


@dataclass
class Annotation:
    """A part of a text and what is said of it.

    Attributes:
        annotatorType: "document", "token", "category" ...
        begin: its first UTF-16 unit in the text.
        end: its last one; -1 where a text is empty.
        result: the part itself, or a label.
        metadata: what else is said of it, all as strings.
        embeddings: a vector; nearly always empty.
    """

    annotatorType: str
    begin: int
    end: int
    result: str
    metadata: dict[str, str]
    embeddings: Sequence[float] = field(default_factory=list)

    @classmethod
    def of(cls, row: Any) -> "Annotation":
        """From what Spark or Arrow has for one: fields by name, metadata a dict or pairs."""
        values = {each.name: row[each.name] for each in fields(cls)}
        return cls(**values | {"metadata": dict(row["metadata"])})


Annotations: TypeAlias = list[Annotation]


def utf16(text: str) -> Sequence[int]:
    """Where each character begins in UTF-16 units, and where the last one ends."""
    if text.isascii() or max(text) <= "\uffff":
        return range(len(text) + 1)
    return [0, *accumulate(1 + (character > "\uffff") for character in text)]


def compiled(pattern: str) -> re.Pattern[str]:
    r"""A pattern as Java has it: its classes are those of ASCII, and \z is the end, Python's \Z."""
    return re.compile(pattern.replace(r"\z", r"\Z"), re.ASCII)


# Without a model.

CLEANUP: dict[str, Callable[[str], str]] = {
    "disabled": lambda text: text,
    "inplace": lambda text: re.sub(r"\s", " ", text, flags=re.ASCII),
    "inplace_full": lambda text: re.sub(r"\s|(?:\\r)?\\n|\\t", " ", text, flags=re.ASCII),
    "shrink": lambda text: re.sub(r"\s+", " ", text.strip(), flags=re.ASCII),
    "shrink_full": lambda text: re.sub(r"\s+|(?:\\r)*(?:\\n)+|(?:\\t)+", " ", text.strip(), flags=re.ASCII),
    "each": lambda text: re.sub(r"\s[\n\t]", " ", text, flags=re.ASCII),
    "each_full": lambda text: re.sub(r"\s(?:\n|\t|(?:\\r)?\\n|\\t)", " ", text, flags=re.ASCII),
    "delete_full": lambda text: re.sub(r"(?:\\r)?\\n|\\t", "", text.strip()),
}


def documents(
    text: str | Sequence[str] | None, cleanup: str = "disabled", metadata: dict[str, str] | None = None
) -> Annotations:
    """A text as one annotation, or texts as one each; none where there is no text, or nothing is left of it."""
    texts = [text] if isinstance(text, str) else text or []
    cleaned = [each for each in (CLEANUP[cleanup](each) for each in texts if each is not None) if not is_empty(each)]
    return [
        Annotation(DOCUMENT, 0, utf16(each)[-1] - 1, each, (metadata or {}) | {"sentence": str(i)})
        for i, each in enumerate(cleaned)
    ]


@dataclass(frozen=True)
class SentenceRules:
    """How documents become sentences; fields as `SentenceDetector`'s params."""

    customBounds: Sequence[str]
    customBoundsStrategy: str
    useCustomBoundsOnly: bool
    splitLength: int | None
    minLength: int
    maxLength: int

    def __call__(self, given: Annotations) -> Annotations:
        """The sentences of documents, numbered through."""
        found = []
        for document in given:
            text = document.result
            units = utf16(text)
            for start, stop in self._spans(text):
                if start < stop and self.minLength <= units[stop] - units[start] <= self.maxLength:
                    begin, end = (document.begin + units[at] for at in (start, stop))
                    found.append(Annotation(DOCUMENT, begin, end - 1, text[start:stop], {}))
        for number, sentence in enumerate(found):
            sentence.metadata["sentence"] = str(number)
        return found

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        bounds = "|".join(f"(?:{each})" for each in self.customBounds)
        ends = [self._between(*match.span()) for match in compiled(bounds).finditer(text)] if bounds else []
        for (_, start), (stop, _) in zip([(0, 0), *ends], [*ends, (len(text), 0)], strict=True):
            piece = text[start:stop]
            for first, last in [(0, len(piece))] if self.useCustomBoundsOnly else sentences(piece):
                step = self.splitLength or max(last - first, 1)
                for at in range(first, last, step):
                    yield start + at, start + min(at + step, last)

    def _between(self, start: int, stop: int) -> tuple[int, int]:
        """Where a sentence ends and the next one begins, of what a bound matches."""
        strategy = self.customBoundsStrategy
        return stop if strategy == "append" else start, start if strategy == "prepend" else stop


@dataclass(frozen=True)
class TokenRules:
    """How documents become tokens; fields as `Tokenizer`'s params.

    A candidate is what `targetPattern` matches. Characters of `contextChars` at its ends are tokens of their own, as
    each group of the three patterns is.
    """

    targetPattern: str
    prefixPattern: str | None
    suffixPattern: str | None
    infixPatterns: Sequence[str] | None
    contextChars: Sequence[str]
    exceptions: Sequence[str]
    caseSensitiveExceptions: bool
    splitPattern: str | None
    splitChars: Sequence[str]
    minLength: int
    maxLength: int

    @cached_property
    def rules(self) -> list[re.Pattern[str]]:
        """What a candidate's groups are found by, the first that matches."""
        marks = re.escape("".join(self.contextChars))
        prefix = self.prefixPattern or (rf"\A([{marks}]*)" if marks else r"\A()")
        suffix = self.suffixPattern or (rf"([{marks}]*)\z" if marks else r"()\z")
        infixes = self.infixPatterns or ([rf"([^{marks}](?:.*[^{marks}])*)"] if marks else ["(.+)"])
        return [compiled(prefix + infix + suffix) for infix in infixes]

    @cached_property
    def excepted(self) -> list[re.Pattern[str]]:
        """Patterns of what is one token whatever the rules say."""
        return [re.compile(each, 0 if self.caseSensitiveExceptions else re.IGNORECASE) for each in self.exceptions]

    @cached_property
    def splits(self) -> re.Pattern[str] | None:
        """Where a token is cut inside."""
        pattern = self.splitPattern or "|".join(self.splitChars)
        return compiled(pattern) if pattern else None

    def __call__(self, given: Annotations) -> Annotations:
        """The tokens of documents, or of sentences."""
        found = []
        for i, document in enumerate(given):
            text, units = document.result, utf16(document.result)
            for start, stop in self._spans(text):
                if self.minLength <= units[stop] - units[start] <= self.maxLength:
                    begin, end = (document.begin + units[at] for at in (start, stop))
                    sentence = {"sentence": document.metadata.get("sentence", str(i))}
                    found.append(Annotation(TOKEN, begin, end - 1, text[start:stop], sentence))
        return found

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        shown = text
        for pattern in self.excepted:
            shown = pattern.sub(lambda match: re.sub(r"\s", PROTECTED, match[0]), shown)
        for candidate in compiled(self.targetPattern).finditer(shown):
            start, stop = candidate.span()
            one = PROTECTED in candidate[0] or any(pattern.search(candidate[0]) for pattern in self.excepted)
            match = None if one else next(filter(None, (rule.search(candidate[0]) for rule in self.rules)), None)
            if match is None:
                yield start, stop
                continue
            for first, last in (match.span(i + 1) for i in range(len(match.groups()))):
                for at, end in self._split(text, start + first, start + last):
                    if at < end:
                        yield at, end

    def _split(self, text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
        for cut in self.splits.finditer(text, start, stop) if self.splits else ():
            yield start, cut.start()
            start = cut.end()
        yield start, stop


# With a model. The first argument is a pipeline of the task, the others what a row has in each input column.


def run(pipeline: Pipeline, items: Sequence[Any], task: Any = None) -> Iterator[Any]:
    """Answers to items, of the pipeline's own task or of another one on its model; None to None.

    Raises:
        InputError: an item that the model cannot take, shown: its place in a batch says nothing to anybody.
    """
    answers = _answers(pipeline, [item for item in items if item is not None], task or pipeline.processor)
    return (None if item is None else next(answers) for item in items)


def _answers(pipeline: Pipeline, items: Sequence[Any], task: Any) -> Iterator[Any]:
    for chunk in chunks(items, pipeline.processor.settings.batch_size):
        try:
            found = pipeline.model.run(task, chunk)
        except InputError:
            for item in chunk:
                _accept(pipeline, item)
            raise
        yield from found


def _accept(pipeline: Pipeline, item: Any) -> None:
    try:
        pipeline.processor.preprocess([item])
    except InputError as error:
        raise InputError(f"the row with {item!r:.80}: {error}") from None


def categories(
    pipeline: Pipeline, rows: Sequence[Annotations], *, sigmoid: bool, threshold: float | None, coalesce: bool
) -> list[Annotations]:
    """Labels of each document, or sentence: the best one, or with `sigmoid` all with a score above the threshold.

    They come in the order that the model, or who asks, has them in.
    """
    labels = getattr(pipeline.processor, "labels", pipeline.processor.checkpoint.config.labels)
    answers = run(pipeline, [document.result for row in rows for document in row])
    found = []
    for row in rows:
        scored = []
        for i, document in enumerate(row):
            note, given = _scores(next(answers))
            scores = {label: given[label] for label in labels}
            scored.append((document, {"sentence": document.metadata.get("sentence", str(i))} | note, scores))
        if coalesce and scored:
            document, note, scores = scored[0]
            notes = {name: value for each in scored for name, value in each[1].items()} | {"sentence": note["sentence"]}
            means = {label: float(np.mean([each[2][label] for each in scored])) for label in scores}
            scored = [(document, notes, means)]
        least = THRESHOLD if threshold is None else threshold
        found.append(
            [
                Annotation(CATEGORY, document.begin, document.end, label, note | _strings(scores))
                for document, note, scores in scored
                for label in scores
                if (scores[label] > least if sigmoid else label == max(scores, key=lambda each: scores[each]))
            ]
        )
    return found


def _scores(answer: Any) -> tuple[dict[str, str], dict[str, float]]:
    """Whether a text was cut, and the scores of its labels."""
    if isinstance(answer, dict):  # of labels of one's own
        return {}, dict(zip(answer["labels"], answer["scores"], strict=True))
    return _note(any("truncated" in each for each in answer)), {each["label"]: each["score"] for each in answer}


def _note(cut: bool) -> dict[str, str]:
    return {"truncated": "true"} if cut else {}


def _strings(scores: dict[str, float]) -> dict[str, str]:
    return {label: str(score) for label, score in scores.items()}


def tags(
    pipeline: Pipeline, rows: Sequence[Annotations], tokens: Sequence[Annotations], *, max_length: int
) -> list[Annotations]:
    """The label of each token: that of its first piece."""
    labels = pipeline.processor.checkpoint.config.labels

    def tag(token: Annotation, sentence: dict[str, str], logits: Array, piece: int) -> Annotation:
        scores = softmax(logits.astype(np.float64))
        named = _strings(dict(zip(labels, scores.tolist(), strict=True)))
        best = labels[int(scores.argmax())]
        return Annotation(NAMED_ENTITY, token.begin, token.end, best, sentence | {"word": token.result} | named)

    return [*_by_token(pipeline, rows, tokens, max_length, "logits", tag)]


def vectors(
    pipeline: Pipeline, rows: Sequence[Annotations], tokens: Sequence[Annotations], *, max_length: int
) -> list[Annotations]:
    """A vector for each token: the hidden states of its first piece."""
    unknown = pipeline.processor.checkpoint.special_ids.get("unk_token")

    def vector(token: Annotation, sentence: dict[str, str], states: Array, piece: int) -> Annotation:
        about = {"token": token.result, "pieceId": str(piece), "isWordStart": "true"}
        about |= {"isOOV": str(piece == unknown).lower()} | sentence
        return Annotation(WORD_EMBEDDINGS, token.begin, token.end, token.result, about, states.tolist())

    return [*_by_token(pipeline, rows, tokens, max_length, "hidden_states", vector)]


def _by_token(
    pipeline: Pipeline,
    rows: Sequence[Annotations],
    tokens: Sequence[Annotations],
    max_length: int,
    output: str,
    make: Callable[[Annotation, dict[str, str], Array, int], Annotation],
) -> Iterator[Annotations]:
    """What `make` makes of each token and what the model says of its first piece."""
    checkpoint = pipeline.processor.checkpoint
    flat = [document for row in rows for document in row]
    read = _read(pipeline, [each.result for each in flat], max_length, checkpoint.tokenization.truncation_side, output)
    for row, words in zip(rows, tokens, strict=True):
        found = []
        for i, document in enumerate(row):
            part, values = next(read)
            units, ids = utf16(document.result), part.encoding.ids
            offsets, special = part.encoding.offsets, part.encoding.special_tokens_mask
            pieces = [(at, position) for at, position in enumerate(part.positions) if not special[position]]
            starts = [document.begin + units[offsets[position][0]] for _, position in pieces]
            about = {"sentence": document.metadata.get("sentence", str(i))} | _note(part.truncated)
            for token in words:
                if not document.begin <= token.begin <= token.end <= document.end:
                    continue
                first = bisect_left(starts, token.begin)
                if first < len(starts) and starts[first] <= token.end:  # or it was cut away, or nothing is left of it
                    at, position = pieces[first]
                    found.append(make(token, about, values[at], ids[position]))
        yield found


def _read(
    pipeline: Pipeline, texts: Sequence[str], max_length: int, side: str, output: str
) -> Iterator[tuple[Part, Array]]:
    """What of each text is read, and what the model says of it."""
    for chunk in chunks(texts, pipeline.processor.settings.batch_size):
        encodings = tokenize(pipeline.processor.checkpoint.tokenizer, chunk)
        cuts = [[truncated(encoding, max_length, side=side)] for encoding in encodings]
        outputs = pipeline.model.forward(laid_out(cuts, output=output))
        yield from zip([part for (part,) in cuts], [values for (values,) in outputs.by_item()], strict=True)


@dataclass(frozen=True)
class Noting:
    """A task of embedding, each of whose vectors comes with whether the text was cut: a vector does not say it."""

    task: Any

    def preprocess(self, items: Sequence[str]) -> Inputs:
        """As `Task.preprocess`."""
        inputs: Inputs = self.task.preprocess(items)
        return inputs

    def postprocess(self, outputs: Outputs) -> list[tuple[Array, bool]]:
        """As `Task.postprocess`."""
        cuts = (self.task.long_text == "truncate" and parts[0].truncated for parts in outputs.inputs.context)
        return [*zip(self.task.postprocess(outputs), cuts, strict=True)]


def sentence_vectors(pipeline: Pipeline, rows: Sequence[Annotations]) -> list[Annotations]:
    """A vector for each document, or sentence."""
    found = run(pipeline, [document.result for row in rows for document in row], Noting(pipeline.processor))

    def vector(each: Annotation) -> Annotation:
        numbers, is_cut = next(found)
        about = each.metadata | _note(is_cut)
        return Annotation(SENTENCE_EMBEDDINGS, each.begin, each.end, each.result, about, numbers.tolist())

    return [[vector(each) for each in row] for row in rows]


def answers(pipeline: Pipeline, questions: Sequence[Annotations], contexts: Sequence[Annotations]) -> list[Annotations]:
    """The answer to each row's question in its context; none where one of the two is missing."""
    items = [
        {"question": question[0].result, "context": context[0].result} if question and context else None
        for question, context in zip(questions, contexts, strict=True)
    ]
    return _one_each(pipeline, items, _answer)


def _one_each(pipeline: Pipeline, items: Sequence[Any], make: Callable[[Any, Any], Annotation]) -> list[Annotations]:
    """What `make` makes of the answer to each item and of the item; nothing where there is none."""
    found = zip(run(pipeline, items), items, strict=True)
    return [[] if item is None else [make(answer, item)] for answer, item in found]


def _answer(answer: Any, item: dict[str, str]) -> Annotation:
    units, last = utf16(item["context"]), utf16(answer["answer"])[-1] - 1
    about = {"sentence": "0", "chunk": "0", "score": str(answer["score"])}
    about |= {name: str(units[answer[name]]) for name in ("start", "end")}
    return Annotation(CHUNK, 0, max(last, 0), answer["answer"], about)


def choices(
    pipeline: Pipeline, questions: Sequence[Annotations], contexts: Sequence[Annotations], *, delimiter: str
) -> list[Annotations]:
    """Which of a row's choices goes with its question best; none where one of the two is missing."""
    items = []
    for question, row in zip(questions, contexts, strict=True):
        parts = [part for context in row for part in _split(context.result, delimiter)]
        items.append({"text": question[0].result, "choices": parts} if question and parts else None)
    return _one_each(pipeline, items, _choice)


def _split(text: str, delimiter: str) -> list[str]:
    """Choices; as Java splits, none of the empty ones at the end."""
    while text.endswith(delimiter):
        text = text.removesuffix(delimiter)
    return text.split(delimiter) if text else []


def _choice(answer: Any, item: Any) -> Annotation:
    about = {"sentence": "0", "chunk": "0", "score": str(answer["scores"][answer["choice"]])}
    return Annotation(CHUNK, 0, max(utf16(answer["text"])[-1] - 1, 0), answer["text"], about)
