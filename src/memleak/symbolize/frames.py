"""One symbolized frame, and how it is printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# Only the global operators: a class's own operator new is the user's code, often the very pool
# they look for. Both spellings, since a name that no demangler knew stays as it is.
_PLUMBING = re.compile(r"operator new(\[\])?(\(|$)|_Zn[wa][jmy]")


class Frame(NamedTuple):
    """A place in a program.

    A tuple and not a dataclass: slots=True needs Python 3.10, and 10^5 of these are made at once.

    Attributes:
        function: readable name, or None if nothing names this address.
        file: source file, or None.
        line: source line, or None; never 0.
        inlined: True if the compiler inlined this function into the next frame of the chain.
        module: path of the binary as recorded, without " (deleted)".
        offset: the address asked for, as in the binary's program headers.
        discriminator: which of several blocks of code of one line, as the compiler numbers them; 0 if it does not.
    """

    function: str | None
    file: str | None
    line: int | None
    inlined: bool
    module: str
    offset: int
    discriminator: int = 0


def is_plumbing(function: str | None) -> bool:
    """Tell whether *function* is one of the global operator new, new[]: never the culprit."""
    return function is not None and _PLUMBING.match(function) is not None


def begins_stack(function: str | None) -> bool:
    """Tell whether *function* is where a greenlet begins.

    Further out on its stack lies what ran there before, or another greenlet.
    """
    return function is not None and function.startswith("greenlet::UserGreenlet::inner_bootstrap(")


def format_frame(frame: Frame, *, inlined_by: bool = False) -> str:
    """Print one frame as `addr2line -pCfi` does: "func at file:line".

    Without a source file the place is "lib.so+0x1234", ready to be looked up elsewhere.

    Args:
        frame: what to print.
        inlined_by: True for a frame that follows an inlined one: " (inlined by) " in front.
    """
    if frame.file is None:
        name = frame.module.rsplit("/", 1)[-1] or "??"
        place = f"{name}+{frame.offset:#x}"
    else:
        place = f"{frame.file}:{'?' if frame.line is None else frame.line}"
    prefix = " (inlined by) " if inlined_by else ""
    return f"{prefix}{frame.function or '??'} at {place}"


def format_frames(frames: Sequence[Frame]) -> list[str]:
    """Print the frames of one address, innermost first: one line each."""
    return [
        format_frame(frame, inlined_by=index > 0 and frames[index - 1].inlined) for index, frame in enumerate(frames)
    ]
