"""A table of answers as bytes: address -> frames. No file is touched here.

Little-endian, each part where the one before it ends:

    header      magic, version, the six numbers below
    addresses   u64 each, ascending
    chain_of    u32 for each address: which chain of frames answers it
    chain_ends  u32 for each chain: where it ends in `links`; it begins where the one before it ends
    links       u32 each: which frame
    frames      u32 function, u32 file, u32 line, u32 discriminator << 1 | inlined; 0 = not known,
                else function and file are the number of a string, counted from 1
    string_ends u32 for each string: where it ends in `text`
    text        UTF-8; lone surrogates, which stand for bytes of odd file names, as if they were characters

Frames, chains and strings are shared by all that have them. What is asked for is decoded, nothing else
but the addresses. Every byte may lie: a number out of range raises `TableError`, and the work done for
one table is bounded by its size.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Callable, NamedTuple

VERSION = 1
MAX_CHAIN = 1024  # frames of one address; longer ones have no place in a table
MAX_STRING_BYTES = 1 << 20
MAX_PART = 0xFFFFFFFF

Read = Callable[[int, int], bytes]  # offset, count -> so many bytes, or an exception

_MAGIC = b"MLANSWER"
_HEADER = struct.Struct("<8sIIIIIII")
_FRAME = struct.Struct("<IIII")
_PAIR = struct.Struct("<II")
_WORD = struct.Struct("<I")


class TableError(Exception):
    """The bytes are no table of answers, or are damaged; or the answers make none."""


class AnswerFrame(NamedTuple):
    """A frame as `Frame` has it, without where it is."""

    function: str | None
    file: str | None
    line: int | None
    inlined: bool
    discriminator: int


Answer = tuple[AnswerFrame, ...]


class AnswerTable:
    """Finds answers in a table whose bytes *read* gives.

    Raises:
        TableError: it is none, or of another version, or damaged; `find` also raises it.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        magic, version, *counts = _HEADER.unpack(read(0, _HEADER.size)) if size >= _HEADER.size else (b"", 0)
        if magic != _MAGIC:
            raise TableError("not a table of answers")
        if version != VERSION:
            raise TableError(f"a table of answers of version {version}, not {VERSION}")
        self._counts = _Counts(*counts)
        self._starts = _starts(self._counts)
        if self._starts.end != size:
            raise TableError("a table of answers of another length than it says")
        self.addresses = self._array("Q", self._starts.addresses, self._counts.addresses)
        self._chains: dict[int, Answer] = {}
        self._frames: dict[int, AnswerFrame] = {}
        self._strings: dict[int, str | None] = {0: None}
        # Of a sound table each link and byte belongs to one chain and string: more is a lie.
        self._links_left = self._counts.links
        self._text_left = self._counts.text

    def __len__(self) -> int:
        return len(self.addresses)

    def find(self, address: int) -> Answer | None:
        """Return the frames of *address*, innermost first; None if the table does not have it."""
        at = bisect_left(self.addresses, address)
        if at == len(self.addresses) or self.addresses[at] != address:
            return None
        (chain,) = _WORD.unpack(self._read(self._starts.chain_of + 4 * at, 4))
        found = self._chains.get(chain)
        if found is None:
            found = self._chains[chain] = tuple(self._frame(number) for number in self._links(chain))
        return found

    def _links(self, chain: int) -> Iterable[int]:
        begin, end = self._span(self._starts.chain_ends, chain, self._counts.chains)
        if not 0 <= end - begin <= min(MAX_CHAIN, self._links_left) or end > self._counts.links:
            raise TableError("a damaged table of answers: a chain of frames that cannot be")
        self._links_left -= end - begin
        return self._array("I", self._starts.links + 4 * begin, end - begin)

    def _frame(self, number: int) -> AnswerFrame:
        found = self._frames.get(number)
        if found is None:
            if number >= self._counts.frames:
                raise TableError("a damaged table of answers: a frame out of range")
            function, file, line, rest = _FRAME.unpack(self._read(self._starts.frames + 16 * number, 16))
            found = AnswerFrame(self._string(function), self._string(file), line or None, bool(rest & 1), rest >> 1)
            self._frames[number] = found
        return found

    def _string(self, number: int) -> str | None:
        if number not in self._strings:
            begin, end = self._span(self._starts.string_ends, number - 1, self._counts.strings)
            if not 0 <= end - begin <= min(MAX_STRING_BYTES, self._text_left) or end > self._counts.text:
                raise TableError("a damaged table of answers: a name that cannot be")
            self._text_left -= end - begin
            try:
                text = self._read(self._starts.text + begin, end - begin).decode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise TableError("a damaged table of answers: a name that is no text") from error
            self._strings[number] = text
        return self._strings[number]

    def _span(self, ends: int, number: int, count: int) -> tuple[int, int]:
        if number >= count:
            raise TableError("a damaged table of answers: a number out of range")
        if number == 0:
            return 0, int(_WORD.unpack(self._read(ends, 4))[0])
        begin, end = _PAIR.unpack(self._read(ends + 4 * (number - 1), 8))
        return begin, end

    def _array(self, code: str, offset: int, count: int) -> array[int]:
        found = array(code)
        found.frombytes(self._read(offset, count * found.itemsize))
        if sys.byteorder == "big":
            found.byteswap()
        return found

    def parts(self) -> Parts:
        """Return the whole table, as arrays."""
        counts, starts = self._counts, self._starts
        return Parts(
            self.addresses,
            self._array("I", starts.chain_of, counts.addresses),
            self._array("I", starts.chain_ends, counts.chains),
            self._array("I", starts.links, counts.links),
            self._array("I", starts.frames, 4 * counts.frames),
            self._array("I", starts.string_ends, counts.strings),
            self._read(starts.text, counts.text),
        )


class Parts(NamedTuple):
    """The parts of a table; `frames` has four numbers for each."""

    addresses: array[int]
    chain_of: array[int]
    chain_ends: array[int]
    links: array[int]
    frames: array[int]
    string_ends: array[int]
    text: bytes

    def pack(self) -> bytes:
        """Return the bytes of the table.

        Raises:
            TableError: a part is larger than its number can say.
        """
        counts = _Counts(
            len(self.addresses), len(self.chain_ends), len(self.links), len(self.frames) // 4, len(self.string_ends),
            len(self.text),
        )  # fmt: skip
        if max(counts) > MAX_PART:
            raise TableError("more answers than a table can have")
        packed = [_HEADER.pack(_MAGIC, VERSION, *counts)]
        for part in self[:-1]:
            little = part
            if sys.byteorder == "big":
                little = array(part.typecode, part)
                little.byteswap()
            packed.append(little.tobytes())
        return b"".join([*packed, self.text])


class _Counts(NamedTuple):
    addresses: int
    chains: int
    links: int
    frames: int
    strings: int
    text: int


class _Starts(NamedTuple):
    addresses: int
    chain_of: int
    chain_ends: int
    links: int
    frames: int
    string_ends: int
    text: int
    end: int


def _starts(counts: _Counts) -> _Starts:
    at = _HEADER.size
    starts = [at]
    for size in (
        8 * counts.addresses, 4 * counts.addresses, 4 * counts.chains, 4 * counts.links, 16 * counts.frames,
        4 * counts.strings, counts.text,
    ):  # fmt: skip
        at += size
        starts.append(at)
    return _Starts(*starts)


def from_bytes(table: bytes) -> AnswerTable:
    """Return the table whose bytes these are.

    Raises:
        TableError: as `AnswerTable` does.
    """
    return AnswerTable(lambda offset, count: table[offset : offset + count], len(table))


def build(answers: Mapping[int, Answer]) -> Parts:
    """Return the table of *answers*, without those that have no place in one (a number or a name that cannot be)."""
    strings: dict[bytes, int] = {}
    frames = array("I")
    numbers: dict[AnswerFrame, int] = {}
    chains: dict[Answer, int] = {}
    links = array("I")
    ends = array("I")
    addresses, chain_of = array("Q"), array("I")
    for address in sorted(answers):
        answer = answers[address]
        chain = chains.get(answer)
        if chain is None:
            if len(answer) > MAX_CHAIN or not all(map(_fits, answer)):
                continue
            chain = chains[answer] = len(chains)
            for frame in answer:
                number = numbers.get(frame)
                if number is None:
                    number = numbers[frame] = len(numbers)
                    names = _number(strings, frame.function), _number(strings, frame.file)
                    frames.extend((*names, frame.line or 0, frame.discriminator << 1 | frame.inlined))
                links.append(number)
            ends.append(len(links))
        if 0 <= address < 1 << 64:
            addresses.append(address)
            chain_of.append(chain)
    return Parts(
        addresses,
        chain_of,
        ends,
        links,
        frames,
        _ends(strings),
        b"".join(strings),
    )


def _fits(frame: AnswerFrame) -> bool:
    names = (frame.function or "", frame.file or "")
    numbers_fit = 0 <= (frame.line or 0) <= MAX_PART and 0 <= frame.discriminator <= MAX_PART >> 1
    return numbers_fit and all(len(name) * 4 <= MAX_STRING_BYTES for name in names)


def _number(strings: dict[bytes, int], text: str | None) -> int:
    """Return the number of a string, counted from 1; 0 for None."""
    return 0 if text is None else strings.setdefault(text.encode("utf-8", "surrogatepass"), len(strings)) + 1


def _ends(parts: Iterable[bytes]) -> array[int]:
    ends, end = array("I"), 0
    for part in parts:
        end += len(part)
        if end > MAX_PART:
            raise TableError("more answers than a table can have")
        ends.append(end)
    return ends


def merge(old: Parts, new: Parts) -> Parts:
    """Return a table of the answers of both; where both have one, the new.

    Names that both have stand there twice: to look for them would take longer than to make the table,
    and what is added to a large one is little.
    """
    if len(old.text) + len(new.text) > MAX_PART:
        raise TableError("more answers than a table can have")
    chains, links, frames = len(old.chain_ends), len(old.links), len(old.frames) // 4
    strings, text = len(old.string_ends), len(old.text)
    addresses, chain_of = array("Q"), array("I")
    start = 0
    for address, chain in zip(new.addresses, new.chain_of):
        at = bisect_left(old.addresses, address, start)
        addresses.extend(old.addresses[start:at])
        chain_of.extend(old.chain_of[start:at])
        addresses.append(address)
        chain_of.append(chain + chains)
        start = at + (at < len(old.addresses) and old.addresses[at] == address)
    addresses.extend(old.addresses[start:])
    chain_of.extend(old.chain_of[start:])
    shifted = array("I", new.frames)
    for names in (0, 1):
        shifted[names::4] = array("I", (number and number + strings for number in new.frames[names::4]))
    return Parts(
        addresses,
        chain_of,
        old.chain_ends + array("I", (end + links for end in new.chain_ends)),
        old.links + array("I", (link + frames for link in new.links)),
        old.frames + shifted,
        old.string_ends + array("I", (end + text for end in new.string_ends)),
        old.text + new.text,
    )
