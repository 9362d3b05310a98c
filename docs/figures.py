"""Figures of the pages, each drawn from arrays that the page has computed."""

import ast
import inspect
import io
import tokenize
from collections.abc import Sequence
from types import ModuleType
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
    """A line for each name."""
    figure, axes = plt.subplots(figsize=(6.5, 3.2))
    for shade, (name, values) in zip(plt.get_cmap("tab10").colors, series.items(), strict=False):
        axes.plot(values, color=shade, marker="o", markersize=3, label=name)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
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
    axes.margins(x=0.15)
    if min(values.values()) >= 0:
        axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    figure.tight_layout()
    plt.show()


def boxes(words: Sequence[str], numbers: Sequence[int]) -> None:
    """Words in boxes, each with its number below."""
    widths = [0.11 * max(len(word), 6) + 0.15 for word in words]
    figure, axes = plt.subplots(figsize=(sum(widths), 0.9))
    left = 0.0
    for word, number, width in zip(words, numbers, widths, strict=True):
        axes.text(left + width / 2, 0.68, word, ha="center", va="center", family="monospace", color=BLUE)
        axes.text(left + width / 2, 0.2, str(number), ha="center", va="center", family="monospace")
        axes.add_patch(plt.Rectangle((left + 0.04, 0.42), width - 0.08, 0.52, fill=False, edgecolor=BLUE))
        left += width
    axes.set(xlim=(0, left), ylim=(0, 1))
    axes.set_axis_off()
    figure.tight_layout(pad=0)
    plt.show()


def curves(x: Any, named: dict[str, Any], xlabel: str) -> None:
    """A smooth line for each name."""
    figure, axes = plt.subplots(figsize=(4.5, 2.6))
    for shade, (name, values) in zip((BLUE, GREY), named.items(), strict=False):
        axes.plot(x, values, color=shade, label=name)
    axes.set_xlabel(xlabel)
    axes.legend(frameon=False)
    figure.tight_layout()
    plt.show()


def lines_of_code(module: ModuleType) -> int:
    """Lines that are more than a comment, a docstring or nothing."""
    source = inspect.getsource(module)
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented) and ast.get_docstring(node)]
    prose = {line for node in nodes for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    empty = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len({token.start[0] for token in tokens if token.type not in empty} - prose)


def layers(rows: Sequence[Sequence[tuple[str, str]]]) -> None:
    """A house: rows of rooms from the roof down, each with its name and what it holds."""
    figure, axes = plt.subplots(figsize=(8, 0.72 * len(rows)))
    for height, row in enumerate(reversed(rows)):
        width = 1 / len(row)
        for number, (name, about) in enumerate(row):
            left = number * width
            axes.add_patch(
                plt.Rectangle((left + 0.004, height + 0.08), width - 0.008, 0.84, facecolor=BLUE + "14", edgecolor=BLUE)
            )
            axes.text(left + width / 2, height + 0.63, name, ha="center", va="center", family="monospace", color=BLUE)
            axes.text(left + width / 2, height + 0.3, about, ha="center", va="center", fontsize=8)
    axes.annotate("imports", (1.02, 0.2), (1.02, len(rows) - 0.2), rotation=90, va="top", ha="center", color=GREY,
                  arrowprops={"arrowstyle": "->", "color": GREY})  # fmt: skip
    axes.set(xlim=(0, 1.04), ylim=(0, len(rows)))
    axes.set_axis_off()
    figure.tight_layout(pad=0)
    plt.show()
