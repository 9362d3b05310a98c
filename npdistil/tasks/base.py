"""What the tasks share: settings with defaults, and inputs that are one, a list or an iterator."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..batch import chunks
from ..errors import InputError
from ..model import Model

UNSET: Any = object()  # the default of settings for which None means something


class Task:
    """A model, and the settings that a call uses unless it is given others."""

    architecture = "DistilBertForSequenceClassification"  # that the task needs; "" where any will do

    def __init__(self, model: Model, settings: dict[str, Any]) -> None:
        if self.architecture and model.config.architecture != self.architecture:
            raise InputError(
                f"{model.checkpoint.directory} is a {model.config.architecture}; {type(self).__name__} needs a "
                f"{self.architecture}"
            )
        self.model = model
        self.settings = settings
        self.choose({})

    def choose(self, given: dict[str, Any]) -> dict[str, Any]:
        """The settings of one call: those given to it, and for the rest those of the task.

        Raises:
            InputError: a setting that the task does not have, or a value that it cannot take.
        """
        if unknown := [name for name in given if name not in self.settings]:
            raise InputError(f"unknown setting: {', '.join(unknown)}; known are {', '.join(self.settings)}")
        chosen = self.settings | given
        self.check(chosen)
        return chosen

    def check(self, chosen: dict[str, Any]) -> None:
        """Refuse values that the task cannot take."""
        check_count("batch_size", chosen["batch_size"])


def run(inputs: Any, one: tuple[type, ...], size: int, answer: Callable[[list[Any]], Iterable[Any]]) -> Any:
    """An answer for a single input of the types `one`, a list for a list, a lazy iterator for an iterator.

    `answer` maps a list of at most `size` inputs to as many answers.

    Raises:
        InputError: anything else.
    """
    if isinstance(inputs, one):
        return next(iter(answer([inputs])))
    if isinstance(inputs, list):
        return list(_answers(inputs, size, answer))
    if isinstance(inputs, Iterator):
        return _answers(inputs, size, answer)
    names = ", ".join(f"a {each.__name__}" for each in one)
    raise InputError(f"expected {names}, a list of these or an iterator, found {type(inputs).__name__}")


def _answers(items: Iterable[Any], size: int, answer: Callable[[list[Any]], Iterable[Any]]) -> Iterator[Any]:
    for chunk in chunks(items, size):
        yield from answer(chunk)


def check_count(name: str, value: Any, *others: Any) -> None:
    """InputError unless `value` is a whole number above 0, or one of `others`: None, UNSET or 0."""
    if any(value is other for other in others):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number above 0")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """InputError unless `value` is one of `choices`."""
    if value not in (known := list(choices)):
        raise InputError(f"{name} is {value!r}; known are {', '.join(map(str, known))}")
