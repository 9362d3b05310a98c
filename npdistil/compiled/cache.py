"""The kernels as machine code: compiled once by numba, kept on disk, and loaded with llvmlite alone.

What is kept is one object file for each state of these sources, of numba and llvmlite, and of the target machine.
Loading it takes milliseconds and does not import numba.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.metadata
import logging
import os
import secrets
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from .isa import Target

Run = Callable[[int, int], Any]  # (address of a CALL, rank of the thread)
SYMBOL = "npdistil_run"
IMPORTED = ("sched_yield", "usleep", "memset", "memcpy")  # what LLVM makes of loops, and simd.sleep
_lock = threading.Lock()
_engines: list[Any] = []  # what owns the machine code


def directory() -> Path:
    """Where compiled kernels are kept: NPDISTIL_CACHE, or the folder npdistil in the user's cache."""
    if own := os.environ.get("NPDISTIL_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "npdistil"
    return Path(os.path.expanduser("~"), ".cache", "npdistil")  # noqa: PTH111 - Path.home() raises without a HOME


def object_file() -> Path:
    """The file for this machine and these sources."""
    target = Target.current()
    state = hashlib.sha256("\0".join((target.triple, target.cpu, target.features, sys.version)).encode())
    for package in ("numba", "llvmlite"):
        state.update(importlib.metadata.version(package).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        state.update(source.read_bytes())
    return directory() / f"kernels-{state.hexdigest()[:32]}.o"


@lru_cache(maxsize=1)
def machine_code() -> Run:
    """The function `forward.run`, from the cache or compiled now; calls of it leave the GIL to others."""
    with _lock:
        file = object_file()
        code = _read(file)
        if code is None:
            with _alone(file):
                code = _read(file)  # another process may have written it meanwhile
                if code is None:
                    code = _compile()
                    _write(file, code)
        return _linked(code)


def warm_up() -> Path:
    """Fill the cache; returns the file.

    Raises:
        OSError: it cannot be written.
    """
    file = object_file()
    if _read(file) is None:
        _replace(file, _compile())
    return file


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time, so that of many that start together one compiles; where the folder takes locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(file.with_suffix(".lock").open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile() -> bytes:
    """An object file with `run` in it."""
    logging.getLogger("npdistil").info("compiling the kernels for this machine: once, and for some 20 s")
    from numba import types

    from ..compiled import forward

    dispatcher: Any = forward.run
    dispatcher.compile((types.int64, types.int64))
    (result,) = dispatcher.overloads.values()
    module = llvm.parse_assembly(result.library.get_llvm_str())
    for function in module.functions:  # all but one may be inlined and forgotten
        if function.name == result.fndesc.llvm_func_name:
            function.name = SYMBOL
        elif not function.is_declaration:
            function.linkage = "internal"
    return bytes(Target.current().machine().emit_object(module))


def _linked(code: bytes) -> Run:
    process = ctypes.CDLL(None)
    for name in IMPORTED:  # LLVM does not look in the C library by itself
        llvm.add_symbol(name, ctypes.cast(process[name], ctypes.c_void_p).value)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), Target.current().machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    # numba's calling convention: where the result goes, where an exception goes, the arguments; nothing raises here.
    pointers = (ctypes.c_void_p, ctypes.c_void_p)
    call = ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, ctypes.c_int64, ctypes.c_int64)(
        engine.get_function_address(SYMBOL)
    )
    result, exception = ctypes.c_void_p(), ctypes.c_void_p()
    ends = ctypes.byref(result), ctypes.byref(exception)

    def run(job: int, rank: int) -> None:
        call(*ends, job, rank)

    return run


def _read(file: Path) -> bytes | None:
    """The object code in a file that is there and whole: its last 32 bytes are the digest of what is before."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    code, digest = content[:-32], content[-32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> None:
    try:
        _replace(file, code)
    except OSError as error:
        warnings.warn(
            f"compiled kernels cannot be kept in {file.parent} ({error.strerror}), so every start compiles them anew; "
            "NPDISTIL_CACHE names another folder, and `npdistil warmup` fills it",
            RuntimeWarning,
            stacklevel=2,
        )


def _replace(file: Path, code: bytes) -> None:
    """Write beside, then rename: a reader finds a whole file or none, and of several writers the last one stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Not a temporary file's mode: an image is filled by one user and read by another.
    beside = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as stream:
            stream.write(code + hashlib.sha256(code).digest())
        beside.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
