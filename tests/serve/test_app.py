"""The application in servers of others: mounted, without a lifespan, after its end, and where no thread starts."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_client import ask
from starlette.applications import Starlette
from starlette.routing import Mount
from tokenizers import normalizers

import npdistil
from npdistil.batch import Inputs, Outputs
from npdistil.checkpoint.words import Words
from npdistil.serve.app import make_app
from npdistil.serve.settings import Settings


@pytest.fixture(scope="module")
def model() -> npdistil.Model:
    return npdistil.load(engine="numpy")


def test_it_can_be_mounted_and_asked_without_a_lifespan(model: npdistil.Model) -> None:
    right = npdistil.pipeline("text-classification", model, top_k=None)(["good"])[0]
    app = make_app(model, Settings(token="secret"))
    outer = Starlette(routes=[Mount("/ml", app)])
    known = [(b"authorization", b"Bearer secret")]

    async def both() -> None:
        assert (await ask(outer, "/ml/health"))[0] == 200
        assert await ask(outer, "/ml/predict", {"inputs": "good"}, headers=known) == (200, right)

    asyncio.run(both())
    # As a test client does it that is no context manager: each request has an event loop of its own.
    for _ in range(3):
        assert asyncio.run(ask(outer, "/ml/predict", {"inputs": "good"}, headers=known)) == (200, right)
    assert asyncio.run(ask(outer, "/ml/page.js"))[0] == 200
    assert asyncio.run(ask(outer, "/ml/metrics"))[0] == 401
    app.state.service.batcher.stop()


def test_it_answers_after_a_lifespan_has_ended(model: npdistil.Model) -> None:
    app = make_app(model)

    async def scenario() -> None:
        for _ in range(2):
            async with app.router.lifespan_context(app):
                assert (await ask(app, "/predict", {"inputs": "good"}))[0] == 200
        assert (await asyncio.wait_for(ask(app, "/predict", {"inputs": "good"}), 20))[0] == 200

    asyncio.run(scenario())
    app.state.service.batcher.stop()


def test_where_no_thread_starts_health_says_so_and_requests_are_refused_at_once(
    model: npdistil.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    app = make_app(model)
    long = {"inputs": "good " * 2000}
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)

        async def scenario() -> None:
            async with app.router.lifespan_context(app):
                for path, data in (("/health", None), ("/predict", {"inputs": "good"}), ("/predict", long)):
                    status, answer = await ask(app, path, data)
                    assert (status, answer["error_type"]) == (503, "Unhealthy"), path
                    assert "does not start" in answer["error"]

        asyncio.run(scenario())
    assert asyncio.run(ask(app, "/health"))[0] == 200
    assert asyncio.run(ask(app, "/predict", long))[0] == 200
    app.state.service.batcher.stop()


def test_a_score_that_is_no_number_is_no_answer() -> None:
    model = npdistil.load(engine="numpy")
    app = make_app(model)

    def wrong(inputs: Inputs) -> Outputs:
        shape = {"logits": (1, 2), "hidden_states": (1, 384)}.get(inputs.output, (384,))
        return Outputs(inputs, [np.full(shape, np.nan, np.float32)] * len(inputs.token_ids))

    app.state.service.batcher.forward = app.state.service.batcher.alone = wrong
    bodies = {
        "/predict": {"inputs": "a"},
        "/embed": {"inputs": "a"},
        "/": {"inputs": "a"},
        "/explain": {"inputs": "a b"},
    }
    bodies |= {"/v1/embeddings": {"input": "a", "encoding_format": "base64"}, "/pipeline/embedding": {"inputs": "a"}}
    for path, body in bodies.items():
        status, answer = asyncio.run(ask(app, path, body))
        assert status == 424, (path, answer)
        assert "not all finite" in str(answer), (path, answer)
    app.state.service.batcher.stop()


def test_a_tokenizer_that_is_changed_while_it_serves_is_asked_anew_and_not_for_each_request(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = npdistil.load(make(), engine="numpy")
    app = make_app(model)
    words = app.state.service.words
    looks: list[bool] = []
    is_same = type(words).is_same
    if not is_same(words):
        pytest.skip("this version of tokenizers does not say in the same words twice what a tokenizer is made of")

    def look(words: Words) -> bool:
        looks.append(is_same(words))
        return looks[-1]

    monkeypatch.setattr(type(words), "is_same", look)

    def right() -> Any:
        return npdistil.pipeline("text-classification", model, top_k=None)(["GOOD film"])[0]

    async def scenario() -> None:
        async with app.router.lifespan_context(app):
            before = right()
            looks.clear()
            answers = await asyncio.gather(*(ask(app, "/predict", {"inputs": "GOOD film"}) for _ in range(20)))
            assert answers == [(200, before)] * 20
            assert len(looks) == 1
            model.checkpoint.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
            answers = await asyncio.gather(*(ask(app, "/predict", {"inputs": "GOOD film"}) for _ in range(20)))
            assert answers == [(200, right())] * 20
            assert right() != before

    asyncio.run(scenario())
