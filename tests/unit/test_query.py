"""Snapshots: rows, sorting, filters, groups, merging, differences, saving, the footer."""

import os
import time
from types import SimpleNamespace

import pytest
from recordingwriter import RecordingWriter, word

from memleak import errors, query, recording
from memleak.query import Row, Snapshot


def two_stacks(*, app_path="/opt/app", slide=0, more=0, **header):
    """A recording of two stacks; *more* extra samples of the first."""
    writer = RecordingWriter(**header)
    if slide:
        writer.module("/opt/other", build_id=b"\x09" * 20)  # numbers of modules differ between processes
    app = writer.module(app_path, build_id=b"\x01" * 20, main=True)
    lib = writer.module("/usr/lib/lib x.so", build_id=b"\x02" * 20)
    thread = writer.thread(7, b"io")
    first = writer.row([(lib, 0x20), (app, 0x10)], samples=9, count=1224, bytes=78336, peak=80_000, first_cs=50)
    second = writer.row([(app, 0x44)], domain=2, last_cs=5500)
    for _ in range(3 + more):
        writer.live(first, size=64, weight=136, born_cs=1000, thread=thread)
    writer.live(second, size=1 << 20, weight=4.4, born_cs=3000)
    return writer


def snapshot_of(*writers, **options):
    return Snapshot([recording.parse(w.bytes(), f"r{i}") for i, w in enumerate(writers)], **options)


class FakeSymbolizer:
    """Names every place; the library's has one inlined function."""

    def __init__(self):
        self.asked = []

    def frames(self, path, build_id, vaddr, exact):
        self.asked.append((path, build_id, vaddr, exact))
        if vaddr == 0x44:
            return []
        names = ["inner", "outer"] if "lib" in path else ["main"]
        return [SimpleNamespace(function=n, file="f.c", line=3, inlined=n == "inner") for n in names]


def test_columns_in_order():
    """OceanBase's nine first, then ours."""
    assert Row.columns()[:9] == tuple(
        "svr_ip svr_port tenant_id ctx_id mod_name back_trace ctx_name alloc_count alloc_bytes".split()
    )
    assert Row.columns()[9:14] == ("est_count", "est_bytes", "est_bytes_se", "est_bytes_low", "est_bytes_high")
    row = snapshot_of(two_stacks()).rows()[0]
    assert len(row.values()) == len(Row.columns())


def test_row():
    """Every column of a row whose numbers are known."""
    row = snapshot_of(two_stacks()).top(1, by="alloc_count")[0]
    assert row.svr_ip == row.host == "testhost" and row.svr_port == row.pid == 4711
    assert (row.tenant_id, row.ctx_id, row.ctx_name, row.mod_name) == (500, 22, "GLIBC", "glibc_malloc")
    assert row.back_trace == "lib?x.so+0x20 0x10" + " 0x0" * 14
    assert (row.alloc_count, row.alloc_bytes, row.samples) == (3, 192, 3)
    assert (row.est_count, row.est_bytes) == (408, 26112)
    assert row.est_bytes_se == round((3 * 136 * 135 * 64 * 64) ** 0.5)
    assert 192 <= row.est_bytes_low < row.est_bytes < row.est_bytes_high
    assert (row.total_count, row.total_bytes, row.peak_bytes) == (1224, 78336, 80_000)
    assert (row.first_seen, row.last_seen) == (1_700_000_000.5, 1_700_000_050)
    assert row.age_p50 == 50
    assert row.exact is False and row.native_trace is None and row.process == "app"


def test_deep_stacks_are_not_cut():
    """More than 16 frames make more than 16 tokens."""
    writer = RecordingWriter()
    app = writer.module("/opt/app", main=True)
    writer.row([(app, 1 + number) for number in range(40)])
    assert len(snapshot_of(writer).rows()[0].back_trace.split(" ")) == 40


def test_sorting():
    """By any numeric column, the greatest first, rows without a value last."""
    snapshot = snapshot_of(two_stacks())
    assert [row.mod_name for row in snapshot.top()] == ["operator_new", "glibc_malloc"]
    assert [row.mod_name for row in snapshot.top(by="alloc_count")] == ["glibc_malloc", "operator_new"]
    assert [row.mod_name for row in snapshot.top(by="last_seen")] == ["operator_new", "glibc_malloc"]
    assert len(snapshot.top(1)) == 1 and snapshot.top(0) == [] and len(snapshot.top(None)) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"by": "nope"}, "does not exist"),
        ({"by": "mod_name"}, "not numeric"),
        ({"group_by": "color"}, "groupings are"),
        ({"group_by": "function"}, "needs a symbolizer"),
        ({"where": {"nope": 1}}, "columns are"),
        ({"n": -1}, "n must be"),
        ({"n": True}, "n must be"),
    ],
)
def test_bad_questions(arguments, words):
    """A QueryError that names what there is."""
    with pytest.raises(errors.QueryError, match=words):
        snapshot_of(two_stacks()).top(**arguments)


def test_where():
    """Equal values, conditions, or a condition on the row."""
    snapshot = snapshot_of(two_stacks())
    assert [r.ctx_name for r in snapshot.top(where={"mod_name": "operator_new"})] == ["OPERATOR_NEW"]
    assert [r.samples for r in snapshot.top(where={"samples": lambda n: n > 1, "pid": 4711})] == [3]
    assert [r.samples for r in snapshot.top(where=lambda row: row.samples == 1)] == [1]


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("stack", [(None, 1), (None, 3)]),
        ("mod_name", [("operator_new", 1), ("glibc_malloc", 3)]),
        ("module", [("app", 1), ("lib?x.so", 3)]),
        ("thread", [("(unknown thread)", 1), ("io (7)", 3)]),
        ("function", [("0x44", 1), ("inner", 3)]),
        ("file", [("??", 1), ("f.c", 3)]),
    ],
)
def test_groups(group_by, expected):
    """The group's name, and the samples in it."""
    rows = snapshot_of(two_stacks(), symbolizer=FakeSymbolizer()).top(group_by=group_by)
    assert [(row.group, row.samples) for row in rows] == expected


def test_group_adds_up():
    """What is grouped keeps its sums; a thread has no totals."""
    writer = RecordingWriter()
    app = writer.module("/opt/app", main=True)
    for vaddr in (1, 2):
        writer.live(writer.row([(app, vaddr)], count=10, bytes=100, peak=50), size=10, weight=2)
    (row,) = snapshot_of(writer).top(group_by="module")
    assert (row.est_bytes, row.total_count, row.total_bytes, row.peak_bytes) == (40, 20, 200, 100)
    assert row.est_bytes_se == round((2 * 2 * 1 * 100) ** 0.5) and row.back_trace == ""
    (row,) = snapshot_of(writer).top(group_by="thread")
    assert row.est_bytes == 40 and row.total_bytes is None and row.first_seen is None and row.age_p50 == 50


def test_native_trace():
    """Names, innermost first, with inlined functions; the token where there is no name."""
    symbolizer = FakeSymbolizer()
    rows = snapshot_of(two_stacks(), symbolizer=symbolizer).rows()
    assert [row.native_trace for row in rows] == ["0x44", "inner (f.c:3) < outer (f.c:3) < main (f.c:3)"]
    assert ("/usr/lib/lib x.so", "02" * 20, 0x20, False) in symbolizer.asked
    assert rows[1].trace == ("inner at f.c:3", " (inlined by) outer at f.c:3", "main at f.c:3")
    assert rows[0].trace == ("app+0x44",)


def test_trace_without_a_symbolizer_is_places():
    """What can be looked up elsewhere."""
    assert [row.trace for row in snapshot_of(two_stacks()).rows()][0] == ("app+0x44",)


def test_operator_new_is_cut_off_by_name():
    """A program with its own copy has it in no dynamic symbol table, so the core could not tell."""

    class Plumbing(FakeSymbolizer):
        def frames(self, path, build_id, vaddr, exact):
            if "lib" not in path:
                return super().frames(path, build_id, vaddr, exact)
            return [SimpleNamespace(function="operator new(unsigned long)", file=None, line=None, inlined=False)]

    (_, row) = snapshot_of(two_stacks(), symbolizer=Plumbing()).rows()
    assert row.trace == ("main at f.c:3",) and row.native_trace == "main (f.c:3)"


def test_recordings_merge_by_build_and_place():
    """Two processes of one program are one row for each stack, although their modules are numbered differently."""
    merged = snapshot_of(two_stacks(), two_stacks(pid=4712, slide=1, command=b"app2"))
    top = merged.top(by="alloc_count")
    assert [row.samples for row in top] == [6, 2]
    assert top[0].pid is None and top[0].svr_port is None and top[0].process == "app, app2"
    assert top[0].host == "testhost" and top[0].total_bytes == 2 * 78336
    assert len(merged.recordings) == 2 and merged.footer()["recordings"] == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_merged_stack_has_the_names_that_any_recording_knows(order):
    """A recording that had no room for a path still has the build id."""
    writers = []
    for path in ("", "/usr/lib/libdeep.so"):
        writer = RecordingWriter()
        frames = [(writer.module(path, build_id=b"\x07" * 20), 0x44), (writer.module("/opt/app", main=True), 0x55)]
        writer.live(writer.row(frames), size=1)
        writers.append(writer)
    (row,) = snapshot_of(*[writers[number] for number in order]).rows()
    assert row.back_trace.split()[:2] == ["libdeep.so+0x44", "0x55"]
    assert row.samples == 2


def test_other_build_is_another_row():
    """The same address of another build is another place."""
    other = RecordingWriter()
    other.row([(other.module("/opt/app", build_id=b"\x07" * 20, main=True), 0x44)], domain=2)
    assert len(snapshot_of(two_stacks(), other).rows()) == 3


def test_overflow_row():
    """What found no room has a row that says so."""
    writer = RecordingWriter()
    writer.live(writer.row((), flags=1), size=5)
    (row,) = snapshot_of(writer).rows()
    assert row.back_trace == "" and row.process == "app (overflow: no room)"


def test_missing_row():
    """Samples whose row is not in the copy are shown under a name."""
    writer = RecordingWriter()
    writer.live(0x0FFFFFFF, size=5)
    (row,) = snapshot_of(writer).rows()
    assert row.mod_name == "(row not in this copy)" and row.alloc_bytes == 5


FULL = word(1, 1)


def test_exact():
    """Full from the beginning, nothing lost, nothing missing."""
    snapshot = snapshot_of(two_stacks(initial=FULL))
    assert snapshot.exact_reasons() == [] and all(row.exact for row in snapshot.rows())


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({}, "did not begin in full mode"),
        ({"initial": FULL, "effective": word(1, 1, 2)}, "knobs were changed"),
        ({"initial": FULL, "effective": word(16, 256, 2)}, "knobs were changed"),
        ({"initial": FULL, "counters": {"lost": 3}}, "lost: 3"),
        ({"initial": FULL, "counters": {"live_full": 1}}, "live_full: 1"),
    ],
)
def test_not_exact(header, words):
    """Each reason is named."""
    snapshot = snapshot_of(two_stacks(**header))
    assert any(words in reason for reason in snapshot.exact_reasons())
    assert not any(row.exact for row in snapshot.rows())


def test_harmless_counters_keep_exact():
    """A cut backtrace takes nothing from the numbers."""
    assert snapshot_of(two_stacks(initial=FULL, counters={"truncated": 9})).exact_reasons() == []


def test_narrow_gaps_have_no_error():
    """Columns of the error are None when gaps were narrow, now or at first."""
    for header in ({"initial": word(16, 64)}, {"effective": word(100, 100, 2)}):
        row = snapshot_of(two_stacks(**header)).rows()[0]
        assert row.est_bytes > 0
        assert row.est_bytes_se is row.est_bytes_low is row.est_bytes_high is None
    assert snapshot_of(two_stacks(effective=word(10_000, 10_000, 2))).rows()[0].est_bytes_se is not None


PYTHON = {"python_state": 1, "python_version": 0x030D0000}


def python_rows(**header):
    """A row of malloc's domain, and one of each of Python's two."""
    writer = RecordingWriter(**{**PYTHON, **header})
    for domain in (1, 3, 4):
        writer.live(writer.row((), key=(domain << 20) | 7, domain=domain), size=50, weight=20)
    return writer


def test_narrow_gaps_of_python():
    """They take the error from rows of Python's domains, and from those only; the others' take it from all."""

    def without_error(**header):
        return {row.mod_name for row in snapshot_of(python_rows(**header)).rows() if row.est_bytes_se is None}

    assert without_error() == set()
    assert without_error(python_effective=word(100, 200)) == {"pymalloc_obj", "pymalloc_mem"}
    assert without_error(python_effective=word(10_000, 10_000)) == set()
    assert without_error(initial=word(100, 200)) == {"glibc_malloc", "pymalloc_obj", "pymalloc_mem"}
    assert without_error(python_effective=word(100, 200), python_state=5) == set()
    mixed = snapshot_of(python_rows(python_effective=word(100, 200))).top(group_by="module")
    assert [row.est_bytes_se for row in mixed] == [None]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"python_effective": FULL}, None),
        ({}, "Python's small objects: they are not recorded in full mode"),
        ({"python_effective": word(1, 2)}, "Python's small objects: they are not recorded in full mode"),
        ({"python_effective": word(1, 1, 2)}, "Python's small objects: their knobs were changed after recording began"),
        ({"python_state": 0, "python_version": 0}, None),
        ({"python_state": 3}, None),
        ({"python_state": 5}, None),
        ({"python_effective": 0}, None),
    ],
)
def test_exact_with_python(header, reason):
    """Both pairs, where Python's small objects are sampled at all."""
    snapshot = snapshot_of(python_rows(initial=FULL, **header))
    assert snapshot.exact_reasons() == ([reason] if reason else [])
    assert {row.exact for row in snapshot.rows()} == {reason is None}


def test_python_row_without_live_samples():
    """Small objects are not sampled by bytes: those bound nothing."""
    for header, high in (
        ({}, None),
        ({"initial": FULL}, None),
        ({"initial": FULL, "python_effective": FULL}, 0),
        ({"python_state": 5}, 12_569_000),
    ):
        writer = RecordingWriter(**{**PYTHON, **header})
        writer.row((), domain=3)
        (row,) = snapshot_of(writer).rows()
        assert row.est_bytes_high == (None if high is None else pytest.approx(high, rel=0.01)), header


def test_row_without_live_samples():
    """Nothing left: 0, and what could have been missed when the knobs are known."""
    writer = RecordingWriter()
    writer.row(())
    row = snapshot_of(writer).rows()[0]
    assert (row.est_bytes, row.est_bytes_se, row.est_bytes_low) == (0, None, 0)
    assert row.est_bytes_high == pytest.approx(3 * (4 << 20), rel=0.01)
    writer.header["effective"] = word(16, 512, 2)
    assert snapshot_of(writer).rows()[0].est_bytes_high is None


def test_diff():
    """Growth first; stacks of one side only are there too."""
    older, newer = two_stacks(), two_stacks(slide=1, more=5)
    newer.live(newer.row([(2, 0x99)]), size=10, weight=1)
    changes = snapshot_of(newer).diff(snapshot_of(older))
    assert [change.diff_est_bytes for change in changes] == [5 * 136 * 64, 10, 0]
    assert changes[0].diff_est_bytes_low < changes[0].diff_est_bytes < changes[0].diff_est_bytes_high
    assert (changes[0].samples, changes[0].older_samples) == (8, 3)
    assert changes[1].older_est_bytes == 0 and changes[1].diff_est_bytes_se == 0
    assert len(changes[0].values()) == len(changes[0].columns())
    gone = snapshot_of(older).diff(snapshot_of(newer))
    assert [change.diff_est_bytes for change in gone] == [0, -10, -5 * 136 * 64]


def test_footer():
    """Intervals, samples, losses, coverage and cost."""
    footer = snapshot_of(two_stacks(counters={"samples": 4000, "lost": 2, "truncated": 1, "forgotten": 9})).footer()
    assert footer["sampling"][0]["min_sample_interval"] == 16 and footer["sampling"][0]["mode"] == "normal"
    assert (footer["samples"], footer["live_samples"], footer["rows"]) == (4000, 4, 2)
    assert footer["dropped"] == {"lost": 2} and footer["counters"] == {"truncated": 1}
    assert footer["coverage"] == "4 live samples, all with complete backtraces"
    assert footer["cost"]["cpu_ns"] == 4000 * 1500
    assert footer["cost"]["share"] == pytest.approx(4000 * 1.5e-6 / 60)
    assert footer["exact"] is False and footer["incomplete"] == []


def test_footer_tells_pythons_sampling():
    """Where its small objects are sampled; else None."""
    (law,) = snapshot_of(RecordingWriter()).footer()["sampling"]
    assert law["python_min_sample_interval"] is law["python_max_sample_interval"] is law["python_requested"] is None
    footer = snapshot_of(RecordingWriter(**PYTHON), RecordingWriter(pid=2, **PYTHON, python_requested=FULL)).footer()
    laws = [(law["python_min_sample_interval"], law["python_requested"]) for law in footer["sampling"]]
    assert laws == [(256, (256, 4096)), (256, (1, 1))]


def test_coverage_begins_with_the_objects_out_of_reach():
    """Which objects are not seen, in words and by name; that alone makes no hooked call less exact."""
    writer = RecordingWriter(initial=word(1, 1))
    app = writer.module("/opt/app", main=True, coverage=1)
    other = writer.module("/usr/lib/libjemalloc.so.2", coverage=3, vaddr_high=4096)
    writer.module("/opt/libdeep.so", coverage=4, slots=(0, 5), holder=other, vaddr_high=8192)
    writer.live(writer.row([(app, 1)]), size=1)
    footer = snapshot_of(writer, writer).footer()
    assert footer["coverage"] == (
        "2 of 6 allocating objects in 2 recordings; out of reach: libdeep.so (8.0 KiB, RTLD_DEEPBIND),"
        " libjemalloc.so.2 (4.0 KiB, own allocator); 2 live samples, all with complete backtraces"
    )
    assert footer["exact"] is True
    footer = snapshot_of(writer).footer()
    assert footer["coverage"].startswith("1 of 3 allocating objects; ")
    assert footer["out_of_reach"][0] == {
        "path": "/opt/libdeep.so", "reason": "other_allocator", "holder": "/usr/lib/libjemalloc.so.2",
        "slots_here": 0, "slots_elsewhere": 5, "mapped_bytes": 8192, "defines": (),
    }  # fmt: skip


def test_coverage_says_what_is_cut():
    """Cut and unknown stacks are counted."""
    writer = RecordingWriter()
    app = writer.module("/opt/app", main=True)
    writer.live(writer.row([(app, 1)], truncated=True), size=1)
    writer.live(writer.row([(0, 0)]), size=1)
    writer.live(writer.row((), flags=1), size=1)
    assert snapshot_of(writer).footer()["coverage"] == (
        "3 live samples, 1 without a backtrace, 1 with a backtrace that was cut, 1 through code in no known module"
    )


def test_open_file_and_directory(tmp_path):
    """A file is one recording; a directory is all of them, merged, with those that cannot be read named."""
    (tmp_path / "1-1-a.mlrec").write_bytes(two_stacks().bytes())
    (tmp_path / "renamed").write_bytes(two_stacks(pid=2).bytes())
    (tmp_path / "notes.txt").write_text("no recording")
    assert len(query.open(tmp_path / "1-1-a.mlrec").recordings) == 1
    assert len(query.open(tmp_path).recordings) == 2
    (tmp_path / "bad.mlrec").write_bytes(b"x")
    snapshot = query.open(str(tmp_path))
    assert len(snapshot.recordings) == 2 and "bad.mlrec" in snapshot.problems[0]
    with pytest.raises(errors.RecordingError, match="bad.mlrec"):
        query.open(tmp_path / "bad.mlrec")


def test_save(tmp_path):
    """A copy answers as the original; it is private, and nothing is replaced unasked."""
    snapshot = snapshot_of(two_stacks())
    path = tmp_path / "copy.mlrec"
    assert snapshot.save(path) == [path]
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert query.open(path).rows() == snapshot.rows()
    with pytest.raises(errors.TargetError, match="exists already"):
        snapshot.save(path)
    assert snapshot.save(path, force=True) == [path]
    assert os.listdir(tmp_path) == ["copy.mlrec"]
    with pytest.raises(errors.TargetError, match="cannot be written"):
        snapshot.save(tmp_path / "no" / "such")


def test_save_several(tmp_path):
    """Several recordings become a directory, which opens as the same snapshot."""
    snapshot = snapshot_of(two_stacks(), two_stacks(pid=4712))
    saved = snapshot.save(tmp_path / "all")
    assert len(saved) == 2 and all(path.parent == tmp_path / "all" for path in saved)
    assert [row.est_bytes for row in query.open(tmp_path / "all").rows()] == [r.est_bytes for r in snapshot.rows()]


def test_with_symbolizer_and_empty():
    """The same recordings under another symbolizer; no recordings are refused."""
    assert snapshot_of(two_stacks()).with_symbolizer(FakeSymbolizer()).rows()[0].native_trace == "0x44"
    with pytest.raises(ValueError):
        Snapshot([])


def test_ages_of_a_running_process_are_those_when_it_was_read(tmp_path):
    """What came while its bytes were decoded is not in them; nor do ages change when a snapshot gets another symbolizer."""
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - 1000 * 10**9
    path = tmp_path / "running.mlrec"
    path.write_bytes(RecordingWriter(start_monotonic_ns=began, heartbeat_cs=100).bytes())
    found = recording.load(path)
    read_cs = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - began) // 10**7
    time.sleep(0.1)
    snapshot = query.Snapshot(found, alive=[True])
    assert 100_000 <= snapshot.sources[0].now_cs <= read_cs
    time.sleep(0.1)
    assert snapshot.with_symbolizer(None).sources[0].now_cs == snapshot.sources[0].now_cs
