"""Two threads run code objects that live for one call, and whose memory is used again at once; each allocates.

usage: short_lived_code.py OBJECTS INTERVAL

One small object in INTERVAL is sampled, and one other allocation in INTERVAL: from here on, so that the room is that
of a program begun in full mode.
"""

import ctypes
import sys
import threading

objects, interval = map(int, sys.argv[1:])
assert ctypes.CDLL(None).memleak_configure(interval, interval, interval, interval, ctypes.c_ulonglong(0)) == 0


def work(begin: int) -> None:
    """Make every second one."""
    for number in range(begin, objects, 2):
        name = f"f{number % 101}" if number % 3 else f"\u00e9{number % 101}"
        source = (
            "\n" * (number % 7) + f"class C{number % 11}:\n def {name}(self):\n  kept = bytes(600)\n"
            f"  return [n * 1.5 for n in range(30)], kept\nC{number % 11}().{name}()\n"
        )
        exec(compile(source, f"<made {number}>", "exec"), {"__name__": "made"})


thread = threading.Thread(target=work, args=(1,))
thread.start()
work(0)
thread.join()
