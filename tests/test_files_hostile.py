"""Files that nobody here wrote, and places that are not what they seem: a clear error, or the right output."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import npdistil
from npdistil.cli import main
from npdistil.errors import InputError
from npdistil.files import annotate_file, text

Make = Callable[..., Path]


@pytest.fixture
def pipe(make: Make) -> Any:
    return npdistil.pipeline("text-classification", make(), engine="numpy")


def report(out: Path) -> dict[int, str]:
    path = Path(f"{out}.errors.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return {each["line"]: each["error"] for each in map(json.loads, lines)}


ROWS = b"text,n\n" + b"".join(b"good %d,%d\n" % (i, i) for i in range(50))
ZIPPED, ZST = gzip.compress(ROWS, mtime=0), bytes(pa.compress(ROWS, "zstd", asbytes=True))
GOOD = [f"good {i}" for i in range(50)]
NULS = sys.version_info >= (3, 11)  # which Python's csv refused before

BAD_FILES: list[tuple[str, str, bytes, str]] = [
    ("gz cut short", "in.csv.gz", ZIPPED[:-20], r"cannot be read on after line \d+: Compressed file ended before"),
    ("gz with another checksum", "in.csv.gz", ZIPPED[:-8] + bytes(8), "cannot be read on after line 51: CRC check"),
    ("gz with more behind", "in.csv.gz", ZIPPED + b"more", "cannot be read on after line 51: Not a gzipped file"),
    ("no gz", "in.csv.gz", ROWS, "cannot be read: Not a gzipped file"),
    ("empty gz", "in.csv.gz", b"", "the first line should name the columns"),
    ("zst cut short", "in.csv.zst", ZST[:-5], "cannot be read: Truncated"),
    ("no zst", "in.csv.zst", ROWS, "cannot be read: ZSTD decompress failed"),
    ("a quote never closed in the first line", "in.csv", b'"text,n\ngood,1\n', "line 1: not CSV: unexpected end"),
    ("lines that end with CR", "in.csv", b"text,n\rgood,1\r", r"line 1: not CSV: new-line character seen in [a-z ]+$"),
    ("a blank first line", "in.csv", b"\n\ntext,n\ngood,1", "the first line should name the columns"),
    ("UTF-16 without a mark", "in.csv", "text\ngood\n".encode("utf-16-le"), "has no column 'text'" if NULS else "NUL"),
    (
        "UTF-16 with half a unit",
        "in.jsonl",
        '{"text": "é"}\n'.encode("utf-16") + b"x",
        "after line 1: .* truncated data",
    ),
    ("Parquet called CSV", "in.csv", b"PAR1\x15\x04\x15\xd4\n", "line 1: not utf-8: "),
    ("CSV called Parquet", "in.parquet", ROWS, "cannot be read as Parquet: "),
]


@pytest.mark.parametrize(
    ("name", "data", "says"), [case[1:] for case in BAD_FILES], ids=[case[0] for case in BAD_FILES]
)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_file_that_cannot_be_read_is_named_with_the_line_and_no_output_appears(
    tmp_path: Path, pipe: Any, name: str, data: bytes, says: str, on_error: str
) -> None:
    source, out = tmp_path / name, tmp_path / "out.jsonl"
    source.write_bytes(data)
    with pytest.raises(InputError, match=f"^{source}.*{says}"):
        annotate_file(pipe, source, out, on_error=on_error)
    assert not out.exists()


# Name, data, what becomes of the texts, and the lines that are bad.
ODD_FILES: list[tuple[str, str, bytes, list[str], list[int]]] = [
    ("two streams of gz", "in.csv.gz", ZIPPED + gzip.compress(b"more,1\n"), [*GOOD, "more"], []),
    ("two frames of zst", "in.csv.zst", ZST + bytes(pa.compress(b"x,1\n", "zstd", asbytes=True)), [*GOOD, "x"], []),
    (
        "NULs",
        "in.csv",
        b"text,n\ngood,1\nb\0d,2\n\0\0\nfine,3\n",
        ["good", "b\0d", "fine"] if NULS else ["good", "fine"],
        [4] if NULS else [3, 4],
    ),
    ("a mark of UTF-8", "in.csv", b"\xef\xbb\xbftext\ngood\n", ["good"], []),
    ("a mark of UTF-16", "in.jsonl", '{"text": "é"}\n'.encode("utf-16"), ["é"], []),
    ("a mark of UTF-32", "in.jsonl", '{"text": "é"}\n'.encode("utf-32"), ["é"], []),
    ("ends of lines that differ", "in.csv", b'text,n\r\na,1\nb,2\r\n"c\rc",3\rd,4\ne,5', ["a", "b", "e"], [4]),
    ("a quote never closed", "in.csv", b'text,n\ngood,1\n"never,2\nfine,3\n', ["good"], [3]),
    ("text behind a quote", "in.csv", b'text,n\nhe "said" x,1\n"a"b,2\nc,3\n', ['he "said" x', "c"], [3]),
    ("columns without names", "in.csv", b"text,\ngood,1\n", ["good"], []),
    ("a member twice", "in.jsonl", b'{"text": "a", "text": "b"}\n{"text": "c", "v": 1, "v": 2}\n', ["c"], [1]),
    ("deep JSON", "in.jsonl", b'{"text": "a", "v": %s%s}\n{"text": "b"}\n' % (b"[" * 10**5, b"]" * 10**5), ["b"], [1]),
    ("objects over lines", "in.jsonl", b'{\n "text": "a"\n}\n{"text": "b"}\n', ["b"], [1, 2, 3]),
    ("a list of objects", "in.jsonl", b'[{"text": "a"}]\n', [], [1]),
    ("two objects in a line", "in.jsonl", b'{"text": "a"} {"text": "b"}\n', [], [1]),
    ("half a character", "in.jsonl", b'{"text": "a", "v": "\\ud800"}\n{"text": "b", "\\udc00": 1}\n', [], [1, 2]),
    ("both halves", "in.jsonl", b'{"text": "\\ud83d\\ude00"}\n', ["😀"], []),
    ("numbers of any size", "in.jsonl", b'{"text": "a", "v": %s, "w": 1e400, "x": -0}\n' % (b"9" * 6000), ["a"], []),
    ("NaN", "in.jsonl", b'{"text": "a", "v": NaN}\n{"text": "b"}\n', ["b"], [1]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "texts", "bad"), [case[1:] for case in ODD_FILES], ids=[case[0] for case in ODD_FILES]
)
def test_what_is_odd_stays_as_it_is_or_is_a_bad_row(
    tmp_path: Path, pipe: Any, name: str, data: bytes, texts: list[str], bad: list[int]
) -> None:
    source, out = tmp_path / name, tmp_path / "out.jsonl"
    source.write_bytes(data)
    annotate_file(pipe, source, out, on_error="skip")
    lines = out.read_bytes().decode().split("\n")[:-1]
    assert [json.loads(line, parse_int=str)["text"] for line in lines] == texts
    assert [*report(out)] == bad


def test_a_line_that_takes_gigabytes_unpacked_is_a_bad_row(
    tmp_path: Path, pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "LONGEST", 2**16)
    bomb = gzip.compress(b'{"text": "' + b"x" * 2**26 + b'"}\n{"text": "good"}\n')
    assert len(bomb) < 2**17
    source, out = tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl"
    source.write_bytes(bomb)
    done = annotate_file(pipe, source, out, on_error="skip")
    assert (done.rows, report(out)) == (1, {1: "a line of more than 65,536 bytes"})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("9" * 6000, "'v': an int64 does not hold 9{80}$"),
        ("9" * 3000, "'v': an int64 does not hold 9{80}$"),
        ("0." + "1" * 3000, "'v': a float64 does not hold 0.1{78}$"),
        ("[" * 62 + "]" * 62, "'v': more than 40 lists and objects in one another"),
        ('{"a":' * 70 + "1" + "}" * 70, "'v': more than 40 lists and objects in one another"),
    ],
)
def test_a_value_that_parquet_cannot_hold_makes_a_bad_row_though_no_other_row_has_its_column(
    tmp_path: Path, pipe: Any, value: str, says: str
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text(f'{{"text": "a"}}\n{{"text": "b", "v": {value}}}\n')
    assert annotate_file(pipe, source, out, on_error="skip").rows == 1
    assert re.match(says, report(out)[2])
    assert pq.read_table(out).column_names == ["text", "label", "score"]


def test_values_are_nested_as_deep_as_arrow_can_write(tmp_path: Path, pipe: Any) -> None:
    source, out, value = tmp_path / "in.jsonl", tmp_path / "out.parquet", "[" * 40 + "1" + "]" * 40
    source.write_text(f'{{"text": "a", "v": {value}}}\n')
    annotate_file(pipe, source, out)
    assert pq.read_table(out)["v"].to_pylist() == [json.loads(value)]


# Encodings.


@pytest.mark.parametrize("encoding", ["hex", "rot13", "zip", "undefined", "no such", "", "utf\0-8"])
def test_encodings_that_are_none_of_texts_are_refused(tmp_path: Path, pipe: Any, encoding: str) -> None:
    (tmp_path / "in.csv").write_text("text\ngood\n")
    with pytest.raises(InputError, match="^encoding is .*; expected a name that Python knows"):
        annotate_file(pipe, tmp_path / "in.csv", tmp_path / "out.csv", encoding=encoding)


@pytest.mark.parametrize("encoding", ["ascii", "shift_jis", "cp1252"])
def test_bytes_that_are_not_of_the_encoding_are_no_text_though_they_were_utf8(
    tmp_path: Path, pipe: Any, encoding: str
) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    wrong = {"cp1252": "\x81".encode("latin-1"), "shift_jis": b"\xfd"}.get(encoding, "é".encode())
    source.write_bytes(b"good\nbad " + wrong + b"\n")
    annotate_file(pipe, source, out, encoding=encoding, on_error="skip")
    (error,) = report(out).values()
    assert error.startswith("not ")


# Parquet.


def parquet(path: Path, table: Any = None, **settings: Any) -> bytes:
    table = pa.table({"text": GOOD, "n": range(50)}) if table is None else table
    pq.write_table(table, path, **settings)
    return path.read_bytes()


@pytest.mark.parametrize("target", ["out.parquet", "out.csv", "out.jsonl", "out.txt"])
def test_parquet_without_rows_becomes_a_file_without_rows(tmp_path: Path, pipe: Any, target: str) -> None:
    schema = pa.schema([("text", "string"), ("n", "int64")])
    for name, groups in (("none.parquet", 0), ("empty.parquet", 1)):
        with pq.ParquetWriter(tmp_path / name, schema) as writer:
            for _ in range(groups):
                writer.write_table(schema.empty_table())
        assert annotate_file(pipe, tmp_path / name, tmp_path / f"{groups}-{target}").rows == 0
    if target == "out.csv":
        assert (tmp_path / "0-out.csv").read_text() == "text,n,label,score\n"


def test_columns_of_one_name_stay_in_parquet_and_are_refused_elsewhere(tmp_path: Path, pipe: Any) -> None:
    source = tmp_path / "in.parquet"
    parquet(source, pa.table([["good"], [1], [2]], names=["text", "n", "n"]))
    annotate_file(pipe, source, tmp_path / "out.parquet")
    found = pq.ParquetFile(tmp_path / "out.parquet").read()
    assert found.column_names == ["text", "n", "n", "label", "score"]
    assert [each.to_pylist() for each in found.columns[:3]] == [["good"], [1], [2]]
    for target in ("out.csv", "out.jsonl"):
        with pytest.raises(InputError, match=f"^{source} has two columns 'n'"):
            annotate_file(pipe, source, tmp_path / target)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({}), "has no column 'text'"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), "has 2 columns 'text'"),
        (pa.table({"text": [b"a"]}), "is binary; expected strings"),
        (pa.table({"text": [["a"]]}), "expected strings"),
    ],
)
def test_parquet_without_a_column_of_texts_is_refused(tmp_path: Path, pipe: Any, table: Any, says: str) -> None:
    parquet(tmp_path / "in.parquet", table)
    with pytest.raises(InputError, match=says):
        annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.parquet")


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_page_that_is_broken_is_named_by_the_last_row_before_it(tmp_path: Path, pipe: Any, on_error: str) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    data = parquet(source, pa.table({"text": GOOD * 60}), row_group_size=1024)
    begin = pq.ParquetFile(source).metadata.row_group(1).column(0).data_page_offset
    source.write_bytes(data[: begin + 20] + bytes(40) + data[begin + 60 :])
    with pytest.raises(InputError, match=rf"^{source} cannot be read on after row 1024: \S"):
        annotate_file(pipe, source, out, on_error=on_error)
    assert not out.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4] + b"PARE",
        lambda data: b"PARE" + data[4:-4] + b"PARE",
        lambda data: data[:-8] + b"\xff\xff\xff\x7fPAR1",
        lambda data: data[:-200] + bytes(192) + data[-8:],
    ],
    ids=["half", "encrypted footer", "encrypted", "long footer", "no footer"],
)
def test_parquet_that_is_none_says_what_is_wrong(tmp_path: Path, pipe: Any, change: Callable[[bytes], bytes]) -> None:
    source = tmp_path / "in.parquet"
    source.write_bytes(change(parquet(source)))
    with pytest.raises(InputError, match=rf"^{source} cannot be read as Parquet: \S.*\S$"):
        annotate_file(pipe, source, tmp_path / "out.parquet")
    assert not [*tmp_path.glob("out*")]


def test_a_column_whose_name_is_not_utf8_is_refused(tmp_path: Path, pipe: Any) -> None:
    source = tmp_path / "in.parquet"
    data = parquet(source, pa.table({"text": ["good"], "other": [1]}), store_schema=False)
    source.write_bytes(data.replace(b"other", b"ot\xffer"))
    with pytest.raises(InputError, match=f"^{source} cannot be read as Parquet: .*decode byte 0xff"):
        annotate_file(pipe, source, tmp_path / "out.parquet")


def test_parquet_nested_deeper_than_arrow_writes_is_refused(tmp_path: Path, pipe: Any) -> None:
    column = pa.array([1])
    for _ in range(70):
        column = pa.StructArray.from_arrays([column], ["a"])
    parquet(tmp_path / "in.parquet", pa.table({"text": ["good"], "v": column}))
    with pytest.raises(InputError, match="cannot become Parquet: Max recursion depth"):
        annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert annotate_file(pipe, tmp_path / "in.parquet", tmp_path / "out.jsonl").rows == 1


# Places.


def written(path: Path, data: str = "text\ngood\n") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(data)
    return path


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_an_output_that_is_the_input_by_a_link_is_refused(tmp_path: Path, pipe: Any, link: Any) -> None:
    source, out = written(tmp_path / "in.csv"), tmp_path / "out.csv"
    link(source, out)
    with pytest.raises(InputError, match=r"out\.csv is the input; choose another name"):
        annotate_file(pipe, source, out)
    assert source.read_text() == "text\ngood\n"


def test_a_pipe_or_a_device_is_neither_read_nor_replaced(tmp_path: Path, pipe: Any) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv is not a file"):
        annotate_file(pipe, tmp_path / "pipe.csv", tmp_path / "out.csv")
    for name in (tmp_path / "pipe.csv", Path("/dev/null")):
        with pytest.raises(InputError, match=f"^{name} is no file; expected the name of a file"):
            annotate_file(pipe, written(tmp_path / "in.csv"), name, output_format="csv")
        assert not name.is_file()


@pytest.mark.parametrize("source", ["in", "in/*.csv", "in/**/*.csv"])
def test_a_pipe_among_many_files_is_refused_before_any_work(tmp_path: Path, pipe: Any, source: str) -> None:
    written(tmp_path / "in" / "a.csv")
    os.mkfifo(tmp_path / "in" / "b.csv")
    with pytest.raises(InputError, match=r"b\.csv is not a file"):
        annotate_file(pipe, tmp_path / source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "says"), [("in", "links to directories are not followed"), ("in/**/*.csv", "does not follow these")]
)
def test_links_that_go_in_circles_are_refused(tmp_path: Path, pipe: Any, source: str, says: str) -> None:
    written(tmp_path / "in" / "a.csv")
    (tmp_path / "in" / "again").symlink_to(".")
    with pytest.raises(InputError, match=f"again is a link to .*{says}"):
        annotate_file(pipe, tmp_path / source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_vanishes_meanwhile_is_named(tmp_path: Path, pipe: Any) -> None:
    for name in "abc":
        written(tmp_path / "in" / f"{name}.csv")
    with pytest.raises(InputError, match=r"c\.csv is not a file"):
        annotate_file(
            pipe, tmp_path / "in", tmp_path / "out", progress=lambda *_: (tmp_path / "in" / "c.csv").unlink(True)
        )
    assert (tmp_path / "out" / "b.csv").exists()


@pytest.mark.parametrize("path", ["", "a\0.csv", b"a.csv", None, 3])
def test_what_is_no_path_is_refused(tmp_path: Path, pipe: Any, path: Any) -> None:
    source = written(tmp_path / "in.csv")
    with pytest.raises(InputError, match="^source is .*; expected a path"):
        annotate_file(pipe, path, tmp_path / "out.csv")
    with pytest.raises(InputError, match="^target is .*; expected a path"):
        annotate_file(pipe, source, path)


def test_the_command_says_where_it_could_not_write_and_leaves_nothing(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    source, model = written(tmp_path / "in.csv"), str(make())
    written(tmp_path / "file")
    for out in ("no/out.csv", "file/out.csv", f"{'x' * 300}.csv"):
        arguments = ["--model", model, "--engine", "numpy", "--input", str(source), "--output", str(tmp_path / out)]
        assert main(["classify", *arguments]) == 2
        assert f"{tmp_path / out}" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "file", Path(model).name}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
@pytest.mark.parametrize("target", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_run_that_a_full_disk_stops_goes_on_when_there_is_room(tmp_path: Path, pipe: Any, target: str) -> None:
    source, disk = tmp_path / "in.csv", tmp_path / "disk"
    source.write_text("text,n\n" + "".join(f"good {i % 50},{'x' * 90}{i}\n" for i in range(9000)))
    annotate_file(pipe, source, tmp_path / target)
    disk.mkdir()

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", disk], check=False, capture_output=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode()}")

    mount("-o", "size=800k")
    try:
        with pytest.raises(OSError, match="No space left on device"):
            annotate_file(pipe, source, disk / target)
        assert not (disk / target).exists()
        mount("-o", "remount,size=8m")
        done = annotate_file(pipe, source, disk / target)
        assert done.resumed
        assert done.rows == 9000
        assert (disk / target).read_bytes() == (tmp_path / target).read_bytes()
        assert [path.name for path in disk.iterdir()] == [target]
    finally:
        subprocess.run(["umount", disk], check=True)
