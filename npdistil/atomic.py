"""Files and directories that appear under their names whole or not at all, and stay when the power goes."""

import errno
import io
import os
import stat
from pathlib import Path


def move(source: Path, target: Path) -> None:
    """Give what lies at `source` the name `target`, in the place of a file of that name; all of it is on the disk.

    Both are on one file system.

    Raises:
        OSError: it cannot be written or renamed; `source` is still there.
    """
    if target.is_file() and source.is_file():
        source.chmod(stat.S_IMODE(target.stat().st_mode))  # who may read the one may read the other
    for path in [*source.rglob("*"), source] if source.is_dir() else [source]:
        _sync(path)
    source.replace(target)
    _sync(target.parent)  # or the new name could be lost


def write(target: Path, data: bytes) -> None:
    """A file of these bytes, written to `target`.new first.

    Raises:
        OSError: as `move`.
    """
    beside = target.with_name(f"{target.name}.new")
    with create(beside) as file:
        file.write(data)
    move(beside, target)


def directory(path: Path) -> None:
    """A directory, and those above it, where they are not there; it stays when the power goes.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    if not path.is_dir():
        directory(path.parent)
        path.mkdir(exist_ok=True)
        _sync(path.parent)


def create(path: Path, *, empty: bool = True) -> io.BufferedRandom:
    """A file to read and write; one that is there is emptied, unless told otherwise, and a link is not followed.

    Raises:
        OSError: it cannot be opened, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags | (os.O_TRUNC if empty else 0), 0o666), "r+b")


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no directories
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # it wants to be asked for writing
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot
            raise
    finally:
        os.close(descriptor)
