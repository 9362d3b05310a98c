"""`npdistil info`."""

import argparse
from typing import Any

from .. import __version__
from .options import MODEL_HELP, add_engine, examples, loaded


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """What it takes."""
    command.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    add_engine(command)
    examples(command, "npdistil info", "npdistil info ./my-distilbert")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print what a model is."""
    model = loaded(options)
    config = model.config
    # Read from the checkpoint, where a weight shared by two layers is counted once.
    tied = model.checkpoint.head.get("vocab_projector", {}).get("weight") if config.tied else None
    parameters = _count(model.checkpoint.params) + _count(model.checkpoint.head) - (0 if tied is None else tied.size)
    rows = {
        "model": str(model.checkpoint.directory),
        "architecture": config.architecture,
        "layers": f"{config.n_layers} of width {config.dim}, {config.n_heads} heads, feed-forward {config.hidden_dim}",
        "parameters": f"{parameters:,}",
        "vocabulary": f"{config.vocab_size:,} tokens, texts up to {config.max_position_embeddings}",
        "labels": f"{', '.join(config.labels)} ({config.function})",
        "weights": f"{model.checkpoint.size / 1e6:.1f} MB on disk, {'int8' if config.quantized else 'float'}",
        "engine": f"{model.engine}, {model.precision}",
        "threads": str(model.threads),
        "version": __version__,
    }
    for name, value in rows.items():
        print(f"{name:<13} {value}")


def _count(node: Any) -> int:
    """Parameters in a tree, scales of int8 weights not counted."""
    if isinstance(node, dict):
        return sum(_count(child) for name, child in node.items() if name != "weight_scale")
    return sum(map(_count, node)) if isinstance(node, list) else int(node.size)
