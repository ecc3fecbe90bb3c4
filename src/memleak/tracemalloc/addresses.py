"""Where the memory block of a Python object begins."""

from __future__ import annotations

import struct
import sys

_POINTER = struct.calcsize("P")
# Bits of type.__flags__, as the headers of CPython name them.
_HAVE_GC = 1 << 14
_MANAGED_WEAKREF = 1 << 3  # from 3.12 on
_MANAGED_DICT = 1 << 4  # from 3.11 on


def block_of(obj: object) -> int:
    """Return the address that the object's allocator gave: what stands in front of an object depends on its type."""
    flags = type(obj).__flags__
    before = 0
    if flags & _HAVE_GC:
        before += 2 * _POINTER  # PyGC_Head
    managed = _MANAGED_DICT if sys.version_info >= (3, 11) else 0
    if sys.version_info >= (3, 12):
        managed |= _MANAGED_WEAKREF
    if flags & managed:
        before += 2 * _POINTER
    return id(obj) - before
