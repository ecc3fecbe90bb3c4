"""Use memleak and another tracer in the order that is asked for.

usage: tracers.py TOOL LIBRARY DIRECTORY ACTION…

TOOL is memray, memray_native or tracemalloc. An ACTION is "memleak+", "memleak-", "other+", "other-";
"make:X", "drop:X" (a holder of LIBRARY, a thousand blocks); "look:NAME", which saves the recording as it is
then as DIRECTORY/NAME.mlrec and prints what status() calls out of reach; "work", which lets Python allocate.
"""

import ctypes
import os
import shutil
import sys

import memleak
from memleak import _native

tool, library, directory, *actions = sys.argv[1:]
holders = ctypes.CDLL(library)
count = 1000
others = 0
running = None


class Tracemalloc:
    def __enter__(self):
        tracemalloc.start(5)

    def __exit__(self, *error):
        # It saw what Python allocated in between, so its own hooks work too.
        assert tracemalloc.get_traced_memory()[1] > 0
        tracemalloc.stop()


if tool == "tracemalloc":
    import tracemalloc
else:
    import memray


def other():
    if tool == "tracemalloc":
        return Tracemalloc()
    return memray.Tracker(f"{directory}/memray{others}.bin", native_traces=tool == "memray_native")


def look(name):
    # Either notices what another tool did to our hooks. To read a full recording under tracemalloc, which asks
    # malloc for a note of each object, would fill the recording.
    if tool == "tracemalloc" and running:
        _native.poll()
    else:
        for found in memleak.status().coverage.out_of_reach:
            print("out", name, found.reason, os.path.basename(found.path))
    shutil.copyfile(_native.recording_path(), f"{directory}/{name}.mlrec")


def work():
    held = [bytes(100 + i % 3000) for i in range(1000)]
    text = ",".join(str(len(each)) for each in held)
    assert sorted(eval(text)) == sorted(map(len, held))


for action in actions:
    word, _, name = action.partition(":")
    if action == "memleak+":
        # Every call of malloc's, and so many objects of Python's that the reader's own do not fill the recording.
        memleak.start(1, 1, python_min_sample_interval=16, python_max_sample_interval=256)
    elif action == "memleak-":
        memleak.stop()
    elif action == "other+":
        running = other()
        running.__enter__()
        others += 1
    elif action == "other-":
        running.__exit__(None, None, None)
        running = None
    elif word in ("make", "drop"):
        getattr(holders, action.replace(":", "_"))(*[count] * (word == "make"))
    elif word == "look":
        look(name)
    else:
        work()
print("end", *(getattr(holders, f"count_{name}")() for name in "abcd"))
