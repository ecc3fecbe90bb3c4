"""Switch tracing of this process on and off, and change its knobs: the import door.

The core may have come by an import or have been preloaded; all of this works the same way. Nothing
here stops a program: what cannot be traced runs untraced, after one line on standard error.
"""

from __future__ import annotations

import errno
import os
import sys

from . import _native, config, own
from .config import Knobs
from .errors import CoreError, MemleakError, TargetError
from .replaceable import is_replaceable

TYPE_CHECKING = False  # typing takes milliseconds to import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Optional, TypeVar, Union

    PathLike = Union[str, "os.PathLike[str]"]
    Function = TypeVar("Function", bound=Callable[..., Any])
    Copy = tuple[int, str]  # pid of the process that asked for it, where to
    Before = tuple[Knobs, int, str]  # the knobs, the budget in millionths and the focus that were asked for
    # What a start did: whether it started, what was asked for before it changed that, the copy it noted.
    Begun = tuple[bool, Optional[Before], Optional[Copy]]
    # The budget in millionths if given, the focus if given, max_frames, native, python, and warnings of settings that do
    # not fit.
    Others = tuple[Optional[int], Optional[str], int, bool, bool, list[str]]

MAX_FRAMES = 64

_copy: Copy | None = None
_copies_at_exit = False
_told: set[str] = set()


def start(
    min_sample_interval: int | None = None,
    max_sample_interval: int | None = None,
    *,
    python_min_sample_interval: int | None = None,
    python_max_sample_interval: int | None = None,
    sample_bytes: int | None = None,
    budget: float | None = None,
    focus: str | None = None,
    max_frames: int = MAX_FRAMES,
    native: bool | None = None,
    python: bool | None = None,
    recording: PathLike | None = None,
    strict: bool = False,
) -> None:
    """Switch tracing of this process on. May be called again, and from any thread.

    In a process that is traced already, the knobs that are given are changed as by `configure`, and
    *recording* is noted. With `MEMLEAK_DISABLE=1` in the environment nothing happens.

    Args:
        min_sample_interval: least number of allocations of a thread between two samples, 1 to 10000. None,
            here and below: what `MEMLEAK_MIN_SAMPLE_INTERVAL` or `MEMLEAK_MODE` says, else 16.
        max_sample_interval: greatest number; `MEMLEAK_MAX_SAMPLE_INTERVAL`, else 256.
        python_min_sample_interval: the same for Python's small objects, which the interpreter counts on its own;
            `MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL`, else 256. When the two intervals above are 1 and 1 or 10000 and
            10000, so are these, unless given.
        python_max_sample_interval: greatest number; `MEMLEAK_PYTHON_MAX_SAMPLE_INTERVAL`, else 4096.
        sample_bytes: mean bytes between byte samples, 0 (none) or at least 4096; `MEMLEAK_SAMPLE_BYTES`, else
            4 MiB.
        budget: how much of the CPU time that the process uses sampling may cost, 0 to 1; 0: any. What would cost more
            makes all the intervals wider than asked for, but in full mode. None: `MEMLEAK_BUDGET`, else 0.01.
        focus: a part of which every allocation is recorded, with weight 1, beside the samples of all others:
            `module=libfoo.so`, `label=tenant_id=7` or `mod=operator_new`; "none". In off mode nothing but it is recorded; in
            full mode it changes nothing. It is not part of what the budget bounds. None: what `MEMLEAK_FOCUS` says, else
            none.
        max_frames: most frames of a backtrace that are kept, 1 to 64.
        native: False: of what asks for memory only Python's own allocators are sampled, all three, whatever the size;
            neither what else asks malloc, nor operator new, nor mappings. None: unless `MEMLEAK_NATIVE=0` says so. A
            recording keeps to what it began with.
        python: whether Python's frames are read and its small objects sampled; None: unless `MEMLEAK_PYTHON=0`
            says no. Decided once: a process in which they have been read goes on so.
        recording: where a copy of the recording is written at `stop()`, or when the interpreter ends: a
            file, replaced if it exists, or a directory, in which it gets a name of its own. A path that ends
            with "/" is a directory, which is made. Forked children write no copy.
        strict: raise when tracing cannot be switched on, instead of one line on standard error.

    Raises:
        ValueError: a bad value, or neither *native* nor *python*; nothing was changed.
        TypeError: *recording* is not a path.
        OSError: the directory for *recording* does not exist or is not writable, or what would be replaced there is
            not a regular file; nothing was changed.
        CoreError: only with *strict*: this process cannot be traced, and why.
    """
    knobs = config.given(
        min_sample_interval=min_sample_interval,
        max_sample_interval=max_sample_interval,
        python_min_sample_interval=python_min_sample_interval,
        python_max_sample_interval=python_max_sample_interval,
        sample_bytes=sample_bytes,
    )
    others = _others(budget, focus, max_frames, native, python)
    _start(knobs, others, None if recording is None else _copy_target(recording), strict)


def stop() -> None:
    """Switch tracing off: the recording is frozen and stays readable. Does nothing when it is off.

    What `start` was given as *recording* is written; if that fails, one line on standard error says so.
    """
    with own.lock:
        try:
            _native.stop()
        except CoreError:
            return  # no core that we could have started
        _write_copy()


def configure(
    *,
    min_sample_interval: int | None = None,
    max_sample_interval: int | None = None,
    python_min_sample_interval: int | None = None,
    python_max_sample_interval: int | None = None,
    sample_bytes: int | None = None,
    budget: float | None = None,
    focus: str | None = None,
) -> None:
    """Change the knobs while tracing. One that is not given keeps its requested value.

    Each thread follows within 64 allocations, the budget is looked at each second. For the ranges see `start`; *focus* "none"
    ends one. Python's intervals, when not given, go with the others into 1 and 1 or 10000 and 10000, and from there back to their defaults.

    Raises:
        ValueError: a bad value, or intervals that do not fit together; nothing was changed.
        TargetError: this process is not being traced.
        CoreError: the core is missing or of another build.
    """
    knobs = config.given(
        min_sample_interval=min_sample_interval,
        max_sample_interval=max_sample_interval,
        python_min_sample_interval=python_min_sample_interval,
        python_max_sample_interval=python_max_sample_interval,
        sample_bytes=sample_bytes,
    )
    budget_ppm = None if budget is None else config.validate_budget(budget)
    wanted = None if focus is None else config.validate_focus(focus)
    with own.lock:
        _change(knobs, budget_ppm, wanted)


def mode(name: str | None = None) -> str:
    """Return the mode that is asked for: off, normal or full; with *name*, ask for that one first.

    Normal means the default intervals. A mode is of Python's small objects too. `sample_bytes` stays as it is.

    Raises:
        ValueError: there is no such mode.
        TargetError: this process is not being traced.
        CoreError: the core is missing or of another build.
    """
    if name is None:
        return own.requested().mode
    chosen = config.knobs_for_mode(name)
    intervals: dict[str, Any] = config.intervals(chosen)
    configure(**intervals)
    return chosen.mode


def is_running() -> bool:
    """Tell whether this process is being traced. A forked child's own recording is opened by this."""
    try:
        return own.state() == _native.RECORDING
    except CoreError:
        return False


class tracing:
    """Trace a block or a function: a context manager, and a decorator, that takes what `start` takes.

    On exit tracing is switched off if it was off on entry; else the knobs get their old values back,
    if other ones were given, and *recording* is written, if given. As a decorator of a coroutine or generator
    function it would cover only the making of the object: write ``with`` inside it instead.

    Raises:
        On entry, what `start` raises.
    """

    def __init__(
        self,
        min_sample_interval: int | None = None,
        max_sample_interval: int | None = None,
        *,
        python_min_sample_interval: int | None = None,
        python_max_sample_interval: int | None = None,
        sample_bytes: int | None = None,
        budget: float | None = None,
        focus: str | None = None,
        max_frames: int = MAX_FRAMES,
        native: bool | None = None,
        python: bool | None = None,
        recording: PathLike | None = None,
        strict: bool = False,
    ) -> None:
        """Note the arguments; nothing happens before entry."""
        self._knobs: dict[str, Any] = {
            "min_sample_interval": min_sample_interval,
            "max_sample_interval": max_sample_interval,
            "python_min_sample_interval": python_min_sample_interval,
            "python_max_sample_interval": python_max_sample_interval,
            "sample_bytes": sample_bytes,
        }
        self._others: dict[str, Any] = {
            "budget": budget,
            "focus": focus,
            "max_frames": max_frames,
            "native": native,
            "python": python,
            "recording": recording,
            "strict": strict,
        }
        self._begun: list[Begun] = []

    def __enter__(self) -> None:
        """Switch tracing on."""
        knobs = config.given(**self._knobs)
        others = _others(*(self._others[name] for name in ("budget", "focus", "max_frames", "native", "python")))
        recording = self._others["recording"]
        target = None if recording is None else _copy_target(recording)
        self._begun.append(_start(knobs, others, target, self._others["strict"]))

    def __exit__(self, *error: object) -> None:
        """Leave tracing as it was on entry."""
        started, changed_from, copy = self._begun.pop()
        with own.lock:
            if started:
                stop()
                return
            if copy is not None and copy is _copy:
                _write_copy()
            if changed_from is not None and _native.state() == _native.RECORDING:
                knobs, budget_ppm, focus = changed_from
                _native.configure(*knobs)
                _native.set_budget(budget_ppm)
                if own.asked()[2] != focus:
                    _native.set_focus(focus)

    def __call__(self, function: Function) -> Function:
        """Return *function* wrapped: each of its calls is traced."""
        from functools import wraps

        @wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            # One of its own for each call: several may run at a time.
            with tracing(**self._knobs, **self._others):
                return function(*args, **kwargs)

        return traced  # type: ignore[return-value]


# -- starting and changing ---------------------------------------------------------------------------


def _start(knobs: Mapping[str, int], others: Others, target: str | None, strict: bool) -> Begun:
    """Start with arguments that were checked; *knobs* are those that were given."""
    budget_ppm, focus, max_frames, native, python, ignored = others
    with own.lock:
        disabled = is_disabled()
        problem = "MEMLEAK_DISABLE is set" if disabled else ""
        if not disabled:
            try:
                if own.state() == _native.RECORDING:
                    _follow_labels()
                    return _join(knobs, budget_ppm, focus, target)
            except CoreError as error:
                problem = str(error)
        wanted, warnings = config.at_start(os.environ, knobs)
        if not problem:
            outcome = _native.start(*wanted, max_frames, python, native)
            if outcome > 0:  # since we looked, by a call from C
                return _join(knobs, budget_ppm, focus, target)
            problem = _native.why()
            if outcome == 0:
                _follow_labels()
                if budget_ppm is not None:
                    _native.set_budget(budget_ppm)
                if focus is not None:
                    _native.set_focus(focus)
                for words in [*warnings, *ignored, problem]:
                    tell(words)
                return True, None, _note_copy(target)
        if strict:
            raise CoreError(f"tracing was not switched on: {problem}")
        if not disabled:
            tell(f"not tracing: {problem}")
        return False, None, None


def _join(knobs: Mapping[str, int], budget_ppm: int | None, focus: str | None, target: str | None) -> Begun:
    """Do what a start does in a process that is traced already."""
    given = knobs or budget_ppm is not None or focus is not None
    before = _change(knobs, budget_ppm, focus) if given else None
    return False, before, _note_copy(target)


def _change(knobs: Mapping[str, int], budget_ppm: int | None, focus: str | None) -> Before:
    """Ask for *knobs*, the budget and the focus, and for what is not given as it is; return what was asked for before."""
    before = own.asked()
    wanted = config.changed(before[0], knobs)
    if (
        (knobs and not _native.configure(*wanted))
        or (budget_ppm is not None and not _native.set_budget(budget_ppm))
        or (focus is not None and not _native.set_focus(focus))
    ):
        raise TargetError("this process is no longer being traced: its knobs cannot be changed")
    return before


def _follow_labels() -> None:
    """Let the core follow labels, and have gauges, if any were set by now; the first one that is set does so itself."""
    labels = sys.modules.get(f"{__package__}.labels")
    if labels is not None:
        labels.follow()
    gauges = sys.modules.get(f"{__package__}.gauges")
    if gauges is not None:
        gauges.follow()


def is_disabled() -> bool:
    """Tell whether the environment forbids tracing."""
    return os.environ.get("MEMLEAK_DISABLE", "0") not in ("", "0")


def tell(words: str) -> None:
    """Write one line on standard error, once in a process; nothing for no words. Never raises."""
    line = " ".join(words.split())
    if not line or line in _told:
        return
    _told.add(line)
    try:
        sys.stderr.write(f"memleak: {line}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass  # there is none, or it is closed


def _others(
    budget: float | None, focus: str | None, max_frames: int, native: bool | None, python: bool | None
) -> Others:
    """Return what a start is to be given beside the knobs, checked, with what the environment says."""
    if isinstance(max_frames, bool) or not isinstance(max_frames, int) or not 1 <= max_frames <= MAX_FRAMES:
        raise ValueError(f"max_frames must be a whole number from 1 to {MAX_FRAMES}, not {max_frames!r}")
    budget_ppm = None if budget is None else config.validate_budget(budget)
    wanted = None if focus is None else config.validate_focus(focus)
    found_native, found_python, ignored = config.sides(os.environ, native, python)
    return budget_ppm, wanted, max_frames, found_native, found_python, ignored


# -- the copy ----------------------------------------------------------------------------------------


def _copy_target(recording: PathLike) -> str:
    """Return the absolute path that *recording* means; make the directory if it names one."""
    path = os.fsdecode(recording)
    if not path or "\0" in path:
        raise ValueError(f"recording must be a path, not {path!r}")
    if path.endswith("/"):
        os.makedirs(path, exist_ok=True)
    directory = path if os.path.isdir(path) else os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        number = errno.ENOTDIR if os.path.exists(directory) else errno.ENOENT
        raise OSError(number, "the directory for the copy of the recording is not there", directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "the directory for the copy of the recording is not writable", directory)
    if not os.path.isdir(path) and not is_replaceable(path):
        raise FileExistsError(errno.EEXIST, "the copy would replace what is not a regular file", path)
    return os.path.abspath(path)


def _note_copy(target: str | None) -> Copy | None:
    """See to it that the recording is copied to *target* at the end, instead of where it was to go before."""
    global _copy, _copies_at_exit
    if target is None:
        return None
    _copy = (os.getpid(), target)
    if not _copies_at_exit:
        import atexit

        atexit.register(_write_copy)
        _copies_at_exit = True
    return _copy


def _write_copy() -> None:
    """Write the copy that was asked for, if this process asked for it, once."""
    global _copy
    with own.lock:
        if _copy is None or _copy[0] != os.getpid():
            return
        path, _copy = _copy[1], None
        from pathlib import Path

        from .saving import save_all

        try:
            found = own.load()
            if found is not None:
                save_all([found], Path(path), force=True)
        except (MemleakError, OSError) as error:
            kept = _native.recording_path()
            tell(f"copy of the recording: {error}" + (f"; it stays at {kept}" if kept else ""))
