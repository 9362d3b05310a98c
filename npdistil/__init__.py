"""DistilBERT inference on a CPU: text in, labels out.

>>> import npdistil
>>> classify = npdistil.pipeline("sentiment-analysis")
>>> classify("I like you. I love you.")[0]["label"]
'POSITIVE'
"""

from .checkpoint import Checkpoint, read_checkpoint
from .config import Config
from .errors import CheckpointError, EngineError, InputError, MissingExtraError, NpdistilError
from .explanation import Explanation, explain
from .hub import bundled_model
from .pretrained import Model, load
from .quantize import quantize_checkpoint
from .tasks import pipeline

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Config",
    "EngineError",
    "Explanation",
    "InputError",
    "MissingExtraError",
    "Model",
    "NpdistilError",
    "bundled_model",
    "explain",
    "load",
    "pipeline",
    "quantize_checkpoint",
    "read_checkpoint",
]
