"""Bytes under a checksum, a block at a time: what was not read need not be checked, what was read is what was written.

    header      magic, version, sizes of the key and the body
    key         what the body answers for
    checksums   u32 CRC-32 for each block of the body
    body

What stands before the body needs no checksum: it is compared with what it must be, and a wrong checksum
fails where its block is read.

A body is read with pread() and never mapped: of a mapping the pages may change after they were checked, and
a file that is cut short, or a disk that fails, would end the reader by SIGBUS.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence

VERSION = 1
BLOCK_BYTES = 16 << 10
MAX_KEY_BYTES = 64 << 10

_MAGIC = b"MLSEALED"
_HEADER = struct.Struct("<8sIIQ")


class SealError(Exception):
    """The file is not what was written, or was written for another key."""


def seal(key: bytes, body: bytes) -> Sequence[bytes]:
    """Return the pieces of a file that holds *body*."""
    view = memoryview(body)
    blocks = (view[start : start + BLOCK_BYTES] for start in range(0, len(body), BLOCK_BYTES))
    checksums = b"".join(zlib.crc32(block).to_bytes(4, "little") for block in blocks)
    return _HEADER.pack(_MAGIC, VERSION, len(key), len(body)), key, checksums, body


class Sealed:
    """An open file of that kind. Takes the descriptor, and closes it.

    Raises:
        SealError: see there; `read` raises it, too.
    """

    def __init__(self, fd: int, key: bytes) -> None:
        self._file = open(fd, "rb", buffering=0)  # noqa: SIM115 - kept open; closed when it is collected, at the latest
        self._blocks: dict[int, bytes] = {}
        try:
            self._open(key)
        except BaseException:
            self.close()
            raise

    def _open(self, key: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        head = self._pread(0, _HEADER.size)
        magic, version, key_bytes, body_bytes = _HEADER.unpack(head)
        if magic != _MAGIC or version != VERSION:
            raise SealError("of another version")
        count = -(-body_bytes // BLOCK_BYTES)
        self._start = _HEADER.size + key_bytes + 4 * count
        if key_bytes > MAX_KEY_BYTES or self._start + body_bytes != size:
            raise SealError("of another length than it says")
        rest = self._pread(_HEADER.size, key_bytes + 4 * count)
        if rest[:key_bytes] != key:
            raise SealError("of another key")
        self._checksums = rest[key_bytes:]
        self.size: int = body_bytes

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, offset: int, count: int) -> bytes:
        """Return *count* bytes of the body; what lies beyond it is an error."""
        if not 0 <= offset <= offset + count <= self.size:
            raise SealError("it leads out of itself")
        if count == 0:
            return b""
        first, last = offset // BLOCK_BYTES, (offset + count - 1) // BLOCK_BYTES
        inside = offset - first * BLOCK_BYTES
        if first < last:
            return self._checked(first, last)[inside : inside + count]
        if first not in self._blocks:
            self._blocks[first] = self._checked(first, first)
        return self._blocks[first][inside : inside + count]

    def _checked(self, first: int, last: int) -> bytes:
        start = first * BLOCK_BYTES
        found = self._pread(self._start + start, min((last + 1) * BLOCK_BYTES, self.size) - start)
        view = memoryview(found)
        for number in range(first, last + 1):
            block = view[(number - first) * BLOCK_BYTES : (number - first + 1) * BLOCK_BYTES]
            if zlib.crc32(block) != int.from_bytes(self._checksums[4 * number : 4 * number + 4], "little"):
                raise SealError("damaged")
        return found

    def _pread(self, offset: int, count: int) -> bytes:
        try:
            data = os.pread(self._file.fileno(), count, offset)
        except OSError as error:
            raise SealError(f"cannot be read: {error.strerror}") from error
        if len(data) < count:
            raise SealError("cut short")
        return data
