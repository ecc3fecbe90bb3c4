"""The records of a recording: reached by reference, checked before they are used, paid for once.

Records do not overlap, so together they are not larger than the file. Decoding more than that means
that references lead into the middle of others; the file is then refused, which keeps the work linear. After `seal`,
when the file has been accepted, what goes beyond that is left out instead.
"""

from collections.abc import Sequence
from typing import Union

from . import layout
from .errors import RecordingError

FRAMES_MOST = 4096  # of one stack
STRING_BYTES_MOST = 8192


class Damage(Exception):
    """A record does not stand where a reference points."""


class BeyondEnd(Exception):
    """A reference points outside this copy."""


class Arena:
    """The bytes of one recording and what reading them has found missing.

    Attributes:
        raw: the bytes.
        origin: how messages name the recording.
        losses: what is not in this copy, in words -> how many.
        lost: the same of what is read when it is asked for, perhaps by two threads at a time: in words -> the references.
    """

    def __init__(self, raw: Union[bytes, memoryview], origin: str) -> None:
        """Begin with a budget of as many bytes as there are."""
        self.raw = raw
        self.origin = origin
        self.losses: dict[str, int] = {}
        self.lost: dict[str, set[int]] = {}
        self._budget = len(raw)
        self._strings: dict[int, bytes] = {}
        self._sealed = False

    def lose(self, what: str, count: int = 1) -> None:
        """Note that *count* things are missing."""
        if count:
            self.losses[what] = self.losses.get(what, 0) + count

    def seal(self) -> None:
        """Refuse nothing any more: records that overlap others that were read are not there."""
        self._sealed = True

    def record(self, ref: int, kind: int, least_bytes: int) -> tuple[int, int]:
        """Return offset and length of a record, which is of *kind*, long enough, and inside this copy.

        Raises:
            Damage: there is no such record.
            BeyondEnd: it is not in this copy.
            RecordingError: records overlap.
        """
        at = ref * layout.REF_BYTES
        if at < layout.ROOM_OFFSET:
            raise Damage
        if at + layout.RECORD.bytes > len(self.raw):
            raise BeyondEnd
        length, found_kind, _ = layout.RECORD.format.unpack_from(self.raw, at)
        if found_kind != kind or length < least_bytes:
            raise Damage
        if at + length > len(self.raw):
            raise BeyondEnd
        if self._budget < length:
            if self._sealed:
                raise Damage
            raise RecordingError(f"{self.origin}: damaged: records overlap")
        self._budget -= length
        return at, length

    def words(self, refs: Sequence[int], offset: int) -> list[int]:
        """Return the 8 bytes *offset* bytes behind each reference.

        Raises:
            IndexError: one leads out of this copy.
        """
        return self.fields(refs, (offset, 8))[0]

    def halves(self, refs: Sequence[int], offset: int) -> list[int]:
        """Return the 4 bytes *offset* bytes behind each reference; raises as `words` does."""
        return self.fields(refs, (offset, 4))[0]

    def fields(self, refs: Sequence[int], *places: tuple[int, int]) -> list[list[int]]:
        """Return for each (offset, width) the numbers that stand there behind each reference; raises as `words` does."""
        from . import _columns  # here: what reads no recording goes on without compiled parts

        return _columns.fields(self.copy, refs, places)

    @property
    def copy(self) -> bytes:
        """The bytes, where they are a copy; of what may change nothing is read for many records at once."""
        if not isinstance(self.raw, bytes):
            raise TypeError("the recording of this very process is read in place, a record at a time")
        return self.raw

    def pay(self, number: int) -> bool:
        """Pay for records of so many bytes, as `record` does for each; False, and nothing is paid: they overlap."""
        if number > self._budget:
            return False
        self._budget -= number
        return True

    def stands(self, ref: int, kind: int, least_bytes: int) -> bool:
        """Whether `record` would find one; costs nothing of the budget, for what is short in any case."""
        at = ref * layout.REF_BYTES
        if not layout.ROOM_OFFSET <= at <= len(self.raw) - layout.RECORD.bytes:
            return False
        length, found_kind, _ = layout.RECORD.format.unpack_from(self.raw, at)
        return bool(found_kind == kind and least_bytes <= length <= len(self.raw) - at)

    def all_stand(self, refs: Sequence[int], kind: int, least_bytes: int) -> bool:
        """Whether each of many records is there, all at once; costs nothing of the budget.

        True is certain. After False, `stands` tells which are.
        """
        from . import _columns

        return _columns.stand(self.copy, refs, kind, least_bytes)

    def string(self, ref: int, what: str) -> bytes:
        """Return a string's bytes up to the first NUL, cut at `STRING_BYTES_MOST`.

        Args:
            ref: of its record. Several records may share one.
            what: what is missing if it is not there; the string is then empty.
        """
        found = self._strings.get(ref)
        if found is None:
            try:
                at, length = self.record(ref, layout.RECORD_STRING, layout.RECORD.bytes)
            except (Damage, BeyondEnd):
                self.lost.setdefault(what, set()).add(ref)
                found = b""
            else:
                end = at + min(length, STRING_BYTES_MOST)
                found = bytes(self.raw[at + layout.RECORD.bytes : end]).split(b"\0", 1)[0]
            self._strings[ref] = found
        return found
