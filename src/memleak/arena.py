"""The records of a recording: reached by reference, checked before they are used, paid for once.

Records do not overlap, so together they are not larger than the file. Decoding more than that means
that references lead into the middle of others; the file is then refused, which keeps the work linear.
"""

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
    """

    def __init__(self, raw: Union[bytes, memoryview], origin: str) -> None:
        """Begin with a budget of as many bytes as there are."""
        self.raw = raw
        self.origin = origin
        self.losses: dict[str, int] = {}
        self._budget = len(raw)
        self._strings: dict[int, bytes] = {}

    def lose(self, what: str, count: int = 1) -> None:
        """Note that *count* things are missing."""
        if count:
            self.losses[what] = self.losses.get(what, 0) + count

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
        self._budget -= length
        if self._budget < 0:
            raise RecordingError(f"{self.origin}: damaged: records overlap")
        return at, length

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
                self.lose(what)
                found = b""
            else:
                end = at + min(length, STRING_BYTES_MOST)
                found = bytes(self.raw[at + layout.RECORD.bytes : end]).split(b"\0", 1)[0]
            self._strings[ref] = found
        return found
