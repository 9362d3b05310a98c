"""Small models on the compiled engine."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tiny

from npdistil.checkpoint.quantize import in_precision
from npdistil.checkpoint.weights import Checkpoint, read_checkpoint
from npdistil.compiled.encoder import CompiledEncoder
from npdistil.engine import NumpyEncoder

Array = npt.NDArray[Any]


def checkpoint(directory: Path, **changes: Any) -> Checkpoint:
    return read_checkpoint(tiny.write(directory, **changes))


def encoder(found: Checkpoint, precision: str = "float32", threads: int = 2, max_tokens: int = 64) -> CompiledEncoder:
    return CompiledEncoder(found.config, in_precision(found.params, precision), threads, max_tokens)


def reference(found: Checkpoint, precision: str = "float32") -> NumpyEncoder:
    return NumpyEncoder(found.config, in_precision(found.params, precision), 1)


def texts(lengths: list[int], seed: int = 0, vocabulary: int = len(tiny.VOCABULARY)) -> tuple[Array, Array]:
    """Random ids, and bounds."""
    return np.random.default_rng(seed).integers(0, vocabulary, sum(lengths)), np.cumsum([0, *lengths])
