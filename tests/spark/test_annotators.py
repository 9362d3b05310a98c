"""Annotators: the snippet of Spark NLP's card with other imports, and every field with the right value."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.clustering import KMeans
from pyspark.sql import types as T  # noqa: N812

import npdistil
import npdistil.spark.models
from npdistil.errors import CheckpointError, InputError
from npdistil.spark import (
    Annotation,
    DistilBertEmbeddings,
    DistilBertForMultipleChoice,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertForZeroShotClassification,
    DocumentAssembler,
    EmbeddingsFinisher,
    Finisher,
    LightPipeline,
    MultiDocumentAssembler,
    SentenceDetector,
    Tokenizer,
    register,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:distutils Version classes"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.* longer texts are cut"),
]

Make = Callable[..., Path]
FACE = "\N{SLIGHTLY SMILING FACE}"  # two UTF-16 units
ANNOTATIONS = T.ArrayType(  # as Spark NLP's Annotation.scala declares it
    T.StructType(
        [
            T.StructField("annotatorType", T.StringType(), True),
            T.StructField("begin", T.IntegerType(), False),
            T.StructField("end", T.IntegerType(), False),
            T.StructField("result", T.StringType(), True),
            T.StructField("metadata", T.MapType(T.StringType(), T.StringType(), True), True),
            T.StructField("embeddings", T.ArrayType(T.FloatType(), False), True),
        ]
    ),
    True,
)


@pytest.fixture(autouse=True)
def _warns_again() -> None:
    """Stages warn once in a process."""
    npdistil.spark.models.warned.clear()


def frame(spark: Any, *texts: str | None) -> Any:
    return spark.createDataFrame([*enumerate(texts)], "id long, text string")


def column(result: Any, name: str) -> list[Any]:
    """The annotations of rows, in their order, as plain tuples."""
    return [
        [
            tuple(each.metadata if field == "metadata" else each[field] for field in each.__fields__)
            for each in row[name]
        ]
        for row in result.collect()
    ]


def token(begin: int, result: str, sentence: str = "0", end: int | None = None) -> tuple[Any, ...]:
    last = begin + len(result) - 1 if end is None else end
    return ("token", begin, last, result, {"sentence": sentence}, [])


def document(begin: int, end: int, result: str, sentence: str = "0") -> tuple[Any, ...]:
    return ("document", begin, end, result, {"sentence": sentence}, [])


def read(model: Any = None, **params: Any) -> list[Any]:
    """Assembler, tokenizer and sentence detector."""
    return [
        DocumentAssembler().setInputCol("text").setOutputCol("document"),
        SentenceDetector().setInputCols(["document"]).setOutputCol("sentence"),
        Tokenizer().setInputCols(["sentence"]).setOutputCol("token"),
    ]


def test_the_snippet_of_the_card_runs_with_other_imports(spark: Any, bundled: Path) -> None:
    example = frame(spark, "I like you. I love you.", f"It is {FACE} (bad)!", "", None)
    document_assembler = DocumentAssembler().setInputCol("text").setOutputCol("document")
    tokenizer = Tokenizer().setInputCols(["document"]).setOutputCol("token")
    with pytest.warns(match="distilbert_sequence_classifier_sst2 is not what Spark NLP has .* the bundled model"):
        classifier = (
            DistilBertForSequenceClassification.pretrained("distilbert_sequence_classifier_sst2", "en")
            .setInputCols(["token", "document"])
            .setOutputCol("class")
            .setMaxSentenceLength(512)
        )
    with pytest.warns(match="texts are cut at 512 tokens"):
        result = Pipeline(stages=[document_assembler, tokenizer, classifier]).fit(example).transform(example).cache()
    assert [row.result for row in result.select("class.result").collect()] == [
        ["POSITIVE"],
        ["NEGATIVE"],
        [],
        [],
    ]
    for name, kind in (("document", "document"), ("token", "token"), ("class", "category")):
        field = result.schema[name]
        assert (field.dataType, field.nullable, field.metadata) == (ANNOTATIONS, True, {"annotatorType": kind})
    assert column(result, "document") == [
        [document(0, 22, "I like you. I love you.")],
        [document(0, 14, f"It is {FACE} (bad)!")],
        [],
        [],
    ]
    words = [*zip((0, 2, 7, 10, 12, 14, 19, 22), "I like you . I love you .".split(), strict=True)]
    assert column(result, "token") == [
        [token(begin, word) for begin, word in words],
        [token(0, "It"), token(3, "is"), token(6, FACE, end=7), token(9, "("), token(10, "bad"), token(13, ")!")],
        [],
        [],
    ]
    answers = npdistil.pipeline("text-classification", threads=1)(
        ["I like you. I love you.", f"It is {FACE} (bad)!"], top_k=None
    )
    assert column(result, "class") == [
        [("category", 0, end, answer[0]["label"], {"sentence": "0"} | scores(answer), [])]
        for end, answer in zip((22, 14), answers, strict=True)
    ] + [[], []]


def scores(answer: Any) -> dict[str, str]:
    return {each["label"]: str(each["score"]) for each in answer}


def test_sentences_are_annotated_one_by_one_or_averaged(spark: Any, make: Make) -> None:
    text = f"  {FACE} It is good. I hate it!\nbad"
    stage = DistilBertForSequenceClassification(model=make(), inputCols=["sentence", "token"], outputCol="class")
    data = frame(spark, text)
    result = Pipeline(stages=[*read(), stage]).fit(data).transform(data).cache()
    assert column(result, "sentence") == [
        [document(2, 15, f"{FACE} It is good.", "0"), document(17, 26, "I hate it!", "1"), document(28, 30, "bad", "2")]
    ]
    assert [(*each[1:3], each[4]["sentence"]) for each in column(result, "token")[0]][-4:] == [
        (19, 22, "1"), (24, 25, "1"), (26, 26, "1"), (28, 30, "2"),
    ]  # fmt: skip
    parts = [f"{FACE} It is good.", "I hate it!", "bad"]
    answers = npdistil.pipeline("text-classification", stage.getModel(), threads=1)(parts, top_k=None)
    assert column(result, "class") == [
        [
            ("category", begin, end, answer[0]["label"], {"sentence": str(i)} | scores(answer), [])
            for i, (begin, end, answer) in enumerate(zip((2, 17, 28), (15, 26, 30), answers, strict=True))
        ]
    ]
    one = column(stage.setCoalesceSentences(True).setOutputCol("all").transform(result), "all")[0]
    assert [each[:3] for each in one] == [("category", 2, 15)]
    means = {label: np.mean([float(scores(answer)[label]) for answer in answers]) for label in ("NEGATIVE", "POSITIVE")}
    assert one[0][3] == max(means, key=lambda label: float(means[label]))
    assert {label: float(one[0][4][label]) for label in means} == pytest.approx(means)


def test_sigmoid_gives_every_label_above_the_threshold_and_softmax_ignores_it(spark: Any, make: Make) -> None:
    model, data = make(id2label={str(i): f"class {i}" for i in range(4)}), frame(spark, "good film", "bad")
    stage = DistilBertForSequenceClassification(model=model, inputCols=["text"], outputCol="class")
    assert (stage.getMultilabel(), stage.setMultilabel(True).getMultilabel()) == (False, True)
    answers = npdistil.pipeline("text-classification", model, threads=1, function_to_apply="sigmoid")(
        ["good film", "bad"], top_k=None
    )
    for threshold in (None, 0.45):
        found = column(stage.setThreshold(threshold).transform(data), "class")
        assert [[each[3] for each in row] for row in found] == [
            [label for label in stage.getClasses() if float(scores(answer)[label]) > (threshold or 0.5)]
            for answer in answers
        ]  # in the model's order, not best first
    found = column(stage.setMultilabel(False).setThreshold(0.99).transform(data), "class")
    assert [len(row) for row in found] == [1, 1]


def test_texts_are_cut_at_128_tokens_and_say_so(spark: Any, make: Make) -> None:
    long = "good film " * 12 + "i hate it! " * 12
    stage = DistilBertForSequenceClassification(model=make(), inputCols=["text"], outputCol="class")
    assert (stage.getMaxSentenceLength(), stage.getLongText()) == (128, "truncate")
    with pytest.warns(match="cut at 24 tokens .*; their annotations have truncated in the metadata; setLongText"):
        data = stage.transform(frame(spark, long, "good"))
    (cut,), (whole,) = column(data, "class")
    assert cut[4]["truncated"] == "true"
    assert "truncated" not in whole[4]
    (read_all,) = column(stage.setLongText("windows").transform(frame(spark, long)), "class")[0]
    assert "truncated" not in read_all[4]
    assert read_all[4]["POSITIVE"] != cut[4]["POSITIVE"]
    with pytest.raises(InputError, match="maxSentenceLength is 513; expected a whole number from 4 to 24"):
        stage.setMaxSentenceLength(513).transform(frame(spark, long))


def test_texts_that_are_cut_show_it_without_annotations_too(spark: Any, make: Make) -> None:
    data, model = frame(spark, "good film " * 12, "good", None), make()
    stage = DistilBertForSequenceClassification(model=model, longText="truncate", truncatedCol="cut")
    with pytest.warns(match="cut at 24 tokens .*; column truncatedCol says which; setLongText"):
        found = stage.transform(data)
    assert [*found.columns] == ["id", "text", "label", "score", "scores", "cut"]
    assert [row.cut for row in found.collect()] == [True, False, None]
    with pytest.raises(InputError, match='truncatedCol is cut; that column comes with longText="truncate" alone'):
        stage.setCoalesceSentences(True).transform(data)
    embed = DistilBertEmbeddings(model=model, longText="truncate", maxSentenceLength=8)
    with pytest.warns(match="DistilBertEmbeddings: longer texts are cut at 8 tokens .*; no column says which"):
        embed.transform(data)
    vectors = column(embed.setInputCols("text").setOutputCol("v").transform(data), "v")
    assert [[each[4] for each in row] for row in vectors] == [
        [{"sentence": "0", "truncated": "true"}],
        [{"sentence": "0"}],
        [],
    ]


def test_every_token_gets_its_label_and_its_vector(spark: Any, make: Make) -> None:
    labels = {str(i): name for i, name in enumerate(["O", "B-PER", "I-PER"])}
    tagger = make(architectures=["DistilBertForTokenClassification"], id2label=labels)
    text = f"{FACE} john's film, caf\u00e9!"
    words = [(0, 1, FACE), (3, 8, "john's"), (10, 13, "film"), (14, 14, ","), (16, 19, "caf\u00e9"), (20, 20, "!")]
    data = Pipeline(stages=read()).fit(frame(spark, text)).transform(frame(spark, text)).cache()
    stage = DistilBertForTokenClassification(model=tagger, inputCols=["sentence", "token"], outputCol="ner")
    found = column(stage.transform(data), "ner")[0]
    assert [(*each[:3], each[4]["word"]) for each in found] == [("named_entity", *word) for word in words]
    model = npdistil.load(tagger, threads=1)
    encoding = model.tokenizer.encode(text)
    starts = [0, 2, 9, 13, 15, 19]  # of the words, in characters
    pieces = [next(i for i, (a, b) in enumerate(encoding.offsets) if a == start and a < b) for start in starts]
    logits = model.forward(npdistil.batch.Inputs([encoding.ids], [1])).values[0][pieces].astype(float)
    assert [each[3] for each in found] == [[*labels.values()][i] for i in logits.argmax(axis=1)]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = [[float(each[4][label]) for label in labels.values()] for each in found]
    np.testing.assert_allclose(given, expected, rtol=1e-12)
    bare = make(architectures=["DistilBertModel"])
    embed = DistilBertEmbeddings(model=bare, inputCols=["sentence", "token"], outputCol="vectors")
    assert embed.getDimension() == 8
    vectors = column(embed.transform(data), "vectors")[0]
    assert [each[:4] for each in vectors] == [("word_embeddings", *word) for word in words]
    states = npdistil.load(bare, threads=1).hidden_states([encoding.ids])[0][pieces]
    assert np.array([each[5] for each in vectors], np.float32).tobytes() == states.tobytes()
    unknown = model.tokenizer.token_to_id("[UNK]")
    assert [each[4] for each in vectors] == [
        {
            "sentence": "0",
            "token": word,
            "pieceId": str(encoding.ids[piece]),
            "isWordStart": "true",
            "isOOV": str(encoding.ids[piece] == unknown).lower(),
        }
        for (_, _, word), piece in zip(words, pieces, strict=True)
    ]
    with pytest.warns(
        match="TokenClassification: longer texts are cut at 4 tokens .*; sentences of a SentenceDetector"
    ):
        short = stage.setMaxSentenceLength(4).transform(data)
    assert [each[3:5] for each in column(short, "ner")[0]][-1][1]["truncated"] == "true"
    assert len(column(short, "ner")[0]) == 2  # two pieces are left


def test_a_vector_a_text_and_finishers_for_other_stages(spark: Any, make: Make) -> None:
    bare = make(architectures=["DistilBertModel"])
    texts = ["good film", "bad film", "good movie", "bad movie"]
    data = frame(spark, *texts)
    embed = DistilBertEmbeddings(model=bare, inputCols=["document"], outputCol="vectors")
    finisher = EmbeddingsFinisher().setInputCols("vectors").setOutputCols("finished").setOutputAsVector(True)
    result = Pipeline(stages=[read()[0], embed, finisher]).fit(data).transform(data).cache()
    expected = npdistil.Embedder(npdistil.load(bare, threads=1)).transform(texts)
    assert np.array([each[0][5] for each in column(result, "vectors")], np.float32).tobytes() == expected.tobytes()
    found = [row.finished[0].toArray() for row in result.collect()]
    assert np.array(found, np.float32).tobytes() == expected.tobytes()
    plain = DistilBertEmbeddings(model=bare, outputAsVector=True, outputCol="features").transform(data).cache()
    clusters = KMeans(k=2, seed=1).fit(plain).transform(plain)
    assert {row.prediction for row in clusters.collect()} == {0, 1}
    with pytest.raises(InputError, match="no column of embeddings 'document'"):
        EmbeddingsFinisher(inputCols=["document"]).transform(result)


def test_a_finisher_gives_results_as_arrays_or_strings(spark: Any, make: Make) -> None:
    data = frame(spark, "good film. bad", None)
    result = Pipeline(stages=read()).fit(data).transform(data).cache()
    done = Finisher().setInputCols(["token", "sentence"]).transform(result)
    assert done.columns == ["id", "text", "finished_token", "finished_sentence"]
    assert [row.finished_token for row in done.collect()] == [["good", "film", ".", "bad"], []]
    one = Finisher(inputCols=["sentence"], outputCols=["s"], outputAsArray=False, cleanAnnotations=False)
    assert [row.s for row in one.transform(result).collect()] == ["good film.@bad", ""]
    one.setIncludeMetadata(True)
    described = [row.s for row in one.transform(result).collect()]
    assert described == ["sentence->0#result->good film.@sentence->1#result->bad", ""]
    one.setOutputAsArray(True)
    assert [[(*each,) for each in row.s_metadata] for row in one.transform(result).collect()] == [
        [("sentence", "0"), ("sentence", "1")],
        [],
    ]


def test_questions_and_choices(spark: Any, make: Make) -> None:
    pairs = [("what is it?", f"{FACE} paris is good"), ("who?", None)]
    data = spark.createDataFrame(
        [(i, *pair) for i, pair in enumerate(pairs)], "id long, question string, context string"
    )
    assembler = MultiDocumentAssembler().setInputCols(["question", "context"]).setOutputCols(["q", "c"])
    model = make(architectures=["DistilBertForQuestionAnswering"])
    qa = DistilBertForQuestionAnswering(model=model, inputCols=["q", "c"], outputCol="answer")
    expected: Any = npdistil.pipeline("question-answering", model, threads=1)(question=pairs[0][0], context=pairs[0][1])
    found = column(Pipeline(stages=[assembler, qa]).fit(data).transform(data), "answer")
    shift = {at: at + (at > 0) for at in range(20)}  # the face is one character and two units
    about = {"sentence": "0", "chunk": "0", "score": str(expected["score"])}
    about |= {name: str(shift[expected[name]]) for name in ("start", "end")}
    length = len(expected["answer"].encode("utf-16-le")) // 2
    assert found == [[("chunk", 0, length - 1, expected["answer"], about, [])], []]
    model = make(architectures=["DistilBertForMultipleChoice"])
    options = spark.createDataFrame(
        [(0, "where is it?", f"paris {FACE}||film {FACE}||||"), (1, None, "a||b"), (2, "who?", "||")],
        "id long, q string, c string",
    )
    stage = DistilBertForMultipleChoice(model=model, inputCols=["q", "c"], outputCol="choice", choicesDelimiter="||")
    chosen: Any = npdistil.pipeline("multiple-choice", model, threads=1)(
        {"text": "where is it?", "choices": [f"paris {FACE}", f"film {FACE}"]}
    )
    about = {"sentence": "0", "chunk": "0", "score": str(max(chosen["scores"]))}
    assert column(stage.transform(options), "choice") == [
        [("chunk", 0, len(chosen["text"]), chosen["text"], about, [])],  # a character more, of two units
        [],
        [],
    ]
    with pytest.raises(InputError, match="choicesDelimiter is ''; expected some characters"):
        stage.setChoicesDelimiter("")


def test_answers_are_measured_in_utf16_units(spark: Any, make: Make) -> None:
    model = make(architectures=["DistilBertForQuestionAnswering"])
    qa = DistilBertForQuestionAnswering(model=model, inputCols=["q", "c"], outputCol="answer")
    data = spark.createDataFrame([(0, "what?", f"{FACE * 3}")], "id long, q string, c string")  # a single token
    ((found,),) = column(qa.transform(data), "answer")
    assert found[:4] == ("chunk", 0, 5, FACE * 3)
    assert (found[4]["start"], found[4]["end"]) == ("0", "6")


def test_zero_shot_annotations_have_bare_labels_as_hypotheses(spark: Any, make: Make) -> None:
    model = make(id2label={"0": "contradiction", "1": "neutral", "2": "entailment"}, max_position_embeddings=64)
    stage = DistilBertForZeroShotClassification(model=model, candidateLabels=["film", "food"], inputCols=["text"])
    expected: Any = npdistil.pipeline("zero-shot-classification", model, threads=1)(
        "good film", candidate_labels=["film", "food"], hypothesis_template="{}"
    )
    about = {"sentence": "0"} | {a: str(b) for a, b in zip(expected["labels"], expected["scores"], strict=True)}
    assert column(stage.setOutputCol("class").transform(frame(spark, "good film")), "class") == [
        [("category", 0, 8, expected["labels"][0], about, [])]
    ]


@pytest.mark.parametrize(
    ("params", "text", "expected"),
    [
        ({}, 'We didn\'t, (really) say... "no"!?', 'We didn\'t , ( really ) say ... " no "!?'),
        ({"contextChars": [","]}, "a, b. (c)", "a , b. (c)"),
        ({"splitChars": ["-"]}, "long-term x", "long term x"),
        ({"splitPattern": r"[/-]"}, "a/b-c", "a b c"),
        ({"exceptions": ["New York", "e-mail"]}, "in New York, e-mail", "in New_York, e-mail"),
        ({"exceptions": ["new york"], "caseSensitiveExceptions": False}, "in New York", "in New_York"),
        ({"minLength": 2, "maxLength": 3}, "a bc def ghij", "bc def"),
        ({"infixPatterns": [r"(\w+)('s)"], "suffixPattern": r"([^\s\w]*)\z"}, "Jane's!", "Jane 's !"),
        ({"targetPattern": r"\d+"}, "a1b22", "1 22"),
        ({"contextChars": []}, "a, b.", "a, b."),
    ],
    ids=str,
)
def test_tokens_are_those_of_the_rules(params: dict[str, Any], text: str, expected: str) -> None:
    stage = Tokenizer(inputCols=["text"], outputCol="token", **params)
    (row,) = stage.of_plain({"text": [text]}, {"text": "string"})["token"]
    assert [each.result for each in row] == [each.replace("_", " ") for each in expected.split(" ")]
    assert all(text[each.begin : each.end + 1] == each.result for each in row)


def test_exceptions_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "exceptions.txt").write_text("New York\n\ne-mail\n")
    stage = Tokenizer(exceptions=["a b"]).setExceptionsPath(tmp_path / "exceptions.txt")
    assert stage.getExceptions() == ["New York", "e-mail", "a b"]
    with pytest.raises(InputError, match="nothing.txt cannot be read: .*No such file"):
        stage.setExceptionsPath(tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["One. ", "Two", "three|four"]),
        ({"customBounds": [r"\|"]}, ["One.", "Two", "three", "four"]),
        ({"customBounds": [r"\|"], "useCustomBoundsOnly": True}, ["One. Two\nthree", "four"]),
        ({"customBounds": [r"\|"], "customBoundsStrategy": "prepend"}, ["One.", "Two", "three", "|four"]),
        ({"customBounds": [r"\|"], "customBoundsStrategy": "append"}, ["One.", "Two", "three|", "four"]),
        ({"splitLength": 4}, ["One.", "Two", "thre", "e|fo", "ur"]),
        ({"minLength": 4, "maxLength": 4}, ["One."]),
    ],
    ids=str,
)
def test_sentences_are_those_of_the_rules(spark: Any, params: dict[str, Any], expected: list[str]) -> None:
    text = "One. Two\nthree|four"
    stage = SentenceDetector(inputCols=["text"], outputCol="sentence", **params)
    (row,) = column(stage.transform(frame(spark, text)), "sentence")
    assert [each[3] for each in row] == [each.strip() for each in expected]
    assert [text[each[1] : each[2] + 1] for each in row] == [each[3] for each in row]
    assert [each[4] for each in row] == [{"sentence": str(i)} for i in range(len(row))]
    exploded = stage.setExplodeSentences(True).transform(frame(spark, text))
    assert [len(row.sentence) for row in exploded.collect()] == [1] * len(expected)
    assert exploded.schema["sentence"].metadata == {"annotatorType": "document"}


def test_documents_are_cleaned_and_have_ids_and_metadata(spark: Any) -> None:
    data = spark.createDataFrame(
        [(0, " a\t b\n", "x", {"k": "v"})], "id long, text string, key string, more map<string,string>"
    )
    for mode, expected in {
        "disabled": " a\t b\n",
        "inplace": " a  b ",
        "shrink": "a b",
        "each": " a\t b\n",
    }.items():
        stage = DocumentAssembler(inputCol="text", idCol="key", metadataCol="more", cleanupMode=mode)
        about = {"k": "v", "id": "x", "sentence": "0"}
        assert column(stage.transform(data), "document") == [[("document", 0, len(expected) - 1, expected, about, [])]]
    several = spark.createDataFrame([(0, ["a", "b"])], "id long, text array<string>")
    assert column(DocumentAssembler(inputCol="text").transform(several), "document") == [
        [document(0, 0, "a"), document(0, 0, "b", "1")]
    ]


def test_a_light_pipeline_gives_what_spark_does(spark: Any, make: Make) -> None:
    stage = DistilBertForSequenceClassification(model=make(), inputCols=["sentence", "token"], outputCol="class")
    texts = ["It is good. I hate it!", f"{FACE} bad", None]
    data = frame(spark, *texts)
    model = Pipeline(stages=[*read(), stage, Finisher(inputCols=["class"])]).fit(data)
    light = LightPipeline(model)
    in_spark = PipelineModel(model.stages[:-1]).transform(data).collect()
    assert light.fullAnnotate(texts) == [{"class": [Annotation.of(each) for each in row["class"]]} for row in in_spark]
    assert light.annotate(texts) == [{"class": [each.result for each in row["class"]]} for row in in_spark]
    assert light.annotate(texts[0]) == light.annotate(texts)[0]
    assert light.annotate([None]) == [{"class": []}]
    assert light.annotate([]) == []
    for wrong in (3, None, [3], {"a": 1}):
        with pytest.raises(InputError, match="expected a string or a list of strings, found"):
            light.annotate(wrong)
    with pytest.raises(InputError, match="expected as many texts for each of text"):
        light.annotate("a", "b")
    assert [*LightPipeline(PipelineModel(model.stages[:-1]), output_cols=["token"]).annotate("a")] == ["token"]
    with pytest.raises(InputError, match="expected a PipelineModel, found a Pipeline; what `fit` gives is one"):
        LightPipeline(Pipeline(stages=model.stages))


def test_a_saved_stage_carries_its_model(spark: Any, make: Make, tmp_path: Path) -> None:
    model = make()
    stage = DistilBertForSequenceClassification(model=model, inputCols=["text"], outputCol="class")
    data = frame(spark, "good film", "bad")
    before = column(stage.transform(data), "class")
    for saved, kind in ((stage, type(stage)), (Pipeline(stages=[stage]).fit(data), PipelineModel)):
        path = str(tmp_path / kind.__name__)
        saved.write().overwrite().save(path)
        loaded = kind.load(path)
        model.rename(tmp_path / "elsewhere")
        assert column(loaded.transform(data), "class") == before
        assert column(loaded.copy().transform(data), "class") == before
        again = loaded.stages[0] if kind is PipelineModel else loaded
        with pytest.raises(CheckpointError, match="is not a directory with a model"):
            again.copy({again.getParam("model"): str(model)}).transform(data)
        again.write().overwrite().save(path + "-again")  # from what it carries
        assert column(kind.load(path).transform(data), "class") == before
        with pytest.raises(CheckpointError, match="is not a directory with a model"):
            again.setModel(model).transform(data)
        (tmp_path / "elsewhere").rename(model)


def test_a_model_that_changes_is_read_again_or_refused(spark: Any, make: Make) -> None:
    model, other = make(), make(seed=7)
    stage = DistilBertForSequenceClassification(model=model, inputCols=["text"], outputCol="class")
    data = frame(spark, "good film")
    before, late = column(stage.transform(data), "class"), stage.transform(data)
    (model / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(Exception, match="is not what it was when the stage was applied: transform again"):
        late.collect()  # in a worker that has the old model still, too
    after = column(stage.transform(data), "class")
    assert after != before
    assert after == column(stage.copy().setModel(other).transform(data), "class")
    (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | {"x": 1}))
    fresh = spark.newSession().createDataFrame([(0, "good film")], "id long, text string")
    assert column(stage.transform(fresh), "class") == after


def test_models_are_read_through_spark_where_a_uri_says_so(spark: Any, make: Make) -> None:
    model = make()
    data = frame(spark, "good film")
    expected = column(DistilBertForSequenceClassification(model=model, inputCols=["text"]).transform(data), "scores")
    for name in (model.as_uri(), f"file:{model}"):
        stage = DistilBertForSequenceClassification(model=name, inputCols=["text"])
        assert column(stage.transform(data), "scores") == expected
    from npdistil.spark import files

    (model / "more").mkdir()
    (model / "more" / "config.json").write_text("{}")
    (model / "weights.bin").write_text("not wanted")
    fetched = files._fetched(f"file:{model}", spark)
    assert tree(fetched) == {name: content for name, content in tree(model).items() if name != "weights.bin"}
    with pytest.raises(CheckpointError, match="s3://bucket/model cannot be read by Spark: .*s3"):
        DistilBertForSequenceClassification(model="s3://bucket/model").transform(data)
    empty = model / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match="has no files of a model"):
        files._fetched(f"file:{empty}", spark)


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", ["hdfs://namenode:8020/models", "s3a://bucket/models", "dbfs:/models"])
def test_models_and_saved_stages_lie_on_file_systems_of_spark(
    spark: Any, make: Make, tmp_path: Path, place: str
) -> None:
    """Hadoop's own stand-in for a file system: its names, on this disk."""
    scheme, table = place.split(":")[0], (urlsplit(place).hostname or "default")
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set(f"fs.{scheme}.impl", "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme")
    hadoop.set(f"fs.{scheme}.impl.disable.cache", "true")
    hadoop.set(f"fs.viewfs.mounttable.{table}.link./models", tmp_path.as_uri())
    model, data = make(), frame(spark, "good film")
    stage = DistilBertForSequenceClassification(model=model)
    expected = stage.transform(data).collect()
    remote = DistilBertForSequenceClassification(model=f"{place}/{model.name}")
    assert remote.transform(data).collect() == expected
    if scheme == "hdfs":  # that of S3 has its own way to write
        for _ in range(2):
            remote.write().overwrite().save(f"{place}/saved")
        assert DistilBertForSequenceClassification.load(f"{place}/saved").transform(data).collect() == expected
    model.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=re.escape(f"{place}/{model.name} cannot be read by Spark: ")):
        remote.transform(data)


def test_columns_with_dots_and_case_and_twice_the_same_name(spark: Any, make: Make) -> None:
    stage = DistilBertForSequenceClassification(model=make(), inputCol="a.b", labelCol="l.x")
    data = spark.createDataFrame([("good",)], "`a.b` string")
    assert stage.transform(data).columns == ["a.b", "l.x", "score", "scores"]
    assert stage.transform(data).collect()[0]["l.x"] in ("NEGATIVE", "POSITIVE")
    assert stage.setInputCol("A.B").transform(data).collect()[0]["score"] > 0
    with pytest.raises(InputError, match="there is a column 'A.b' already"):
        stage.setLabelCol("A.b").transform(data)
    annotated = DocumentAssembler(inputCol="A.B", outputCol="d.d").transform(data)
    stage = DistilBertForSequenceClassification(model=stage.getModel(), inputCols=["D.D"], outputCol="c.c")
    finished = Finisher(inputCols=["C.c"], outputCols=["f.f"]).transform(stage.transform(annotated))
    assert finished.columns == ["a.b", "f.f"]
    assert finished.collect()[0][1][0] in ("NEGATIVE", "POSITIVE")


def test_two_columns_of_the_same_name_stay(spark: Any, make: Make) -> None:
    stage = DistilBertForSequenceClassification(model=make())
    twice = spark.sql("select 'good. bad' as text, 1 as n, 2 as n")
    assert stage.transform(twice).columns == ["text", "n", "n", "label", "score", "scores"]
    assert stage.transform(twice).collect()[0][:3] == ("good. bad", 1, 2)
    exploded = SentenceDetector(inputCols=["text"], outputCol="s", explodeSentences=True).transform(twice)
    assert [(*row[:3], *(each.result for each in row[3])) for row in exploded.collect()] == [
        ("good. bad", 1, 2, "good."),
        ("good. bad", 1, 2, "bad"),
    ]
    with pytest.raises(InputError, match="2 columns 'n'"):
        stage.setInputCol("n").transform(spark.sql("select 'good' as n, 'bad' as n"))


def test_a_row_that_is_refused_is_shown(spark: Any, make: Make) -> None:
    stage = DistilBertForSequenceClassification(model=make(), longText="error", maxSentenceLength=4)
    with pytest.raises(Exception, match="the row with 'it is the bad film': text 0 has 7 tokens; 4 are allowed"):
        stage.transform(frame(spark, "a", "it is the bad film", "b")).collect()


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (lambda: DistilBertForTokenClassification(inputCols=["text"], outputCol="x"), "need a column of type token"),
        (lambda: Tokenizer(inputCols=["id"], outputCol="x"), r"of type document; they are id \(bigint\)"),
        (lambda: Tokenizer(outputCol="x"), "inputCols is not set"),
        (lambda: Tokenizer(inputCols=["text"]), "outputCol is not set"),
        (lambda: Tokenizer(inputCols=["nothing"], outputCol="x"), "no column 'nothing'; there are id, text"),
        (lambda: DocumentAssembler(inputCol="id"), "column 'id' is bigint, not string"),
        (lambda: DocumentAssembler(inputCol="text", cleanupMode="all"), "cleanupMode is 'all'; known are disabled"),
        (lambda: MultiDocumentAssembler(inputCols=["text"], outputCols=["a", "b"]), "inputCols are 1 and outputCols 2"),
        (lambda: Finisher(inputCols=["text"]), "no column of annotations 'text'"),
        (lambda: DocumentAssembler().setOutputCol("a", "b"), "outputCol takes one value, and 2 were given"),
        (lambda: DistilBertForQuestionAnswering(), "inputCols is not set"),
        (lambda: DistilBertForSequenceClassification(labelCol=None), "labelCol is None; expected a string"),
        (lambda: Tokenizer(targetPattern="("), r"targetPattern is '\('; expected a regular expression"),
        (
            lambda: Tokenizer(suffixPattern=r"(\.)\z", splitChars=["*"]),
            r"splitChars is \['\*'\]; expected a list of reg",
        ),
        (lambda: SentenceDetector(customBounds=["("]), r"customBounds is \['\('\]; expected a list of regular"),
        (lambda: Tokenizer(inputCols=["text"]).setOutputCol(None), "outputCol is None; expected a string"),
        (lambda: DistilBertEmbeddings.pretrained("x", remote_loc="s3://x"), "remote_loc is 's3://x'"),
    ],
)
def test_mistakes_are_refused_on_the_driver(spark: Any, stage: Callable[[], Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        stage().transform(frame(spark, "a"))


def test_a_getter_says_what_the_model_does_with_case(make: Make) -> None:
    assert DistilBertForSequenceClassification(model=make()).getCaseSensitive() is False
    assert DistilBertForSequenceClassification().setCaseSensitive(True).getCaseSensitive() is True
    assert DistilBertForSequenceClassification.loadSavedModel(make()).getClasses() == ["NEGATIVE", "POSITIVE"]


def test_functions_for_sql(spark: Any, make: Make) -> None:
    model = make()
    register(spark, model, batchSize=2)
    texts = ["good film", "bad", None, ""]
    frame(spark, *texts).createOrReplaceTempView("reviews")
    found = spark.sql(
        "SELECT npdistil_label(text) AS label, npdistil_scores(text) AS scores, npdistil_embed(text) AS vector "
        "FROM reviews ORDER BY id"
    ).collect()
    given = [text for text in texts if text]
    answers = iter(npdistil.pipeline("text-classification", model, threads=1)(given, top_k=None))
    vectors = iter(npdistil.Embedder(npdistil.load(model, threads=1)).transform(given))
    for text, row in zip(texts, found, strict=True):
        if not text:
            assert (row.label, row.scores, row.vector) == (None, None, None)
            continue
        answer = next(answers)
        assert (row.label, row.scores) == (answer[0]["label"], {each["label"]: each["score"] for each in answer})
        assert np.array(row.vector, np.float32).tobytes() == next(vectors).tobytes()
    assert spark.sql("SELECT npdistil_label(NULL)").collect()[0][0] is None
    for other in ("3", "array('a')"):
        with pytest.raises(Exception, match="expected a column of strings, found "):
            spark.sql(f"SELECT npdistil_label({other})").collect()
    with pytest.raises(InputError, match="unknown parameter: outputCol; known are batchSize, engine, precision"):
        register(spark, model, outputCol="x")
