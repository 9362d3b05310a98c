"""Tables and pictures from results: README.md between its markers, SVG and PNG beside the JSON.

python benchmarks/plots.py                   # needs matplotlib
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
import report
import tables
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

HERE = Path(__file__).resolve().parent
MOVING = HERE.parent / "docs" / "from-onnx-runtime.md"
OURS = "#c8323c"
COLOURS = {  # the others stay apart from each other, and behind
    "npdistil": OURS,
    "OpenVINO": "#4477aa",
    "ONNX": "#3f8f5f",
    "CTranslate2": "#b8892b",
    "torch": "#8a8a8a",
    "torch.compile": "#5b5b5b",
}
LOUD, QUIET = "#d9434e", "#7b848e"  # can be read on white and on black
MARKERS = {"int8": "s", "float32": "o", "bfloat16": "D"}
TITLES = {
    "full-size": "DistilBERT of full size, 66 M parameters",
    "bundled": "The bundled model, 23 M parameters",
}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "svg.hashsalt": "npdistil",  # the same file from the same results
    "figure.facecolor": "white",
}


def colour(name: str) -> str:
    """Of a runtime's family."""
    return COLOURS[name.split(" ")[0]]


def is_ours(name: str) -> bool:
    """The compiled engine, which is what the pictures are about; the readable one is set apart in the same colour."""
    return name.startswith("npdistil")


def where(result: Mapping[str, Any]) -> str:
    """What was measured on, and when."""
    described = result["machine"]
    return f"{result['threads']} threads of {described['cpu']}, {described['date'][:10]}"


def throughput(result: dict[str, Any], model: str) -> Figure:
    """Bars of texts a second, one panel a work; the thin line spans the rounds."""
    measured = result["models"][model]
    works = [work for work in ("sst2", "long") if work in measured]
    rows = max(len(report.rounds(measured, work)) for work in works)
    figure = Figure(figsize=(5.6 * len(works) + 0.4, 0.32 * rows + 1.5), layout="constrained")
    names = {
        "sst2": f"SST-2 dev, {{texts}} sentences of {report.tokens('SST-2 dev')}",
        "long": f"{{texts}} film reviews of {report.tokens('film reviews')}",
    }
    for axes, work in zip(figure.subplots(1, len(works), squeeze=False)[0], works, strict=True):
        rates = report.rounds(measured, work)
        order = sorted(rates, key=lambda name: median(rates[name]))
        values = [median(rates[name]) for name in order]
        axes.barh(range(len(order)), values, 0.72, color=[colour(name) for name in order])
        for bar, name in zip(axes.patches, order, strict=True):
            bar.set_alpha(0.55 if "numpy" in name else 1.0 if is_ours(name) else 0.8)
        for i, name in enumerate(order):
            high = max(rates[name])
            axes.plot([min(rates[name]), high], [i, i], color="black", linewidth=1)
            axes.annotate(
                f"{values[i]:.0f}" if values[i] >= 10 else f"{values[i]:.1f}",
                (high, i),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                fontweight="bold" if is_ours(name) else "normal",
            )
        axes.set_yticks(range(len(order)), order)
        axes.set_ylim(-0.6, len(order) - 0.4)
        _bold_ours(axes, order)
        axes.set_title(names[work].format(texts=measured[work]["texts"]))
        axes.set_xlabel("texts a second, strings to labels")
        axes.set_xlim(0, max(map(max, rates.values())) * 1.1)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    figure.suptitle(f"{TITLES[model]}\n{where(result)}", x=0.01, ha="left", fontsize=12)
    return figure


def latency(result: dict[str, Any], model: str) -> Figure:
    """Milliseconds of a single text by its length, float32 apart from narrower numbers."""
    measured = result["models"][model]
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    ends: list[dict[str, tuple[float, float]]] = []
    for axes, precisions in zip(panels, (("float32",), ("int8", "bfloat16")), strict=True):
        lines: dict[str, tuple[list[int], list[float]]] = {}
        for length in measured["latency_us"]:
            for name, turns in report.rounds(measured, length).items():
                if report.precision_of(measured, name) in precisions:
                    xs, ys = lines.setdefault(name, ([], []))
                    xs.append(int(length))
                    ys.append(median(turns))
        for name, (xs, ys) in sorted(lines.items(), key=lambda item: is_ours(item[0])):
            bold, numpy = is_ours(name) and "numpy" not in name, "numpy" in name
            axes.plot(
                xs,
                ys,
                color=colour(name),
                linewidth=2.6 if bold else 1.4,
                zorder=3 if bold else 2,
                linestyle=":" if numpy else "--" if "channel" in name or "compile" in name else "-",
                marker=MARKERS[report.precision_of(measured, name)],
                markersize=4,
            )
        _log(axes, "xy")
        axes.set_xticks([int(n) for n in measured["latency_us"]])
        axes.set_title(" and ".join(precisions))
        axes.set_xlabel("tokens of the text")
        ends.append({name: (xs[-1], ys[-1]) for name, (xs, ys) in lines.items()})
    panels[0].set_ylabel("milliseconds, median")
    figure.suptitle(f"One text at a time. {TITLES[model]}\n{where(result)}", x=0.01, ha="left", fontsize=12)
    figure.draw_without_rendering()  # with the limits that both panels share
    for axes, names in zip(panels, ends, strict=True):
        _label_ends(axes, names)
    return figure


def batch_size(result: dict[str, Any], model: str) -> Figure:
    """Texts a second against the batch size, from the search for the best one."""
    measured = result["models"][model]
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes = figure.subplots()
    ends = {}
    for name, rates in sorted(measured["batch_search"].items(), key=lambda item: is_ours(item[0])):
        if name not in measured["checks"] or "numpy" in name:
            continue
        best: dict[int, float] = {}  # one batch at a time, or side by side
        for way, rate in rates.items():
            size = int(way.split(" x ")[0])
            if size:
                best[size] = max(rate, best.get(size, 0))
        points = sorted(best.items())
        bold = is_ours(name)
        axes.plot(
            *zip(*points, strict=True),
            color=colour(name),
            linewidth=2.6 if bold else 1.4,
            linestyle="--" if "channel" in name or "compile" in name else "-",
            marker=MARKERS[report.precision_of(measured, name)],
            markersize=4,
            zorder=3 if bold else 2,
        )
        ends[name] = points[-1]
    _log(axes, "xy")
    axes.set_xticks(sorted({x for line in axes.lines for x in line.get_xdata()}))
    axes.set_xlabel("texts given at a time")
    axes.set_ylabel("SST-2 texts a second")
    axes.set_title(f"{TITLES[model]}\n{where(result)}")
    figure.draw_without_rendering()
    _label_ends(axes, ends)
    return figure


def scatter(result: dict[str, Any], model: str, against: str) -> Figure:
    """Memory or accuracy of each runtime against its throughput."""
    measured = result["models"][model]
    rates = {name: median(each) for name, each in report.rounds(measured, "sst2").items()}
    if against == "memory":
        heights = {name: each[0] for name, each in report.rounds(measured, "memory").items()}
    else:
        heights = {name: 100 * measured["checks"][name]["accuracy"] for name in rates}
    points = {name: (rates[name], heights[name]) for name in rates if name in heights}
    figure = Figure(figsize=(9, 5.8), layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in points.items():
        axes.plot(
            x,
            y,
            MARKERS[report.precision_of(measured, name)],
            color=colour(name),
            zorder=3,
            markersize=10 if is_ours(name) else 7,
            alpha=0.6 if "numpy" in name else 1,
        )
    axes.margins(0.12, 0.12 if against == "memory" else 0.25)
    _log(axes, "xy" if against == "memory" else "x")
    better = "lower right is better" if against == "memory" else "upper right is better"
    axes.set_title(f"{TITLES[model]} ({better})\n{where(result)}")
    axes.set_xlabel("SST-2 texts a second, strings to labels")
    axes.set_ylabel("peak memory of the process, MB" if against == "memory" else _accuracy(measured))
    for precision, marker in MARKERS.items():
        axes.plot([], [], marker, color="#777777", label=precision)
    axes.legend(loc="best", title="precision", alignment="left")
    _label_points(figure, axes, points)
    return figure


def _accuracy(measured: Mapping[str, Any]) -> str:
    """What the axis is of, and what of its height may be chance."""
    count, share = measured["sst2"]["texts"], measured["checks"]["npdistil int8"]["accuracy"]
    error = 100 * report.standard_error(share, count)
    return f"accuracy on SST-2 dev, %\n{count} sentences: one is {100 / count:.2f}, a standard error {error:.1f}"


def ladder(result: dict[str, Any]) -> Figure:
    """Operations a second of each step of the ladder, and what the core could do at best."""
    steps = result["steps"]
    figure = Figure(figsize=(8.5, 0.42 * len(steps) + 1.4), layout="constrained")
    axes = figure.subplots()
    for i, step in enumerate(reversed(steps)):
        int8, rate = "int8" in step["step"], step["rate"] / 1e9
        limit = result["limits"]["int8" if int8 else "float32"] / 1e9
        axes.barh(i, limit, 0.72, color="#e9e9e9")
        axes.barh(i, rate, 0.72, color=OURS if int8 else COLOURS["OpenVINO"], alpha=0.85)
        axes.annotate(
            f"{report.digits(rate)}, {100 * step['share']:.3g} % of {limit:,.0f}",
            (limit, i),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(steps)), [step["step"] for step in reversed(steps)])
    axes.set_xlim(steps[0]["rate"] / 1e9 / 2, max(result["limits"].values()) / 1e9 * 30)
    _log(axes, "x", (1,))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("billion operations a second, one core (grey: its limit)")
    described = result["machine"]
    sizes = f"M = {result['m']}, K = {result['k']}, N = {result['n']}"
    axes.set_title(f"One matrix product, {sizes}\n{described['cpu']}, {described['date'][:10]}")
    return figure


def overview(panels: Sequence[tuple[str, str, list[float]]], under: str, narrow: bool = False) -> Figure:
    """What decides first, runtime by runtime, for the bundled model; on a ground of any shade, light or dark.

    A narrow one has its panels one below the other. `under` says what it was measured on.
    """
    figure = Figure(figsize=(4.2, 6.8) if narrow else (9.6, 2.8), layout="constrained", facecolor="none")
    places = range(len(tables.RUNTIMES))
    shape = (len(panels), 1) if narrow else (1, len(panels))
    for axes, (title, form, values) in zip(figure.subplots(*shape, sharey=True), panels, strict=True):
        axes.barh(places, values, 0.66, color=[LOUD, *[QUIET] * (len(values) - 1)])
        for i, value in enumerate(values):
            axes.annotate(form.format(value), (value, i), (5, 0), textcoords="offset points", va="center", fontsize=10,
                          color=LOUD if i == 0 else QUIET, fontweight="normal" if i else "bold")  # fmt: skip
        axes.set_title(title, fontsize=10.5, color=QUIET, loc="left")
        axes.set_xlim(0, max(values) * 1.18)
        axes.set_facecolor("none")
        axes.grid(visible=False)
        axes.set_axis_off()
        axes.set_ylim(len(values) - 0.5, -0.5)
    for axes in figure.axes if narrow else figure.axes[:1]:
        for i, (name, *_) in enumerate(tables.RUNTIMES):
            axes.annotate(name, (0, i), (-8, 0), textcoords="offset points", ha="right", va="center", fontsize=10.5,
                          color=LOUD if i == 0 else QUIET, fontweight="normal" if i else "bold")  # fmt: skip
    lines = f"Bundled model, int8; transformers float32, and bfloat16 for many.{{}}{under}".format(
        "\n" if narrow else " "
    )
    figure.supxlabel(lines, x=0.01, ha="left", fontsize=8, color=QUIET)
    return figure


def _log(axes: Axes, which: str, at: Sequence[int] = (1, 2, 5)) -> None:
    """Logarithmic, with plain numbers at these steps of each power of ten."""
    for name in which:
        axis = getattr(axes, f"{name}axis")
        getattr(axes, f"set_{name}scale")("log")
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        axis.set_minor_locator(NullLocator())
        low, high = getattr(axes, f"get_{name}lim")()
        steps = [step * 10.0**power for power in range(-2, 6) for step in at]
        axis.set_ticks([step for step in steps if low <= step <= high])


def _bold_ours(axes: Axes, names: Sequence[str]) -> None:
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        if is_ours(name):
            label.set_fontweight("bold")
            label.set_color(OURS)


def _label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]]) -> None:
    """Names at the right end of their lines, pushed apart where lines end close together."""
    gap = 15.5  # points; some more than a line, for the layout may still shrink
    scale = 72 / axes.figure.dpi
    order = sorted(ends, key=lambda name: ends[name][1])
    wanted = [axes.transData.transform(ends[name])[1] * scale for name in order]
    places = list(wanted)
    for _ in range(200):  # push neighbours apart, half each, until all have room
        for i in range(1, len(places)):
            lack = gap - (places[i] - places[i - 1])
            if lack > 0:
                places[i - 1] -= lack / 2
                places[i] += lack / 2
    for name, want, place in zip(order, wanted, places, strict=True):
        bold = is_ours(name)
        axes.annotate(
            name,
            ends[name],
            (22, place - want),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=colour(name),
            fontweight="bold" if bold else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour(name), "linewidth": 0.6, "shrinkB": 4, "relpos": (0, 0.5)},
        )


def _label_points(figure: Figure, axes: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Names beside their points, at the first of many places around where nothing else is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # fixes the layout, so that places in pixels hold
    figure.set_layout_engine("none")
    inside = axes.get_window_extent()
    scale = figure.dpi / 72
    taken = [axes.get_legend().get_window_extent()] if axes.get_legend() else []
    spots = {name: axes.transData.transform(point) for name, point in points.items()}
    radius = 6 * scale
    taken += [mpl.transforms.Bbox.from_extents(*(spot - radius), *(spot + radius)) for spot in spots.values()]
    places = [
        (side * aside, up * 6)
        for aside in (9, 12, 15, 18, 2)
        for up in (0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 8, -8, 10, -10, 12, -12)
        for side in (1, -1)
        if aside > 2 or abs(up) > 1
    ]
    for name in sorted(points, key=lambda name: (-is_ours(name), -points[name][0])):
        # Best where its line crosses nothing either.
        for crosses, (dx, dy) in ((crosses, place) for crosses in (False, True) for place in places):
            label = axes.annotate(
                name,
                points[name],
                (dx, dy),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                ha="left" if dx > 0 else "right",
                color=colour(name),
                fontweight="bold" if is_ours(name) else "normal",
                arrowprops={
                    "arrowstyle": "-",
                    "color": "#aaaaaa",
                    "linewidth": 0.6,
                    "shrinkB": 4,
                    "relpos": (0 if dx > 0 else 1, 0.5),
                }
                if abs(dy) > 6 or abs(dx) > 9
                else None,
            )
            # Of the text alone: the box of an annotation takes in its arrow.
            label.update_positions(canvas.get_renderer())
            box = mpl.text.Text.get_window_extent(label).expanded(1.02, 1.2)
            end, spot = np.array((box.x0 if dx > 0 else box.x1, (box.y0 + box.y1) / 2)), spots[name]
            line = [at for at in np.linspace(end, spot, 40)[1:] if np.hypot(*(at - spot)) > 2 * radius]
            free = not any(box.overlaps(each) or (not crosses and each.count_contains(line)) for each in taken)
            if free and inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1:
                taken += [box, *(mpl.transforms.Bbox.from_extents(*(at - 1), *(at + 1)) for at in line)]
                break
            label.remove()
        else:
            print(f"no room for the label of {name} in {axes.get_title(loc='left')!r}")


def pictures(result: dict[str, Any]) -> dict[str, Figure]:
    """All of them, by file name."""
    found = {}
    for model, measured in result["models"].items():
        found[f"throughput-{model}"] = throughput(result, model)
        found[f"latency-{model}"] = latency(result, model)
        found[f"memory-{model}"] = scatter(result, model, "memory")
        if model == "bundled":  # the weights of the other are random
            found[f"accuracy-{model}"] = scatter(result, model, "accuracy")
        if len(next(iter(measured["batch_search"].values()))) > 4:
            found[f"batch-size-{model}"] = batch_size(result, model)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Tables and pictures from results.")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    options = parser.parse_args()
    mpl.rcParams.update(STYLE)
    figures: dict[str, Figure] = {}
    if (path := options.results / "compare.json").exists():
        figures |= pictures(json.loads(path.read_text(encoding="utf-8")))
    if (path := options.results / "ladder.json").exists():
        figures["ladder"] = ladder(json.loads(path.read_text(encoding="utf-8")))
    three = [options.results / f"{name}.json" for name in ("compare", "startup", "sizes")]
    if all(path.exists() for path in three):
        read = [json.loads(path.read_text(encoding="utf-8")) for path in three]
        panels = tables.overview(*read)
        figures |= {
            "overview": overview(panels, where(read[0])),
            "overview-narrow": overview(panels, where(read[0]), narrow=True),
        }
        if options.results == HERE / "results":
            page = {"ONNX Runtime": report.against("ONNX Runtime", *read)}
            MOVING.write_text(report.fill(MOVING.read_text(encoding="utf-8"), page), "utf-8")
    for name, figure in figures.items():
        figure.savefig(options.results / f"{name}.svg", metadata={"Date": None})
        figure.savefig(options.results / f"{name}.png", dpi=110)
        print(options.results / f"{name}.png")
    options.readme.write_text(
        report.fill(options.readme.read_text(encoding="utf-8"), tables.all_of(options.results)), "utf-8"
    )


if __name__ == "__main__":
    main()
