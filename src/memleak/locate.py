"""Find recordings: of a pid, in a directory, in the places where the core puts them.

A process's recording is found through `/proc/PID/maps` and opened through `/proc/PID/root`, so it
does not matter in which container the process runs. Whether a process is alive is decided by
its start time and by its mapping of the file, never by a signal: pids are used again. A process of
a container has one number in there, which its recording states, and another one outside.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Optional, Union

from . import layout, recording
from .errors import RecordingError, TargetError
from .names import LIBRARY
from .records import Header

SUFFIX = ".mlrec"
_FILES_MOST = 10_000
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO: what runs in it sees every process
_RUN_HINT = "start it with `memleak run` or with `MEMLEAK=1`, or let it call memleak.start()"

Target = Union[int, str, "os.PathLike[str]"]


class Found(NamedTuple):
    """One recording in a directory.

    `pid` is the process's number in its own pid namespace, `pid_here` the one that reaches it from
    this process, None unless it runs. `alive` is None when it is of a namespace out of sight, and False
    for a copy of a recording, also of a process that runs.
    """

    path: Path
    pid: int
    start_ticks: int
    alive: Optional[bool]
    header: Header
    pid_here: Optional[int] = None


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
    found = []
    if environ.get("MEMLEAK_DIR"):
        found.append(Path(environ["MEMLEAK_DIR"]))
    if environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(environ["XDG_RUNTIME_DIR"]) / "memleak")
    found.append(Path(f"/dev/shm/memleak-{os.getuid()}"))
    return list(dict.fromkeys(found))


def places(environ: Optional[Mapping[str, str]] = None) -> list[Path]:
    """Return `directories`, and where copies are kept."""
    kept = (os.environ if environ is None else environ).get("MEMLEAK_KEEP_DIR")
    return list(dict.fromkeys([*directories(environ), *([Path(kept)] if kept else [])]))


def find(target: Target, *, environ: Optional[Mapping[str, str]] = None, dead: bool = False) -> list[Path]:
    """Return the recordings that *target* names, at least one.

    Args:
        target: a pid (int, or a string of digits; a file of such a name is `./NAME`), a file, or a
            directory, of which all recordings are meant.
        environ: for `places`.
        dead: also accept, for a pid without a process, the recordings that dead processes of that
            pid left in `places`.

    Raises:
        TargetError: what was tried, and what to do.
    """
    if isinstance(target, bool):
        raise TargetError(f"{target!r} is not a target: give a pid, a recording, or a directory")
    pid = pid_of(target)
    if pid is not None:
        return _of_pid(pid, environ, dead)
    path = Path(target)  # type: ignore[arg-type]  # an int is a pid
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


def pid_of(target: Target) -> Optional[int]:
    """Return the pid that *target* is, None when it is a path."""
    if isinstance(target, int):
        return target
    return int(target) if isinstance(target, str) and target.isascii() and target.isdigit() else None


def list_recordings(where: Iterable[Union[str, "os.PathLike[str]"]]) -> list[Found]:
    """Return the recordings in *where* that can be read; directories that are not ours are passed over.

    Of a recording and its copies one is returned: the one in use, else the latest.
    """
    result = []
    others = _Processes()
    for place in where:
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
                result.append(_judge(path, others))
            except RecordingError:
                continue
    best: dict[int, Found] = {}
    for found in result:
        other = best.get(found.header.recording_id)
        if other is None or _precedence(found) > _precedence(other):
            best[found.header.recording_id] = found
    return [found for found in result if best[found.header.recording_id] is found]


def _precedence(found: Found) -> tuple[bool, int, int]:
    return found.alive is not False, found.header.state, found.header.heartbeat_cs


def judge(path: Path) -> Found:
    """Return what is known of the recording at *path*, and of its process.

    Raises:
        RecordingError: it cannot be read.
    """
    return _judge(path, _Processes())


def _judge(path: Path, others: "_Processes") -> Found:
    header = recording.load_header(path)
    alive, pid_here = _look(header, path, others)
    return Found(path, header.pid, header.start_ticks, alive, header, pid_here)


def is_alive(header: Header, path: Union[str, "os.PathLike[str]"]) -> Optional[bool]:
    """Whether the process that wrote *header* runs and still has *path* mapped.

    Returns:
        True or False; None for a process of a pid namespace that cannot be seen from here. A copy of
        a recording is not alive. Where maps may not be read, the start time decides.
    """
    return _look(header, path, _Processes())[0]


def root_of(target: Target) -> Optional[str]:
    """Return the root directory of the files that *target* speaks of when it is not ours, as in a container.

    It is known of a running process, and of a path through the `/proc/PID/root` of one.
    """
    name = os.fspath(target) if isinstance(target, os.PathLike) else str(target)
    parts = name.split("/", 4)
    if parts[:2] == ["", "proc"] and parts[3:4] == ["root"]:
        name = parts[2]
    if not (name.isascii() and name.isdigit()):
        return None
    try:
        namespaces = [os.stat(f"/proc/{pid}/ns/mnt").st_ino for pid in (name, "self")]
        roots = [os.stat(f"/proc/{pid}/root/") for pid in (name, "self")]
    except OSError:
        return None
    if namespaces[0] == namespaces[1] and os.path.samestat(*roots):
        return None
    return f"/proc/{name}/root"


class _Processes:
    """The processes to be seen here, by their start, listed when first asked for."""

    def __init__(self) -> None:
        self._started: Optional[dict[Optional[int], list[int]]] = None

    def find(self, header: Header) -> tuple[Optional[int], bool]:
        """Return the number here of the process of another namespace that wrote *header*, and whether all was seen."""
        if self._started is None:
            self._started = {}
            for pid in _all_pids():
                self._started.setdefault(start_ticks(pid), []).append(pid)
        everything = os.geteuid() == 0 and _pid_namespace() == _INITIAL_PID_NAMESPACE
        for pid in self._started.get(header.start_ticks, ()):
            try:
                namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino
            except PermissionError:
                everything = False
                continue
            except OSError:
                continue
            if namespace == header.pid_namespace and header.pid in _pids_of(pid):
                return pid, True
        return None, everything


def _look(
    header: Header, path: Union[str, "os.PathLike[str]"], others: _Processes
) -> tuple[Optional[bool], Optional[int]]:
    """Return whether the process lives, as `is_alive` does, and its number here."""
    if header.ended:
        return False, None
    boot_id = _boot_id()
    if boot_id is not None and any(header.boot_id) and header.boot_id != boot_id:
        return False, None
    pid: Optional[int] = header.pid
    if header.pid_namespace not in (0, _pid_namespace()):
        pid, everything = others.find(header)
        if pid is None:
            return (False if everything else None), None
    if pid is None or start_ticks(pid) != header.start_ticks:
        return False, None
    try:
        mappings = _mappings(pid)
        status = os.stat(path)
    except OSError:
        return True, pid
    alive = any((m.device, m.inode) == (status.st_dev, status.st_ino) for m in mappings)
    # Of the same name, it is a copy. Else the process has begun another recording, or executed another program.
    runs = alive or any(os.path.basename(m.path) == os.path.basename(path) for m in mappings)
    return alive, pid if runs else None


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
        left = [found for found in list_recordings(places(environ)) if found.pid == pid and not found.alive]
        if left and dead:
            return [found.path for found in left]
        if left:
            raise TargetError(f"no process {pid}; one of that pid that is dead left {left[-1].path}: give that path")
        raise TargetError(f"no process {pid}, and no recording of a dead one in {words(places(environ))}")
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
    if any(os.path.basename(m.path) == LIBRARY for m in mappings):
        raise TargetError(
            f"process {pid} has no recording that can be read, though memleak is in it: it is not switched on, or"
            f" there was no room for one; memleak doctor {pid} tells more"
        )
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


def _all_pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


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


def words(where: list[Path]) -> str:
    """Return places as a message names them."""
    return " or ".join(str(place) for place in where)
