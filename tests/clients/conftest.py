"""Services for clients that people use, each of which is tested where it is installed."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import tiny
from service_client import Server, running

MISSING = [name for name in ("starlette", "httptools", "prometheus_client") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []  # there is no service
CLIENTS = (
    "openai langchain_openai langchain_huggingface llama_index chromadb haystack litellm huggingface_hub httpx aiohttp"
)
TAGS = {"0": "O", "1": "B-LOC", "2": "I-LOC"}
NLI = {"0": "contradiction", "1": "neutral", "2": "entailment"}
HEADS: dict[str, dict[str, Any]] = {
    "encoder": {"architectures": ["DistilBertModel"]},
    "reranker": {"id2label": {"0": "LABEL_0"}},
    "nli": {"id2label": NLI, "max_position_embeddings": 48},
    "tokens": {"architectures": ["DistilBertForTokenClassification"], "id2label": TAGS},
    "questions": {"architectures": ["DistilBertForQuestionAnswering"]},
    "masked": {"architectures": ["DistilBertForMaskedLM"]},
}


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """A running service with a tiny model of a head, or with the bundled one."""
    with ExitStack() as stack:
        servers: dict[tuple[str, ...], Server] = {}

        def serve(head: str = "", *options: str) -> Server:
            asked = (head, *options)
            if asked not in servers:
                model = ("--model", str(tiny.write(tmp_path_factory.mktemp(head), **HEADS[head]))) if head else ()
                servers[asked] = stack.enter_context(running(*model, *options))
            return servers[asked]

        yield serve


@pytest.fixture(scope="session")
def url(serve: Callable[..., Server]) -> Callable[..., str]:
    """Where a service is, started if need be."""
    return lambda *asked: f"http://127.0.0.1:{serve(*asked).port}"


@pytest.fixture(scope="session")
def vectors(serve: Callable[..., Server]) -> Callable[[list[str]], list[list[float]]]:
    """The vectors of the encoder's service, asked for without any client."""

    def vectors(texts: list[str]) -> list[list[float]]:
        status, answer = serve("encoder").ask("/embed", {"inputs": texts})
        assert status == 200
        found: list[list[float]] = answer
        return found

    return vectors


def pytest_report_header(config: pytest.Config) -> str:
    missing = [name for name in (*CLIENTS.split(), "httpx", "aiohttp") if importlib.util.find_spec(name) is None]
    return f"clients: not tested, without {', '.join(missing)}" if missing else "clients: all tested"
