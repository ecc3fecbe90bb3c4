"""Which recordings are left of processes that have ended."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from . import bundle, locate
from .bundle import Bundle
from .errors import TargetError
from .locate import Found, Target

_SILENT_S = 150  # a process with threads renews its copies each minute


def find(target: Optional[Target] = None, *, environ: Optional[Mapping[str, str]] = None) -> list[Found]:
    """Return the recordings of processes that have ended, the one that ended last first, at least one.

    Those of namespaces out of sight are taken for ended when they were silent for some minutes; else they come last.

    Args:
        target: a pid (as for `locate.find`) that a process had, a file, a directory; None for the usual places. A file
            may be the copy of a recording whose process still runs.
        environ: for `locate.places`.

    Raises:
        TargetError: there is none; what was tried, and what to do.
        RecordingError: a file cannot be read.
    """
    pid = None if target is None else locate.pid_of(target)
    places = locate.places(environ)
    if target is not None and pid is None:
        path = Path(target) if os.path.isdir(target) else locate.find(target)[0]  # type: ignore[arg-type]
        if not path.is_dir():
            return [_not_running(path)]
        places = [path]
    every = [found for found in locate.list_recordings(places) if pid in (None, found.pid)]
    left = [found for found in every if not found.alive and found.pid_here is None]
    if left:
        return sorted(left, key=_ended_when, reverse=True)
    where = locate.words(places)
    if pid is not None and locate.start_ticks(pid) is not None:
        raise TargetError(_running(pid))
    if pid is not None:
        raise TargetError(f"no recording of an ended process {pid}: tried {where}; memleak ps --dead lists all")
    hint = f"{len(every)} of running ones: memleak ps" if every else "memleak run PROGRAM makes one"
    raise TargetError(f"no recording of an ended process: tried {where}; {hint}")


def in_bundle(path: Path) -> tuple[list[Found], Bundle]:
    """Return the recordings of ended processes in a bundle, the one that ended last first, and the bundle.

    Raises:
        TargetError: all were running when they were bundled.
        RecordingError: it cannot be read.
    """
    opened = bundle.load(path)
    left = [
        Found(path, held.header.pid, held.header.start_ticks, False, held.header)
        for held, running in zip(opened.recordings, opened.running)
        if not running
    ]
    if not left:
        raise TargetError(f"{path}: its processes were running when it was made: memleak top {path} shows them")
    return sorted(left, key=_ended_when, reverse=True), opened


def _not_running(path: Path) -> Found:
    found = locate.judge(path)
    if found.alive:
        raise TargetError(f"{path}: {_running(found.pid_here)}")
    return found


def _running(pid: Optional[int]) -> str:
    return f"process {pid} is running: memleak top {pid} shows what it holds now"


def _ended_when(found: Found) -> tuple[bool, float]:
    heard = found.header.started_at + found.header.duration_s
    return found.alive is False or time.time() - heard > _SILENT_S, heard
