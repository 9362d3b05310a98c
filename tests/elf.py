"""What a shared object asks of the process that loads it: its header, read without any tool."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

MACHINES = {62: "x86_64", 183: "aarch64"}
PT_LOAD, PT_DYNAMIC, PT_GNU_STACK = 1, 2, 0x6474E551
PF_X, PF_W = 1, 2
DT_NEEDED, DT_RPATH, DT_TEXTREL, DT_INIT, DT_INIT_ARRAY, DT_RUNPATH, DT_FLAGS = 1, 15, 22, 12, 25, 29, 30
DF_TEXTREL, DF_BIND_NOW = 4, 8
SHT_DYNSYM = 11


@dataclass
class SharedObject:
    """Of 64 bits, little-endian, with section headers."""

    machine: str
    segments: list[tuple[int, int, int, int]]  # type, flags, address, alignment
    tags: dict[int, int]
    defined: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)


def read(file: Path) -> SharedObject:
    data = file.read_bytes()
    assert data[:7] == b"\x7fELF\2\1\1"
    kind, machine = struct.unpack_from("<HH", data, 16)
    assert kind == 3, "not a shared object"
    segment_table, section_table = struct.unpack_from("<QQ", data, 32)
    _, segment_count, section_size, section_count, _ = struct.unpack_from("<HHHHH", data, 54)
    found = SharedObject(MACHINES[machine], [], {})
    for i in range(segment_count):
        kind, flags, offset, address, _, size, _, alignment = struct.unpack_from(
            "<IIQQQQQQ", data, segment_table + 56 * i
        )
        found.segments.append((kind, flags, address, alignment))
        if kind == PT_DYNAMIC:
            found.tags = dict(struct.iter_unpack("<QQ", data[offset : offset + size]))
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, section_table + section_size * i) for i in range(section_count)]
    (symbols,) = (section for section in sections if section[1] == SHT_DYNSYM)
    names = sections[symbols[6]]
    for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", data[symbols[4] : symbols[4] + symbols[5]]):
        start = names[4] + name
        text = data[start : data.index(b"\0", start)].decode()
        if info >> 4:  # not local
            (found.defined if section else found.imported).append(text)
    return found
