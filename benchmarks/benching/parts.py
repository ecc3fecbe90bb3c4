"""What is measured beside the matrix of candidates and workloads; each part says its result in lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import core, errors, governor, hotspots, instructions, room, scripts

PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "instructions": instructions.count,
    "hook": core.hook,
    "backtrace": core.backtrace,
    "insertion": core.insertion,
    "sample": core.whole_sample,
    "errors": errors.measure,
    "room": room.measure,
    "governor": governor.measure,
    "hotspots": hotspots.measure,
    "start": scripts.start,
    "programs": scripts.programs,
}
