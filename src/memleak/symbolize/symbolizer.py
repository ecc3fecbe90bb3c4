"""The symbolizer: finds binaries of the recorded build, asks for lines, falls back to symbols.

Naming rule. Where the debug information knows the line, its names count: an inlined frame has
only those, the outermost frame takes the symbol table's name if it has none or an alias of it.
Elsewhere the symbol table names the function, and there is no line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from .debugfiles import (
    VDSO,
    Binary,
    build_id_hex,
    find_binary,
    has_file,
    is_perf_map,
    path_in_root,
    recorded_path,
    same_build,
)
from .demangle import Demangler
from .elf import ElfError, ElfImage, open_elf, own_vdso
from .frames import Frame
from .lines import ENGINES, TIMEOUT_S, LineEngine, SourceFrame, choose_engine
from .nativesymbols import symbol_table
from .perfmap import PerfMap
from .process import ToolError
from .symbols import split_version

if TYPE_CHECKING:
    from .cache import SymbolCache
    from .debuginfod import Debuginfod
    from .nativesymbols import AnySymbolTable
    from .remembered import Remembered
    from .units import LearnedUnits

BuildId = Union[str, bytes, None]
Request = tuple[str, BuildId, int, bool]  # path, build-id, address, exact
_Key = tuple[str, Optional[str], int, bool]  # the same, build-id as hex

MAX_REMEMBERED = 200_000  # answers; then the memory starts anew
NOT_DEMANGLED = "names are as linkers spell them: neither c++filt nor libstdc++.so.6 is installed"
MAX_CLONE_CHARS = 4096  # the pattern below takes quadratic time

# Copies that GCC and Clang split off one function; addr2line prints the function's own name.
_CLONE = re.compile(r"(?:\.(?:isra|part|constprop|cold|lto_priv|llvm)(?:\.\d+)*)+\Z")


class _Draft(NamedTuple):
    """A frame before its name was demangled."""

    function: str | None
    file: str | None
    line: int | None
    inlined: bool
    discriminator: int = 0


class _Module:
    """One binary of one build: its files, and its symbols once they were needed."""

    def __init__(self, path: str, build_id: str | None, binary: Binary) -> None:
        self.path = path
        self.build_id = build_id
        self.binary = binary
        self.lines_failed = False
        self._symbols: AnySymbolTable | PerfMap | None = None

    def symbols(self) -> AnySymbolTable | PerfMap:
        if self._symbols is None:
            images = []
            try:
                for file in self.binary.symbol_files:
                    try:
                        image = open_elf(file)
                    except ElfError:
                        continue  # gone since it was found
                    images.append(image)
                # Replaced since it was found: no name rather than a wrong one.
                self._symbols = symbol_table([image for image in images if self._is_ours(image)])
            finally:
                for image in images:
                    image.close()
        return self._symbols

    def _is_ours(self, image: ElfImage) -> bool:
        return not self.build_id or same_build(image.build_id, self.build_id)

    def take_names(self, symbols: AnySymbolTable | PerfMap) -> None:
        self._symbols = symbols

    def take_symbols(self, image: ElfImage) -> None:
        self._symbols = symbol_table([image])


class Symbolizer:
    """Names addresses of recorded binaries. Not for use by several threads at once.

    Args:
        sysroot: root directory of the traced process's files (a container's, /proc/PID/root);
            tried before our own.
        debug_dirs: further directories like /usr/lib/debug, or with copies of the binaries.
        engine: what finds source lines: "auto" (our own reader; an installed tool for a file
            that it cannot read), "memleak", "llvm-symbolizer", "addr2line", or "none" for
            function names only.
        cache: where answers given before are looked for, and new ones kept when it is closed; None
            touches no file but those that are read.
        mapped, units: see `DwarfEngine`.
        server: asked for debug information that is not here; None asks nobody.

    Raises:
        ValueError: *engine* is none of these.
    """

    def __init__(
        self,
        *,
        sysroot: str | None = None,
        debug_dirs: Sequence[str] = (),
        engine: str = "auto",
        cache: SymbolCache | None = None,
        mapped: bool = False,
        units: LearnedUnits | None = None,
        server: Debuginfod | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
        self._sysroot = sysroot
        self._debug_dirs = tuple(debug_dirs)
        self._engine_name = engine
        self._engine: LineEngine | None = None
        self._engine_chosen = False
        self._engine_timeout_s = TIMEOUT_S
        self._demangler = Demangler()
        self._modules: dict[tuple[str, str | None], _Module] = {}
        self._answers: dict[_Key, tuple[Frame, ...]] = {}
        self._problems: dict[str, str] = {}
        self._mapped = mapped
        self._units = units
        self._server = server
        self._remembered: Remembered | None = None
        if cache is not None:
            from .remembered import Remembered
            from .units import LearnedUnits

            self._units = self._units or LearnedUnits(cache)

            self._remembered = Remembered(cache, sysroot=sysroot, debug_dirs=self._debug_dirs, engine=engine)

    def __enter__(self) -> Symbolizer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the helper processes and write to the cache. The symbolizer may be used again; it starts new ones."""
        if self._remembered is not None:
            self._remembered.close()
        self._demangler.close()
        if self._engine is not None:
            self._engine.close()

    def problems(self) -> dict[str, str]:
        """Return why a binary has fewer names or lines than it could: path -> reason."""
        return {**self._problems, **({} if self._server is None else self._server.problems)}

    def frames(self, path: str, build_id: BuildId, vaddr: int, exact: bool = False) -> tuple[Frame, ...]:
        """Return the frames of one address, innermost first; at least one.

        Args:
            path: the binary as recorded; "" or a name like "[vdso]" for memory without a file.
            build_id: as recorded (bytes or hex); "" if the binary has none; None to skip the check.
            vaddr: as in the binary's program headers, not in a process.
            exact: True for the address of an instruction itself. A frame of a backtrace is a
                return address, one past the call: the call's own line is found before it.
        """
        return self.resolve([(path, build_id, vaddr, exact)])[0]

    def resolve(self, requests: Iterable[Request]) -> list[tuple[Frame, ...]]:
        """Return the frames of each request (path, build_id, vaddr, exact), in order.

        Faster than `frames` in a loop: each binary's tool is asked once.
        """
        wanted: list[_Key] = [
            (path, build_id_hex(build_id), vaddr, bool(exact)) for path, build_id, vaddr, exact in requests
        ]
        if len(self._answers) + len(wanted) > MAX_REMEMBERED:
            self._answers.clear()
        unknown = [request for request in dict.fromkeys(wanted) if request not in self._answers]
        if self._remembered is None:
            self._answers.update(self._ask(unknown))
        else:
            self._answers.update(self._remembered.through(unknown, self._ask, self.problems))
        return [self._answers[request] for request in wanted]

    def _ask(self, wanted: Iterable[_Key]) -> dict[_Key, tuple[Frame, ...]]:
        groups: dict[_Module, list[_Key]] = {}
        for request in wanted:
            groups.setdefault(self._module(request[0], request[1]), []).append(request)
        drafts: dict[_Key, list[_Draft]] = {}
        for module, asked in groups.items():
            lookups = [max(0, vaddr - (not exact)) for _, _, vaddr, exact in asked]
            drafts.update(zip(asked, self._drafts(module, lookups)))
        mangled = {draft.function for found in drafts.values() for draft in found}
        readable = self._demangler.names(name for name in mangled if name)
        if self._demangler.is_missing:
            self._note_mangled(drafts, readable)
        return {
            (path, build_id, vaddr, exact): tuple(
                Frame(
                    readable[draft.function] if draft.function else None,
                    draft.file,
                    draft.line,
                    draft.inlined,
                    recorded_path(path),
                    vaddr,
                    draft.discriminator,
                )
                for draft in found
            )
            for (path, build_id, vaddr, exact), found in drafts.items()
        }

    def _note_mangled(self, drafts: dict[_Key, list[_Draft]], readable: dict[str, str]) -> None:
        for (path, *_), found in drafts.items():
            names = [draft.function for draft in found if draft.function]
            if any(name.startswith(("_Z", "_R")) and readable[name] == name for name in names):
                self._problems.setdefault(recorded_path(path), NOT_DEMANGLED)

    def _module(self, path: str, build_id: str | None) -> _Module:
        key = (path, build_id)
        module = self._modules.get(key)
        if module is None:
            module = self._modules[key] = self._find(path, build_id)
            if module.binary.problem is not None:
                self._problems.setdefault(recorded_path(path), module.binary.problem)
        return module

    def _find(self, path: str, build_id: str | None) -> _Module:
        if path in VDSO:
            module = _Module(path, build_id, Binary((), None, None))
            self._take_vdso(module)
            return module
        if not has_file(path):
            return _Module(path, build_id, Binary((), None, None))
        if is_perf_map(path):
            return self._perf_map(path, build_id)
        binary = find_binary(
            path, build_id, sysroot=self._sysroot, debug_dirs=self._debug_dirs, server=self._server
        )
        return _Module(path, build_id, binary)

    def _perf_map(self, path: str, build_id: str | None) -> _Module:
        file = path_in_root(self._sysroot, path) if self._sysroot else path
        try:
            symbols, problem = PerfMap(file), None
        except ElfError as error:
            symbols, problem = None, f"{file}: {error}"
        module = _Module(path, build_id, Binary((), None, problem))
        if symbols is not None:
            module.take_names(symbols)
        return module

    def _take_vdso(self, module: _Module) -> None:
        # The kernel's code differs between kernels: only a build-id tells that it is the same.
        try:
            with own_vdso() as image:
                if module.build_id and same_build(image.build_id, module.build_id):
                    module.take_symbols(image)
        except ElfError:
            pass

    def _drafts(self, module: _Module, lookups: Sequence[int]) -> list[list[_Draft]]:
        """Return the frames of each address of one binary, with mangled names."""
        with_lines = self._source_frames(module, lookups)
        asked = [a for a, source in zip(lookups, with_lines) if not source or _symbol_counts(source[-1].function)]
        symbols = module.symbols().names_of(asked) if asked else {}
        results = []
        for address, source in zip(lookups, with_lines):
            names = symbols.get(address, [])
            if not source:
                results.append([_Draft(names[0] if names else None, None, None, False)])
                continue
            last = len(source) - 1
            found = []
            for depth, frame in enumerate(source):
                name = frame.function
                if depth == last:
                    name = _outermost_name(name, names)
                if name is not None and len(name) <= MAX_CLONE_CHARS:
                    name = _CLONE.sub("", name) or name
                found.append(_Draft(name, frame.file, frame.line, depth < last, frame.discriminator))
            results.append(found)
        return results

    def _source_frames(self, module: _Module, lookups: Sequence[int]) -> list[list[SourceFrame]]:
        nothing: list[list[SourceFrame]] = [[] for _ in lookups]
        file = module.binary.line_file
        if file is None or module.lines_failed or self._engine_name == "none":
            return nothing
        if not self._engine_chosen:
            self._engine = choose_engine(
                self._engine_name, self._engine_timeout_s, mapped=self._mapped, units=self._units
            )
            self._engine_chosen = True
        try:
            if self._engine is None:
                raise ToolError(_not_installed(self._engine_name))
            # Tools run in the root directory.
            return self._engine.lookup(os.path.abspath(file), lookups)
        except ToolError as error:
            module.lines_failed = True
            self._problems.setdefault(recorded_path(module.path), f"no source lines from {file}: {error}")
            return nothing


def _symbol_counts(name: str | None) -> bool:
    """Tell whether the symbol table may know a better name for a function that was not inlined.

    C names only: C++ aliases read alike, and their programs have the tables that take long.
    """
    return name is None or not name.startswith(("_Z", "_R"))


def _outermost_name(name: str | None, symbols: Sequence[str]) -> str | None:
    """Return the name of the function that was not inlined, as the symbol table prefers it.

    In glibc one tool says cfree@GLIBC_2.2.5, another __GI___libc_free, and users know free.
    """
    if name is None:
        return symbols[0] if symbols else None
    name = split_version(name)[0]
    if not _symbol_counts(name):
        return name
    # Lambdas, and all of C++ where only lines were asked for, have a bare name in DWARF.
    if symbols and (name in symbols or symbols[0].startswith(("_Z", "_R"))):
        return symbols[0]
    return name


def _not_installed(engine: str) -> str:
    return f"{engine} is not installed"
