"""The page about data tools, run as it is: nulls, 20,000 rows, and the same bits as without the tool."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import npdistil

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import data_tools

ROWS = 20_000
MISSING = {title: importlib.util.find_spec(package) is None for title, package in data_tools.PACKAGES.items()}
WORDS = "a film that i liked and hated , good bad dull bright long".split()
TEXTS = [None if i % 7 == 3 else f"{WORDS[i % 13]} {WORDS[i * 5 % 13]} {i % 3001}" for i in range(ROWS)]


def test_every_section_is_run() -> None:
    assert [*data_tools.blocks()[1]] == [*data_tools.PACKAGES]


@pytest.fixture(scope="module")
def expected(bundled: Path) -> np.ndarray:
    """What it is without a tool."""
    found = iter(npdistil.load(bundled, threads=1).predict_proba([text for text in TEXTS if text is not None])[:, 1])
    return np.array([np.nan if text is None else next(found) for text in TEXTS])


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=pytest.mark.skipif(missing, reason=f"{data_tools.PACKAGES[title]} is not installed"))
        for title, missing in MISSING.items()
    ],
)
def test_a_tool_gives_the_same_bits(title: str, expected: np.ndarray, tmp_path: Path) -> None:
    data_tools.run(data_tools.script(data_tools.blocks()[1][title], TEXTS), tmp_path)
    assert np.load(tmp_path / "found.npy").tobytes() == expected.tobytes()
