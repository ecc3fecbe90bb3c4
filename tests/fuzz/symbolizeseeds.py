"""The first inputs of the targets symbolize and symbols: what the tests' writers write, and small compiled objects."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "builders")]

from dwarfcases import CASES  # noqa: E402
from elfwriter import ElfSymbol, write_elf  # noqa: E402
from randomdwarf import RandomProgram  # noqa: E402

# In the order of mlsym.h.
SECTIONS = ("abbrev", "addr", "aranges", "info", "line", "line_str", "ranges", "rnglists", "str", "str_offsets")
ADDRESSES = 30
BYTES_MOST = 4096
SOURCE = """
static inline __attribute__((always_inline)) int inner(int n) { return n * 3; }
namespace space { struct kind { int method(int n) { return inner(n) + inner(n + 1); } }; }
int outer(int n) { space::kind k; return n > 3 ? k.method(n) : inner(n); }
"""
COMPILED = (
    "-gdwarf-2",
    "-gdwarf-3",
    "-gdwarf-4",
    "-gdwarf-5",
    "-gdwarf-5 -gdwarf64",
    "-gdwarf-4 -fdebug-types-section",
)


def packed(files: Sequence[Mapping[str, bytes]], addresses: Sequence[int]) -> bytes:
    """Return an input: the sections of a program, a split file and a shared one, and what is asked."""
    out = b""
    for number, file in enumerate(files):
        for name, data in file.items():
            part = name.removeprefix(".debug_").removesuffix(".dwo")
            if part in SECTIONS:
                out += struct.pack("<BH", 10 * number + SECTIONS.index(part), len(data)) + data
    asked = b"".join(struct.pack("<Q", address) for address in addresses)
    return out + struct.pack("<BH", ADDRESSES, len(asked)) + asked


def inputs(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield inputs by name; those that are too large are left out."""
    for name, make in CASES.items():
        case = make()
        yield from _small(name, case.file, [*case.want][:16])
    for seed in range(150):
        program = RandomProgram(seed)
        written = program.make()
        yield from _small(f"random-{seed}", program.file, written.addresses[::7])
    for number, words in enumerate(COMPILED):
        yield f"compiled-{number}", _compiled(directory, words.split())


def _small(name: str, file, addresses: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    main = file.sections()
    if any(len(data) > BYTES_MOST for data in main.values()):
        return
    split = file.splits[0].sections() if file.splits else {}
    shared = file.alternate.sections() if file.alternate else {}
    data = packed((main, split, shared), addresses)
    if len(data) <= BYTES_MOST:
        yield name, data


def _compiled(directory: Path, words: Sequence[str]) -> bytes:
    source, target = directory / "source.cc", directory / "program.so"
    source.write_text(SOURCE)
    command = ["g++", "-shared", "-fPIC", "-O2", "-nostdlib", *words, "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    with target.open("rb") as file:
        elf = ELFFile(file)
        sections = {
            section.name: section.data() for section in elf.iter_sections() if section.name.startswith(".debug_")
        }
        text = elf.get_section_by_name(".text")
        return packed([sections], range(text["sh_addr"], text["sh_addr"] + text["sh_size"], 3))


def symbol_tables() -> Iterator[tuple[str, bytes]]:
    """Yield inputs of the target symbols by name: tables of both widths, with and without versions."""
    symbols = [
        ElfSymbol("a.c", 0, 0, "file", "local", "abs"), ElfSymbol("local", 0x1000, 16, "func", "local"),
        ElfSymbol("main", 0x1010, 32), ElfSymbol("alias", 0x1010, 32, bind="weak"),
        ElfSymbol("label", 0x1030, 0, "notype"),
        ElfSymbol("elsewhere", 0, 0, section="undef"), ElfSymbol("old", 0x1040, 8, old_version=True),
        ElfSymbol("variable", 0x101000, 8, "object", section=".data"),
    ]  # fmt: skip
    for bits in (64, 32):
        for kind, tables in (("static", {"symbols": symbols}), ("dynamic", {"dynamic_symbols": symbols})):
            elf = ELFFile(io.BytesIO(write_elf(bits=bits, text=bytes(0x80), **tables)))
            names = (".symtab", ".strtab", "") if kind == "static" else (".dynsym", ".dynstr", ".gnu.version")
            parts = [elf.get_section_by_name(name).data() if name else b"" for name in names]
            head = struct.pack("<BBHHH", bits == 32, 1, *map(len, parts))
            limits = struct.pack("<QQQ", 0, 0x1080, 0)
            asked = b"".join(struct.pack("<Q", address) for address in range(0xFFC, 0x1084, 12))
            yield f"{kind}-{bits}", head + b"".join(parts) + limits + asked
