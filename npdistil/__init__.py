"""DistilBERT inference on a CPU: text in, labels out.

>>> import npdistil
>>> classify = npdistil.pipeline("sentiment-analysis")
>>> classify("I like you. I love you.")[0]["label"]
'POSITIVE'
"""

import importlib
from typing import TYPE_CHECKING, Any

from .forks import loading

if TYPE_CHECKING:  # each under its own name, which tells type checkers that it is public
    from . import results as results
    from . import util as util
    from .auto import AutoModel as AutoModel
    from .auto import AutoModelForMaskedLM as AutoModelForMaskedLM
    from .auto import AutoModelForMultipleChoice as AutoModelForMultipleChoice
    from .auto import AutoModelForQuestionAnswering as AutoModelForQuestionAnswering
    from .auto import AutoModelForSequenceClassification as AutoModelForSequenceClassification
    from .auto import AutoModelForTokenClassification as AutoModelForTokenClassification
    from .auto import AutoTokenizer as AutoTokenizer
    from .auto import DistilBertForMaskedLM as DistilBertForMaskedLM
    from .auto import DistilBertForMultipleChoice as DistilBertForMultipleChoice
    from .auto import DistilBertForQuestionAnswering as DistilBertForQuestionAnswering
    from .auto import DistilBertForSequenceClassification as DistilBertForSequenceClassification
    from .auto import DistilBertForTokenClassification as DistilBertForTokenClassification
    from .auto import DistilBertModel as DistilBertModel
    from .auto import DistilBertTokenizer as DistilBertTokenizer
    from .auto import DistilBertTokenizerFast as DistilBertTokenizerFast
    from .checkpoint.config import Config as Config
    from .checkpoint.hub import bundled_model as bundled_model
    from .checkpoint.quantize import quantize_checkpoint as quantize_checkpoint
    from .checkpoint.weights import Checkpoint as Checkpoint
    from .checkpoint.weights import read_checkpoint as read_checkpoint
    from .errors import CheckpointError as CheckpointError
    from .errors import EngineError as EngineError
    from .errors import InputError as InputError
    from .errors import MissingExtraError as MissingExtraError
    from .errors import NpdistilError as NpdistilError
    from .estimators import Classifier as Classifier
    from .estimators import Embedder as Embedder
    from .files import annotate_batches as annotate_batches
    from .files import annotate_file as annotate_file
    from .files.frames import annotate as annotate
    from .model import Model as Model
    from .model import load as load
    from .pipelines import FeatureExtractionPipeline as FeatureExtractionPipeline
    from .pipelines import FillMaskPipeline as FillMaskPipeline
    from .pipelines import Pipeline as Pipeline
    from .pipelines import QuestionAnsweringPipeline as QuestionAnsweringPipeline
    from .pipelines import TextClassificationPipeline as TextClassificationPipeline
    from .pipelines import TokenClassificationPipeline as TokenClassificationPipeline
    from .pipelines import ZeroShotClassificationPipeline as ZeroShotClassificationPipeline
    from .pipelines import explain as explain
    from .pipelines import pipeline as pipeline
    from .sentence_transformer import SentenceTransformer as SentenceTransformer
    from .serve.app import make_app as make_app
    from .tasks.explanation import Explanation as Explanation
    from .tokenizer import Tokenizer as Tokenizer

__version__ = "0.2.0"

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
    __all__ = sorted([*_PLACES, "results", "util"])

    def __getattr__(name: str) -> Any:
        if name in ("results", "util"):
            with loading:
                return importlib.import_module(f".{name}", __name__)
        if name not in _PLACES:
            raise AttributeError(f"module 'npdistil' has no attribute {name!r}")
        with loading:
            found = globals()[name] = getattr(importlib.import_module(_PLACES[name], __name__), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
