"""Where the words of stacks are: each is checked once, many at a time, and no frame is made of them yet."""

from collections.abc import Iterable, Sequence

from . import layout
from .arena import FRAMES_MOST, Arena, BeyondEnd, Damage, take

_KEY, _SHAPE = layout.STACK.offsets["key"], layout.STACK.offsets["frames"]  # Python stacks begin alike
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
        self.alike = False

    def read(self, refs: Iterable[int]) -> None:
        """Check the stacks at *refs*; those that are not there are empty, truncated, and counted as lost.

        Raises:
            RecordingError: records overlap.
        """
        fresh = [ref for ref in refs if ref not in self._shapes]
        arena = self._arena
        shapes: Sequence[int] = []

        def fit(heads: Sequence[int]) -> bool:
            nonlocal shapes
            shapes = arena.halves(fresh, _SHAPE)
            return all([_fits(head, shape) for head, shape in set(zip(heads, shapes))])

        if arena.records(fresh, self._kind, layout.STACK.bytes, fit):
            self._shapes.update(zip(fresh, shapes))
            self.alike = self.alike or len(set(arena.halves(fresh, _KEY))) < len(fresh)
        else:
            self.alike = True
            for ref in fresh:
                self.shape(ref)

    def frames(self, refs: Sequence[int]) -> int:
        """Return how many frames stacks that were read have together."""
        return sum([shape & 0xFFFF for shape in take(refs, self._shapes)])

    def shape(self, ref: int) -> int:
        """Return the number of frames of a stack, and its flags from bit 16 on."""
        found = self._shapes.get(ref)
        if found is None:
            try:
                at, length = self._arena.record(ref, self._kind, layout.STACK.bytes)
                found = int.from_bytes(self._arena.raw[at + _SHAPE : at + _SHAPE + 4], "little")
                if not _fits(length, found):
                    raise Damage
            except (Damage, BeyondEnd):
                self._arena.lose(self._what)
                found = _LOST
            self._shapes[ref] = found
        return found

    def is_truncated(self, ref: int) -> bool:
        """Whether there were more frames."""
        return bool(self.shape(ref) >> 16 & layout.STACK_TRUNCATED)

    def words(self, ref: int) -> memoryview:
        """Return the words of a stack, innermost first; none of one that is lost."""
        try:
            frames = self._shapes[ref] & 0xFFFF
        except KeyError:
            frames = self.shape(ref) & 0xFFFF
        first = ref * _WORDS_PER_REF + _WORDS_BEFORE
        return self._words[first : first + frames]


_LOST = layout.STACK_TRUNCATED << 16


def _fits(head: int, shape: int) -> bool:
    """Whether a record is long enough for its frames, and has no more than a stack may have."""
    frames = shape & 0xFFFF
    return layout.STACK.bytes + 8 * frames <= head & 0xFFFFFFFF and frames <= FRAMES_MOST
