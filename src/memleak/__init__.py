"""An always-on sampling allocation tracer for Linux services.

Importing this package hooks nothing and loads next to nothing; each name below is loaded when it
is first used. Reading recordings works without the core library.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for typing's, which takes milliseconds to import
if TYPE_CHECKING:
    from typing import Any

    from . import tracemalloc
    from .errors import CoreError, MemleakError, NewerFormatError, QueryError, RecordingError, TargetError
    from .gauges import gauge
    from .inprocess import Status, snapshot, status
    from .labels import label
    from .lookups import addr2line, symbolize
    from .pool import Pool, include
    from .query import Snapshot, open
    from .session import configure, is_running, mode, start, stop, tracing

__all__ = [
    "CoreError",
    "MemleakError",
    "NewerFormatError",
    "Pool",
    "QueryError",
    "RecordingError",
    "Snapshot",
    "Status",
    "TargetError",
    "addr2line",
    "configure",
    "gauge",
    "include",
    "is_running",
    "label",
    "mode",
    "open",
    "snapshot",
    "start",
    "status",
    "stop",
    "symbolize",
    "tracemalloc",
    "tracing",
]

_HOMES = {
    "CoreError": "errors",
    "MemleakError": "errors",
    "NewerFormatError": "errors",
    "QueryError": "errors",
    "RecordingError": "errors",
    "TargetError": "errors",
    "Snapshot": "query",
    "open": "query",
    "gauge": "gauges",
    "label": "labels",
    "Pool": "pool",
    "include": "pool",
    "addr2line": "lookups",
    "_symbolize": "lookups",
    "configure": "session",
    "is_running": "session",
    "mode": "session",
    "start": "session",
    "stop": "session",
    "tracing": "session",
    "Status": "inprocess",
    "snapshot": "inprocess",
    "status": "inprocess",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    from sys import modules

    # Another thread may be loading that module: then it is there, without its functions.
    set_aside = getattr(modules.get(f"{__name__}._native"), "set_aside", None)
    if set_aside is None:
        return _load(name)
    before = set_aside(True)  # what is loaded here while the program is traced is ours
    try:
        return _load(name)
    finally:
        set_aside(before)


def _load(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("memleak")
        except PackageNotFoundError:
            value = "0 (not installed)"
    elif name in ("symbolize", "tracemalloc"):
        value = import_module(f".{name}", __name__)  # packages; the first can be called
    elif name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
