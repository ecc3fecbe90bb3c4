"""What `memleak postmortem` says of a recording that is left, and which one it takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from recordingwriter import RecordingWriter
from tracedprocess import boot_id, traced_process

from memleak import cli, locate, query, recording, remains
from memleak.cli.postmortem import sparkline
from memleak.errors import QueryError, TargetError

MIB = 1 << 20
END_CS = 90_000  # 15 minutes


def ended_pid():
    """A pid that belongs to nobody now."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def dead(**header):
    """A recording of a process that is gone: two stacks, on two threads, with marks on the way up."""
    values = {"heartbeat_cs": END_CS, "limit": (1, END_CS + 50, 100 * MIB, 97 * MIB, 99 * MIB), "boot_id": boot_id()}
    writer = RecordingWriter(**{**values, "pid": ended_pid(), **header})
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    worker, main = writer.thread(11, b"worker"), writer.thread(12, b"app")
    # Level 2 has a word for each 64 s; that of the period in which the process ended is missing.
    slots = {period % 16: (1 + period) << 40 | period * MIB for period in range(3, 14)}
    grows = writer.row(
        [(app, 0x10)], samples=20, bytes=20 * MIB, history=writer.history({(2, slot): word for slot, word in slots.items()})
    )
    stays = writer.row([(app, 0x20)], samples=5, bytes=5 * MIB, first_cs=100)
    for number in range(20):
        writer.live(grows, size=MIB, thread=worker if number < 15 else main)
    for _ in range(5):
        writer.live(stays, size=MIB, thread=main)
    writer.mark(80, [(stays, 5 * MIB), (grows, 4 * MIB)], cs=40_000, limit=100 * MIB, used=81 * MIB, rss=70 * MIB, live=9 * MIB)
    writer.mark(90, [(grows, 12 * MIB), (stays, 5 * MIB)], cs=80_000, limit=100 * MIB, used=91 * MIB, rss=80 * MIB, live=17 * MIB)
    return writer


@pytest.fixture
def path(tmp_path):
    """Its file."""
    file = tmp_path / "4711-100-0000000000000001.mlrec"
    file.write_bytes(dead().bytes())
    return file


def shown(capsys, *argv):
    assert cli.main(["postmortem", "--no-symbols", *map(str, argv)]) == 0
    return capsys.readouterr().out


def failed(capsys, *argv):
    assert cli.main(["postmortem", *map(str, argv)]) == 1
    return capsys.readouterr().err


def test_everything_is_said(path, capsys):
    """Its fate, the limit, the marks, the stacks with growth and threads, what grew, and the usual lines."""
    words = shown(capsys, path)
    assert words.startswith("app (pid ") and "killed, recorded 15m\n" in words
    assert "end       it did not leave through exit(): a signal killed it" in words
    assert "held      25.0 MiB estimated live; 99.0 MiB resident\n" in words
    assert (
        "limit     100.0 MiB (the cgroup's limit): 97 % used; this near to it the kernel's OOM killer is the likely cause\n"
        in words
    )
    assert re.search(r"80 %  81\.0 MiB  of 100\.0 MiB  70\.0 MiB   9\.0 MiB\n.* 90 %  91\.0 MiB", words)
    assert re.search(r"#1  20\.0 MiB in 20 blocks .*\n    growth: 10m before 3\.0 MiB, 60s before 12\.0 MiB, .*at the end", words)
    assert "    verdict: step\n    asked for by: worker (11) 75 %, app (12) 25 %\n    app+0x10\n" in words
    assert re.search(r"GREW SINCE THE FIRST MARK +AT 80 % +AT 90 % +AT THE END +GROWTH.* VERDICT\n\+16\.0 MiB +4\.0 MiB +12\.0 MiB +20\.0 MiB +- +step +app", words)
    assert "by thread:\n" in words
    assert "sampling: normal" in words and "own cost: " in words and words.endswith(f"recording: {path}\n")


def test_the_same_in_json(path, capsys):
    """With every mark and every part of the past."""
    answer = json.loads(shown(capsys, path, "--json", "-n", "1"))
    assert (answer["state"], answer["recording"], answer["others"]) == ("killed", str(path), [])
    assert answer["ended"] - answer["began"] == answer["recorded_s"] == (END_CS + 50) / 100
    assert answer["limit"]["share"] == 0.97 and answer["limit"]["kind"] == "the cgroup's limit"
    assert [mark["level_percent"] for mark in answer["marks"]] == [80, 90]
    assert answer["marks"][1]["largest_bytes"] == [12 * MIB, 5 * MIB]
    (row,) = answer["rows"]
    assert row["marks"] == [4 * MIB, 12 * MIB] and row["est_bytes"] == 20 * MIB
    assert [one["before_s"] for one in row["history"]] == [600, 60, 10]
    assert [(one["thread"], one["est_bytes"]) for one in row["threads"]] == [("worker (11)", 15 * MIB), ("app (12)", 5 * MIB)]
    assert [one["grown_bytes"] for one in answer["grown"]] == [16 * MIB]
    assert answer["footer"]["live_samples"] == 25


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"state": 3, "stopped_at_cs": END_CS}, "exited, recorded 15m\n.*end       it left through exit\\(\\)"),
        ({"state": 2, "stopped_at_cs": END_CS}, "end       memleak.stop\\(\\) ended the recording; the process went on"),
        ({"limit": (0, 0, 0, 0, 0)}, "estimated live; how near to a limit it was is not recorded"),
        ({"limit": (0, END_CS, 0, 0, MIB)}, "1.0 MiB resident\nlimit     none that is known"),
        ({"limit": (2, END_CS, 100 * MIB, 99 * MIB, MIB)}, "\\(RLIMIT_AS\\): 99 % used\n"),
        ({"limit": (1, END_CS - 6000, 100 * MIB, 50 * MIB, MIB)}, "1.0 MiB resident, 60s before the end\n.*50 % used, 60s before"),
        ({"limit": (77, END_CS, 100 * MIB, 50 * MIB, MIB)}, "\\(limit 77\\): 50 % used\n"),
    ],
)
def test_what_became_of_it(tmp_path, capsys, header, words):
    """No more is said than is known: only the kernel's limits kill."""
    (tmp_path / "one.mlrec").write_bytes(dead(**header).bytes())
    said = shown(capsys, tmp_path / "one.mlrec")
    assert re.search(words, said, re.DOTALL), said
    is_likely = "OOM killer is the likely cause" in said
    assert is_likely == (header.get("limit", (1, 1))[:2] == (1, END_CS - 6000) and "killed" in said)


def test_without_marks_and_samples(tmp_path, capsys):
    """A short life leaves little."""
    writer = RecordingWriter(pid=ended_pid(), heartbeat_cs=50)
    (tmp_path / "one.mlrec").write_bytes(writer.bytes())
    said = shown(capsys, tmp_path / "one.mlrec")
    assert "held at the end: no live samples\n" in said and "GREW" not in said and "NEAR" not in said


def test_a_mark_that_was_being_written_is_left_out(tmp_path):
    """Its two numbers differ, or are 0; the others stand in their order, which is not that of their places."""
    writer = dead()
    writer.marks.clear()
    for sequence, again in ((6, 6), (2, 0), (3, 3), (0, 0), (5, 4)):
        writer.mark(80, [], cs=sequence, limit=100, used=80, sequence=sequence, again=again)
    found = recording.parse(writer.bytes())
    assert [mark.cs for mark in found.marks] == [3, 6]


def test_marks_of_rows_that_are_not_there(tmp_path, capsys):
    """Refs come from a file nobody vouches for."""
    writer = dead()
    writer.marks.clear()
    writer.mark(95, [(0xFFFFFFF0, 2**64 - 1), (3, 7)], cs=2**32 - 1, limit=2**64 - 1, used=2**64 - 1, live=2**64 - 1, kind=9)
    (tmp_path / "one.mlrec").write_bytes(writer.bytes())
    assert "95 %" in shown(capsys, tmp_path / "one.mlrec")
    (mark,) = recording.parse(writer.bytes()).marks
    assert mark.rows == ((0xFFFFFFF0, 2**64 - 1), (3, 7))


@pytest.mark.parametrize("where", ["heartbeat_cs", "limit", "start"])
def test_times_that_cannot_be(tmp_path, capsys, where):
    """A damaged header is no reason to fail."""
    most = 2**64 - 1
    header = {"heartbeat_cs": {"heartbeat_cs": most}, "limit": {"limit": (1, most, 1, most, most)}, "start": {}}[where]
    writer = dead(**header)
    writer.header["start_realtime_ns"] = most if where == "start" else 0
    (tmp_path / "one.mlrec").write_bytes(writer.bytes())
    said = shown(capsys, tmp_path / "one.mlrec")
    assert ("at a time that no clock shows" in said) == (where != "start")
    assert json.loads(shown(capsys, tmp_path / "one.mlrec", "--json"))["state"] == "killed"


def test_not_among_the_largest_is_not_nothing():
    """A stack that a full list of a mark lacks held an unknown number of bytes; of a whole list, none."""
    writer = dead()
    row = writer.rows[0][1]
    writer.mark(95, [(row, 5 * MIB)], cs=85_000, limit=100 * MIB, used=96 * MIB, live=50 * MIB)
    writer.mark(95, [(row, 5 * MIB)], cs=85_100, limit=100 * MIB, used=96 * MIB, live=5 * MIB)
    first, second = query.Snapshot(recording.parse(writer.bytes())).evidence(2)
    assert first.marks == (4 * MIB, 12 * MIB, 5 * MIB, 5 * MIB)
    assert second.marks == (5 * MIB, 5 * MIB, None, 0)
    assert second.grown == 0


def test_the_past_is_that_of_one_recording():
    """Several have ended at different times."""
    found = recording.parse(dead().bytes())
    with pytest.raises(QueryError, match="the past of 2 recordings is not one"):
        query.Snapshot([found, found]).evidence()
    with pytest.raises(QueryError, match="no evidence by 'age': it is by held or grown"):
        query.Snapshot(found).evidence(by="age")


def test_sparkline():
    """The largest is the highest; what is not known is blank."""
    assert sparkline([None, 0, 4, 8, 16]) == " ▁▃▅█"
    assert sparkline([None, 0]) == ""


# ---- which recording -----------------------------------------------------------------------------------


def test_the_one_that_ended_last(tmp_path, monkeypatch, capsys):
    """Of a directory and of the usual places; the others are counted."""
    for number, end in enumerate((100, 300, 200), 1):
        raw = dead(recording_id=number, heartbeat_cs=END_CS + end).bytes()
        (tmp_path / f"{number}.mlrec").write_bytes(raw)
    assert [found.path.name for found in remains.find(tmp_path)] == ["2.mlrec", "3.mlrec", "1.mlrec"]
    words = shown(capsys, tmp_path)
    assert f"recording: {tmp_path}/2.mlrec\n2 more recordings of ended processes: memleak ps --dead {tmp_path}\n" in words
    monkeypatch.setattr(locate, "directories", lambda environ=None: [])
    monkeypatch.setenv("MEMLEAK_KEEP_DIR", str(tmp_path))
    assert remains.find()[0].path.name == "2.mlrec"


def test_by_its_pid(path, monkeypatch, capsys):
    """The process is gone; also when another one has its pid now, which an untraced one may."""
    monkeypatch.setenv("MEMLEAK_DIR", str(path.parent))
    pid = recording.load_header(path).pid
    assert [found.path for found in remains.find(pid)] == [path]
    assert f"(pid {pid} on" in shown(capsys, pid)
    path.write_bytes(dead(pid=os.getpid(), start_ticks=1).bytes())
    assert [found.path for found in remains.find(str(os.getpid()))] == [path]


def test_a_running_process_is_not_dead(tmp_path, monkeypatch, capsys):
    """Its pid and its file lead to `memleak top`; a copy of its recording is shown, as what it is."""
    monkeypatch.setenv("MEMLEAK_DIR", str(tmp_path))
    with traced_process(tmp_path, name="1-2-0000000000000001.mlrec") as (process, path):
        hint = f"process {process.pid} is running: memleak top {process.pid} shows what it holds now"
        assert hint in failed(capsys, process.pid) and hint in failed(capsys, path)
        assert "no recording of an ended process: tried" in failed(capsys, tmp_path)
        (tmp_path / "kept").mkdir()
        copy = shutil.copy(path, tmp_path / "kept" / path.name)
        assert f"none: process {process.pid} is running, this is a copy" in shown(capsys, copy)
        assert "1 of running ones: memleak ps" in failed(capsys, tmp_path / "kept")
        assert cli.main(["ps", "--dead", str(tmp_path / "kept")]) == 0
        assert "running, copy" in capsys.readouterr().out
    assert "killed, recorded" in shown(capsys, copy)


def test_of_another_container(tmp_path, capsys, monkeypatch):
    """What cannot be judged counts as ended when it was silent, and is said to be unknown."""
    monkeypatch.setattr(locate, "_pid_namespace", lambda: 77)
    for number, start_ns in enumerate((0, 1_700_000_000 * 10**9), 1):
        writer = dead(recording_id=number, pid_namespace=5, start_ticks=2**40)
        writer.header["start_realtime_ns"] = start_ns
        (tmp_path / f"{number}.mlrec").write_bytes(writer.bytes())
    found = remains.find(tmp_path)
    assert [(one.path.name, one.alive) for one in found] == [("2.mlrec", None), ("1.mlrec", None)]
    assert "whether it has ended cannot be told from here" in shown(capsys, tmp_path)
    # One that was heard of just now may live: it comes last.
    monkeypatch.setattr(remains.time, "time", lambda: 1_700_000_000 + END_CS / 100 + 60)
    assert [one.path.name for one in remains.find(tmp_path)] == ["1.mlrec", "2.mlrec"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/nonexistent", "/nonexistent: no such file or directory"),
        ("/proc/self/status", "not a recording"),
        ("999999999", "no recording of an ended process 999999999: tried "),
    ],
)
def test_what_is_not_there(target, words, capsys):
    """One line, which says what was tried."""
    said = failed(capsys, target)
    assert words in said and said.count("\n") == 1


def test_an_empty_place(tmp_path, capsys):
    """The places are named."""
    assert f"no recording of an ended process: tried {tmp_path}; memleak run PROGRAM makes one" in failed(capsys, tmp_path)
    with pytest.raises(TargetError, match="no recording of an ended process"):
        remains.find(tmp_path)


def test_words_that_cannot_be_meant(capsys):
    """Exit status 2."""
    assert cli.main(["postmortem", "-n", "0"]) == 2
    assert cli.main(["postmortem", "a", "b"]) == 2
    capsys.readouterr()
