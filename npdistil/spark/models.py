"""Stages with a model.

With `inputCols` they are annotators as Spark NLP's of the same names; else they make plain columns of a column of text.
"""

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pyspark.ml.functions import array_to_vector
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ..checkpoint.config import read_config
from ..checkpoint.weights import read_checkpoint
from ..engine import ENGINES, PRECISIONS
from ..errors import InputError
from ..pipelines import task_type
from ..settings import UNSET, check, choice, flag, setting, string, strings, whole
from . import annotation, worker
from .annotation import CATEGORY, CHUNK, DOCUMENT, NAMED_ENTITY, SENTENCE_EMBEDDINGS, TOKEN, WORD_EMBEDDINGS
from .files import fingerprint, on_driver, restore, sees_this_disk, send_along, store
from .stages import INTEGER, NUMBER, TEXT, VECTOR, Stage, annotated, annotations, new_column, of_setting, quoted

SCORES = T.MapType(TEXT, NUMBER)
NAMED = {"entity": TEXT, "score": NUMBER, "word": TEXT, "start": INTEGER, "end": INTEGER}
ENTITIES = T.ArrayType(T.StructType([T.StructField(name, kind) for name, kind in NAMED.items()]))

# Names of Spark NLP's models -> ours, where they are not the same: None is the bundled one, others are the Hub's.
PRETRAINED: dict[str, str | None] = {
    "distilbert_sequence_classifier_sst2": None,
    "distilbert_base_cased": "distilbert/distilbert-base-cased",
    "distilbert_base_uncased": "distilbert/distilbert-base-uncased",
    "distilbert_base_multilingual_cased": "distilbert/distilbert-base-multilingual-cased",
}
CHARACTERS = replace(
    string(), expected="expected some characters", takes=lambda value: value != "" and string().takes(value)
)
INPUT = setting("text", string(), "name of the column with the texts.")
MODEL = "model"  # the folder in a saved stage that has the model
warned: set[str] = set()  # what has been said of cuts


class Writer(DefaultParamsWriter):
    """Params, and the model's files beside them."""

    def saveImpl(self, path: str) -> None:
        """As pyspark's."""
        super().saveImpl(path)
        if self.instance.getOrDefault("model"):
            store(self.instance.directory(), f"{path}/{MODEL}", self.sparkSession)


class Reader(DefaultParamsReader):
    """What `Writer` wrote."""

    def load(self, path: str) -> Any:
        """As pyspark's."""
        stage = super().load(path)
        if stage.getOrDefault("model"):
            stage.carried = restore(f"{path}/{MODEL}", self.sparkSession)
        return stage


class ModelStage(Stage, abstract=True):
    """A stage with a model."""

    inputCols = setting(UNSET, strings(1), "names of columns with annotations; with these the stage is an annotator.")
    model = setting(
        None, string(), "directory, URI or name on the Hugging Face Hub; by default the bundled model.", None
    )
    batchSize = of_setting("batch_size")
    engine = setting(
        "auto", choice(*ENGINES), "what computes; by default compiled where there are kernels for the machine."
    )
    precision = setting(None, choice(*PRECISIONS), "how it computes; by default the checkpoint's own.", None)
    caseSensitive = setting(UNSET, flag(), "what the model is taken for; it follows its files.")

    task: ClassVar[str]
    row: ClassVar["staticmethod[[str, Any], worker.Row]"]  # `worker.OfTexts.row`
    reads: ClassVar[Sequence[str]] = (DOCUMENT,)  # types of annotations that an annotator reads
    outputAnnotatorType: ClassVar[str] = CATEGORY
    annotating: ClassVar[Mapping[str, Any]] = {"maxSentenceLength": 128}  # an annotator's defaults
    shows_cuts: ClassVar[str] = "no column says which"  # where an annotator's metadata do
    for_annotators: ClassVar[Sequence[str]] = ()  # params that mean nothing to a column of texts
    for_texts: ClassVar[Sequence[str]] = ("inputCol",)  # and those that mean nothing to an annotator
    carried: Path | None = None  # the model that came with a saved stage

    def _set(self, **params: Any) -> Any:
        if params.get("inputCols") is not None:
            self._setDefault(**{name: value for name, value in self.annotating.items() if self.hasParam(name)})
        if "model" in params:
            self.carried = None
        return super()._set(**params)

    def copy(self, extra: Mapping[Any, Any] | None = None) -> Any:
        """As pyspark's."""
        that = super().copy(extra)
        if self.getParam("model") not in (extra or {}):
            that.carried = self.carried
        return that

    def write(self) -> Writer:
        """As pyspark's; the model goes with the params."""
        return Writer(self)

    @classmethod
    def read(cls) -> Reader:
        """As pyspark's."""
        return Reader(cls)

    @classmethod
    def pretrained(cls, name: str | None = None, lang: str = "en", remote_loc: str | None = None) -> Any:
        """A stage with a model of this name: one of `PRETRAINED`, a name on the Hugging Face Hub or a directory.

        Args:
            name: None is the bundled model.
            lang: that of the model; only its name says which it is.
            remote_loc: there is no other place.

        Raises:
            InputError: `remote_loc` is given.
        """
        if remote_loc is not None:
            raise InputError(f"remote_loc is {remote_loc!r}; models are in directories or on the Hugging Face Hub")
        model = PRETRAINED.get(name, name) if name else None
        if name and model is None:
            warnings.warn(f"{name} is not what Spark NLP has under it, but the bundled model", stacklevel=2)
        return cls(model=model)

    @classmethod
    def loadSavedModel(cls, folder: str | os.PathLike[str], spark_session: Any = None) -> Any:
        """A stage with the model of a directory, as the Hugging Face Hub has it."""
        return cls(model=folder)

    def getCaseSensitive(self) -> bool:
        """Get whether case matters: what is set, or what the model does."""
        if self.isDefined("caseSensitive"):
            return bool(self.getOrDefault("caseSensitive"))
        return self._keeps_case()

    def getClasses(self) -> list[str]:
        """The labels of the model, in its order."""
        return [*read_config(self.directory()).labels]

    def directory(self, spark: Any = None) -> Path:
        """Where the model's files are on the driver's disk."""
        return self.carried or on_driver(self.getOrDefault("model"), spark or SparkSession.getActiveSession())

    def _keeps_case(self) -> bool:
        tokenizer = read_checkpoint(self.directory()).tokenizer
        return tokenizer.normalizer is None or tokenizer.normalizer.normalize_str("A") == "A"

    def _is_annotator(self) -> bool:
        return self.isDefined("inputCols")

    def _sources(self, kinds: Mapping[str, str]) -> list[str]:
        if self._is_annotator() or not self.hasParam("inputCol"):
            return annotated(self._required("inputCols"), self.reads, kinds)
        name = self._required("inputCol")
        if kinds.get(name, "string") != "string":
            raise InputError(f"column {name!r} is {kinds[name]}, not string")
        return [name]

    def _columns(self) -> list[T.StructField]:
        if self._is_annotator():
            return [annotations(self._required("outputCol"), self.outputAnnotatorType)]
        return [T.StructField(self.getOrDefault(name), kind) for name, kind in self.new.items()]

    def _row(self) -> Callable[[str, Any], worker.Row]:
        return self.row

    def _annotate(self) -> Callable[..., list[annotation.Annotations]]:
        """What makes annotations of a pipeline and the sources."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        """The task's settings."""
        given = {name: self.getParam(param) for name, param in self.of_task.items()}
        if missing := [param.name for param in given.values() if not self.isDefined(param)]:
            raise InputError(f"{', '.join(missing)} are not set")
        return {name: param.typeConverter(self.getOrDefault(param)) for name, param in given.items()}

    def _length(self) -> int:
        """Tokens that an annotator reads of a text: what is set, or as many of the default as the model takes."""
        config = read_checkpoint(self.directory()).config
        most, given = config.max_position_embeddings, self.getOrDefault("maxSentenceLength")
        if not self.isSet("maxSentenceLength"):
            return min(given or most, most)
        check("maxSentenceLength", whole(4, most), given, None)
        return given or most

    def _checked_settings(self, directory: Path) -> dict[str, Any]:
        """The settings; what a worker's task would refuse is refused on the driver, by the params' names."""
        self._refuse_what_does_nothing()
        settings = self._settings()
        checkpoint = read_checkpoint(directory)
        try:
            task: Any = task_type(self.task)(checkpoint, **settings)
        except InputError as error:
            name, *rest = str(error).split(" ", 1)
            raise InputError(" ".join([self.of_task.get(name, name), *rest])) from None
        if self.isSet("caseSensitive") and self._keeps_case() != self.getOrDefault("caseSensitive"):
            is_it = "is not" if self.getOrDefault("caseSensitive") else "is"
            warnings.warn(f"{directory} {is_it} case-sensitive; caseSensitive does not change that", stacklevel=2)
        if self._reads_tokens():
            self._warn_of_cuts(self._length(), "sentences of a SentenceDetector are shorter")
        elif getattr(task, "long_text", None) == "truncate":
            self._warn_of_cuts(task.max_length, 'setLongText("windows") has all of a text read')
        return settings

    def _refuse_what_does_nothing(self) -> None:
        annotates = self._is_annotator()
        why = "is for a column of texts, not beside inputCols" if annotates else "is for annotators: set inputCols"
        for name in self.for_texts if annotates else self.for_annotators:
            if self.hasParam(name) and self.isSet(name) and (value := self.getOrDefault(name)):
                raise InputError(f"{name} is {value}; it {why}")

    def _reads_tokens(self) -> bool:
        return self._is_annotator() and TOKEN in self.reads

    def _warn_of_cuts(self, length: int, remedy: str) -> None:
        """Say once in a process that texts are cut, and where it shows which were."""
        shown = "their annotations have truncated in the metadata" if self._is_annotator() else self.shows_cuts
        message = (
            f"{type(self).__name__}: longer texts are cut at {length} tokens (maxSentenceLength); {shown}; {remedy}"
        )
        if message not in warned:
            warned.add(message)
            warnings.warn(message, stacklevel=2)

    def _on_model(self, spark: Any) -> worker.OnModel:
        directory = self.directory(spark)
        settings = self._checked_settings(directory)
        is_bundled = not (self.carried or self.getOrDefault("model"))  # each machine has installed its own
        return worker.OnModel(
            arguments=json.dumps(
                {
                    "task": self.task,
                    "model": None if is_bundled else str(directory),
                    "engine": self.getOrDefault("engine"),
                    "precision": self.getOrDefault("precision"),
                    "threads": int(spark.conf.get("spark.task.cpus", "1")) if spark else None,
                }
                | settings
            ),
            archive=None,
            state=fingerprint(directory, times=not is_bundled),
        )

    def _make(self, spark: Any) -> Callable[..., list[worker.Row]]:
        model = self._on_model(spark)
        if spark and (self.carried or self.getOrDefault("model")) and not sees_this_disk(spark):
            model = worker.OnModel(model.arguments, send_along(spark, self.directory(spark)), model.state)
        if self._is_annotator():
            return worker.OfAnnotations(self._annotate(), model)
        return worker.OfTexts(model, self._row(), len(self._columns()))


class DistilBertForSequenceClassification(ModelStage):
    """Text classification.

    New columns are `labelCol` and `scoreCol`, the best label and its score, and `outputCol`, a map of the scores of
    all labels. With `threshold`, label and score are null where no label reaches it. With `longText="truncate"` there
    is `truncatedCol` too: whether a text was cut.

    As an annotator it reads documents or sentences and makes a category of each: the best label; with the activation
    sigmoid all labels with a score above `threshold`, which is then 0.5 by default.
    """

    task = "text-classification"
    settings_type = task_type(task).settings_type
    annotating: ClassVar[Mapping[str, Any]] = {"maxSentenceLength": 128, "longText": "truncate"}
    for_texts = ("inputCol", "labelCol", "scoreCol", "truncatedCol")
    inputCol = INPUT
    labelCol = new_column("label", TEXT, "name of the new column with the best label.")
    scoreCol = new_column("score", NUMBER, "name of the new column with its score.")
    outputCol = new_column("scores", SCORES, "name of the new column with all scores, or with annotations.")
    maxSentenceLength = of_setting("max_length")
    coalesceSentences = setting(False, flag(), "whether a text is scored sentence by sentence, and averaged.")
    activation = of_setting("function_to_apply")
    threshold = of_setting("threshold")
    longText = of_setting("long_text")
    truncatedCol = setting(
        "truncated", string(), 'name of the new column, with `longText="truncate"`, that says whether a text was cut.'
    )
    shows_cuts = "column truncatedCol says which"

    def setMultilabel(self, value: bool) -> Any:
        """Set `activation`: sigmoid, or softmax."""
        return self._set(activation="sigmoid" if value else "softmax")

    def getMultilabel(self) -> bool:
        """Get whether scores are independent of each other."""
        return self._function() == "sigmoid"

    def _function(self) -> str:
        return str(self.getOrDefault("activation") or read_config(self.directory()).function)

    def _settings(self) -> dict[str, Any]:
        get = self.getOrDefault
        settings = super()._settings() | {"top_k": None, "threshold": None}  # rows have all labels; these are compared
        if self._is_annotator():
            return settings | {"max_length": self._length()}
        if self.isSet("truncatedCol") and not self._notes_cuts():
            raise InputError(f'truncatedCol is {get("truncatedCol")}; that column comes with longText="truncate" alone')
        if get("coalesceSentences"):
            return settings | {"long_text": "sentences"}
        if get("longText") == "sentences":
            raise InputError('longText="sentences" gives several answers a text: set coalesceSentences or inputCols')
        return settings

    def _notes_cuts(self) -> bool:
        return self.getOrDefault("longText") == "truncate" and not self.getOrDefault("coalesceSentences")

    def _columns(self) -> list[T.StructField]:
        notes = self._notes_cuts() and not self._is_annotator()
        return super()._columns() + [T.StructField(self.getOrDefault("truncatedCol"), T.BooleanType())] * notes

    def _row(self) -> Callable[[str, Any], worker.Row]:
        return partial(worker.labelled, threshold=self.getOrDefault("threshold"), notes_cuts=self._notes_cuts())

    def _annotate(self) -> Callable[..., list[annotation.Annotations]]:
        get = self.getOrDefault
        return partial(
            annotation.categories,
            sigmoid=self._function() == "sigmoid",
            threshold=get("threshold"),
            coalesce=get("coalesceSentences"),
        )


class DistilBertForTokenClassification(ModelStage):
    """Named entities and the like: `outputCol` is an array of {entity, score, word, start, end}.

    As an annotator it reads documents and tokens, and gives every token its label.
    """

    task = "token-classification"
    settings_type = task_type(task).settings_type
    row = staticmethod(worker.entities)
    reads = (DOCUMENT, TOKEN)
    outputAnnotatorType = NAMED_ENTITY
    for_annotators = ("maxSentenceLength",)
    inputCol = INPUT
    outputCol = new_column("entities", ENTITIES, "name of the new column.")
    aggregation = of_setting("aggregation_strategy", default="simple")
    maxSentenceLength = setting(None, whole(4), "tokens that an annotator reads of a text or sentence.", None)

    def _annotate(self) -> Callable[..., list[annotation.Annotations]]:
        return partial(annotation.tags, max_length=self._length())


class DistilBertForZeroShotClassification(ModelStage):
    """Classification by labels of one's own: `labelCol`, `scoreCol`, and all scores in `outputCol`.

    As an annotator it reads documents or sentences and makes a category of each: the best label, or with `multiLabel`
    all with a score above 0.5. Its hypotheses are then the bare labels, unless `hypothesis` is set.
    """

    task = "zero-shot-classification"
    settings_type = task_type(task).settings_type
    row = staticmethod(worker.judged)
    annotating: ClassVar[Mapping[str, Any]] = {"hypothesis": "{}"}
    for_annotators = ("coalesceSentences",)
    for_texts = ("inputCol", "labelCol", "scoreCol")
    inputCol = INPUT
    labelCol = new_column("label", TEXT, "name of the new column with the best label.")
    scoreCol = new_column("score", NUMBER, "name of the new column with its score.")
    outputCol = new_column("scores", SCORES, "name of the new column with all scores, or with annotations.")
    candidateLabels = of_setting("candidate_labels")
    multiLabel = of_setting("multi_label")
    hypothesis = of_setting("hypothesis_template")
    coalesceSentences = setting(False, flag(), "whether an annotator averages over the sentences of a text.")

    def setMultilabel(self, value: bool) -> Any:
        """Set `multiLabel`."""
        return self._set(multiLabel=value)

    def getMultilabel(self) -> bool:
        """Get `multiLabel`."""
        return bool(self.getOrDefault("multiLabel"))

    def _annotate(self) -> Callable[..., list[annotation.Annotations]]:
        get = self.getOrDefault
        return partial(
            annotation.categories, sigmoid=get("multiLabel"), threshold=None, coalesce=get("coalesceSentences")
        )


class DistilBertEmbeddings(ModelStage):
    """One vector a text in `outputCol`: an array of float, or with `outputAsVector` a vector of `pyspark.ml`.

    As an annotator it makes a vector a token of documents and tokens; of documents or sentences alone, one each.
    """

    task = "embedding"
    settings_type = task_type(task).settings_type
    row = staticmethod(worker.vector)
    for_texts = ("inputCol", "outputAsVector")
    inputCol = INPUT
    outputCol = new_column("embeddings", VECTOR, "name of the new column.")
    pooling = of_setting("pooling")
    normalize = of_setting("normalize")
    longText = of_setting("long_text")
    maxSentenceLength = of_setting("max_length")
    outputAsVector = setting(False, flag(), "whether the new column has vectors of pyspark.ml, and not arrays.")

    def getDimension(self) -> int:
        """Get how many numbers a token's vector has."""
        return int(read_config(self.directory()).dim)

    @property
    def reads(self) -> Sequence[str]:  # type: ignore[override]
        """As `ModelStage.reads`."""
        of_tokens = self._is_annotator() and len(self.getOrDefault("inputCols")) > 1
        return (DOCUMENT, TOKEN) if of_tokens else (DOCUMENT,)

    @property
    def outputAnnotatorType(self) -> str:  # type: ignore[override]
        """As `ModelStage.outputAnnotatorType`."""
        return WORD_EMBEDDINGS if self._reads_tokens() else SENTENCE_EMBEDDINGS

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | ({"max_length": self._length()} if self._is_annotator() else {})

    def _annotate(self) -> Callable[..., list[annotation.Annotations]]:
        if not self._reads_tokens():
            return annotation.sentence_vectors
        return partial(annotation.vectors, max_length=self._length())

    def _transform(self, dataset: DataFrame) -> DataFrame:
        found, name = super()._transform(dataset), self.getOrDefault("outputCol")
        if self._is_annotator() or not self.getOrDefault("outputAsVector"):
            return found
        return found.withColumn(name, array_to_vector(F.col(quoted(name))))


class DistilBertForQuestionAnswering(ModelStage):
    """The answers to questions in contexts: an annotator of two columns of documents, of which the first are asked."""

    task = "question-answering"
    settings_type = task_type(task).settings_type
    reads = (DOCUMENT, DOCUMENT)
    outputAnnotatorType = CHUNK
    outputCol = setting("answer", string(), "name of the new column.")
    maxSentenceLength = of_setting("max_seq_len")

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"max_seq_len": self._length()}

    def _annotate(self) -> Callable[..., list[annotation.Annotations]]:
        return annotation.answers


class DistilBertForMultipleChoice(ModelStage):
    """Which choices go with questions: an annotator of two columns of documents, the second with choices."""

    task = "multiple-choice"
    settings_type = task_type(task).settings_type
    reads = (DOCUMENT, DOCUMENT)
    outputAnnotatorType = CHUNK
    outputCol = setting("answer", string(), "name of the new column.")
    choicesDelimiter = setting(",", CHARACTERS, "what stands between choices.")

    def _annotate(self) -> Callable[..., list[annotation.Annotations]]:
        return partial(annotation.choices, delimiter=self.getOrDefault("choicesDelimiter"))
