"""Start and stop memleak and memray while threads allocate, load and unload.

usage: tracers_storm.py HOW ROUNDS DIRECTORY EXTENSION PLUG…

HOW is below (memleak records all the time, memray comes and goes), top (the other way round) or both (each comes and
goes by itself, so that the one patches what the other is patching). memray does so ROUNDS times, or memleak if memray
stays. Two threads allocate, two load, use and unload each PLUG. They free whatever they allocate.

DIRECTORY/through.mlrec is the recording that saw the threads to their end, when memray had gone for good; in
DIRECTORY/last.mlrec, in full mode, keep() of the EXTENSION leaves 400 blocks behind and each plug-in is used once more.
Prints "rounds MEMLEAK MEMRAY" and "problems" of the threads.
"""

import _ctypes
import ctypes
import importlib.util
import itertools
import os
import random
import shutil
import sys
import threading
import time

import memray

import memleak
from memleak import _native

how, rounds, directory, source, *plugs = sys.argv[1:]
rounds = int(rounds)
finished, enough = threading.Event(), threading.Event()
sys.setswitchinterval(0.0002)  # more turns
problems = []
numbers = itertools.count()
counts = {"memleak": 0, "memray": 0, "loads": 0}


def guarded(function):
    def run(*words):
        try:
            function(*words)
        except BaseException as error:
            problems.append(repr(error))
            finished.set()
            raise

    return run


def use(path, rounds, look=lambda: None):
    plug = ctypes.CDLL(path)
    plug.plug_make.restype = ctypes.c_void_p
    look()
    ctypes.CDLL(None).free(ctypes.c_void_p(plug.plug_make(300)))
    plug.plug_work(rounds)
    handle = plug._handle
    del plug
    _ctypes.dlclose(handle)


@guarded
def allocating(chance):
    held = []
    while not finished.is_set():
        kept.churn(chance.randrange(400))
        # Some live longer than a tool stays, and are of sizes whose addresses do not come again soon.
        held += [kept.hold(chance.randrange(20000, 60000)) for _ in range(5)]
        while len(held) > 200:
            kept.drop(held.pop(chance.randrange(len(held))))
        objects = [bytes(chance.randrange(2000)) for _ in range(20)]
        del objects
        time.sleep(0.001)
    for block in held:
        kept.drop(block)


@guarded
def loading(chance):
    while not finished.is_set():
        use(chance.choice(plugs), 40)
        counts["loads"] += 1
        time.sleep(0.001)


def some_loads(least=0):
    until = counts["loads"] + least + random.randrange(4)
    while counts["loads"] < until and not finished.is_set():
        time.sleep(0.0005)


def with_memray():
    path = f"{directory}/memray{next(numbers)}.bin"
    with memray.Tracker(path):
        some_loads()
    os.unlink(path)
    counts["memray"] += 1


def start():
    # Every call of malloc's, and so many objects of Python's that the tools' own do not fill the recording.
    memleak.start(1, 1, python_min_sample_interval=16, python_max_sample_interval=256)


def with_memleak():
    start()
    some_loads()
    memleak.stop()
    counts["memleak"] += 1


@guarded
def again(function, times):
    while times and not finished.is_set() and not enough.is_set():
        function()
        some_loads()
        times -= 1


def save(name):
    memleak.status()  # looks at every slot
    shutil.copyfile(_native.recording_path(), f"{directory}/{name}.mlrec")
    memleak.stop()


spec = importlib.util.spec_from_file_location("storm_extension", source)
kept = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kept)
memleak.stop()
threads = [
    threading.Thread(target=kind, args=(random.Random(i),))
    for i, kind in enumerate([allocating, allocating, loading, loading])
]
for thread in threads:
    thread.start()
if how == "top":
    with memray.Tracker(f"{directory}/memray.bin"):
        again(with_memleak, rounds)
        start()
        some_loads(20)
elif how == "below":
    start()
    again(with_memray, rounds)
else:
    other = threading.Thread(target=again, args=(with_memleak, -1))
    other.start()
    again(with_memray, rounds)
    enough.set()
    other.join()
    enough.clear()
    start()
    again(with_memray, 3)
some_loads(20)
finished.set()
for thread in threads:
    thread.join()
save("through")
start()
kept.keep(400, 123)
for path in plugs:
    use(path, 40, _native.poll)  # its slots are seen from here on
save("last")
print("rounds", counts["memleak"], counts["memray"])
print("problems", *problems)
sys.stdout.flush()
