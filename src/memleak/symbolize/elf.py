"""What we need of an ELF file: build-id, debug link, sections, symbol tables.

Every byte is hostile: a file may lie about any size, count or offset. pyelftools knows the
structures; how much is read, and how often, is decided here. Whatever it raises becomes an
`ElfError`, so that a bad file costs its names and nothing else.

Files are read, never mapped: a mapped binary that is truncated in place (an upgrade by `cp`)
would kill the reader by SIGBUS, and the reader may be the traced service itself.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

MAX_SECTIONS = 20_000
MAX_SEGMENTS = 4_096
MAX_NOTES_BYTES = 64 << 10  # per section or segment
MAX_STRUCTURE_BYTES = 16 << 20  # all that pyelftools may read of one file
MAX_SECTION_BYTES = 512 << 20  # one symbol or string table

PROGRAMS = ("ET_EXEC", "ET_DYN")

_SHF_EXECINSTR = 4
_NT_GNU_BUILD_ID = 3
_IN_SECTION_0 = 0xFFFF  # a number too large for the header


class ElfError(Exception):
    """The file gives no names; the text says why, without the path."""


class Section(NamedTuple):
    """One section header; `type` as pyelftools spells it, `link` the index of a related section."""

    name: str
    type: str
    flags: int
    address: int
    offset: int
    size: int
    link: int

    @property
    def executable(self) -> bool:
        """Whether it holds code."""
        return bool(self.flags & _SHF_EXECINSTR)


class Source(Protocol):
    """Bytes at an offset: a file, or an image in memory (`file` None)."""

    size: int

    @property
    def file(self) -> FileIdentity | None:
        """What it was, None for memory."""

    def pread(self, count: int, offset: int) -> bytes:
        """Return up to *count* bytes; fewer at the end."""

    def close(self) -> None:
        """Let go of the file."""


class FileIdentity(NamedTuple):
    """A regular file as it was, to be opened again."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int

    def reopen(self) -> int:
        """Return a descriptor.

        Raises:
            ElfError: it is gone, or another file, or was changed.
        """
        fd, now = open_regular(self.path)
        if now != self:
            os.close(fd)
            raise ElfError("it was changed while it was read")
        return fd


def open_regular(path: str) -> tuple[int, FileIdentity]:
    """Return a descriptor. Refuses all but regular files: opening a FIFO or a device must not block or act.

    Raises:
        ElfError: missing, unreadable, or not a regular file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise ElfError(error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the path
        raise ElfError(str(error)) from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise ElfError("not a regular file")
    return fd, FileIdentity(os.path.abspath(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class FileSource:
    """A regular file."""

    def __init__(self, path: str) -> None:
        self._fd, self.file = open_regular(path)
        self.size = self.file.size

    def pread(self, count: int, offset: int) -> bytes:
        """Return up to *count* bytes; fewer at the end.

        Raises:
            ElfError: the file system fails.
        """
        if offset >= self.size:
            return b""
        count = min(count, self.size - offset)
        try:
            data = os.pread(self._fd, count, offset)
            while len(data) < count:  # Linux stops at 2 GiB; a truncated file ends the loop
                more = os.pread(self._fd, count - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise ElfError(f"cannot be read: {error.strerror}") from error
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class BytesSource:
    """An image in memory."""

    file = None

    def __init__(self, image: bytes) -> None:
        self._image = image
        self.size = len(image)

    def pread(self, count: int, offset: int) -> bytes:
        """Return up to *count* bytes; fewer at the end."""
        return self._image[offset : offset + count] if offset < self.size else b""

    def close(self) -> None:
        """Nothing to close."""


class _Stream:
    """The file object pyelftools reads: never past the end, never more than a budget."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0
        self._budget = MAX_STRUCTURE_BYTES

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._source.size - self._position)
        count = left if count is None or count < 0 else min(count, left)
        if count > self._budget:
            raise ElfError("its headers are larger than any real program's")
        self._budget -= count
        data = self._source.pread(count, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._source.size)[whence]
        if base + offset < 0:
            raise ElfError("an offset in it is negative")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        pass


class ElfImage:
    """The headers of one ELF program or library. Keeps the source open until closed.

    Attributes:
        build_id: as hex, "" if there is none.
        sections: empty if the table is missing or broken.
        bits, little_endian: class and byte order.
        file: what it was read from, None for memory.
    """

    def __init__(self, source: Source, kinds: Sequence[str] = PROGRAMS) -> None:
        self._source = source
        self.file = source.file
        try:
            self._read_structure(kinds)
        except ElfError:
            raise
        except Exception as error:
            # pyelftools meets hostile bytes with ELFParseError, ELFError, construct's errors,
            # AttributeError, UnicodeDecodeError, RecursionError ...: no list would be complete.
            text = str(error) or type(error).__name__
            raise ElfError(f"not a usable ELF file: {text[:200]}") from error

    def __enter__(self) -> ElfImage:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the source. What was read stays."""
        self._source.close()

    def _read_structure(self, kinds: Sequence[str]) -> None:
        if self._source.pread(4, 0) != b"\x7fELF":
            raise ElfError("not an ELF file")
        elf = _Structure(_Stream(self._source))
        if elf["e_type"] not in kinds:
            raise ElfError(f"neither a program nor a library ({elf['e_type']})")
        self.bits: int = elf.elfclass
        self.little_endian: bool = elf.little_endian
        self.sections: list[Section] = list(_sections(elf))
        self.build_id: str = _build_id(elf, self.sections)

    def section(self, name: str) -> Section | None:
        """Return the first section of that name which has bytes in the file."""
        for section in self.sections:
            if section.name == name and section.type != "SHT_NOBITS":
                return section
        return None

    def data(self, section: Section) -> bytes:
        """Return the bytes of *section*; shorter than it says if the file ends before.

        Raises:
            ElfError: it is larger than we read.
        """
        if section.size > MAX_SECTION_BYTES:
            raise ElfError(f"{section.name} says it has {section.size} bytes")
        return self._source.pread(section.size, section.offset)

    def part(self, section: Section, offset: int, count: int) -> bytes:
        """Return up to *count* bytes of *section* from *offset* on; fewer at its end."""
        count = min(count, section.size - offset)
        return self._source.pread(count, section.offset + offset) if count > 0 else b""

    @property
    def has_lines(self) -> bool:
        """Whether there is debug information to find source lines in."""
        return any(
            self.section(prefix + "info") is not None and self.section(prefix + "line") is not None
            for prefix in (".debug_", ".zdebug_")
        )

    @property
    def debuglink(self) -> tuple[str, int] | None:
        """Name and CRC-32 of the separate debug file, if the binary names one.

        A name with a directory in it is refused: the file is looked for in fixed places only.
        """
        section = self.section(".gnu_debuglink")
        if section is None or not 6 <= section.size <= 4096:
            return None
        data = self.data(section)
        name = os.fsdecode(data.split(b"\0", 1)[0])
        crc = data[(len(os.fsencode(name)) + 4) & ~3 :][:4]
        if not name or "/" in name or name in (".", "..") or len(crc) < 4:
            return None
        return name, int.from_bytes(crc, "little" if self.little_endian else "big")


class _Structure:
    """The header, as `elftools.elf.elffile.ELFFile` reads it; without DWARF, whose loading takes twice as long as the rest."""

    def __init__(self, stream: _Stream) -> None:
        # Not at the top: `import memleak.symbolize` must stay cheap, and this costs 15 ms.
        from elftools.common.utils import struct_parse
        from elftools.elf.structs import ELFStructs

        self.stream = stream
        identity = stream.read(16)
        if identity[4:5] not in (b"\1", b"\2") or identity[5:6] not in (b"\1", b"\2"):
            raise ElfError("not a usable ELF file: of no known class or byte order")
        self.elfclass = 32 * identity[4]
        self.little_endian = identity[5] == 1
        self.structs = ELFStructs(little_endian=self.little_endian, elfclass=self.elfclass)
        self.structs.create_basic_structs()
        self._parse = struct_parse
        self.header = self.parse("Elf_Ehdr", 0)
        self.structs.create_advanced_structs(self["e_type"], self["e_machine"], self["e_ident"]["EI_OSABI"])

    def __getitem__(self, name: str) -> Any:
        return self.header[name]

    def parse(self, structure: str, offset: int) -> Any:
        return self._parse(getattr(self.structs, structure), cast(Any, self.stream), stream_pos=offset)

    def _first_section(self, field: str) -> int:
        """Return a field of section 0, which holds numbers that are too large for the header."""
        return int(self.parse("Elf_Shdr", self["e_shoff"])[field]) if self["e_shoff"] else 0

    def num_sections(self) -> int:
        return int(self["e_shnum"]) or self._first_section("sh_size")

    def get_shstrndx(self) -> int:
        index = int(self["e_shstrndx"])
        return self._first_section("sh_link") if index == _IN_SECTION_0 else index

    def num_segments(self) -> int:
        count = int(self["e_phnum"])
        return self._first_section("sh_info") if count == _IN_SECTION_0 else count


def _sections(elf: _Structure) -> Iterator[Section]:
    # Headers only. `ELFFile.get_section` would also parse what hash, dynamic and symbol sections
    # hold, and follow their links, which a hostile file can make very long.
    count = elf.num_sections()
    if elf["e_shoff"] == 0 or count == 0:
        return
    if count > MAX_SECTIONS:
        raise ElfError(f"it says it has {count} sections")
    # A table cut short is a table missing: the program headers may still give the build-id.
    size = elf["e_shentsize"]
    if elf["e_shoff"] + count * size > elf.stream.seek(0, 2):
        return
    headers = [elf.parse("Elf_Shdr", elf["e_shoff"] + i * size) for i in range(count)]
    names = b""
    index = elf.get_shstrndx()
    if 0 < index < count:
        elf.stream.seek(headers[index]["sh_offset"])
        names = elf.stream.read(min(headers[index]["sh_size"], 1 << 20))
    for header in headers:
        yield Section(
            string_at(names, header["sh_name"], 256).decode("ascii", "replace"),
            str(header["sh_type"]),
            header["sh_flags"],
            header["sh_addr"],
            header["sh_offset"],
            header["sh_size"],
            header["sh_link"],
        )


def string_at(table: bytes, offset: int, limit: int) -> bytes:
    """Return the C string at *offset*, cut after *limit* bytes; empty if out of range."""
    end = table.find(b"\0", offset, offset + limit)
    return table[offset : end if end >= 0 else offset + limit]


def _build_id(elf: _Structure, sections: list[Section]) -> str:
    # Sections first: in a separate debug file the PT_NOTE offsets may point nowhere.
    # Segments too: sstrip and packers remove the section table.
    for section in sections:
        if section.type == "SHT_NOTE":
            found = _build_id_in(elf, section.offset, section.size)
            if found:
                return found
    for index in range(min(elf.num_segments(), MAX_SEGMENTS)):
        offset = elf["e_phoff"] + index * elf["e_phentsize"]
        segment = elf.parse("Elf_Phdr", offset)
        if segment["p_type"] == "PT_NOTE":
            found = _build_id_in(elf, segment["p_offset"], segment["p_filesz"])
            if found:
                return found
    return ""


def _build_id_in(elf: _Structure, offset: int, size: int) -> str:
    # pyelftools' own reading of notes parses each kind: a MB of properties took 4 s, and 160 MB.
    elf.stream.seek(offset)
    return build_id_of(elf.stream.read(min(size, MAX_NOTES_BYTES)), "<" if elf.little_endian else ">")


def build_id_of(notes: bytes, order: str) -> str:
    """Return the build-id among *notes* as hex, "" if there is none. *order*: of bytes, as `struct` spells it."""
    header = struct.Struct(order + "III")
    at = 0
    while at + header.size <= len(notes):
        name_bytes, bytes_, kind = header.unpack_from(notes, at)
        name = at + header.size
        found = name + (name_bytes + 3 & ~3)
        if found + bytes_ > len(notes):
            break  # a broken note hides what follows it in the same place
        if kind == _NT_GNU_BUILD_ID and notes[name : name + name_bytes] == b"GNU\0":
            return notes[found : found + bytes_].hex()
        at = found + (bytes_ + 3 & ~3)
    return ""


def open_elf(path: str) -> ElfImage:
    """Open the ELF file at *path*.

    Raises:
        ElfError: missing, unreadable, not a regular file, or not a program or library.
    """
    return _image(FileSource(path))


def open_split(path: str) -> ElfImage:
    """Open what belongs to programs and is none: a .dwo, a .dwp of several, what dwz took out of several.

    Raises:
        ElfError: missing, unreadable, not a regular file, or of another kind.
    """
    return _image(FileSource(path), ("ET_REL", *PROGRAMS))


def own_vdso() -> ElfImage:
    """Return this process's vDSO: the kernel's code, in no file.

    Raises:
        ElfError: there is none, or it cannot be read.
    """
    try:
        with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
            line = next((line for line in maps if line.rstrip().endswith("[vdso]")), None)
        if line is None:
            raise ElfError("this process has no vDSO")
        low, high = (int(part, 16) for part in line.split()[0].split("-"))
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(low)
            image = memory.read(high - low)
    except (OSError, ValueError, OverflowError) as error:
        raise ElfError(f"the vDSO cannot be read: {error}") from error
    return _image(BytesSource(image))


def elf_from_bytes(image: bytes) -> ElfImage:
    """Read an ELF image held in memory, as .gnu_debugdata is."""
    return _image(BytesSource(image))


def _image(source: Source, kinds: Sequence[str] = PROGRAMS) -> ElfImage:
    try:
        return ElfImage(source, kinds)
    except ElfError:
        source.close()
        raise
