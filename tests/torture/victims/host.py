"""Run a program that was built as a shared library inside this interpreter: what it does is then seen through the import door.

usage: host.py LIBRARY [ARGUMENT…]
"""

import ctypes
import sys

library = ctypes.CDLL(sys.argv[1])
words = [word.encode() for word in sys.argv[1:]]
sys.stdout.flush()
sys.exit(library.main(len(words), (ctypes.c_char_p * (len(words) + 1))(*words, None)))
