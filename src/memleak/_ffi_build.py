"""Write the C source of the cffi module (build time only, not installed).

Usage: ``_ffi_build.py memleak.h libmemleak.so OUTPUT.c``

``memleak.h`` is the only declaration of the C API: the C compiler reads it as it is, cffi reads
the lines between its two marks. The build id of the library goes into the module, which is how
``memleak._native`` knows that it met the core it was built with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cffi  # type: ignore[import-untyped]
from elftools.elf.elffile import ELFFile

MODULE = "memleak._memleak_ffi"


BEGIN, END = "// -- declarations begin --", "// -- declarations end --"


def between_marks(header: str) -> str:
    """Return what cffi is to parse of a header: the lines between its two marks."""
    _, begin, rest = Path(header).read_text(encoding="utf-8").partition(BEGIN)
    text, end, _ = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{header}: expected declarations between {BEGIN!r} and {END!r}")
    return text


def build_id(library: str) -> str:
    """Return the GNU build id of an ELF file, in hexadecimal."""
    with open(library, "rb") as stream:
        notes = ELFFile(stream).get_section_by_name(".note.gnu.build-id")
        if notes is None:
            raise SystemExit(f"{library} has no build id: link it with -Wl,--build-id")
        found = notes.iter_notes()  # type: ignore[attr-defined]
        return next(str(note["n_desc"]) for note in found if note["n_type"] == "NT_GNU_BUILD_ID")


def main() -> None:
    """Generate the module named by the command line."""
    header, library, output = sys.argv[1:]
    builder = cffi.FFI()
    builder.cdef("#define MEMLEAK_ABI_VERSION ...\n" + between_marks(header))  # its value is the C compiler's to know
    builder.cdef("const char *memleak_expected_build_id(void);")
    builder.set_source(
        MODULE,
        '#define MEMLEAK_LINKED\n#include "memleak.h"\n'
        "static const char *memleak_expected_build_id(void)\n"
        f'{{\n\treturn "{build_id(library)}";\n}}\n',
    )
    builder.emit_c_code(output)


if __name__ == "__main__":
    main()
