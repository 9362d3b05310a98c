"""Every setting of every call and option: a value that must show in the answer, and values that are too much."""

import json
import math
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npdistil
from npdistil.bench import bench as measure
from npdistil.cli import COMMANDS, main, parsers
from npdistil.cli.task import COMMANDS as TASK_COMMANDS
from npdistil.errors import NpdistilError
from npdistil.estimators import Estimator
from npdistil.pipelines import PIPELINES, task_type

Make = Callable[..., Path]
LONG = "the film was good and i like it , not bad at all . where is the city john lives in ? it was very boring . " * 2
NER = {"architectures": ["DistilBertForTokenClassification"], "id2label": {0: "O", 1: "B-PER", 2: "I-PER"}}
NLI = {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}}
MODELS: dict[str, dict[str, Any]] = {
    "token-classification": NER,
    "question-answering": {"architectures": ["DistilBertForQuestionAnswering"]},
    "fill-mask": {"architectures": ["DistilBertForMaskedLM"]},
    "zero-shot-classification": NLI,
    "multiple-choice": {"architectures": ["DistilBertForMultipleChoice"]},
}
ASKED = {"question": "who lives in paris", "context": LONG}
# Task -> setting -> a value that must show, the item it shows in, and settings beside it.
SHOWS: dict[str, dict[str, tuple[Any, Any, dict[str, Any]]]] = {
    "text-classification": {
        "long_text": ("truncate", LONG, {}),
        "max_length": (8, LONG, {}),
        "stride": (2, LONG, {}),
        "top_k": (2, "good", {}),
        "return_all_scores": (True, "good", {}),
        "function_to_apply": ("none", "good", {}),
        "threshold": (0.0, "good", {}),
        "combine": ("max", LONG, {}),
        "truncation": (True, LONG, {}),
    },
    "token-classification": {
        "aggregation_strategy": ("max", LONG, {"ignore_labels": ["no"]}),
        "ignore_labels": (["no"], LONG, {}),
        "stride": (1, LONG, {"ignore_labels": ["no"]}),
        "is_split_into_words": (True, ["john", "lives"], {}),
        "delimiter": ("--", ["john", "lives", "in"], {"is_split_into_words": True, "ignore_labels": []}),
    },
    "question-answering": {
        "top_k": (3, ASKED, {}),
        "doc_stride": (1, ASKED, {}),
        "max_answer_len": (1, ASKED, {}),
        "max_seq_len": (10, ASKED, {"doc_stride": 2}),
        "max_question_len": (2, ASKED, {}),
        "handle_impossible_answer": (True, {"question": "who", "context": "a b"}, {"top_k": 100}),
        "align_to_words": (False, {"question": "who", "context": "abcdefgh ijklmnop"}, {"top_k": 100}),
    },
    "fill-mask": {
        "top_k": (2, "a [MASK] film", {}),
        "targets": (["good", "bad"], "a [MASK] film", {}),
        "truncation": (True, f"a [MASK] film {LONG}", {}),
    },
    "zero-shot-classification": {
        "candidate_labels": ("film,city", "good", {}),
        "hypothesis_template": ("it is not {}", "good", {"candidate_labels": "film,food"}),
        "multi_label": (True, "good", {"candidate_labels": "film,food"}),
        "truncation": (True, LONG, {"candidate_labels": "film,food"}),
    },
    "feature-extraction": {"return_tensors": (True, "good", {}), "truncation": (True, LONG, {})},
    "embedding": {
        "long_text": ("truncate", LONG, {}),
        "max_length": (8, LONG, {}),
        "stride": (2, LONG, {}),
        "pooling": ("max", "good film", {}),
        "normalize": (True, "good", {}),
        "prompt_name": ("other", "good", {}),  # which the model does not have
        "prompt": ("a film is", "good", {}),
        "truncate_dim": (3, "good", {}),
    },
    "multiple-choice": {},
    "explanation": {
        "label": ("NEGATIVE", "a good film", {}),
        "method": ("shapley", "a good film", {}),
        "samples": (1, "the film was good and not bad at all . it was great", {"method": "shapley"}),
    },
}
ITEMS: dict[str, Any] = {
    "question-answering": ASKED,
    "multiple-choice": {"text": "a", "choices": ["good", "bad"]},
    "fill-mask": "a [MASK] film",
}


def answer(ask: Callable[[], Any]) -> str:
    """What a call gives, or how it refuses."""
    try:
        return repr(ask())
    except NpdistilError as error:
        return f"{type(error).__name__}: {error}"


def made(make: Make, task: str) -> npdistil.Model:
    return npdistil.load(make(**MODELS.get(task, {})), engine="numpy")


@pytest.mark.parametrize("task", SHOWS)
def test_no_setting_of_a_task_is_left_out_here(task: str) -> None:
    names = {each.name for each in fields(task_type(task).settings_type)}
    assert {*SHOWS[task]} == names - {"batch_size"}
    assert {*SHOWS} == {each.own for each in PIPELINES.values()}


@pytest.mark.parametrize(("task", "name"), [(task, name) for task in SHOWS for name in SHOWS[task]])
def test_a_setting_shows_in_the_answer_wherever_it_is_given(make: Make, task: str, name: str) -> None:
    value, item, beside = SHOWS[task][name]
    model = made(make, task)
    plain: Any = npdistil.Pipeline(model, task=task, **beside)
    before, after = answer(lambda: plain([item])), answer(lambda: plain([item], **{name: value}))
    assert before != after
    assert answer(lambda: npdistil.Pipeline(model, task=task, **beside, **{name: value})([item])) == after
    assert answer(lambda: plain([item])) == before


@pytest.mark.parametrize("task", SHOWS)
def test_batch_size_is_how_many_items_a_thread_runs_at_once(
    make: Make, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = npdistil.Model.run

    def counted(self: npdistil.Model, task: Any, items: Any) -> Any:
        sizes.append(len(items))
        return run(self, task, items)

    monkeypatch.setattr(npdistil.Model, "run", counted)
    beside = {"candidate_labels": "a,b"} if task.startswith("zero") else {}
    model = made(make, task)
    pipe: Any = npdistil.Pipeline(model.on_one_thread(), task=task, batch_size=3, **beside)
    items = [ITEMS.get(task, "good")] * 7
    found = pipe(items), pipe(items, batch_size=5)
    assert sizes == [3, 3, 1, 5, 2]
    sizes.clear()
    several: Any = npdistil.Pipeline(npdistil.load(model.name_or_path, engine="numpy", threads=4), task=task, **beside)
    assert repr((several(items, batch_size=3), several(items, batch_size=5))) == repr(found)
    assert sorted(sizes) == [1, 1, 2, 2, 2, 2, 2, 2]


# Estimators, and a model's own calls.


@pytest.mark.parametrize("estimator", Estimator.__subclasses__())
def test_every_setting_of_an_estimator_shows(make: Make, estimator: Any) -> None:
    shows = dict(SHOWS["embedding" if estimator is npdistil.Embedder else "text-classification"])
    shows |= {"classes": (["a", "b"], "good", {}), "batch_size": (0, "good", {})}
    model = made(make, "")
    for name in (each.name for each in fields(estimator.settings_type)):
        value, item, beside = shows[name]

        def ask(estimator: Any, item: Any = item) -> str:
            call = estimator.transform if hasattr(estimator, "transform") else estimator.predict_proba
            return answer(lambda: (call([item]).tolist(), getattr(estimator.fit(), "classes_", None)))

        before, after = ask(estimator(model, **beside)), ask(estimator(model, **beside, **{name: value}))
        assert before != after, name
        assert ask(estimator(model, **beside).set_params(**{name: value})) == after


def test_every_setting_of_scores_shows(make: Make) -> None:
    model = made(make, "")
    for name in ("function_to_apply", "truncation", "long_text", "max_length", "stride", "combine"):
        value, item, beside = SHOWS["text-classification"][name]
        assert model.scores([item], **beside).tolist() != model.scores([item], **beside, **{name: value}).tolist(), name


LOADING: dict[str, Any] = {"engine": "numpy", "precision": "int8", "threads": 3}


@pytest.mark.parametrize("name", LOADING)
def test_what_load_is_told_shows_in_the_model(make: Make, name: str) -> None:
    directory, value = make(), LOADING[name]
    for model in (
        npdistil.load(directory, **{name: value}),
        npdistil.pipeline("text-classification", directory, **{name: value}).model,
        npdistil.pipeline(model=directory, **{name: value}).model,
        npdistil.AutoModel.from_pretrained(directory, **{name: value}),
        npdistil.SentenceTransformer(directory, **{name: value}).model,
    ):
        assert getattr(model, name) == value
    scores = [npdistil.load(directory, precision=each).scores(["good"]).tolist() for each in ("float32", "int8")]
    assert scores[0] != scores[1]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_are_those_that_are_started(
    make: Make, engine: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the engine, beside the one that calls; none where one is asked for."""
    import threading

    names: set[str] = set()
    start = threading.Thread.start

    def counted(self: threading.Thread) -> None:
        names.add(self.name)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", counted)
    model = npdistil.load(make(), engine=engine, threads=threads)
    model.logits([[2, 5, 6, 3]] * 2000)
    assert model.threads == threads
    assert len(names) == threads - 1 or (engine == "compiled" and len(names) <= threads - 1)


# The command line.

TASK_OF = {name: command.task for name, command in TASK_COMMANDS.items()}
BESIDE = {"question-answering": ["--context", LONG], "multiple-choice": ["--choices", "good,bad"]}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code and what is printed."""
    try:
        code: Any = main(arguments)
    except SystemExit as wrong:
        code = wrong.code
    return int(code), *capsys.readouterr()


def options_of(command: str) -> list[str]:
    """Every option of a command, by its last name."""
    actions = parsers(command)[1]._actions
    return [each.option_strings[0] for each in actions if each.option_strings and each.option_strings[0] != "-h"]


def written(name: str, value: Any) -> list[str]:
    """A setting as an option."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool) and name != "truncation":
        return [option] if value else [f"--no-{option[2:]}"]
    if name == "truncation":
        return [option, *(["longest_first"] if "--truncation" in options_of("classify") and value is True else [])]
    return [option, ",".join(value) if isinstance(value, list) else str(value)]


@pytest.mark.parametrize("command", [*TASK_OF, "explain"])
def test_every_option_for_a_setting_shows_in_what_is_printed(
    make: Make, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    task = TASK_OF.get(command, "explanation")
    directory = make(**MODELS.get(task, {}))
    own = {f"--{each.name.replace('_', '-')}": each.name for each in fields(task_type(task).settings_type)}
    checked = 0
    for option in options_of(command):
        name = own.get(option)
        left_out = TASK_COMMANDS[command].left_out if command in TASK_COMMANDS else ()
        if name is None or name in ("batch_size", *left_out):
            continue
        value, item, beside = SHOWS[task][name]
        context = ["--context", item["context"]] if isinstance(item, dict) else BESIDE.get(task, [])
        text = item["question"] if isinstance(item, dict) else item
        if name == "aggregation_strategy":
            value = "none"  # the command's default is another one than the task's
        more = [word for each, its in beside.items() for word in written(each, its)]
        if name == "candidate_labels":
            more = []
        given = written(name, value) if not (command == "zero-shot" and name == "truncation") else ["--truncation"]
        line = [command, "--engine", "numpy", "--model", str(directory), *context, *more]
        line += ["--format", "json", "--", text]
        before, after = run(capsys, *line), run(capsys, *line[:1], *given, *line[1:])
        assert before != after, option
        assert after[0] == 0 or name in ("max_question_len", "prompt_name"), after
        checked += 1
    assert checked or command == "choose"


@pytest.mark.parametrize("command", [name for name in COMMANDS if "--threads" in options_of(name)])
def test_how_a_model_runs_is_handed_on_by_every_command(
    make: Make, capsys: pytest.CaptureFixture[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LoadedError(Exception):
        """Raised in the place of loading."""

    def load(model: Any, **given: Any) -> Any:
        raise LoadedError(model, given)

    monkeypatch.setattr("npdistil.cli.options.load", load)
    words = ["--engine", "numpy", "--precision", "int8", "--threads", "3"]
    words += ["m"] if command == "info" else ["--model", "m"]
    words += {"qa": ["--context", "c"], "choose": ["--choices", "c"], "eval": ["dev.tsv"]}.get(command, [])
    with pytest.raises(LoadedError) as found:
        main([command, *words])
    assert found.value.args == ("m", {"engine": "numpy", "precision": "int8", "threads": 3})


# Too much, too little, and of another type.

EXTREMES: list[Any] = [
    *(sign * each for each in (10**30, 10**400, 10**5000, 2**31, 2**31 - 1, 2**63, 1) for sign in (1, -1)),
    *(0, 0.5, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan, Fraction(1, 3), 1j, True, False),
    *("", " ", "x", "x" * 100_000, "\ud800", "\0", "{", "{}", "{0.a}", "mean+", ",", b"x"),
    *([], [""], [None], [1], ["x"], ("x",), {}, {"x": 1}, set(), object(), int, len),
    *(np.int64(2**62), np.float32("nan"), np.bool_(True), np.array([1, 2]), np.array("x"), np.array([])),
]


@pytest.mark.parametrize("task", SHOWS)
def test_no_value_of_a_setting_is_a_raw_error(make: Make, task: str) -> None:
    model = made(make, task)
    base = {"candidate_labels": "a,b"} if task.startswith("zero") else {}
    item = ITEMS.get(task, LONG if task != "explanation" and task != "feature-extraction" else "a good film")
    for each in fields(task_type(task).settings_type):
        for value in EXTREMES:
            ask: Any = lambda each=each, value=value: npdistil.Pipeline(  # noqa: E731
                model, task=task, **base | {each.name: value}
            )([item])
            said = answer(ask)
            assert not said.startswith(("CheckpointError", "EngineError")), (each.name, value)


@pytest.mark.parametrize("value", EXTREMES, ids=[*range(len(EXTREMES))])
def test_no_value_of_an_argument_is_a_raw_error(make: Make, value: Any) -> None:
    directory = make()
    model = npdistil.load(directory, engine="numpy")
    calls: dict[str, Callable[[], Any]] = {
        "load engine": lambda: npdistil.load(directory, engine=value),
        "load precision": lambda: npdistil.load(directory, precision=value),
        "load threads": lambda: npdistil.load(directory, threads=value),
        "load": lambda: npdistil.load(value, local_files_only=True),
        "load revision": lambda: npdistil.load("owner/name", revision=value, local_files_only=True),
        "load cache_dir": lambda: npdistil.load("owner/name", cache_dir=value, local_files_only=True),
        "pipeline": lambda: npdistil.pipeline(value, model),
        "tokenizer": lambda: npdistil.pipeline("text-classification", model, tokenizer=value),
        "config": lambda: npdistil.pipeline("text-classification", model, config=value),
        "scores": lambda: model.scores(["good"], combine=value),
        "explain label": lambda: npdistil.explain(model, "a good film", value),
        "explain": lambda: npdistil.explain(model, value),
        "Embedder": lambda: npdistil.Embedder(model, batch_size=value).fit(),
        "Classifier": lambda: npdistil.Classifier(model, classes=value).fit(),
        "set_output": lambda: npdistil.Embedder(model).set_output(transform=value),
        "similarity": lambda: npdistil.SentenceTransformer(model, similarity_fn_name=value),
        "prompts": lambda: npdistil.SentenceTransformer(model, prompts=value),
        "default_prompt_name": lambda: npdistil.SentenceTransformer(model, default_prompt_name=value),
        "truncate_dim": lambda: npdistil.SentenceTransformer(model, truncate_dim=value),
        "max_seq_length": lambda: setattr(npdistil.SentenceTransformer(model), "max_seq_length", value),
        "prompt_name": lambda: npdistil.SentenceTransformer(model).encode("a", prompt_name=value),
        "annotate column": lambda: npdistil.annotate(["a"], model, prefix=value),
        "annotate on_error": lambda: npdistil.annotate(["a"], model, on_error=value),
        "annotate": lambda: npdistil.annotate(value, model),
        "items": lambda: npdistil.pipeline("text-classification", model)(value),
        "pair": lambda: npdistil.pipeline("text-classification", model)([{"text": value, "text_pair": value}]),
        "token ids": lambda: model.logits(value),
        "token ids of a text": lambda: model.logits([value]),
        "a token id": lambda: model.logits([[value]]),
        "token types": lambda: model.logits([[2, 3]], value),
        **{
            f"argument {name}": partial(npdistil.Pipeline, model, task="text-classification", **{name: value})
            for name in ("device", "device_map", "torch_dtype", "model_kwargs", "tokenizer_kwargs", "framework")
        },
    }
    raw = {}
    for name, call in calls.items():
        try:
            call()
        except NpdistilError as error:  # noqa: PERF203
            assert str(error), name
        except Exception as error:  # noqa: BLE001
            raw[name] = f"{type(error).__name__}: {error}"
    assert not raw


WORDS = ["", " ", "-", "-1", "0", "1e400", "nan", "1" * 30, "1" * 5000, "x" * 5000, "\udcff", "/", "/dev/null", "é"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_value_of_an_option_is_a_traceback(
    make: Make,
    capsys: pytest.CaptureFixture[str],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("npdistil.cli.serve.PACKAGES", ("nothing_of_this_name",))  # or it would serve
    task = TASK_OF.get(command, "text-classification")
    directory = str(make(**MODELS.get(task, {})))
    (tmp_path / "dev.tsv").write_text("text\tlabel\ngood\t1\n")
    (tmp_path / "in.csv").write_text("text\ngood\n")
    text = "a [MASK] film"
    line = {
        "info": [directory],
        "eval": ["dev.tsv", "--model", directory],
        "bench": ["--model", directory, "--seconds", "0.01"],
        "quantize": [directory, "out"],
        "serve": [],
        "completion": ["bash"],
    }.get(command, ["--model", directory, *BESIDE.get(task, []), "--", text])
    if command == "zero-shot":
        line = ["--candidate-labels", "a,b", *line]
    actions = [each for each in parsers(command)[1]._actions if each.option_strings and each.nargs != 0]
    for action in actions:
        for word in WORDS:
            option = action.option_strings[0]
            files = ["--input", "in.csv", "--output", "out.csv"] if option in FILES else []
            given = [command, *files, f"{option}={word}", *(line[:-2] if files else line)]
            code, out, err = run(capsys, *given)
            assert code in (0, 2), given
            assert "Traceback" not in out + err
            assert (code == 0) or err.count("\n") < 40


FILES = ("--column", "--prefix", "--on-error", "--delimiter", "--encoding", "--input-format", "--output-format")


# Options that are no setting of a task.


def plain(command: str, directory: Path, tmp_path: Path) -> list[str]:
    """What follows a command for it to do something small."""
    (tmp_path / "dev.tsv").write_text(f"text\tlabel\n{LONG}\t1\n")
    task = TASK_OF.get(command, "text-classification")
    labels = ["--candidate-labels", "a,b"] if command == "zero-shot" else []
    texts = [] if command in ("eval", "bench") else ["--", "a [MASK] film", "the [MASK]"]
    file = [str(tmp_path / "dev.tsv")] if command == "eval" else []
    return [*file, "--engine", "numpy", "--model", str(directory), *labels, *BESIDE.get(task, []), *texts]


@pytest.mark.parametrize("command", [name for name in COMMANDS if "--format" in options_of(name)])
def test_each_format_is_another_text_and_the_first_is_the_default(
    make: Make, capsys: pytest.CaptureFixture[str], command: str, tmp_path: Path
) -> None:
    line = plain(command, make(**MODELS.get(TASK_OF.get(command, ""), {})), tmp_path)
    if command == "explain":
        line = line[:-1]  # html takes one text
    (formats,) = (each.choices for each in parsers(command)[1]._actions if "--format" in each.option_strings)
    printed = [run(capsys, command, "--format", each, *line) for each in formats or ()]
    assert all(code == 0 for code, *_ in printed), printed
    assert len({out for _, out, _ in printed}) == len(printed) > 1
    assert run(capsys, command, *line)[1] == printed[0][1]


def test_every_option_of_a_file_shows_in_what_is_written(
    make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = str(make())
    Path("in.csv").write_text("text,other\ngood;bad,caf\u00e9\n" + "x" * 2_100_000 + ",much\n", "utf-8")
    Path("plain.csv").write_text("text,other\ngood;bad,caf\u00e9\n", "utf-8")
    shows = {
        "--column": ("other", "plain.csv"),
        "--prefix": ("my_", "plain.csv"),
        "--on-error": ("skip", "in.csv"),
        "--delimiter": (";", "plain.csv"),
        "--no-header": (None, "plain.csv"),
        "--encoding": ("latin-1", "plain.csv"),
        "--input-format": ("txt", "plain.csv"),
        "--output-format": ("jsonl", "plain.csv"),
    }
    options = [each for each in options_of("classify") if each in {*FILES, "--no-header"}]
    assert {*options} == {*shows}
    for option, (value, name) in shows.items():
        line = ["classify", "--engine", "numpy", "--model", directory, "--input", name, "--output"]
        before = run(capsys, *line, "out.csv"), Path("out.csv").read_bytes() if Path("out.csv").exists() else b""
        given = [option, *([value] if value else [])]
        after = (
            run(capsys, *line, "out2.csv", *given),
            Path("out2.csv").read_bytes() if Path("out2.csv").exists() else b"",
        )
        assert before[1] != after[1] or before[0][0] != after[0][0], option
        for each in Path().glob("out*"):
            each.unlink()


def test_every_option_of_bench_shows(
    make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def bench(model: Any, texts: Any, seconds: float) -> Any:
        asked.append(seconds)
        return measure(model, texts, 0.01)

    monkeypatch.setattr("npdistil.cli.bench.bench", bench)
    (tmp_path / "texts.txt").write_text("good\nbad\n\ngreat\n")
    line = ["bench", *plain("bench", make(), tmp_path)]
    assert {*options_of("bench")} == {
        "--file",
        "--seconds",
        "--json",
        "--model",
        "--engine",
        "--precision",
        "--threads",
    }
    assert not run(capsys, *line)[1].startswith("{")
    whole = json.loads(run(capsys, *line, "--json")[1])
    few = json.loads(run(capsys, *line, "--json", "--file", str(tmp_path / "texts.txt"), "--seconds", "3")[1])
    assert (whole["texts"] > 100, few["texts"], asked) == (True, 3, [10.0, 10.0, 3.0])


def test_every_option_of_serve_arrives_at_the_service(
    make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each does there, tests/serve has."""
    server, settings = (pytest.importorskip(f"npdistil.serve.{name}") for name in ("server", "settings"))
    told: dict[str, Any] = {}

    def serve(model: Any, host: str, port: int, settings: Any) -> None:
        told.clear()
        told.update(vars(settings), host=host, port=port)

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.delenv("NPDISTIL_TOKEN", raising=False)
    (tmp_path / "token").write_text("secret\n")
    line = ["serve", "--engine", "numpy", "--model", str(make())]
    assert run(capsys, *line)[0] == 0
    before = dict(told)
    shows = {"host": "0.0.0.0", "token_file": str(tmp_path / "token"), "allow_origin": "https://a.example"}
    shows |= {"allow_host": "a.example", "served_model_name": "mine", "gather_ms": "2.5", "max_queue_tokens": "77777"}
    names = [each[2:].replace("-", "_") for each in options_of("serve")]
    own = [name for name in names if name not in ("model", "engine", "precision", "threads")]
    assert {each.name for each in fields(settings.Settings)} - {"token"} <= {*own}
    for name in own:
        option = f"--{name.replace('_', '-')}"
        flag = isinstance(before.get(name), bool)
        code, _, err = run(capsys, *line, option, *([] if flag else [shows.get(name, "777")]))
        assert code == 0, err
        changed = {each for each in told if told[each] != before[each]}
        assert changed == {"token" if name == "token_file" else name}, option
