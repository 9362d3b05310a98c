"""Names, params, defaults and types against Spark NLP's own Python package, by introspection; its jar is not needed.

What differs is listed here with its reason, and nothing else may; nor may a reason be for what does not differ.
"""

import importlib.util
import inspect
from typing import Any
from unittest.mock import MagicMock

import pytest
from pyspark.ml import Transformer
from pyspark.ml.wrapper import JavaParams, JavaWrapper

import npdistil.spark
from npdistil.errors import InputError

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("sparknlp") is None, reason="spark-nlp is not installed"),
    pytest.mark.filterwarnings("ignore:distutils Version classes"),
    pytest.mark.filterwarnings("ignore:invalid escape sequence"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]

ANNOTATORS = {
    "DistilBertEmbeddings": ["document", "token"],
    "DistilBertForMultipleChoice": ["document", "document"],
    "DistilBertForQuestionAnswering": ["document", "document"],
    "DistilBertForSequenceClassification": ["document", "token"],
    "DistilBertForTokenClassification": ["document", "token"],
    "DistilBertForZeroShotClassification": ["document", "token"],
    "SentenceDetector": ["document"],
    "Tokenizer": ["document"],
}
OTHERS = ["DocumentAssembler", "MultiDocumentAssembler", "Finisher", "EmbeddingsFinisher"]
OURS = "ours has another meaning, or results do not depend on it"
TENSORFLOW = "of another runtime"
EXPLAINED: dict[str, dict[str, str]] = {  # stage, or "": any -> param, or method -> why it differs
    "": {
        "lazyAnnotator": "there are no recursive pipelines",
        "configProtoBytes": TENSORFLOW,
        "engine": OURS,
        "batchSize": OURS,
        "caseSensitive": "None: a model follows its own files",
        "pretrainedEngine": TENSORFLOW,
        "getParamValue": "machinery",
        "setParamValue": "machinery",
        "inputColsValidation": "machinery",
        "fitMultiple": "there is nothing to fit",
    },
    "DistilBertForSequenceClassification": {
        "activation": "None: what the model asks for",
        "multilabel": "a setter and a getter: activation says it",
    },
    "DistilBertForQuestionAnswering": {"coalesceSentences": "nothing there reads it"},
    "DistilBertForMultipleChoice": {"maxSentenceLength": "as many tokens as the model takes"},
    "DistilBertForZeroShotClassification": {
        "activation": "multiLabel says it",
        "multilabel": "multiLabel",
        "threshold": "0.5 there, whatever is set",
        "maxSentenceLength": "read in windows",
        "contradictionIdParam": "found among the model's labels",
        "entailmentIdParam": "found among the model's labels",
    },
    "DistilBertEmbeddings": {
        "dimension": "a getter: the model's",
        "storageRef": "there are no storages",
    },
    "SentenceDetector": {
        "detectLists": "missing",
        "useAbbreviations": "missing",
    },
    "Tokenizer": {"exceptionsPath": "a setter: the lines of the file become exceptions"},
}


@pytest.fixture(autouse=True)
def _without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (JavaWrapper, JavaParams):
        monkeypatch.setattr(kind, "_new_java_obj", staticmethod(lambda *_: MagicMock()))


def both(name: str) -> tuple[Any, Any]:
    """Their stage and ours, as an annotator."""
    import sparknlp.annotator
    import sparknlp.base

    theirs = getattr(sparknlp.base, name, None) or getattr(sparknlp.annotator, name)
    ours = getattr(npdistil.spark, name)()
    return theirs(), ours.setInputCols(*ANNOTATORS[name]) if name in ANNOTATORS else ours


def methods(stage: Any) -> set[str]:
    names = {name for name in dir(stage) if not name.startswith("_") and callable(getattr(stage, name))}
    return {name for name in names if not hasattr(Transformer, name)} - {param.name for param in stage.params}


def accepts(stage: Any, param: str, value: Any) -> bool:
    try:
        stage.copy()._set(**{param: value})
    except InputError:
        return False
    return True


SAMPLES = {
    "toInt": 8,
    "toFloat": 0.5,
    "toBoolean": True,
    "toString": "a",
    "toListString": ["a", "b"],
}


@pytest.mark.parametrize("name", [*ANNOTATORS, *OTHERS])
def test_no_difference_is_unexplained(name: str) -> None:
    theirs, ours = both(name)
    different: set[str] = set()
    for param in theirs.params:
        if not ours.hasParam(param.name):
            different.add(param.name)
            continue
        given, kind = theirs._defaultParamMap.get(param), param.typeConverter.__name__
        own = ours.getOrDefault(param.name) if ours.isDefined(param.name) else None
        if given is not None and given != own:
            different.add(param.name)
        sample = SAMPLES[kind] if given is None else given
        if not accepts(ours, param.name, sample) or accepts(ours, param.name, object()):
            different.add(param.name)
    of_params = {f"{verb}{name[0].upper()}{name[1:]}" for name in different for verb in ("get", "set")}
    different |= methods(theirs) - methods(ours) - of_params
    known = set(EXPLAINED[""]) | set(EXPLAINED.get(name, {}))
    assert different <= known, sorted(different - known)
    assert set(EXPLAINED.get(name, {})) <= different, sorted(set(EXPLAINED[name]) - different)
    assert ours.outputAnnotatorType == theirs.outputAnnotatorType if theirs.outputAnnotatorType else True


def test_arguments_and_methods_of_light_pipelines() -> None:
    from sparknlp.base import LightPipeline

    ours = npdistil.spark.LightPipeline
    assert [*inspect.signature(ours).parameters] == [*inspect.signature(LightPipeline).parameters]
    missing = {name for name in dir(LightPipeline) if not name.startswith("_")} - set(dir(ours))
    assert missing == {"fullAnnotateImage", "getIgnoreUnsupported", "setIgnoreUnsupported"}


def test_annotations_have_the_same_fields_and_types() -> None:
    from sparknlp.annotation import Annotation

    from npdistil.spark.stages import ANNOTATION

    theirs = Annotation.dataType()  # the names and types; that nothing is null there the jar does not hold to
    assert [(each.name, each.dataType.typeName()) for each in ANNOTATION] == [
        (each.name, each.dataType.typeName()) for each in theirs
    ]
    assert [*inspect.signature(npdistil.spark.Annotation).parameters] == [*inspect.signature(Annotation).parameters]
