"""The service as an ASGI application: paths, bodies and errors, who may ask, and a page."""

import asyncio
import hmac
import json
import random
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

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

Headers: TypeAlias = Mapping[bytes, bytes]
Handler: TypeAlias = Callable[..., Awaitable[Any]]  # fields of the body -> what is answered
JSON = b"application/json"
PAGES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/views.js": ("views.js", "text/javascript"),
}
OPEN = {"/health", "/ping", "/openapi.json", "/api-doc/openapi.json", *PAGES}  # GET without a token
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
IN_ALL = 2**27  # bytes of bodies whose requests are not answered
DIGITS = 1000  # of a number: the time to read one grows with their square
AT_ONCE, TURN_BYTES = 2048, 16_384  # values that are written as JSON at once, and bytes before others have a turn
ID = re.compile(rb"[!-~]{1,128}")  # of a request, as a client may give it
HOST = re.compile(r"(?:\[(.+)\]|([^:]*))(?::\d*)?")  # a name or an address, and perhaps a port
SITES = ("cross-site", "same-site")  # what browsers call other origins in Sec-Fetch-Site
FAILURES: tuple[tuple[type[Exception], int, str], ...] = (  # what an answer says of errors, the first that fits
    (InputError, 422, "Validation"),
    (OverloadedError, 429, "Overloaded"),
    (UnavailableError, 503, "Unhealthy"),
    (NpdistilError, 424, "Backend"),
    (MemoryError, 500, "Backend"),
)


@dataclass(slots=True)
class Answer:
    """What a request is answered with; its length and what every answer has come with it."""

    status: int
    content: bytes
    headers: list[tuple[bytes, bytes]]


Endpoint: TypeAlias = Callable[[Headers, Receive], Awaitable[Answer]]


def make_app(model: Model, settings: Settings | None = None) -> Starlette:
    """An ASGI application; any server of ASGI runs it.

    Raises:
        CheckpointError, InputError, EngineError: the model cannot run.
        MissingExtraError: `trace` is asked for, and OpenTelemetry is not installed.

    Example:
        >>> import npdistil
        >>> app = npdistil.make_app(npdistil.load())
        >>> app.state.service.own
        'text-classification'
    """
    settings = settings or Settings()
    tracing = Tracing() if settings.trace else None
    service = Service(model, settings)
    service.warm_up()
    description = _json(described(__version__, service))
    same = {path: _page(*each) for path, each in PAGES.items()}
    same |= dict.fromkeys(("/openapi.json", "/api-doc/openapi.json"), description)
    answers: dict[str, Callable[[], Answer]] = {
        **{path: partial(same.__getitem__, path) for path in same},
        "/info": lambda: _json(service.info()),
        "/metrics": lambda: _answer(generate_latest(service.metrics.registry), CONTENT_TYPE_LATEST.encode()),
        "/v1/models": lambda: _json(service.models()),
    }
    handlers: dict[str, Handler | None] = {
        **service.endpoints,
        **{f"/pipeline/{name}": partial(service.infer, name=name) for name in TASKS if name != EXPLANATION},
        **dict.fromkeys(("/", "/invocations")),
    }
    gets: dict[str, Endpoint] = {
        **{path: _get(answer) for path, answer in answers.items()},
        **{path: partial(_health, service) for path in ("/health", "/ping")},
    }
    posts: dict[str, Endpoint] = {path: partial(_post, service, path, handler) for path, handler in handlers.items()}
    origins = [each.rstrip("/").lower() for each in settings.allow_origin]  # as browsers write them
    cors: dict[str, Any] = {"allow_methods": ["GET", "POST"], "allow_headers": ["authorization", "content-type"]}
    endpoints = {"GET": gets, "HEAD": gets, "POST": posts}
    guarded: Any = Guard(endpoints, settings, origins, tracing)
    if origins:
        guarded = CORSMiddleware(guarded, allow_origins=origins, **cors)
    app = Starlette(lifespan=service.lifespan)
    app.router.default = guarded
    app.state.service = service
    return app


class Guard:
    """Asks for the token, turns away pages of other origins, and forbids browsers what no answer of it needs.

    A page of any origin can have its own host's name lead to this machine. Where hosts are given, its requests, which
    are for that name, are refused. Each request gets a number, its own if it has one, which its answer and its line in
    the log have too.

    A request that it lets in goes to its endpoint, by method and path. Of its path the log and the spans tell what is
    there; any other may be anything.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Mapping[str, Endpoint]],
        settings: Settings,
        origins: Sequence[str],
        tracing: Tracing | None,
    ) -> None:
        self.endpoints, self.origins, self.tracing = endpoints, origins, tracing
        self.hosts = {each.lower() for each in settings.allow_host}
        self.token = None if settings.token is None else settings.token.encode()
        self.logs = settings.access_log
        self.quiet_until, self.unlogged = 0.0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return

        began, spent = perf_counter(), Spent()
        SPENT.set(spent)
        headers, method = dict(scope["headers"]), scope["method"]
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # of where it is mounted
        number = headers.get(b"x-request-id", b"")
        number = number if ID.fullmatch(number) else b"%032x" % random.getrandbits(128)  # no secret
        answer = self._refusal(method, path, headers)
        if answer is None:
            endpoint = self.endpoints.get(method, {}).get(path)
            answer = await endpoint(headers, receive) if endpoint else self._nothing(path)
        if self.logs or self.tracing:
            seconds = perf_counter() - began
            known = path if any(path in some for some in self.endpoints.values()) else None
            if self.logs:
                self._log(_entry(scope, known, number.decode(), answer.status, seconds, spent))
            if self.tracing:
                self.tracing.tell(method, known, headers, answer.status, seconds, spent)
        length = (b"content-length", b"%d" % len(answer.content))
        all_headers = [length, *answer.headers, (b"x-request-id", number), *SAFE]
        await send({"type": "http.response.start", "status": answer.status, "headers": all_headers})
        await send({"type": "http.response.body", "body": answer.content})

    def _log(self, entry: str) -> None:
        """A line; where standard output takes none, that is said, once a second, and requests are answered."""
        try:
            print(entry, flush=True)  # noqa: T201
        except (OSError, ValueError) as error:  # a full disk, a reader that is gone; closed
            self.unlogged += 1
            if perf_counter() < self.quiet_until:
                return
            with suppress(OSError, ValueError):
                lost = f"{self.unlogged} lines of the access log are lost"
                print(f"npdistil: {lost}: {getattr(error, 'strerror', None) or error}", file=sys.stderr, flush=True)  # noqa: T201
            self.quiet_until, self.unlogged = perf_counter() + 1, 0

    def _refusal(self, method: str, path: str, headers: Headers) -> Answer | None:
        """What is said to who may not ask."""
        if self.hosts:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = (found[1] or found[2]) if (found := HOST.fullmatch(host)) else host
            if name and name not in self.hosts:
                about = f"not for the host {name:.80}; --allow-host names more than this machine"
                return _error(403, "Forbidden", about, path)
        if method in ("GET", "HEAD") and path in OPEN:
            return None
        if not self._allows(headers):
            about = "pages of other origins may not ask; --allow-origin names those that may"
            return _error(403, "Forbidden", about, path)
        if self.token is None:
            return None
        authorization = headers.get(b"authorization", b"")
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.token):
            return None
        about = "this is not the token" if authorization else "a token is needed"
        refusal = _error(401, "Unauthorized", f"{about}: Authorization: Bearer ...", path)
        refusal.headers.append((b"www-authenticate", b"Bearer"))
        return refusal

    def _allows(self, headers: Headers) -> bool:
        """Whether no page asks, or one of this origin, or one that may: browsers say which."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin or origin in self.origins or "*" in self.origins:
            return True
        site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
        if site:  # true behind a proxy that renames the host too
            return site not in SITES
        return origin.partition("://")[2] == headers.get(b"host", b"").decode("latin-1")

    def _nothing(self, path: str) -> Answer:
        """There is no such path, or not by this method."""
        methods = [name for name, some in self.endpoints.items() if path in some]
        if not methods:
            return _error(404, "NotFound", "Not Found", path)
        answer = _error(405, "Validation", "Method Not Allowed", path)
        answer.headers.append((b"allow", ", ".join(methods).encode()))
        return answer


def _get(answer: Callable[[], Answer]) -> Endpoint:
    async def endpoint(headers: Headers, receive: Receive) -> Answer:
        return answer()

    return endpoint


async def _health(service: Service, headers: Headers, receive: Receive) -> Answer:
    try:
        return _json(await service.health())
    except ApiError as error:
        return _error(error.status, error.kind, str(error))


async def _post(service: Service, path: str, handler: Handler | None, headers: Headers, receive: Receive) -> Answer:
    """The answer to a body, by the handler or by what the service takes the body for.

    The body has a time limit, and so has the answer; a client that goes away ends the work.
    """
    began, body = perf_counter(), bytearray()
    try:
        with Limit(service.settings.timeout) as limit:
            await _receive(body, service, headers, receive)
            limit.receive = receive  # with the body read, all that may come is that the client leaves
            limit.began = perf_counter()
            asked, fields = await service.run(len(body) < LARGE, partial(_understood, service, path, handler), body)
            found = await asked(**fields)
        answer = _answer(await _serialised(found))
        answer.headers += _costs(perf_counter() - began, SPENT.get() or Spent())
    except Exception as error:  # noqa: BLE001 - the client and the log hear of it
        answer = _failure(error, path)
    finally:
        service.held -= len(body)
    service.metrics.requests(path, answer.status).inc()
    service.metrics.seconds(path).observe(perf_counter() - began)
    return answer


async def _receive(body: bytearray, service: Service, headers: Headers, receive: Receive) -> None:
    """Read the body, which may have so many bytes, and with others that are held so many in all."""
    coding = headers.get(b"content-encoding", b"identity").decode("latin-1")
    if coding.lower() != "identity":
        raise ApiError(415, "Validation", f"the body is in the content-encoding {coding:.40}; expected none")
    most, length = service.settings.max_body_bytes, headers.get(b"content-length", b"")
    size, more = int(length) if length.isdigit() else 0, True
    while more and size <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        piece, more = message.get("body", b""), message.get("more_body", False)
        body += piece
        service.held += len(piece)
        size = max(size, len(body))
        if service.held > max(IN_ALL, most):
            raise OverloadedError(f"{service.held} bytes of requests are held already; try again later")
    if size > most:
        raise ApiError(413, "Validation", f"the body is larger than {most} bytes")


def _understood(
    service: Service, path: str, handler: Handler | None, body: bytearray
) -> tuple[Handler, dict[str, Any]]:
    """What a body asks for, and its fields; nothing where it has more values than its tokens and texts can need."""
    settings = service.settings
    values = sum(map(body.count, (b",", b"[", b"{")))  # as many as there are, and those in texts, which are tokens
    if values > (most := settings.max_request_tokens + 4 * settings.max_request_texts):
        raise ApiError(413, "Validation", f"{values} commas and opening brackets; at most {most} a request")
    try:
        data = DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "Validation", f"the body is not JSON in UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise ApiError(422, "Validation", "the body should be a JSON object")
    fields = path if handler else service.default(data)
    fields = fields if fields in BODIES else "/"
    return handler or service.endpoints[fields], read(fields, data)


class GoneError(Exception):
    """The client has left."""


class Limit:
    """Ends what is awaited inside after some seconds, or when the client leaves.

    All of an event loop are looked at together, once in a while: most requests are answered before, and pay for
    neither.

    Attributes:
        began: when what has so many seconds did: the body's arrival, then the answer.
        receive: what tells that the client leaves, once the body has come.
    """

    running: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, set[Limit]]"] = WeakKeyDictionary()

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began = seconds, perf_counter()
        self.receive: Receive | None = None
        self.task = asyncio.current_task()
        self.error: Exception | None = None
        self.gone: asyncio.Future[Any] | None = None
        loop = asyncio.get_running_loop()
        if (others := self.running.get(loop)) is None:
            others = self.running[loop] = set()
            loop.call_later(LOOK, _look, loop, others)
        self.others = others

    def look(self) -> None:
        """End it if its time is over; listen for the client's end unless the answer may be there before it helps."""
        took = perf_counter() - self.began
        if took >= self.seconds:
            late = "no answer" if self.receive else "the body did not arrive"
            self.end(ApiError(503 if self.receive else 408, "Timeout", f"{late} within {self.seconds:g} s"))
        elif took >= LOOK and self.receive and not self.gone:
            self.gone = asyncio.ensure_future(self.receive())
            self.gone.add_done_callback(lambda _: self.end(GoneError()))

    def end(self, error: Exception) -> None:
        """End it."""
        if self.task and not self.error:
            self.error = error
            self.task.cancel()

    def __enter__(self) -> "Limit":
        self.others.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.others.discard(self)
        self.task = None
        if self.gone:
            self.gone.cancel()
        if self.error and kind is asyncio.CancelledError:
            if sys.version_info >= (3, 11):
                asyncio.current_task().uncancel()  # type: ignore[union-attr]
            raise self.error from None


def _look(loop: asyncio.AbstractEventLoop, limits: set[Limit]) -> None:
    for each in [*limits]:
        each.look()
    if limits:
        loop.call_later(LOOK, _look, loop, limits)
    else:
        del Limit.running[loop]


def _short(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(digits: str) -> Any:
        if len(digits) > DIGITS:
            raise ValueError(f"a number of {len(digits)} characters; at most {DIGITS}")
        return kind(digits)

    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_int=_short(int), parse_float=_short(float), parse_constant=_no_constant)


def _answer(content: bytes, kind: bytes = JSON, status: int = 200) -> Answer:
    return Answer(status, content, [(b"content-type", kind)])


def _page(name: str, kind: str) -> Answer:
    """A file of the page."""
    content_type, cache = (b"content-type", b"%b; charset=utf-8" % kind.encode()), (b"cache-control", b"no-cache")
    return Answer(200, (PAGE / name).read_bytes(), [content_type, cache])


def _json(data: Any, status: int = 200) -> Answer:
    return _answer(ENCODER.encode(data).encode(), status=status)


async def _serialised(answer: Any) -> bytes:
    """As JSON; while a large answer is made, others have their turns."""
    content, due = bytearray(), TURN_BYTES
    for piece in pieces(answer):
        content += piece.encode()
        if len(content) >= due:
            await asyncio.sleep(0)
            due = len(content) + TURN_BYTES
    return bytes(content)


def pieces(data: Any) -> Iterator[str]:
    """JSON, piece by piece: each of some values."""
    if not isinstance(data, (list, dict, np.ndarray)) or _size(data) <= AT_ONCE:
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
    """How many values a list, an object or an array has; it does not count much further than that is asked for."""
    if isinstance(data, np.ndarray):
        return data.size
    total = 1
    for each in data.values() if isinstance(data, dict) else data:
        total += _size(each) if isinstance(each, (list, tuple, dict, np.ndarray)) else 1
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


def _costs(seconds: float, spent: Spent) -> list[tuple[bytes, bytes]]:
    """What a request took, in the headers of the protocol; times are in milliseconds."""
    total = b"%.0f" % (1000 * seconds)
    return [
        (b"x-compute-type", b"cpu"),
        (b"x-compute-time", total),
        (b"x-compute-characters", b"%d" % spent.characters),
        (b"x-compute-tokens", b"%d" % spent.tokens),
        (b"x-total-time", total),
        (b"x-tokenization-time", b"%.0f" % (1000 * spent.tokenization)),
        (b"x-queue-time", b"%.0f" % (1000 * spent.queue)),
        (b"x-inference-time", b"%.0f" % (1000 * spent.inference)),
    ]


def _failure(error: Exception, path: str) -> Answer:
    """What a client hears of an error; the log hears of one that nobody expected."""
    if isinstance(error, GoneError):
        return Answer(499, b"", [])  # nobody reads it; it is counted
    if isinstance(error, ApiError):
        return _error(error.status, error.kind, str(error), path)
    if isinstance(error, RecursionError):
        return _error(400, "Validation", "the body is nested too deeply", path)
    for expected, status, kind in FAILURES:
        if isinstance(error, expected):
            return _error(status, kind, str(error), path)
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = (
        f"{type(error).__name__} in {last.name}, {Path(last.filename).name}:{last.lineno}"  # its words may quote texts
    )
    print(f"npdistil: {path}: {place}", file=sys.stderr)  # noqa: T201
    return _error(500, "Backend", f"this should not happen: {place}", path)


def _error(status: int, kind: str, message: str, path: str = "") -> Answer:
    """An error in the protocol's form; where OpenAI's clients ask, in theirs, which the protocol flattens, too."""
    message = message.encode("utf-8", "replace").decode()  # it may quote what UTF-8 cannot hold
    body: dict[str, Any] = {"error": message, "error_type": kind}
    if is_openai(path):
        openai = {"message": message, "type": kind, "code": status}
        body = {"error": {**openai, "param": None}, **openai}
    answer = _json(body, status)
    if status in UNREAD:
        answer.headers.append((b"connection", b"close"))
    if status in (429, 503):
        answer.headers.append((b"retry-after", b"1"))
    return answer
