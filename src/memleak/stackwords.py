"""Where the words of stacks are: each is checked once, many at a time, and no frame is made of them yet."""

from collections.abc import Sequence

from . import layout
from .arena import FRAMES_MOST, Arena, BeyondEnd, Damage

_SHAPE = layout.STACK.offsets["frames"]  # Python stacks begin alike
_LOOKED_FOR = 64  # shapes that are read one by one before all are
_WORDS_BEFORE = layout.STACK.bytes // 8
_WORDS_PER_REF = layout.REF_BYTES // 8


class StackWords:
    """The stacks of one kind in a recording.

    Attributes:
        alike: whether two of them may be the same stack, recorded twice at one moment.
    """

    def __init__(self, arena: Arena, kind: int, what: str) -> None:
        """Read from *arena*; *what* names the ones that are lost."""
        self._arena = arena
        self._kind = kind
        self._what = what
        # Records begin at multiples of 16.
        self._words = memoryview(arena.raw)[: len(arena.raw) & ~7].cast("Q")
        self._shapes: dict[int, int] = {0: 0}  # number of frames, and flags from bit 16 on
        self._standing = b""  # a bit for each reference, 1 for those that are known to stand and were paid for
        self._refs: Sequence[int] = ()  # of those
        self._looked_for = 0
        self.alike = False

    def read(self, refs: Sequence[int]) -> int:
        """Check the stacks at *refs* and return how many frames they have together, those that stand there twice twice.

        Those that are not there are empty, truncated, and counted as lost.

        Raises:
            RecordingError: records overlap.
        """
        from . import _columns  # as in arena.py

        found = _columns.stacks(self._arena.copy, refs, self._kind, FRAMES_MOST)
        if found is not None and self._arena.pay(found[0]):
            _, frames, self.alike, self._standing = found
            self._refs = refs
            return frames
        self.alike = True
        return sum([self.shape(ref) & 0xFFFF for ref in refs])

    def shape(self, ref: int) -> int:
        """Return the number of frames of a stack, and its flags from bit 16 on."""
        found = self._shapes.get(ref)
        if found is None:
            found = self._shapes[ref] = self._read(ref)
        return found

    def _read(self, ref: int) -> int:
        at = ref * layout.REF_BYTES + _SHAPE
        if ref >> 3 < len(self._standing) and self._standing[ref >> 3] >> (ref & 7) & 1:
            self._looked_for += 1
            if self._looked_for > _LOOKED_FOR:
                self._shapes.update(zip(self._refs, self._arena.halves(self._refs, _SHAPE)))
                self._shapes[0] = 0
            return int.from_bytes(self._arena.raw[at : at + 4], "little")
        try:
            _, length = self._arena.record(ref, self._kind, layout.STACK.bytes)
            shape = int.from_bytes(self._arena.raw[at : at + 4], "little")
            frames = shape & 0xFFFF
            if layout.STACK.bytes + 8 * frames > length or frames > FRAMES_MOST:
                raise Damage
        except (Damage, BeyondEnd):
            self._arena.lose(self._what)
            return _LOST
        return shape

    def is_truncated(self, ref: int) -> bool:
        """Whether there were more frames."""
        return bool(self.shape(ref) >> 16 & layout.STACK_TRUNCATED)

    def words(self, ref: int) -> memoryview:
        """Return the words of a stack, innermost first; none of one that is lost."""
        frames = self.shape(ref) & 0xFFFF
        first = ref * _WORDS_PER_REF + _WORDS_BEFORE
        return self._words[first : first + frames]

    def span(self, ref: int) -> tuple[int, int]:
        """Return where the words of a stack begin, and how many there are."""
        return ref * layout.REF_BYTES + layout.STACK.bytes, self.shape(ref) & 0xFFFF


_LOST = layout.STACK_TRUNCATED << 16
