"""Token classification: entities in a text, with the aggregation strategies of transformers' pipeline."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from tokenizers import Encoding

from ..batch import Inputs, Outputs
from ..distilbert.encoder import Array
from ..distilbert.heads import scores
from ..settings import check, choice, flag, setting, string, strings, whole
from ..text import Part, default_stride, laid_out, parts, tokenize, tokenize_words
from .base import Task, TaskSettings

Entity: TypeAlias = dict[str, Any]
OUTSIDE = ("O",)
STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(frozen=True, kw_only=True)
class TokenClassificationSettings(TaskSettings):
    """Settings of token classification."""

    aggregation_strategy: str = setting(
        "none",
        choice(*STRATEGIES),
        '"none" gives tokens. "simple" joins neighbours of one class. "first", "average" and "max" first make the '
        "tokens of a word agree: on its first token's class, on that of the mean of their scores, on that of the "
        "highest score.",
    )
    ignore_labels: Sequence[str] | None = setting(OUTSIDE, strings(), 'labels that are left out; None: "O".', None)
    stride: int | None = setting(
        None,
        whole(0),
        "tokens that neighbouring windows of a long text share; by default 128, or a quarter of a window.",
        None,
    )
    is_split_into_words: bool = setting(
        False, flag(), "a text is a list of words; offsets are those in the words joined by `delimiter`."
    )
    delimiter: str | None = setting(" ", string(), "what joins words; None: a blank.", None)
    batch_size: int = setting(64, whole(), "texts that a thread runs at once; results do not depend on it.")


class TokenClassification(Task[TokenClassificationSettings]):
    """transformers' pipeline of that name: same arguments, same results.

    One thing differs: a text of more tokens than the model takes, or its tokenizer says, is never cut silently. It is
    read in windows that share `stride` tokens; of two entities that overlap the longer is kept, then the one with the
    higher score.

    Items are texts, or with `is_split_into_words` lists of words. An answer is a list of {"entity_group", "score",
    "word", "start", "end"}; with the strategy "none" {"entity", "score", "index", "word", "start", "end"}, a dict a
    token. `start` and `end` are characters in the text.
    """

    settings_type = TokenClassificationSettings
    architectures = ("DistilBertForTokenClassification",)
    columns = ("entity_group", "word", "score", "start", "end")

    def resolve(self) -> None:
        """As `Task.resolve`; what the tokenizer says of its tokens."""
        tokenizer = self.checkpoint.tokenizer
        self.unknown = self.checkpoint.special_ids.get("unk_token")
        self.marks_subwords = bool(getattr(tokenizer.model, "continuing_subword_prefix", None))  # as WordPiece with ##
        self.length = self.checkpoint.max_length
        check("stride", whole(0, self.length - 1), self.settings.stride, None)
        self.ignored = OUTSIDE if self.settings.ignore_labels is None else self.settings.ignore_labels
        self.delimiter = " " if self.settings.delimiter is None else self.settings.delimiter

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; a text's windows are its sequences."""
        length = self.length
        stride = default_stride(length) if self.settings.stride is None else self.settings.stride
        tokenizer, words = self.checkpoint.tokenizer, self.settings.is_split_into_words
        encodings = tokenize_words(tokenizer, items) if words else tokenize(tokenizer, items)
        side = self.checkpoint.tokenization.truncation_side
        cuts = [parts(encoding, length, stride, reach_back=False, side=side) for encoding in encodings]
        return laid_out(cuts, context=[*zip(items, cuts, strict=True)])

    def postprocess(self, outputs: Outputs) -> list[list[Entity]]:
        labels = self.checkpoint.config.labels
        decoder = self.checkpoint.tokenizer.decoder
        join = " ".join if decoder is None else decoder.decode
        answers = []
        for (item, cut), windows in zip(outputs.inputs.context, outputs.by_item(), strict=True):
            found: list[Entity] = []
            for tokens in self._tokens(item, cut, windows):
                found += aggregate(tokens, self.settings.aggregation_strategy, labels, join)
            kept = [e for e in found if e.get("entity", e.get("entity_group")) not in self.ignored]
            answers.append(without_overlaps(kept) if len(cut) > 1 else kept)
        return answers

    def _tokens(self, item: Any, cut: Sequence[Part], windows: Sequence[Array]) -> Iterable[list[Entity]]:
        """Each window's tokens but for special ones: what `aggregate` takes."""
        encoding = cut[0].encoding
        text, offsets = item, encoding.offsets
        if self.settings.is_split_into_words:
            text, offsets = _joined(item, encoding, self.delimiter)
        special, ids, words = encoding.special_tokens_mask, encoding.ids, encoding.tokens
        for part, logits in zip(cut, windows, strict=True):
            tokens = []
            for i, row in zip(part.positions, scores(logits, "softmax").astype(np.float32), strict=True):
                if special[i]:
                    continue
                (start, end), word = offsets[i], words[i]
                if self.marks_subwords:
                    subword = len(word) != end - start
                else:
                    subword = start > 0 and " " not in text[start - 1 : start + 1]
                if ids[i] == self.unknown:
                    word, subword = text[start:end], False
                token = {"word": word, "scores": row, "start": start, "end": end, "index": i, "is_subword": subword}
                tokens.append(token)
            yield tokens

    def rows(self, answer: Any) -> Iterator[list[Any]]:
        """As `Task.rows`; a token's class stands where a group's does."""
        return ([each[name if name in each else "entity"] for name in self.columns] for each in answer)

    @property
    def added_columns(self) -> dict[str, Any]:
        """As `Task.added_columns`: the entities, or tokens, of a text."""
        if self.settings.is_split_into_words:
            return {}
        kinds = {"score": "float", "index": "int", "word": "string", "start": "int", "end": "int"}
        if self.settings.aggregation_strategy == "none":
            return {"entities": ({"entity": "string"} | kinds,)}
        del kinds["index"]
        return {"entities": ({"entity_group": "string"} | kinds,)}

    def is_item(self, inputs: Any) -> bool:
        """As `Task.is_item`; a list of strings is one text where texts are split into words."""
        if self.settings.is_split_into_words and isinstance(inputs, list):
            return bool(inputs) and all(isinstance(word, str) for word in inputs)
        return isinstance(inputs, str)

    def shaped(self, answers: list[Any], inputs: Any, given: Mapping[str, Any]) -> Any:
        """As `Task.shaped`; for one list of words transformers gives a list with its answer."""
        return answers[0] if isinstance(inputs, str) else answers


def aggregate(
    tokens: list[Entity], strategy: str, labels: Sequence[str], join: Callable[[list[str]], str]
) -> list[Entity]:
    """Entities from tokens {"word", "scores" [C], "start", "end", "index", "is_subword"}.

    Args:
        tokens: of one window.
        strategy: one of `STRATEGIES`.
        labels: of the model.
        join: what makes a string of tokens: the tokenizer's decoder.
    """
    if strategy in ("none", "simple"):
        entities = [
            {
                "entity": labels[int(token["scores"].argmax())],
                "score": float(token["scores"].max()),
                "index": token["index"],
                "word": token["word"],
                "start": token["start"],
                "end": token["end"],
            }
            for token in tokens
        ]
        return entities if strategy == "none" else _groups(entities, join)
    words: list[list[Entity]] = []
    for token in tokens:
        if token["is_subword"] and words:
            words[-1].append(token)
        else:
            words.append([token])
    return _groups([_word(word, strategy, labels, join) for word in words], join)


def _word(tokens: list[Entity], strategy: str, labels: Sequence[str], join: Callable[[list[str]], str]) -> Entity:
    """The tokens of one word as one entity."""
    scores = {
        "first": lambda: tokens[0]["scores"],
        "max": lambda: max(tokens, key=lambda token: float(token["scores"].max()))["scores"],
        "average": lambda: np.mean([token["scores"] for token in tokens], axis=0),
    }[strategy]()
    best = int(scores.argmax())
    return {"entity": labels[best], "score": float(scores[best])} | _span(tokens, join)


def _groups(entities: list[Entity], join: Callable[[list[str]], str]) -> list[Entity]:
    """Neighbours of one class as one; a label that starts with "B-" begins a new one."""
    groups: list[list[Entity]] = []
    for entity in entities:
        begins, tag = _tag(entity["entity"])
        if groups and not begins and _tag(groups[-1][-1]["entity"])[1] == tag:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return [
        {"entity_group": group[0]["entity"].split("-", 1)[-1], "score": float(np.mean([e["score"] for e in group]))}
        | _span(group, join)
        for group in groups
    ]


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and its class: "B-PER" -> (True, "PER")."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _span(parts: list[Entity], join: Callable[[list[str]], str]) -> Entity:
    """Where neighbours stand together, and their tokens as a string."""
    return {"word": join([part["word"] for part in parts]), "start": parts[0]["start"], "end": parts[-1]["end"]}


def without_overlaps(entities: list[Entity]) -> list[Entity]:
    """Of entities that overlap, the longer one, then that with the higher score; in the order of the text."""

    def rank(entity: Entity) -> tuple[int, float]:
        return entity["end"] - entity["start"], entity["score"]

    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda e: e["start"]):
        if not kept or entity["start"] >= kept[-1]["end"]:
            kept.append(entity)
        elif rank(entity) > rank(kept[-1]):
            kept[-1] = entity
    return kept


def _joined(words: list[str], encoding: Encoding, delimiter: str) -> tuple[str, list[tuple[int, int]]]:
    """The words as one text, and the offsets of the tokens in it."""
    starts = np.cumsum([0, *(len(word) + len(delimiter) for word in words)])
    shift = [0 if word is None else int(starts[word]) for word in encoding.word_ids]
    offsets = [(start + by, end + by) for (start, end), by in zip(encoding.offsets, shift, strict=True)]
    return delimiter.join(words), offsets
