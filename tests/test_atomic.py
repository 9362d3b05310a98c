"""Files and directories get their names whole, and only when they are on the disk."""

import os
from pathlib import Path
from typing import Any

import pytest

from npdistil import atomic


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order."""
    found: list[str] = []
    sync, rename = os.fsync, Path.replace

    def record_sync(descriptor: int) -> None:
        found.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def record_rename(source: Path, target: Path) -> Any:
        found.append(f"rename {source.name} {target.name}")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_rename)
    return found


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"old")
    atomic.write(tmp_path / "file", b"new")
    assert calls == ["sync file.new", "rename file.new file", f"sync {tmp_path.name}"]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"new")]


def test_a_directory_comes_with_all_that_is_in_it(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "made" / "inner").mkdir(parents=True)
    (tmp_path / "made" / "inner" / "file").write_bytes(b"x")
    atomic.move(tmp_path / "made", tmp_path / "named")
    assert sorted(calls[:3]) == ["sync file", "sync inner", "sync made"]
    assert calls[3:] == ["rename made named", f"sync {tmp_path.name}"]
    assert (tmp_path / "named" / "inner" / "file").read_bytes() == b"x"


def test_what_cannot_be_renamed_stays(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        atomic.write(tmp_path / "taken", b"new")
    assert (tmp_path / "taken.new").read_bytes() == b"new"
