"""tracemalloc's names and signatures over what memleak records.

``import memleak.tracemalloc as tracemalloc`` runs code that was written for the standard module. `start()`
records every block, so that sizes and counts are exact; where memleak runs already, they are estimates with
errors, from whatever that records. `docs/reference/tracemalloc.md` says what differs.
"""

from __future__ import annotations

import linecache  # noqa: F401  # tests of programs put their own in the place of tracemalloc.linecache.getline
import os
import sys
from collections import Counter
from contextlib import suppress
from tracemalloc import DomainFilter, Filter, Frame, Traceback

from .. import _native, own, session
from ..grouping import Source
from ..records import LiveSample
from .addresses import block_of
from .blocks import Frames, RawTraces, frames_at, raw_traces
from .snapshot import Snapshot, Trace
from .statistic import Statistic, StatisticDiff

__all__ = [
    "DomainFilter",
    "Filter",
    "Frame",
    "Snapshot",
    "Statistic",
    "StatisticDiff",
    "Trace",
    "Traceback",
    "clear_traces",
    "get_object_traceback",
    "get_traceback_limit",
    "get_traced_memory",
    "get_tracemalloc_memory",
    "is_tracing",
    "reset_peak",
    "start",
    "stop",
    "take_snapshot",
]

MOST_FRAMES = 0xFFFF  # that the standard module takes; of a block at most session.MAX_FRAMES are recorded
MODES = ("full", "normal")


class _Tracing:
    """What start() was asked for, and what of the recording it is to show."""

    def __init__(self) -> None:
        self.on = False
        self.limit = 1
        self.mode = MODES[0]
        self.ours = False  # the recording is there for us alone
        self.recording_id = 0  # that the next two are of
        self.left_out: Counter[LiveSample] = Counter()  # cleared, and live at that time
        self.bytes_left_out = 0


_tracing = _Tracing()


def start(nframe: int = 1, *, mode: str | None = None) -> None:
    """Start tracing; does nothing when that is so already.

    A recording that is there already is used as it is, with its knobs and what it has seen since it began.

    Args:
        nframe: most frames of a traceback that are shown, the most recent ones. At most 64 are recorded.
        mode: "full": every block is recorded, numbers are exact. "normal": blocks are sampled as
            `memleak.start()` does it, numbers are estimates. None: what MEMLEAK_TRACEMALLOC says, else full.

    Raises:
        ValueError: *nframe* is out of range, or there is no such *mode*.
    """
    if not 1 <= nframe <= MOST_FRAMES:
        raise ValueError(f"the number of frames must be in range [1; {MOST_FRAMES}]")
    chosen = mode or os.environ.get("MEMLEAK_TRACEMALLOC") or MODES[0]
    if chosen not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {chosen!r}")
    with own.lock:
        if is_tracing():
            return
        _tracing.limit, _tracing.mode = nframe, chosen
        _tracing.ours = not session.is_running()
        if _tracing.ours:
            _open()
        _tracing.on = session.is_running()
        _tracing.left_out.clear()
        get_traced_memory()  # what a first call allocates for good is not the program's
        reset_peak()


def stop() -> None:
    """Stop tracing. A recording that start() found goes on."""
    with own.lock:
        if is_tracing() and _tracing.ours:
            session.stop()
        _tracing.on = False


def is_tracing() -> bool:
    """Tell whether start() was called and the process is being recorded."""
    return _tracing.on and session.is_running()


def clear_traces() -> None:
    """Forget the blocks that are there now. Nothing of a recording that start() found is lost but to this module."""
    with own.lock:
        if not is_tracing():
            return
        if _tracing.ours:
            _reopen()
        else:
            _leave_out_what_is_live()
        _native.reset_peak()


def reset_peak() -> None:
    """Let the peak of get_traced_memory() be what is allocated now."""
    if is_tracing():
        _native.reset_peak()


def get_traced_memory() -> tuple[int, int]:
    """Return the size of the traced blocks and its peak, in bytes; both 0 while nothing is traced."""
    if not is_tracing():
        return 0, 0
    size, peak = _native.held()
    if not _tracing.left_out:
        return size, peak
    with own.lock:
        size = sum([trace[1] for trace in _get_traces()])
    return size, max(size, peak - _tracing.bytes_left_out)


def get_traceback_limit() -> int:
    """Return the *nframe* of the last start(); 1 before that."""
    return _tracing.limit


def get_tracemalloc_memory() -> int:
    """Return the bytes in use of the recording, which is where the traces are."""
    with own.lock:
        header = own.header() if is_tracing() else None
        return header.room_used if header else 0


def get_object_traceback(obj: object) -> Traceback | None:
    """Return where an object was allocated; None if nothing is traced, or its block was not recorded."""
    frames = _get_object_traceback(obj)
    return None if frames is None else Traceback(frames)


def take_snapshot() -> Snapshot:
    """Return the traced blocks of this moment.

    Raises:
        RuntimeError: nothing is traced.
    """
    if not is_tracing():
        raise RuntimeError("the tracemalloc module must be tracing memory allocations to take a snapshot")
    return Snapshot(_get_traces(), get_traceback_limit())


# -- the names that CPython's own test uses, too ---------------------------------------------------


def _get_traces() -> RawTraces:
    """Return the raw traces of this moment; none while nothing is traced."""
    if not is_tracing():
        return RawTraces()
    with own.lock:
        found = own.load()
        if found is None:
            return RawTraces()
        source = Source(found, alive=True)
        narrow = source.narrow({row.domain for row in found.rows})
        return RawTraces(raw_traces(found, _tracing.limit, _left_out()), source.exact_reasons, narrow)


def _get_object_traceback(obj: object) -> Frames | None:
    """Return the frames where an object was allocated, the most recent first."""
    if not is_tracing():
        return None
    with own.lock:
        return frames_at(block_of(obj), _tracing.limit)


# -- the recording ---------------------------------------------------------------------------------


def _open() -> None:
    """Begin a recording for us."""
    if _tracing.mode == "full":
        session.start(1, 1, python_min_sample_interval=1, python_max_sample_interval=1)
    else:
        session.start()


def _reopen() -> None:
    """Replace our recording by an empty one."""
    path = _native.recording_path()
    _native.stop()
    if path:
        with suppress(OSError):
            os.unlink(path)
    _open()


def _leave_out_what_is_live() -> None:
    """Note what the recording holds, so that it is not shown."""
    found = own.load()
    if found is None:
        return
    _tracing.left_out = Counter(found.live)
    _tracing.recording_id = found.header.recording_id
    _tracing.bytes_left_out, _ = _native.held()


def _left_out() -> Counter[LiveSample]:
    """Return what is not to be shown of the recording: nothing of another one, which a forked child has."""
    with own.lock:
        header = own.header() if _tracing.left_out else None
        if header is None or header.recording_id != _tracing.recording_id:
            _tracing.left_out.clear()
        return _tracing.left_out


def _asked_of_the_interpreter() -> int:
    """Return the NFRAME of -X tracemalloc or PYTHONTRACEMALLOC, which the interpreter has checked; 0: none."""
    option = sys._xoptions.get("tracemalloc")
    if option is None and not sys.flags.ignore_environment:
        option = os.environ.get("PYTHONTRACEMALLOC")
    return 1 if option is True else int(option or 0)


if _asked_of_the_interpreter():
    start(_asked_of_the_interpreter())
