"""The endpoints: the text-embeddings-inference protocol, the hosted-inference form, OpenAI's embeddings, and a page."""

import asyncio
import base64
import hmac
import json
import re
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tokenizers import Encoding

from .. import __version__
from ..distilbert.encoder import Array
from ..errors import InputError, NpdistilError
from ..model import COMBINE, Model, cut_encodings, default_stride
from ..scores import FUNCTIONS, apply_function, default_function
from ..tasks.explanation import METHODS, PAGE, Plan, packed
from ..tasks.feature_extraction import pooled, stored_pooling, vectors
from ..text import LONG, Part, Text, tokenize
from .batching import Batcher, Metrics, OverloadedError
from .openapi import described

Endpoint = Callable[[Request], Awaitable[Response]]
STATIC = ("page.css", "page.js", "views.js")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
OPEN = ("/", "/health", "/openapi.json", *(f"/{name}" for name in STATIC))  # GET without a token
SAFE = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
ATTENTION_TOKENS = 128  # of a text whose attention is given: it is an array of their square for each head
UNREAD = (401, 403, 408, 413)  # answers to a request whose body may not have been read: it is not waited for
SITES = ("cross-site", "same-site")  # what browsers call other origins in Sec-Fetch-Site


@dataclass(frozen=True)
class Settings:
    """Limits and access; each is an option of `npdistil serve`."""

    max_batch_tokens: int = 1024  # as many as the engine takes at a time: more would only make others wait
    max_queue_tokens: int = 131_072
    max_request_tokens: int = 65_536
    max_request_texts: int = 1024
    max_body_bytes: int = 1_000_000
    gather_ms: float = 0.0
    timeout: float = 30.0  # seconds, for the body to arrive and again for the answer
    allow_origin: tuple[str, ...] = ()
    token: str | None = None

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through, and a token that lets everybody through."""
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise InputError("the token is empty, or has blanks or other characters than ASCII")
        for name in ("batch_tokens", "queue_tokens", "request_tokens", "request_texts", "body_bytes"):
            if (value := getattr(self, f"max_{name}")) < 1:
                raise InputError(f"max_{name} is {value}; expected a whole number above 0")
        if self.max_queue_tokens < self.max_request_tokens:
            raise InputError(
                f"max_queue_tokens is {self.max_queue_tokens}; expected at least max_request_tokens, "
                f"{self.max_request_tokens}, or a request of that size could never be taken"
            )
        if not 0 < self.timeout < 86400:
            raise InputError(f"timeout is {self.timeout}; expected seconds, up to a day")
        if not 0 <= self.gather_ms <= 1000:
            raise InputError(f"gather_ms is {self.gather_ms}; expected 0 to 1000")


class ApiError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Service:
    """A model behind the endpoints."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.name = model.checkpoint.directory.resolve().name
        self.metrics = Metrics()
        self.pooling = stored_pooling(model.checkpoint.directory)
        self.classifies = model.config.architecture == "DistilBertForSequenceClassification"
        self.healthy = False
        self.batcher: Batcher
        self.long_text: asyncio.Semaphore

    def warm_up(self) -> None:
        """Run once, so that no request pays for what is lazy, and what is wrong with the model shows.

        Raises:
            CheckpointError, InputError, EngineError: as the model does.
        """
        self._vectors([tokenize(self.model.tokenizer, ["A first text."])[0].ids])

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """The queue, for as long as the application runs."""
        settings = self.settings
        self.long_text = asyncio.Semaphore(1)
        self.batcher = Batcher(
            settings.max_batch_tokens, settings.max_queue_tokens, settings.gather_ms / 1000, self.metrics
        )
        with self.batcher.running():
            self.healthy = True
            yield
            self.healthy = False

    def _vectors(self, ids: Sequence[Sequence[int]]) -> Array:
        return np.stack([pooled(states, self.pooling) for states in self.model.hidden_states(ids)])

    async def _cut(self, texts: list[Text], truncate: bool) -> list[list[Part]]:
        """The parts of each text, within the limits of a request."""
        encodings = await self._encoded(texts)
        limit = self.model.config.max_position_embeddings
        cuts = cut_encodings(encodings, "truncate" if truncate else "windows", limit, default_stride(limit))
        self._check_tokens(len(part.ids) for cut in cuts for part in cut)
        return cuts

    async def _encoded(self, texts: Sequence[Text]) -> list[Encoding]:
        """The tokens of each text, within the limits of a request; none of it where the queue is full anyway."""
        if len(texts) > (most := self.settings.max_request_texts):
            raise ApiError(413, "validation", f"{len(texts)} texts; at most {most} a request")
        self.batcher.check_room(0)
        began = perf_counter()
        size = sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)
        if size < LONG:
            encodings = tokenize(self.model.tokenizer, texts)
        else:  # beside the event loop, and one at a time, because tokens take much more memory than their text
            async with self.long_text:
                encodings = await asyncio.to_thread(tokenize, self.model.tokenizer, texts)
        self.metrics.tokenize_seconds.observe(perf_counter() - began)
        self._check_tokens(map(len, encodings))
        return encodings

    def _check_tokens(self, counts: Iterable[int], where: str = "") -> None:
        if (tokens := sum(counts)) > (most := self.settings.max_request_tokens):
            raise ApiError(413, "validation", f"{tokens} tokens{where}; at most {most} a request")

    async def scores(self, texts: list[Text], truncate: bool, function: str) -> Array:
        """float64 [B, C]."""
        self._classifier()
        cuts = await self._cut(texts, truncate)
        logits = await self.batcher.run(self.model.logits, [part.ids for cut in cuts for part in cut])
        rows = np.split(apply_function(function, logits), np.cumsum([len(cut) for cut in cuts])[:-1])
        return np.array([COMBINE["mean"](each) for each in rows])

    def _classifier(self) -> None:
        if not self.classifies:
            raise ApiError(422, "backend", f"the model is a {self.model.config.architecture} and has no labels")

    def labelled(self, scores: Array) -> list[dict[str, Any]]:
        """Every label with its score, best first."""
        order = (-scores).argsort(kind="stable")
        return [{"label": self.model.config.labels[i], "score": float(scores[i])} for i in order]

    async def predict(self, data: dict[str, Any]) -> Any:
        """`/predict`."""
        inputs = _field(data, "inputs")
        several = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], list)
        texts = [_text_or_pair(each) for each in inputs] if several else [_text_or_pair(inputs)]
        function = "none" if _flag(data, "raw_scores") else default_function(self.model.config)
        answers = [self.labelled(row) for row in await self.scores(texts, _flag(data, "truncate"), function)]
        return answers if several else answers[0]

    async def hosted(self, data: dict[str, Any]) -> Any:
        """`POST /`, as hosted inference has it."""
        inputs = _field(data, "inputs")
        parameters = data.get("parameters")
        if not isinstance(parameters, (dict, type(None))):
            raise ApiError(422, "validation", "parameters should be an object")
        parameters = parameters or {}
        top_k, function = parameters.get("top_k"), parameters.get("function_to_apply")
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ApiError(422, "validation", "top_k should be a whole number above 0")
        if function not in (None, *FUNCTIONS):
            raise ApiError(422, "validation", f"function_to_apply should be one of {', '.join(FUNCTIONS)}")
        texts = _texts(inputs)
        rows = await self.scores(texts, False, function or default_function(self.model.config))
        answers = [self.labelled(row)[:top_k] for row in rows]
        return answers if isinstance(inputs, list) else answers[0]

    async def _embedded(self, texts: list[Text], truncate: bool, normalize: bool) -> tuple[Array, int]:
        cuts = await self._cut(texts, truncate)
        ids = [part.ids for cut in cuts for part in cut]
        rows = await self.batcher.run(self._vectors, ids)
        return vectors(rows, [len(cut) for cut in cuts], normalize), sum(map(len, ids))

    async def embed(self, data: dict[str, Any]) -> Any:
        """`/embed`."""
        texts = _texts(_field(data, "inputs"))
        rows, _ = await self._embedded(texts, _flag(data, "truncate"), _flag(data, "normalize", True))
        return rows.tolist()

    async def openai(self, data: dict[str, Any]) -> Any:
        """`/v1/embeddings`."""
        texts = _texts(_field(data, "input"))
        form, width = data.get("encoding_format"), self.model.config.dim
        if form not in (None, "float", "base64"):
            raise ApiError(422, "validation", "encoding_format should be float or base64")
        if data.get("dimensions") not in (None, width):
            raise ApiError(422, "validation", f"dimensions should be {width}, which the model has")
        rows, tokens = await self._embedded(texts, False, True)
        listed = [
            base64.b64encode(row.astype("<f4").tobytes()).decode() if form == "base64" else row.tolist() for row in rows
        ]
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(listed)],
            "model": self.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    async def tokenize(self, data: dict[str, Any]) -> Any:
        """`/tokenize`."""
        texts = _texts(_field(data, "inputs"))
        special = _flag(data, "add_special_tokens", True)
        answers = []
        for text, encoding in zip(texts, await self._encoded(texts), strict=True):
            rows = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
            answers.append(
                [
                    {"id": i, "text": token, "special": True, "start": None, "stop": None}
                    if mark
                    else {"id": i, "text": text[start:stop], "special": False, "start": start, "stop": stop}
                    for i, token, mark, (start, stop) in rows
                    if special or not mark
                ]
            )
        return answers

    async def explain(self, data: dict[str, Any]) -> Any:
        """`/explain`."""
        self._classifier()
        text, label, method = _field(data, "inputs"), data.get("label"), data.get("method", "occlusion")
        if not isinstance(text, str) or not isinstance(label, (str, type(None))) or method not in METHODS:
            message = f"inputs should be a string, label a string, method one of {', '.join(METHODS)}"
            raise ApiError(422, "validation", message)
        attention = _flag(data, "attention")
        (encoding,) = await self._encoded([text])
        if attention and len(encoding) > ATTENTION_TOKENS:
            message = f"the text has {len(encoding)} tokens; attention is given for at most {ATTENTION_TOKENS}"
            raise ApiError(422, "validation", message)
        plan = await asyncio.to_thread(Plan, self.model, text, label, method)
        self._check_tokens(map(len, plan.inputs), f" in {len(plan.inputs)} variants of the text")
        logits = await self.batcher.run(self.model.logits, plan.inputs)
        ids = [plan.encoding.ids]
        weights = (await asyncio.to_thread(self.model.attentions, ids))[0] if attention else None
        return plan.explanation(logits).as_dict() | {"attention": packed(weights)}

    def info(self) -> dict[str, Any]:
        """`/info`: what runs here, and what it takes."""
        model, settings = self.model, self.settings
        labels = dict(enumerate(model.config.labels))
        kind: dict[str, Any] = {"embedding": {"pooling": self.pooling}}
        if self.classifies:
            kind = {"classifier": {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}}
        return {
            "model_id": self.name,
            "model_dtype": model.precision,
            "model_type": kind,
            "max_input_length": model.config.max_position_embeddings,
            "max_batch_tokens": settings.max_batch_tokens,
            "max_client_batch_size": settings.max_request_texts,
            "max_request_tokens": settings.max_request_tokens,
            "max_body_bytes": settings.max_body_bytes,
            "engine": model.engine,
            "threads": model.threads,
            "version": __version__,
        }


def make_app(model: Model, settings: Settings | None = None) -> Starlette:
    """An ASGI application; any server of ASGI runs it.

    Raises:
        CheckpointError, InputError, EngineError: the model cannot run.
    """
    service = Service(model, settings or Settings())
    service.warm_up()

    def post(path: str, handler: Callable[[dict[str, Any]], Awaitable[Any]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            began = perf_counter()
            try:
                response = _json(await _within(service.settings, request, handler))
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody reads it; it is counted
            except ApiError as error:
                response = _error(error.status, error.kind, str(error))
            except InputError as error:
                response = _error(422, "validation", str(error))
            except OverloadedError as error:
                response = _error(429, "overloaded", str(error))
            except (NpdistilError, MemoryError) as error:
                response = _error(500, "backend", str(error))
            except Exception as error:  # noqa: BLE001 - the client and the log hear of it; what it says may quote a text
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{type(error).__name__} in {last.name}, {Path(last.filename).name}:{last.lineno}"
                print(f"npdistil: {path}: {place}", file=sys.stderr)  # noqa: T201
                response = _error(500, "backend", f"this should not happen: {place}")
            service.metrics.requests.labels(path, response.status_code).inc()
            service.metrics.seconds.labels(path).observe(perf_counter() - began)
            return response

        return endpoint

    def get(answer: Callable[[], Response]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return answer()

        return endpoint

    def health() -> Response:
        return Response() if service.healthy else _error(503, "unhealthy", "the service is starting or stopping")

    def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    hosted, home = post("/", service.hosted), get(_static("index.html"))

    async def root(request: Request) -> Response:
        return await (hosted if request.method == "POST" else home)(request)

    handlers = {
        "/predict": service.predict,
        "/embed": service.embed,
        "/tokenize": service.tokenize,
        "/explain": service.explain,
        "/v1/embeddings": service.openai,
    }
    description = described(__version__, model.config.labels, model.config.dim)
    answers = {
        "/health": health,
        "/info": lambda: _json(service.info()),
        "/metrics": metrics,
        "/openapi.json": lambda: _json(description),
        **{f"/{name}": _static(name) for name in STATIC},
    }
    app = Starlette(
        routes=[
            Route("/", root, methods=["GET", "POST"]),
            *(Route(path, post(path, handler), methods=["POST"]) for path, handler in handlers.items()),
            *(Route(path, get(answer), methods=["GET"]) for path, answer in answers.items()),
        ],
        middleware=[
            *_cors(service.settings),
            Middleware(Guard, token=service.settings.token, origins=service.settings.allow_origin),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=service.lifespan,
    )
    app.state.service = service
    app.router.redirect_slashes = False  # to where the request says that it came from
    return app


def _cors(settings: Settings) -> list[Middleware]:
    if not settings.allow_origin:
        return []
    headers = ["authorization", "content-type"]
    methods = ["GET", "POST"]
    return [
        Middleware(CORSMiddleware, allow_origins=settings.allow_origin, allow_methods=methods, allow_headers=headers)
    ]


class Guard:
    """Asks for the token, turns away pages of other origins, and forbids browsers what no answer of it needs."""

    def __init__(self, app: ASGIApp, token: str | None, origins: Sequence[str]) -> None:
        self.app, self.origins = app, origins
        self.token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_safely(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SAFE]
            await send(message)

        headers = dict(scope["headers"])
        free = scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN
        if not free and not self._allows(headers):
            response = _error(
                403, "forbidden", "pages of other origins may not ask; --allow-origin names those that may"
            )
        elif free or self._knows(headers.get(b"authorization", b"")):
            return await self.app(scope, receive, send_safely)
        else:
            response = _error(401, "unauthorized", "a token is needed: Authorization: Bearer ...")
            response.headers["www-authenticate"] = "Bearer"
        return await response(scope, receive, send_safely)

    def _allows(self, headers: dict[bytes, bytes]) -> bool:
        """Whether no page asks, or one of this origin, or one that may: browsers say which."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin or origin in self.origins or "*" in self.origins:
            return True
        site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
        if site:  # true behind a proxy that renames the host too
            return site not in SITES
        return origin.partition("://")[2] == headers.get(b"host", b"").decode("latin-1")

    def _knows(self, authorization: bytes) -> bool:
        scheme, _, given = authorization.partition(b" ")
        return self.token is None or (scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.token))


async def _within(settings: Settings, request: Request, handler: Callable[[dict[str, Any]], Awaitable[Any]]) -> Any:
    """The handler's answer to the body; both have a time limit, and a client that goes away ends the work."""
    try:
        data = await asyncio.wait_for(_body(request, settings.max_body_bytes), settings.timeout)
    except asyncio.TimeoutError:
        raise ApiError(408, "timeout", f"the body did not arrive within {settings.timeout:g} s") from None
    work = asyncio.ensure_future(handler(data))
    gone = asyncio.ensure_future(request.receive())  # with the body read, all that may come is that the client leaves
    try:
        done, _ = await asyncio.wait({work, gone}, timeout=settings.timeout, return_when=asyncio.FIRST_COMPLETED)
        if work in done:
            return work.result()
        if gone in done:
            raise ClientDisconnect
        raise ApiError(503, "timeout", f"no answer within {settings.timeout:g} s")
    finally:
        for task in (work, gone):
            task.cancel()


async def _body(request: Request, most: int) -> dict[str, Any]:
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else 0
    body = bytearray()
    if size <= most:
        async for chunk in request.stream():
            body += chunk
            if (size := len(body)) > most:
                break
    if size > most:
        raise ApiError(413, "validation", f"the body is larger than {most} bytes")
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "validation", f"the body is not JSON in UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise ApiError(422, "validation", "the body should be a JSON object")
    return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _field(data: dict[str, Any], name: str) -> Any:
    if name not in data:
        raise ApiError(422, "validation", f"{name} is missing")
    return data[name]


def _flag(data: dict[str, Any], name: str, default: bool = False) -> bool:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ApiError(422, "validation", f"{name} should be true or false")
    return value


def _text_or_pair(value: Any) -> Text:
    """A string, a list of one, or a list of two for a pair."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and 1 <= len(value) <= 2 and all(isinstance(each, str) for each in value):
        return value[0] if len(value) == 1 else (value[0], value[1])
    raise ApiError(422, "validation", "each input should be a string, [string], or [string, string] for a pair")


def _texts(value: Any) -> list[Text]:
    """A string, or a list of strings."""
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(each, str) for each in texts):
        raise ApiError(422, "validation", "expected a string, or a list of strings that is not empty")
    return texts


def _json(data: Any, status: int = 200) -> Response:
    return Response(json.dumps(data, ensure_ascii=False, separators=(",", ":")), status, media_type="application/json")


def _error(status: int, kind: str, message: str) -> Response:
    # A message may quote what UTF-8 cannot hold.
    response = _json({"error": message.encode("utf-8", "replace").decode(), "error_type": kind}, status)
    if status in UNREAD:
        response.headers["connection"] = "close"
    return response


def _static(name: str) -> Callable[[], Response]:
    content, kind = (PAGE / name).read_bytes(), TYPES[Path(name).suffix]
    return lambda: Response(content, media_type=kind, headers={"cache-control": "no-cache"})


async def _http_error(request: Request, error: Exception) -> Response:
    status, headers = getattr(error, "status_code", 500), getattr(error, "headers", None)
    response = _error(status, "not_found" if status == 404 else "validation", getattr(error, "detail", ""))
    response.headers.update(headers or {})
    return response
