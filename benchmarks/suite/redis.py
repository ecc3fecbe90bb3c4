"""redis-server under redis-benchmark, over a socket in the file system: the server's own CPU and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from .measuring import Sample, wait
from .places import clean_environment

TESTS = "set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100,mset"


def serve(environment: dict[str, str], requests: int, limit_s: float, directory: Path) -> Sample:
    """Start a server with this environment, send it so many requests of each kind, and end it.

    Wall time is the client's: how long the requests took. The output is how many keys there are then.
    """
    socket, errors = directory / "socket", directory / "errors"
    words = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(directory), "--save", ""]
    deadline = time.perf_counter() + limit_s
    with open(errors, "wb") as err:
        server = subprocess.Popen(
            [*words, "--daemonize", "no"], env=environment, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True
        )
        keys, failure, began = "", "", time.perf_counter()
        try:
            while not socket.exists() and server.poll() is None and time.perf_counter() < deadline:
                time.sleep(0.01)
            began = time.perf_counter()
            client(["redis-benchmark", "-s", str(socket), "-n", str(requests), "-c", "20", "-t", TESTS, "-q"], deadline)
            wall_s = time.perf_counter() - began
            keys = client(["redis-cli", "-s", str(socket), "dbsize"], deadline)
        except (subprocess.SubprocessError, OSError) as error:
            wall_s, failure = time.perf_counter() - began, f"the client failed: {str(error)[:80]}"
        finally:
            if server.returncode is None:
                os.kill(server.pid, signal.SIGTERM)
        if server.returncode is not None:
            return Sample(0.0, wall_s, 0, None, keys, f"the server ended with {server.returncode}")
        status, usage = wait(server, time.perf_counter() + 10)
    if not failure and status != 0:
        failure = "hung at its end" if status is None else f"the server ended with {status}"
    return Sample(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss, None, keys, failure)


def client(command: list[str], deadline: float) -> str:
    """Run a client, which is never traced; return what it says."""
    left = max(1.0, deadline - time.perf_counter())
    return subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, check=True, timeout=left
    ).stdout  # fmt: skip
