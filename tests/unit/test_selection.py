"""Rows of a snapshot in a chain: filters, groupings, sorts, slices, dicts; made when they are looked at."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from recordingwriter import RecordingWriter

from memleak import errors, recording
from memleak.query import Snapshot
from memleak.rows import COLUMNS


class Names:
    """Names each place after its address, and notes what it was asked."""

    def __init__(self):
        self.asked = []

    def frames(self, path, build_id, vaddr, exact):
        self.asked.append(vaddr)
        return [SimpleNamespace(function=f"f{vaddr:x}", file="f.c", line=vaddr, inlined=False)]


def six_rows() -> RecordingWriter:
    """Two libraries with three rows each; row n has n samples of 100 bytes, the last one none."""
    writer = RecordingWriter()
    libraries = [writer.module(f"/usr/lib/lib{n}.so", build_id=bytes([n]) * 20) for n in (1, 2)]
    for number, samples in enumerate((5, 4, 3, 2, 1, 0)):
        row = writer.row([(libraries[number % 2], 0x10 + number)], domain=1 + number % 3, peak=(number + 1) * 1000)
        for _ in range(samples):
            writer.live(row, size=100, weight=10)
    return writer


def asked(writer: RecordingWriter | None = None) -> tuple[Snapshot, list[int]]:
    """Return a snapshot, and the list of places that it asks names for."""
    names = Names()
    found = recording.parse((writer or six_rows()).bytes())
    return Snapshot(found, symbolizer=names), names.asked


def samples(rows) -> list[int]:
    return [row.samples for row in rows]


def test_a_snapshot_is_its_rows():
    """Iteration, len, indexing and to_dicts() agree with rows(), the most bytes first."""
    snapshot, _ = asked()
    assert snapshot[1] == snapshot.rows()[1] and samples(snapshot[:2]) == [5, 4] and snapshot[-1].samples == 0
    assert list(snapshot) == snapshot.rows() and len(snapshot) == 6
    assert samples(snapshot) == [5, 4, 3, 2, 1, 0]
    assert [one["samples"] for one in snapshot.to_dicts()] == [5, 4, 3, 2, 1, 0]


def test_a_snapshot_without_rows_is_true():
    """`snapshot or other` is not to take it for nothing."""
    snapshot, _ = asked(RecordingWriter())
    assert len(snapshot) == 0 and bool(snapshot) and list(snapshot) == []
    assert not snapshot.filter(samples=1)


def test_dicts_are_columns():
    """In order, and fit for JSON; a group's name stands in front."""
    snapshot, _ = asked()
    (first, *_) = snapshot.to_dicts()
    assert list(first) == list(COLUMNS)
    grouped = snapshot.group("module").to_dicts()
    assert list(grouped[0]) == ["group", *COLUMNS]
    assert [one["group"] for one in grouped] == ["lib1.so", "lib2.so"]
    json.dumps([*snapshot.to_dicts(), *grouped])


@pytest.mark.parametrize(
    ("where", "columns", "expected"),
    [
        (None, {}, [5, 4, 3, 2, 1, 0]),
        (None, {"mod_name": "operator_new"}, [4, 1]),
        (None, {"samples": lambda value: value > 2, "mod_name": "glibc_malloc"}, [5]),
        ({"samples": 3}, {}, [3]),
        (lambda row: row.samples % 2, {"est_bytes": lambda value: value < 5000}, [3, 1]),
    ],
)
def test_filter(where, columns, expected):
    """By values, by callables of values, by a callable of the row."""
    snapshot, _ = asked()
    assert samples(snapshot.filter(where, **columns)) == expected


def test_chain():
    """Each link is one more; none changes the one before it."""
    snapshot, _ = asked()
    some = snapshot.filter(samples=lambda value: value > 0)
    groups = some.group("module")
    assert [(row.group, row.samples) for row in groups] == [("lib1.so", 9), ("lib2.so", 6)]
    assert [row.group for row in groups.filter(samples=6)] == ["lib2.so"]
    assert [row.group for row in groups.sort("group", ascending=True)] == ["lib1.so", "lib2.so"]
    assert samples(some.sort("peak_bytes")) == [1, 2, 3, 4, 5]
    assert samples(some.sort("peak_bytes").filter(mod_name="operator_new")) == [1, 4]
    assert samples(some) == [5, 4, 3, 2, 1]


def test_sort_puts_what_has_no_value_last():
    """In either direction."""
    snapshot, _ = asked()
    assert samples(snapshot.sort("age_p50"))[-1] == 0
    assert samples(snapshot.sort("age_p50", ascending=True))[-1] == 0
    assert samples(snapshot.sort("samples", ascending=True)) == [0, 1, 2, 3, 4, 5]
    assert [row.mod_name for row in snapshot.sort("mod_name")][:2] == ["pymalloc_obj", "pymalloc_obj"]


def test_slices():
    """A part is a sequence, too, of rows that were made or not."""
    snapshot, _ = asked()
    rows = snapshot.sort("peak_bytes")
    for part in (rows[1:4], snapshot.sort("samples", ascending=True)[1:4]):
        assert samples(part) == [1, 2, 3] and len(part) == 3
        assert part[-1].samples == 3 and samples(part[::-1]) == [3, 2, 1]
        assert repr(part) == "<memleak rows: 3>"
    with pytest.raises(IndexError):
        rows[6]


def test_only_what_is_looked_at_is_named():
    """A chain that nobody looks at costs nothing, a slice its own rows."""
    snapshot, places = asked()
    chain = snapshot.filter(samples=lambda value: value > 1).group("module")
    top = snapshot.sort("est_bytes")[:2]
    assert len(chain) == 2 and places == [] and samples(chain) == [8, 6]
    assert places == [] and len(top) == 2 and places == []
    assert [row.native_trace for row in top] == ["f10 (f.c:16)", "f11 (f.c:17)"]
    assert places == [0x10, 0x11]
    assert snapshot.sort("samples")[2].samples == 3 and places == [0x10, 0x11, 0x12]
    snapshot.filter(samples=2, native_trace=lambda text: text)[0]
    assert places == [0x10, 0x11, 0x12, 0x13]


def test_show():
    """The other frames of the same rows."""
    snapshot, _ = asked()
    rows = snapshot.filter(samples=5)
    assert rows[0].frames and not rows.show("python")[0].frames
    assert rows.show("python")[0].values() == rows[0].values()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda s: s.filter(nothing=1), "cannot filter by 'nothing'"),
        (lambda s: s.filter({"nothing": 1}), "cannot filter by 'nothing'"),
        (lambda s: s.filter("samples"), "cannot filter by 'samples': neither a callable"),
        (lambda s: s.sort("nothing"), "cannot sort by 'nothing'"),
        (lambda s: s.group("nothing"), "cannot group by 'nothing'"),
        (lambda s: s.with_symbolizer(None).group("function"), "needs a symbolizer"),
        (lambda s: s.filter().show("inside"), "no side 'inside'"),
        (lambda s: list(s.group("module").group("mod_name")), "grouped already"),
    ],
)
def test_bad_questions(ask, words):
    """They are said at once, but for the one that only looking tells."""
    snapshot, _ = asked()
    with pytest.raises(errors.QueryError, match=words):
        ask(snapshot)
