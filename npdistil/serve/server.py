"""The application on a socket, with uvicorn."""

import os
import socket
import sys
from asyncio import AbstractEventLoop, Transport
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .. import __version__
from ..errors import InputError
from ..pretrained import Model
from .app import Settings, make_app

HEADER_SECONDS = 10.0  # for the first request's headers to arrive


class Joined:
    """A transport that sends what is written in one turn of the loop at once: an answer's head with its body."""

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pieces: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Soon."""
        if not self._pieces:
            self._loop.call_soon(self._send)
        self._pieces.append(data)

    def close(self) -> None:
        """After what was written."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._pieces:
            self._transport.write(b"".join(self._pieces))
            self._pieces.clear()


class Protocol(HttpToolsProtocol):
    """uvicorn's, which also ends a connection on which no request ever begins, and saves a call for each answer."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start to count."""
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]
        self.loop.call_later(HEADER_SECONDS, self._end_if_silent)

    def _end_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def serve(model: Model, host: str, port: int, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests that were accepted are answered first.

    A socket that systemd hands over (LISTEN_FDS) is taken instead of host and port.

    Raises:
        OSError: the address cannot be had.
        InputError: no port has that number.
    """
    config = uvicorn.Config(
        make_app(model, settings),
        http=Protocol,
        ws="none",
        access_log=False,
        log_level="critical",  # what uvicorn would tell is a client's mistake, with the client's bytes in it
        server_header=False,
        timeout_keep_alive=75,  # longer than clients and proxies keep theirs, so that they close first
        timeout_graceful_shutdown=int(settings.timeout) + 1,
    )
    with _handed_over() or _listen(host, port) as sock:
        print(f"npdistil {__version__}: {model!r}, {model.threads} threads", file=sys.stderr)  # noqa: T201
        print(f"listening on {_address(sock)}", file=sys.stderr, flush=True)  # noqa: T201
        uvicorn.Server(config).run(sockets=[sock])


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
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"
