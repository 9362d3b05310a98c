"""DistilBERT inference on a CPU: text in, labels out.

>>> import npdistil
>>> classify = npdistil.pipeline("sentiment-analysis")
>>> classify("I like you. I love you.")[0]["label"]
'POSITIVE'
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import results, util
from .auto import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from .checkpoint.config import Config
from .checkpoint.hub import bundled_model
from .checkpoint.quantize import quantize_checkpoint
from .checkpoint.weights import Checkpoint, read_checkpoint
from .errors import CheckpointError, EngineError, InputError, MissingExtraError, NpdistilError
from .estimators import Classifier, Embedder
from .model import Model, load
from .pipelines import (
    FeatureExtractionPipeline,
    FillMaskPipeline,
    Pipeline,
    QuestionAnsweringPipeline,
    TextClassificationPipeline,
    TokenClassificationPipeline,
    ZeroShotClassificationPipeline,
    explain,
    pipeline,
)
from .sentence_transformer import SentenceTransformer
from .tasks.explanation import Explanation
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .files import annotate_batches, annotate_file
    from .files.frames import annotate
    from .serve.app import make_app

# Other names, as transformers has them.
DistilBertModel, DistilBertForMaskedLM, DistilBertForMultipleChoice = (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
)
DistilBertForQuestionAnswering = AutoModelForQuestionAnswering
DistilBertForSequenceClassification = AutoModelForSequenceClassification
DistilBertForTokenClassification = AutoModelForTokenClassification
DistilBertTokenizer = DistilBertTokenizerFast = AutoTokenizer

__version__ = "0.1.0"

__all__ = [
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice",
    "AutoModelForQuestionAnswering",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "Checkpoint",
    "CheckpointError",
    "Classifier",
    "Config",
    "DistilBertForMaskedLM",
    "DistilBertForMultipleChoice",
    "DistilBertForQuestionAnswering",
    "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification",
    "DistilBertModel",
    "DistilBertTokenizer",
    "DistilBertTokenizerFast",
    "Embedder",
    "EngineError",
    "Explanation",
    "FeatureExtractionPipeline",
    "FillMaskPipeline",
    "InputError",
    "MissingExtraError",
    "Model",
    "NpdistilError",
    "Pipeline",
    "QuestionAnsweringPipeline",
    "SentenceTransformer",
    "TextClassificationPipeline",
    "TokenClassificationPipeline",
    "Tokenizer",
    "ZeroShotClassificationPipeline",
    "annotate",
    "annotate_batches",
    "annotate_file",
    "bundled_model",
    "explain",
    "load",
    "make_app",
    "pipeline",
    "quantize_checkpoint",
    "read_checkpoint",
    "results",
    "util",
]

if not TYPE_CHECKING:  # a type checker would take any name for known

    def __getattr__(name: str) -> Any:
        """What needs modules that most programs do without, imported when it is first asked for."""
        places = {
            "annotate": ".files.frames",
            "annotate_batches": ".files",
            "annotate_file": ".files",
            "make_app": ".serve.app",
        }
        if name not in places:
            raise AttributeError(f"module 'npdistil' has no attribute {name!r}")
        return getattr(importlib.import_module(places[name], __name__), name)
