"""How the verbs read binaries: in a child process, after a look at what is known of them already."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from ..symbolize import cache as caches
from ..symbolize.debugfiles import is_perf_map
from .common import UsageError

FETCHING_S = 900.0  # longest wait for an answer that a server may have a part in


class Sources(NamedTuple):
    """Where names are looked for, beside the binaries themselves.

    Attributes:
        debug_dirs: see `Symbolizer`.
        use_cache: whether names found before are used, and those found now kept.
        use_servers: whether debuginfod's servers are asked.
    """

    debug_dirs: Sequence[str] = ()
    use_cache: bool = True
    use_servers: bool = False

    @property
    def cache(self) -> Optional[caches.SymbolCache]:
        """The user's cache, or None."""
        return caches.default() if self.use_cache else None

    @property
    def engine(self) -> str:
        """What answers depend on, for the cache: those of servers are kept apart."""
        return "auto, servers" if self.use_servers else "auto"

    def server(self) -> Any:
        """Return the servers to ask, None for none.

        Raises:
            UsageError: none is named.
        """
        if not self.use_servers:
            return None
        from ..symbolize import debuginfod

        servers, place = debuginfod.urls(), debuginfod.directory()
        if not servers or place is None:
            raise UsageError(f"--debuginfod: ${debuginfod.URLS} names no server (http://… or https://…) to ask")
        return debuginfod.Debuginfod(servers, place)


DEFAULT = Sources()


def sources(options: Namespace) -> Sources:
    """Return what the options of `add_symbol_options` say."""
    return Sources(options.debug_dir, not options.no_cache, options.debuginfod)


def confined(sysroot: str | None = None, where: Sources = DEFAULT) -> Any:
    """Return a symbolizer in a child process, see `Symbolizer`."""
    from ..symbolize.confined import ConfinedSymbolizer

    cache, server = where.cache, where.server()
    units = _units(cache)

    def make() -> Any:
        from ..symbolize import Symbolizer

        return Symbolizer(sysroot=sysroot, debug_dirs=where.debug_dirs, mapped=True, units=units, server=server)

    behind = ConfinedSymbolizer(make, **_limits(where))
    if cache is None:
        return behind
    from ..symbolize.remembered import CachedSymbolizer, Remembered

    remembered = Remembered(cache, sysroot=sysroot, debug_dirs=where.debug_dirs, engine=where.engine)
    return CachedSymbolizer(behind, remembered)


def confined_lines(path: str, where: Sources, *, gnu_compat: bool) -> Any:
    """Return what names addresses of one binary, see `BinaryLines`.

    Raises:
        ElfError: the file is not there, or is not a program or library.
    """
    if is_perf_map(path):
        from ..symbolize.perfmap import PerfMapLines

        return PerfMapLines(path)
    cache, server = None if gnu_compat else where.cache, where.server()
    units = _units(cache)

    def start() -> Any:
        from ..symbolize.confined import ConfinedLines

        return ConfinedLines(
            path, gnu_compat=gnu_compat, debug_dirs=where.debug_dirs, units=units, server=server, **_limits(where)
        )

    if cache is None:
        return start()
    from ..symbolize.rememberedlines import CachedLines

    return CachedLines(path, start, cache, where.debug_dirs, where.engine)


def _units(cache: caches.SymbolCache | None) -> Any:
    if cache is None:
        return None
    from ..symbolize.units import LearnedUnits

    return LearnedUnits(cache)


def _limits(where: Sources) -> dict[str, Any]:
    return {"timeout_s": FETCHING_S} if where.use_servers else {}
