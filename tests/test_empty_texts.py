"""An empty text: answered where a caller hands texts over, without an answer where texts are lines or cells."""

import asyncio
import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_client import ask

import npdistil
from npdistil.cli import main
from npdistil.text import is_empty

TEXTS = ["good", "", " \t", "\u3000\x85", "bad"]
FULL = [text for text in TEXTS if not is_empty(text)]
PAGE = Path(npdistil.__file__).parent / "page" / "page.js"


@pytest.fixture
def model(make: Callable[..., Path]) -> npdistil.Model:
    return npdistil.load(make(), engine="numpy")


def test_every_character_that_is_a_blank_to_python_makes_an_empty_text_and_no_other() -> None:
    for each in map(chr, range(sys.maxunicode + 1)):
        assert is_empty(each) == each.isspace()
    assert FULL == ["good", "bad"]


def test_the_page_has_the_same_rule() -> None:
    (rule,) = re.findall(r"^const EMPTY = /(.*)/;$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    empty = re.compile(rule)  # which Python reads as JavaScript does
    for each in map(chr, range(sys.maxunicode + 1)):
        assert bool(empty.fullmatch(each)) == is_empty(each)
    assert empty.fullmatch("")
    assert "trim()" not in PAGE.read_text(encoding="utf-8").replace(".trim().toLowerCase()", "").replace(
        '.trim() === ""',
        "",  # names of columns, and what comes before a quotation mark
    )


def test_who_hands_texts_over_gets_an_answer_for_each(model: npdistil.Model) -> None:
    alone = model.logits([[2, 3]])  # the special tokens
    scores = model.scores(TEXTS, function_to_apply="none")
    assert np.array_equal(scores[1:4], np.repeat(alone.astype(np.float64), 3, 0))
    pipe = npdistil.pipeline("text-classification", model, top_k=None)
    assert [pipe([text])[0] for text in TEXTS] == pipe(TEXTS)
    assert npdistil.Classifier(model).predict(TEXTS).tolist() == model.predict(TEXTS).tolist()
    assert npdistil.Embedder(model).transform(TEXTS).shape[0] == len(TEXTS)


def test_so_does_a_client_of_the_service(model: npdistil.Model) -> None:
    pytest.importorskip("starlette")
    app = npdistil.make_app(model)
    answers = npdistil.pipeline("text-classification", model, top_k=None)(TEXTS)
    status, found = asyncio.run(ask(app, "/predict", {"inputs": [[text] for text in TEXTS]}, headers=[(b"host", b"x")]))
    assert status == 200
    assert found == answers


def test_cells_of_files_have_none(model: npdistil.Model, tmp_path: Path) -> None:
    pipe = npdistil.pipeline("text-classification", model)
    labels = dict(zip(FULL, (each["label"] for each in pipe(FULL)), strict=True))
    expected = [labels.get(text) for text in TEXTS]
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    for name in ("csv", "jsonl"):
        done = npdistil.annotate_file(pipe, tmp_path / f"in.{name}", tmp_path / f"out.{name}")
        assert (done.rows, done.bad, done.empty) == (5, 0, 3)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["label"] or None for row in csv.DictReader(file)] == expected
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["label"] for line in lines] == expected
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"text": TEXTS}), tmp_path / "in.parquet")
    done = npdistil.annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert (done.rows, done.bad, done.empty) == (5, 0, 3)
    assert parquet.read_table(tmp_path / "out.parquet")["label"].to_pylist() == expected
    frame: Any = npdistil.annotate(pa.table({"text": TEXTS}), pipe)
    assert frame["label"].to_pylist() == expected


def test_lines_of_standard_input_have_none(
    model: npdistil.Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lines").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    with (tmp_path / "lines").open(encoding="utf-8") as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        assert main(["classify", "--engine", "numpy", "--model", model.name_or_path, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["labels"] is None for row in rows] == [is_empty(text) for text in TEXTS]
