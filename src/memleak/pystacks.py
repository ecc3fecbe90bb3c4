"""Decode Python stacks: their frames lead to code objects, whose line tables say the line."""

import struct
from typing import NamedTuple, Optional

from . import layout
from .arena import FRAMES_MOST, Arena, BeyondEnd, Damage
from .pylines import LineTable
from .records import PythonFrame, text

_ENTRY_ALWAYS_BELOW = 0x030B0000  # CPython 3.11: until then each Python frame has a run of the interpreter of its own


class PythonStack(NamedTuple):
    """The Python frames of a row, innermost first, and whether there were more."""

    frames: tuple[PythonFrame, ...] = ()
    truncated: bool = False


class _Code(NamedTuple):
    file: str
    name: str
    first_line: Optional[int]
    lines: LineTable


NO_STACK = PythonStack()
_OF_POOL = ("/memleak/pool.py", "/memleak/_native.py")
LOST_STACK = PythonStack((), True)


def without_pool(frames: tuple[PythonFrame, ...]) -> tuple[PythonFrame, ...]:
    """Return a stack from the caller of memleak.Pool on."""
    first = 0
    while first < len(frames) and frames[first].file.endswith(_OF_POOL):
        first += 1
    return frames[first:]


class PythonStacks:
    """The Python stacks of one recording, each decoded once."""

    def __init__(self, arena: Arena, python_version: int, python_state: int = layout.PYTHON_FRAMES) -> None:
        """Read from *arena*; *python_version* is the header's, 0 when not known, and so is *python_state*."""
        self._arena = arena
        self._believed = python_state != layout.PYTHON_SELF_TEST_FAILED
        self._entry_always = 0 < python_version < _ENTRY_ALWAYS_BELOW
        self._stacks: dict[int, PythonStack] = {0: NO_STACK}
        self._frames: dict[int, PythonFrame] = {}
        self._codes: dict[int, Optional[_Code]] = {0: None}
        self._names: dict[int, str] = {}  # thousands of code objects share a file's name

    def stack(self, ref: int) -> PythonStack:
        """Return the stack at *ref*; one that is not there is empty, truncated, and counted as lost.

        Empty, too, where the writer has found out that what it read was not what the interpreter says: some stacks had
        been recorded by then.

        Raises:
            RecordingError: records overlap.
        """
        if not self._believed:
            return NO_STACK
        found = self._stacks.get(ref)
        if found is None:
            found = self._stacks[ref] = self._read_stack(ref)
        return found

    def _read_stack(self, ref: int) -> PythonStack:
        raw, shape = self._arena.raw, layout.PYTHON_STACK
        try:
            at, length = self._arena.record(ref, layout.RECORD_PYTHON_STACK, shape.bytes)
            _, _, count, flags, _ = shape.format.unpack_from(raw, at)
            if shape.bytes + 8 * count > length or count > FRAMES_MOST:
                raise Damage
        except (Damage, BeyondEnd):
            self._arena.lose("Python stacks that are not in this copy")
            return LOST_STACK
        words = struct.unpack_from(f"<{count}Q", raw, at + shape.bytes)
        known = self._frames.get
        frames, empty_runs = [], 0
        for word in words:
            if word == layout.PYTHON_NO_FRAME:
                empty_runs += 1
                continue
            frame = known(word) or self._frame(word)
            frames.append(frame._replace(empty_runs=empty_runs) if empty_runs else frame)
            empty_runs = 0
        return PythonStack(tuple(frames), bool(flags & layout.STACK_TRUNCATED))

    def _frame(self, word: int) -> PythonFrame:
        entry = self._entry_always or bool(word & layout.PYTHON_FRAME_ENTRY)
        ref = word >> layout.PYTHON_FRAME_CODE_SHIFT
        if ref not in self._codes:
            self._codes[ref] = self._read_code(ref)
        code = self._codes[ref]
        if code is None:
            frame = PythonFrame("", "", None, entry)
        else:
            offset = word & layout.PYTHON_FRAME_OFFSET_MASK
            begun = offset != layout.PYTHON_FRAME_NOT_BEGUN
            line = code.lines.line(offset) if begun else code.first_line
            frame = PythonFrame(code.file, code.name, line, entry, begun=begun)
        self._frames[word] = frame
        return frame

    def _read_code(self, ref: int) -> Optional[_Code]:
        arena, shape = self._arena, layout.CODE
        try:
            at, length = arena.record(ref, layout.RECORD_CODE, shape.bytes)
            _, _, file, name, first_line, kind, flags, table_bytes, _ = shape.format.unpack_from(arena.raw, at)
            if shape.bytes + table_bytes > length:
                raise Damage
        except (Damage, BeyondEnd):
            arena.lose("Python code objects that are not in this copy")
            return None
        table = bytes(arena.raw[at + shape.bytes : at + shape.bytes + table_bytes])
        lines = LineTable(kind, table, first_line, cut=bool(flags & layout.CODE_CUT))
        known_line = first_line if first_line > 0 else None
        return _Code(self._text(file), self._text(name), known_line, lines)

    def _text(self, ref: int) -> str:
        found = self._names.get(ref)
        if found is None:
            raw = self._arena.string(ref, "names of Python code that are not in this copy")
            found = self._names[ref] = text(raw)
        return found
