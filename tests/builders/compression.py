"""Compressed sections, by the three ways that there are; of zstd only blocks that hold their bytes as they are."""

from __future__ import annotations

import struct
import zlib

_SHF_COMPRESSED = 1 << 11
_ZLIB, _ZSTD = 1, 2
_BLOCK_MOST = 128 << 10


def compressed(sections: dict[str, bytes], how: str, *, bits: int = 64) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return the sections compressed by "zlib", "zstd" or "zlib-gnu", and their flags."""
    if how == "zlib-gnu":
        old = {name.replace(".debug_", ".zdebug_"): _old(data) for name, data in sections.items()}
        return old, {}
    kind, squeeze = (_ZLIB, zlib.compress) if how == "zlib" else (_ZSTD, zstd_frame)
    made = {}
    for name, data in sections.items():
        words = (kind, 0, len(data), 1) if bits == 64 else (kind, len(data), 1)
        made[name] = struct.pack("<IIQQ" if bits == 64 else "<III", *words) + squeeze(data)
    return made, dict.fromkeys(made, _SHF_COMPRESSED)


def _old(data: bytes) -> bytes:
    return b"ZLIB" + len(data).to_bytes(8, "big") + zlib.compress(data)


def zstd_frame(data: bytes) -> bytes:
    """Return a frame of zstd: its size in eight bytes, then raw blocks."""
    out = b"\x28\xb5\x2f\xfd" + b"\xe0" + len(data).to_bytes(8, "little")
    blocks = [data[at : at + _BLOCK_MOST] for at in range(0, len(data), _BLOCK_MOST)] or [b""]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        out += (len(block) << 3 | last).to_bytes(3, "little") + block
    return out
