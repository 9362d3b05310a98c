"""Tables from results: what was asked of npdistil, and what came out for everybody."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

Row = tuple[str, ...]
NOTHING = "-"


def dumps(result: dict[str, Any]) -> str:
    """JSON with one line for each list of numbers."""
    text = json.dumps(result, indent=1, default=float)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def write(path: Path, result: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(dumps(result), encoding="utf-8")
    beside.replace(path)


@dataclass(frozen=True)
class Target:
    """One row of the table of targets: npdistil in `precision` against the fastest of its rivals."""

    work: str  # "sst2", "long", "memory", or a length in tokens
    precision: str
    bound: float  # of throughput at least, of latency or memory at most
    pause: int = 0  # milliseconds in which nothing was asked for

    @property
    def title(self) -> str:
        """For the table."""
        names = {
            "sst2": "SST-2 dev, strings to labels",
            "long": "long texts, cut at 512 tokens",
            "memory": "peak memory, a quarter of SST-2 dev",
        }
        pause = f" after {self.pause} ms" if self.pause else ""
        return f"{names.get(self.work, f'one text of {self.work} tokens')}{pause}, {self.precision}"

    @property
    def more_is_better(self) -> bool:
        """Throughput, in contrast to latency and memory."""
        return self.work in ("sst2", "long")


TARGETS = (
    Target("sst2", "int8", 1.4),
    Target("sst2", "float32", 1.4),
    Target("long", "int8", 1.1),
    Target("long", "float32", 1.25),
    *(Target(length, "int8", 0.6, pause) for pause in (0, 20, 200) for length in ("8", "16", "32")),
    Target("128", "int8", 0.8),
    Target("512", "int8", 0.9),
    *(Target(length, "float32", 0.7, pause) for pause in (0, 20, 200) for length in ("8", "16", "32")),
    Target("128", "float32", 0.8),
    Target("512", "float32", 0.8),
    Target("memory", "int8", 1.0),
)


def rounds(measured: dict[str, Any], work: str) -> dict[str, list[float]]:
    """Each runtime's figure in each round: texts a second, or milliseconds (its median), or MB."""
    if work == "memory":
        return {name: [each["peak"] / 1e6] for name, each in measured.get("memory", {}).items()}
    if work in ("sst2", "long"):
        found = measured.get(work, {"texts": 0, "seconds": {}})
        return {name: [found["texts"] / s for s in each] for name, each in found["seconds"].items() if each}
    times = measured.get("latency_us", {}).get(work, {})
    return {name: [median(turn) / 1e3 for turn in turns] for name, turns in times.items() if turns}


def precision_of(measured: dict[str, Any], name: str) -> str:
    """As it was checked in."""
    return str(measured["checks"][name]["precision"])


def after_pause(latency_us: dict[str, Any], work: str, pause: int) -> dict[str, list[float]]:
    """As `rounds`, of what pauses.py measured."""
    turns = latency_us.get(work, {}).get(str(pause), {})
    return {name: [median(turn) / 1e3 for turn in each] for name, each in turns.items() if each}


def target_rows(measured: dict[str, Any], paused: dict[str, Any]) -> list[Row]:
    """Work, npdistil, fastest rival, ratio with its range over the rounds, target, met or not.

    `measured` is what compare.py found for a model, `paused` the latencies that pauses.py did.
    """
    rows: list[Row] = []
    for target in TARGETS:
        figures = after_pause(paused, target.work, target.pause) if target.pause else rounds(measured, target.work)
        ours = figures.get(f"npdistil {target.precision}")
        # int8 stands against every precision, float32 against float32; memory against ONNX Runtime.
        rivals = {
            name: values
            for name, values in figures.items()
            if "npdistil" not in name
            and (target.precision == "int8" or precision_of(measured, name) == "float32")
            and (target.work != "memory" or name == "ONNX Runtime int8")
        }
        if not ours or not rivals:
            rows.append((target.title, NOTHING, NOTHING, NOTHING, _bound(target), NOTHING))
            continue
        choose = max if target.more_is_better else min
        rival = choose(rivals, key=lambda name: median(rivals[name]))
        ratios = [a / b for a, b in zip(ours, rivals[rival], strict=False)]
        ratio = median(ratios)
        met = ratio >= target.bound if target.more_is_better else ratio <= target.bound
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
        unit = "MB" if target.work == "memory" else "/s" if target.more_is_better else "ms"
        rows.append(
            (
                target.title,
                f"{short(median(ours))} {unit}",
                f"{short(median(rivals[rival]))} {unit} ({rival})",
                f"{ratio:.2f}{spread}",
                _bound(target),
                "yes" if met else "NO",
            )
        )
    return rows


TARGET_HEAD = ("work", "npdistil", "fastest other", "ratio (over the rounds)", "target", "met")


def overview_rows(measured: dict[str, Any]) -> tuple[Row, list[Row]]:
    """Everybody: throughput, latency by length with its 90th and 99th percentile, memory, accuracy; fastest first."""
    lengths = list(measured.get("latency_us", {}))
    long = "long" in measured
    head = ("runtime", "SST-2 texts/s", *(["long texts/s"] if long else []))
    head += (*(f"{n} tokens, ms" for n in lengths), "peak MB", "labels as float32", "accuracy")
    rates = rounds(measured, "sst2")
    rows = []
    passed = [name for name, check in measured["checks"].items() if check["passed"]]
    for name in sorted(passed, key=lambda name: -median(rates.get(name, [0]))):
        check = measured["checks"][name]
        row = [name, _with_spread(rates.get(name, []))]
        if long:
            row.append(_with_spread(rounds(measured, "long").get(name, [])))
        row += [_percentiles(measured["latency_us"][n].get(name, [])) for n in lengths]
        memory = rounds(measured, "memory").get(name)
        row += [f"{memory[0]:.0f}" if memory else NOTHING, f"{check['agreement']:.1%}", f"{check['accuracy']:.2%}"]
        rows.append(tuple(row))
    return head, rows


def against(rival: str, compared: dict[str, Any], started: dict[str, Any], installed: dict[str, Any]) -> str:
    """A table of npdistil beside one other runtime in all that was measured of both; each row has who is ahead."""
    # What, unit, npdistil's and the other's in each round, whether more is better.
    rows: list[tuple[str, str, list[float], list[float], bool]] = []
    for model, measured in compared["models"].items():
        size = model.replace("-", " ")
        for precision in ("int8", "float32"):
            names = [name for name in measured["checks"] if name.startswith(f"{rival} {precision}")]
            for work, what, unit in (
                ("sst2", "sentences", "/s"),
                ("long", "film reviews, cut at 512 tokens", "/s"),
                *((n, f"one text of {n} tokens", " ms") for n in ("8", "32", "128", "512")),
                ("memory", "peak memory", " MB"),
            ):
                figures = rounds(measured, work)
                ours, others = (
                    figures.get(f"npdistil {precision}"),
                    [figures[name] for name in names if name in figures],
                )
                if ours and others:
                    theirs = (max if unit == "/s" else min)(others, key=median)
                    rows.append((f"{what}, {size}, {precision}", unit, ours, theirs, unit == "/s"))
        for precision in ("int8", "float32") if model == "bundled" else ():
            checks = {name: each["accuracy"] * 100 for name, each in measured["checks"].items() if each["passed"]}
            best = max(each for name, each in checks.items() if name.startswith(f"{rival} {precision}"))
            rows.append((f"accuracy, {size}, {precision}", " %", [checks[f"npdistil {precision}"]], [best], True))
    for size in ("full size", "bundled"):
        ours, theirs = (started["commands"][f"{name} int8, {size}"]["seconds"] for name in ("npdistil", rival))
        rows.append((f"from start to the first label, {size}, int8", " s", ours, theirs, False))
    ours, theirs = ([installed["installed"][name]["bytes"] / 1e6] for name in ("npdistil", rival))
    rows.append(("installed", " MB", ours, theirs, False))
    return markdown(
        ("", "npdistil", rival, "ahead"),
        [
            (
                what,
                f"{short(median(ours))}{unit}",
                f"{short(median(theirs))}{unit}",
                _ahead(rival, ours, theirs, more, unit),
            )
            for what, unit, ours, theirs, more in rows
        ],
    )


def _ahead(rival: str, ours: list[float], theirs: list[float], more: bool, unit: str) -> str:
    """Who, and by what: the median of the ratios inside rounds; neither, where a quarter of these says otherwise."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=False)]
    ratio = median(ratios)
    otherwise = sum((each > 1) != (ratio > 1) for each in ratios) / len(ratios)
    if otherwise >= 0.25 or f"{median(ours):.3g}" == f"{median(theirs):.3g}":
        return "neither"
    name = "npdistil" if (ratio > 1) is more else rival
    if unit == " %":
        return f"{name}, by {abs(ours[0] - theirs[0]):.1f} points"
    return f"{name}, {max(ratio, 1 / ratio):.2f} times"


def targets(result: dict[str, Any]) -> str:
    """The table of targets, full-size model, as text."""
    measured = result["models"].get("full-size")
    return _text(TARGET_HEAD, target_rows(measured, {})) if measured and "checks" in measured else ""


def overview(result: dict[str, Any]) -> str:
    """Every model's table, as text, and who was skipped."""
    parts = []
    for model, measured in result["models"].items():
        head, rows = overview_rows(measured)
        parts += [f"\n{model} model, {result['threads']} threads: median (and spread; for latency p90, p99)"]
        parts += [_text(head, rows), *(f"skipped {name}: {why}" for name, why in measured["skipped"].items())]
    return "\n".join(parts)


def markdown(head: Row, rows: Iterable[Row]) -> str:
    """A table in Markdown; npdistil's rows bold in their first cell."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for first, *rest in rows:
        name = f"**{first}**" if first.startswith("npdistil") else first
        lines.append(f"| {' | '.join((name, *rest))} |")
    return "\n".join(lines)


def stages(result: dict[str, Any]) -> str:
    """Where a forward's time goes in each precision, in Markdown."""
    lines = []
    for precision, found in result.items():
        lines += [f"| {precision}, one thread | ms | share | at the limit, ms |", "|---|---|---|---|"]
        for name, seconds in found["stages"].items():
            limit = found["limit_seconds"].get(name)
            share = f"{seconds / found['seconds']:.1%}"
            lines.append(f"| {name} | {seconds * 1e3:.0f} | {share} | {f'{limit * 1e3:.0f}' if limit else ''} |")
        limit, share = sum(found["limit_seconds"].values()), found["share_of_limit"]
        lines += [f"| all | {found['seconds'] * 1e3:.0f} | | {limit * 1e3:.0f}: {share:.0%} of the limit |", ""]
    return "\n".join(lines).rstrip()


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank, which needs no assumption about what lies between two values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _percentiles(turns: list[list[int]]) -> str:
    times = [each / 1e3 for turn in turns for each in turn]
    if not times:
        return NOTHING
    return f"{short(median(times))} ({short(percentile(times, 0.9))}, {short(percentile(times, 0.99))})"


def _with_spread(values: list[float]) -> str:
    if not values:
        return NOTHING
    spread = f" ±{(max(values) - min(values)) / 2 / median(values):.0%}" if len(values) > 1 else ""
    return f"{short(median(values))}{spread}"


def _bound(target: Target) -> str:
    return f"{'at least' if target.more_is_better else 'at most'} {target.bound}"


def short(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _text(head: Row, rows: Sequence[Row]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, tuple("-" * width for width in widths), *rows)
    ]
    return "\n".join(lines)


def fill(page: str, found: dict[str, str]) -> str:
    """A page with the text between `<!-- NAME -->` and `<!-- end of NAME -->` replaced."""
    for name, text in found.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if start not in page or end not in page:
            raise SystemExit(f"the page has no {start} ... {end}")
        between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        page = between.sub(lambda _, whole=f"{start}\n{text}\n{end}": whole, page)  # type: ignore[misc]
    return page
