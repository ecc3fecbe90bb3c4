"""Allocate for two tenants, small objects and large ones, when told to.

Each line of standard input is done and answered by "done": "take TENANT COUNT SIZE" keeps as many bytes objects that ask for
SIZE bytes, under the label tenant=TENANT, or none for "-"; "focus TEXT" is memleak.configure(focus=TEXT); "status" answers with
status().focus. Ends when standard input does.
"""

import ctypes
import sys

import memleak

held = []
ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))  # the end of the interpreter leaves it alone


def keep_objects(count, size):
    held.append([bytes(size - sys.getsizeof(b"")) for _ in range(count)])


def take(tenant, count, size):
    if tenant == "-":
        keep_objects(int(count), int(size))
        return
    with memleak.label(tenant=tenant):
        keep_objects(int(count), int(size))


memleak.start(native=True)
print("ready", flush=True)
for line in iter(sys.stdin.readline, ""):
    name, *words = line.split()
    answer = "done"
    if name == "take":
        take(*words)
    elif name == "focus":
        memleak.configure(focus=words[0])
    else:
        answer = str(tuple(memleak.status().focus))
    print(answer, flush=True)
