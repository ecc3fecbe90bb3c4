"""Switch tracing on and off from one thread while eight others allocate, import and unload.

usage: storm.py TOGGLES EXTENSION COPIES PLUG…

EXTENSION is a module of which two threads import copies all the time: the first COPIES of each stay, later ones are
unloaded again, as each PLUG is by two more. They free whatever they allocate. A recording in full mode begins while the
threads are at work and ends when they are gone; in a last one keep() leaves blocks behind. Prints "descriptors BEFORE
AFTER", "imported COUNT" while the toggling went on, "through PATH" of the recording that saw the threads to their end
and "problems" of theirs.
"""

import _ctypes
import ctypes
import gc
import importlib.util
import os
import random
import shutil
import sys
import threading
import time

import memleak
from memleak import _native

toggles, source, copies, plugs = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
directory = os.path.dirname(source)
kept_all = threading.Semaphore(0)
toggled, finished = threading.Event(), threading.Event()
sys.setswitchinterval(0.0002)  # more turns
loaded = []
problems = []
imported = [0] * 8  # by each thread


def extension(path):
    spec = importlib.util.spec_from_file_location("storm_extension", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def guarded(function):
    def run(number):
        try:
            function(number, random.Random(number))
        except BaseException as error:
            problems.append(repr(error))
            raise

    return run


# Each pauses, so that the others and the toggling get on.
@guarded
def allocating(number, chance):
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = (ctypes.c_void_p,)
    held = []
    while not finished.is_set():
        held.append(libc.malloc(chance.randrange(3000)))
        objects = [bytes(chance.randrange(2000)) for _ in range(20)]
        if len(held) > 200:
            libc.free(held.pop(chance.randrange(len(held))))
        del objects
        kept.churn(200)
        if loaded:
            loaded[-1].churn(200)
        time.sleep(0.004)
    for block in held:
        libc.free(block)


@guarded
def importing(number, chance):
    for copy in range(copies):
        path = shutil.copy(source, f"{directory}/copy_{number}_{copy}.so")
        module = extension(path)
        os.unlink(path)
        module.churn(chance.randrange(1000))
        loaded.append(module)
        imported[number] += 1
    kept_all.release()
    while not toggled.is_set():
        # Few names: at most 2047 pairs of a name and an address are told apart.
        path = shutil.copy(source, f"{directory}/copy_{number}_again_{imported[number] % 5}.so")
        module = extension(path)
        module.churn(chance.randrange(1000))
        # Its functions refer to it, and it to them. Then nothing is left that needs its code.
        module.__dict__.clear()
        del module
        unload(path)
        os.unlink(path)
        imported[number] += 1
        time.sleep(0.004)


def unload(path):
    handle = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)._handle
    _ctypes.dlclose(handle)
    _ctypes.dlclose(handle)  # the import's
    try:
        ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return
    raise AssertionError(f"{path} is still there")


@guarded
def unloading(number, chance):
    while not finished.is_set():
        plug = ctypes.CDLL(chance.choice(plugs))
        plug.plug_make.restype = ctypes.c_void_p
        ctypes.CDLL(None).free(ctypes.c_void_p(plug.plug_make(500)))
        plug.plug_work(50)
        handle = plug._handle
        del plug
        _ctypes.dlclose(handle)
        time.sleep(0.002)


def toggle(i):
    knob = 1 if i % 2 else 16
    memleak.start(min_sample_interval=knob, max_sample_interval=knob * knob)
    if i % 7 == 0:
        memleak.configure(min_sample_interval=1, max_sample_interval=1)
    if i % 50 == 0:
        assert memleak.status()
    assert memleak.is_running()
    memleak.stop()
    assert not memleak.is_running()


kept = extension(source)
memleak.stop()
memleak.start()  # what opens descriptors once and for all has done so before they are counted
memleak.stop()
before = sorted(os.listdir("/proc/self/fd"))
kinds = [allocating] * 4 + [importing] * 2 + [unloading] * 2
threads = [threading.Thread(target=kind, args=(i,), daemon=True) for i, kind in enumerate(kinds)]
for thread in threads:
    thread.start()
for i in range(toggles):
    toggle(i)
for _ in range(2):
    assert kept_all.acquire(timeout=60)
print("imported", sum(imported))

memleak.start(min_sample_interval=1, max_sample_interval=1)
until = sum(imported) + 20
while sum(imported) < until and not problems:
    time.sleep(0.01)
toggled.set()
for thread in threads[4:6]:
    thread.join()
finished.set()
for thread in threads:
    thread.join()
gc.collect()
memleak.stop()
print("through", _native.recording_path())
print("descriptors", len(before), len(os.listdir("/proc/self/fd")))

memleak.start(min_sample_interval=1, max_sample_interval=1)
kept.keep(400, 123)
for path in plugs:
    plug = ctypes.CDLL(path)
    plug.plug_make.restype = ctypes.c_void_p
    _native.poll()  # its slots are seen from here on
    ctypes.CDLL(None).free(ctypes.c_void_p(plug.plug_make(300)))
    plug.plug_work(100)
    _ctypes.dlclose(plug._handle)
for module in loaded:
    module.churn(50)
memleak.stop()
print("problems", *problems)
sys.stdout.flush()
