"""Read a bundle: recordings with the names that their stacks need, in one file.

A zip archive: `manifest.json` says what the other members are. Their names are looked up and never used
as paths; nothing is unpacked to disk. Every byte is hostile: what may be unpacked is bounded, and an archive
that is not as `bundling` writes it is refused with `RecordingError`.
"""

import io
import os
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from . import recording
from .errors import NewerFormatError, RecordingError
from .recording import PathLike, Recording
from .symbolize.answers import AnswerTable, TableError, from_bytes
from .symbolize.debugfiles import recorded_path
from .symbolize.frames import Frame

FORMAT = 1
SUFFIX = ".mlz"
MANIFEST = "manifest.json"
MAX_MEMBERS = 20_000
MAX_FILE_BYTES = 4 << 30
MAX_MANIFEST_BYTES = 64 << 20
MAX_RECORDINGS_BYTES = 2 << 30  # of all, unpacked
MAX_SYMBOLS_BYTES = 1 << 30

_MAGIC = b"PK\x03\x04"
_END = struct.Struct("<4sHHHHIIH")  # the last thing in the archive: how many members, and where their list is
_END_MAGIC, _LONG_END_MAGIC = b"PK\x05\x06", b"PK\x06\x07"
_LONG_END_BYTES = 20
_MAX_LIST_BYTES = 256 * MAX_MEMBERS
_METHODS = (0, 8)  # stored, deflated
_ENCRYPTED = 1

_Key = tuple[str, str]  # path and build-id, as recorded


class BundledRecording(NamedTuple):
    """One recording: the member that holds it, and whether its process was running when it was bundled."""

    member: str
    running: bool


class BundledModule(NamedTuple):
    """One object of the recordings, as it was found when they were bundled.

    `symbols` names the member with its answers, None when there are none; `problem` says why.
    """

    path: str
    build_id: str
    lines: bool
    addresses: int
    symbols: Optional[str]
    problem: Optional[str]


class Bundle:
    """An open bundle; whole in memory, nothing is read later.

    Attributes:
        recordings: as they were bundled.
        running: for each recording, whether its process was running then.
        modules: what was found of their objects.
        made_by: the program that wrote it.
    """

    def __init__(
        self, recordings: list[Recording], manifest: "_Manifest", tables: dict[str, bytes], origin: str
    ) -> None:
        """Take what `load` has read."""
        self.recordings = tuple(recordings)
        self.running = tuple(one.running for one in manifest.recordings)
        self.modules = tuple(manifest.modules)
        self.made_by = manifest.made_by
        self._tables = tables
        self._origin = origin

    def names(self, behind: Optional[Any] = None) -> "BundledNames":
        """Return a symbolizer that answers from the bundle, and asks the one *behind* it for what is not there.

        Raises:
            RecordingError: a table of names is damaged.
        """
        tables = {}
        for module in self.modules:
            if module.symbols is not None:
                try:
                    tables[module.path, module.build_id] = from_bytes(self._tables[module.symbols])
                except TableError as error:
                    raise RecordingError(f"{self._origin}: {module.symbols}: {error}") from error
        refused = {recorded_path(one.path): one.problem for one in self.modules if one.problem is not None}
        return BundledNames(tables, refused, behind)


class BundledNames:
    """A symbolizer (see `memleak.query.Snapshot`) of the answers in a bundle."""

    def __init__(self, tables: dict[_Key, AnswerTable], refused: dict[str, str], behind: Optional[Any]) -> None:
        """Use *behind*, another symbolizer, for what is not in *tables*."""
        self._tables = tables
        self._refused = refused
        self._behind = behind
        self._unnamed: set[str] = set()
        self._damaged: dict[str, str] = {}

    def frames(self, path: str, build_id: str, vaddr: int, exact: bool = False) -> tuple[Frame, ...]:
        """Return the frames of one address, innermost first; none if nobody knows them."""
        return self.resolve([(path, build_id, vaddr, exact)])[0]

    def resolve(self, requests: Iterable[tuple[str, str, int, bool]]) -> list[tuple[Frame, ...]]:
        """Return the frames of each request, in order."""
        wanted = list(requests)
        found = {request: self._find(*request) for request in wanted}
        missing = [request for request, frames in found.items() if not frames]
        found.update(zip(missing, self._ask(missing)))
        self._unnamed.update(
            recorded_path(request[0]) for request in missing if not any(frame.function for frame in found[request])
        )
        return [found[request] for request in wanted]

    def problems(self) -> dict[str, str]:
        """Return why an object has fewer names than it could: path -> reason."""
        found: dict[str, str] = dict(getattr(self._behind, "problems", dict)())
        for path, why in self._refused.items():
            if path in self._unnamed:
                now = f"; now: {found[path]}" if path in found else ""
                found[path] = f"when it was bundled: {why}{now}"
        return {**found, **self._damaged}

    def _ask(self, requests: list[tuple[str, str, int, bool]]) -> list[tuple[Frame, ...]]:
        resolve = getattr(self._behind, "resolve", None)
        if resolve is not None and requests:
            return list(resolve(requests))
        return [() if self._behind is None else self._behind.frames(*request) for request in requests]

    def _find(self, path: str, build_id: str, vaddr: int, exact: bool) -> tuple[Frame, ...]:
        table = self._tables.get((path, build_id))
        if table is None:
            return ()
        try:
            answer = table.find(max(0, vaddr - (not exact)))
        except TableError as error:
            self._damaged[path] = str(error)
            return ()
        module = recorded_path(path)
        return tuple(
            Frame(frame.function, frame.file, frame.line, frame.inlined, module, vaddr, frame.discriminator)
            for frame in answer or ()
        )


def is_bundle(path: PathLike) -> bool:
    """Tell whether a file is a bundle, by what it begins with; False when it cannot be read."""
    return recording.begins_with(path, _MAGIC)


def load(path: PathLike) -> Bundle:
    """Read the bundle at *path*.

    Raises:
        RecordingError: it cannot be read, is no bundle, or is damaged.
        NewerFormatError: it has a later format.
    """
    origin = os.fspath(path)
    try:
        with open(recording.open_regular(path), "rb") as file, _Archive(file, origin) as archive:
            return archive.bundle()
    except OSError as error:
        raise RecordingError(f"{origin}: cannot be read: {error.strerror or error}") from error


class _Archive:
    def __init__(self, file: io.BufferedReader, origin: str) -> None:
        import zipfile  # not at the top: whoever reads plain recordings need not load it

        self._origin = origin
        _check_end(file, origin)
        try:
            self._zip = zipfile.ZipFile(file)
        except Exception as error:
            raise self._damaged(error) from error
        self._members = {member.filename: member for member in self._zip.infolist()}

    def __enter__(self) -> "_Archive":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._zip.close()

    def bundle(self) -> Bundle:
        manifest = self._manifest()
        left = MAX_RECORDINGS_BYTES
        recordings = []
        for one in manifest.recordings:
            raw = self._read(one.member, left)
            left -= len(raw)
            recordings.append(recording.parse(raw, f"{self._origin}/{one.member}"))
        left = MAX_SYMBOLS_BYTES
        tables: dict[str, bytes] = {}
        for module in manifest.modules:
            if module.symbols is not None and module.symbols not in tables:
                tables[module.symbols] = self._read(module.symbols, left)
                left -= len(tables[module.symbols])
        return Bundle(recordings, manifest, tables, self._origin)

    def _manifest(self) -> "_Manifest":
        if MANIFEST not in self._members:
            raise RecordingError(f"{self._origin}: neither a recording nor a bundle: a zip archive without {MANIFEST}")
        import json

        try:
            raw: Any = json.loads(self._read(MANIFEST, MAX_MANIFEST_BYTES))
            version = raw["format"]
            if isinstance(version, int) and version > FORMAT:
                raise NewerFormatError(self._origin, version, FORMAT, "bundle")
            return _Manifest.of(raw)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RecordingError(f"{self._origin}: damaged: its {MANIFEST} is not understood") from error

    def _read(self, name: str, most: int) -> bytes:
        """Return a member of at most so many bytes."""
        member = self._members.get(name)
        if member is None:
            raise RecordingError(f"{self._origin}: damaged: it has no {name!r}")
        if member.compress_type not in _METHODS or member.flag_bits & _ENCRYPTED:
            raise RecordingError(f"{self._origin}: {name!r} is packed in a way that bundles are not")
        if member.file_size > most:
            raise RecordingError(f"{self._origin}: {name!r} is larger than a bundle may hold")
        try:
            with self._zip.open(member) as stream:
                # Never more than it says, whatever is packed. One more finds the end, and its sum is checked there.
                return stream.read(member.file_size + 1)
        except Exception as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> RecordingError:
        # What zipfile raises for hostile bytes is no short list: BadZipFile, RuntimeError, zlib.error, EOFError ...
        return RecordingError(f"{self._origin}: damaged: {str(error)[:200] or type(error).__name__}")


class _Manifest(NamedTuple):
    recordings: list[BundledRecording]
    modules: list[BundledModule]
    made_by: str

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "_Manifest":
        recordings = [
            BundledRecording(_of_kind(str, one["member"]), _of_kind(bool, one["running"])) for one in raw["recordings"]
        ]
        modules = [
            BundledModule(
                _of_kind(str, one["path"]), _of_kind(str, one["build_id"]), _of_kind(bool, one["lines"]),
                _of_kind(int, one["addresses"]), _of_kind(str, one["symbols"], or_none=True),
                _of_kind(str, one["problem"], or_none=True),
            )
            for one in raw["modules"]
        ]  # fmt: skip
        if not recordings or len(recordings) + len(modules) > MAX_MEMBERS:
            raise ValueError("no recordings, or too many")
        return cls(recordings, modules, _of_kind(str, raw["made_by"]))


def _of_kind(kind: type, value: Any, *, or_none: bool = False) -> Any:
    if not isinstance(value, kind) and not (or_none and value is None):
        raise TypeError(f"{value!r:.50} where a {kind.__name__} is expected")
    return value


def _check_end(file: io.BufferedReader, origin: str) -> None:
    """Refuse an archive whose list of members is larger than any bundle's: zipfile would read all of it."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise RecordingError(f"{origin}: {size} bytes, more than the {MAX_FILE_BYTES} a bundle can have")
    tail_bytes = _LONG_END_BYTES + _END.size
    file.seek(max(0, size - tail_bytes))
    tail = file.read(tail_bytes)
    end = _END.unpack(tail[-_END.size :]) if len(tail) == tail_bytes else (b"",)
    if end[0] != _END_MAGIC:
        raise RecordingError(f"{origin}: damaged: not a bundle, or cut short")
    if tail.startswith(_LONG_END_MAGIC) or end[4] > MAX_MEMBERS or end[5] > _MAX_LIST_BYTES:
        raise RecordingError(f"{origin}: has more members than a bundle may have")
