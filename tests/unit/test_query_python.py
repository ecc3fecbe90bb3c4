"""Answers about Python programs: the columns, the sides of a stack, groups, merging, differences, SQL."""

from types import SimpleNamespace

import pytest
from recordingwriter import RecordingWriter

from memleak import errors, recording
from memleak.query import Snapshot
from memleak.rows import COLUMNS
from memleak.shown import LOST_PYTHON, UNPLACED

LOOP = "_PyEval_EvalFrameDefault"
NAMES = {0x10: "list_resize", 0x20: LOOP, 0x30: "list_sort", 0x40: LOOP, 0x50: "main"}
LINES = bytes([4, 1, 4, 1, 4, 1])  # 3.10: from line 11 on, 4 bytes a line


class Names:
    """Names the places of the interpreter."""

    def frames(self, path, build_id, vaddr, exact):
        return [SimpleNamespace(function=NAMES[vaddr], file=None, line=None, inlined=False)]


def traced(*, slide=0, **header):
    """A process of CPython 3.10: two rows of one native stack that differ in their Python stacks; one without."""
    writer = RecordingWriter(command=b"python3", python_version=0x030A0DF0, python_state=1, **header)
    for number in range(slide):  # refs and numbers of modules differ between processes
        writer.module(f"/opt/other{number}", build_id=bytes([9 + number]) * 20)
        writer.code("/srv/other.py", f"g{number}")
    python = writer.module("/usr/bin/python3.10", build_id=b"\x01" * 20, main=True)
    native = [(python, vaddr) for vaddr in NAMES]
    codes = [writer.code("/srv/app.py", name, first_line=10, kind=2, table=LINES) for name in ("key", "load", "main")]
    thread = writer.thread(7, b"io")
    for outer, samples in ((4, 3), (8, 2)):
        ref = writer.row(native, python=writer.python_stack([(codes[0], 0), (codes[1], outer)]), bytes=1000)
        for _ in range(samples):
            writer.live(ref, size=64, weight=2, thread=thread)
    writer.live(writer.row([(python, 0x50)]), size=10)
    return writer


def snapshot_of(*writers, symbolizer=None):
    return Snapshot(
        [recording.parse(w.bytes(), f"r{i}") for i, w in enumerate(writers)], symbolizer=symbolizer or Names()
    )


def test_traces():
    """Python, native, mixed; rows of equal native stacks stay apart."""
    rows = snapshot_of(traced()).rows()
    assert [row.samples for row in rows] == [3, 2, 1]
    assert rows[0].python_trace == "key at /srv/app.py:11 < load at /srv/app.py:12"
    assert rows[1].python_trace == "key at /srv/app.py:11 < load at /srv/app.py:13"
    assert rows[0].native_trace == rows[1].native_trace == f"list_resize < {LOOP} < list_sort < {LOOP} < main"
    assert rows[0].mixed_trace == (
        "list_resize < key at /srv/app.py:11 < list_sort < load at /srv/app.py:12 < main"
    )
    assert (rows[2].python_trace, rows[2].native_trace, rows[2].mixed_trace) == (None, "main", "main")
    assert rows[0].trace == (
        "list_resize (python3.10)", "key at /srv/app.py:11", "list_sort (python3.10)", "load at /srv/app.py:12",
        "main (python3.10)",
    )  # fmt: skip
    assert [column for column in COLUMNS if column.endswith("_trace")][1:] == [
        "python_trace", "native_trace", "mixed_trace",
    ]  # fmt: skip


def test_a_greenlets_stack_ends_where_it_begins():
    """What unwinding finds further out is another's, or left over."""

    class Greenlet(Names):
        def frames(self, path, build_id, vaddr, exact):
            base = "greenlet::UserGreenlet::inner_bootstrap(_greenlet*, _object*)"
            other = SimpleNamespace(function=base, file=None, line=None, inlined=False)
            return [other] if vaddr == 0x30 else super().frames(path, build_id, vaddr, exact)

    row = snapshot_of(traced(), symbolizer=Greenlet()).rows()[0]
    assert row.native_trace == f"list_resize < {LOOP} < greenlet::UserGreenlet::inner_bootstrap(_greenlet*, _object*)"
    assert not any(LOOP in frame or "main" in frame for frame in row.mixed_trace.split(" < ")[3:])
    assert row.back_trace.count("0x50") == 1  # as it was recorded


def test_without_a_symbolizer():
    """Python names stand in the recording; the native places come first, and a mark."""
    found = recording.parse(traced().bytes())
    row = Snapshot(found).rows()[0]
    assert row.python_trace == "key at /srv/app.py:11 < load at /srv/app.py:12"
    assert row.native_trace is row.mixed_trace is None
    assert row.trace[:1] == ("python3.10+0x10",)
    assert row.trace[-3:] == (UNPLACED, "key at /srv/app.py:11", "load at /srv/app.py:12")


def test_a_cut_native_stack_keeps_the_python_frames_further_out():
    """They are shown, and that their place is not known."""
    writer = RecordingWriter(python_version=0x030A0DF0)
    python = writer.module("/usr/bin/python3.10", main=True)
    code = writer.code("a.py", "f", kind=2, table=LINES)
    stack = writer.python_stack([(code, 0), (code, 4)])
    writer.live(writer.row([(python, 0x10), (python, 0x20)], python=stack, truncated=True), size=1)
    assert snapshot_of(writer).rows()[0].mixed_trace == f"list_resize < f at a.py:2 < {UNPLACED} < f at a.py:3"


@pytest.mark.parametrize(
    ("side", "expected", "of_main"),
    [
        ("native", ["list_resize", LOOP, "list_sort", LOOP, "main"], ("main (python3.10)",)),
        ("python", ["key", "load"], ("(no Python frames)",)),
        ("mixed", ["list_resize", "key", "list_sort", "load", "main"], ("main (python3.10)",)),
    ],
)
def test_sides(side, expected, of_main):
    """One side of the stack; the columns stay."""
    rows = snapshot_of(traced()).top(side=side)
    assert [frame.function for frame in rows[0].frames] == expected
    assert len(rows[0].trace) == len(expected) and rows[2].trace == of_main
    assert rows[0].values() == snapshot_of(traced()).rows()[0].values()


def test_no_such_side():
    """The sides are named."""
    with pytest.raises(errors.QueryError, match="mixed, native, python"):
        snapshot_of(traced()).top(side="left")


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("python_function", [("key (/srv/app.py)", 5), ("(no Python frames)", 1)]),
        ("python_file", [("/srv/app.py", 5), ("(no Python frames)", 1)]),
        ("python_line", [("key at /srv/app.py:11", 5), ("(no Python frames)", 1)]),
        ("function", [("list_resize", 5), ("main", 1)]),
        ("thread", [("io (7)", 5), ("(unknown thread)", 1)]),
    ],
)
def test_groups(group_by, expected):
    """By the innermost Python frame; needs no symbolizer."""
    snapshot = snapshot_of(traced())
    if group_by.startswith("python"):
        snapshot = Snapshot(snapshot.recordings)
    rows = snapshot.top(group_by=group_by)
    assert [(row.group, row.samples) for row in rows] == expected
    assert {row.python_trace for row in rows} == {row.mixed_trace for row in rows} == {None}
    assert {row.frames for row in rows} == {()}


def test_functions_of_one_name_in_two_files_are_two_groups():
    """A name alone says little."""
    writer = RecordingWriter()
    for number, file in enumerate(("a.py", "b.py", "")):
        writer.live(writer.row((), python=writer.python_stack([(writer.code(file, "f"), 0)])), size=9 - number)
    groups = [row.group for row in snapshot_of(writer).top(group_by="python_function")]
    assert groups == ["f (a.py)", "f (b.py)", "f (??)"]


def test_processes_merge_by_file_name_and_line():
    """References differ between processes; so do instructions of one line."""
    rows = snapshot_of(traced(), traced(slide=3, pid=4712)).rows()
    assert [row.samples for row in rows] == [6, 4, 2]
    assert rows[0].python_trace == "key at /srv/app.py:11 < load at /srv/app.py:12"


def test_two_instructions_of_a_line_are_one_place():
    """Also within one recording; two lines are two."""
    writer = RecordingWriter()
    code = writer.code("a.py", "f", first_line=10, kind=2, table=LINES)
    for offset in (0, 2, 4):
        writer.live(writer.row((), python=writer.python_stack([(code, offset)]), bytes=100), size=5)
    rows = snapshot_of(writer).rows()
    assert [(row.samples, row.total_bytes, row.python_trace) for row in rows] == [
        (2, 200, "f at a.py:11"), (1, 100, "f at a.py:12"),
    ]  # fmt: skip


def test_python_stack_that_found_no_room_is_said_to_be_missing():
    """Not the row of a program without Python: every side, column and group says so."""
    writer = RecordingWriter(python_version=0x030A0DF0, python_state=1)
    module = writer.module("/usr/bin/python3.10", build_id=b"\x01" * 20, main=True)
    writer.live(writer.row([(module, 0x10), (module, 0x20)], flags=2), size=9)
    snapshot = snapshot_of(writer)
    (row,) = snapshot.rows()
    assert (row.python_trace, row.native_trace) == (LOST_PYTHON, f"list_resize < {LOOP}")
    assert row.mixed_trace == f"list_resize < {LOOP} < {LOST_PYTHON}"
    assert row.trace == ("list_resize (python3.10)", f"{LOOP} (python3.10)", LOST_PYTHON)
    assert snapshot.top(side="python")[0].trace == (LOST_PYTHON,)
    assert LOST_PYTHON not in snapshot.top(side="native")[0].trace
    for group in ("python_function", "python_file", "python_line"):
        assert [found.group for found in snapshot.top(group_by=group)] == [LOST_PYTHON]
    assert "1 with a Python stack that was cut" in snapshot.footer()["coverage"]


def test_diff_tells_python_stacks_apart():
    """The one that grew is named, between processes too."""
    older, newer = traced(), traced(slide=2, pid=9)
    grown = newer.rows[1][1]
    for _ in range(4):
        newer.live(grown, size=64, weight=2)
    changes = snapshot_of(newer).diff(snapshot_of(older))
    assert [(change.diff_est_count, change.samples, change.older_samples) for change in changes] == [
        (8, 6, 2), (0, 3, 3), (0, 1, 1),
    ]  # fmt: skip
    assert changes[0].python_trace.endswith("load at /srv/app.py:13")
    assert changes[0].mixed_trace.startswith("list_resize < key at")


def test_sql_has_the_frames():
    """A frame each, joined by the number of the stack."""
    snapshot = snapshot_of(traced())
    found = snapshot.sql(
        "SELECT f.function, sum(s.alloc_bytes) FROM malloc_sample_info s JOIN Frames f"
        " ON f.stack_id = s.stack_id WHERE f.kind = 'python' GROUP BY 1 ORDER BY 1"
    )
    assert found.rows == [("key", 320), ("load", 320)]
    ((first,),) = snapshot.sql("SELECT stack_id FROM malloc_sample_info LIMIT 1").rows
    found = snapshot.sql("SELECT * FROM frames WHERE stack_id = ? AND position < 2 ORDER BY position", (first,))
    assert found == (
        ("stack_id", "position", "kind", "function", "file", "line", "module", "build_id", "vaddr", "inlined", "placed"),
        [
            (first, 0, "native", "list_resize", None, None, "/usr/bin/python3.10", "01" * 20, 0x10, 0, 1),
            (first, 1, "python", "key", "/srv/app.py", 11, None, None, None, 0, 1),
        ],
    )
    query = "SELECT python_trace FROM malloc_sample_info WHERE mixed_trace LIKE '%load at %:13%'"
    assert snapshot.sql(query).rows == [("key at /srv/app.py:11 < load at /srv/app.py:13",)]


def test_sql_survives_paths_that_are_no_text():
    """sqlite stores UTF-8 only."""
    writer = RecordingWriter()
    writer.live(writer.row([(writer.module(b"/opt/\xff.so"), 0x50)]), size=1)
    assert snapshot_of(writer).sql("SELECT module FROM frames").rows == [("/opt/?.so",)]


def test_footer():
    """The version, whether frames are read, and stacks that were cut."""
    writer = traced()
    cut = writer.python_stack([(writer.code("a.py", "f"), 0)], truncated=True)
    writer.live(writer.row([(1, 0x50)], python=cut), size=1)
    footer = snapshot_of(writer, traced(pid=2), RecordingWriter()).footer()
    assert footer["python"] == {"3.10.13: frames read": 2}
    assert "1 with a Python stack that was cut" in footer["coverage"]
