"""A fuzzer's input as changes to a sound file: a few bytes say which file, and what is done to it where.

Any bytes are such an input, and any part of one is. Places are counted among the bytes that are not in the middle of
zeros: most of a recording is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache

BLOCK_BYTES = 64
INTERESTING = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 47,
    (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
WIDTHS = (1, 2, 4, 8)
OUTPUT_BYTES_MOST = 4 << 20


@lru_cache(maxsize=64)
def places(seed: bytes) -> tuple[int, ...]:
    """Return where the blocks are that hold something, and those beside them."""
    zero = bytes(BLOCK_BYTES)
    used = {at // BLOCK_BYTES for at in range(0, len(seed), BLOCK_BYTES) if seed[at : at + BLOCK_BYTES] != zero}
    near = sorted({block + step for block in used for step in (0, 1)})
    return tuple(block * BLOCK_BYTES for block in near if block * BLOCK_BYTES < len(seed)) or (0,)


def edited(data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Return one of *seeds*, changed as *data* says: the first byte chooses, of the rest each change takes some."""
    if not data:
        return seeds[0]
    seed = seeds[data[0] % len(seeds)]
    blocks = places(seed)
    out = bytearray(seed)
    at = 1

    def number(count: int) -> int:
        nonlocal at
        value = int.from_bytes(data[at : at + count], "little")
        at += count
        return value

    def place() -> int:
        where = number(3) % (len(blocks) * BLOCK_BYTES)
        return min(blocks[where // BLOCK_BYTES] + where % BLOCK_BYTES, len(out))

    while at < len(data) and len(out) <= OUTPUT_BYTES_MOST:
        kind = number(1)
        where = place()
        if kind % 8 == 0:
            out[where : where + 1] = bytes([number(1)])
        elif kind % 8 == 1:
            width = WIDTHS[kind >> 3 & 3]
            out[where : where + width] = number(width).to_bytes(width, "little")
        elif kind % 8 == 2:
            width = WIDTHS[kind >> 3 & 3]
            value = INTERESTING[number(1) % len(INTERESTING)] & ((1 << 8 * width) - 1)
            out[where : where + width] = value.to_bytes(width, "little")
        elif kind % 8 == 3:  # as at another place
            width = number(1) + 1
            source = place()
            out[where : where + width] = out[source : source + width]
        elif kind % 8 == 4:
            width = WIDTHS[kind >> 3 & 3]
            old = int.from_bytes(out[where : where + width], "little")
            delta = number(1) - 128
            out[where : where + width] = ((old + delta) % (1 << 8 * width)).to_bytes(width, "little")
        elif kind % 8 == 5:  # further bytes, as they stand
            width = number(1)
            out[where:where] = data[at : at + width]
            at += width
        elif kind % 8 == 6:
            del out[where : where + number(1)]
        elif kind & 8:
            del out[where:]
        else:  # the same again and again
            width = number(1) + 1
            out[where:where] = bytes(out[where : where + width]) * (number(1) % 64)
    return bytes(out)


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return *data* changed a little, for an engine that knows nothing of what the input is."""
    out = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4))):
        choice = rng.randrange(6)
        where = rng.randrange(len(out) + 1)
        if choice == 0 and out:
            out[rng.randrange(len(out))] = rng.randrange(256)
        elif choice == 1:
            out[where:where] = rng.randbytes(rng.randrange(1, 12))
        elif choice == 2:
            del out[where : where + rng.randrange(1, 12)]
        elif choice == 3 and others:
            other = rng.choice(others)
            out[where:] = other[rng.randrange(len(other) + 1) :]
        elif choice == 4:
            out += rng.randbytes(rng.randrange(4, 40))
        elif out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out[:4096])
