"""Make small objects while tracemalloc comes and goes, and keep what the recording says at each step.

usage: objects.py DIRECTORY ACTION…

An ACTION is "memleak+" (full mode), "native+" (without Python's side), "memleak-", "tracemalloc+", "tracemalloc-";
"grow", lists whose arrays are moved as they grow; "make" and "drop", many small blocks; "thread", which begins one; "code", of which an object is made and
dies; "look:NAME", which copies the recording as it stands to DIRECTORY/NAME.mlrec; "await:COUNTER", until the recording
has counted some. Nothing of memleak runs in the last two. Prints what is held: a name, blocks, bytes.
"""

import shutil
import struct
import sys
import threading
import time
import tracemalloc

import memleak
from memleak import _native, layout

directory, *actions = sys.argv[1:]
kept = []
path = None
COUNT = 3000


def grow():
    lists = [[] for _ in range(COUNT)]
    for _ in range(30):
        for each in lists:
            each.append(None)
    kept.append(lists)
    print("grow", COUNT, sum(map(sys.getsizeof, lists)) - COUNT * sys.getsizeof([]))


def make():
    kept.append([bytes(100 + n % 100) for n in range(COUNT)])
    print("make", COUNT, sum(map(sys.getsizeof, kept[-1])))


def drop():
    kept.pop()


def thread():
    threading.Thread(target=time.sleep, args=(10000,), daemon=True).start()


def code():
    exec("pass")


def counted(name):
    with open(path, "rb") as file:
        file.seek(layout.HEADER.offsets["counters"] + 8 * [each for each, _ in layout.COUNTERS].index(name))
        return struct.unpack("<Q", file.read(8))[0]


for action in actions:
    word, _, name = action.partition(":")
    if action in ("memleak+", "native+"):
        memleak.start(1, 1, python=action == "memleak+")
        path = _native.recording_path()
    elif action == "memleak-":
        memleak.stop()
    elif action == "tracemalloc+":
        tracemalloc.start(1)
    elif action == "tracemalloc-":
        tracemalloc.stop()
    elif word == "look":
        shutil.copyfile(path, f"{directory}/{name}.mlrec")
    elif word == "await":
        deadline = time.monotonic() + 60
        while not counted(name):
            assert time.monotonic() < deadline, name
            time.sleep(0.01)
    else:
        globals()[word]()
