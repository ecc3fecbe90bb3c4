"""Python stacks in a recording: frames with file, name and line, and nothing hostile gets further than an error."""

import struct
import time

import pytest
from recordingwriter import RecordingWriter

from memleak import recording

# PEP 657: line 10 for 2 bytes, line 12 for 4, none for 2, then line 9.
TABLE = bytes([0x80, 5, 0xE1, 0, 0, 0xF8, 0xE8, 7])


def only_row(writer):
    (row,) = recording.parse(writer.bytes()).rows
    return row


def test_frames():
    """File, name, line of the instruction, and the mark of an entry; innermost first."""
    writer = RecordingWriter(python_version=0x030B07F0, python_state=1)
    code = writer.code("/srv/app.py", "C.f", first_line=10, table=TABLE)
    other = writer.code("/srv/\u00e9.py", "<module>", first_line=1, kind=2, table=b"\x08\x07")
    writer.row((), python=writer.python_stack([(code, 4), (code, 6, True), (other, 0, True)]))
    row = only_row(writer)
    assert row.python_stack == (
        ("/srv/app.py", "C.f", 12, False, 0, True), ("/srv/app.py", "C.f", None, True, 0, True),
        ("/srv/\u00e9.py", "<module>", 8, True, 0, True),
    )  # fmt: skip
    assert row.python_truncated is False


def test_a_frame_that_has_not_begun_is_at_its_first_line():
    """Whatever the line table says of its first instructions; CPython says the same of it."""
    writer = RecordingWriter()
    code = writer.code("a.py", "f", first_line=10, table=TABLE)
    nowhere = writer.code("a.py", "g", first_line=0, table=TABLE)
    writer.row((), python=writer.python_stack([(code, 0x7FFFFFFF), (code, 0x7FFFFFFF, True), (nowhere, 0x7FFFFFFF)]))
    found = [(frame.line, frame.entry, frame.begun) for frame in only_row(writer).python_stack]
    assert found == [(10, False, False), (10, True, False), (None, False, False)]


def test_runs_without_a_frame():
    """They are no frames; the next one tells how many there were."""
    writer = RecordingWriter(python_version=0x030C01F0, python_state=1)
    code, none = writer.code("a.py", "f"), (0, 0x7FFFFFFE, True)
    writer.row((), python=writer.python_stack([none, (code, 0, True), (code, 0), none, none, (code, 0, True), none]))
    assert [(frame.name, frame.empty_runs) for frame in only_row(writer).python_stack] == [("f", 1), ("f", 0), ("f", 2)]


@pytest.mark.parametrize(("version", "entry"), [(0x030A0DF0, True), (0x030B00F0, False), (0, False)])
def test_before_3_11_every_frame_is_an_entry(version, entry):
    """The interpreter's loop ran once for each frame, whatever the recording says."""
    writer = RecordingWriter(python_version=version)
    writer.row((), python=writer.python_stack([(writer.code("a.py", "f"), 0)]))
    assert only_row(writer).python_stack[0].entry is entry


def test_cut_stack():
    """The mark of a stack that had more frames."""
    writer = RecordingWriter()
    writer.row((), python=writer.python_stack([(writer.code("a.py", "f"), 0)], truncated=True))
    assert only_row(writer).python_truncated


def test_a_stack_that_found_no_room():
    """The row has none, and says that there was one; one that found room later is as any other."""
    writer = RecordingWriter()
    writer.row((), flags=2)
    row = only_row(writer)
    assert (row.python_stack, row.python_truncated, row.python_lost, row.overflow) == ((), True, True, False)
    writer = RecordingWriter()
    writer.row((), flags=2, python=writer.python_stack([(writer.code("a.py", "f"), 0)]))
    row = only_row(writer)
    assert len(row.python_stack) == 1 and not row.python_truncated and not row.python_lost


def test_a_recording_without_python():
    """Older recordings have none of it."""
    writer = RecordingWriter()
    writer.row(())
    found = recording.parse(writer.bytes())
    assert found.rows[0].python_stack == () and not found.rows[0].python_truncated
    assert found.header.python == ""


@pytest.mark.parametrize(
    ("version", "state", "words"),
    [
        (0x030C01F0, 1, "3.12.1: frames read"),
        (0x030E00C2, 2, "3.14.0rc2: frames not read, this version's are not known"),
        (0x030D00A1, 3, "3.13.0a1: frames not read, it is built without the GIL"),
        (0x030900B4, 4, "3.9.0b4: frames not read, they were not what the interpreter itself says"),
        (0x030C01F0, 5, "3.12.1: frames not read, switched off"),
        (0x030C01F0, 0, "3.12.1: frames not read"),
        (0, 5, "frames not read, switched off"),
        (0x030C01F0, 99, "3.12.1: frames: state 99"),
        (0xFFFFFFFF, 1, "255.255.255: frames read"),
    ],
)
def test_state_in_words(version, state, words):
    """Version and whether frames are read."""
    assert recording.parse(RecordingWriter(python_version=version, python_state=state).bytes()).header.python == words


def test_sub_interpreters_in_words():
    """Said once a sample was taken in one, where frames are read."""
    seen = {"python_version": 0x030B07F0, "counters": {"python_subinterpreter": 2}}
    words = [recording.parse(RecordingWriter(python_state=state, **seen).bytes()).header.python for state in (1, 4)]
    assert words[0] == "3.11.7: frames read, sub-interpreters: native frames only"
    assert "sub-interpreters" not in words[1]


def test_stacks_that_the_writer_itself_does_not_believe():
    """What was recorded before offsets were found to be wrong is not shown."""
    writers = [RecordingWriter(python_version=0x030B07F0, python_state=state) for state in (1, 4)]
    for writer in writers:
        writer.row((), python=writer.python_stack([(0, 5, True)]))
    assert [len(only_row(writer).python_stack) for writer in writers] == [1, 0]


def test_code_that_was_not_stored():
    """A frame without code is a frame all the same."""
    writer = RecordingWriter()
    writer.row((), python=writer.python_stack([(0, 5, True)]))
    assert only_row(writer).python_stack == (("", "", None, True, 0, True),)


def test_what_is_not_there_is_counted():
    """References that lead nowhere, to other records, or out of their own."""
    writer = RecordingWriter()
    right = writer.code("a.py", "f", first_line=7, kind=1)
    lying = writer.code("a.py", "f", table=b"ab", table_bytes=3)
    nameless = writer.code("a.py", "f", first_line=7, kind=1, file_ref=right)
    frames = [(right, 0), (lying, 0), (nameless, 0), (0x0FFFFFFF, 0), (writer.string("a.py"), 0)]
    short = writer.record(6, struct.pack("<QHHI", 1, 9, 0, 0))
    for python in (writer.python_stack(frames), short, right, 0x0FFFFFF0):
        writer.row((), python=python)
    found = recording.parse(writer.bytes())
    assert [row.python_stack for row in found.rows][1:] == [(), (), ()]
    assert [row.python_truncated for row in found.rows] == [False, True, True, True]
    unknown = ("", "", None, False, 0, True)
    assert found.rows[0].python_stack == (("a.py", "f", 7, False, 0, True), unknown, ("", "f", 7, False, 0, True), unknown, unknown)
    assert set(found.incomplete) == {
        "3 Python stacks that are not in this copy",
        "3 Python code objects that are not in this copy",
        "1 names of Python code that are not in this copy",
    }


def test_names_cannot_carry_terminal_escapes():
    """Control characters are replaced, and what is no UTF-8; a name is not endless."""
    writer = RecordingWriter()
    code = writer.code(b"/srv/\xff\x1b[31m.py", "f\n" + "x" * 100_000)
    writer.row((), python=writer.python_stack([(code, 0)]))
    (frame,) = only_row(writer).python_stack
    assert frame.file == "/srv/\ufffd?[31m.py"
    assert frame.name.startswith("f?xxx") and len(frame.name) <= 8192


def test_shared_names_are_no_overlap():
    """All functions of a file share its name: the more of them, the less room each takes."""
    writer = RecordingWriter(index_capacity=4096)
    codes = [writer.code("/srv/" + "a" * 4000, "f", first_line=number, kind=1) for number in range(1000)]
    writer.row((), python=writer.python_stack([(code, 0) for code in codes]))
    assert [frame.line for frame in only_row(writer).python_stack] == list(range(1000))


def test_overlapping_code_is_left_out():
    """References into the middle of large line tables would make the work quadratic."""
    writer = RecordingWriter()
    size = 4 << 20
    fake = struct.pack("<IHHQIIiHHII", 40 + size - 4096, 5, 1, 0, 0, 0, 1, 1, 0, size - 4096, 0) + bytes(8)
    base = writer.record(5, bytes(40) + fake * 80 + bytes(size))
    writer.row((), python=writer.python_stack([(base + 3 + 3 * number, 0) for number in range(64)]))
    found = recording.parse(writer.bytes())
    (row,) = found.rows
    read = sum(frame.line is not None for frame in row.python_stack)
    assert 0 < read < 3 and len(row.python_stack) == 64
    assert f"{64 - read} Python code objects that are not in this copy" in found.incomplete


def test_many_stacks_are_read_soon():
    """4,000 stacks of 40 frames over 4,000 code objects within 3 s on a busy machine (0.4 s on an idle one)."""
    writer = RecordingWriter(index_capacity=8192)
    writer.arena_offset = 4 << 20
    codes = [writer.code(f"/srv/{n % 100}.py", f"f{n}", table=TABLE * 20) for n in range(4000)]
    for number in range(4000):
        frames = [(codes[(number * 7 + depth * 31) % 4000], 2 * depth) for depth in range(40)]
        writer.row((), python=writer.python_stack(frames))
    raw = writer.bytes()
    began = time.process_time()
    assert len(recording.parse(raw).rows) == 4000
    assert time.process_time() - began < 3
