"""A service in a process of its own, with a client of the standard library's; an application asked without a server."""

import asyncio
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "npdistil", "serve", "--port", "0", "--engine", "numpy"]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # tests run side by side


class Server:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def ask(
        self, path: str, data: Any = None, *, method: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and the answer; `data` is sent as JSON, bytes as they are."""
        body = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
        connection = self.connect()
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        kind = response.headers.get_content_type()
        return response.status, json.loads(content) if kind == "application/json" else content.decode()

    def metric(self, name: str) -> float:
        _, text = self.ask("/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


async def ask(app: Any, path: str, data: Any = None, *, headers: Any = ()) -> tuple[int, Any]:
    """Status and answer of an application; bytes are sent as they are."""
    body = b"" if data is None else data if isinstance(data, bytes) else json.dumps(data).encode()
    method = "GET" if data is None else "POST"
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": [*headers], "query_string": b""}
    scope |= {"root_path": "", "scheme": "http", "server": ("x", 80), "http_version": "1.1"}
    messages = [{"type": "http.request", "body": body}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(content) if content[:1] in (b"{", b"[") else content


def client(name: str) -> Any:
    """The module of a client; a test that needs it is skipped, and says so, where it is not installed."""
    return pytest.importorskip(name, reason=f"needs the client {name.partition('.')[0]}", exc_type=ImportError)


@contextmanager
def running(
    *options: str, environment: dict[str, str] | None = None, files: int | None = None, stdout: Path | None = None
) -> Iterator[Server]:
    """`npdistil serve` until the end of the block, which may open so many files, and what it says in one."""
    start = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
    out = stdout.open("wb") if stdout else None
    process = subprocess.Popen(
        [*start, *COMMAND, *options],
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ONE_THREAD, **(environment or {})},
    )
    try:
        assert process.stderr
        heard = ""
        for line in process.stderr:
            heard += line
            if found := re.match(r"listening on http://.*:(\d+)$", line):
                break
        else:
            raise AssertionError(f"it did not start:\n{heard}")
        server = Server(process, int(found[1]))
        yield server
    finally:
        process.kill()
        process.communicate()
        if out:
            out.close()
