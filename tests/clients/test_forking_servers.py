"""Servers that load the application, fork, and only then put greenlets in place of threads and locks."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from service_client import Server, client

SERVICE = """
import a2wsgi, npdistil
inner, outer = npdistil.make_app(npdistil.load()), []
def app(environ, start_response):
    if not outer:  # it starts a thread, which a fork would not have
        outer.append(a2wsgi.ASGIMiddleware(inner))
    return outer[0](environ, start_response)
"""
LIBRARY = """
import json, npdistil
classify = npdistil.pipeline("text-classification", npdistil.load(), top_k=None)
classify(["before the fork"] * 300)
def app(environ, start_response):
    texts = [text for (text,) in json.loads(environ["wsgi.input"].read())["inputs"]]
    answer = json.dumps(classify(texts)).encode()
    start_response("200 OK", [("content-type", "application/json")])
    return [answer]
"""


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A server of an application in two processes, with gevent."""
    for needed in ("gunicorn", "gevent", "a2wsgi"):
        client(needed)
    with ExitStack() as stack:

        def gunicorn(written: str, *options: str) -> Server:
            (tmp_path / "my_app.py").write_text(written)
            command = [sys.executable, "-m", "gunicorn", "my_app:app", "-k", "gevent", "-w", "2", *options]
            command += ["-b", "127.0.0.1:0", "--no-control-socket", "--graceful-timeout", "1"]
            process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
            stack.callback(process.communicate, timeout=60)
            stack.callback(process.terminate)
            assert process.stderr
            ports = (re.search(r"Listening at: http://127.0.0.1:(\d+)", line) for line in process.stderr)
            return Server(process, int(next(filter(None, ports))[1]))

        yield gunicorn


def check(server: Server) -> None:
    for count in (1, 2, 300):
        status, answer = server.ask("/predict", {"inputs": [["I like you."]] * count})
        assert (status, len(answer)) == (200, count)
        assert all(each == answer[0] for each in answer)
        assert [each["label"] for each in answer[0]] == ["POSITIVE", "NEGATIVE"]


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
def test_pipelines_answer_under_gunicorn_with_gevent(gunicorn: Callable[..., Server], options: tuple[str, ...]) -> None:
    check(gunicorn(LIBRARY, *options))


def test_the_service_answers_under_gunicorn_with_gevent(gunicorn: Callable[..., Server]) -> None:
    check(gunicorn(SERVICE))


def test_the_service_says_so_where_threads_become_greenlets_after_it_was_loaded(
    gunicorn: Callable[..., Server],
) -> None:
    server = gunicorn(SERVICE, "--preload")
    for path in ("/predict", "/health"):
        status, answer = server.ask(path, {"inputs": "I like you."} if path == "/predict" else None)
        assert status == 503
        assert "threads were replaced after npdistil was imported" in answer["error"]
