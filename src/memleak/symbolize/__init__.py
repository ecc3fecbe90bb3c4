"""Names for addresses: (binary, build-id, address) in, function, file and line out.

Works on binaries at rest: the process that recorded the addresses may be long gone. Importing
this package loads next to nothing: an answer out of the cache takes less than the rest of it takes to load.

`memleak.symbolize` is this package and also a function, see `memleak.lookups`: the package is called.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in memleak itself
if TYPE_CHECKING:
    from typing import Any

    from .frames import Frame, format_frame, format_frames, is_plumbing
    from .symbolizer import Symbolizer

__all__ = ["Frame", "Symbolizer", "format_frame", "format_frames", "is_plumbing"]


def __getattr__(name: str) -> object:
    """Load a name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(".symbolizer" if name == "Symbolizer" else ".frames", __name__), name)
    globals()[name] = found
    return found


class _CallablePackage(type(sys)):  # type: ignore[misc]
    def __call__(self, *arguments: Any, **options: Any) -> list[tuple[Frame, ...]]:
        """Return the frames of tokens; see `memleak.lookups.symbolize`."""
        import memleak

        return memleak._symbolize(*arguments, **options)  # type: ignore[no-any-return]


sys.modules[__name__].__class__ = _CallablePackage
