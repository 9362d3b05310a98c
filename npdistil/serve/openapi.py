"""The OpenAPI 3.1 description of the endpoints; what tasks can be told is taken from their records of settings."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..checkpoint.config import Config
from ..settings import UNSET, Kind, Settings, kind_of
from ..tasks.base import Task
from ..tasks.fill_mask import FillMask
from ..tasks.token_classification import TokenClassification
from .requests import BODIES, SIMILARITY, is_openai, needed
from .service import EXPLANATION, PYTHON_ONLY, ZERO_SHOT, Service

Schema = dict[str, Any]

STRING, INTEGER, NUMBER, FLAG = ({"type": name} for name in ("string", "integer", "number", "boolean"))
ERRORS = {
    "400": "Not JSON in UTF-8, or a list of nothing.",
    "401": "No token, or not the right one.",
    "403": "A page of another origin asks, or another host is asked.",
    "408": "The body did not arrive in time.",
    "413": "Larger than a limit.",
    "415": "In a content-encoding.",
    "422": "Of the wrong form, or a text that the model cannot take.",
    "424": "The model cannot do that, or failed.",
    "429": "The queue is full: come again.",
    "500": "A fault of the service.",
    "503": "No answer in time.",
}
# The protocol's kinds of errors, and those that it has no name for.
PROTOCOL_KINDS = ("Validation", "Empty", "Overloaded", "Unhealthy", "Backend", "Tokenizer")
KINDS = (*PROTOCOL_KINDS, "Timeout", "Unauthorized", "Forbidden", "NotFound")


def described(version: str, service: Service) -> Schema:
    """The description of a service."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "npdistil",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"bearer": []}],
        "paths": _paths(service),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _paths(service: Service) -> Schema:
    config, own = service.model.config, service.own
    labels = {"oneOf": [_ref("Labels"), _array(_ref("Labels"))]}
    vectors = _array(_array(NUMBER))
    some = {"inputs": "I like you. I love you."}
    page = {"description": "HTML.", "content": {"text/html": {"schema": STRING}}}
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": STRING}}}
    answer = _json({"type": "object"}, "The answer.")
    bodies = _bodies(service)
    served = {name: task for name, task in service.tasks.items() if name != EXPLANATION}
    asked = {name: _task_body(task, config) for name, task in served.items()}
    # In the hosted form, which has parameters or options; without them it is a body of the protocol.
    hosted = [asked[name] for name in (own, ZERO_SHOT) if name in asked]
    protocol = {"text-classification": ["/rerank"] * service.is_reranker + ["/predict"], "embedding": ["/embed"]}
    if own in protocol:
        either: Schema = {"anyOf": [{"required": ["parameters"]}, {"required": ["options"]}]}
        hosted = [body | either for body in hosted]
    asks = [*(bodies[path] for path in protocol.get(own, ())), bodies["/similarity"], *hosted]
    ranked: Schema = {"query": "Where?", "texts": ["There."]}
    bodies["/vertex"]["properties"]["instances"] = _array({"anyOf": asks}, minItems=1)
    own_example = ranked if service.is_reranker else _example(served[own])
    post = _post("What the model was made for", {"anyOf": asks}, {}, own_example)
    pipelines = {
        f"/pipeline/{name}": _post(f"As pipeline({name!r})", asked[name], {}, _example(task))
        for name, task in served.items()
    }
    ids = {"ids": [service.first.token_ids[0]]}
    compared = {"inputs": {"source_sentence": "Yes.", "sentences": ["No.", "Maybe."]}}
    openai, embeddings = "A vector for each text, in the form of OpenAI", _ref("OpenAIResponse")
    several: dict[str, tuple[str, Schema, Schema]] = {
        "/predict": ("Every label with its score, best first", labels, some),
        "/rerank": ("Texts by how well they go with a query", _array(_ref("Rank")), ranked),
        "/embed": ("A vector for each text", vectors, {"inputs": ["I like you."]}),
        "/embed_all": ("A vector for each token of each text", _array(vectors), {"inputs": ["I like you."]}),
        "/embed_sparse": ("What no model here has: it is refused", {}, {"inputs": ["I like you."]}),
        "/similarity": ("The cosine of a sentence with each of others", _array(NUMBER), compared),
        "/tokenize": ("The tokens of each text", _array(_array(_ref("Token"))), some),
        "/decode": ("The text of token ids", _array(STRING), ids),
        "/explain": ("What each word adds to a label's log-odds", _ref("Explanation"), some),
        "/v1/embeddings": (openai, embeddings, {"input": "Yes."}),
        "/embeddings": (openai, embeddings, {"input": "Yes."}),
        "/vertex": ("Several bodies of POST /", _object(predictions=_array({})), {"instances": [own_example]}),
    }
    return {
        "/": _get("The page", page, free=True) | post,
        "/invocations": post,
        **pipelines,
        **{path: _post(about, bodies[path], found, example, path) for path, (about, found, example) in several.items()},
        "/info": _get("What runs here, and what it takes", answer),
        "/v1/models": _get("The model, in the form of OpenAI", answer),
        "/metrics": _get("Counters for Prometheus", text),
        "/openapi.json": _get("This description", answer, free=True),
        "/api-doc/openapi.json": _get("This description", answer, free=True),
        "/health": _get("Whether the model runs", answer, free=True, errors=("503",)),
        "/ping": _get("Whether the model runs", answer, free=True, errors=("503",)),
    }


def _bodies(service: Service) -> dict[str, Schema]:
    """The body of each endpoint, with what depends on the model."""
    embedding: Any = service.tasks["embedding"]
    sentence = service.checkpoint.sentence
    known: Schema = {
        "label": {"enum": [*service.model.config.labels, None]},
        "dimensions": {"type": ["integer", "null"], "minimum": 1, "maximum": embedding.width},
        "prompt_name": {"enum": [*(sentence.prompts if sentence and any(sentence.prompts.values()) else ()), None]},
    }
    known |= {"parameters": {"anyOf": [_fields(SIMILARITY, known), {"type": "null"}]}}
    return {path: _fields(kinds, known, needed(path)) for path, kinds in BODIES.items()}


def _fields(kinds: Mapping[str, Kind], known: Schema, asked: tuple[str, ...] = ()) -> Schema:
    """An object with fields of these kinds, and no others; those that are not asked for may be null."""
    properties: Schema = {name: dict(kind.schema) for name, kind in kinds.items()}
    for name in properties:
        if name not in asked:
            properties[name] = known.get(name, {"anyOf": [properties[name], {"type": "null"}]})
    return {"type": "object", "properties": properties, "required": [*asked], "additionalProperties": False}


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
    options = {"type": ["object", "null"], "description": "How a hosted service should wait; nothing here."}
    inputs = {"anyOf": [item, _array(item, minItems=1)]}
    body = _object(*names, inputs=inputs, parameters=parameters, options=options)
    return body | {"additionalProperties": False}


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
    return {"inputs": inputs, **(labels or {"parameters": {}})}


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
        "OpenAIError": _object(error={"type": "object"}, message=STRING, type={"enum": list(KINDS)}, code=INTEGER),
        "Rank": _object("index", "score", index=INTEGER, text=STRING, score=NUMBER),
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


def _post(about: str, request: Schema, answer: Schema, example: Schema, path: str = "") -> Schema:
    body = {"required": True, "content": {"application/json": {"schema": request, "example": example}}}
    error = _ref("OpenAIError" if is_openai(path) else "Error")
    refused = {code: _json(error, text) for code, text in ERRORS.items()}
    return {
        "post": {"summary": about, "requestBody": body, "responses": {"200": _json(answer, "The answer.")} | refused}
    }
