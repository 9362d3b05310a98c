"""Functions for Spark SQL."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

from ..errors import InputError
from ..settings import check_known
from .models import DistilBertEmbeddings, DistilBertForSequenceClassification, ModelStage


def register(spark: SparkSession, model: Any = None, **params: Any) -> None:
    """Make functions of a column of strings known to Spark SQL, under these names.

    `npdistil_label` gives the best label, `npdistil_scores` a map of the scores of all, and `npdistil_embed` a vector,
    an array of float; null of null.

    Args:
        spark: the session.
        model: as the stages take it; by default the bundled one. `npdistil_label` and `npdistil_scores` are left out
            where it has no labels.
        params: `engine`, `precision` and `batchSize`, as the stages take them.

    Raises:
        InputError: a model or a param that cannot be used.
    """
    check_known("parameter", params, ("batchSize", "engine", "precision"))
    embed = DistilBertEmbeddings(model=model, **params)
    functions: dict[str, tuple[ModelStage, int, str]] = {"npdistil_embed": (embed, 0, "array<float>")}
    if embed.getClasses():
        classify = DistilBertForSequenceClassification(model=model, **params)
        functions["npdistil_label"] = (classify, 0, "string")
        functions["npdistil_scores"] = (classify, 2, "map<string,double>")
    for name, (stage, place, kind) in functions.items():
        spark.udf.register(name, _function(stage._make(spark), place, kind))


def _function(make: Callable[..., list[Any]], place: int, kind: str) -> Any:
    def values(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for texts in batches:
            given = texts.tolist()
            if (other := next((each for each in given if not isinstance(each, (str, type(None)))), None)) is not None:
                raise InputError(f"expected a column of strings, found {other!r:.80}")
            rows = [row[place] for row in make(given)]
            as_map = [dict(value) if kind.startswith("map") and value is not None else value for value in rows]
            yield pd.Series(as_map, dtype=object)

    values.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}
    return pandas_udf(values, kind)
