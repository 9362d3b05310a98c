"""SentenceTransformer: vectors of the task "embedding", in the calls of sentence-transformers."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npdistil
from npdistil import util
from npdistil.errors import InputError

Make = Callable[..., Path]
TEXTS = ["good", "the film was good and i like it , not bad at all . " * 3, "a"]


@pytest.fixture
def encoder(make: Make) -> npdistil.SentenceTransformer:
    return npdistil.SentenceTransformer(make(architectures=["DistilBertModel"]), engine="numpy")


def test_vectors_are_those_of_the_task(encoder: npdistil.SentenceTransformer) -> None:
    plain = npdistil.pipeline("embedding", encoder.model, long_text="truncate")
    expected = np.stack(plain(TEXTS))
    assert np.array_equal(encoder.encode(TEXTS), expected)
    assert np.array_equal(encoder.encode(TEXTS[1]), expected[1])
    assert np.array_equal(encoder.encode(sentences=iter(TEXTS), batch_size=1), expected)
    assert np.array_equal(encoder.encode(inputs=TEXTS), expected)
    unit = encoder.encode(TEXTS, normalize_embeddings=True, show_progress_bar=True, chunk_size=5)
    assert np.allclose(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert encoder.encode([]).shape == (0, encoder.get_sentence_embedding_dimension()) == (0, 8)
    assert encoder.encode(TEXTS, truncate_dim=3).shape == (3, 3)
    assert isinstance(encoder.encode(TEXTS, convert_to_numpy=False), list)
    assert np.array_equal(np.asarray(encoder.encode(TEXTS, convert_to_tensor=True)), expected)


def test_prompts(make: Make) -> None:
    directory = make(architectures=["DistilBertModel"])
    encoder = npdistil.SentenceTransformer(directory, prompts={"query": "who "}, default_prompt_name="query")
    plain = npdistil.SentenceTransformer(encoder.model)
    expected = plain.encode("who lives")
    assert np.array_equal(encoder.encode("lives"), expected)
    assert np.array_equal(encoder.encode("lives", prompt=""), plain.encode("lives"))
    assert np.array_equal(plain.encode("lives", prompt="who "), expected)
    assert np.array_equal(encoder.encode_query("lives"), expected)
    assert np.array_equal(plain.encode_document("lives"), plain.encode("lives"))
    with pytest.raises(InputError, match="prompt_name is 'x'; known are query"):
        encoder.encode("lives", prompt_name="x")
    with pytest.raises(InputError, match="default_prompt_name is 'x'"):
        npdistil.SentenceTransformer(encoder.model, default_prompt_name="x")


def test_lengths(encoder: npdistil.SentenceTransformer) -> None:
    assert encoder.max_seq_length == encoder.get_max_seq_length() == 24
    encoder.max_seq_length = 6
    assert np.array_equal(encoder.encode(TEXTS[1]), encoder.encode("the film was good"))
    with pytest.raises(InputError, match="max_length is 100"):
        encoder.max_seq_length = 100


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"device": "cuda"}, "on the CPU"),
    ({"output_value": "token_embeddings"}, "feature-extraction"),
    ({"precision": "int8"}, "quantise what comes back"),
    ({"normalise": True}, "unknown setting: normalise"),
]


@pytest.mark.parametrize(("given", "says"), REFUSED, ids=str)
def test_what_cannot_be_taken_says_what_to_write(
    encoder: npdistil.SentenceTransformer, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        encoder.encode(TEXTS, **given)


def test_constructors_that_cannot_be(encoder: npdistil.SentenceTransformer) -> None:
    for given, says in (
        ({"device": "cuda"}, "on the CPU"),
        ({"modules": [1]}, "modules.json"),
        ({"backend": "onnx"}, "leave it out"),
        ({"similarity_fn_name": "l2"}, "known are cosine, dot"),
        ({"nonsense": 1}, "unknown argument: nonsense"),
        ({"engine": "numpy"}, "loaded already"),
    ):
        with pytest.raises(InputError, match=says):
            npdistil.SentenceTransformer(encoder.model, **given)
    with pytest.raises(InputError, match="give a directory"):
        npdistil.SentenceTransformer()
    npdistil.SentenceTransformer(
        encoder.model, device="cpu", cache_folder=None, trust_remote_code=True, revision="main",
        tokenizer_kwargs={"padding_side": "left"}, model_kwargs={"torch_dtype": "auto"}, backend="torch",
    )  # fmt: skip


def test_similarities(encoder: npdistil.SentenceTransformer) -> None:
    vectors = encoder.encode(TEXTS)
    found = encoder.similarity(vectors, vectors)
    assert np.allclose(np.diag(found), 1)
    assert np.allclose(np.diag(found[:, ::-1]), encoder.similarity_pairwise(vectors, vectors[::-1]))
    assert np.array_equal(found, util.cos_sim(vectors, vectors))
    assert float(util.cos_sim(vectors[0], vectors[1])[0][0]) == pytest.approx(float(found[0, 1]))
    assert util.euclidean_sim([0.0, 0.0], [[3.0, 4.0]]).tolist() == [[-5.0]]
    assert util.manhattan_sim([0.0, 0.0], [[3.0, 4.0]]).tolist() == [[-7.0]]
    assert util.pairwise_euclidean_sim([[0.0, 0.0]], [[3.0, 4.0]]).tolist() == [-5.0]
    assert util.pairwise_manhattan_sim([[0.0, 0.0]], [[3.0, 4.0]]).tolist() == [-7.0]
    assert util.semantic_search([1.0, 0.0], [[0.0, 1.0], [2.0, 0.0]], top_k=1) == [[{"corpus_id": 1, "score": 1.0}]]
    with pytest.raises(InputError, match="expected vectors, found 'a text'"):
        util.cos_sim("a text", vectors)


def test_it_can_be_pickled_and_says_what_to_do_instead(encoder: npdistil.SentenceTransformer, tmp_path: Path) -> None:
    other = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(other.encode(TEXTS), encoder.encode(TEXTS))
    assert encoder.to("cpu").eval().cpu() is encoder
    with pytest.raises(InputError, match="copy "):
        encoder.save(tmp_path)
    with pytest.raises(InputError, match=r"model\.predict"):
        encoder.tokenize(["a"])
