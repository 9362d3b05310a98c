"""Whole files: every format in and out, bad rows, bounded memory, and runs that were killed."""

import csv
import fcntl
import functools
import io
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.parquet as pq
import pytest

import npdistil
from npdistil.cli import main
from npdistil.errors import InputError, MissingExtraError
from npdistil.files import annotate_batches, annotate_file, arrow, text

Make = Callable[..., Path]
TEXTS = [
    "the film is good",
    "",
    'he said: "bad",\nand left',
    "東京 café",
    "the film is good",
    "very boring",
    "\u2028 x\x85",
]
LONG = "the film was good and i like it , not bad at all . " * 20


@pytest.fixture
def task(make: Make) -> Any:
    return npdistil.pipeline("text-classification", make(), engine="numpy")


def write(path: Path, texts: list[str], column: str = "text", rows: int = 3) -> Path:
    """A file of ids and texts; of Parquet, with so many rows in a group."""
    table_rows = [{"id": i, column: text} for i, text in enumerate(texts)]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, ["id", column])
            table.writeheader()
            table.writerows(table_rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(table_rows), path, row_group_size=rows)
    elif path.suffix == ".txt":
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8", newline="\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table_rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as stream:
            return [row | {"score": float(row["score"] or "nan")} for row in csv.DictReader(stream)]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]


def beside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if each.name.startswith(path.name) and each != path)


@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("source", [".csv", ".jsonl", ".ndjson", ".parquet", ".txt"])
def test_every_format_becomes_every_other_in_order_with_all_columns(
    tmp_path: Path, task: Any, source: str, target: str
) -> None:
    texts = [text for text in TEXTS if source != ".txt" or "\n" not in text]
    out = tmp_path / f"out{target}"
    done = annotate_file(task, write(tmp_path / f"in{source}", texts), out)
    rows = read(out)
    assert (done.rows, done.bad, done.resumed) == (len(texts), 0, 0)
    assert [row["text"] for row in rows] == texts
    if source != ".txt":
        assert [int(row["id"]) for row in rows] == [*range(len(texts))]
    for row, given, answer in zip(rows, texts, task(texts), strict=True):
        label = (answer["label"], answer["score"]) if given else (None, None)
        assert (row["label"] or None, row["score"] if given else None) == label
    assert beside(out) == []


def test_plain_text_out_is_what_the_command_prints(tmp_path: Path, task: Any) -> None:
    out = tmp_path / "out.txt"
    annotate_file(task, write(tmp_path / "in.csv", TEXTS), out)
    answers = [f"{a['label']} {a['score']:.4f}" for a in task(TEXTS)]
    assert out.read_text().splitlines() == [answer if t else "" for t, answer in zip(TEXTS, answers, strict=True)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".txt"])
def test_several_labels_a_row_stand_in_one_column(tmp_path: Path, make: Make, suffix: str) -> None:
    task = npdistil.pipeline("text-classification", make(), engine="numpy", top_k=None)
    out = tmp_path / f"out{suffix}"
    annotate_file(task, write(tmp_path / "in.jsonl", TEXTS), out)
    if suffix == ".txt":
        assert all(line.count("\t") == 1 for line in out.read_text().splitlines() if line)
        return
    with out.open(newline="", encoding="utf-8") as stream:
        rows = [*csv.DictReader(stream)] if suffix == ".csv" else read(out)
    found = [json.loads(row["labels"] or "null") if suffix == ".csv" else row["labels"] for row in rows]
    assert found == [answer if t else None for t, answer in zip(TEXTS, task(TEXTS), strict=True)]


def test_a_threshold_may_leave_a_row_without_labels(tmp_path: Path, make: Make) -> None:
    task = npdistil.pipeline("text-classification", make(), engine="numpy", threshold=0.999999)
    out = tmp_path / "out.parquet"
    annotate_file(task, write(tmp_path / "in.csv", TEXTS), out)
    assert [row["labels"] for row in read(out)] == [[] if t else None for t in TEXTS]


def test_texts_that_were_cut_are_said_to_be(tmp_path: Path, make: Make) -> None:
    task = npdistil.pipeline("text-classification", make(), engine="numpy", long_text="truncate")
    out = tmp_path / "out.jsonl"
    annotate_file(task, write(tmp_path / "in.csv", ["good", LONG]), out)
    assert [row["truncated"] for row in read(out)] == [False, True]


def test_equal_texts_are_computed_once_and_get_the_same_bits(tmp_path: Path, make: Make, engine: str) -> None:
    task = npdistil.pipeline("text-classification", make(), engine=engine)
    texts = [random.Random(i % 40).choice(TEXTS) + " a" * (i % 40 // 5) for i in range(400)]
    computed: list[str] = []

    class Counting(type(task)):  # type: ignore[misc]
        def __call__(self, inputs: Any, **settings: Any) -> Any:
            computed.extend(inputs)
            return super().__call__(inputs, **settings)

    task.__class__ = Counting
    out = tmp_path / "out.parquet"
    annotate_file(task, write(tmp_path / "in.csv", texts), out)
    assert sorted(computed) == sorted({*texts} - {""})
    assert [row["score"] for row in read(out) if row["text"]] == [a["score"] for a in task([t for t in texts if t])]


def test_types_of_a_parquet_file_stay_as_they_are(tmp_path: Path, task: Any) -> None:
    table = pa.table(
        {
            "text": pa.array(["good", "bad"], pa.large_string()),
            "when": pa.array([1, 1_700_000_000_123_456_789], pa.timestamp("ns", "UTC")),
            "price": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
            "tags": pa.array([["a"], None], pa.list_(pa.string())),
            "raw": pa.array([b"\x00\xff", b""]),
            "small": pa.array([1, None], pa.int8()),
            "coded": pa.array(["x", "x"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    annotate_file(task, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == [*table.column_names, "label", "score"]
    for name in table.column_names:
        assert found[name].equals(table[name]), name
    with pytest.raises(InputError, match="'raw' of .* is binary, which only Parquet can hold"):
        annotate_file(task, tmp_path / "in.parquet", tmp_path / "out.csv")


def test_dates_and_decimals_are_written_out_in_text(tmp_path: Path, task: Any) -> None:
    when = "2024-02-29 12:00:00.000000Z"
    moment = datetime(2024, 2, 29, 12, tzinfo=timezone.utc)
    rows = [{"text": "good", "when": moment, "price": Decimal("1.50"), "tags": ["a", "b"], "none": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    annotate_file(task, tmp_path / "in.parquet", tmp_path / "out.jsonl")
    (row,) = read(tmp_path / "out.jsonl")
    assert (row["when"], row["price"], row["tags"], row["none"]) == (
        when,
        "1.50",
        ["a", "b"],
        None,
    )
    annotate_file(task, tmp_path / "in.parquet", tmp_path / "out.csv")
    (row,) = read(tmp_path / "out.csv")
    assert (row["when"], row["price"], row["tags"], row["none"]) == (
        when,
        "1.50",
        '["a", "b"]',
        "",
    )


BAD = {
    ".csv": (b'id,text\n1,good\n2\n3,bad\n4,"open "quote"\n5,\xff\xfe\n\n6,fine\n7,"never closed\n', [3, 5, 6, 9], 3),
    ".jsonl": (
        b'{"text": "good"}\n{"text": 3}\n[1]\n{"text": null}\n{"other": "x"}\nnot json\n\n{"text": "\\ud800"}\n'
        b'{"text": "bad", "label": 1}\n{}\n{"text": "\xff"}\n{"text": "last"}',
        [2, 3, 5, 6, 8, 9, 10, 11],
        3,
    ),
    ".txt": (b"\xef\xbb\xbfgood\n\n\xff\r\nlast\r\n", [3], 3),
}


@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("suffix", BAD)
def test_bad_rows_go_to_a_report_with_their_lines_and_the_rest_is_done(
    tmp_path: Path, task: Any, suffix: str, target: str
) -> None:
    data, lines, good = BAD[suffix]
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{target}"
    source.write_bytes(data)
    done = annotate_file(task, source, out, on_error="skip")
    report = [json.loads(line) for line in (tmp_path / f"{out.name}.errors.jsonl").read_text().splitlines()]
    print(*report, sep="\n")
    assert [each["line"] for each in report] == lines
    assert all(each["error"] for each in report)
    assert (done.rows, done.bad) == (good, len(lines))
    assert len(read(out)) == good
    assert read(out)[0]["text"] == "good"
    assert beside(out) == [f"{out.name}.errors.jsonl"]
    with pytest.raises(InputError, match=f"line {lines[0]}: "):
        annotate_file(task, source, tmp_path / f"other{target}")
    assert not [*tmp_path.glob("other*")]  # nothing was worth keeping


def test_a_bad_row_stops_the_run_and_skipping_goes_on_from_there(
    tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "ROWS", 4)
    source, out = write(tmp_path / "in.jsonl", ["good"] * 10), tmp_path / "out.jsonl"
    with source.open("a") as stream:
        stream.write("broken\n" + json.dumps({"text": "bad"}) + "\n")
    with pytest.raises(InputError, match=r"in\.jsonl, line 11: not JSON"):
        annotate_file(task, source, out)
    assert not out.exists()
    done = annotate_file(task, source, out, on_error="skip")
    assert (done.rows, done.bad, done.resumed) == (11, 1, 8)
    assert len(read(out)) == 11


@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
def test_a_file_is_the_same_bytes_on_any_number_of_threads(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    for module in (text, arrow):
        monkeypatch.setattr(module, "ROWS", 24)
    rows = [f"good {i} {'bad ' * (i % 5)}{LONG if i % 9 == 0 else ''}" for i in range(90)]
    rows[40], rows[70] = "", rows[3]
    given, found = write(tmp_path / f"in{source}", rows, rows=10), []
    for threads in (1, 2, 5):
        settings: dict[str, Any] = {"threads": threads, "batch_size": 4, "long_text": "error", "engine": "numpy"}
        pipe, out = npdistil.pipeline("text-classification", make(), **settings), tmp_path / f"{threads}{target}"
        done = annotate_file(pipe, given, out, on_error="null")
        found.append((done, out.read_bytes(), Path(f"{out}.errors.jsonl").read_bytes()))
    assert found[0] == found[1] == found[2]
    assert (found[0][0].rows, found[0][0].bad, found[0][0].empty) == (90, 10, 1)
    assert not [each for each in threading.enumerate() if each.name.startswith("npdistil-batches")]


def test_where_no_thread_can_be_started_a_file_is_answered_by_the_caller(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pipe = npdistil.pipeline("text-classification", make(), engine="numpy", threads=3, batch_size=2)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert annotate_file(pipe, write(tmp_path / "in.csv", TEXTS), tmp_path / "out.jsonl").rows == len(TEXTS)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_was_read_before_a_broken_place_is_done(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(text, "ROWS", 4)
    pipe = npdistil.pipeline("text-classification", make(), engine="numpy", threads=threads, batch_size=2)
    data = "text\n" + "".join(f"good {i}\n" for i in range(10))
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(data)
    real = text.Csv.rows

    def broken(reader: Any, place: int) -> Iterator[Any]:
        for i, row in enumerate(real(reader, place)):
            if i == 9:
                raise OSError("the disk is gone")
            yield row

    with monkeypatch.context() as patched:
        patched.setattr(text.Csv, "rows", broken)
        with pytest.raises(InputError, match="cannot be read on after line 11: the disk is gone"):
            annotate_file(pipe, source, out)
    done = annotate_file(pipe, source, out)
    assert (done.rows, done.resumed) == (10, 8)


def test_a_report_of_an_earlier_file_does_not_stay_beside_a_new_one(tmp_path: Path, task: Any) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_bytes(b"\xff\ngood\n")
    annotate_file(task, source, out, on_error="skip")
    source.write_bytes(b"good\n")
    annotate_file(task, source, out, on_error="skip")
    assert beside(out) == []


def test_a_text_that_is_too_long_is_a_bad_row_where_the_setting_says_error(tmp_path: Path, make: Make) -> None:
    task = npdistil.pipeline("text-classification", make(), engine="numpy", long_text="error")
    out = tmp_path / "out.jsonl"
    annotate_file(task, write(tmp_path / "in.csv", ["good", LONG, "bad", LONG + "."]), out, on_error="skip")
    assert [row["text"] for row in read(out)] == ["good", "bad"]
    errors = [json.loads(line)["error"] for line in Path(f"{out}.errors.jsonl").read_text().splitlines()]
    assert len(errors) == 2
    assert all(error.startswith("the text has ") and "24 are allowed" in error for error in errors)


def test_a_line_without_end_is_a_bad_row_and_takes_no_memory(
    tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "LONGEST", 1000)
    for suffix, row in ((".txt", b"%s"), (".jsonl", b'{"text": "%s"}'), (".csv", b"%s")):
        source, out = tmp_path / f"in{suffix}", tmp_path / f"{suffix[1:]}.jsonl"
        rows = [row % each for each in (b"good", b"x" * 5000, b"bad", b"y" * 999 if suffix == ".txt" else b"y")]
        source.write_bytes(b"".join(each + b"\n" for each in ([b"text"] if suffix == ".csv" else []) + rows))
        done = annotate_file(task, source, out, on_error="skip")
        assert (done.rows, done.bad) == (3, 1)
        assert "more than 1,000 bytes" in Path(f"{out}.errors.jsonl").read_text()


@pytest.mark.parametrize(
    ("rows", "target", "says"),
    [
        ([{"text": "a", "n": 1}, {"text": "b", "n": "x"}], ".parquet", "line 2: 'n': found string where int was"),
        ([], ".parquet", None),
        ([], ".csv", None),
        ([], ".jsonl", None),
    ],
)
def test_json_lines_become_tables_or_are_refused(
    tmp_path: Path, task: Any, rows: list[dict[str, Any]], target: str, says: str | None
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / f"out{target}"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if says:
        with pytest.raises(InputError, match=says):
            annotate_file(task, source, out)
        assert not [*tmp_path.glob("out*")]
    else:
        assert annotate_file(task, source, out).rows == 0
        assert read(out) == []


@pytest.mark.parametrize("target", [".csv", ".parquet"])
def test_rows_that_do_not_fit_the_table_begun_are_bad_rows(
    tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(text, "ROWS", 2)
    rows: list[dict[str, Any]] = [{"text": "a", "n": 1, "m": None}, {"text": "b"}, {"text": "c", "n": "x"}]
    rows += [{"text": "d", "new": 1}, {"text": "e", "n": 3, "m": "late"}]
    source, out = tmp_path / "in.jsonl", tmp_path / f"out{target}"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    annotate_file(task, source, out, on_error="skip")
    if target == ".parquet":
        report = [*map(json.loads, Path(f"{out}.errors.jsonl").read_text().splitlines())]
        assert [(each["line"], each["error"]) for each in report] == [(3, "'n': found string where int was")]
        assert [row["n"] for row in read(out)] == [1, None, None, 3]
        assert [row["m"] for row in read(out)] == [None, None, None, "late"]
        assert [row["new"] for row in read(out)] == [None, None, 1, None]
    else:
        assert [row["n"] for row in read(out)] == ["1", "", "x", "", "3"]
        assert [row["new"] for row in read(out)] == ["", "", "", "1", ""]


@pytest.mark.parametrize(
    ("name", "data", "arguments", "says"),
    [
        ("in.csv", b"id,review\n1,good\n", {}, "no column 'text'; it has id, review"),
        ("in.csv", b"", {}, "first line should name the columns"),
        ("in.csv", b"text,text\n", {}, "2 columns 'text'"),
        ("in.csv", b"\xff\n", {}, "line 1: not utf-8"),
        ("in.csv", b"text,label\ngood,1\n", {}, "has a column 'label' already; give the new ones a `prefix`"),
        ("in.txt", b"good\n", {"column": "review"}, "no column 'review'; it has text"),
        ("in.parquet", b"PAR1", {}, "cannot be read as Parquet"),
        ("in.xlsx", b"", {}, "cannot read files of this suffix; known are .csv"),
        ("missing.csv", None, {}, "is not a file"),
        ("in.csv", b"text\n", {"target": "out.xlsx"}, "cannot write files of this suffix"),
        ("in.csv", b"text\n", {"target": "in.csv"}, "is the input"),
        ("in.csv", b"text\n", {"on_error": "ignore"}, "on_error is 'ignore'; known are stop, skip, null"),
    ],
)
def test_files_that_cannot_be_used_are_refused_and_leave_nothing(
    tmp_path: Path, task: Any, name: str, data: bytes | None, arguments: dict[str, Any], says: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=says):
        annotate_file(task, tmp_path / name, tmp_path / arguments.pop("target", "out.jsonl"), **arguments)
    assert sorted(tmp_path.iterdir()) == before


def test_a_prefix_makes_room_beside_a_label_that_is_there(tmp_path: Path, task: Any) -> None:
    (tmp_path / "in.csv").write_bytes(b"text,label\ngood,1\n")
    annotate_file(task, tmp_path / "in.csv", tmp_path / "out.csv", prefix="predicted_")
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "text,label,predicted_label,predicted_score"


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"npdistil\[files\]"):
        annotate_file(task, write(tmp_path / "in.csv", TEXTS), tmp_path / "out.parquet")


def interrupted(folder: Path, task: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The input, of nine texts, and the output of a run that was stopped after its first two."""
    monkeypatch.setattr(text, "ROWS", 2)
    source, out = write(folder / "in.txt", ["good"] * 9), folder / "out.jsonl"

    def interrupt(read: int, total: int, texts: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate_file(task, source, out, progress=interrupt)
    return source, out


@pytest.mark.parametrize("change", ["input", "settings"])
def test_what_another_job_has_left_is_not_continued(
    tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    source, out = interrupted(tmp_path, task, monkeypatch)
    assert beside(out) == ["out.jsonl.errors.partial", "out.jsonl.journal", "out.jsonl.partial"]
    if change == "input":
        write(source, ["bad"] * 9)
    else:
        task = npdistil.pipeline("text-classification", task.model, long_text="error")
    what = "another input" if change == "input" else r"other settings \(`long_text`\)"
    names = (
        r"out\.jsonl\.partial, out\.jsonl\.errors\.partial and out\.jsonl\.journal, which an interrupted run has left,"
    )
    with pytest.raises(InputError, match=f"{names} are of {what}; delete them to start from the beginning"):
        annotate_file(task, source, out)
    with pytest.raises(InputError, match=r" other options \(`prefix`, `on_error`\); delete"):
        annotate_file(task, source, out, prefix="p_", on_error="null")
    for name in beside(out):
        (tmp_path / name).unlink()
    assert annotate_file(task, source, out).rows == 9


def test_what_a_power_cut_has_left_of_a_line_of_the_journal_counts_for_nothing(
    tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = interrupted(tmp_path, task, monkeypatch)
    with (tmp_path / "out.jsonl.journal").open("ab") as journal:
        journal.write(b'{"place": 40, "line": 8')
    done = annotate_file(task, source, out)
    assert (done.rows, done.resumed, len(read(out))) == (9, 2, 9)


def test_progress_is_told_between_batches_too(tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "ROWS", 4)
    source = write(tmp_path / "in.txt", [f"good {i}" for i in range(9)])  # 7 bytes a line
    seen: list[tuple[int, int, int]] = []
    pipe = npdistil.pipeline("text-classification", task.model, batch_size=2)
    annotate_file(pipe, source, tmp_path / "out.jsonl", progress=lambda *each: seen.append(each))
    assert seen == [(read, 63, texts) for read, texts in ((14, 2), (28, 4), (42, 6), (56, 8), (63, 9))]


def test_the_bar_is_there_at_once_and_has_a_rate_and_the_time_left_after_two_batches(
    tmp_path: Path, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    drawn = io.StringIO()
    bar = functools.partial(tqdm, file=drawn, mininterval=0, ncols=80)  # or it would leave some out, by the clock
    monkeypatch.setattr("npdistil.cli.task.progress_bar", lambda: bar)
    source = write(tmp_path / "in.txt", [f"good {i}" for i in range(400)])
    directory = str(task.model.checkpoint.directory)
    command = ["classify", "--engine", "numpy", "--model", directory, "--input", str(source)]
    command += ["--batch-size", "64"]
    assert main([*command, "--output", str(tmp_path / "out.jsonl")]) == 0
    states = [each for each in drawn.getvalue().split("\r") if each.strip()]
    assert states[0].startswith("  0%|")
    told = [each for each in states if "texts/s" in each]
    assert len(told) == 6  # of 7 batches
    assert told[-1].startswith("100%|")
    assert all(" left, " in each and " 0 texts/s" not in each for each in told)
    assert not any("?" in each for each in states)


def test_two_runs_cannot_write_one_file(tmp_path: Path, task: Any) -> None:
    with (tmp_path / "out.jsonl.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="being written by another process"):
            annotate_file(task, write(tmp_path / "in.txt", TEXTS[:1]), tmp_path / "out.jsonl")


# Each line of its input is a run in a process of its own, forked when all is loaded: a source, a target, and the number
# of the call that writes at which it is killed, or 0.
RUNS = """
import os, signal, sys, traceback
import pyarrow, pyarrow.parquet
import npdistil, npdistil.files as files
pyarrow.array([""])  # imports pandas, which each run would do again
files.text.ROWS = files.arrow.ROWS = 16
task = npdistil.pipeline("text-classification", sys.argv[1], engine="numpy")
left = 0

def dying(call):
    def counted(*arguments, **named):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return counted

os.fsync, os.replace, os.rename, os.unlink = map(dying, (os.fsync, os.replace, os.rename, os.unlink))
for line in sys.stdin:
    source, target, calls = line.rstrip("\\n").split("\\t")
    left = int(calls)
    if not os.fork():
        try:
            files.annotate_file(task, source, target, on_error="skip")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
Run = Callable[..., bool]


@pytest.fixture
def run_and_kill(make: Make) -> Iterator[Run]:
    """A run that is killed at a call which writes; whether it was."""
    command = [sys.executable, "-c", RUNS, str(make())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def run(source: Path, target: Path, calls: int = 0) -> bool:
            print(source, target, calls, sep="\t", file=process.stdin, flush=True)
            code = int(process.stdout.readline())  # type: ignore[union-attr]
            assert code in (0, -signal.SIGKILL)
            return code != 0

        yield run
        process.stdin.close()


@pytest.mark.once
@pytest.mark.parametrize("target", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("source", [".csv", ".jsonl", ".parquet"])
def test_a_run_killed_again_and_again_loses_and_repeats_no_row(
    tmp_path: Path, run_and_kill: Run, source: str, target: str
) -> None:
    choose = random.Random(source + target)
    texts = [f"{choose.choice(TEXTS)} {choose.randrange(500)}" for _ in range(300)]
    given = write(tmp_path / f"in{source}", texts)
    if source == ".jsonl":
        lines = given.read_text().splitlines()
        lines[200:200] = ["broken"] * 3
        given.write_text("\n".join(lines))
    whole, out = tmp_path / f"whole{target}", tmp_path / f"out{target}"
    run_and_kill(given, whole)
    resumed = 0
    for _ in range(10):
        if not run_and_kill(given, out, choose.randrange(4, 24)):
            break
        resumed += (tmp_path / f"{out.name}.journal").exists()
    else:
        run_and_kill(given, out)
    print(f"{resumed} runs left something to go on from")
    assert resumed
    assert read(out) == read(whole)
    assert target == ".parquet" or out.read_bytes() == whole.read_bytes()
    assert beside(out) == ([f"{out.name}.errors.jsonl"] if source == ".jsonl" else [])


@pytest.mark.once
@pytest.mark.parametrize("target", [".jsonl", ".parquet"])
def test_a_run_killed_at_any_call_that_writes_can_be_made_again(tmp_path: Path, run_and_kill: Run, target: str) -> None:
    given = write(tmp_path / "in.csv", TEXTS)
    given.write_text(given.read_text() + "broken\n")
    whole = tmp_path / f"whole{target}"
    run_and_kill(given, whole)
    calls = 0
    while True:
        calls += 1
        out = tmp_path / f"out-{calls}{target}"
        killed = run_and_kill(given, out, calls)
        run_and_kill(given, out)
        assert read(out) == read(whole), calls
        assert beside(out) == [f"{out.name}.errors.jsonl"], calls
        if not killed:
            break
    assert calls > 10


MEASURE = """
import re, sys
import npdistil, npdistil.files as files
model, source, target = sys.argv[1:]
files.annotate_file(npdistil.pipeline("text-classification", model, engine="numpy"), source, target)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, make: Make, suffix: str) -> None:
    model, peaks = make(), {}
    for size in (24, 96):  # MB
        texts = [f"{i % 5000} good {'x' * 490}" for i in range(size * 2000)]  # 4 tokens
        source = write(tmp_path / f"{size}{suffix}", texts, rows=2000)
        out = tmp_path / f"out-{size}{suffix}"
        arguments = [sys.executable, "-c", MEASURE, str(model), str(source), str(out)]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        peaks[size] = int(done.stdout.split()[-1]) / 1024
    print(f"{peaks} MB")
    assert peaks[96] < peaks[24] + 36  # allocators take some more before they give back; the texts alone are 72


def test_the_command_classifies_a_file_and_says_how_it_went(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "in.csv", TEXTS, "review"), tmp_path / "out.jsonl"
    arguments = ["classify", "--model", str(make()), "--engine", "numpy", "--input", str(source), "--output", str(out)]
    assert main([*arguments, "--column", "review"]) == 0
    assert f"{out}: {len(TEXTS)} rows, " in capsys.readouterr().err
    assert len(read(out)) == len(TEXTS)
    assert main(arguments) == 2
    assert "no column 'text'; it has id, review" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--input", "a.csv"], "npdistil: error: --output is missing; - is standard output\n"),
        (["--input", "", "--output", "a.csv"], "npdistil: error: --input is empty; expected the name of a file\n"),
        (["--input", "-", "--output", "-"], "has no suffix that says the format; --input-format does, as csv\n"),
        (["--input", "a.b", "--output", "a.csv"], "; --input-format says what has another name\n"),
        (["--input", "a.csv", "--output", "a.b"], "; --output-format says what has another name\n"),
        (["--input", "a.csv", "--output", "b.csv", "--delimiter", "ab"], "error: --delimiter is 'ab'; expected one"),
        (["--output", "a.csv"], "--output: only with --input"),
        (["--on-error", "skip", "text"], "--on-error: only with --input"),
        (["--input", "a.csv", "--output", "b.csv", "text"], "without texts"),
        (["--input", "a.csv", "--output", "b.csv", "--format", "csv"], "without texts and --format"),
    ],
)
def test_options_of_files_go_together_or_are_refused(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"id;text\n1;good\n", "it has id;text; --delimiter says what stands between cells, where it is ';'"),
        (b"text,label\ngood,x\n", "has a column 'label' already; give the new ones a --prefix"),
        (
            b"text\ncaf\xe9\n",
            "line 2: not utf-8: .* --encoding names another; --on-error skip goes on without such rows",
        ),
        (b"id,text\n1,good\n2\n", "line 3: 1 field for 2 columns; --on-error skip goes on without such rows"),
    ],
)
def test_an_error_names_the_option_that_helps(
    data: bytes, says: str, tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    source, model = tmp_path / "in.csv", ["--model", str(make()), "--engine", "numpy"]
    source.write_bytes(data)
    assert main(["classify", *model, "--input", str(source), "--output", str(tmp_path / "out.csv")]) == 2
    assert re.search(says + "\n$", capsys.readouterr().err)


def test_of_a_bad_row_it_is_said_how_to_go_on_and_what_is_kept(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "ROWS", 4)
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,text\n" + "1,\n" * 5 + "2\n" + "3,\n")
    command = ["classify", "--model", str(make()), "--engine", "numpy", "--input", str(source), "--output", str(out)]
    assert main(command) == 2
    names = f"{out}.partial, out.csv.errors.partial and out.csv.journal"
    assert capsys.readouterr().err.endswith(
        "line 7: 1 field for 2 columns; --on-error skip goes on without such rows; "
        f"what was finished is kept for that in {names}; delete these if you mend the row\n"
    )
    assert main([*command, "--on-error", "null"]) == 2
    assert "are of other options (--on-error); delete them" in capsys.readouterr().err
    assert main([*command, "--on-error", "skip"]) == 0
    assert "6 rows, 4 of them by an earlier run, 6 without a text" in capsys.readouterr().err  # all, not this run's


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_say_that_the_run_can_go_on(tmp_path: Path, make: Make, number: signal.Signals) -> None:
    source = write(tmp_path / "in.txt", [f"{i} {'film ' * 18}" for i in range(60_000)])
    arguments = ["classify", "--model", str(make()), "--engine", "numpy", "--input", str(source)]
    command = [sys.executable, "-m", "npdistil", *arguments, "--output", str(tmp_path / "out.csv")]
    run = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    journal = tmp_path / "out.csv.journal"
    while not journal.exists() or not json.loads(journal.read_bytes().split(b"\n")[-2])["rows"]:
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(number)
    _, said = run.communicate(timeout=300)
    assert run.returncode == 128 + number
    assert said == "stopped; the same command goes on from here\n"
    assert (tmp_path / "out.csv.partial").stat().st_size > 0


def test_ctrl_c_says_that_a_run_to_standard_output_begins_anew(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("npdistil.files.annotate_file", interrupted)
    model = ["--model", str(make()), "--engine", "numpy"]
    assert main(["classify", *model, "--input", str(tmp_path / "in.csv"), "--output", "-"]) == 130
    assert capsys.readouterr().err == "stopped; the same command starts from the beginning\n"


# Many files.


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Files of one kind in partitions, and what Spark leaves beside them."""
    root = tmp_path / "reviews"
    for year in (2023, 2024):
        (root / f"year={year}").mkdir(parents=True)
        for part in (0, 1):
            write(root / f"year={year}" / f"part-{part}.parquet", [f"{year} {part} good", "", "bad"])
    (root / "_SUCCESS").touch()
    (root / ".hidden.csv").write_text("x\n")
    return root


def below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


PARTS = [f"year={year}/part-{part}.parquet" for year in (2023, 2024) for part in (0, 1)]


def test_a_partitioned_directory_becomes_another_with_the_same_files(tmp_path: Path, task: Any, reviews: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    done = annotate_file(task, reviews, tmp_path / "out", progress=lambda *each: seen.append(each))
    assert (done.files, done.rows, done.bad, done.empty) == (4, 12, 0, 4)
    assert below(tmp_path / "out") == PARTS
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    found = pl.read_parquet(tmp_path / "out" / "**" / "*.parquet", hive_partitioning=True)
    assert found.columns == ["id", "text", "label", "score", "year"]
    assert sorted(found["year"].to_list()) == [2023] * 6 + [2024] * 6
    expected = task(["2024 1 good"])[0]
    row = found.filter(pl.col("text") == "2024 1 good").to_dicts()[0]
    assert (row["label"], row["score"]) == (expected["label"], expected["score"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*/*-0.parquet", ["year=2023/part-0.parquet", "year=2024/part-0.parquet"]),
        ("**/*.parquet", PARTS),
        ("year=2024/part-?.parquet", ["part-0.parquet", "part-1.parquet"]),
        ("year=202[3]", ["year=2023/part-0.parquet", "year=2023/part-1.parquet"]),
    ],
)
def test_a_pattern_stands_for_the_files_that_it_matches(
    tmp_path: Path, task: Any, reviews: Path, pattern: str, expected: list[str]
) -> None:
    annotate_file(task, str(reviews / pattern), tmp_path / "out")
    assert below(tmp_path / "out") == expected


def test_many_files_become_another_format(tmp_path: Path, task: Any, reviews: Path) -> None:
    write(reviews / "more.v2.csv", ["good"])
    annotate_file(task, reviews, tmp_path / "out", output_format="jsonl.gz")
    assert below(tmp_path / "out") == ["more.v2.jsonl.gz", *(part.replace("parquet", "jsonl.gz") for part in PARTS)]
    annotate_file(task, str(reviews / "*.csv"), tmp_path / "out", output_format="parquet")
    assert read(tmp_path / "out" / "more.v2.parquet")[0]["text"] == "good"


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path, task: Any) -> None:
    annotate_file(task, write(tmp_path / "a[1].csv", ["good"]), tmp_path / "out.csv")
    assert len(read(tmp_path / "out.csv")) == 1


def test_an_unreadable_file_among_many_is_named_and_what_is_done_is_not_done_again(
    tmp_path: Path, task: Any, reviews: Path
) -> None:
    broken, out = reviews / PARTS[2], tmp_path / "out"
    whole = broken.read_bytes()
    broken.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=rf"{PARTS[2]} cannot be read as Parquet"):
        annotate_file(task, reviews, out)
    before = [(out / part).stat().st_mtime_ns for part in PARTS[:2]]
    assert below(out) == [name for part in PARTS[:2] for name in (part, f"{part}.journal")]
    broken.write_bytes(whole)
    done = annotate_file(task, reviews, out)
    assert (done.files, done.rows, done.resumed) == (4, 12, 6)
    assert [(out / part).stat().st_mtime_ns for part in PARTS[:2]] == before
    assert below(out) == PARTS


def test_what_is_done_of_many_files_is_of_this_input_and_still_there(tmp_path: Path, task: Any, reviews: Path) -> None:
    whole, out = (reviews / PARTS[3]).read_bytes(), tmp_path / "out"
    (reviews / PARTS[3]).write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        annotate_file(task, reviews, out)
    (reviews / PARTS[3]).write_bytes(whole)
    (out / PARTS[0]).rename(tmp_path / "moved")
    with pytest.raises(InputError, match=rf"{PARTS[0]} is gone, which .*journal says is done; delete that one too"):
        annotate_file(task, reviews, out)
    (tmp_path / "moved").rename(out / PARTS[0])
    write(reviews / PARTS[1], ["other"])
    with pytest.raises(InputError, match=rf"{PARTS[1]}.* are of another input"):
        annotate_file(task, reviews, out)


def test_many_files_killed_again_and_again_lose_no_row_and_no_report(tmp_path: Path, run_and_kill: Run) -> None:
    root, out, whole = tmp_path / "in", tmp_path / "out", tmp_path / "whole"
    root.mkdir()
    for i in range(4):
        path = write(root / f"{i}.csv", [f"{i} {j} good" for j in range(40)])
        path.write_text(path.read_text() + "broken\n" * (i % 2))
    run_and_kill(root, whole)
    choose, resumed = random.Random(7), 0
    for _ in range(12):
        if not run_and_kill(root, out, choose.randrange(8, 40)):
            break
        resumed += out.exists() and any(name.endswith(".journal") for name in below(out))
    else:
        run_and_kill(root, out)
    assert resumed
    assert below(out) == below(whole)
    for name in below(out):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("source", "target", "arguments", "says"),
    [
        ("reviews", "reviews", {}, "lies in .*reviews, whose files are read"),
        ("reviews", "reviews/out", {}, "lies in .*reviews, whose files are read"),
        ("reviews/**/*.parquet", "reviews/out", {}, "lies in .*reviews, whose files are read"),
        ("reviews/*/*.parquet", "reviews/year=2024", {}, "is to be read and lies in .*year=2024"),
        ("reviews", "-", {}, "whose outputs go into a directory; name one"),
        ("reviews", "file", {}, "file is a file; expected a directory, for 4 files"),
        ("reviews/*.csv", "out", {}, r"reviews/\*.csv: there is no file to read"),
        ("empty", "out", {}, "empty: there is no file to read"),
        ("mixed", "out", {}, "README.md: cannot read files of this suffix"),
        ("twice", "out", {"output_format": "csv"}, "a.csv would be written for .*a.csv and for .*a.jsonl"),
        ("reports", "out", {}, "a.csv.errors.jsonl would be written for .*a.csv and for .*a.csv.errors.jsonl"),
        ("links", "out", {}, "links/b is a link to no file; links to directories are not followed"),
    ],
)
def test_many_files_that_would_be_mixed_up_are_refused_before_any_work(
    tmp_path: Path, task: Any, reviews: Path, source: str, target: str, arguments: dict[str, Any], says: str
) -> None:
    for name in ("empty/_x", "file", "mixed/a.csv", "mixed/README.md", "twice/a.csv", "twice/a.jsonl", "links/a.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "reports").mkdir()
    for name in ("a.csv", "a.csv.errors.jsonl"):
        (tmp_path / "reports" / name).touch()
    (tmp_path / "links" / "b").symlink_to(reviews)
    before = below(tmp_path)
    with pytest.raises(InputError, match=says):
        annotate_file(task, str(tmp_path / source), target if target == "-" else tmp_path / target, **arguments)
    assert below(tmp_path) == before


def test_the_command_takes_a_pattern_and_says_how_many_files_it_were(
    tmp_path: Path, make: Make, reviews: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["classify", "--model", str(make()), "--engine", "numpy", "--output", f"{tmp_path}/out/"]
    assert main([*arguments, "--input", f"{reviews}/*/*.parquet"]) == 0
    assert f"{tmp_path}/out/: 4 files, 12 rows, 4 without a text" in capsys.readouterr().err
    assert below(tmp_path / "out") == PARTS
    assert main([*arguments, "--input", *(str(reviews / part) for part in PARTS)]) == 2
    assert "a pattern that means many files needs quotes" in capsys.readouterr().err


def test_a_dataset_with_its_partitions_is_read_as_batches(task: Any, reviews: Path) -> None:
    data = dataset.dataset(reviews, partitioning="hive")
    found = annotate_batches(data.scanner().to_reader(), task).read_all()
    assert found.column_names == ["id", "text", "year", "label", "score"]
    assert sorted(found["year"].to_pylist()) == [2023] * 6 + [2024] * 6
    dataset.write_dataset(
        annotate_batches(data.scanner().to_reader(), task),
        reviews.parent / "out",
        format="parquet",
        partitioning=["year"],
        partitioning_flavor="hive",
    )
    assert pl.read_parquet(reviews.parent / "out" / "**" / "*.parquet", hive_partitioning=True).shape == (12, 5)
