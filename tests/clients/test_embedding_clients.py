"""Clients that ask for vectors or ranks get what the service gives anybody."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from service_client import client

Url = Callable[..., str]
Vectors = Callable[[list[str]], list[list[float]]]
TEXTS = ["the film is good", "a boring movie", "she lives in paris"]
QUERY = "a film ?"


def same(found: Any, right: Any) -> None:
    """Equal but for the rounding of those that scale vectors again."""
    np.testing.assert_allclose(np.array(found, float), np.array(right, float), rtol=0, atol=2e-7)


def ranks(url: Url) -> list[dict[str, Any]]:
    httpx = client("httpx")
    answer: list[dict[str, Any]] = httpx.post(url("reranker") + "/rerank", json={"query": QUERY, "texts": TEXTS}).json()
    return answer


def test_openai(url: Url, vectors: Vectors) -> None:
    openai = client("openai")
    asked = openai.OpenAI(base_url=url("encoder") + "/v1", api_key="any")
    for how in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = asked.embeddings.create(input=TEXTS, model="any", **how)
        found = [each.embedding for each in answer.data]
        if how != {"encoding_format": "base64"}:
            same(found, vectors(TEXTS))
        assert answer.usage.total_tokens == 17
    short = asked.embeddings.create(input=TEXTS[0], model="any", dimensions=3).data[0].embedding
    right = np.array(vectors(TEXTS[:1])[0][:3])
    same(short, right / np.linalg.norm(right))
    (model,) = asked.models.list().data
    assert (model.id, model.object) == (answer.model, "model")


def test_openai_s_errors_say_what_was_wrong(url: Url) -> None:
    openai = client("openai")
    asked = openai.OpenAI(base_url=url("encoder") + "/v1", api_key="any", max_retries=0)
    for body, error, kind, message in (
        ({"input": []}, openai.BadRequestError, "Empty", "input is an empty list"),
        ({"input": "a", "dimensions": 99}, openai.UnprocessableEntityError, "Validation", "dimensions is 99; "),
        ({"input": [3, 4]}, openai.UnprocessableEntityError, "Validation", "these are not the token ids of a text"),
    ):
        with pytest.raises(error, match=message) as caught:
            asked.embeddings.create(model="any", **body)
        assert (caught.value.type, caught.value.code) == (kind, str(caught.value.status_code))
        assert caught.value.request_id
    with pytest.raises(openai.NotFoundError, match="Not Found"):
        asked.chat.completions.create(model="any", messages=[])


def test_openai_with_a_token(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    openai = client("openai")
    monkeypatch.setenv("NPDISTIL_TOKEN", "secret")
    base = url("encoder", "--served-model-name", "mine") + "/v1"
    assert openai.OpenAI(base_url=base, api_key="secret").models.list().data[0].id == "mine"
    with pytest.raises(openai.AuthenticationError, match="this is not the token"):
        openai.OpenAI(base_url=base, api_key="wrong").embeddings.create(input="a", model="any")


def test_langchain_openai(url: Url, vectors: Vectors) -> None:
    langchain = client("langchain_openai")
    how = {"base_url": url("encoder") + "/v1", "api_key": "any", "model": "any"}
    asked = langchain.OpenAIEmbeddings(**how, check_embedding_ctx_length=False)
    same(asked.embed_documents(TEXTS), vectors(TEXTS))
    same(asked.embed_query(TEXTS[0]), vectors(TEXTS[:1])[0])


def test_langchain_openai_with_another_tokenizer_s_ids_is_refused(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its default: it would get vectors of other texts."""
    langchain, openai, tiktoken = client("langchain_openai"), client("openai"), client("tiktoken")
    letters = tiktoken.Encoding(
        "letters", pat_str=".", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda name: letters)
    asked = langchain.OpenAIEmbeddings(base_url=url("encoder") + "/v1", api_key="any", model="text-embedding-3-small")
    with pytest.raises(openai.UnprocessableEntityError, match="these are not the token ids of a text"):
        asked.embed_documents(TEXTS)


def test_langchain_huggingface(url: Url, vectors: Vectors) -> None:
    """It takes no address, but a client that has one."""
    langchain, hub = client("langchain_huggingface"), client("huggingface_hub")
    asked = langchain.HuggingFaceEndpointEmbeddings(model="any/any", huggingfacehub_api_token="any")
    asked.client = hub.InferenceClient(model=url("encoder"), token="any")
    same(asked.embed_documents(TEXTS), vectors(TEXTS))
    same(asked.embed_query(TEXTS[0]), vectors(TEXTS[:1])[0])


def test_llama_index_text_embeddings_inference(url: Url, vectors: Vectors) -> None:
    module = client("llama_index.embeddings.text_embeddings_inference")
    asked = module.TextEmbeddingsInference(
        model_name="any", base_url=url("encoder"), query_instruction="", text_instruction=""
    )
    same(asked.get_text_embedding_batch(TEXTS), vectors(TEXTS))
    same(asked.get_query_embedding(TEXTS[0]), vectors(TEXTS[:1])[0])


def test_llama_index_openai(url: Url, vectors: Vectors) -> None:
    module = client("llama_index.embeddings.openai")
    asked = module.OpenAIEmbedding(api_base=url("encoder") + "/v1", api_key="any")
    same(asked.get_text_embedding_batch(TEXTS), vectors(TEXTS))


def test_llama_index_rerank(url: Url) -> None:
    module, schema = client("llama_index.postprocessor.tei_rerank"), client("llama_index.core.schema")
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text)) for text in TEXTS]
    asked = module.TextEmbeddingInference(model_name="any", base_url=url("reranker"), top_n=2)
    found = asked.postprocess_nodes(nodes, query_str=QUERY)
    assert [each.node.text for each in found] == [TEXTS[rank["index"]] for rank in ranks(url)[:2]]


def test_chromadb(url: Url, vectors: Vectors) -> None:
    functions = client("chromadb.utils.embedding_functions")
    same(functions.HuggingFaceEmbeddingServer(url("encoder") + "/embed")(TEXTS), vectors(TEXTS))
    same(functions.HuggingFaceEmbeddingServer(url("encoder"))(TEXTS), vectors(TEXTS))
    openai = functions.OpenAIEmbeddingFunction(api_key="any", api_base=url("encoder") + "/v1")
    same(openai(TEXTS), vectors(TEXTS))


def test_haystack(url: Url, vectors: Vectors) -> None:
    embedders = client("haystack.components.embedders")
    secret = client("haystack.utils").Secret.from_token("any")
    asked = embedders.OpenAITextEmbedder(api_base_url=url("encoder") + "/v1", api_key=secret)
    same(asked.run(TEXTS[0])["embedding"], vectors(TEXTS[:1])[0])
    document = client("haystack").Document
    several = embedders.OpenAIDocumentEmbedder(api_base_url=url("encoder") + "/v1", api_key=secret, progress_bar=False)
    found = several.run([document(content=text) for text in TEXTS])["documents"]
    same([each.embedding for each in found], vectors(TEXTS))


def test_haystack_text_embeddings_inference(url: Url, vectors: Vectors) -> None:
    embedders = client("haystack_integrations.components.embedders.huggingface_api")
    rankers = client("haystack_integrations.components.rankers.huggingface_api")
    document = client("haystack").Document
    for address in (url("encoder"), url("encoder") + "/embed"):
        asked = embedders.HuggingFaceAPITextEmbedder(
            api_type="text_embeddings_inference", api_params={"url": address}, normalize=True, token=None
        )
        same(asked.run(TEXTS[0])["embedding"], vectors(TEXTS[:1])[0])
    ranker = rankers.HuggingFaceTEIRanker(url=url("reranker"), top_k=2, token=None)
    for direction in (
        None,
        client("haystack_integrations.components.rankers.huggingface_api").TruncationDirection.LEFT,
    ):
        found = ranker.run(QUERY, [document(content=text) for text in TEXTS], truncation_direction=direction)
        assert [each.content for each in found["documents"]] == [TEXTS[rank["index"]] for rank in ranks(url)[:2]]


def test_litellm(url: Url, vectors: Vectors) -> None:
    litellm = client("litellm")
    answer = litellm.embedding("openai/any", TEXTS, api_base=url("encoder") + "/v1", api_key="any")
    same([each["embedding"] for each in answer.data], vectors(TEXTS))
    answer = litellm.embedding(
        "huggingface/any", TEXTS, api_base=url("encoder"), api_key="any", input_type="feature-extraction"
    )
    same([each["embedding"] for each in answer.data], vectors(TEXTS))
    ranked = litellm.rerank("huggingface/any", QUERY, TEXTS, api_base=url("reranker"), api_key="any")
    found = [(each["index"], each["relevance_score"]) for each in ranked.results]
    assert found == [(each["index"], each["score"]) for each in ranks(url)]
    best = litellm.rerank("huggingface/any", QUERY, TEXTS, top_n=1, api_base=url("reranker"), api_key="any").results
    assert [each["index"] for each in best] == [found[0][0]]
