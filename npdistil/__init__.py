"""DistilBERT inference on a CPU: text in, labels out.

>>> import npdistil
>>> classify = npdistil.pipeline("sentiment-analysis")
>>> classify("I like you. I love you.")[0]["label"]
'POSITIVE'
"""

import importlib
from typing import TYPE_CHECKING, Any

from .forks import loading

if TYPE_CHECKING:
    from . import results, util
    from .auto import (
        AutoModel,
        AutoModelForMaskedLM,
        AutoModelForMultipleChoice,
        AutoModelForQuestionAnswering,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        AutoTokenizer,
        DistilBertForMaskedLM,
        DistilBertForMultipleChoice,
        DistilBertForQuestionAnswering,
        DistilBertForSequenceClassification,
        DistilBertForTokenClassification,
        DistilBertModel,
        DistilBertTokenizer,
        DistilBertTokenizerFast,
    )
    from .checkpoint.config import Config
    from .checkpoint.hub import bundled_model
    from .checkpoint.quantize import quantize_checkpoint
    from .checkpoint.weights import Checkpoint, read_checkpoint
    from .errors import CheckpointError, EngineError, InputError, MissingExtraError, NpdistilError
    from .estimators import Classifier, Embedder
    from .files import annotate_batches, annotate_file
    from .files.frames import annotate
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
    from .serve.app import make_app
    from .tasks.explanation import Explanation
    from .tokenizer import Tokenizer

__version__ = "0.2.0"

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

# A name is imported when it is first asked for, so that a program pays for what it uses.
_MODULES = {
    ".auto": (
        "AutoModel",
        "AutoModelForMaskedLM",
        "AutoModelForMultipleChoice",
        "AutoModelForQuestionAnswering",
        "AutoModelForSequenceClassification",
        "AutoModelForTokenClassification",
        "AutoTokenizer",
        "DistilBertForMaskedLM",
        "DistilBertForMultipleChoice",
        "DistilBertForQuestionAnswering",
        "DistilBertForSequenceClassification",
        "DistilBertForTokenClassification",
        "DistilBertModel",
        "DistilBertTokenizer",
        "DistilBertTokenizerFast",
    ),
    ".checkpoint.config": ("Config",),
    ".checkpoint.hub": ("bundled_model",),
    ".checkpoint.quantize": ("quantize_checkpoint",),
    ".checkpoint.weights": ("Checkpoint", "read_checkpoint"),
    ".errors": ("CheckpointError", "EngineError", "InputError", "MissingExtraError", "NpdistilError"),
    ".estimators": ("Classifier", "Embedder"),
    ".files": ("annotate_batches", "annotate_file"),
    ".files.frames": ("annotate",),
    ".model": ("Model", "load"),
    ".pipelines": (
        "FeatureExtractionPipeline",
        "FillMaskPipeline",
        "Pipeline",
        "QuestionAnsweringPipeline",
        "TextClassificationPipeline",
        "TokenClassificationPipeline",
        "ZeroShotClassificationPipeline",
        "explain",
        "pipeline",
    ),
    ".sentence_transformer": ("SentenceTransformer",),
    ".serve.app": ("make_app",),
    ".tasks.explanation": ("Explanation",),
    ".tokenizer": ("Tokenizer",),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would take any name for known

    def __getattr__(name: str) -> Any:
        if name in ("results", "util"):
            return importlib.import_module(f".{name}", __name__)
        if name not in _PLACES:
            raise AttributeError(f"module 'npdistil' has no attribute {name!r}")
        with loading:
            found = globals()[name] = getattr(importlib.import_module(_PLACES[name], __name__), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
