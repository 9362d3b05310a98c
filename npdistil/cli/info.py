"""`npdistil info`."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace

from .. import __version__
from ..checkpoint.folder import printable
from ..checkpoint.sentence import Dense
from ..checkpoint.weights import Checkpoint, expected_shapes
from ..engine import why_not_compiled
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
    rows = described(model.checkpoint) | {
        "engine": f"{model.engine}, {model.precision}",
        "kernels": _kernels(),
        "threads": str(model.threads),
        "version": __version__,
    }
    for name, value in rows.items():
        print(f"{name:<13} {value}")


def described(checkpoint: Checkpoint) -> dict[str, str]:
    """What a directory says, in words."""
    config = checkpoint.config
    parameters = sum(map(math.prod, expected_shapes(replace(config, quantized=False), set()).values()))
    stored = checkpoint.weights.types().replace("F64", "F64 rounded to float32")
    rows = {
        "model": printable(checkpoint.directory),
        "architecture": config.class_name + (f", {types} token types" if (types := config.type_vocab_size) > 1 else ""),
        "layers": f"{config.n_layers} of width {config.dim}, {config.n_heads} heads, feed-forward {config.hidden_dim}",
        "parameters": f"{parameters:,}",
        "vocabulary": f"{config.vocab_size:,} tokens, texts up to {config.max_position_embeddings}",
        "labels": f"{', '.join(config.labels)} ({config.function})",
        "weights": f"{checkpoint.size / 1e6:.1f} MB on disk as {stored}, {'int8' if config.quantized else 'float'}",
    }
    if checkpoint.adapter:
        count = len(checkpoint.adapter.low_rank)
        whole = f", {len(checkpoint.adapter.replaced)} whole tensors" if checkpoint.adapter.replaced else ""
        base = checkpoint.adapter.base
        rows["adapter"] = f"LoRA of rank {checkpoint.adapter.rank} for {base}, merged into {count} weights{whole}"
    if tokenization := checkpoint.own_tokenization:
        special, side = [*tokenization.special_tokens.values()], tokenization.truncation_side
        rows["tokenizer"] = (
            f"cut at {checkpoint.max_length} tokens on the {side} where cutting is asked for, "
            f"special {' '.join(special) or 'none'}"
        )
        if added := [token for token in tokenization.added_tokens if token not in special]:
            rows["added tokens"] = _some(added)
    if sentence := checkpoint.sentence:
        steps = [
            f"Dense to {len(each.params['weight'])} ({each.activation})" if isinstance(each, Dense) else "length 1"
            for each in sentence.modules
        ]
        if not sentence.include_prompt:
            steps.append("prompts left out")
        if sentence.truncate_dim:
            steps.append(f"the first {sentence.truncate_dim} numbers")
        rows["pooling"] = sentence.refusal or ", ".join([sentence.pooling, *steps])
        prompts = [f"{name} {text!r}" for name, text in sentence.prompts.items() if text]
        if prompts:
            default = f"; by default {sentence.default_prompt_name}" if sentence.default_prompt_name else ""
            rows["prompts"] = _some(prompts) + default
    return rows


def _some(names: Sequence[str], most: int = 20) -> str:
    """Names with commas, and how many more there are."""
    return printable(", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else ""))


def _kernels() -> str:
    """The instruction set of the compiled engine's kernels here, or why there are none."""
    if reason := why_not_compiled():
        return f"none: {reason}"
    from ..compiled.kernels import kernels

    found = kernels()
    return f"{found.isa.name}, {found.origin}{found.refused and f'; {found.refused}'}"
