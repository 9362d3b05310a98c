"""Live comparison with transformers and torch; not run where these are not installed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

NEEDED = ("torch", "transformers", "compressed_tensors", "peft", "sentence_transformers")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header(config: pytest.Config) -> str:
    return f"reference: not compared, without {', '.join(MISSING)}" if MISSING else "reference: compared live"


@pytest.fixture(scope="session")
def dev(shared_data: Path) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The sentences and labels of SST-2 dev."""
    lines = (shared_data / "sst2" / "dev.tsv").read_text(encoding="utf-8").split("\n")[1:]
    rows = [line.rsplit("\t", 1) for line in lines if line]
    return [text for text, _ in rows], np.array([int(label) for _, label in rows])


@pytest.fixture(scope="session")
def naughty(shared_data: Path) -> list[str]:
    """The big list of naughty strings, and some more."""
    strings: list[str] = json.loads((shared_data / "robust" / "blns.json").read_text(encoding="utf-8"))
    scripts = [
        "Ελληνικά",
        "кириллица",
        "עברית",
        "العربية",
        "हिन्दी",
        "ไทย",
        "한국어",
        "日本語",
        "中文",
        "አማርኛ",
        "ქართული",
        "𝔞𝔟𝔠",
    ]
    return [
        *strings,
        *scripts,
        "",
        " ",
        "\0",
        "a\0b",
        "\u0085",
        "\u200d",
        "\ufeff",
        "#" * 200,
        "it's",
        "é",
        "e\u0301",
        "x" * 3000,
    ]
