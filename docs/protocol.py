"""What the protocol of text-embeddings-inference has, and what differs: `python docs/protocol.py` writes the table.

What its router takes and answers, in our words; `tests/serve/test_protocol.py` asks a service for all of it.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).with_name("serve.md")
START, END = "<!-- made by protocol.py -->\n", "<!-- until here -->\n"

TEXT, OTHER = "the film is good", "a boring movie"
IDS = "IDS"  # stands for the token ids of TEXT
INPUT = [TEXT, [TEXT, OTHER], IDS, [IDS, TEXT], [IDS, IDS]]
CUT: dict[str, list[Any]] = {
    "truncate": [True, False, None],
    "truncation_direction": ["Left", "Right", "left", "right"],
}
PROMPT: dict[str, list[Any]] = {"prompt_name": ["query", None]}
SMALL = (200, 400, 413, 422)
ALL = (*SMALL, 424, 429)
NUMBER, STRING, FLAG, COUNT = 0.5, "text", True, 1
LABELS = [{"label": STRING, "score": NUMBER}]
OPENAI = {
    "object": STRING,
    "data": [{"object": STRING, "index": COUNT, "embedding": [NUMBER]}],
    "model": STRING,
    "usage": {"prompt_tokens": COUNT, "total_tokens": COUNT},
}
MODELS = ("embedding", "classifier", "reranker")


class Endpoint(NamedTuple):
    """What is asked with POST: values that fields take, and what is answered."""

    path: str
    model: str
    needed: dict[str, list[Any]]
    optional: dict[str, list[Any]]
    answer: Any
    statuses: tuple[int, ...] = ALL
    several: str = "inputs"  # the field whose lists are bounded


EMBED = {**CUT, **PROMPT, "normalize": [True, False], "dimensions": [3, None]}
PREDICT = {**CUT, "raw_scores": [True, False]}
EMBEDDINGS: dict[str, list[Any]] = {
    "model": [STRING, None],
    "user": [STRING, None],
    "encoding_format": ["float"],
    "dimensions": [3, None],
}
TEXTS_AND_PAIRS = [TEXT, [TEXT, OTHER], [[TEXT], [TEXT, OTHER]]]
COMPARED = {"source_sentence": TEXT, "sentences": [OTHER, TEXT]}
RERANK: dict[str, list[Any]] = {"query": [TEXT], "texts": [[OTHER, TEXT]]}
RANK: dict[str, list[Any]] = {**PREDICT, "return_text": [True, False]}
RANKS = [{"index": COUNT, "score": NUMBER}]
DECODE: dict[str, list[Any]] = {"skip_special_tokens": [True, False]}
VERTEX: dict[str, list[Any]] = {"instances": [[{"inputs": TEXT}], [{"inputs": TEXT}, {"inputs": [TEXT, OTHER]}]]}
TOKEN = {"id": COUNT, "text": STRING, "special": FLAG, "start": None, "stop": None}

ENDPOINTS = [
    Endpoint("/embed", "embedding", {"inputs": INPUT}, EMBED, [[NUMBER]]),
    Endpoint("/embed_all", "embedding", {"inputs": INPUT}, {**CUT, **PROMPT}, [[[NUMBER]]]),
    Endpoint("/embed_sparse", "embedding", {"inputs": INPUT}, {**CUT, **PROMPT}, [[{"index": COUNT, "value": NUMBER}]]),
    Endpoint("/predict", "classifier", {"inputs": TEXTS_AND_PAIRS}, PREDICT, LABELS),
    Endpoint("/rerank", "reranker", RERANK, RANK, RANKS, several="texts"),
    Endpoint(
        "/similarity",
        "embedding",
        {"inputs": [COMPARED]},
        {"parameters": [None, {}, *({name: value} for name in (*CUT, *PROMPT) for value in (CUT | PROMPT)[name])]},
        [NUMBER],
    ),
    Endpoint(
        "/tokenize",
        "embedding",
        {"inputs": [TEXT, [TEXT, OTHER]]},
        {"add_special_tokens": [True, False], **PROMPT},
        [[TOKEN]],
        SMALL,
    ),
    Endpoint("/decode", "embedding", {"ids": [IDS, [IDS, IDS]]}, DECODE, [STRING], SMALL, "ids"),
    Endpoint("/v1/embeddings", "embedding", {"input": INPUT}, EMBEDDINGS, OPENAI, several="input"),
    Endpoint("/embeddings", "embedding", {"input": INPUT}, EMBEDDINGS, OPENAI, several="input"),
    Endpoint("/vertex", "embedding", VERTEX, {}, {"predictions": [[[NUMBER]]]}, several="instances"),
    *(
        endpoint
        for path in ("/", "/invocations")
        for endpoint in (
            Endpoint(path, "embedding", {"inputs": INPUT}, EMBED, [[NUMBER]]),
            Endpoint(path, "classifier", {"inputs": TEXTS_AND_PAIRS}, PREDICT, LABELS),
            Endpoint(path, "reranker", RERANK, RANK, RANKS, several="texts"),
        )
    ),
]  # fmt: skip

READ = {  # what GET answers, and its statuses
    "/info": (200,),
    "/health": (200, 503),
    "/ping": (200, 503),
    "/": (200, 503),
    "/metrics": (200,),
    "/api-doc/openapi.json": (200,),
    "/docs": (200,),
}
INFO = {
    *("model_id", "model_sha", "model_dtype", "served_model_name", "model_type", "max_concurrent_requests"),
    *("max_input_length", "max_batch_tokens", "max_batch_requests", "max_client_batch_size", "auto_truncate"),
    *("tokenization_workers", "version", "sha", "docker_label"),
}
HEADERS = {
    *("x-compute-type", "x-compute-time", "x-compute-characters", "x-compute-tokens"),
    *("x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"),
}
ERROR = {"error", "error_type"}
OPENAI_ERROR = {"message", "code", "type"}
KINDS = {400: "Empty", 413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded", 503: "Unhealthy"}

# What the walk finds to be otherwise, and why: (path, what was asked) -> (what came, why).
SPARSE = "no model here has SPLADE's pooling; what that router says of such a model"
PAGE_INSTEAD = "the page; `/health` and `/ping` tell whether it is well"
DIFFERENCES: dict[tuple[str, str], tuple[Any, str]] = {
    ("/embed_sparse", "any body"): (424, SPARSE),
    ("/", "GET, status 503"): (200, PAGE_INSTEAD),
    ("/docs", "GET, status 200"): (404, "the description alone, for any viewer of them"),
}
# What no walk over paths and fields shows.
OTHERWISE = [
    ("long texts", "without `truncate` they are read in windows, not refused; `auto_truncate` is false"),
    ("other models", "every model embeds, so `/embed` of a classifier is no 424; other tasks are served too"),
    ("token ids", "as `/tokenize` gives them, special tokens included; others are 422 and not read as they are"),
    ("unknown fields", "422, not ignored"),
    ("`default_prompt_name`", "is put before texts unless `prompt_name` names another, as in sentence-transformers"),
    ("`POST /` with `parameters`", "the form of the Hugging Face Inference API, where a list is a batch"),
    ("kinds of errors", "also `Timeout`, `Unauthorized`, `Forbidden`, `NotFound`; 401 has a body; never `Tokenizer`"),
    ("`/health`, `/ping`", "200 has a body"),
    ("`/metrics`", "names of its own, and a token if there is one"),
    ("`x-compute-type`", "`cpu`"),
    ("HTTP/2, gRPC", "not spoken"),
]  # fmt: skip


def table() -> str:
    """In Markdown: what the protocol has, and what is otherwise here."""
    lines = ["| | fields | statuses | here |", "| --- | --- | --- | --- |"]
    rows: dict[str, tuple[dict[str, None], tuple[int, ...]]] = {}
    for each in ENDPOINTS:
        fields = rows.setdefault(f"POST {each.path}", ({}, each.statuses))[0]
        fields |= dict.fromkeys([*each.needed, *each.optional])
    rows |= {f"GET {path}": ({}, statuses) for path, statuses in READ.items()}
    for name, (names, statuses) in rows.items():
        method, path = name.split()
        found = {
            f"{what}: {came}, {why}".removeprefix("GET, ")
            for (where, what), (came, why) in DIFFERENCES.items()
            if where == path and what.startswith("GET") == (method == "GET")
        }
        columns = [
            "`" + name + "`",
            ", ".join(names),
            ", ".join(map(str, statuses)),
            "; ".join(sorted(found)) or "the same",
        ]
        lines.append(f"| {' | '.join(columns)} |")
    lines += ["", "| otherwise | |", "| --- | --- |", *(f"| {what} | {why} |" for what, why in OTHERWISE)]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with the table of today."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return before + START + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(page() != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page(), encoding="utf-8")
