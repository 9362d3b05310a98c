"""DataFrames on Apache Spark: columns of text in, labels out, in Arrow batches, with one model in each worker process.

The stages are ordinary ones of `pyspark.ml`: they stand in a Pipeline, and are saved and loaded with it. What a worker
does with a batch is what `npdistil.pipeline` does with a list, so a text's result is the same bits, in Spark and out.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

from ..checkpoint.config import read_config, read_json
from ..checkpoint.hub import find_model
from ..errors import EngineError, InputError, MissingExtraError
from ..model import load
from ..tasks import pipeline
from ..tasks.feature_extraction import Embedder

try:
    import pyarrow as pa
    from pyspark import SparkFiles
    from pyspark.ml import Transformer
    from pyspark.ml.param import Param, Params, TypeConverters
    from pyspark.ml.param.shared import HasInputCol, HasOutputCol
    from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import types as T
except ModuleNotFoundError as error:  # another ImportError, as of versions that do not fit, says what it is
    raise MissingExtraError(error.name or "pyspark", "spark") from None

Column = tuple[str, Any, Any]  # its name, its type in Spark and its type in Arrow

SCORES = T.MapType(T.StringType(), T.DoubleType()), pa.map_(pa.string(), pa.float64())
VECTOR = T.ArrayType(T.FloatType()), pa.list_(pa.float32())
TEXT = T.StringType(), pa.string()
NUMBER = T.DoubleType(), pa.float64()
INTEGER = T.IntegerType(), pa.int32()


def _structs(**fields: tuple[Any, Any]) -> tuple[Any, Any]:
    """A list of structs with these fields, in Spark and in Arrow."""
    spark = T.StructType([T.StructField(name, kind) for name, (kind, _) in fields.items()])
    return T.ArrayType(spark), pa.list_(pa.struct([(name, kind) for name, (_, kind) in fields.items()]))


ENTITIES = _structs(entity=TEXT, score=NUMBER, word=TEXT, start=INTEGER, end=INTEGER)
ANNOTATIONS = _structs(
    annotatorType=TEXT,
    begin=INTEGER,
    end=INTEGER,
    result=TEXT,
    metadata=(T.MapType(T.StringType(), T.StringType()), pa.map_(pa.string(), pa.string())),
    embeddings=VECTOR,
)


def session(master: str = "local[*]", **settings: Any) -> SparkSession:
    """A Spark session, for those who have none yet.

    Args:
        master: as Spark has it; "local[*]" is this machine.
        settings: Spark's, with underscores for dots: `spark_task_cpus=2`.

    Raises:
        EngineError: there is no Java, which Spark runs on.
    """
    java = os.environ.get("JAVA_HOME")
    if not (shutil.which("java", path=f"{java}/bin") if java else shutil.which("java")):
        where = f"JAVA_HOME, which is {java}" if java else "PATH"
        raise EngineError(
            f"Spark needs Java 17 or newer, and there is none in {where}: install openjdk-17-jre-headless"
        )
    builder = SparkSession.builder.master(master)
    for name, value in settings.items():
        builder = builder.config(name.replace("_", "."), value)
    return builder.getOrCreate()


# --- what runs in a worker


@dataclass(frozen=True)
class Job:
    """What a worker has to know."""

    task: str  # of `npdistil.pipeline`, or "embed"
    model: str | None  # a directory, or None for the bundled model
    archive: str | None  # where the model came with the job: its name among the job's files
    engine: str
    precision: str | None
    threads: int
    settings: tuple[tuple[str, Any], ...]
    input: str
    columns: tuple[Column, ...]
    cells: Callable[[str, Any], tuple[Any, ...]]  # (a text, the answer to it) -> a value for each column


@lru_cache(maxsize=4)  # a worker serves one job after the other; nearly always the same
def _ready(task: str, model: str | None, engine: str, precision: str | None, threads: int, settings: Any) -> Any:
    loaded = load(model, engine=engine, precision=precision, threads=threads)
    chosen: dict[str, Any] = {name: list(value) if isinstance(value, tuple) else value for name, value in settings}
    if task == "embed":
        return Embedder(loaded, **chosen).fit()
    return pipeline(task, loaded, **chosen)


def ready(job: Job) -> Any:
    """The job's task, with its model; loaded once in a process."""
    model = SparkFiles.get(job.archive) if job.archive else job.model
    return _ready(job.task, model, job.engine, job.precision, job.threads, job.settings)


def answers(job: Job, texts: Sequence[str | None]) -> list[tuple[Any, ...]]:
    """Values for the new columns of each text; none where there is no text."""
    task = ready(job)
    given = [text for text in texts if text is not None]
    found = iter((task.transform(given) if job.task == "embed" else task(given)) if given else ())
    nothing = (None,) * len(job.columns)
    return [nothing if text is None else job.cells(text, next(found)) for text in texts]


def run(job: Job, batches: Iterator[Any]) -> Iterator[Any]:
    """Arrow batches -> the same, with the new columns."""
    for batch in batches:
        rows = answers(job, batch.column(job.input).to_pylist())
        arrays = [*batch.columns]
        names = [*batch.schema.names]
        for (name, _, kind), values in zip(job.columns, zip(*rows, strict=True) if rows else (), strict=bool(rows)):
            arrays.append(pa.array(values, kind))
            names.append(name)
        if rows:
            yield pa.RecordBatch.from_arrays(arrays, names)


# --- the stages


def _accessors(stage: type) -> type:
    """Methods setName and getName for every parameter that has none yet."""

    def setter(name: str) -> Callable[[Any, Any], Any]:
        return lambda self, value: self._set(**{name: value})

    def getter(name: str) -> Callable[[Any], Any]:
        return lambda self: self.getOrDefault(name)

    for name in [name for name in dir(stage) if isinstance(getattr(stage, name), Param)]:
        title = name[0].upper() + name[1:]
        for verb, make in (("set", setter), ("get", getter)):
            if not hasattr(stage, verb + title):
                method = make(name)
                method.__name__, method.__doc__ = verb + title, f"{verb.title()} `{name}`: {getattr(stage, name).doc}."
                setattr(stage, verb + title, method)
    return stage


def _param(name: str, doc: str, convert: Any) -> Any:
    return Param(Params._dummy(), name, doc, typeConverter=convert)


class Stage(Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable):
    """What the stages share. Parameters are given to the class by name, or set with setInputCol and so on."""

    model = _param(
        "model", "directory or name on the Hugging Face Hub; '' is the bundled model", TypeConverters.toString
    )
    batchSize = _param("batchSize", "texts that are run at once; results do not depend on it", TypeConverters.toInt)
    engine = _param("engine", "'auto', 'numpy' or 'compiled'", TypeConverters.toString)
    precision = _param("precision", "'float32', 'int8', or '' for the checkpoint's own", TypeConverters.toString)

    task = ""
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, **params: Any) -> None:
        super().__init__()
        shared = {"inputCol": "text", "model": "", "batchSize": 256, "engine": "auto", "precision": ""}
        self._setDefault(**shared | self.defaults)
        self.setParams(**params)

    def setParams(self, **params: Any) -> Any:
        """Set parameters by name.

        Raises:
            InputError: a parameter that this stage does not have, or a value of the wrong type.
        """
        if unknown := [name for name in params if not self.hasParam(name)]:
            known = ", ".join(param.name for param in self.params)
            raise InputError(f"unknown parameter: {', '.join(unknown)}; known are {known}")
        try:
            return self._set(**params)
        except TypeError as error:
            raise InputError(str(error)) from None

    def _directory(self) -> Path:
        return find_model(self.getOrDefault("model") or None)

    def _columns(self) -> list[Column]:
        """The new columns."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        """Arguments of the task."""
        return {"batch_size": self.getOrDefault("batchSize")}

    def _job(self, archive: str | None = None, threads: int = 1) -> Job:
        settings = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(self._settings().items()))
        return Job(
            task=self.task,
            model=str(self._directory()) if self.getOrDefault("model") else None,
            archive=archive,
            engine=self.getOrDefault("engine"),
            precision=self.getOrDefault("precision") or None,
            threads=threads,
            settings=settings,
            input=self.getOrDefault("inputCol"),
            columns=tuple(self._columns()),
            cells=self._cells(),
        )

    def _cells(self) -> Callable[[str, Any], tuple[Any, ...]]:
        """(a text, the answer to it) -> a value for each new column; runs in the worker."""
        raise NotImplementedError

    def _transform(self, dataset: DataFrame) -> DataFrame:
        source = self.getOrDefault("inputCol")
        if source not in dataset.columns:
            raise InputError(f"no column {source!r}; there are {', '.join(dataset.columns)}")
        if not isinstance(dataset.schema[source].dataType, T.StringType):
            raise InputError(f"column {source!r} is {dataset.schema[source].dataType.simpleString()}, not string")
        new = self._columns()
        if taken := [name for name, *_ in new if name in dataset.columns]:
            raise InputError(f"there is a column {taken[0]!r} already; choose another name for the new one")
        context = dataset.sparkSession.sparkContext
        threads = int(context.getConf().get("spark.task.cpus", "1"))
        archive = None
        if self.getOrDefault("model") and (not context.master.startswith("local") or "cluster" in context.master):
            archive = _travelling(context, self._directory())
        read_config(self._directory())  # what is no model is refused here, and not in every worker
        job = self._job(archive, threads)
        schema = T.StructType([*dataset.schema.fields, *(T.StructField(name, kind) for name, kind, _ in new)])
        return dataset.mapInArrow(partial(run, job), schema)


_archives: dict[str, str] = {}  # name -> file, as long as this process lives: executors may come for it at any time


def _travelling(context: Any, directory: Path) -> str:
    """Send a model's files along with the application, for executors that do not see this disk; returns their name."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    state = [(str(path.relative_to(directory)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    name = f"npdistil-{hashlib.sha256(repr((str(directory), state)).encode()).hexdigest()[:16]}"
    if name not in _archives:
        scratch = tempfile.mkdtemp(prefix="npdistil-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        _archives[name] = os.path.join(scratch, f"{name}.zip")  # noqa: PTH118 - Spark takes strings
        with zipfile.ZipFile(_archives[name], "w", zipfile.ZIP_STORED) as archive:
            for path in files:
                archive.write(path, path.relative_to(directory))
    context.addArchive(f"{_archives[name]}#{name}")
    return name


@_accessors
class DistilBertForSequenceClassification(Stage):
    """Text classification.

    New columns are `labelCol` and `scoreCol`, the best label and its score, and `outputCol`, a map of the scores of
    all labels. With `threshold`, label and score are null where no label reaches it. With `annotations=True` there is
    `outputCol` alone, an array of {annotatorType, begin, end (inclusive), result, metadata, embeddings} as users of
    annotation pipelines know it: one for the whole text or, with `longText="sentences"` and without
    `coalesceSentences`, one for each sentence; with `threshold` one for each label that reaches it.
    """

    labelCol = _param("labelCol", "name of the new column with the best label", TypeConverters.toString)
    scoreCol = _param("scoreCol", "name of the new column with its score", TypeConverters.toString)
    annotations = _param("annotations", "whether outputCol holds annotations", TypeConverters.toBoolean)
    maxSentenceLength = _param("maxSentenceLength", "tokens of a window; 0: all the model takes", TypeConverters.toInt)
    coalesceSentences = _param("coalesceSentences", "whether sentences' scores are averaged", TypeConverters.toBoolean)
    activation = _param("activation", "'softmax', 'sigmoid', or '' as the model asks for", TypeConverters.toString)
    threshold = _param("threshold", "the least score of a label that is given", TypeConverters.toFloat)
    longText = _param("longText", "'windows', 'sentences', 'truncate' or 'error'", TypeConverters.toString)
    caseSensitive = _param(
        "caseSensitive", "what the model is taken for; it follows its files", TypeConverters.toBoolean
    )

    task = "text-classification"
    defaults: ClassVar[dict[str, Any]] = {
        "outputCol": "scores", "labelCol": "label", "scoreCol": "score", "annotations": False, "maxSentenceLength": 0,
        "coalesceSentences": False, "activation": "", "threshold": 0.0, "longText": "windows",
    }  # fmt: skip

    def getClasses(self) -> list[str]:
        """The labels of the model, in its order."""
        return [*read_config(self._directory()).labels]

    def annotate(self, text: str | list[str]) -> Any:
        """{outputCol: labels} of a text, or a list of these, without Spark."""
        found = [
            {name: [each["result"] for each in row] for name, row in one.items()} for one in self.full_annotate(text)
        ]
        return found[0] if isinstance(text, str) else found

    def full_annotate(self, text: str | list[str]) -> list[dict[str, Any]]:
        """[{outputCol: annotations}] of a text or of several, without Spark."""
        texts = [text] if isinstance(text, str) else text
        job = self.copy({self.annotations: True})._job(threads=os.cpu_count() or 1)
        names = [name for name, *_ in job.columns]
        found = [dict(zip(names, row, strict=True)) for row in answers(job, texts)]
        return [
            {n: [each | {"metadata": dict(each["metadata"])} for each in row] for n, row in f.items()} for f in found
        ]

    def _columns(self) -> list[Column]:
        output = self.getOrDefault("outputCol")
        if self.getOrDefault("annotations"):
            return [(output, *ANNOTATIONS)]
        return [(self.getOrDefault("labelCol"), *TEXT), (self.getOrDefault("scoreCol"), *NUMBER), (output, *SCORES)]

    def _settings(self) -> dict[str, Any]:
        get = self.getOrDefault
        sentences = get("coalesceSentences") or get("longText") == "sentences"
        if sentences and not get("coalesceSentences") and not get("annotations"):
            raise InputError('longText="sentences" gives several answers a text: set annotations or coalesceSentences')
        if self.isSet("caseSensitive"):
            self._warn_of_case()
        return super()._settings() | {
            "top_k": None,
            "function_to_apply": get("activation") or None,
            "max_length": get("maxSentenceLength") or None,
            "long_text": "sentences" if sentences else get("longText"),
            "combine": "none" if sentences and not get("coalesceSentences") else "mean",
        }

    def _warn_of_case(self) -> None:
        path = self._directory() / "tokenizer_config.json"
        keeps = path.exists() and read_json(path).get("do_lower_case") is False
        if keeps != self.getOrDefault("caseSensitive"):
            is_it = "is" if keeps else "is not"
            warnings.warn(
                f"{self._directory()} {is_it} case-sensitive; caseSensitive does not change that", stacklevel=2
            )

    def _cells(self) -> Callable[[str, Any], tuple[Any, ...]]:
        threshold = self.getOrDefault("threshold") if self.isSet("threshold") else None
        return partial(_annotated if self.getOrDefault("annotations") else _labelled, threshold=threshold)


def _labelled(text: str, answer: list[dict[str, Any]], threshold: float | None) -> tuple[Any, ...]:
    best = answer[0]
    reached = threshold is None or best["score"] >= threshold
    scores = [(each["label"], each["score"]) for each in answer]
    return best["label"] if reached else None, best["score"] if reached else None, scores


def _annotated(text: str, answer: list[Any], threshold: float | None) -> tuple[Any, ...]:
    """One column: annotations of the text, or of each of its sentences."""
    whole = [each | {"start": 0, "end": len(text)} for each in answer if isinstance(each, dict)]
    return (
        [
            {
                "annotatorType": "category",
                "begin": label["start"],
                "end": label["end"] - 1,
                "result": label["label"],
                "metadata": [("sentence", str(number)), *((each["label"], str(each["score"])) for each in labels)],
                "embeddings": [],
            }
            for number, labels in enumerate([whole] if whole else answer)
            for label in (labels[:1] if threshold is None else labels)
            if threshold is None or label["score"] >= threshold
        ],
    )


@_accessors
class DistilBertForTokenClassification(Stage):
    """Named entities and the like: `outputCol` is an array of {entity, score, word, start, end}."""

    aggregation = _param("aggregation", "'none', 'simple', 'first', 'average' or 'max'", TypeConverters.toString)

    task = "token-classification"
    defaults: ClassVar[dict[str, Any]] = {"outputCol": "entities", "aggregation": "simple"}

    def _columns(self) -> list[Column]:
        return [(self.getOrDefault("outputCol"), *ENTITIES)]

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"aggregation_strategy": self.getOrDefault("aggregation")}

    def _cells(self) -> Callable[[str, Any], tuple[Any, ...]]:
        return _entities


def _entities(text: str, answer: list[dict[str, Any]]) -> tuple[Any, ...]:
    names = {"entity_group": "entity"}
    wanted = {"entity", "score", "word", "start", "end"}
    rows = [{names.get(name, name): value for name, value in each.items()} for each in answer]
    return ([{name: row[name] for name in row if name in wanted} for row in rows],)


@_accessors
class DistilBertForZeroShotClassification(Stage):
    """Classification by labels of one's own: `labelCol`, `scoreCol`, and all scores in `outputCol`."""

    labelCol = _param("labelCol", "name of the new column with the best label", TypeConverters.toString)
    scoreCol = _param("scoreCol", "name of the new column with its score", TypeConverters.toString)
    candidateLabels = _param("candidateLabels", "the labels", TypeConverters.toListString)
    multiLabel = _param("multiLabel", "whether each label is judged by itself", TypeConverters.toBoolean)
    hypothesis = _param("hypothesis", "a sentence with {} where the label goes", TypeConverters.toString)

    task = "zero-shot-classification"
    defaults: ClassVar[dict[str, Any]] = {
        "outputCol": "scores", "labelCol": "label", "scoreCol": "score", "multiLabel": False,
        "hypothesis": "This example is {}.", "batchSize": 16,
    }  # fmt: skip

    def _columns(self) -> list[Column]:
        get = self.getOrDefault
        return [(get("labelCol"), *TEXT), (get("scoreCol"), *NUMBER), (get("outputCol"), *SCORES)]

    def _settings(self) -> dict[str, Any]:
        if not self.isSet("candidateLabels"):
            raise InputError("candidateLabels are not set")
        return super()._settings() | {
            "candidate_labels": self.getOrDefault("candidateLabels"),
            "multi_label": self.getOrDefault("multiLabel"),
            "hypothesis_template": self.getOrDefault("hypothesis"),
        }

    def _cells(self) -> Callable[[str, Any], tuple[Any, ...]]:
        return _best


def _best(text: str, answer: dict[str, Any]) -> tuple[Any, ...]:
    return answer["labels"][0], answer["scores"][0], [*zip(answer["labels"], answer["scores"], strict=True)]


@_accessors
class DistilBertEmbeddings(Stage):
    """One vector a text in `outputCol`: an array of float."""

    pooling = _param("pooling", "'mean', 'cls', 'max', or '' as the model says", TypeConverters.toString)
    normalize = _param("normalize", "whether vectors are scaled to length 1", TypeConverters.toBoolean)
    longText = _param("longText", "'windows', 'sentences', 'truncate' or 'error'", TypeConverters.toString)

    task = "embed"
    defaults: ClassVar[dict[str, Any]] = {
        "outputCol": "embeddings", "pooling": "", "normalize": False, "longText": "windows", "batchSize": 64,
    }  # fmt: skip

    def _columns(self) -> list[Column]:
        return [(self.getOrDefault("outputCol"), *VECTOR)]

    def _settings(self) -> dict[str, Any]:
        get = self.getOrDefault
        return super()._settings() | {
            "pooling": get("pooling") or None,
            "normalize": get("normalize"),
            "long_text": get("longText"),
        }

    def _cells(self) -> Callable[[str, Any], tuple[Any, ...]]:
        return _vector


def _vector(text: str, answer: Any) -> tuple[Any, ...]:
    return (answer,)
