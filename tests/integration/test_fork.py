"""Processes from processes: a child never touches its parent's recording, and has its own."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
from doors import Libraries
from tracing import LONG, Functions, Sum, assert_consistent, ledger, outcome, run

from memleak import recording

# Small recordings: of the dead ones no more than 64 MiB are kept.
SMALL = {"MEMLEAK_ROOM": "6M"}


def own_lines(output: str) -> dict[int, Sum]:
    """Return the lines `PID keep_child_late COUNT BYTES`."""
    lines = [line.split() for line in output.splitlines() if line[:1].isdigit()]
    return {int(pid): Sum(int(count), int(size)) for pid, _, count, size in lines}


class Totals(NamedTuple):
    """All that was ever allocated at a place, and what of it was freed."""

    count: int = 0
    bytes: int = 0
    freed_count: int = 0
    freed_bytes: int = 0


def printed_totals(output: str) -> dict[str, Totals]:
    """Return the lines `total NAME COUNT BYTES FREED_COUNT FREED_BYTES`; what was never called is left out."""
    lines = [line.split() for line in output.splitlines() if line.startswith("total ")]
    totals = {name: Totals(*map(int, numbers)) for _, name, *numbers in lines}
    return {name: found for name, found in totals.items() if found.count}


def recorded_totals(found: recording.Recording, functions: Functions, *prefixes: str) -> dict[str, Totals]:
    """Add up the counters of rows by their innermost function; in full mode estimated bytes are bytes."""
    totals: dict[str, Totals] = {}
    for row in found.rows:
        name = functions.at(found, row.stack[0]) if row.stack else ""
        if name.startswith(prefixes):
            counters = row.alloc_samples, row.alloc_bytes, row.freed_samples, row.freed_bytes
            totals[name] = Totals(*map(sum, zip(totals.get(name, Totals()), counters)))
            assert (row.alloc_count, row.freed_count) == (row.alloc_samples, row.freed_samples)
            assert row.lost_samples == 0
    return totals


@pytest.mark.parametrize("threads", [0, 4])
def test_eight_forked_writers(tracer, program, threads):
    """The parent equals its ledger, totals too; each child names the parent and is exact from where it began."""
    binary = program("forking.c")
    functions = Functions(binary)
    for _ in range(10 if LONG else 2):
        done = tracer.run(binary, threads, 8, env=SMALL)
        assert (done.returncode, done.stderr) == (0, "")
        parent, *children = tracer.recordings()
        assert functions.sums(parent, "keep_") == ledger(done.stdout, "parent")
        totals = printed_totals(done.stdout)
        assert totals.keys() == {"keep_parent", "keep_moved", *(["pass_thread"] if threads else [])}
        assert parent.samples_lost == {}
        assert recorded_totals(parent, functions, "keep_", "pass_") == totals
        assert parent.header.parent_recording_id == 0
        expected = own_lines(done.stdout)
        assert {child.header.pid for child in children} == set(expected)
        for child in children:
            assert child.header.parent_recording_id == parent.header.recording_id
            assert child.header.parent_pid == parent.header.pid
            assert child.header.mode == "full"
            assert set(child.samples_lost) <= {"detached"}
            sums = functions.sums(child, "keep_")
            assert sums["keep_child_late"] == expected[child.header.pid]
            # Its first thousand allocations went by before it had a recording; half of the others were freed.
            assert 450 <= sums["keep_child_early"].count <= 550
            assert set(sums) == {"keep_child_early", "keep_child_late"}
            # What it freed of its parent's is nobody's.
            late = recorded_totals(child, functions, "keep_child_late", "keep_parent", "pass_")
            assert late == {"keep_child_late": Totals(*expected[child.header.pid])}
        tracer.forget()


def test_children_of_a_busy_parent_do_not_hang(tracer, program, record_property):
    """Forked while four threads are inside malloc."""
    binary = program("forking.c")
    for mode in ("full", "normal"):
        done = tracer.run(binary, 4, 64, mode=mode, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("good 64\n")
    record_property("forks", 2 * 64)


def test_children_without_the_loaders_lock_do_not_hang(tracer, program):
    """Forked while another thread was in dl_iterate_phdr(): what opens a child's recording needs no loader."""
    binary = program("loader_lock.c")
    done = tracer.run(binary, 12, env={"MEMLEAK_ROOM": "2M"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "good 12\n", "")
    assert len(tracer.paths()) == 13


@pytest.mark.parametrize(
    "how", ["vfork", "posix_spawn", "clone_vm", "clone_vm_running", "clone", "system", "popen", "daemon", "double_fork"]
)
def test_other_ways_to_start_processes(tracer, program, how):
    """Nothing differs, and the parent equals its ledger exactly."""
    binary = program("spawning.c")
    plain = run(binary, how)
    several = SMALL if how in ("clone", "daemon", "double_fork") else {}
    done = tracer.run(binary, how, env={**several, "MEMLEAK_FOLLOW": None})
    assert outcome(done) == outcome(plain)
    first, *others = tracer.recordings()
    functions = Functions(binary)
    if how == "daemon":  # the first process ended; its child printed the ledger
        (child,) = others
        assert child.header.parent_recording_id == first.header.recording_id
        assert functions.sums(first, "keep_")["keep_here"].count == 3000
        assert 2600 <= functions.sums(child, "keep_")["keep_here"].count <= 2700
    else:
        assert functions.sums(first, "keep_") == ledger(done.stdout)
        assert first.samples_lost == {}
    parents = [found.header.parent_recording_id for found in others]
    ids = [first.header.recording_id, *(found.header.recording_id for found in others)]
    assert parents == {"clone": ids[:1], "daemon": ids[:1], "double_fork": ids[:2]}.get(how, [])


@pytest.mark.parametrize(("follow", "recordings"), [("0", 1), (None, 1), ("1", 2)])
def test_following_exec(tracer, program, follow, recordings):
    """Fork and exec leave no file unless exec is followed, and then one of the new program."""
    binary = program("spawning.c")
    other = program("callers.c", "-fno-builtin", name="other_program")
    for how in ("vfork", "posix_spawn"):
        done = tracer.run(binary, how, other, env={**SMALL, "MEMLEAK_FOLLOW": follow})
        assert done.returncode == 0
        found = tracer.recordings()
        assert [one.header.command for one in found] == ["spawning", "other_program"][:recordings]
        assert all(one.header.parent_recording_id == 0 for one in found)
        tracer.forget()


def test_fork_is_not_followed_when_told_so(tracer, program):
    """MEMLEAK_FOLLOW=0: the parent's recording is the only one, and still exact."""
    binary = program("forking.c")
    done = tracer.run(binary, 0, 4, env={"MEMLEAK_FOLLOW": "0"})
    assert done.returncode == 0
    assert Functions(binary).sums(tracer.only(), "keep_") == ledger(done.stdout, "parent")


def test_child_takes_over_the_knobs(tracer, program):
    """As they were in the parent, whatever the environment says by then."""
    binary = program("forking.c")
    tracer.run(
        binary, 0, 2, mode="normal", env={"MEMLEAK_MIN_SAMPLE_INTERVAL": "5", "MEMLEAK_MAX_SAMPLE_INTERVAL": "9"}
    )
    found = tracer.recordings()
    assert [one.header.effective[:2] for one in found] == [(5, 9)] * 3
    for one in found:
        assert_consistent(one)


def test_thousand_short_children_leave_no_files(tracer, record_property):
    """A shell that forks for each command: children that allocate little leave nothing behind."""
    rounds = 1000 if LONG else 100
    record_property("forks", rounds)
    script = f"i=0; while [ $i -lt {rounds} ]; do (:); i=$((i+1)); done; echo $i"
    assert tracer.same("bash", "-c", script).stdout == f"{rounds}\n"
    assert {found.header.parent_recording_id for found in tracer.recordings()} <= {0, *ids(tracer)}
    assert len(tracer.paths()) < rounds / 4
    assert all(os.path.getsize(path) for path in tracer.paths())


def ids(tracer) -> set[int]:
    """Return the numbers of all recordings."""
    return {found.header.recording_id for found in tracer.recordings()}


# ---- the loader's lock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["held", "threads", "more_threads"])
def test_child_of_a_process_whose_other_thread_was_in_the_loader(tracer, program, how):
    """It can look symbols up, as without us; and what it loads itself is seen, when it could load anything."""
    binary = program("forked_loader.c", "-ldl")
    plug = program("doors/plug.c", "-shared", "-fPIC", "-fno-builtin", name="plug.so")
    done = tracer.same(binary, how, plug, env=SMALL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "child 0\n", "")
    _, child = tracer.recordings()
    libraries = Libraries([plug])
    made = sum(row.alloc_samples for row in child.rows if libraries.stack(child, row)[0] == "plug.so:plug_make")
    if how == "more_threads":  # once a thread of ours has had the lock
        assert made >= 100
    else:
        assert made == (100 if how == "threads" else 0)
