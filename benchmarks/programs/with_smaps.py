"""Run a script, then print this process's mappings.

usage: with_smaps.py SCRIPT WORD…
"""

import runpy
import sys

del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
with open("/proc/self/smaps") as mappings:
    print(mappings.read())
