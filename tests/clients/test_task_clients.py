"""huggingface_hub's client gets every task; clients of HTTP and of Prometheus get what they read."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from service_client import client

Url = Callable[..., str]
TEXT = "she lives in paris"


@pytest.fixture
def hub() -> Any:
    pytest.importorskip("huggingface_hub", minversion="1.0", reason="earlier ones send and read other forms")
    return client("huggingface_hub").InferenceClient(token="any")


def test_text_classification(hub: Any, url: Url) -> None:
    for address in (url(), url() + "/pipeline/text-classification"):
        answer = hub.text_classification("I like you.", model=address)
        assert [each.label for each in answer] == ["POSITIVE", "NEGATIVE"]
        assert sum(each.score for each in answer) == pytest.approx(1)
        (best,) = hub.text_classification("I like you.", model=address, top_k=1)
        assert best == answer[0]


def test_feature_extraction_and_similarity(hub: Any, url: Url) -> None:
    (vector,) = hub.feature_extraction(TEXT, model=url("encoder"))
    assert np.linalg.norm(vector) == pytest.approx(1)
    (plain,) = hub.feature_extraction(
        TEXT, model=url("encoder"), normalize=False, truncate=True, truncation_direction="left"
    )
    np.testing.assert_allclose(plain / np.linalg.norm(plain), vector, atol=1e-6)
    states = hub.feature_extraction(TEXT, model=url("encoder") + "/pipeline/feature-extraction")
    assert states.shape == (1, 6, 8)
    alike, other = hub.sentence_similarity(TEXT, other_sentences=[TEXT, "a film"], model=url("encoder"))
    assert alike == pytest.approx(1, abs=1e-6)
    assert other < alike


def test_token_classification(hub: Any, url: Url) -> None:
    for address in (url("tokens"), url("tokens") + "/pipeline/token-classification"):
        (status, right), _ = _ask(address, {"inputs": TEXT, "parameters": {}})
        answer = hub.token_classification(TEXT, model=address)
        assert status == 200
        assert [(each.word, each.entity, each.start, each.end, each.score) for each in answer] == [
            (each["word"], each["entity"], each["start"], each["end"], each["score"]) for each in right
        ]
        groups = hub.token_classification(TEXT, model=address, aggregation_strategy="simple")
        assert all(each.entity_group for each in groups)


def test_question_answering(hub: Any, url: Url) -> None:
    answer = hub.question_answering(question="who lives in paris ?", context="he likes it", model=url("questions"))
    assert answer.answer == "he likes it"[answer.start : answer.end]
    several = hub.question_answering(question="who ?", context="he likes it", model=url("questions"), top_k=2)
    assert len(several) == 2


def test_fill_mask(hub: Any, url: Url) -> None:
    answer = hub.fill_mask("the [MASK] is good", model=url("masked"))
    assert len(answer) == 5
    assert answer[0].sequence == f"the {answer[0].token_str} is good"
    (one,) = hub.fill_mask("the [MASK] is good", model=url("masked"), targets=["film"])
    assert one.token_str == "film"


def test_zero_shot_classification(hub: Any, url: Url) -> None:
    answer = hub.zero_shot_classification(TEXT, ["good", "bad"], model=url("nli"), hypothesis_template="it is {} .")
    assert {each.label for each in answer} == {"good", "bad"}
    assert sum(each.score for each in answer) == pytest.approx(1)
    both = hub.zero_shot_classification(TEXT, ["good", "bad"], model=url("nli"), multi_label=True)
    assert all(0 < each.score < 1 for each in both)


def test_a_classifier_does_not_answer_for_other_tasks(hub: Any, url: Url) -> None:
    error = client("huggingface_hub.errors").HfHubHTTPError
    for ask, how, address in (
        (hub.fill_mask, {"text": "the [MASK] is good"}, url()),
        (hub.zero_shot_classification, {"text": TEXT, "candidate_labels": ["good"]}, url()),
        (hub.question_answering, {"question": "who ?", "context": TEXT}, url()),
        (hub.token_classification, {"text": TEXT, "aggregation_strategy": "simple"}, url()),
        (hub.token_classification, {"text": TEXT}, url() + "/pipeline/token-classification"),
    ):
        with pytest.raises(error):
            ask(model=address, **how)


def _ask(url: str, body: Any) -> tuple[tuple[int, Any], Any]:
    response = client("httpx").post(url, json=body)
    return (response.status_code, response.json()), response.headers


def test_httpx(url: Url) -> None:
    httpx = client("httpx")

    async def several() -> list[Any]:
        async with httpx.AsyncClient(base_url=url()) as asked:
            bodies = [{"inputs": [[TEXT], [f"film {i}"]]} for i in range(30)]
            return await asyncio.gather(*(asked.post("/predict", json=body) for body in bodies))

    answers = asyncio.run(several())
    assert {each.status_code for each in answers} == {200}
    assert all(each.json()[0] == answers[0].json()[0] for each in answers)


def test_aiohttp(url: Url) -> None:
    aiohttp = client("aiohttp")

    async def several() -> list[Any]:
        async with aiohttp.ClientSession(url()) as asked:

            async def one(i: int) -> Any:
                async with asked.post(
                    "/predict", json={"inputs": f"film {i}"}, headers={"x-request-id": str(i)}
                ) as got:
                    assert (got.status, got.headers["x-request-id"]) == (200, str(i))
                    return await got.json()

            return await asyncio.gather(*map(one, range(30)))

    assert all(len(each) == 2 for each in asyncio.run(several()))


def test_prometheus(url: Url) -> None:
    parser = client("prometheus_client.parser")
    _ask(url("encoder") + "/embed", {"inputs": TEXT})
    families = {
        each.name: each
        for each in parser.text_string_to_metric_families(client("httpx").get(url("encoder") + "/metrics").text)
    }
    assert families["npdistil_texts"].type == "counter"
    assert {"npdistil_requests", "npdistil_request_seconds", "npdistil_queue_tokens"} <= {*families}
    (answered,) = (
        each.value
        for each in families["npdistil_requests"].samples
        if each.name.endswith("_total") and each.labels == {"endpoint": "/embed", "status": "200"}
    )
    assert answered >= 1
