"""What an object's file says of the addresses that it calls: read with pyelftools, as our core does not."""

from __future__ import annotations

import re
from typing import NamedTuple

from elftools.elf.elffile import ELFFile

FAMILY = re.compile(
    "malloc|calloc|realloc|reallocarray|free|posix_memalign|memalign|aligned_alloc|valloc|pvalloc|malloc_usable_size"
    "|_Zn[wa]m(St11align_val_t)?(RKSt9nothrow_t)?|_Zd[la]Pvm?(St11align_val_t)?(RKSt9nothrow_t)?"
)
ADDRESS_64, GLOB_DAT, JUMP_SLOT = 1, 6, 7


class Slots(NamedTuple):
    """How many words of an object hold addresses of allocation functions, operator new and delete among them."""

    fixed: int  # stored by the loader, for good
    weak: int  # of these, those that may be empty
    variable: int  # the program's to change


def slots_in(path: str) -> Slots:
    """Read an object's file."""
    with open(path, "rb") as stream:
        elf = ELFFile(stream)
        protected = [
            range(each["p_vaddr"] & -4096, (each["p_vaddr"] + each["p_memsz"]) & -4096)
            for each in elf.iter_segments("PT_GNU_RELRO")
        ]
        fixed = weak = variable = 0
        for section in elf.iter_sections("SHT_RELA"):
            symbols = elf.get_section(section["sh_link"])
            for entry in section.iter_relocations():
                kind = entry["r_info_type"]
                if kind not in (ADDRESS_64, GLOB_DAT, JUMP_SLOT) or entry["r_addend"]:
                    continue
                symbol = symbols.get_symbol(entry["r_info_sym"])
                if not FAMILY.fullmatch(symbol.name):
                    continue
                if kind == ADDRESS_64 and not any(entry["r_offset"] in one for one in protected):
                    variable += 1
                else:
                    fixed += 1
                    weak += symbol["st_info"]["bind"] == "STB_WEAK"
        return Slots(fixed, weak, variable)
