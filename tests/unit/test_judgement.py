"""Growth and verdict as columns of rows: what they say, that they are worked out when asked for, and for all stacks at once."""

from __future__ import annotations

import copy
import json
import pickle
import random
import re
import subprocess
import sys
import time

import pytest
from recordingwriter import RecordingWriter

from memleak import cli, judgement, recording, suspects
from memleak.merging import Groups
from memleak.query import Snapshot
from memleak.rows import COLUMNS, JUDGED

HOUR_CS = 360_000
PERIOD_S = 256  # of level 3 of a history
RATE = 100 * 1000 * 200 / 3600  # bytes a second


def an_hour(*, speed=1, **header) -> RecordingWriter:
    """An hour of: a leak, a start-up that holds far more, what comes and goes, and a stack of one sample."""
    writer = RecordingWriter(heartbeat_cs=HOUR_CS, **header)
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    thread = writer.thread(7, b"worker")

    def past(value):
        """Return a history with the bytes held at the end of each period."""
        words = {(3, n % 16): (1 + n) << 40 | round(value((n + 1) * PERIOD_S)) for n in range(3600 // PERIOD_S)}
        return writer.history(words)

    leak = writer.row(
        [(app, 0x10)], samples=200 * speed, bytes=round(RATE * speed * 3600), first_cs=0, last_cs=HOUR_CS,
        peak=round(RATE * speed * 3600), history=past(lambda s: RATE * speed * s),
    )  # fmt: skip
    for n in range(200 * speed):
        writer.live(leak, size=1000, weight=100, born_cs=round(HOUR_CS * (n + 0.5) / (200 * speed)), thread=thread)
    held = 100 * 100 * 100_000
    start_up = writer.row(
        [(app, 0x20)],
        samples=100,
        bytes=held,
        peak=held,
        first_cs=0,
        last_cs=500,
        history=past(lambda s: held),
        domain=2,
    )
    for n in range(100):
        writer.live(start_up, size=100_000, weight=100, born_cs=n, thread=thread)
    passing = writer.row([(app, 0x30)], samples=500, bytes=10**9, freed_bytes=10**9 - 10**5, first_cs=0)
    writer.live(passing, size=1000, weight=100, born_cs=HOUR_CS - 9)
    writer.live(writer.row([(app, 0x40)], samples=1, bytes=100, first_cs=0), size=10, weight=10)
    writer.row([(app, 0x50)], samples=1, bytes=100, freed_bytes=100)
    return writer


def minutes(number, **header) -> RecordingWriter:
    """Return so many minutes of a leak of 1 MB/s, as seen at the default knobs, read at its last moment."""
    end_cs = 6000 * number
    writer = RecordingWriter(
        heartbeat_cs=end_cs, start_monotonic_ns=time.clock_gettime_ns(time.CLOCK_MONOTONIC) - end_cs * 10**7, **header
    )
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    rate, size = 1e6, 10_000
    words = {(2, n % 16): (1 + n) << 40 | round((n + 1) * 64 * rate) for n in range(end_cs // 6400)}
    total = round(rate * end_cs / 100)
    number = total // size // 100
    leak = writer.row(
        [(app, 0x10)], samples=number, bytes=total, first_cs=0, last_cs=end_cs, peak=total, history=writer.history(words)
    )
    for n in range(number):
        writer.live(leak, size=size, weight=100, born_cs=round(end_cs * (n + 0.5) / number))
    return writer


GIB = 1 << 30


@pytest.mark.parametrize(
    ("age", "alive", "left", "word"),
    [
        (6, False, None, "leak"),
        (6, True, None, "too few samples"),
        (6, True, GIB, "too few samples"),
        (6, True, GIB // 2, "leak"),  # 540 s are left to the 15 minutes; at this pace the limit is met in 537
        (6, True, -1, "leak"),
        (4, False, None, "too few samples"),
        (4, True, 1, "too few samples"),
        (16, True, None, "leak"),
    ],
)
def test_who_has_no_time_is_judged_sooner(age, alive, left, word):
    limit = (1, 6000 * age, 8 * GIB, 8 * GIB - left, 0) if left is not None else (0, 0, 0, 0, 0)
    (row,) = snapshot_of(minutes(age, limit=limit), alive=[alive])
    assert row.verdict == word
    assert row.growth_bytes_per_s == (pytest.approx(1e6, rel=0.1) if word == "leak" else None)


def snapshot_of(*writers, alive=None) -> Snapshot:
    return Snapshot([recording.parse(one.bytes(), f"r{n}") for n, one in enumerate(writers)], alive=alive)


def words(rows) -> dict[str, tuple[object, object]]:
    """Return growth and verdict by the innermost place."""
    return {row.back_trace.split()[0]: (row.growth_bytes_per_s, row.verdict) for row in rows}


def test_a_slow_leak_comes_before_a_large_start_up():
    snapshot = snapshot_of(an_hour())
    assert [row.back_trace[:4] for row in snapshot.top(2)] == ["0x20", "0x10"]
    for by in ("growth_bytes_per_s", "growth"):
        first, *others = snapshot.top(None, by=by)
        assert (first.back_trace[:4], first.verdict) == ("0x10", "leak")
        assert first.growth_bytes_per_s == pytest.approx(RATE, rel=0.05)
        assert {row.growth_bytes_per_s for row in others} == {None}
    assert {place: word for place, (_, word) in words(snapshot).items()} == {
        "0x10": "leak", "0x20": "step", "0x30": "churn", "0x40": "too few samples", "0x50": None,
    }  # fmt: skip
    assert [row.back_trace[:4] for row in snapshot.filter(verdict="leak")] == ["0x10"]
    assert len(snapshot.filter(growth_bytes_per_s=lambda rate: rate is None)) == 4
    assert snapshot.sort("growth", ascending=True)[0].verdict == "leak"


@pytest.mark.parametrize("alive", [(False,), (True,), (False, False), (True, True), (True, False)])
def test_columns_are_the_verdicts(alive):
    """Of one recording, of several, and where those of ended processes are left out."""
    writers = [an_hour(pid=n + 1, recording_id=n + 1, speed=n + 1) for n in range(len(alive))]
    app = writers[-1].module("/opt/other", build_id=b"\x02" * 20)
    writers[-1].live(writers[-1].row([(app, 0x60)], samples=1), size=10)
    snapshot = snapshot_of(*writers, alive=alive)
    found = {
        one.row.back_trace: (one.verdict.rate.value if one.verdict.rate else None, one.verdict.verdict)
        for one in snapshot.verdicts()
    }
    rows = snapshot.rows()
    assert len(rows) == 6
    for row in rows:
        assert (row.growth_bytes_per_s, row.verdict) == found.get(row.back_trace, (None, None)), row.back_trace
    (other,) = [row for row in rows if row.back_trace.startswith("other+0x60")]
    assert other.verdict == (None if alive == (True, False) else "too few samples")


def many(chance: random.Random, end_cs: int = HOUR_CS) -> RecordingWriter:
    """Many stacks of few and of many samples: kept, freed in part, with and without a history, young ones, rows of one key."""
    writer = RecordingWriter(heartbeat_cs=end_cs, live_capacity=1 << 14, index_capacity=1 << 12)
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    for place in range(600):
        live = chance.choice([0, 1, 3, 4, 5, 6, 8, 9, 10, 14, 40])
        first = chance.choice([0, 0, 0, end_cs // 2, end_cs - 50_000])
        freed = chance.choice([0, 0, live, 5 * live])
        size, weight = chance.choice([100, 5000]), chance.choice([1.0, 136.0])
        if chance.random() < 0.5:
            born = [round(first + (end_cs - first) * (n + chance.random()) / max(1, live)) for n in range(live)]
        else:
            born = [min(end_cs, first + chance.randrange(3000)) for _ in range(live)]
        held = live * size * weight
        words = {
            (3, n % 16): (1 + n) << 40 | round(held * chance.choice([0.2, 1.0, 1.0, 2.0]) if freed else held * n / 14)
            for n in range(end_cs // 100 // PERIOD_S)
        }
        for copy_of in range(1 + (chance.random() < 0.05)):
            row = writer.row(
                [(app, 0x10 * (place + 1))], samples=live + freed, freed_samples=freed, first_cs=first, last_cs=end_cs,
                bytes=round((live + freed) * size * weight), freed_bytes=round(freed * size * weight), domain=1 + copy_of,
                peak=round(held * chance.choice([1, 2])), history=writer.history(words) if chance.random() < 0.7 else 0,
            )  # fmt: skip
            for at in born:
                writer.live(row, size=chance.choice([size, 7 * size]), weight=weight, born_cs=at)
    return writer


@pytest.mark.parametrize(("seed", "strays"), [*((seed, 0) for seed in range(6)), (6, 7)])
def test_by_column_the_verdicts_are_the_same(seed, strays):
    """No group is made of most stacks, and of some nothing is known but their samples: that is all that is different.

    Where samples belong to a row that is not there, sums are made of Python's numbers.
    """
    writer = many(random.Random(seed))
    for n in range(strays):
        writer.live(0x7FFF_0000, size=5000, weight=136, born_cs=n)
    snapshot = snapshot_of(writer)
    found = snapshot._all.groups
    assert isinstance(found, Groups)
    numbers, judged = judgement.by_column(snapshot._sources[0], found)
    expected = {group.members[0][1]: verdict for group, verdict in suspects.verdicts(snapshot._sources, list(found))}
    assert dict(zip(numbers, judged)) == expected and len(numbers) == len(judged)
    assert len({one.verdict for one in judged}) >= 5
    table = snapshot._sources[0].recording.table
    assert (table._owners is None) == bool(strays)
    assert table.live_squares() == table._by_row(table._live.squares_by_row()) and max(table.live_squares())


@pytest.mark.parametrize("recordings", [1, 2])
def test_what_was_merged_has_not_gone(recordings):
    """Of a live set that was full, samples that others stand for now are no sign of churn; those that were freed are."""
    writers = []
    for number in range(recordings):
        writer = RecordingWriter(heartbeat_cs=HOUR_CS, counters={"thinned": 40}, recording_id=number)
        app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
        thread = writer.thread(7, b"worker")
        for vaddr, live, freed in ((0x10, 2, 0), (0x20, 2, 40), (0x30, 12, 0), (0x40, 12, 80)):
            row = writer.row(
                [(app, vaddr)], samples=100, freed_samples=freed, count=10_000, bytes=10**6, peak=10**6, first_cs=0,
                last_cs=HOUR_CS,
            )  # fmt: skip
            for n in range(live):
                writer.live(row, size=100, weight=10_000 / live, born_cs=HOUR_CS * n // live, thread=thread)
        writers.append(writer)
    found = {row.back_trace.split()[0]: row.verdict for row in snapshot_of(*writers).rows()}
    assert [found[place] for place in ("0x10", "0x20")] == ["too few samples", "churn"]
    assert [found[place] for place in ("0x30", "0x40")] == ["too few samples", "churn"]  # the first grows


def test_groups_grow_by_the_sum_of_their_stacks():
    writer = an_hour()
    snapshot = snapshot_of(writer)
    (row,) = snapshot.top(group_by="module")
    assert row.growth_bytes_per_s == snapshot.top(1, by="growth")[0].growth_bytes_per_s and row.verdict is None
    by_name = {row.group: row.growth_bytes_per_s for row in snapshot.group("mod_name").sort("growth")}
    assert by_name == {"glibc_malloc": row.growth_bytes_per_s, "operator_new": None}
    for thread in snapshot.top(group_by="thread"):
        assert (thread.growth_bytes_per_s, thread.verdict) == (None, None)


def test_nothing_is_judged_before_it_is_asked_for(monkeypatch):
    judged = []
    by_column = judgement.by_column
    monkeypatch.setattr(judgement, "by_column", lambda *found: judged.append(1) or by_column(*found))
    snapshot = snapshot_of(an_hour())
    rows = snapshot.top(10)
    snapshot.filter(mod_name="glibc_malloc").group("module").sort("total_bytes")[:3]
    assert snapshot.sql("SELECT alloc_bytes, back_trace, age_p50 FROM malloc_sample_info ORDER BY est_bytes").rows
    assert not judged
    assert rows[1].verdict == "leak" and rows[0].verdict == "step" and snapshot.top(1, by="growth")[0].verdict == "leak"
    assert judged == [1]


def test_a_row_without_its_snapshot_has_its_verdict():
    """Copied, pickled, changed, as a dict: as it was."""
    row = snapshot_of(an_hour()).top(1, by="growth")[0]
    for other in (copy.copy(row), copy.deepcopy(row), pickle.loads(pickle.dumps(row)), row._replace(pid=5)):
        assert type(other) is type(row) and other.values()[:-9] == row.values()[:-9]
        assert (other.growth_bytes_per_s, other.verdict) == (row.growth_bytes_per_s, "leak")
    assert row._replace(verdict="step").verdict == "step" and row.verdict == "leak"
    found = row._asdict()
    assert list(found) == [*COLUMNS, "group", "trace", "frames"]
    assert list(found.values()) == [*row.values(), *row[-3:]]
    assert tuple(COLUMNS)[19:22] == ("age_p50", *JUDGED)
    assert dict(zip(row.columns(), row.values()))["verdict"] == "leak" and row.exact is False


def test_rows_of_other_questions_have_it_too():
    writer = an_hour()
    writer.threads.clear()
    writer.thread(7, b"worker", last_row=writer.rows[0][1])
    snapshot = snapshot_of(writer)
    assert [one.row.verdict for one in snapshot.evidence(2)] == ["step", "leak"]
    assert [one.row.verdict for one in snapshot.threads()] == ["leak"]
    assert [one.row.verdict for one in snapshot.verdicts(2)] == ["leak", "step"]


def test_sql_judges_each_recording_by_itself():
    snapshot = snapshot_of(an_hour(pid=1), an_hour(pid=2, recording_id=2, speed=2))
    query = (
        "SELECT svr_port, verdict, growth_bytes_per_s FROM malloc_sample_info ORDER BY growth_bytes_per_s DESC LIMIT 3"
    )
    second, first, none = snapshot.sql(query).rows
    assert second[:2] == (2, "leak") and second[2] == pytest.approx(2 * RATE, rel=0.05)
    assert first[:2] == (1, "leak") and first[2] == pytest.approx(RATE, rel=0.05) and none[2] is None
    counts = snapshot.sql("SELECT verdict, count(*) FROM malloc_sample_info GROUP BY 1 ORDER BY 1").rows
    assert counts == [(None, 2), ("churn", 2), ("leak", 2), ("step", 2), ("too few samples", 2)]


def test_postmortem_tells_the_verdict_of_what_grew(tmp_path, capsys):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    writer = an_hour(pid=gone.pid)
    leak = writer.rows[0][1]
    writer.mark(80, [(leak, 10**7)], cs=HOUR_CS // 2, limit=10**10, used=8 * 10**9, live=10**9)
    path = tmp_path / "one.mlrec"
    path.write_bytes(writer.bytes())
    assert cli.main(["postmortem", str(path), "--no-symbols"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"#2  19\.1 MiB .*\n    growth: .*\n    verdict: leak, 324\.7 KiB/min\n.*\n    app\+0x10\n", out
    ), out
    assert re.search(
        r"AT THE END +GROWTH AT THE END +VERDICT\n\+9\.5 MiB +9\.5 MiB +19\.1 MiB +324\.7 KiB/min +leak +app\+0x10\n",
        out,
    )

    assert cli.main(["postmortem", str(path), "--no-symbols", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in answer["rows"]] == ["step", "leak", "churn", "too few samples"]
    assert [row["verdict"] for row in answer["grown"]] == ["leak"]


def test_top_by_growth_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "one.mlrec"
    path.write_bytes(an_hour().bytes())
    assert cli.main(["top", str(path), "--no-symbols", "--by", "growth"]) == 0
    out = capsys.readouterr().out
    head, line = out.splitlines()[2:4]
    assert head.split()[:4] == ["#", "growth", "verdict", "est_bytes"]
    assert line.split()[:4] == ["1", "324.7", "KiB/min", "leak"], line
    assert "app+0x10" in out and "app+0x20" not in out

    assert cli.main(["top", str(path), "--no-symbols", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["verdict"] for row in rows] == ["step", "leak", "churn", "too few samples"]
    assert rows[0]["growth_bytes_per_s"] is None and rows[1]["growth_bytes_per_s"] == pytest.approx(RATE, rel=0.05)

    assert cli.main(["top", str(path), "--no-symbols", "--by", "growth", "--where", "verdict=step"]) == 0
    assert "nothing is known to grow: memleak verdict --all has the reasons" in capsys.readouterr().out
