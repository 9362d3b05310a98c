"""Which kernels this process runs: the installed ones for the best instruction set that the processor has.

They are shared objects that were compiled ahead of time (build.py), one for each instruction set, in a folder for each
architecture, with a manifest that says what each file must be. They are loaded with ctypes; neither numba nor llvmlite
is imported.

NPDISTIL_ISA names another instruction set, or `jit`: kernels compiled for this very processor, in memory, by numba.
NPDISTIL_CHECKED=1, for tests, runs the kernels as Python, with every access to memory checked.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ..errors import EngineError, MissingExtraError
from .isa import BY_NAME, ISA, ISAS

Run = Callable[[int, int], Any]  # (address of a CALL, rank of the thread)
SYMBOL = "npdistil_run"
CHECKED = os.environ.get("NPDISTIL_CHECKED", "") not in ("", "0")
FOLDER = Path(__file__).parent / "kernels"


class NoKernelsError(EngineError):
    """No installed file is for this system or fits this processor."""


@dataclass(frozen=True)
class Kernels:
    """The function `forward.run`, and what it was compiled for.

    Attributes:
        isa: it says how weights are packed.
        run: without the GIL, which ctypes releases around a foreign function, be it of a file or of numba's.
        origin: "installed", "jit" or "checked".
        refused: why a better instruction set that the processor has is not used, or nothing.
    """

    isa: ISA
    run: Run
    origin: str
    refused: str = ""


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """This process's kernels.

    Raises:
        NoKernelsError: there are none for this system or this processor.
        EngineError: a file is damaged or cannot be loaded, or NPDISTIL_ISA asks for what cannot run here.
        MissingExtraError: NPDISTIL_ISA=jit without numba.
    """
    asked = os.environ.get("NPDISTIL_ISA", "")
    known = ", ".join(isa.name for isa in ISAS)
    if asked not in {"", "jit", *BY_NAME}:
        raise EngineError(f"NPDISTIL_ISA is {asked!r:.40}; known are {known} and jit")
    if CHECKED or asked == "jit":
        try:
            from . import jit
        except ModuleNotFoundError:
            raise MissingExtraError("numba", "jit") from None
        except ImportError as error:  # for one, of a NumPy that is newer than numba allows
            raise EngineError(f"numba cannot be imported: {error}") from None
        if CHECKED:
            return Kernels(*jit.as_python(BY_NAME.get(asked, ISAS[0])), "checked")
        return Kernels(*jit.compiled_for_this_processor(), "jit")
    try:
        return _installed(asked)
    except NoKernelsError as error:
        if asked:
            raise EngineError(f"NPDISTIL_ISA is {asked}: {error}") from None
        raise


def _installed(asked: str) -> Kernels:
    try:
        from .cpu import features
    except ImportError:
        raise NoKernelsError("this Python has no ctypes, with which kernels are loaded") from None
    architecture = system()
    files = Files(architecture)
    found = features(architecture, files.load)
    lacking = refused = ""
    for isa in ISAS:
        if isa.architecture == architecture and asked in ("", isa.name):
            if missing := isa.needs - found:
                lacking = f"the processor lacks {', '.join(sorted(missing))}, which {isa.name} needs"
                continue
            if isa.tiles:
                from . import tiles

                lacking = refused = tiles.refused() or tiles.wrong(isa, _function(files, isa.name))
            if not (isa.tiles and refused):
                return Kernels(isa, _function(files, isa.name), "installed", refused)
    raise NoKernelsError(lacking or f"{asked} is of another architecture than {architecture}")


def system() -> str:
    """The architecture of this process.

    Raises:
        NoKernelsError: kernels are not made for it, or not for the operating system.
    """
    machine = os.uname().machine if hasattr(os, "uname") else "this machine"
    if sys.platform != "linux" or sys.maxsize < 2**32 or machine not in {isa.architecture for isa in ISAS}:
        bits = "64-bit" if sys.maxsize > 2**32 else "32-bit"
        raise NoKernelsError(
            f"kernels are made for Linux on x86-64 and AArch64; this is {bits} Python on {sys.platform}, {machine}"
        )
    return machine


class Files:
    """The installed shared objects of an architecture, each checked against the manifest before it is loaded."""

    def __init__(self, architecture: str) -> None:
        """Raises NoKernelsError: this installation has none."""
        self.folder = FOLDER / architecture
        try:
            content = _read(self.folder / "manifest.json")
        except OSError:
            raise NoKernelsError(
                f"this installation of npdistil has no kernels for {architecture}: it was built for another system"
            ) from None
        try:
            files = json.loads(content)["files"]
            self.digests: dict[str, str] = {name: entry["sha256"] for name, entry in files.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EngineError(f"{self.folder / 'manifest.json'} is damaged; install npdistil again") from None

    def load(self, name: str) -> Any:
        """A shared object as `ctypes.CDLL`.

        Raises:
            EngineError: it is missing, is not the file that the manifest describes, or the system does not load it.
        """
        import ctypes

        file = self.folder / f"{name}.so"
        try:
            content = _read(file)
        except OSError as error:
            raise EngineError(f"{file} cannot be read ({error}); install npdistil again") from None
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.digests.get(file.name):
            raise EngineError(
                f"{file} has the SHA-256 {digest:.16}..., and the manifest beside it says "
                f"{self.digests.get(file.name, 'none'):.16}...; install npdistil again"
            )
        try:
            if file.exists():
                return ctypes.CDLL(str(file))
            return _from_memory(content)  # the package is in a zip file
        except OSError as error:
            raise EngineError(f"{file} cannot be loaded: {error}") from None


def _read(file: Path) -> bytes:
    """Through the loader that this module came from, which may read from a zip file."""
    loader: Any = __spec__.loader if __spec__ else None
    if hasattr(loader, "get_data"):
        content: bytes = loader.get_data(str(file))
        return content
    return file.read_bytes()


def _from_memory(content: bytes) -> Any:
    import ctypes

    descriptor = os.memfd_create("npdistil")  # stays open: the loader knows files by their names, which must differ
    os.write(descriptor, content)
    return ctypes.CDLL(f"/proc/self/fd/{descriptor}")


def _function(files: Files, name: str) -> Run:
    library = files.load(name)
    try:
        return as_run(library[SYMBOL])
    except AttributeError:
        raise EngineError(f"{files.folder / name}.so has no function {SYMBOL}; install npdistil again") from None


def as_run(function: Any) -> Run:
    """A foreign function with numba's calling convention: where a result and an exception go, then the arguments."""
    import ctypes

    pointer = ctypes.c_void_p
    function.argtypes, function.restype = [pointer, pointer, ctypes.c_int64, ctypes.c_int64], ctypes.c_int32
    return partial(function, ctypes.byref(pointer()), ctypes.byref(pointer()))  # nothing is returned or raised
