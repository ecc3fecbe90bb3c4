"""Names for addresses: (binary, build-id, address) in, function, file and line out.

Works on binaries at rest: the process that recorded the addresses may be long gone. Importing
this package loads neither pyelftools nor subprocess; the first lookup does.

`memleak.symbolize` is this package and also a function, see `memleak.lookups`: the package is called.
"""

from __future__ import annotations

import sys

from .frames import Frame, format_frame, format_frames, is_plumbing
from .symbolizer import Symbolizer

__all__ = ["Frame", "Symbolizer", "format_frame", "format_frames", "is_plumbing"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _CallablePackage(type(sys)):  # type: ignore[misc]
    def __call__(self, *arguments: Any, **options: Any) -> list[tuple[Frame, ...]]:
        """Return the frames of tokens; see `memleak.lookups.symbolize`."""
        import memleak

        return memleak._symbolize(*arguments, **options)  # type: ignore[no-any-return]


sys.modules[__name__].__class__ = _CallablePackage
