"""Why a text got its label: how much each word adds to it, and where each head looks."""

import base64
import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding

from ..batch import Inputs, Outputs
from ..checkpoint.config import Config
from ..distilbert.encoder import Array, exp
from ..distilbert.heads import best_first, log, scores
from ..errors import InputError
from ..notebook import coloured
from ..settings import check, choice, setting, string, whole
from ..text import tokenize
from .base import Task, TaskSettings

METHODS = ("occlusion", "shapley")
EXACT_WORDS = 8  # up to so many, Shapley values are computed from all sets of words; above, from samples
APOSTROPHES = ("'", "\N{RIGHT SINGLE QUOTATION MARK}")
PAGE = Path(__file__).parents[1] / "page"


@dataclass(frozen=True)
class Word:
    """A word of a text, and what it adds to the log-odds of the label that is explained."""

    text: str
    start: int  # its characters in the text
    end: int
    value: float


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes:
        text: as it was given.
        label: the one that is explained.
        scores: of every label, best first; labels with the same name have their numbers behind it.
        method: "occlusion" or "shapley".
        log_odds: of the label, for the whole text; of a regression, its value.
        base: the same for a text without any words.
        words: in the order of the text. By "shapley" their values add up to log_odds - base.
        tokens: as the model reads the text, special ones included: L of them.
        attention: float32 [N, H, L, L], by layer and head how much each token (row) looks at each (column); or None.
    """

    text: str
    label: str
    scores: dict[str, float]
    method: str
    log_odds: float
    base: float
    words: list[Word]
    tokens: list[str]
    attention: Array | None = None

    def as_dict(self) -> dict[str, Any]:
        """Of types that JSON knows; without attention."""
        return {name: value for name, value in asdict(self).items() if name != "attention"}

    def as_html(self) -> str:
        """A page that shows all of it, in one file that needs nothing else."""
        data = json.dumps(self.as_dict() | {"attention": packed(self.attention)}).replace("<", "\\u003c")
        page = (PAGE / "explanation.html").read_text(encoding="utf-8")
        for name in ("page.css", "views.js"):
            page = page.replace(f"/* {name} */", (PAGE / name).read_text(encoding="utf-8"))
        return page.replace("{{data}}", data)

    def _repr_html_(self) -> str:
        """In a notebook: label and score, and the words in colour."""
        return coloured(f"{self.label} {self.scores[self.label]:.4f}", self.text, self.words)

    def as_text(self, colour: bool = False) -> str:
        """Label and score, then the words: coloured with ANSI codes or one a line with its value."""
        head = f"{self.label} {self.scores[self.label]:.4f}"
        width = max((len(word.text) for word in self.words), default=0)
        most = max((abs(word.value) for word in self.words), default=0.0)
        lines, shown, last = [], "", 0
        for word in self.words:
            paint = _painter(word.value / most if colour and most else 0.0)
            shown += self.text[last : word.start] + paint(word.text)
            last = word.end
            lines.append(f"{word.value:+8.3f}  {paint(word.text) if colour else word.text:<{width}}".rstrip())
        return "\n".join([head, *([shown + self.text[last:]] if colour else []), *lines])


def _painter(share: float) -> Callable[[str], str]:
    """Blue for words that push towards the label, orange for those that push away: shades of the 256 ANSI colours."""
    strength = min(4, round(abs(share) * 4))
    if not strength:
        return str
    colour = ((195, 153, 75, 33) if share > 0 else (230, 222, 215, 208))[strength - 1]
    return lambda text: f"\033[38;5;16;48;5;{colour}m{text}\033[0m"


@dataclass(frozen=True, kw_only=True)
class ExplanationSettings(TaskSettings):
    """Settings of an explanation."""

    label: str | None = setting(
        None, string(), "the label to explain; by default the one with the highest score.", None
    )
    method: str = setting(
        "occlusion",
        choice(*METHODS),
        '"occlusion": the log-odds with the word minus those without it; n + 2 passes for n words. "shapley": what the '
        "word adds to the words before it, mean over the orders in which words may come; the values add up to all that "
        "the words change together. Exact for up to 8 words, above that from samples.",
    )
    samples: int = setting(
        16, whole(1, 10_000), 'orders of the words that "shapley" samples, rounded up to an even number.'
    )


class ExplanationTask(Task[ExplanationSettings]):
    """How much each word of a text adds to the log-odds of a label.

    A word is taken away, not masked: the model reads the rest as a text of its own, as it does with the phrases that
    it was trained on. For labels that exclude each other the log-odds are log(p / (1 - p)); for labels that do not,
    the logit, which is the same thing; for a regression the value.

    Items are texts that the model reads at once. An answer is an `Explanation`.
    """

    settings_type = ExplanationSettings

    def resolve(self) -> None:
        labels = self.checkpoint.config.labels
        # Of labels with one name each gets its number, so that none is lost and each can be asked for.
        self.labels = [f"{name} ({i})" if labels.count(name) > 1 else name for i, name in enumerate(labels)]
        if self.settings.label is not None:
            check("label", choice(*self.labels), self.settings.label)

    def preprocess(self, items: Sequence[Any]) -> Inputs:
        """As `Task.preprocess`; the variants of a text, itself first, are its sequences."""
        encodings = tokenize(self.checkpoint.tokenizer, items)
        limit = self.checkpoint.config.max_position_embeddings
        if longest := next((len(each) for each in encodings if len(each) > limit), 0):
            raise InputError(f"the text has {longest} tokens; what the model reads at once can be explained: {limit}")
        variants = [
            Variants(text, encoding, self.settings.method, self.settings.samples)
            for text, encoding in zip(items, encodings, strict=True)
        ]
        token_ids = [ids for each in variants for ids in each.token_ids]
        return Inputs(token_ids, [len(each.token_ids) for each in variants], context=variants)

    def postprocess(self, outputs: Outputs) -> list[Explanation]:
        return [
            self._explanation(each, np.concatenate(logits))
            for each, logits in zip(outputs.inputs.context, outputs.by_item(), strict=True)
        ]

    def _explanation(self, variants: "Variants", logits: Array) -> Explanation:  # [variants, C]
        config = self.checkpoint.config
        row = scores(logits[:1], config.function)[0]
        chosen = int(row.argmax()) if self.settings.label is None else self.labels.index(self.settings.label)
        values = log_odds(logits.astype(np.float64), chosen, config).tolist()
        words = [
            Word(variants.text[start:end], start, end, float(each))
            for (start, end, _), each in zip(variants.spans, variants.word_values(values), strict=True)
        ]
        return Explanation(
            text=variants.text,
            label=self.labels[chosen],
            scores={self.labels[i]: float(row[i]) for i in best_first(row)},
            method=variants.method,
            log_odds=values[0],
            base=values[min(1, len(values) - 1)],
            words=words,
            tokens=variants.encoding.tokens,
        )


class Variants:
    """A text with words left out: all that one explanation has to run.

    Attributes:
        token_ids: of the whole text, the text without any word, and each set of words that the method asks for.
    """

    def __init__(self, text: str, encoding: Encoding, method: str, samples: int) -> None:
        self.text, self.encoding, self.method = text, encoding, method
        self.spans = words_of(text, encoding)
        n = len(self.spans)
        everything = tuple(range(n))
        self.orders: list[tuple[int, ...]] = []
        if method == "occlusion":
            sets = [everything[:i] + everything[i + 1 :] for i in everything]
        elif n <= EXACT_WORDS:
            sets = [kept for size in range(1, n) for kept in itertools.combinations(everything, size)]
        else:
            rng = np.random.default_rng(0)  # the same text is explained in the same way every time
            forwards = [tuple(map(int, rng.permutation(n))) for _ in range(-(-samples // 2))]
            # Each order with its reverse: what one counts too early the other counts too late.
            self.orders = [order for pair in forwards for order in (pair, pair[::-1])]
            sets = [tuple(sorted(order[:size])) for order in self.orders for size in range(1, n)]
        self.sets = list(dict.fromkeys([everything, (), *sets]))
        word_of = {token: word for word, (_, _, tokens) in enumerate(self.spans) for token in tokens}
        ids = encoding.ids
        self.token_ids = [
            [token for i, token in enumerate(ids) if i not in word_of or word_of[i] in kept]
            for kept in map(set, self.sets)
        ]

    def word_values(self, values: Sequence[float]) -> Array:
        """What each word adds, from the log-odds of every variant: float64 [words]."""
        value = dict(zip(self.sets, values, strict=True))
        if self.method == "shapley":
            return self._shapley(value)
        # What is lost without the word (Li et al. 2016, arXiv:1612.08220).
        everything = tuple(range(len(self.spans)))
        return np.array([value[everything] - value[everything[:i] + everything[i + 1 :]] for i in everything])

    def _shapley(self, value: dict[tuple[int, ...], float]) -> Array:
        """What the word adds, mean over the orders in which words may come (Shapley 1953; Lundberg and Lee 2017)."""
        n = len(self.spans)
        values = np.zeros(n)
        if not self.orders:
            for kept in self.sets:
                weight = 1 / (n * math.comb(n - 1, len(kept))) if len(kept) < n else 0.0
                for word in set(range(n)) - set(kept):
                    values[word] += weight * (value[tuple(sorted((*kept, word)))] - value[kept])
            return values
        for order in self.orders:
            steps = [value[tuple(sorted(order[:size]))] for size in range(n + 1)]
            values[list(order)] += np.diff(steps) / len(self.orders)
        return values


def log_odds(logits: Array, label: int, config: Config) -> Array:  # [B, C] -> [B]
    """log(p / (1 - p)) of the label's score; where scores are logits, the logits."""
    if config.function != "softmax":
        return logits[:, label]
    logits = logits.astype(np.float64)
    others = np.delete(logits, label, axis=1)
    most = others.max(axis=1)
    return logits[:, label] - most - log(exp(others - most[:, None]).sum(axis=1))


def words_of(text: str, encoding: Encoding) -> list[tuple[int, int, list[int]]]:
    """First and last character and the tokens of each word, as the tokenizer splits them; "don't" is one word."""
    found: list[tuple[int, int, list[int]]] = []
    offsets, word_ids = encoding.offsets, encoding.word_ids  # each look copies all of them

    def touch(i: int) -> bool:
        """Whether tokens i - 1 and i belong to words with nothing between them."""
        inside = 0 < i < len(offsets) and word_ids[i - 1] is not None and word_ids[i] is not None
        return inside and offsets[i - 1][1] == offsets[i][0]

    def inner(i: int) -> bool:
        """Whether token i is an apostrophe between two letters."""
        start, end = offsets[i]
        inside = touch(i) and touch(i + 1) and text[start:end] in APOSTROPHES
        return inside and (text[start - 1] + text[end]).isalnum()

    for i, (word, (start, end)) in enumerate(zip(word_ids, offsets, strict=True)):
        if word is None:
            continue
        if i and (word == word_ids[i - 1] or inner(i) or inner(i - 1)):
            first, _, before = found[-1]
            found[-1] = (first, end, [*before, i])
        else:
            found.append((start, end, [i]))
    return found


def packed(attention: Array | None) -> dict[str, Any] | None:
    """Attention as a page takes it: base64 of a byte for each weight, 255 for 1, and the shape [N, H, L, L]."""
    if attention is None:
        return None
    small = np.rint(attention * 255).astype(np.uint8)
    return {"shape": list(small.shape), "bytes": base64.b64encode(small.tobytes()).decode()}


def wants_colour(terminal: bool) -> bool:
    """On a terminal, unless NO_COLOR says otherwise (no-color.org)."""
    return terminal and not os.environ.get("NO_COLOR")
