"""Figures of README and docs are those of the committed results: every table, the picture, and what is said of them."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import data
import isas
import report
import tables

from npdistil.files import run

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
KERNELS = ROOT / "npdistil" / "compiled" / "kernels"
MEASURED = [  # pages with figures of speed, size or memory
    "benchmarks/README.md",
    *(f"docs/{page}.md" for page in ("data-tools", "files", "from-onnx-runtime", "serve", "spark")),
]


def text(page: str) -> str:
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def between(page: str, name: str, end: str) -> str:
    found = (ROOT / page).read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")[2]
    return found.partition(f"\n<!-- {end} -->")[0]


def result(name: str, folder: Path = RESULTS) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def script(name: str) -> ModuleType:
    """A file of benchmarks/ whose name a folder of tests has too."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_benchmarks_are_those_of_the_committed_results() -> None:
    made = tables.all_of(RESULTS)
    assert made.keys() > {"targets", "full-size", "bundled", "startup", "sizes", "isas", "stages", "ladder"}
    for name, table in made.items():
        assert between("benchmarks/README.md", name, f"end of {name}") == table, "python benchmarks/plots.py writes it"


@pytest.mark.parametrize("name", ["overview", "overview-narrow"])
def test_the_picture_is_of_the_committed_results(name: str) -> None:
    panels = tables.overview(*map(result, ("compare", "startup", "sizes")))
    wanted = [form.format(value) for _, form, values in panels for value in values]
    shown = re.findall(r"<!-- ([\d.]+) -->", (RESULTS / f"{name}.svg").read_text(encoding="utf-8"))
    assert shown == wanted, "python benchmarks/plots.py draws it"


def test_the_service_under_load_is_that_of_the_committed_results() -> None:
    made = script("serve")
    assert between("docs/serve.md", "load", "end of load") == made.table(result("serve"))
    assert between("docs/serve.md", "mixed load", "end of mixed load") == made.told(result("serve-mixed"))


def test_the_plan_for_spark_is_that_of_the_committed_results() -> None:
    assert between("docs/spark.md", "plan", "end of plan") == script("spark").plan(result("spark"))


def test_the_share_that_data_tools_leave_is_that_of_the_committed_results() -> None:
    found = between("docs/data-tools.md", "data-tools", "end of data-tools")
    assert found == script("data_tools").table(result("data-tools"))


@pytest.mark.parametrize("page", MEASURED)
def test_tables_of_measurements_fit_a_page_and_say_on_what_and_when(page: str) -> None:
    whole = (ROOT / page).read_text(encoding="utf-8")
    parts = re.findall(r"^<!-- ([\w -]+) -->\n(.*?)\n<!-- end of \1 -->", whole, re.DOTALL | re.MULTILINE)
    assert parts
    for name, part in parts:
        assert not [line for line in part.splitlines() if line.startswith("|") and len(line) > 100], name
        assert re.search(r"\d\sCPUs,\s.*20\d\d-\d\d-\d\d", part, re.DOTALL), name


def test_texts_have_as_many_tokens_as_the_committed_count_says(shared_data: Path) -> None:
    assert data.counted(shared_data) == result("texts")["sets"]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/compare.md"])
def test_sentences_are_as_long_as_the_pages_say(page: str) -> None:
    assert f"{report.tokens('SST-2 dev')} in the mean" in text(page)


def test_what_is_said_of_many_sentences_is_what_was_measured() -> None:
    said = []
    for measured in result("compare")["models"].values():
        rates = {name: median(each) for name, each in report.rounds(measured, "sst2").items()}
        others = {name: rate for name, rate in rates.items() if "npdistil" not in name}
        exact = [rate for name, rate in others.items() if report.precision_of(measured, name) == "float32"]
        ours = (rates["npdistil int8"], rates["npdistil float32"])
        said.append([f"{each:,.0f}" for each in (*ours, max(others.values()), max(exact))])
    (a, b, c, d), (e, f, g, h) = said
    assert (
        f"of {report.tokens('SST-2 dev')} (SST-2) it labels {a} a second in int8 and {b} in float32 with the "
        f"full size, the fastest of the others {c} and {d}; with the bundled model {e} and {f}, the fastest of the "
        f"others {g} and {h}."
    ) in text("benchmarks/README.md")


def test_what_is_said_of_one_text_is_what_was_measured() -> None:
    behind = set()
    for model, measured in result("compare")["models"].items():
        for precision, (length, turns) in (
            (p, item) for p in ("int8", "float32") for item in measured["latency_us"].items()
        ):
            ours = f"npdistil {precision}"
            rivals = [
                name
                for name in turns
                if "npdistil" not in name and (precision == "int8" or report.precision_of(measured, name) == "float32")
            ]
            middle = {name: median(each) for name, each in report.medians(turns).items()}
            assert middle[ours] < min(middle[name] for name in rivals), (model, precision, length)
            calls = {name: [each for turn in turns[name] for each in turn] for name in (ours, *rivals)}
            slow = {
                name: report.percentile(all_, 0.99) for name, all_ in calls.items() if len(all_) >= report.CALLS[0.99]
            }
            if ours in slow and min(slow.values()) < slow[ours]:
                behind.add((model, precision, length))
    page = text("benchmarks/README.md")
    assert behind == {("full-size", "int8", length) for length in ("8", "64", "128", "256")}
    assert "others are ahead with 8, 64, 128 and 256 tokens in int8 of the full size." in page
    paused = result("pauses")["latency_us"]
    for precision in ("int8", "float32"):
        for lengths in paused.values():
            for turns in lengths.values():
                middle = {name: median(each) for name, each in report.medians(turns).items() if precision in name}
                assert min(middle, key=lambda name: middle[name]) == f"npdistil {precision}"
    targets = {row[0]: row for row in report.target_rows(result("compare")["models"]["full-size"], paused, "int8")}
    (ours, theirs), (after, others) = (
        (row[1].removesuffix(" ms"), row[2].split(" ")[0])
        for row in (targets["8 tokens"], targets["8 tokens after 20 ms"])
    )
    said = f"in {ours} ms, the fastest of the others in {theirs}; after 20 ms in {after}, the others in {others}."
    assert said in page


def test_what_is_said_of_lower_instruction_sets_is_what_was_measured() -> None:
    ratios = {}
    for precision, held in result("isas")["seconds"].items():
        for name, runtimes in held.items():
            for runtime, works in runtimes.items():
                for work, seconds in works.items():
                    ratio = f"{median(seconds) / median(runtimes['npdistil'][work]):.2f}"
                    if float(ratio) < 1:
                        ratios[precision, name, runtime, work] = ratio
    a, b, c = (
        ratios.pop(("int8", name, runtime, isas.MANY))
        for name, runtime in (("avx512", "OpenVINO"), ("avx512", "CTranslate2"), ("avx2", "CTranslate2"))
    )
    assert not ratios
    page, log = text("benchmarks/README.md"), text("benchmarks/LOG.md")
    assert f"OpenVINO takes {a} of npdistil's time and CTranslate2 {b}, held to AVX2 CTranslate2 {c}." in page
    assert f"OpenVINO takes {a} of the time on AVX-512, CTranslate2 {c} on AVX2" in log


def test_what_is_not_reached_has_the_ratios_of_the_table_of_targets() -> None:
    measured, paused = result("compare")["models"]["full-size"], result("pauses")["latency_us"]
    log = text("benchmarks/LOG.md").partition("## Not reached")[2]
    for precision, work, said in (
        ("float32", "SST-2 dev", "Throughput in float32, full size,"),
        ("int8", "SST-2 dev", "Throughput in int8, full size,"),
        ("int8", "512 tokens", "One text of 512 tokens in int8,"),
    ):
        (row,) = (row for row in report.target_rows(measured, paused, precision) if row[0] == work)
        assert row[-1] == "NO"
        assert f"{said} {row[3].split(' ')[0]} of {row[4][2:]}:" in log


def test_a_comparison_takes_as_long_as_the_page_says() -> None:
    assert f"`compare.py` took {result('compare')['minutes']:.0f} minutes on two cores" in text("benchmarks/README.md")


def test_what_872_sentences_can_tell_is_what_the_page_for_those_who_come_from_onnx_runtime_says() -> None:
    measured = result("compare")["models"]["bundled"]
    count, share = measured["sst2"]["texts"], measured["checks"]["npdistil int8"]["accuracy"]
    said = f"two standard errors of {count} sentences, {200 * report.standard_error(share, count):.1f} points"
    page = text("docs/from-onnx-runtime.md")
    assert said in page
    assert f"differs by less than {100 * report.ONCE:.0f} %" in page
    assert "| float32 | 91.63 %" in text("weights/minilm-l6-sst2/README.md")
    assert "float32 is what they were made from, with 91.63 %" in page


def test_the_size_of_the_bundled_model_is_that_of_its_files() -> None:
    folder = ROOT / "weights" / "minilm-l6-sst2"
    weights = (folder / "model.safetensors").stat().st_size
    opened = sum(path.stat().st_size for path in folder.glob("*.[js]*"))
    sizes = f"has {weights / 1e6:.1f} MB on disk, with tokenizer and configuration {opened / 1e6:.1f} MB"
    assert f"`model.safetensors` {sizes}" in text("weights/minilm-l6-sst2/README.md")
    assert f"weights {weights / 1e6:.1f} MB on disk" in text("docs/first-steps.md")
    assert f"({opened / 1e6:.1f} MB of it)" in text("benchmarks/README.md")


def test_the_tables_of_docs_are_those_of_the_committed_results() -> None:
    tasks = [
        f"| {each['task']} | {each['model']} | {each['inputs']} | {each['engine']} "
        f"| {each['difference']:.1e} | {each['same']} |"
        for each in result("tasks", ROOT / "docs" / "results")["rows"]
    ]
    assert between("docs/tasks.md", "table", "end").splitlines()[2:] == tasks, "docs/measure.py writes it"
    long = [
        f"| {each['setting']} | {each['all']:.1%} | {each['longer']:.1%} | {each['parts']:.1f} |"
        for each in result("long-texts", ROOT / "docs" / "results")["rows"]
    ]
    assert between("docs/long-texts.md", "table", "end").splitlines()[2:] == long, "docs/measure.py writes it"


def test_what_is_said_of_long_texts_is_what_was_measured() -> None:
    rows = {each["setting"]: each for each in result("long-texts", ROOT / "docs" / "results")["rows"]}
    windows, sentences = rows["`windows`, mean (the default)"], rows["`sentences`, mean"]
    count = windows["texts_longer"]
    right = [round(each["longer"] * count) for each in (sentences, windows)]
    assert f"({right[0]} of {count} right, windows {right[1]}:" in text("docs/long-texts.md")
    assert windows["all"] == max(each["all"] for each in rows.values())
    assert "it takes ten times as many" in text("docs/long-texts.md")
    assert 8 < sentences["parts"] / windows["parts"] < 12


def test_the_kernels_of_an_instruction_set_are_one_file_of_some_50_kb() -> None:
    assert "one file of some 50 kB for each instruction set" in text("docs/first-steps.md")
    sizes = [file.stat().st_size for file in KERNELS.glob("*/*.so") if file.stem != "cpuid"]
    assert 40_000 < min(sizes) < max(sizes) < 60_000


def test_what_tokenizers_asks_for_beside_the_core_is_a_fifth_of_its_disk() -> None:
    installed = result("sizes")["installed"]
    whole, lean = installed["npdistil"], installed["npdistil, without what tokenizers brings"]
    assert 13 <= len(whole["packages"]) - len(lean["packages"]) <= 17
    assert 0.17 < 1 - lean["bytes"] / whole["bytes"] < 0.23
    assert "some fifteen packages, which take a fifth of the core's disk" in text("docs/minimal.md")


def test_what_is_said_of_the_limit_is_what_the_ladder_reached() -> None:
    ladder = result("ladder")
    share = {step["step"]: step["share"] for step in ladder["steps"]}
    assert "between a seventh of the limit and the limit" in text("docs/kernels.md")
    assert "Packing alone, with loops over it, gains nothing" in text("docs/kernels.md")
    assert 0.12 < share["5 panels"] < share["4 blocked"] < 0.16
    assert share["6 vector micro-kernel"] > 0.97
    assert "four times as many as for float32" in text("docs/kernels.md")
    assert "products up to four times as fast" in text("docs/quantisation.md")
    assert 3.8 < ladder["limits"]["int8"] / ladder["limits"]["float32"] < 4.1


def test_what_is_not_rounded_to_bytes_takes_little_of_the_time() -> None:
    stages = result("stages")["stages"]["int8"]
    assert "rounding what takes so little of the time" in text("docs/quantisation.md")
    assert (stages["stages"]["softmax"] + stages["stages"]["layer norm"]) / stages["seconds"] < 0.05


def test_int8_changes_hardly_any_label() -> None:
    assert "it changes hardly any label" in text("docs/quantisation.md")
    found = re.search(r"int8 gives the label of float32 on (\d+) of (\d+)", text("weights/minilm-l6-sst2/README.md"))
    assert found
    assert int(found[1]) / int(found[2]) > 0.99


def test_the_limits_of_the_service_are_those_that_its_page_tells() -> None:
    pytest.importorskip("starlette")
    from npdistil.serve import app, batching, server, service

    page = text("docs/serve.md")
    for said in (
        f"head has {server.HEAD_SECONDS:.0f} seconds and {server.HEAD_BYTES // 1024} kB",
        f"without a request is closed after {server.IDLE_SECONDS:.0f} seconds",
        f"a body that has come in part has {server.END_SECONDS:.0f} seconds",
        f"a `hypothesis_template` has at most {service.TEMPLATE} characters",
        f"a request may have {service.MASKS} masks",
        f"not answered have {app.IN_ALL // 2**20} MB together",
        f"a number of more than {app.DIGITS} digits",
        f"attention is given for up to {service.ATTENTION_TOKENS} tokens",
        f"a batch of {batching.SHARED} tokens or more is shared",
        f"take turns of {batching.TURN:,} tokens each",
    ):
        assert said in page
    assert service.STATE_NUMBERS == 2**20
    assert "feature extraction gives 2^20 numbers" in page
    assert batching.QUIET == 1
    assert "no two were to be run at once for a second" in page


def test_as_many_texts_are_remembered_as_the_page_of_files_tells() -> None:
    assert f"(the last {run.REMEMBERED:,} are remembered)" in text("docs/files.md")
