"""Tell of an allocator of the program's own: `memleak.Pool("buddy").alloc(pointer, size)`.

For Python code that cuts up memory itself, by ctypes or mmap; C code includes memleak.h from `include()`.
"""

from __future__ import annotations

import os

from . import _native
from .errors import CoreError

_ADDRESS_MOST = (1 << 64) - 1
_NAME_BYTES_MOST = 63


class Pool:
    """An allocator of the program's own, by name. What it gives out is sampled like malloc's blocks.

    Rows show it as `mod_name` and are in no total: the memory that it cuts up is counted as whose it is. Nothing here
    does anything to memory, and nothing is noted while this process is not traced; regions are noted all the same. Any
    thread may call.

    Args:
        name: at most 63 bytes. The same name is the same pool. A process has 63; what comes after is one pool, `other`.

    Raises:
        TypeError: the name is no str.
        ValueError: it is empty, or too long.
    """

    __slots__ = ("_number", "name")

    def __init__(self, name: str) -> None:
        """Ask the core for the pool's number; without a core in this installation nothing is noted."""
        if not isinstance(name, str):
            raise TypeError(f"memleak.Pool: the name must be a str, not {type(name).__name__}")
        if not name or "\0" in name or len(name.encode("utf-8", "replace")) > _NAME_BYTES_MOST:
            raise ValueError(f"memleak.Pool: the name must have 1 to {_NAME_BYTES_MOST} bytes and no NUL, not {name!r}")
        self.name = name
        try:
            self._number = _native.pool(name)
        except CoreError:
            self._number = 0

    def __repr__(self) -> str:
        """Return how it was made."""
        return f"memleak.Pool({self.name!r})"

    def alloc(self, ptr: int, size: int) -> None:
        """Note that the pool has given out *size* bytes at address *ptr*; 0 is a request that failed, and is not noted.

        Raises:
            TypeError, ValueError: an argument is no whole number, or out of range.
        """
        _check("alloc", ptr=ptr, size=size)
        if self._number and ptr:
            _native.pool_alloc(self._number, ptr, size)

    def free(self, ptr: int, size: int | None = None) -> None:
        """Note that the block at *ptr* is about to be freed; before the pool may give it out again.

        With *size*, what the caller believes the block to have, a sampled block of another size is reported.

        Raises:
            TypeError, ValueError: an argument is no whole number, or out of range.
        """
        _check("free", ptr=ptr, **({} if size is None else {"size": size}))
        if self._number and ptr:
            _native.pool_free(self._number, ptr, size)

    def resize(self, old: int, new: int, size: int) -> None:
        """Note that the block at *old* is now one of *size* bytes at *new*, which may be the same place.

        Raises:
            TypeError, ValueError: an argument is no whole number, or out of range.
        """
        _check("resize", old=old, new=new, size=size)
        if self._number and new:
            _native.pool_resize(self._number, old, new, size)

    def region(self, base: int, size: int) -> None:
        """Note that the pool hands out pieces of the *size* bytes at *base* from now on.

        Raises:
            TypeError, ValueError: an argument is no whole number, or out of range, or there is no such range.
        """
        _check("region", base=base, size=size)
        if not base or not size or base + size > _ADDRESS_MOST:
            raise ValueError(f"memleak.Pool.region: there are no {size} bytes at {base:#x}")
        if self._number:
            _native.pool_region(self._number, base, size)

    def region_end(self, base: int) -> None:
        """Note that it does so no longer, and that what it gave out there is gone; before the memory is given back.

        Raises:
            TypeError: *base* is no whole number.
            ValueError: the pool has no region that begins there.
        """
        _check("region_end", base=base)
        if self._number and not _native.pool_region_end(self._number, base):
            raise ValueError(f"memleak.Pool.region_end: {self!r} has no region that begins at {base:#x}")


def include() -> str:
    """Return the directory that holds memleak.h, for `cc -I`.

    It is the package's, or of an editable installation the source tree's.

    Raises:
        CoreError: there is none; this copy of the package was not installed.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    places = (os.path.join(package, "include"), os.path.normpath(os.path.join(package, "../../native/include")))
    for place in places:
        if os.path.isfile(os.path.join(place, "memleak.h")):
            return place
    where = " nor in ".join(places)
    raise CoreError(f"looking for memleak.h: it is neither in {where}; install the memleak package")


def _check(method: str, **given: object) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"memleak.Pool.{method}: {name} must be a whole number, not {type(value).__name__}")
        if not 0 <= value <= _ADDRESS_MOST:
            raise ValueError(f"memleak.Pool.{method}: {name} must be between 0 and 2**64 - 1, not {value}")
