"""The page about engines for data, run as it is: nulls, 5,000 rows, and the same bits as without the engine."""

import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import npdistil

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"
ROWS = 5_000
PACKAGES = {
    "pandas": "pandas",
    "Polars": "polars",
    "DuckDB": "duckdb",
    "Hugging Face datasets": "datasets",
    "Dask": "dask",
    "Ray Data": "ray",
    "Daft": "daft",
}
MISSING = {title: importlib.util.find_spec(package) is None for title, package in PACKAGES.items()}
WORDS = "a film that i liked and hated , good bad dull bright long".split()
TEXTS = [None if i % 7 == 3 else f"{WORDS[i % 13]} {WORDS[i * 5 % 13]} {i % 3001}" for i in range(ROWS)]

START = """
import sys, time
import numpy as np
{first}
texts = {texts}
if __name__ == "__main__":
    positive(["warm", None])
    start = time.perf_counter()
"""
END = """
    seconds = time.perf_counter() - start
    np.save(sys.argv[1], np.array([each if isinstance(each, float) else np.nan for each in reviews["positive"]], float))
    print(f"{seconds:.2f}")
"""


def blocks() -> tuple[str, dict[str, str]]:
    """The code that comes first, and that under each title."""
    first, *others = PAGE.read_text(encoding="utf-8").split("\n## ")
    found = {each.split("\n", 1)[0]: code(each) for each in others}
    return code(first), found


def code(text: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(block)


def test_every_section_is_run() -> None:
    assert [*blocks()[1]] == [*PACKAGES]


@pytest.fixture(scope="module")
def expected(bundled: Path) -> tuple[np.ndarray, float]:
    """What it is without an engine, and in how many seconds on one thread."""
    model = npdistil.load(bundled, threads=1)
    given = [text for text in TEXTS if text is not None]
    start = time.perf_counter()
    found = iter(model.predict_proba(given)[:, 1])
    seconds = time.perf_counter() - start
    return np.array([np.nan if text is None else next(found) for text in TEXTS]), seconds


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=pytest.mark.skipif(missing, reason=f"{PACKAGES[title]} is not installed"))
        for title, missing in MISSING.items()
    ],
)
def test_an_engine_gives_the_same_bits(
    title: str,
    expected: tuple[np.ndarray, float],
    tmp_path: Path,
) -> None:
    first, found = blocks()
    script = tmp_path / "script.py"
    indented = "".join(f"    {line}" if line.strip() else line for line in found[title].splitlines(keepends=True))
    script.write_text(START.format(first=first, texts=repr(TEXTS)) + indented + END, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "found.npy")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=500,
        cwd=tmp_path,
    )
    values, seconds = expected
    assert np.load(tmp_path / "found.npy").tobytes() == values.tobytes()
    taken = float(done.stdout.split()[-1])
    print(f"{title}: {taken:.1f} s, {seconds:.1f} s on one thread without it")
