"""Stages without a model: from text to annotations, and from annotations to plain columns."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pyspark.ml.linalg import DenseVector, VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from ..errors import InputError
from ..settings import UNSET, Kind, choice, flag, setting, string, strings, whole
from . import worker
from .annotation import (
    CLEANUP,
    DOCUMENT,
    SENTENCE_EMBEDDINGS,
    TOKEN,
    WORD_EMBEDDINGS,
    SentenceRules,
    TokenRules,
    compiled,
)
from .stages import KIND, Annotator, Kinds, Stage, annotations, folding, quoted


def _is_pattern(value: Any) -> bool:
    try:
        compiled(value)
    except re.error:
        return False
    return True


def _patterns(least: int = 0) -> Kind:
    kind = strings(least)
    return replace(
        kind,
        expected="expected a list of regular expressions",
        # As they are joined.
        takes=lambda value: kind.takes(value) and all(_is_pattern(f"(?:{each})") for each in value),
    )


PATTERN = replace(
    string(), expected="expected a regular expression", takes=lambda value: string().takes(value) and _is_pattern(value)
)
CONTEXT = (".", ",", ";", ":", "!", "?", "*", "-", "(", ")", '"', "'")
LONGEST = 99999  # UTF-16 units of a sentence or a token


class Assembler(Stage, abstract=True):
    """A stage that makes columns of documents."""

    outputAnnotatorType: ClassVar[str] = DOCUMENT
    idCol = setting(UNSET, string(), "name of a column of strings that becomes `id` in the metadata.")
    metadataCol = setting(UNSET, string(), "name of a column of maps, string to string, that become the metadata.")
    cleanupMode = setting(
        "disabled",
        choice(*CLEANUP),
        "what is done about blanks: inplace makes each a space, shrink all neighbours one, each a space of two; "
        "delete_full takes written-out ones away, and _full treats these as blanks.",
    )

    def _names(self) -> tuple[list[str], list[str]]:
        """Columns with texts, and those of their documents."""
        raise NotImplementedError

    def _sources(self, kinds: Mapping[str, str]) -> list[str]:
        names, _ = self._names()
        for name in names:
            if name in kinds and kinds[name] not in ("string", "array<string>"):
                raise InputError(f"column {name!r} is {kinds[name]}, not string or array<string>")
        return names + [self.getOrDefault(name) for name in ("idCol", "metadataCol") if self.isDefined(name)]

    def _columns(self) -> list[T.StructField]:
        return [annotations(name, DOCUMENT) for name in self._names()[1]]

    def _make(self, spark: Any) -> Callable[..., list[worker.Row]]:
        names, _ = self._names()
        about = [name for name in ("idCol", "metadataCol") if self.isDefined(name)]
        return partial(worker.assembled, len(names), about, self.getOrDefault("cleanupMode"))


class DocumentAssembler(Assembler):
    """A column of strings, or of arrays of them, as documents; a null has none.

    Offsets are in the cleaned text.
    """

    inputCol = setting(UNSET, string(), "name of the column with the texts.")
    outputCol = setting(DOCUMENT, string(), "name of the new column.")

    def _names(self) -> tuple[list[str], list[str]]:
        return [self._required("inputCol")], [self._required("outputCol")]


class MultiDocumentAssembler(Assembler):
    """Several columns as `DocumentAssembler` reads one: those of questions and of contexts."""

    inputCols = setting(UNSET, strings(1), "names of the columns with the texts.")
    outputCols = setting(UNSET, strings(1), "names of the new columns.")

    def _names(self) -> tuple[list[str], list[str]]:
        return paired(self._required("inputCols"), self._required("outputCols"))


def paired(given: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    """Names of columns that are read and of new ones.

    Raises:
        InputError: there is not one new column for each.
    """
    if len(given) != len(new):
        raise InputError(f"inputCols are {len(given)} and outputCols {len(new)}; one is needed for each")
    return given, new


class SentenceDetector(Annotator):
    """Documents cut into sentences: after marks of . ! ? before a blank, at line breaks, and at `customBounds`."""

    outputAnnotatorType = DOCUMENT
    customBounds = setting((), _patterns(), "patterns that sentences are cut at.")
    customBoundsStrategy = setting(
        "none",
        choice("none", "prepend", "append"),
        "what they match: left out, the start of what follows (prepend), or the end of what comes before (append).",
    )
    useCustomBoundsOnly = setting(False, flag(), "whether sentences are cut nowhere else.")
    explodeSentences = setting(False, flag(), "whether each sentence is a row of its own.")
    splitLength = setting(UNSET, whole(), "characters that sentences are cut at.")
    minLength = setting(0, whole(0), "UTF-16 units below which a sentence is left out.")
    maxLength = setting(LONGEST, whole(), "UTF-16 units above which a sentence is left out.")

    def _make(self, spark: Any) -> Callable[..., list[worker.Row]]:
        return _each_row(SentenceRules, self)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        found = super()._transform(dataset)
        if not self.getOrDefault("explodeSentences"):
            return found
        names, (new,) = found.schema.names, self._columns()
        *others, last = map(str, range(len(names)))  # numbers are names meanwhile: two may be the same
        one = found.toDF(*others, last).select(*others, F.explode(last).alias(last))
        return one.select(*others, F.array(last).alias(last, metadata=new.metadata)).toDF(*names)


class Tokenizer(Annotator):
    """Documents cut at blanks into tokens, with marks at their ends as tokens of their own; by rules, not by a model.

    A transformer: `fit` gives it back.
    """

    outputAnnotatorType = TOKEN
    targetPattern = setting(r"\S+", PATTERN, "pattern of candidates.")
    prefixPattern = setting(UNSET, PATTERN, "pattern with groups, from \\A on, that are tokens at a candidate's start.")
    suffixPattern = setting(UNSET, PATTERN, "pattern with groups, up to \\z, that are tokens at a candidate's end.")
    infixPatterns = setting(
        UNSET, _patterns(1), "patterns with groups of what is between; the first that fits is taken."
    )
    contextChars = setting(CONTEXT, strings(), "characters that are tokens of their own at a candidate's ends.")
    exceptions = setting((), _patterns(), "patterns of what is one token whatever the rules say.")
    caseSensitiveExceptions = setting(True, flag(), "whether case matters in exceptions.")
    splitPattern = setting(UNSET, PATTERN, "pattern that tokens are cut at inside.")
    splitChars = setting((), _patterns(), "characters that tokens are cut at inside, where there is no `splitPattern`.")
    minLength = setting(0, whole(0), "UTF-16 units below which a token is left out.")
    maxLength = setting(LONGEST, whole(), "UTF-16 units above which a token is left out.")

    def fit(self, dataset: DataFrame) -> "Tokenizer":
        """Itself: there is nothing to learn."""
        return self

    def addInfixPattern(self, value: str) -> "Tokenizer":
        """Add a pattern, before the others."""
        return self._set(
            infixPatterns=[value, *(self.getOrDefault("infixPatterns") if self.isSet("infixPatterns") else [])]
        )

    def setExceptionsPath(self, path: str | os.PathLike[str]) -> "Tokenizer":
        """Add the lines of a text file to `exceptions`.

        Raises:
            InputError: a file that cannot be read.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        return self._set(exceptions=[*filter(None, lines), *self.getOrDefault("exceptions")])

    def addException(self, value: str) -> "Tokenizer":
        """Add an exception."""
        return self._set(exceptions=[*self.getOrDefault("exceptions"), value])

    def addContextChars(self, value: str) -> "Tokenizer":
        """Add a character to `contextChars`."""
        return self._set(contextChars=[*self.getOrDefault("contextChars"), value])

    def addSplitChars(self, value: str) -> "Tokenizer":
        """Add a character to `splitChars`."""
        return self._set(splitChars=[*self.getOrDefault("splitChars"), value])

    def _make(self, spark: Any) -> Callable[..., list[worker.Row]]:
        return _each_row(TokenRules, self)


def _each_row(rules: type[SentenceRules] | type[TokenRules], stage: Stage) -> Callable[..., list[worker.Row]]:
    names = rules.__dataclass_fields__
    values: dict[str, Any] = {name: stage.getOrDefault(name) if stage.isDefined(name) else None for name in names}
    return worker.OfAnnotations(partial(map, rules(**values)))


class Finisher(Stage):
    """Results of annotations as arrays of strings, or as one string."""

    inputCols = setting(UNSET, strings(1), "names of the columns with annotations.")
    outputCols = setting((), strings(), 'names of the new columns; by default "finished_" and the names of the others.')
    outputAsArray = setting(True, flag(), "whether a new column has arrays, and not strings.")
    includeMetadata = setting(False, flag(), "whether metadata are there too: in columns of their own beside arrays.")
    cleanAnnotations = setting(True, flag(), "whether all columns of annotations are taken away.")
    parseEmbeddingsVectors = setting(False, flag(), "whether a vector's numbers stand for a result, as a string.")
    valueSplitSymbol = setting("#", string(), "what stands between values in a string.")
    annotationSplitSymbol = setting("@", string(), "what stands between annotations in a string.")

    def getOutputCols(self) -> list[str]:
        """Get the names of the new columns."""
        return self.getOrDefault("outputCols") or [f"finished_{name}" for name in self._required("inputCols")]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        get, found = self.getOrDefault, dataset
        annotated = T.StructType([each for each in dataset.schema if KIND in each.metadata])
        of_annotations = Kinds(annotated, folding(dataset.sparkSession))
        for name, new in zip(*paired(self._required("inputCols"), self.getOutputCols()), strict=True):
            if name not in of_annotations:
                raise InputError(f"no column of annotations {name!r}; there are {', '.join(of_annotations)}")
            column = F.col(quoted(name))
            as_vector = get("parseEmbeddingsVectors") and of_annotations[name] in (WORD_EMBEDDINGS, SENTENCE_EMBEDDINGS)
            found = found.withColumn(new, self._finished(column, as_vector))
            if get("outputAsArray") and get("includeMetadata"):
                entries = F.flatten(F.transform(column["metadata"], F.map_entries))
                found = found.withColumn(f"{new}_metadata", entries.cast("array<struct<_1:string,_2:string>>"))
        return cleaned(found) if get("cleanAnnotations") else found

    def _finished(self, column: Column, as_vector: bool) -> Column:
        get = self.getOrDefault

        def result(each: Column) -> Column:
            between = " " if get("outputAsArray") else get("valueSplitSymbol")
            return F.array_join(each["embeddings"].cast("array<string>"), between) if as_vector else each["result"]

        def described(each: Column) -> Column:
            entries = F.map_entries(F.map_concat(each["metadata"], F.create_map(F.lit("result"), result(each))))
            pairs = F.transform(entries, lambda entry: F.concat(entry["key"], F.lit("->"), entry["value"]))
            return F.array_join(pairs, get("valueSplitSymbol"))

        if get("outputAsArray"):
            return F.transform(column, result)
        return F.array_join(
            F.transform(column, described if get("includeMetadata") else result), get("annotationSplitSymbol")
        )


class EmbeddingsFinisher(Stage):
    """Vectors of annotations as arrays of arrays, or of vectors of `pyspark.ml`."""

    inputCols = setting(UNSET, strings(1), "names of the columns with annotations.")
    outputCols = setting((), strings(), 'names of the new columns; by default "finished_" and the names of the others.')
    outputAsVector = setting(False, flag(), "whether they are pyspark.ml's vectors, and not arrays.")
    cleanAnnotations = setting(False, flag(), "whether all columns of annotations are taken away.")

    getOutputCols = Finisher.getOutputCols

    def _transform(self, dataset: DataFrame) -> DataFrame:
        found = dataset
        as_vectors = F.udf(lambda rows: rows and [DenseVector(each) for each in rows], T.ArrayType(VectorUDT()))
        known = Kinds(dataset.schema, folding(dataset.sparkSession))
        for name, new in zip(*paired(self._required("inputCols"), self.getOutputCols()), strict=True):
            if known.get(name) not in (WORD_EMBEDDINGS, SENTENCE_EMBEDDINGS):
                raise InputError(f"no column of embeddings {name!r}; there are {', '.join(dataset.columns)}")
            vectors = F.col(quoted(name))["embeddings"]
            found = found.withColumn(new, as_vectors(vectors) if self.getOrDefault("outputAsVector") else vectors)
        return cleaned(found) if self.getOrDefault("cleanAnnotations") else found


def cleaned(dataset: DataFrame) -> DataFrame:
    """Without its columns of annotations."""
    return dataset.drop(*(each.name for each in dataset.schema if KIND in each.metadata))
