"""The instruction sets that kernels are compiled for: what each needs, and how products run on it.

Names of features are LLVM's. Everything here is data: which instruction set a process uses is decided in kernels.py.
"""

from dataclasses import dataclass

# What the levels of the x86-64 psABI ask for, as far as a processor may lack it.
X86_64_V2 = frozenset(("cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"))
X86_64_V3 = X86_64_V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
X86_64_V4 = X86_64_V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
AMX = frozenset(("amx-int8", "amx-tile"))
NEON_LSE = frozenset(("lse", "neon"))  # every processor with products of bytes has atomics of one instruction too


@dataclass(frozen=True)
class ISA:
    """An instruction set. Shapes and layouts of products differ between them, results do not.

    Attributes:
        name: as the setting NPDISTIL_ISA and the file of its kernels have it.
        architecture: as `os.uname` calls it.
        cpu, features: what LLVM generates code for.
        needs: what the processor and the operating system must offer to run that.
        rows, vectors: the tile of accumulators that its registers hold; a vector has 16 lanes.
        interleave: int8 weights of one column that are side by side in a panel: one step of a kernel along the inputs.
        offset: what is added to an int8 activation before it is stored: 128 where the instruction takes it unsigned.
        inputs: zeros fill the inputs of int8 panels up to a multiple of this: as many as one step takes.
        activation_bytes: of an int8 activation as it is stored: 1, or 2 where products take int16.
        rows_together: rows that an int8 instruction takes in one register, beside as many columns: 2 with smmla.
    """

    name: str
    architecture: str
    cpu: str
    features: str
    needs: frozenset[str]
    rows: int
    vectors: int
    interleave: int
    offset: int
    inputs: int
    activation_bytes: int = 1
    rows_together: int = 1

    @property
    def tiles(self) -> bool:
        """Whether int8 products run on AMX's tile registers, for which a process asks the system (tiles.py)."""
        return self.needs >= AMX


# The best first. Without fused multiply-add in hardware nothing here is fast, so there is none without.
ISAS = (
    # tdpbusd: 16 x 64 unsigned times 64 x 16 signed bytes; few rows take vpdpbusd
    ISA(
        "amx",
        "x86_64",
        "x86-64-v4",
        "+avx512vnni,+amx-int8,+amx-tile",
        X86_64_V4 | AMX | {"avx512vnni"},
        6,
        4,
        4,
        128,
        64,
    ),
    # vpdpbusd: unsigned times signed bytes
    ISA("avx512vnni", "x86_64", "x86-64-v4", "+avx512vnni", X86_64_V4 | {"avx512vnni"}, 6, 4, 4, 128, 4),
    ISA("avxvnni", "x86_64", "x86-64-v3", "+avxvnni", X86_64_V3 | {"avxvnni"}, 6, 1, 4, 128, 4),
    # pmaddwd on bytes widened to int16: exact, where pmaddubsw saturates
    ISA("avx512", "x86_64", "x86-64-v4", "", X86_64_V4, 6, 4, 2, 0, 2, activation_bytes=2),
    ISA("avx2", "x86_64", "x86-64-v3", "", X86_64_V3, 6, 1, 2, 0, 2, activation_bytes=2),
    # smmla: 2 x 8 times 8 x 2 signed bytes
    ISA("i8mm", "aarch64", "generic", "+neon,+i8mm,+lse", NEON_LSE | {"i8mm"}, 6, 1, 8, 0, 8, rows_together=2),
    # sdot: signed times signed bytes
    ISA("dotprod", "aarch64", "generic", "+neon,+dotprod,+lse", NEON_LSE | {"dotprod"}, 6, 1, 4, 0, 4),
    # what LLVM makes of products of int16
    ISA("neon", "aarch64", "generic", "+neon", frozenset(("neon",)), 6, 1, 2, 0, 2, activation_bytes=2),
)
BY_NAME = {isa.name: isa for isa in ISAS}

_compiled_for: ISA | None = None


def compile_for(isa: ISA) -> None:
    """Say what the kernel modules are for, before the first of them is imported: it is in their constants.

    Raises:
        RuntimeError: they are for another instruction set already.
    """
    global _compiled_for
    if _compiled_for not in (None, isa):
        raise RuntimeError(f"this process has kernel modules for {_compiled_for}, so it cannot have some for {isa}")
    _compiled_for = isa


def compiled_for() -> ISA:
    """What the kernel modules are for.

    Raises:
        RuntimeError: nobody has said.
    """
    if _compiled_for is None:
        raise RuntimeError("kernel modules are imported after `compile_for` alone")
    return _compiled_for
