"""Live samples as tracemalloc's raw traces: (domain, size, frames, number of frames).

Frames are (file, line) pairs, the most recent first, as CPython's `_tracemalloc` gives them. What has no Python frame,
or none that could be read, is at `<unknown>`, line 0.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .. import _native, layout
from ..arena import Arena, BeyondEnd, Damage
from ..grouping import PYTHON_DOMAINS
from ..pystacks import PythonStacks
from ..recording import Recording, parse_header
from ..records import LiveSample, PythonFrame

Frames = tuple[tuple[str, int], ...]
RawTrace = tuple[int, int, Frames, int]

DOMAIN_OF_PYTHON = 0
UNKNOWN: Frames = (("<unknown>", 0),)
_PASSED_OVER = sys.version_info >= (3, 11)
_PYTHON = PYTHON_DOMAINS | {layout.DOMAINS.index("pymem_raw")}


class SampledTrace(tuple):  # type: ignore[type-arg]  # RawTrace; a subclass of tuple[…] cannot be pickled by 3.9
    """A raw trace that stands for more blocks than itself; its size is theirs together.

    Attributes:
        block_size: size of the block that was sampled.
        weight: how many blocks it stands for.
    """

    block_size: int
    weight: float

    @classmethod
    def of(cls, domain: int, block_size: int, weight: float, frames: Frames, total: int) -> SampledTrace:
        """Make one from what was recorded."""
        made = cls((domain, round(weight * block_size), frames, total))
        made.block_size = block_size
        made.weight = weight
        return made


class RawTraces(list):  # type: ignore[type-arg]  # of RawTrace
    """Raw traces as they were read, and what their numbers are worth.

    Attributes:
        exact_reasons: why not every block is there; empty when all are.
        narrow: blocks were sampled so regularly that errors cannot be stated.
    """

    def __init__(
        self, traces: Iterable[RawTrace] = (), exact_reasons: Iterable[str] = (), narrow: bool = False
    ) -> None:
        """Take them."""
        super().__init__(traces)
        self.exact_reasons = tuple(exact_reasons)
        self.narrow = narrow


def raw_traces(found: Recording, limit: int, left_out: Counter[LiveSample]) -> list[RawTrace]:
    """Return the live samples of a recording, but for those in *left_out*, with at most *limit* frames each.

    Two samples at one place share the tuple of their frames.
    """
    left = Counter(left_out)
    known: dict[Frames, Frames] = {}
    places: dict[int, tuple[int, Frames, int]] = {}
    traces: list[Any] = []
    for sample in found.live:
        if sample[5] == layout.LAYER_POOL:
            continue  # within a block that is counted
        if left and left[sample] > 0:
            left[sample] -= 1
            continue
        ref, size, weight = sample[:3]
        place = places.get(ref)
        if place is None:
            row = found.row_of(sample)
            whole = plain(row.python_stack)
            frames = whole[:limit]
            domain = DOMAIN_OF_PYTHON if row.domain in _PYTHON else row.domain
            place = places[ref] = domain, known.setdefault(frames, frames), len(whole)
        domain, frames, total = place
        if weight == 1024:
            traces.append((domain, size, frames, total))
        else:
            traces.append(SampledTrace.of(domain, size, weight / 1024, frames, total))
    return traces


def frames_at(address: int, limit: int) -> Frames | None:
    """Return the frames where the live block at an address was allocated; None when it is not a live sample."""
    ref = _native.row_at(address)
    if not ref:
        return None
    arena = Arena(_native.recording_view(), "this process")
    header = parse_header(bytes(arena.raw[: layout.HEADER_BYTES]), arena.origin)
    try:
        at, _ = arena.record(ref, layout.RECORD_ROW, layout.ROW.bytes)
    except (Damage, BeyondEnd):
        return None  # another recording has just been opened
    python_stack = layout.ROW.format.unpack_from(arena.raw, at)[_PYTHON_STACK]
    return plain(PythonStacks(arena, header.python_version, header.python_state).stack(python_stack).frames)[:limit]


def plain(frames: Iterable[PythonFrame]) -> Frames:
    """Return frames as tracemalloc has them: from CPython 3.11 on without those that were only being entered."""
    shown = [frame for frame in frames if frame.begun or not _PASSED_OVER]
    return tuple([(frame.file or UNKNOWN[0][0], frame.line or 0) for frame in shown]) or UNKNOWN


_PYTHON_STACK = list(layout.ROW.codes).index("python_stack")
