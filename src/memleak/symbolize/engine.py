"""Source lines and inlined calls by our own reader of DWARF: no process, one call for a batch, the GIL released."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Optional

from .elf import ElfError, ElfImage, open_elf, open_split
from .lines import SourceFrame
from .native import reader
from .process import ToolError
from .sections import NAMES, Place, alternate_link, place, places

if TYPE_CHECKING:
    from .units import LearnedUnits

WORK = 1_000_000_000  # entries of debug information that one batch may read: a quarter of a minute
MAX_SPLIT_FILES = 256  # attached for one batch
MAX_OPEN = 8  # binaries

# mlsym_frame: address, flags, line, column, discriminator, function, file; entry, low
_FRAME = struct.Struct("7I4x2Q")


class DwarfEngine:
    """See `LineEngine`. Keeps what it learned of a binary until it is closed.

    Args:
        mapped: map files where they would be read: faster, but one that is cut short meanwhile kills the process
            (SIGBUS). For processes that exist for this alone.
        gnu_files: wrong files as binutils 2.40 has them, see `mlsym_begin_in_file_0`.
        units: where what was learned is taken from, and stored after each lookup that learned more; not with *gnu_files*.
    """

    name = "memleak"

    def __init__(self, *, mapped: bool = False, gnu_files: bool = False, units: LearnedUnits | None = None) -> None:
        self._mapped = mapped
        self._open: dict[str, _OpenFile] = {}
        self._gnu_files = gnu_files
        self._units = None if gnu_files else units

    def lookup(self, path: str, addresses: Sequence[int]) -> list[list[SourceFrame]]:
        """See `LineEngine`."""
        return [chain if _has_line(chain) else [] for chain in self.chains(path, addresses)]

    def chains(self, path: str, addresses: Sequence[int]) -> list[list[SourceFrame]]:
        """Return the same, and also chains of which no line is known."""
        try:
            file = self._file(path)
            known = file.learned_units
            found = file.lookup(addresses)
            if self._units is not None and file.learned_units > known:
                self._units.store(path, file.learned())
            return found
        except (ElfError, ImportError, OSError) as error:
            raise ToolError(str(error)) from error

    def learned(self, path: str) -> bytes:
        """Return where functions and lines are in the units of a binary that were touched, b"" if none were.

        With them another engine finds other addresses of these units without reading all of their entries.
        """
        found = self._open.get(path)
        return b"" if found is None else found.learned()

    def learn(self, path: str, learned: bytes) -> None:
        """Take what `learned` gave for the same file. Of another one, or changed, it may hide names, no more.

        Raises:
            ToolError: the file cannot be read.
        """
        try:
            self._file(path).learn(learned)
        except (ElfError, ImportError, OSError) as error:
            raise ToolError(str(error)) from error

    def _file(self, path: str) -> _OpenFile:
        found = self._open.get(path)
        if found is None:
            while len(self._open) >= MAX_OPEN:
                self._open.pop(next(iter(self._open))).close()
            found = self._open[path] = _OpenFile(path, self._mapped, self._gnu_files)
            learned = None if self._units is None else self._units.load(path)
            if learned:
                found.learn(learned)
        return found

    def close(self) -> None:
        """See `LineEngine`."""
        while self._open:
            self._open.popitem()[1].close()


def _has_line(chain: Sequence[SourceFrame]) -> bool:
    return bool(chain) and (chain[0].line is not None or any(frame.line for frame in chain))


class _Text(dict[int, Optional[str]]):
    """Strings by their offset in an answer's text; decoded once."""

    def __init__(self, ffi: Any, text: Any) -> None:
        self._ffi, self._text = ffi, text
        self[0] = None

    def __missing__(self, offset: int) -> str:
        found = self[offset] = os.fsdecode(self._ffi.string(self._text + offset))
        return found


class _OpenFile:
    """One binary in the engine's hands."""

    def __init__(self, path: str, mapped: bool, gnu_files: bool) -> None:
        self._ffi, self._lib = reader()
        self._path, self._mapped = path, mapped
        self._fds: list[int] = []
        self._kept: list[Any] = []  # memory that the handle points into
        self._attached: set[int] = set()
        self._looked_for_package = False
        self._handle = self._ffi.NULL
        try:
            with open_elf(path) as image:
                self._handle = self._lib.mlsym_open(self._sections(path, image))
                if self._handle == self._ffi.NULL:
                    raise ElfError("out of memory")
                if gnu_files:
                    self._lib.mlsym_begin_in_file_0(self._handle)
                self._attach_alternate(image)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._handle != self._ffi.NULL:
            self._lib.mlsym_close(self._handle)
            self._handle = self._ffi.NULL
        while self._fds:
            os.close(self._fds.pop())

    def _sections(self, path: str, image: ElfImage, *, split: bool = False) -> Any:
        if not image.little_endian:
            raise ElfError("its bytes are in big-endian order")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        self._fds.append(fd)
        return self._as_array(fd, places(image, split=split))

    def _as_array(self, fd: int, found: Sequence[Place]) -> Any:
        array = self._ffi.new("struct mlsym_section[]", len(NAMES))
        whole = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ)) if self._mapped else None
        for section, at in zip(array, found):
            memory: Any = at.memory
            if memory is None and whole is not None:
                memory = whole[at.offset : at.offset + at.size]
            section.fd, section.offset, section.size = -1, at.offset, at.size
            if memory is not None:
                kept = self._ffi.from_buffer("unsigned char[]", memory)
                self._kept.append(kept)
                section.memory, section.size = kept, len(memory)
            elif at.size:
                section.fd = fd
        return array

    def _attach_alternate(self, image: ElfImage) -> None:
        link = alternate_link(image)
        if link is None:
            return
        name, build_id = link
        for path in (os.path.join(os.path.dirname(os.path.realpath(self._path)), name), name):
            try:
                with open_split(path) as alternate:
                    if alternate.build_id != build_id:
                        continue
                    self._lib.mlsym_attach_alternate(self._handle, self._sections(path, alternate))
                    return
            except (ElfError, OSError):
                continue  # names that stand there are missing

    def lookup(self, addresses: Sequence[int]) -> list[list[SourceFrame]]:
        wanted = sorted(set(addresses))
        asked = self._ffi.new("uint64_t[]", wanted)
        frames, splits = self._ask(asked, len(wanted))
        if splits and self._attach(splits):
            frames, _ = self._ask(asked, len(wanted))
        known = dict(zip(wanted, frames))
        return [known[address] for address in addresses]

    @property
    def learned_units(self) -> int:
        return int(self._lib.mlsym_learned_units(self._handle))

    def learned(self) -> bytes:
        size = self._ffi.new("uint64_t *")
        exported = self._lib.mlsym_export(self._handle, size)
        if exported == self._ffi.NULL:
            return b""
        try:
            return bytes(self._ffi.buffer(exported, size[0]))
        finally:
            self._lib.mlsym_free(exported)

    def learn(self, learned: bytes) -> None:
        self._lib.mlsym_import(self._handle, self._ffi.from_buffer("unsigned char[]", learned), len(learned))

    def _ask(self, asked: Any, count: int) -> tuple[list[list[SourceFrame]], list[tuple[int, int, str, str]]]:
        ffi, lib, linkage = self._ffi, self._lib, self._lib.MLSYM_LINKAGE_NAME
        result = lib.mlsym_lookup(self._handle, asked, count, WORK)
        if result == ffi.NULL:
            raise ElfError("out of memory")
        try:
            text = _Text(ffi, result.text)
            found: list[list[SourceFrame]] = [[] for _ in range(count)]
            if result.frame_count:
                new = tuple.__new__  # half the time of SourceFrame(…)
                bytes_ = ffi.buffer(result.frames, result.frame_count * _FRAME.size)
                for address, flags, line, _, discriminator, function, file, entry, low in _FRAME.iter_unpack(bytes_):
                    frame = (text[function], text[file], line or None, discriminator, bool(flags & linkage), entry, low)
                    found[address].append(new(SourceFrame, frame))
            splits = [
                (split.unit, split.id, text[split.name] or "", text[split.directory] or "")
                for split in (ffi.unpack(result.splits, result.split_count) if result.split_count else ())
            ]
        finally:
            lib.mlsym_result_free(result)
        return found, splits

    def _attach(self, splits: Sequence[tuple[int, int, str, str]]) -> bool:
        """Attach the files that hold the rest of units; tell whether there is any."""
        any_new = False
        self._open_package()
        opened = 0
        for unit, _, name, directory in splits:
            if unit in self._attached or opened == MAX_SPLIT_FILES:
                continue
            self._attached.add(unit)
            if self._lib.mlsym_attach_packaged(self._handle, unit) == 0:
                any_new = True
                continue
            opened += 1
            for path in self._split_places(name, directory):
                try:
                    with open_split(path) as image:
                        sections = self._sections(path, image, split=True)
                except (ElfError, OSError):
                    continue
                if self._lib.mlsym_attach_split(self._handle, unit, sections) == 0:
                    any_new = True
                    break
        return any_new

    def _open_package(self) -> None:
        """Open PROGRAM.dwp, if it is there; that of PROGRAM.debug may be named so, too."""
        if self._looked_for_package:
            return
        self._looked_for_package = True
        for stem in dict.fromkeys((self._path, self._path.removesuffix(".debug"), os.path.realpath(self._path))):
            try:
                with open_split(stem + ".dwp") as image:
                    sections = self._sections(stem + ".dwp", image, split=True)
                    index = self._as_array(self._fds[-1], [place(image, "cu_index")])
            except (ElfError, OSError):
                continue
            if self._lib.mlsym_open_package(self._handle, sections, index) == 0:
                return

    def _split_places(self, name: str, directory: str) -> Iterator[str]:
        yield os.path.join(directory, name)
        home = os.path.dirname(self._path)
        yield os.path.join(home, name)
        yield os.path.join(home, os.path.basename(name))
