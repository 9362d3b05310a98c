"""SentenceTransformer against sentence-transformers' own: the calls that scripts have, in the same words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
from pipelines_compared import write_model
from tokenizers import Tokenizer

import npdistil

TEXTS = ["I like you.", "A quite long text, with more words than the model is told to read at once. " * 4, "", "x"]
NEAR = 1e-5  # largest difference of a number of a vector


@pytest.fixture(scope="module")
def both(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    directory = tmp_path_factory.mktemp("plain")
    tokenizer = Tokenizer.from_file(str(bundled / "tokenizer.json"))
    write_model(directory, tokenizer, "DistilBertModel")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((bundled / name).read_bytes())
    theirs = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    theirs.max_seq_length = 24
    theirs.prompts = {"query": "query: ", "document": "passage: "}
    saved = tmp_path_factory.mktemp("saved")
    theirs.save(str(saved))
    theirs = sentence_transformers.SentenceTransformer(str(saved), device="cpu", revision=None, trust_remote_code=True)
    return npdistil.SentenceTransformer(str(saved), device="cpu", revision=None, trust_remote_code=True), theirs


CALLS: list[tuple[Any, dict[str, Any]]] = [
    (given, arguments)
    for given in (TEXTS[0], TEXTS, tuple(TEXTS), np.array(TEXTS), TEXTS[:1])
    for arguments in (
        {},
        {"batch_size": 2},
        {"show_progress_bar": False},
        {"show_progress_bar": True},
        {"normalize_embeddings": True},
        {"convert_to_numpy": True},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"prompt_name": "query"},
        {"prompt": "say: "},
        {"truncate_dim": 16},
        {"truncate_dim": 16, "normalize_embeddings": True},
        {"device": "cpu"},
        {"output_value": "sentence_embedding", "precision": "float32"},
    )
]


@pytest.mark.parametrize(("given", "arguments"), CALLS, ids=lambda each: str(each)[:40])
def test_encode(both: tuple[Any, Any], given: Any, arguments: dict[str, Any]) -> None:
    ours, theirs = (each.encode(given, **arguments) for each in both)
    assert type(ours) is type(theirs)
    if isinstance(theirs, list):
        assert [type(each) for each in ours] == [type(each) for each in theirs]
        ours, theirs = np.stack(ours), np.stack(theirs)
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert ours.dtype == theirs.dtype
    assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() <= NEAR


def test_queries_and_documents(both: tuple[Any, Any]) -> None:
    for name in ("encode_query", "encode_document"):
        for arguments in ({}, {"prompt": "x "}, {"prompt_name": "query"}):
            ours, theirs = (getattr(each, name)(TEXTS, **arguments) for each in both)
            np.testing.assert_allclose(ours, theirs, atol=NEAR)


def test_what_it_says_of_itself(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    assert ours.get_sentence_embedding_dimension() == theirs.get_embedding_dimension()
    assert ours.max_seq_length == theirs.max_seq_length == ours.get_max_seq_length() == 24
    assert ours.prompts == theirs.prompts
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    assert str(ours.device) == str(theirs.device)
    assert ours.to("cpu").eval() is ours
    ours.max_seq_length = theirs.max_seq_length = 8
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=NEAR)
    ours.max_seq_length = theirs.max_seq_length = 24


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(both: tuple[Any, Any], name: str) -> None:
    directory = both[0].model.name_or_path
    ours = npdistil.SentenceTransformer(directory, similarity_fn_name=name)
    theirs = sentence_transformers.SentenceTransformer(directory, similarity_fn_name=name, device="cpu")
    vectors = ours.encode(TEXTS)
    for a, b in ((vectors, vectors[:2]), (vectors[0], vectors), (vectors[0], vectors[1]), ([*vectors], vectors)):
        np.testing.assert_allclose(ours.similarity(a, b), theirs.similarity(a, b), atol=1e-3, rtol=1e-5)
    np.testing.assert_allclose(
        ours.similarity_pairwise(vectors, vectors[::-1]),
        theirs.similarity_pairwise(vectors, vectors[::-1].copy()),
        atol=1e-3,
        rtol=1e-5,
    )


def test_util(both: tuple[Any, Any]) -> None:
    vectors = both[0].encode(TEXTS)
    util, reference = npdistil.util, sentence_transformers.util
    for name in ("cos_sim", "pytorch_cos_sim", "dot_score", "pairwise_cos_sim", "pairwise_dot_score"):
        for kind in (np.asarray, torch.from_numpy, list):
            a, b = kind(vectors), kind(vectors)
            ours, theirs = getattr(util, name)(a, b), getattr(reference, name)(a, b)
            np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-5)
            assert isinstance(ours, torch.Tensor) == (kind is torch.from_numpy)
    for arguments in ({}, {"top_k": 2}, {"query_chunk_size": 1}, {"score_function": "dot_score"}):
        own, other = ({**arguments} for _ in range(2))
        if "score_function" in arguments:
            own["score_function"], other["score_function"] = util.dot_score, reference.dot_score
        found = util.semantic_search(vectors[:2], vectors, **own)  # type: ignore[arg-type]
        expected = reference.semantic_search(torch.from_numpy(vectors[:2]), torch.from_numpy(vectors), **other)
        assert [[each["corpus_id"] for each in row] for row in found] == [
            [each["corpus_id"] for each in row] for row in expected
        ]
        for row, other_row in zip(found, expected, strict=True):
            np.testing.assert_allclose([e["score"] for e in row], [e["score"] for e in other_row], atol=1e-4, rtol=1e-5)


def test_a_loaded_model_as_one_of_ours_is_no_model_of_theirs(both: tuple[Any, Any]) -> None:
    with pytest.raises(npdistil.InputError, match="save_pretrained"):
        npdistil.SentenceTransformer(both[1])
