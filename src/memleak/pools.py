"""What a program's own allocators hold: their regions, how full these are, and what keeps nearly empty ones."""

from typing import NamedTuple, Optional

from .estimate import Estimate, estimate_bytes
from .grouping import Group, Judge, Source
from .records import LiveSums
from .rows import Row
from .stacks import Tracer

PINS_MOST = 3  # rows named for a region


class Pin(NamedTuple):
    """A row whose blocks lie in a region, with what of it was sampled there."""

    row: Row
    est_bytes: int
    samples: int


class RegionUse(NamedTuple):
    """A stretch of memory that a pool hands out in pieces."""

    number: int
    bytes: int
    est_bytes: int  # of live blocks in it
    samples: int  # the live ones: few of them tell little
    begun: float  # Unix time
    pins: tuple[Pin, ...]  # what keeps it: those that hold most of it, at most 3


class PoolUse(NamedTuple):
    """One pool of one process.

    Capacity is exact, what is used of it an estimate from samples, with its standard error and 95 % limits; these are
    None where they cannot be given. Idle is the difference: free in the pool, and not to anybody else.
    """

    svr_ip: str
    pid: int
    process: str
    name: str
    regions: int
    capacity_bytes: int
    est_bytes: int  # of live blocks, in regions and outside
    est_bytes_se: Optional[int]
    est_bytes_low: Optional[int]
    est_bytes_high: Optional[int]
    est_count: int
    samples: int
    outside_bytes: int  # of est_bytes: in no region that is known
    idle_bytes: Optional[int]  # None: it has no regions
    idle_share: Optional[float]  # of the capacity: fragmentation, when nothing more can be given back
    regions_ended: int
    use: tuple[RegionUse, ...]  # of each region, the emptiest first

    @property
    def regions_without_samples(self) -> int:
        """How many regions have no live sample: they may be empty, or nearly so."""
        return sum(not one.samples for one in self.use)


def pools(sources: tuple[Source, ...], tracer: Tracer, judge: Optional[Judge] = None) -> list[PoolUse]:
    """Return every pool of every recording, the one with the most capacity first.

    Args:
        sources: the recordings.
        tracer: names what pins regions.
        judge: says of that what its growth means.
    """
    found = [use for source in sources for use in _of_source(source, tracer, judge)]
    found.sort(key=lambda use: (-use.capacity_bytes, -use.est_bytes, use.name))
    return found


def _of_source(source: Source, tracer: Tracer, judge: Optional[Judge]) -> list[PoolUse]:
    recording = source.recording
    by_pool: dict[str, list[tuple[float, int]]] = {}
    outside: dict[str, float] = {}
    in_region: dict[int, dict[int, list[tuple[float, int]]]] = {}  # region -> row -> samples
    for ref, size, weight, region in recording.pool_samples:
        index = recording.row_index_of(ref)
        name = recording.rows[index].pool
        by_pool.setdefault(name, []).append((weight / 1024, size))
        if region in recording.pool_regions:
            in_region.setdefault(region, {}).setdefault(index, []).append((weight / 1024, size))
        else:
            outside[name] = outside.get(name, 0.0) + weight / 1024 * size
    rows = {index: _row(source, tracer, index, judge) for held in in_region.values() for index in _largest(held)}
    uses = []
    for pool in recording.pools.values():
        sums = LiveSums.of(by_pool.get(pool.name, ()))
        held = _estimate(source, sums)
        regions = [
            _region(source, region.number, in_region.get(region.number, {}), rows)
            for region in recording.pool_regions.values()
            if region.pool == pool.number
        ]
        high = held.high
        if high is not None and pool.capacity_bytes and pool.name not in outside:
            high = max(held.value, min(high, pool.capacity_bytes))  # more than all of it cannot be in use
        used = sums.est_bytes - outside.get(pool.name, 0.0)
        idle = max(0, pool.capacity_bytes - round(used)) if pool.capacity_bytes else None
        uses.append(
            PoolUse(
                source.svr_ip, recording.header.pid, recording.header.command, pool.name, pool.regions,
                pool.capacity_bytes, round(held.value), _rounded(held.se), _rounded(held.low), _rounded(high),
                round(sums.est_count), sums.samples, round(outside.get(pool.name, 0.0)), idle,
                None if idle is None else idle / pool.capacity_bytes, pool.regions_ended,
                tuple(sorted(regions, key=lambda one: (one.est_bytes / max(1, one.bytes), -one.bytes, one.number))),
            )
        )  # fmt: skip
    return uses


def _estimate(source: Source, sums: LiveSums) -> Estimate:
    return estimate_bytes(sums, narrow=source.narrow(()), sample_bytes=source.sample_bytes(()))


def _largest(held: dict[int, list[tuple[float, int]]]) -> list[int]:
    return sorted(held, key=lambda index: -sum(w * x for w, x in held[index]))[:PINS_MOST]


def _region(source: Source, number: int, held: dict[int, list[tuple[float, int]]], rows: dict[int, Row]) -> RegionUse:
    region = source.recording.pool_regions[number]
    estimated = {index: sum(w * x for w, x in samples) for index, samples in held.items()}
    pins = [Pin(rows[index], round(estimated[index]), len(held[index])) for index in _largest(held)]
    samples = sum(map(len, held.values()))
    began = source.began + region.begun_cs / 100
    return RegionUse(number, region.bytes, round(sum(estimated.values())), samples, began, tuple(pins))


def _row(source: Source, tracer: Tracer, index: int, judge: Optional[Judge]) -> Row:
    group = Group(index, index)
    group.add((0, index), source.recording.rows[index])
    return group.row((source,), tracer, judge=judge)


def _rounded(value: Optional[float]) -> Optional[int]:
    return None if value is None else round(value)
