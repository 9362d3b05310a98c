"""A real Spark on this machine; not run where pyspark or Java are not installed."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MISSING = [name for name in ("pyspark", "pyarrow") if importlib.util.find_spec(name) is None]
MISSING += [] if shutil.which("java") or os.environ.get("JAVA_HOME") else ["Java"]
collect_ignore_glob = ["test_*.py"] if MISSING else []

# Workers find the test's modules nowhere; they need none. They take the Python that runs this.
os.environ["PYSPARK_PYTHON"] = sys.executable
# Every JVM, those of executors too: for jobs this short, compile quickly.
os.environ["JAVA_TOOL_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def pytest_report_header(config: pytest.Config) -> str:
    return f"spark: not tested, without {', '.join(MISSING)}" if MISSING else "spark: tested"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two cores of this machine."""
    from npdistil.spark import session

    home: Path = tmp_path_factory.mktemp("spark")
    settings = {"spark_ui_enabled": False, "spark_sql_shuffle_partitions": 2, "spark_sql_warehouse_dir": str(home)}
    found = session("local[2]", **settings)
    found.sparkContext.setLogLevel("ERROR")
    yield found
    found.stop()
