"""Names for addresses: (binary, build-id, address) in, function, file and line out.

Works on binaries at rest: the process that recorded the addresses may be long gone. Importing
this package loads neither pyelftools nor subprocess; the first lookup does.
"""

from __future__ import annotations

from .frames import Frame, format_frame, format_frames, is_plumbing
from .symbolizer import Symbolizer

__all__ = ["Frame", "Symbolizer", "format_frame", "format_frames", "is_plumbing"]
