"""Numbers and variable-length numbers of DWARF, as the writers of this directory use them."""

from __future__ import annotations

from elftools.dwarf.enums import ENUM_DW_AT, ENUM_DW_FORM, ENUM_DW_TAG

UNIT_TYPES = {"compile": 1, "type": 2, "partial": 3, "skeleton": 4, "split_compile": 5, "split_type": 6}
FIXED_BYTES = {
    "data1": 1, "data2": 2, "data4": 4, "data8": 8, "ref1": 1, "ref2": 2, "ref4": 4, "ref8": 8, "flag": 1,
    "strx1": 1, "strx2": 2, "strx3": 3, "strx4": 4, "addrx1": 1, "addrx2": 2, "addrx3": 3, "addrx4": 4,
    "ref_sup4": 4, "ref_sup8": 8, "ref_sig8": 8,
}  # fmt: skip


def _number(table: dict[str, int], prefix: str, name: str | int) -> int:
    return name if isinstance(name, int) else table[prefix + name]


def tag_number(name: str | int) -> int:
    """Return the number of a tag by its name without "DW_TAG_"; a number stands for itself."""
    return _number(ENUM_DW_TAG, "DW_TAG_", name)


def attribute_number(name: str | int) -> int:
    """Return the number of an attribute by its name without "DW_AT_"."""
    return _number(ENUM_DW_AT, "DW_AT_", name)


def form_number(name: str | int) -> int:
    """Return the number of a form by its name without "DW_FORM_"."""
    return _number(ENUM_DW_FORM, "DW_FORM_", name)


def fixed(value: int, size: int) -> bytes:
    """Return a number of *size* bytes; what does not fit is cut off."""
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def uleb(value: int, *, width: int = 0) -> bytes:
    """Return an unsigned LEB128, padded to *width* bytes."""
    assert value >= 0
    out = bytearray()
    while True:
        byte = value & 127
        value >>= 7
        if not value and len(out) + 1 >= width:
            out.append(byte)
            return bytes(out)
        out.append(byte | 128)


def sleb(value: int) -> bytes:
    """Return a signed LEB128."""
    out = bytearray()
    while True:
        byte = value & 127
        value >>= 7
        if (value == 0 and not byte & 64) or (value == -1 and byte & 64):
            out.append(byte)
            return bytes(out)
        out.append(byte | 128)


def with_length(body: bytes, offset_size: int) -> bytes:
    """Return *body* behind its length, in the 32-bit or the 64-bit format."""
    return fixed(len(body), 4) + body if offset_size == 4 else fixed(0xFFFFFFFF, 4) + fixed(len(body), 8) + body


def length_bytes(offset_size: int) -> int:
    """Return how many bytes such a length takes."""
    return 4 if offset_size == 4 else 12
