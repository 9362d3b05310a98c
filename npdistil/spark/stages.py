"""What the stages of `pyspark.ml` share: params, columns, and what the driver does before workers run."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, field, fields
from functools import partial
from typing import Any, ClassVar

import numpy as np
from pyspark.ml import Transformer
from pyspark.ml.param import Param, Params
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_type

from ..errors import InputError
from ..settings import UNSET, check, check_known, kind_of, setting, string, strings
from . import worker
from .annotation import DOCUMENT

TEXT, NUMBER, INTEGER, VECTOR = T.StringType(), T.DoubleType(), T.IntegerType(), T.ArrayType(T.FloatType())
ANNOTATION = T.StructType(  # as Spark NLP's Annotation.dataType
    [
        T.StructField("annotatorType", TEXT),
        T.StructField("begin", INTEGER, nullable=False),
        T.StructField("end", INTEGER, nullable=False),
        T.StructField("result", TEXT),
        T.StructField("metadata", T.MapType(TEXT, TEXT)),
        T.StructField("embeddings", T.ArrayType(T.FloatType(), containsNull=False)),
    ]
)
ANNOTATIONS = T.ArrayType(ANNOTATION)
KIND = "annotatorType"  # in a column's metadata


def of_setting(name: str, default: Any = UNSET) -> Any:
    """Declares a param that stands for one of the task's settings: description, check and default are the setting's."""
    return field(default=default, metadata={"setting": name})


def new_column(default: str, kind: T.DataType, about: str) -> Any:
    """Declares a new column, and the param that names it."""
    return field(default=default, metadata={"kind": string(), "about": about, "also": (), "type": kind})


class Stage(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Params are given to the class by name, or set with setInputCol and so on.

    Subclasses declare them as fields of a record; they become pyspark's, with methods setName and getName. A list may
    be given to a setter item by item.
    """

    settings_type: ClassVar[type[Any] | None] = None  # the record that has what `of_setting` names
    defaults: ClassVar[dict[str, Any]]  # by param
    of_task: ClassVar[dict[str, str]]  # setting -> the param that stands for it
    new: ClassVar[dict[str, T.DataType]]  # param that names a new column -> its type

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        if abstract or not any(isinstance(each, Field) for each in vars(cls).values()):
            return  # it declares for its subclasses, or has all of its parent's
        record = {each.name: each for each in fields(cls.settings_type)} if cls.settings_type else {}
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
        is_list = kind_of(own).schema.get("type") == "array"
        methods: dict[str, Callable[..., Any]] = {
            "set": lambda self, *value: self._set(**{name: _listed(value) if is_list else _only(name, value)}),
            "get": lambda self: self.getOrDefault(name) if self.isDefined(name) else None,
        }
        for verb, method in methods.items():
            method.__name__ = verb + name[0].upper() + name[1:]
            method.__doc__ = f"{verb.title()} `{name}`: {about}"
            if not hasattr(cls, method.__name__):
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
        check_known("parameter", params, [param.name for param in self.params])
        return self._set(**params)

    def _set(self, **params: Any) -> Any:
        for name, value in params.items():
            if value is None:  # which pyspark does not look at
                self.getParam(name).typeConverter(value)
        return super()._set(**params)

    def _required(self, name: str) -> Any:
        if not self.isDefined(name):
            raise InputError(f"{name} is not set")
        return self.getOrDefault(name)

    # What a subclass says of itself.

    def _sources(self, kinds: Mapping[str, str]) -> list[str]:
        """The columns that are read, of those with these types of annotations or of Spark's."""
        raise NotImplementedError

    def _columns(self) -> list[T.StructField]:
        """The new columns."""
        raise NotImplementedError

    def _make(self, spark: Any) -> Callable[..., list[worker.Row]]:
        """What makes the new columns of the sources; without a session for use on this machine alone."""
        raise NotImplementedError

    # What follows.

    def _transform(self, dataset: DataFrame) -> DataFrame:
        spark, schema, new = dataset.sparkSession, dataset.schema, self._columns()
        fold = folding(spark)
        names = [fold(each.name) for each in schema]
        sources = [_place(fold(name), names, schema) for name in self._sources(Kinds(schema, fold))]
        taken = list(names)
        for each in new:
            if fold(each.name) in taken:
                raise InputError(f"there is a column {each.name!r} already; choose another name for the new one")
            taken.append(fold(each.name))
        # Numbers are names meanwhile: pyspark takes none with dots here, and mixes up two that are the same.
        work = worker.AddColumns(self._make(spark), sources, [to_arrow_type(each.dataType) for each in new])
        whole = [T.StructField(str(i), x.dataType, x.nullable, x.metadata) for i, x in enumerate([*schema, *new])]
        found = dataset.toDF(*map(str, range(len(names)))).mapInArrow(work, T.StructType(whole))
        return found.toDF(*schema.names, *(each.name for each in new))

    def of_plain(self, columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, str]) -> dict[str, list[Any]]:
        """The new columns of plain ones, without Spark.

        Args:
            columns: a list of values for each name.
            kinds: their types of annotations, or "string".

        Raises:
            InputError: a column that is not there.
        """
        sources = self._sources(kinds)
        if missing := [name for name in sources if name not in columns]:
            raise InputError(f"no column {missing[0]!r}; there are {', '.join(columns)}")
        rows = self._make(None)(*(columns[name] for name in sources))
        return {each.name: [row[i] for row in rows] for i, each in enumerate(self._columns())}


class Annotator(Stage, abstract=True):
    """A stage that makes one column of annotations from others."""

    inputCols = setting(UNSET, strings(1), "names of the columns with annotations, or strings, that are read.")
    outputCol = setting(UNSET, string(), "name of the new column.")
    reads: ClassVar[Sequence[str]] = (DOCUMENT,)  # types of annotations
    outputAnnotatorType: ClassVar[str]

    def _sources(self, kinds: Mapping[str, str]) -> list[str]:
        return annotated(self._required("inputCols"), self.reads, kinds)

    def _columns(self) -> list[T.StructField]:
        return [annotations(self._required("outputCol"), self.outputAnnotatorType)]


def annotations(name: str, annotator_type: str) -> T.StructField:
    """A column of annotations."""
    return T.StructField(name, ANNOTATIONS, metadata={KIND: annotator_type})


def annotated(names: Sequence[str], reads: Sequence[str], kinds: Mapping[str, str]) -> list[str]:
    """Of columns, one for each type of annotations; one of strings is one of documents.

    Raises:
        InputError: there is none of a type.
    """
    left, found = list(names), []
    if missing := [name for name in names if name not in kinds]:
        raise InputError(f"no column {missing[0]!r}; there are {', '.join(kinds)}")
    for kind in reads:
        fits = [name for name in left if kinds[name] == kind or (kind == DOCUMENT and kinds[name] == "string")]
        if not fits:
            have = ", ".join(f"{name} ({kinds[name]})" for name in names)
            raise InputError(f"inputCols need a column of type {kind}; they are {have}")
        left.remove(fits[0])
        found.append(fits[0])
    return found


def folding(spark: Any) -> Callable[[str], str]:
    """What makes names of columns equal that are the same to Spark."""
    return str if spark.conf.get("spark.sql.caseSensitive", "false") == "true" else str.lower


class Kinds(Mapping[str, str]):
    """The types of columns by name, found as Spark finds names: of annotations, or Spark's."""

    def __init__(self, schema: T.StructType, fold: Callable[[str], str]) -> None:
        self.names, self.fold = schema.names, fold
        self.of = {fold(each.name): each.metadata.get(KIND) or each.dataType.simpleString() for each in schema}

    def __getitem__(self, name: str) -> str:
        return self.of[self.fold(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def quoted(name: str) -> str:
    """A column's name as Spark reads it, dots and all."""
    return f"`{name.replace('`', '``')}`"


def _place(name: str, names: list[str], schema: T.StructType) -> int:
    found = [i for i, each in enumerate(names) if each == name]
    if len(found) != 1:
        there = "no column" if not found else f"{len(found)} columns"
        raise InputError(f"{there} {name!r}; there are {', '.join(schema.names)}")
    return found[0]


def _listed(value: Sequence[Any]) -> Any:
    return value[0] if len(value) == 1 and not isinstance(value[0], str) else list(value)


def _only(name: str, value: Sequence[Any]) -> Any:
    if len(value) != 1:
        raise InputError(f"{name} takes one value, and {len(value)} were given")
    return value[0]


def _checked(name: str, own: "Field[Any]", value: Any) -> Any:
    """A param's value, as a saved stage will have it."""
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    check(name, kind_of(own), value, *own.metadata["also"])
    return json.loads(json.dumps(value, default=np.generic.item))
