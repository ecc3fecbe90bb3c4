"""gunicorn and Celery in containers: every process is listed, and what is merged equals the sum and the truth."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import container
import pytest
from container import SHARED_MEMORY_BYTES, poll
from prefork_services import (
    DOORS,
    NOTHING,
    SERVICES,
    SUMS,
    TASKS,
    TASKS_EACH,
    Ledger,
    Outcome,
    Seen,
    ask,
    environment,
    first_pid,
    observe,
    run_untraced,
    through,
)

HERE = Path(__file__).resolve().parent
INITIAL_PID_NAMESPACE = 0xEFFFFFFC

pytestmark = pytest.mark.timeout(600)  # the first test waits for all services, each with several deadlines of 150 s
every_service = pytest.mark.parametrize("name", list(SERVICES))
every_door = pytest.mark.parametrize("door", DOORS)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the services' code, which is /srv for them."""
    directory = tmp_path_factory.mktemp("application")
    for source in (HERE / "prefork").glob("*.py"):
        shutil.copy(source, directory)
    library = ["-shared", "-fPIC", "-o", directory / "libcache.so", HERE / "prefork/cache.c"]
    subprocess.run(["gcc", "-g", "-O1", *library], check=True)
    directory.chmod(0o755)
    why = container.obstacle(directory / "probe")
    if why is not None:
        pytest.skip(why)
    return directory


@pytest.fixture(scope="module")
def services(
    application: Path, core_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str | None], Seen | Outcome]]:
    """Return what was seen of a service: ``services(NAME, DOOR)``; of an untraced one (None), what it did.

    All run at once: they wait most of the time.
    """
    base = tmp_path_factory.mktemp("services")

    def see(name: str, door: str | None) -> Seen | Outcome:
        service = SERVICES[name]
        with container.start(
            through(door, *service.command),
            base / f"{name}-{door}",
            environment=environment(door, core_path),
            binds={str(application): "/srv"},
            writable=service.writable,
        ) as run:
            try:
                return run_untraced(run, service) if door is None else observe(run, door, service)
            except BaseException as error:
                raise AssertionError(f"{name}, {door}: {error}; its output:\n{run.text()}") from error

    installed = [name for name in SERVICES if importlib.util.find_spec(name) is not None]
    every = [(name, door) for name in installed for door in (None, *DOORS)]
    with ThreadPoolExecutor(len(every) or 1) as pool:
        seen = {key: pool.submit(see, *key) for key in every}

        def get(name: str, door: str | None) -> Seen | Outcome:
            if name not in installed:
                pytest.skip(f"{name} is not installed")
            return seen[name, door].result()

        yield get


def of_cache(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Add up the rows of what the services leak: what libcache.so allocates, live or not."""
    return add([row for row in rows if row["group"] == "libcache.so"])


def add(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Add up rows."""
    return {name: sum(row[name] for row in rows) for name in SUMS}


def truth(ledger: Ledger, *pids: int) -> dict[str, int]:
    """Return what the sums over these processes must be."""
    total = {name: sum(ledger.get(pid, NOTHING)[name] for pid in pids) for name in NOTHING}
    return {
        "alloc_count": total["live_count"], "alloc_bytes": total["live_bytes"],
        "est_count": total["live_count"], "est_bytes": total["live_bytes"],
        "total_count": total["total_count"], "total_bytes": total["total_bytes"],
    }  # fmt: skip


def without_numbers(output: str) -> list[str]:
    """Return the lines of a log, sorted, without what differs from run to run."""
    output = re.sub(r"0x[0-9a-f]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", output)
    lines = re.sub(r"\d+([.,:-]\d+)*(e-\d+)?", "N", output).splitlines()
    # A thread of gunicorn's may write this at any time: its control socket wants a home directory.
    return sorted(line for line in lines if "Control server" not in line)


# ---- what must hold -----------------------------------------------------------------------------------------------


@every_service
@every_door
def test_status_and_output_are_the_services_own(services, name, door):
    """As without memleak, line for line."""
    plain, traced = services(name, None), services(name, door).outcome
    assert plain.status == traced.status == 0
    assert without_numbers(traced.output) == without_numbers(plain.output)


@every_service
@every_door
def test_ps_lists_each_process(services, name, door):
    """By the numbers that the processes have inside; outside, also by those that they have there."""
    seen = services(name, door)
    inside = {one["pid"] for one in seen.inside}
    assert len(inside) == 1 + SERVICES[name].workers
    assert inside == set(seen.pids) - set(range(first_pid(door)))
    assert {(one["state"], one["mode"], one["command"]) for one in seen.inside} == {("running", "full", name)}
    assert all(one["pid_here"] == one["pid"] for one in seen.inside)
    assert {one["pid"]: one["pid_here"] for one in seen.outside} == {pid: seen.pids[pid] for pid in inside}
    for pid in inside:
        line = rf"^ *{pid}  {name} +running, here {seen.pids[pid]} +full "
        assert re.search(line, seen.outside_words, re.MULTILINE), seen.outside_words


@every_service
@every_door
def test_merged_totals_equal_the_sum_and_the_truth(services, name, door):
    """Counts, bytes and estimates of the leak: of all processes, of each, and as they say themselves."""
    seen = services(name, door)
    recorded = [one["pid"] for one in seen.inside_dead]
    assert set(seen.inside_each) <= set(recorded)
    for pid, answer in seen.inside_each.items():
        assert of_cache(answer["rows"]) == truth(seen.outcome.ledger, pid)
    assert of_cache(seen.inside_merged["rows"]) == truth(seen.outcome.ledger, *recorded) == add(seen.inside_leaks)
    print(f"{name}, {door}: {len(recorded)} recordings, {of_cache(seen.inside_merged['rows'])}")
    if name == "gunicorn":  # whose workers all leak at one place
        assert set(seen.outcome.ledger) == set(recorded) - {first_pid(door)}
        (row,) = seen.inside_leaks
        assert (row["pid"], row["process"], row["host"]) == (None, "gunicorn", os.uname().nodename)


@every_service
@every_door
def test_process_is_read_from_outside(services, name, door):
    """By the pid that it has there; functions are named by the files that it sees, which are not ours."""
    seen = services(name, door)
    assert not Path("/srv/libcache.so").exists()
    assert first_pid(door) in seen.outside_each
    for pid, answer in seen.outside_each.items():
        leak = [row for row in answer["rows"] if row["group"] == "cache_page"]
        assert add(leak) == truth(seen.outcome.ledger, pid)


@every_service
@every_door
def test_merged_recordings_equal_their_sum_when_all_has_ended(services, name, door):
    """Every stack, and the numbers below the answer."""
    seen = services(name, door)
    assert {one["pid"] for one in seen.left} == {one["pid"] for one in seen.inside_dead}
    assert "running" not in {one["state"] for one in seen.left}
    expected: Counter[tuple[tuple[str, str], str]] = Counter()
    for part in seen.left_parts:
        for stack, sums in part.items():
            expected.update({(stack, name): number for name, number in zip(SUMS, sums)})
    found = {(stack, name): number for stack, sums in seen.left_merged.items() for name, number in zip(SUMS, sums)}
    assert {key: (number, expected.get(key)) for key, number in found.items() if number != expected.get(key)} == {}
    assert found.keys() == expected.keys()
    footer, footers = seen.left_footer, seen.left_footers
    assert footer["recordings"] == len(footers)
    for number in ("samples", "live_samples"):
        assert footer[number] == sum(one[number] for one in footers)
    for counters in ("dropped", "counters"):
        names = {counter for one in footers for counter in one[counters]}
        assert footer[counters] == {name: sum(one[counters].get(name, 0) for one in footers) for name in names}


@every_service
@every_door
def test_shared_memory_is_left_to_the_service(services, name, door):
    """At no time more than an eighth of it is ours, however many processes come and go."""
    seen = services(name, door)
    print(f"{name}, {door}: at most {seen.most_bytes >> 10} KiB of {SHARED_MEMORY_BYTES >> 10} KiB")
    assert 0 < seen.most_bytes <= SHARED_MEMORY_BYTES / 8


@every_door
def test_dead_workers_make_room_for_living_ones(services, door):
    """Those that were replaced are listed as dead, 16 at most; the others always have a recording."""
    seen = services("celery", door)
    assert len(seen.outcome.ledger) >= TASKS / TASKS_EACH
    dead = [one for one in seen.inside_dead if one["state"] != "running"]
    assert len(seen.inside) == 3
    assert 1 <= len(dead) <= 16
    # `memleak run` also follows what a service executes for a moment.
    assert {one["pid"] for one in dead if one["command"] == "celery"} <= set(seen.outcome.ledger)


def test_container_that_was_killed(application, core_path, tmp_path):
    """Its recordings are no longer taken for those of running processes."""
    script = "import signal; print('ready', flush=True); signal.pause()"
    command = [sys.executable, "-c", script]
    with container.start(command, tmp_path / "box", environment=environment("preload", core_path)) as run:
        poll(lambda: run.text() == "ready\n", "its readiness")
        (before,) = ask("ps", run.recordings)
        assert (before["pid"], before["pid_here"], before["state"]) == (1, run.main, "running")
        run.end(signal.SIGKILL)
        (after,) = ask("ps", "--dead", run.recordings)
        # Whoever does not see every process cannot know whether a namespace that is not below its own has ended.
        sees_all = os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE
        assert (after["pid_here"], after["state"]) == (None, "killed" if sees_all else "other namespace")
