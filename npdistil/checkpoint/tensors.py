"""Safetensors files: checked by their header, read into memory of this process, and noticed when they change."""

import hashlib
import json
import os
import threading
import weakref
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..distilbert.encoder import Array
from ..errors import CheckpointError
from .folder import LFS_POINTER, Folder, check_pointer, check_regular, printable, reason

# Types of the format that are read -> NumPy's; it has no bfloat16, the upper half of a float32.
DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8}
PIECE = 2**20  # bytes of a file that are read at a time
_lock = threading.Lock()


def _pread(descriptor: int, count: int, place: int) -> bytes:
    """Bytes from a place of an open file, whose position forked processes share."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, place)
    with _lock:  # Windows has neither that nor forks
        os.lseek(descriptor, place, os.SEEK_SET)
        return os.read(descriptor, count)


def _pread_into(descriptor: int, raw: memoryview, place: int) -> int:
    """The same into memory that is there; how many bytes came, 0 at the end of the file."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [raw], place)
    piece = _pread(descriptor, min(len(raw), PIECE), place)
    raw[: len(piece)] = piece
    return len(piece)


class TensorFile:
    """One safetensors file, which stays open: what is read of it later is what was there, or an error.

    Tensors are copied into memory of this process and not mapped, because a file that is written over would change
    the answers of who has it mapped, and one that is cut short would end the process.

    Attributes:
        path: of the file.
        size: bytes.
        dtypes: name of each tensor -> its type as the format calls it.
        shapes: name of each tensor -> its shape.

    Raises:
        CheckpointError: no such file, or one whose header does not describe it; the library checks lengths, offsets
            and overlaps.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self.path = folder.path / name
        try:
            check_regular(self.path)
            self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, self._file)
            self.size = os.fstat(self._file).st_size
            self._state = self._stat()
            self._digest = ""
            check_pointer(self.path, _pread(self._file, len(LFS_POINTER), 0))
            is_utf8 = printable(self.path) == str(self.path)  # the library takes no other names
            with safe_open(self.path if is_utf8 else f"/dev/fd/{self._file}", framework="numpy"):
                pass
            length = int.from_bytes(_pread(self._file, 8, 0), "little")
            header = json.loads(_pread(self._file, length, 8))
        except PermissionError as error:
            raise CheckpointError(f"{self.path} {reason(self.path, error)}") from None
        except (SafetensorError, OSError, ValueError) as error:
            what = reason(self.path, error) if isinstance(error, FileNotFoundError) else f"says: {error}"
            raise CheckpointError(f"{self.path} is not a whole safetensors file; it {what}") from None
        header.pop("__metadata__", None)
        self.dtypes: dict[str, str] = {tensor: entry["dtype"] for tensor, entry in header.items()}
        self.shapes: dict[str, tuple[int, ...]] = {tensor: tuple(entry["shape"]) for tensor, entry in header.items()}
        self._starts = {tensor: 8 + length + entry["data_offsets"][0] for tensor, entry in header.items()}

    def _stat(self) -> tuple[int, int]:
        found = os.fstat(self._file)
        return found.st_size, found.st_mtime_ns

    def _check(self) -> None:
        if self._stat() != self._state:
            raise CheckpointError(f"{self.path} was changed after it was loaded; load the model again")

    def read(self, tensor: str) -> Array:
        """A tensor as it is stored; bfloat16 as the float32 that it is the upper half of.

        Raises:
            CheckpointError: a type that is no weight's, or a file that has changed.
        """
        kind = DTYPES.get(self.dtypes[tensor])
        if kind is None:
            raise CheckpointError(
                f"{self.path} has {tensor} in a type that cannot be read: {self.dtypes[tensor]}; known: "
                f"{', '.join(DTYPES)}"
            )
        try:
            array = np.empty(self.shapes[tensor], kind)
        except ValueError as error:  # a shape that no array can have, as [0, 2**63]
            raise CheckpointError(f"{self.path} has a tensor that is too large: {error}") from None
        raw = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type] # of older stubs
        place = self._starts[tensor]
        while raw:
            count = _pread_into(self._file, raw, place)
            if not count:
                raise CheckpointError(f"{self.path} was cut short after it was loaded; load the model again")
            raw, place = raw[count:], place + count
        self._check()
        return (array.astype(np.uint32) << 16).view(np.float32) if self.dtypes[tensor] == "BF16" else array

    def digest(self) -> str:
        """SHA-256 of the file; worked out when it is first asked for."""
        if not self._digest:
            found, place = hashlib.sha256(), 0
            while piece := _pread(self._file, PIECE, place):
                found.update(piece)
                place += len(piece)
            self._check()
            self._digest = found.hexdigest()
        return self._digest


def is_finite(array: Array) -> bool:
    """Whether an array has neither NaN nor infinity, at the speed of memory: a sum with either is not finite."""
    if array.dtype == np.int8:
        return True
    if array.dtype == np.float16:  # slow to add up; its exponent is all ones for NaN and infinity
        return array.size == 0 or int((array.view(np.uint16) & np.uint16(0x7FFF)).max()) < 0x7C00
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def listed(names: "dict[str, Any]") -> str:
    """Names, each with what is said of it."""
    return ", ".join(f"{name} ({what})" for name, what in sorted(names.items()))
