"""A job on two executor processes, for test_spark.py: `cluster.py MODEL ROWS TEXTS`, answers as JSON lines."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark import TaskContext

from npdistil.spark import DistilBertForSequenceClassification, session


def executors() -> dict[str, int]:
    """Executor -> process, of those that descend from this one."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"org.apache.spark.executor.CoarseGrainedExecutorBackend" in words and application.encode() in words:
            found[words[words.index(b"--executor-id") + 1].decode()] = int(path.parent.name)
    return found


model, count, texts = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
settings = {
    "spark_ui_enabled": False,
    "spark_sql_execution_arrow_maxRecordsPerBatch": 100,
    "spark_shuffle_io_retryWait": "100ms",  # or tasks ask the dead executor for its files for 15 seconds
}
spark = session("local-cluster[2,1,1024]", **settings)
spark.sparkContext.setLogLevel("OFF")
application = spark.sparkContext.applicationId
killing = Path.cwd() / "killed"  # a file, there as soon as it is done


def held_up(batches: Iterator[Any]) -> Iterator[Any]:
    """The first four tasks are done before an executor is killed, and others after it."""
    while TaskContext.get().partitionId() > 3 and not killing.exists():
        time.sleep(0.02)
    yield from batches


data = spark.createDataFrame([(i, f"{i} {texts[i % len(texts)]}") for i in range(count)], "id long, text string")
stage = DistilBertForSequenceClassification(model=str(model))
scored = stage.transform(data.repartition(24, "id").mapInArrow(held_up, data.schema))
shutil.rmtree(model)  # it travels with the job
killed: list[int] = []
seen: dict[str, int] = {}


def watch() -> None:
    """Kill the executor that started last as soon as four tasks are done."""
    tracker = spark.sparkContext.statusTracker()
    while running:
        stages = [tracker.getStageInfo(each) for each in tracker.getActiveStageIds()]
        seen.update(executors())
        if not killed and any(each and each.numTasks == 24 and each.numCompletedTasks == 4 for each in stages):
            killed.append(seen[max(seen)])
            os.kill(killed[0], signal.SIGKILL)
            killing.touch()
        time.sleep(0.02)


running = True
thread = threading.Thread(target=watch)
thread.start()
rows = scored.select("id", "label", "score").collect()
running = False
thread.join()
print(json.dumps({"executors": seen, "killed": killed[0] if killed else None}))
for row in sorted(rows, key=lambda row: row.id):
    print(json.dumps(row.asDict()))
spark.stop()
