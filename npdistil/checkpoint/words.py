"""Token ids of texts word by word: the tokenizer's library is asked once for each word."""

from collections.abc import Callable, Sequence
from itertools import chain
from threading import get_ident
from typing import Any

from tokenizers import Encoding, Tokenizer, models, normalizers, pre_tokenizers

MOST = 2**18  # characters of all words that are remembered: some 10 MB of words of six, 45 of single ones


class Words:
    """What a tokenizer that looks at one word after the other makes of texts, from the words that it has met before.

    BERT's does so: it changes characters one by one, parts words at blanks, and looks each up alone. So the ids of a
    text are those of what stands between its blanks, one after the other, and special tokens around them.

    Attributes:
        for_one: whether a text by itself is worth it: where many come one after the other, most of its words are known.
        trusted: the thread that has seen to it, for now, that `is_same`; calls on any other look for themselves.
    """

    for_one = False
    trusted: int | None = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}
        self.size = 0
        self.made_of = self._state()
        encoding = tokenizer.encode("a")
        first = encoding.special_tokens_mask.index(0)
        inside = tokenizer.encode("a", add_special_tokens=False).ids
        self.before, self.after = encoding.ids[:first], encoding.ids[first + len(inside) :]

    def _state(self) -> tuple[Any, ...]:
        """What ids depend on and who has the tokenizer may change."""
        own = self.tokenizer
        parts = own.normalizer, own.pre_tokenizer, own.post_processor, *own.get_added_tokens_decoder().values()
        return own.truncation, own.padding, own.get_vocab_size(), *map(repr, parts)

    def is_same(self) -> bool:
        """Whether the tokenizer is what it was when the words were met."""
        return self._state() == self.made_of

    def encodings(self, texts: Sequence[str], encode: Callable[..., Sequence[Encoding]]) -> list[Any]:
        """`WordIds` of each text; `encode` takes the words that are not known yet, as `Tokenizer.encode_batch` does.

        Where the tokenizer was changed since, what the library makes of the texts.
        """
        if self.trusted != get_ident() and not self.is_same():
            return [*encode(texts)]
        split = [text.split(" ") for text in texts]
        known = self.known
        if fresh := [*set(chain.from_iterable(split)).difference(known)]:
            size = sum(map(len, fresh))
            if self.size + size > MOST:
                known = {word: known[word] for word in chain.from_iterable(split) if word in known}
                self.size = sum(map(len, known))
            known.update(zip(fresh, (each.ids for each in encode(fresh, add_special_tokens=False)), strict=True))
            self.known, self.size = known, self.size + size
        return [
            WordIds(self, text, [*self.before, *chain.from_iterable(map(known.__getitem__, words)), *self.after])
            for text, words in zip(texts, split, strict=True)
        ]


class WordIds:
    """An `Encoding` of which the ids are there, and all else is made when it is asked for."""

    __slots__ = ("ids", "text", "words")
    n_sequences = 1

    def __init__(self, words: Words, text: str, ids: list[int]) -> None:
        self.words, self.text, self.ids = words, text, ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # when a copy is made, which has nothing yet
            raise AttributeError(name)
        return getattr(self.words.tokenizer.encode(self.text), name)


def words_of(tokenizer: Tokenizer) -> Words | None:
    """`Words` of a tokenizer that looks at one word after the other; None of any other."""
    added = tokenizer.get_added_tokens_decoder().values()
    if (
        not isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
        or not isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        or not isinstance(tokenizer.model, models.WordPiece)
        or any(each.normalized or each.lstrip or each.rstrip or " " in each.content for each in added)
    ):
        return None
    words = Words(tokenizer)
    (trial,) = words.encodings(["a b"], lambda some, **how: [tokenizer.encode(each, **how) for each in some])
    return words if trial.ids == tokenizer.encode("a b").ids else None
