"""A service that keeps every request on a worker thread, until the kernel ends it.

usage: service.py LIMIT_BYTES KIND. With 85 % of the limit in use it prints "near" and waits for a line on standard input;
then it goes on to the end. KIND cgroup: the kernel kills it. KIND data: it limits itself, and kills itself when it gets no
more memory.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from pathlib import Path

import memleak

REQUEST_BYTES = 40_000
kept = []


def remember(request_bytes: int) -> None:
    """Keep a request for ever: the bug."""
    kept.append(bytearray(request_bytes))  # the culprit


def in_use(fields: tuple[str, ...]) -> int:
    """Return the sum of some lines of /proc/self/status in bytes."""
    words = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return sum(int(line[1]) << 10 for line in words if line and line[0] in fields)


def serve(limit: int, fields: tuple[str, ...]) -> None:
    """Answer requests for ever."""
    has_waited = False
    while True:
        for _ in range(20):
            remember(REQUEST_BYTES)
        if not has_waited and in_use(fields) > 0.85 * limit:
            print("near", flush=True)
            sys.stdin.readline()
            has_waited = True


def work(limit: int, fields: tuple[str, ...]) -> None:
    """Serve; die at once when there is no memory."""
    try:
        serve(limit, fields)
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Start tracing and the worker."""
    limit, kind = int(sys.argv[1]), sys.argv[2]
    memleak.start(1, 1)
    if kind == "data":
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    fields = ("VmData:",) if kind == "data" else ("RssAnon:", "RssShmem:")
    threading.Thread(target=work, args=(limit, fields), name="worker").start()


main()
