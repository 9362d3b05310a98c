"""Whole files: nothing changes but the new columns, whatever types and dialects; and nothing is lost or followed."""

import csv
import fcntl
import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import npdistil
from npdistil.cli import main
from npdistil.errors import InputError
from npdistil.files import annotate_batches, annotate_file, text

Make = Callable[..., Path]


@pytest.fixture
def pipe(make: Make) -> Any:
    return npdistil.pipeline("text-classification", make(), engine="numpy")


def report(out: Path) -> dict[int, str]:
    lines = Path(f"{out}.errors.jsonl").read_text().splitlines()
    return {each["line"]: each["error"] for each in map(json.loads, lines)}


# Values.

CELLS = [
    "good",
    "a\rb",
    "a\nb",
    "a\r\nb",
    'he "said"',
    "a,b;c|d\te",
    " blank ",
    "",
    "007",
    "1e400",
    "東京",
    "\u2028\x85",
    "NULL",
]
DIALECTS = [
    *itertools.product(
        ",;|\t", (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC), ("\n", "\r\n"), ("utf-8", "utf-8-sig")
    )
]


@pytest.mark.parametrize(("delimiter", "quoting", "end", "encoding"), DIALECTS)
def test_cells_of_every_dialect_stay_as_they_are(
    tmp_path: Path, pipe: Any, delimiter: str, quoting: Any, end: str, encoding: str
) -> None:
    source = tmp_path / "in.csv"
    rows = [[cell, "x good", CELLS[-1 - i]] for i, cell in enumerate(CELLS)]
    with source.open("w", newline="", encoding=encoding) as stream:
        table = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator="\r\n")
        table.writerows([["a", "text", "b"], *rows])
    source.write_bytes(source.read_bytes().replace(b'good"\r\n', b'good"' + end.encode()))
    for target in ("out.csv", "out.jsonl", "out.parquet"):
        out = tmp_path / target
        annotate_file(pipe, source, out, delimiter=delimiter)
        if target == "out.csv":
            found = pd.read_csv(out, sep=delimiter, dtype=str, keep_default_na=False)[
                ["a", "text", "b"]
            ].values.tolist()
            raw = source.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\r\n")
            assert raw[1] in out.read_bytes()
        elif target == "out.jsonl":
            lines = out.read_bytes().decode().split("\n")[:-1]
            found = [[row[name] for name in ("a", "text", "b")] for row in map(json.loads, lines)]
        else:
            found = [[*row] for row in duckdb.sql(f"select a, text, b from '{out}'").fetchall()]
        assert found == rows, target


def test_cells_that_are_written_are_read_back_by_others(tmp_path: Path, pipe: Any) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text("".join(json.dumps({"text": "x", "cell": cell}) + "\n" for cell in CELLS))
    annotate_file(pipe, source, out)
    assert pd.read_csv(out, dtype=str, keep_default_na=False)["cell"].tolist() == CELLS


JSON_LINES = [
    '{"text": "good", "n": 1.10000000000000000000000001}',
    '{ "n":1e400 , "text" : "bad", "n2": 12345678901234567890123, "a": 1, "a": 2}  ',
    '{"text": "x", "nested": {"z": [1.0, 1e5, {}], "a": null}, "s": "\\u00e9 \\/"}',
]


def test_json_lines_keep_their_own_bytes(tmp_path: Path, pipe: Any) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes("\r\n".join(JSON_LINES).encode())
    annotate_file(pipe, source, out)
    for line, found in zip(JSON_LINES, out.read_bytes().decode().split("\n")[:-1], strict=True):
        assert found.startswith(line.rstrip()[:-1] + ', "label": "')


def test_json_goes_to_csv_as_it_is_written(tmp_path: Path, pipe: Any) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text("\n".join(JSON_LINES))
    annotate_file(pipe, source, out, on_error="skip")
    with out.open(newline="", encoding="utf-8") as stream:
        rows = [*csv.DictReader(stream)]
    assert rows[0]["n"] == "1.10000000000000000000000001"
    assert rows[1]["nested"] == '{"z": [1.0, 1e5, {}], "a": null}'
    assert rows[1]["s"] == "é /"
    assert report(out) == {2: "it has 'a' twice"}


def test_every_column_of_csv_is_strings_in_parquet(tmp_path: Path, pipe: Any) -> None:
    (tmp_path / "in.csv").write_text("text,n,when\ngood,007,\nbad,1e400,2024-01-01\n")
    annotate_file(pipe, tmp_path / "in.csv", tmp_path / "out.parquet")
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.select("text", "n", "when").rows() == [("good", "007", ""), ("bad", "1e400", "2024-01-01")]


TYPED: list[tuple[list[str], dict[str, Any], dict[int, str]]] = [
    # lines after the first 2,048, the values of the column then, and what is a bad row
    (['{"text": "x", "v": {"a": 2, "b": "x"}}'], {"v": {"a": 2, "b": "x"}}, {}),
    (['{"text": "x", "v": {"a": 3.5}}'], {"v": {"a": 3.5}}, {}),
    (['{"text": "x", "v": {"a": true}}'], {}, {1: "'v': found bool where int was"}),
    (['{"text": "x", "v": {"a": 12345678901234567890}}'], {}, {1: "'v': an int64 does not hold 12345678901234567890"}),
    (
        ['{"text": "x", "v": {"a": 1.1000000000000000000001}}'],
        {},
        {1: "'v': a float64 does not hold 1.1000000000000000000001"},
    ),
    (['{"text": "x", "v": {"a": 1e400}}'], {}, {1: "'v': a float64 does not hold 1e400"}),
    (['{"text": "x", "v": {"a": 9007199254740993}}'], {"v": {"a": 9007199254740993}}, {}),
    (
        ['{"text": "x", "v": {"a": 1.5}}', '{"text": "x", "v": {"a": 9007199254740993}}'],
        {},
        {2: "found int64 where float"},
    ),
    (['{"text": "x", "v": ' + "[" * 100_000 + "]" * 100_000 + "}"], {}, {1: "not JSON: "}),
    (['{"text": "x", "v": NaN}'], {}, {1: "NaN is no value of JSON"}),
    (['{"text": "x", "v": null}'], {"v": None}, {}),
]


@pytest.mark.parametrize(("lines", "last", "bad"), TYPED)
def test_types_are_those_of_all_rows_and_no_value_becomes_another(
    tmp_path: Path, pipe: Any, lines: list[str], last: dict[str, Any], bad: dict[int, str]
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text("\n".join(['{"text": "x", "v": {"a": 1}}'] * 2048 + lines))
    annotate_file(pipe, source, out, on_error="skip")
    found = pl.read_parquet(out).to_dicts()
    if last:
        assert len(found) == 2049
        value = found[-1]["v"]
        assert {"v": value and {name: each for name, each in value.items() if each is not None}} == last
    assert [line - 2048 for line in (report(out) if bad else {})] == [*bad]
    for line, error in bad.items():
        assert error in report(out)[line + 2048]


def test_empty_objects_are_refused_before_any_work(tmp_path: Path, pipe: Any) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "x", "meta": {}}\n')
    with pytest.raises(InputError, match="cannot become Parquet: .*'meta'.*; write JSON lines"):
        annotate_file(pipe, tmp_path / "in.jsonl", tmp_path / "out.parquet")


UTC = timezone.utc
LEAVES: list[tuple[Any, list[Any]]] = [
    (pa.bool_(), [True, False]),
    *((kind, [0, 100]) for kind in (pa.int8(), pa.int16(), pa.uint8(), pa.uint16(), pa.uint32())),
    (pa.int32(), [-(2**31), 2**31 - 1]),
    (pa.int64(), [-(2**63), 2**63 - 1]),
    (pa.uint64(), [0, 2**64 - 1]),
    (pa.float32(), [0.5, float("inf")]),
    (pa.float64(), [1e308, 5e-324]),
    (pa.string(), ["", "\u2028 東京\x00"]),
    (pa.large_string(), ["a", "b\r"]),
    (pa.binary(), [b"", b"\x00\xff"]),
    (pa.binary(2), [b"ab", b"\x00\xff"]),
    (pa.date32(), [date(1, 1, 1), date(9999, 12, 31)]),
    (pa.timestamp("ms"), [datetime(1900, 1, 1), datetime(2024, 2, 29, 12, 0, 0, 1000)]),
    (pa.timestamp("us"), [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    (pa.timestamp("us", "UTC"), [datetime(1970, 1, 1, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)]),
    (pa.time64("us"), [time(0), time(23, 59, 59, 999999)]),
    (pa.decimal128(38, 10), [Decimal("1234567890123456789012345678.0123456789"), Decimal("-0.0000000001")]),
    (pa.duration("us"), [timedelta(0), timedelta(days=5, microseconds=1)]),
    (pa.null(), [None, None]),
]


def nested(kind: Any, values: list[Any]) -> Iterator[tuple[str, Any, list[Any]]]:
    a, b = values
    yield "plain", kind, [a, None, b]
    yield "list", pa.list_(kind), [[a, None, b], None, []]
    yield "struct", pa.struct([("x", kind), ("y", pa.int8())]), [{"x": a, "y": 1}, None, {"x": None, "y": None}]
    yield "both", pa.list_(pa.struct([("x", pa.list_(kind))])), [[{"x": [a, b]}, None], None, [{"x": None}]]


TORTURE = [(kind, case) for kind in LEAVES for case in nested(*kind)]


@pytest.mark.parametrize(("leaf", "case"), TORTURE, ids=[f"{leaf[0]}-{case[0]}" for leaf, case in TORTURE])
def test_every_type_null_and_nesting_of_parquet_comes_out_as_it_went_in(
    tmp_path: Path, pipe: Any, leaf: Any, case: Any
) -> None:
    _, kind, values = case
    table = pa.table({"v": pa.array(values, kind), "text": ["good", None, "bad"]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=2)
    out = tmp_path / "out.parquet"
    annotate_file(pipe, tmp_path / "in.parquet", out)
    assert pq.read_schema(out).field("v").equals(pq.read_schema(tmp_path / "in.parquet").field("v"))
    found = pl.read_parquet(out)
    assert found["v"].to_list() == values
    assert found["label"].is_null().to_list() == [False, True, False]


def has_infinity(values: list[Any]) -> bool:
    return "inf" in str(values).replace("tzinfo", "")


@pytest.mark.parametrize("target", ["out.csv", "out.jsonl"])
@pytest.mark.parametrize(("leaf", "case"), TORTURE, ids=[f"{leaf[0]}-{case[0]}" for leaf, case in TORTURE])
def test_every_type_goes_to_text_or_is_refused(tmp_path: Path, pipe: Any, leaf: Any, case: Any, target: str) -> None:
    _, kind, values = case
    pq.write_table(pa.table({"v": pa.array(values, kind), "text": ["good", None, "bad"]}), tmp_path / "in.parquet")
    out = tmp_path / target
    if "binary" in str(kind) or "duration" in str(kind):
        with pytest.raises(InputError, match="which only Parquet can hold"):
            annotate_file(pipe, tmp_path / "in.parquet", out)
        return
    done = annotate_file(pipe, tmp_path / "in.parquet", out, on_error="skip")
    if has_infinity(values) and target == "out.jsonl":
        assert done.bad
        assert all("is no value of JSON; write CSV or Parquet" in error for error in report(out).values())
        return
    assert done.rows == 3
    if target == "out.jsonl" and leaf[1][0] is not None and type(leaf[1][0]) in (bool, int, float, str):
        assert [row["v"] for row in map(json.loads, out.read_bytes().decode().split("\n")[:-1])] == values


STRANGE: list[Any] = [
    pa.array([b"\xff", b"a"]).view(pa.string()),
    pa.array([["a"], None], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    pa.array([3_000_000, 0], pa.int32()).cast(pa.date32()),  # the year 10183
    pa.array([0, 2**62]).cast(pa.timestamp("us", "Nowhere/Zone")),
    pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())),
    pa.array([[None], None], pa.list_(pa.null())),
    pa.FixedShapeTensorArray.from_numpy_ndarray(__import__("numpy").ones((2, 2, 2), "float32")),
    pa.array([[1.5] * 3, None], pa.list_(pa.float32(), 3)),
    pa.array([np.float16(1.5), None], pa.float16()),
    pa.array([{"a": None}, None], pa.struct([("a", pa.null())])),
]


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl", "out.csv"])
@pytest.mark.parametrize("values", STRANGE, ids=lambda values: str(values.type)[:30])
def test_strange_columns_stay_in_parquet_and_elsewhere_are_errors_of_our_own(
    tmp_path: Path, pipe: Any, values: Any, target: str
) -> None:
    table = pa.table({"v": values, "text": ["good", "bad"]})
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / target
    try:
        pq.read_table(tmp_path / "in.parquet")
    except pa.ArrowException as error:
        pytest.skip(f"pyarrow {pa.__version__} cannot read what it has written: {error}")
    try:
        done = annotate_file(pipe, tmp_path / "in.parquet", out, on_error="skip")
    except InputError as error:
        assert target != "out.parquet"
        assert "which only Parquet can hold" in str(error)
        return
    assert done.rows + done.bad == 2
    if target == "out.parquet":
        assert pq.read_table(out)["v"].equals(pq.read_table(tmp_path / "in.parquet")["v"])


def test_texts_that_are_not_utf8_are_bad_rows_of_parquet(tmp_path: Path, pipe: Any) -> None:
    broken = pa.array([b"\xff", b"good", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": broken, "id": [1, 2, 3]}), tmp_path / "in.parquet")
    annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.parquet", on_error="null")
    assert [*report(tmp_path / "out.parquet")] == [1]
    found = duckdb.sql(f"select id, label is null from '{tmp_path}/out.parquet'").fetchall()
    assert found == [(1, True), (2, False), (3, True)]


def test_metadata_categories_and_compression_of_parquet_stay(tmp_path: Path, pipe: Any) -> None:
    frame = pd.DataFrame(
        {"text": ["good", "bad"], "kind": pd.Categorical(["b", "a"], ["b", "a", "c"], ordered=True)}, index=["x", "y"]
    )
    table = pa.Table.from_pandas(frame)
    table = table.replace_schema_metadata(table.schema.metadata | {b"geo": b'{"version": "1.0.0"}'})
    pq.write_table(table, tmp_path / "in.parquet", compression="zstd")
    annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.ParquetFile(tmp_path / "out.parquet")
    assert found.schema_arrow.metadata == pq.read_schema(tmp_path / "in.parquet").metadata
    assert found.metadata.row_group(0).column(0).compression == "ZSTD"
    back = pd.read_parquet(tmp_path / "out.parquet")
    assert [*back.index] == ["x", "y"]
    assert isinstance(back["kind"].dtype, pd.CategoricalDtype)
    assert [*back["kind"]] == ["b", "a"]


# Ways in and out.


@pytest.mark.parametrize("compression", ["gz", "zst"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "txt"])
def test_compressed_text_goes_in_and_out(
    tmp_path: Path, pipe: Any, monkeypatch: pytest.MonkeyPatch, suffix: str, compression: str
) -> None:
    monkeypatch.setattr(text, "ROWS", 2)
    rows = ["good", "bad", "it was", "boring", "x"]
    lines = [json.dumps({"text": row}) for row in rows] if suffix == "jsonl" else rows
    head = ["text"] if suffix in ("csv", "tsv") else []
    data = "".join(line + "\n" for line in head + lines).encode()
    source, out = tmp_path / f"in.{suffix}.{compression}", tmp_path / f"out.{suffix}.{compression}"
    packed: Any = {"gz": gzip.compress, "zst": lambda data: pa.compress(data, "zstd", asbytes=True)}[compression]
    source.write_bytes(packed(data[:20]) + packed(data[20:]))

    def interrupt(read: int, total: int, texts: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate_file(pipe, source, out, progress=interrupt)
    assert annotate_file(pipe, source, out).resumed == 2
    plain = tmp_path / f"in.{suffix}"
    plain.write_bytes(data)
    annotate_file(pipe, plain, tmp_path / f"out.{suffix}")
    with pa.input_stream(str(out), compression={"gz": "gzip", "zst": None}[compression]) as stream:
        unpacked = stream.read()
    if compression == "zst":
        unpacked = pa.CompressedInputStream(pa.BufferReader(unpacked), "zstd").read()
    assert unpacked == (tmp_path / f"out.{suffix}").read_bytes()
    source.write_bytes(source.read_bytes()[:-6])
    with pytest.raises(InputError, match="cannot be read"):
        annotate_file(pipe, source, tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    ("encoding", "given"), [("utf-16", None), ("utf-8-sig", None), ("cp1252", "cp1252"), ("utf-16-le", "utf-16-le")]
)
def test_encodings_are_named_or_found_by_their_marks(
    tmp_path: Path, pipe: Any, encoding: str, given: str | None
) -> None:
    (tmp_path / "in.csv").write_bytes("text,n\r\ncafé,1\r\n".encode(encoding))
    annotate_file(pipe, tmp_path / "in.csv", tmp_path / "out.csv", encoding=given)
    assert (tmp_path / "out.csv").read_bytes().decode().split("\r\n")[1].startswith("café,1,")
    with pytest.raises(InputError, match="encoding is 'klingon'"):
        annotate_file(pipe, tmp_path / "in.csv", tmp_path / "out.csv", encoding="klingon")


def test_bytes_that_are_not_of_the_encoding_make_a_bad_row(tmp_path: Path, pipe: Any) -> None:
    (tmp_path / "in.csv").write_bytes(b"text\ngood\nb\x81d\ncaf\xe9\n")
    done = annotate_file(pipe, tmp_path / "in.csv", tmp_path / "out.csv", encoding="cp1252", on_error="skip")
    assert (done.rows, done.bad) == (2, 1)
    assert "not cp1252" in report(tmp_path / "out.csv")[3]


FORMATS = ("csv", "tsv", "jsonl", "txt", "parquet")
# Setting -> from what to what it is of use; elsewhere it is refused.
OF_USE: dict[str, tuple[Any, Callable[[str, str], bool]]] = {
    "delimiter": (";", lambda source, target: source in ("csv", "tsv") or target == "csv"),
    "header": (False, lambda source, target: bool({source, target} & {"csv", "tsv"})),
    "encoding": ("latin-1", lambda source, target: source != "parquet"),
    "prefix": ("model_", lambda source, target: target != "txt"),
}


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("name", OF_USE)
def test_a_setting_shows_in_the_output_or_is_refused(
    tmp_path: Path, pipe: Any, name: str, source: str, target: str
) -> None:
    value, of_use = OF_USE[name]
    given, out = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    if source == "parquet":
        pq.write_table(pa.table({"1": ["é;x"] if name == "delimiter" else ["é"]}), given)
    else:
        delimiter = "\t" if source == "tsv" else ","
        lines = {"jsonl": ['{"1": "é", "2": 1}'], "txt": ["é"]}.get(source, [f"1{delimiter}2", f"é{delimiter}1"])
        given.write_bytes("\n".join(lines).encode("utf-8"))
    column = "text" if source == "txt" else "1"
    settings: dict[str, Any] = {"column": column, name: value}
    if name == "delimiter" and source in ("csv", "tsv"):
        given.write_bytes(given.read_bytes().replace(b"\t" if source == "tsv" else b",", b";"))
    if of_use(source, target):
        assert annotate_file(pipe, given, out, **settings).rows
        changed = out.read_bytes()
        out.unlink()
        given.write_bytes(given.read_bytes().replace(b";", b"\t" if source == "tsv" else b","))
        annotate_file(pipe, given, out, column=column)
        # A text table of labels says the same whatever the cells were parted by.
        assert (changed == out.read_bytes()) == (name == "delimiter" and target not in ("csv",))
    else:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(InputError, match=f"^{name} is of no use from {given} to {out}: "):
            annotate_file(pipe, given, out, **settings)
        assert sorted(tmp_path.iterdir()) == before


def test_columns_without_names_are_numbered(tmp_path: Path, pipe: Any) -> None:
    (tmp_path / "in.tsv").write_bytes(b"1\tgood\n2\tbad\n")
    annotate_file(pipe, tmp_path / "in.tsv", tmp_path / "out.tsv", column="2", header=False)
    found = (tmp_path / "out.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in found] == [["1", "good"], ["2", "bad"]]
    annotate_file(pipe, tmp_path / "in.tsv", tmp_path / "out.jsonl", column="2", header=False)
    assert [*json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])] == ["1", "2", "label", "score"]


def test_empty_texts_have_no_answer_and_bad_ones_can_be_kept(tmp_path: Path, make: Make) -> None:
    pipe = npdistil.pipeline("text-classification", make(), engine="numpy", long_text="error")
    rows = [
        {"text": "good"},
        {"text": ""},
        {"text": None},
        {"text": " \t"},
        {"text": "film " * 50},
        {"text": 3},
        {"x": 1},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    done = annotate_file(pipe, tmp_path / "in.jsonl", out, on_error="null")
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["label"] is None for row in found] == [False, True, True, True, True, True]
    assert [*report(out)] == [5, 6, 7]
    assert (done.rows, done.bad, done.empty) == (6, 3, 3)


def test_parquet_comes_from_a_file_and_goes_to_one(tmp_path: Path, pipe: Any) -> None:
    pq.write_table(pa.table({"text": ["good"]}), source := tmp_path / "in.parquet")
    with pytest.raises(InputError, match="cannot be written to standard output; give a file"):
        annotate_file(pipe, source, "-", output_format="parquet")
    with pytest.raises(InputError, match="cannot be written to standard output; give a file"):
        annotate_file(pipe, source, "-")
    with pytest.raises(InputError, match="cannot be read from standard input; give a file"):
        annotate_file(pipe, "-", tmp_path / "out.csv", input_format="parquet")
    assert not [*tmp_path.glob("out*")]


def test_standard_input_and_output(tmp_path: Path, make: Make) -> None:
    def run(*arguments: str, given: bytes) -> bytes:
        command = [
            sys.executable,
            "-m",
            "npdistil",
            "classify",
            "--model",
            str(make()),
            "--engine",
            "numpy",
            *arguments,
        ]
        return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout

    given = b"a;text\n1;good\n2;\n"
    found = run("--input", "-", "--input-format", "csv", "--delimiter", ";", "--output", "-", given=given)
    lines = found.decode().splitlines()
    assert lines[0] == "a;text;label;score"
    assert lines[1].startswith("1;good;POSITIVE;")
    assert lines[2] == "2;;;"
    out = tmp_path / "out.parquet"
    run("--input", "-", "--input-format", "csv", "--delimiter", ";", "--output", str(out), given=given)
    assert duckdb.sql(f"select a, label from '{out}'").fetchall() == [("1", "POSITIVE"), ("2", None)]
    assert main(["classify", "--input", "-", "--output", "-"]) == 2


TASKS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "ner",
        {"architectures": ["DistilBertForTokenClassification"], "id2label": {"0": "B-PER", "1": "B-LOC"}},
        {},
        "entities",
    ),
    (
        "zero-shot-classification",
        {"id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"}},
        {"candidate_labels": ["film", "food"]},
        "labels",
    ),
    ("embedding", {}, {}, "vector"),
]


@pytest.mark.parametrize(("name", "model", "settings", "column"), TASKS, ids=[task[0] for task in TASKS])
def test_every_task_that_takes_text_takes_rows(
    tmp_path: Path, make: Make, name: Any, model: dict[str, Any], settings: dict[str, Any], column: str
) -> None:
    pipe = npdistil.pipeline(name, make(max_position_embeddings=64, **model), engine="numpy", **settings)
    pq.write_table(pa.table({"text": ["the film is good", None, "bad"]}), tmp_path / "in.parquet")
    expected = []
    for answer in pipe(["the film is good", "bad"]):
        if column == "labels":
            pairs = zip(answer["labels"], answer["scores"], strict=True)
            expected.append([{"label": label, "score": score} for label, score in pairs])
        else:
            expected.append(answer.tolist() if column == "vector" else answer)
    expected = json.loads(json.dumps(expected))
    annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")[column].to_pylist()
    assert [found[0], found[2]] == expected
    assert found[1] is None
    assert pl.read_parquet(tmp_path / "out.parquet")[column].is_null().to_list() == [False, True, False]
    annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_bytes().decode().split("\n")[:-1]
    assert [json.loads(line)[column] for line in lines] == found
    annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert [
        json.loads(cell or "null") for cell in pd.read_csv(tmp_path / "out.csv", keep_default_na=False)[column]
    ] == found


def test_tasks_that_take_more_than_a_text_are_refused(tmp_path: Path, make: Make) -> None:
    pipe = npdistil.pipeline("fill-mask", make(architectures=["DistilBertForMaskedLM"]), engine="numpy")
    with pytest.raises(InputError, match="the task is FillMask"):
        annotate_file(pipe, tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb", "pyarrow", "reader"])
def test_tables_of_every_library_meet_it_without_a_file(pipe: Any, library: str) -> None:
    table = pa.table({"id": [1, 2, 3], "text": ["good", None, "bad"]})
    data = {
        "pandas": lambda: table.to_pandas(),
        "polars": lambda: pl.from_arrow(table),
        "duckdb": lambda: duckdb.from_arrow(table),
        "pyarrow": lambda: table,
        "reader": lambda: table.to_reader(max_chunksize=2),
    }[library]()
    found = annotate_batches(data, pipe)
    assert isinstance(found, pa.RecordBatchReader)
    rows = found.read_all().select(["id", "label", "score"]).to_pylist()
    good, bad = pipe(["good", "bad"])
    assert rows == [{"id": 1, **good}, {"id": 2, "label": None, "score": None}, {"id": 3, **bad}]
    back: Any = pl.DataFrame(annotate_batches(table, pipe))
    assert back["label"].to_list() == [good["label"], None, bad["label"]]
    result = annotate_batches(table, pipe)  # noqa: F841 - duckdb finds it by its name
    assert duckdb.sql("select count(label) from result").fetchall() == [(2,)]


def test_tables_that_cannot_be_used_are_refused(pipe: Any) -> None:
    with pytest.raises(InputError, match="found a list; expected a table"):
        annotate_batches([1], pipe)
    with pytest.raises(InputError, match="column 'text' of the table is int64; expected strings"):
        annotate_batches(pa.table({"text": [1]}), pipe)
    with pytest.raises(InputError, match="no column 'text'; it has a"):
        annotate_batches(pa.table({"a": ["x"]}), pipe)
    with pytest.raises(InputError, match="has a column 'label' already"):
        annotate_batches(pa.table({"text": ["x"], "label": ["x"]}), pipe)


# What lies beside the output.


def test_a_run_that_opens_what_another_has_finished_meanwhile_starts_its_own(
    tmp_path: Path, pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    (tmp_path / "in.txt").write_text("good\n")
    lock, others = fcntl.flock, ["the output of another run\n"]

    def finish_first(file: Any, how: int) -> None:
        if others:
            Path(f"{out}.partial").write_text(others.pop())
            Path(f"{out}.partial").rename(out)
            os.link(out, tmp_path / "kept")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    annotate_file(pipe, tmp_path / "in.txt", out)
    assert (tmp_path / "kept").read_text() == "the output of another run\n"
    assert json.loads(out.read_text())["text"] == "good"


@pytest.mark.parametrize("suffix", [".partial", ".errors.jsonl", ".journal", ".errors.partial", ".new"])
def test_an_input_that_would_be_written_beside_the_output_is_safe(tmp_path: Path, pipe: Any, suffix: str) -> None:
    source = tmp_path / f"out.csv{suffix}"
    source.write_text('{"text": "good"}\n')
    with pytest.raises(InputError, match="is the input and would be written beside the output"):
        annotate_file(pipe, source, tmp_path / "out.csv", input_format="jsonl")
    assert source.read_text() == '{"text": "good"}\n'


def test_files_of_others_and_links_are_left_alone(tmp_path: Path, pipe: Any) -> None:
    (tmp_path / "in.txt").write_text("good\n")
    (tmp_path / "out.jsonl.partial").write_text("something of mine\n")
    with pytest.raises(InputError, match="is there and no journal beside it says of what; move it away"):
        annotate_file(pipe, tmp_path / "in.txt", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl.partial").read_text() == "something of mine\n"
    (tmp_path / "mine").write_text("")
    for suffix in (".partial", ".errors.partial", ".journal.new"):
        link = tmp_path / f"other.jsonl{suffix}"
        link.symlink_to(tmp_path / "mine")
        with pytest.raises(OSError, match="symbolic links"):
            annotate_file(pipe, tmp_path / "in.txt", tmp_path / "other.jsonl")
        assert (tmp_path / "mine").read_text() == ""
        link.unlink()
        for each in tmp_path.glob("other.jsonl.*"):
            each.unlink()


@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_the_mode_of_a_replaced_output_stays(tmp_path: Path, pipe: Any, target: str) -> None:
    (tmp_path / "in.csv").write_text("text\ngood\n")
    out = tmp_path / target
    out.touch()
    out.chmod(0o600)
    seen = []

    def look(*_: int) -> None:
        seen.append((tmp_path / f"{target}.partial").stat().st_mode & 0o777)

    annotate_file(pipe, tmp_path / "in.csv", out, progress=look)
    assert [*seen, out.stat().st_mode & 0o777] == [0o600, 0o600]


@pytest.mark.parametrize("change", ["config.json", "tokenizer.json", "input"])
def test_what_changed_under_the_same_size_and_time_is_noticed(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(text, "ROWS", 2)
    model, source = make(), tmp_path / "in.txt"
    source.write_text("good\n" * 9)

    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    def run(progress: Any = None) -> Any:
        pipe = npdistil.pipeline("text-classification", model, engine="numpy")
        return annotate_file(pipe, source, tmp_path / "out.jsonl", progress=progress)

    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    path = source if change == "input" else model / change
    if not path.exists():
        path = model / "vocab.txt"
    before, data = path.stat(), path.read_text()
    changed = data.replace("good", "dull") if change != "config.json" else data.replace("NEGATIVE", "NEGATIVA")
    assert changed != data
    path.write_text(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match=f"of another {'input' if change == 'input' else 'model'}"):
        run()


def test_an_input_that_grows_meanwhile_is_noticed(tmp_path: Path, pipe: Any) -> None:
    source = tmp_path / "in.txt"
    source.write_text("good\n")

    def grow(*_: int) -> None:
        with source.open("a") as stream:
            stream.write("bad\n")

    with pytest.raises(InputError, match=r"in\.txt has changed while it was read"):
        annotate_file(pipe, source, tmp_path / "out.jsonl", progress=grow)
    assert not (tmp_path / "out.jsonl").exists()


WIDE = """
import re, sys
import npdistil
from npdistil.files import annotate_file
model, source, target = sys.argv[1:]
annotate_file(npdistil.pipeline("text-classification", model, engine="numpy"), source, target)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_wide_rows_take_no_more_memory(tmp_path: Path, make: Make, suffix: str) -> None:
    model, peaks = make(), {}
    for rows in (20, 500):  # of 400 kB
        source = tmp_path / f"{rows}{suffix}"
        wide = [os.urandom(200_000).hex() for _ in range(20)]
        data = ({"text": f"{i % 50} good", "wide": wide[i % 20]} for i in range(rows))
        if suffix == ".parquet":
            with pq.ParquetWriter(
                source, pa.schema([("text", "string"), ("wide", "string")]), use_dictionary=False
            ) as out:
                for row in data:
                    out.write_table(pa.Table.from_pylist([row]), row_group_size=rows)
        else:
            with source.open("w") as stream:
                stream.write("text,wide\n" if suffix == ".csv" else "")
                for row in data:
                    stream.write(f"{row['text']},{row['wide']}\n" if suffix == ".csv" else json.dumps(row) + "\n")
        command = [sys.executable, "-c", WIDE, str(model), str(source), str(tmp_path / f"out-{rows}{suffix}")]
        peaks[rows] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024
    print(f"{peaks} MB")
    assert peaks[500] < peaks[20] + 80  # the file has 200


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mkfs.ext4") or not Path("/dev/loop-control").exists(),
    reason="mounting an image needs root, ext4 and loop devices",
)
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_nothing_that_was_done_is_lost_when_the_power_goes(
    tmp_path: Path, pipe: Any, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """What a disk has at a moment is copied, and mounted as after a power cut."""
    monkeypatch.setattr(text, "ROWS", 2)
    source, image, mounted = tmp_path / "in.csv", tmp_path / "disk", tmp_path / "mounted"
    source.write_text("text\n" + "".join(f"{i} good\n" for i in range(7)))
    with image.open("wb") as stream:
        stream.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mounted.mkdir()

    def mount(path: Path) -> None:
        found = subprocess.run(["mount", "-o", "loop", str(path), str(mounted)], check=False, capture_output=True)
        if found.returncode:
            pytest.skip(f"an image cannot be mounted here: {found.stderr.decode()}")

    def cut(name: str) -> None:
        shutil.copy(image, tmp_path / name)

    moments = iter(range(100))
    mount(image)
    try:
        annotate_file(pipe, source, mounted / target, progress=lambda *_: cut(f"after-{next(moments)}"))
        cut("done")
        whole = (mounted / target).read_bytes()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    for name in ["done", *(f"after-{i}" for i in range(next(moments)))]:
        mount(tmp_path / name)
        try:
            if name == "done":
                assert (mounted / target).read_bytes() == whole
            else:
                done = annotate_file(pipe, source, mounted / target)
                assert done.resumed == min(7, 2 * int(name[6:]) + 2), name
                assert done.rows == 7
                assert target != "out.csv" or (mounted / target).read_bytes() == whole
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
