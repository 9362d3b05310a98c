"""What the bodies of requests hold; they are checked and described by this."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ..errors import InputError
from ..settings import Kind, check, choice, kind_of, string, strings, whole
from ..tasks.explanation import ExplanationSettings

SEVERAL = strings(1)
PAIR = {**SEVERAL.schema, "maxItems": 2}


class ApiError(Exception):
    """An answer that is not 200; `kind` is one of the protocol's, or of `openapi.KINDS`."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


def is_openai(path: str) -> bool:
    """Whether OpenAI's clients ask there."""
    return path == "/embeddings" or path.startswith("/v1/")


def is_batch(value: Any) -> bool:
    """Whether it is a list of lists, as far as its first tells."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def is_ids(value: Any) -> bool:
    """Whether it is a list of token ids."""
    if not isinstance(value, list) or not value or not (kinds := {*map(type, value)}) <= {int, float}:
        return False
    floats = [each for each in value if type(each) is float] if float in kinds else []
    return all(map(float.is_integer, floats)) and min(value) >= 0  # JSON has one kind of numbers


def _is_text_or_pair(value: Any) -> bool:
    return isinstance(value, str) or (SEVERAL.takes(value) and len(value) <= 2)


def _are_texts_or_ids(value: Any) -> bool:
    if isinstance(value, str) or is_ids(value):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) or is_ids(each) for each in value)


def _is_comparison(value: Any) -> bool:
    return (
        isinstance(value, dict) and {*value} == {*COMPARED} and all(COMPARED[name].takes(value[name]) for name in value)
    )


FLAG = Kind("expected true or false", lambda value: isinstance(value, bool), bool, {"type": "boolean"})
ANYTHING = Kind("expected anything else", lambda value: value is not None, str, {})
OBJECT = Kind("expected an object", lambda value: isinstance(value, dict), str, {"type": "object"})
OBJECTS = Kind(
    "expected a list of objects",
    lambda value: isinstance(value, list) and all(isinstance(each, dict) for each in value),
    str,
    {"type": "array", "items": OBJECT.schema, "minItems": 1},
)
TEXTS = Kind(
    "expected a string, or a list of strings that is not empty",
    lambda value: isinstance(value, str) or SEVERAL.takes(value),
    str,
    {"oneOf": [string().schema, SEVERAL.schema]},
)
IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
SEVERAL_IDS = Kind(
    "expected a list of token ids, or a list of such lists",
    lambda value: is_ids(value) or (is_batch(value) and all(map(is_ids, value))),
    str,
    {"oneOf": [IDS, {"type": "array", "items": IDS, "minItems": 1}]},
)
TEXTS_OR_IDS = Kind(
    "expected a string or a list of token ids, or a list of these that is not empty",
    _are_texts_or_ids,
    str,
    {
        "description": "A text, or its token ids as /tokenize gives them; or a list of these.",
        "anyOf": [string().schema, IDS, {"type": "array", "items": {"anyOf": [string().schema, IDS]}, "minItems": 1}],
    },
)
BATCH = Kind(
    "expected a string, [string, string] for a pair, or a list of lists of these",
    lambda value: all(map(_is_text_or_pair, value)) if is_batch(value) else _is_text_or_pair(value),
    str,
    {
        "description": "A text; a pair [a, b]; or a batch [[a], [b], [c, d]].",
        "oneOf": [string().schema, PAIR, {"type": "array", "items": PAIR, "minItems": 1}],
    },
)
COMPARED = {"source_sentence": string(), "sentences": strings()}
COMPARISON = Kind(
    "expected source_sentence, a string, and sentences, a list of strings",
    _is_comparison,
    str,
    {
        "type": "object",
        "properties": {"source_sentence": string().schema, "sentences": SEVERAL.schema},
        "required": [*COMPARED],
        "additionalProperties": False,
    },
)
ABOUT_TRUNCATE = "Read only the first tokens of a text longer than the model, not all of it in windows."
TRUNCATE = replace(FLAG, schema={**FLAG.schema, "description": ABOUT_TRUNCATE})
DIRECTION = choice("right", "left", "Right", "Left")
EXPLANATION = {each.name: kind_of(each) for each in fields(ExplanationSettings)}
CUT = {"truncate": TRUNCATE, "truncation_direction": DIRECTION}
READ = {**CUT, "prompt_name": string()}
OPENAI = {
    "input": TEXTS_OR_IDS,
    "model": ANYTHING,  # there is one, and the answer names it
    "encoding_format": choice("float", "base64"),
    "dimensions": whole(),
    "user": ANYTHING,  # which OpenAI keeps for itself
}

BODIES: dict[str, dict[str, Kind]] = {  # endpoint -> its fields; null stands for the default of those not needed
    "/": {"inputs": ANYTHING, "parameters": OBJECT, "options": OBJECT},  # options: how a hosted service should wait
    "/predict": {"inputs": BATCH, **CUT, "raw_scores": FLAG},
    "/rerank": {
        "query": string(),
        "texts": SEVERAL,
        **CUT,
        "raw_scores": FLAG,
        "return_text": FLAG,
        "top_n": whole(),
    },
    "/embed": {"inputs": TEXTS_OR_IDS, "normalize": FLAG, "dimensions": whole(), **READ},
    "/embed_all": {"inputs": TEXTS_OR_IDS, **READ},
    "/embed_sparse": {"inputs": TEXTS_OR_IDS, **READ},
    "/similarity": {"inputs": COMPARISON, "parameters": OBJECT},
    "/tokenize": {"inputs": TEXTS, "add_special_tokens": FLAG, "prompt_name": string()},
    "/decode": {"ids": SEVERAL_IDS, "skip_special_tokens": FLAG},
    "/explain": {"inputs": string(), "label": EXPLANATION["label"], "method": EXPLANATION["method"], "attention": FLAG},
    "/v1/embeddings": OPENAI,
    "/embeddings": OPENAI,
    "/vertex": {"instances": OBJECTS},
}
SIMILARITY = READ  # the parameters of /similarity


def needed(endpoint: str) -> tuple[str, ...]:
    """The fields that a body has to have: the first, and what is ranked."""
    return ("query", "texts") if endpoint == "/rerank" else (next(iter(BODIES[endpoint])),)


def read(endpoint: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are given and not null.

    Raises:
        InputError: one that is needed is missing, one is not known, or has a value that it does not take.
        ApiError: a list of nothing.
    """
    kinds, asked = BODIES[endpoint], needed(endpoint)
    for name in asked:
        if name not in data:
            raise InputError(f"{name} is missing")
        if data[name] == []:
            raise ApiError(400, "Empty", f"{name} is an empty list")
    return read_fields(kinds, data, asked)


def read_fields(kinds: Mapping[str, Kind], data: Mapping[str, Any], asked: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields that are given and not null, of those that there are.

    Raises:
        InputError: one that is not known, or has a value that it does not take.
    """
    if unknown := [name for name in data if name not in kinds]:
        raise InputError(f"unknown field: {', '.join(unknown):.80}; known are {', '.join(kinds)}")
    for name in data:
        check(name, kinds[name], data[name], *([None] * (name not in asked)))
    return {name: value for name, value in data.items() if value is not None}
