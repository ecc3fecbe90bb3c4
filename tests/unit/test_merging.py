"""Stacks of one recording, read by column: the same rows, groups and columns as one by one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordingwriter import RecordingWriter

from memleak import recording
from memleak.grouping import Source, merge_stacks
from memleak.merging import SUMS, Groups, Stacks, stacks
from memleak.query import Snapshot
from memleak.rows import Facts

NO_FRAME = (0, (1 << 31) - 2, True)
NOT_BEGUN = (1 << 31) - 1
# co_linetable of 3.10: bytes 0 to 9 are line 11, 10 to 19 line 12, and so on.
TABLE = b"\x0a\x01" * 6


@st.composite
def recordings(draw: st.DrawFn) -> RecordingWriter:
    """Return the writer of a recording in which much is nearly the same: stacks recorded twice, lines with several instructions."""
    writer = RecordingWriter(python_version=0x030C01F0, python_state=1, index_capacity=256, live_capacity=256)
    objects = [writer.module(f"/lib{n}.so", build_id=bytes([n]) * 20) for n in (1, 2)]
    writer.labels({1: "tenant_id=7", 2: "mod=pool\nctx=HEAP", 3: "tenant_id=7", 4: "other=1"})
    codes = [writer.code(f"/srv/{name}.py", name, first_line=10, kind=2, table=TABLE) for name in ("a", "b", "a")]
    words = st.one_of(
        st.tuples(st.sampled_from([*codes, 0]), st.sampled_from([0, 2, 8, 12, 30, NOT_BEGUN])),
        st.tuples(st.sampled_from(codes), st.sampled_from([0, 2, 12]), st.just(True)),
        st.just(NO_FRAME),
    )
    pythons = [0]
    for frames in draw(st.lists(st.lists(words, max_size=3), max_size=6)):
        pythons += [writer.python_stack(frames, truncated=draw(st.booleans())) for _ in range(draw(st.integers(1, 2)))]
    natives = [0]
    places = st.tuples(st.sampled_from([*objects, 0]), st.sampled_from([0x10, 0x20]), st.booleans())
    for frames in draw(st.lists(st.lists(places, min_size=1, max_size=3), max_size=4)):
        truncated = draw(st.booleans())
        for _ in range(draw(st.integers(1, 2))):
            writer.stacks.clear()  # else it would be recorded once
            natives.append(writer.stack(frames, truncated=truncated))
    refs = [
        writer.row(
            key=draw(st.sampled_from([None, None, None, 5 << 32 | 7])),
            stack_ref=draw(st.sampled_from(natives)),
            python=draw(st.sampled_from(pythons)),
            domain=draw(st.sampled_from([1, 3, 9])),
            flags=draw(st.sampled_from([0, 0, 2])),
            label_set=draw(st.sampled_from([0, 0, 1, 2, 3, 4, 77, 256])),
            first_cs=draw(st.integers(1, 50)),
            count=draw(st.integers(0, 9)),
            bytes=draw(st.integers(0, 99)),
            peak=draw(st.integers(0, 99)),
            history=draw(st.sampled_from([0, 1])) and writer.history({(0, 3): (1 + 3) << 40 | 77}),
            indexed=draw(st.booleans()),
        )
        for _ in range(draw(st.integers(0, 12)))
    ]
    if draw(st.booleans()):
        refs.append(writer.row(flags=1, samples=draw(st.integers(0, 1))))
    if draw(st.booleans()):
        refs.append(1 << 24)  # of a row that is not in this copy
    for ref in refs:
        for _ in range(draw(st.integers(0, 2))):
            sample = dict(
                size=draw(st.integers(1, 99)), weight=draw(st.sampled_from([1, 2.5])), born_cs=draw(st.integers(1, 9))
            )
            writer.live(ref, check=draw(st.sampled_from([None, None, None, 1])), live=draw(st.booleans()), **sample)
    return writer


def shape(group):
    """What a group is, in values."""
    return group.members, group.sums, group.recorded


@settings(max_examples=300, deadline=None)
@given(recordings())
def test_groups_are_those_of_rows_compared_one_by_one(writer):
    """The same groups in the same order, in any order that can be asked for."""
    sources = (Source(recording.parse(writer.bytes()), alive=False),)
    fast, slow = stacks(sources), merge_stacks(sources)
    assert isinstance(fast, Groups)
    assert list(map(shape, fast)) == list(map(shape, slow))
    for column in SUMS:
        field = {"alloc_bytes": "bytes", "alloc_count": "samples"}.get(column, column)
        for ascending in (False, True):
            expected = sorted(slow, key=lambda group: (-group.sums.est_bytes, group.order))
            expected.sort(key=lambda group, field=field: getattr(group.sums, field), reverse=not ascending)
            assert list(map(shape, fast.sorted_by(column, ascending=ascending))) == list(map(shape, expected))


@settings(max_examples=150, deadline=None)
@given(recordings())
def test_columns_are_those_of_groups(writer):
    """Each column that is read for all stacks at once says what the groups say."""
    source = Source(recording.parse(writer.bytes()), alive=False)
    found = Stacks(source)
    groups = {number: found.group(number) for number in found.numbers}
    for column in Facts._fields:
        values = found.facts(column)
        expected = {number: getattr(group.facts((source,)), column) for number, group in groups.items()}
        assert {number: values[number] for number in found.numbers} == expected
    told: Counter[tuple[bool, ...]] = Counter()
    for count, *amiss in found.backtraces():
        told[tuple(amiss)] += count
    expected_counts: Counter[tuple[bool, ...]] = Counter()
    for one in groups.values():
        amiss = one.placeless, one.truncated, one.has_unknown_frames((source,)), one.python_truncated
        expected_counts[amiss] += one.sums.samples
    assert +told == +expected_counts


@settings(max_examples=150, deadline=None)
@given(recordings())
def test_a_recording_with_damage_is_read_one_by_one_to_the_same(writer):
    """Where one reference leads nowhere, rows are looked at one by one: they are what they are without it."""
    good = recording.parse(writer.bytes())
    writer.rows.append((99, 3))  # the header is no row
    found = recording.parse(writer.bytes())
    assert set(found.incomplete) - set(good.incomplete) == {"1 references that do not lead to a row"}
    assert found.rows == good.rows and found.live == good.live
    both = Snapshot(good), Snapshot(found)
    rows = [[row._replace(exact=False) for row in snapshot.rows()] for snapshot in both]
    assert rows[0] == rows[1]


def test_one_line_with_two_instructions_is_one_stack():
    """Rows whose Python stacks differ within lines are one; those of two lines are two."""
    writer = RecordingWriter(python_version=0x030C01F0, python_state=1)
    native = writer.stack([(writer.module("/opt/app"), 0x10)])
    code = writer.code("/srv/a.py", "f", first_line=10, kind=2, table=TABLE)
    for offset in (0, 8, 12):
        python = writer.python_stack([(code, offset), (code, 30)])
        writer.live(writer.row(stack_ref=native, python=python), size=100)
    rows = Snapshot(recording.parse(writer.bytes())).rows()
    assert [(row.alloc_count, row.python_trace) for row in rows] == [
        (2, "f at /srv/a.py:11 < f at /srv/a.py:14"),
        (1, "f at /srv/a.py:12 < f at /srv/a.py:14"),
    ]


@pytest.mark.parametrize("several", [2, 40])
def test_many_rows_of_one_native_stack(several):
    """Pairs of stacks and crowds of them are compared in two ways, to the same end."""
    writer = RecordingWriter(python_version=0x030C01F0, python_state=1, index_capacity=256)
    native = writer.stack([(writer.module("/opt/app"), 0x10)])
    code = writer.code("/srv/a.py", "f", first_line=10, kind=2, table=TABLE)
    for number in range(several):
        writer.live(writer.row(stack_ref=native, python=writer.python_stack([(code, number % 10), NO_FRAME])), size=1)
    (row,) = Snapshot(recording.parse(writer.bytes())).rows()
    assert row.alloc_count == several


@settings(max_examples=100, deadline=None)
@given(recordings())
def test_tables_of_sql_are_what_the_rows_say(writer):
    """Columns that SQL makes without a row, and histories, are those of the rows."""
    snapshot = Snapshot(recording.parse(writer.bytes()))
    found = snapshot.sql("SELECT * FROM malloc_sample_info")
    rows = [dict(zip(found.columns, row)) for row in found.rows]
    for row, known in zip(rows, snapshot.to_dicts()):
        row.pop("stack_id")
        assert row == known
    assert len(rows) == len(snapshot)
    points = [point for group in merge_stacks(snapshot.sources) for row in group.recorded for point in row.history]
    began = snapshot.recordings[0].header.started_at
    told = snapshot.sql("SELECT at, est_bytes FROM history").rows
    assert sorted(told) == sorted((began + cs / 100, held) for cs, held in points)
