"""The recording of this process, read from its own memory.

From memory, because the file may be out of reach: there may be none, and a service that has given up
its rights, or changed its root, cannot open it.
"""

from __future__ import annotations

import os
from _thread import RLock

from . import _native
from .config import Knobs
from .errors import RecordingError, TargetError

TYPE_CHECKING = False  # start() loads this module, and typing takes milliseconds to import
if TYPE_CHECKING:
    from .recording import Recording
    from .records import Header


class _Lock:
    """Held by whoever starts, stops, changes or reads. Reentrant: a finalizer may run inside.

    What its holder allocates is not recorded: reading a recording in full mode would fill it with its own reading.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._depth = 0  # written by the holder, and so is the next
        self._before = False  # whether the holder's allocations were left out before

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1
        before = _native.set_aside(True)
        if self._depth == 1:
            self._before = before

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            _native.set_aside(self._before)
        self._lock.release()

    def after_fork(self) -> None:
        """In the child: what a thread held that is not there any more is free."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock, self._depth = RLock(), 0


lock = _Lock()


def state() -> int:
    """Return the core's state, one of those in `_native`; a forked child's recording is opened first.

    Raises:
        CoreError: the core is missing or of another build.
    """
    found = _native.state()
    if found == _native.FORKED:
        _native.poll()
        found = _native.state()
    return found


def header() -> Header | None:
    """Return the header of this process's last recording; None while it has none of its own. With `lock` held."""
    from . import layout, recording

    page = _native.recording_memory(layout.HEADER_BYTES)
    found = recording.parse_header(page, _origin()) if page else None
    # A forked child still has its parent's in its memory.
    return found if found is not None and found.pid == os.getpid() else None


def asked() -> tuple[Knobs, int, str]:
    """Return the knobs that were asked for last, the budget in millionths, and the focus.

    Raises:
        TargetError: this process is not being traced.
    """
    with lock:  # else the recording might be replaced between the two looks
        found = header() if state() == _native.RECORDING else None
    if found is None:
        raise TargetError("this process is not being traced: call memleak.start() first")
    knobs = Knobs(*found.requested[:2], *found.python_requested[:2], found.requested_sample_bytes)
    return knobs, found.budget_ppm, found.focus_requested_text.decode("utf-8", "surrogateescape") if found.focus_requested else ""


def requested() -> Knobs:
    """Return the knobs that were asked for last.

    Raises:
        TargetError: this process is not being traced.
    """
    return asked()[0]


def load() -> Recording | None:
    """Return this process's last recording as it is now; None while it has none of its own.

    Raises:
        RecordingError: it cannot be read.
    """
    from . import recording

    with lock:
        if header() is None:
            return None
        origin = _origin()
        files: list[int] = []
        try:
            for _ in range(2):
                files.append(_open_file())
            # Through files: a copy in the program's own memory would stand in the recording as a live block,
            # and each further allocation would change what is being copied.
            for fd in files:
                _native.write_recording(fd)
            return recording.load_copies(files[0], files[1], origin)
        except OSError as error:
            raise RecordingError(f"{origin}: cannot be copied: {error.strerror or error}") from error
        finally:
            for fd in files:
                os.close(fd)


def _open_file() -> int:
    """Return the descriptor of a new file in memory that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("memleak", os.MFD_CLOEXEC)
    # An interpreter built for an old C library.
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _origin() -> str:
    return f"pid {os.getpid()} ({_native.recording_path() or 'private memory'})"


# Another thread may have held the lock when the process forked.
os.register_at_fork(after_in_child=lock.after_fork)
