"""Make small objects while tracemalloc comes and goes, and keep what the recording says at each step.

usage: objects.py DIRECTORY ACTION…

An ACTION is "memleak+" (full mode), "memleak-", "tracemalloc+", "tracemalloc-"; "grow", lists whose arrays are moved
as they grow; "look:NAME", which copies the recording as it stands to DIRECTORY/NAME.mlrec: nothing of memleak runs then.
Prints what is held: a name, blocks, bytes.
"""

import shutil
import sys
import tracemalloc

import memleak
from memleak import _native

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


for action in actions:
    word, _, name = action.partition(":")
    if action == "memleak+":
        memleak.start(1, 1)
        path = _native.recording_path()
    elif action == "memleak-":
        memleak.stop()
    elif action == "tracemalloc+":
        tracemalloc.start(1)
    elif action == "tracemalloc-":
        tracemalloc.stop()
    elif word == "look":
        shutil.copyfile(path, f"{directory}/{name}.mlrec")
    else:
        globals()[word]()
