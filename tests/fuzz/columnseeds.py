"""First inputs of the target columns: each function of `memleak._columns`, and less and less of what it reads."""

from __future__ import annotations

import struct

FUNCTIONS = ["fields", "rows", "stacks", "stand", "distinct", "live", "at", "owners", "sums", "order"]
FUNCTIONS += ["places", "history", "lines", "squares"]
ROOM_REF = 512  # of the first record
BEHIND, WHOLE = 64, 128
OF_64_BITS, OF_NONE, NEGATIVE, FROM_THE_END = 4 << 28, 8 << 28, 3 << 28, 1 << 28


def asked(
    function: str,
    raw: bytes,
    numbers=(),
    refs=(),
    other: bytes = b"",
    third: bytes = b"",
    *,
    flags: int = 0,
    amiss: int = 0,
    fails: int = 0,
) -> bytes:
    """Return an input as columns_input.h reads it."""
    head = struct.pack("<4B2H", FUNCTIONS.index(function), flags | len(refs), amiss, fails, len(other), len(third))
    numbers = (*numbers, *[0] * (6 - len(numbers)))
    return head + struct.pack(f"<6I{len(refs)}H", *numbers, *refs) + other + third + raw


def room(ref: int) -> int:
    """Return how a reference into the room is written."""
    return 1 << 12 | ref - ROOM_REF


def live() -> list[bytes]:
    """Three entries of a live set, and less and less of them."""
    keys = struct.pack("<3Q", *(1 << 63 | layer << 48 | layer for layer in (1, 11, 4)))
    raw = keys + b"".join(struct.pack("<QIIIIII", 64 * size, size, 2048, 3, 1, 0, 0) for size in (1, 2, 3))
    cuts = [raw[: len(raw) - cut] for cut in (0, 1, 31, 32, 33, 64, 95, 96, 97)]
    return [*(asked("live", cut, (0, 3), flags=WHOLE) for cut in cuts), asked("live", raw, (0, 3))]


def records() -> list[bytes]:
    """Two rows and their index; two stacks that have one key, and one that has another."""
    heads = [struct.pack("<IHHQ", 128, 2, 0, key << 32) for key in (5, 6)]
    raw = b"".join(head + bytes(112) for head in heads)
    words = struct.pack("<4Q", 5 << 32 | ROOM_REF, 0, 6 << 32 | ROOM_REF + 8, 0)
    found = [asked("rows", raw, other=index, flags=BEHIND) for index in (words, words[:20], words + words[:8], b"")]
    stacks = b"".join(
        struct.pack("<IHHQHHI3Q", 48, 1, 0, key, frames, 0, 0, 1, 2, 3) for key, frames in ((7, 3), (7, 1), (8, 3))
    )
    refs = [room(ROOM_REF + 3 * number) for number in (0, 1, 2, 0)]
    for some in ([0, *refs], refs[2:], [*refs, 0xF400], [*refs, 0xF900]):
        found += [
            asked("stacks", stacks, (1, 4), some, flags=BEHIND),
            asked("stand", stacks, (1, 24), some, flags=BEHIND),
        ]
        found += [asked("distinct", stacks, (offset,), some, flags=BEHIND) for offset in (8, 16, FROM_THE_END | 8)]
        found += [
            asked("fields", stacks, (0, 4, 8, 8, 16, 4), some, flags=BEHIND, amiss=amiss)
            for amiss in (0, 4, 3, 10, 11, 12, 13)
        ]
        found += [asked("fields", stacks, (0, width, 1 << 20, 8), some, flags=BEHIND) for width in (3, 8)]
    ends = [room(ROOM_REF + number) for number in (7, 8, 9)]
    for last in (1, 2, 3):
        found += [asked("fields", stacks, (at, 8, 0, 4, 4, 4), ends[:last], flags=BEHIND) for at in (0, 2 << 28)]
        found += [asked("distinct", stacks, (offset,), ends[:last], flags=BEHIND) for offset in (0, 8, 9, 16)]
    for bytes_left in (0, 4, 7, 8):  # of what a record begins with
        found.append(asked("stand", stacks[: 96 + bytes_left], (1, 24), refs[2:3], flags=BEHIND))
    longer = struct.pack("<IHHQHHI3Q", 48, 1, 0, 9, 4, 0, 0, 1, 2, 3) + bytes(16)
    found.append(asked("stacks", longer, (1, 4), refs[:1], flags=BEHIND))
    for short in (1, 8):  # the last record is longer than what is there
        found += [
            asked("rows", raw[:-short], other=words, flags=BEHIND),
            asked("stacks", stacks[:-short], (1, 4), refs, flags=BEHIND),
            asked("stand", stacks[:-short], (1, 24), refs, flags=BEHIND),
        ]
    return found


def samples() -> list[bytes]:
    """Four samples of two rows, their sizes and weights."""
    rows, owners = struct.pack("<4I", 512, 520, 512, 520), struct.pack("<4I", 0, 1, 0, 1)
    sizes, weights = struct.pack("<4Q", 64, (1 << 64) - 1, 1, 1 << 40), struct.pack("<4I", 1024, (1 << 32) - 1, 2048, 1)
    found = [asked("at", rows, (number,)) for number in (512, 5, OF_64_BITS, OF_NONE)]
    for refs in ([512, 520], [520, 512, 600], [512, 516], [512], [512, 0xF400]):
        found += [asked("owners", rows, (limit,), refs) for limit in (1000, 520, 5 << 28, NEGATIVE | 1)]
    for amiss in (0, 2, 6, 7, 8, 9):
        found += [
            asked(function, owners, (count,), other=sizes, third=weights, amiss=amiss)
            for count in (2, 1, NEGATIVE | 1)
            for function in ("sums", "squares")
        ]
    found.append(asked("sums", owners, (2,), other=sizes[:-1], third=weights))
    for numbers in ((9, 5, 9, 0x2100, 0, 1, 2, 3), (9, 5, 0, 2), (0xF700, 1, 0, 1), (5, 5, 1, 1), (0xFA00, 1, 0, 1)):
        found += [asked("order", b"", refs=numbers, amiss=amiss) for amiss in (0, 5)]
    return found


def words() -> list[bytes]:
    """Words of a stack and the names of three modules; of a history; of the three forms of line tables."""
    frames = struct.pack("<4Q", *(module << 48 | 0x1234 for module in (0, 3, 2, 9)))
    found = [
        asked("places", frames, (offset, number), other=bytes(range(35)))
        for offset, number in ((0, 4), (1, 4), (7, 4), (8, 4), (16, 2), (32, 0))
    ]
    found += [asked("places", frames, (0, 4), other=bytes(number)) for number in (9, 10, 30)]
    history = struct.pack(
        "<8Q", *((1 + index) << 40 | 100 * index for index in range(4)), 1 << 40 | 7, 0, 0, 2 << 40 | 8
    )
    for form in (
        (0, 2, 4, 400, 2, 3000),
        (0, 2, 4, 1, 64, 0),
        (0, 2, 4, 1, 8, OF_64_BITS),
        (0, 2, 4, 1, 65, 0),
        (0, 4, 2, 1, 60, 5),
        (1, 2, 4, 400, 2, 3000),
        (8, 2, 4, 1, 2, 3),
    ):
        found.append(asked("history", history, form))
    tables = {
        1: bytes((6, 1, 250, 0, 4, 255)),
        2: bytes((6, 1, 0, 128, 8, 128, 4, 3)),
        3: bytes((0x80 | 10 << 3 | 1, 5, 0xF1, 0x42, 3, 0xE8, 3, 0xF8)),
    }
    return found + [
        asked("lines", table, (kind, first, kind & 1))
        for kind, table in tables.items()
        for first in (1, 2 << 28, NEGATIVE | 5)
    ]


def inputs() -> list[bytes]:
    """Return all; of each function one where memory ends sooner and later, too."""
    found = [*live(), *records(), *samples(), *words()]
    first = {data[0]: data for data in reversed(found)}
    return found + [data[:3] + bytes([fails]) + data[4:] for data in first.values() for fails in range(1, 13)]
