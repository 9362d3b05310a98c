"""What goes into a model's forward and what comes out, for any task; token ids laid end to end."""

import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from .distilbert.encoder import Array
from .errors import EngineError, InputError

MOST_ITEMS = 1024  # of a task that a thread runs at once: more make nothing faster, and their tokens take memory
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Inputs:
    """Token ids of some sequences, and what is asked of the model about them.

    Attributes:
        token_ids: of each sequence, special tokens included.
        counts: how many sequences, one after the other, each item of the task was laid out in.
        output: "logits" of the model's head; "hidden_states", the last ones; "attentions"; or a pooling, as
            `heads.pool` takes it.
        rows: tokens of each sequence that logits are wanted for, or that are pooled; None: those that the head reads,
            or all.
        context: what the task needs again to make answers.
        token_type_ids: of each token, where not all are 0; a model without token types does not look at them.
    """

    token_ids: Sequence[Sequence[int]]
    counts: Sequence[int] = ()
    output: str = "logits"
    rows: Sequence[Sequence[int]] | None = None
    context: Any = None
    token_type_ids: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True)
class Outputs:
    """What the model says.

    Attributes:
        inputs: what it was asked.
        values: an array for each sequence: logits float32 [rows, C], hidden states [L, D], attentions [N, H, L, L], or
            a pooled vector [D], or a multiple of D numbers.
    """

    inputs: Inputs
    values: Sequence[Array]

    def by_item(self) -> Iterator[Sequence[Array]]:
        """The arrays of each item's sequences, of which its answer is made.

        Raises:
            EngineError: a number that is not finite.
        """
        start = 0
        for i, count in enumerate(self.inputs.counts):
            values = self.values[start : start + count]
            if not all(np.isfinite(each).all() for each in values):
                raise EngineError(
                    f"the model's {self.inputs.output} for item {i} are not all finite: its weights overflow float32, "
                    "or have changed since they were checked"
                )
            yield values
            start += count

    def rows(self) -> Array:
        """The values of all sequences, which are rows, as one array.

        Raises:
            EngineError: as `by_item`.
        """
        rows = np.concatenate(self.values)
        if not np.isfinite(rows).all():
            for _ in self.by_item():  # which says where
                pass
        return rows


def pack(token_ids: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    """Lists of token ids as one array: ids int64 [T], and bounds int64 [B + 1] (what others call cu_seqlens).

    Raises:
        InputError: no list of flat lists of whole numbers. Whether a model takes them, `check_ids` says.
    """
    if isinstance(token_ids, (str, bytes)):
        raise InputError("expected a list of lists of token ids, found a string; texts go to `predict` or a pipeline")
    if isinstance(token_ids, Mapping):
        raise InputError(
            f"expected a list of lists of token ids, found a {type(token_ids).__name__}; give its input_ids"
        )
    if not hasattr(token_ids, "__iter__") or getattr(token_ids, "ndim", 1) == 0:
        raise InputError(f"expected a list of lists of token ids, found a {type(token_ids).__name__}")
    if isinstance(token_ids, list) and all(type(ids) is list for ids in token_ids):  # as tasks have them
        flat = [*chain.from_iterable(token_ids)]
        if {*map(type, flat)} <= {int}:
            with suppress(OverflowError):  # a number that no type holds, of which more is said below
                return np.array(flat, np.int64), np.cumsum([0, *map(len, token_ids)], dtype=np.int64)
    texts = [_flat(ids, i) for i, ids in enumerate(token_ids)]
    bounds = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return np.concatenate(texts) if texts else np.empty(0, np.int64), bounds


def _flat(ids: Sequence[int], text: int) -> Array:
    try:
        array = np.asarray(ids)
    except (ValueError, OverflowError):  # ragged, or a number that no type holds
        array = np.empty((0, 0))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        hint = ": put the token ids of a single text in a list of their own" * isinstance(ids, numbers.Integral)
        raise InputError(f"text {text} is not a flat list of whole numbers{hint}")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"text {text} has the token id {array.max()}, which is in no vocabulary")
    return array.astype(np.int64)


def positions(token_type_ids: Sequence[Sequence[int]], bounds: Array, types: int, max_length: int) -> Array:
    """Rows of a position table that holds those of all token types, one after the other: int64 [T].

    Raises:
        InputError: types that the model does not have, or not one for each token.
    """
    given, same = pack(token_type_ids)
    if not np.array_equal(bounds, same):
        raise InputError("token_type_ids have other lengths than token_ids")
    if len(given) and not 0 <= given.min() <= given.max() < types:
        raise InputError(f"token types go from {given.min()} to {given.max()}; the model has 0 to {types - 1}")
    return given * max_length + np.arange(len(given)) - np.repeat(bounds[:-1], np.diff(bounds))


def check_ids(ids: Array, bounds: Array, vocab_size: int, max_length: int) -> None:
    """Each engine's first step, since nothing unchecked may become an address or wrap around.

    Raises:
        InputError: a text without tokens or with more than `max_length`, or an id that is not in the vocabulary.
    """
    lengths = np.diff(bounds)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= max_length:
        text = int(np.argmax((lengths < 1) | (lengths > max_length)))
        raise InputError(f"text {text} has {lengths[text]} tokens; the model takes 1 to {max_length}")
    if len(ids) and not 0 <= ids.min() <= ids.max() < vocab_size:
        wrong = int(np.argmax((ids < 0) | (ids >= vocab_size)))
        text = int(np.searchsorted(bounds, wrong, side="right")) - 1
        raise InputError(f"text {text} has the token id {ids[wrong]}; the vocabulary has ids 0 to {vocab_size - 1}")


def blocks(bounds: Array, max_tokens: int) -> Iterator[tuple[int, int]]:
    """Texts i to j (exclusive) that together have at most `max_tokens` rows; a longer text stands alone."""
    start, texts = 0, len(bounds) - 1
    while start < texts:
        stop = int(np.searchsorted(bounds, bounds[start] + max_tokens, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop


def in_chunks(run: Callable[[list[Item]], Iterable[Answer]], some: Iterable[list[Item]]) -> Iterator[Answer]:
    """What `run` gives for each item of some lists, one list after the other; errors say from where on."""
    start = 0
    for chunk in some:
        try:
            answers = run(chunk)
        except InputError as error:
            raise InputError(f"from text {start} on, {error}" if start else str(error)) from None
        yield from answers
        start += len(chunk)


def batches_of(items: list[Item], size: int, threads: int) -> list[list[Item]]:
    """A list in batches of at most `size` items; where that makes several, so small that each thread may have one."""
    size = min(size, MOST_ITEMS)
    return [*chunks(items, size if len(items) <= size else min(size, -(-len(items) // threads)))]


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items, drawn only when asked for; where one cannot be had, those before it come first."""
    iterator = iter(items)
    while True:
        chunk: list[Item] = []
        try:
            chunk.extend(islice(iterator, size))
        except InputError:
            if chunk:
                yield chunk
            raise
        if not chunk:
            return
        yield chunk
