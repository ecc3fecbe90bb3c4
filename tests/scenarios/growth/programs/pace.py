"""Work at a given rate, whatever the machine does: so a program knows its own growth."""

import time
from collections.abc import Iterator


def events(per_second: float, until: float = float("inf")) -> Iterator[float]:
    """Yield the seconds since the start, *per_second* times a second; what a slow machine missed is made up for."""
    began = time.monotonic()
    done = 0
    while True:
        passed = time.monotonic() - began
        while done < passed * per_second:
            yield passed
            done += 1
        if passed > until:
            return
        time.sleep(0.005)
