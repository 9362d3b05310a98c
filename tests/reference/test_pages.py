"""The two columns of the pages for those who come from elsewhere: the same names hold the same answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sides

PAGES = {
    "from-transformers.md": {"answers", "every", "scores", "labels", "logits", "token_ids", "id2label"},
    "from-sentence-transformers.md": {"vectors", "similar", "corpus", "query", "hits", "cosines", "scores"},
}
CASES = [(page, number) for page in PAGES for number in range(len(sides.pairs(page)))]


def plain(value: Any) -> Any:
    """Numbers and words without the types that hold them."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def near(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(near(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(near, ours, theirs))
    return bool(np.isclose(ours, theirs, rtol=0, atol=1e-5)) if isinstance(theirs, float) else bool(ours == theirs)


@pytest.mark.parametrize(("page", "number"), CASES)
def test_both_columns_give_the_same(page: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    theirs, ours = (sides.run(source) for source in sides.pairs(page)[number])
    compared = PAGES[page] & theirs.keys() & ours.keys()
    assert compared
    for name in compared:
        assert near(plain(ours[name]), plain(theirs[name])), f"{name}: {ours[name]} and {theirs[name]}"
