"""Texts: checked, tokenised, cut into sentences and into windows."""

import os
import re
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

from tokenizers import Encoding, Tokenizer

from .batch import Inputs
from .checkpoint.tokenizer import reserve
from .checkpoint.words import Words
from .errors import InputError
from .settings import shown

Text: TypeAlias = str | tuple[str, str]  # a text, or a pair
LONG_TEXT = ("windows", "sentences", "truncate", "error")
TRUNCATION = ("longest_first", "only_first", "only_second")  # which text of a pair is cut
STRIDE = 128  # tokens that two neighbouring windows of a long text share
MOST_READ = 64  # times that windows may read a token; each costs as much as the first
CHARACTER = 160  # bytes that a tokenizer takes for one
MOST_CHARACTERS = 2**21  # of a text
LONG = 4096  # characters of a text from which on others should not wait for its tokens

# Where a sentence may end: its marks and what closes with them, if a blank or a line break follows, or none is needed.
# Marks are looked at from the first of a run on, and so once.
SENTENCE_END = re.compile(
    r"""(?<![.!?\u2026])[.!?\u2026]+["'\u2019\u201d)\]]*(?=\s)|[\u3002\uff01\uff1f]+[\u300d\u300f\uff09]*|\n"""
)


def default_stride(max_length: int) -> int:
    """Tokens that neighbouring windows share unless told otherwise."""
    return min(STRIDE, max_length // 4)


def items_of(batch: Any, of: str = "texts") -> list[Any] | Iterator[Any]:
    """What a batch of texts, or of a task's other items, is: for every call that takes several.

    A list, a tuple, any other collection with an order and a length; a Series of pandas or Polars; an array of NumPy
    or Arrow; a column of `datasets`. A frame, a table or an array of two dimensions is its column, where it has one.
    What has no length gives its items one by one, as they are asked for; and so does what has numbers but cannot be
    iterated, as a Dataset of torch.

    Raises:
        InputError: a single text or anything else that is none of these, a frame of several columns, by their names;
            or a missing item (None, NaN, NA), by its place, with an iterator when it is reached.
    """
    items = values_of(batch, of)
    return [*_present(items, of)] if isinstance(items, list) else _present(items, of)


def values_of(batch: Any, of: str = "texts") -> list[Any] | Iterator[Any]:
    """As `items_of`, with missing items in it."""
    kind = type(batch)
    expected = f"expected a list, an array, a Series or an iterator of {of}"
    if isinstance(batch, (str, bytes)):
        found = "a string" if isinstance(batch, str) else "bytes"
        raise InputError(f"expected a list of {of}, found {found}{'; put it in a list' if of == 'texts' else ''}")
    if isinstance(batch, (Mapping, set, frozenset)):
        raise InputError(f"{expected}; found a {kind.__name__}: {shown(batch)}")
    if hasattr(kind, "shape") and isinstance(batch.shape, tuple) and len(batch.shape) != 1:
        batch = _only_column(batch, of)
    if isinstance(batch, Iterator):
        return batch
    for method in ("to_pylist", "to_list", "tolist"):  # of Arrow, of pandas and Polars, of NumPy
        if hasattr(type(batch), method):
            return [*getattr(batch, method)()]
    if hasattr(kind, "__iter__"):
        return [*batch] if hasattr(kind, "__len__") else iter(batch)
    if hasattr(kind, "__getitem__") and hasattr(kind, "__len__"):
        return (batch[i] for i in range(len(batch)))
    raise InputError(f"{expected}; found a {kind.__name__}: {shown(batch)}")


def _only_column(frame: Any, of: str) -> Any:
    """The column of a frame, a table or an array [B, 1]."""
    names = [*getattr(frame, "column_names", getattr(frame, "columns", ()))]
    if len(frame.shape) == 2 and frame.shape[1] == 1:
        return frame[names[0]] if names else frame[:, 0]
    module, kind = type(frame).__module__.partition(".")[0], type(frame).__name__
    if names:
        one = "text" if "text" in names else names[0]
        what = f"give one of them, as data[{one!r}]" if of == "texts" else "give a list of dicts, one for each row"
        raise InputError(
            f"expected {of}, found a {kind} of {module} with the columns {', '.join(map(str, names)):.200}: {what}"
        )
    raise InputError(f"expected {of}, found a {kind} of {module} of the shape {[*frame.shape]}: give one column of it")


def _present(items: Iterable[Any], of: str) -> Iterator[Any]:
    for i, item in enumerate(items):
        if not isinstance(item, str) and is_missing(item):
            raise InputError(missing(i, item, of))
        yield item


def is_empty(text: str) -> bool:
    """Whether a text has nothing to read: no characters, or blanks alone.

    A pipeline, a model, an estimator and the service answer such a text as transformers does, from its special tokens.
    That answer says nothing of the text, so where texts are lines or cells (the command line, files, frames, Spark, the
    page) empty ones have none.
    """
    return not text or text.isspace()


def is_missing(item: Any) -> bool:
    """Whether an item stands for a text that is not there, as libraries for tables have it."""
    return item is None or (isinstance(item, float) and item != item) or type(item).__name__ in ("NAType", "NaTType")


def missing(number: int, item: Any, of: str = "texts") -> str:
    """What to say of such an item."""
    one, instead = ("text", "a string") if of == "texts" else ("question", "a dict")
    return f"{one} {number} is missing: it is {item!r}; leave such rows out, or give them {instead}"


def as_text(item: Any, number: int = 0) -> Text:
    """A text or a pair: a string, a tuple of two, or as transformers' pipeline has it {"text", "text_pair"}.

    Raises:
        InputError: anything else; says which of the texts it is.
    """
    if isinstance(item, str):
        return item
    if isinstance(item, tuple) and len(item) == 2:
        return item
    if isinstance(item, dict) and "text" in item and set(item) <= {"text", "text_pair"}:
        pair: Any = item.get("text_pair")
        alone = pair is None or (isinstance(pair, str) and not pair)  # as transformers has it
        return item["text"] if alone else (item["text"], pair)
    if is_missing(item):
        raise InputError(missing(number, item))
    raise InputError(
        f"text {number} is a {type(item).__name__}: {shown(item)}; expected a string, or a pair as "
        '{"text": ..., "text_pair": ...}'
    )


def as_texts(items: Iterable[Any]) -> list[Text]:
    """`as_text` of each."""
    return [as_text(item, i) for i, item in enumerate(items)]


_threads: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def tokenizing_on(threads: int | None) -> Iterator[None]:
    """`tokenize` in here uses at most so many threads; elsewhere, and with None, the tokenizer's library decides."""
    token = _threads.set(threads)
    try:
        yield
    finally:
        _threads.reset(token)


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
    return _encodings(tokenizer, list(texts))


def token_ids(tokenizer: Tokenizer, words: Words | None, texts: Sequence[Text]) -> list[Encoding]:
    """As `tokenize`, where of most texts the ids alone are looked at: those are made of their words', if there are any.

    Raises:
        InputError: as `tokenize`.
    """
    if words is None or (len(texts) == 1 and not words.for_one):
        return tokenize(tokenizer, texts)
    check_texts(texts)
    encode = partial(_encodings, tokenizer)
    short = [text for text in texts if isinstance(text, str) and len(text) < LONG]
    by_words = iter(words.encodings(short, encode))
    rest: Iterator[Encoding] = iter(())
    if len(short) < len(texts):
        rest = iter(encode([text for text in texts if not isinstance(text, str) or len(text) >= LONG]))
    return [next(by_words if isinstance(text, str) and len(text) < LONG else rest) for text in texts]


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
    return _encodings(tokenizer, [list(words) for words in texts], is_pretokenized=True)


def _encodings(tokenizer: Tokenizer, texts: list[Any], **how: Any) -> list[Encoding]:
    """Of each text, on as many threads as `tokenizing_on` says."""
    reserve(CHARACTER * sum(len(part) for text in texts for part in ((text,) if isinstance(text, str) else text)))
    threads = _threads.get()
    if threads != 1 and _pool_starts():
        # A call of the library's takes a thread for each text, up to the processors that there are.
        size = len(texts) if threads is None or threads >= (os.cpu_count() or 1) else threads
        try:
            batches = (texts[i : i + size] for i in range(0, len(texts), size or 1))
            return [each for batch in batches for each in tokenizer.encode_batch(batch, **how)]
        except BaseException as error:
            # No Exception, but how the library says that threads cannot be started, as under a limit of processes.
            if type(error).__name__ != "PanicException":
                raise
    return [tokenizer.encode(*(text if isinstance(text, tuple) else (text,)), **how) for text in texts]


@lru_cache(maxsize=1)
def _pool_starts() -> bool:
    """Whether the tokenizer's library can start a thread for each processor.

    Where it cannot, it says so on standard error in every call. Twice as many are tried, as those that were tried may
    not have ended when the library starts its own.
    """
    waits = allocate_lock()
    with waits:
        try:
            for _ in range(2 * (os.cpu_count() or 1)):
                start_new_thread(_passes, (waits,))
        except RuntimeError:
            return False
    return True


def _passes(waits: LockType) -> None:
    with waits:
        pass


def check_texts(texts: Sequence[Text]) -> None:
    """InputError unless all are strings, or tuples of two strings, that UTF-8 can hold."""
    for i, text in enumerate(texts):
        if isinstance(text, tuple) and len(text) != 2:
            raise InputError(f"text {i} is a tuple of {len(text)}; expected a string, or two for a pair")
        for part in text if isinstance(text, tuple) else (text,):
            _check_text(part, i)


def _check_text(text: Any, number: int) -> None:
    if not isinstance(text, str):
        other = f"text {number} is a {type(text).__name__}; expected a string"
        raise InputError(missing(number, text) if is_missing(text) else other)
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"text {number} has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read, because each takes "
            f"some {CHARACTER} bytes of memory: give its chapters or pages one by one"
        )
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
    """What is read of a text at once.

    Attributes:
        encoding: of what the part was cut from.
        positions: which of its tokens these are, special ones included.
        shift: where in the whole text that begins of which `encoding` is.
        truncated: whether what follows is never read.
    """

    encoding: Encoding
    positions: Sequence[int]
    shift: int = 0
    truncated: bool = False

    def span(self) -> tuple[int, int]:
        """The characters that it is; of a pair, characters of the text with more tokens."""
        offsets, sequences = self.encoding.offsets, self.encoding.sequence_ids
        longer = _longer(sequences)
        inside = [offsets[i] for i in self.positions if sequences[i] == longer]
        return (self.shift + inside[0][0], self.shift + inside[-1][1]) if inside else (self.shift, self.shift)


def _longer(sequences: Sequence[int | None]) -> int:
    """Which text of a pair has more tokens: 0 or 1; 1 where both have as many, and 0 of a text alone."""
    return 0 if sequences.count(0) > sequences.count(1) else 1


def parts(encoding: Encoding, max_length: int, stride: int, **how: Any) -> list[Part]:
    """One text in windows, as `window_positions` cuts it."""
    return [Part(encoding, positions) for positions in window_positions(encoding, max_length, stride, **how)]


def truncated(encoding: Encoding, max_length: int, strategy: str = TRUNCATION[0], side: str = "right") -> Part:
    """One text or pair cut to `max_length` tokens, as transformers cuts it.

    Args:
        encoding: of all of it.
        max_length: tokens, special ones included; these stay.
        strategy: of a pair, "longest_first" cuts the longer text until both are of one length, and then both;
            "only_first" and "only_second" cut that one.
        side: where tokens are taken away.

    Raises:
        InputError: the text to be cut is too short for that, or not there.
    """
    total = len(encoding)
    if total <= max_length:
        return Part(encoding, range(total))
    sequences = encoding.sequence_ids
    texts = [[i for i, s in enumerate(sequences) if s == which] for which in (0, 1)]
    counts = [*map(len, texts)]
    excess = total - max_length
    if strategy == TRUNCATION[0]:
        room = sum(counts) - excess
        less = min(*counts, room // 2)
        kept = [less, room - less] if _longer(sequences) else [room - less, less]
    else:
        which = TRUNCATION.index(strategy) - 1
        kept = [*counts]
        kept[which] -= excess
        if kept[which] < 1:
            raise InputError(
                f"the text has {total} tokens, and truncation={strategy!r} may cut {counts[which]} of them: not enough "
                f"to make {max_length}"
            )
    taken: set[int] = set()
    for text, n in zip(texts, kept, strict=True):
        taken.update(text[len(text) - n :] if side == "left" else text[:n])
    return Part(encoding, [i for i, s in enumerate(sequences) if s is None or i in taken], truncated=True)


def wholes(encodings: Iterable[Encoding]) -> list[Part]:
    """All of each text at once."""
    return [Part(encoding, range(len(encoding))) for encoding in encodings]


def laid_out(cuts: Sequence[Sequence[Part]], **asked: Any) -> Inputs:
    """The parts of each text as what a model takes; they are what answers are made with again, too."""
    ids_of: list[list[int]] = []
    types_of: list[Sequence[int]] = []
    last, ids, types = None, [], None
    for cut in cuts:
        for part in cut:
            if part.encoding is not last:
                last, ids = part.encoding, part.encoding.ids  # every look at a field of an encoding copies all of it
                types = last.type_ids if last.n_sequences > 1 else None
            whole = len(part.positions) == len(ids)
            ids_of.append(ids if whole else [ids[i] for i in part.positions])
            types_of.append([types[i] for i in part.positions] if types else ())
    if any(map(any, types_of)):
        filled = [kinds or [0] * len(ids) for kinds, ids in zip(types_of, ids_of, strict=True)]
        asked = {"token_type_ids": filled} | asked
    return Inputs(ids_of, [*map(len, cuts)], **({"context": cuts} | asked))


def cut(
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    long_text: str,
    max_length: int,
    stride: int,
    strategy: str = TRUNCATION[0],
    side: str = "right",
    words: Words | None = None,
) -> list[list[Part]]:
    """What of each text is read at once: a single part where a text fits and is not read by sentences.

    Args:
        tokenizer: of the model.
        texts: strings, or tuples of two strings.
        long_text: what to do with a text of more tokens than `max_length`. "windows": overlapping windows that cover
            all of it; "truncate": what `truncated` leaves; "error": refuse it. "sentences": read the sentences of any
            text one by one, one that is still too long in windows.
        max_length: tokens, special ones included.
        stride: tokens that neighbouring windows share.
        strategy: as for `truncated`.
        side: as for `truncated`.
        words: of the tokenizer, where there are any.

    Raises:
        InputError: a text that is too long, with "error"; a pair, with "sentences"; and as `tokenize`, `truncated` and
            `window_positions`.
    """
    if long_text == "sentences":
        return _cut_sentences(tokenizer, texts, max_length, stride, words)
    cuts = []
    for i, encoding in enumerate(token_ids(tokenizer, words, texts)):
        if long_text == "error" and len(encoding) > max_length:
            raise InputError(f"text {i} has {len(encoding)} tokens; {max_length} are allowed")
        if long_text == "truncate":
            cuts.append([truncated(encoding, max_length, strategy, side)])
        else:
            cuts.append(parts(encoding, max_length, stride))
    return cuts


def _cut_sentences(
    tokenizer: Tokenizer, texts: Sequence[Text], max_length: int, stride: int, words: Words | None
) -> list[list[Part]]:
    check_texts(texts)
    singles = [text for text in texts if isinstance(text, str)]
    if len(singles) < len(texts):
        raise InputError("pairs cannot be read by sentences, only single texts")
    spans = [sentences(text) for text in singles]
    flat = [text[start:end] for text, found in zip(singles, spans, strict=True) for start, end in found]
    encodings = iter(token_ids(tokenizer, words, flat))
    return [
        [part._replace(shift=start) for start, _ in found for part in parts(next(encodings), max_length, stride)]
        for found in spans
    ]


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


def window_positions(
    encoding: Encoding,
    max_length: int,
    stride: int,
    reach_back: bool = True,
    which: int | None = None,
    side: str = "right",
) -> list[Sequence[int]]:
    """Which tokens of a text go into each window; all of them, in one, where they are at most `max_length`.

    A longer text is cut into windows of equal length, each with the special tokens of the whole, where neighbours
    share `stride` tokens. The last one reaches back so that it is as long as the others and their scores weigh the
    same; without `reach_back` it is what is left, as transformers has it, and with the `side` "left" windows are
    counted from the end of the text, so that the first of them all is what is left. Of a pair, one text is cut and the
    other stands in every window: the one with more tokens is cut, or the first (`which` is 0) or the second (1).

    Raises:
        InputError: the other text of a pair leaves hardly more space than `stride` tokens for the one to be cut.
    """
    total = len(encoding)
    if total <= max_length:
        return [range(total)]
    sequences = encoding.sequence_ids
    if which is None:
        which = _longer(sequences)
    cut = [i for i, s in enumerate(sequences) if s == which]
    start, stop = cut[0], cut[-1] + 1
    space = max_length - (total - (stop - start))
    if space - stride < max(1, max_length // MOST_READ):
        raise InputError(
            f"windows of {max_length} tokens with a stride of {stride} leave {max(space, 0)} for the text to be cut: "
            "shorten the other text of the pair, or the stride, or give truncation where a task has it"
        )
    starts = [*range(start, stop - space, space - stride)]
    starts.append(stop - space if reach_back else starts[-1] + space - stride)
    spans = [(i, min(i + space, stop)) for i in starts]
    if side == "left" and not reach_back:
        spans = [(start + stop - last, start + stop - first) for first, last in spans]
    return [[*range(start), *range(*span), *range(stop, total)] for span in spans]
