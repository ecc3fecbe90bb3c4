"""Change the knobs of a running process by writing the request words of its recording.

The process notices a change at one of its next allocations, that of Python's intervals at one of the
interpreter's next small ones; a process that allocates nothing keeps its old knobs until it does. A
pair of intervals stands in one 8-byte word with a number, so a change is seen whole or not at all.
The process itself takes odd numbers and this module even ones: no two requests have the same. Of two
at the same time the one that is written last counts.
"""

import fcntl
import mmap
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Optional

from . import config, layout, locate, recording
from .config import Knobs
from .errors import TargetError
from .layout import IntervalWord
from .records import Focus, Governor, Header

_POLL_S = 0.005
_LOCK_S = 60.0  # others that change knobs hold it while they wait; who was asked may hold it for ever


class Change(NamedTuple):
    """What became of a request. `adopted` is False while the process has not noticed it, and if it never will.

    `note` says which: another change may have been asked for at the same time. `counts_python` says whether Python's
    knobs matter: its small objects are being sampled. `governor` says what they may cost, `focus` what is recorded wholly.
    """

    path: Path
    pid: int
    requested: Knobs
    effective: Knobs
    adopted: bool
    counts_python: bool
    note: str
    governor: Governor
    focus: Focus


def set_knobs(
    target: locate.Target,
    *,
    min: Optional[int] = None,
    max: Optional[int] = None,
    python_min: Optional[int] = None,
    python_max: Optional[int] = None,
    sample_bytes: Optional[int] = None,
    mode: Optional[str] = None,
    budget: Optional[float] = None,
    focus: Optional[str] = None,
    timeout: float = 0.5,
) -> Change:
    """Ask a running process for other knobs and wait a little for it to adopt them.

    A knob that is not given keeps its requested value; one interval alone is checked against the
    other's. Python's intervals, when not given, go with the others into 1 and 1 or 10000 and 10000, and
    from there back to their defaults.

    Args:
        target: a pid, or the recording of a running process.
        min: least number of allocations between two samples.
        max: greatest number.
        python_min: the same for Python's small objects.
        python_max: greatest number.
        sample_bytes: mean bytes between byte samples, 0 for none.
        mode: off, normal or full, instead of intervals.
        budget: share of the CPU time used that sampling may cost, 0 for any. The process looks at it each second.
        focus: a part that is recorded wholly, beside what is sampled: `module=libfoo.so`, `label=tenant_id=7`,
            `mod=operator_new`; "none" ends it.
        timeout: how many seconds to wait.

    Raises:
        ValueError: a bad value, nothing to change, or mode together with an interval. Nothing is
            changed.
        TargetError: no such process, not permitted, its recording is closed or a copy, or somebody else holds it.
        RecordingError: not a recording.
    """
    paths = locate.find(target)
    if len(paths) != 1:
        raise TargetError(f"{target}: {len(paths)} recordings: set the knobs of one at a time")
    path = paths[0]
    given = config.given(
        min_sample_interval=min,
        max_sample_interval=max,
        python_min_sample_interval=python_min,
        python_max_sample_interval=python_max,
        sample_bytes=sample_bytes,
    )
    if mode is not None:
        if not given.keys() <= {"sample_bytes"}:
            raise ValueError("mode already says the intervals: give either")
        given.update(config.intervals(config.knobs_for_mode(mode)))
    budget_ppm = None if budget is None else config.validate_budget(budget)
    wanted = None if focus is None else config.validate_focus(focus).encode("utf-8", "surrogateescape")
    if not given and budget_ppm is None and wanted is None:
        raise ValueError("nothing to change: give min, max, python_min, python_max, sample_bytes, budget, focus or mode")
    try:
        fd = recording.open_regular(path, os.O_RDWR)
    except OSError as error:
        raise TargetError(f"{path}: not permitted to write its knobs: {error.strerror}") from error
    try:
        header = _read_header(fd, path)
        refuse_closed(header, path, "its knobs cannot be changed")
        if not header.python_requested.max_sample_interval and not (python_min is None and python_max is None):
            raise TargetError(f"{path}: the core in process {header.pid} is an early one without knobs for Python")
        if budget_ppm is not None and not header.widened_x1024:
            raise TargetError(f"{path}: the core in process {header.pid} is an early one without a budget")
        if wanted is not None and header.focus_bytes < layout.FOCUS_BYTES:
            raise TargetError(f"{path}: the core in process {header.pid} is an early one without a focus")
        # Two writers at once would take the same number; the process itself takes no lock.
        lock(fd, path, "knobs")
        with mmap.mmap(fd, layout.HEADER_BYTES) as page, memoryview(page) as view, view.cast("Q") as words:
            written = _request(words, given)
            if wanted is not None:
                written.update(_request_focus(page, words, wanted))
            if budget_ppm is not None:
                words[_places("budget_ppm")[0]] = budget_ppm
            _wait(words, written, header.counts_python, timeout)
        header = _read_header(fd, path)
    finally:
        os.close(fd)
    return _describe(path, header, written)


def read_knobs(target: locate.Target) -> Change:
    """Return the requested and effective knobs of a recording, without changing anything.

    Raises:
        TargetError: no such process or file, or several recordings.
        RecordingError: not a recording.
    """
    paths = locate.find(target)
    if len(paths) != 1:
        raise TargetError(f"{target}: {len(paths)} recordings: name one")
    return _describe(paths[0], recording.load_header(paths[0]))


def lock(fd: int, path: Path, what: str) -> None:
    """Wait for who else is changing the *what* of a recording.

    Raises:
        TargetError: that takes too long.
    """
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                words = f"somebody else has been changing its {what} for {_LOCK_S:g} s: try again"
                raise TargetError(f"{path}: {words}") from None
            time.sleep(_POLL_S)


def _request(words: memoryview, given: dict[str, int]) -> dict[str, int]:
    """Write the request; return its words, by name. Raises ValueError before anything is written."""
    at, at_python, at_bytes = _places("requested", "python_requested", "requested_sample_bytes")
    current, of_python = IntervalWord.unpack(words[at]), IntervalWord.unpack(words[at_python])
    knows_python = words[at_python] != 0  # an early writer does not
    before = Knobs(*current[:2], *(of_python[:2] if knows_python else config.DEFAULTS.python), words[at_bytes])
    asked = config.changed(before, given)
    written = {}
    # What is not asked for is not written: it would count as changed. The mean comes before the pair: whoever sees
    # the new number sees it too.
    if knows_python and (asked.python != before.python or not given.keys().isdisjoint(config.PYTHON_PAIR)):
        written["python_requested"] = IntervalWord(*asked.python, _after(of_python.epoch)).pack()
    if "sample_bytes" in given:
        written["requested_sample_bytes"] = asked.sample_bytes
    if given and not given.keys() <= set(config.PYTHON_PAIR):
        written["requested"] = IntervalWord(*asked.native, _after(current.epoch)).pack()
    for name, word in written.items():
        words[_places(name)[0]] = word  # an aligned 8-byte store; pairs with the core's loads
    return written


def _request_focus(page: mmap.mmap, words: memoryview, wanted: bytes) -> dict[str, int]:
    """Write the request for a focus; return its words, by name."""
    at, at_interval = _places("focus_requested", "requested")
    number = _after(words[at] >> 32) or 2
    word = number << 32 | layout.focus_check(wanted, number)
    place = layout.HEADER.offsets["focus_requested_text"]
    page[place : place + layout.FOCUS_BYTES] = wanted.ljust(layout.FOCUS_BYTES, b"\0")
    words[at] = word  # behind the text: pairs with the core's load of the word
    current = IntervalWord.unpack(words[at_interval])
    if current.mode == "full":
        return {"focus_requested": word}  # each call looks; another number would count as a change, and the answer not as exact
    # A new number of the pair that is there makes each thread look within 64 calls.
    words[at_interval] = IntervalWord(*current[:2], _after(current.epoch)).pack()
    return {"focus_requested": word, "requested": words[at_interval]}


def _wait(words: memoryview, written: dict[str, int], counts_python: bool, timeout: float) -> None:
    """Wait until what was written has been adopted or overwritten."""

    def is_pending(name: str) -> bool:
        requested, effective = _places(name, name.replace("requested", "effective"))
        return words[requested] == written[name] and words[effective] >> 32 != written[name] >> 32

    names = [name for name in ("requested", "python_requested", "focus_requested") if name in written]
    if not counts_python:
        names = [name for name in names if name != "python_requested"]
    deadline = time.monotonic() + timeout
    while any(map(is_pending, names)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _places(*names: str) -> list[int]:
    """Return the indices of words of the header."""
    return [layout.HEADER.offsets[name] // 8 for name in names]


def _after(epoch: int) -> int:
    """Return the next even number; they wrap around at 2^32."""
    return (epoch + 2) & 0xFFFFFFFE


def _is_overtaken(header: Header, written: Mapping[str, int]) -> bool:
    """Whether any of the words that were *written* is no longer there."""
    there = {
        "requested": header.requested.pack(),
        "python_requested": header.python_requested.pack(),
        "requested_sample_bytes": header.requested_sample_bytes,
        "focus_requested": header.focus_requested,
    }
    return any(there[name] != word for name, word in written.items())


def _read_header(fd: int, path: Path) -> Header:
    return recording.parse_header(os.pread(fd, layout.HEADER_BYTES, 0), str(path))


def refuse_closed(header: Header, path: Path, consequence: str) -> None:
    """Raise TargetError unless a process is running with this recording; *consequence* says what that prevents."""
    if header.ended:
        raise TargetError(f"{path}: the recording is closed ({header.state_name}): {consequence}")
    if locate.is_alive(header, path) is False:
        raise TargetError(
            f"{path}: process {header.pid} is not running with this recording (it ended, or this is a copy):"
            f" {consequence}"
        )


def _describe(path: Path, header: Header, written: Optional[Mapping[str, int]] = None) -> Change:
    requested = Knobs(*header.requested[:2], *header.python_requested[:2], header.requested_sample_bytes)
    effective = Knobs(*header.effective[:2], *header.python_effective[:2], header.effective_sample_bytes)
    overtaken = _is_overtaken(header, written or {})
    native = header.effective.epoch == header.requested.epoch
    # Without an interpreter that is looked at, nobody adopts Python's.
    python = not header.counts_python or header.python_effective.epoch == header.python_requested.epoch
    differs = effective != requested
    if not header.counts_python:
        differs = (effective.native, effective.sample_bytes) != (requested.native, requested.sample_bytes)
    focus = header.focus
    adopted = native and python and focus.adopted and not overtaken
    if overtaken:
        note = "another change was asked for at the same time, and this one does not count: ask again if it should"
    elif not native:
        note = "not adopted yet: the process does so at one of its next allocations"
    elif not python:
        note = "not adopted yet for Python's small objects: the process does so at one of its next allocations of those"
    elif not focus.adopted:
        note = "the focus is not adopted yet: the process does so at one of its next allocations"
    elif differs:
        note = "the process runs with other knobs than requested, to keep its cost within the budget"
    else:
        note = ""
    remarks = [note, *_remarks(path, header, focus.requested)]
    note = "; ".join(remark for remark in remarks if remark)
    return Change(path, header.pid, requested, effective, adopted, header.counts_python, note, header.governor, focus)


def _remarks(path: Path, header: Header, focus: str) -> list[str]:
    """Return what its user should know of a focus."""
    found = []
    if focus and header.requested.mode == "full":
        found.append("in full mode every allocation is recorded, with a focus and without")
    if focus == "mod=pymem_raw" and header.counts_native:
        found.append("while native allocations are sampled, none is named pymem_raw: they are glibc_malloc")
    if focus.startswith("module=") and focus != "module=main" and not header.ended:
        process = locate.judge(path)
        if process.alive and process.pid_here is not None and not _is_loaded(process.pid_here, focus):
            found.append(f"no such module loaded yet: {focus.partition('=')[2]}")
    return found


def _is_loaded(pid: int, focus: str) -> bool:
    """Whether a file that a focus names is mapped in a process; True if it cannot be told."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            return any(config.focus_names(focus, line.rstrip("\n").split(" ", 5)[-1].strip()) for line in maps)
    except OSError:
        return True
