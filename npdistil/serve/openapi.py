"""The OpenAPI 3.1 description of the endpoints; what tasks can be told is taken from their records of settings."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..checkpoint.config import Config
from ..settings import UNSET, Kind, Settings, kind_of
from ..tasks.base import Task
from ..tasks.fill_mask import FillMask
from ..tasks.token_classification import TokenClassification
from .requests import BODIES
from .service import EXPLANATION, PYTHON_ONLY, ZERO_SHOT

Schema = dict[str, Any]

STRING, INTEGER, NUMBER, FLAG = ({"type": name} for name in ("string", "integer", "number", "boolean"))
ERRORS = {
    "400": "Not JSON in UTF-8.",
    "401": "No token, or not the right one.",
    "403": "A page of another origin asks, or another host is asked.",
    "408": "The body did not arrive in time.",
    "413": "Larger than a limit.",
    "415": "In a content-encoding.",
    "422": "Of the wrong form, or a text or a task that the model cannot take.",
    "429": "The queue is full: come again.",
    "500": "The engine failed.",
    "503": "No answer in time.",
}
KINDS = ("validation", "overloaded", "unhealthy", "backend", "timeout", "unauthorized", "forbidden", "not_found")


def described(version: str, config: Config, tasks: Mapping[str, Task[Any]], own: str) -> Schema:
    """The description of a service whose model has these tasks; `own` is the name of its own."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "npdistil",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}],
        "paths": _paths(config, tasks, own),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths(config: Config, tasks: Mapping[str, Task[Any]], own: str) -> Schema:
    labels = {"oneOf": [_ref("Labels"), _array(_ref("Labels"))]}
    vectors = _array(_array(NUMBER))
    some = {"inputs": "I like you. I love you."}
    page = {"description": "HTML.", "content": {"text/html": {"schema": STRING}}}
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": STRING}}}
    answer = _json({"type": "object"}, "The answer.")
    bodies = {endpoint: _body(kinds) for endpoint, kinds in BODIES.items()}
    bodies["/explain"]["properties"]["label"] = {"enum": [*config.labels, None]}
    bodies["/v1/embeddings"]["properties"]["dimensions"] = {"enum": [config.dim, None]}
    served = {name: task for name, task in tasks.items() if name != EXPLANATION}
    asked = {name: _task_body(task, config) for name, task in served.items()}
    own_body = {"anyOf": [asked[name] for name in (own, ZERO_SHOT) if name in asked]}
    about = "What the model was made for, as the Hugging Face Inference API has it"
    pipelines = {
        f"/pipeline/{name}": _post(f"As pipeline({name!r})", asked[name], {}, _example(task))
        for name, task in served.items()
    }
    return {
        "/": _get("The page", page, free=True) | _post(about, own_body, {}, _example(served[own])),
        **pipelines,
        "/predict": _post("Every label with its score, best first", bodies["/predict"], labels, some),
        "/embed": _post("A vector for each text", bodies["/embed"], vectors, {"inputs": ["I like you."]}),
        "/tokenize": _post("The tokens of each text", bodies["/tokenize"], _array(_array(_ref("Token"))), some),
        "/explain": _post("What each word adds to a label's log-odds", bodies["/explain"], _ref("Explanation"), some),
        "/v1/embeddings": _post(
            "A vector for each text, in the form of OpenAI",
            bodies["/v1/embeddings"],
            _ref("OpenAIResponse"),
            {"input": "Yes."},
        ),
        "/info": _get("What runs here, and what it takes", answer),
        "/metrics": _get("Counters for Prometheus", text),
        "/openapi.json": _get("This description", answer, free=True),
        "/health": _get("Whether it is ready", {"description": "It is."}, free=True, errors=("503",)),
    }


def _body(kinds: Mapping[str, Kind]) -> Schema:
    """The body of an endpoint: its first field is needed."""
    needed, *others = kinds
    optional = {name: {"anyOf": [dict(kinds[name].schema), {"type": "null"}]} for name in others}
    return _object(needed, **{needed: dict(kinds[needed].schema)}, **optional)


def _task_body(task: Task[Any], config: Config) -> Schema:
    """The body of a request to a task."""
    item: Schema = STRING
    if task.text:
        item = _object(**{task.text: STRING}, **{name: dict(kind.schema) for name, kind in task.beside.items()})
    elif task.is_item({}):
        pair = _object("text", text=STRING, text_pair={"type": ["string", "null"]})
        item = {"anyOf": [STRING, pair | {"additionalProperties": False}]}
    elif isinstance(task, TokenClassification):
        item = {"anyOf": [STRING, _array(STRING)]}
    parameters = settings_schema(task.settings_type, config.max_position_embeddings)
    names = ("inputs", "parameters") if parameters["required"] else ("inputs",)
    return _object(*names, inputs={"anyOf": [item, _array(item, minItems=1)]}, parameters=parameters)


def settings_schema(record: type[Settings], most: int) -> Schema:
    """A record of settings as a request may have it, with `most` as the largest whole number."""
    properties: Schema = {}
    required = []
    for each in fields(record):
        if each.name in PYTHON_ONLY:
            continue
        schema, also = dict(kind_of(each).schema), each.metadata["also"]
        if schema.get("type") == "integer":
            schema["maximum"] = min(most, schema.get("maximum", most))
        if None in also:
            schema = {"anyOf": [schema, {"type": "null"}]}
        elif each.default is UNSET:
            required.append(each.name)
        properties[each.name] = schema | {"description": each.metadata["about"]}
    kind = "object" if required else ["object", "null"]
    return {"type": kind, "properties": properties, "required": required, "additionalProperties": False}


def _example(task: Task[Any]) -> Schema:
    text = "A [MASK] film." if isinstance(task, FillMask) else "I like you. I love you."
    beside: Schema = {"context": text, "choices": ["Yes.", "No."]}
    inputs = {task.text: "Whom?", **{name: beside[name] for name in task.beside}} if task.text else text
    labels = {"parameters": {"candidate_labels": ["praise", "blame"]}} if hasattr(task, "hypotheses") else {}
    return {"inputs": inputs, **labels}


def _schemas() -> Schema:
    word = _object(text=STRING, start=INTEGER, end=INTEGER, value=NUMBER)
    attention = {
        "type": ["object", "null"],
        "description": "Bytes of [layers, heads, tokens, tokens] in base64; 255 is a weight of 1.",
        "properties": {"shape": _array(INTEGER), "bytes": STRING},
    }
    embedding = _object(object={"const": "embedding"}, index=INTEGER, embedding={"oneOf": [_array(NUMBER), STRING]})
    usage = _object(prompt_tokens=INTEGER, total_tokens=INTEGER)
    place: Schema = {"type": ["integer", "null"]}
    return {
        "Error": _object(error=STRING, error_type={"enum": list(KINDS)}),
        "Labels": _array(_object(label=STRING, score=NUMBER)),
        "Token": _object(id=INTEGER, text=STRING, special=FLAG, start=place, stop=place),
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


def _post(about: str, request: Schema, answer: Schema, example: Schema) -> Schema:
    body = {"required": True, "content": {"application/json": {"schema": request, "example": example}}}
    refused = {code: _json(_ref("Error"), text) for code, text in ERRORS.items()}
    return {
        "post": {"summary": about, "requestBody": body, "responses": {"200": _json(answer, "The answer.")} | refused}
    }
