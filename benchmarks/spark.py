"""npdistil on Spark and without it: throughput, start-up of a worker, memory of one worker and of two.

`pip install ".[spark]" && python benchmarks/spark.py --out benchmarks/results/spark.json` writes the figures, and
into docs/spark.md what follows from them for a run over 1e9 texts. Texts are SST-2's.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import data
import machine
import report

import npdistil

PAGE = Path(__file__).resolve().parents[1] / "docs" / "spark.md"
TEXTS = 1e9
TASK_SECONDS = 300
NEEDS = ("npdistil", "numpy", "tokenizers", "pyspark", "pyarrow")


def main() -> None:
    parser = argparse.ArgumentParser(description="npdistil on Spark and without it.")
    parser.add_argument("--data", type=Path, default=data.default_data())
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    texts = [text for text, _ in data.sst2(options.data, "train")][: options.rows]
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(texts, options.rounds, Path(scratch))
    print(json.dumps(result, indent=1))
    if options.out:
        report.write(options.out, result)
        text = report.fill(PAGE.read_text(encoding="utf-8"), {"plan": plan(result)})
        PAGE.write_text(text, encoding="utf-8")


def plan(result: dict[str, Any]) -> str:
    """What the figures mean for a billion texts, in Markdown."""
    rate = statistics.median(result["texts a second, Spark with two workers"]) / 2
    without = statistics.median(result["texts a second, two threads"]) / 2
    hours = TEXTS / rate / 3600
    one, two = (result[f"memory of {number}"]["all"] / 1e6 for number in ("one worker", "two workers"))
    # A task should be long against its own start, and short against the whole; and lose little when it is lost.
    rows = round(rate * TASK_SECONDS, -4)
    figures: list[tuple[str, str]] = [
        ("tokens a text, special ones included", f"{result['tokens a text']:.0f}"),
        ("texts a second and core, without Spark", f"{without:,.0f}"),
        ("texts a second and core, on Spark", f"{rate:,.0f}, {result['share']:.0%} of that (median of the rounds)"),
        ("first job of a new worker, 64 texts", f"{result['first job, 64 rows, one worker']:.1f} s"),
        ("the same job when the worker has the model", f"{result['the same again']:.2f} s"),
        ("memory of one worker, and of two on one host", f"{one:.0f} MB, {two:.0f} MB (shared pages counted once)"),
        ("core hours for 1e9 such texts", f"{hours:,.0f}"),
        ("hours on 16, 64, 256 cores", ", ".join(f"{hours / cores:.1f}" for cores in (16, 64, 256))),
        (
            f"rows a partition for tasks of {TASK_SECONDS // 60} minutes",
            f"{rows:,.0f}, so {TEXTS / rows:,.0f} partitions",
        ),
        ("memory for Python on a host of 16 cores", f"{(one + 15 * (two - one)) / 1e3:.1f} GB"),
    ]
    version = result["machine"]["versions"]["pyspark"]
    what = f"The bundled model, {result['rows']:,} phrases of SST-2's training set, Spark {version}"
    head = report.measured_on(what, result, "../benchmarks/results/spark.json")
    return f"{head}\n\n{report.markdown(('measured, and what follows', ''), figures)}"


def measure(texts: list[str], rounds: int, scratch: Path) -> dict[str, Any]:
    from npdistil.spark import DistilBertForSequenceClassification, session

    spark = session("local[2]", spark_ui_enabled=False)
    spark.sparkContext.setLogLevel("ERROR")
    path = str(scratch / "texts")
    # Many small tasks rather than two: the last ones to run are then short, and no core waits long for the other.
    spark.createDataFrame([(text,) for text in texts], "text string").repartition(24).write.parquet(path)
    stage = DistilBertForSequenceClassification(batchSize=256)
    result: dict[str, Any] = {"benchmark": "spark", "machine": machine.describe(NEEDS), "rows": len(texts)}
    first = timed(lambda: run(spark, stage, [*texts[:64]], 1))
    again = [timed(lambda: run(spark, stage, [*texts[:64]], 1)) for _ in range(5)]
    result["first job, 64 rows, one worker"] = first
    result["the same again"] = statistics.median(again)
    result["memory of one worker"] = workers()
    run(spark, stage, texts[:2000], 2)
    plain, on_spark = [], []
    classify = npdistil.pipeline("sentiment-analysis", threads=2)
    classify(texts[:2000])
    encodings = classify.model.tokenizer.encode_batch(texts)
    result["tokens a text"] = statistics.mean(len(encoding.ids) for encoding in encodings)
    for _ in range(rounds):
        plain.append(len(texts) / timed(lambda: classify(texts, top_k=None)))
        writer = stage.transform(spark.read.parquet(path)).write.format("noop").mode("overwrite")
        on_spark.append(len(texts) / timed(writer.save))
    result["texts a second, two threads"] = plain
    result["texts a second, Spark with two workers"] = on_spark
    result["share"] = statistics.median(b / a for a, b in zip(plain, on_spark, strict=True))
    result["memory of two workers"] = workers()
    spark.stop()
    return result


def run(spark: Any, stage: Any, texts: list[str], partitions: int) -> None:
    frame = spark.createDataFrame([(text,) for text in texts], "text string").coalesce(partitions)
    frame = frame.repartition(partitions) if partitions > 1 else frame
    stage.transform(frame).write.format("noop").mode("overwrite").save()


def timed(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def workers() -> dict[str, Any]:
    """Bytes of Spark's Python workers that have a model: of each, and of all with shared pages counted once."""
    rss, pss = [], []
    for status in Path("/proc").glob("[0-9]*/smaps_rollup"):
        try:
            command = (status.parent / "cmdline").read_bytes()
            maps = (status.parent / "maps").read_text()
            rollup = dict(line.split()[:2] for line in status.read_text().splitlines()[1:])
        except OSError:
            continue
        if b"pyspark.daemon" in command and "compiled/kernels" in maps:
            rss.append(int(rollup["Rss:"]) * 1024)
            pss.append(int(rollup["Pss:"]) * 1024)
    return {"each": rss, "all": sum(pss)}


if __name__ == "__main__":
    main()
