"""What the processor and the operating system offer, asked from themselves.

NumPy's list of features lacks some that are needed here and can be changed by the environment, and /proc/cpuinfo tells
of another processor under emulation. On x86-64 the answer comes from CPUID and XGETBV, which a small shared object
beside the kernels executes; on AArch64 from the auxiliary vector that the kernel gives to each process.
"""

import ctypes
from collections.abc import Callable

from .isa import AMX

CPUID = Callable[[int, int], tuple[int, int, int, int]]  # (leaf, subleaf) -> eax, ebx, ecx, edx

# (leaf, subleaf, register) -> bit: name
X86_FEATURES: dict[tuple[int, int, int], dict[int, str]] = {
    (1, 0, 2): {
        0: "sse3", 9: "ssse3", 12: "fma", 13: "cx16", 19: "sse4.1", 20: "sse4.2", 22: "movbe", 23: "popcnt", 28: "avx",
        29: "f16c",
    },
    (7, 0, 1): {
        3: "bmi", 5: "avx2", 8: "bmi2", 16: "avx512f", 17: "avx512dq", 28: "avx512cd", 30: "avx512bw", 31: "avx512vl",
    },
    (7, 0, 2): {11: "avx512vnni"},
    (7, 0, 3): {24: "amx-tile", 25: "amx-int8"},
    (7, 1, 0): {4: "avxvnni"},
    (0x80000001, 0, 2): {0: "sahf", 5: "lzcnt"},
}  # fmt: skip
OSXSAVE = 1 << 27  # of leaf 1, ecx: XGETBV is there
# State that the operating system must save for registers of 256 and of 512 bits, and for tiles.
YMM_STATE, ZMM_STATE, TILE_STATE = 0x6, 0xE6, 0x60000
OF_YMM = ("avx", "avx2", "avxvnni", "f16c", "fma")

# (entry of the auxiliary vector, bit) -> name
AT_HWCAP, AT_HWCAP2 = 16, 26
ARM_FEATURES = {(AT_HWCAP, 1): "neon", (AT_HWCAP, 8): "lse", (AT_HWCAP, 20): "dotprod", (AT_HWCAP2, 13): "i8mm"}


def x86_features(cpuid: CPUID, xgetbv: Callable[[], int]) -> frozenset[str]:
    """LLVM's names of what an x86-64 processor has and the operating system allows."""
    highest = {0: cpuid(0, 0)[0], 0x80000000: cpuid(0x80000000, 0)[0]}
    subleaves = cpuid(7, 0)[0] if highest[0] >= 7 else 0
    found = set()
    for (leaf, subleaf, register), bits in X86_FEATURES.items():
        if leaf <= highest[leaf & 0x80000000] and subleaf <= (subleaves if leaf == 7 else 0):
            value = cpuid(leaf, subleaf)[register]
            found |= {name for bit, name in bits.items() if value >> bit & 1}
    state = xgetbv() if cpuid(1, 0)[2] & OSXSAVE else 0
    if state & YMM_STATE != YMM_STATE:
        found -= {*OF_YMM}
    if state & ZMM_STATE != ZMM_STATE:
        found = {name for name in found if not name.startswith("avx512")}
    if state & TILE_STATE != TILE_STATE:
        found -= AMX
    return frozenset(found)


def arm_features(auxiliary: Callable[[int], int]) -> frozenset[str]:
    """LLVM's names of what an AArch64 processor has, from Linux's auxiliary vector."""
    return frozenset(name for (entry, bit), name in ARM_FEATURES.items() if auxiliary(entry) >> bit & 1)


def features(architecture: str, load: Callable[[str], ctypes.CDLL]) -> frozenset[str]:
    """What this machine offers; `load` loads one of the installed shared objects."""
    if architecture == "aarch64":
        getauxval = ctypes.CDLL(None).getauxval
        getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
        return arm_features(getauxval)
    library = load("cpuid")
    registers = (ctypes.c_uint32 * 4)()
    library.npdistil_cpuid.argtypes = [ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p]
    library.npdistil_cpuid.restype = None
    library.npdistil_xgetbv.argtypes, library.npdistil_xgetbv.restype = [], ctypes.c_uint64

    def cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        library.npdistil_cpuid(leaf, subleaf, ctypes.addressof(registers))
        a, b, c, d = registers
        return a, b, c, d

    return x86_features(cpuid, library.npdistil_xgetbv)
