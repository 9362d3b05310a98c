"""The tables of README.md and the figures of the overview, from results; `plots.py` writes them, a test compares."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import isas
import pauses
import report
import sizes
import startup

RUNTIMES = (  # as started, the family among those compared, as installed
    ("npdistil", "npdistil", "npdistil"),
    ("ONNX Runtime", "ONNX", "ONNX Runtime"),
    ("CTranslate2", "CTranslate2", "CTranslate2"),
    ("OpenVINO", "OpenVINO", "OpenVINO"),
    ("transformers", "torch", "transformers + torch for CPUs"),
)


def overview(
    compared: dict[str, Any], started: dict[str, Any], installed: dict[str, Any]
) -> list[tuple[str, str, list[float]]]:
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
    found = {}
    paused = {}
    if (path := results / "pauses.json").exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        paused = result["latency_us"]
        found["pauses"] = f"{_machine(result, path)}\n\n{report.markdown(*pauses.table(paused))}"
    if (path := results / "compare.json").exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        targets = report.markdown(report.TARGET_HEAD, report.target_rows(result["models"]["full-size"], paused))
        found["targets"] = f"{_machine(result, path)}\n\n{targets}"
        for model, measured in result["models"].items():
            parts = [_machine(result, path), report.markdown(*report.overview_rows(measured))]
            parts += [f"Skipped: {name}: {why}." for name, why in measured["skipped"].items()]
            found[model] = "\n\n".join(parts)
            if "threads" in measured:
                counts = list(next(iter(measured["threads"].values())))
                rows = [
                    (name, *(f"{each[n]:.0f}" for n in counts), f"{each[counts[-1]] / each[counts[0]]:.2f}")
                    for name, each in sorted(measured["threads"].items(), key=lambda item: -item[1][counts[-1]])
                ]
                names = [f"{n} thread{'s' if n != '1' else ''}, texts/s" for n in counts]
                found["threads"] = report.markdown(("runtime", *names, "gain"), rows)
    if (path := results / "startup.json").exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        found["startup"] = f"{_machine(result, path)}\n\n{report.markdown(*startup.table(result))}"
    if (path := results / "ladder.json").exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            (
                each["step"],
                f"{each['largest_difference']:.1e}",
                f"{each['rate'] / 1e9:.3g}",
                f"{100 * each['share']:.3g} %",
            )
            for each in result["steps"]
        ]
        head = ("step", "largest difference to the one before", "G operations/s", "share of the core's limit")
        limits = ", ".join(f"{rate / 1e9:.0f} G {kind} operations/s" for kind, rate in result["limits"].items())
        found["ladder"] = f"{_machine(result, path)}\n\nLimit: {limits}.\n\n{report.markdown(head, rows)}"
    if (path := results / "stages.json").exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        found["stages"] = f"{_machine(result, path)}\n\n{report.stages(result['stages'])}"
    if (path := results / "isas.json").exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        found["isas"] = f"{_machine(result, path)}\n\n{report.markdown(*isas.table(result['seconds']))}"
    if (path := results / "sizes.json").exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        found["sizes"] = (
            f"[{path.name}](results/{path.name})\n\n{report.markdown(*sizes.table(result))}\n\n{report.markdown(*sizes.parts(result))}"
        )
    return found


def _machine(result: dict[str, Any], path: Path) -> str:
    described = result["machine"]
    versions = ", ".join(f"{name} {each}" for name, each in described["versions"].items())
    return (
        f"{described['cpu']} ({', '.join(described['flags'])}), {described['cpus']} CPUs, "
        f"{described['memory'] / 2**30:.0f} GiB, Python {described['python']}, {described['date'][:10]}, "
        f"commit {described['commit']}; {versions}: [{path.name}](results/{path.name})"
    )
