"""Stages on a real Spark: the same results as without it, in pipelines, streams and on several executors."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import SQLTransformer

import npdistil
from npdistil import Embedder
from npdistil.errors import EngineError, InputError, MissingExtraError
from npdistil.spark import (
    DistilBertEmbeddings,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertForZeroShotClassification,
    session,
)

# Spark 3.5 itself uses what is deprecated, and leaves sockets open.
pytestmark = [
    pytest.mark.filterwarnings("ignore:distutils Version classes"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.* longer texts are cut"),
]

Make = Callable[..., Path]
TEXTS = ["I like it!", "the film is boring", ".", "a", "東京 café", "the movie was very good . not bad ?"] * 7
LONG = "the film was good and i like it , not bad at all . " * 2000


def frame(spark: Any, texts: list[Any], partitions: int = 3) -> Any:
    return spark.createDataFrame([*enumerate(texts)], "id long, text string").repartition(partitions, "id")


def rows(result: Any) -> list[Any]:
    return sorted(result.collect(), key=lambda row: row.id)  # Spark would compute all of it twice to sort it


def test_labels_and_scores_have_the_bits_that_they_have_without_spark(spark: Any, make: Make, engine: str) -> None:
    directory = make(id2label={str(i): f"class {i}" for i in range(4)})
    stage = DistilBertForSequenceClassification(model=str(directory), engine=engine, batchSize=5)
    expected = npdistil.pipeline("text-classification", directory, engine=engine, threads=1)(TEXTS, top_k=None)
    found = rows(stage.transform(frame(spark, TEXTS)))
    assert [row.text for row in found] == TEXTS
    assert [(row.label, row.score) for row in found] == [(each[0]["label"], each[0]["score"]) for each in expected]
    assert [row.scores for row in found] == [{each["label"]: each["score"] for each in one} for one in expected]


def test_the_bundled_model_needs_no_path(spark: Any, bundled: Path) -> None:
    stage = DistilBertForSequenceClassification()
    assert stage.getClasses() == ["NEGATIVE", "POSITIVE"]
    found = rows(stage.transform(frame(spark, ["I love it.", "I hate it."])))
    assert [row.label for row in found] == ["POSITIVE", "NEGATIVE"]


@pytest.mark.parametrize("partitions", [1, 8])
def test_nulls_empty_texts_and_partitions_and_one_enormous_text(spark: Any, make: Make, partitions: int) -> None:
    stage = DistilBertForSequenceClassification(model=str(make()))
    texts = ["good", None, LONG, "", " \t", None]
    found = rows(stage.transform(frame(spark, texts, partitions)))
    assert [row.text for row in found] == texts
    assert [row.label is None for row in found] == [text not in ("good", LONG) for text in texts]
    assert [row.scores is None for row in found] == [text not in ("good", LONG) for text in texts]
    assert rows(stage.transform(frame(spark, [None], partitions)))[0].score is None
    assert rows(stage.transform(frame(spark, texts, partitions).where("id > 99"))) == []


def test_all_rows_in_one_partition_of_many(spark: Any, make: Make) -> None:
    data = spark.createDataFrame([(i, "good film") for i in range(500)], "id long, text string").repartition(8, "text")
    found = rows(DistilBertForSequenceClassification(model=str(make())).transform(data))
    assert len(found) == 500
    assert len({row.score for row in found}) == 1


def test_entities_vectors_and_zero_shot_are_those_without_spark(spark: Any, make: Make, engine: str) -> None:
    labels = {str(i): name for i, name in enumerate(["O", "B-PER", "I-PER", "B-LOC"])}
    ner = make(architectures=["DistilBertForTokenClassification"], id2label=labels)
    entities = DistilBertForTokenClassification(model=str(ner), engine=engine).transform(frame(spark, TEXTS))
    expected = npdistil.pipeline("ner", ner, engine=engine, aggregation_strategy="simple")(TEXTS)
    names = {"entity_group": "entity"}
    assert [[each.asDict() for each in row.entities] for row in rows(entities)] == [
        [{names.get(name, name): value for name, value in each.items()} for each in one] for one in expected
    ]
    bare = make(architectures=["DistilBertModel"])
    vectors = DistilBertEmbeddings(model=str(bare), engine=engine, normalize=True).transform(frame(spark, TEXTS))
    found = np.array([row.embeddings for row in rows(vectors)], np.float32)
    assert found.tobytes() == Embedder(npdistil.load(bare, engine=engine), normalize=True).transform(TEXTS).tobytes()
    nli = make(id2label={"0": "contradiction", "1": "neutral", "2": "entailment"}, max_position_embeddings=64)
    texts = [text for text in TEXTS if text]
    stage = DistilBertForZeroShotClassification(model=str(nli), engine=engine, candidateLabels=["film", "food"])
    one = npdistil.pipeline("zero-shot-classification", nli, engine=engine)(texts, candidate_labels=["film", "food"])
    found_labels = rows(stage.transform(frame(spark, texts)))
    assert [(row.label, row.score) for row in found_labels] == [(each["labels"][0], each["scores"][0]) for each in one]


def test_a_pipeline_with_other_stages_is_saved_and_loaded_with_every_parameter(
    spark: Any, make: Make, tmp_path: Path
) -> None:
    stage = DistilBertForSequenceClassification(inputCol="upper", threshold=0.6, coalesceSentences=True)
    stage = stage.setModel(str(make())).setMaxSentenceLength(16).setActivation("sigmoid").setOutputCol("all")
    stages = [SQLTransformer(statement="SELECT *, upper(text) AS upper FROM __THIS__"), stage]
    model = Pipeline(stages=stages).fit(frame(spark, TEXTS))
    model.write().overwrite().save(str(tmp_path / "saved"))
    loaded = PipelineModel.load(str(tmp_path / "saved"))
    assert rows(loaded.transform(frame(spark, TEXTS))) == rows(model.transform(frame(spark, TEXTS)))
    again = loaded.stages[1]
    assert {param.name: again.getOrDefault(param) for param in again.params if again.isDefined(param)} == {
        param.name: stage.getOrDefault(param) for param in stage.params if stage.isDefined(param)
    }
    assert (again.getThreshold(), again.getActivation(), again.getMaxSentenceLength()) == (0.6, "sigmoid", 16)


def test_every_setting_has_a_getter_and_a_setter() -> None:
    for kind in (DistilBertForSequenceClassification, DistilBertForTokenClassification, DistilBertEmbeddings):
        stage = kind()
        for param in stage.params:
            title = param.name[0].upper() + param.name[1:]
            assert callable(getattr(stage, f"get{title}"))
            if stage.isDefined(param):
                value = getattr(stage, f"get{title}")()
                assert getattr(stage, f"set{title}")(value) is stage


def test_a_threshold_takes_labels_away_or_allows_several(spark: Any, make: Make) -> None:
    model = str(make(problem_type="multi_label_classification"))
    stage = DistilBertForSequenceClassification(model=model, threshold=1.0)
    assert all(
        row.label is None and row.score is None and row.scores for row in rows(stage.transform(frame(spark, TEXTS)))
    )
    stage = DistilBertForSequenceClassification(model=model, threshold=0.01, inputCols=["text"], longText="windows")
    assert all(len(row.scores) == 2 for row in rows(stage.transform(frame(spark, TEXTS))))


def test_what_a_model_is_taken_for_does_not_change_it(make: Make, spark: Any) -> None:
    stage = DistilBertForSequenceClassification(model=str(make()), caseSensitive=True)
    with pytest.warns(match="is not case-sensitive"):
        stage.transform(frame(spark, TEXTS))


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"inputCol": "review"}, "no column 'review'; there are id, text"),
        ({"inputCol": "id"}, "column 'id' is bigint, not string"),
        ({"labelCol": "id"}, "there is a column 'id' already"),
        ({"longText": "sentences"}, "set coalesceSentences or inputCols"),
        ({"batchSice": 3}, "unknown parameter: batchSice; known are"),
        ({"batchSize": "three"}, "batchSize"),
        ({"batchSize": None}, "batchSize is None; expected a whole number from 1 to"),
        ({"labelCol": "result", "outputCol": "result"}, "there is a column 'result' already"),
        ({"maxSentenceLength": 513}, "maxSentenceLength is 513; expected a whole number from 4 to 24"),
        ({"activation": "relu"}, "activation is 'relu'; known are none, sigmoid, softmax"),
        ({"threshold": float("nan")}, "threshold is nan; expected a number"),
        ({"engine": "onnx"}, "engine is 'onnx'; known are auto, numpy, compiled"),
        ({"precision": "int4"}, "precision is 'int4'; known are float32, int8"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_before_anything_runs(
    spark: Any, make: Make, params: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        DistilBertForSequenceClassification(model=str(make()), **params).transform(frame(spark, TEXTS))


def test_params_are_the_settings_of_the_tasks_under_the_names_that_spark_has_for_them() -> None:
    stage = DistilBertForSequenceClassification(threshold=np.float64(0.5), maxSentenceLength=np.int64(16))
    assert (stage.getThreshold(), stage.getMaxSentenceLength(), stage.getActivation()) == (0.5, 16, None)
    assert type(stage.getMaxSentenceLength()) is int
    assert "of more tokens than `maxSentenceLength`" in stage.longText.doc
    batches = {kind: kind().getBatchSize() for kind in (DistilBertForZeroShotClassification, DistilBertEmbeddings)}
    assert batches == {DistilBertForZeroShotClassification: 16, DistilBertEmbeddings: 64}
    assert DistilBertForTokenClassification().getAggregation() == "simple"
    mine = type("Mine", (DistilBertForSequenceClassification,), {})
    assert mine(activation="sigmoid").getActivation() == "sigmoid"
    assert DistilBertForZeroShotClassification(candidateLabels=("a", "b")).getCandidateLabels() == ["a", "b"]


def test_a_model_with_another_head_is_refused_before_anything_runs(spark: Any, make: Make) -> None:
    model = str(make())
    with pytest.raises(InputError, match="TokenClassification needs a DistilBertForTokenClassification"):
        DistilBertForTokenClassification(model=model).transform(frame(spark, TEXTS))
    with pytest.raises(InputError, match="needs a model of natural language inference"):
        DistilBertForZeroShotClassification(model=model, candidateLabels=["a"]).transform(frame(spark, TEXTS))


def test_labels_of_zero_shot_must_be_given_and_models_must_be_there(spark: Any, make: Make) -> None:
    with pytest.raises(InputError, match="candidateLabels are not set"):
        DistilBertForZeroShotClassification(model=str(make())).transform(frame(spark, TEXTS))
    with pytest.raises(npdistil.CheckpointError, match="nowhere is not a directory with a model"):
        DistilBertForSequenceClassification(model="./nowhere").transform(frame(spark, TEXTS))


def test_a_stream_that_is_stopped_and_started_scores_every_row_once(spark: Any, make: Make, tmp_path: Path) -> None:
    source, sink, checkpoints = (tmp_path / name for name in ("source", "sink", "checkpoints"))
    source.mkdir()

    def arrive(first: int, last: int) -> None:
        for i in range(first, last):
            (tmp_path / "new").write_text("".join(f"{i} {j} good film\n" for j in range(20)))
            (tmp_path / "new").rename(source / f"{i}.txt")

    stage = DistilBertForSequenceClassification(inputCol="value", model=str(make()))
    lines = spark.readStream.option("maxFilesPerTrigger", 1).text(str(source))
    writer = stage.transform(lines).writeStream.format("parquet").option("path", str(sink))
    writer = writer.option("checkpointLocation", str(checkpoints))
    arrive(0, 6)
    query = writer.start()
    while not [*sink.glob("*.parquet")]:
        assert query.exception() is None
        time.sleep(0.05)
    query.stop()  # in the middle
    arrive(6, 9)
    query = writer.trigger(availableNow=True).start()
    assert query.awaitTermination(120)
    found = [row.value for row in spark.read.parquet(str(sink)).collect()]
    assert sorted(found) == sorted(f"{i} {j} good film" for i in range(9) for j in range(20))


def test_two_executors_one_of_them_killed(make: Make, tmp_path: Path) -> None:
    model = make()
    count = 2_400
    texts = [f"{i} {TEXTS[i % len(TEXTS)]}" for i in range(count)]
    expected = npdistil.pipeline("text-classification", model, threads=1)(texts)
    script = Path(__file__).parent / "cluster.py"
    done = subprocess.run(
        [sys.executable, str(script), str(model), str(count), json.dumps(TEXTS)],
        stdout=subprocess.PIPE,
        timeout=400,
        check=True,
        cwd=tmp_path,
    )
    found = [json.loads(line) for line in done.stdout.decode().splitlines() if line.startswith("{")]
    summary, results = found[0], found[1:]
    print(summary)
    assert len(summary["executors"]) >= 2
    assert summary["killed"] is not None
    assert [each["id"] for each in results] == [*range(count)]
    assert [(each["label"], each["score"]) for each in results] == [(one["label"], one["score"]) for one in expected]


def test_without_java_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(EngineError, match="Spark needs Java 17 or newer, and there is none in PATH"):
        session()


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.delitem(sys.modules, "npdistil.spark")
    with pytest.raises(MissingExtraError, match=r'pip install "npdistil\[spark\]"'):
        import npdistil.spark  # noqa: F401


def test_the_example_of_the_page(spark: Any, bundled: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "spark.md").read_text(encoding="utf-8")
    plain, as_annotators = [
        block.split("```")[0] for block in page.split("```python\n") if block.startswith("from npdistil.spark")
    ]
    shown: list[Any] = []
    exec(plain, {"print": lambda *values: shown.append(values)})
    assert shown == [("POSITIVE", "NEGATIVE")]
    names: dict[str, Any] = {"example": spark.createDataFrame([("A joy.",), ("A mess.",)], ["text"])}
    with pytest.warns(UserWarning, match="bundled"):
        exec(as_annotators, names)
    assert [*names["result"].select("class.result").toPandas()["result"].map(list)] == [["POSITIVE"], ["NEGATIVE"]]
