"""Sub-interpreters, where this version has them, one after the other."""

import sys

try:
    import _interpreters as interpreters  # 3.13
except ImportError:
    import _xxsubinterpreters as interpreters
for number in range(6):
    one = interpreters.create()
    interpreters.run_string(one, "import json, zlib\nkept = [bytes(i) for i in range(3000)]\nassert json.loads('[1]') == [1]")
    interpreters.destroy(one)
    kept = [bytes(i) for i in range(1000)]
print("done", sys.version_info[:2] >= (3, 9))
