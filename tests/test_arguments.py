"""Arguments and names of transformers: each is honoured, changes nothing, or is refused with what to write."""

import inspect
import pydoc
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import npdistil
from npdistil.arguments import ARGUMENTS, CALL, FIRST, PIPELINE, TABLE
from npdistil.errors import InputError
from npdistil.pipelines import PIPELINES, TASKS, task_type
from npdistil.tokenizer import INSTEAD

Make = Callable[..., Path]
NER = {"architectures": ["DistilBertForTokenClassification"], "id2label": {0: "O", 1: "B-PER", 2: "I-PER"}}
FIVE = {"id2label": dict(enumerate(("anger", "fear", "joy", "love", "none")))}
TEXT = "a good film"


class Torch:
    """Stands for torch.device and torch.dtype, which show themselves so."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


@pytest.fixture
def five(make: Make) -> npdistil.Model:
    return npdistil.load(make(**FIVE), engine="numpy")


NOTHING: list[dict[str, Any]] = [  # changes nothing
    *({"device": each} for each in (-1, "cpu", Torch("cpu"), None)),
    *({"device_map": each} for each in ("cpu", "auto", {"": "cpu"})),
    *({"torch_dtype": each} for each in ("auto", "float32", Torch("torch.float16"), np.float32)),
    *({"dtype": each} for each in ("bfloat16", None)),
    *({"framework": each} for each in ("pt", "tf")),
    *({"use_fast": each} for each in (True, False)),
    {"cache_dir": "/nowhere"},
    {"cache_dir": None},
    {"token": "hf_"},
    {"use_auth_token": True},
    {"revision": "main"},
    {"trust_remote_code": True},
    {"local_files_only": True},
    {"model_kwargs": {"low_cpu_mem_usage": True, "num_labels": 5, "id2label": FIVE["id2label"]}},
    {"model_kwargs": {}},
    {"num_workers": 4},
    {"padding": True},
    {"padding": "max_length"},
    {"add_special_tokens": True},
    {"tokenizer_kwargs": {"padding": True}},
    {"batch_size": None},
    {"feature_extractor": None},
    {"modelcard": None},
    {"binary_output": False},
    {"framework": None, "top_k": 1, "function_to_apply": None},
]


@pytest.mark.parametrize("given", NOTHING, ids=str)
def test_arguments_that_change_nothing(make: Make, given: dict[str, Any]) -> None:
    top: dict[str, Any] = {"top_k": 1} if "top_k" in given else {}
    plain = npdistil.pipeline("text-classification", make(**FIVE), engine="numpy", **top)
    pipe = npdistil.pipeline("text-classification", make(**FIVE), engine="numpy", **given)
    assert pipe(TEXT) == plain(TEXT)
    if all((CALL, name) in TABLE or name in ("batch_size", "top_k", "function_to_apply") for name in given):
        assert pipe(TEXT, **given) == plain(TEXT, **given)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"device": 0}, "device is 0; everything is computed on the CPU: leave device out"),
    ({"device": "cuda"}, "on the CPU"),
    ({"device": Torch("cuda:0")}, "on the CPU"),
    ({"device": "mps"}, "on the CPU"),
    ({"device_map": {"": 0}}, "leave device_map out"),
    ({"torch_dtype": Torch("torch.float64")}, 'precision="int8"'),
    ({"dtype": "int8"}, 'precision="int8"'),
    ({"model_kwargs": {"load_in_8bit": True}}, 'precision="int8"'),
    ({"model_kwargs": {"num_labels": 2}}, "num_labels is 2; the directory says 5"),
    ({"model_kwargs": {"output_attentions": True}}, "attentions"),
    ({"add_special_tokens": False}, "hidden_states"),
    ({"tokenizer_kwargs": 5}, "expected a dict"),
    ({"tokenizer_kwargs": {"truncaton": True}}, "unknown setting: truncaton"),
    ({"feature_extractor": "x"}, "texts alone"),
    ({"binary_output": True}, "pickle that"),
    ({"pipeline_class": int}, "the task says"),
    ({"config": "other"}, "config.json"),
    ({"grouped_entities": True}, "unknown setting: grouped_entities"),
    ({"topk": 3}, "unknown setting: topk"),
]


@pytest.mark.parametrize(("given", "says"), REFUSED, ids=str)
def test_arguments_that_are_refused_say_what_to_write(make: Make, given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        npdistil.pipeline("text-classification", make(**FIVE), engine="numpy", **given)


def test_every_argument_of_the_table_is_known_by_what_becomes_of_it() -> None:
    for each in ARGUMENTS:
        assert each.about
        assert each.calls
        odd = not each.takes(object()) and not each.same
        assert bool(each.instead) or not odd, each.names


def test_return_all_scores_keeps_the_models_order(five: npdistil.Model) -> None:
    names = list(FIVE["id2label"].values())
    by_score = npdistil.pipeline("text-classification", five, top_k=None)([TEXT])[0]
    pipe = npdistil.pipeline("text-classification", five, return_all_scores=True)
    ((answer,), listed) = pipe(TEXT), pipe([TEXT, TEXT])
    assert [each["label"] for each in answer] == names
    assert sorted(answer, key=lambda each: -each["score"]) == by_score
    assert listed == [answer, answer]
    assert pipe([TEXT], return_all_scores=False) == [by_score[0]]
    assert pipe(TEXT, top_k=2) == by_score[:2]  # which counts more, and wraps no string's answer
    assert npdistil.pipeline("text-classification", five)([TEXT], return_all_scores=True) == [answer]


def test_choices_in_any_letter_case_and_as_enumerations(make: Make, five: npdistil.Model) -> None:
    pipe = npdistil.pipeline("text-classification", five)
    member = SimpleNamespace(value="sigmoid")
    assert pipe(TEXT, function_to_apply="SIGMOID") == pipe(TEXT, function_to_apply="sigmoid")  # type: ignore[call-overload]
    assert pipe(TEXT, function_to_apply=member) == pipe(TEXT, function_to_apply="sigmoid")  # type: ignore[call-overload]
    model = npdistil.load(make(**NER), engine="numpy")
    ner = npdistil.pipeline("ner", model, aggregation_strategy="SIMPLE")  # type: ignore[call-overload]
    assert ner(TEXT) == npdistil.pipeline("ner", model)(TEXT, aggregation_strategy="simple")


def test_names_that_transformers_had_before(make: Make) -> None:
    ner = npdistil.pipeline("ner", make(**NER), engine="numpy")
    assert ner(TEXT, grouped_entities=True) == ner(TEXT, aggregation_strategy="simple")
    assert ner(TEXT, grouped_entities=False) == ner(TEXT)
    first = ner(TEXT, aggregation_strategy="first")
    assert ner(TEXT, grouped_entities=True, ignore_subwords=True) == first
    assert ner(TEXT, ignore_subwords=True, grouped_entities=True) == first
    assert ner(TEXT, ignore_subwords=False, grouped_entities=True) == ner(TEXT, aggregation_strategy="simple")
    assert ner(TEXT, ignore_subwords=True, grouped_entities=None) == ner(TEXT)
    nli = npdistil.pipeline("zero-shot-classification", make(id2label={0: "entailment", 1: "no"}), engine="numpy")
    asked: dict[str, Any] = {"candidate_labels": ["a", "b"]}
    assert nli(TEXT, multi_class=True, **asked) == nli(TEXT, multi_label=True, **asked)
    answers = npdistil.pipeline("question-answering", make(architectures=["DistilBertForQuestionAnswering"]))
    assert answers("who", TEXT, topk=2) == answers("who", TEXT, top_k=2)


def test_none_leaves_what_the_pipeline_was_made_with(make: Make, five: npdistil.Model) -> None:
    pipe = npdistil.pipeline("text-classification", five, function_to_apply="none", threshold=-10.0)
    assert pipe(TEXT, function_to_apply=None, threshold=None, batch_size=None) == pipe(TEXT)
    assert len(pipe(TEXT, top_k=None, threshold=None)) == 5  # None is a value of this one
    ner = npdistil.pipeline("ner", make(**NER), aggregation_strategy="simple", ignore_labels=[])
    assert ner(TEXT, aggregation_strategy=None, ignore_labels=None, delimiter=None) == ner(TEXT)
    fill = npdistil.pipeline("fill-mask", make(architectures=["DistilBertForMaskedLM"]), top_k=None)
    assert len(fill("a [MASK]", top_k=None)) == 5
    answers = npdistil.pipeline("question-answering", make(architectures=["DistilBertForQuestionAnswering"]), top_k=2)
    assert answers("who", TEXT, top_k=None) == answers("who", TEXT)


@pytest.mark.parametrize("name", FIRST)
def test_the_first_argument_by_its_names(five: npdistil.Model, name: str) -> None:
    pipe: Any = npdistil.pipeline("text-classification", five)
    assert pipe(**{name: [TEXT]}) == pipe([TEXT]) == pipe.predict([TEXT]) == pipe.transform([TEXT])
    with pytest.raises(InputError, match="found 2 inputs; expected one"):
        pipe(TEXT, **{name: TEXT})
    with pytest.raises(InputError, match="found 0 inputs"):
        pipe()
    with pytest.raises(InputError, match="found 2 inputs"):
        pipe(TEXT, TEXT)


def test_questions_by_place(make: Make) -> None:
    pipe: Any = npdistil.pipeline("question-answering", make(architectures=["DistilBertForQuestionAnswering"]))
    item = {"question": "who", "context": TEXT}
    assert pipe("who", TEXT) == pipe(item) == pipe(X=item) == pipe(data=[item]) == pipe(question="who", context=TEXT)
    assert pipe(item, item) == [pipe(item)] * 2
    with pytest.raises(InputError):
        pipe("who")


@pytest.mark.parametrize("task", [each.own for each in PIPELINES.values()])
def test_a_class_of_a_pipeline_is_what_pipeline_gives(make: Make, task: str) -> None:
    heads: dict[str, dict[str, Any]] = {
        "token-classification": NER,
        "question-answering": {"architectures": ["DistilBertForQuestionAnswering"]},
        "fill-mask": {"architectures": ["DistilBertForMaskedLM"]},
        "zero-shot-classification": {"id2label": {0: "entailment", 1: "no"}},
        "multiple-choice": {"architectures": ["DistilBertForMultipleChoice"]},
    }
    model = npdistil.load(make(**heads.get(task, FIVE)), engine="numpy")
    made = npdistil.pipeline(task, model)  # type: ignore[call-overload]
    cls = PIPELINES[TASKS[task]]
    assert type(made) is cls
    other = cls(model=model, tokenizer=model.tokenizer)
    assert (other.task, other.processor.settings, other.device) == (task, made.processor.settings, "cpu")
    assert isinstance(made, npdistil.Pipeline)


def test_a_model_says_its_task(make: Make) -> None:
    directory = make(**NER)
    assert npdistil.pipeline(model=directory, engine="numpy").task == "token-classification"
    assert (
        npdistil.pipeline(model=npdistil.load(directory), aggregation_strategy="simple").task == "token-classification"
    )
    assert npdistil.pipeline(model=make(architectures=["DistilBertModel"])).task == "embedding"
    with pytest.raises(InputError, match="give a task, or a model"):
        npdistil.pipeline()


@pytest.mark.parametrize("task", ["ner", "question-answering", "fill-mask", "zero-shot-classification"])
def test_tasks_without_a_bundled_model_say_what_to_pass(task: str) -> None:
    with pytest.raises(InputError, match=rf'no model is bundled for "{task}".*pass model=.*DistilBertFor'):
        npdistil.pipeline(task)  # type: ignore[call-overload]


def test_auto_classes(make: Make, tmp_path: Path) -> None:
    directory = make(**FIVE)
    model = npdistil.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=5, engine="numpy")
    tokenizer = npdistil.AutoTokenizer.from_pretrained(directory, use_fast=True, do_lower_case=True)
    pipe = npdistil.pipeline("text-classification", model=model, tokenizer=tokenizer, device=-1)
    assert pipe(TEXT) == npdistil.pipeline(
        "text-classification", str(directory), tokenizer=str(directory), engine="numpy"
    )(TEXT)
    assert pipe.model.config.id2label == FIVE["id2label"]
    assert pipe.model.config.num_labels == 5
    assert pipe.tokenizer.name_or_path == model.name_or_path == str(directory)
    assert pipe.tokenizer.mask_token == "[MASK]"
    assert pipe.tokenizer.mask_token_id == pipe.tokenizer.token_to_id("[MASK]")
    assert pipe.tokenizer.model_max_length == tokenizer.model_max_length == 24
    assert len(tokenizer) == tokenizer.get_vocab_size()
    assert model.to("cpu").eval() is model
    assert model.device == "cpu"
    with pytest.raises(InputError, match="on the CPU"):
        model.to("cuda")
    with pytest.raises(InputError, match="needs a DistilBertForTokenClassification"):
        npdistil.DistilBertForTokenClassification.from_pretrained(directory)
    with pytest.raises(InputError, match="num_labels is 3; the directory says 5"):
        npdistil.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=3)
    with pytest.raises(InputError, match="do_lower_case is False"):
        npdistil.DistilBertTokenizerFast.from_pretrained(directory, do_lower_case=False)
    with pytest.raises(InputError, match="unknown argument: num_label;"):
        npdistil.AutoModel.from_pretrained(directory, num_label=3)
    with pytest.raises(InputError, match="AutoTokenizer.from_pretrained"):
        npdistil.AutoTokenizer()
    with pytest.raises(InputError, match="DistilBertModel.from_pretrained|AutoModel.from_pretrained"):
        npdistil.DistilBertModel(None)


def test_another_models_tokenizer_is_refused(make: Make) -> None:
    ours, others = make(**FIVE), npdistil.bundled_model()
    assert npdistil.pipeline("text-classification", ours, tokenizer=make(**FIVE))  # another directory, the same words
    for tokenizer in (others, str(others), npdistil.AutoTokenizer.from_pretrained(others), object()):
        with pytest.raises(InputError, match="tokenizer is .*which is not that of"):
            npdistil.pipeline("text-classification", ours, tokenizer=tokenizer)


def test_a_model_of_torch_is_refused_with_how_to_save_it() -> None:
    class DistilBertForSequenceClassification:
        def save_pretrained(self, directory: str) -> None: ...

    with pytest.raises(InputError, match=r"a DistilBertForSequenceClassification; expected .*save_pretrained"):
        npdistil.pipeline("text-classification", DistilBertForSequenceClassification())  # type: ignore[call-overload]


def test_first_guesses_are_led_on(five: npdistil.Model) -> None:
    guess: Any = five
    with pytest.raises(InputError, match=r"model\.predict\(\[text\]\)"):
        guess.tokenizer(TEXT, return_tensors="pt")
    with pytest.raises(InputError, match=r"model\.predict\(\[text\]\)"):
        guess(input_ids=[[1]], attention_mask=[[1]])
    with pytest.raises(InputError, match="put the token ids of a single text in a list"):
        guess.logits([2, 3])
    with pytest.raises(InputError, match="found a string; put it in a list"):
        guess.scores("I love it.")


def test_methods_of_transformers_tokenizers_say_what_to_write(five: npdistil.Model) -> None:
    tokenizer = five.tokenizer
    assert tokenizer.encode(TEXT, add_special_tokens=False).tokens == tokenizer.encode(TEXT).tokens[1:-1]
    with pytest.raises(
        AttributeError, match=r"no tokenizer\.tokenize here: write .*add_special_tokens=False\)\.tokens"
    ):
        tokenizer.tokenize(TEXT)
    for name, instead in INSTEAD.items():
        assert not hasattr(tokenizer, name)
        assert hasattr(tokenizer, instead.partition("(")[0])


def test_hidden_states_as_arrays(make: Make) -> None:
    pipe = npdistil.pipeline("feature-extraction", make(architectures=["DistilBertModel"]), engine="numpy")
    (states,) = pipe([TEXT], return_tensors="np")
    assert isinstance(states, np.ndarray)
    assert states.tolist() == pipe(TEXT)
    assert np.array_equal(np.asarray(pipe(TEXT, return_tensors="pt")), states)  # of torch, where that is installed


def test_what_the_hub_is_asked_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(npdistil.CheckpointError, match=f"cache {tmp_path}, and local_files_only forbids"):
        npdistil.pipeline("ner", "owner/name", cache_dir=tmp_path, local_files_only=True)
    asked: dict[str, Any] = {}

    def download(name: str, **given: Any) -> str:
        asked.update(given)
        raise OSError("not today")

    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", download)
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(npdistil.CheckpointError, match="not today"):
        npdistil.pipeline("ner", "owner/name", revision="v2", use_auth_token="hf_x", cache_dir=tmp_path)
    assert (asked["revision"], asked["token"], asked["cache_dir"]) == ("v2", "hf_x", tmp_path)


def test_the_pipelines_call_takes_what_pipeline_takes() -> None:
    assert all((PIPELINE, name) not in TABLE for call, name in TABLE if call == CALL)


def test_the_page_and_the_types_are_as_the_script_makes_them() -> None:
    script = Path(__file__).parents[1] / "docs" / "arguments.py"
    done = subprocess.run([sys.executable, script, "--check"], check=False, timeout=300)
    assert done.returncode == 0, "python docs/arguments.py writes them"


@pytest.mark.parametrize("cls", PIPELINES.values(), ids=lambda cls: cls.own)
def test_help_of_a_pipeline_tells_every_setting_with_its_default(cls: type[npdistil.Pipeline]) -> None:
    shown, about = inspect.signature(cls), inspect.getdoc(cls) or ""
    assert [*shown.parameters][:2] == ["model", "tokenizer"]
    for each in fields(task_type(cls.own).settings_type):
        assert shown.parameters[each.name].default == each.default
        assert f"\n    {each.name}: {each.metadata['about'][:20]}" in about
    assert {"engine", "precision", "threads"} <= {*shown.parameters}
    page = pydoc.plain(pydoc.render_doc(cls))
    words = [
        re.sub(r"[\s|]", "", each) for each in (str(shown)[1:-1], page)
    ]  # newer ones have a line for each parameter
    assert words[0] in words[1]
    assert "object object" not in page


def test_help_of_pipeline_lists_the_settings_of_every_task() -> None:
    section = (inspect.getdoc(npdistil.pipeline) or "").split("Settings of each task::\n\n")[1].split("\n\n")[0]
    listed = dict(entry.split(": ", 1) for entry in re.split(r"\n    (?! )", f"\n{section}")[1:])
    assert [task for tasks in listed for task in tasks.split(", ")] == [*TASKS]
    for tasks, settings in listed.items():
        names = [each.name for each in fields(task_type(tasks.split(", ")[0]).settings_type)]
        assert re.findall(r"(?:^|,\s+)(\w+)(?==|,|$)", settings) == names


def test_a_pipelines_signature_is_that_of_its_call(five: npdistil.Model) -> None:
    pipe = npdistil.pipeline("text-classification", five)
    shown = str(inspect.signature(pipe))
    assert shown.startswith("(inputs, *, batch_size=256, long_text='windows'")
    assert "top_k=UNSET" in shown
    assert "engine" not in shown
    assert "\n    top_k: how many labels to give" in (inspect.getdoc(pipe) or "")


def test_a_class_of_a_users_own_has_what_it_was_made_of(five: npdistil.Model) -> None:
    class Mine(npdistil.TextClassificationPipeline):  # type: ignore[type-arg]
        """My own."""

    assert inspect.getdoc(Mine) == "My own."
    assert inspect.signature(Mine) == inspect.signature(npdistil.TextClassificationPipeline)
    assert Mine(five)("good")[0]["label"] in five.classes_


@pytest.mark.parametrize(
    ("call", "task"),
    [(npdistil.Model.scores, "text-classification"), (npdistil.explain, "explanation")],
    ids=["scores", "explain"],
)
def test_calls_with_settings_of_a_task_show_them_with_its_defaults(call: Any, task: str) -> None:
    own = {each.name: each.default for each in fields(task_type(task).settings_type)}
    shown = inspect.signature(call).parameters
    assert not [each for each in shown.values() if each.kind is each.VAR_KEYWORD]
    assert {*shown} - {*own} <= {"self", "model", "text", "texts", "attention"}
    assert all(shown[name].default == own[name] for name in {*shown} & {*own})


def test_labels_that_scores_would_not_choose_among_are_no_settings_of_it(five: npdistil.Model) -> None:
    scores: Any = five.scores
    for name in ("top_k", "threshold", "return_all_scores"):
        with pytest.raises(TypeError, match=name):
            scores(["good"], **{name: 1})
