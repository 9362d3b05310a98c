"""A model directory's files: errors that say what is wrong with one, and what was read is remembered."""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Folder:
    """A directory, or a folder in one.

    Attributes:
        path: where it is.
        digests: SHA-256 of each file that was read, by its path inside the whole directory.
    """

    def __init__(self, path: str | os.PathLike[str], root: "Folder | None" = None) -> None:
        self.path = Path(path)
        self.root = root or self
        self.digests: dict[str, str] = self.root.digests if root else {}

    def inside(self, name: str) -> "Folder":
        """The folder of a name in it; "" is itself.

        Raises:
            CheckpointError: a path that leads out of it.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise CheckpointError(f"{self.path}: {name!r:.80} is not a folder inside of it")
        return Folder(self.path / name, self.root) if name not in ("", ".") else self

    def has(self, name: str) -> bool:
        """Whether there is a file of this name; a link that leads nowhere counts, and is an error when it is read."""
        return os.path.lexists(self.path / name)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            CheckpointError: it cannot be read, or is only a pointer to a file kept elsewhere; says which and why.
        """
        path = self.path / name
        try:
            check_regular(path)
            content = path.read_bytes()
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} {reason(path, error)}") from None
        check_pointer(path, content[: len(LFS_POINTER)])
        self.digests[path.relative_to(self.root.path).as_posix()] = hashlib.sha256(content).hexdigest()
        return content

    def json(self, name: str) -> Any:
        """The content of a JSON file.

        Raises:
            CheckpointError: as `read`, or it is no JSON.
        """
        try:
            return json.loads(self.read(name).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.path / name} cannot be read: {error}") from None

    def object(self, name: str, *, needed: bool = False) -> dict[str, Any]:
        """As `json`, for a file that holds an object; empty where the file is not there, unless it is needed."""
        found = self.json(name) if needed or self.has(name) else {}
        if not isinstance(found, dict):
            raise CheckpointError(f"{self.path / name} holds a {type(found).__name__}, not an object")
        return found


def reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, to stand behind its name."""
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return f"is a link to {path.readlink()}, which does not exist"
        return "does not exist"
    if isinstance(error, PermissionError):
        try:
            mode = f"; its mode is {stat.S_IMODE(path.stat().st_mode):04o}"
        except OSError:
            mode = ""
        return f"cannot be read: this user has no permission{mode}"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def check_regular(path: Path) -> None:
    """OSError where opening a path might wait for ever, as a named pipe or a device does."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a directory is an error with its own words
        raise OSError(f"it is no regular file (mode {mode:06o})")


def check_pointer(path: Path, start: bytes) -> None:
    """CheckpointError where a file that starts so is a pointer of Git LFS."""
    if start.startswith(LFS_POINTER):
        raise CheckpointError(f"{path} is a pointer of Git LFS, not the file itself; `git lfs pull` fetches it")


def printable(path: str | Path) -> str:
    """A path, or names, as text that UTF-8 can hold: bytes that are none are written as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
