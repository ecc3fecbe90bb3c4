"""`memleak serve` and Debian's `mariadb` client, as a user has them."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLIENT = "mariadb"
STARTS_S = 60
ANSWERS_S = 60


class Answer:
    """What the client printed for one statement."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def error(self) -> int | None:
        """The code of the error, None if there was none."""
        found = re.search(r"^ERROR (\d+)", self.text, re.MULTILINE)
        return None if found is None else int(found[1])

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of a table, by column."""
        lines = [line for line in self.text.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return [dict(zip(cells[0], row)) for row in cells[1:]]


class Server:
    """A running `memleak serve`."""

    def __init__(self, process: subprocess.Popen, connection: list[str]) -> None:
        self.process = process
        self.connection = connection

    def ask(self, *statements: str, database: str = "oceanbase", options: tuple[str, ...] = ()) -> list[Answer]:
        """Send statements, of one line each, in one session of the client; return what it printed for each."""
        looks = ["--table", "-vvv", "--unbuffered", "--force"]
        command = [CLIENT, "--no-defaults", *self.connection, *options, *looks, database]
        done = subprocess.run(
            command, input=";\n".join(statements) + ";\n", capture_output=True, text=True, timeout=ANSWERS_S
        )
        rule = "--------------"
        parts = re.split(rf"^{rule}\n.*?\n{rule}\n", done.stdout, flags=re.MULTILINE | re.DOTALL)
        texts = [part.strip("\n").removesuffix("Bye").strip("\n") for part in parts[1:]]
        assert len(texts) == len(statements), done.stdout + done.stderr
        for line in done.stderr.splitlines():
            found = re.match(r"(ERROR .*?) at line (\d+)(:.*)", line)
            if found is not None:
                texts[int(found[2]) - 1] = found[1] + found[3]
        return [Answer(text) for text in texts]

    def try_to_log_in(self, *options: str) -> subprocess.CompletedProcess:
        """Ask for a number, with other options."""
        command = [CLIENT, "--no-defaults", *self.connection, *options, "-e", "SELECT 1"]
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWERS_S)


@contextmanager
def serving(*words: object, password: str | None = None) -> Iterator[Server]:
    """Run `memleak serve` until the block ends."""
    variables = {**os.environ, **({"MEMLEAK_SERVE_PASSWORD": password} if password is not None else {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "memleak", "serve", *map(str, words)], stdout=subprocess.PIPE, text=True, env=variables
    )
    try:
        assert select.select([process.stdout], [], [], STARTS_S)[0], "it does not start"
        line = process.stdout.readline()
        found = re.search(r"listening on (?:(?P<socket>/\S+)|(?P<host>\S+):(?P<port>\d+)):", line)
        assert found is not None, line
        socket = ["--socket", found["socket"]] if found["socket"] else ["-h", found["host"], "-P", found["port"]]
        yield Server(process, socket)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


@contextmanager
def workers(binary: str, core: str, directory: Path, number: int) -> Iterator[list[subprocess.Popen]]:
    """Run a program several times, traced, until the block ends."""
    variables = {**os.environ, "LD_PRELOAD": core, "MEMLEAK": "1", "MEMLEAK_DIR": str(directory)}
    processes = [subprocess.Popen([binary, "0"], stdout=subprocess.DEVNULL, env=variables) for _ in range(number)]
    try:
        wait_for_samples(directory, number)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for_samples(directory: Path, number: int, samples: int = 300) -> None:
    """Wait until so many processes have taken samples."""
    from memleak import locate

    deadline = time.monotonic() + STARTS_S
    while time.monotonic() < deadline:
        found = locate.list_recordings([directory])
        if sum(one.header.counters["samples"] > samples for one in found) >= number:
            return
        time.sleep(0.05)
    raise TimeoutError("the workers take no samples")
