"""Run a script under ddtrace's memory profiler alone; nothing is sent anywhere.

usage: with_ddtrace.py SCRIPT [ARGUMENT…]

With BENCH_PPROF set, bench_write_profile(), a builtin then, writes the live heap there as a pprof file.
With BENCH_NOT_STARTED set the profiler is imported, not started.
"""

import builtins
import os
import runpy
import sys

from ddtrace.internal.datadog.profiling import ddup
from ddtrace.profiling.collector.memalloc import MemoryCollector

prefix = os.environ.get("BENCH_PPROF")
ddup.config(service="bench", env="bench", version="1", output_filename=prefix or "/dev/null")
ddup.start()
collector = MemoryCollector()
if "BENCH_NOT_STARTED" not in os.environ:
    collector.start()


def write_profile() -> None:
    """Write what is live now."""
    collector.snapshot()
    ddup.upload()


builtins.bench_write_profile = write_profile
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
