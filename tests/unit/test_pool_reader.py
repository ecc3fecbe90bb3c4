"""Pools as a reader sees them: rows, totals, regions and what keeps them; damaged ones."""

import pytest
from recordingwriter import RecordingWriter, word

from memleak import recording
from memleak.query import Snapshot

POOL, REGION = 12, 19


def entry(pool, region=0, thread=1):
    """What a live entry of a pool has in the place of its thread."""
    return thread | pool << POOL | region << REGION


def two_pools(**header):
    """A malloc row, and two pools of which the first has two regions."""
    writer = RecordingWriter(**header)
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    writer.thread(7, b"io")
    first = writer.pool(b"buddy", regions=2, capacity=30_000, ended=3)
    second = writer.pool(b"arena")
    near = writer.pool_region(first, 10_000)
    far = writer.pool_region(first, 20_000)
    plain = writer.row([(app, 0x10)], samples=1, bytes=4096)
    a = writer.row([(app, 0x20)], domain=128 + first)
    b = writer.row([(app, 0x30)], domain=128 + first)
    c = writer.row([(app, 0x10)], domain=128 + second)
    writer.live(plain, size=4096)
    for _ in range(4):
        writer.live(a, size=1000, weight=2.0, layer=4, thread=entry(first, near))
    writer.live(b, size=500, layer=4, thread=entry(first, far))
    writer.live(b, size=300, layer=4, thread=entry(first, 77))  # in a region that ended meanwhile
    writer.live(c, size=64, layer=4, thread=entry(second))
    writer.live(0, size=0, weight=0, layer=9, thread=entry(first))  # what is no sample
    writer.live(0, size=9, weight=0, layer=11, thread=entry(first, near))
    return writer


def snapshot(writer):
    return Snapshot(recording.parse(writer.bytes(), "r"))


def test_rows_are_named_and_in_no_total():
    found = recording.parse(two_pools().bytes(), "r")
    assert found.torn == 0 and len(found.live) == 8
    assert sorted({row.mod_name for row in found.rows}) == ["arena", "buddy", "glibc_malloc"]
    assert found.total_est_bytes == 4096
    assert {thread for _, _, _, _, thread, layer in found.live if layer == 4} == {1}
    shown = Snapshot(found)
    by_module = {row.group: row.est_bytes for row in shown.top(None, group_by="module")}
    assert by_module == {"app": 4096, "app (pool buddy)": 8800, "app (pool arena)": 64}
    assert {row.group for row in shown.top(None, group_by="mod_name")} == {"glibc_malloc", "buddy", "arena"}
    assert {row.ctx_name for row in shown.rows()} == {"GLIBC", "POOL"}


def test_use_of_a_pool():
    buddy, arena = snapshot(two_pools()).pools()
    assert (buddy.name, buddy.regions, buddy.capacity_bytes, buddy.regions_ended) == ("buddy", 2, 30_000, 3)
    assert (buddy.est_bytes, buddy.samples, buddy.outside_bytes) == (8800, 6, 300)
    assert (buddy.idle_bytes, buddy.idle_share) == (30_000 - 8500, (30_000 - 8500) / 30_000)
    assert buddy.est_bytes_se == round((4 * 2 * 1 * 1000**2) ** 0.5)
    assert buddy.est_bytes_low < 8800 < buddy.est_bytes_high
    assert [(use.bytes, use.est_bytes, use.samples) for use in buddy.use] == [(20_000, 500, 1), (10_000, 8000, 4)]
    assert [(pin.est_bytes, pin.samples, pin.row.back_trace.split()[0]) for use in buddy.use for pin in use.pins] == [
        (500, 1, "0x30"), (8000, 4, "0x20"),
    ]  # fmt: skip
    assert (arena.capacity_bytes, arena.idle_bytes, arena.idle_share, arena.outside_bytes) == (0, None, None, 64)


def test_sql():
    shown = snapshot(two_pools())
    assert shown.sql("SELECT name, capacity_bytes, est_bytes, regions_without_samples FROM pools ORDER BY 1").rows == [
        ("arena", 0, 64, 0), ("buddy", 30_000, 8800, 0),
    ]  # fmt: skip
    query = "SELECT sum(est_bytes) FROM malloc_sample_info WHERE mod_name NOT IN (SELECT name FROM pools)"
    assert shown.sql(query).rows == [(4096,)]


def test_one_pool_of_several_processes_has_one_row():
    """The number of a pool is its process's own."""
    other = RecordingWriter(pid=2)
    app = other.module("/opt/app", build_id=b"\x01" * 20, main=True)
    other.pool(b"something else")
    row = other.row([(app, 0x20)], domain=128 + other.pool(b"buddy"))
    other.live(row, size=10, layer=4, thread=entry(2))
    both = Snapshot([recording.parse(writer.bytes(), "r") for writer in (two_pools(), other)])
    merged = [row for row in both.rows() if row.mod_name == "buddy" and row.back_trace.startswith("0x20")]
    assert [row.est_bytes for row in merged] == [8010]
    grown = both.diff(snapshot(two_pools()))
    assert {(row.mod_name, row.diff_est_bytes) for row in grown if row.diff_est_bytes} == {("buddy", 10)}


def test_full_mode_is_exact():
    (buddy, _) = snapshot(two_pools(initial=word(1, 1))).pools()
    assert buddy.est_bytes_low is not None


@pytest.mark.parametrize("name", [b"", b"\xff\xfe bytes", b"x" * 64])
def test_odd_names(name):
    writer = RecordingWriter()
    number = writer.pool(name)
    writer.live(writer.row(domain=128 + number), size=1, layer=4, thread=entry(number))
    (use,) = snapshot(writer).pools()
    assert use.name and use.name.isprintable() and use.samples == 1


def test_rows_of_a_pool_that_is_not_in_this_copy():
    writer = RecordingWriter()
    writer.live(writer.row(domain=128 + 9), size=5, layer=4, thread=entry(9, 3))
    shown = snapshot(writer)
    assert [row.mod_name for row in shown.rows()] == ["pool_9"] and shown.pools() == []
    assert shown.recordings[0].total_est_bytes == 0


def test_footer():
    facts = snapshot(two_pools()).footer()
    assert facts["pools"] == {"number": 2, "live_samples": 7} and facts["mismatches"] == {"number": 0, "undecided": 0}
