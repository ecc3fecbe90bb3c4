"""A small Python service whose native code leaks.

It compresses each answer with zlib through ctypes, as a thin wrapper around a C library would, and
leaves out deflateEnd() when the answer is short: each such request leaves a compressor's state
behind. No Python object leaks, so Python's own tools see nothing.

    memleak run examples/leaky_service.py

The summary puts deflateInit2_ of libz on top. ``leaky_service.py 0`` serves until it is stopped.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import time

Z_FINISH = 4
DEFAULT_REQUESTS = 1500


class ZStream(ctypes.Structure):
    """struct z_stream_s of zlib.h."""

    _fields_ = [
        ("next_in", ctypes.c_char_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    ]


zlib = ctypes.CDLL(ctypes.util.find_library("z") or "libz.so.1")
zlib.zlibVersion.restype = ctypes.c_char_p


def compress(answer: bytes) -> bytes:
    """Return *answer* compressed."""
    stream = ZStream()
    if zlib.deflateInit_(ctypes.byref(stream), 6, zlib.zlibVersion(), ctypes.sizeof(stream)) != 0:
        raise RuntimeError("deflateInit failed")
    room = ctypes.create_string_buffer(len(answer) + 1024)
    stream.next_in, stream.avail_in = answer, len(answer)
    stream.next_out, stream.avail_out = ctypes.addressof(room), len(room)
    zlib.deflate(ctypes.byref(stream), Z_FINISH)
    result = room.raw[: stream.total_out]
    if len(answer) < 100:
        return result  # the bug: the stream is still open
    zlib.deflateEnd(ctypes.byref(stream))
    return result


def main() -> None:
    """Answer the requests that the command line asks for; 0 means until stopped."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_REQUESTS
    total = number = 0
    while requests == 0 or number < requests:
        total += len(compress(b"short" if number % 3 == 0 else b"a long answer " * 200))
        number += 1
        if requests == 0:
            time.sleep(0.05)
    print(f"served {number} requests, {total} bytes")


if __name__ == "__main__":
    main()
