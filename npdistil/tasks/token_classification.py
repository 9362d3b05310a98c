"""Token classification: entities in a text, with the aggregation strategies of transformers' pipeline."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from tokenizers import Encoding, decoders

from ..distilbert import heads
from ..distilbert.encoder import Array, softmax
from ..errors import InputError
from ..model import STRIDE, Model
from ..text import ids_at, tokenize, tokenize_words, window_positions
from .base import Task, check_choice, check_count, run

Entity: TypeAlias = dict[str, Any]
STRATEGIES = ("none", "simple", "first", "average", "max")


class TokenClassification(Task):
    """transformers' pipeline of that name: same arguments, same results.

    One thing differs: a text of more tokens than the model has positions for is never cut silently. It is read in
    windows that share `stride` tokens; of two entities that overlap the longer is kept, then the one with the
    higher score.

    Each setting is also an argument of the call.

    Args:
        aggregation_strategy: "none" gives tokens. "simple" joins neighbours of one class. "first", "average" and "max"
            first make the tokens of a word agree: on its first token's class, on that of the mean of their scores, on
            that of the highest score.
        ignore_labels: labels that are left out.
        stride: tokens that neighbouring windows of a long text share; by default 128, or a quarter of the model's
            positions if that is less.
        is_split_into_words: a text is a list of words; offsets are those in the words joined by `delimiter`.
        delimiter: what joins words.
        batch_size: texts that are run at once.
    """

    architecture = "DistilBertForTokenClassification"

    def __init__(
        self,
        model: Model,
        *,
        aggregation_strategy: str = "none",
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        is_split_into_words: bool = False,
        delimiter: str = " ",
        batch_size: int = 64,
    ) -> None:
        settings: dict[str, Any] = {
            "aggregation_strategy": aggregation_strategy,
            "ignore_labels": ignore_labels,
            "stride": stride,
            "is_split_into_words": is_split_into_words,
            "delimiter": delimiter,
            "batch_size": batch_size,
        }
        super().__init__(model, settings)

    def check(self, chosen: dict[str, Any]) -> None:
        """Refuse values that the task cannot take."""
        super().check(chosen)
        check_choice("aggregation_strategy", chosen["aggregation_strategy"], STRATEGIES)
        check_choice("is_split_into_words", chosen["is_split_into_words"], (False, True))
        check_count("stride", chosen["stride"], None, 0)
        if isinstance(chosen["ignore_labels"], str):
            raise InputError("ignore_labels is a string; expected a list of labels")

    def __call__(self, inputs: Any, **settings: Any) -> Any:
        """Find entities.

        Args:
            inputs: a text, a list or an iterator of texts; with `is_split_into_words` a text is a list of words.
            settings: as for the class.

        Returns:
            For a text a list of {"entity_group", "score", "word", "start", "end"}; with the strategy "none"
            {"entity", "score", "index", "word", "start", "end"}, a dict a token. For several texts a list, or a lazy
            iterator, of these. `start` and `end` are characters in the text.

        Raises:
            InputError: an input or a setting that the model cannot take.
        """
        chosen = self.choose(settings)
        single = isinstance(inputs, str)
        if chosen["is_split_into_words"] and isinstance(inputs, list):
            single = all(isinstance(word, str) for word in inputs)
        several = [inputs] if single else inputs
        answers = run(several, (), chosen["batch_size"], lambda items: self._answers(items, chosen))
        return answers[0] if single else answers

    def _answers(self, items: list[Any], chosen: dict[str, Any]) -> Iterator[list[Entity]]:
        model, split = self.model, chosen["is_split_into_words"]
        encodings = tokenize_words(model.tokenizer, items) if split else tokenize(model.tokenizer, items)
        length = model.config.max_position_embeddings
        stride = min(STRIDE, length // 4) if chosen["stride"] is None else chosen["stride"]
        cuts = [window_positions(encoding, length, stride, reach_back=False) for encoding in encodings]
        ids = [each for encoding, cut in zip(encodings, cuts, strict=True) for each in ids_at(encoding, cut)]
        hidden = iter(model.hidden_states(ids))
        for item, encoding, cut in zip(items, encodings, cuts, strict=True):
            text, offsets = _joined(item, encoding, chosen["delimiter"]) if split else (item, encoding.offsets)
            found: list[Entity] = []
            fields = encoding.special_tokens_mask, encoding.ids, encoding.tokens
            for window in cut:
                head = model.checkpoint.head
                scores = softmax(heads.token_classification(next(hidden), **head, linear=model.encoder.linear))
                tokens = self._tokens(text, offsets, fields, window, scores)
                found += aggregate(tokens, chosen["aggregation_strategy"], model.config.labels)
            kept = [e for e in found if e.get("entity", e.get("entity_group")) not in chosen["ignore_labels"]]
            yield without_overlaps(kept) if len(cut) > 1 else kept

    def _tokens(
        self,
        text: str,
        offsets: list[tuple[int, int]],
        fields: tuple[list[int], list[int], list[str]],
        window: list[int],
        scores: Array,
    ) -> list[Entity]:
        """The window's tokens but for special ones: what `aggregate` takes."""
        unknown = self.model.tokenizer.token_to_id("[UNK]")
        special, ids, words = fields
        tokens = []
        for i, row in zip(window, scores, strict=True):
            if special[i]:
                continue
            start, end = offsets[i]
            word = words[i]
            subword = len(word) != end - start  # WordPiece marks the later tokens of a word with ##
            if ids[i] == unknown:
                word, subword = text[start:end], False
            tokens.append({"word": word, "scores": row, "start": start, "end": end, "index": i, "is_subword": subword})
        return tokens


def aggregate(tokens: list[Entity], strategy: str, labels: Sequence[str]) -> list[Entity]:
    """Entities from tokens {"word", "scores" [C], "start", "end", "index", "is_subword"}, by one of `STRATEGIES`."""
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
        return entities if strategy == "none" else _groups(entities)
    words: list[list[Entity]] = []
    for token in tokens:
        if token["is_subword"] and words:
            words[-1].append(token)
        else:
            words.append([token])
    return _groups([_word(word, strategy, labels) for word in words])


def _word(tokens: list[Entity], strategy: str, labels: Sequence[str]) -> Entity:
    """The tokens of one word as one entity."""
    scores = {
        "first": lambda: tokens[0]["scores"],
        "max": lambda: max(tokens, key=lambda token: float(token["scores"].max()))["scores"],
        "average": lambda: np.mean([token["scores"] for token in tokens], axis=0),
    }[strategy]()
    best = int(scores.argmax())
    return {"entity": labels[best], "score": float(scores[best])} | _span(tokens)


def _groups(entities: list[Entity]) -> list[Entity]:
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
        | _span(group)
        for group in groups
    ]


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and its class: "B-PER" -> (True, "PER")."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def _span(parts: list[Entity]) -> Entity:
    """Where neighbours stand together, and their tokens as a string, put together as WordPiece's decoder does."""
    word = decoders.WordPiece().decode([part["word"] for part in parts])
    return {"word": word, "start": parts[0]["start"], "end": parts[-1]["end"]}


def without_overlaps(entities: list[Entity]) -> list[Entity]:
    """Of entities that overlap, the longer one, then that with the higher score; in the order of the text."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda e: e["start"]):
        if kept and entity["start"] < kept[-1]["end"]:
            if (entity["end"] - entity["start"], entity["score"]) > (
                kept[-1]["end"] - kept[-1]["start"],
                kept[-1]["score"],
            ):
                kept[-1] = entity
        else:
            kept.append(entity)
    return kept


def _joined(words: list[str], encoding: Encoding, delimiter: str) -> tuple[str, list[tuple[int, int]]]:
    """The words as one text, and the offsets of the tokens in it."""
    starts = np.cumsum([0, *(len(word) + len(delimiter) for word in words)])
    shift = [0 if word is None else int(starts[word]) for word in encoding.word_ids]
    offsets = [(start + by, end + by) for (start, end), by in zip(encoding.offsets, shift, strict=True)]
    return delimiter.join(words), offsets
