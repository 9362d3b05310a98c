"""The application on a socket: HTTP/1.1, parsed by httptools."""

import asyncio
import gc
import ipaddress
import os
import resource
import signal
import socket
import sys
import urllib.parse
from collections import deque
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import monotonic, time
from typing import Any

import httptools
from starlette.applications import Starlette

from .. import __version__
from ..errors import InputError
from ..model import Model
from ..settings import spoken
from .app import UNREAD, make_app
from .settings import Settings

HEAD_SECONDS, HEAD_BYTES = 10.0, 65_536  # for a request's head to arrive, and of it
IDLE_SECONDS = 75.0  # longer than clients and proxies keep their connections, so that they close first
END_SECONDS = 2.0  # for a body that is on its way when the service ends
STALL_SECONDS, STALL_BYTES = 20.0, 65_536  # in which a client has to take so many bytes of an answer
LINGER_SECONDS = 1.0  # to read on after an answer to a body that is not wanted, so that the answer can be read
PIECE, BUFFER = 4096, 65_536  # bytes that are parsed at a time, and that are read
HIGH_WATER = 65_536  # bytes of a body that wait for the application; then the client has to
BACKLOG, AT_A_TIME = 1024, 16  # connections that the system keeps until they are taken, and that are taken in one turn
SPARE_FILES = 128  # that are kept from connections, for what else the process opens, and for some turns of these
YOUNG = 20_000  # objects after which the garbage collector looks at the new ones: requests leave it hardly any
LOOPBACK = ("localhost", "127.0.0.1", "::1")
STATUS = {each.value: f"HTTP/1.1 {each.value} {each.phrase}".encode() for each in HTTPStatus}
NOT_HTTP, HEAD_TOO_LARGE = "Invalid HTTP request received.", "The head of the request is too large."
TOO_MANY = b'{"error":"too many connections","error_type":"overloaded"}'


class Exchange:
    """A request, and its answer, as an ASGI application receives and sends them."""

    def __init__(self, connection: "Connection", scope: dict[str, Any], expects: bool, keeps: bool) -> None:
        self.connection, self.scope = connection, scope
        self.expects, self.keeps = expects, keeps  # "100 Continue" before the body; another request after the answer
        self.begun = False  # the application has it
        self.body = bytearray()  # that has come, and that the application has not had
        self.complete = self.read = False  # the body has come, and been received
        self.over = False  # it is answered, or the client is gone
        self.waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.status, self.content = 500, b""
        self.headers: list[tuple[bytes, bytes]] = []

    async def receive(self) -> dict[str, Any]:
        """As ASGI has it."""
        if self.expects and not self.complete:
            self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects = False
        while not self.over and (self.read or not (self.body or self.complete)):
            self.waiter = self.connection.server.loop.create_future()
            await self.waiter
        if self.over:
            return {"type": "http.disconnect"}
        self.read = self.complete
        body = bytes(self.body)
        self.body.clear()
        if len(self.connection.exchanges) == 1:
            self.connection.transport.resume_reading()
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def send(self, message: Any) -> None:
        """As ASGI has it; the answer leaves when all of it is there."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
            return
        self.content += message.get("body", b"")
        if not message.get("more_body") and not self.over:
            self.connection.answer(self)

    def wake(self) -> None:
        """Something has changed that `receive` waits for."""
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)

    def end(self) -> None:
        """It is answered, or the client is gone."""
        self.over = True
        self.wake()


class Connection(asyncio.BufferedProtocol):
    """One client: its requests are answered one after the other."""

    transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)
        self.exchanges: deque[Exchange] = deque()  # not answered; the application has the first one
        self.reading: Exchange | None = None  # the last of these, until its body has come
        self.unparsed = b""
        self.url, self.headers = b"", list[tuple[bytes, bytes]]()
        self.deadline = monotonic() + HEAD_SECONDS  # to be looked at unless a request is being answered
        self.in_head = False
        self.head_bytes: int | None = None  # after the piece in which the head begins
        self.last = False  # nothing that comes is read any more
        self.full = False  # the client does not read what it is sent
        self.unsent = 0  # bytes that it has not taken

    # asyncio's side.

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        self.transport = transport
        client, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.client = tuple(client[:2]) if isinstance(client, tuple) else None
        self.local = tuple(local[:2]) if isinstance(local, tuple) else (str(local), None)
        self.server.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.last = True
        self.server.connections.pop(self, None)
        for exchange in self.exchanges:
            exchange.end()
        self.exchanges.clear()

    def pause_writing(self) -> None:
        """It does not read; what it asks is not begun."""
        self.full = True

    def resume_writing(self) -> None:
        """It reads."""
        self.full = False
        self._begin()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to put what comes: the same memory for all, as it is taken out at once."""
        return self.server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what came."""
        self.unparsed += self.server.buffer[:nbytes]
        self._parse()

    def _parse(self) -> None:
        """Parse, piece by piece, until there is another request than the one that is answered.

        The rest waits for that answer: a piece of the system's could hold thousands of requests.
        """
        start = 0
        while start < len(self.unparsed) and len(self.exchanges) < 2 and not self.last:
            data = self.unparsed[start : start + PIECE]
            start, size = start + PIECE, len(data)
            try:
                while data:
                    data = self._parsed(data)
            except httptools.HttpParserError as error:
                self._refuse(str(error.__context__ if isinstance(error.__context__, InputError) else NOT_HTTP))
            if self.in_head:
                self.head_bytes = 0 if self.head_bytes is None else self.head_bytes + size
                if self.head_bytes > HEAD_BYTES and not self.last:
                    self._refuse(HEAD_TOO_LARGE)
        self.unparsed = self.unparsed[start:] if not self.last else b""

    def _parsed(self, data: bytes) -> bytes:
        """Parse it; what is left is to be parsed again.

        An upgrade is offered, not asked for: the request is read as if it were not. The parser stops at the end of its
        head, without a word on the body; so another one gets the same head without the offer, and what comes after it.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserError from None
            head = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
            head += [b"%b: %b" % each for each in self.headers if each[0] not in (b"connection", b"upgrade")]
            head += [b"connection: close"] * (not self.parser.should_keep_alive())
            self.parser = httptools.HttpRequestParser(self)
            return b"\r\n".join([*head, b"", data[stop.args[0] :]])
        return b""

    def _refuse(self, reason: str) -> None:
        """What comes is not HTTP: answer what was asked before, or say so; and read no more."""
        if self.reading:
            self.reading.end()
            self.exchanges.remove(self.reading)
        self.last = True
        if not self.exchanges:
            self.transport.write(_last(400, b"text/plain; charset=utf-8", reason.encode()))
            self._linger()

    # The parser's side.

    def on_message_begin(self) -> None:
        """A request begins: its head has its time."""
        self.url, self.headers = b"", []
        self.in_head, self.head_bytes = True, None
        self.deadline = monotonic() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        """Of the request, or a piece of it."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers. What comes after a body by that name is not: who checked the head has not seen it."""
        if self.in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Its head is there: it can be begun, and waits for its body."""
        self.in_head = False
        if self.parser.should_upgrade():
            return
        version, hosts, expects, size = self.parser.get_http_version(), list[bytes](), False, len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts.append(value.lower())
            elif name == b"transfer-encoding" and value.lower() != b"chunked":
                raise InputError("The body is in a transfer coding; expected chunked or none.")
            elif name == b"expect":
                expects |= value.lower() == b"100-continue"
        if size > HEAD_BYTES:
            raise InputError(HEAD_TOO_LARGE)
        if len(hosts) > 1 or (not hosts and version != "1.0"):
            raise InputError(f"The request has {len(hosts)} Host headers; expected 1.")
        named, path, raw_path, query = _target(self.url)
        if named and hosts and named != hosts[0].translate(None, b"[]"):
            raise InputError("The request is for one host, and its Host header for another.")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.local,
            "state": {},
        }
        self.reading = Exchange(self, scope, expects, self.parser.should_keep_alive() and version != "1.0")
        self.exchanges.append(self.reading)
        if len(self.exchanges) > 1:
            self.transport.pause_reading()
        self._begin()

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        if self.reading:
            self.reading.body += body
            if len(self.reading.body) > HIGH_WATER:
                self.transport.pause_reading()
            self.reading.wake()

    def on_message_complete(self) -> None:
        """Its body is there."""
        if self.reading:
            self.reading.complete = True
            self.reading.wake()
            self.reading = None

    # The application's side.

    def _begin(self) -> None:
        """Have the first request answered, if a client that reads waits for that."""
        if self.exchanges and not self.full and not self.exchanges[0].begun:
            self.exchanges[0].begun = True
            self.server.begin(self.exchanges[0])

    def answer(self, exchange: Exchange) -> None:
        """Send the first request's answer, and go on with the next."""
        exchange.end()
        self.exchanges.popleft()
        ends = exchange.status in UNREAD or not (exchange.keeps and exchange.complete)
        ends = ends or self.server.ending.is_set() or (self.last and not self.exchanges)
        lines = [STATUS[exchange.status], self.server.date, *map(b": ".join, exchange.headers)]
        if ends and (b"connection", b"close") not in exchange.headers:
            lines.append(b"connection: close")
        lines += [b"", exchange.content if exchange.scope["method"] != "HEAD" else b""]
        self.transport.write(b"\r\n".join(lines))
        self.unsent = self.transport.get_write_buffer_size()
        self._rest()
        if not ends:
            self.server.rests(self)
            if len(self.exchanges) < 2:
                self.transport.resume_reading()
                self._parse()
            self._begin()
        elif exchange.complete:
            self.transport.close()
        else:
            self._linger()

    def _rest(self) -> None:
        """It has its time to take its answer, to end a head that it has begun, or to begin one."""
        rest = STALL_SECONDS if self.unsent else HEAD_SECONDS if self.in_head else IDLE_SECONDS
        self.deadline = monotonic() + rest

    def _linger(self) -> None:
        """End it when the client has: to close while it sends would take the answer from it."""
        self.last, self.reading = True, None
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()
        self.server.loop.call_later(LINGER_SECONDS, self.transport.abort)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return bool(self.exchanges) and self.exchanges[0].begun

    @property
    def unfinished(self) -> bool:
        """Whether a request has come in part."""
        return self.in_head or self.reading is not None

    def expire(self) -> None:
        """Its time is over, unless it is still taking an answer."""
        before, self.unsent = self.unsent, self.transport.get_write_buffer_size()
        if before > self.unsent + STALL_BYTES * (self.unsent > 0):
            self._rest()
        elif self.unsent:
            self.transport.abort()
        else:
            self.transport.close()


class Server:
    """An application on connections."""

    def __init__(self, app: Starlette, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.loop = asyncio.get_running_loop()
        self.connections: dict[Connection, None] = {}  # the one that has rested longest first
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.most = max(1, min(settings.max_connections, files - SPARE_FILES))
        self.running: set[Exchange] = set()  # whose tasks the event loop itself would forget
        self.ending = asyncio.Event()
        self.date = b""
        self.buffer = memoryview(bytearray(BUFFER))
        self.quiet_until, self.unsaid = 0.0, 0

    async def run(self, sock: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT; then answer what was accepted."""
        self.loop.set_exception_handler(self.complain)
        for number in (signal.SIGINT, signal.SIGTERM):
            self.loop.add_signal_handler(number, self.stop, number)
        async with self.app.router.lifespan_context(self.app):
            self._tick()
            listening = await self.loop.create_server(lambda: Connection(self), sock=sock, backlog=AT_A_TIME)
            sock.listen(BACKLOG)
            print(f"listening on {_address(sock)}", file=sys.stderr, flush=True)  # noqa: T201
            while not self.ending.is_set():
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.ending.wait(), 1)
                self._tick()
            listening.close()
            await self._end()

    def stop(self, number: int) -> None:
        """Begin to end; the second time, end."""
        if self.ending.is_set():
            os._exit(128 + number)  # the engine's thread cannot be interrupted, and would be waited for
        self.ending.set()
        print("ending when what was accepted is answered; once more ends at once", file=sys.stderr)  # noqa: T201

    async def _end(self) -> None:
        """Wait for answers, and a short time for requests of which a part has come."""
        began = monotonic()
        for each in [*self.connections]:
            if not each.busy and not each.unfinished:
                each.transport.close()
        while self.connections and (took := monotonic() - began) < self.settings.timeout + END_SECONDS:
            await asyncio.sleep(0.02)
            self._tick()
            for each in [*self.connections]:
                if took > END_SECONDS and each.unfinished and not each.transport.is_closing():
                    each.transport.abort()
        for each in [*self.connections]:
            each.transport.abort()

    def begin(self, exchange: Exchange) -> None:
        """Have the application answer."""
        exchange.task = self.loop.create_task(self._answered(exchange))
        self.running.add(exchange)

    async def _answered(self, exchange: Exchange) -> None:
        try:
            await self.app.router.default(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - the log hears of it, and the next request is answered
            self.complain(self.loop, {"message": "a request failed", "exception": error})
        if not exchange.over:
            exchange.headers, exchange.content = [(b"content-length", b"0")], b""
            exchange.connection.answer(exchange)
        self.running.discard(exchange)

    def connected(self, connection: Connection) -> None:
        """Let it in, in the place of the one that has rested longest where there are too many."""
        if len(self.connections) >= self.most:
            resting = next((each for each in self.connections if not each.busy), None)
            if resting is None:
                connection.transport.write(_last(503, b"application/json\r\nretry-after: 1", TOO_MANY))
                connection.last = True
                connection.transport.close()
                return
            del self.connections[resting]
            resting.transport.abort()
        self.connections[connection] = None

    def rests(self, connection: Connection) -> None:
        """It has been answered."""
        if self.connections.pop(connection, connection) is None:
            self.connections[connection] = None

    def _tick(self) -> None:
        """What is due once a second."""
        self.date = f"date: {formatdate(time(), usegmt=True)}".encode()
        now = monotonic()
        for each in [*self.connections]:
            if each.deadline < now and not each.busy:
                each.expire()

    def complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say what failed, in one line a second at most, and nothing of a client's."""
        if monotonic() < self.quiet_until:
            self.unsaid += 1
            return
        more = f" ({self.unsaid} more before)" * bool(self.unsaid)
        error = type(context.get("exception")).__name__
        print(f"npdistil: {context['message']}: {error}{more}", file=sys.stderr, flush=True)  # noqa: T201
        self.quiet_until, self.unsaid = monotonic() + 1, 0


def serve(model: Model, host: str, port: int, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests that were accepted are answered first.

    A socket that systemd hands over (LISTEN_FDS) is taken instead of host and port.

    Raises:
        OSError: the address cannot be had.
        InputError: no port has that number, or the host is empty.
        CheckpointError, EngineError: the model cannot run.
    """
    with _handed_over() or _bound(host, port) as sock:
        if _is_loopback(sock):  # a page may have any host's name lead here, but then says that name
            settings = replace(settings, allow_host=(*LOOPBACK, *settings.allow_host))
        app = make_app(model, settings)  # before the port answers, so that what is wrong with the model is said
        print(f"npdistil {__version__}: {model!r}, {model.threads} threads", file=sys.stderr)  # noqa: T201

        gc.collect()
        gc.freeze()  # what is here stays: to look through it again and again would hold up requests
        gc.set_threshold(YOUNG)

        async def run() -> None:
            await Server(app, settings).run(sock)

        asyncio.run(run())


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise InputError(f"{spoken('port', '')} is {port}; expected 0 to 65535")
    if not host:
        found = f"{spoken('host', '')} is empty"
        raise InputError(f"{found}; expected an address, such as 127.0.0.1, or 0.0.0.0 for all that there are")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))  # whoever connects is refused until the model can run
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
    # Connections inherit it. asyncio sets it too, but not where a socket was made without naming TCP; without it the
    # body of an answer waits 40 ms for the client to acknowledge the head.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _is_loopback(sock: socket.socket) -> bool:
    name = sock.getsockname()
    return isinstance(name, tuple) and ipaddress.ip_address(name[0]).is_loopback


def _handed_over() -> socket.socket | None:
    """The first socket of systemd's socket activation (sd_listen_fds(3)), which is file descriptor 3."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
        return None
    return socket.socket(fileno=3)


def _address(sock: socket.socket) -> str:
    name: Any = sock.getsockname()
    if isinstance(name, (str, bytes)):
        return f"unix:{os.fsdecode(name)}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


@lru_cache(64)
def _target(url: bytes) -> tuple[bytes, str, bytes, bytes]:
    """Of a request's target: the host, if it names one; the path, as text and as it came; the query."""
    found = httptools.parse_url(url)
    host, path = found.host or b"", found.path or b"/"
    named = b"%b:%d" % (host, found.port) if found.port else host
    return named.lower(), urllib.parse.unquote(path.decode("ascii")), path, found.query or b""


def _last(status: int, kind: bytes, content: bytes) -> bytes:
    """An answer of the connection itself, which ends with it."""
    head = b"%b\r\ncontent-type: %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    return head % (STATUS[status], kind, len(content)) + content
