"""Kernels -> a shared object: `python -m npdistil.compiled.emit NAME OBJECT-FILE SHARED-OBJECT`, as build.py calls it.

numba makes LLVM's code of `forward.run`, and LLVM machine code for a generic processor, whatever the one that this runs
on. ziglang's `ld.lld` links it without any library: it has one symbol of its own (the object that asks the processor:
two), and the names of IMPORTED are left to the process that loads it.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from .isa import BY_NAME, ISA, compile_for
from .kernels import SYMBOL

IMPORTED = ("clock_gettime", "sched_yield", "usleep")  # from the C library
TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}

# CPUID overwrites ebx, of which LLVM takes care. XGETBV may be called only where CPUID says that it is there.
CPUID = """
define void @npdistil_cpuid(i32 %leaf, i32 %subleaf, ptr %out) {
  %r = call {i32, i32, i32, i32} asm sideeffect "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 %leaf, i32 %subleaf)
  %a = extractvalue {i32, i32, i32, i32} %r, 0
  %b = extractvalue {i32, i32, i32, i32} %r, 1
  %c = extractvalue {i32, i32, i32, i32} %r, 2
  %d = extractvalue {i32, i32, i32, i32} %r, 3
  store i32 %a, ptr %out
  %out_b = getelementptr i32, ptr %out, i64 1
  store i32 %b, ptr %out_b
  %out_c = getelementptr i32, ptr %out, i64 2
  store i32 %c, ptr %out_c
  %out_d = getelementptr i32, ptr %out, i64 3
  store i32 %d, ptr %out_d
  ret void
}
define i64 @npdistil_xgetbv() {
  %r = call {i32, i32} asm sideeffect "xgetbv", "={ax},={dx},{cx}"(i32 0)
  %low = extractvalue {i32, i32} %r, 0
  %high = extractvalue {i32, i32} %r, 1
  %low_64 = zext i32 %low to i64
  %high_64 = zext i32 %high to i64
  %shifted = shl i64 %high_64, 32
  %state = or i64 %low_64, %shifted
  ret i64 %state
}
"""


def emit(isa: ISA) -> bytes:
    """The object file of `forward.run`. Needs a process in which the kernels were not compiled for another target."""
    import llvmlite.binding as llvm
    from llvmlite import ir
    from numba import njit, types
    from numba.core import codegen, generators
    from numba.core.registry import cpu_target

    machine = _target_machine(isa.architecture, isa.cpu, isa.features)

    class Library(codegen.AOTCodeLibrary):
        """Machine code that this process does not run."""

        def get_pointer_to_function(self, name: str) -> int:
            self._ensure_finalized()
            return 0

    class Codegen(codegen.CPUCodegen):
        """numba's code generator for another machine than this one."""

        _library_class = Library

        def _init(self, llvm_module: Any) -> None:
            self._tm, self._tm_features = machine, isa.features
            self._target_data = machine.target_data
            self._data_layout = str(machine.target_data)
            self._loopvect, self._opt_level = False, 0  # of numba's first pass, as for its own target

        def _create_empty_module(self, name: str) -> Any:
            module = ir.Module(name)
            module.triple = TRIPLES[isa.architecture]
            if self._data_layout:
                module.data_layout = self._data_layout
            return module

        def _add_module(self, module: Any) -> None:
            pass

        def set_env(self, env_name: str, env: Any) -> None:
            pass

    class InOrder(generators.LowerYield):
        """What a generator keeps between two items, not in the order of a set, which changes from run to run."""

        def __init__(self, lower: Any, yield_point: Any, live_vars: set[str]) -> None:
            super().__init__(lower, yield_point, sorted(live_vars))

    generators.LowerYield = InOrder
    njit(lambda: 0)()  # numba's runtime, for this machine as usual
    cpu_target.target_context._internal_codegen = Codegen("npdistil")
    compile_for(isa)
    from . import forward

    dispatcher: Any = forward.run
    dispatcher.compile((types.int64, types.int64))
    (result,) = dispatcher.overloads.values()
    module = llvm.parse_assembly(result.library.get_llvm_str())
    for function in module.functions:  # all but one may be inlined and forgotten
        if function.name == result.fndesc.llvm_func_name:
            function.name = SYMBOL
        elif not function.is_declaration:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    return bytes(machine.emit_object(module))


def emit_cpuid() -> bytes:
    """The object file that asks the processor."""
    import llvmlite.binding as llvm

    machine = _target_machine("x86_64", "x86-64", "")
    return bytes(machine.emit_object(llvm.parse_assembly(CPUID)))


def _target_machine(architecture: str, cpu: str, features: str) -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()  # of inline assembly
    return llvm.Target.from_triple(TRIPLES[architecture]).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )


def link(object_file: Path, out: Path) -> None:
    """An object file -> a shared object."""
    hardening = ["-z", "now", "-z", "noexecstack"]
    pages = ["-z", "max-page-size=65536"]  # the largest that AArch64 systems have
    options = ["-shared", "-s", *hardening, *pages, "--hash-style=both", "--build-id=none"]
    command = [sys.executable, "-m", "ziglang", "ld.lld", *options, "-o", str(out), str(object_file)]
    subprocess.run(command, check=True)  # noqa: S603 - nothing of it comes from outside
    out.chmod(0o644)


if __name__ == "__main__":
    name, object_file, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    object_file.write_bytes(emit_cpuid() if name == "cpuid" else emit(BY_NAME[name]))
    link(object_file, out)
