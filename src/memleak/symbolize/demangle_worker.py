"""Run as a program: C++ names in, readable names out, a line each, by the C++ runtime.

Used where c++filt is not installed. A process of its own, see `demangle.py`.
"""

from __future__ import annotations

import ctypes
import sys


def main() -> None:
    """Answer until the input ends."""
    demangle = ctypes.CDLL("libstdc++.so.6")["__cxa_demangle"]
    demangle.restype = ctypes.c_void_p
    demangle.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 3]
    free = ctypes.CDLL(None)["free"]
    free.argtypes = [ctypes.c_void_p]
    for line in sys.stdin.buffer:
        name = line.rstrip(b"\n")
        text = demangle(name, None, None, None) if name.startswith(b"_Z") else None
        readable = ctypes.string_at(text) if text else name
        free(text)
        sys.stdout.buffer.write(readable.replace(b"\n", b" ") + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
