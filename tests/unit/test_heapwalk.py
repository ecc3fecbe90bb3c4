"""Heaps and arenas written by hand, walked; and bytes that are none."""

from __future__ import annotations

import random
import struct
import time

from memleak import heapwalk
from memleak.smaps import FILE, HEAP, MAPPED, Mapping

PAGE = 4096
BASE = 0x7F0000000000


class Written:
    """Memory as the walk reads it: pieces by address; pages are resident but for those in `absent`."""

    def __init__(self):
        self.pieces = {}
        self.absent = set()

    def put(self, at, data):
        self.pieces[at] = bytes(data)

    def read(self, at, count):
        for start, data in self.pieces.items():
            if start <= at < start + len(data):
                return data[at - start : at - start + count]
        return b""

    def words(self, at, count):
        raw = self.read(at, 8 * count)
        return memoryview(raw).cast("Q") if len(raw) == 8 * count else None

    def present(self, start, end):
        return bytes(int(page not in self.absent) for page in range(start // PAGE, end // PAGE))


def mapping(start, size, kind, path="", owner="", access="rw-p", anonymous=1):
    return Mapping(start, start + size, access, path, size, anonymous and size, 0, (), kind, owner)


def heap(blocks, size):
    """Bytes of a heap: (length, in use) of each block; the rest is the last one, free."""
    raw = bytearray(size)
    at, before = 0, True
    for length, used in [*blocks, (size - sum(length for length, _ in blocks), True)]:
        struct.pack_into("<Q", raw, at + 8, length | int(before))
        if not used:
            struct.pack_into("<Q", raw, at + length, length)
        at, before = at + length, used
    return raw


def walked(raw, absent=(), path="[heap]", start=BASE):
    memory = Written()
    memory.put(start, raw)
    memory.absent = {start // PAGE + page for page in absent}
    return heapwalk.walk_heaps(memory, [mapping(start, len(raw), HEAP, path)])


def test_used_free_and_what_can_be_given_back():
    """Whole pages inside free blocks, but for what malloc_trim() leaves of each; and the last block."""
    blocks = [(1024, True), (64, False), (3008, True), (40960, False), (4096, True), (8192, True)]
    size = 1 << 17
    found = walked(heap(blocks, size))
    top = size - sum(length for length, _ in blocks)
    assert (found.used, found.blocks) == (1024 + 3008 + 4096 + 8192, 4)
    assert found.free == 64 + 40960 + top
    # The large free one begins on page 1; its first page keeps its header.
    assert found.trimmable == (40960 // PAGE - 1) * PAGE + (top - 48) // PAGE * PAGE
    assert (found.heaps, found.skipped_bytes, found.resident) == (1, 0, size)


def test_pages_that_are_not_there():
    """What was given back already is no gain; what is in use and was never touched is told apart."""
    blocks = [(4096, True), (40960, False), (81920, True)]
    size = 1 << 18
    whole = walked(heap(blocks, size))
    found = walked(heap(blocks, size), absent=[3, 4, 5, 13, 14])
    assert whole.trimmable - found.trimmable == 3 * PAGE == whole.free - found.free
    assert whole.used - found.used == 2 * PAGE == found.used_absent


def test_a_damaged_word_is_passed():
    """The walk goes on behind it; what it did not see is taken to be as the rest."""
    blocks = [(512, index % 2 == 0) for index in range(400)]
    raw = heap(blocks, 1 << 18)
    sound = walked(raw)
    struct.pack_into("<Q", raw, 512 * 100 + 8, 0x1234567890)
    found = walked(raw)
    assert 0 < found.skipped_bytes < 4096
    assert abs(found.used - sound.used) < sound.used / 50 and abs(found.free - sound.free) < sound.free / 50


def test_heap_of_a_thread():
    """Behind its own structures; the end of it cannot be given back by malloc_trim()."""
    size, first = 1 << 18, 0x8D0
    raw = bytearray(heap([(256, index % 3 > 0) for index in range(300)], size - first))
    raw = bytearray(first) + raw
    struct.pack_into("<4Q", raw, 0, BASE + 0x30, 0, size, size)
    found = walked(raw, path="")
    assert found.heaps == 1 and found.blocks == 200
    assert found.used == 200 * 256 + first
    assert found.trimmable == 0 and found.free == size - found.used


def test_arenas_are_counted_and_not_their_heaps():
    """An arena that has outgrown its first heap has several, and they all name it."""
    size, first, apart = 1 << 18, 0x8D0, heapwalk.ARENA_BYTES
    memory, mappings = Written(), []
    for number, arena in enumerate((BASE + 0x30, BASE + 0x30, BASE + 2 * apart + 0x30)):
        raw = bytearray(first) + bytearray(heap([(256, index % 3 > 0) for index in range(300)], size - first))
        struct.pack_into("<4Q", raw, 0, arena, 0, size, size)
        memory.put(BASE + number * apart, raw)
        mappings.append(mapping(BASE + number * apart, size, HEAP))
    found = heapwalk.walk_heaps(memory, mappings)
    assert (found.heaps, found.arenas) == (3, 2)
    assert walked(heap([(1024, True)], 1 << 17)).arenas == 1


def test_bytes_that_are_no_heap():
    """Whatever stands there, the walk ends, soon, and raises nothing."""
    chance = random.Random(3)
    begun = time.process_time()
    for size in (1 << 14, 1 << 17):
        for path in ("[heap]", ""):
            raw = bytearray(chance.randbytes(size))
            for at in range(8, size, chance.choice((16, 48, 400))):
                struct.pack_into("<Q", raw, at, chance.choice((0, 1, 33, 49, 65, 4097, 1 << 40)))
            struct.pack_into("<4Q", raw, 0, BASE, 0, size, size)
            walked(raw, path=path)
    assert time.process_time() - begun < 20
    assert heapwalk.walk_heaps(Written(), [mapping(BASE, PAGE, HEAP, "[heap]")]) is None
    assert heapwalk.walk_heaps(Written(), []) is None


def pool(pool_bytes, size_class, used):
    """Bytes of a pool of Python's allocator."""
    size = (size_class + 1) * 16
    head = struct.pack("<QQQQIIII", used, 0, 0, 0, 3, size_class, 48 + used * size, pool_bytes - size)
    return head.ljust(pool_bytes, b"\x55")


def test_pools_and_large_blocks():
    """In mappings that lie side by side, one block across two of them; what is neither is the rest."""
    memory = Written()
    large = struct.pack("<QQ", 0, 81920 | 2).ljust(81920, b"\0")
    raw = pool(16384, 3, 100) + pool(16384, 31, 0) + large + b"\x77" * 32768
    memory.put(BASE, raw)
    memory.absent = {BASE // PAGE + 12, BASE // PAGE + 13}
    cut = 32768 + PAGE  # where the program asked the kernel for something else
    mappings = [mapping(BASE, cut, MAPPED), mapping(BASE + cut, len(raw) - cut, MAPPED)]
    found = heapwalk.look_into(memory, mappings, 16384)
    assert (found.python_used, found.python_pools) == (100 * 64 + 1, 2)
    assert found.python_idle == 2 * 16384 - found.python_used
    assert (found.large, found.large_absent) == (81920 - 2 * PAGE, 2 * PAGE)
    assert found.rest == 32768 and found.rests == ((BASE + len(raw) - 32768, BASE + len(raw), 32768),)
    assert found.complete
    without = heapwalk.look_into(memory, mappings, 0)
    assert without.python_pools == 0 and without.rest == 32768 + 2 * 16384


def test_owner_of_a_mapping():
    """The object whose variables lead there most often."""
    memory = Written()
    variables = BASE + (1 << 30)
    memory.put(variables, struct.pack("<4Q", 5, BASE + 100, BASE + 200, 0).ljust(PAGE, b"\0"))
    memory.put(variables + (1 << 20), struct.pack("<Q", BASE + 100).ljust(PAGE, b"\0"))
    mappings = [
        mapping(variables, PAGE, FILE, "/x/a.so", "/x/a.so"),
        mapping(variables + (1 << 20), PAGE, FILE, "/x/b.so", "/x/b.so"),
        mapping(BASE, 1 << 20, MAPPED),
    ]
    ranges = [(BASE, BASE + (1 << 20), 1 << 20), (BASE + (1 << 22), BASE + (1 << 23), 5)]
    assert heapwalk.owners_of(memory, mappings, ranges) == ["/x/a.so", ""]
    assert heapwalk.owners_of(memory, mappings, []) == []
