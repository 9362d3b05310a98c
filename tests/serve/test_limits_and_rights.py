"""Every setting of the service: a value that shows in an answer, beside the answer without it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import npdistil
from npdistil.batch import Inputs, Outputs
from npdistil.errors import InputError
from npdistil.serve.app import make_app
from npdistil.serve.settings import Settings

TEXT = "I love it very much."  # of 8 tokens
MANY = {"inputs": [[TEXT]] * 6}
HEADERS = {"host": "localhost", "content-type": "application/json"}


@pytest.fixture(scope="module")
def model() -> npdistil.Model:
    return npdistil.load(engine="numpy", threads=1)


def ask(app: Any, path: str, data: Any = None, *, body_comes: bool = True, **headers: str) -> tuple[int, Any, Any]:
    """Status, headers and content of an application's answer."""
    sent: list[Any] = []
    body = b"" if data is None else json.dumps(data).encode()
    messages = [{"type": "http.request", "body": body}] if body_comes else []
    given = [(name.encode(), value.encode()) for name, value in (HEADERS | headers).items()]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET" if data is None else "POST",
        "path": path,
        "headers": given,
    }
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "server": ("x", 80), "http_version": "1.1"}

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(each.get("body", b"") for each in sent[1:])


def status(path: str, data: Any = None, **given: Any) -> Callable[[Any], Any]:
    return lambda app: ask(app, path, data, **given)[0]


def told(name: str) -> Callable[[Any], Any]:
    """What /info says."""
    return lambda app: json.loads(ask(app, "/info")[2])[name]


def largest_batch(app: Any) -> int:
    """Tokens that ran together, of a request with more."""
    sizes = []
    batcher = app.state.service.batcher
    forward = batcher.alone

    def counted(inputs: Inputs) -> Outputs:
        sizes.append(sum(map(len, inputs.token_ids)))
        return forward(inputs)

    batcher.forward = batcher.alone = counted
    assert ask(app, "/predict", MANY)[0] == 200
    return max(sizes)


def while_others_wait(app: Any) -> int:
    """The status of a request while 100 tokens are in the queue."""
    app.state.service.batcher.tokens = 100
    return ask(app, "/predict", {"inputs": TEXT})[0]


# Setting -> the value, what is asked, and the answers by default and with the value.
SHOWS: dict[str, tuple[Any, Any, Any, Any]] = {
    "max_batch_tokens": (16, largest_batch, 48, 16),
    "max_queue_tokens": (104, while_others_wait, 200, 429),
    "max_request_tokens": (40, status("/predict", MANY), 200, 413),
    "max_request_texts": (5, status("/predict", MANY), 200, 413),
    "max_body_bytes": (50, status("/predict", MANY), 200, 413),
    "max_connections": (7, told("max_concurrent_requests"), 1024, 7),
    "gather_ms": (2.5, lambda app: app.state.service.batcher.gather_seconds, 0.0, 0.0025),
    "timeout": (0.01, status("/predict", MANY, body_comes=False), None, 408),
    "served_model_name": ("mine", told("model_id"), "minilm-l6-sst2", "mine"),
    "access_log": (True, status("/predict", {"inputs": TEXT}), 200, 200),  # and a line of JSON, below
    "trace": (True, None, None, None),  # test_observed.py has its spans
    "allow_origin": (
        ["https://a.example"],
        lambda app: ask(app, "/info", origin="https://a.example")[1].get(b"access-control-allow-origin"),
        None,
        b"https://a.example",
    ),
    "allow_host": (["mine.example"], status("/info", host="other.example"), 200, 403),
    "token": ("secret", status("/info"), 200, 401),
}
BESIDE: dict[str, dict[str, Any]] = {"max_queue_tokens": {"max_request_tokens": 104}}


def test_no_setting_of_the_service_is_left_out_here() -> None:
    assert [*SHOWS] == [each.name for each in fields(Settings)]


@pytest.mark.parametrize("name", [name for name in SHOWS if name != "trace"])
def test_a_setting_of_the_service_shows_in_an_answer(
    model: npdistil.Model, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value, asked, before, after = SHOWS[name]
    if before is not None or name == "allow_origin":
        assert asked(make_app(model, Settings())) == before
        assert capsys.readouterr().out == ""
    assert asked(make_app(model, Settings(**{name: value}, **BESIDE.get(name, {})))) == after
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ([200] if name == "access_log" else [])


def refusal(name: str, value: Any) -> str:
    """What is wrong with a value; "" where it is taken."""
    try:
        Settings(**{name: value})
    except InputError as error:
        return str(error)
    return ""


EXTREMES: list[Any] = [0, -1, 0.5, 10**30, float("inf"), float("nan"), "", "x", "\ud800", "*", [], ["x"], [1], {}]


@pytest.mark.parametrize("name", SHOWS)
def test_no_value_of_a_setting_of_the_service_is_a_raw_error(name: str) -> None:
    for said in (refusal(name, value) for value in EXTREMES):
        assert not said or name in said


@pytest.mark.parametrize(
    "host",
    ["", " ", "https://mine.example", "mine.example/", "mine.example:80", "[::1]", "a b", "user@mine.example", "*"],
)
def test_a_host_that_no_request_can_be_for_is_refused(host: str) -> None:
    assert "without scheme, port and brackets" in refusal("allow_host", [host])


def test_hosts_by_name_and_address_are_taken() -> None:
    assert not refusal("allow_host", ["mine.example", "localhost", "127.0.0.1", "::1", "fe80::1"])


def test_bodies_that_are_held_have_a_bound_together(model: npdistil.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npdistil.serve.app.IN_ALL", 300)
    app = make_app(model, Settings(max_body_bytes=200))
    service = app.state.service
    for others, expected in ((0, 200), (250, 200), (299, 429), (0, 200)):
        service.held = others
        status, headers, content = ask(app, "/predict", {"inputs": TEXT})
        assert (status, service.held) == (expected, others)
        if status == 429:
            assert headers[b"retry-after"] == b"1"
            assert "bytes of requests are held already" in json.loads(content)["error"]
    service.batcher.stop()
