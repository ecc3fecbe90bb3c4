"""Allocate as the lines on standard input say: EACH_MS SECONDS; answer with the blocks kept so far, seconds, and CPU seconds."""

import ctypes
import sys
import time

import memleak

memleak.start()
library = ctypes.CDLL(sys.argv[1])
library.burst.argtypes = [ctypes.c_long, ctypes.c_double]
library.burst.restype = ctypes.c_long
kept = 0
print("ready", flush=True)
for line in sys.stdin:
    each_ms, seconds = line.split()
    began, cpu = time.monotonic(), time.process_time()
    kept += library.burst(int(each_ms), float(seconds))
    print(kept, time.monotonic() - began, time.process_time() - cpu, flush=True)
print(memleak.status())
