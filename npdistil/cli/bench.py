"""`npdistil bench`."""

import argparse
import json
from pathlib import Path

from ..bench import bench, table
from .options import add_model, examples, loaded, read_text


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """What it takes."""
    command.add_argument("--file", type=Path, metavar="FILE.txt", help="texts to measure with, one a line")
    command.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long, about (default 10)")
    command.add_argument("--json", action="store_true", help="print the figures as one line of JSON, and no table")
    add_model(command)
    examples(command, "npdistil bench", "npdistil bench --model ./my-distilbert --file texts.txt --seconds 60")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure, and print a table, or a line of JSON."""
    texts = [line for line in read_text(options.file).split("\n") if line] if options.file else None
    result = bench(loaded(options), texts, options.seconds)
    print(json.dumps(result) if options.json else table(result))
