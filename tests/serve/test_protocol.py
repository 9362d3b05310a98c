"""The service against its protocol: every path, field, status and header; docs/protocol.py explains each difference."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

import npdistil
from npdistil.errors import EngineError
from npdistil.serve.app import Settings, make_app

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
import protocol  # noqa: E402
from protocol import DIFFERENCES, ENDPOINTS, ERROR, HEADERS, KINDS, OPENAI_ERROR, Endpoint  # noqa: E402

MOST = 4  # texts of a request
HEADS: dict[str, dict[str, Any]] = {
    "embedding": {"architectures": ["DistilBertModel"]},
    "classifier": {},
    "reranker": {"id2label": {"0": "LABEL_0"}},
}


class Asked:
    """A service inside this process, and what it answered: status, headers, JSON."""

    def __init__(self, model: npdistil.Model) -> None:
        self.app = make_app(model, Settings(max_request_texts=MOST))
        self.service = self.app.state.service
        self.ids = model.checkpoint.tokenizer.encode(protocol.TEXT).ids

    async def _ask(self, method: str, path: str, data: Any) -> tuple[int, dict[str, str], Any]:
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
        scope |= {"root_path": "", "scheme": "http", "server": ("x", 80)}
        messages = [{"type": "http.request", "body": json.dumps(data).encode()}]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        async with self.service.lifespan(self.app):
            await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], headers, json.loads(content) if "json" in headers["content-type"] else content

    def __call__(self, method: str, path: str, data: Any = None) -> tuple[int, dict[str, str], Any]:
        return asyncio.run(self._ask(method, path, self.filled(data)))

    def filled(self, data: Any) -> Any:
        """The same with token ids where they are wanted."""
        if isinstance(data, dict):
            return {name: self.filled(value) for name, value in data.items()}
        if isinstance(data, list):
            return [self.filled(each) for each in data]
        return self.ids if data == protocol.IDS else data


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Asked]:
    found = {}
    for name, head in HEADS.items():
        directory = tiny.write(tmp_path_factory.mktemp(name), **head)
        if name == "embedding":
            prompts = {"prompts": {"query": "like "}}
            (directory / "config_sentence_transformers.json").write_text(json.dumps(prompts))
            kinds = {"Transformer": "", "Pooling": "1_Pooling"}
            modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds.items()]
            (directory / "1_Pooling").mkdir()
            (directory / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
            (directory / "modules.json").write_text(json.dumps(modules))
        found[name] = Asked(npdistil.load(directory, engine="numpy"))
    return found


def is_like(found: Any, shape: Any) -> bool:
    """Whether it has the fields and kinds of values of the shape."""
    if isinstance(shape, dict):
        return (
            isinstance(found, dict)
            and {*found} == {*shape}
            and all(is_like(found[each], shape[each]) for each in shape)
        )
    if isinstance(shape, list):
        return isinstance(found, list) and bool(found) and all(is_like(each, shape[0]) for each in found)
    if shape is None:
        return found is None or type(found) is int
    return type(found) is type(shape) or (isinstance(shape, float) and type(found) is int)


def bodies(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """A body for each value of each field."""
    base = {name: values[0] for name, values in endpoint.needed.items()}
    for name, values in (endpoint.needed | endpoint.optional).items():
        for value in values:
            yield base | {name: value}


def provoked(asked: Asked, endpoint: Endpoint, status: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Any]:
    """What comes of a request that should have a status."""
    base = {name: values[0] for name, values in endpoint.needed.items()}
    value = base[endpoint.several]
    item = value[0] if isinstance(value, list) else value
    several: dict[str, Any]
    nothing: dict[str, Any]
    if isinstance(value, dict):  # sentences to compare with
        several = {"inputs": value | {"sentences": [protocol.TEXT] * (MOST + 1)}}
        nothing = {"inputs": value | {"sentences": []}}
    else:
        several = {endpoint.several: [[item] if endpoint.model == "classifier" else item] * (MOST + 1)}
        nothing = {endpoint.several: []}
    with monkeypatch.context() as patch:
        if status == 424:

            def failing(inputs: Any) -> Any:
                raise EngineError("inference failed")

            patch.setattr(asked.service.batcher, "forward", failing)
            patch.setattr(asked.service.batcher, "alone", failing)
        elif status == 429:
            patch.setattr(asked.service.batcher, "tokens", asked.service.settings.max_queue_tokens)
        changed = {400: nothing, 413: several, 422: {endpoint.several: {"wrong": 1}}}.get(status, {})
        found, _, answer = asked("POST", endpoint.path, base | changed)
        return found, answer


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.path} of {each.model}")
def test_every_field_and_status(
    services: dict[str, Asked], endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = services[endpoint.model]
    expected = DIFFERENCES.get((endpoint.path, "any body"), (200, ""))[0]
    for body in bodies(endpoint):
        status, headers, answer = asked("POST", endpoint.path, body)
        assert status == expected, (body, answer)
        shape = endpoint.answer
        if body.get("return_text"):
            shape = [shape[0] | {"text": "text"}]
        if isinstance(shape[0] if isinstance(shape, list) else None, dict) and "label" in shape[0] and is_batch(body):
            shape = [shape]
        if expected == 200:
            assert is_like(answer, shape), (body, answer)
            assert {*headers} >= HEADERS
            assert all(headers[name].isdecimal() for name in HEADERS - {"x-compute-type"})
    error = OPENAI_ERROR if "embeddings" in endpoint.path else ERROR
    for status in endpoint.statuses[1:]:
        found, answer = provoked(asked, endpoint, status, monkeypatch)
        assert found == status if expected == 200 else found in (status, expected), answer
        assert {*answer} >= error
        kind = answer["type" if error is OPENAI_ERROR else "error_type"]
        assert kind == KINDS[found]
        if error is OPENAI_ERROR:
            assert answer["code"] == found
            assert {*answer["error"]} == {"message", "type", "param", "code"}


def is_batch(body: dict[str, Any]) -> bool:
    return isinstance(body["inputs"], list) and isinstance(body["inputs"][0], list)


def test_what_is_read_with_get(services: dict[str, Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for path, statuses in protocol.READ.items():
        for status in statuses:
            with monkeypatch.context() as patch:
                if status == 503:
                    service = services["classifier"].service
                    patch.setattr(service.batcher, "delivered", -1e9)
                    patch.setattr(service.batcher, "forward", lambda inputs: 1 / 0)
                    patch.setattr(service.batcher, "alone", lambda inputs: 1 / 0)
                came, _, answer = services["classifier"]("GET", path)
            if came != status:
                found[path, f"GET, status {status}"] = came
            if came == 503:
                assert answer["error_type"] == KINDS[503]
    assert found == {key: came for key, (came, _) in DIFFERENCES.items() if key[1].startswith("GET")}


def test_info_has_the_fields_of_the_protocol(services: dict[str, Asked]) -> None:
    for name in protocol.MODELS:
        _, _, info = services[name]("GET", "/info")
        assert {*info} >= protocol.INFO
        assert [*info["model_type"]] == [name]
        fields = {"pooling"} if name == "embedding" else {"id2label", "label2id"}
        assert {*info["model_type"][name]} == fields


def test_the_page_has_the_table_that_the_script_makes() -> None:
    done = subprocess.run([sys.executable, DOCS / "protocol.py", "--check"], check=False, timeout=60)
    assert done.returncode == 0, "python docs/protocol.py writes it"
