"""Switch tracing on and off from one thread while eight others allocate, import and unload.

usage: storm.py TOGGLES EXTENSION COPIES PLUG…

EXTENSION is a module of which COPIES are made and imported, each PLUG is loaded and unloaded. Afterwards
everything is freed but what keep() leaves in a last recording, in full mode. Prints "descriptors BEFORE
AFTER", "recording PATH" and "site NAME COUNT BYTES".
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

toggles, source, copies, plugs = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
directory = os.path.dirname(source)
finished = threading.Event()
sys.setswitchinterval(0.0002)  # more turns
loaded = []
problems = []


def extension(path):
    spec = importlib.util.spec_from_file_location("storm_extension", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def guarded(function):
    def run(number):
        try:
            function(random.Random(number))
        except BaseException as error:
            problems.append(repr(error))
            raise

    return run


@guarded
def allocating(chance):
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
        time.sleep(0.001)  # so that the others get on
    for block in held:
        libc.free(block)


@guarded
def importing(chance):
    for number in range(copies):
        path = shutil.copy(source, f"{directory}/copy_{threading.get_ident()}_{number}.so")
        module = extension(path)
        os.unlink(path)
        module.churn(chance.randrange(1000))
        loaded.append(module)


@guarded
def unloading(chance):
    while not finished.is_set():
        plug = ctypes.CDLL(chance.choice(plugs))
        plug.plug_make.restype = ctypes.c_void_p
        ctypes.CDLL(None).free(ctypes.c_void_p(plug.plug_make(500)))
        plug.plug_work(50)
        handle = plug._handle
        del plug
        _ctypes.dlclose(handle)


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
    memleak.start(min_sample_interval=1 if i % 2 else 16, max_sample_interval=1 if i % 2 else 256)
    if i % 7 == 0:
        memleak.configure(min_sample_interval=1, max_sample_interval=1)
    if i % 11 == 0:
        assert memleak.status()
    assert memleak.is_running()
    memleak.stop()
    assert not memleak.is_running()
for thread in threads[4:6]:
    thread.join()
finished.set()
for thread in threads:
    thread.join()
gc.collect()
print("descriptors", len(before), len(os.listdir("/proc/self/fd")))

memleak.start(min_sample_interval=1, max_sample_interval=1)
kept.keep(400, 123)
for path in plugs:
    plug = ctypes.CDLL(path)
    plug.plug_make.restype = ctypes.c_void_p
    memleak.status()  # its slots are seen from here on
    ctypes.CDLL(None).free(ctypes.c_void_p(plug.plug_make(300)))
    plug.plug_work(100)
    _ctypes.dlclose(plug._handle)
for module in loaded:
    module.churn(50)
memleak.stop()
print("site keep_block", 400, 400 * 123)
print("problems", *problems)
sys.stdout.flush()
