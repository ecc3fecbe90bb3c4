"""Open a library with an allocator of its own, use it, and say what memleak takes it for.

usage: own.py HOW WHEN LIBRARY DIRECTORY

HOW is local, deepbind, namespace (dlmopen) or module (imported); WHEN it is opened: before or after tracing starts, or
never: then nothing is traced. Lines that begin with "memleak" come only with tracing: "memleak out REASON FILE BYTES".
DIRECTORY/first.mlrec holds the recording with 100 blocks of each way live, second.mlrec after they were freed and fifty
more made. Ends when standard input does.
"""

import ctypes
import importlib.util
import os
import sys

how, when, path, directory = sys.argv[1:]
traced = when != "never"


def open_library():
    if how == "module":
        spec = importlib.util.spec_from_file_location("own", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    if how == "namespace":
        loader = ctypes.CDLL(None)
        loader.dlmopen.restype = ctypes.c_void_p
        loader.dlmopen.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.c_int)
        handle = loader.dlmopen(-1, path.encode(), os.RTLD_NOW)
        assert handle, "dlmopen"
        return ctypes.CDLL(path, handle=handle)
    return ctypes.CDLL(path, mode=os.RTLD_NOW | (os.RTLD_DEEPBIND if how == "deepbind" else 0))


def save(name):
    status = memleak.status()
    (recording,) = memleak.snapshot().recordings
    with open(f"{directory}/{name}.mlrec", "wb") as file:
        file.write(recording.raw)
    return status


library = None if when == "after" else open_library()
if traced:
    import memleak

    memleak.stop()
    memleak.start(min_sample_interval=1, max_sample_interval=1)
if library is None:
    library = open_library()
    memleak.status()  # its slots are seen from here on
library.own_make(100)
library.own_report(100)
if traced:
    for found in save("first").coverage.out_of_reach:
        print("memleak out", found.reason, os.path.basename(found.path), found.mapped_bytes)
library.own_drop()
library.own_make(50)
library.own_report(50)
if traced:
    save("second")
    print("memleak ready", flush=True)
    sys.stdin.read()
library.own_drop()
print("end")
