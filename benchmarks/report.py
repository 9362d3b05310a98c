"""Tables from results: what was asked of npdistil, and what came out for everybody."""

import json
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import machine

Row = tuple[str, ...]
Table = tuple[str, Row, list[Row]]  # what was measured, head, rows
NOTHING = "-"
TEXTS = Path(__file__).resolve().parent / "results" / "texts.json"
WIDTH = 118  # characters of a line


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


def tokens(name: str) -> str:
    """How many a text of one of `data.sets` has in the mean, special ones included, as results/texts.json counted."""
    counted = json.loads(TEXTS.read_text(encoding="utf-8"))["sets"][name]["tokens a text"]
    return f"{counted:.0f} tokens"


def measured_on(what: str, result: Mapping[str, Any], path: str, more: str = "") -> str:
    """The line above a table: what was measured, on what and when; `path` leads from the page to the result."""
    return filled(f"{what}. {machine.in_short(result['machine'])}: [{Path(path).name}]({path}){more}")


def filled(text: str, indent: str = "") -> str:
    """A paragraph in lines that can be read in the source, links whole."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True)
class Target:
    """One row of the table of targets: npdistil in `precision` against the fastest of its rivals."""

    work: str  # "sst2", "long", "memory", or a length in tokens
    precision: str
    bound: float  # of throughput at least, of latency or memory at most
    pause: int = 0  # milliseconds in which nothing was asked for

    @property
    def title(self) -> str:
        """For the table of its precision."""
        pause = f" after {self.pause} ms" if self.pause else ""
        names = {"sst2": "SST-2 dev", "long": "reviews", "memory": "peak memory"}
        return f"{names.get(self.work, f'{self.work} tokens')}{pause}"

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
    return medians(measured.get("latency_us", {}).get(work, {}))


def medians(times: Mapping[str, list[list[int]]]) -> dict[str, list[float]]:
    """Milliseconds: each runtime's median in each round, whose own median is what every table and picture shows."""
    return {name: [median(turn) / 1e3 for turn in turns] for name, turns in times.items() if turns}


def precision_of(measured: dict[str, Any], name: str) -> str:
    """As it was checked in."""
    return str(measured["checks"][name]["precision"])


def after_pause(latency_us: dict[str, Any], work: str, pause: int) -> dict[str, list[float]]:
    """As `rounds`, of what pauses.py measured."""
    return medians(latency_us.get(work, {}).get(str(pause), {}))


def target_rows(measured: dict[str, Any], paused: dict[str, Any], precision: str) -> list[Row]:
    """Work, npdistil, fastest rival, ratio with its range over the rounds, what was asked, met or not.

    `measured` is what compare.py found for a model, `paused` the latencies that pauses.py did.
    """
    rows: list[Row] = []
    for target in TARGETS:
        if target.precision != precision:
            continue
        figures = after_pause(paused, target.work, target.pause) if target.pause else rounds(measured, target.work)
        ours = figures.get(f"npdistil {precision}")
        # int8 stands against every precision, float32 against float32; memory against ONNX Runtime.
        rivals = {
            name: values
            for name, values in figures.items()
            if "npdistil" not in name
            and (precision == "int8" or precision_of(measured, name) == "float32")
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
                f"{short(median(rivals[rival]))} ({rival})",
                f"{ratio:.2f}{spread}",
                _bound(target),
                "yes" if met else "NO",
            )
        )
    return rows


TARGET_HEAD = ("work", "npdistil", "fastest other", "ratio (over the rounds)", "asked", "met")
TARGETS_OF = {
    "int8": "int8 against every precision of the others, in memory against ONNX Runtime's int8",
    "float32": "float32 against float32",
}
CALLS = {0.9: 10, 0.99: 100}  # percentile -> calls from which on it is shown
TAILS = ("8", "32", "128", "512")  # tokens of the texts whose slowest calls are shown; all would not fit a page


def overview_tables(measured: dict[str, Any]) -> list[Table]:
    """Everybody, fastest first: throughput, memory and labels; one text by length; the slowest calls."""
    rates = rounds(measured, "sst2")
    passed = [name for name, check in measured["checks"].items() if check["passed"]]
    names = sorted(passed, key=lambda name: -median(rates.get(name, [0])))
    long, memory = rounds(measured, "long"), rounds(measured, "memory")
    what = f"Texts a second from strings to labels, of SST-2 dev ({tokens('SST-2 dev')} a text)"
    if long:
        what += f" and of film reviews cut at 512 tokens ({tokens('film reviews')} a text)"
    head: Row = ("runtime", "SST-2/s", *(["reviews/s"] if long else []), "peak MB", "same labels", "accuracy")
    found: list[Table] = [(f"{what}; peak memory; labels as transformers' in float32; accuracy on SST-2 dev", head, [])]
    for name in names:
        check = measured["checks"][name]
        found[0][2].append(
            (
                name,
                with_spread(rates.get(name, [])),
                *([with_spread(long.get(name, []))] if long else []),
                f"{memory[name][0]:.0f}" if name in memory else NOTHING,
                f"{check['agreement']:.1%}",
                f"{check['accuracy']:.2%}",
            )
        )
    times = measured.get("latency_us", {})
    if times:
        middles = [medians(turns) for turns in times.values()]
        rows = [(name, *(short(median(each[name])) if name in each else NOTHING for each in middles)) for name in names]
        found.append(("Milliseconds of one text, ids to logits: the median", ("tokens of the text", *times), rows))
    if some := {length: turns for length, turns in times.items() if length in TAILS}:
        rows = [(name, *(_slowest(turns.get(name, [])) for turns in some.values())) for name in names]
        least = min(sum(map(len, each)) for turns in some.values() for each in turns.values() if each)
        what = (
            "Milliseconds of one text, ids to logits: the 90th and the 99th percentile of all calls, of which a cell "
            f"has {least} at the least; the 90th is left out below {CALLS[0.9]} calls, the 99th below {CALLS[0.99]}"
        )
        found.append((what, ("tokens of the text", *some), rows))
    return found


@dataclass(frozen=True)
class Beside:
    """A work of two runtimes: the figures of each round."""

    what: str
    unit: str
    ours: list[float]
    theirs: list[float]
    more: bool  # is better
    kind: str = ""  # of the other's int8
    noise: float = 0.0  # a difference that says nothing, for what was measured once

    def ahead(self, rival: str) -> str:
        """Who, and by what: the median of the ratios inside rounds; neither, where a difference may be chance."""
        if max(min(self.ours), min(self.theirs)) <= min(max(self.ours), max(self.theirs)):
            return "neither"
        difference = abs(median(self.ours) - median(self.theirs))
        if difference < self.noise:
            return "neither"
        ratio = median(one / other for one, other in zip(self.ours, self.theirs, strict=False))
        name = "npdistil" if (ratio > 1) is self.more else rival
        by = f"by {difference:.1f} points" if self.unit == " %" else f"{max(ratio, 1 / ratio):.2f} times"
        return f"{name}, {by}"


ONCE = 0.05  # a difference below this share says nothing of what was measured once


def against(rival: str, compared: dict[str, Any], started: dict[str, Any], installed: dict[str, Any]) -> str:
    """A table of npdistil beside one other runtime in all that was measured of both; each row has who is ahead.

    Above it is what it was measured on; links lead from a page of docs/.
    """
    rows: list[Beside] = []
    for model, measured in compared["models"].items():
        size = model.replace("-", " ")
        single = {name: [ways["1"]] for name, ways in measured["batch_search"].items() if "1" in ways}
        for precision in ("int8", "float32"):
            names = [name for name in measured["checks"] if name.startswith(f"{rival} {precision}")]
            for work, what, unit in (
                ("sst2", f"sentences of {tokens('SST-2 dev')}", "/s"),
                ("single", "sentences, one string at a time", "/s"),
                ("long", f"film reviews of {tokens('film reviews')}", "/s"),
                *((n, f"one text of {n} tokens", " ms") for n in ("8", "32", "128", "512")),
                ("memory", "peak memory", " MB"),
            ):
                figures = single if work == "single" else rounds(measured, work)
                ours, others = figures.get(f"npdistil {precision}"), [name for name in names if name in figures]
                if ours and others:
                    best = (max if unit == "/s" else min)(others, key=lambda name: median(figures[name]))
                    noise = 0 if len(ours) > 1 else ONCE * ours[0]
                    title = f"{what}, {size}, {precision}"
                    rows.append(Beside(title, unit, ours, figures[best], unit == "/s", _kind(best), noise))
        for precision in ("int8", "float32") if model == "bundled" else ():
            checks = {name: each["accuracy"] for name, each in measured["checks"].items() if each["passed"]}
            names = [name for name in checks if name.startswith(f"{rival} {precision}")]
            if names:  # else none of its labels were good enough to be timed
                best, right = max(names, key=lambda name: checks[name]), checks[f"npdistil {precision}"]
                noise = 2 * standard_error(right, measured["sst2"]["texts"])
                figures = {name: [100 * share] for name, share in checks.items()}
                ours, theirs = figures[f"npdistil {precision}"], figures[best]
                title = f"accuracy, {size}, {precision}"
                rows.append(Beside(title, " %", ours, theirs, True, _kind(best), 100 * noise))
    for size in ("full size", "bundled"):
        ours, theirs = (started["commands"][f"{name} int8, {size}"]["seconds"] for name in ("npdistil", rival))
        title = f"start to the first label, {size}, int8"
        rows.append(Beside(title, " s", ours, theirs, False, _kind(f"{rival} int8")))
    ours, theirs = ([installed["installed"][name]["bytes"] / 1e6] for name in ("npdistil", rival))
    rows.append(Beside("installed", " MB", ours, theirs, False))
    lines = [
        measured_on(what, result, f"../benchmarks/results/{result['benchmark']}.json")
        for what, result in (
            ("Texts, memory and accuracy, on all CPUs", compared), ("Start", started), ("Installed size", installed)
        )
    ]  # fmt: skip
    table = markdown(
        ("", "npdistil", f"{rival} {compared['machine']['versions'][rival.lower().replace(' ', '')]}", "ahead"),
        [
            (
                each.what,
                f"{short(median(each.ours))}{each.unit}",
                f"{short(median(each.theirs))}{each.unit}{each.kind}",
                each.ahead(rival),
            )
            for each in rows
        ],
    )
    return "\n\n".join((*lines, table))


def _kind(name: str) -> str:
    """How ONNX Runtime's weights are scaled in int8; nothing of others."""
    return "" if "ONNX Runtime int8" not in name else " (channel)" if "channel" in name else " (tensor)"


def standard_error(share: float, count: int) -> float:
    """Of a share of `count` texts."""
    return float((share * (1 - share) / count) ** 0.5)


def targets(result: dict[str, Any]) -> str:
    """The tables of targets, full-size model, as text."""
    measured = result["models"].get("full-size")
    if not measured or "checks" not in measured:
        return ""
    tables = [f"{what}\n{text(TARGET_HEAD, target_rows(measured, {}, name))}" for name, what in TARGETS_OF.items()]
    return "\n\n".join(tables)


def overview(result: dict[str, Any]) -> str:
    """Every model's tables, as text, and who was skipped."""
    parts = []
    for model, measured in result["models"].items():
        parts += [f"\n{model} model, {result['threads']} threads"]
        parts += [f"\n{filled(what)}\n\n{text(head, rows)}" for what, head, rows in overview_tables(measured)]
        parts += [f"\nskipped {name}: {why}" for name, why in measured["skipped"].items()]
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


def _slowest(turns: list[list[int]]) -> str:
    """Of all calls, in milliseconds."""
    times = [each / 1e3 for turn in turns for each in turn]
    return (
        ", ".join(short(percentile(times, share)) for share, least in CALLS.items() if len(times) >= least) or NOTHING
    )


def with_spread(values: list[float]) -> str:
    if not values:
        return NOTHING
    spread = f" ±{(max(values) - min(values)) / 2 / median(values):.0%}" if len(values) > 1 else ""
    return f"{short(median(values))}{spread}"


def _bound(target: Target) -> str:
    return f"{'≥' if target.more_is_better else '≤'} {target.bound}"


def short(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def digits(value: float) -> str:
    """Three digits, or all of a whole number, of what may be very small."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def text(head: Row, rows: Sequence[Row]) -> str:
    """A table for a terminal."""
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
