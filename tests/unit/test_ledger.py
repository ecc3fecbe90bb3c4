"""The ledger of recordings, the looks and pins in them, and what is said of each kind of memory."""

from __future__ import annotations

import json
import math
import os
import random

import pytest
from recordingwriter import RecordingWriter
from tracedprocess import boot_id

from memleak import cli, ledger, query, recording, sql
from memleak.coverage import OutOfReach
from memleak.errors import QueryError, RecordingError

MIB = 1 << 20


def written(**header):
    """A recording of a process that is gone, with a row."""
    writer = RecordingWriter(**{"heartbeat_cs": 60_000, "boot_id": boot_id(), "pid": 4_000_000, **header})
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    writer.first = writer.row([(app, 0x10)], samples=20, bytes=20 * MIB)
    return writer


def read(writer):
    return recording.parse(writer.bytes())


def of(writer):
    return ledger.of(read(writer), alive=False)


def told(**more):
    """What a look says of a process of 220 MiB whose heaps hold 20 MiB and 180 MiB free."""
    values = {
        "anonymous_bytes": 212 * MIB, "file_bytes": 6 * MIB, "shared_bytes": 2 * MIB, "native_bytes": 19 * MIB,
        "large_bytes": 8 * MIB, "heap_state": 1, "heap_cs": 500, "heap_bytes": 200 * MIB, "heap_used_bytes": 20 * MIB,
        "heap_free_bytes": 180 * MIB, "heap_mapped_bytes": 8 * MIB, "own_bytes": 3 * MIB,
    }  # fmt: skip
    return {**values, **more}


def test_looks_are_read_in_order():
    """One that stands at several levels counts once; one that was being written, not at all."""
    writer = written()
    writer.look(cs=3000, sequence=3, anonymous_bytes=30, threads=9, heap_mapped_bytes=7, heap_us=5)
    writer.look(cs=1000, sequence=1, anonymous_bytes=10)
    writer.look(cs=3000, sequence=3, anonymous_bytes=30, threads=9, heap_mapped_bytes=7, heap_us=5)
    writer.look(cs=2000, sequence=2, again=1)
    writer.look(cs=2000, sequence=0, again=0)
    found = read(writer)
    assert [look.cs for look in found.ledger] == [1000, 3000]
    last = found.ledger[-1]
    assert (last.anonymous_bytes, last.threads, last.heap_mapped_bytes, last.heap_us, last.rss_bytes) == (
        30,
        9,
        7,
        5,
        30,
    )


def test_pins_are_read():
    """With their rows; a count of rows beyond the list is the list's; torn ones are none."""
    writer = written()
    writer.pins(
        [(writer.first, 100, 4096)], regions=4, sparse=3, live=500, sparse_live=100, occupied=9000, sparse_occupied=4096
    )
    found = read(writer)
    assert found.pins.rows == ((writer.first, 100, 4096),)
    assert (found.pins.regions, found.pins.sparse_regions, found.pins.occupied_bytes) == (4, 3, 9000)
    writer.pins([(writer.first, 100, 4096)], number=4_000_000_000)
    assert len(read(writer).pins.rows) == 16
    writer.pins([], sequence=2, again=1)
    assert read(writer).pins is None


def test_older_recordings_have_neither():
    found = read(written())
    assert found.ledger == () and found.pins is None
    assert ledger.of(found, alive=False) is None
    with pytest.raises(QueryError, match="never noted what was resident"):
        query.Snapshot(found).ledger()


def test_hostile_bytes():
    """Whatever stands in the tables: a ledger that adds up, or one line that says why not."""
    writer = written()
    for cs in (1000, 2000, 3000):
        writer.look(cs=cs, **told())
    writer.pins([(writer.first, 1, 2)], regions=1, sparse=1)
    whole = writer.bytes()
    chance = random.Random(7)
    place = whole.index(writer.looks[0])
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 40)):
            damaged[place + chance.randrange(3 * 184 + 400)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        try:
            found = recording.parse(bytes(damaged))
        except RecordingError:
            continue
        one = ledger.of(found, alive=False)
        if one is not None:
            assert all(part.bytes >= 0 for part in one.parts) and one.verdict.words
            query.Snapshot(found).pinners()
    for size in range(place - 200, place + 1000, 61):
        ledger.of(recording.parse(whole[:size] + bytes(8)), alive=False)


def test_parts_add_up_to_what_was_resident():
    writer = written()
    writer.look(cs=500, **told())
    found = of(writer)
    assert found.rss_bytes == 220 * MIB and not found.measured
    assert abs(sum(part.bytes for part in found.parts) - found.rss_bytes) < MIB
    assert [part.name for part in found.parts] == list(ledger.PARTS)
    assert found.part("native_live").bytes == 28 * MIB and found.part("native_live").how == "told"
    assert found.part("allocator_free").bytes == 180 * MIB
    assert found.unexplained_share < 0.03


def test_what_was_never_touched_is_not_resident():
    """More was asked for than is there: free memory is what is missing first, and the error says how much is open."""
    writer = written()
    writer.look(cs=500, **told(anonymous_bytes=112 * MIB, mapped_bytes=50 * MIB))
    found = of(writer)
    assert abs(sum(part.bytes for part in found.parts) - found.rss_bytes) < MIB
    missing = 28 * MIB + 180 * MIB + 50 * MIB - (112 - 1) * MIB
    assert abs(found.part("native_live").error - missing) < 2 * MIB
    assert found.part("allocator_free").bytes == pytest.approx(180 * MIB - missing, abs=2 * MIB)


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({}, "retention", "180.0 MiB of 220.0 MiB is free memory that the C library keeps"),
        ({"heap_free_bytes": 0, "heap_bytes": 20 * MIB, "anonymous_bytes": 32 * MIB}, "live", "is in use"),
        ({"heap_free_bytes": 0, "heap_bytes": 20 * MIB}, "outside", "outside every hooked allocator"),
        ({"heap_free_bytes": 0, "anonymous_bytes": 40 * MIB, "shared_bytes": 300 * MIB}, "shared", "shared memory"),
        ({"heap_free_bytes": 0, "anonymous_bytes": 40 * MIB, "file_bytes": 300 * MIB}, "files", "mapped files"),
        (
            {"heap_free_bytes": 0, "heap_bytes": 20 * MIB, "python_arena_bytes": 170 * MIB, "python_bytes": 5 * MIB},
            "retention", "Python's allocator keeps (165.0 MiB",
        ),
        ({"heap_state": 0, "heap_cs": 0}, "unclear", "is not live as far as samples tell"),
        ({"heap_state": 3, "heap_cs": 0}, "unclear", "is not live as far as samples tell"),
    ],
)  # fmt: skip
def test_verdict(more, kind, words):
    writer = written()
    writer.look(cs=500, **told(**more))
    found = of(writer)
    assert found.verdict.kind == kind
    assert words in found.verdict.words


def test_another_allocator_is_said_so():
    writer = written()
    writer.look(cs=500, **told(heap_state=3, heap_cs=0))
    found = of(writer)
    assert found.part("allocator_free").how == "remainder" and found.trim_gain is None
    assert any("holds free it does not say" in note for note in found.notes)


def test_trim_is_predicted_from_pins():
    """By the pages that hold something; what many small blocks between free ones hold is no gain."""
    writer = written()
    writer.look(cs=500, **told())
    assert of(writer).trim_gain is None
    writer.pins([(writer.first, 19 * MIB, 60 * MIB)], regions=50, sparse=50, live=19 * MIB, occupied=60 * MIB)
    found = of(writer)
    assert found.trim_gain == 140 * MIB and found.trim_error == 40 * MIB
    assert "malloc_trim(0) gives back about 140.0 MiB" in found.verdict.remedies
    writer.pins([], regions=50, sparse=50, live=19 * MIB, occupied=190 * MIB)
    remedies = of(writer).verdict.remedies
    assert len(remedies) == 1 and "170.0 MiB lies between live blocks" in remedies[0]


def test_growth_over_the_second_half():
    writer = written()
    for number, cs in enumerate(range(1000, 11000, 1000)):
        values = told(anonymous_bytes=(50 + 10 * number) * MIB, heap_free_bytes=0, heap_bytes=20 * MIB, heap_cs=cs)
        writer.look(cs=cs, **values)
    found = of(writer)
    assert found.growth_s == 50.0
    assert found.part("unexplained").growth == 50 * MIB and found.part("native_live").growth == 0
    assert found.verdict.kind == "outside" and "50.0 MiB of 50.0 MiB gained in 50 s" in found.verdict.words


def test_growth_of_what_is_live():
    writer = written()
    for number, cs in enumerate(range(1000, 11000, 1000)):
        used = (20 + 10 * number) * MIB
        values = told(
            anonymous_bytes=used + 12 * MIB, heap_free_bytes=0, heap_bytes=used, heap_used_bytes=used, heap_cs=cs
        )
        writer.look(cs=cs, **values)
    found = of(writer)
    assert found.verdict.kind == "live" and found.verdict.words.endswith("gained in 50 s: native_live")


def test_outside_names_what_is_out_of_reach():
    writer = written()
    writer.module("/opt/libheap.so", coverage=3, vaddr_high=5 * MIB)
    writer.look(cs=500, **told(heap_free_bytes=0, heap_bytes=20 * MIB))
    found = of(writer)
    assert isinstance(found.outside[0], OutOfReach)
    assert "out of reach: libheap.so" in found.verdict.words


def test_sql():
    """The parts and the looks are tables."""
    writer = written()
    for cs in (1000, 2000):
        writer.look(cs=cs, **told())
    snapshot = query.Snapshot(read(writer))
    rows = sql.run(snapshot, "SELECT part, bytes, how FROM ledger WHERE bytes > 1048576 ORDER BY bytes DESC").rows
    assert tuple(rows[0]) == ("allocator_free", 180 * MIB, "told")
    assert len(sql.run(snapshot, "SELECT * FROM ledger_history").rows) == 2
    assert sql.run(query.Snapshot(read(written())), "SELECT * FROM ledger").rows == []


@pytest.mark.parametrize(("blocks_a_page", "regular"), [(0.05, 0.05), (0.5, 0.5), (0.99, 0.99), (3.0, 1.0)])
def test_trim_is_predicted_between_blocks_at_random_and_at_regular_distances(blocks_a_page, regular):
    """Of a heap of fifty regions, 200 MiB: so many pages hold something."""
    writer = written()
    writer.look(cs=1000, **told())
    by_chance = -math.expm1(-blocks_a_page)
    occupied = round(200 * MIB * by_chance)
    writer.pins(
        [], regions=50, sparse=50, live=19 * MIB, sparse_live=19 * MIB, occupied=occupied, sparse_occupied=occupied
    )
    found = of(writer)
    assert found.trim_gain == pytest.approx(min(180, 200 * (1 - (by_chance + regular) / 2)) * MIB, abs=1000)
    assert found.trim_error >= found.trim_gain // 5


def shown(capsys, *argv):
    """Run a verb and return its status and output."""
    status = cli.main(list(argv))
    out, err = capsys.readouterr()
    return status, out, err


def test_verb(capsys, tmp_path):
    writer = written()
    for cs in (1000, 2000):
        writer.look(cs=cs, **told())
    writer.pins(
        [(writer.first, 19 * MIB, 60 * MIB)],
        regions=50,
        sparse=49,
        live=19 * MIB,
        sparse_live=18 * MIB,
        occupied=60 * MIB,
    )
    path = tmp_path / "one.mlrec"
    path.write_bytes(writer.bytes())
    status, out, _ = shown(capsys, "ledger", str(path), "--no-symbols", "--history")
    assert status == 0
    assert "resident: 220.0 MiB, as recorded" in out
    assert "free, kept by the allocator" in out and "81.8 %" in out
    assert "verdict: retention, not leak" in out and "malloc_trim(0): 140.0 MiB" in out
    assert "who pins the heaps: 49 of 50 regions of 4.0 MiB" in out and "60.0 MiB pinned" in out
    assert "before the end" in out and "sampling:" in out
    status, out, _ = shown(capsys, "ledger", str(path), "--json", "--no-symbols")
    (found,) = json.loads(out)
    assert found["parts"]["allocator_free"]["bytes"] == 180 * MIB and found["verdict"]["kind"] == "retention"
    assert found["pins"]["rows"][0]["pinned_bytes"] == 60 * MIB and len(found["history"]) == 2


def test_verb_without_looks(capsys, tmp_path):
    path = tmp_path / "one.mlrec"
    path.write_bytes(written().bytes())
    status, out, err = shown(capsys, "ledger", str(path))
    assert (status, out) == (1, "") and err.count("\n") == 1 and "never noted what was resident" in err
    assert shown(capsys, "ledger", str(path), "-n", "-1")[0] == 2


def test_postmortem_says_it(capsys, tmp_path):
    """Whether what it held was a leak or kept by an allocator."""
    writer = written()
    writer.look(cs=1000, **told())
    path = tmp_path / "one.mlrec"
    path.write_bytes(writer.bytes())
    assert (
        "memory    retention, not leak: 180.0 MiB of 220.0 MiB"
        in shown(capsys, "postmortem", str(path), "--no-symbols")[1]
    )
    assert json.loads(shown(capsys, "postmortem", str(path), "--json")[1])["verdict"]["kind"] == "retention"


def test_directory(capsys, tmp_path):
    """Each recording by itself; those that do not tell are named below."""
    for number in range(3):
        writer = written(recording_id=number + 1, pid=4_000_000 + number)
        if number:
            writer.look(cs=1000, **told(anonymous_bytes=(211 + number) * MIB))
        (tmp_path / f"{4_000_000 + number}-100-000000000000000{number}.mlrec").write_bytes(writer.bytes())
    status, out, _ = shown(capsys, "ledger", str(tmp_path), "--no-symbols")
    assert status == 0 and out.count("verdict: retention") == 2
    assert out.count("note: ") == 1 and "never noted what was resident" in out
    assert len(json.loads(shown(capsys, "ledger", str(tmp_path), "--json", "--no-symbols")[1])) == 2


def test_heaps_that_were_asked_before():
    """What came since may be free memory of theirs, or anybody's: no verdict is made of it."""
    writer = written()
    writer.look(cs=5000, **told(anonymous_bytes=330 * MIB, heap_cs=4000))
    found = of(writer)
    assert found.part("unexplained").bytes == 0 and found.part("allocator_free").how == "remainder"
    assert found.verdict.kind == "unclear" and any(
        "asked what its heaps hold 10 s before" in note for note in found.notes
    )
    writer = written()
    writer.look(cs=5000, **told(anonymous_bytes=330 * MIB, heap_cs=4900))
    assert of(writer).part("unexplained").bytes > 100 * MIB


def test_number_of_another_process():
    """That of a process which has ended is not looked up: it may be anybody's now."""
    writer = written(pid=os.getpid())
    writer.look(cs=1000, **told())
    found = query.Snapshot(read(writer), alive=[False]).ledger(pid=os.getpid())
    assert not found.measured and found.rss_bytes == 220 * MIB
