"""Every task with every argument, when it is made and when it is called, over many inputs: against transformers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers
from pipelines_compared import Matrix, write_model
from tokenizers import Tokenizer

import npdistil

TEXT = "John Smith of the UN lives in Paris; it isn't bad."
LONG = "Anna left New York for Paris, where she met Dr. O'Neill. " * 60
PAIR = {"text": TEXT, "text_pair": "He does."}
MASKED = "John lives in [MASK]."
TWO_MASKS = "[MASK] lives in [MASK]."
ASKED = {"question": "Who lives in Paris?", "context": TEXT}
V5 = int(transformers.__version__.split(".")[0]) >= 5
Given = dict[str, Any]

LOADING: list[Given] = [
    {},
    {"device": "cpu"},
    {"device": -1},
    {"device": torch.device("cpu")},
    {"dtype": "auto"},
    {"torch_dtype": torch.float32},
    {"use_fast": True},
    {"use_fast": False},
    {"revision": None},
    {"revision": "main"},
    {"token": None},
    {"trust_remote_code": False},
    {"model_kwargs": {}},
    {"binary_output": False},
    {"feature_extractor": None},
    {"batch_size": 2},
    {"batch_size": None},
    {"num_workers": 0},
    {"num_workers": None},
    {"nonsense": 1},
]
if not V5:
    LOADING += [{"framework": "pt"}, {"use_auth_token": None}]
CALLS: list[Given] = [{}, {"batch_size": 2}, {"batch_size": None}, {"num_workers": 0}, {"num_workers": None}]


class Task:
    """What is tried of one task: arguments that `pipeline` and its calls take, and inputs."""

    def __init__(self, name: str, architecture: str, config: Given, given: list[Given], inputs: list[Any]) -> None:
        self.name, self.architecture, self.config, self.given, self.inputs = name, architecture, config, given, inputs


STRATEGIES = ("none", "simple", "first", "average", "max", "SIMPLE", "Max")
TASKS = [
    Task(
        "text-classification",
        "DistilBertForSequenceClassification",
        {"id2label": dict(enumerate(("anger", "fear", "joy")))},
        [
            *({"top_k": each} for each in (None, 1, 2, 9)),
            *({"function_to_apply": each} for each in ("sigmoid", "SIGMOID", "softmax", "none", "None", None)),
            *({"return_all_scores": each} for each in (True, False, None)),
            {"padding": True},
            {"truncation": True},
            {"truncation": True, "max_length": 8},
            {"truncation": True, "max_length": 8, "padding": "max_length"},
            {"add_special_tokens": True},
            {"return_all_scores": True, "function_to_apply": "SIGMOID"},
            {"return_all_scores": True, "top_k": 1},
        ],
        [TEXT, "", [TEXT], [TEXT, "bad"], PAIR, [PAIR, {"text": "a"}], [], LONG],
    ),
    Task(
        "token-classification",
        "DistilBertForTokenClassification",
        {"id2label": dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC")))},
        [
            *({"aggregation_strategy": each} for each in (*STRATEGIES, None)),
            *({"ignore_labels": each} for each in (None, [], ["O", "PER"])),
            *({"grouped_entities": each} for each in (True, False, None)),
            {"grouped_entities": True, "ignore_subwords": True},
            {"ignore_subwords": True},
            {"stride": None},
            {"aggregation_strategy": "first", "stride": 16},
            {"is_split_into_words": False},
            {"delimiter": None},
            {"offset_mapping": None},
        ],
        [TEXT, "", [TEXT], [TEXT, "John"], [], LONG],
    ),
    Task(
        "fill-mask",
        "DistilBertForMaskedLM",
        {},
        [
            *({"top_k": each} for each in (None, 1, 3)),
            *({"targets": each} for each in (None, "paris", ["paris", "london"])),
            {"tokenizer_kwargs": None},
            {"tokenizer_kwargs": {"padding": True}},
            {"tokenizer_kwargs": {"truncation": True}},
            {"top_k": 2, "targets": ["paris"]},
        ],
        [MASKED, [MASKED], [MASKED, MASKED], TWO_MASKS, "no mask", MASKED + LONG],
    ),
    Task(
        "zero-shot-classification",
        "DistilBertForSequenceClassification",
        {
            "id2label": dict(enumerate(("contradiction", "neutral", "entailment"))),
            "label2id": {"contradiction": 0, "neutral": 1, "entailment": 2},
        },
        [
            {"candidate_labels": ["food", "film"]},
            {"candidate_labels": "food, film"},
            {"candidate_labels": "food"},
            {"candidate_labels": []},
            {"candidate_labels": ["food", "film"], "multi_label": True},
            {"candidate_labels": ["food", "film"], "multi_class": True},
            {"candidate_labels": ["food", "film"], "hypothesis_template": "It is {}."},
            {"candidate_labels": ["food", "film"], "hypothesis_template": "It is not."},
        ],
        [TEXT, [TEXT], [TEXT, "bad"], [], ""],
    ),
    Task(
        "feature-extraction",
        "DistilBertModel",
        {},
        [
            {"truncation": True},
            {"truncation": None},
            {"tokenize_kwargs": {"truncation": True}},
            {"tokenize_kwargs": {}},
            {"return_tensors": False},
            {"return_tensors": "pt"},
            {"return_tensors": True},
        ],
        [TEXT, "", [TEXT], [TEXT, "bad"], []],
    ),
    Task(
        "question-answering",
        "DistilBertForQuestionAnswering",
        {},
        [
            *({"top_k": each} for each in (None, 1, 3)),
            *({"topk": each} for each in (None, 2)),
            *({"max_answer_len": each} for each in (None, 1, 4)),
            *({"handle_impossible_answer": each} for each in (None, True)),
            *({"align_to_words": each} for each in (None, False)),
            {"max_seq_len": None},
            {"doc_stride": None},
            {"padding": True},
            {"padding": "do_not_pad"},
        ],
        [ASKED, [ASKED], [ASKED, ASKED]],
    ),
]


def reasons(task: str, given: Given, inputs: Any) -> str:
    """Why the answers may differ; "" where they may not."""
    if "nonsense" in given:
        return "an argument that nobody knows is refused here, where some calls there take any"
    if V5 and {"return_all_scores", "grouped_entities", "ignore_subwords", "multi_class", "use_auth_token"} & {*given}:
        return "an argument of transformers 4 works here; 5 refuses or overlooks it"
    if inputs == LONG and not given.get("truncation"):
        return "long texts are read in windows here"
    if inputs == []:
        return "no texts have no answers here"
    if task == "zero-shot-classification" and inputs == "":
        return "an empty text is a text here"
    if given.get("candidate_labels") == [] or given.get("hypothesis_template") == "It is not.":
        return "what no call could use is refused when the pipeline is made"
    if task == "feature-extraction" and given.get("batch_size"):
        return "a batch has no states of padding here"
    if "use_auth_token" in given:
        return "accepted here by every task"
    if "return_all_scores" in given and "top_k" in given:
        return "a top_k that the pipeline was made with stays, whatever return_all_scores the call has"
    return ""


def situations(task: Task) -> Iterator[tuple[Given, Given, Any]]:
    """Arguments of the pipeline, of the call, and inputs."""
    needed = {"candidate_labels": ["food", "film"]} if task.name == "zero-shot-classification" else {}
    for made in LOADING:
        for call in CALLS[:2]:
            for inputs in task.inputs[:4]:
                yield made, needed | call, inputs
    for given in task.given:
        for inputs in task.inputs:
            yield {}, given, inputs
            yield given, {}, inputs
        for call in CALLS:
            yield given, call, task.inputs[2]
        for other in task.given:  # what a call says against what the pipeline was made with
            yield given, other, task.inputs[2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_arguments(bundled: Path, tmp_path: Path, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    if task.name == "question-answering" and V5:
        pytest.skip("transformers 5 has no such pipeline")
    tokenizer = Tokenizer.from_file(str(bundled / "tokenizer.json"))
    directory = write_model(tmp_path, tokenizer, task.architecture, **task.config)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((bundled / name).read_bytes())
    own, ours = npdistil.load(directory), cast(Any, npdistil.pipeline)
    other = getattr(transformers, task.architecture).from_pretrained(directory).eval()
    its = transformers.AutoTokenizer.from_pretrained(directory)
    pipes: dict[tuple[str, str], Any] = {}  # made once for all of their calls

    def pipe(side: str, made: Given) -> Any:
        key = side, repr(made)
        if key not in pipes:
            if side == "ours":
                pipes[key] = ours(task.name, model=own, tokenizer=own.tokenizer, **made)
            else:
                pipes[key] = transformers.pipeline(task.name, model=other, tokenizer=its, **made)
        return pipes[key]

    matrix = Matrix(
        lambda made, call, inputs: pipe("ours", made)(inputs, **call),
        lambda made, call, inputs: pipe("theirs", made)(inputs, **call),
    )
    for made, call, inputs in situations(task):
        matrix.compare(
            made, call, inputs, on_purpose=reasons(task.name, made, inputs) or reasons(task.name, made | call, inputs)
        )
    with capsys.disabled():
        print(f"\n{task.name}: {matrix}")
    assert matrix.equal > 0.6 * matrix.tried


def test_states_of_torch(bundled: Path) -> None:
    pipe = npdistil.pipeline("feature-extraction", bundled)
    assert isinstance(pipe(TEXT, return_tensors="pt"), torch.Tensor)
    assert isinstance(pipe(TEXT, return_tensors=True), np.ndarray)
