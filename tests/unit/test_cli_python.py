"""What the command line shows of a Python program's recording."""

import json

import pytest
from recordingwriter import word
from test_query_python import RecordingWriter, traced

from memleak import cli, recording
from memleak.cli import render
from memleak.query import Snapshot


@pytest.fixture
def path(tmp_path):
    """A recording of a Python program whose binary is nowhere."""
    file = tmp_path / "app.mlrec"
    file.write_bytes(traced().bytes())
    return str(file)


def shown(capsys, *argv):
    assert cli.main(list(argv)) == 0
    return capsys.readouterr().out


def test_top_shows_the_mixed_stack(path, capsys):
    """By default; the row is called by its innermost Python frame."""
    lines = shown(capsys, "top", path, "--no-symbols").splitlines()
    assert lines[3].endswith("  key at /srv/app.py:11")
    assert "    load at /srv/app.py:12" in lines and "    python3.10+0x10" in lines
    assert "python: 3.10.13: frames read" in lines


def test_top_shows_one_side(path, capsys):
    """--native, --python; not both."""
    native = shown(capsys, "top", path, "--no-symbols", "--native")
    assert "app.py" not in native and "    python3.10+0x10" in native
    python = shown(capsys, "top", path, "--no-symbols", "--python")
    assert "    key at /srv/app.py:11" in python and "+0x10" not in python and "(no Python frames)" in python
    assert cli.main(["top", path, "--native", "--python"]) == 2


def test_top_groups_by_python_frames(path, capsys):
    """The key heads the column."""
    header, line, *_ = shown(capsys, "top", path, "--no-symbols", "--group-by", "python_line").splitlines()[2:]
    assert header.endswith("python_line") and line.endswith("key at /srv/app.py:11")


def test_json_has_the_frames(path, capsys):
    """Every key, always; groups have none."""
    row = json.loads(shown(capsys, "top", path, "--no-symbols", "--json"))["rows"][0]
    assert row["frames"][0] == {
        "kind": "native", "function": None, "file": None, "line": None, "module": "/usr/bin/python3.10", "vaddr": 16,
        "inlined": False, "placed": True,
    }  # fmt: skip
    assert row["frames"][-1] == {
        "kind": "python", "function": "load", "file": "/srv/app.py", "line": 12, "module": None, "vaddr": None,
        "inlined": False, "placed": False,
    }  # fmt: skip
    assert row["python_trace"] == "key at /srv/app.py:11 < load at /srv/app.py:12" and row["mixed_trace"] is None
    answer = json.loads(shown(capsys, "top", path, "--no-symbols", "--json", "--group-by", "python_file"))
    assert answer["rows"][0]["group"] == "/srv/app.py" and "frames" not in answer["rows"][0]
    assert answer["footer"]["python"] == {"3.10.13: frames read": 1}


def test_status_says_whether_frames_are_read(path, tmp_path, capsys):
    """Version and state; nothing for a program without Python."""
    assert "\npython     3.10.13: frames read\n" in shown(capsys, "status", path)
    assert json.loads(shown(capsys, "status", path, "--json"))[0]["python"] == "3.10.13: frames read"
    (tmp_path / "other.mlrec").write_bytes(RecordingWriter().bytes())
    assert "python" not in shown(capsys, "status", str(tmp_path / "other.mlrec")).replace(str(tmp_path), "")
    assert json.loads(shown(capsys, "status", str(tmp_path / "other.mlrec"), "--json"))[0]["python"] is None


def test_native_allocations_that_are_not_sampled(tmp_path, capsys):
    """Status and every answer say so."""
    for state, said in ((0, False), (1, True)):
        path = tmp_path / f"native{state}.mlrec"
        path.write_bytes(RecordingWriter(python_version=0x030A0DF0, python_state=1, native_state=state).bytes())
        assert ("\nnative     allocations not sampled: " in shown(capsys, "status", str(path))) == said
        assert json.loads(shown(capsys, "status", str(path), "--json"))[0]["counts_native"] is not said
        assert ("; native allocations not sampled: " in shown(capsys, "top", str(path), "--no-symbols")) == said
        answer = json.loads(shown(capsys, "top", str(path), "--no-symbols", "--json"))
        assert [law["native"] for law in answer["footer"]["sampling"]] == [not said]


def test_status_shows_pythons_knobs(path, tmp_path, capsys):
    """Where they are in force; in JSON always."""
    out = shown(capsys, "status", path)
    assert "\neffective  normal, min 16 max 256, python_min 256 python_max 4096, sample_bytes 4194304\n" in out
    found = json.loads(shown(capsys, "status", path, "--json"))[0]
    assert found["counts_python"] is True and found["effective"]["python_max_sample_interval"] == 4096
    (tmp_path / "off.mlrec").write_bytes(RecordingWriter(python_state=5, python_version=0x030A0DF0).bytes())
    out = shown(capsys, "status", str(tmp_path / "off.mlrec"))
    assert "\neffective  normal, min 16 max 256, sample_bytes 4194304\n" in out and "switched off" in out


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({}, "and every 4.0 MiB; Python's small objects: every 256…4096"),
        ({"python_effective": word(1, 1)}, "and every 4.0 MiB; Python's small objects: each"),
        ({"python_effective": word(10_000, 10_000)}, "and every 4.0 MiB; Python's small objects: not sampled"),
        ({"initial": word(1, 1), "python_effective": word(1, 1)}, "sampling: full, every allocation"),
        ({"python_state": 5}, "and every 4.0 MiB"),
    ],
)
def test_footer_says_how_small_objects_are_sampled(header, words):
    """Unless it is as everything else, or they are not."""
    writer = RecordingWriter(**{"python_version": 0x030A0DF0, "python_state": 1, **header})
    assert render.footer(Snapshot(recording.parse(writer.bytes())))[0].endswith(words)


def test_names_of_rows():
    """A group has its own name; otherwise the innermost Python frame is the name."""
    snapshot = Snapshot(recording.parse(traced().bytes()))
    assert render.name_of(snapshot.rows()[0]) == "key at /srv/app.py:11"
    assert render.name_of(snapshot.top(1, group_by="python_file")[0]) == "/srv/app.py"
    assert render.name_of(snapshot.rows()[2]) == "python3.10+0x50"
