"""Two services of several processes, run in containers and asked about inside, outside and when they have ended."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from container import DEADLINE_S, RECORDINGS, Container, poll

import memleak

MEMLEAK = [sys.executable, "-m", "memleak"]
# Every call of malloc's, for the ledger; all of Python's objects, of six processes, would not fit into 8 MiB.
PYTHON_PAIR = {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "256", "MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL": "4096"}
DOORS = ("run", "preload", "import")
NOTHING = {"live_count": 0, "live_bytes": 0, "total_count": 0, "total_bytes": 0}
SUMS = ("alloc_count", "alloc_bytes", "est_count", "est_bytes", "total_count", "total_bytes")
# What is leaked, merged: as JSON every row of the main process would take 190 MB.
LEAKS = f"""
import json, memleak
rows = memleak.open({RECORDINGS!r}).rows()
found = [row._asdict() for row in rows if row.back_trace.startswith("libcache.so+0x")]
print(json.dumps([{{name: row[name] for name in ("pid", "process", "host", *{SUMS!r})}} for row in found]))
"""

Answer = dict[str, Any]
Ledger = dict[int, dict[str, int]]
Sums = dict[tuple[str, str], tuple[int, ...]]  # of SUMS, by mod_name and stack


class Service(NamedTuple):
    """What is started, and how it is made to leak."""

    command: list[str]
    workers: int
    feed: Callable[[Container], Ledger]
    replaced_at: int | None = None  # pages after which a worker ends and another one takes its place
    writable: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What a service did."""

    status: int
    output: str
    ledger: Ledger  # of each process, by the pid it has inside


class Seen(NamedTuple):
    """What a traced service did, and what memleak said of it."""

    outcome: Outcome
    pids: dict[int, int]  # inside -> outside
    inside: list[Answer]  # ps
    inside_dead: list[Answer]  # ps --dead
    inside_merged: Answer  # top DIR --group-by module
    inside_leaks: list[Answer]  # rows of the leak, merged
    inside_each: dict[int, Answer]  # top PID --group-by module
    outside: list[Answer]  # ps DIR
    outside_words: str  # ps DIR, without --json
    outside_each: dict[int, Answer]  # top PID --group-by function, by the pid inside
    most_bytes: int  # that our files ever took
    left: list[Answer]  # ps --dead DIR, when it has ended
    left_merged: Sums
    left_parts: list[Sums]  # of each recording
    left_footer: Answer  # top DIR
    left_footers: list[Answer]


# ---- how it is traced ---------------------------------------------------------------------------------------------


def environment(door: str | None, core: str) -> dict[str, str]:
    """Return the variables that a service is started with."""
    found = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}"}
    if door in ("preload", "import"):
        found |= {"MEMLEAK": "1", "MEMLEAK_MODE": "full", **PYTHON_PAIR}
    return {**found, "LD_PRELOAD": core} if door == "preload" else found


def through(door: str | None, *command: str) -> list[str]:
    """Return the command that a service is started with."""
    pair = "--python-min=256", "--python-max=4096"
    return [*MEMLEAK, "run", "--quiet", "--mode=full", *pair, *command] if door == "run" else [*command]


# ---- asking -------------------------------------------------------------------------------------------------------


def run_here(*command: str) -> subprocess.CompletedProcess:
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)


def ask(*words: object, within: Container | None = None) -> Any:
    """Return the answer of a verb."""
    command = [*MEMLEAK, *map(str, words), "--json"]
    run = within.run if within else run_here
    done = run(*command)
    assert (done.returncode, done.stderr) == (0, ""), (command, done.stderr)
    return json.loads(done.stdout)


def top(target: object, *words: str, within: Container | None = None) -> Answer:
    """Return every group of a target, those without live blocks too."""
    return ask("top", target, "-n", "100000", "--by=total_bytes", *words, within=within)


def run_untraced(run: Container, service: Service) -> Outcome:
    """Let a service work, and end it."""
    ledger, (status, output) = service.feed(run), run.end()
    assert not run.recordings.exists()
    return Outcome(status, output, ledger)


def observe(run: Container, door: str, service: Service) -> Seen:
    """Let a service work, ask about it, end it, ask again."""
    with most_bytes(run.recordings) as most:
        ledger = service.feed(run)
        inside = poll(
            lambda: settled(run, door, service, ledger),
            "a recording of each process",
            lambda: {"ps": ask("ps", "--dead", within=run), "processes": processes(run), "ledger": ledger},
        )
        pids = run.pids()
        running = [one["pid"] for one in inside]
        while_it_runs = {
            "pids": pids,
            "inside": inside,
            "inside_dead": ask("ps", "--dead", within=run),
            "inside_merged": top(RECORDINGS, "--group-by=module", "--no-symbols", within=run),
            "inside_leaks": json.loads(run.run(sys.executable, "-c", LEAKS).stdout),
            "inside_each": {pid: top(pid, "--group-by=module", "--no-symbols", within=run) for pid in running},
            "outside": ask("ps", run.recordings),
            "outside_words": run_here(*MEMLEAK, "ps", str(run.recordings)).stdout,
            "outside_each": {pid: top(pids[pid], "--group-by=function") for pid in (min(running), max(running))},
        }
        status, output = run.end()
    left = ask("ps", "--dead", run.recordings)
    parts, footers = [], []
    for one in left:  # one after the other: a snapshot with all its rows takes some 60 MB
        snapshot = memleak.open(one["path"])
        parts.append(by_stack(snapshot))
        footers.append(snapshot.footer())
    return Seen(
        outcome=Outcome(status, output, ledger),
        **while_it_runs,
        most_bytes=max(most),
        left=left,
        left_merged=by_stack(memleak.open(run.recordings)),
        left_parts=parts,
        left_footer=ask("top", run.recordings, "-n", "1", "--no-symbols")["footer"],
        left_footers=footers,
    )


def by_stack(snapshot: memleak.Snapshot) -> Sums:
    """Add up the rows of each stack, by its offsets: one process may have had no room for an object's name."""
    found: Sums = {}
    for row in snapshot.rows():
        stack = row.mod_name, sys.intern(re.sub(r"\S+\+", "", row.back_trace))
        before = found.get(stack, (0,) * len(SUMS))
        found[stack] = tuple(was + getattr(row, name) for was, name in zip(before, SUMS))
    return found


def settled(run: Container, door: str, service: Service, ledger: Ledger) -> list[Answer] | None:
    """Return what `ps` says when each process has its recording and none is about to be replaced."""
    found = ask("ps", within=run)
    pids = {one["pid"] for one in found}
    if pids != set(run.pids()) - set(range(first_pid(door))) or len(pids) != 1 + service.workers:
        return None
    most = service.replaced_at or sys.maxsize
    return found if all(ledger.get(pid, NOTHING)["total_count"] < most for pid in pids) else None


def processes(run: Container) -> dict[int, dict[str, str]]:
    """Return what the kernel says of each process, by the number inside."""
    return {
        inside: {name: Path(f"/proc/{pid}/{name}").read_text() for name in ("comm", "wchan", "syscall", "stat")}
        for inside, pid in run.pids().items()
    }


def first_pid(door: str) -> int:
    """Return the pid of the service's first process; `memleak run` comes before it and is not traced."""
    return 2 if door == "run" else 1


@contextmanager
def most_bytes(directory: Path) -> Iterator[list[int]]:
    """Note again and again how much the files of a directory take."""
    found, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            with suppress(FileNotFoundError):  # one was removed just now
                found.append(sum(path.stat().st_blocks * 512 for path in directory.iterdir()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


# ---- gunicorn -----------------------------------------------------------------------------------------------------

GUNICORN_WORKERS = 4


def feed_gunicorn(run: Container) -> Ledger:
    """Send requests, four at a time, until each worker has served some."""
    port = int(poll(lambda: re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", run.text()), "its port")[1])
    ledger: Ledger = {}
    with ThreadPoolExecutor(GUNICORN_WORKERS) as clients:

        def send(number: int, pages: int) -> bool:
            for answer in clients.map(lambda _: get(port, f"/{pages}"), range(number)):
                if answer["total_count"] > ledger.get(answer["pid"], NOTHING)["total_count"]:
                    ledger[answer["pid"]] = answer
            return len(ledger) == GUNICORN_WORKERS

        send(60, 16)
        poll(lambda: send(8, 1), "a request served by each worker")
    return ledger


def get(port: int, path: str) -> dict[str, int]:
    """Send one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        return json.loads(response.read())
    finally:
        connection.close()


GUNICORN = Service(
    [
        "gunicorn", "--chdir=/srv", "--bind=127.0.0.1:0", f"--workers={GUNICORN_WORKERS}", "--worker-tmp-dir=/dev/shm",
        "wsgi",
    ],
    GUNICORN_WORKERS,
    feed_gunicorn,
)  # fmt: skip


# ---- Celery -------------------------------------------------------------------------------------------------------

TASKS, TASKS_EACH, PAGES = 28, 2, 16


def feed_celery(run: Container) -> Ledger:
    """Send tasks from a client inside, and wait for their results."""
    poll(lambda: " ready." in run.text(), "its readiness")
    done = run.run(sys.executable, "/srv/tasks.py", str(TASKS), str(PAGES))
    assert (done.returncode, done.stderr) == (0, "")
    results = json.loads(done.stdout)
    assert len(results) == TASKS
    return {one["pid"]: one for one in sorted(results, key=lambda one: one["total_count"])}


CELERY = Service(
    [
        "celery", "--workdir=/srv", "--app=tasks", "worker", "--pool=prefork", "--concurrency=2", "--loglevel=INFO",
        f"--max-tasks-per-child={TASKS_EACH}", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ],
    2,
    feed_celery,
    replaced_at=TASKS_EACH * PAGES,
    writable=("/var/tmp",),  # billiard wants a directory for temporary files
)  # fmt: skip

SERVICES = {"gunicorn": GUNICORN, "celery": CELERY}
