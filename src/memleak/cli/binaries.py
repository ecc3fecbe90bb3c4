"""How the verbs read binaries: in a child process, after a look at what is known of them already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..symbolize import cache as caches


def confined(sysroot: str | None = None, debug_dirs: Sequence[str] = (), *, use_cache: bool = True) -> Any:
    """Return a symbolizer, see `Symbolizer`."""
    from ..symbolize.confined import ConfinedSymbolizer

    cache = caches.default() if use_cache else None
    units = None
    if cache is not None:
        from ..symbolize.units import LearnedUnits

        units = LearnedUnits(cache)

    def make() -> Any:
        from ..symbolize import Symbolizer

        return Symbolizer(sysroot=sysroot, debug_dirs=debug_dirs, mapped=True, units=units)

    behind = ConfinedSymbolizer(make)
    if cache is None:
        return behind
    from ..symbolize.remembered import CachedSymbolizer, Remembered

    return CachedSymbolizer(behind, Remembered(cache, sysroot=sysroot, debug_dirs=debug_dirs))


def confined_lines(path: str, *, gnu_compat: bool, debug_dirs: Sequence[str], use_cache: bool) -> Any:
    """Return what names addresses of one binary, see `BinaryLines`.

    Raises:
        ElfError: the file is not there, or is not a program or library.
    """
    cache = caches.default() if use_cache and not gnu_compat else None
    units = None
    if cache is not None:
        from ..symbolize.units import LearnedUnits

        units = LearnedUnits(cache)

    def start() -> Any:
        from ..symbolize.confined import ConfinedLines

        return ConfinedLines(path, gnu_compat=gnu_compat, debug_dirs=debug_dirs, units=units)

    if cache is None:
        return start()
    from ..symbolize.rememberedlines import CachedLines

    return CachedLines(path, start, cache, debug_dirs)
