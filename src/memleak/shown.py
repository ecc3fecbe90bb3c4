"""The frames of an answer, native and Python ones, and how a stack is written down.

`docs/reference/rows.md` documents the fields: they are the keys of a frame in JSON.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Optional

NATIVE = "native"
PYTHON = "python"
UNKNOWN = "??"
UNPLACED = "(Python frames whose place among the native ones is not known:)"
LOST_PYTHON = "(Python frames: no room for them in the recording)"


class ShownFrame(NamedTuple):
    """One frame of a stack that is shown.

    Attributes:
        kind: native or python.
        function: its name, for Python the qualified one; None when not known.
        file: source file, for Python as the code object has it; None when not known.
        line: source line; None when not known.
        module: path of the object that holds a native frame, as recorded; None when in none that is known, and
            for Python.
        vaddr: virtual address in the module, as addr2line takes it; None for Python.
        inlined: the compiler inlined this native function into the next frame.
        placed: False for a Python frame of which it is not known where it stands among the native ones. All
            such frames follow the others.
    """

    kind: str
    function: Optional[str]
    file: Optional[str]
    line: Optional[int]
    module: Optional[str]
    vaddr: Optional[int]
    inlined: bool
    placed: bool

    def __str__(self) -> str:
        """Return the frame as `addr2line -pi` prints it; for what has no name, its place."""
        if self.kind == PYTHON:
            name = self.function or "(Python code that was not recorded)"
            return f"{name} at {self.file}:{self.line or '?'}" if self.file else name
        if not self.function:
            return f"{file_name(self.module)}+0x{self.vaddr or 0:x}"
        if not self.file:
            return f"{self.function} ({file_name(self.module)})"
        return f"{self.function} at {self.file}:{self.line or '?'}"

    @property
    def brief(self) -> str:
        """A Python frame as above, a native one as `function (file:line)` without what is not known."""
        if self.kind == PYTHON or not self.function:
            return str(self)
        if not self.file:
            return self.function
        return f"{self.function} ({self.file}:{self.line})" if self.line else f"{self.function} ({self.file})"


# Stands for Python frames that there were.
LOST_FRAME = ShownFrame(PYTHON, LOST_PYTHON, None, None, None, None, False, True)


@lru_cache(maxsize=4096)
def file_name(path: Optional[str]) -> str:
    """Return a path's last part, safe in a list separated by blanks; `??` when there is none."""
    name = (path or "").rsplit("/", 1)[-1]
    return "".join(c if c.isprintable() and not c.isspace() else "?" for c in name) or UNKNOWN


def lines(frames: Sequence[ShownFrame]) -> tuple[str, ...]:
    """Return a stack with a line for each frame, and one before those that are not placed."""
    found = []
    inlined = False
    for frame, mark in _marked(frames):
        if mark:
            found.append(mark)
        text = _line(frame)
        found.append(f" (inlined by) {text}" if inlined and frame.kind == NATIVE else text)
        inlined = frame.inlined
    return tuple(found)


def joined(frames: Sequence[ShownFrame]) -> str:
    """Return a stack in one line, innermost first, joined by ` < `."""
    return " < ".join(word for frame, mark in _marked(frames) for word in (mark, _brief(frame)) if word)


# Stacks share most of their frames, and looking one up takes a fifth of the time of writing it down.
@lru_cache(maxsize=1 << 16)
def _line(frame: ShownFrame) -> str:
    return str(frame)


@lru_cache(maxsize=1 << 16)
def _brief(frame: ShownFrame) -> str:
    return frame.brief


def _marked(frames: Sequence[ShownFrame]) -> Iterable[tuple[ShownFrame, str]]:
    """Yield each frame; with the first that is not placed, if others precede it, a mark."""
    placed = False
    for frame in frames:
        yield frame, UNPLACED if placed and not frame.placed else ""
        placed = frame.placed
