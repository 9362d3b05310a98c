"""The OpenAPI 3.1 description of the endpoints."""

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]

STRING, INTEGER, NUMBER, FLAG = ({"type": name} for name in ("string", "integer", "number", "boolean"))
MAYBE_FLAG: Schema = {"type": ["boolean", "null"]}
ERRORS = {
    "400": "Not JSON in UTF-8.",
    "401": "No token, or not the right one.",
    "403": "A page of another origin asks.",
    "408": "The body did not arrive in time.",
    "413": "Larger than a limit.",
    "422": "Of the wrong form, or a text that the model cannot take.",
    "429": "The queue is full: come again.",
    "500": "The engine failed.",
    "503": "No answer in time.",
}
KINDS = ("validation", "overloaded", "unhealthy", "backend", "timeout", "unauthorized", "forbidden", "not_found")


def described(version: str, labels: Sequence[str], width: int) -> Schema:
    """The whole of it, for a model with these labels and vectors of this width."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "npdistil",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(labels, width),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths() -> Schema:
    labels = {"oneOf": [_ref("Labels"), _array(_ref("Labels"))]}
    vectors = _array(_array(NUMBER))
    some = {"inputs": "I like you. I love you."}
    page = {"description": "HTML.", "content": {"text/html": {"schema": STRING}}}
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": STRING}}}
    answer = _json({"type": "object"}, "The answer.")
    return {
        "/": _get("The page", page, free=True)
        | _post(
            "Labels, in the form of hosted inference", "HostedRequest", labels, some | {"parameters": {"top_k": 1}}
        ),
        "/predict": _post("Every label with its score, best first", "PredictRequest", labels, some),
        "/embed": _post("A vector for each text", "EmbedRequest", vectors, {"inputs": ["I like you."]}),
        "/tokenize": _post("The tokens of each text", "TokenizeRequest", _array(_array(_ref("Token"))), some),
        "/explain": _post(
            "How much each word adds to the log-odds of a label", "ExplainRequest", _ref("Explanation"), some
        ),
        "/v1/embeddings": _post(
            "A vector for each text, in the form of OpenAI", "OpenAIRequest", _ref("OpenAIResponse"), {"input": "Yes."}
        ),
        "/info": _get("What runs here, and what it takes", answer),
        "/metrics": _get("Counters for Prometheus", text),
        "/openapi.json": _get("This description", answer, free=True),
        "/health": _get("Whether it is ready", {"description": "It is."}, free=True, errors=("503",)),
    }


def _schemas(labels: Sequence[str], width: int) -> Schema:
    texts = {"oneOf": [STRING, _array(STRING, minItems=1)]}
    pair = _array(STRING, minItems=1, maxItems=2)
    batch = {
        "description": "A text; a pair [a, b]; or a batch [[a], [b], [c, d]].",
        "oneOf": [STRING, pair, _array(pair, minItems=1)],
    }
    parameters = {
        "type": ["object", "null"],
        "properties": {
            "top_k": {"type": ["integer", "null"], "minimum": 1},
            "function_to_apply": {"enum": ["none", "sigmoid", "softmax", None]},
        },
    }
    truncate = MAYBE_FLAG | {
        "description": "Read only the first tokens of a text longer than the model, not all of it in windows."
    }
    word = _object(text=STRING, start=INTEGER, end=INTEGER, value=NUMBER)
    attention = {
        "type": ["object", "null"],
        "description": "Bytes of [layers, heads, tokens, tokens] in base64; 255 is a weight of 1.",
        "properties": {"shape": _array(INTEGER), "bytes": STRING},
    }
    embedding = _object(object={"const": "embedding"}, index=INTEGER, embedding={"oneOf": [_array(NUMBER), STRING]})
    usage = _object(prompt_tokens=INTEGER, total_tokens=INTEGER)
    return {
        "Error": _object(error=STRING, error_type={"enum": list(KINDS)}),
        "Labels": _array(_object(label=STRING, score=NUMBER)),
        "PredictRequest": _object("inputs", inputs=batch, truncate=truncate, raw_scores=MAYBE_FLAG),
        "HostedRequest": _object("inputs", inputs=texts, parameters=parameters),
        "EmbedRequest": _object("inputs", inputs=texts, normalize=MAYBE_FLAG, truncate=truncate),
        "TokenizeRequest": _object("inputs", inputs=texts, add_special_tokens=MAYBE_FLAG),
        "Token": _object(
            id=INTEGER,
            text=STRING,
            special=FLAG,
            start={"type": ["integer", "null"]},
            stop={"type": ["integer", "null"]},
        ),
        "ExplainRequest": _object(
            "inputs",
            inputs=STRING,
            label={"enum": [*labels, None], "description": "Default: the one with the highest score."},
            method={"enum": ["occlusion", "shapley"]},
            attention=MAYBE_FLAG,
        ),
        "Explanation": _object(
            text=STRING,
            label=STRING,
            scores={"type": "object", "additionalProperties": NUMBER},
            method=STRING,
            log_odds=NUMBER,
            base=NUMBER,
            words=_array(word),
            tokens=_array(STRING),
            attention=attention,
        ),
        "OpenAIRequest": _object(
            "input",
            input=texts,
            model={"description": "Not read: there is one."},
            encoding_format={"enum": ["float", "base64", None]},
            dimensions={"enum": [width, None]},
        ),
        "OpenAIResponse": _object(object={"const": "list"}, data=_array(embedding), model=STRING, usage=usage),
    }


def _object(*required: str, **properties: Schema) -> Schema:
    """An object; all its properties are required unless some are named."""
    return {"type": "object", "properties": properties, "required": list(required or properties)}


def _array(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema, about: str) -> Schema:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _get(about: str, answer: Schema, free: bool = False, errors: tuple[str, ...] = ()) -> Schema:
    refused = errors if free else (*errors, "401", "403")
    responses = {"200": answer} | {code: _json(_ref("Error"), ERRORS[code]) for code in refused}
    return {"get": {"summary": about, "responses": responses} | ({"security": []} if free else {})}


def _post(about: str, request: str, answer: Schema, example: Schema) -> Schema:
    body = {"required": True, "content": {"application/json": {"schema": _ref(request), "example": example}}}
    refused = {code: _json(_ref("Error"), text) for code, text in ERRORS.items()}
    return {
        "post": {"summary": about, "requestBody": body, "responses": {"200": _json(answer, "The answer.")} | refused}
    }
