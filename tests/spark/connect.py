"""Annotators through Spark Connect, for test_connect.py: `connect.py MODEL OTHER FOLDER`, answers as a line of JSON.

OTHER is a model whose weights MODEL has from some time on.
"""

import json
import shutil
import sys
from typing import Any

from pyspark.ml import Pipeline, PipelineModel
from pyspark.sql import SparkSession

from npdistil.spark import (
    DistilBertEmbeddings,
    DistilBertForSequenceClassification,
    DocumentAssembler,
    EmbeddingsFinisher,
    register,
)


def results(frame: Any) -> list[list[str]]:
    return [row["result"] for row in frame.select("class.result").collect()]


model, other, folder = sys.argv[1:]
spark = SparkSession.builder.remote("local[2]").getOrCreate()  # a server of its own, in a process beside this one
data = spark.createDataFrame([(0, "good film"), (1, None)], "id long, text string")
assembler = DocumentAssembler().setInputCol("text")
stage = DistilBertForSequenceClassification(model=model).setInputCols("document").setOutputCol("class")
pipeline = Pipeline(stages=[assembler, stage]).fit(data)
found = pipeline.transform(data)
plain = DistilBertForSequenceClassification(model=model).transform(data).collect()
stage.save(f"{folder}/stage")
pipeline.save(f"{folder}/pipeline")
register(spark, model)
vectors = DistilBertEmbeddings(model=model, inputCols=["document"], outputCol="v").transform(assembler.transform(data))
finished = EmbeddingsFinisher(inputCols=["v"], outputCols=["f"], outputAsVector=True).transform(vectors)
answer = {
    "session": type(spark).__module__,
    "metadata": found.schema["class"].metadata,
    "annotated": results(found),
    "plain": [row["scores"] for row in plain],
    "stage": results(DistilBertForSequenceClassification.load(f"{folder}/stage").transform(assembler.transform(data))),
    "pipeline": results(PipelineModel.load(f"{folder}/pipeline").transform(data)),
    "sql": [row[0] for row in spark.sql("SELECT npdistil_scores('good film')").collect()],
    "vector": [row["f"][0].toArray().tolist() for row in finished.where("id = 0").collect()],
}
late = DistilBertForSequenceClassification(model=model).transform(data)
shutil.copy(f"{other}/model.safetensors", model)
answer["late"] = [row["scores"] for row in late.collect()]
again = DistilBertForSequenceClassification(model=model).transform(data)
answer["again"] = [row["scores"] for row in again.collect()]
print(json.dumps(answer))
spark.stop()
