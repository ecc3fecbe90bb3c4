"""Which symbol tables of an ELF file may name functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .elf import ElfError, ElfImage, Section, elf_from_bytes

MAX_TABLES = 255  # of one binary
MAX_DEBUGDATA_BYTES = 64 << 20  # .gnu_debugdata, unpacked


class Table(NamedTuple):
    """A symbol table's sections, and the image that they are of; `versions` of .dynsym only, two bytes a symbol."""

    image: ElfImage
    symbols: Section
    strings: Section
    versions: Section | None

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Return the bytes of symbols, strings and versions.

        Raises:
            ElfError: one is larger than we read.
        """
        versions = self.image.data(self.versions) if self.versions else b""
        return self.image.data(self.symbols), self.image.data(self.strings), versions


def tables(image: ElfImage) -> Iterator[Table]:
    """Yield each table of *image* that may name functions; that of .gnu_debugdata has an image of its own, in memory."""
    full = _table(image, ".symtab")
    if full is not None:
        yield full
    # .symtab repeats .dynsym, so the latter is only read where the former was stripped.
    if full is None or not full.symbols.size:
        dynamic = _table(image, ".dynsym")
        if dynamic is not None:
            yield dynamic
        embedded = debugdata(image)
        if embedded is not None:
            table = _table(embedded, ".symtab")
            if table is not None:
                yield table


def _table(image: ElfImage, name: str) -> Table | None:
    section = image.section(name)
    if section is None or not 0 < section.link < len(image.sections):
        return None
    strings = image.sections[section.link]
    if strings.type != "SHT_STRTAB":
        return None
    return Table(image, section, strings, image.section(".gnu.version") if name == ".dynsym" else None)


def debugdata(image: ElfImage) -> ElfImage | None:
    """Unpack .gnu_debugdata: Fedora's small ELF image of the local functions, xz inside."""
    section = image.section(".gnu_debugdata")
    if section is None:
        return None
    import lzma

    try:
        unpacked = lzma.LZMADecompressor(memlimit=256 << 20).decompress(image.data(section), MAX_DEBUGDATA_BYTES)
        return elf_from_bytes(unpacked)
    except (ElfError, lzma.LZMAError, EOFError, MemoryError):
        return None
