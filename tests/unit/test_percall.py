"""Bytes for each call that ended one way, from recordings that tell what is live and how many calls there were."""

import json

import pytest
from recordingwriter import RecordingWriter, word

from memleak import recording
from memleak.cli import verdict
from memleak.percall import LEAST_CALLS
from memleak.query import Snapshot

FULL = {"initial": word(1, 1), "sample_bytes": 0, "python_requested": word(1, 1), "python_effective": word(1, 1)}
BASE = "sql=SELECT ?\nroute=/orders"
OK, FAILED = 1, 2  # numbers of sets of labels
END_CS, UNIT_CS = 6000, 400
KIB = 1024


def writer_of(calls, sets=None, **header):
    """Return a writer of a minute's recording with a module, and calls by the number of a set of labels."""
    writer = RecordingWriter(heartbeat_cs=END_CS, **header)
    writer.app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    writer.labels(sets or {OK: f"{BASE}\noutcome=ok", FAILED: f"{BASE}\noutcome=ValueError"}, calls)
    writer.at = 0
    return writer


def stack(writer, label_set, births, size, *, weight=1.0, **more):
    """Add a stack of live blocks, with the history that they make."""
    writer.at += 0x10
    each = weight * size
    held = {
        (0, period % 16): (period + 1) << 40 | round(each * sum(born <= period * UNIT_CS for born in births))
        for period in range(1, END_CS // UNIT_CS)
    }
    row = writer.row(
        [(writer.app, writer.at)], samples=len(births), count=weight * len(births), bytes=round(each * len(births)),
        peak=round(each * len(births)), first_cs=min(births), last_cs=max(births), label_set=label_set,
        history=writer.history(held), **more,
    )  # fmt: skip
    for born in births:
        writer.live(row, size=size, weight=weight, born_cs=born)
    return row


def evenly(number, begin=100):
    """Births at a steady pace from *begin* up to now."""
    return [begin + (END_CS - begin) * n // number for n in range(number)]


def told(writer):
    return Snapshot(recording.parse(writer.bytes(), "r")).per_call()


def by_outcome(one):
    return {ended.outcome: ended for ended in one.ended}


def test_failed_calls_leak_and_successful_ones_do_not():
    writer = writer_of({OK: 960, FAILED: 240}, **FULL)
    stack(writer, FAILED, evenly(240), 10_000)
    stack(writer, OK, [150], 300_000)  # the first call makes it, for all
    (one,) = told(writer)
    assert (one.kind, dict(one.labels)) == ("leak", {"sql": "SELECT ?", "route": "/orders"})
    assert one.finding == (
        "under route=/orders, sql=SELECT ? each call that fails with ValueError leaves 9.8 KiB behind;"
        " calls that succeed leave at most 313 B"
    )
    assert [ended.outcome for ended in one.ended] == ["ok", "ValueError"]
    failed, ok = by_outcome(one)["ValueError"], by_outcome(one)["ok"]
    assert (failed.calls, failed.verdicts, failed.leaks) == (240, {"leak": 1}, 1)
    assert failed.per_call[:4] == failed.left_per_call[:4] == (10_000, 0, 10_000, 10_000)
    assert failed.growth_per_call.value == pytest.approx(10_000, rel=0.05)
    assert (ok.calls, ok.per_call.value, ok.leaks, ok.growth_per_call) == (960, 312.5, 0, None)


def test_nothing_left_is_told_as_exactly_as_it_is_known():
    writer = writer_of({OK: 960, FAILED: 240}, **FULL)
    stack(writer, FAILED, evenly(240), 10_000)
    assert told(writer)[0].finding.endswith("; calls that succeed leave nothing")
    writer = writer_of({OK: 9600, FAILED: 240}, sample_bytes=1 << 20)
    stack(writer, FAILED, evenly(60), 10_000, weight=4.0)
    (one,) = told(writer)
    ok, failed = one.ended
    assert ok.per_call[:4] == (0.0, None, 0.0, pytest.approx(2.996 * (1 << 20) / 9600, rel=1e-3))
    assert one.kind == "difference"  # a minute is too young for a verdict
    assert "calls that succeed have left nothing that was seen [< 328 B]; too few samples, or too young" in one.finding
    low, high = failed.left_per_call.low, failed.left_per_call.high
    assert low < failed.left_per_call.value == 10_000 < high
    assert f"has left 9.8 KiB [{low / KIB:.1f} KiB, {high / KIB:.1f} KiB] behind" in one.finding


def test_python_s_small_objects_widen_what_may_have_been_missed():
    writer = writer_of({OK: 100}, sample_bytes=4096, python_version=0x030B07F0, python_state=1)
    (one,) = told(writer)
    objects = (256 + 4096) / 2 * 512  # more than 4096 bytes
    assert one.ended[0].per_call.high == pytest.approx(2.996 * objects / 100, rel=1e-3)


def test_successful_calls_that_leak_are_found_too():
    writer = writer_of({OK: 240, FAILED: 30}, **FULL)
    stack(writer, OK, evenly(240), 500)
    (one,) = told(writer)
    assert one.kind == "leak"
    assert one.finding.endswith(
        "each call that succeeds leaves 500 B behind; calls that fail with ValueError leave nothing"
    )


@pytest.mark.parametrize(
    ("why", "failed", "ok"),
    [
        ("a single block", ([3000], 500_000), None),
        ("a few blocks", (evenly(5), 100_000), None),
        ("all at one moment", ([100, *[3000] * 30], 10_000), None),
        ("successful ones left as much", (evenly(30), 10_000), (evenly(60), 10_000)),
        ("nothing", None, None),
    ],
)
def test_what_is_no_finding(why, failed, ok):
    """A minute in which intervals were as by default: no verdicts."""
    writer = writer_of({OK: 60, FAILED: 30}, sample_bytes=65536)
    for number, what in ((FAILED, failed), (OK, ok)):
        if what is not None:
            stack(writer, number, *what)
    (one,) = told(writer)
    assert (one.kind, one.finding) == ("", ""), why


def test_a_cache_that_was_filled_at_once_is_no_finding():
    """Its verdict is known: nothing of it is laid to each call."""
    writer = writer_of({FAILED: 30, OK: 1000}, **FULL)
    stack(writer, FAILED, [500 + n // 10 for n in range(300)], 10_000)
    (one,) = told(writer)
    failed = by_outcome(one)["ValueError"]
    assert (failed.verdicts, one.kind) == ({"step": 1}, "")
    assert failed.per_call.value == 100_000 and failed.left_per_call.value == 0


@pytest.mark.parametrize(("calls", "kind"), [(LEAST_CALLS - 1, ""), (LEAST_CALLS, "difference")])
def test_few_calls_tell_nothing_of_each(calls, kind):
    writer = writer_of({OK: 1000, FAILED: calls}, sample_bytes=65536)
    stack(writer, FAILED, evenly(30), 100_000)
    assert told(writer)[0].kind == kind


def test_pools_and_other_labels_do_not_count():
    """Nor what is under an outcome of which no call is known: `outcome="text"` is a label like any."""
    sets = {OK: f"{BASE}\noutcome=ok", FAILED: f"{BASE}\noutcome=ValueError", 3: BASE, 4: "job=1\noutcome=text"}
    writer = writer_of({OK: 10, FAILED: 10}, sets, **FULL)
    writer.pool(b"arena")
    stack(writer, FAILED, evenly(30), 100_000, domain=129)
    stack(writer, 3, evenly(30), 100_000)
    stack(writer, 4, evenly(30), 100_000)
    (one,) = told(writer)
    assert one.est_bytes == 0 and not one.finding
    assert told(writer_of({}, sets)) == []


def test_labels_within_an_entry_belong_to_it_and_an_inner_entry_has_its_own():
    sets = {
        1: "route=/o\noutcome=ok", 2: "outcome=ok\nroute=/o\nstep=1", 3: "route=/o\noutcome=KeyError\nsql=Q",
        4: "outcome=ok\nroute=/o\nsql=Q", 5: "outcome=ok\nroute=/o\nsql=Q\nstep=1", 6: "outcome=KeyError\nroute=/o\nstep=1",
    }  # fmt: skip
    writer = writer_of({1: 10, 3: 4, 4: 6}, sets, **FULL)
    for number, size in ((1, 1000), (2, 200), (3, 30), (4, 5), (5, 7000), (6, 40_000)):
        stack(writer, number, [1000], size)
    found = {tuple(dict(one.labels)): by_outcome(one) for one in told(writer)}
    assert {name: one.est_bytes.value for name, one in found[("route",)].items()} == {"ok": 1200, "KeyError": 40_000}
    assert {name: one.est_bytes.value for name, one in found["route", "sql"].items()} == {"ok": 7005, "KeyError": 30}
    running = found[("route",)]["KeyError"]  # goes on after a call that is not counted yet
    assert (running.calls, running.per_call, running.left_per_call) == (0, None, None)


def test_what_may_be_of_two_entries_is_laid_to_neither():
    sets = {1: "a=1\noutcome=ok", 2: "b=1\noutcome=ok", 3: "a=1\nb=1\noutcome=ok", 4: "b=1\noutcome=KeyError",
            5: "a=1\nb=1\noutcome=KeyError"}  # fmt: skip
    writer = writer_of({1: 1, 2: 1, 4: 1}, sets, **FULL)
    stack(writer, 3, [1000], 100)
    stack(writer, 5, [1000], 3)  # only an entry with b has ended so
    assert sum(one.est_bytes for one in told(writer)) == 3


def test_of_several_recordings_the_running_are_added_up():
    made = []
    for _ in range(3):
        writer = writer_of({OK: 100, FAILED: 240}, **FULL)
        stack(writer, FAILED, evenly(240), 10_000)
        made.append(recording.parse(writer.bytes(), "r"))
    (one,) = Snapshot(made, alive=[True, False, True]).per_call()
    assert [(ended.outcome, ended.calls) for ended in one.ended] == [("ok", 200), ("ValueError", 480)]
    assert by_outcome(one)["ValueError"].per_call.value == 10_000


def test_findings_come_first():
    sets = {1: "sql=A\noutcome=KeyError", 2: "sql=B\noutcome=KeyError", 3: "sql=C\noutcome=KeyError"}
    writer = writer_of({1: 100, 2: 240, 3: 100}, sets, **FULL)
    stack(writer, 1, [100], 10_000_000)
    stack(writer, 2, evenly(240), 100)
    stack(writer, 3, [100], 20_000_000)
    assert [dict(one.labels)["sql"] for one in told(writer)] == ["B", "C", "A"]


def test_the_verb_shows_them(tmp_path, capsys):
    writer = writer_of({OK: 960, FAILED: 240}, **FULL)
    stack(writer, FAILED, evenly(240), 10_000)
    path = tmp_path / "r.mlrec"
    path.write_bytes(writer.bytes())
    assert verdict.main([str(path), "--no-symbols"]) == 3
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("per call, by how it ended (labels with outcome=True):")
    assert lines[at + 1].startswith(
        "  leak: under route=/orders, sql=SELECT ? each call that fails with ValueError leaves"
    )
    assert lines[at + 3].split("?")[1].split() == "ok 960 0 B 0 B exact - -".split()
    assert lines[at + 4].split("?")[1].split() == "ValueError 240 2.3 MiB 9.8 KiB exact 9.9 KiB 1 leak".split()
    verdict.main([str(path), "--no-symbols", "--json"])
    (one,) = json.loads(capsys.readouterr().out)["per_call"]
    assert one["kind"] == "leak" and one["labels"] == {"route": "/orders", "sql": "SELECT ?"}
    assert one["ended"][1]["calls"] == 240 and one["ended"][1]["per_call"]["value"] == 10_000


def test_sets_without_a_finding_are_shown_when_everything_is(tmp_path, capsys):
    path = tmp_path / "r.mlrec"
    path.write_bytes(writer_of({OK: 12_345}).bytes())
    assert verdict.main([str(path), "--no-symbols"]) == 0
    assert "per call" not in capsys.readouterr().out
    verdict.main([str(path), "--no-symbols", "--all"])
    out = capsys.readouterr().out
    assert "12,345" in out and "leak:" not in out
