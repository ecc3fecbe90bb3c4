"""Let native threads allocate step by step while the knobs are changed, by this process or by another.

usage: steps.py LIBRARY THREADS

Each line of standard input is done and answered by "done": "take THREAD COUNT SIZE" and "churn 0|1" as in steps.c,
"objects COUNT SIZE" keeps as many small objects of SIZE bytes, "mode NAME" is memleak.mode(). Ends when standard
input does.
"""

import ctypes
import sys

import memleak

library, held = ctypes.CDLL(sys.argv[1]), []
ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))  # the end of the interpreter leaves it alone


def keep_objects(count, size):
    held.append([bytes(size - sys.getsizeof(b"")) for _ in range(count)])


actions = {
    "take": lambda *words: library.steps_take(*map(int, words)),
    "churn": lambda on: library.steps_churn(int(on)),
    "objects": lambda *words: keep_objects(*map(int, words)),
    "mode": memleak.mode,
}
memleak.start(min_sample_interval=10000, max_sample_interval=10000)
library.steps_begin(int(sys.argv[2]))
print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    name, *words = line.split()
    actions[name](*words)
    print("done", flush=True)
