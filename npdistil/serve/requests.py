"""What the bodies of requests hold; they are checked and described by this."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from ..errors import InputError
from ..settings import Kind, check, choice, kind_of, string, strings, whole
from ..tasks.explanation import ExplanationSettings

SEVERAL = strings(1)
PAIR = {**SEVERAL.schema, "maxItems": 2}


def is_batch(value: Any) -> bool:
    """Whether it is a list of lists, as far as its first tells."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], list)


def _is_text_or_pair(value: Any) -> bool:
    return isinstance(value, str) or (SEVERAL.takes(value) and len(value) <= 2)


FLAG = Kind("expected true or false", lambda value: isinstance(value, bool), bool, {"type": "boolean"})
ANYTHING = Kind("expected anything else", lambda value: value is not None, str, {})
OBJECT = Kind("expected an object", lambda value: isinstance(value, dict), str, {"type": "object"})
TEXTS = Kind(
    "expected a string, or a list of strings that is not empty",
    lambda value: isinstance(value, str) or SEVERAL.takes(value),
    str,
    {"oneOf": [string().schema, SEVERAL.schema]},
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
ABOUT_TRUNCATE = "Read only the first tokens of a text longer than the model, not all of it in windows."
TRUNCATE = replace(FLAG, schema={**FLAG.schema, "description": ABOUT_TRUNCATE})
EXPLANATION = {each.name: kind_of(each) for each in fields(ExplanationSettings)}

BODIES: dict[str, dict[str, Kind]] = {  # endpoint -> its fields; the first is needed, null stands for others' defaults
    "/": {"inputs": ANYTHING, "parameters": OBJECT},
    "/predict": {"inputs": BATCH, "truncate": TRUNCATE, "raw_scores": FLAG},
    "/embed": {"inputs": TEXTS, "normalize": FLAG, "truncate": TRUNCATE},
    "/tokenize": {"inputs": TEXTS, "add_special_tokens": FLAG},
    "/explain": {"inputs": string(), "label": EXPLANATION["label"], "method": EXPLANATION["method"], "attention": FLAG},
    "/v1/embeddings": {
        "input": TEXTS,
        "model": ANYTHING,
        "encoding_format": choice("float", "base64"),
        "dimensions": whole(),
    },
}


def read(endpoint: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are given and not null; others are left to services of the same protocol that have them.

    Raises:
        InputError: the field that is needed is missing, or one has a value that it does not take.
    """
    kinds = BODIES[endpoint]
    needed = next(iter(kinds))
    if needed not in data:
        raise InputError(f"{needed} is missing")
    for name, kind in kinds.items():
        check(name, kind, data.get(name), *([None] * (name != needed)))
    return {name: data[name] for name in kinds if data.get(name) is not None}
