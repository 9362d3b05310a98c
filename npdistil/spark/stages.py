"""Stages of `pyspark.ml`: their params, and what the driver does before workers run."""

import atexit
import hashlib
import json
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import Field, field, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pyspark.ml import Transformer
from pyspark.ml.param import Param, Params
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_type

from ..checkpoint.config import read_config, read_json
from ..checkpoint.hub import find_model
from ..checkpoint.weights import read_checkpoint
from ..engine import ENGINES, PRECISIONS
from ..errors import InputError
from ..pipelines import task_type
from ..settings import UNSET, check, choice, flag, kind_of, setting, string
from . import worker

Column = tuple[str, T.DataType]  # its name and its type


def _structs(**kinds: T.DataType) -> T.ArrayType:
    return T.ArrayType(T.StructType([T.StructField(name, kind) for name, kind in kinds.items()]))


TEXT, NUMBER, INTEGER, VECTOR = T.StringType(), T.DoubleType(), T.IntegerType(), T.ArrayType(T.FloatType())
SCORES, NOTES = T.MapType(TEXT, NUMBER), T.MapType(TEXT, TEXT)
ENTITIES = _structs(entity=TEXT, score=NUMBER, word=TEXT, start=INTEGER, end=INTEGER)
ANNOTATIONS = _structs(annotatorType=TEXT, begin=INTEGER, end=INTEGER, result=TEXT, metadata=NOTES, embeddings=VECTOR)


def of_setting(name: str, default: Any = UNSET) -> Any:
    """Declares a param that stands for one of the task's settings: description, check and default are the setting's."""
    return field(default=default, metadata={"setting": name})


def new_column(default: str, kind: T.DataType, about: str) -> Any:
    """Declares a new column, and the param that names it."""
    return field(default=default, metadata={"kind": string(), "about": about, "also": (), "type": kind})


class Stage(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """What the stages share. Params are given to the class by name, or set with setInputCol and so on.

    Subclasses declare them as fields of a record; they become pyspark's, with methods setName and getName.
    """

    inputCol = setting("text", string(), "name of the column with the texts.")
    model = setting(None, string(), "directory or name on the Hugging Face Hub; by default the bundled model.", None)
    batchSize = of_setting("batch_size")
    engine = setting("auto", choice(*ENGINES), "what computes; by default compiled where numba is installed.")
    precision = setting(None, choice(*PRECISIONS), "how it computes; by default the checkpoint's own.", None)

    task: ClassVar[str]
    row: ClassVar["staticmethod[[str, Any], worker.Row]"]  # `worker.AddColumns.row`
    defaults: ClassVar[dict[str, Any]]  # by param
    of_task: ClassVar[dict[str, str]]  # setting -> the param that stands for it
    new: ClassVar[dict[str, T.DataType]]  # param that names a new column -> its type

    def __init_subclass__(cls) -> None:
        if "task" not in vars(cls):  # it has all of its parent's
            return
        record = {each.name: each for each in fields(task_type(cls.task).settings_type)}
        declared: dict[str, Field[Any]] = {}
        for base in reversed(cls.__mro__):
            declared |= {name: each for name, each in vars(base).items() if isinstance(each, Field)}
        cls.of_task = {each.metadata["setting"]: name for name, each in declared.items() if "setting" in each.metadata}
        cls.new = {name: each.metadata["type"] for name, each in declared.items() if "type" in each.metadata}
        cls.defaults = {}
        for name, each in declared.items():
            own = record[each.metadata["setting"]] if "setting" in each.metadata else each
            default = own.default if each.default is UNSET else each.default
            if default is not UNSET:
                cls.defaults[name] = default
            cls._add_param(name, own)

    @classmethod
    def _add_param(cls, name: str, own: "Field[Any]") -> None:
        about = own.metadata["about"]
        for of_task, param in cls.of_task.items():
            about = about.replace(f"`{of_task}`", f"`{param}`")
        setattr(cls, name, Param(Params._dummy(), name, about, partial(_checked, name, own)))
        methods: dict[str, Callable[..., Any]] = {
            "set": lambda self, value: self._set(**{name: value}),
            "get": lambda self: self.getOrDefault(name),
        }
        for verb, method in methods.items():
            method.__name__ = verb + name[0].upper() + name[1:]
            method.__doc__ = f"{verb.title()} `{name}`: {about}"
            setattr(cls, method.__name__, method)

    def __init__(self, **params: Any) -> None:
        super().__init__()
        self._setDefault(**self.defaults)
        self.setParams(**params)

    def setParams(self, **params: Any) -> Any:
        """Set parameters by name.

        Raises:
            InputError: a parameter that this stage does not have, or a value that it does not take.
        """
        if unknown := [name for name in params if not self.hasParam(name)]:
            known = ", ".join(param.name for param in self.params)
            raise InputError(f"unknown parameter: {', '.join(unknown)}; known are {known}")
        return self._set(**params)

    def _directory(self) -> Path:
        return find_model(self.getOrDefault("model"))

    def _columns(self) -> list[Column]:
        return [(self.getOrDefault(name), kind) for name, kind in self.new.items()]

    def _row(self) -> Callable[[str, Any], worker.Row]:
        return self.row

    def _settings(self) -> dict[str, Any]:
        """The task's settings."""
        given = {name: self.getParam(param) for name, param in self.of_task.items()}
        if missing := [param.name for param in given.values() if not self.isDefined(param)]:
            raise InputError(f"{', '.join(missing)} are not set")
        return {name: param.typeConverter(self.getOrDefault(param)) for name, param in given.items()}

    def _check(self, settings: dict[str, Any]) -> None:
        """Refuse on the driver what a worker's task would: another head, more tokens than the model has positions."""
        checkpoint = read_checkpoint(self._directory())
        try:
            task_type(self.task)(checkpoint, **settings)
        except InputError as error:
            name, *rest = str(error).split(" ", 1)
            raise InputError(" ".join([self.of_task.get(name, name), *rest])) from None

    def _work(self, threads: int) -> worker.AddColumns:
        settings = self._settings()
        self._check(settings)
        loading = {
            "model": str(self._directory()) if self.getOrDefault("model") else None,
            "engine": self.getOrDefault("engine"),
            "precision": self.getOrDefault("precision"),
            "threads": threads,
        }
        return worker.AddColumns(
            arguments=json.dumps({"task": self.task} | loading | settings),
            archive=None,
            source=self.getOrDefault("inputCol"),
            columns={name: to_arrow_type(kind) for name, kind in self._columns()},
            row=self._row(),
        )

    def _transform(self, dataset: DataFrame) -> DataFrame:
        source, new = self.getOrDefault("inputCol"), self._columns()
        names = [name for name, _ in new]
        if source not in dataset.columns:
            raise InputError(f"no column {source!r}; there are {', '.join(dataset.columns)}")
        if not isinstance(dataset.schema[source].dataType, T.StringType):
            raise InputError(f"column {source!r} is {dataset.schema[source].dataType.simpleString()}, not string")
        if taken := [name for name in names if name in dataset.columns or names.count(name) > 1]:
            raise InputError(f"there is a column {taken[0]!r} already; choose another name for the new one")
        context = dataset.sparkSession.sparkContext
        work = self._work(threads=int(context.getConf().get("spark.task.cpus", "1")))
        if self.getOrDefault("model") and (not context.master.startswith("local") or "cluster" in context.master):
            work = replace(work, archive=send_along(context, self._directory()))
        added = [T.StructField(name, kind) for name, kind in new]
        return dataset.mapInArrow(work, T.StructType([*dataset.schema.fields, *added]))


def _checked(name: str, own: "Field[Any]", value: Any) -> Any:
    """A param's value, as a saved stage will have it."""
    check(name, kind_of(own), value, *own.metadata["also"])
    return json.loads(json.dumps(value, default=np.generic.item))


def send_along(context: Any, directory: Path) -> str:
    """Send a model's files along with the application, for executors that do not see this disk; returns their name."""
    state = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in _files(directory)]
    name = f"npdistil-{hashlib.sha256(repr(state).encode()).hexdigest()[:16]}"
    context.addArchive(f"{_zipped(name, directory)}#{name}")
    return name


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@cache  # for as long as this process lives: executors may come for it at any time
def _zipped(name: str, directory: Path) -> str:
    scratch = tempfile.mkdtemp(prefix="npdistil-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    with zipfile.ZipFile(Path(scratch, f"{name}.zip"), "w", zipfile.ZIP_STORED) as archive:
        for path in _files(directory):
            archive.write(path, path.relative_to(directory))
    return str(archive.filename)


class DistilBertForSequenceClassification(Stage):
    """Text classification.

    New columns are `labelCol` and `scoreCol`, the best label and its score, and `outputCol`, a map of the scores of
    all labels. With `threshold`, label and score are null where no label reaches it. With `annotations=True` there is
    `outputCol` alone, an array of {annotatorType, begin, end (inclusive), result, metadata, embeddings} as users of
    annotation pipelines know it: one for the whole text or, with `longText="sentences"` and without
    `coalesceSentences`, one for each sentence; with `threshold` one for each label that reaches it.
    """

    task = "text-classification"
    labelCol = new_column("label", TEXT, "name of the new column with the best label.")
    scoreCol = new_column("score", NUMBER, "name of the new column with its score.")
    outputCol = new_column("scores", SCORES, "name of the new column with all scores, or with annotations.")
    annotations = setting(False, flag(), "whether `outputCol` holds annotations.")
    maxSentenceLength = of_setting("max_length")
    coalesceSentences = setting(False, flag(), "whether a text is scored sentence by sentence, and averaged.")
    activation = of_setting("function_to_apply")
    threshold = of_setting("threshold")
    longText = of_setting("long_text")
    caseSensitive = setting(UNSET, flag(), "what the model is taken for; it follows its files.")

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
        work = self.copy({self.annotations: True})._work(threads=os.cpu_count() or 1)
        rows = work.rows([text] if isinstance(text, str) else text)
        name = self.getOrDefault("outputCol")
        return [{name: [each | {"metadata": dict(each["metadata"])} for each in found]} for (found,) in rows]

    def _columns(self) -> list[Column]:
        if self.getOrDefault("annotations"):
            return [(self.getOrDefault("outputCol"), ANNOTATIONS)]
        return super()._columns()

    def _settings(self) -> dict[str, Any]:
        get = self.getOrDefault
        settings = super()._settings() | {"top_k": None, "threshold": None}  # rows have all labels; `_row` compares
        if get("coalesceSentences"):
            return settings | {"long_text": "sentences"}
        if get("longText") != "sentences":
            return settings
        if not get("annotations"):
            raise InputError('longText="sentences" gives several answers a text: set annotations or coalesceSentences')
        return settings | {"combine": "none"}

    def _check(self, settings: dict[str, Any]) -> None:
        super()._check(settings)
        if not self.isSet("caseSensitive"):
            return
        path = self._directory() / "tokenizer_config.json"
        keeps = path.exists() and read_json(path).get("do_lower_case") is False
        if keeps != self.getOrDefault("caseSensitive"):
            is_it = "is" if keeps else "is not"
            warnings.warn(
                f"{self._directory()} {is_it} case-sensitive; caseSensitive does not change that", stacklevel=2
            )

    def _row(self) -> Callable[[str, Any], worker.Row]:
        of_answer = worker.annotated if self.getOrDefault("annotations") else worker.labelled
        return partial(of_answer, threshold=self.getOrDefault("threshold"))


class DistilBertForTokenClassification(Stage):
    """Named entities and the like: `outputCol` is an array of {entity, score, word, start, end}."""

    task = "token-classification"
    row = staticmethod(worker.entities)
    outputCol = new_column("entities", ENTITIES, "name of the new column.")
    aggregation = of_setting("aggregation_strategy", default="simple")


class DistilBertForZeroShotClassification(Stage):
    """Classification by labels of one's own: `labelCol`, `scoreCol`, and all scores in `outputCol`."""

    task = "zero-shot-classification"
    row = staticmethod(worker.judged)
    labelCol = new_column("label", TEXT, "name of the new column with the best label.")
    scoreCol = new_column("score", NUMBER, "name of the new column with its score.")
    outputCol = new_column("scores", SCORES, "name of the new column with all scores.")
    candidateLabels = of_setting("candidate_labels")
    multiLabel = of_setting("multi_label")
    hypothesis = of_setting("hypothesis_template")


class DistilBertEmbeddings(Stage):
    """One vector a text in `outputCol`: an array of float."""

    task = "embedding"
    row = staticmethod(worker.vector)
    outputCol = new_column("embeddings", VECTOR, "name of the new column.")
    pooling = of_setting("pooling")
    normalize = of_setting("normalize")
    longText = of_setting("long_text")
