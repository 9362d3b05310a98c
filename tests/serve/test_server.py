"""The socket's side: what HTTP allows, what attackers send, how many connect, and how it ends."""

import asyncio
import base64
import concurrent.futures
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_client import COMMAND, Server, running

from npdistil.serve.server import Connection

BODY = b'{"inputs": "good"}'
POST = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n" % len(BODY)
GET = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def sent(server: Server, *pieces: bytes) -> bytes:
    """What comes back until the service ends the connection; each piece goes out by itself."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        for piece in pieces:
            with suppress(ConnectionError):  # it was sent away
                sock.sendall(piece)
            time.sleep(0.05)
        got = bytearray()
        with suppress(ConnectionError):
            while piece := sock.recv(65536):
                got += piece
    return bytes(got)


def statuses(answers: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


CLOSE = b"connection: close\r\n\r\n"


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0, h2c"])
def test_an_upgrade_that_is_offered_is_ignored_and_no_body_becomes_a_request(server: Server, upgrade: bytes) -> None:
    hidden = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: %b\r\nhttp2-settings: AAMAAABk\r\n" % upgrade
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n%b\r\n" % (len(hidden), offer)
    for pieces in ((head, hidden), (head + hidden,), (head[:60], head[60:] + hidden[:9], hidden[9:])):
        assert statuses(sent(server, *pieces, GET + CLOSE)) == [400, 200]  # no JSON; the connection goes on
    assert statuses(sent(server, POST + offer + b"\r\n", BODY, GET + CLOSE)) == [200, 200]
    assert (
        statuses(sent(server, POST + offer + b"\r\n" + BODY + POST + offer + b"\r\n" + BODY + GET + CLOSE)) == [200] * 3
    )
    chunked = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n" + offer + b"\r\n"
    assert statuses(sent(server, chunked, b"12\r\n" + BODY + b"\r\n0\r\n\r\n", GET + CLOSE)) == [200, 200]
    closing = POST + b"connection: close, upgrade\r\nupgrade: %b\r\n\r\n" % upgrade
    assert statuses(sent(server, closing, BODY, GET + CLOSE)) == [200]


def test_requests_of_one_piece_are_answered_in_order_up_to_what_is_not_one(server: Server) -> None:
    answers = sent(server, (POST + b"\r\n" + BODY + GET + b"\r\n") * 20 + b"NONSENSE\r\n\r\n")
    assert statuses(answers) == [200, 200] * 20
    assert answers.count(b"POSITIVE") == 20
    assert statuses(sent(server, b"NONSENSE\r\n\r\n")) == [400]


def test_thousands_of_requests_in_one_piece_take_no_more_memory_than_they_are_long() -> None:
    with running() as server:
        assert statuses(sent(server, (GET + b"\r\n") * 3000 + GET + CLOSE)) == [200] * 3001
        before = peak(server)
        flooding = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(40)]
        for each in flooding:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.sendall(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n" * 8000)
        for each in flooding:
            each.setblocking(True)
            assert each.recv(1) == b"H"
            each.close()
        assert peak(server) - before < 80e6


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
        b"GET /health HTTP/1.0\r\nhost: localhost\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n" + BODY,
        POST + b"content-length: 3\r\n\r\n" + BODY,
        b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\na b: c\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=lambda head: repr(head[:60]),
)
def test_what_is_not_http_is_refused(server: Server, head: bytes) -> None:
    assert statuses(sent(server, head)) == [400]


def test_http_1_0_needs_no_host_and_gets_one_answer(server: Server) -> None:
    assert statuses(sent(server, b"GET /health HTTP/1.0\r\n\r\n")) == [200]


def test_a_request_may_name_its_host_twice(server: Server) -> None:
    for host in (b"localhost", b"localhost:80", b"[::1]", b"[::1]:8080"):
        assert statuses(sent(server, b"GET http://%b/health HTTP/1.1\r\nhost: %b\r\n" % (host, host) + CLOSE)) == [200]


def test_what_follows_a_body_is_no_header() -> None:
    """A proxy that checks heads does not see it."""
    with running(environment={"NPDISTIL_TOKEN": "secret"}) as server:
        head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n%b\r\n"
        body = b"12\r\n" + BODY + b"\r\n0\r\n%b\r\n"
        known = b"authorization: Bearer secret\r\n"
        assert statuses(sent(server, head % known + body % b"")) == [200]
        assert statuses(sent(server, head % b"" + body % known)) == [401]


def test_a_head_gets_a_head_and_who_asks_to_continue_may(server: Server) -> None:
    answer = sent(server, b"HEAD / HTTP/1.1\r\nhost: localhost\r\n" + CLOSE)
    assert int(re.findall(rb"content-length: (\d+)", answer)[0]) > 500
    assert answer.endswith(b"\r\n\r\n")
    answer = sent(server, POST + b"expect: 100-continue\r\nconnection: close\r\n\r\n", BODY)
    assert statuses(answer) == [100, 200]


def test_a_body_that_follows_another_in_a_large_piece_is_no_large_head(server: Server) -> None:
    body = b" " * 200_000 + BODY
    large = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    assert statuses(sent(server, large + GET[:20], GET[20:] + CLOSE)) == [200, 200]


def test_a_body_that_nobody_wants_is_not_read(server: Server) -> None:
    head = b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(head)
        assert sock.recv(65536).startswith(b"HTTP/1.1 404")
        try:
            for _ in range(10_000):  # the service reads on for a second, and this waits whenever it does not read
                sock.sendall(b"x" * 65536)
                time.sleep(0.01)
        except ConnectionError:
            return
    raise AssertionError("all of the body was read")


def test_a_body_in_a_content_encoding_is_refused_by_name(server: Server) -> None:
    status, answer = server.ask("/predict", BODY, headers={"content-encoding": "gzip"})
    assert (status, answer["error"]) == (415, "the body is in the content-encoding gzip; expected none")
    assert server.ask("/predict", BODY, headers={"content-encoding": "identity"})[0] == 200


def test_a_page_whose_host_leads_to_this_machine_reads_nothing(server: Server) -> None:
    """DNS rebinding: its requests are of one origin with the service, and say so; but they are for its own host."""
    evil = {"host": f"evil.example:{server.port}", "sec-fetch-site": "same-origin"}
    for path, body in (("/predict", BODY), ("/metrics", None), ("/info", None), ("/", None)):
        status, answer = server.ask(path, body, headers=evil)
        assert (status, answer["error_type"]) == (403, "Forbidden"), path
    for host in ("[localhost]evil.example", "localhost:evil.example", "localhost, evil.example", "[::1"):
        assert server.ask("/predict", BODY, headers={"host": host})[0] == 403, host
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8080"):
        assert server.ask("/predict", BODY, headers={"host": host})[0] == 200, host


def test_hosts_of_a_proxy_can_be_allowed_and_any_is_where_all_addresses_are_served() -> None:
    for options in (("--allow-host", "Models.example"), ("--host", "0.0.0.0")):
        with running(*options) as server:
            assert server.ask("/predict", BODY, headers={"host": "models.example"})[0] == 200
            assert server.ask("/predict", BODY)[0] == 200
            others = server.ask("/predict", BODY, headers={"host": "evil.example"})[0]
            assert others == (200 if "--host" in options else 403)


def test_an_origin_may_end_in_a_slash_and_has_to_be_one() -> None:
    with running("--allow-origin", "HTTPS://A.example/") as server:
        connection = server.connect()
        connection.request("POST", "/predict", BODY, {"origin": "https://a.example"})
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        connection.close()


def test_more_connections_than_files_are_no_trouble() -> None:
    with running(files=256) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(600)]
        began = time.monotonic()
        while time.monotonic() - began < 3:
            assert server.ask("/predict", BODY)[0] == 200
        for sock in idle:
            sock.close()
        server.process.terminate()
        assert server.process.stderr
        assert server.process.stderr.read().count("\n") <= 3


def test_the_connection_that_has_rested_longest_makes_place_and_none_that_is_answered() -> None:
    with running("--max-connections", "3", "--timeout", "120") as server:
        busy = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(3)]
        for each in busy:
            each.sendall(POST + b"expect: 100-continue\r\n\r\n")
            assert each.recv(1000).startswith(b"HTTP/1.1 100")  # it is being answered
        with suppress(ConnectionError):
            assert sent(server, GET + CLOSE).startswith(b"HTTP/1.1 503")
        for each in busy:
            each.sendall(BODY)
            assert each.recv(1000).startswith(b"HTTP/1.1 200")
        assert server.ask("/health")[0] == 200  # in the place of the first
        for each in busy[1:]:
            each.sendall(GET + CLOSE)
            assert each.recv(1000).startswith(b"HTTP/1.1 200")
            each.close()
        assert busy[0].recv(1000) == b""
        busy[0].close()


def test_who_comes_too_early_is_told_when_to_come_again() -> None:
    with running("--max-queue-tokens", "500", "--max-request-tokens", "500", "--gather-ms", "100") as server:

        def ask(_: int) -> tuple[int, str | None]:
            connection = server.connect()
            connection.request("POST", "/predict", json.dumps({"inputs": "good " * 400}))
            response = connection.getresponse()
            response.read()
            connection.close()
            return response.status, response.headers["retry-after"]

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            assert set(pool.map(ask, range(40))) == {(200, None), (429, "1")}


def test_refused_texts_do_not_take_the_memory_that_their_tokens_would() -> None:
    with running() as server:
        server.ask("/predict", BODY)
        before = peak(server)
        body = json.dumps({"inputs": "a " * 499_000}).encode()
        for path in ("/predict", "/tokenize"):
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                answers = [*pool.map(lambda _, path=path: server.ask(path, body), range(12))]
            assert {status for status, _ in answers} == {413}
            assert {answer["error_type"] for _, answer in answers} == {"Validation"}
        assert peak(server) - before < 200e6


def test_the_tokenizer_takes_no_threads_for_a_few_short_texts() -> None:
    with running() as server:
        tasks = Path(f"/proc/{server.process.pid}/task")
        assert server.ask("/predict", BODY)[0] == 200
        before = {*tasks.iterdir()}
        for path, body in (("/predict", [["good"]] * 8), ("/embed", ["good"] * 8), ("/tokenize", ["good"] * 8)):
            assert server.ask(path, {"inputs": body})[0] == 200
        assert {*tasks.iterdir()} == before


def peak(server: Server) -> int:
    """Bytes of memory that it has had at most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_a_client_that_leaves_while_its_text_is_tokenised_makes_no_place_for_another() -> None:
    with running() as server:
        body = json.dumps({"inputs": ["good " * 12_000] * 8}).encode()
        tasks = Path(f"/proc/{server.process.pid}/task")
        server.ask("/tokenize", body)  # after which there are all threads that it takes
        before = len([*tasks.iterdir()])
        for _ in range(30):
            connection = server.connect()
            connection.request("POST", "/tokenize", body)
            time.sleep(0.02)
            connection.close()
        assert len([*tasks.iterdir()]) <= before
        assert server.ask("/predict", BODY)[0] == 200


def test_a_large_text_delays_small_ones_by_little() -> None:
    with running("--max-batch-tokens", "512", "--timeout", "600") as server:
        large = server.connect()
        large.request("POST", "/predict", json.dumps({"inputs": "the film is not bad and she lives in paris " * 4000}))
        while server.metric("npdistil_queue_tokens") < 1000:
            assert not select.select([large.sock], [], [], 0.01)[0], "it was refused"
        for _ in range(3):
            assert server.ask("/predict", BODY)[0] == 200
        assert not select.select([large.sock], [], [], 0)[0], "they waited for all of it"
        large.close()


def test_who_takes_a_large_answer_slowly_is_waited_for_and_who_takes_nothing_is_not() -> None:
    class Transport(asyncio.Transport):
        left, ended = 10_000_000, ""

        def get_write_buffer_size(self) -> int:
            return self.left

        def abort(self) -> None:
            self.ended = "aborted"

        def close(self) -> None:
            self.ended = "closed"

    for steps, ended in (
        ([9_000_000, 5_000_000, 100, 0], ""),
        ([9_000_000, 8_999_000], "aborted"),
        ([100, 0, 0], "closed"),
    ):
        connection: Any = Connection(None)  # type: ignore[arg-type]
        connection.transport, connection.unsent = Transport(), Transport.left
        for step in steps:
            assert not connection.transport.ended
            connection.transport.left = step
            connection.expire()
        assert connection.transport.ended == ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_body_that_never_comes_does_not_keep_it_from_ending(number: signal.Signals) -> None:
    with (
        running("--timeout", "3600") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock,
    ):
        sock.sendall(POST + b"\r\n{")
        time.sleep(0.2)
        server.process.send_signal(number)
        server.process.wait(timeout=120)


def test_a_second_signal_ends_it_at_once() -> None:
    with running() as server:
        connection = server.connect()
        connection.request("POST", "/predict", json.dumps({"inputs": [["good " * 400]] * 150}))
        while not server.metric("npdistil_queue_tokens"):
            time.sleep(0.01)
        server.process.terminate()
        assert server.process.stderr
        assert server.process.stderr.readline().startswith("ending when what was accepted is answered")
        server.process.terminate()
        assert server.process.wait(timeout=120) == 128 + signal.SIGTERM
        connection.close()


def test_numbers_of_vectors_are_as_long_as_float32_needs(server: Server) -> None:
    connection = server.connect()
    connection.request("POST", "/embed", b'{"inputs": "good"}')
    content = connection.getresponse().read().decode()
    connection.close()
    numbers = content.strip("[]").split(",")
    assert max(len(number.replace(".", "").lstrip("-0").split("e")[0]) for number in numbers) <= 9
    _, coded = server.ask("/v1/embeddings", {"input": "good", "encoding_format": "base64"})
    exact = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(np.array(json.loads(content)[0], np.float32), exact)


def test_the_socket_of_systemd_may_be_of_a_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        )
        command = [COMMAND[0], "-c", start, str(listening.fileno()), *COMMAND[1:]]
        process = subprocess.Popen(command, pass_fds=[listening.fileno()], stderr=subprocess.DEVNULL, env=os.environ)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(str(tmp_path / "socket"))
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: any\r\n" + CLOSE)
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
    finally:
        process.kill()
        process.wait()
