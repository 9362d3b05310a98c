"""Similarities of vectors, by sentence-transformers' names: arrays in, arrays out; torch's where torch's went in."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .arguments import tensor
from .distilbert.encoder import Array
from .errors import InputError

Similarity: TypeAlias = Callable[[Any, Any], Any]


def _vectors(given: Any) -> Array:
    """One vector or several, which may be arrays, tensors or lists of these: float32 [D] or [B, D]."""
    try:
        if isinstance(given, (list, tuple)):
            return np.array([np.asarray(each, np.float32) for each in given], np.float32)
        return np.asarray(given, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"expected vectors, found {given!r:.80}; `encode` makes them of texts") from None


def _unit(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _as_given(found: Array, *given: Any) -> Any:
    """Of torch where one of the inputs was."""
    first = [each[0] if isinstance(each, (list, tuple)) and each else each for each in given]
    return tensor(found) if any(type(each).__module__.startswith("torch") for each in first) else found


def _of_all(a: Any, b: Any, by: Callable[[Array, Array], Array]) -> Any:
    """A similarity of each of a with each of b: float32 [A, B]."""
    return _as_given(by(np.atleast_2d(_vectors(a))[:, None], np.atleast_2d(_vectors(b))[None]), a, b)


def dot_score(a: Any, b: Any) -> Any:
    """Dot products of each vector of a, [A, D] or [D], with each of b: float32 [A, B]."""
    return _as_given(np.atleast_2d(_vectors(a)) @ np.atleast_2d(_vectors(b)).T, a, b)


def cos_sim(a: Any, b: Any) -> Any:
    """Cosines of each vector of a, [A, D] or [D], with each of b: float32 [A, B].

    >>> cos_sim([1.0, 0.0], [[2.0, 0.0], [0.0, 3.0]]).tolist()
    [[1.0, 0.0]]
    """
    return _as_given(dot_score(_unit(_vectors(a)), _unit(_vectors(b))), a, b)


def euclidean_sim(a: Any, b: Any) -> Any:
    """Negative Euclidean distances of each vector of a to each of b: float32 [A, B]."""
    return _of_all(a, b, lambda x, y: -np.linalg.norm(x - y, axis=-1))


def manhattan_sim(a: Any, b: Any) -> Any:
    """Negative sums of absolute differences of each vector of a to each of b: float32 [A, B]."""
    return _of_all(a, b, lambda x, y: -np.abs(x - y).sum(axis=-1))


def pairwise_dot_score(a: Any, b: Any) -> Any:
    """Dot products of the vectors of a and b at the same place: float32 [B]."""
    return _as_given((_vectors(a) * _vectors(b)).sum(axis=-1), a, b)


def pairwise_cos_sim(a: Any, b: Any) -> Any:
    """Cosines of the vectors of a and b at the same place: float32 [B]."""
    return _as_given(pairwise_dot_score(_unit(_vectors(a)), _unit(_vectors(b))), a, b)


def pairwise_euclidean_sim(a: Any, b: Any) -> Any:
    """Negative Euclidean distances of the vectors of a and b at the same place: float32 [B]."""
    return _as_given(-np.linalg.norm(_vectors(a) - _vectors(b), axis=-1), a, b)


def pairwise_manhattan_sim(a: Any, b: Any) -> Any:
    """Negative sums of absolute differences of the vectors of a and b at the same place: float32 [B]."""
    return _as_given(-np.abs(_vectors(a) - _vectors(b)).sum(axis=-1), a, b)


pytorch_cos_sim = cos_sim
SIMILARITIES: dict[str, tuple[Similarity, Similarity]] = {  # of all with all, and of pairs
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (dot_score, pairwise_dot_score),
    "euclidean": (euclidean_sim, pairwise_euclidean_sim),
    "manhattan": (manhattan_sim, pairwise_manhattan_sim),
}


def normalize_embeddings(embeddings: Any) -> Any:
    """Vectors scaled to length 1: float32 [B, D]."""
    return _as_given(_unit(_vectors(embeddings)), embeddings)


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: Similarity = cos_sim,
) -> list[list[dict[str, Any]]]:
    """The vectors of a corpus that are nearest to each query: for each {"corpus_id", "score"}, best first.

    Args:
        query_embeddings: [B, D] or [D].
        corpus_embeddings: [N, D].
        query_chunk_size: queries that are compared at once.
        corpus_chunk_size: changes nothing: a chunk of queries is compared with the whole corpus.
        top_k: how many to give for each query.
        score_function: one of this module's, of all with all.
    """
    queries, corpus = np.atleast_2d(_vectors(query_embeddings)), _vectors(corpus_embeddings)
    found = []
    for start in range(0, len(queries), query_chunk_size):
        for row in score_function(queries[start : start + query_chunk_size], corpus):
            best = np.argsort(-row, kind="stable")[:top_k]
            found.append([{"corpus_id": int(i), "score": float(row[i])} for i in best])
    return found
