"""DataFrames on Apache Spark: columns of text in, labels out, in Arrow batches, with one model in each worker process.

The stages are ordinary ones of `pyspark.ml`: they stand in a Pipeline, and are saved and loaded with it. What a worker
does with a batch is what `npdistil.pipeline` does with a list, so a text's result is the same bits, in Spark and out.
"""

import os
import shutil
from typing import Any

from ..errors import EngineError, MissingExtraError

try:
    import pyarrow as pa  # noqa: F401
    import pyspark  # noqa: F401
except ModuleNotFoundError as error:  # another ImportError, as of versions that do not fit, says what it is
    raise MissingExtraError(error.name or "pyspark", "spark") from None

from pyspark.sql import SparkSession

from .annotation import Annotation
from .assembly import (
    DocumentAssembler,
    EmbeddingsFinisher,
    Finisher,
    MultiDocumentAssembler,
    SentenceDetector,
    Tokenizer,
)
from .light import LightPipeline
from .models import (
    DistilBertEmbeddings,
    DistilBertForMultipleChoice,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertForZeroShotClassification,
)
from .sql import register

__all__ = [
    "Annotation",
    "DistilBertEmbeddings",
    "DistilBertForMultipleChoice",
    "DistilBertForQuestionAnswering",
    "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification",
    "DistilBertForZeroShotClassification",
    "DocumentAssembler",
    "EmbeddingsFinisher",
    "Finisher",
    "LightPipeline",
    "MultiDocumentAssembler",
    "SentenceDetector",
    "Tokenizer",
    "register",
    "session",
]


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
