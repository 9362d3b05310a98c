"""Types of what pipelines take and answer; the keys and values are transformers' own."""

from collections.abc import Iterator
from typing import Protocol, TypedDict, TypeVar

Item = TypeVar("Item", covariant=True)


class Several(Protocol[Item]):
    """A list of items, or anything else with a length that gives them in order: a tuple, an array, a Series."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Item]: ...


class Label(TypedDict):
    """A label of text classification."""

    label: str
    score: float


class Token(TypedDict):
    """A token of token classification."""

    entity: str
    score: float
    index: int
    word: str
    start: int
    end: int


class Entity(TypedDict):
    """An entity of token classification: neighbours of one class."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class Found(TypedDict):
    """An answer to a question."""

    score: float
    start: int
    end: int
    answer: str


class Filled(TypedDict):
    """A word for a mask."""

    score: float
    token: int
    token_str: str
    sequence: str


class Judged(TypedDict):
    """The labels of zero-shot classification, best first."""

    sequence: str
    labels: list[str]
    scores: list[float]


class Chosen(TypedDict):
    """A choice of several."""

    choice: int
    text: str
    scores: list[float]
