"""Token ids -> rows laid end to end: what a model takes at once."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from .distilbert.encoder import Array
from .errors import InputError

Item = TypeVar("Item")


def pack(token_ids: Sequence[Sequence[int]], vocab_size: int, max_length: int) -> tuple[Array, Array]:
    """Lists of token ids as one array: ids int64 [T] and bounds int64 [B + 1].

    Raises:
        InputError: an empty list, one longer than `max_length`, or an id that is not a whole number in the vocabulary.
    """
    if isinstance(token_ids, (str, bytes)):
        raise InputError("expected a list of lists of token ids, found a string; texts go to `predict` or a pipeline")
    texts = [_checked(ids, i, max_length) for i, ids in enumerate(token_ids)]
    bounds = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(ids) for ids in texts], out=bounds[1:])
    ids = np.concatenate(texts) if texts else np.empty(0, np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        wrong = int(np.argmax((ids < 0) | (ids >= vocab_size)))
        text = int(np.searchsorted(bounds, wrong, side="right")) - 1
        raise InputError(f"text {text} has the token id {ids[wrong]}; the vocabulary has ids 0 to {vocab_size - 1}")
    return ids, bounds


def _checked(ids: Sequence[int], text: int, max_length: int) -> Array:
    try:
        array = np.asarray(ids)
    except ValueError:  # ragged
        array = np.empty((0, 0))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"text {text} is not a flat list of whole numbers")
    if not 1 <= array.size <= max_length:
        raise InputError(f"text {text} has {array.size} tokens; the model takes 1 to {max_length}")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"text {text} has the token id {array.max()}, which is in no vocabulary")
    return array.astype(np.int64)


def blocks(bounds: Array, max_tokens: int) -> Iterator[tuple[int, int]]:
    """Texts i to j (exclusive) that together have at most `max_tokens` rows; a longer text stands alone."""
    start, texts = 0, len(bounds) - 1
    while start < texts:
        stop = int(np.searchsorted(bounds, bounds[start] + max_tokens, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items, drawn only when asked for."""
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
