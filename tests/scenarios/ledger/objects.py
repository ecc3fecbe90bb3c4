"""What resident memory of a Python program can be made of: a program for the ledger.

Usage: objects.py WORKLOAD. Prints "ready BYTES" when it has what it is to have, then answers each line on standard input:
`trim` calls malloc_trim(0) and prints resident bytes before and after it.
"""

import ctypes
import sys
import threading

kept = []


def objects():
    """Make many small objects and keep one in 200: the arenas stay."""
    everything = [(number, str(number)) for number in range(600_000)]
    kept.extend(everything[::200])
    del everything
    return 0


def alive():
    """Make many small objects and keep them."""
    kept.extend((number, str(number)) for number in range(400_000))
    return 0


def arrays():
    """Make large arrays: written, and never touched."""
    import numpy

    kept.append(numpy.ones(12 << 20))  # 96 MiB
    kept.append(numpy.empty(24 << 20))  # 192 MiB of addresses
    kept.append([numpy.ones(50_000) for _ in range(100)])  # 38 MiB
    return (96 << 20) + 100 * 400_000


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


def main():
    asked = threading.Event()
    threading.Thread(target=asked.wait, daemon=True).start()  # so that the core has a thread, and asks the C library
    print("ready", {"objects": objects, "alive": alive, "arrays": arrays}[sys.argv[1]](), flush=True)
    for line in sys.stdin:
        before = resident()
        if line.startswith("trim"):
            ctypes.CDLL(None).malloc_trim(0)
        print(before, resident(), flush=True)


main()
