"""What was learned of a binary, kept on disk for the next time: where, how much, and whose.

A file holds one thing (a kind) about one build. It appears whole by rename(), readable by its owner only;
who has the one before it open keeps that one. A file that is damaged, of another version, or not ours is no
file: it is passed over and replaced. Nothing here raises: a cache that cannot be used answers nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .answers import Answer, AnswerTable, TableError, build, merge
from .sealed import Sealed, SealError, seal

VARIABLE = "MEMLEAK_SYMBOL_CACHE"
MAX_BYTES = 256 << 20
MAX_FILE_SHARE = 4  # one file has at most a fourth of all
ANSWERS = "answers"

_OFF = ("", "off")
_MAX_FILES = 20_000
_TEMPORARY = ".tmp"
_TEMPORARY_S = 3600  # then whoever wrote it has died
_PRIVATE = 0o022  # what nobody else may
_SUFFIX = ".mlsym"


class Key(NamedTuple):
    """What is asked about: `build` becomes a part of file names; `made_from` is all that decides the answers."""

    build: str
    made_from: bytes


def directory(environ: Mapping[str, str] | None = None) -> str | None:
    """Return where the cache of this user is; None if it wants none."""
    environ = os.environ if environ is None else environ
    chosen = environ.get(VARIABLE)
    if chosen is not None:
        return None if chosen in _OFF else os.path.abspath(chosen)
    base = environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):  # its specification: a relative path is as none
        home = environ.get("HOME", "")
        if not home.startswith("/"):
            return None
        base = os.path.join(home, ".cache")
    return os.path.join(base, "memleak", "symbols")


def default(environ: Mapping[str, str] | None = None) -> SymbolCache | None:
    """Return the cache of this user; None if it wants none."""
    place = directory(environ)
    return None if place is None else SymbolCache(place)


class SymbolCache:
    """The files below one directory, which is made when something is stored.

    Args:
        place: the directory. It must be ours and closed to others, else there is no cache.
        max_bytes: of all files together. Those not used for longest go first.
    """

    def __init__(self, place: str, *, max_bytes: int = MAX_BYTES) -> None:
        self.place = place
        self._max_bytes = max_bytes

    def load_blob(self, key: Key, kind: str) -> bytes | None:
        """Return what was stored, None if nothing was or it is damaged.

        Args:
            key: as for `store_blob`.
            kind: what it is, in lower-case letters.
        """
        sealed = self._open(key, kind)
        if sealed is None:
            return None
        with contextlib.closing(sealed), contextlib.suppress(SealError):
            return sealed.read(0, sealed.size)
        return None

    def store_blob(self, key: Key, kind: str, data: bytes) -> bool:
        """Store *data*, in place of what is stored; tell whether that was done."""
        pieces = seal(_sealed_key(key, kind), data)
        if sum(map(len, pieces)) > self._max_bytes // MAX_FILE_SHARE:
            return False
        with self._directory(make=True) as here:
            return here is not None and _write(here, _name(key, kind), pieces) and _prune(here, self._max_bytes)

    def answers(self, key: Key) -> CachedAnswers | None:
        """Return the answers stored for a build, None if there are none. To be closed."""
        sealed = self._open(key, ANSWERS)
        if sealed is None:
            return None
        try:
            return CachedAnswers(sealed)
        except (SealError, TableError):
            sealed.close()
            return None

    def add_answers(self, key: Key, new: Mapping[int, Answer]) -> bool:
        """Store answers with those that are stored already; tell whether that was done.

        Of two processes that do this at once, the last decides: what the other has added may be missing.
        """
        try:
            added = build(new)
            stored = self.answers(key)
            if stored is not None:
                with contextlib.closing(stored), contextlib.suppress(SealError, TableError):
                    if self.store_blob(key, ANSWERS, merge(stored.table.parts(), added).pack()):
                        return True
            return self.store_blob(key, ANSWERS, added.pack())
        except TableError:
            return False

    def _open(self, key: Key, kind: str) -> Sealed | None:
        with self._directory(make=False) as here:
            if here is None:
                return None
            try:
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
                fd = os.open(_name(key, kind), flags, dir_fd=here)
            except OSError:
                return None
        status = os.fstat(fd)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _PRIVATE
        if not is_ours or status.st_size > self._max_bytes // MAX_FILE_SHARE:
            os.close(fd)
            return None
        with contextlib.suppress(OSError):
            os.utime(fd)  # it was used: others go first
        try:
            return Sealed(fd, _sealed_key(key, kind))
        except SealError:
            return None

    @contextlib.contextmanager
    def _directory(self, *, make: bool) -> Iterator[int | None]:
        """Open the directory; None if it is missing, or not ours alone."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            if make:
                _make(self.place)
            fd = os.open(self.place, flags)
        except (OSError, ValueError):
            yield None
            return
        try:
            status = os.fstat(fd)
            yield fd if status.st_uid == os.geteuid() and not status.st_mode & _PRIVATE else None
        finally:
            os.close(fd)


class CachedAnswers:
    """The answers stored for one build. Close it."""

    def __init__(self, sealed: Sealed) -> None:
        self._sealed = sealed
        self.table = AnswerTable(sealed.read, sealed.size)

    def find(self, address: int) -> Answer | None:
        """Return the frames of *address*; None if they are not stored, or what is stored is damaged."""
        try:
            return self.table.find(address)
        except (SealError, TableError):
            return None

    def close(self) -> None:
        """Close the file."""
        self._sealed.close()


def _name(key: Key, kind: str) -> str:
    return f"{key.build[:64]}-{zlib.crc32(key.made_from):08x}.{kind}{_SUFFIX}"


def _sealed_key(key: Key, kind: str) -> bytes:
    return b"%s\0%s\0%s" % (kind.encode(), key.build.encode(), key.made_from)


def _make(place: str) -> None:
    if os.path.isdir(place):
        return
    above = os.path.dirname(place)
    if above not in ("", place):
        _make(above)
    # As root in a user's home, as sudo leaves it, what we make would be in that user's way.
    if os.stat(above or ".").st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{above} belongs to another user")
    with contextlib.suppress(FileExistsError):
        os.mkdir(place, 0o700)


def _write(here: int, name: str, pieces: Sequence[bytes]) -> bool:
    temporary = f".{os.getpid()}.{os.urandom(4).hex()}.{name}{_TEMPORARY}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o600, dir_fd=here)
    except OSError:
        return False
    try:
        with open(fd, "wb") as file:
            file.writelines(pieces)
        os.rename(temporary, name, src_dir_fd=here, dst_dir_fd=here)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=here)
        return False
    return True


def _prune(here: int, most: int) -> bool:
    """Remove what was not used for longest until no more than *most* bytes are left; return True.

    The directory was chosen by the user: what is not named as ours is not ours.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(here) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                unfinished = entry.name.endswith(_SUFFIX + _TEMPORARY)
                if not (unfinished or entry.name.endswith(_SUFFIX)) or not entry.is_file(follow_symlinks=False):
                    continue
                status = entry.stat(follow_symlinks=False)
                if unfinished and time.time() - status.st_mtime > _TEMPORARY_S:
                    os.unlink(entry.name, dir_fd=here)
                    continue
                found.append((status.st_mtime_ns, status.st_size, entry.name))
    left = sum(size for _, size, _ in found)
    found.sort()
    number = len(found)
    for _, size, name in found:
        if left <= most and number <= _MAX_FILES:
            break
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=here)
        left -= size
        number -= 1
    return True
