"""Kernels made in this process: compiled by numba for the very processor, in memory, or run as Python."""

import ctypes
import sys
from typing import Any

import llvmlite.binding as llvm
from numba import config, types
from numba.core.registry import cpu_target

from ..errors import EngineError
from . import tiles
from .emit import IMPORTED
from .isa import ISA, ISAS, compile_for
from .kernels import Run, as_run


def own_isa() -> ISA:
    """What numba compiles for in this process.

    Raises:
        EngineError: numba's compiler is off, or does not compile for an instruction set that there are kernels for.
    """
    if config.DISABLE_JIT:
        raise EngineError("NPDISTIL_ISA is jit, and NUMBA_DISABLE_JIT turns the compiler off")
    if sys.platform == "win32":
        raise EngineError("NPDISTIL_ISA is jit, and the kernels need functions of POSIX")
    codegen = cpu_target.target_context.codegen()
    enabled = {name[1:] for name in codegen.magic_tuple()[2].split(",") if name.startswith("+")}
    architecture = llvm.get_process_triple().split("-")[0].replace("arm64", "aarch64")
    fitting = (isa for isa in ISAS if isa.architecture == architecture and isa.needs <= enabled)
    isa = next((isa for isa in fitting if not isa.tiles or not tiles.refused()), None)
    if isa is None:
        raise EngineError(
            f"NPDISTIL_ISA is jit, and there are no kernels for what numba compiles for here, {architecture} with "
            f"{', '.join(sorted(enabled)) or 'no features'}"
        )
    return isa


def compiled_for_this_processor() -> tuple[ISA, Run]:
    """`forward.run`, compiled now, which takes some 20 s.

    Raises:
        EngineError: as `own_isa`.
    """
    isa = own_isa()
    compile_for(isa)
    from . import forward

    library = ctypes.CDLL(None)
    for name in IMPORTED:  # where LLVM does not look by itself
        llvm.add_symbol(name, ctypes.cast(library[name], ctypes.c_void_p).value)
    dispatcher: Any = forward.run
    dispatcher.compile((types.int64, types.int64))
    (result,) = dispatcher.overloads.values()
    address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    pointers = (ctypes.c_void_p, ctypes.c_void_p)
    run = as_run(ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, ctypes.c_int64, ctypes.c_int64)(address))
    if isa.tiles and (reason := tiles.wrong(isa, run)):
        raise EngineError(reason)
    return isa, run


def as_python(isa: ISA) -> tuple[ISA, Run]:
    """`forward.run` on the references of all operations, with the shapes and layouts of any instruction set."""
    compile_for(isa)
    from .forward import run

    return isa, run
