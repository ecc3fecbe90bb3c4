"""Reading recordings: what stands in them comes back, and nothing hostile gets further than an error."""

import contextlib
import os
import random
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordingwriter import RecordingWriter, word

from memleak import layout, recording
from memleak.errors import NewerFormatError, RecordingError


def good():
    """A recording with something of everything."""
    writer = RecordingWriter(counters={"samples": 12, "lost": 2})
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    lib = writer.module("/usr/lib/libx.so.1", build_id=b"\x02" * 20)
    thread = writer.thread(4711, b"worker", samples=9)
    history = writer.history({(0, 15): (16 << 40) | 900, (0, 11): (12 << 40) | 800, (1, 2): (3 << 40) | 700})
    code = writer.code("/srv/app.py", "f", first_line=10, table=b"\x80\x05\xe1\0\0\xf8\xe8\x07\xf0\x42\1\0\1\1")
    module = writer.code("/srv/app.py", "<module>", kind=1, table=b"\x04\x01\xff\x7f" * 9)
    python = writer.python_stack([(code, 4), (code, 8, True), (module, 300, True), (0, 2, True)])
    first = writer.row(
        [(app, 0x10), (lib, 0x20, True)], samples=9, count=1000.5, bytes=64_000, history=history, python=python
    )
    second = writer.row([(lib, 0x30)], domain=2, truncated=True, peak=99)
    overflow = writer.row((), domain=1, flags=1, samples=1)
    for born in (100, 200, 5000):
        writer.live(first, size=64, weight=136, born_cs=born, thread=thread)
    writer.live(second, size=1 << 20, weight=4.4)
    writer.live(overflow, size=10, weight=136)
    return writer


GOOD = good().bytes()


def test_header():
    """Identity, clocks, knobs and counters are decoded."""
    header = recording.parse(GOOD).header
    assert (header.pid, header.command, header.host_name) == (4711, "app", "testhost")
    assert header.started_at == 1_700_000_000
    assert header.duration_s == 60
    assert header.mode == "normal"
    assert header.effective == (16, 256, 1)
    assert header.effective_sample_bytes == 4 << 20
    assert header.counters["samples"] == 12 and header.counters["lost"] == 2
    assert header.core_build_id == b"\xab" * 20
    assert header.state_name == "recording" and not header.ended
    header = recording.parse(RecordingWriter(python_requested=word(1, 9), python_effective=word(2, 8)).bytes()).header
    assert header.python_requested == (1, 9, 1) and header.python_effective == (2, 8, 1)


def test_modules_and_threads():
    """Numbers in frames and samples lead to modules and threads; unknown ones to nothing."""
    found = recording.parse(GOOD)
    assert [(m.id, m.path, m.is_main) for m in found.modules] == [
        (1, "/opt/app", True),
        (2, "/usr/lib/libx.so.1", False),
    ]
    assert found.module(2).build_id == "02" * 20
    assert found.module(0).path == found.module(77).path == ""
    assert found.thread(1)[:2] == (1, 4711) and found.thread(1).name == "worker"
    assert found.thread(0) is None and found.thread(2) is None


def test_rows_and_stacks():
    """A row has its stack, totals, domain and marks."""
    first, second, overflow = recording.parse(GOOD).rows
    assert first.stack == ((1, 0x10, False), (2, 0x20, True))
    assert (first.mod_name, second.mod_name) == ("glibc_malloc", "operator_new")
    assert (first.alloc_samples, first.alloc_count, first.alloc_bytes) == (9, 1000.5, 64_000)
    assert second.truncated and not first.truncated and second.peak_bytes == 99
    assert overflow.overflow and overflow.stack == ()


def test_live_sums():
    """Live samples are summed for each row, with weights."""
    found = recording.parse(GOOD)
    first = found.rows[0]
    assert len(found.live) == 5 and found.torn == 0 and found.incomplete == ()
    assert (first.live.samples, first.live.bytes) == (3, 192)
    assert first.live.est_count == 3 * 136
    assert first.live.est_bytes == 3 * 136 * 64
    assert first.live.variance_count == 3 * 136 * 135
    assert first.live.variance_bytes == 3 * 136 * 135 * 64 * 64
    assert first.live.square_bytes == 3 * (136 * 64) ** 2
    assert first.live.heaviest == (136, 64)
    assert found.row_of(found.live[3]) is found.rows[1]


def test_history_is_merged_from_its_levels():
    """Level 0 says the value when its 4 s ended, level 1 for 16 s; a running period ends now."""
    # Ticks count from 1: tick 11 ends at 11 x 400 cs, and so does period 2 of level 1, ticks 8..11: the finer level wins.
    # Tick 15 ends at 6000 (now).
    assert recording.parse(GOOD).rows[0].history == ((4400, 800), (6000, 900))
    writer = RecordingWriter(heartbeat_cs=40_000)
    ref = writer.history(
        {(0, 3): (100 << 40) | 5, (1, 8): (9 << 40) | 4, (2, 5): (6 << 40) | 3, (5, 0): (1 << 40) | 1}
    )
    writer.row((), history=ref)
    # Tick 99 ended at 39,600; level 1 period 8 with tick 35; level 2 period 5 with tick 95. That of level 5 holds the
    # latest tick, which is in it as it was when it began: level 0 knows better.
    assert recording.parse(writer.bytes()).rows[0].history == ((14_000, 4), (38_000, 3), (39_600, 5))


def test_history_has_the_period_that_runs():
    """The last change is in the tick that the process ended in."""
    writer = RecordingWriter(heartbeat_cs=1871)
    row = writer.history({(0, 1): 2 << 40 | 8, (0, 4): 5 << 40 | 32, (0, 5): 6 << 40 | 36, (1, 1): 2 << 40 | 32})
    writer.row((), history=row)
    assert recording.parse(writer.bytes()).rows[0].history == ((400, 8), (1600, 32), (1871, 36))


def test_history_of_a_young_row_is_its_present_value():
    """A row seen in one unit only has one point."""
    writer = RecordingWriter()
    writer.row((), bytes=500, freed_bytes=200, last_cs=77)
    assert recording.parse(writer.bytes()).rows[0].history == ((77, 300),)


def test_duplicate_rows_are_added_up():
    """Two rows of one key and stack become one."""
    writer = RecordingWriter()
    app = writer.module("/opt/app")
    refs = [writer.row([(app, 1)], key=5 << 40, samples=2, bytes=100, peak=60, first_cs=c) for c in (9, 3)]
    for ref in refs:
        writer.live(ref, size=10, weight=2)
    found = recording.parse(writer.bytes())
    (row,) = found.rows
    assert (row.alloc_samples, row.alloc_bytes, row.peak_bytes, row.first_cs) == (4, 200, 120, 3)
    assert row.live.samples == 2 and row.live.est_bytes == 40
    assert all(found.row_of(sample) is row for sample in found.live)


def test_row_not_yet_in_the_index_is_found_through_its_samples():
    """A row that was published after the index was copied is decoded all the same."""
    writer = RecordingWriter()
    app = writer.module("/opt/app")
    writer.live(writer.row([(app, 7)], indexed=False), size=5)
    assert recording.parse(writer.bytes()).rows[0].stack == ((1, 7, False),)


def test_samples_of_rows_that_are_not_there_get_a_named_row():
    """Nothing live is left out of the sums: there is a row for what leads nowhere."""
    writer = RecordingWriter()
    writer.live(0xFFFFFFF0, size=100, weight=3)
    writer.live(writer.stack([(1, 2)]), size=100, weight=3)
    found = recording.parse(writer.bytes())
    (row,) = found.rows
    assert row.missing and row.live.samples == 2 and row.alloc_bytes == 600
    assert len(found.incomplete) == 2


@pytest.mark.parametrize("change", [{"check": 1}, {"weight": 0.5}], ids=["check", "weight below 1"])
def test_torn_entries_are_left_out_and_counted(change):
    """An entry whose check is wrong was being changed; it takes no part."""
    writer = RecordingWriter()
    ref = writer.row(())
    writer.live(ref, size=100, **{"weight": 2, **change})
    writer.live(ref, size=100, live=False)
    found = recording.parse(writer.bytes())
    assert (found.live, found.torn) == ((), 1)


def test_overflow_row_is_shown_only_when_used():
    """It is there from the beginning, and empty in most recordings."""
    writer = RecordingWriter()
    writer.row((), flags=1)
    assert recording.parse(writer.bytes()).rows == ()
    writer.live(writer.overflow_row, size=3)
    assert recording.parse(writer.bytes()).rows[0].overflow


def test_unknown_segments_and_records_are_skipped():
    """What a later version adds beside the known tables does not disturb."""
    writer = good()
    writer.extra_segments.append((99, 7, 0, b"x" * 100))
    writer.record(77, b"y" * 33)
    assert len(recording.parse(writer.bytes()).rows) == 3


def test_names_cannot_carry_terminal_escapes():
    """Control characters in names of processes, hosts and threads are replaced."""
    writer = RecordingWriter(command=b"a\x1b[31m", host=b"h\xff\n")
    writer.thread(1, b"\x07t")
    found = recording.parse(writer.bytes())
    assert (found.header.command, found.header.host_name) == ("a?[31m", "h\ufffd?")
    assert found.threads[0].name == "?t"


def test_path_that_is_not_utf8_survives():
    """A module's path is what the file system calls it."""
    writer = RecordingWriter()
    writer.module(b"/opt/\xff", main=True)
    assert os.fsencode(recording.parse(writer.bytes()).modules[0].path) == b"/opt/\xff"


# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a recording: 0 bytes"),
        (GOOD[:4095], "not a recording: 4095 bytes"),
        (b"\x7fELF" + bytes(5000), "does not begin with MMLEAK01"),
        (bytes(8) + GOOD[8:], "never completed"),
        (GOOD[:8] + struct.pack("<I", 0) + GOOD[12:], "format 0"),
    ],
)
def test_refused(tmp_path, content, words):
    """What is not a recording is refused by name."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=words) as caught:
        recording.load(path)
    assert str(path) in str(caught.value)


def test_newer_format_is_refused_with_the_remedy():
    """A later format says which one, and what to do."""
    with pytest.raises(NewerFormatError, match="format 2, this memleak reads up to 1: upgrade"):
        recording.parse(RecordingWriter(version=2).bytes())


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_not_a_regular_file(tmp_path, kind):
    """Nothing but a regular file is opened, and a fifo does not block."""
    path = tmp_path / "it"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(RecordingError, match="it: "):
        recording.load(path)


def test_origin_names_the_recording():
    """Messages use the name that the caller gives."""
    with pytest.raises(RecordingError, match="^pid 12: "):
        recording.parse(b"", "pid 12")


@pytest.mark.parametrize("length", [4096, 5000, 8192, 9000, 1 << 20, (1 << 20) + 300, len(GOOD) - 40, len(GOOD) - 2400])
def test_truncated_file_is_read_as_far_as_it_goes(length):
    """Each cut is said, and what is whole is there."""
    found = recording.parse(GOOD[:length])
    assert f"the file ends after {length} of {len(GOOD)} bytes" in found.incomplete
    assert found.header.pid == 4711


def test_truncation_is_counted():
    """A cut through the records says how many rows are gone."""
    found = recording.parse(GOOD[: 1 << 20])
    assert "2 rows beyond the end of the file" in found.incomplete or any(
        "rows beyond the end of the file" in why for why in found.incomplete
    )
    assert found.rows == ()


def directory_entry(kind, offset, length, capacity, record_bytes=0):
    return struct.pack("<IHHQQII", kind, 1, 0, offset, length, capacity, record_bytes)


@pytest.mark.parametrize(
    "entry",
    [
        directory_entry(4, 8192, 64, 1 << 31),
        directory_entry(3, 0, 4096, 10),
        directory_entry(1, 8192, 2**63, 3),
        directory_entry(1, 8192, 1280, 10, 4096),
        directory_entry(5, 8193, 2**64 - 1, 1),
    ],
    ids=["more than its length", "in the header", "overlapping", "wide records", "not aligned"],
)
def test_impossible_segments(entry):
    """A directory that cannot be is refused."""
    raw = bytearray(GOOD)
    raw[4096 + 5 * 32 : 4096 + 6 * 32] = entry
    with pytest.raises(RecordingError, match="damaged"):
        recording.parse(bytes(raw))


def test_overlapping_records_are_refused():
    """References into the middle of large records would make the work quadratic."""
    writer = RecordingWriter(index_capacity=4096)
    frames = [(1, 0x1234)] * 4000
    stack = writer.stack(frames)
    # Every 16 bytes inside a stack, a frame pair that looks like the header of another stack.
    fake = struct.pack("<IHHQ", 24 + 8 * 4000, 1, 1, 0) + struct.pack("<HHI", 4000, 0, 0)
    writer.arena += (fake + bytes(8)) * 1000 + bytes(40_000)
    base = (writer.arena_offset + len(writer.arena) - 40_000 - 32_000) // 16
    for number in range(1000):
        writer.row((), stack_ref=base + 2 * number)
    assert stack
    with pytest.raises(RecordingError, match="records overlap"):
        recording.parse(writer.bytes())


def shared_stack(rows, frames):
    """Rows that differ in a line of Python, all with one native stack."""
    writer = RecordingWriter(index_capacity=2 * rows)
    stack = writer.stack([(writer.module("/opt/app"), number) for number in range(frames)])
    code = writer.code("/srv/app.py", "f", kind=1, table=b"\x02\x01" * rows)
    for number in range(rows):
        writer.live(writer.row((), stack_ref=stack, python=writer.python_stack([(code, 2 * number)])), size=64)
    return writer.bytes()


def test_one_stack_of_many_rows():
    """As deep as they are written it is read; 4 million frames in a file of 1.2 MB took queries 17 s and 600 MB."""
    assert len(recording.parse(shared_stack(3000, 64)).rows) == 3000
    with pytest.raises(RecordingError, match="more frames"):
        recording.parse(shared_stack(1000, 4000))


@settings(max_examples=150, deadline=2000)
@given(st.data())
def test_random_damage_is_refused_or_read(data):
    """Whatever bytes are changed: an answer or a RecordingError, soon."""
    raw = bytearray(GOOD)
    interesting = [(0, 1100), (4096, 4300), (8192, 9300), (1 << 20, len(GOOD))]
    for _ in range(data.draw(st.integers(1, 8))):
        low, high = data.draw(st.sampled_from(interesting))
        at = data.draw(st.integers(low, high - 8))
        value = data.draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, bytes(8), b"\xff" * 4]))
        )
        raw[at : at + len(value)] = value
    length = data.draw(st.one_of(st.just(len(GOOD)), st.integers(0, len(GOOD))))
    try:
        found = recording.parse(bytes(raw[:length]), "x")
    except RecordingError:
        return
    for sample in found.live:
        assert found.row_of(sample) in found.rows
    from memleak.query import Snapshot

    snapshot = Snapshot(found)
    snapshot.top(5, group_by="module")
    snapshot.top(5, group_by="python_line")
    snapshot.footer()
    snapshot.sql("SELECT * FROM malloc_sample_info")
    snapshot.sql("SELECT * FROM frames")
    snapshot.diff(snapshot)


@settings(max_examples=60, deadline=2000)
@given(st.binary(max_size=9000))
def test_random_bytes_are_refused(content):
    """Any bytes after a right beginning are refused or read."""
    with contextlib.suppress(RecordingError):
        recording.parse(GOOD[:12] + content)


# ---- live files --------------------------------------------------------------------------------------


def test_load_reads_only_the_room_that_is_used(tmp_path):
    """The address space of a file is larger than what is in use; it is not copied."""
    path = tmp_path / "a.mlrec"
    path.write_bytes(GOOD)
    os.truncate(path, 32 << 20)
    found = recording.load(path)
    assert len(found.raw) == len(GOOD) and found.incomplete == ()
    assert found.origin == str(path)
    assert recording.load_header(path) == found.header


@pytest.mark.parametrize("gap", [0, 1 << 19])
def test_plain_copy_holds_what_came_after_its_header(tmp_path, gap):
    """`cp` copies the header first: records that were added while it went on lie beyond the room the header says."""
    path = tmp_path / "a.mlrec"
    at = layout.HEADER.offsets["room_used"]
    used = struct.pack("<Q", (1 << 20) - gap)  # the records of GOOD begin at 1 MiB, after half a MiB of nothing
    path.write_bytes(GOOD[:at] + used + GOOD[at + 8 :])
    os.truncate(path, 32 << 20)
    found, whole = recording.load(path), recording.parse(GOOD)
    assert (found.rows, found.live, found.incomplete) == (whole.rows, whole.live, ())
    assert len(found.raw) < len(GOOD) + (1 << 20)


def test_symbolic_links_are_followed(tmp_path):
    """A path the user gives may be a link."""
    (tmp_path / "real").write_bytes(GOOD)
    (tmp_path / "link").symlink_to("real")
    assert recording.load(tmp_path / "link").header.pid == 4711


def test_file_above_the_limit_is_refused(tmp_path):
    """A sparse giant is not read."""
    path = tmp_path / "huge"
    path.write_bytes(GOOD)
    os.truncate(path, (4 << 30) + 1)
    with pytest.raises(RecordingError, match="more than"):
        recording.load(path)


def test_full_mode_weights_have_no_variance():
    """Weight 1 adds nothing to the error."""
    writer = RecordingWriter(initial=word(1, 1))
    writer.live(writer.row(()), size=100, weight=1)
    live = recording.parse(writer.bytes()).rows[0].live
    assert live.variance_bytes == live.variance_count == 0 and live.est_bytes == 100


def test_a_hundred_thousand_live_samples_are_read_soon():
    """Linear and quick: 100,000 samples in 2,000 rows within 3 s on a busy machine (0.4 s on an idle one)."""
    writer = RecordingWriter(index_capacity=4096)
    rng = random.Random(1)
    app = writer.module("/opt/app")
    rows = [writer.row([(app, number)] * 20) for number in range(2000)]
    for _ in range(100_000):
        writer.live(rng.choice(rows), size=64, weight=136)
    raw = writer.bytes()
    began = time.process_time()
    found = recording.parse(raw)
    assert len(found.live) == 100_000
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("governor", "cost_ns", "words"),
    [
        ((0, 0, 0, 0, 0), 7500, "no budget"),  # of an early core: by the number of samples
        ((9000, 0, 0, 1024, 0), 9000, "no budget"),
        ((9000, 10_000, 0, 1024, 1), 9000, "budget 1 %: intervals as requested"),
        ((9000, 2500, 5, 12_300, 2), 9000, "budget 0.25 %: intervals 12 x wider than requested"),
        ((9000, 10_000, 5, 1536, 2), 9000, "budget 1 %: intervals 1.5 x wider than requested"),
        ((9000, 10_000, 9, 39_996, 3), 9000, "budget 1 %: intervals at their widest, and the cost above it"),
        ((9000, 10_000, 0, 1024, 0), 9000, "budget 1 %: nothing to widen"),
        ((2**64 - 1, 2**64 - 1, 0, 2**32 - 1, 99), 2**64 - 1, None),  # a hostile one
    ],
)
def test_governor(governor, cost_ns, words):
    """What samples have cost, and what bounds that, of whichever core."""
    header = recording.parse(RecordingWriter(governor=governor, counters={"samples": 5}).bytes()).header
    assert header.cost_ns == cost_ns
    assert words is None or str(header.governor) == words
