"""Labels and threads as a reader shows them, from recordings made by hand."""

from __future__ import annotations

import json
import random

import pytest
from recordingwriter import RecordingWriter

from memleak import cli, recording
from memleak.errors import MemleakError, QueryError
from memleak.query import Snapshot

SETS = {1: "tenant_id=7", 2: "ctx=SQL\nmod=parser\nsql=SELECT ?\ntenant_id=8", 3: "tenant_id=x", 5: "sql=SELECT ?"}


def written(**header) -> RecordingWriter:
    """A recording of six sets and none at all, one sample of 1000 bytes times a power of two each."""
    writer = RecordingWriter(**header)
    module = writer.module("/usr/bin/service", main=True)
    writer.labels(SETS)
    for number, label_set in enumerate((0, 1, 2, 3, 4, 256, 5)):
        row = writer.row([(module, 0x1000)], label_set=label_set, bytes=1000 << number, samples=1, count=1)
        writer.live(row, size=1000 << number, thread=1)
    writer.thread(70, b"worker", samples=7, last_row=row, last_cs=900)
    writer.thread(71, b"early", samples=1, last_row=0, last_cs=0)
    writer.thread(72, b"damaged", samples=1, last_row=12345, last_cs=100)
    return writer


@pytest.fixture
def snapshot() -> Snapshot:
    """It, read."""
    return Snapshot(recording.parse(written().bytes(), "test"))


def by_size(snapshot: Snapshot) -> list:
    """Rows in the order they were written in."""
    return sorted(snapshot.rows(), key=lambda row: row.alloc_bytes)


def test_columns(snapshot):
    """`labels` is JSON; `tenant_id`, `ctx` and `mod` show in OceanBase's columns."""
    rows = by_size(snapshot)
    labels = [row.labels and json.loads(row.labels) for row in rows]
    assert labels[:4] == [
        None, {"tenant_id": "7"}, {"ctx": "SQL", "mod": "parser", "sql": "SELECT ?", "tenant_id": "8"}, {"tenant_id": "x"},
    ]  # fmt: skip
    assert labels[4:] == [{"(set of labels)": "4"}, {"other": "more than 255 sets of labels"}, {"sql": "SELECT ?"}]
    assert [row.tenant_id for row in rows] == [500, 7, 8, 500, 500, 500, 500]
    assert [row.ctx_name for row in rows][1:4] == ["GLIBC", "SQL", "GLIBC"]
    assert [row.mod_name for row in rows][1:4] == ["glibc_malloc", "parser", "glibc_malloc"]


def test_group_by_label(snapshot):
    """Values of one label; no such label, and what is not known, are groups of their own."""
    groups = {row.group: row.alloc_bytes for row in snapshot.top(None, group_by="label:sql")}
    assert groups == {"SELECT ?": 4000 + 64000, "(other)": 32000, "(no such label)": 1000 + 2000 + 8000 + 16000}
    (both,) = [row for row in snapshot.top(None, group_by="label:sql") if row.group == "SELECT ?"]
    assert (both.tenant_id, both.labels, both.mod_name, both.ctx_name) == (None, None, None, None)


def test_where_label(snapshot):
    """By value, as a text or not; by absence; by a callable; together with a column."""
    assert [row.alloc_bytes for row in snapshot.top(None, where={"label:tenant_id": 7})] == [2000]
    assert {row.alloc_bytes for row in snapshot.top(None, where={"label:sql": "SELECT ?"})} == {4000, 64000}
    assert {row.alloc_bytes for row in snapshot.top(None, where={"label:sql": "SELECT ?", "tenant_id": 8})} == {4000}
    assert len(snapshot.top(None, where={"label:tenant_id": None})) == 3
    assert len(snapshot.top(None, where={"label:tenant_id": lambda value: value in ("7", "8")})) == 2
    with pytest.raises(QueryError, match="label:NAME"):
        snapshot.top(None, group_by="label")


def test_chain(snapshot):
    """A filter and a grouping by label make no row; behind a grouping a filter looks at what the rows of a group share."""
    named = snapshot.with_symbolizer(None)
    assert [row.alloc_bytes for row in named.filter({"label:sql": "SELECT ?"}).filter(tenant_id=8)] == [4000]
    groups = named.group("label:sql")
    assert [row.group for row in groups.filter({"label:sql": "SELECT ?"})] == ["SELECT ?"]
    assert [row.group for row in groups.filter({"label:tenant_id": None})] == ["SELECT ?", "(no such label)"]
    assert named.filter(labels='{"tenant_id": "7"}').to_dicts()[0]["tenant_id"] == 7
    with pytest.raises(QueryError, match="cannot filter by 'label'"):
        named.filter(label="sql")


def test_sql(snapshot):
    """The column is there, and sqlite reads it as JSON."""
    query = "SELECT json_extract(labels, '$.sql'), sum(alloc_bytes) FROM malloc_sample_info GROUP BY 1 ORDER BY 2 DESC LIMIT 1"
    assert [tuple(row) for row in snapshot.sql(query).rows] == [("SELECT ?", 68000)]


def test_sql_tables(snapshot):
    """`labels` has each label of each set once; it joins by what the column `labels` says, as does `history`."""
    query = "SELECT name, value FROM labels WHERE name IN ('sql', 'tenant_id', 'other') ORDER BY 1, 2"
    assert snapshot.sql(query).rows == [
        ("other", "more than 255 sets of labels"), ("sql", "SELECT ?"), ("sql", "SELECT ?"), ("tenant_id", "7"),
        ("tenant_id", "8"), ("tenant_id", "x"),
    ]  # fmt: skip
    query = "SELECT value, sum(alloc_bytes) FROM malloc_sample_info JOIN labels USING (svr_ip, svr_port, labels)"
    assert snapshot.sql(query + " WHERE name = 'sql' GROUP BY 1").rows == [("SELECT ?", 68000)]
    assert snapshot.sql("SELECT count(*) FROM history WHERE labels IS NULL").rows == [(1,)]


def test_recordings_are_merged_by_what_labels_say():
    """The number of a set is its process's own affair."""
    first, second = RecordingWriter(pid=1, recording_id=1), RecordingWriter(pid=2, recording_id=2)
    for writer, number in ((first, 1), (second, 9)):
        module = writer.module("/usr/bin/service", build_id=b"x" * 20, main=True)
        writer.labels({number: "route=/x", number + 1: f"pid={number}"})
        for label_set in (number, number + 1):
            writer.live(writer.row([(module, 0x1000)], label_set=label_set), size=500)
    found = Snapshot([recording.parse(writer.bytes(), "test") for writer in (first, second)]).rows()
    assert sorted((row.labels, row.alloc_bytes) for row in found) == [
        ('{"pid": "1"}', 500), ('{"pid": "9"}', 500), ('{"route": "/x"}', 1000),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [b"", b"=", b"a", b"\xff=\xfe", b"a=b\nb", b"a=\x1b[2J", b"a=1\na=2", b"=x\n\n"])
def test_odd_texts(text):
    """Anything may stand in a file: names and values are made printable, what has no name is left out."""
    writer = RecordingWriter()
    writer.labels({1: text})
    writer.live(writer.row([(1, 1)], label_set=1), size=100)
    (row,) = Snapshot(recording.parse(writer.bytes(), "test")).rows()
    assert all(name and (name + value).isprintable() for name, value in json.loads(row.labels).items())


def test_damaged_bytes_are_refused_or_read():
    """Every byte of the segment and its texts may be anything."""
    raw = written().bytes()
    chance = random.Random(1)
    for _ in range(300):
        damaged = bytearray(raw)
        for _ in range(20):
            damaged[chance.randrange(4096, len(damaged))] = chance.randrange(256)
        try:
            snapshot = Snapshot(recording.parse(bytes(damaged), "test"))
        except MemleakError:
            continue
        snapshot.top(None, group_by="label:sql")
        snapshot.threads()


@pytest.mark.parametrize(("state", "words"), [(1, ""), (2, ", labels not followed: they were not what had been set")])
def test_whether_they_are_followed(state, words):
    """Said where it is said whether frames are read."""
    writer = written(python_version=0x030B07F0, python_state=1, label_state=state)
    (python,) = Snapshot(recording.parse(writer.bytes(), "test")).footer()["python"]
    assert python == "3.11.7: frames read" + words


def test_threads(snapshot):
    """The last seen first; what was not noted, or leads nowhere, is not known."""
    worker, damaged, early = snapshot.threads()
    assert (worker.name, worker.tid, worker.samples, worker.pid) == ("worker", 70, 7, snapshot.recordings[0].header.pid)
    assert worker.age_s == (snapshot.recordings[0].header.end_cs - 900) / 100
    assert worker.row.labels == '{"sql": "SELECT ?"}' and worker.row.alloc_bytes == 64000
    assert (damaged.name, damaged.row, early.name, early.row) == ("damaged", None, "early", None)


def test_verbs(tmp_path, capsys):
    """`top --group-by`, `top --where` and `threads`, as text and as JSON."""
    path = tmp_path / "a.mlrec"
    path.write_bytes(written().bytes())
    assert cli.main(["top", str(path), "--no-symbols", "--group-by", "label:sql"]) == 0
    assert "SELECT ?" in capsys.readouterr().out
    assert cli.main(["top", str(path), "--no-symbols", "--where", "label:tenant_id=8"]) == 0
    assert "parser; ctx=SQL, mod=parser, sql=SELECT ?, tenant_id=8)" in capsys.readouterr().out
    assert cli.main(["threads", str(path), "--no-symbols"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["thread", "pid", "tid", "last", "sample", "samples", "labels", "innermost", "frame"]
    assert lines[3].split()[0] == "worker" and "sql=SELECT ?" in lines[3] and lines[3].endswith("0x1000")
    assert cli.main(["threads", str(path), "--no-symbols", "--json"]) == 0
    threads = json.loads(capsys.readouterr().out)["threads"]
    assert [each["tid"] for each in threads] == [70, 72, 71]
    assert threads[0]["labels"] == {"sql": "SELECT ?"} and threads[1]["trace"] == []
