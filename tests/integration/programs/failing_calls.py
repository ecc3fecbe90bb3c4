"""Calls under one label, of which each fifth fails and keeps 10 KB; all others clean up after themselves.

Arguments: for how many seconds, how many calls a second, and the bytes of settings that the first call makes for all.
Prints how many failed, how many succeeded, and the bytes that the failed ones keep, and waits.
"""

import sys
import time

import memleak

KEPT = 10_000
session = {}
kept = []


def call(number, settings):
    """Do the work of one call."""
    rows = [bytearray(1000) for _ in range(5)]
    if number == 0 and settings:
        session["settings"] = bytearray(settings)
    if number % 5 == 4:
        kept.append(bytearray(KEPT))  # what the path of errors forgets
        raise ValueError(number)
    return len(rows)


def main(seconds, a_second, settings):
    """Call at a steady rate."""
    began = time.monotonic()
    done = {"failed": 0, "succeeded": 0}
    for number in range(int(seconds * a_second)):
        time.sleep(max(0.0, began + number / a_second - time.monotonic()))
        try:
            with memleak.label(sql="SELECT ?", route="/orders", outcome=True):
                call(number, settings)
            done["succeeded"] += 1
        except ValueError:
            done["failed"] += 1
    held = sum(map(sys.getsizeof, kept)) + sys.getsizeof(kept) - sys.getsizeof([])
    print(done["failed"], done["succeeded"], held, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
