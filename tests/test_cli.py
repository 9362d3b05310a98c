"""The command line: what it prints, and that every error is one line with exit code 2."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import npdistil
from npdistil import Embedder
from npdistil.cli import COMMANDS as ALL_COMMANDS
from npdistil.cli import main
from npdistil.cli.options import ticking

NUMPY = ("--engine", "numpy")
COMMANDS = (
    "classify",
    "ner",
    "qa",
    "fill-mask",
    "zero-shot",
    "embed",
    "explain",
    "info",
    "eval",
    "quantize",
    "bench",
    "completion",
)
BESIDE = {"qa": ("--context", "the film was good")}


def command_line(*arguments: str, stdin: str | bytes = "", **settings: Any) -> subprocess.CompletedProcess[bytes]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    return subprocess.run(
        [sys.executable, "-m", "npdistil", *arguments], input=data, capture_output=True, timeout=300, **settings
    )


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("npdistil: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_classify_prints_label_and_score_of_each_text(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, "classify", *NUMPY, "I love it.", "I hate it.").splitlines()
    assert [line.split()[0] for line in lines] == ["POSITIVE", "NEGATIVE"]
    assert all(0.5 < float(line.split()[1]) <= 1 for line in lines)


def test_top_k_0_shows_every_label_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = json.loads(output(capsys, "classify", *NUMPY, "--top-k", "0", "--format", "json", "I hate it."))
    assert [each["label"] for each in row["labels"]] == ["NEGATIVE", "POSITIVE"]
    assert sum(each["score"] for each in row["labels"]) == pytest.approx(1)


def test_formats_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ['He said "great",\nthen left.', "dull", ""]
    shown = {
        name: output(capsys, "classify", *NUMPY, "--format", name, *texts) for name in ("json", "jsonl", "csv", "text")
    }
    rows = json.loads(shown["json"])
    assert [row["text"] for row in rows] == texts
    assert [json.loads(line) for line in shown["jsonl"].splitlines()] == rows
    table = list(csv.reader(io.StringIO(shown["csv"])))
    assert table[0] == ["text", "label", "score"]
    assert [[t, label, float(s)] for t, label, s in table[1:-1]] == [
        [row["text"], row["labels"][0]["label"], row["labels"][0]["score"]] for row in rows[:-1]
    ]
    assert [line.split()[0] for line in shown["text"].splitlines()[:-1]] == [
        row["labels"][0]["label"] for row in rows[:-1]
    ]
    # An empty text has no answer, and a line of its own.
    assert (rows[-1], table[-1], shown["text"].split("\n")[2:]) == ({"text": "", "labels": None}, [""] * 3, ["", ""])


def test_each_line_of_standard_input_is_a_text_in_order_and_empty_ones_have_no_answer() -> None:
    done = command_line("classify", *NUMPY, "--format", "jsonl", stdin="good\r\n\nbad\x85bad\n \t\nvery bad")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert [row["text"] for row in rows] == ["good", "", "bad\x85bad", " \t", "very bad"]
    assert [row["labels"] and row["labels"][0]["label"] for row in rows] == [
        "POSITIVE",
        None,
        "NEGATIVE",
        None,
        "NEGATIVE",
    ]


@pytest.mark.parametrize("command", ["ner", "embed", "fill-mask", "qa"])
def test_an_empty_line_has_no_answer_in_any_task(make: Callable[..., Path], command: str) -> None:
    _, settings, options, _ = TASKS.get(command, ("", {}, (), {}))
    directory = str(make(**settings))
    run = (command, *NUMPY, "--model", directory, *options, *BESIDE.get(command, ()), "--format")
    done = command_line(*run, "jsonl", stdin="a [MASK] film\n\nthe [MASK]\n")
    assert done.returncode == 0, done.stderr
    first, empty, last = (json.loads(line) for line in done.stdout.splitlines())
    name = "vector" if command == "embed" else "answer"
    assert empty == {"text": "", name: None}
    assert first[name] != last[name]
    alone = command_line(*run, "jsonl", stdin="\n")
    assert [json.loads(line) for line in alone.stdout.splitlines()] == [empty]
    if command != "embed":
        table = csv.reader(io.StringIO(command_line(*run, "csv", stdin="\nthe [MASK]\n").stdout.decode()))
        header, nothing, *_ = table
        assert nothing == [""] * len(header)


def test_explain_refuses_an_empty_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert "text 0 is empty" in error(capsys, "explain", *NUMPY, " ")


def test_a_line_that_is_not_utf8_is_named_after_the_answers_to_those_before() -> None:
    lines = b"\xef\xbb\xbfgood\n" + b"bad\n" * 69 + b"caf\xe9\ngood\n"  # more than a batch
    done = command_line("classify", *NUMPY, stdin=lines, env=os.environ | {"PYTHONUTF8": "1"})
    assert done.returncode == 2
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == ["POSITIVE"] + ["NEGATIVE"] * 69
    assert done.stderr.decode().startswith(
        "npdistil: error: standard input is not UTF-8: line 71 has the byte 0xe9 behind 3 others"
    )
    assert done.stderr.count(b"\n") == 1


def test_standard_streams_that_are_closed_are_one_clear_error() -> None:
    for closed, says in (("<&-", b"standard input is closed"), (">&-", b"standard output is closed")):
        text = "good" if closed == ">&-" else ""
        command = f"{sys.executable} -m npdistil classify --engine numpy {text} {closed}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=300, check=False)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
        assert done.stderr.startswith(b"npdistil: error: " + says)


def test_a_dash_stands_for_standard_input() -> None:
    done = command_line("classify", *NUMPY, "--format", "jsonl", "good", "-", "bad", stdin="one\ntwo\n")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["good", "one", "two", "bad"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("clasify", "good"), "there is no command 'clasify'; did you mean classify?"),
        (("I like it.",), "there is no command 'I like it.'; known are classify, ner, "),
        (("classify", "--topk", "2", "good"), "there is no option --topk; did you mean --top-k?"),
        (("classify", "--topk=2", "good"), "there is no option --topk; did you mean --top-k?"),
        (("ner", "--aggregate", "good"), "there is no option --aggregate"),
        (("classify", "good", "--top-k", "1", "bad"), "put texts side by side, behind the options"),
        (("classify", "-bad"), "put -- before texts that begin with a dash"),
    ],
)
def test_a_slip_shows_the_usage_of_its_command_and_what_may_have_been_meant(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(
        f"usage: npdistil {arguments[0] if len(arguments) > 1 and arguments[0] in COMMANDS else ''}"
    )
    assert says in shown.splitlines()[-1]


def test_the_name_of_a_file_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes"
    notes.write_text("good\n")
    assert f"with < {notes}\n" in error(capsys, "classify", *NUMPY, str(notes))
    assert "its rows with --input reviews.csv" in error(capsys, "classify", *NUMPY, "reviews.csv")
    assert "with < reviews.csv\n" in error(capsys, "explain", *NUMPY, "reviews.csv")
    output(capsys, "classify", *NUMPY, "I read reviews.csv")
    assert command_line("classify", *NUMPY, stdin="reviews.csv").stdout.startswith(b"POSITIVE")


def test_the_engine_that_cannot_run_here_is_one_clear_error() -> None:
    code = """
import os, sys
os.uname = lambda: os.uname_result(("Linux", "", "", "", "mips"))
from npdistil.cli import main
sys.exit(main(["classify", "--engine", "compiled", "good"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"npdistil: error: kernels are made for Linux")
    assert done.stderr.count(b"\n") == 1


def test_the_name_that_is_shown_opens_the_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    assert npdistil.load("minilm-l6-sst2", engine="numpy").checkpoint.directory == npdistil.bundled_model()
    (tmp_path / "minilm-l6-sst2").mkdir()  # a directory of that name comes first
    with pytest.raises(npdistil.CheckpointError, match="config.json"):
        npdistil.load("minilm-l6-sst2")


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit):
        main([option])
    assert capsys.readouterr().out == f"npdistil {npdistil.__version__}\n"


COMPLETED = [
    ("npdistil cl", ["classify"]),
    ("npdistil classify --lo", ["--long-text"]),
    ("npdistil ner --engine n", ["numpy"]),
    ("npdistil serve --po", ["--port"]),
]


@pytest.mark.parametrize(("typed", "found"), COMPLETED)
def test_bash_completes_commands_options_and_their_values(
    capsys: pytest.CaptureFixture[str], typed: str, found: list[str]
) -> None:
    if not shutil.which("bash"):
        pytest.skip("needs bash")
    words = " ".join(f"'{word}'" for word in typed.split(" "))
    script = f"""{output(capsys, "completion", "bash")}
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); _npdistil; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert (done.stdout.split(), done.stderr) == (found, "")


def test_every_command_and_option_is_in_every_shells_script(capsys: pytest.CaptureFixture[str]) -> None:
    scripts = {shell: output(capsys, "completion", shell) for shell in ("bash", "zsh", "fish")}
    assert scripts["zsh"].endswith(scripts["bash"])
    assert all(f"-fa {name} " in scripts["fish"] for name in COMMANDS)
    assert "-n '__fish_seen_subcommand_from classify' -l top-k -r -d" in scripts["fish"]
    assert "-n '__fish_seen_subcommand_from ner' -l engine -xa 'auto numpy compiled' -d" in scripts["fish"]


def test_bench_measures_no_more_texts_than_its_seconds_are_for(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a good film\n" * 50_000)  # which would take minutes
    shown = output(capsys, "bench", *NUMPY, "--model", str(make()), "--file", str(texts), "--seconds", "0.5", "--json")
    result = json.loads(shown)
    assert 0 < result["measured"] < 50_000
    assert result["texts"] == 50_000
    assert result["tokens_per_second"] == pytest.approx(5 * result["texts_per_second"])


def test_bench_prints_json_only_when_asked(make: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "bench", *NUMPY, "--model", str(make()), "--seconds", "0.1")
    assert "texts a second" in shown
    assert "{" not in shown


def test_a_reader_that_stops_early_gets_no_traceback() -> None:
    command = f"yes good | head -20000 | {sys.executable} -m npdistil classify --engine numpy | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.startswith("POSITIVE")
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_where_nobody_reads_the_output_the_code_is_that_of_sigpipe(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\ngood\n")
    read, write = os.pipe()
    os.close(read)
    arguments = ["classify", *NUMPY, "--input", str(source), "--output", "-"]
    for more in (arguments, ["classify", *NUMPY, "good"]):
        command = [sys.executable, "-m", "npdistil", *more]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=300, check=False)
        assert (done.returncode, done.stderr) == (141, b"")
    os.close(write)


def test_ctrl_c_ends_with_130_and_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "npdistil", "classify", *NUMPY, "--format", "jsonl"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that runs the tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"good\n" * 256)
    process.stdin.flush()
    assert process.stdout.readline()  # it is at work now, and waits for more
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors == b""


@pytest.mark.parametrize(
    "arguments", [["classify", *NUMPY, "good"], ["--version"], ["--help"], ["classify", "--help"]], ids=" ".join
)
def test_a_full_disk_is_one_clear_error(arguments: list[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "npdistil", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=300,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("npdistil: error: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("classify", "--model", "/nowhere/at/all", "x"), "/nowhere/at/all"),
        (("classify", "--top-k", "-1", "x"), "error: --top-k is -1; "),
        (("classify", "--threads", "0", "x"), "error: --threads is 0; "),
        (("classify", *NUMPY, "\ud800"), "surrogate"),
        (("classify", *NUMPY, "--long-text", "error", "word " * 600), "tokens"),
        (("info", "/nowhere"), "/nowhere"),
        (("ner", *NUMPY, "x"), "TokenClassification"),
        (("qa", *NUMPY, "--context", "a", "x"), "QuestionAnswering"),
        (("qa", *NUMPY, "--context-file", "/nowhere.txt", "x"), "/nowhere.txt"),
        (("fill-mask", *NUMPY, "a [MASK]"), "MaskedLM"),
        (("zero-shot", *NUMPY, "--candidate-labels", "a,b", "x"), "entail"),
        (("embed", *NUMPY, "\ud800"), "surrogate"),
        (("eval", "/nowhere.tsv"), "/nowhere.tsv"),
        (("quantize", "/nowhere", "/tmp/unused"), "/nowhere"),
    ],
)
def test_bad_input_is_one_line_on_standard_error(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    assert says in error(capsys, *arguments)


@pytest.mark.parametrize("option", ["--no-such-option", "--colum", "--col=review", "--thr"])
def test_a_wrong_option_exits_with_2(capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["classify", option, "1"])
    assert exit_.value.code == 2
    assert f"there is no option {option.partition('=')[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_ends_with_examples(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert exit_.value.code == 0
    assert "npdistil" in capsys.readouterr().out.split("examples:\n")[1]


DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_commands_is_as_the_script_makes_it() -> None:
    path = os.pathsep.join([str(DOCS.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, DOCS / "cli.py", "--check"], check=False, timeout=120, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, "python docs/cli.py writes it"


def test_help_and_every_page_name_the_same_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    helped = re.findall(r"^    ([a-z-]+) ", capsys.readouterr().out, re.MULTILINE)
    assert helped == [*ALL_COMMANDS] == re.findall("^## (.*)$", (DOCS / "cli.md").read_text(), re.MULTILINE)
    for page in (DOCS.parent / "README.md", *DOCS.glob("*.md")):
        content = page.read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", content, re.MULTILINE | re.DOTALL))
        told = re.findall("^npdistil ([a-z][a-z-]*)", code, re.MULTILINE) + re.findall("`npdistil ([a-z-]+)", content)
        assert {*told} <= {*ALL_COMMANDS}, page


def test_help_tells_the_defaults_of_the_command_and_not_of_the_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["ner", "--help"])
    assert "(default simple)" in " ".join(capsys.readouterr().out.split())


def test_a_bar_is_drawn_again_while_a_batch_takes_its_time() -> None:
    bar = pytest.importorskip("tqdm").tqdm(file=io.StringIO())
    drawn, refresh = threading.Event(), bar.refresh
    ticks: list[threading.Thread] = []

    def counted() -> None:
        ticks.append(threading.current_thread())
        drawn.set()
        refresh()

    bar.refresh = counted
    with ticking(bar, 0.01):
        assert drawn.wait(60)
    assert ticks[0] is not threading.main_thread()
    assert not ticks[0].is_alive()


NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
# Command -> task, what the model is, options, the pipeline's settings.
TASKS: dict[str, tuple[str, dict[str, Any], tuple[str, ...], dict[str, Any]]] = {
    "ner": ("ner", {"architectures": ["DistilBertForTokenClassification"]}, (), {"aggregation_strategy": "simple"}),
    "fill-mask": (
        "fill-mask",
        {"architectures": ["DistilBertForMaskedLM"]},
        ("--top-k", "2", "--targets", "film, good,bad"),
        {"top_k": 2, "targets": ["film", "good", "bad"]},
    ),
    "zero-shot": (
        "zero-shot-classification",
        {"id2label": NLI},
        ("--candidate-labels", "film,food", "--multi-label"),
        {"candidate_labels": ["film", "food"], "multi_label": True},
    ),
    "qa": (
        "question-answering",
        {"architectures": ["DistilBertForQuestionAnswering"]},
        ("--context", "the film was good", "--top-k", "2"),
        {"top_k": 2},
    ),
}


@pytest.mark.parametrize("command", TASKS)
def test_a_tasks_command_prints_what_its_pipeline_answers(
    make: Callable[..., Path], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    task, settings, options, given = TASKS[command]
    directory = make(**settings)
    texts = ["a [MASK] film", "the [MASK]"]
    inputs = [{"question": text, "context": "the film was good"} for text in texts] if command == "qa" else texts
    expected = npdistil.pipeline(task, directory, engine="numpy", **given)(inputs)  # type: ignore[call-overload]
    run = (command, "--model", str(directory), *NUMPY, *options, *texts)
    lines = [json.loads(line) for line in output(capsys, *run, "--format", "jsonl").splitlines()]
    assert [line["text"] for line in lines] == texts
    assert [line["answer"] for line in lines] == json.loads(json.dumps(expected, default=float))
    blocks = output(capsys, *run).split("\n\n")
    assert len(blocks) == len(texts)
    for block, answer in zip(blocks, expected, strict=True):
        score = answer["scores"][0] if command == "zero-shot" else answer[0]["score"]
        assert f"\t{score:.4f}" in block.splitlines()[0]


def test_embed_prints_the_embedders_vectors(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["I like it.", "a film"]
    expected = Embedder(npdistil.load(bundled, engine="numpy"), pooling="max", normalize=True).fit_transform(texts)
    lines = output(capsys, "embed", *NUMPY, "--pooling", "max", "--normalize", *texts).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"text": text, "vector": vector.tolist()} for text, vector in zip(texts, expected, strict=True)
    ]


def test_info_names_architecture_parameters_labels_size_engine_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "info", *NUMPY, "--threads", "1")
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert rows["architecture"] == "DistilBertForSequenceClassification"
    assert rows["labels"] == "NEGATIVE, POSITIVE (softmax)"
    assert rows["engine"] == "numpy, int8"
    assert rows["threads"] == "1"
    assert 22_000_000 < int(rows["parameters"].replace(",", "")) < 23_000_000
    assert rows["weights"].endswith("int8")


def test_a_mark_at_the_start_of_a_file_is_no_part_of_its_text(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, context = str(make(architectures=["DistilBertForQuestionAnswering"])), tmp_path / "context.txt"
    command = ("qa", *NUMPY, "--model", directory, "--format", "json", "--context-file", str(context), "who")
    context.write_text("john lives in paris", encoding="utf-8")
    plain = output(capsys, *command)
    context.write_text("john lives in paris", encoding="utf-8-sig")
    assert output(capsys, *command) == plain
    (row,) = json.loads(plain)
    assert "john lives in paris"[row["answer"]["start"] : row["answer"]["end"]] == row["answer"]["answer"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_eval_counts_right_and_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str) -> None:
    table = tmp_path / "dev.tsv"
    table.write_text("sentence\tlabel\nwonderful\t1\nawful\t0\nwonderful\tNEGATIVE\nterrible\t0\n", encoding=encoding)
    shown = output(capsys, "eval", str(table), *NUMPY).splitlines()
    assert shown[0] == "accuracy  0.7500  (3 of 4)"
    assert shown[-2].split() == ["NEGATIVE", "2", "1"]
    assert shown[-1].split() == ["POSITIVE", "0", "1"]


def test_of_labels_with_one_name_eval_takes_the_numbers_alone(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, table = str(make(id2label={0: "A", 1: "B", 2: "A"})), tmp_path / "dev.tsv"
    table.write_text("text\tlabel\ngood\t0\ngood\t2\ngood\tB\n", encoding="utf-8")
    assert "of 3)" in output(capsys, "eval", str(table), *NUMPY, "--model", directory)
    table.write_text("text\tlabel\ngood\tA\n", encoding="utf-8")
    assert "a label among 0, 1, 2, B" in error(capsys, "eval", str(table), *NUMPY, "--model", directory)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "first line"),
        ("sentence\tlabel\n", "no rows"),
        ("a\tb\nx\t1\n", "first line"),
        ("sentence\tlabel\nx\t7\n", "row 2"),
        ("sentence\tlabel\nx\t1\nno label\n", "row 3"),
    ],
)
def test_eval_refuses_a_broken_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    table = tmp_path / "dev.tsv"
    table.write_text(content, encoding="utf-8")
    assert says in error(capsys, "eval", str(table), *NUMPY)


def test_a_slow_writer_gets_its_answer_as_soon_as_a_batch_is_full() -> None:
    """Results are not held back until the end of the input."""
    process = subprocess.Popen(
        [sys.executable, "-m", "npdistil", "classify", *NUMPY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"good\n" * 256)
    process.stdin.flush()
    assert process.stdout.readline().startswith(b"POSITIVE")  # while the input goes on
    process.stdin.close()
    assert process.wait(timeout=300) == 0
    process.stdout.close()


def test_info_shows_what_a_directory_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tiny.write(tmp_path / "model", architectures=["DistilBertModel"], dtype="F64", vocab_size=200)
    decoder = {str(len(tiny.VOCABULARY)): {"content": "<user>", "special": False}}
    tiny.write_tokenizer(directory, model_max_length=16, truncation_side="left", added_tokens_decoder=decoder)
    for name, content in {
        "modules.json": [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {"pooling_mode": ["mean", "max"]},
        "sentence_bert_config.json": {"max_seq_length": 12},
        "config_sentence_transformers.json": {"prompts": {"query": "it is "}, "default_prompt_name": "query"},
        "adapter_config.json": {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "some/base"},
    }.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    name = "base_model.model.transformer.layer.0.ffn.lin1"
    low_rank = {f"{name}.lora_A.weight": np.ones((2, 8)), f"{name}.lora_B.weight": np.ones((12, 2))}
    (directory / "adapter_model.safetensors").write_bytes(tiny.serialized(low_rank))
    directory = directory.rename(tmp_path / os.fsdecode(b"model-\xff"))
    shown = output(capsys, "info", *NUMPY, str(directory))
    rows = {line[:13].strip(): line[14:] for line in shown.splitlines()}
    assert rows["model"].endswith("model-\\udcff")
    assert rows["weights"].endswith("as F64 rounded to float32, float")
    assert rows["adapter"] == "LoRA of rank 2 for some/base, merged into 1 weights"
    assert rows["tokenizer"].startswith("cut at 12 tokens on the left where cutting is asked for, special [UNK]")
    assert rows["added tokens"] == "<user>"
    assert rows["pooling"] == "mean+max, length 1"
    assert rows["prompts"] == "query 'it is '; by default query"


@pytest.mark.parametrize("command", ["bench", "quantize"])
def test_a_folder_whose_name_is_not_utf8_is_no_trouble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    directory = tiny.write(tmp_path / "model").rename(tmp_path / os.fsdecode(b"model-\xff"))
    copy = str(tmp_path / os.fsdecode(b"copy-\xff"))
    arguments = {"bench": ["--seconds", "0.1", "--model", str(directory), *NUMPY], "quantize": [str(directory), copy]}
    shown = output(capsys, command, *arguments[command])
    assert "\\udcff" in shown
    shown.encode("utf-8")


@pytest.mark.parametrize("name", ["text", "run", "model", "prefix", "threads", "`model`"])
def test_words_of_the_user_in_an_error_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["classify", "--input", name, "--input-format", "csv", "--output", "x.csv"]) == 2
    assert capsys.readouterr().err == f"npdistil: error: {name} is not a file\n"
    (tmp_path / "a.csv").write_text("a\nx\n")
    assert main(["classify", "--input", "a.csv", "--column", name, "--output", "x.csv"]) == 2
    assert f"a.csv has no column '{name}'; it has a\n" in capsys.readouterr().err
