"""The service: what it answers, what it refuses, and what it does when clients misbehave."""

import base64
import concurrent.futures
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_client import COMMAND, Server, running

import npdistil
from npdistil import Embedder
from npdistil.serve.server import _bound

TEXTS = [
    "I like you. I love you.",
    "A bore from start to end.",
    "Not bad at all.",
    "Caf\u00e9 \u6771\u4eac \U0001f44d",
    "",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running("--max-request-texts", "8", "--max-request-tokens", "2000", "--max-body-bytes", "20000") as server:
        yield server


@pytest.fixture(scope="module")
def model() -> npdistil.Model:
    return npdistil.load(engine="numpy")


def test_predict_gives_every_label_of_a_text_best_first(server: Server, model: npdistil.Model) -> None:
    classify = npdistil.pipeline("text-classification", model, top_k=None)
    for text in TEXTS:
        status, answer = server.ask("/predict", {"inputs": text})
        assert (status, answer) == (200, classify([text])[0]), text


def test_predict_reads_a_list_of_two_as_a_pair_and_lists_in_a_list_as_a_batch(
    server: Server, model: npdistil.Model
) -> None:
    classify = npdistil.pipeline("text-classification", model, top_k=None)
    a, b = "How was it?", "A bore."
    pair = classify([{"text": a, "text_pair": b}])[0]
    assert server.ask("/predict", {"inputs": [a, b]}) == (200, pair)
    assert server.ask("/predict", {"inputs": [a]}) == (200, classify([a])[0])
    assert server.ask("/predict", {"inputs": [[a], [b], [a, b]]}) == (200, [*classify([a, b]), pair])


def test_raw_scores_are_logits(server: Server, model: npdistil.Model) -> None:
    _, answer = server.ask("/predict", {"inputs": TEXTS[0], "raw_scores": True})
    logits = model.logits([model.tokenizer.encode(TEXTS[0]).ids])[0].astype(float)
    assert {each["label"]: each["score"] for each in answer} == dict(zip(model.config.labels, logits, strict=True))


def test_a_long_text_is_read_in_windows_unless_it_is_to_be_truncated(server: Server, model: npdistil.Model) -> None:
    text = "good " * 600 + "bad " * 300
    for truncate, long_text in ((False, "windows"), (True, "truncate")):
        _, answer = server.ask("/predict", {"inputs": text, "truncate": truncate})
        expected = model.scores([text], long_text=long_text)[0]
        assert {each["label"]: each["score"] for each in answer} == dict(
            zip(model.config.labels, expected, strict=True)
        )


def test_the_hosted_form_gives_as_many_labels_as_asked_for(server: Server, model: npdistil.Model) -> None:
    classify = npdistil.pipeline("text-classification", model)
    text = TEXTS[1]
    assert server.ask("/", {"inputs": text, "parameters": {}}) == (200, classify([text], top_k=None))
    parameters = {"top_k": 1, "function_to_apply": "sigmoid"}
    expected = classify([text, text], top_k=1, function_to_apply="sigmoid")
    assert server.ask("/", {"inputs": [text, text], "parameters": parameters}) == (200, expected)


def test_embed_gives_the_vectors_of_the_embedder(server: Server, model: npdistil.Model) -> None:
    texts = TEXTS[:2]
    for normalize in (True, False):
        vectors = Embedder(model, normalize=normalize).fit_transform(texts)
        status, answer = server.ask("/embed", {"inputs": texts, "normalize": normalize})
        assert status == 200
        np.testing.assert_array_equal(np.array(answer, np.float32), vectors)


def test_embeddings_in_openais_form_are_the_same_as_numbers_and_as_base64(
    server: Server, model: npdistil.Model
) -> None:
    vector = Embedder(model, normalize=True).fit_transform(TEXTS[:1])[0]
    _, plain = server.ask("/v1/embeddings", {"input": TEXTS[0], "model": "any"})
    _, coded = server.ask("/v1/embeddings", {"input": [TEXTS[0]], "encoding_format": "base64"})
    np.testing.assert_array_equal(np.array(plain["data"][0]["embedding"], np.float32), vector)
    assert base64.b64decode(coded["data"][0]["embedding"]) == vector.astype("<f4").tobytes()
    tokens = len(model.tokenizer.encode(TEXTS[0]).ids)
    assert plain["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_tokenize_tells_tokens_and_where_they_stand(server: Server) -> None:
    _, answer = server.ask("/tokenize", {"inputs": "Not bad"})
    assert answer == [
        [
            {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None},
            {"id": 2025, "text": "Not", "special": False, "start": 0, "stop": 3},
            {"id": 2919, "text": "bad", "special": False, "start": 4, "stop": 7},
            {"id": 102, "text": "[SEP]", "special": True, "start": None, "stop": None},
        ]
    ]
    _, bare = server.ask("/tokenize", {"inputs": ["Not bad"], "add_special_tokens": False})
    assert bare == [answer[0][1:3]]


def test_explain_gives_what_explain_gives(server: Server, model: npdistil.Model) -> None:
    for method in ("occlusion", "shapley"):
        expected = npdistil.explain(model, TEXTS[2], "NEGATIVE", method=method, attention=True)
        data = {"inputs": TEXTS[2], "label": "NEGATIVE", "method": method, "attention": True}
        status, answer = server.ask("/explain", data)
        attention = answer.pop("attention")
        assert (status, answer) == (200, expected.as_dict())
        assert expected.attention is not None
        assert attention["shape"] == list(expected.attention.shape)


def test_info_health_metrics_and_the_page_are_there(server: Server) -> None:
    assert server.ask("/health")[0] == 200
    info = server.ask("/info")[1]
    assert info["model_id"] == "minilm-l6-sst2"
    assert info["model_type"]["classifier"]["id2label"] == {"0": "NEGATIVE", "1": "POSITIVE"}
    assert "<title>npdistil</title>" in server.ask("/")[1]
    before = server.metric('npdistil_requests_total{endpoint="/predict",status="200"}')
    texts, tokens = server.metric("npdistil_texts_total"), server.metric("npdistil_tokens_total")
    server.ask("/predict", {"inputs": [["not bad"], ["bad"]]})
    assert server.metric('npdistil_requests_total{endpoint="/predict",status="200"}') == before + 1
    assert server.metric("npdistil_texts_total") == texts + 2
    assert server.metric("npdistil_tokens_total") == tokens + 7


def test_every_answer_tells_browsers_to_do_no_more_than_the_page_needs(server: Server) -> None:
    connection = server.connect()
    for path in ("/", "/health", "/nothing"):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "access-control-allow-origin" not in response.headers
    connection.close()


@pytest.mark.parametrize(
    ("path", "data", "status", "message"),
    [
        ("/predict", b"", 400, "not JSON"),
        ("/predict", b'{"inputs": ', 400, "not JSON"),
        ("/predict", b'{"inputs": "\xff"}', 400, "not JSON in UTF-8"),
        ("/predict", b'{"inputs": NaN}', 400, "NaN is not JSON"),
        ("/predict", b"[" * 1500, 400, "not JSON"),
        ("/predict", b'{"inputs": ' + b"[" * 5000, 413, "5001 commas and opening brackets; at most 2032"),
        ("/vertex", {"instances": [{"inputs": [["a"]] * 7}] * 200}, 413, "commas and opening brackets"),
        ("/predict", b"1" * 6000, 400, "a number of 6000 characters; at most 1000"),
        ("/predict", b'{"inputs": [0.%b]}' % (b"7" * 2000), 400, "a number of 2002 characters; at most 1000"),
        ("/predict", [], 422, "should be a JSON object"),
        ("/predict", {}, 422, "inputs is missing"),
        ("/predict", {"inputs": 3}, 422, "a pair"),
        ("/predict", {"inputs": []}, 400, "inputs is an empty list"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "a pair"),
        ("/predict", {"inputs": [["a"], "b"]}, 200, None),
        ("/predict", {"inputs": [["a"], 3]}, 422, "a pair"),
        ("/predict", {"inputs": "a", "truncate": "yes"}, 422, "truncate is 'yes'; expected true or false"),
        ("/predict", b'{"inputs": "\\ud800"}', 422, "lone surrogate"),
        ("/predict", {"inputs": [["a"]] * 9}, 413, "9 texts; at most 8"),
        ("/predict", {"inputs": "a " * 2001}, 413, "at most 2000"),
        ("/predict", {"inputs": "a" * 20_001}, 413, "larger than 20000 bytes"),
        ("/", {"inputs": "a", "parameters": {"top_k": 0}}, 422, "top_k"),
        ("/", {"inputs": "a", "parameters": {"function_to_apply": "tanh"}}, 422, "function_to_apply"),
        ("/", {"inputs": "a", "parameters": 3}, 422, "expected an object"),
        ("/embed", {"inputs": [-3]}, 422, "list of token ids"),
        ("/embed", {"inputs": [101.0, 102]}, 200, None),
        ("/embed", {"inputs": [101.5, 102]}, 422, "list of token ids"),
        ("/decode", {"ids": [101.0, 10**400]}, 422, "the vocabulary has ids 0 to"),
        ("/decode", {"ids": [101.0]}, 200, None),
        ("/embed", {"inputs": []}, 400, "inputs is an empty list"),
        ("/tokenize", {"inputs": "a " * 2001}, 413, "at most 2000"),
        ("/tokenize", {"inputs": ["a"] * 9}, 413, "9 texts"),
        ("/explain", {"inputs": ["a"]}, 422, "expected a string"),
        ("/explain", {"inputs": "a", "label": "MAYBE"}, 422, "known are"),
        ("/explain", {"inputs": "a " * 600}, 422, "602 tokens"),
        ("/explain", {"inputs": "a " * 200}, 413, "in 202 variants of the text; at most 2000 a request"),
        ("/explain", {"inputs": "a " * 200, "attention": True}, 422, "attention is given for at most 128"),
        ("/predict/", {"inputs": "a"}, 404, "Not Found"),
        ("/nothing", {"inputs": "a"}, 404, "Not Found"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_requests_get_an_error_that_says_what_is_wrong(
    server: Server, path: str, data: Any, status: int, message: str | None
) -> None:
    found, answer = server.ask(path, data)
    assert found == status, answer
    if message is not None:
        assert message in answer["error"]
        assert isinstance(answer["error_type"], str)


def test_a_wrong_method_says_which_are_right(server: Server) -> None:
    connection = server.connect()
    connection.request("GET", "/predict")
    response = connection.getresponse()
    assert (response.status, response.headers["allow"]) == (405, "POST")
    assert "error" in json.loads(response.read())
    connection.close()


def test_a_body_of_100_mb_is_refused_before_it_is_sent(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000\r\n\r\n{")
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_is_cut_off_at_the_limit(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        sock.sendall(b"7530\r\n" + b"x" * 30_000 + b"\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_result_does_not_depend_on_who_else_asks(server: Server, model: npdistil.Model) -> None:
    rng = random.Random(0)
    words = "the a film is good bad very not great boring mess joy".split()
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(60)]
    alone = [npdistil.pipeline("text-classification", model, top_k=None)([text])[0] for text in texts]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda text: server.ask("/predict", {"inputs": text}), texts))
    assert answers == [(200, labels) for labels in alone]


def test_a_full_queue_answers_429_at_once_and_the_rest_is_answered() -> None:
    text = "good " * 60
    with running("--max-queue-tokens", "500", "--max-request-tokens", "500", "--gather-ms", "500") as server:
        right = server.ask("/predict", {"inputs": text})
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: server.ask("/predict", {"inputs": text}), range(80)))
        assert {status for status, _ in answers} == {200, 429}
        assert all(answer == right for answer in answers if answer[0] == 200)
        assert {answer["error_type"] for status, answer in answers if status == 429} == {"Overloaded"}
        assert server.metric("npdistil_queue_tokens") == 0
        assert server.ask("/predict", {"inputs": text}) == right


def test_a_client_that_goes_away_frees_its_place() -> None:
    with running("--max-batch-tokens", "500") as server:
        body = json.dumps({"inputs": [["good " * 400]] * 70}).encode()
        gone = server.connect()
        gone.request("POST", "/predict", body)
        while server.metric("npdistil_queue_tokens") < 10_000:
            time.sleep(0.01)
        gone.close()
        while server.metric("npdistil_queue_tokens"):
            time.sleep(0.05)
        assert server.metric("npdistil_texts_total") < 70, "all its texts were run"
        assert server.metric('npdistil_requests_total{endpoint="/predict",status="499"}') == 1


def test_slow_and_silent_clients_hinder_nobody_and_are_sent_away() -> None:
    with running("--timeout", "2") as server:
        slow = []
        for _ in range(250):
            sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            sock.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            silent = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            slow += [sock, silent]
        assert server.ask("/predict", {"inputs": "good"})[0] == 200
        for sock in slow[::2]:
            assert b"HTTP/1.1 408" in read_all(sock), "it was not answered and sent away"
        for sock in slow[1::2]:
            assert sock.recv(100) == b"", "a connection without a request is still open"
        for sock in slow:
            sock.close()
        assert server.ask("/health")[0] == 200


def read_all(sock: socket.socket) -> bytes:
    """Until the service ends the connection."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def test_a_head_without_an_end_is_refused(server: Server) -> None:
    for start in (b"GET /" + b"x" * 200_000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 40_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock, suppress(ConnectionError):
            sock.sendall(start)  # it is not read to its end
            assert read_all(sock).startswith(b"HTTP/1.1 400")
    assert server.ask("/health")[0] == 200


def test_a_client_that_has_said_all_it_has_to_say_is_answered(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        sock.sendall(b"GET /info HTTP/1.1\r\nhost: localhost\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).startswith(b"HTTP/1.1 200")


def test_sigterm_answers_what_was_accepted_and_then_ends() -> None:
    with running("--timeout", "600") as server:
        connections = [server.connect() for _ in range(20)]
        for connection in connections:
            connection.request("POST", "/predict", json.dumps({"inputs": [["good " * 60]] * 4}))
        while server.metric("npdistil_queue_texts") + server.metric("npdistil_texts_total") < 80:
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        for connection in connections:
            response = connection.getresponse()
            assert response.status == 200
            assert len(json.loads(response.read())) == 4
            connection.close()
        assert server.process.wait(timeout=120) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def test_after_kill_9_the_same_port_can_be_served_again() -> None:
    with running() as server:
        port = server.port
        server.ask("/predict", {"inputs": "good"})
        server.process.kill()
        server.process.wait()
        with pytest.raises(OSError, match="refused"):
            server.ask("/health")
        with running("--port", str(port)) as again:
            assert again.ask("/health")[0] == 200


def test_with_a_token_only_health_and_the_page_are_open(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    for options, environment in ((("--token-file", str(file)), {}), ((), {"NPDISTIL_TOKEN": "secret"})):
        with running(*options, environment=environment) as server:
            assert server.ask("/health")[0] == server.ask("/")[0] == server.ask("/page.js")[0] == 200
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
                status, answer = server.ask("/predict", {"inputs": "good"}, headers=headers)
                assert (status, answer["error_type"]) == (401, "Unauthorized")
                assert server.ask("/metrics", headers=headers)[0] == server.ask("/info", headers=headers)[0] == 401
            assert server.ask("/predict", {"inputs": "good"}, headers={"authorization": "Bearer secret"})[0] == 200


def test_pages_of_other_origins_may_use_it_only_where_allowed() -> None:
    with running("--allow-origin", "https://a.example", environment={"NPDISTIL_TOKEN": "secret"}) as server:
        for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
            connection = server.connect()
            wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
            connection.request("OPTIONS", "/predict", headers={"origin": origin, **wanted})
            response = connection.getresponse()
            response.read()
            assert response.headers.get("access-control-allow-origin") == allowed
            connection.close()


def test_pages_of_other_origins_cannot_make_it_work_either(server: Server) -> None:
    host = f"127.0.0.1:{server.port}"
    for origin, site, status in (
        ("https://b.example", None, 403),
        (f"http://{host}", None, 200),
        ("https://b.example", "cross-site", 403),
        ("https://behind-a-proxy.example", "same-origin", 200),
        ("null", "cross-site", 403),
    ):
        headers = {"origin": origin, "content-type": "text/plain"} | ({"sec-fetch-site": site} if site else {})
        found, answer = server.ask("/predict", {"inputs": "good"}, headers=headers)
        assert found == status, (origin, site, answer)


def test_no_text_is_ever_logged() -> None:
    with running() as server:
        for body in (b'{"inputs": "very private"}', b'{"inputs": "very private', b'{"inputs": {"very": "private"}}'):
            server.ask("/predict?very=private", body)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            sock.sendall(b"very private nonsense\r\n\r\n")
            sock.recv(1000)
        server.process.terminate()
        assert server.process.stderr
        assert "private" not in server.process.stderr.read()


def test_a_socket_that_was_handed_over_is_taken() -> None:
    """As systemd does it: the socket is file descriptor 3, LISTEN_FDS and LISTEN_PID say so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        )
        command = [sys.executable, "-c", start, str(listening.fileno()), *COMMAND[1:]]
        process = subprocess.Popen(command, pass_fds=[listening.fileno()], stderr=subprocess.PIPE, text=True)
    try:  # the kernel holds the connection until the service takes it
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        process.kill()
        process.communicate()


def test_connections_send_small_answers_at_once() -> None:
    """Else the second piece of an answer waits for the client's delayed acknowledgement: 40 ms a request."""
    with _bound("127.0.0.1", 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_page_leads_to_a_scored_request(server: Server) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    found = re.search(r"```sh\n(pip install [^\n]* && npdistil serve &)\n(curl .*?)\n```\n\n```json\n(.*?)\n```", page)
    assert found, "there is no example of the service"
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    command = found[2].replace("8080", str(server.port))  # installing is CI's part, and the port may be in use
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=True)
    assert re.fullmatch(re.escape(found[3]).replace(re.escape("..."), r"\d*"), done.stdout), done.stdout


def test_the_requests_of_those_who_come_from_text_embeddings_inference_are_answered(server: Server) -> None:
    page = (Path(__file__).parents[2] / "docs" / "from-text-embeddings-inference.md").read_text(encoding="utf-8")
    (theirs, ours) = re.findall(r"```sh\n(curl .*?)```", page, re.DOTALL)
    assert theirs == ours
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    command = ours.replace("curl ", "curl --silent --fail ").replace("8080", str(server.port))
    done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "POSITIVE" in done.stdout


REFUSED = [
    (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1"),
    (["--host", ""], "--host is empty"),
    (["--port", "99999"], "expected 0 to 65535"),
    (["--token-file", "/nonexistent"], "the token cannot be read"),
    (["--allow-origin", "a.example"], "expected * or an origin such as https://example.org"),
    (["--allow-origin", "https://a.example/page"], "expected * or an origin"),
    (["--max-connections", "0"], "--max-connections is 0"),
    (["--max-batch-tokens", "0"], "--max-batch-tokens is 0"),
    (["--timeout", "nan"], "--timeout is nan"),
    (
        ["--max-queue-tokens", "5", "--max-request-tokens", "9"],
        "--max-queue-tokens is 5; expected at least --max-request-tokens, 9",
    ),
    (["--model", "/nonexistent"], "/nonexistent"),
]
TOKENS = ["", " ", "two words", "caf\u00e9"]  # in the environment


def test_what_is_refused_at_the_start_is_one_line() -> None:
    """One after the other in a process, whose start takes long."""
    code = """
import json, os, sys
from npdistil.cli import main
refused, tokens = map(json.loads, sys.argv[1:])
for options in refused:
    assert main(["serve", "--port", "0", "--engine", "numpy", *options]) == 2
for os.environ["NPDISTIL_TOKEN"] in tokens:
    assert main(["serve", "--port", "0", "--engine", "numpy"]) == 2
"""
    options = json.dumps([options for options, _ in REFUSED])
    command = [sys.executable, "-c", code, options, json.dumps(TOKENS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    said = done.stderr.splitlines()
    messages = [message for _, message in REFUSED] + ["the token is empty, or has blanks"] * len(TOKENS)
    assert (done.returncode, len(said)) == (0, len(messages)), done.stderr
    for line, message in zip(said, messages, strict=True):
        assert message in line


def test_a_model_that_cannot_run_is_one_line_before_the_port_answers(make: Any) -> None:
    directory = make(tokenizer=None)
    done = subprocess.run([*COMMAND, "--model", directory], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "tokenizer" in done.stderr


def test_a_port_in_use_is_one_line(server: Server) -> None:
    done = subprocess.run(
        [*COMMAND, "--port", str(server.port)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"cannot listen on 127.0.0.1, port {server.port}" in done.stderr


def test_a_model_without_classes_embeds_and_says_what_it_cannot_do(make: Any) -> None:
    with running("--model", str(make(architectures=["DistilBertModel"]))) as server:
        assert len(server.ask("/embed", {"inputs": "good"})[1][0]) == 8
        for path in ("/predict", "/pipeline/text-classification", "/explain"):
            status, answer = server.ask(path, {"inputs": "good"})
            assert (status, answer["error_type"]) == (424, "Backend"), path
        assert "embedding" in server.ask("/info")[1]["model_type"]


def test_it_serves_without_home_from_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    process = subprocess.Popen(
        [*COMMAND], stderr=subprocess.PIPE, text=True, env=environment | {"HOME": "/nonexistent"}, cwd="/"
    )
    try:
        assert process.stderr
        lines = [process.stderr.readline() for _ in range(2)]
        assert lines[1].startswith("listening on "), lines
    finally:
        process.kill()
        process.communicate()
