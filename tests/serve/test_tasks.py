"""Every task of every head, through the application itself: as `npdistil.pipeline` answers, whoever else asks."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_client import ask

import npdistil
from npdistil.batch import Inputs, Outputs
from npdistil.pipelines import TASKS, task_type
from npdistil.serve.app import Settings, make_app
from npdistil.serve.batching import Batcher, Metrics
from npdistil.serve.openapi import settings_schema
from npdistil.serve.requests import BODIES
from npdistil.serve.service import EXPLANATION, PYTHON_ONLY, QUICK
from npdistil.settings import UNSET, kind_of

Make = Callable[..., Path]
NLI = {"0": "contradiction", "1": "neutral", "2": "entailment"}
HEADS: dict[str, dict[str, Any]] = {
    "classifier": {},
    "reranker": {"id2label": {"0": "LABEL_0"}},
    "nli": {"id2label": NLI, "max_position_embeddings": 48},
    "tokens": {
        "architectures": ["DistilBertForTokenClassification"], "id2label": {"0": "O", "1": "B-LOC", "2": "I-LOC"}
    },
    "questions": {"architectures": ["DistilBertForQuestionAnswering"]},
    "masked": {"architectures": ["DistilBertForMaskedLM"]},
    "choices": {"architectures": ["DistilBertForMultipleChoice"]},
    "encoder": {"architectures": ["DistilBertModel"]},
}  # fmt: skip
TEXT, OTHER = "the film is good , i like it", "a boring movie ?"
LONG = "the film is not bad and she lives in paris " * 5
QUESTION = {"question": "who lives in paris ?", "context": LONG}
CHOICES = {"text": "where is he ?", "choices": ["in paris", "a film", "he is good"]}
LABELS: dict[str, Any] = {"candidate_labels": ["good", "bad", "boring"]}

# The head, the task that `POST /` should run, its inputs and parameters.
CASES: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("classifier", "text-classification", TEXT, {}),
    ("classifier", "text-classification", [LONG, {"text": TEXT, "text_pair": OTHER}], {"top_k": 1, "threshold": 1e9}),
    ("classifier", "text-classification", LONG, {"combine": "none", "long_text": "sentences", "max_length": 12}),
    ("nli", "zero-shot-classification", [TEXT, LONG], {**LABELS, "multi_label": True}),
    ("nli", "zero-shot-classification", TEXT, {"candidate_labels": "good,bad", "hypothesis_template": "it is {} ."}),
    ("nli", "text-classification", {"text": TEXT, "text_pair": OTHER}, {}),
    ("tokens", "token-classification", [TEXT, LONG], {"aggregation_strategy": "simple", "ignore_labels": []}),
    ("tokens", "token-classification", ["she", "lives", "in", "paris"], {"is_split_into_words": True}),
    ("questions", "question-answering", QUESTION, {"top_k": 3, "handle_impossible_answer": True}),
    ("questions", "question-answering", [QUESTION, {"question": "what ?", "context": TEXT}], {"doc_stride": 4}),
    ("masked", "fill-mask", "the [MASK] is good", {}),
    ("masked", "fill-mask", ["a [MASK] film", "i [MASK] it , you [MASK] it"], {"targets": ["good", "like"]}),
    ("choices", "multiple-choice", CHOICES, {}),
    ("encoder", "embedding", [TEXT, LONG], {"pooling": "cls", "normalize": True}),
]
# Those that have to be named.
NAMED: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("classifier", "sentiment-analysis", [TEXT], {"function_to_apply": "none"}),
    ("classifier", "embedding", TEXT, {}),
    ("tokens", "ner", TEXT, {}),
    ("encoder", "feature-extraction", [TEXT, OTHER], {}),
    ("masked", "feature-extraction", LONG, {"truncation": True}),
]


class Inside:
    """The application without a socket."""

    def __init__(self, model: npdistil.Model, **settings: Any) -> None:
        self.app = make_app(model, Settings(**settings))

    async def ask(self, path: str, data: Any = None) -> tuple[int, Any]:
        """As `service_client.ask`."""
        return await ask(self.app, path, data)

    def run(self, *requests: tuple[str, Any]) -> list[tuple[int, Any]]:
        """All of them at once."""

        async def scenario() -> list[tuple[int, Any]]:
            async with self.app.router.lifespan_context(self.app):
                return await asyncio.gather(*(self.ask(*request) for request in requests))

        return asyncio.run(scenario())


def loaded(make: Make, head: str) -> npdistil.Model:
    return npdistil.load(make(**HEADS[head]), engine="numpy")


def expected(model: npdistil.Model, name: str, inputs: Any, parameters: dict[str, Any]) -> Any:
    """The pipeline's answer as JSON, with labels as the Inference API gives them."""
    classifies = name in ("text-classification", "sentiment-analysis")
    answer = npdistil.pipeline(name, model)(inputs, **({"top_k": None} if classifies else {}) | parameters)  # type: ignore[call-overload]
    if classifies and isinstance(inputs, str):
        answer = [answer]
    if name == "zero-shot-classification":
        answers = answer if isinstance(inputs, list) else [answer]
        ranked = [
            [{"label": label, "score": score} for label, score in zip(each["labels"], each["scores"], strict=True)]
            for each in answers
        ]
        answer = ranked if isinstance(inputs, list) else ranked[0]
    return json.loads(json.dumps(answer, default=np.ndarray.tolist))


def as_float32(numbers: Any) -> Any:
    """What the service writes no more of than there is."""
    return [*map(as_float32, numbers)] if isinstance(numbers, list) else np.float32(numbers)


@pytest.mark.parametrize(("head", "name", "inputs", "parameters"), CASES + NAMED, ids=lambda each: str(each)[:30])
def test_a_task_is_answered_as_its_pipeline_answers(
    make: Make, head: str, name: str, inputs: Any, parameters: dict[str, Any]
) -> None:
    model = loaded(make, head)
    right = expected(model, name, inputs, parameters)
    data = {"inputs": inputs, "parameters": parameters}
    paths = [f"/pipeline/{name}"] + ["/"] * ((head, name, inputs, parameters) in CASES)
    for status, answer in Inside(model).run(*((path, data) for path in paths)):
        assert status == 200
        if name in ("embedding", "feature-extraction"):
            assert as_float32(answer) == as_float32(right)
        else:
            assert answer == right


@pytest.mark.parametrize(("head", "name", "inputs", "parameters"), CASES, ids=lambda each: str(each)[:30])
def test_settings_are_refused_by_name(
    make: Make, head: str, name: str, inputs: Any, parameters: dict[str, Any]
) -> None:
    for wrong, message in (
        ({"tok_k": 1}, "unknown setting: tok_k; known are"),
        ({"batch_size": 2}, "batch_size is no parameter of a request"),
        ({"return_tensors": True}, "return_tensors is no parameter of a request"),
        ({"hypothesis_template": "{:>999999999}"}, "hypothesis_template is '{:>999999999}'"),
        ({"inputs": 1, "self": 1}, "unknown setting: inputs, self"),
    ):
        data = {"inputs": inputs, "parameters": parameters | wrong}
        ((status, answer),) = Inside(loaded(make, head)).run(("/", data))
        assert (status, answer["error_type"]) == (422, "Validation")
        assert f"{name}: {message}" in answer["error"]


@pytest.mark.parametrize(
    ("head", "parameters", "message"),
    [
        ("classifier", {"stride": 10**6}, "stride is 1000000; expected at most 24"),
        ("questions", {"max_answer_len": 1e30}, "max_answer_len is 1e+30; expected at most 24"),
        ("masked", {"top_k": 2.5}, "top_k is 2.5; expected a whole number from 1 to"),
        ("classifier", {"top_k": 0}, "top_k is 0; expected a whole number from 1 to"),
        ("classifier", {"function_to_apply": "tanh"}, "function_to_apply is 'tanh'; known are"),
        ("tokens", {"aggregation_strategy": None}, "aggregation_strategy is None; known are"),
        ("questions", {"align_to_words": 1}, "align_to_words is 1; known are"),
        ("masked", {"top_k": True}, "top_k is True"),
        ("encoder", {"pooling": "sum"}, "pooling is 'sum'; known are"),
    ],
)
def test_values_are_checked_by_the_record(make: Make, head: str, parameters: dict[str, Any], message: str) -> None:
    ((status, answer),) = Inside(loaded(make, head)).run(("/", {"inputs": TEXT, "parameters": parameters}))
    assert status == 422
    assert message in answer["error"]


def test_whole_numbers_may_be_written_as_json_writes_any_number(make: Make) -> None:
    asked = [("/", {"inputs": LONG, "parameters": {"top_k": 1, "max_length": length}}) for length in (12, 12.0)]
    first, second = Inside(loaded(make, "classifier")).run(*asked)
    assert first[0] == 200
    assert first == second


def test_an_input_is_needed(make: Make) -> None:
    asked: list[tuple[str, Any]] = [("/", {}), ("/", {"inputs": None}), ("/", {"inputs": []}), ("/", {"inputs": 3})]
    answers = Inside(loaded(make, "classifier")).run(*asked)
    assert [status for status, _ in answers] == [422, 422, 400, 422]
    found = [answer["error"] for _, answer in answers]
    assert found[0] == "inputs is missing"
    assert found[2] == "inputs is an empty list"
    assert [each.partition("; ")[0] for each in found[1::2]] == ["inputs is None", "inputs is 3"]


def test_a_request_for_a_task_that_the_model_was_not_made_for_says_so(make: Make) -> None:
    asked: list[tuple[str, Any]] = []
    asked += [(f"/pipeline/{name}", {"inputs": TEXT}) for name in ("ner", "fill-mask", "zero-shot-classification")]
    asked.append(("/", {"inputs": TEXT, "parameters": LABELS}))
    for (path, _), (status, answer) in zip(asked, Inside(loaded(make, "classifier")).run(*asked), strict=True):
        assert (status, answer["error_type"]) == (424, "Backend"), path
        assert "no task for this model, a DistilBertForSequenceClassification with the labels NEG" in answer["error"]
    ((status, answer),) = Inside(loaded(make, "classifier")).run(("/", {"inputs": QUESTION, "parameters": {}}))
    assert status == 422
    assert answer["error"].startswith("text-classification: text 0 is a dict: ")


@pytest.mark.parametrize(
    ("head", "name", "settings"),
    [
        ("classifier", "text-classification", {"top_k": None}),
        ("nli", "text-classification", {"function_to_apply": "sigmoid", "combine": "none"}),
        ("tokens", "token-classification", {"ignore_labels": []}),
        ("encoder", "embedding", {"normalize": True}),
    ],
)
def test_an_answer_that_is_made_together_with_others_has_the_bytes_that_it_has_alone(
    make: Make, engine: str, head: str, name: str, settings: dict[str, Any]
) -> None:
    model = npdistil.load(make(**HEADS[head]), engine=engine)
    task = task_type(name)(model.checkpoint, **settings)
    assert isinstance(task, QUICK)
    words = LONG.split()
    texts = [" ".join(words[i % 9 : i % 9 + n]) for i in range(9) for n in (1, 3, 12, 45)]
    some = [texts[i : i + 1 + i % 3] for i in range(len(texts))]
    requests = [task.preprocess(each) for each in [*some, texts]]  # the last of which has several turns in a batch
    calls: list[int] = []
    waits = threading.Event()
    waits.set()

    def forward(inputs: Inputs) -> Outputs:
        waits.wait()
        return model.forward(inputs)

    def postprocess(outputs: Outputs) -> list[Any]:
        calls.append(len(outputs.inputs.counts))
        return task.postprocess(outputs)

    def written(answers: list[Any]) -> str:
        return json.dumps(answers, default=lambda array: [str(array.dtype), array.tobytes().hex()])

    async def scenario() -> tuple[list[str], list[str]]:
        wrong: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        batcher = Batcher(forward, forward, 1, 100_000, 100_000, 0.0, Metrics())
        try:
            alone = [written(await batcher.run(each, postprocess)) for each in requests]
            waits.clear()
            together = [asyncio.create_task(batcher.run(each, postprocess)) for each in requests]
            await asyncio.sleep(0)  # all of them are in the queue, and no more than the first one is taken
            waits.set()
            answers = await asyncio.gather(*together)
        finally:
            batcher.stop()
        assert not wrong
        return alone, [*map(written, answers)]

    alone, together = asyncio.run(scenario())
    assert alone == together
    assert max(calls) > len(texts), "answers were not made together"


def test_requests_for_different_tasks_run_in_one_batch_and_get_what_they_get_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = npdistil.load(make(**HEADS["nli"]), engine="numpy", threads=1)  # else each takes its share
    asked: list[tuple[str, Any]] = [
        ("/", {"inputs": TEXT, "parameters": LABELS}),
        ("/", {"inputs": [OTHER, LONG], "parameters": {}}),
        ("/predict", {"inputs": [[TEXT], [TEXT, OTHER]]}),
        ("/explain", {"inputs": OTHER, "attention": True}),
        ("/embed", {"inputs": [TEXT, LONG]}),
        ("/pipeline/feature-extraction", {"inputs": OTHER}),
    ] * 3  # fmt: skip
    alone = [Inside(model).run(each)[0] for each in asked]
    assert {status for status, _ in alone} == {200}
    ran: list[Inputs] = []

    def forward(inputs: Inputs) -> Outputs:
        ran.append(inputs)
        return type(model).forward(model, inputs)

    monkeypatch.setattr(model, "forward", forward)
    together = Inside(model, gather_ms=200)
    ran.clear()
    assert together.run(*asked) == alone
    outputs = [each.output for each in ran]
    assert len(ran) < len(asked)
    assert set(outputs) == {"logits", "attentions", "mean", "hidden_states"}
    assert any(len(each.token_ids) > 5 and each.output == "logits" for each in ran)


def test_what_would_cost_too_much_is_refused_before_it_runs(make: Make) -> None:
    for head, inputs, parameters, message in (
        ("nli", [TEXT] * 8, {"candidate_labels": ["a"] * 200}, "1600 texts; at most 1024"),
        ("nli", LONG, {"candidate_labels": ["a"] * 1000}, "tokens; at most 400 a request"),
        ("choices", {"text": LONG, "choices": ["a"] * 1000}, {}, "tokens; at most 400 a request"),
        ("masked", ["[MASK] " * 20] * 10, {}, "200 masks; at most 128"),
    ):
        limited = Inside(loaded(make, head), max_request_tokens=400)
        ((status, answer),) = limited.run(("/", {"inputs": inputs, "parameters": parameters}))
        assert (status, answer["error_type"]) == (413, "Validation")
        assert message in answer["error"]


def test_windows_that_hardly_advance_are_refused_before_they_are_made(make: Make) -> None:
    model = npdistil.load(make(max_position_embeddings=128), engine="numpy")
    asked = [("/", {"inputs": "a " * 200, "parameters": {"stride": stride}}) for stride in (124, 125)]
    asked.append(("/predict", {"inputs": ["a " * 92, "a " * 200]}))  # 33 tokens beside the first text, and 32 shared
    answers = Inside(model).run(*asked)
    assert [status for status, _ in answers] == [200, 422, 422]
    assert "with a stride of 125 leave 126 for the text to be cut" in answers[1][1]["error"]


def test_a_text_too_long_for_the_model_is_refused_without_harm_to_its_neighbours(make: Make) -> None:
    right = {"inputs": "the [MASK] is good"}
    answers = Inside(loaded(make, "masked"), gather_ms=100).run(
        ("/", right), ("/", {"inputs": [right["inputs"], "[MASK] " + LONG]}), ("/", right)
    )
    assert [status for status, _ in answers] == [200, 422, 200]
    assert "fill-mask: text 1 has 53 tokens; the model takes 1 to 24" in answers[1][1]["error"]
    assert answers[0] == answers[2]


def test_a_body_nested_as_deeply_as_its_reader_allows_is_the_client_s_mistake(make: Make) -> None:
    depths = range(500, 1200, 7)
    asked = [("/predict", b'{"inputs": %b%b}' % (b"[" * depth, b"]" * depth)) for depth in depths]
    answers = Inside(loaded(make, "classifier")).run(*asked)
    assert {status for status, _ in answers} <= {400, 422}, answers


@pytest.mark.parametrize("name", [name for name in TASKS if name != EXPLANATION])
def test_the_schema_of_a_task_is_its_record(name: str) -> None:
    record = task_type(name).settings_type
    schema = settings_schema(record, 512)
    described = schema["properties"]
    assert [*described] == [each.name for each in fields(record) if each.name not in PYTHON_ONLY]
    assert schema["additionalProperties"] is False
    for each in fields(record):
        if each.name in PYTHON_ONLY:
            continue
        own = described[each.name]
        assert own["description"] == each.metadata["about"]
        nullable = {"type": "null"} in own.get("anyOf", [])
        assert nullable == (None in each.metadata["also"])
        assert (each.name in schema["required"]) == (each.default is UNSET and not nullable)
        plain = own["anyOf"][0] if nullable else own
        asked = dict(kind_of(each).schema)
        assert plain.get("maximum", 0) <= asked.pop("maximum", 0)  # the service may allow less
        assert plain.items() >= asked.items()
        if "enum" in plain:
            assert plain["enum"] == [
                value for value in (True, False, *kind_of(each).choices) if kind_of(each).takes(value)
            ]


@pytest.mark.parametrize("head", HEADS)
def test_the_description_has_the_tasks_of_the_model_and_their_examples_are_answered(make: Make, head: str) -> None:
    service = Inside(loaded(make, head))
    ((_, described),) = service.run(("/openapi.json", None))
    tasks = service.app.state.service.tasks
    posts = {path: each["post"] for path, each in described["paths"].items() if "post" in each}
    assert {*posts} == {*BODIES, "/invocations"} | {f"/pipeline/{name}" for name in tasks if name != EXPLANATION}
    asked = []
    for path, each in posts.items():
        body = each["requestBody"]["content"]["application/json"]
        asked.append((path, body["example"]))
    refused = {"/embed_sparse"} | ({*()} if head == "reranker" else {"/rerank"})
    refused |= {*()} if head in ("classifier", "nli", "reranker") else {"/predict", "/explain"}
    answers = zip(asked, service.run(*asked), strict=True)
    assert {path: status for (path, _), (status, _) in answers} == {
        path: 424 if path in refused else 200 for path, _ in asked
    }
