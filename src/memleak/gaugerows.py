"""The gauges of a recording, as answers have them."""

from collections.abc import Iterator
from typing import NamedTuple, Optional

from .grouping import Source


class GaugeRow(NamedTuple):
    """One gauge of one process. Times are Unix times; they and the value are None while it was never set.

    `history` has (time, value) pairs, oldest first; `least` and `greatest` are the ends of what it tells.
    """

    svr_ip: Optional[str]
    svr_port: int
    process: str
    name: str
    value: Optional[int]
    least: Optional[int]
    greatest: Optional[int]
    first_set: Optional[float]
    last_set: Optional[float]
    last_changed: Optional[float]
    from_outside: bool  # made by `memleak gauge`, not by the program
    history: tuple[tuple[float, int], ...]


def gauge_rows(source: Source) -> Iterator[GaugeRow]:
    """Yield the gauges of a recording, by name."""
    header, began = source.recording.header, source.began
    for gauge in source.recording.gauges:
        values = [value for _, value in gauge.history]
        is_set = gauge.value is not None
        yield GaugeRow(
            source.svr_ip,
            header.pid,
            header.command,
            gauge.name,
            gauge.value,
            min(values, default=None),
            max(values, default=None),
            began + gauge.first_cs / 100 if is_set else None,
            began + gauge.set_cs / 100 if is_set else None,
            began + gauge.changed_cs / 100 if is_set else None,
            gauge.from_outside,
            tuple((began + cs / 100, value) for cs, value in gauge.history),
        )
