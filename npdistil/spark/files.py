"""Models' files between Spark's own file systems, the driver's disk, the executors' and saved stages."""

import atexit
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

from ..checkpoint.hub import WANTED, find_model
from ..errors import CheckpointError

URI = re.compile(r"([a-z][a-z0-9+.-]+):/")
CHUNK = 1 << 25  # bytes of a file that travel at once: a task's data may have 128 MiB


def files_of(directory: str | os.PathLike[str]) -> list[Path]:
    """The files of a directory that a model can consist of."""
    found = (path for path in Path(directory).rglob("*") if any(fnmatch(path.name, each) for each in WANTED))
    return sorted(path for path in found if path.is_file())


def fingerprint(directory: str | os.PathLike[str], times: bool = True) -> str:
    """What changes when a model's files do: a digest of their names, sizes and, if they mean anything, times."""
    state = []
    for path in files_of(directory):
        status = path.stat()
        state.append((str(path.relative_to(directory)), status.st_size, status.st_mtime_ns if times else 0))
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def on_driver(model: str | None, spark: Any = None) -> Path:
    """A model's directory on the driver's disk; of a URI the files are fetched through Spark.

    Raises:
        CheckpointError: Spark cannot read the URI; and what `find_model` raises.
    """
    scheme = URI.match(model or "")
    if not model or not scheme:
        return find_model(model)
    if scheme[1] == "file":
        return Path(re.sub("^file:/+", "/", model))
    if spark is None:
        raise CheckpointError(f"{model} is read through Spark, and there is no session yet: make one first")
    return _fetched(model, spark)


def _fetched(uri: str, spark: Any) -> Path:
    """A directory with the files of another file system; fetched again when they have changed."""
    with _said_by_spark(uri):
        read = spark.read.format("binaryFile").option("pathGlobFilter", f"{{{','.join(WANTED)}}}")
        files = read.option("recursiveFileLookup", "true").load(uri)
        state = sorted(map(tuple, files.select("path", "length", "modificationTime").collect()))
        if not state:
            raise CheckpointError(f"{uri} has no files of a model ({', '.join(WANTED)})")
        target = _scratch() / hashlib.sha256(repr(state).encode()).hexdigest()[:16]
        if not target.exists():
            root = min((path.rpartition("/")[0] for path, *_ in state), key=len)  # of the files that are least deep
            found = files.select("path", "content").toLocalIterator()
            _write(target, ((path[len(root) + 1 :], content) for path, content in found))
    return target


def store(directory: Path, path: str, spark: Any) -> None:
    """Write a model's files as Parquet: what Spark can write to each of its file systems, and through a connection."""
    mode = "overwrite"
    for rows in _together(_parts(directory)):
        frame = spark.createDataFrame(rows, "name string, part int, content binary")
        frame.write.option("compression", "none").mode(mode).parquet(path)
        mode = "append"


def _parts(directory: Path) -> Iterator[tuple[str, int, bytes]]:
    for file in files_of(directory):
        with file.open("rb") as stream:
            for part, content in enumerate(iter(partial(stream.read, CHUNK), b"")):
                yield str(file.relative_to(directory)), part, content


def _together(parts: Iterable[tuple[str, int, bytes]]) -> Iterator[list[tuple[str, int, bytes]]]:
    """Small files in one job."""
    rows: list[tuple[str, int, bytes]] = []
    for each in parts:
        if rows and sum(len(content) for *_, content in (*rows, each)) > CHUNK:
            yield rows
            rows = []
        rows.append(each)
    yield rows


def restore(path: str, spark: Any) -> Path:
    """A directory with the files that `store` wrote.

    Raises:
        CheckpointError: they are not there.
    """
    target = Path(tempfile.mkdtemp(dir=_scratch()))
    with _said_by_spark(path):
        rows = spark.read.parquet(path).orderBy("name", "part").toLocalIterator()
        _write(target, ((name, content) for name, _, content in rows))
    return target


def _write(directory: Path, parts: Iterable[tuple[str, bytes]]) -> None:
    for name, content in parts:
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as stream:
            stream.write(content)


@contextmanager
def _said_by_spark(what: str) -> Iterator[None]:
    """CheckpointError with the first line of what Spark says where it cannot read."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        cause = error.java_exception if isinstance(error, Py4JJavaError) else error
        raise CheckpointError(f"{what} cannot be read by Spark: {str(cause).strip().splitlines()[0]}") from None


def is_remote(spark: Any) -> bool:
    """Whether a session is one of Spark Connect: the server may be anywhere."""
    return ".connect." in type(spark).__module__


def sees_this_disk(spark: Any) -> bool:
    """Whether the workers do."""
    master = spark.conf.get("spark.master", "")
    return master.startswith("local") and "cluster" not in master and not is_remote(spark)


def send_along(spark: Any, directory: Path) -> str:
    """Send a model's files along with the application, for executors that do not see this disk; returns their name."""
    name = f"npdistil-{fingerprint(directory)}"
    archive = f"{_zipped(name, directory)}#{name}"
    if is_remote(spark):
        _sent(spark, archive)
    else:
        spark.sparkContext.addArchive(archive)
    return name


@lru_cache(maxsize=64)
def _sent(spark: Any, archive: str) -> None:
    spark.addArtifacts(archive, archive=True)


@cache
def _zipped(name: str, directory: Path) -> Path:
    path = _scratch() / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files_of(directory):
            archive.write(file, file.relative_to(directory))
    return path


@cache
def _scratch() -> Path:
    """A folder for as long as this process lives: executors may come for what is in it at any time."""
    path = Path(tempfile.mkdtemp(prefix="npdistil-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
