"""The benchmarks' own machinery: what is checked, how ratios are taken, and that a worker computes what it is asked."""

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

import npdistil
from npdistil.bench import bench, table

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import compare
import convert
import data
import isas
import machine
import own
import pauses
import peers
import report
import startup
from worker import Worker, WorkerError

NUMPY = "npdistil numpy float32"
TOKEN_IDS = [[2, 7, 9, 3], [2, 3], [2, 11, 3]]

PAUSED = {"8": {"20": {"npdistil int8": [[200, 400, 300]], "OpenVINO bfloat16": [[600, 500, 700]]}}}


def measured() -> dict[str, object]:
    """Two rounds of made-up results, in which npdistil's second round was disturbed."""
    checks = {
        "npdistil int8": "int8",
        "npdistil numpy int8": "int8",
        "OpenVINO bfloat16": "bfloat16",
        "ONNX Runtime int8": "int8",
        "npdistil float32": "float32",
        "torch float32": "float32",
    }
    seconds = dict(zip(checks, ([1.0, 4.0], [9.0, 9.0], [2.0, 4.0], [3.0, 3.0], [4.0, 4.0], [8.0, 8.0]), strict=True))
    return {
        "checks": {name: {"precision": precision} for name, precision in checks.items()},
        "sst2": {"texts": 8, "seconds": seconds},
        "latency_us": {"8": {"npdistil int8": [[100, 300, 200]], "ONNX Runtime int8": [[400, 800, 500]]}},
        "memory": {
            "npdistil int8": {"peak": 5e6},
            "OpenVINO bfloat16": {"peak": 1e6},
            "ONNX Runtime int8": {"peak": 4e6},
        },
    }


def rows(precision: str) -> dict[str, report.Row]:
    return {row[0]: row[1:] for row in report.target_rows(measured(), PAUSED, precision)}


def test_a_ratio_is_taken_inside_each_round_and_against_the_fastest_other_runtime_of_any_precision() -> None:
    # Rounds: 8 / 4 and 2 / 2 texts a second against OpenVINO's bfloat16.
    assert rows("int8")["SST-2 dev"] == (
        "5.00 /s", "3.00 (OpenVINO bfloat16)", "1.50 (1.00 to 2.00)", "≥ 1.4", "yes"
    )  # fmt: skip


def test_float32_stands_against_float32_alone() -> None:
    assert rows("float32")["SST-2 dev"][1:3] == ("1.00 (torch float32)", "2.00 (2.00 to 2.00)")


def test_after_a_pause_the_figures_are_those_measured_so() -> None:
    assert rows("int8")["8 tokens after 20 ms"] == (
        "0.30 ms", "0.60 (OpenVINO bfloat16)", "0.50", "≤ 0.6", "yes"
    )  # fmt: skip
    assert rows("int8")["8 tokens after 200 ms"][0] == report.NOTHING


def test_latency_and_memory_are_met_when_they_are_low_enough() -> None:
    assert rows("int8")["8 tokens"] == (
        "0.20 ms", "0.50 (ONNX Runtime int8)", "0.40", "≤ 0.6", "yes"
    )  # fmt: skip
    assert rows("int8")["peak memory"] == (
        "5.00 MB", "4.00 (ONNX Runtime int8)", "1.25", "≤ 1.0", "NO"
    )  # fmt: skip


def test_work_that_was_not_measured_is_neither_met_nor_missed() -> None:
    assert rows("float32")["512 tokens"] == ("-", "-", "-", "≤ 0.8", "-")


def test_neither_is_ahead_where_rounds_overlap_or_a_difference_of_one_run_says_nothing() -> None:
    def ahead(ours: list[float], theirs: list[float], more: bool = True, noise: float = 0.0, unit: str = "/s") -> str:
        return report.Beside("", unit, ours, theirs, more, noise=noise).ahead("other")

    assert ahead([4.0, 3.0], [2.0, 1.0]) == "npdistil, 2.50 times"
    assert ahead([4.0, 3.0], [2.0, 1.0], more=False) == "other, 2.50 times"
    assert ahead([4.0, 2.0], [2.0, 1.0]) == "neither"
    assert ahead([102.0], [100.0], noise=5.0) == "neither"
    assert ahead([110.0], [100.0], noise=5.0) == "npdistil, 1.10 times"
    assert ahead([91.9], [91.6], noise=1.8, unit=" %") == "neither"
    assert ahead([91.9], [89.4], noise=1.8, unit=" %") == "npdistil, by 2.5 points"


def test_a_percentile_is_shown_where_enough_calls_stand_behind_it() -> None:
    many = [[1000 * n for n in range(1, 51)]] * 2
    times = {"8": {"npdistil int8": many, "npdistil float32": [[1000] * 10], "torch float32": [[1000] * 9]}}
    check = {"passed": True, "agreement": 1, "accuracy": 1, "precision": "int8"}
    found = {"checks": dict.fromkeys(times["8"], check), "latency_us": times}
    what, _, rows = report.overview_tables(found)[2]
    assert [each[1] for each in rows] == ["46.0, 50.0", "1.00", report.NOTHING]
    assert "of which a cell has 9 at the least" in what


def test_the_page_for_those_who_come_from_onnx_runtime_has_the_table_of_the_committed_results() -> None:
    results = Path(report.__file__).parent / "results"
    read = [json.loads((results / f"{name}.json").read_text()) for name in ("compare", "startup", "sizes")]
    page = (results.parents[1] / "docs" / "from-onnx-runtime.md").read_text(encoding="utf-8")
    assert report.against("ONNX Runtime", *read) in page, "python benchmarks/plots.py writes it"


def test_the_page_on_files_has_the_table_of_the_committed_results() -> None:
    pytest.importorskip("pyarrow")
    import files

    result = json.loads((Path(files.__file__).parent / "results" / "files.json").read_text())
    assert files.table(result) in files.PAGE.read_text(encoding="utf-8"), "python benchmarks/files.py writes it"


def test_result_files_hold_what_was_given_with_each_list_of_numbers_on_one_line(tmp_path: Path) -> None:
    result = {"a": [1, 2.5, 3], "b": {"c": [[1, 2], [3]]}, "d": "[x, y]", "e": []}
    report.write(tmp_path / "result.json", result)
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text) == result
    assert '"a": [1, 2.5, 3]' in text
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_wrong_float32_logits_are_not_timed() -> None:
    expected = np.array([[1.0, -1.0], [0.0, 2.0]])
    assert compare.judge(expected + 9e-4, expected, "float32")["passed"]
    assert not compare.judge(expected + 2e-3, expected, "float32")["passed"]


def test_int8_that_changes_more_than_2_labels_of_100_is_not_timed() -> None:
    expected = np.tile([0.0, 1.0], (100, 1))
    for changed, passes in ((2, True), (3, False)):
        logits = expected.copy()
        logits[:changed] = [1.0, 0.0]
        assert compare.judge(logits, expected, "int8")["passed"] is passes


def test_evenly_spaced_texts_begin_with_the_first_and_reach_into_the_last_part() -> None:
    assert data.evenly(range(10), 3) == [0, 3, 6]
    assert data.evenly(range(10), 10) == list(range(10))
    assert data.evenly(range(10), 0) == []


def test_every_adapter_has_a_conversion_that_exists() -> None:
    assert {peer.kind for peer in peers.PEERS.values()} - {None} <= set(convert.KINDS)
    assert peers.PEERS[peers.REFERENCE].precision == "float32"


def test_a_worker_gives_the_models_own_logits_and_labels(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(npdistil.__file__).parents[1]))  # the package that is tested here
    directory = make()
    model = npdistil.load(directory, engine="numpy")
    texts = ["a b", "b", "c a b"]
    with Worker(NUMPY, directory, directory, 1, tmp_path / "log") as worker:
        (logits,) = worker.ask("logits", batches=[TOKEN_IDS])
        worker.ask("texts", some=texts)
        labels = worker.ask("predict", texts="some", batch=2)["labels"]
        times = worker.ask("latency", token_ids=TOKEN_IDS[0], seconds=0, least=4)["seconds"]
        assert worker.ask("memory") > 1e6
    assert np.array(logits, np.float32).tolist() == model.logits(TOKEN_IDS).tolist()
    assert labels == model.scores(texts).argmax(axis=1).tolist()
    assert len(times) == 4
    assert min(times) > 0


def test_pauses_come_before_calls_are_not_counted_and_leave_no_process_stopped(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(npdistil.__file__).parents[1]))
    directory = make()
    asked: list[float] = []

    def ask(do: str, token_ids: list[int], pause: float, **request: float) -> dict[str, object]:
        asked.append(pause)
        return {"seconds": [0.001, 0.003], "others": 0.0}

    with Worker(NUMPY, directory, directory, 1, tmp_path / "log") as worker:
        monkeypatch.setattr(worker, "ask", ask)
        found = pauses.measure({NUMPY: worker}, [8], {0: 0.0, 20: 0.0}, 2)
        monkeypatch.undo()
        assert asked == [0, 0.02] * 2
        assert found["latency_us"] == {"8": {"0": {NUMPY: [[1000, 3000]] * 2}, "20": {NUMPY: [[1000, 3000]] * 2}}}
        start = time.monotonic()
        (seconds,) = worker.ask("latency", token_ids=[2, 7, 3], seconds=0, least=1, pause=0.5)["seconds"]
        assert time.monotonic() - start >= 0.5 + seconds
    head, rows = pauses.table(found["latency_us"])
    assert head == ("runtime", "tokens", "at once", "after 20 ms")
    assert rows == [(NUMPY, "8", "2.00 (3.00)", "2.00 (3.00)")]


def test_times_are_written_without_powers_of_ten() -> None:
    seconds = {"int8": {"jit": {"npdistil": {work: [2.4196] for work in isas.WORKS}}}}
    ((_, _, shown),) = isas.tables(seconds)
    assert shown == [("this processor", "**npdistil**", "`NPDISTIL_ISA`", *["2,420"] * len(isas.WORKS))]


def test_a_runtime_that_an_instruction_set_stops_has_an_empty_cell() -> None:
    one = {work: [0.01] for work in isas.WORKS}
    found = {"float32": {"avx2": {"npdistil": one, "OpenVINO": one}}, "int8": {"avx2": {"npdistil": one}}}
    ours, theirs = ("avx2", "**npdistil**", "`NPDISTIL_ISA`"), ("avx2", "OpenVINO", "`ONEDNN_MAX_CPU_ISA`")
    full, none = ["10.0"] * len(isas.WORKS), ["-"] * len(isas.WORKS)
    (_, _, float32), (_, _, int8) = isas.tables(found)
    assert float32 == [(*ours, *full), (*theirs, *full)]
    assert int8 == [(*ours, *full), (*theirs, *none)]


def test_what_holds_a_runtime_to_an_instruction_set_is_shown() -> None:
    head, rows = isas.settings({"avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "CT2_FORCE_CPU_ISA": "AVX2"}})
    assert head == ("instruction set", "`NPDISTIL_ISA`", "`ONEDNN_MAX_CPU_ISA`", "`CT2_FORCE_CPU_ISA`")
    assert rows == [("avx2", "avx2", "AVX2", "AVX2")]


def test_starts_with_a_cold_page_cache_and_imports_have_tables_of_their_own() -> None:
    found = {"seconds": [0.1, 0.3, 0.2], "peak": [9e7], "others_busy": [-0.01]}
    names = ("npdistil int8, bundled", "ONNX Runtime int8, bundled", "npdistil int8, bundled, cold page cache")
    warm, cold, imports = startup.tables({"commands": dict.fromkeys((*names, "import numpy"), found)})
    row = ("0.20 (0.10 to 0.30)", "90", "0.00")
    assert warm[2] == [(names[0], *row, "0.25 s, 100 MB", "yes"), (names[1], *row, "", "")]
    assert cold[1:] == (warm[1][:4], [(names[0], *row)])
    assert imports[2] == [("import numpy", *row)]


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"No such file|Error"):
        Worker(NUMPY, tmp_path, tmp_path, 1, tmp_path / "log")


def test_a_comparison_checks_times_and_skips_by_name(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(npdistil.__file__).parents[1]))
    monkeypatch.setattr(compare, "REFERENCE", NUMPY)  # no torch here
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "dev.tsv").write_text("sentence\tlabel\n" + "a b c\t0\nb\t1\n" * 4)
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / "imdb_600.jsonl").write_text('{"text": "a b c a b c"}\n' * 3)
    plan = compare.Plan(2, {4: 0}, 2, dev=6, checked=8, searched=2, batches=(2,), long=2, long_searched=1, threads=2)
    known = {NUMPY: peers.PEERS[NUMPY], "torch int8": replace(peers.PEERS["torch int8"], packages=("no_such",))}
    comparison = compare.Comparison(
        make(), {}, plan, compare.WORKS, known, 1, compare.Cache(tmp_path / "cache", tmp_path)
    )
    stages = list(comparison.run())
    assert stages == ["load", "check", "sst2", "long", "latency", "threads", "memory"]
    measured = comparison.result
    assert measured["skipped"] == {"torch int8": "not installed: no_such"}
    assert measured["checks"][NUMPY]["passed"]
    assert len(measured["sst2"]["seconds"][NUMPY]) == 1  # one round: it is far behind
    assert len(measured["latency_us"]["4"][NUMPY][0]) >= 2
    result = {"models": {"full-size": measured}, "threads": 1}
    assert NUMPY in report.overview(result)
    assert "skipped torch int8: not installed: no_such" in report.overview(result)
    assert len(report.targets(result).splitlines()) == len(report.TARGETS) + 7  # titles, heads, rules, a line between


def test_an_own_model_is_checked_timed_in_turns_and_measured_in_a_fresh_process(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(npdistil.__file__).parents[1]))
    monkeypatch.setattr(own, "PAUSES", (0,))
    directory = make()
    texts = ["a b c", "b", "a a b c a" * 9]  # one is longer than the model
    token_ids = [encoding.ids for encoding in own.cutting(npdistil.load(directory), tmp_path).encode_batch(texts)]
    sides = {own.RIVAL: (NUMPY, directory), NUMPY: (NUMPY, directory)}
    found = own.measure(sides, tmp_path, token_ids, texts, threads=2, rounds=2, seconds=0.01, agree=1)
    assert found["checks"] == {NUMPY: {"agreement": 1.0, "largest difference": 0.0}}
    assert found["texts of a turn"] >= own.FEW
    assert [*found["turns"]] == ["texts a second", own.SINGLY, "ms, one text"]
    assert [*found["90th percentile"]["ms, one text"]] == [*sides]
    for turns in found["turns"].values():
        assert {title: len(values) for title, values in turns.items()} == dict.fromkeys(sides, 2)
        assert min(min(values) for values in turns.values()) > 0
    assert min(found["peak memory"].values()) > 1e6
    assert "100.0%" in own.told(found | {"machine": machine.describe()})


def test_an_onnx_file_of_another_model_is_not_timed(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(npdistil.__file__).parents[1]))
    arrays = tiny.tensors(tiny.config())
    contrary = {name: -each if name.startswith("classifier") else each for name, each in arrays.items()}
    one, other = make(arrays=arrays), make(arrays=contrary)
    own.cutting(npdistil.load(one), tmp_path)
    sides = {own.RIVAL: (NUMPY, other), NUMPY: (NUMPY, one)}
    with pytest.raises(WorkerError, match=r"the same label to 0\.0% of 3 texts, so they do not run the same model"):
        own.measure(sides, tmp_path, TOKEN_IDS, ["a"], threads=1, rounds=1, seconds=1, agree=0.98)


def test_figures_of_an_own_model_stand_beside_their_ratio_in_the_median_of_the_rounds() -> None:
    head, rows = own.table(
        {
            "turns": {
                "texts a second": {"ONNX Runtime": [10.0, 20.0, 10.0], "npdistil int8": [20.0, 30.0, 15.0]},
                "ms, one text": {"ONNX Runtime": [4.0, 4.0], "npdistil int8": [2.0, 2.0]},
            },
            "90th percentile": {"ms, one text": {"ONNX Runtime": 6.0, "npdistil int8": 3.0}},
            "peak memory": {"ONNX Runtime": 200e6, "npdistil int8": 100e6},
            "checks": {"npdistil int8": {"agreement": 0.995, "largest difference": 0.0312}},
        }
    )
    assert head == ("", "ONNX Runtime", "npdistil int8")
    assert rows == [
        ("texts a second", "10.0 ±50%", "20.0 ±38% (1.50)"),
        ("ms, one text", "4.00 ±0%, p90 6.00", "2.00 ±0%, p90 3.00 (0.50)"),
        ("peak memory, MB", "200", "100 (0.50)"),
        ("labels as ONNX Runtime's", "", "99.5%"),
        ("largest difference of a logit", "", "3.1e-02"),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{model}"], "no ONNX file: {model}; `optimum-cli export onnx --model {model} FOLDER` makes one"),
        (["{model}", "--onnx", "{model}/none.onnx"], "no ONNX file: {model}/none.onnx"),
        (["{model}", "--onnx", "{file}", "--texts", "{model}/none.txt"], "{model}/none.txt cannot be read"),
        (["{model}", "--onnx", "{file}", "--texts", "{file}"], "no texts in {file}"),
        (["{model}", "--onnx", "{file}", "--rounds", "0"], "--threads, --rounds and --seconds must be positive"),
        (["{model}/none", "--onnx", "{file}"], "{model}/none"),
        (["{encoder}", "--onnx", "{file}"], "{encoder} is a DistilBertModel; only classifiers are compared here"),
        (["{ranker}", "--onnx", "{file}"], "{ranker} is a DistilBertForSequenceClassification with 1 label; only"),
    ],
)
def test_what_an_own_model_lacks_is_said_in_a_sentence(
    arguments: list[str],
    said: str,
    make: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(own, "OWN", {own.ADAPTER: replace(peers.OWN[own.ADAPTER], packages=())})  # as if installed
    paths = {"model": make(), "encoder": make(architectures=["DistilBertModel"], id2label=None)}
    paths |= {"ranker": make(id2label={"0": "LABEL_0"}), "file": tmp_path / "model.onnx"}
    paths["file"].touch()
    monkeypatch.setattr(sys, "argv", ["own.py", *(each.format_map(paths) for each in arguments)])
    with pytest.raises(SystemExit) as ended:
        own.main()
    assert ended.value.code
    assert said.format_map(paths) in f"{ended.value.code}{capsys.readouterr().err}"


def test_labels_come_back_in_the_order_of_the_texts_though_batches_are_sorted_by_length(
    make: Callable[..., Path],
) -> None:
    class Padding(peers.Runner):
        """A model that tells how many tokens there are."""

        def load(self, model: Path, files: Path, threads: int, precision: str) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def padded(self, ids: peers.Array, mask: peers.Array) -> peers.Array:
            self.shapes.append(ids.shape)
            assert (ids[mask == 0] == 0).all()
            return np.eye(64)[mask.sum(axis=1)]

    directory = make()
    runner = Padding(directory, directory, 1, "float32")
    texts = ["a b c a b c", "a", "a b c", "a b"]
    lengths = [len(runner.tokenizer.encode(text).ids) for text in texts]
    assert runner.predict(texts, 2) == lengths
    assert runner.shapes == [(2, max(lengths)), (2, sorted(lengths)[1])]
    assert Padding(directory, directory, 1, "float32", streams=2).predict(texts, 1) == lengths


def test_bench_reports_throughput_latency_and_memory(make: Callable[..., Path]) -> None:
    model = npdistil.load(make(), engine="numpy")
    result = bench(model, ["a b", "c"], seconds=0.01)
    assert json.loads(json.dumps(result)) == result
    assert (result["engine"], result["precision"], result["texts"]) == ("numpy", "float32", 2)
    assert result["texts_per_second"] > 0
    assert result["tokens_per_second"] > result["texts_per_second"]
    longest = model.config.max_position_embeddings
    lengths = [str(n) for n in (8, 16, 32, 64, 128, 256, 512) if n <= longest]
    # A machine on which one run takes longer than the time that is left stops there, however long that was.
    assert list(result["latency_ms"]) == lengths[: len(result["latency_ms"])]
    assert "8" in result["latency_ms"]
    for each in result["latency_ms"].values():
        assert 0 < each["median"] <= each["p90"] <= each["p99"]
    assert "numpy float32" in table(result)


@pytest.mark.parametrize(("texts", "seconds"), [([], 1.0), (["a"], 0.0), (["a"], float("nan"))])
def test_bench_refuses_to_measure_nothing(make: Callable[..., Path], texts: list[str], seconds: float) -> None:
    with pytest.raises(npdistil.InputError):
        bench(npdistil.load(make(), engine="numpy"), texts, seconds)


def test_the_tables_replace_what_stands_between_their_markers() -> None:
    readme = "a\n<!-- t -->\nold\n<!-- end of t -->\nb\n"
    assert report.fill(readme, {"t": "new \\1"}) == "a\n<!-- t -->\nnew \\1\n<!-- end of t -->\nb\n"
    with pytest.raises(SystemExit, match="no <!-- u -->"):
        report.fill(readme, {"u": "new"})


def test_every_step_of_the_ladder_computes_the_same_product() -> None:
    pytest.importorskip("numba")
    path = Path(__file__).parents[1] / "benchmarks" / "kernels" / "ladder.py"
    spec = importlib.util.spec_from_file_location("ladder", path)
    assert spec is not None
    assert spec.loader is not None
    ladder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ladder)
    result = ladder.climb(2 * ladder.ROWS, 64, 4 * ladder.PANEL, seconds=0)
    assert len(result["steps"]) == (7 if ladder.VNNI else 6)
    with pytest.raises(SystemExit, match="differs"):
        ladder.check("a step", np.array([1.0, 2.0]), np.array([1.0, 2.1]), 0.01)
