"""Changing knobs: checked first, written as one word, adopted by the process."""

import errno
import fcntl
import os
import struct
import subprocess
import sys

import pytest
from recordingwriter import RecordingWriter, word
from tracedprocess import traced_process

from memleak import control, recording
from memleak.errors import RecordingError, TargetError
from memleak.layout import HEADER

OFFSETS = [
    HEADER.offsets[name]
    for name in (
        "requested", "effective", "requested_sample_bytes", "effective_sample_bytes", "python_requested",
        "python_effective",
    )
]  # fmt: skip
PYTHON = {"python_state": 1, "python_version": 0x030D0000}


def words_of(path):
    raw = path.read_bytes()
    return [struct.unpack_from("<Q", raw, offset)[0] for offset in OFFSETS]


def test_adopted(tmp_path):
    """The process takes the whole pair; the result says so."""
    with traced_process(tmp_path, how="adopt", offsets=OFFSETS) as (process, path):
        change = control.set_knobs(process.pid, min=2, max=32, sample_bytes=8192, timeout=20)
        assert change.adopted and change.note == "" and change.pid == process.pid
        assert change.requested == change.effective == (2, 32, 256, 4096, 8192)
        assert words_of(path) == [word(2, 32, 2)] * 2 + [8192] * 2 + [word(256, 4096)] * 2
        assert control.read_knobs(process.pid).effective == (2, 32, 256, 4096, 8192)


def test_python_is_adopted(tmp_path):
    """Its pair alone, leaving the others as they were; with a mode, both."""
    with traced_process(tmp_path, how="adopt", offsets=OFFSETS, **PYTHON) as (process, path):
        change = control.set_knobs(process.pid, python_min=8, python_max=80, timeout=20)
        assert change.adopted and change.note == "" and change.counts_python
        assert change.requested == change.effective == (16, 256, 8, 80, 4 << 20)
        assert words_of(path) == [word(16, 256)] * 2 + [4 << 20] * 2 + [word(8, 80, 2)] * 2
        change = control.set_knobs(process.pid, mode="full", timeout=20)
        assert change.adopted and change.effective == (1, 1, 1, 1, 4 << 20)
        control.set_knobs(process.pid, min=20, max=200, timeout=20)
        assert words_of(path)[0] == word(20, 200, 4) and words_of(path)[4] == word(256, 4096, 6)


def test_python_that_has_not_adopted_is_told(tmp_path):
    """The interpreter is asleep though others allocate; without an interpreter nobody waits for it."""
    with traced_process(tmp_path, how="adopt", offsets=[*OFFSETS[:4], 0, 0], **PYTHON) as (process, path):
        change = control.set_knobs(process.pid, mode="off", timeout=0.3)
        assert not change.adopted and "not adopted yet for Python's small objects" in change.note
        assert change.effective == (10_000, 10_000, 256, 4096, 4 << 20)
        assert not control.read_knobs(path).adopted
    (tmp_path / "native").mkdir()
    with traced_process(tmp_path / "native", how="adopt", offsets=[*OFFSETS[:4], 0, 0]) as (process, path):
        change = control.set_knobs(process.pid, mode="off", timeout=20)
        assert change.adopted and change.note == "" and not change.counts_python
        assert words_of(path)[4:] == [word(10_000, 10_000, 2), word(256, 4096)]


def test_core_without_knobs_for_python(tmp_path):
    """Its word is 0 and stays so; to ask for another is refused."""
    early = {"python_requested": 0, "python_effective": 0}
    with traced_process(tmp_path, how="adopt", offsets=OFFSETS, **early) as (process, path):
        with pytest.raises(TargetError, match="without knobs for Python"):
            control.set_knobs(process.pid, min=4, python_min=8)
        assert words_of(path)[0] == word(16, 256)
        change = control.set_knobs(process.pid, mode="full", timeout=20)
        assert change.adopted and change.note == ""
        assert words_of(path)[0] == word(1, 1, 2) and words_of(path)[4:] == [0, 0]


def test_idle_process_has_not_adopted_yet(tmp_path):
    """A process that allocates nothing keeps its knobs; the request stands."""
    with traced_process(tmp_path) as (process, path):
        change = control.set_knobs(path, mode="full", timeout=0.02)
        assert not change.adopted and "not adopted yet" in change.note
        assert change.requested[:2] == (1, 1) and change.effective[:2] == (16, 256)
        assert words_of(path)[:2] == [word(1, 1, 2), word(16, 256, 1)]


def test_overtaken_by_the_process_itself(tmp_path):
    """Its own configure() came later: that is what counts, and it is said."""
    with traced_process(tmp_path, how="overtake", offsets=OFFSETS) as (process, path):
        change = control.set_knobs(process.pid, min=2, max=32, timeout=20)
        assert not change.adopted and "another change" in change.note
        assert change.requested[:2] == change.effective[:2] == (9, 90)
        assert control.read_knobs(path).adopted


def test_another_request_is_not_taken_for_this_one(tmp_path):
    """The process has adopted what it asked for itself at the same moment, and sleeps before it sees this one."""
    with traced_process(tmp_path, how="collide", offsets=OFFSETS) as (process, path):
        change = control.set_knobs(process.pid, min=2, max=32, timeout=0.3)
        assert change.requested[:2] == (2, 32) and change.effective[:2] == (9, 90)
        for found in (change, control.read_knobs(path)):
            assert not found.adopted and "not adopted yet" in found.note


def test_one_knob_keeps_the_others(tmp_path):
    """What is not given stays as requested; each change counts the epoch up."""
    with traced_process(tmp_path) as (_, path):
        control.set_knobs(path, min=8, timeout=0)
        control.set_knobs(path, sample_bytes=0, timeout=0)
        assert words_of(path)[0] == word(8, 256, 4) and words_of(path)[2] == 0


@pytest.mark.timeout(60)
def test_a_lock_that_is_never_given_back(tmp_path, monkeypatch):
    """The process that is asked may itself hold it: that is said after a while, and nothing is changed."""
    monkeypatch.setattr(control, "_LOCK_S", 0.2, raising=False)
    with traced_process(tmp_path) as (_, path), open(path, "rb") as other:
        before = words_of(path)
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(TargetError, match="somebody else"):
            control.set_knobs(path, min=8, timeout=0)
        assert words_of(path) == before
        fcntl.flock(other, fcntl.LOCK_UN)
        control.set_knobs(path, min=8, timeout=0)
        assert words_of(path) != before


def test_epoch_wraps_around(tmp_path):
    """After 2^32 - 1 comes 0, which is later."""
    with traced_process(tmp_path, how="adopt", offsets=OFFSETS, initial=word(16, 256, 2**32 - 1)) as (_, path):
        assert control.set_knobs(path, max=300, timeout=20).adopted
        assert words_of(path)[1] == word(16, 300, 0)


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"min": 0},
        {"min": 257},
        {"max": 15},
        {"min": 5, "max": 4},
        {"max": 10_001},
        {"min": True},
        {"max": 2.0},
        {"min": "4"},
        {"sample_bytes": 100},
        {"sample_bytes": 8192, "min": 0},
        {"mode": "loud"},
        {"mode": "full", "min": 1},
        {"python_min": 0},
        {"python_min": 4097},
        {"python_max": 255},
        {"python_max": True},
        {"min": 1, "max": 1, "python_min": 2},
        {"min": 20, "python_max": 10_001},
        {"mode": "full", "python_max": 4096},
        {"mode": "loud", "sample_bytes": 8192},
    ],
)
def test_bad_knobs_change_nothing(tmp_path, knobs):
    """ValueError, and every word as before."""
    with traced_process(tmp_path) as (process, path):
        before = words_of(path)
        with pytest.raises(ValueError):
            control.set_knobs(process.pid, **knobs, timeout=0)
        assert words_of(path) == before


@pytest.mark.parametrize(("state", "words"), [(2, "stopped"), (3, "exited"), (1, "is not running")])
def test_dead_recordings_are_refused(tmp_path, state, words):
    """A closed recording, or one whose process is gone, is not written."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    path = tmp_path / "a.mlrec"
    path.write_bytes(RecordingWriter(pid=process.pid, state=state).bytes())
    before = path.read_bytes()
    with pytest.raises(TargetError, match=words):
        control.set_knobs(path, mode="off")
    assert path.read_bytes() == before


def test_copy_is_refused(tmp_path):
    """Writing to a copy would change nothing: said instead of done."""
    with traced_process(tmp_path) as (_, path):
        copy = tmp_path / "copy"
        copy.write_bytes(path.read_bytes())
        with pytest.raises(TargetError, match="this is a copy"):
            control.set_knobs(copy, mode="off")


def test_other_files_are_refused(tmp_path):
    """Not a recording, a directory of several, nothing there."""
    (tmp_path / "text").write_text("x")
    with pytest.raises(RecordingError, match="not a recording"):
        control.set_knobs(tmp_path / "text", mode="off")
    for name in ("a.mlrec", "b.mlrec"):
        (tmp_path / name).write_bytes(RecordingWriter().bytes())
    with pytest.raises(TargetError, match="2 recordings"):
        control.set_knobs(tmp_path, mode="off")
    with pytest.raises(TargetError, match="no such file"):
        control.set_knobs(tmp_path / "none", mode="off")


def test_short_file_is_refused_before_it_is_mapped(tmp_path):
    """A truncated file would be a bus error."""
    path = tmp_path / "a.mlrec"
    path.write_bytes(RecordingWriter().bytes()[:100])
    with pytest.raises(RecordingError, match="100 bytes"):
        control.set_knobs(path, mode="off")


def test_not_permitted(tmp_path, monkeypatch):
    """Without the right to write, the reason is said."""
    path = tmp_path / "a.mlrec"
    path.write_bytes(RecordingWriter().bytes())

    def refuse(path, flags):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(recording, "open_regular", refuse)  # root may open everything
    with pytest.raises(TargetError, match="not permitted to write its knobs: Permission denied"):
        control.set_knobs(path, mode="off")


def test_governed_process_is_told_apart(tmp_path):
    """Adopted, but with other knobs than requested: the note says why."""
    path = tmp_path / "a.mlrec"
    path.write_bytes(RecordingWriter(requested=word(2, 16, 5), effective=word(16, 256, 5)).bytes())
    change = control.read_knobs(path)
    assert change.adopted and "budget" in change.note
    assert recording.load_header(path).mode == "normal"


def test_budget(tmp_path):
    """Alone it changes no interval; a bad one changes nothing; an early core has none."""
    governed = (0, 10_000, 3, 2048, 2)
    with traced_process(tmp_path, how="adopt", offsets=OFFSETS, governor=governed) as (process, path):
        before = words_of(path)
        change = control.set_knobs(process.pid, budget=0.02)
        assert words_of(path) == before and recording.load_header(path).budget_ppm == 20_000
        assert change.adopted and change.governor == (0.02, 2.0, False, True)
        assert str(change.governor) == "budget 2 %: intervals 2 x wider than requested"
        with pytest.raises(ValueError, match="budget must be"):
            control.set_knobs(process.pid, budget=1.5, min=3)
        assert words_of(path) == before and recording.load_header(path).budget_ppm == 20_000
        control.set_knobs(process.pid, budget=0, min=3, timeout=20)
        assert words_of(path)[0] == word(3, 256, 2) and recording.load_header(path).budget_ppm == 0
    with traced_process(tmp_path, how="adopt", offsets=OFFSETS) as (process, path):
        with pytest.raises(TargetError, match="early one without a budget"):
            control.set_knobs(process.pid, budget=0.02)


FOCUS_OFFSETS = [*OFFSETS[:4], HEADER.offsets["focus_requested"], HEADER.offsets["focus_effective"]]


def focus_text(path):
    at = HEADER.offsets["focus_requested_text"]
    return path.read_bytes()[at : at + 256].rstrip(b"\0")


def test_focus(tmp_path):
    """Its text before its word, whose number is even; the pair gets a new number, so that threads look."""
    with traced_process(tmp_path, how="adopt", offsets=FOCUS_OFFSETS, focus=("", "", 0)) as (process, path):
        change = control.set_knobs(process.pid, focus="module=libfoo.so", timeout=20)
        assert focus_text(path) == b"module=libfoo.so" and words_of(path)[0] == word(16, 256, 2)
        header = recording.load_header(path)
        assert header.focus_requested >> 32 == 2 and header.focus_requested == header.focus_effective
        assert change.focus.requested == "module=libfoo.so" and "no such module loaded yet: libfoo.so" in change.note
        control.set_knobs(process.pid, focus="label=name=\xe9", min=3, timeout=20)
        assert focus_text(path) == b"label=name=\xc3\xa9" and words_of(path)[0] == word(3, 256, 6)
        control.set_knobs(process.pid, focus="off", timeout=20)
        assert focus_text(path) == b"" and recording.load_header(path).focus_requested >> 32 == 6
        for bad in ("", "x", "module=", "module=/a/b", "label=a", "mod=heap", "module=" + "x" * 249, 7, None):
            with pytest.raises(ValueError, match="focus"):
                control.set_knobs(process.pid, **({"focus": bad} if bad is not None else {}))
        assert recording.load_header(path).focus_requested >> 32 == 6


def test_focus_in_full_mode_is_no_change_of_intervals(tmp_path):
    """Every call looks there, and a new number would make the answer inexact."""
    full = {"initial": word(1, 1), "focus": ("", "", 0)}
    with traced_process(tmp_path, how="adopt", offsets=FOCUS_OFFSETS, **full) as (process, path):
        change = control.set_knobs(process.pid, focus="module=main", timeout=20)
        assert words_of(path)[0] == word(1, 1) and "in full mode every allocation" in change.note


def test_focus_that_is_not_adopted(tmp_path):
    """The note says so; an early core has none, and nothing is written."""
    with traced_process(tmp_path, focus=("", "", 0)) as (process, path):
        change = control.set_knobs(process.pid, focus="mod=mmap", timeout=0.1)
        assert not change.adopted and "not adopted yet" in change.note
        assert str(change.focus) == "none; requested mod=mmap, not adopted"
    with traced_process(tmp_path, how="adopt", offsets=OFFSETS) as (process, path):
        before = path.read_bytes()
        with pytest.raises(TargetError, match="early one without a focus"):
            control.set_knobs(process.pid, focus="mod=mmap", min=3)
        assert path.read_bytes()[:4096] == before[:4096]


def test_focus_as_it_is_read(tmp_path):
    """Requested and in force may differ; what is being written is not shown."""
    path = tmp_path / "a.mlrec"
    raw = bytearray(RecordingWriter(focus=("mod=mmap", "module=libfoo.so", 12345)).bytes())
    path.write_bytes(raw)
    found = recording.load_header(path).focus
    assert found == ("mod=mmap", "module=libfoo.so", False, 12345)
    assert str(found).startswith("module=libfoo.so: 12,345 allocations, all of them recorded; requested mod=mmap, not")
    raw[HEADER.offsets["focus_effective_text"]] = ord("M")
    path.write_bytes(raw)
    assert recording.load_header(path).focus.effective == ""
