"""Calls under one label, of which each fifth fails and keeps 10 KB; all others clean up after themselves.

Arguments: for how many seconds, and how many calls a second. Prints how many failed and how many succeeded, and waits.
"""

import sys
import time

import memleak

KEPT = 10_000
session = {}
kept = []


def call(number):
    """Do the work of one call."""
    rows = [bytearray(1000) for _ in range(5)]
    if number == 0:
        session["settings"] = bytearray(300_000)  # the first call makes it, for all
    if number % 5 == 4:
        kept.append(bytearray(KEPT))  # what the path of errors forgets
        raise ValueError(number)
    return len(rows)


def main(seconds, a_second):
    """Call at a steady rate."""
    began = time.monotonic()
    done = {"failed": 0, "succeeded": 0}
    for number in range(int(seconds * a_second)):
        time.sleep(max(0.0, began + number / a_second - time.monotonic()))
        try:
            with memleak.label(sql="SELECT ?", route="/orders", outcome=True):
                call(number)
            done["succeeded"] += 1
        except ValueError:
            done["failed"] += 1
    print(done["failed"], done["succeeded"], flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
