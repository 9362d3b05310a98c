"""The machine that kernels are built for, and what its instruction set offers.

Nothing here imports numba: a kernel that is on disk already is loaded with llvmlite alone.
"""

import os
from dataclasses import dataclass
from functools import lru_cache

from ..errors import EngineError, MissingExtraError

try:
    import llvmlite.binding as llvm
except ImportError:
    raise MissingExtraError("numba", "fast") from None

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()

# What LLVM makes of a fused multiply-add and of a sum of byte products tells what the target has, whatever its name.
# Asking it so cannot go wrong; an instruction that the target lacks, asked for by name, ends the process.
PROBE = """
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
define <16 x float> @fma(<16 x float> %a, <16 x float> %b, <16 x float> %c) {
  %r = call <16 x float> @llvm.fma.v16f32(<16 x float> %a, <16 x float> %b, <16 x float> %c)
  ret <16 x float> %r
}
"""
PROBE_DOT = """
declare i32 @llvm.vector.reduce.add.v{n}i32(<{n} x i32>)
define i32 @dot(ptr %p, ptr %q) {{
  %a = load <{n} x i8>, ptr %p
  %b = load <{n} x i8>, ptr %q
  %x = {extend} <{n} x i8> %a to <{n} x i32>
  %y = sext <{n} x i8> %b to <{n} x i32>
  %m = mul <{n} x i32> %x, %y
  %r = call i32 @llvm.vector.reduce.add.v{n}i32(<{n} x i32> %m)
  ret i32 %r
}}
"""


@dataclass(frozen=True)
class ISA:
    """How products run on an instruction set. Shapes and layouts differ between them, results do not.

    Attributes:
        name: of the instruction set.
        rows, vectors: the tile of accumulators that its registers hold; a vector has 16 lanes.
        interleave: int8 weights of one column that are side by side in a panel, as many as make 4 bytes of activations.
        offset: what is added to an int8 activation before it is stored: 128 where the instruction takes it unsigned.
    """

    name: str
    rows: int
    vectors: int
    interleave: int
    offset: int

    @property
    def activation_bytes(self) -> int:
        """Of an int8 activation as it is stored: 1, or 2 where products take int16."""
        return 4 // self.interleave


ISAS = {
    isa.name: isa
    for isa in (
        ISA("avx512vnni", rows=6, vectors=4, interleave=4, offset=128),  # vpdpbusd: unsigned times signed bytes
        ISA("avxvnni", rows=6, vectors=1, interleave=4, offset=128),
        ISA("avx512", rows=6, vectors=4, interleave=2, offset=0),  # pmaddwd on bytes widened to int16: exact
        ISA("avx2", rows=6, vectors=1, interleave=2, offset=0),
        ISA("dotprod", rows=6, vectors=1, interleave=4, offset=0),  # AArch64 sdot: signed times signed bytes
        ISA("neon", rows=6, vectors=1, interleave=2, offset=0),  # what LLVM makes of products of int16
    )
}


@dataclass(frozen=True)
class Target:
    """What LLVM generates code for: the host, unless NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say otherwise."""

    triple: str
    cpu: str
    features: str

    @classmethod
    def current(cls) -> "Target":
        """This process's target, by the same rules as numba's, so that both compile for one machine."""
        name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
        if features is None:
            features = "" if name and name.lower() == "generic" else llvm.get_host_cpu_features().flatten()
        return cls(llvm.get_process_triple(), name or llvm.get_host_cpu_name(), features)

    def machine(self, jit: bool = True) -> "llvm.TargetMachine":
        """LLVM's code generator for it."""
        return llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self.cpu, features=self.features, opt=3, jit=jit
        )

    def isa(self) -> ISA:
        """The best ISA of the target.

        Raises:
            EngineError: it has no fused multiply-add, without which nothing here is fast or the same everywhere.
        """
        return _isa(self)


@lru_cache
def _isa(target: Target) -> ISA:
    def assembly(source: str) -> str:
        return target.machine().emit_assembly(llvm.parse_assembly(source))

    fma = assembly(PROBE)
    if "fmaf" in fma or not any(name in fma for name in ("vfmadd", "fmla", "fmadd")):
        raise EngineError(
            f"the compiled engine needs fused multiply-add in hardware, which {target.cpu} lacks; "
            "engine='numpy' runs everywhere"
        )
    if target.triple.startswith("x86_64"):
        wide = "zmm" in fma
        dot = "vpdpbusd" in assembly(PROBE_DOT.format(n=64, extend="zext"))
        return ISAS[("avx512vnni" if dot else "avx512") if wide else ("avxvnni" if dot else "avx2")]
    if target.triple.startswith(("aarch64", "arm64")) and "sdot" in assembly(PROBE_DOT.format(n=16, extend="sext")):
        return ISAS["dotprod"]
    return ISAS["neon"]
