"""The tables of README.md and the figures of the overview, from results; `plots.py` writes them, a test compares."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import compare
import isas
import pauses
import report
import sizes
import startup

Result = dict[str, Any]
RUNTIMES = (  # as started, the family among those compared, as installed
    ("npdistil", "npdistil", "npdistil"),
    ("ONNX Runtime", "ONNX", "ONNX Runtime"),
    ("CTranslate2", "CTranslate2", "CTranslate2"),
    ("OpenVINO", "OpenVINO", "OpenVINO"),
    ("transformers", "torch", "transformers + torch for CPUs"),
)
OF = {"full-size": "Full-size model", "bundled": "Bundled model"}


def overview(compared: Result, started: Result, installed: Result) -> list[tuple[str, str, list[float]]]:
    """What decides first: each panel's title, how its figures are written, and a figure for each of RUNTIMES."""
    measured = compared["models"]["bundled"]
    rates = {name: median(each) for name, each in report.rounds(measured, "sst2").items() if "numpy" not in name}
    starts = {name.split(" int8")[0].split(" float32")[0]: name for name in started["commands"]
              if name.endswith((" int8, bundled", "transformers float32, bundled"))}  # fmt: skip
    panels: list[tuple[str, str, list[float]]] = [
        ("seconds to the first label", "{:.2f}", []),
        ("MB installed", "{:.0f}", []),
        ("minutes for a million sentences", "{:.0f}", []),
    ]
    for name, family, package in RUNTIMES:
        panels[0][2].append(median(started["commands"][starts[name]]["seconds"]))
        panels[1][2].append(installed["installed"][package]["bytes"] / 1e6)
        panels[2][2].append(1e6 / max(rate for each, rate in rates.items() if each.split(" ")[0] == family) / 60)
    return panels


def all_of(results: Path) -> dict[str, str]:
    """Markdown for each marker of README.md whose results are there."""
    names = ("compare", "pauses", "startup", "stages", "isas", "ladder", "sizes")
    paths = {name: results / f"{name}.json" for name in names}
    read = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    makers = (_compared, _paused, _started, _staged, _held, _climbed, _installed)
    found: dict[str, str] = {}
    for name, make in zip(names, makers, strict=True):
        if name in read:
            found |= make(read)
    found["machines"] = "\n".join(
        _machine(name, described, work)
        for name, result in read.items()
        for work, described in {"": result["machine"], **result.get("again", {})}.items()
    )
    return found


def _under(what: str, result: Result, table: str) -> str:
    """A table under the line that says what it is of."""
    return f"{report.measured_on(what, result, 'results/' + result['benchmark'] + '.json')}\n\n{table}"


def _compared(read: Mapping[str, Result]) -> dict[str, str]:
    result = read["compare"]
    paused = read.get("pauses", {}).get("latency_us", {})
    on = f"{result['threads']} threads"
    found = {}
    for model, measured in result["models"].items():
        parts = [
            _under(f"{OF[model]}, {on}. {what}", result, report.markdown(head, rows))
            for what, head, rows in report.overview_tables(measured)
        ]
        parts += [report.filled(f"Skipped: {name}: {why}.") for name, why in measured["skipped"].items()]
        found[model] = "\n\n".join(parts)
        if "threads" in measured:
            counts = list(next(iter(measured["threads"].values())))
            gains = [
                (name, *(f"{each[n]:.0f}" for n in counts), f"{each[counts[-1]] / each[counts[0]]:.2f}")
                for name, each in sorted(measured["threads"].items(), key=lambda item: -item[1][counts[-1]])
            ]
            heads = [f"{n} thread{'s' if n != '1' else ''}, texts/s" for n in counts]
            count = compare.PLANS[result["plan"]][model].threads
            what = (
                f"{OF[model]}, strings to labels: a work of its own, {count} texts of SST-2 dev and the best of two "
                "turns, so that the figures are not those above"
            )
            found["threads"] = _under(what, result, report.markdown(("runtime", *heads, "gain"), gains))
    if "full-size" in result["models"]:
        measured = result["models"]["full-size"]
        more = ", after a pause [pauses.json](results/pauses.json)" if paused else ""
        parts = []
        for precision, what in report.TARGETS_OF.items():
            parts.append(report.measured_on(f"{OF['full-size']}, {on}: {what}", result, "results/compare.json", more))
            parts.append(report.markdown(report.TARGET_HEAD, report.target_rows(measured, paused, precision)))
        found["targets"] = "\n\n".join(parts)
    return found


def _paused(read: Mapping[str, Result]) -> dict[str, str]:
    result = read["pauses"]
    least = min(sum(map(len, turns)) for n in result["latency_us"].values() for names in n.values()
                for turns in names.values())  # fmt: skip
    on = f"{OF['full-size']}, {result['threads']} threads"
    what = f"{on}: milliseconds of one text, ids to logits, {least} calls a cell at the least"
    return {"pauses": _under(what, result, report.markdown(*pauses.table(result["latency_us"])))}


def _started(read: Mapping[str, Result]) -> dict[str, str]:
    result = read["startup"]
    parts = [_under(what, result, report.markdown(head, rows)) for what, head, rows in startup.tables(result)]
    return {"startup": "\n\n".join(parts)}


def _staged(read: Mapping[str, Result]) -> dict[str, str]:
    result = read["stages"]
    count = next(iter(result["stages"].values()))["texts"]
    what = f"{OF['full-size']}, one thread: milliseconds for {count} texts of SST-2 dev, ids to logits"
    return {"stages": _under(what, result, report.stages(result["stages"]))}


def _held(read: Mapping[str, Result]) -> dict[str, str]:
    result = read["isas"]
    parts = [_under(what, result, report.markdown(head, rows)) for what, head, rows in isas.tables(result["seconds"])]
    if held := result.get("held"):
        parts.append(f"What stood in these variables:\n\n{report.markdown(*isas.settings(held))}")
    return {"isas": "\n\n".join(parts)}


def _climbed(read: Mapping[str, Result]) -> dict[str, str]:
    result = read["ladder"]
    rows = [
        (
            each["step"],
            f"{each['largest_difference']:.1e}",
            report.digits(each["rate"] / 1e9),
            f"{100 * each['share']:.3g} %",
        )
        for each in result["steps"]
    ]
    head = ("step", "largest difference to the one before", "G operations/s", "share of the core's limit")
    limits = " and ".join(f"{rate / 1e9:,.0f} G {kind} operations a second" for kind, rate in result["limits"].items())
    what = f"One thread, {result['m']} rows times a matrix of {result['k']} by {result['n']}; the limit is {limits}"
    return {"ladder": _under(what, result, report.markdown(head, rows))}


def _installed(read: Mapping[str, Result]) -> dict[str, str]:
    result = read["sizes"]
    what = f"Megabytes of files, on Linux, Python {result['machine']['python']}"
    tables = f"{report.markdown(*sizes.table(result))}\n\n{report.markdown(*sizes.parts(result))}"
    return {"sizes": _under(what, result, tables)}


def _machine(name: str, described: Result, work: str = "") -> str:
    """All that was noted of a machine, as an item of a list; `work` is what alone was measured there, later."""
    versions = ", ".join(f"{name} {each}" for name, each in described["versions"].items())
    of = f", {work}" if work else ""
    text = (
        f"- [{name}.json](results/{name}.json){of}: {described['cpu']} ({', '.join(described['flags'])}), "
        f"{described['cpus']} CPUs, {described['memory'] / 2**30:.0f} GiB, {described['system']}, "
        f"Python {described['python']}, {described['date'][:10]}, commit {described['commit']}"
    )
    return report.filled(f"{text}; {versions}" if versions else text, "  ")
