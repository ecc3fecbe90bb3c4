"""Answers given before, by this process or another: looked for before a symbolizer is asked, kept after.

An answer counts for the build it was given for, and for what it was made from: the files that were there
(a debug file installed since gives lines), the engine, and our own code. Whether the binary is of the recorded
build is looked up each time, by its headers; an answer of a build that is not at hand is not given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

from .answers import Answer, AnswerFrame
from .cache import CachedAnswers, Key, SymbolCache
from .debugfiles import Binary, build_id_hex, find_binary, has_file, recorded_path, same_build
from .elf import ElfError, FileSource
from .frames import Frame
from .headers import Headers, read_headers

Request = tuple[str, "str | None", int, bool]  # path, build-id as hex, address, exact

MAX_PENDING = 100_000  # answers; then they are written
MAX_OPEN = 16  # files
_MAX_BUILD_ID_HEX = 256
_HASHED_BYTES = 1 << 20


class Remembered:
    """The cache as one symbolizer uses it. Close it: what was kept is written then.

    Args:
        cache: where answers are.
        sysroot, debug_dirs: as for `Symbolizer`.
        engine: a name for what answers; answers of another are not given.
    """

    def __init__(
        self, cache: SymbolCache, *, sysroot: str | None = None, debug_dirs: Sequence[str] = (), engine: str = "auto"
    ) -> None:
        self._cache = cache
        self._sysroot = sysroot
        self._debug_dirs = tuple(debug_dirs)
        self._engine = engine
        self._keys: dict[tuple[str, str | None], Key | None] = {}
        self._stored: dict[Key, CachedAnswers | None] = {}
        self._pending: dict[Key, dict[int, Answer]] = {}

    def through(
        self,
        requests: Iterable[Request],
        ask: Callable[[list[Request]], Mapping[Request, tuple[Frame, ...]]],
        problems: Callable[[], Mapping[str, str]],
    ) -> dict[Request, tuple[Frame, ...]]:
        """Return the frames of each request; *ask* is asked for those not known, and what it says is kept.

        Args:
            requests: may repeat.
            ask: answers each request of a list.
            problems: tells what *ask* had problems with, afterwards: path -> reason.
        """
        wanted = list(dict.fromkeys(requests))
        found = self.find(wanted)
        missing = [request for request in wanted if request not in found]
        if missing:
            new = ask(missing)
            self.keep(new, problems())
            found.update(new)
        return found

    def find(self, requests: Iterable[Request]) -> dict[Request, tuple[Frame, ...]]:
        """Return the frames of those requests that were answered before."""
        by_module: dict[tuple[str, str | None], list[Request]] = {}
        for request in requests:
            by_module.setdefault(request[:2], []).append(request)
        found = {}
        for module, asked in by_module.items():
            stored = self._answers(*module)
            if stored is None:
                continue
            path = recorded_path(module[0])
            for request in asked:
                _, _, vaddr, exact = request
                answer = stored.find(_lookup(vaddr, exact))
                if answer is not None:
                    found[request] = tuple(
                        Frame(frame.function, frame.file, frame.line, frame.inlined, path, vaddr, frame.discriminator)
                        for frame in answer
                    )
        return found

    def keep(self, answers: Mapping[Request, tuple[Frame, ...]], problems: Mapping[str, str]) -> None:
        """Take what the symbolizer answered, but for binaries that it had problems with."""
        by_module: dict[tuple[str, str | None], dict[int, Answer]] = {}
        for (path, build_id, vaddr, exact), frames in answers.items():
            if recorded_path(path) not in problems:
                by_module.setdefault((path, build_id), {})[_lookup(vaddr, exact)] = tuple(
                    AnswerFrame(frame.function, frame.file, frame.line, frame.inlined, frame.discriminator)
                    for frame in frames
                )
        for module, given in by_module.items():
            key = self._key(*module)
            # Replaced while the symbolizer read it: whose answers these are is not known.
            if key is not None and key == self._make_key(*module):
                self._pending.setdefault(key, {}).update(given)
        if sum(map(len, self._pending.values())) > MAX_PENDING:
            self.close()

    def close(self) -> None:
        """Write what was kept, and close the files. May be used again."""
        self._forget()
        while self._pending:
            self._cache.add_answers(*self._pending.popitem())

    def _forget(self) -> None:
        for stored in self._stored.values():
            if stored is not None:
                stored.close()
        self._stored.clear()

    def _answers(self, path: str, build_id: str | None) -> CachedAnswers | None:
        key = self._key(path, build_id)
        if key is None:
            return None
        if key not in self._stored:
            if len(self._stored) >= MAX_OPEN:
                self._forget()
            self._stored[key] = self._cache.answers(key)
        return self._stored[key]

    def _key(self, path: str, build_id: str | None) -> Key | None:
        module = (path, build_id)
        if module not in self._keys:
            self._keys[module] = self._make_key(path, build_id)
        return self._keys[module]

    def _make_key(self, path: str, build_id: str | None) -> Key | None:
        if not has_file(path):
            return None
        binary = find_binary(path, build_id, sysroot=self._sysroot, debug_dirs=self._debug_dirs)
        return None if binary.problem is not None else key_of(binary, build_id, self._engine)


class CachedSymbolizer:
    """Any symbolizer with the cache before it; it is not asked for what the cache knows.

    Args:
        behind: see `Symbolizer` for what it must do. It is closed with this one.
        remembered: the cache, with the directories that *behind* looks in.
    """

    def __init__(self, behind: Any, remembered: Remembered) -> None:
        self._behind = behind
        self._remembered = remembered

    def __enter__(self) -> CachedSymbolizer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Write to the cache, and close the symbolizer."""
        self._remembered.close()
        self._behind.close()

    def problems(self) -> dict[str, str]:
        """See `Symbolizer.problems`."""
        return dict(self._behind.problems())

    def frames(self, path: str, build_id: str | bytes | None, vaddr: int, exact: bool = False) -> tuple[Frame, ...]:
        """See `Symbolizer.frames`."""
        return self.resolve([(path, build_id, vaddr, exact)])[0]

    def resolve(self, requests: Iterable[tuple[str, str | bytes | None, int, bool]]) -> list[tuple[Frame, ...]]:
        """See `Symbolizer.resolve`."""
        wanted = [(path, build_id_hex(build_id), vaddr, bool(exact)) for path, build_id, vaddr, exact in requests]
        found = self._remembered.through(wanted, self._ask, self._behind.problems)
        return [found[request] for request in wanted]

    def _ask(self, requests: list[Request]) -> dict[Request, tuple[Frame, ...]]:
        return dict(zip(requests, self._behind.resolve(requests)))


def _lookup(vaddr: int, exact: bool) -> int:
    return max(0, vaddr - (not exact))


def key_of(binary: Binary, build_id: str | None, engine: str) -> Key | None:
    """Return what the answers about *binary* depend on; None if it changed since it was found.

    Args:
        binary: what was found.
        build_id: as recorded; None if whatever is there was meant.
        engine: the name of what finds source lines.
    """
    try:
        files = [(path, read_headers(path)) for path in binary.symbol_files]
    except ElfError:
        return None
    found = files[-1][1]
    if not same_build(found.build_id, build_id) or len(found.build_id) > _MAX_BUILD_ID_HEX:
        return None
    parts: list[object] = [code_state(), engine, binary.line_file == files[0][0]]
    for path, headers in files:
        parts += [headers.build_id, headers.size, headers.modified_ns, headers.has_lines, *_alternate(path, headers)]
    build = found.build_id
    if not build:
        try:
            build = "none-" + _digest(files[-1][0])
        except ElfError:
            return None
    return Key(build, repr(parts).encode("utf-8", "surrogatepass"))


def _alternate(path: str, headers: Headers) -> list[tuple[int, int]]:
    """Return what tells the states of the file that dwz took out of *path* apart; it may be installed later."""
    if headers.altlink is None:
        return []
    states = []
    for place in (os.path.join(os.path.dirname(os.path.realpath(path)), headers.altlink), headers.altlink):
        try:
            status = os.stat(place)
            states.append((status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):
            states.append((0, 0))
    return states


def _digest(path: str) -> str:
    """Return a hash of the first and the last MiB of a file."""
    from hashlib import blake2b

    source = FileSource(path)
    try:
        head = source.pread(_HASHED_BYTES, 0)
        tail = source.pread(_HASHED_BYTES, max(0, source.size - _HASHED_BYTES))
    finally:
        source.close()
    return blake2b(head + tail, digest_size=16).hexdigest()


_code_state: list[tuple[str, int, int]] = []


def code_state() -> list[tuple[str, int, int]]:
    """Return what tells versions of our own code apart: answers of one with a mistake do not outlive it."""
    if not _code_state:
        try:
            with os.scandir(os.path.dirname(os.path.abspath(__file__))) as entries:
                for entry in entries:
                    if entry.name.endswith((".py", ".so")):
                        status = entry.stat()
                        _code_state.append((entry.name, status.st_size, status.st_mtime_ns))
        except OSError:
            _code_state.append(("not to be seen", 0, 0))
        _code_state.sort()
    return _code_state
