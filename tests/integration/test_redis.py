"""A server that forks to save: the same data with and without us, and it is read and looked at while it saves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tracing import assert_sensible, run

import memleak

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None or shutil.which("redis-benchmark") is None,
    reason="redis-server is not installed",
)

PLAYGROUND = "9"  # the database that the benchmark writes to; what is compared stands in database 0
DEADLINE_S = 60
PROGRAM = Path(shutil.which("redis-server") or "").resolve().name


class Server:
    """A running redis-server and how to talk to it."""

    def __init__(self, start: Callable[..., subprocess.Popen], directory: Path) -> None:
        """Start it; its data is `dump.rdb` in *directory*, loaded if it is there."""
        self.socket = directory / "socket"
        words = ["--port", "0", "--unixsocket", self.socket, "--dir", directory, "--save", "", "--daemonize", "no"]
        words += ["--enable-debug-command", "local"]
        self.errors = directory / "errors"
        with open(self.errors, "w") as errors:
            self.process = start("redis-server", *words, stdout=subprocess.DEVNULL, stderr=errors)

    def ask(self, *words: str | int, database: str = "0") -> str:
        """Return the reply to a command."""
        return run("redis-cli", "-s", self.socket, "-n", database, *words).stdout.strip()

    def wait_for(self, reply: str, *words: str) -> None:
        """Ask until the reply holds this line."""
        deadline = time.monotonic() + DEADLINE_S
        while reply not in (last := self.ask(*words)).splitlines():
            assert self.process.poll() is None and time.monotonic() < deadline, f"redis-server says {last}"
            time.sleep(0.05)

    def is_saving(self) -> bool:
        """Whether a child of it is at work."""
        return "rdb_bgsave_in_progress:1" in self.ask("info", "persistence").splitlines()


def untraced(*command: str | Path, **options) -> subprocess.Popen:
    """Start a program as it is."""
    return subprocess.Popen([*map(str, command)], **options)


@contextmanager
def serving(start: Callable[..., subprocess.Popen], directory: Path) -> Iterator[Server]:
    """Serve until the block ends."""
    server = Server(start, directory)
    try:
        server.wait_for("PONG", "ping")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


@contextmanager
def benchmark(server: Server) -> Iterator[None]:
    """Keep it busy until the block ends, in a database of its own."""
    words = ["redis-benchmark", "-s", server.socket, "--dbnum", PLAYGROUND, "-l", "-c", "20", "-q", "-d", "100"]
    running = untraced(*words, stdout=subprocess.DEVNULL)
    try:
        yield
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()


def save_meanwhile(server: Server, keys: int, look: Callable[[int], None] | None) -> None:
    """BGSAVE under the benchmark, to its good end; look at the server while the child is at it."""
    with benchmark(server):
        # The child sleeps at every key: again and longer, if it was done before the look was.
        for seconds in (3, 15, 45):
            server.ask("config", "set", "rdb-key-save-delay", save_delay(seconds / keys) if look else 0)
            assert server.ask("bgsave") == "Background saving started"
            if look:
                look(server.process.pid)
            was_saving = server.is_saving()
            server.wait_for("rdb_bgsave_in_progress:0", "info", "persistence")
            assert "rdb_last_bgsave_status:ok" in server.ask("info", "persistence").splitlines()
            if was_saving or not look:
                break
        assert was_saving or not look
        server.ask("config", "set", "rdb-key-save-delay", 0)


def save_delay(seconds_each: float) -> int:
    """Return redis's word for a mean delay at each key: microseconds, or -N for the shortest one at every Nth."""
    shortest = 60e-6  # what the kernel makes of a microsecond
    return round(seconds_each * 1e6) if seconds_each > shortest else -round(shortest / seconds_each)


class Outcome(NamedTuple):
    """What of a session must not change."""

    replies: list[str]
    status: int
    errors: str


def session(
    start: Callable[..., subprocess.Popen], directory: Path, keys: int, look: Callable[[int], None] | None = None
) -> Outcome:
    """Fill a server, save under a benchmark, load what was saved elsewhere and again here, shut down."""
    (directory / "second").mkdir(parents=True)
    with serving(start, directory) as server:
        replies = [server.ask("debug", "populate", keys, "key", 100)]
        digest = server.ask("debug", "digest")
        save_meanwhile(server, keys, look)
        shutil.copy(directory / "dump.rdb", directory / "second/dump.rdb")
        with serving(untraced, directory / "second") as second:
            second.ask("flushdb", database=PLAYGROUND)
            assert (second.ask("dbsize"), second.ask("debug", "digest")) == (str(keys), digest)
        server.ask("flushdb", database=PLAYGROUND)
        assert (server.ask("debug", "reload"), server.ask("debug", "digest")) == ("OK", digest)
        done = run("redis-benchmark", "-s", server.socket, "-n", "2000", "-c", "20", "-q", "-d", "100")
        assert done.returncode == 0
        server.ask("flushall")
        replies += [server.ask("debug", "populate", 1000), server.ask("save"), server.ask("dbsize")]
        replies += [digest, server.ask("debug", "digest")]
        server.ask("shutdown", "nosave")
        return Outcome(replies, server.process.wait(timeout=DEADLINE_S), server.errors.read_text())


def look_at(pid: int) -> None:
    """Read a process by its pid: from here, and by the commands of another terminal."""
    snapshot = memleak.open(pid)
    assert snapshot.alive == (True,)
    rows = snapshot.top(5)
    assert len(rows) == 5
    assert all(row.est_bytes > 0 for row in rows)
    top = command("top", pid, "-n", "5")
    assert top.startswith(f"redis-server (pid {pid} on ")
    assert ", running, recorded " in top.splitlines()[0]
    assert top.count("\n#5") == 1 and f"{PROGRAM}+0x" in top
    status = json.loads(command("status", pid, "--json"))
    assert [(one["pid"], one["command"], one["state"]) for one in status] == [(pid, "redis-server", "running")]
    assert status[0]["counters"]["samples"] >= snapshot.recordings[0].header.counters["samples"]


def command(*words: str | int) -> str:
    """Return what `memleak WORDS…` prints."""
    done = run(sys.executable, "-m", "memleak", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(("mode", "keys"), [("normal", 200_000), ("full", 10_000)])
def test_saving_under_a_benchmark(tracer, tmp_path, mode, keys):
    """The same data and an orderly end; the server is read by pid while it saves, and its children have recordings."""
    without = session(untraced, tmp_path / "plain", keys)
    with_us = session(lambda *c, **o: tracer.start(*c, mode=mode, **o), tmp_path / mode, keys, look_at)
    assert with_us == without
    assert without.status == 0
    server, *children = tracer.recordings()
    assert server.header.command == "redis-server"
    assert server.header.state_name == "exited"
    assert_sensible(server)
    # The child compresses every value, into a block that it frees: far more than the 1,000 after which it has its own.
    assert children
    for child in children:
        assert child.header.parent_recording_id == server.header.recording_id
        assert child.header.parent_pid == server.header.pid
        assert child.header.mode == mode
        print(f"{mode}: a child took {child.header.counters['samples']} samples")
        # A value each; in normal mode one of 136, and far less than that by any chance.
        assert child.header.counters["samples"] > (keys / 2 if mode == "full" else keys / 272)
        assert_sensible(child)
