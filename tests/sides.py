"""Pages with two columns, another library's code and ours: both are read from the page and run in a namespace."""

import re
from pathlib import Path
from typing import Any

import tiny

DOCS = Path(__file__).parents[1] / "docs"
PAIR = re.compile(
    r"^:::\{container\} sides\n```python\n(.*?)```\n\n```python\n(.*?)```\n:::$", re.DOTALL | re.MULTILINE
)
TEXTS = ["i like the film .", "the film is not good", "it was a boring movie , i hate it"]
# The directories that the pages name.
MODELS: dict[str, dict[str, Any]] = {
    "my-distilbert": {},
    "my-encoder": {"architectures": ["DistilBertModel"], "id2label": None},
    "my-reranker": {"id2label": {"0": "LABEL_0"}},
}


def write(folder: Path) -> None:
    """The directories, in `folder`."""
    for name, settings in MODELS.items():
        tiny.write(folder / name, max_position_embeddings=64, **settings)


def pairs(page: str) -> list[tuple[str, str]]:
    """The code on the left and on the right of each pair of a page."""
    found = PAIR.findall((DOCS / page).read_text(encoding="utf-8"))
    return [(theirs, ours) for theirs, ours in found]


def run(source: str) -> dict[str, Any]:
    """What the names of some code are bound to when it has run."""
    names: dict[str, Any] = {"texts": TEXTS}
    exec(compile(source, "page", "exec"), names)
    return names
