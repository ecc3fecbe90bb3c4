"""memleak._columns: many numbers of a recording at once, whatever the bytes."""

from __future__ import annotations

import random
import struct
from types import SimpleNamespace

import columnmodels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memleak import _columns, layout


def numbers(columns):
    """Return the columns of `live` as lists."""
    return [memoryview(column).cast(code).tolist() for code, column in zip("IQIIIB", columns)]


def entry(key, size, row, weight, born, thread, check=None):
    right = layout.live_check(key, size, row, weight, born, thread)
    return struct.pack("<QIIIIII", size, row, weight, born, thread, right if check is None else check, 7)


def test_fields_are_what_stands_behind_references():
    raw = bytes(random.Random(3).randrange(256) for _ in range(16 * 100))
    refs = [0, 5, 99, 5]
    words = [struct.unpack_from("<Q", raw, 16 * ref + 8)[0] for ref in refs]
    halves = [struct.unpack_from("<I", raw, 16 * ref + 4)[0] for ref in refs]
    assert _columns.fields(raw, refs, ((8, 8),)) == [words]
    assert _columns.fields(raw, tuple(refs), ((4, 4), (8, 8), (4, 4))) == [halves, words, halves]
    assert _columns.fields(raw, dict.fromkeys(refs), ((4, 4),)) == [halves[:3]]
    assert _columns.fields(raw, [], ((0, 4), (1000, 8))) == [[], []]


@pytest.mark.parametrize(
    ("refs", "offset", "width"),
    [
        ([100], 0, 4),
        ([99], 16, 4),
        ([99], 12, 8),
        ([1 << 60], 0, 4),
        ([1 << 64], 0, 4),
        ([0], 1 << 62, 8),
        ([1 << 59], 1 << 62, 8),
        ([-1], 0, 4),
    ],
)
def test_fields_refuse_what_lies_outside(refs, offset, width):
    for places in (((offset, width),), ((0, 4), (offset, width))):
        with pytest.raises(IndexError):
            _columns.fields(bytes(16 * 100), refs, places)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"", [0], ((-1, 4),)), ValueError),
        ((b"", [0], ((0, 3),)), ValueError),
        ((b"", [0], ()), ValueError),
        ((b"", [0], ((0, 4),) * 17), ValueError),
        ((b"", [0], (5,)), TypeError),
        ((b"", [0], [(0, 4)]), TypeError),
        ((b"", ["a"], ((0, 4),)), TypeError),
        ((b"", 5, ((0, 4),)), TypeError),
        ((bytearray(8), [0], ((0, 4),)), TypeError),
    ],
)
def test_fields_refuse_nonsense(arguments, error):
    with pytest.raises(error):
        _columns.fields(*arguments)


def test_live_takes_what_is_whole_and_counts_the_rest():
    live = layout.LIVE_KEY_LIVE
    of = layout.LIVE_KEY_LAYER_SHIFT
    keys = [
        0,
        live | 1 << of | 5,
        live | 3 << of | 6,
        1 << of | 7,
        live | 9 << of | 8,
        live | 1 << of | 9,
        live | 1 << of | 10,
    ]
    facts = [(0, 0, 0, 0, 0), (100, 50, 1024, 3, 1), (1 << 40, 60, 2048, 4, 2), (1, 1, 1024, 1, 1), (1, 1, 1024, 1, 1)]
    facts += [(8, 8, 1024, 8, 8), (9, 9, 1023, 9, 9)]
    entries = [entry(key, *fact) for key, fact in zip(keys, facts)]
    entries[5] = entry(keys[5], *facts[5], check=12345)
    raw = bytes(64) + struct.pack("<7Q", *keys) + b"".join(entries)
    *columns, torn, beyond = _columns.live(raw, 64, 7)
    assert numbers(columns) == [[50, 60], [100, 1 << 40], [1024, 2048], [3, 4], [1, 2], [1, 3]]
    assert (torn, beyond) == (2, 0)
    cut = raw[: 64 + 56 + 32 * 2 + 31]
    *columns, torn, beyond = _columns.live(cut, 64, 7)
    assert numbers(columns)[0] == [50]
    assert (torn, beyond) == (0, 4)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 100, 119, 120, 121, 150, 300])
def test_live_of_any_cut_stays_inside(length):
    raw = bytes([255]) * length
    *columns, torn, beyond = _columns.live(raw, 64, 7)
    assert columns == [b""] * 6
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
        fact = (
            rng.getrandbits(48),
            rng.getrandbits(32),
            rng.choice([100, 1024, 5000]),
            rng.getrandbits(32),
            rng.getrandbits(32),
        )
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
    assert list(zip(*numbers(columns))) == expected
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


# -- records, against what is written here one by one ------------------------------------------------------


def stands(raw, ref, kind, least):
    """Return the length of a record; None when it is not there."""
    at = 16 * ref
    if at < layout.ROOM_OFFSET or at + 8 > len(raw):
        return None
    length, found, _ = struct.unpack_from("<IHH", raw, at)
    return length if found == kind and length >= least and at + length <= len(raw) else None


def room(rng, kind, least, number=40):
    """Return bytes with records behind the directory, most of them whole, and the references of all."""
    raw, refs = bytearray(layout.ROOM_OFFSET), []
    for _ in range(number):
        length = least + 8 * rng.randrange(4)
        amiss = rng.random() < 0.02
        head = struct.pack("<IHH", rng.getrandbits(32) if amiss else length, kind if rng.random() < 0.99 else 9, 0)
        refs.append(len(raw) // 16)
        raw += head + bytes(rng.randrange(256) for _ in range(length - 8))
        raw += bytes(-len(raw) % 16)
    return raw, refs


def test_rows_are_those_that_every_word_leads_to():
    rng, answered = random.Random(5), 0
    for _ in range(400):
        raw, refs = room(rng, layout.RECORD_ROW, layout.ROW.bytes)
        if rng.random() < 0.2:
            del raw[rng.randrange(layout.ROOM_OFFSET, len(raw)) :]
        if rng.random() < 0.2:
            refs += [rng.choice([1, 511, refs[0], len(raw) // 16, 0xFFFFFFFF])]
        words = [(int.from_bytes(raw[16 * ref + 12 : 16 * ref + 16], "little") << 32 | ref) for ref in refs]
        if rng.random() < 0.1:
            words[rng.randrange(len(words))] ^= 1 << 40
        index = struct.pack(f"<{2 * len(words)}Q", *[each for word in words for each in (0, word)])
        lengths = [stands(raw, ref, layout.RECORD_ROW, layout.ROW.bytes) for ref in refs]
        whole = None not in lengths and len(set(refs)) == len(refs)
        whole = whole and all(
            word >> 32 == int.from_bytes(raw[16 * ref + 12 : 16 * ref + 16], "little") for ref, word in zip(refs, words)
        )
        found = _columns.rows(bytes(raw), index)
        assert found == ((refs, sum(lengths)) if whole else None)
        answered += whole
    assert 50 < answered < 350
    assert _columns.rows(b"", b"") == _columns.rows(bytes(9000), b"1234567") == ([], 0)


def test_stacks_are_counted_once_and_their_frames_each_time():
    rng, answered = random.Random(6), 0
    for _ in range(400):
        raw, refs = room(rng, layout.RECORD_STACK, layout.STACK.bytes)
        keys = {}
        for ref in refs:
            length = stands(raw, ref, layout.RECORD_STACK, layout.STACK.bytes) or 24
            most = (length - 24) // 8 + (rng.random() < 0.01)
            raw[16 * ref + 16 : 16 * ref + 18] = struct.pack("<H", min(most, 0xFFFF))
            if rng.random() < 0.01:
                raw[16 * ref + 8 : 16 * ref + 16] = bytes(8)
            keys[ref] = bytes(raw[16 * ref + 8 : 16 * ref + 16])
        asked = [0, *(rng.choice(refs) for _ in range(50))]
        if rng.random() < 0.1:
            asked.append(rng.choice([1, 1 << 31, 1 << 63, 1 << 64, -1]))
        raw = bytes(raw)
        lengths = {
            ref: stands(raw, ref, layout.RECORD_STACK, layout.STACK.bytes) if 0 < ref < 1 << 40 else None
            for ref in {*asked} - {0}
        }
        frames = {ref: int.from_bytes(raw[16 * ref + 16 : 16 * ref + 18], "little") for ref in lengths if lengths[ref]}
        whole = None not in lengths.values() and all(
            24 + 8 * frames[ref] <= lengths[ref] and frames[ref] <= 3 for ref in frames
        )
        found = _columns.stacks(raw, asked, layout.RECORD_STACK, 3)
        answered += whole
        if not whole:
            assert found is None
            continue
        number, total, alike, bits = found
        assert (number, total) == (sum(lengths.values()), sum(frames.get(ref, 0) for ref in asked))
        assert {ref for ref in range(8 * len(bits)) if bits[ref >> 3] >> (ref & 7) & 1} == set(lengths)
        assert alike == (len({keys[ref] for ref in lengths}) < len(lengths))
    assert 50 < answered < 350


def test_records_stand_or_do_not():
    rng, answers = random.Random(7), set()
    for _ in range(200):
        raw, refs = room(rng, layout.RECORD_HISTORY, 16, 10)
        refs.append(rng.choice([refs[0], refs[0], 0, 511, len(raw) // 16, 1 << 60, 1 << 64, -5]))
        there = all(0 < ref < 1 << 40 and stands(raw, ref, layout.RECORD_HISTORY, 20) for ref in refs)
        assert _columns.stand(bytes(raw), refs, layout.RECORD_HISTORY, 20) == there
        answers.add(there)
    assert answers == {True, False}


def test_words_are_distinct_or_not():
    rng = random.Random(8)
    for _ in range(100):
        number = rng.randrange(60)
        words = [rng.getrandbits(12) << 50 for _ in range(number)]
        raw = b"".join(struct.pack("<QQ", word, 1) for word in words)
        assert _columns.distinct(raw, list(range(number)), 0) == (len(set(words)) == number)
    with pytest.raises(IndexError):
        _columns.distinct(bytes(16), [1], 0)
    with pytest.raises(ValueError):
        _columns.distinct(bytes(16), [0], -1)


def test_words_that_were_chosen_to_collide_are_given_up_soon():
    """All in one place of the table: not found out, and not looked for in time that grows with the square."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 1 << 64)
    words = [low * inverse % (1 << 64) for low in range(1 << 16)]
    raw = b"".join(struct.pack("<QQ", word, 1) for word in words)
    assert len(set(words)) == len(words)
    assert _columns.distinct(raw, list(range(len(words))), 0) is False


# -- samples ---------------------------------------------------------------------------------------------


def test_samples_belong_to_their_rows_and_add_up():
    rng = random.Random(9)
    for _ in range(200):
        refs = rng.sample(range(512, 5000, 8), rng.randrange(1, 40))
        rows = [rng.choice(refs) for _ in range(rng.randrange(60))]
        sizes = [rng.choice([1, (1 << 64) - 1, rng.getrandbits(40)]) for _ in rows]
        weights = [rng.choice([1024, (1 << 32) - 1]) for _ in rows]
        packed = [struct.pack(f"<{len(rows)}{code}", *column) for code, column in zip("IQI", (rows, sizes, weights))]
        owners = _columns.owners(refs, packed[0], 5008)
        assert memoryview(owners).cast("I").tolist() == [refs.index(row) for row in rows]
        for of_sizes, of_weights in ((0, 0), (0, 1), (1, 0), (1, 1)):
            expected = [0] * len(refs)
            for row, size, weight in zip(rows, sizes, weights):
                expected[refs.index(row)] += (size if of_sizes else 1) * (weight if of_weights else 1)
            found = _columns.sums(owners, len(refs), packed[1] if of_sizes else None, packed[2] if of_weights else None)
            assert found == expected
        squares = [0] * len(refs)
        for row, size, weight in zip(rows, sizes, weights):
            squares[refs.index(row)] += (size * weight) ** 2
        assert _columns.squares(owners, len(refs), *packed[1:]) == squares
        for ref in refs:
            assert _columns.at(packed[0], ref) == [number for number, row in enumerate(rows) if row == ref]


@pytest.mark.parametrize(
    ("refs", "rows", "limit"),
    [
        ([512, 520], [528], 1000),  # of none
        ([512, 520], [513], 1000),  # of none, in one
        ([512, 516], [512], 1000),  # they overlap
        ([512, 512], [512], 1000),  # twice
        ([512, 1000], [512], 1000),  # beyond the end
        ([512], [1000], 1000),
        ([512], [0xFFFFFFFF], 1000),
        ([1 << 64], [512], 1000),
        ([-1], [512], 1000),
        ([], [0], 0),
    ],
)
def test_samples_of_no_row_have_no_owners(refs, rows, limit):
    assert _columns.owners(refs, struct.pack(f"<{len(rows)}I", *rows), limit) is None


VALUES = st.tuples(
    st.integers(0, 4),
    st.one_of(st.integers(0, 99), st.integers((1 << 64) - 99, (1 << 64) - 1), st.integers(0, (1 << 64) - 1)),
    st.one_of(st.integers(0, 1024), st.integers((1 << 32) - 99, (1 << 32) - 1)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(VALUES, max_size=40), st.booleans())
def test_squares_are_those_of_the_model(values, doubled):
    """Of samples of the largest sizes and weights, too: sums of 192 bits and more."""
    values = values * (8 if doubled else 1)
    owners, sizes, weights = ([value[n] for value in values] for n in range(3))
    packed = [struct.pack(f"<{len(values)}{code}", *column) for code, column in zip("IQI", (owners, sizes, weights))]
    assert _columns.squares(packed[0], 5, *packed[1:]) == columnmodels.squares(owners, 5, sizes, weights)
    ones = [1] * len(values)
    assert _columns.squares(packed[0], 5, packed[1], None) == columnmodels.squares(owners, 5, sizes, ones)
    assert _columns.squares(packed[0], 5, None, packed[2]) == columnmodels.squares(owners, 5, ones, weights)


def test_squares_carry_from_word_to_word():
    """One less and one more than each of the words that a sum is made of."""
    for number in range(1, 9):
        for size in (1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1, 0xB504F333F9DE6484, 0xB504F333F9DE6485):
            for weight in (1, 1 << 16, 1 << 31, (1 << 32) - 1):
                columns = bytes(4 * number), struct.pack("<Q", size) * number, struct.pack("<I", weight) * number
                assert _columns.squares(columns[0], 1, *columns[1:]) == [number * (size * weight) ** 2]


@pytest.mark.parametrize("function", [_columns.sums, _columns.squares])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((struct.pack("<I", 3), 3, None, None), IndexError),
        ((b"", -1, None, None), ValueError),
        ((b"", 1 << 62, None, None), ValueError),
        ((bytes(4), 1, bytes(16), None), ValueError),
        ((bytes(4), 1, None, bytes(3)), ValueError),
        ((bytes(4), 1, "text", None), TypeError),
    ],
)
def test_sums_refuse_nonsense(function, arguments, error):
    with pytest.raises(error):
        function(*arguments)


def test_order_is_that_of_a_stable_sort():
    rng = random.Random(10)
    for _ in range(300):
        values = [
            rng.choice([0, 1, 255, 256, 1 << 40, (1 << 64) - 1, rng.getrandbits(64)]) for _ in range(rng.randrange(30))
        ]
        numbers = rng.sample(range(len(values)), rng.randrange(len(values) + 1))
        assert _columns.order(values, numbers) == sorted(numbers, key=values.__getitem__, reverse=True)
    assert _columns.order([1 << 64, 1], [0, 1]) is None
    for numbers in ([2], [-1], [1 << 64]):
        with pytest.raises(IndexError):
            _columns.order([1, 2], numbers)
    with pytest.raises(TypeError):
        _columns.order([1, 2], (0, 1))


# -- histories and places ----------------------------------------------------------------------------------

SHAPES = st.one_of(
    st.tuples(st.just(6), st.just(16), st.just(400), st.just(2)),
    st.tuples(
        st.integers(1, 8),
        st.integers(1, 20),
        st.one_of(st.integers(1, 5), st.integers(1, (1 << 32) - 1)),
        st.integers(0, 8),
    ),
)


@st.composite
def histories(draw):
    """Return the form of a history, its words, and when it ended: most words are of periods that there were."""
    levels, slots, unit, shift = draw(SHAPES)
    end = draw(
        st.one_of(st.integers(0, 100_000), st.integers(0, (1 << 32) - 1), st.integers((1 << 64) - 99, (1 << 64) - 1))
    )
    words = [0] * (levels * slots)
    for index in draw(st.lists(st.integers(0, levels * slots - 1), max_size=20)):
        level, slot = divmod(index, slots)
        now = (1 + end // unit) >> level * shift
        period = max(0, now - draw(st.integers(0, 2 * slots)))
        period -= (period - slot) % slots
        tag = draw(st.one_of(st.just(1 + period % layout.HISTORY_TAG_MASK), st.integers(0, layout.HISTORY_TAG_MASK)))
        words[index] = tag << layout.HISTORY_VALUE_BITS | draw(st.integers(0, (1 << layout.HISTORY_VALUE_BITS) - 1))
    return levels, slots, unit, shift, end, words


@settings(max_examples=800, deadline=None)
@given(histories(), st.integers(0, 20))
def test_histories_are_those_of_the_model(history, before):
    levels, slots, unit, shift, end, words = history
    header = SimpleNamespace(
        history_levels=levels, history_slots=slots, history_unit_cs=unit, history_level_shift=shift, end_cs=end
    )
    raw = bytes(before) + struct.pack(f"<{len(words)}Q", *words)
    assert _columns.history(raw, before, levels, slots, unit, shift, end) == columnmodels.history(words, header)


def test_histories_of_the_longest_form_end():
    """64 levels of 64 slots, each shift of which goes beyond any recording."""
    rng = random.Random(4)
    words = [rng.getrandbits(64) for _ in range(4096)]
    raw = struct.pack("<4096Q", *words)
    for end in (0, 1, (1 << 32) - 1, (1 << 63) + 5, (1 << 64) - 1):
        header = SimpleNamespace(
            history_levels=64, history_slots=64, history_unit_cs=1, history_level_shift=8, end_cs=end
        )
        assert _columns.history(raw, 0, 64, 64, 1, 8, end) == columnmodels.history(words, header)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((bytes(800), 0, 6, 17, 400, 2, 1), IndexError),
        ((bytes(800), 33, 6, 16, 400, 2, 1), IndexError),
        ((bytes(800), -1, 6, 16, 400, 2, 1), IndexError),
        ((bytes(800), 1 << 62, 6, 16, 400, 2, 1), IndexError),
        ((bytes(800), 0, 0, 16, 400, 2, 1), ValueError),
        ((bytes(800), 0, 6, 0, 400, 2, 1), ValueError),
        ((bytes(800), 0, 4096, 2, 400, 2, 1), ValueError),
        ((bytes(800), 0, 6, 16, 0, 2, 1), ValueError),
        ((bytes(800), 0, 6, 16, 400, 65, 1), ValueError),
        ((bytes(800), 0, 6, 16, 400, -1, 1), ValueError),
        ((bytes(800), 0, 6, 16, 400, 2, 1 << 64), OverflowError),
        ((bytes(800), 0, 6, 16, 400, 2, -1), OverflowError),
        ((bytes(800), 0, 6, 16, 400, 2, "now"), TypeError),
    ],
)
def test_histories_refuse_nonsense(arguments, error):
    with pytest.raises(error):
        _columns.history(*arguments)


def test_places_are_module_and_address():
    rng = random.Random(12)
    names = bytes(rng.randrange(256) for _ in range(35))  # of three modules and no fourth
    words = [rng.choice([0, 1, 2, 3, 0xFFFF]) << 48 | rng.getrandbits(48) for _ in range(200)]
    raw = bytes(8) + struct.pack("<200Q", *words)
    expected = b""
    for word in words:
        module = word >> 48 if word >> 48 < 3 else 0
        expected += names[10 * module : 10 * module + 10] + (word & layout.FRAME_VADDR_MASK).to_bytes(6, "little")
    assert _columns.places(raw, 8, 200, names) == expected
    assert _columns.places(raw, len(raw), 0, names) == b""
    for offset, frames in ((9, 200), (8, 201), (-8, 1), (8, -1), (1 << 62, 1), (0, 1 << 62)):
        with pytest.raises(IndexError):
            _columns.places(raw, offset, frames, names)
    with pytest.raises(ValueError):
        _columns.places(raw, 8, 1, bytes(9))
