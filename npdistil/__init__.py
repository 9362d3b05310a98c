"""DistilBERT inference on a CPU: text in, labels out.

>>> import npdistil
>>> classify = npdistil.pipeline("sentiment-analysis")
>>> classify("I like you. I love you.")[0]["label"]
'POSITIVE'
"""

from .checkpoint.config import Config
from .checkpoint.hub import bundled_model
from .checkpoint.quantize import quantize_checkpoint
from .checkpoint.weights import Checkpoint, read_checkpoint
from .errors import CheckpointError, EngineError, InputError, MissingExtraError, NpdistilError
from .estimators import Embedder
from .model import Model, load
from .pipelines import Pipeline, pipeline
from .tasks.explanation import Explanation, explain

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Config",
    "Embedder",
    "EngineError",
    "Explanation",
    "InputError",
    "MissingExtraError",
    "Model",
    "NpdistilError",
    "Pipeline",
    "bundled_model",
    "explain",
    "load",
    "pipeline",
    "quantize_checkpoint",
    "read_checkpoint",
]
