"""memleak._columns: many numbers of a recording at once, whatever the bytes."""

from __future__ import annotations

import random
import struct

import pytest

from memleak import _columns, layout


def entry(key, size, row, weight, born, thread, check=None):
    right = layout.live_check(key, size, row, weight, born, thread)
    return struct.pack("<QIIIIII", size, row, weight, born, thread, right if check is None else check, 7)


def test_gather_is_what_stands_behind_references():
    raw = bytes(random.Random(3).randrange(256) for _ in range(16 * 100))
    refs = [0, 5, 99, 5]
    assert _columns.gather(raw, refs, 8, 8) == [struct.unpack_from("<Q", raw, 16 * ref + 8)[0] for ref in refs]
    assert _columns.gather(raw, tuple(refs), 4, 4) == [struct.unpack_from("<I", raw, 16 * ref + 4)[0] for ref in refs]
    assert _columns.gather(raw, dict.fromkeys(refs), 0, 4) == [
        struct.unpack_from("<I", raw, 16 * ref)[0] for ref in dict.fromkeys(refs)
    ]
    assert _columns.gather(raw, [], 0, 4) == []


@pytest.mark.parametrize(
    ("refs", "offset", "width"),
    [([100], 0, 4), ([99], 16, 4), ([99], 12, 8), ([1 << 60], 0, 4), ([1 << 64], 0, 4), ([0], 1 << 62, 8), ([1 << 59], 1 << 62, 8)],
)
def test_gather_refuses_what_lies_outside(refs, offset, width):
    with pytest.raises(IndexError):
        _columns.gather(bytes(16 * 100), refs, offset, width)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"", [0], -1, 4), ValueError),
        ((b"", [0], 0, 3), ValueError),
        ((b"", [-1], 0, 4), IndexError),
        ((b"", ["a"], 0, 4), TypeError),
        ((b"", 5, 0, 4), TypeError),
        ((bytearray(8), [0], 0, 4), TypeError),
    ],
)
def test_gather_refuses_nonsense(arguments, error):
    with pytest.raises(error):
        _columns.gather(*arguments)


def test_live_takes_what_is_whole_and_counts_the_rest():
    live = layout.LIVE_KEY_LIVE
    of = layout.LIVE_KEY_LAYER_SHIFT
    keys = [0, live | 1 << of | 5, live | 3 << of | 6, 1 << of | 7, live | 9 << of | 8, live | 1 << of | 9, live | 1 << of | 10]
    facts = [(0, 0, 0, 0, 0), (100, 50, 1024, 3, 1), (1 << 40, 60, 2048, 4, 2), (1, 1, 1024, 1, 1), (1, 1, 1024, 1, 1)]
    facts += [(8, 8, 1024, 8, 8), (9, 9, 1023, 9, 9)]
    entries = [entry(key, *fact) for key, fact in zip(keys, facts)]
    entries[5] = entry(keys[5], *facts[5], check=12345)
    raw = bytes(64) + struct.pack("<7Q", *keys) + b"".join(entries)
    *columns, torn, beyond = _columns.live(raw, 64, 7)
    assert columns == [[50, 60], [100, 1 << 40], [1024, 2048], [3, 4], [1, 2], [1, 3]]
    assert (torn, beyond) == (2, 0)
    cut = raw[: 64 + 56 + 32 * 2 + 31]
    *columns, torn, beyond = _columns.live(cut, 64, 7)
    assert columns[0] == [50]
    assert (torn, beyond) == (0, 4)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 100, 119, 120, 121, 150, 300])
def test_live_of_any_cut_stays_inside(length):
    raw = bytes([255]) * length
    *columns, torn, beyond = _columns.live(raw, 64, 7)
    assert columns == [[], [], [], [], [], []]
    assert torn + beyond <= 7


@pytest.mark.parametrize("arguments", [(b"", -1, 1), (b"", 0, -1), (b"", 0, 1 << 62), (b"", (1 << 63) - 1, 1)])
def test_live_refuses_nonsense(arguments):
    with pytest.raises((ValueError, OverflowError)):
        _columns.live(*arguments)


def test_live_is_as_one_by_one():
    rng = random.Random(11)
    capacity = 500
    keys = [rng.choice([0, rng.getrandbits(64), layout.LIVE_KEY_LIVE | rng.getrandbits(63)]) for _ in range(capacity)]
    raw = bytearray(struct.pack(f"<{capacity}Q", *keys))
    expected, torn = [], 0
    for key in keys:
        fact = (rng.getrandbits(48), rng.getrandbits(32), rng.choice([100, 1024, 5000]), rng.getrandbits(32), rng.getrandbits(32))
        whole = rng.random() < 0.8
        raw += entry(key, *fact, check=None if whole else rng.getrandbits(32))
        layer = key >> layout.LIVE_KEY_LAYER_SHIFT & 15
        if not key & layout.LIVE_KEY_LIVE or layer >= layout.LAYER_NO_SAMPLE:
            continue
        if whole and fact[2] >= 1024:
            expected.append((fact[1], fact[0], fact[2], fact[3], fact[4], layer))
        else:
            torn += 1
    *columns, found_torn, beyond = _columns.live(bytes(raw), 0, capacity)
    assert list(zip(*columns)) == expected
    assert (found_torn, beyond) == (torn, 0)


def test_a_live_set_beyond_all_bytes_is_lost_and_not_read():
    """Its place is 64 bits of a hostile file."""
    from memleak.arena import Arena
    from memleak.livecolumns import LiveColumns
    from memleak.records import Segment

    for offset in (1 << 63, (1 << 64) - 8, 1 << 40):
        columns, arena = LiveColumns(), Arena(bytes(8192), "test")
        columns.read(arena, Segment(layout.KIND_LIVE, 1, 0, offset, 400, 10, 40))
        assert len(columns) == 0
        assert arena.losses == {"places of the live set beyond the end of the file": 10}
