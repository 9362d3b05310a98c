"""The files beside an output that is being written: rows and report so far, and the journal that vouches for them."""

import io
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import atomic
from ..errors import InputError
from .readers import Row, Values
from .writers import Writer, json_line


@dataclass
class State:
    """How far a run has come."""

    place: int = 0
    line: int = 0
    rows: int = 0
    bad: int = 0
    bytes: int = 0  # of OUTPUT.partial
    error_bytes: int = 0
    finishing: bool = False  # all rows are written; files are being moved to their names


class PartialOutput:
    """What a run has written so far; an interrupted one's where its journal says that it depended on the same things.

    What lies behind the journal's byte counts was being written when the run was interrupted, and is cut off.
    """

    def __init__(self, target: Path, depends_on: Mapping[str, Any]) -> None:
        self.target = target
        self.partial, self.bad, self.journal, self.report = (
            target.with_name(target.name + suffix)
            for suffix in (".partial", ".errors.partial", ".journal", ".errors.jsonl")
        )
        self.depends_on: Values = json.loads(json.dumps(depends_on))
        self.state = State()
        self.files = ExitStack()

    def __enter__(self) -> "PartialOutput":
        with self.files:
            self.rows_file = self._open(self.partial)
            with suppress(OSError, ImportError):  # a file system without locks, or Windows
                import fcntl

                try:
                    fcntl.flock(self.rows_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(f"{self.target} is being written by another process") from None
            if self.journal.exists():
                self._resume()
            self.bad_file = self._open(self.bad)
            for file, size in ((self.rows_file, self.state.bytes), (self.bad_file, self.state.error_bytes)):
                file.seek(0, os.SEEK_END)
                if file.tell() < size and not self.state.finishing:
                    raise InputError(f"{self._leftover()} do not fit together")
                file.truncate(min(size, file.tell()))
                file.seek(0, os.SEEK_END)
            self.files = self.files.pop_all()
        return self

    def _open(self, path: Path) -> io.BufferedRandom:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        return self.files.enter_context(os.fdopen(os.open(path, flags, 0o666), "r+b"))

    def _leftover(self) -> str:
        return f"{self.partial} and {self.journal.name}, which an interrupted run has left,"

    def _resume(self) -> None:
        try:
            found = json.loads(self.journal.read_bytes())
            depended_on, self.state = dict(found["depends_on"]), State(**found["state"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self.journal} is not a journal of this program: {error}") from None
        if changed := [name for name, value in self.depends_on.items() if depended_on.get(name) != value]:
            raise InputError(
                f"{self._leftover()} are of another {' and '.join(changed)}; delete them to start from the beginning"
            )

    def add(self, rows: bytes, report: list[Values], count: int, last: Row | None) -> None:
        """Write the rows of a window and its report, then the journal."""
        for file, data in ((self.rows_file, rows), (self.bad_file, b"".join(map(json_line, report)))):
            if data:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        state = self.state
        state.rows, state.bad = state.rows + count, state.bad + len(report)
        state.bytes, state.error_bytes = self.rows_file.tell(), self.bad_file.tell()
        if last:
            state.place, state.line = last.place, last.last_line
        self._write_journal()

    def _write_journal(self) -> None:
        atomic.write(self.journal, json.dumps({"depends_on": self.depends_on, "state": asdict(self.state)}).encode())

    def finish(self, writer: Writer) -> None:
        """Give the files their names; whatever is interrupted here is done again."""
        if not self.state.finishing:
            self.state.finishing = True
            self._write_journal()
        if self.state.bad:
            if self.bad.stat().st_size == self.state.error_bytes:  # or it has its name already
                atomic.move(self.bad, self.report)
        else:
            self.report.unlink(missing_ok=True)  # of an earlier file of this name
        if self.partial.stat().st_size == self.state.bytes:
            writer.finish(self.partial, self.target)
        self.journal.unlink()

    def __exit__(self, kind: object, *_: object) -> None:
        self.files.close()
        if kind is None or not self.journal.exists():  # done, or nothing worth keeping
            self.partial.unlink(missing_ok=True)
            self.bad.unlink(missing_ok=True)
