"""Run programs as in a container: pid 1, another user without a home, a read-only root, 64 MB of shared memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import memleak

UID = 65534
SHARED_MEMORY_BYTES = 64 << 20
DEADLINE_S = 150
RECORDINGS = f"/dev/shm/memleak-{UID}"
REACHABLE = sorted({sys.prefix, sys.base_prefix, str(Path(memleak.__file__).parent)})
INIT = Path(__file__).resolve().with_name("container_init.py")

T = TypeVar("T")


class Container:
    """A program that is running in namespaces of its own. `main` is the pid of its first process, seen from outside."""

    def __init__(self, process: subprocess.Popen, shared_memory: Path, output: Path, environment: Mapping[str, str]):
        """Take over what `start` has started."""
        self.process = process
        self.shared_memory = shared_memory
        self.output = output
        self.environment = environment
        self.main = poll(lambda: children(process.pid) or (process.poll() is not None and [0]), "its first process")[0]

    @property
    def recordings(self) -> Path:
        """The directory of its recordings, seen from outside."""
        return self.shared_memory / Path(RECORDINGS).name

    def text(self) -> str:
        """Return what it has written so far."""
        return self.output.read_text()

    def pids(self) -> dict[int, int]:
        """Return its processes: the number inside -> the number outside."""
        found, left = {}, [self.main]
        while left:
            pid = left.pop()
            numbers = pid_numbers(pid)
            if len(numbers) > 1:
                found[numbers[-1]] = pid
                left += children(pid)
        return found

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Run another command inside, as the same user."""
        enter = ["nsenter", f"--target={self.main}", "--mount", "--pid", "--ipc", "--wd"]
        enter += [f"--setuid={UID}", f"--setgid={UID}"]
        variables = {"PATH": self.environment["PATH"]}
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=DEADLINE_S, env=variables)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal to the first process; return the status of the program and all it wrote."""
        os.kill(self.main, number)
        return self.process.wait(DEADLINE_S), self.text()


@contextmanager
def start(
    command: Sequence[str],
    directory: Path,
    *,
    environment: Mapping[str, str],
    binds: Mapping[str, str] | None = None,
    writable: Sequence[str] = (),
) -> Iterator[Container]:
    """Start a command; whatever runs is killed in the end.

    Args:
        command: the program and its arguments.
        directory: a new one for what belongs to the container: its shared memory, its output.
        environment: the program's, nothing added.
        binds: directories that become others inside.
        writable: directories that are writable inside besides /dev/shm.
    """
    directory.mkdir()
    shared_memory, output = directory / "shm", directory / "output"
    shared_memory.mkdir()
    tmpfs = ["mount", "-t", "tmpfs", "-o", f"size={SHARED_MEMORY_BYTES},mode=1777", "memleak-test", str(shared_memory)]
    subprocess.run(tmpfs, check=True)
    process = None
    try:
        wanted = {
            "shared_memory": str(shared_memory), "binds": binds or {}, "writable": writable, "reachable": REACHABLE,
            "uid": UID, "environment": environment, "command": command,
        }  # fmt: skip
        unshare = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc", "--"]
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*unshare, sys.executable, "-I", str(INIT), json.dumps(wanted)],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip
        yield Container(process, shared_memory, output, environment)
    finally:
        if process is not None:
            for pid in children(process.pid):  # with the first process of a pid namespace end all of it
                os.kill(pid, signal.SIGKILL)
            process.wait()
        subprocess.run(["umount", "--lazy", str(shared_memory)], check=True)


def obstacle(directory: Path) -> str | None:
    """Return why containers cannot be made here, or None."""
    if os.getuid() != 0 or None in (shutil.which("unshare"), shutil.which("nsenter")):
        return "needs root that may mount"
    test = ["sh", "-c", 'for file; do test -r "$file" || exit 9; done', "sh", sys.executable, memleak.__file__]
    try:
        with start(test, directory, environment={"PATH": os.defpath}) as container:
            status = container.process.wait(DEADLINE_S)
            words = container.text()
    except subprocess.CalledProcessError as error:
        return f"needs root that may mount: {error}"
    if status == 9:
        return "needs a tree that other users can read"
    return f"needs root that may mount: {words}" if status else None


def poll(condition: Callable[[], T], what: str, instead: Callable[[], object] = lambda: "") -> T:
    """Return the first value of *condition* that is true; fail when there is none in time, with *instead*'s."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not seen in {DEADLINE_S} s: {what}; {instead()}"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, empty when it is gone."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(word) for line in lists for word in line.split()]


def pid_numbers(pid: int) -> list[int]:
    """Return the numbers of a process, from our namespace to its own; empty when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return [int(word) for line in lines if line.startswith("NSpid:") for word in line.split()[1:]]
