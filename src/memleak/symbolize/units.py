"""What our reader of DWARF learned of the units that it touched, on disk: new addresses in them are found faster.

Answers are kept by `remembered.py`. These are tables of where functions and lines are, of use to whatever is asked.
"""

from __future__ import annotations

from .cache import Key, SymbolCache
from .elf import ElfError
from .headers import read_headers
from .remembered import code_state

KIND = "units"
_MAX_BUILD_ID_HEX = 256


class LearnedUnits:
    """The cache as `DwarfEngine` uses it."""

    def __init__(self, cache: SymbolCache) -> None:
        self._cache = cache

    def load(self, path: str) -> bytes | None:
        """Return what was stored about the binary at *path*, None if nothing was."""
        key = _key(path)
        return None if key is None else self._cache.load_blob(key, KIND)

    def store(self, path: str, learned: bytes) -> None:
        """Store what was learned in place of what is stored; not of a binary without a build-id."""
        key = _key(path)
        if key is not None:
            self._cache.store_blob(key, KIND, learned)


def _key(path: str) -> Key | None:
    try:
        headers = read_headers(path)
    except ElfError:
        return None
    if not headers.build_id or len(headers.build_id) > _MAX_BUILD_ID_HEX:
        return None
    return Key(headers.build_id, repr((code_state(), headers.size, headers.modified_ns)).encode())
