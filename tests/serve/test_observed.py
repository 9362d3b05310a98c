"""What operators see of requests: numbers, the log, spans; and that options do what they say."""

import asyncio
import importlib.util
import json
import re
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_client import ask, running

import npdistil
from npdistil.cli.serve import add_options
from npdistil.errors import InputError, MissingExtraError
from npdistil.serve import tracing
from npdistil.serve.app import make_app
from npdistil.serve.settings import Settings

GOOD = {"inputs": "very private"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def model() -> npdistil.Model:
    return npdistil.load(engine="numpy")


def test_a_line_of_json_for_each_request_tells_what_it_took_and_none_of_its_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running("--access-log", "--token-file", str(_written(tmp_path / "token", "secret")), stdout=log) as server:
        known = {"authorization": "Bearer secret"}
        server.ask("/predict?very=private", GOOD, headers=known | {"x-request-id": "mine"})
        server.ask("/predict", {"inputs": 7}, headers=known)
        server.ask("/predict", GOOD)
        server.ask("/very/private", headers=known)
        server.ask("/health")
    content = log.read_text()
    assert "private" not in content
    assert "secret" not in content
    lines = [*map(json.loads, content.splitlines())]
    assert [(each["method"], each["path"], each["status"]) for each in lines] == [
        ("POST", "/predict", 200),
        ("POST", "/predict", 422),
        ("POST", "/predict", 401),
        ("GET", None, 404),
        ("GET", "/health", 200),
    ]
    assert lines[0]["id"] == "mine"
    assert lines[0]["client"] == "127.0.0.1"
    assert lines[0]["tokens"] == 4
    assert lines[0]["ms"] >= lines[0]["inference_ms"] > 0
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", each["time"]) for each in lines)


def test_where_the_log_takes_no_lines_requests_are_answered_and_that_is_said() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with running("--access-log", stdout=Path("/dev/full")) as server:
        assert [server.ask("/health")[0] for _ in range(3)] == [200] * 3
        assert server.process.stderr
        assert (
            server.process.stderr.readline()
            == "npdistil: 1 lines of the access log are lost: No space left on device\n"
        )


def _written(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.mark.parametrize("bad", ["", " ", "a b", "a\tb", "caf\xe9", "x" * 129, "a\x7f"])
def test_a_request_id_that_could_forge_a_header_or_a_line_is_replaced(bad: str) -> None:
    with running() as server:
        for given, kept in ((bad, False), ("a-1", True), ("x" * 128, True), ('"},{', True)):
            connection = server.connect()
            connection.putrequest("GET", "/health")
            connection.putheader("x-request-id", given.encode("latin-1"))
            connection.endheaders()
            response = connection.getresponse()
            response.read()
            connection.close()
            if response.status == 400:  # a control character is no HTTP
                continue
            (number,) = response.headers.get_all("x-request-id", [])
            assert number == given if kept else re.fullmatch(r"[0-9a-f]{32}", number), given


def test_numbers_of_requests_differ(model: npdistil.Model) -> None:
    numbers: set[str] = set()
    app = make_app(model)

    async def one() -> None:
        async def send(message: Any) -> None:
            for name, value in message.get("headers", ()):
                if name == b"x-request-id":
                    numbers.add(value.decode())

        scope = {"type": "http", "method": "GET", "path": "/openapi.json", "headers": [], "root_path": ""}
        await app(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]

    for _ in range(20):
        asyncio.run(one())
    assert len(numbers) == 20


@pytest.fixture(scope="module")
def spans() -> Iterator[Any]:
    """What is exported; the process has one provider, as the packages have it."""
    if not importlib.util.find_spec("opentelemetry") or not importlib.util.find_spec("opentelemetry.sdk"):
        pytest.skip("needs opentelemetry-sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


def test_a_request_is_a_span_of_the_trace_that_it_names(model: npdistil.Model, spans: Any) -> None:
    app = make_app(model, Settings(trace=True))
    spans.clear()
    headers = [(b"traceparent", PARENT.encode()), (b"tracestate", b"a=b")]
    assert asyncio.run(ask(app, "/predict", GOOD, headers=headers))[0] == 200
    assert asyncio.run(ask(app, "/predict", {"inputs": 7}, headers=[(b"traceparent", b"nonsense")]))[0] == 422
    assert asyncio.run(ask(app, "/very/private"))[0] == 404
    app.state.service.batcher.stop()
    first, second, third = spans.get_finished_spans()
    assert first.name == "POST /predict"
    assert f"{first.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{first.parent.span_id:016x}" == PARENT.split("-")[2]
    assert first.context.trace_state["a"] == "b"
    told = dict(first.attributes)
    assert (told["http.route"], told["http.request.method"], told["http.response.status_code"]) == (
        "/predict",
        "POST",
        200,
    )
    assert told["npdistil.tokens"] == 4
    parts = [told[f"npdistil.{name}_ms"] for name in ("tokenization", "queue", "inference")]
    assert min(parts) >= 0
    assert sum(parts) <= (first.end_time - first.start_time) / 1e6
    assert (second.parent, second.attributes["http.response.status_code"]) == (None, 422)
    assert (third.name, "http.route" in third.attributes) == ("GET", False)
    assert "private" not in "".join(each.to_json() for each in (first, second, third))


def test_without_the_option_there_is_no_span(model: npdistil.Model, spans: Any) -> None:
    app = make_app(model)
    spans.clear()
    assert asyncio.run(ask(app, "/predict", GOOD, headers=[(b"traceparent", PARENT.encode())]))[0] == 200
    app.state.service.batcher.stop()
    assert spans.get_finished_spans() == ()


def test_tracing_that_is_not_installed_is_named_and_so_is_an_exporter(
    model: npdistil.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"npdistil\[trace\]"):
            make_app(model, Settings(trace=True))
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nowhere")
    with pytest.raises(InputError, match="'nowhere', which is not installed; there are .*console"):
        tracing._provider()


def test_a_service_that_ends_has_sent_its_spans(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")
    out = tmp_path / "spans"
    with running("--trace", environment={"OTEL_TRACES_EXPORTER": "console"}, stdout=out) as server:
        assert server.ask("/predict", GOOD)[0] == 200
        server.process.terminate()
        server.process.wait(120)
    span = json.loads(out.read_text())
    assert (span["name"], span["resource"]["attributes"]["service.name"]) == ("POST /predict", "npdistil")
    assert "private" not in out.read_text()


def test_options_that_no_other_test_gives_are_taken_and_told() -> None:
    with running(
        "--gather-ms", "2.5", "--precision", "float32", "--threads", "1", "--served-model-name", "mine"
    ) as server:
        assert server.ask("/predict", GOOD)[0] == 200
        _, info = server.ask("/info")
        assert (info["model_dtype"], info["threads"], info["model_id"]) == ("float32", 1, "mine")


def test_every_option_shows_in_a_test_of_the_service() -> None:
    parser = ArgumentParser()
    add_options(parser, "serve")
    options = {name for action in parser._actions for name in action.option_strings if name.startswith("--")}
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    tests += Path(sys.modules["service_client"].__file__ or "").read_text()
    missing = {name for name in options - {"--help"} if f'"{name}"' not in tests}
    assert len(options) > 15
    assert not missing


def test_while_a_large_answer_is_written_a_small_request_is_answered(
    model: npdistil.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from npdistil.serve import app as module

    events: list[str] = []
    made = module.pieces

    def watched(data: Any) -> Iterator[str]:
        monkeypatch.setattr(module, "pieces", made)  # which calls itself
        events.append("begun")
        yield from made(data)
        events.append("written")

    async def scenario() -> None:
        large = asyncio.create_task(ask(app, "/embed_all", {"inputs": ["good " * 100] * 6}))
        while "begun" not in events:
            await asyncio.sleep(0)
        assert (await ask(app, "/info"))[0] == 200
        events.append("small")
        status, answer = await large
        assert status == 200
        assert [len(each) for each in answer] == [102] * 6
        right = (await ask(app, "/embed_all", {"inputs": "good " * 100}))[1]
        assert answer == right * 6

    app = make_app(model)
    monkeypatch.setattr(module, "pieces", watched)
    asyncio.run(scenario())
    app.state.service.batcher.stop()
    assert events == ["begun", "small", "written"]


def test_the_event_loop_does_not_wait_for_large_bodies_or_lists_of_many_tokens(
    model: npdistil.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from npdistil.serve import app as reading
    from npdistil.serve import service as listing

    ran: list[tuple[str, bool]] = []
    for module, name in ((reading, "read"), (listing, "_tokens")):
        made = getattr(module, name)

        def watched(*given: Any, made: Any = made, name: str = name) -> Any:
            ran.append((name, threading.current_thread() is not threading.main_thread()))
            return made(*given)

        monkeypatch.setattr(module, name, watched)
    app = make_app(model)
    for text, beside in (("good", False), ("good " * 4000, True)):
        ran.clear()
        assert asyncio.run(ask(app, "/tokenize", {"inputs": text}))[0] == 200
        assert ran == [("read", beside), ("_tokens", beside)]
    app.state.service.batcher.stop()


def test_json_in_pieces_is_what_it_is_at_once(model: npdistil.Model) -> None:
    import numpy as np

    from npdistil.serve.app import AT_ONCE, ENCODER, pieces

    rng = np.random.default_rng(0)
    for data in (
        {"a": [1, None, "\u00e9"], "b": rng.normal(size=(7, 3, AT_ONCE // 2)).astype(np.float32), "c": {}},
        [[], {"x": "y"}, [*range(2 * AT_ONCE)], rng.normal(size=2 * AT_ONCE).astype(np.float32)],
        {str(i): [i] * 3 for i in range(AT_ONCE)},
        np.zeros((AT_ONCE, 2)),
        "x" * 3 * AT_ONCE,
        [],
    ):
        assert "".join(pieces(data)) == ENCODER.encode(data)
    with pytest.raises(ValueError, match="JSON"):
        "".join(pieces([float("nan")] * 2 * AT_ONCE))
