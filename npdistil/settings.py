"""Records of settings, whose fields say once what they may be and what they are for.

A record is a task's signature, its documentation and its checks; the command line makes options of it, the service a
JSON schema, and Spark params.
"""

import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from enum import Enum
from inspect import Parameter, Signature
from textwrap import fill
from typing import Any, TypeVar

from .errors import InputError


class Unset(Enum):
    """The type of `UNSET`: an enumeration, so that a copy or a pickle of it is the same object."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return self.name


MOST = 2**31 - 1  # that a whole number may be: what Spark, Arrow and every processor hold
UNSET = Unset.UNSET  # the default of settings for which None means something


@dataclass(frozen=True)
class Kind:
    """What values a setting takes.

    Attributes:
        expected: how an error goes on after "NAME is VALUE; ".
        takes: whether a value is one.
        parse: from the command line's text; ValueError where it is none.
        schema: the same in JSON schema, where anybody asks for it.
        choices: all of them, where they are few.
    """

    expected: str
    takes: Callable[[Any], bool]
    parse: Callable[[str], Any] = str
    schema: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[Any, ...] = ()


def whole(least: int = 1, most: int = MOST) -> Kind:
    """A whole number."""

    def takes(value: Any) -> bool:
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return is_whole and least <= int(value) <= most

    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Kind(f"expected a whole number from {least} to {most}", takes, int, schema)


def number(above: float = -math.inf, most: float = math.inf) -> Kind:
    """A finite number above one and up to another."""

    def takes(value: Any) -> bool:
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            return False
        try:
            return math.isfinite(value) and above < float(value) <= most
        except OverflowError:  # a whole number that no float holds
            return False

    limits = [f"above {above:g}"] * math.isfinite(above) + [f"up to {most:g}"] * math.isfinite(most)
    schema = {"type": "number"} | ({"exclusiveMinimum": above} if math.isfinite(above) else {})
    schema |= {"maximum": most} if math.isfinite(most) else {}
    return Kind(" ".join(["expected a number", *limits]), takes, float, schema)


def choice(*values: str) -> Kind:
    """One of a few strings."""
    return Kind(
        f"known are {', '.join(values)}",
        lambda value: isinstance(value, str) and value in values,
        str,
        {"enum": [*values]},
        values,
    )


def flag() -> Kind:
    """Yes or no."""
    return Kind(
        "known are False, True", lambda value: isinstance(value, bool), bool, {"type": "boolean"}, (False, True)
    )


def flag_or(*values: str) -> Kind:
    """Yes, no, or one of a few strings."""
    return Kind(
        f"known are True, False, {', '.join(values)}",
        lambda value: isinstance(value, bool) or (isinstance(value, str) and value in values),
        str,
        {"enum": [True, False, *values]},
        values,
    )


def string() -> Kind:
    """Any string that UTF-8 can hold, or no tokenizer and no file could."""
    return Kind("expected a string without lone surrogates", _is_text, str, {"type": "string"})


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_at_commas(text: str) -> list[str]:
    """What stands between commas, without the blanks around it."""
    return [each.strip() for each in text.split(",")]


def strings(least: int = 0) -> Kind:
    """A list of strings; with commas between on the command line."""

    def takes(value: Any) -> bool:
        is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return is_list and len(value) >= least and all(map(_is_text, value))

    schema = {"type": "array", "items": {"type": "string"}} | ({"minItems": least} if least else {})
    return Kind("expected a list of strings without lone surrogates", takes, split_at_commas, schema)


def one_or_several(what: str, least: int, parse: Callable[[str], Any]) -> Kind:
    """A string, or a list of strings."""
    several = strings(least)
    return Kind(
        f"expected a {what} or a list of {what}s, without lone surrogates",
        lambda value: _is_text(value) or several.takes(value),
        parse,
        {"oneOf": [string().schema, several.schema]},
    )


def setting(default: Any, kind: Kind, about: str, *also: Any) -> Any:
    """A field of a record: its default, what it takes, what it is for, and values that it takes besides."""
    return field(default=default, metadata={"kind": kind, "about": about, "also": also})


def kind_of(each: "Field[Any]") -> Kind:
    """What a field takes."""
    kind: Kind = each.metadata["kind"]
    return kind


def check(name: str, kind: Kind, value: Any, *also: Any) -> None:
    """InputError unless `value` is of the kind, or one of `also`."""
    if not kind.takes(value) and not any(value is each for each in also):
        raise InputError(f"{spoken(name, '')} is {shown(value)}; {kind.expected}")


def check_known(what: str, given: Iterable[str], known: Collection[str], others: str = "") -> None:
    """InputError where a name is given that is not known; `others` says of more that are."""
    if unknown := [name for name in given if name not in known]:
        raise InputError(f"unknown {what}: {', '.join(unknown)}; known are {', '.join(known)}{others}")


# What errors call settings, where that is not their name: the command line says here which options they are.
OPTIONS: Mapping[str, str] = {}


def spoken(name: str, mark: str = "`") -> str:
    """A setting in an error."""
    return OPTIONS.get(name, f"{mark}{name}{mark}")


def shown(value: Any) -> str:
    """A value in an error, however long it is."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of thousands of digits"


Record = TypeVar("Record", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of every record; made only of values that its fields take.

    Raises:
        InputError: a value that a field does not take.
    """

    def __post_init__(self) -> None:
        for each in fields(self):
            check(each.name, kind_of(each), getattr(self, each.name), *each.metadata["also"])

    @classmethod
    def of(cls: type[Record], given: Mapping[str, Any]) -> Record:
        """A record with these values, and defaults for the rest.

        Raises:
            InputError: a name that it does not have, or a value that it does not take.
        """
        cls._know(given)
        return cls(**given)

    def replaced(self: Record, given: Mapping[str, Any]) -> Record:
        """The same with other values; itself where none are given.

        Raises:
            InputError: as `of`.
        """
        self._know(given)
        return replace(self, **given) if given else self

    @classmethod
    def _know(cls, given: Mapping[str, Any]) -> None:
        check_known("setting", given, [each.name for each in fields(cls)])

    @classmethod
    def signature(cls, *first: Parameter) -> Signature:
        """Of a call that takes its fields by name, after other parameters."""
        own = [Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default) for each in fields(cls)]
        return Signature([*first, *own])

    @classmethod
    def described(cls, *first: str) -> str:
        """Its fields and what they are for, after others, as the part of a docstring that lists arguments."""
        lines = (*first, *(f"{each.name}: {each.metadata['about']}" for each in fields(cls)))
        return "\n".join(
            ["Args:", *(fill(line, 116, initial_indent="    ", subsequent_indent=" " * 8) for line in lines)]
        )
