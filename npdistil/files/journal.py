"""The files beside an output that is being written: rows and report so far, and the journal that vouches for them."""

import io
import json
import os
import stat
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from .. import atomic
from ..errors import InputError
from ..settings import spoken
from .rows import dumps

Report = list[dict[str, Any]]  # {"line", "last_line", "error"} of each bad row


def journal_of(target: Path) -> Path:
    """The file that says how far an output has come."""
    return target.with_name(f"{target.name}.journal")


def beside(target: Path) -> list[Path]:
    """All files that a run may write beside its output."""
    suffixes = (".partial", ".errors.partial", ".errors.jsonl", ".new", ".journal.new")
    return [journal_of(target), *(target.with_name(target.name + suffix) for suffix in suffixes)]


def left(target: Path) -> str:
    """Names of the files that an interrupted run has left beside its output."""
    journal, partial, bad, *_ = beside(target)
    first, *more = [each for each in (partial, bad, journal) if each.exists()]
    return " and ".join(
        [", ".join([str(first), *(each.name for each in more[:-1])]), *(each.name for each in more[-1:])]
    )


def where(line: int, last_line: int) -> str:
    """A row's lines."""
    return f"line {line}" if line == last_line else f"lines {line} to {last_line}"


@dataclass
class State:
    """How far a run has come."""

    place: int = 0
    line: int = 0
    rows: int = 0
    bad: int = 0
    bytes: int = 0  # of OUTPUT.partial
    error_bytes: int = 0
    empty: int = 0  # rows without a text
    finishing: bool = False  # all rows are written; files are being moved to their names


class Output:
    """Standard output; the report goes to standard error."""

    def __init__(self, name: str) -> None:
        self.name, self.state = name, State()

    def add(self, rows: bytes, report: Report, count: int, place: int, line: int) -> None:
        """Write some rows, which are so many and end at a place and a line, and the report on bad ones."""
        sys.stdout.buffer.write(rows)
        sys.stdout.buffer.flush()
        for each in report:
            sys.stderr.write(f"{self.name}, {where(each['line'], each['last_line'])}: {each['error']}\n")
        self.state.rows, self.state.bad = self.state.rows + count, self.state.bad + len(report)

    def finish(self, move: Callable[[Path, Path], None]) -> None:
        """All is written; `move` makes an output of what has been added."""


class PartialOutput(Output):
    """What a run has written so far; an interrupted one's where its journal says that it depended on the same things.

    What lies behind the journal's byte counts was being written when the run was interrupted, and is cut off. The
    journal of one of many files stays, so that another run finds it done, until all are.
    """

    def __init__(self, target: Path, depends_on: dict[str, Any], one_of_many: bool) -> None:
        super().__init__(str(target))
        self.target, self.one_of_many = target, one_of_many
        self.journal, self.partial, self.bad, self.report, *_ = beside(target)
        self.depends_on: dict[str, Any] = json.loads(json.dumps(depends_on))
        self.files = ExitStack()

    def __enter__(self) -> "PartialOutput":
        with self.files:
            self.rows_file = self._locked()
            leftover = f"{left(self.target)}, which an interrupted run has left,"
            if self.journal.exists():
                self._resume(leftover)
            elif os.fstat(self.rows_file.fileno()).st_size:
                raise InputError(f"{self.partial} is there and no journal beside it says of what; move it away")
            self.bad_file = self.files.enter_context(atomic.create(self.bad, empty=False))
            for file, size in ((self.rows_file, self.state.bytes), (self.bad_file, self.state.error_bytes)):
                if self.target.is_file():
                    os.chmod(file.fileno(), stat.S_IMODE(self.target.stat().st_mode))  # noqa: PTH101 - of what is open
                written = file.seek(0, os.SEEK_END)
                if written < size and not self.state.finishing:
                    raise InputError(f"{leftover} do not fit together")
                file.truncate(min(size, written))
                file.seek(0, os.SEEK_END)
            # Before the first row, so that no rows lie there of which it says nothing.
            atomic.write(self.journal, _line(self.depends_on) + _line(asdict(self.state)))
            self.journal_file = self.files.enter_context(self.journal.open("ab"))
            self.files = self.files.pop_all()
        return self

    def _locked(self) -> io.BufferedRandom:
        """OUTPUT.partial, and no other process has it."""
        while True:
            file = self.files.enter_context(atomic.create(self.partial, empty=False))
            with suppress(OSError, ImportError):  # a file system without locks, or Windows
                import fcntl

                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(f"{self.target} is being written by another process") from None
            # Between opening and locking another process may have finished, and given this file its own name.
            if self.partial.exists() and os.path.samestat(os.fstat(file.fileno()), self.partial.stat()):
                return file

    def _resume(self, leftover: str) -> None:
        try:
            lines = self.journal.read_bytes().split(b"\n")[:-1]  # what has no end yet is no line
            depended_on, self.state = dict(json.loads(lines[0])), State(**json.loads(lines[-1]))
        except (ValueError, TypeError, IndexError) as error:
            raise InputError(f"{self.journal} is not a journal of this program: {error}") from None
        if changed := [
            _other(name, depended_on.get(name), value)
            for name, value in self.depends_on.items()
            if depended_on.get(name) != value
        ]:
            raise InputError(f"{leftover} are of {' and '.join(changed)}; delete them to start from the beginning")

    def add(self, rows: bytes, report: Report, count: int, place: int, line: int) -> None:
        """As `Output.add`; then the journal, when all is on the disk."""
        lines = "".join(dumps(each) + "\n" for each in report).encode("utf-8", "backslashreplace")
        for file, data in ((self.rows_file, rows), (self.bad_file, lines)):
            if data:
                _append(file, data)
        state = self.state
        state.place, state.line, state.rows, state.bad = place, line, state.rows + count, state.bad + len(report)
        state.bytes, state.error_bytes = self.rows_file.tell(), self.bad_file.tell()
        self._note()

    def _note(self) -> None:
        _append(self.journal_file, _line(asdict(self.state)))

    def finish(self, move: Callable[[Path, Path], None]) -> None:
        """Give the files their names; whatever is interrupted here is done again."""
        if not self.state.finishing:
            self.state.finishing = True
            self._note()
        if self.state.bad:
            if self.bad.stat().st_size == self.state.error_bytes:  # or it has its name already
                atomic.move(self.bad, self.report)
        else:
            self.report.unlink(missing_ok=True)  # of an earlier file of this name
        if self.partial.stat().st_size == self.state.bytes:
            move(self.partial, self.target)
        elif not self.target.exists():
            raise InputError(f"{self.target} is gone, which {self.journal} says is done; delete that one too")

    def __exit__(self, kind: object, *_: object) -> None:
        done, begun = kind is None, self.state.rows or self.state.bad or self.state.finishing
        own = []
        if done or not begun:  # nothing worth keeping; no rows lie there without a journal
            own = [(self.bad, os.fstat(self.bad_file.fileno())), (self.partial, os.fstat(self.rows_file.fileno()))]
            if not (done and self.one_of_many):
                own.append((self.journal, os.fstat(self.journal_file.fileno())))
        for path, stat_of in own:
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), stat_of):  # or another run has put its own there
                    path.unlink()
        self.files.close()  # the lock is held until here


def _other(name: str, before: Any, now: Any) -> str:
    """What a run depends on and is not as it was: of settings, which."""
    if not isinstance(now, dict):
        return f"another {name}"
    before = before if isinstance(before, dict) else {}
    names = [spoken(each) for each in {**before, **now} if before.get(each) != now.get(each)]
    return f"other {name} ({', '.join(names)})"


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _append(file: IO[bytes], data: bytes) -> None:
    """More of a file, which is on the disk then."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
