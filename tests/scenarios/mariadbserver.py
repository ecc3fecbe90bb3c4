"""A MariaDB server for tests that only they reach, with a table `scenario.source`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEXT_BYTES = 400
DEADLINE_S = 60


def missing() -> str | None:
    """Return what a server and its client lack here, None if nothing."""
    if _binary() is None:
        return "mariadbd is not installed"
    if importlib.util.find_spec("MySQLdb") is None:
        return "mysqlclient is not installed"
    return None


def _binary() -> str | None:
    return shutil.which("mariadbd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


@contextmanager
def serving(rows: int) -> Iterator[str]:
    """Run a server whose table has so many rows; give its socket."""
    home = Path(tempfile.mkdtemp(prefix="memleak-test-"))  # 0700; a socket's path must be short
    socket = home / "socket"
    (home / "data").mkdir()
    # An empty data directory will do without accounts and InnoDB, and does not take the ten seconds of an installation.
    # A reader that waits to be looked at must not be cut off.
    command = [
        str(_binary()), "--no-defaults",
        f"--datadir={home / 'data'}", f"--socket={socket}", f"--pid-file={home / 'pid'}",
        "--skip-networking", "--skip-grant-tables", "--skip-innodb", "--default-storage-engine=Aria",
        "--net-write-timeout=3600", *(["--user=root"] if os.getuid() == 0 else []),
    ]  # fmt: skip
    with open(home / "log", "w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as running:
        try:
            _fill(socket, rows, running, home / "log")
            yield str(socket)
        finally:
            running.terminate()
            try:
                running.wait(DEADLINE_S)
            finally:
                running.kill()
                shutil.rmtree(home)


def _fill(socket: Path, rows: int, running: subprocess.Popen, log: Path) -> None:
    """Wait for the server and make the table."""
    import MySQLdb

    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            connection = MySQLdb.connect(unix_socket=str(socket))
            break
        except MySQLdb.OperationalError:
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.1)
    cursor = connection.cursor()
    cursor.execute("CREATE DATABASE scenario")
    connection.select_db("scenario")
    cursor.execute("CREATE TABLE source (id INT PRIMARY KEY, text VARCHAR(500)) CHARACTER SET utf8mb4")
    texts = f"repeat(char(97 + seq % 26), {TEXT_BYTES} - seq % 10)"
    cursor.execute(f"INSERT INTO source SELECT seq, {texts} FROM seq_1_to_{rows}")
    connection.close()
