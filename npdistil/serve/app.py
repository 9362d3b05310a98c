"""The service as an ASGI application: paths, bodies and errors, who may ask, and a page."""

import asyncio
import hmac
import json
import random
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
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

from .. import __version__
from ..errors import InputError, NpdistilError
from ..model import Model
from ..pipelines import TASKS
from ..tasks.explanation import PAGE
from .batching import SPENT, OverloadedError, Spent, UnavailableError
from .openapi import described
from .requests import BODIES, ApiError, is_openai, read
from .service import EXPLANATION, Service
from .settings import Settings
from .tracing import Tracing

__all__ = ["Settings", "make_app"]

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[..., Awaitable[Any]]  # fields of the body -> what is answered
STATIC = ("page.css", "page.js", "views.js")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
OPEN = (
    "/",
    "/health",
    "/ping",
    "/openapi.json",
    "/api-doc/openapi.json",
    *(f"/{name}" for name in STATIC),
)  # GET without a token
SAFE = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
UNREAD = (401, 403, 408, 413, 415)  # answers to a request whose body may not have been read: it is not waited for
LOOK = 0.1  # seconds until it is looked whether a client is still there
LARGE = 16_384  # bytes of a body that is read beside the event loop
AT_ONCE, TURN_BYTES = 2048, 16_384  # values that are written as JSON at once, and bytes before others have a turn
ID = re.compile(rb"[!-~]{1,128}")  # of a request, as a client may give it
HOST = re.compile(r"(?:\[(.+)\]|([^:]*))(?::\d*)?")  # a name or an address, and perhaps a port
SITES = ("cross-site", "same-site")  # what browsers call other origins in Sec-Fetch-Site


def make_app(model: Model, settings: Settings | None = None) -> Starlette:
    """An ASGI application; any server of ASGI runs it.

    Raises:
        CheckpointError, InputError, EngineError: the model cannot run.
        MissingExtraError: `trace` is asked for, and OpenTelemetry is not installed.

    Example:
        >>> import npdistil
        >>> app = npdistil.make_app(npdistil.load())
        >>> sorted(route.path for route in app.routes if route.path.startswith("/embed"))
        ['/embed', '/embed_all', '/embed_sparse', '/embeddings']
    """
    tracing = Tracing() if settings and settings.trace else None
    service = Service(model, settings or Settings())
    service.warm_up()

    def post(path: str, handler: Handler | None = None) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            began = perf_counter()
            try:
                answer = await _within(service, request, path, handler)
                response = Response(await _serialised(answer), media_type="application/json")
                _tell(response, SPENT.get(), perf_counter() - began)
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody reads it; it is counted
            except ApiError as error:
                response = _error(error.status, error.kind, str(error), path)
            except InputError as error:
                response = _error(422, "Validation", str(error), path)
            except RecursionError:
                response = _error(400, "Validation", "the body is nested too deeply", path)
            except OverloadedError as error:
                response = _error(429, "Overloaded", str(error), path)
            except UnavailableError as error:
                response = _error(503, "Unhealthy", str(error), path)
            except NpdistilError as error:
                response = _error(424, "Backend", str(error), path)
            except MemoryError as error:
                response = _error(500, "Backend", str(error), path)
            except Exception as error:  # noqa: BLE001 - the client and the log hear of it; what it says may quote a text
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{type(error).__name__} in {last.name}, {Path(last.filename).name}:{last.lineno}"
                print(f"npdistil: {path}: {place}", file=sys.stderr)  # noqa: T201
                response = _error(500, "Backend", f"this should not happen: {place}", path)
            service.metrics.requests.labels(path, response.status_code).inc()
            service.metrics.seconds.labels(path).observe(perf_counter() - began)
            return response

        return endpoint

    def get(answer: Callable[[], Response]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return answer()

        return endpoint

    async def health(request: Request) -> Response:
        try:
            return _json(await service.health())
        except ApiError as error:
            return _error(error.status, error.kind, str(error))

    def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    infer, home = post("/"), get(_static("index.html"))

    async def root(request: Request) -> Response:
        return await (infer if request.method == "POST" else home)(request)

    handlers: dict[str, Handler | None] = {
        **{path: handler for path, handler in service.endpoints.items() if path != "/"},
        **{f"/pipeline/{name}": partial(service.infer, name=name) for name in TASKS if name != EXPLANATION},
        "/invocations": None,
    }
    description = described(__version__, service)
    answers = {
        "/info": lambda: _json(service.info()),
        "/metrics": metrics,
        "/v1/models": lambda: _json(service.models()),
        **{path: lambda: _json(description) for path in ("/openapi.json", "/api-doc/openapi.json")},
        **{f"/{name}": _static(name) for name in STATIC},
    }
    cors: dict[str, Any] = {"allow_methods": ["GET", "POST"], "allow_headers": ["authorization", "content-type"]}
    origins = [each.rstrip("/").lower() for each in service.settings.allow_origin]  # as browsers write them
    hosts = [each.lower() for each in service.settings.allow_host]
    log = partial(print, flush=True) if service.settings.access_log else None
    posts = {path: post(path, handler) for path, handler in handlers.items()}
    routes = [
        Route("/", root, methods=["GET", "POST"]),
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()),
        *(Route(path, health, methods=["GET"]) for path in ("/health", "/ping")),
        *(Route(path, get(answer), methods=["GET"]) for path, answer in answers.items()),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            *([Middleware(CORSMiddleware, allow_origins=origins, **cors)] if origins else []),
            Middleware(
                Guard,
                posts=posts,
                paths={route.path for route in routes},
                token=service.settings.token,
                origins=origins,
                hosts=hosts,
                log=log,
                tracing=tracing,
            ),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=service.lifespan,
    )
    app.state.service = service
    app.router.redirect_slashes = False  # to where the request says that it came from
    return app


class Guard:
    """Asks for the token, turns away pages of other origins, and forbids browsers what no answer of it needs.

    A page of any origin can have its own host's name lead to this machine. Where hosts are given, its requests, which
    are for that name, are refused. Each request gets a number, its own if it has one, which its answer and its line in
    the log have too.

    A POST that it lets in goes to its endpoint at once where `posts` has the path: most requests need no search for it.
    Of a request's path the log and the spans tell what is among `paths`; any other may be anything.
    """

    def __init__(
        self,
        app: ASGIApp,
        posts: Mapping[str, Endpoint],
        paths: Collection[str],
        token: str | None,
        origins: Sequence[str],
        hosts: Sequence[str],
        log: Callable[[str], None] | None,
        tracing: Tracing | None,
    ) -> None:
        self.app, self.posts, self.paths, self.origins, self.hosts = app, posts, paths, origins, hosts
        self.log, self.tracing = log, tracing
        self.token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        headers = dict(scope["headers"])
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # of where it is mounted
        began, spent = perf_counter(), Spent()
        SPENT.set(spent)
        number = headers.get(b"x-request-id", b"")
        number = number if ID.fullmatch(number) else b"%032x" % random.getrandbits(128)  # no secret
        known = path if path in self.paths else None

        async def send_safely(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", number), *SAFE]
                status, seconds = message["status"], perf_counter() - began
                if self.log:
                    self.log(_entry(scope, known, number.decode(), status, seconds, spent))
                if self.tracing:
                    self.tracing.tell(scope["method"], known, headers, status, seconds, spent)
            await send(message)

        free = scope["method"] in ("GET", "HEAD") and path in OPEN
        host = headers.get(b"host", b"").decode("latin-1").lower() if self.hosts else ""
        name = (found[1] or found[2]) if (found := HOST.fullmatch(host)) else host
        if name and name not in self.hosts:
            response = _error(
                403, "Forbidden", f"not for the host {name:.80}; --allow-host names more than this machine", path
            )
        elif not free and not self._allows(headers):
            response = _error(
                403, "Forbidden", "pages of other origins may not ask; --allow-origin names those that may", path
            )
        elif free or self._knows(headers.get(b"authorization", b"")):
            if scope["method"] != "POST" or path not in self.posts:
                return await self.app(scope, receive, send_safely)
            response = await self.posts[path](Request(scope, receive))
        else:
            about = "this is not the token" if b"authorization" in headers else "a token is needed"
            response = _error(401, "Unauthorized", f"{about}: Authorization: Bearer ...", path)
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


async def _within(service: Service, request: Request, path: str, handler: Handler | None) -> Any:
    """The answer to the body, by the handler or by what the service takes the body for.

    Both have a time limit, and a client that goes away ends the work.
    """
    settings = service.settings
    with Limit(settings.timeout) as limit:
        body = await _body(request, settings.max_body_bytes)
        limit.receive = request.receive  # with the body read, all that may come is that the client leaves
        limit.began = perf_counter()
        asked, fields = await service.run(len(body) < LARGE, partial(_understood, service, path, handler), body)
        return await asked(**fields)


def _understood(
    service: Service, path: str, handler: Handler | None, body: bytearray
) -> tuple[Handler, dict[str, Any]]:
    """What a body asks for, and its fields; nothing where it has more values than its tokens and texts can need."""
    settings = service.settings
    values = sum(map(body.count, (b",", b"[", b"{")))  # as many as there are, and those in texts, which are tokens
    if values > (most := settings.max_request_tokens + 4 * settings.max_request_texts):
        raise ApiError(413, "Validation", f"{values} commas and opening brackets; at most {most} a request")
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "Validation", f"the body is not JSON in UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise ApiError(422, "Validation", "the body should be a JSON object")
    fields = path if handler else service.default(data)
    fields = fields if fields in BODIES else "/"
    return handler or service.endpoints[fields], read(fields, data)


class Limit:
    """Ends what is awaited inside after some seconds, or when the client leaves.

    It looks once in a while, so that most requests, which are answered before, pay for neither.

    Attributes:
        began: when what has so many seconds did: the body's arrival, then the answer.
        receive: what tells that the client leaves, once the body has come.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began = seconds, perf_counter()
        self.receive: Receive | None = None
        self.task, self.loop = asyncio.current_task(), asyncio.get_running_loop()
        self.error: Exception | None = None
        self.gone: asyncio.Future[Any] | None = None
        self.timer = self.loop.call_later(min(LOOK, seconds), self.look)

    def look(self) -> None:
        """End it if its time is over; listen for the client's end from the first time on."""
        left = self.began + self.seconds - perf_counter()
        if left <= 0:
            late = "no answer" if self.receive else "the body did not arrive"
            self.end(ApiError(503 if self.receive else 408, "Timeout", f"{late} within {self.seconds:g} s"))
            return
        if self.receive and not self.gone:
            self.gone = asyncio.ensure_future(self.receive())
            self.gone.add_done_callback(lambda _: self.end(ClientDisconnect()))
        self.timer = self.loop.call_later(left if self.gone else min(LOOK, left), self.look)

    def end(self, error: Exception) -> None:
        """End it."""
        if self.task and not self.error:
            self.error = error
            self.task.cancel()

    def __enter__(self) -> "Limit":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.timer.cancel()
        self.task = None
        if self.gone:
            self.gone.cancel()
        if self.error and kind is asyncio.CancelledError:
            if sys.version_info >= (3, 11):
                asyncio.current_task().uncancel()  # type: ignore[union-attr]
            raise self.error from None


async def _body(request: Request, most: int) -> bytearray:
    headers = dict(request.scope["headers"])
    coding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if coding.lower() != "identity":
        raise ApiError(415, "Validation", f"the body is in the content-encoding {coding:.40}; expected none")
    length = headers.get(b"content-length", b"")
    size = int(length) if length.isdigit() else 0
    body = bytearray()
    if size <= most:
        async for chunk in request.stream():
            body += chunk
            if (size := len(body)) > most:
                break
    if size > most:
        raise ApiError(413, "Validation", f"the body is larger than {most} bytes")
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _json(data: Any, status: int = 200) -> Response:
    return Response(ENCODER.encode(data), status, media_type="application/json")


async def _serialised(answer: Any) -> bytes:
    """As JSON; while a large answer is made, others have their turns."""
    if _size(answer) <= AT_ONCE:
        return ENCODER.encode(answer).encode()
    content, due = bytearray(), TURN_BYTES
    for piece in pieces(answer):
        content += piece.encode()
        if len(content) >= due:
            await asyncio.sleep(0)
            due = len(content) + TURN_BYTES
    return bytes(content)


def pieces(data: Any) -> Iterator[str]:
    """JSON, piece by piece: each of some values."""
    if _size(data) <= AT_ONCE or not isinstance(data, (list, dict, np.ndarray)):
        yield ENCODER.encode(data)
        return
    opened, closed = "{}" if isinstance(data, dict) else "[]"
    names = [f"{ENCODER.encode(name)}:" for name in data] if isinstance(data, dict) else [""] * len(data)
    for name, each in zip(names, data.values() if isinstance(data, dict) else data, strict=True):
        yield opened + name
        yield from pieces(each)
        opened = ","
    yield closed


def _size(data: Any) -> int:
    """How many values it has; it does not count much further than that is asked for."""
    if isinstance(data, np.ndarray):
        return data.size
    total = 1
    for each in data.values() if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else ():
        total += _size(each)
        if total > AT_ONCE:
            break
    return total


def _numbers(array: Any) -> Any:
    """An array as lists: of float32 the 9 digits that tell it from its neighbours, not the 17 of float64."""
    if array.dtype != np.float32:
        return array.tolist()
    values = array.astype(np.float64)
    with np.errstate(divide="ignore"):
        digits = 8 - np.floor(np.log10(np.abs(values)))
    scale = 10.0 ** np.clip(digits, 0, 22)  # a power of ten that float64 holds exactly
    return np.where((digits >= 0) & (digits <= 22), np.rint(values * scale) / scale, values).tolist()


ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_numbers)


def _entry(scope: Scope, path: str | None, number: str, status: int, seconds: float, spent: Spent) -> str:
    """A request's line in the log."""
    entry = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "id": number,
        "client": (scope.get("client") or ("",))[0],
        "method": scope["method"],
        "path": path,
        "status": status,
        "ms": round(1000 * seconds, 2),
        "tokenization_ms": round(1000 * spent.tokenization, 2),
        "queue_ms": round(1000 * spent.queue, 2),
        "inference_ms": round(1000 * spent.inference, 2),
        "tokens": spent.tokens,
    }
    return json.dumps(entry)


def _tell(response: Response, spent: Spent | None, seconds: float) -> None:
    """What the request has cost, in the headers of the protocol; times are in milliseconds."""
    if spent:
        milliseconds = b"%.0f" % (1000 * seconds)
        response.raw_headers += [
            (b"x-compute-type", b"cpu"),
            (b"x-compute-time", milliseconds),
            (b"x-compute-characters", b"%d" % spent.characters),
            (b"x-compute-tokens", b"%d" % spent.tokens),
            (b"x-total-time", milliseconds),
            (b"x-tokenization-time", b"%.0f" % (1000 * spent.tokenization)),
            (b"x-queue-time", b"%.0f" % (1000 * spent.queue)),
            (b"x-inference-time", b"%.0f" % (1000 * spent.inference)),
        ]


def _error(status: int, kind: str, message: str, path: str = "") -> Response:
    """An error in the protocol's form; where OpenAI's clients ask, in theirs, which the protocol flattens, too."""
    message = message.encode("utf-8", "replace").decode()  # it may quote what UTF-8 cannot hold
    body: dict[str, Any] = {"error": message, "error_type": kind}
    if is_openai(path):
        openai = {"message": message, "type": kind, "code": status}
        body = {"error": {**openai, "param": None}, **openai}
    response = _json(body, status)
    if status in UNREAD:
        response.headers["connection"] = "close"
    if status in (429, 503):
        response.headers["retry-after"] = "1"
    return response


def _static(name: str) -> Callable[[], Response]:
    content, kind = (PAGE / name).read_bytes(), TYPES[Path(name).suffix]
    return lambda: Response(content, media_type=kind, headers={"cache-control": "no-cache"})


async def _http_error(request: Request, error: Exception) -> Response:
    status, headers = getattr(error, "status_code", 500), getattr(error, "headers", None)
    kind = "NotFound" if status == 404 else "Validation"
    response = _error(status, kind, getattr(error, "detail", ""), request.url.path)
    response.headers.update(headers or {})
    return response
