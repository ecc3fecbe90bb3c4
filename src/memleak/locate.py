"""Find recordings: of a pid, in a directory, in the places where the core puts them.

A process's recording is found through `/proc/PID/maps` and opened through `/proc/PID/root`, so it
does not matter in which container the process runs. Whether a process is alive is decided by
its start time and by its mapping of the file, never by a signal: pids are used again.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Optional, Union

from . import layout, recording
from .errors import RecordingError, TargetError
from .records import Header

SUFFIX = ".mlrec"
_FILES_MOST = 10_000
_RUN_HINT = "start it with `memleak run` or with `MEMLEAK=1`, or let it call memleak.start()"

Target = Union[int, str, "os.PathLike[str]"]


class Found(NamedTuple):
    """One recording in a directory. `alive` is None when it belongs to another pid namespace."""

    path: Path
    pid: int
    start_ticks: int
    alive: Optional[bool]
    header: Header


class _Mapping(NamedTuple):
    addresses: str  # START-END as /proc/PID/map_files names it
    device: int
    inode: int
    path: str
    deleted: bool
    shared: bool


def directories(environ: Optional[Mapping[str, str]] = None) -> list[Path]:
    """Return where recordings of this user may be, in the order in which the core tries."""
    environ = os.environ if environ is None else environ
    places = []
    if environ.get("MEMLEAK_DIR"):
        places.append(Path(environ["MEMLEAK_DIR"]))
    if environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(environ["XDG_RUNTIME_DIR"]) / "memleak")
    places.append(Path(f"/dev/shm/memleak-{os.getuid()}"))
    return list(dict.fromkeys(places))


def find(target: Target, *, environ: Optional[Mapping[str, str]] = None, dead: bool = False) -> list[Path]:
    """Return the recordings that *target* names, at least one.

    Args:
        target: a pid (int, or a string of digits; a file of such a name is `./NAME`), a file, or a
            directory, of which all recordings are meant.
        environ: for `directories`.
        dead: also accept, for a pid without a process, the recordings that dead processes of that
            pid left in `directories`.

    Raises:
        TargetError: what was tried, and what to do.
    """
    if isinstance(target, bool):
        raise TargetError(f"{target!r} is not a target: give a pid, a recording, or a directory")
    if isinstance(target, int):
        return _of_pid(target, environ, dead)
    if isinstance(target, str) and target.isascii() and target.isdigit():
        return _of_pid(int(target), environ, dead)
    path = Path(target)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise TargetError(f"{path}: no such file or directory, and not a pid") from None
    except (OSError, ValueError) as error:
        raise TargetError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISDIR(mode):
        return [path]
    found = sorted(_in_directory(path))
    if not found:
        raise TargetError(f"{path}: a directory without recordings (*{SUFFIX})")
    return found


def list_recordings(places: Iterable[Union[str, "os.PathLike[str]"]]) -> list[Found]:
    """Return the recordings in *places* that can be read; directories that are not ours are passed over."""
    result = []
    for place in places:
        try:
            owner = os.stat(place).st_uid
        except OSError:
            continue
        if os.getuid() not in (owner, 0):
            continue
        for path in sorted(_in_directory(Path(place))):
            if path.is_symlink():
                continue
            try:
                header = recording.load_header(path)
            except RecordingError:
                continue
            result.append(Found(path, header.pid, header.start_ticks, is_alive(header, path), header))
    return result


def is_alive(header: Header, path: Union[str, "os.PathLike[str]"]) -> Optional[bool]:
    """Whether the process that wrote *header* runs and still has *path* mapped.

    Returns:
        True or False; None for a process of another pid namespace, whose number says nothing here.
        A copy of a recording is not alive. Where maps may not be read, the start time decides.
    """
    if header.ended:
        return False
    boot_id = _boot_id()
    if boot_id is not None and any(header.boot_id) and header.boot_id != boot_id:
        return False
    through = _pid_in_proc_path(path)
    if through is None and header.pid_namespace not in (0, _pid_namespace()):
        return None
    pid = header.pid if through is None else through
    if start_ticks(pid) != header.start_ticks:
        return False
    try:
        mappings = _mappings(pid)
        status = os.stat(path)
    except OSError:
        return True
    return any((m.device, m.inode) == (status.st_dev, status.st_ino) for m in mappings)


def start_ticks(pid: int) -> Optional[int]:
    """Return when process *pid* began, in clock ticks since boot; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    # The second field is the command in parentheses, which may contain anything.
    fields = line[line.rfind(b")") + 1 :].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def _of_pid(pid: int, environ: Optional[Mapping[str, str]], dead: bool) -> list[Path]:
    began = start_ticks(pid)
    if began is None:
        left = [found for found in list_recordings(directories(environ)) if found.pid == pid and not found.alive]
        if left and dead:
            return [found.path for found in left]
        if left:
            raise TargetError(f"no process {pid}; one of that pid that is dead left {left[-1].path}: give that path")
        raise TargetError(f"no process {pid}, and no recording of a dead one in {_words(directories(environ))}")
    try:
        mappings = _mappings(pid)
    except PermissionError:
        raise TargetError(
            f"process {pid}: not permitted to read /proc/{pid}/maps: run as its user, or as root"
        ) from None
    except OSError:
        raise TargetError(f"process {pid} ended just now") from None
    candidates = [m for m in mappings if m.path.endswith(SUFFIX)]
    candidates = candidates or [m for m in mappings if m.shared and _has_magic(pid, m)]
    problem = ""
    readable = []
    for mapping in dict.fromkeys(candidates):
        path = _openable(pid, mapping)
        if path is None:
            problem = f"its recording {mapping.path} cannot be opened: run as its user, or as root"
            continue
        try:
            header = recording.load_header(path, origin=f"process {pid}: {mapping.path}")
        except RecordingError as error:
            problem = str(error)
            continue
        # Both: a child may be forked within the clock tick in which its parent began.
        if header.start_ticks == began and header.pid in _pids_of(pid):
            readable.append((header.start_realtime_ns, str(path), path))
        else:
            problem = f"it was forked from process {header.pid} and has not yet opened its own recording"
    if readable:
        return [max(readable)[2]]
    if problem:
        raise TargetError(f"process {pid}: {problem}")
    raise TargetError(f"process {pid} has no recording: memleak is not in it; {_RUN_HINT}")


def _pids_of(pid: int) -> set[int]:
    """Return the numbers of process *pid*: the one seen here, and those in the namespaces it is in."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return {pid, *(int(number) for number in line.split()[1:])}
    except (OSError, ValueError):
        pass
    return {pid}


def _mappings(pid: int) -> list[_Mapping]:
    """Return the mappings of files from their beginning. Raises OSError."""
    result: dict[tuple[int, int], _Mapping] = {}
    with open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(None, 5)
            if len(fields) < 6 or not fields[5].startswith(b"/") or int(fields[2], 16) != 0:
                continue
            path = os.fsdecode(fields[5])
            deleted = path.endswith(" (deleted)")
            if deleted:
                path = path[: -len(" (deleted)")]
            major, minor = fields[3].split(b":")
            device = os.makedev(int(major, 16), int(minor, 16))
            inode = int(fields[4])
            addresses = fields[0].decode("ascii")
            shared = fields[1][3:4] == b"s"
            result.setdefault((device, inode), _Mapping(addresses, device, inode, path, deleted, shared))
    return list(result.values())


def _openable(pid: int, mapping: _Mapping) -> Optional[Path]:
    """Return a path under which the mapped file itself can be read; None if there is none."""
    ways = [f"/proc/{pid}/map_files/{mapping.addresses}"]
    if not mapping.deleted:
        ways = [mapping.path, f"/proc/{pid}/root{mapping.path}", *ways]
    for way in ways:
        try:
            status = os.stat(way)
            if (status.st_dev, status.st_ino) == (mapping.device, mapping.inode) and stat.S_ISREG(status.st_mode):
                os.close(os.open(way, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
                return Path(way)
        except OSError:
            continue
    return None


def _has_magic(pid: int, mapping: _Mapping) -> bool:
    path = _openable(pid, mapping)
    return path is not None and _begins_with_magic(path)


def _begins_with_magic(path: Path) -> bool:
    try:
        fd = recording.open_regular(path)
    except (OSError, RecordingError):
        return False
    try:
        return os.read(fd, 8) == layout.MAGIC.to_bytes(8, "little")
    except OSError:
        return False
    finally:
        os.close(fd)


def _in_directory(place: Path) -> list[Path]:
    """Return the regular files that are recordings, by name or by what they begin with."""
    found = []
    try:
        with os.scandir(place) as entries:
            for number, entry in enumerate(entries):
                if number == _FILES_MOST:
                    break
                path = place / entry.name
                if entry.name.startswith(".") or not entry.is_file():
                    continue
                if entry.name.endswith(SUFFIX) or _begins_with_magic(path):
                    found.append(path)
    except OSError as error:
        raise TargetError(f"{place}: cannot be read: {error.strerror}") from error
    return found


def _pid_in_proc_path(path: Union[str, "os.PathLike[str]"]) -> Optional[int]:
    """Return N of a path that begins with /proc/N/."""
    parts = os.fspath(path).split("/", 3)
    if len(parts) == 4 and parts[:2] == ["", "proc"] and parts[2].isdigit():
        return int(parts[2])
    return None


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _boot_id() -> Optional[bytes]:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return bytes.fromhex(file.read(64).decode("ascii").strip().replace("-", ""))
    except (OSError, ValueError):
        return None


def _words(places: list[Path]) -> str:
    return " or ".join(str(place) for place in places)
