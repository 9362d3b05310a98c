"""`npdistil quantize`."""

import argparse
from pathlib import Path

from ..checkpoint.folder import printable
from ..checkpoint.quantize import quantize_checkpoint
from ..engine import ENGINES
from ..errors import InputError
from ..model import load
from .evaluate import labelled
from .options import examples


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """What it takes."""
    command.add_argument("src", type=Path, metavar="SRC", help="directory of the float checkpoint")
    command.add_argument("dst", type=Path, metavar="DST", help="new directory")
    command.add_argument("--eval", type=Path, metavar="FILE.tsv", help="also compare the accuracy of both on this file")
    command.add_argument("--engine", choices=ENGINES, help="for --eval; default: auto")
    examples(command, "npdistil quantize ./my-distilbert ./my-distilbert-int8 --eval dev.tsv")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the copy, and print what error that made."""
    if options.engine and not options.eval:
        raise InputError("--engine goes with --eval, which alone runs the model")
    errors = quantize_checkpoint(options.src, options.dst)
    print("relative error of each int8 weight, |int8 - float| / |float|:")
    for name, error in errors:
        print(f"  {name:<28} {error:.5f}")
    if options.eval:
        for path, title in ((options.src, "float32"), (options.dst, "int8")):
            model = load(path, engine=options.engine or "auto")
            texts, labels = labelled(options.eval, model.config.labels)
            right = int((model.scores(texts).argmax(axis=1) == labels).sum())
            print(f"accuracy {title:<8} {right / len(texts):.4f}  ({right} of {len(texts)})")
    print(f"written: {printable(options.dst)}")
