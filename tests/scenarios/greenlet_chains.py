"""Greenlets switch to each other in random order, each in a chain of functions of its own, and allocate at each depth.

usage: greenlet_chains.py greenlet|gevent SWITCHES

Prints a ledger as JSON: for each place that allocates the frames of its stack, innermost first, the size of its blocks
and how many there were.
"""

import json
import random
import sys
import threading
from functools import partial

GREENLETS = 12
THREADS = 2


def depth_of(number):
    """Some chains are short, some are deep."""
    return 2 + number * 3


def source(number):
    """Return the functions of a greenlet: each allocates, lets others run, calls the next one, allocates again."""
    text = "\n" * number
    for level in range(depth_of(number)):
        further = f"g{number}_{level + 1}()" if level + 1 < depth_of(number) else "pause()"
        text += (
            f"def g{number}_{level}():\n"
            f"    before({level}, bytearray(SIZE))\n"
            f"    {further}\n"
            f"    after({level}, bytearray(SIZE))\n"
        )
    return text


def stack(number, level, name):
    """Return the frames of a place as the text has them."""
    first = number + 1  # line of the outermost function; each has four
    innermost = first + 4 * level + (1 if name == "before" else 3)
    lines = [innermost] + [first + 4 * outer + 2 for outer in reversed(range(level))]
    frames = [[f"chain{number}", f"g{number}_{level - i}", line] for i, line in enumerate(lines)]
    return [*frames, [__file__, "forever", forever.__code__.co_firstlineno + 3]]


def forever(first):
    """Run one chain again and again."""
    while True:
        first()


class Greenlets:
    """Those of one thread."""

    def __init__(self, kind, thread, switches):
        """Make none yet; they belong to the thread that runs them."""
        self.kind = kind
        self.left = switches
        self.numbers = range(thread, GREENLETS, THREADS)
        self.random = random.Random(thread)
        self.counts = {}
        self.kept = {}

    def first_of(self, number):
        """Return the outermost function of a chain."""

        def note(name, level, block):
            key = (number, level, name)
            self.counts[key] = self.counts.get(key, 0) + 1
            self.kept[key] = block
            if self.random.random() < 0.3:
                self.pause()

        names = {"SIZE": 5000 + 100 * number, "pause": self.pause}
        names.update(before=partial(note, "before"), after=partial(note, "after"))
        exec(compile(source(number), f"chain{number}", "exec"), names)
        return names[f"g{number}_0"]

    def run(self):
        """Start them and wait until all switches are done."""
        firsts = [self.first_of(number) for number in self.numbers]
        if self.kind == "gevent":
            self.done = gevent.event.Event()
            self.others = [gevent.spawn(forever, first) for first in firsts]
            self.done.wait()
        else:
            self.hub = greenlet.getcurrent()
            self.others = [greenlet.greenlet(partial(forever, first)) for first in firsts]
            self.others[0].switch()

    def pause(self):
        """Let another one run."""
        self.left -= 1
        if self.kind == "gevent":
            if self.left <= 0:
                self.done.set()
            gevent.sleep(0)
        elif self.left > 0:
            self.random.choice(self.others).switch()
        else:
            self.hub.switch()


if __name__ == "__main__":
    kind, switches = sys.argv[1], int(sys.argv[2])
    if kind == "gevent":
        import gevent
        import gevent.event
    else:
        import greenlet
    sites = [Greenlets(kind, thread, switches // THREADS) for thread in range(THREADS)]
    threads = [threading.Thread(target=site.run) for site in sites[1:]]
    for thread in threads:
        thread.start()
    sites[0].run()
    for thread in threads:
        thread.join()
    ledger = [
        {"frames": stack(number, level, name), "size": 5001 + 100 * number, "count": count}
        for site in sites for (number, level, name), count in site.counts.items()
    ]  # fmt: skip
    print(json.dumps({"places": ledger, "switches": switches - sum(site.left for site in sites)}))
