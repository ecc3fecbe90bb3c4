"""The interpreter ends while threads run, objects die and handlers allocate: ending.py return|exit|thread|signal|error."""

import atexit
import os
import signal
import sys
import threading


class Dying:
    """Allocates when it is collected, at the very end too."""

    def __init__(self, name):
        self.name = name
        self.me = self  # so that only the collector can

    def __del__(self):
        junk = [bytes(700) for _ in range(100)]
        if self.name:
            os.write(1, f"{self.name} is gone, {len(junk)}\n".encode())


def run_for_ever():
    while True:
        [bytes(i % 3000) for i in range(200)]


def last():
    junk = {i: str(i) * 20 for i in range(2000)}
    os.write(1, f"at exit {len(junk)}\n".encode())


kept = [Dying("") for _ in range(50)]
first = Dying("first")
atexit.register(last)
for _ in range(3):
    threading.Thread(target=run_for_ever, daemon=True).start()
how = sys.argv[1]
if how == "exit":
    sys.exit(3)
if how == "thread":
    threading.Thread(target=lambda: (bytes(10**6), sys.exit(5))).start()
if how == "signal":
    os.kill(os.getpid(), signal.SIGTERM)
if how == "error":
    raise ValueError("on purpose")
