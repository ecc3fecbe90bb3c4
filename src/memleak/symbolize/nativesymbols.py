"""Which function holds an address, by the ELF symbol tables alone: the tables are read by `_dwarf`, in C."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .elf import ElfError, ElfImage, FileIdentity, Section
from .native import reader
from .symbols import SymbolTable
from .symboltables import MAX_TABLES, Table, tables

if TYPE_CHECKING:
    from typing import Union

    AnySymbolTable = Union["NativeSymbolTable", SymbolTable]

_MAX_ADDRESS = 2**64 - 1


def symbol_table(images: Sequence[ElfImage]) -> AnySymbolTable:
    """Return the functions of *images*, of which the files may be closed afterwards."""
    if all(image.little_endian for image in images):
        try:
            return NativeSymbolTable(images)
        except (ImportError, MemoryError):
            pass  # the package was not built for this Python
    return SymbolTable(images)


class NativeSymbolTable:
    """Answers as `SymbolTable` does.

    It keeps where symbols start and end, 40 bytes for each. Names are read from the file when they are wanted, and
    only if it is still the one that the symbols were read from; no descriptor stays open.
    """

    def __init__(self, images: Iterable[ElfImage]) -> None:
        self._ffi, self._lib = reader()
        self._handle = self._ffi.gc(self._lib.mlsym_symbols_open(), self._lib.mlsym_symbols_close)
        if self._handle == self._ffi.NULL:
            raise MemoryError
        self._files: list[FileIdentity | None] = []  # of each table
        self._kept: list[Any] = []  # memory that the handle points into
        for image in images:
            for table in tables(image):
                if len(self._files) < MAX_TABLES:
                    self._add(table)

    def _add(self, table: Table) -> None:
        ffi = self._ffi
        limits = [s.address + s.size if s.executable else 0 for s in table.image.sections]
        limit = ffi.new("uint64_t[]", [min(end, _MAX_ADDRESS) for end in limits])
        source = ffi.new("struct mlsym_symbol_table *")
        file = table.image.file
        fd = -1 if file is None else file.reopen()
        try:
            for name in ("symbols", "strings", "versions"):
                self._place(getattr(source, name), table.image, getattr(table, name), fd)
            source.limit, source.limits, source.narrow = limit, len(limits), table.image.bits == 32
            if self._lib.mlsym_symbols_add(self._handle, source) != 0:
                raise MemoryError
        finally:
            if fd >= 0:
                os.close(fd)
        self._files.append(file)

    def _place(self, to: Any, image: ElfImage, section: Section | None, fd: int) -> None:
        to.fd = -1
        if section is None:
            return
        to.offset, to.size = section.offset, section.size
        if image.file is None:
            data = self._ffi.from_buffer("unsigned char[]", image.data(section))
            self._kept.append(data)
            to.memory, to.size = data, len(data)
        else:
            to.fd = fd

    def __len__(self) -> int:
        return int(self._lib.mlsym_symbols_count(self._handle))

    def find(self, address: int) -> str | None:
        """See `SymbolTable.find`."""
        found = self.names(address)
        return found[0] if found else None

    def names(self, address: int) -> list[str]:
        """See `SymbolTable.names`."""
        return self.names_of([address])[address]

    def names_of(self, addresses: Iterable[int]) -> dict[int, list[str]]:
        """See `SymbolTable.names_of`."""
        return {address: [name for name, _ in found] for address, found in self._ask(addresses).items()}

    def file_of(self, address: int) -> str | None:
        """Return the source file of the function at *address* as its object file was named, without a directory."""
        found = self._ask([address])[address]
        return found[0][1] if found else None

    def _ask(self, addresses: Iterable[int]) -> dict[int, list[tuple[str, str | None]]]:
        """Return (name, file) of each symbol at each address."""
        ffi = self._ffi
        wanted = list(addresses)
        found: dict[int, list[tuple[str, str | None]]] = {address: [] for address in wanted}
        inside = [address for address in found if 0 <= address <= _MAX_ADDRESS]
        fds = [-1 if file is None else _reopened(file) for file in self._files]
        try:
            result = self._lib.mlsym_symbols_lookup(self._handle, [*fds, -1], inside, len(inside))
        finally:
            for fd in fds:
                if fd >= 0:
                    os.close(fd)
        if result == ffi.NULL:
            raise MemoryError
        try:
            text: dict[int, str | None] = {0: None}

            def text_at(offset: int) -> str | None:
                if offset not in text:
                    text[offset] = ffi.string(result.text + offset).decode("utf-8", "backslashreplace")
                return text[offset]

            for symbol in ffi.unpack(result.symbols, result.count) if result.count else ():
                found[inside[symbol.address]].append((text_at(symbol.name) or "", text_at(symbol.file)))
        finally:
            self._lib.mlsym_names_free(result)
        return found


@contextlib.contextmanager
def table_in_c(ffi: Any, image: ElfImage, section: Section) -> Iterator[Any]:
    """Give a section as a `struct mlsym_section`, for as long as the context lasts.

    Raises:
        ElfError: the file was changed since.
    """
    place = ffi.new("struct mlsym_section *")
    place.fd, place.offset, place.size = -1, section.offset, section.size
    if image.file is None:
        data = ffi.from_buffer("unsigned char[]", image.data(section))
        place.memory, place.size = data, len(data)
        yield place
        return
    place.fd = image.file.reopen()
    try:
        yield place
    finally:
        os.close(place.fd)


def _reopened(file: FileIdentity) -> int:
    try:
        return file.reopen()
    except ElfError:
        return -1  # gone since: no name rather than a wrong one
