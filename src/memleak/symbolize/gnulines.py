"""Frames of the addresses of one binary as GNU addr2line names them.

`Symbolizer` answers for recordings: return addresses, one name per function whatever the tables call
it. Here an address is looked up as it is given and names are those of binutils 2.40, but where it
takes another function's. `docs/reference/symbolization.md` lists each difference and its reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .debugfiles import find_binary
from .demangle import Demangler
from .elf import ElfError, ElfImage, Section, open_elf
from .engine import DwarfEngine
from .gnunames import GnuNames, RightNames
from .lines import LineEngine, SourceFrame, choose_engine
from .nearest import NearestSymbols, StickySymbols, Symbol, section_number
from .process import ToolError
from .symboltables import debugdata

if TYPE_CHECKING:
    from .debuginfod import Debuginfod
    from .units import LearnedUnits

_SHF_ALLOC = 2
_MOST = 2**64 - 1
_FALLBACKS = ("llvm-symbolizer", "addr2line")


def _holds(section: Section, offset: int) -> bool:
    return 0 <= offset < section.size


class BinaryLines:
    """Looks addresses of one binary up. Not for use by several threads at once.

    Args:
        path: the program or library. Debug information is looked for as `Symbolizer` does.
        gnu_compat: names exactly as binutils 2.40 chooses them, which depends on what was asked before.
        debug_dirs: further directories like /usr/lib/debug.
        mapped, units: see `DwarfEngine`.
        server: see `Symbolizer`.

    Raises:
        ElfError: the file is not there, or is not a program or library.
    """

    def __init__(
        self,
        path: str,
        *,
        gnu_compat: bool = False,
        debug_dirs: Sequence[str] = (),
        mapped: bool = False,
        units: LearnedUnits | None = None,
        server: Debuginfod | None = None,
    ) -> None:
        self._image = open_elf(path)
        self._debug: ElfImage | None = None
        try:
            self.bits = self._image.bits
            line_file = find_binary(path, None, debug_dirs=debug_dirs, server=server).line_file
            self._line_file = None if line_file is None else os.path.abspath(line_file)
            if line_file is not None and line_file != path:
                self._debug = open_elf(line_file)
        except ElfError:
            self.close()
            raise
        table = StickySymbols if gnu_compat else NearestSymbols
        self._symbols = table(self._image)
        self._debug_symbols = table(self._debug) if self._debug is not None else self._symbols
        # Fedora's table of the local functions that a stripped program lost. GNU's tools do not look there.
        packed = None if gnu_compat or self._debug is not None else debugdata(self._image)
        self._packed = packed
        self._packed_symbols = table(packed) if packed is not None else self._symbols
        self._engine = DwarfEngine(mapped=mapped, gnu_files=gnu_compat, units=units)
        self._fallback: LineEngine | None = None
        self._demangler = Demangler()
        self._names = GnuNames() if gnu_compat else RightNames()
        self.problem: str | None = None

    def close(self) -> None:
        """Close the files and end the helper processes."""
        for image in (self._image, self._debug):
            if image is not None:
                image.close()
        for part in ("_engine", "_fallback", "_demangler"):
            if getattr(self, part, None) is not None:
                getattr(self, part).close()

    def __enter__(self) -> BinaryLines:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def has_section(self, name: str) -> bool:
        """Tell whether there is a section of that name."""
        return section_number(self._image.sections, name) is not None

    def address_of(self, symbol: str) -> int | None:
        """Return the address of the first symbol of that name, mangled or readable; None if there is none."""
        found = self._symbols.value_of(symbol)
        if found is None:
            values = list(self._symbols.values())
            readable = self.demangled(name for name, _ in values)
            found = next((value for name, value in values if readable[name] == symbol), None)
        return found

    def demangled(self, names: Iterable[str]) -> dict[str, str]:
        """Return a readable name for each of *names*, keeping leading dots and an @version."""
        cores = {name: name.lstrip(".$").partition("@")[0] for name in names}
        readable = self._demangler.names(cores.values())
        return {
            name: name if readable[core] == core else name.replace(core, readable[core], 1)
            for name, core in cores.items()
        }

    def chains(self, addresses: Sequence[int], section: str | None = None) -> list[list[SourceFrame]]:
        """Return the frames of each address, innermost first, with mangled names; [] where nothing is known.

        Args:
            addresses: as in the program headers.
            section: addresses are offsets in the section of this name.

        Raises:
            KeyError: there is no such section.
        """
        sections = self._image.sections
        within: list[tuple[int, list[int]]] = []  # address, numbers of the sections that have it
        if section is None:
            loaded = [(number, one) for number, one in enumerate(sections) if one.flags & _SHF_ALLOC]
            within = [(at, [n for n, one in loaded if _holds(one, at - one.address)]) for at in addresses]
        else:
            only = section_number(sections, section)
            if only is None:
                raise KeyError(section)
            one = sections[only]
            usable = [only] if one.flags & _SHF_ALLOC else []
            within = [((at + one.address) & _MOST, usable if _holds(one, at) else []) for at in addresses]
        wanted = sorted({at for at, numbers in within if numbers})
        lines = dict(zip(wanted, self._lines(wanted)))
        if isinstance(self._names, RightNames):
            self._prepare([one for one in within if self._names.need_symbol(lines.get(one[0], []))])
        return [
            next(filter(None, (self._chain(at, number, lines[at]) for number in numbers)), []) for at, numbers in within
        ]

    def _prepare(self, within: Sequence[tuple[int, list[int]]]) -> None:
        """Find the symbols of addresses in their sections at once."""
        asked: dict[int, list[int]] = {}
        for address, numbers in within:
            for number in numbers:
                asked.setdefault(number, []).append(address)
        for number, addresses in asked.items():
            self._symbols.prepare(number, addresses)
            for image, symbols in ((self._debug, self._debug_symbols), (self._packed, self._packed_symbols)):
                other = self._number_in(image, number)
                if other is not None:
                    symbols.prepare(other, addresses)

    def _number_in(self, image: ElfImage | None, number: int) -> int | None:
        """Return the number of one of our sections in another image of this build."""
        return None if image is None else section_number(image.sections, self._image.sections[number].name)

    def _lines(self, addresses: Sequence[int]) -> list[list[SourceFrame]]:
        nothing: list[list[SourceFrame]] = [[] for _ in addresses]
        if self._line_file is None or not addresses:
            return nothing
        try:
            if self._fallback is None:
                return self._engine.chains(self._line_file, addresses)
        except ToolError as error:
            self.problem = f"no source lines from {self._line_file}: {error}"
            self._fallback = next(filter(None, map(choose_engine, _FALLBACKS)), None)
        try:
            if self._fallback is not None:
                found = self._fallback.lookup(self._line_file, addresses)
                self.problem = None
                return [[frame._replace(linkage=True) for frame in chain] for chain in found]
        except ToolError as error:
            self.problem = f"no source lines from {self._line_file}: {error}"
        return nothing

    def _chain(self, address: int, number: int, chain: list[SourceFrame]) -> list[SourceFrame]:
        """Return a chain with the symbol table's names where they count."""
        section = self._image.sections[number]
        if not section.executable:
            chain = []  # debug information of code that the linker left out may be about address 0 and what follows
        if not chain:
            symbol = self._symbol(number, address)
            return [] if symbol is None else [SourceFrame(symbol.name, symbol.file, None)]
        return self._names.apply(chain, lambda: self._symbol(number, address))

    def _symbol(self, number: int, address: int) -> Symbol | None:
        other = self._number_in(self._debug, number)
        found = None if other is None else self._debug_symbols.nearest(other, address)
        if found is None:
            found = self._symbols.nearest(number, address)
        other = self._number_in(self._packed, number)
        packed = None if other is None else self._packed_symbols.nearest(other, address)
        return packed if packed is not None and (found is None or packed.start > found.start) else found
