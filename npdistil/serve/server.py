"""The application on a socket, with uvicorn."""

import os
import socket
import sys
from asyncio import AbstractEventLoop, TimerHandle, Transport
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .. import __version__
from ..errors import InputError
from ..model import Model
from .app import make_app
from .settings import Settings

HEAD_SECONDS, HEAD_BYTES = 10.0, 65_536  # for a request's head to arrive, and of it
IDLE_SECONDS = 75.0  # longer than clients and proxies keep their connections, so that they close first


class Joined:
    """A transport that sends what is written in one turn of the loop at once: an answer's head with its body."""

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pieces: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep it until the loop's next turn."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)

    def close(self) -> None:
        """Send what was written, and close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what was written."""
        if self._pieces:
            self._transport.write(b"".join(self._pieces))
            self._pieces.clear()


class Protocol(HttpToolsProtocol):
    """uvicorn's, which also ends what a client leaves unfinished, and saves a call for each answer.

    uvicorn bounds neither the size of a request's head nor its time, and its clock for idle connections stops for good
    at any byte that comes.
    """

    _timer: TimerHandle | None = None
    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a request, with a limit of time."""
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]
        self._expect_request(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        super().connection_lost(exc)
        self._stop_timer()

    def eof_received(self) -> None:
        """Send what was written: the transport below closes after this."""
        self.transport.flush()  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Refuse a head that is too large."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        """Give the request's head its time."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self._expect_request(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Stop the clock: the application has its own limits for the body and the answer."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, with a limit of time."""
        self._expect_request(IDLE_SECONDS)
        super().on_response_complete()

    def _expect_request(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._end_unless_busy)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _end_unless_busy(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            return  # when that is answered, the clock starts again
        if self.transport.get_write_buffer_size():  # an answer that nobody reads
            self.transport.abort()
        else:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's, which says why it does not end at once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, at SIGINT or SIGTERM."""
        super().handle_exit(sig, frame)
        if not self.force_exit:
            print("ending when what was accepted is answered; Ctrl-C ends at once", file=sys.stderr)  # noqa: T201


def serve(model: Model, host: str, port: int, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests that were accepted are answered first.

    A socket that systemd hands over (LISTEN_FDS) is taken instead of host and port.

    Raises:
        OSError: the address cannot be had.
        InputError: no port has that number.
        CheckpointError, EngineError: the model cannot run.
    """
    config = uvicorn.Config(
        make_app(model, settings),  # before the port answers, so that what is wrong with the model is said
        http=Protocol,
        ws="none",
        access_log=False,
        log_level="critical",  # what uvicorn would tell is a client's mistake, with the client's bytes in it
        server_header=False,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=2 * int(settings.timeout) + 1,  # a body, and its answer
    )
    with _handed_over() or _listen(host, port) as sock:
        print(f"npdistil {__version__}: {model!r}, {model.threads} threads", file=sys.stderr)  # noqa: T201
        print(f"listening on {_address(sock)}", file=sys.stderr, flush=True)  # noqa: T201
        server = Server(config)
        server.run(sockets=[sock])
    if server.force_exit:  # the engine's thread cannot be interrupted, and would be waited for
        os._exit(130)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise InputError(f"port is {port}; expected 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
    # Connections inherit it. asyncio sets it too, but not where a socket was made without naming TCP; without it the
    # body of an answer waits 40 ms for the client to acknowledge the head.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


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
