"""redis-server under redis-benchmark, over a socket in the file system: the server's own CPU and memory."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from .measuring import Sample, read_report, timed
from .places import clean_environment

TESTS = "set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100,mset"


def serve(environment: dict[str, str], requests: int, limit_s: float, directory: Path) -> Sample:
    """Start a server with this environment, send it so many requests of each kind, and end it.

    Wall time is the client's: how long the requests took. The output is how many keys there are then.
    """
    socket, errors, report = directory / "socket", directory / "errors", directory / "report"
    words = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(directory), "--save", ""]
    deadline = time.perf_counter() + limit_s
    keys, failure = "", ""
    with open(errors, "wb") as err:
        command = timed(report, limit_s, [*words, "--daemonize", "no"])
        server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=err)
        try:
            while not socket.exists() and server.poll() is None and time.perf_counter() < deadline:
                time.sleep(0.01)
            began = time.perf_counter()
            client(["redis-benchmark", "-s", str(socket), "-n", str(requests), "-c", "20", "-t", TESTS, "-q"], deadline)
            wall_s = time.perf_counter() - began
            keys = client(["redis-cli", "-s", str(socket), "dbsize"], deadline)
            client(["redis-cli", "-s", str(socket), "shutdown", "nosave"], deadline)
            server.wait(timeout=30)
        except (subprocess.SubprocessError, OSError) as error:
            wall_s, failure = 0.0, f"its client failed: {str(error)[:80]}"
            server.terminate()  # the server with it
            server.wait()
    sample = read_report(report, keys, errors.read_text(errors="replace"), limit_s)
    return sample._replace(wall_s=wall_s, failure=failure or sample.failure)


def client(command: list[str], deadline: float) -> str:
    """Run a client, which is never traced; return what it says."""
    left = max(1.0, deadline - time.perf_counter())
    return subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, check=True, timeout=left
    ).stdout  # fmt: skip
