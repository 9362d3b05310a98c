"""`npdistil warmup`."""

import argparse
import importlib.util

from ..errors import MissingExtraError
from .options import examples


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """What it takes."""
    examples(command, "NPDISTIL_CACHE=/opt/npdistil-cache npdistil warmup")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compile the kernels."""
    if not importlib.util.find_spec("numba"):
        raise MissingExtraError("numba", "fast")
    from ..compiled.cache import warm_up

    print(f"compiled kernels are in {warm_up()}")
