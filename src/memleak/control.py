"""Change the knobs of a running process by writing the two request words of its recording.

The process notices a change at one of its next allocations; a process that allocates nothing keeps
its old knobs until it does. The pair of intervals stands in one 8-byte word with a number that goes
up by one, so a change is seen whole or not at all.
"""

import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import NamedTuple, Optional

from . import config, layout, locate, recording
from .config import Knobs
from .errors import TargetError
from .layout import IntervalWord
from .records import Header

_POLL_S = 0.005


class Change(NamedTuple):
    """What became of a request. `adopted` is False while the process has not noticed it."""

    path: Path
    pid: int
    requested: Knobs
    effective: Knobs
    adopted: bool
    note: str


def set_knobs(
    target: locate.Target,
    *,
    min: Optional[int] = None,  # noqa: A002 - the knobs are named so on the command line too
    max: Optional[int] = None,  # noqa: A002
    sample_bytes: Optional[int] = None,
    mode: Optional[str] = None,
    timeout: float = 0.5,
) -> Change:
    """Ask a running process for other knobs and wait a little for it to adopt them.

    A knob that is not given keeps its requested value; one interval alone is checked against the
    other's.

    Args:
        target: a pid, or the recording of a running process.
        min: least number of allocations between two samples.
        max: greatest number.
        sample_bytes: mean bytes between byte samples, 0 for none.
        mode: off, normal or full, instead of min and max.
        timeout: how many seconds to wait.

    Raises:
        ValueError: a bad value, nothing to change, or mode together with an interval. Nothing is
            changed.
        TargetError: no such process, not permitted, or its recording is closed or a copy.
        RecordingError: not a recording.
    """
    paths = locate.find(target)
    if len(paths) != 1:
        raise TargetError(f"{target}: {len(paths)} recordings: set the knobs of one at a time")
    path = paths[0]
    if mode is None and min is None and max is None and sample_bytes is None:
        raise ValueError("nothing to change: give min, max, sample_bytes or mode")
    if mode is not None:
        if min is not None or max is not None:
            raise ValueError("mode already says min and max: give either")
        chosen = config.knobs_for_mode(mode)
        min, max = chosen.min_sample_interval, chosen.max_sample_interval  # noqa: A001
    if sample_bytes is not None:
        config.validate_sample_bytes(sample_bytes)
    try:
        fd = recording.open_regular(path, os.O_RDWR)
    except OSError as error:
        raise TargetError(f"{path}: not permitted to write its knobs: {error.strerror}") from error
    try:
        header = _read_header(fd, path)
        _refuse_closed(header, path)
        # Two writers at once would take the same number; the process itself takes no lock.
        fcntl.flock(fd, fcntl.LOCK_EX)
        with mmap.mmap(fd, layout.HEADER_BYTES) as page, memoryview(page) as view, view.cast("Q") as words:
            asked = _request(words, min, max, sample_bytes)
            adopted = _wait(words, asked, timeout)
        header = _read_header(fd, path)
    finally:
        os.close(fd)
    return _describe(path, header, adopted)


def read_knobs(target: locate.Target) -> Change:
    """Return the requested and effective knobs of a recording, without changing anything.

    Raises:
        TargetError: no such process or file, or several recordings.
        RecordingError: not a recording.
    """
    paths = locate.find(target)
    if len(paths) != 1:
        raise TargetError(f"{target}: {len(paths)} recordings: name one")
    header = recording.load_header(paths[0])
    return _describe(paths[0], header, _reached(header.effective.epoch, header.requested.epoch))


def _request(words: memoryview, least: Optional[int], greatest: Optional[int], sample_bytes: Optional[int]) -> int:
    """Write the request; return its epoch. Raises ValueError before anything is written."""
    at = layout.HEADER.offsets["requested"] // 8
    at_bytes = layout.HEADER.offsets["requested_sample_bytes"] // 8
    current = IntervalWord.unpack(words[at])
    pair = config.validate_pair(
        current.min_sample_interval if least is None else least,
        current.max_sample_interval if greatest is None else greatest,
    )
    asked = IntervalWord(*pair, (current.epoch + 1) & 0xFFFFFFFF)
    # The mean first: whoever sees the new epoch sees it too.
    if sample_bytes is not None:
        words[at_bytes] = sample_bytes
    words[at] = asked.pack()  # one aligned 8-byte store; pairs with the core's acquire load
    return asked.epoch


def _wait(words: memoryview, epoch: int, timeout: float) -> bool:
    at = layout.HEADER.offsets["effective"] // 8
    deadline = time.monotonic() + timeout
    while not _reached(IntervalWord.unpack(words[at]).epoch, epoch):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _reached(effective: int, requested: int) -> bool:
    """Whether epoch *effective* is *requested* or later; epochs wrap around at 2^32."""
    return (effective - requested) & 0xFFFFFFFF < 1 << 31


def _read_header(fd: int, path: Path) -> Header:
    return recording.parse_header(os.pread(fd, layout.HEADER_BYTES, 0), str(path))


def _refuse_closed(header: Header, path: Path) -> None:
    if header.ended:
        raise TargetError(f"{path}: the recording is closed ({header.state_name}): its knobs cannot be changed")
    if locate.is_alive(header, path) is False:
        raise TargetError(
            f"{path}: process {header.pid} is not running with this recording (it ended, or this is a copy):"
            " its knobs cannot be changed"
        )


def _describe(path: Path, header: Header, adopted: bool) -> Change:
    requested = Knobs(*header.requested[:2], header.requested_sample_bytes)
    effective = Knobs(*header.effective[:2], header.effective_sample_bytes)
    if not adopted:
        note = "not adopted yet: the process does so at one of its next allocations"
    elif effective != requested:
        note = "the process runs with other knobs than requested, to keep its cost within the budget"
    else:
        note = ""
    return Change(path, header.pid, requested, effective, adopted, note)
