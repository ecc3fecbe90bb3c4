"""Makes code objects that live for one call; each keeps a block whose size tells which it was."""

import os
import sys

kept = []
for number in range(int(sys.argv[1])):
    source = "%sdef f%d():\n return bytes(%d)\nblock = f%d()\n" % ("\n" * (number % 7), number % 101, 600 + number % 5003, number % 101)
    names = {}
    exec(compile(source, "<made %d>" % number, "exec"), names)
    if number % 20 == 0:
        kept.append(names["block"])
    del names
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
