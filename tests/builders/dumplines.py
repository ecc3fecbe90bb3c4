"""Print what this CPython says of the lines of its own standard library; run by tests/unit/test_pylines.py.

One JSON object per line: form and bytes of a code object's line table, its first line, and
[offset, line] wherever a range of instructions with another line begins; null is no line.
"""

import ctypes
import glob
import json
import os
import sys
import types

ODD = (
    # Jumps of more than 127 lines on and back, and instructions that follow each other for more than 255 bytes.
    "x = [" + "\n" * 300 + "1," * 200 + "\n" * 40000 + "2]\n",
    "f(a,\n" + "\n" * 200 + "b(\n\n c), d" + ", e" * 100 + ")\n",
    "def f():\n" + "\n" * 70000 + " return [\n g(x)\n for x in\n y if (\n x)]\n",
    "try:\n a\nfinally:\n b\nwith c as d, \\\n e:\n f\nwhile g:\n try:\n  continue\n finally:\n  h\n",
    "async def f():\n async with a as b:\n  await c\n async for d in e: yield d\n return\n",
    "@a\n@b(\n 1)\nclass C(\n D,\n metaclass=E):\n 'doc'\n x: int = 1\n def f(self,\n  a=1): return (lambda:\n   a)\n",
    "",
)


def codes(code):
    """Yield a code object and all within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def ranges(code):
    """Return [offset, line] of each range, as the interpreter itself finds the lines of a traceback."""
    look_up = ctypes.pythonapi.PyCode_Addr2Line
    look_up.argtypes = [ctypes.py_object, ctypes.c_int]
    found = []
    for offset in range(0, len(code.co_code), 2):
        line = look_up(code, offset)
        if not found or found[-1][1] != line:
            found.append([offset, line])
    return [[offset, None if line == -1 else line] for offset, line in found]


def main():
    """Dump the sources named, or the standard library's modules and some odd code."""
    form = 1 if sys.version_info < (3, 10) else 2 if sys.version_info < (3, 11) else 3
    library = os.path.dirname(os.__file__)
    sources = list(ODD)
    for pattern in ("*.py", "asyncio/*.py", "email/*.py", "json/*.py", "importlib/*.py"):
        for path in sorted(glob.glob(os.path.join(library, pattern))):
            with open(path, "rb") as stream:
                sources.append(stream.read())
    for source in sources:
        for code in codes(compile(source, "x", "exec", dont_inherit=True)):
            table = code.co_linetable if form > 1 else code.co_lnotab
            print(json.dumps([form, table.hex(), code.co_firstlineno, len(code.co_code), ranges(code)]))


if __name__ == "__main__":
    main()
