"""Texts: checked, tokenised, cut into sentences and into windows."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from tokenizers import Encoding, Tokenizer

from .errors import InputError

Text: TypeAlias = str | tuple[str, str]  # a text, or a pair
LONG = 4096  # characters of a text from which on others should not wait for its tokens

# Where a sentence may end: its marks and what closes with them, if a blank or a line break follows, or none is needed.
SENTENCE_END = re.compile(r"""[.!?\u2026]+["'\u2019\u201d)\]]*(?=\s)|[\u3002\uff01\uff1f]+[\u300d\u300f\uff09]*|\n""")


def as_text(item: Any) -> Text:
    """A text or a pair, as transformers' pipeline takes them: a string, or {"text", "text_pair"}.

    Raises:
        InputError: anything else.
    """
    if isinstance(item, str):
        return item
    if isinstance(item, dict) and "text" in item and set(item) <= {"text", "text_pair"}:
        pair = item.get("text_pair")
        return item["text"] if pair is None or pair == "" else (item["text"], pair)  # as transformers has it
    raise InputError(
        f'expected a string or {{"text": ..., "text_pair": ...}}, found {type(item).__name__}: {item!r:.80}'
    )


def tokenize(tokenizer: Tokenizer, texts: Sequence[Text]) -> list[Encoding]:
    """Tokens of each text or pair, special tokens included, not cut and not padded.

    Raises:
        InputError: not a string, or one with a lone surrogate, which no UTF-8 text can hold.
    """
    check_texts(texts)
    if len(texts) == 1:
        pair = texts[0] if isinstance(texts[0], tuple) else (texts[0],)
        if sum(map(len, pair)) < LONG:  # the batch call starts a pool of threads; this one lets no other thread run
            return [tokenizer.encode(*pair)]
    return list(tokenizer.encode_batch(list(texts)))


def tokenize_words(tokenizer: Tokenizer, texts: Sequence[Sequence[str]]) -> list[Encoding]:
    """As `tokenize`, for texts that are lists of words; offsets count from the start of each word.

    Raises:
        InputError: not lists of strings; and as `tokenize`.
    """
    for i, words in enumerate(texts):
        if not isinstance(words, (list, tuple)):
            raise InputError(f"text {i} is a {type(words).__name__}; expected a list of words")
        for word in words:
            _check_text(word, i)
    return list(tokenizer.encode_batch([list(words) for words in texts], is_pretokenized=True))


def check_texts(texts: Sequence[Text]) -> None:
    """InputError unless all are strings, or tuples of two strings, that UTF-8 can hold."""
    for i, text in enumerate(texts):
        if isinstance(text, tuple) and len(text) != 2:
            raise InputError(f"text {i} is a tuple of {len(text)}; expected a string, or two for a pair")
        for part in text if isinstance(text, tuple) else (text,):
            _check_text(part, i)


def _check_text(text: Any, number: int) -> None:
    if not isinstance(text, str):
        raise InputError(f"text {number} is a {type(text).__name__}; expected a string")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"text {number} has the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}; "
            "mend it first, for example with text.encode('utf-8', 'replace').decode()"
        ) from None


class Part(NamedTuple):
    """What is read of a text at once."""

    ids: list[int]  # its tokens, special ones included
    start: int  # the characters that they are; of a pair, characters of the text that is cut
    end: int
    truncated: bool = False  # whether what follows is never read


def parts(encoding: Encoding, max_length: int, stride: int) -> list[Part]:
    """One text in windows, as `window_positions` cuts it."""
    cuts = window_positions(encoding, max_length, stride)
    offsets, sequences = encoding.offsets, encoding.sequence_ids
    last = max((s for s in sequences if s is not None), default=None)
    found = []
    for ids, positions in zip(ids_at(encoding, cuts), cuts, strict=True):
        inside = [offsets[i] for i in positions if sequences[i] == last is not None]
        start, end = (inside[0][0], inside[-1][1]) if inside else (0, 0)
        found.append(Part(ids, start, end))
    return found


def sentences(text: str) -> list[tuple[int, int]]:
    """Where sentences start and end, blanks around them left out; the whole of a text that has none.

    A mark of . ! ? before a blank ends a sentence, and so does a line break: a rule that cuts after "Dr." too, and
    needs no knowledge of the language.
    """
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    spans = []
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        words = text[start:end].strip()
        if words:
            first = text.index(words, start)
            spans.append((first, first + len(words)))
    return spans or [(0, len(text))]


def windows(encoding: Encoding, max_length: int, stride: int) -> list[list[int]]:
    """One text's token ids as lists of at most `max_length`, cut as `window_positions` says."""
    return ids_at(encoding, window_positions(encoding, max_length, stride))


def ids_at(encoding: Encoding, cuts: list[list[int]]) -> list[list[int]]:
    """The token ids of each window."""
    ids = encoding.ids  # every look at a field of an encoding copies all of it
    return [[ids[i] for i in positions] for positions in cuts]


def window_positions(
    encoding: Encoding, max_length: int, stride: int, reach_back: bool = True, cut_first: bool = False
) -> list[list[int]]:
    """Which tokens of a text go into each window; all of them, in one, where they are at most `max_length`.

    A longer text is cut into windows of equal length, each with the special tokens of the whole, where neighbours
    share `stride` tokens. The last one reaches back so that it is as long as the others and their scores weigh the
    same; without `reach_back` it is what is left, as transformers has it. Of a pair, the second text is cut and the
    first stands in every window; or with `cut_first` the other way round.

    Raises:
        InputError: the other text of a pair leaves no room for more than `stride` tokens of the one to be cut.
    """
    total, sequences = len(encoding), encoding.sequence_ids
    if total <= max_length:
        return [[*range(total)]]
    which = 0 if cut_first else max(s for s in sequences if s is not None)
    cut = [i for i, s in enumerate(sequences) if s == which]
    start, stop = cut[0], cut[-1] + 1
    room = max_length - (total - (stop - start))
    if room <= stride:
        raise InputError(
            f"windows of {max_length} tokens with a stride of {stride} leave {max(room, 0)} for the text to be cut: "
            "shorten the other text of the pair, or the stride"
        )
    starts = [*range(start, stop - room, room - stride)]
    starts.append(stop - room if reach_back else starts[-1] + room - stride)
    return [[*range(start), *range(i, min(i + room, stop)), *range(stop, total)] for i in starts]
