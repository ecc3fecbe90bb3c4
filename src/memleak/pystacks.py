"""Decode Python stacks: their frames lead to code objects, whose line tables say the line."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, Optional

from . import layout
from .arena import Arena, BeyondEnd, Damage
from .pylines import LineTable
from .records import PythonFrame, text
from .stackwords import StackWords

_ENTRY_ALWAYS_BELOW = 0x030B0000  # CPython 3.11: until then each Python frame has a run of the interpreter of its own


class PythonStack(NamedTuple):
    """The Python frames of a row, innermost first, and whether there were more."""

    frames: tuple[PythonFrame, ...] = ()
    truncated: bool = False


class _Code:
    """A code object; its line table is decoded when a line is asked for."""

    __slots__ = ("_lines", "_table", "file", "known_line", "name")

    def __init__(self, file: str, name: str, first_line: int, kind: int, table: bytes, cut: bool) -> None:
        self.file = file
        self.name = name
        self.known_line = first_line if first_line > 0 else None
        self._table = kind, table, first_line, cut
        self._lines: Optional[LineTable] = None

    def line(self, offset: int) -> Optional[int]:
        if self._lines is None:
            kind, table, first_line, cut = self._table
            self._lines = LineTable(kind, table, first_line, cut=cut)
        return self._lines.line(offset)


class _Places(dict[int, int]):
    """Numbers of what words of Python stacks say but for the line: equal where that is."""

    def __init__(self, stacks: "PythonStacks") -> None:
        super().__init__({layout.PYTHON_NO_FRAME: _NO_PLACE})
        self._stacks = stacks
        self._numbers: dict[object, int] = {}

    def __missing__(self, word: int) -> int:
        stacks, offset = self._stacks, word & layout.PYTHON_FRAME_OFFSET_MASK
        names = stacks.names(word)
        begun = names is None or offset != layout.PYTHON_FRAME_NOT_BEGUN
        place = names or ("", ""), stacks.is_entry(word), begun
        number = self[word] = self._numbers.setdefault(place, len(self._numbers) + 1)
        return number


NO_STACK = PythonStack()
_OF_POOL = ("/memleak/pool.py", "/memleak/_native.py")
LOST_STACK = PythonStack((), True)
_NO_PLACE = 0


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
        self.table = StackWords(arena, layout.RECORD_PYTHON_STACK, "Python stacks that are not in this copy")
        self._stacks: dict[int, PythonStack] = {0: NO_STACK}
        self._frames: dict[int, PythonFrame] = {}
        self._codes: dict[int, Optional[_Code]] = {0: None}
        self._names: dict[int, str] = {}  # thousands of code objects share a file's name
        self._places = _Places(self)

    def known(self, ref: int) -> int:
        """Return *ref*, or 0 where the writer has found out that what it read was not what the interpreter says.

        Some stacks had been recorded by then.
        """
        return ref if self._believed else 0

    def stack(self, ref: int) -> PythonStack:
        """Return the stack at *ref*; one that is not there is empty, truncated, and counted as lost.

        Empty, too, where it is not `known`.

        Raises:
            RecordingError: records overlap.
        """
        ref = self.known(ref)
        found = self._stacks.get(ref)
        if found is None:
            found = self._stacks[ref] = self._read_stack(ref)
        return found

    def alike(self, refs: Sequence[int]) -> list[list[int]]:
        """Return the positions of equal stacks among those at *refs*, as far as frames go, in order.

        Few stacks are equal without being one, and to find those out lines are looked up for few frames.
        """
        if len(refs) == 2:
            return [[0, 1]] if self._is_same(*refs) else [[0], [1]]
        of_place: dict[Any, list[int]] = {}
        place = self._places.__getitem__
        for position, ref in enumerate(refs):
            found = tuple(map(place, self.table.words(ref)))
            while found and not found[-1]:  # what lies further out than any frame is not told
                found = found[:-1]
            if found in of_place:
                of_place[found].append(position)
            else:
                of_place[found] = [position]
        same: list[list[int]] = []
        for positions in of_place.values():
            same += [positions] if len(positions) == 1 else self._with_lines(refs, positions)
        return same

    def _is_same(self, one: int, other: int) -> bool:
        words, others = self.table.words(one).tolist(), self.table.words(other).tolist()
        if len(words) != len(others) and layout.PYTHON_NO_FRAME not in (*words[-1:], *others[-1:]):
            return False
        pairs = zip_longest(words, others, fillvalue=layout.PYTHON_NO_FRAME)
        for word, that in [pair for pair in pairs if pair[0] != pair[1]]:
            if self._places[word] != self._places[that] or self.frame(word) != self.frame(that):
                return False
        return True

    def _with_lines(self, refs: Sequence[int], positions: list[int]) -> list[list[int]]:
        """Take apart stacks that are equal but for the lines."""
        stacks = [self.table.words(refs[position]) for position in positions]
        differing = [words for words in zip(*stacks) if len(set(words)) > 1]
        if not differing:
            return [positions]
        found: dict[Any, list[int]] = {}
        for position, words in zip(positions, zip(*differing)):
            found.setdefault(tuple(map(self.frame, words)), []).append(position)
        return list(found.values())

    def frame(self, word: int) -> Optional[PythonFrame]:
        """Return the frame that a word is; None where the word stands for none."""
        return None if word == layout.PYTHON_NO_FRAME else self._frames.get(word) or self._frame(word)

    def has_frames(self, ref: int) -> bool:
        """Whether there is a frame in the stack at *ref*."""
        return any(word != layout.PYTHON_NO_FRAME for word in self.table.words(ref))

    def check(self, refs: Iterable[int]) -> None:
        """Look at all code that the stacks at *refs* lead to, so that what is not there is counted as lost."""
        words: set[int] = set()
        for ref in refs:
            words.update(self.table.words(self.known(ref)))
        for code in {word >> layout.PYTHON_FRAME_CODE_SHIFT for word in words if word != layout.PYTHON_NO_FRAME}:
            self._code(code)

    def _read_stack(self, ref: int) -> PythonStack:
        known = self._frames.get
        frames, empty_runs = [], 0
        for word in self.table.words(ref):
            if word == layout.PYTHON_NO_FRAME:
                empty_runs += 1
                continue
            frame = known(word) or self._frame(word)
            frames.append(frame._replace(empty_runs=empty_runs) if empty_runs else frame)
            empty_runs = 0
        return PythonStack(tuple(frames), self.table.is_truncated(ref))

    def _frame(self, word: int) -> PythonFrame:
        code = self._code(word >> layout.PYTHON_FRAME_CODE_SHIFT)
        entry = self.is_entry(word)
        if code is None:
            frame = PythonFrame("", "", None, entry)
        else:
            offset = word & layout.PYTHON_FRAME_OFFSET_MASK
            begun = offset != layout.PYTHON_FRAME_NOT_BEGUN
            line = code.line(offset) if begun else code.known_line
            frame = PythonFrame(code.file, code.name, line, entry, begun=begun)
        self._frames[word] = frame
        return frame

    def is_entry(self, word: int) -> bool:
        """Whether the interpreter was entered anew for a frame."""
        return self._entry_always or bool(word & layout.PYTHON_FRAME_ENTRY)

    def names(self, word: int) -> Optional[tuple[str, str]]:
        """Return file and name of the code of a frame; None when it is not there."""
        code = self._code(word >> layout.PYTHON_FRAME_CODE_SHIFT)
        return None if code is None else (code.file, code.name)

    def _code(self, ref: int) -> Optional[_Code]:
        if ref not in self._codes:
            self._codes[ref] = self._read_code(ref)
        return self._codes[ref]

    def _read_code(self, ref: int) -> Optional[_Code]:
        arena, shape = self._arena, layout.CODE
        try:
            at, length = arena.record(ref, layout.RECORD_CODE, shape.bytes)
            _, _, file, name, first_line, kind, flags, table_bytes, _ = shape.format.unpack_from(arena.raw, at)
            if shape.bytes + table_bytes > length:
                raise Damage
        except (Damage, BeyondEnd):
            arena.lost.setdefault("Python code objects that are not in this copy", set()).add(ref)
            return None
        table = bytes(arena.raw[at + shape.bytes : at + shape.bytes + table_bytes])
        return _Code(self._text(file), self._text(name), first_line, kind, table, bool(flags & layout.CODE_CUT))

    def _text(self, ref: int) -> str:
        found = self._names.get(ref)
        if found is None:
            raw = self._arena.string(ref, "names of Python code that are not in this copy")
            found = self._names[ref] = text(raw)
        return found
