"""Write the C source of the cffi module that reads debug information (build time only, not installed).

Usage: ``_dwarf_ffi_build.py mlsym.h OUTPUT.c``
"""

from __future__ import annotations

import sys

import cffi  # type: ignore[import-untyped]
from _ffi_build import between_marks  # type: ignore[import-not-found]

MODULE = "memleak.symbolize._dwarf"


def main() -> None:
    """Generate the module named by the command line."""
    header, output = sys.argv[1:]
    builder = cffi.FFI()
    builder.cdef(between_marks(header))
    builder.set_source(MODULE, '#include "mlsym.h"\n')
    builder.emit_c_code(output)


if __name__ == "__main__":
    main()
