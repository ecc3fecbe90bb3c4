"""Run a command on one core and report its time and peak memory: python -IS launch.py CORE COMMAND… < INPUT.

A process of its own, and a small one: a program begins with the peak of memory of whoever started it.
"""

import json
import os
import sys
import time


def main() -> None:
    """Run it without its output; print a line of JSON."""
    core, *words = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    nowhere = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, nowhere, 1), (os.POSIX_SPAWN_DUP2, nowhere, 2)]
    began = time.perf_counter()
    pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_mib": usage.ru_maxrss / 1024, "status": status}))


main()
