"""Figures of the pages, each drawn from arrays that the page has computed."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats

set_matplotlib_formats("svg")
BLUE, GREY = "#2a6fbb", "#8a929b"
plt.rcParams.update({
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 10,
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "svg.fonttype": "none",
})  # fmt: skip


def heatmap(values: Any, rows: Sequence[str], columns: Sequence[str], xlabel: str = "", ylabel: str = "") -> None:
    """Cells from white (0) to blue (the largest)."""
    figure, axes = plt.subplots(figsize=(0.5 * len(columns) + 1.5, 0.4 * len(rows) + 1))
    axes.imshow(values, cmap="Blues", vmin=0, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.tight_layout()
    plt.show()


def stripes(values: Any, rows: Sequence[str]) -> None:
    """Vectors, one a row, red below 0 and blue above."""
    most = np.abs(values).max()
    figure, axes = plt.subplots(figsize=(7, 0.35 * len(rows) + 0.8))
    axes.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("dimension")
    figure.tight_layout()
    plt.show()


def lines(series: dict[str, Any], xlabel: str, ylabel: str, log: bool = False) -> None:
    """A line for each name, labelled at its end."""
    figure, axes = plt.subplots(figsize=(6.5, 3.2))
    for shade, (name, values) in zip(plt.get_cmap("tab10").colors, series.items(), strict=False):  # type: ignore[attr-defined]
        axes.plot(values, color=shade, marker="o", markersize=3)
        axes.annotate(name, (len(values) - 1, values[-1]), (6, 0), textcoords="offset points", va="center", color=shade)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        axes.set_yscale("log")
    figure.tight_layout()
    plt.show()


def bars(values: dict[str, float], xlabel: str) -> None:
    """Horizontal bars with their values."""
    figure, axes = plt.subplots(figsize=(6.5, 0.42 * len(values) + 0.8))
    drawn = axes.barh(range(len(values)), list(values.values()), color=BLUE)
    axes.set_yticks(range(len(values)), list(values))
    axes.bar_label(drawn, fmt="%.3g", padding=4, color=GREY)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    figure.tight_layout()
    plt.show()
