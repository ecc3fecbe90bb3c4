"""How memory grows with business: live bytes over time against gauges, as bytes per unit, and what if it were more.

For a stack, and for all of them together, live bytes are laid beside a gauge at the moments that both histories
tell, and `memleak.regression` draws a line. Lines for many stacks and several gauges would find some by chance. A
stack's best gauge pays for its choice (Bonferroni over gauges), then stacks are let through at a false discovery rate of 5 %
(Benjamini and Hochberg).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from .errors import QueryError
from .estimate import Estimate, estimate_bytes
from .grouping import Group, Source
from .records import Gauge, Header, LiveSums, RecordedRow
from .regression import SCALED_FROM, Series, fit, median_slope
from .rows import Row
from .verdict import discoveries

LEVELS_LEAST = 3
RANGE_LEAST = 0.2  # of the greatest value
MOMENTS_LEAST = 4
MOMENTS_MOST = 128
FALSE_DISCOVERIES = 0.05
ROWS_MOST = 300  # that changed most; more would take long, and hold little
SAMPLES_FEW = 30
_RIVAL = 0.02  # of the explained share
_BEYOND = 1.5


class Prediction(NamedTuple):
    """Live bytes at another value of the gauge, with a 95 % interval; None where none can be given.

    Of all stacks together, `used_*` say what of the memory limit would then be used; None for a single stack, and
    without a limit.
    """

    gauge: str
    value: int
    bytes: float
    low: Optional[float]
    high: Optional[float]
    used_bytes: Optional[float] = None
    used_low: Optional[float] = None
    used_high: Optional[float] = None


class Law(NamedTuple):
    """How the live bytes of a stack, or of all together, follow a gauge.

    Attributes:
        row: the stack; None for all together.
        gauge: its name.
        kind: "slope" where the gauge has changed enough; "ratio": it has not, and all that is held is laid to it.
        bytes_per_unit, low, high: with a 95 % interval; the limits are None where none can be given.
        base_bytes: what would be left at 0; 0.0 for a ratio.
        r_squared: the share of the changes of live bytes that the line explains; None for a ratio, or without changes.
        count_per_unit: blocks per unit, by their mean size now; None when nothing is live.
        block_bytes: that size.
        est_bytes: live bytes now.
        value, least, greatest, levels, moments, span_s: the gauge now, the range it was seen in, how many values, at
            how many moments, over how long.
        samples: live samples behind it.
        significant: it would hardly be found by chance; False for a ratio.
        notes: what to know of it, in words.
        predictions: for each value asked for of this gauge.
    """

    row: Optional[Row]
    gauge: str
    kind: str
    bytes_per_unit: float
    low: Optional[float]
    high: Optional[float]
    base_bytes: float
    r_squared: Optional[float]
    count_per_unit: Optional[float]
    block_bytes: Optional[float]
    est_bytes: float
    value: int
    least: int
    greatest: int
    levels: int
    moments: int
    span_s: float
    samples: int
    significant: bool
    notes: tuple[str, ...]
    predictions: tuple[Prediction, ...]


class Scaling(NamedTuple):
    """What follows which gauge: one law for each gauge of all stacks together, and the stacks that follow one.

    `rows` has the most bytes per unit first. `limit_bytes` and `limit_name` are what bounds the memory, None and "" if
    nothing is known.
    """

    totals: tuple[Law, ...]
    rows: tuple[Law, ...]
    limit_bytes: Optional[int]
    limit_name: str


# -- moments -----------------------------------------------------------------------------------------


def moments_of(header: Header, end_cs: int) -> list[int]:
    """Return the moments at which any history of a recording tells what was, the oldest first.

    The nearer past is told in finer steps: a level's periods count as far back as no finer level reaches.
    """
    unit, shift, slots = header.history_unit_cs, header.history_level_shift, header.history_slots
    if not unit or not 0 < header.history_levels * slots <= 4096 or shift > 8:
        return []
    found, oldest = [end_cs], end_cs
    for level in range(header.history_levels):
        now = 1 + end_cs // unit >> level * shift
        for period in range(now - 1, max(now - slots, -1), -1):
            ends = ((period + 1 << level * shift) - 1) * unit
            if 0 < ends < oldest:
                found.append(ends)
        oldest = found[-1]
    found.reverse()
    return found[:: 1 + len(found) // MOMENTS_MOST]  # no writer has so many


def at(history: Sequence[tuple[int, int]], moments: Sequence[int]) -> list[Optional[int]]:
    """Return the value of a history at each moment; None before its first point."""
    times = [cs for cs, _ in history]
    found = [bisect_right(times, moment) for moment in moments]
    return [history[number - 1][1] if number else None for number in found]


def _of_row(row: RecordedRow, moments: Sequence[int]) -> list[float]:
    """Return the estimated live bytes of a row; before a history that has lost its beginning, as at its first point."""
    history = row.history or ((row.first_cs, max(0, row.alloc_bytes - row.freed_bytes)),)
    first = history[0][1]
    known = at(history, moments)
    return [0 if moment < row.first_cs else first if value is None else value for moment, value in zip(moments, known)]


def _grain(sums: LiveSums, rows: Iterable[RecordedRow]) -> float:
    """Return the variance that each estimated byte brings."""
    if sums.samples and sums.est_bytes > 0:
        return sums.variance_bytes / sums.est_bytes
    allocated, samples = sum(row.alloc_bytes for row in rows), sum(row.alloc_samples for row in rows)
    return allocated / samples if samples else 0.0


def series_of(group: Group, moments: Sequence[int]) -> Series:
    """Return the past of a stack."""
    held = [0.0] * len(moments)
    for row in group.recorded:
        held = [sum(pair) for pair in zip(held, _of_row(row, moments))]
    grain = _grain(group.sums, group.recorded)
    return Series(held, [grain * value for value in held])


# -- laws --------------------------------------------------------------------------------------------


class _Seen:
    """A gauge at the moments at which it had a value."""

    def __init__(self, gauge: Gauge, moments: Sequence[int], wanted: Sequence[int]) -> None:
        known = at(gauge.history, moments)
        self.places = [place for place, value in enumerate(known) if value is not None]
        self.x = [float(value) for value in known if value is not None]
        self.gauge, self.wanted = gauge, wanted
        self.moments = [moments[place] for place in self.places]
        levels = set(self.x)
        self.levels = len(levels)
        self.least, self.greatest = (int(min(levels)), int(max(levels))) if levels else (gauge.value or 0,) * 2
        self.span_s = (self.moments[-1] - self.moments[0]) / 100 if self.moments else 0.0

    @property
    def name(self) -> str:
        return self.gauge.name

    @property
    def flat(self) -> str:
        """Why no line can be drawn; empty: one can."""
        if self.levels < LEVELS_LEAST or len(self.x) < MOMENTS_LEAST:
            values = "value" if self.levels == 1 else "values"
            return (
                f"{self.name} was seen with {self.levels} {values} at {len(self.x)} moments: {LEVELS_LEAST} are needed"
            )
        if self.greatest - self.least < RANGE_LEAST * max(abs(self.greatest), abs(self.least)):
            return f"{self.name} has changed by less than {RANGE_LEAST:.0%}"
        return ""

    def of(self, series: Series) -> Series:
        """Return the part of a series at the moments of the gauge."""
        return Series([series.bytes[i] for i in self.places], [series.variance[i] for i in self.places])


class _Maker:
    """Makes laws for one recording."""

    def __init__(
        self, source: Source, groups: Sequence[Group], gauges: Sequence[Gauge], what_if: Mapping[str, int]
    ) -> None:
        header = source.recording.header
        end_cs = max([header.end_cs, *(gauge.set_cs for gauge in gauges)])
        self.source, self.groups, self.header = source, groups, header
        self.moments = moments_of(header, end_cs)
        self.seen = [
            _Seen(gauge, self.moments, [what_if[n] for n in (gauge.name,) if n in what_if]) for gauge in gauges
        ]
        self.series = [series_of(group, self.moments) for group in groups]
        self.narrow = source.narrow({row.domain for group in groups for row in group.recorded})
        self.sums = sum((group.sums for group in groups), LiveSums())
        self.total = Series(
            [sum(column) for column in zip(*(one.bytes for one in self.series))] or [0.0] * len(self.moments),
            [sum(column) for column in zip(*(one.variance for one in self.series))] or [0.0] * len(self.moments),
        )

    def totals(self) -> list[Law]:
        """Return the laws of all stacks together."""
        return [self.with_limit(self.law(None, self.sums, self.total, seen, True)) for seen in self.seen]

    def best(self) -> list[tuple[float, Group, Series, _Seen, tuple[str, ...]]]:
        """Return for each stack that changed its best gauge, with p and notes."""
        able = [seen for seen in self.seen if not seen.flat]
        if not able:
            return []
        found = []
        ranked = sorted(zip(self.groups, self.series), key=lambda pair: min(pair[1].bytes) - max(pair[1].bytes))
        for group, series in ranked[:ROWS_MOST]:
            shares = sorted(
                ((_share(seen, series), seen.name, seen) for seen in able), key=lambda one: (-one[0], one[1])
            )
            share, _, seen = shares[0]
            if share <= 0:
                continue
            rivals = [
                f"{name} explains {other:.0%}, nearly as much"
                for other, name, _ in shares[1:]
                if other > share - _RIVAL
            ]
            p = min(1.0, fit(seen.x, seen.of(series)).p * len(able))
            found.append((p, group, series, seen, tuple(rivals[:3])))
        return found

    def law(
        self,
        row: Optional[Row],
        sums: LiveSums,
        series: Series,
        seen: _Seen,
        significant: bool,
        notes: tuple[str, ...] = (),
    ) -> Law:
        """Return the law of a stack, or of all, by one gauge."""
        value = seen.gauge.value or 0
        block = sums.est_bytes / sums.est_count if sums.est_count > 0 else None
        narrow = self.narrow
        now = estimate_bytes(sums, narrow=narrow)
        known: dict[str, Any] = {
            "row": row, "gauge": seen.name, "block_bytes": block, "est_bytes": now.value, "value": value,
            "least": seen.least, "greatest": seen.greatest, "levels": seen.levels, "moments": len(seen.x),
            "span_s": seen.span_s, "samples": sums.samples,
        }  # fmt: skip
        words = list(notes)
        if narrow:
            words.append("narrow gaps: the error of sampling is not known")
        elif 0 < sums.samples < SAMPLES_FEW and sums.variance_bytes:
            words.append(f"only {sums.samples} live samples")
        words += [_far(wanted, seen) for wanted in seen.wanted if _far(wanted, seen)]
        if seen.flat:
            words.append(f"a ratio, not a slope, that lays all that is held to the gauge: {seen.flat}")
            return Law(**known, **_ratio(now, value, seen, block), notes=tuple(words))
        line = fit(seen.x, seen.of(series), [float(wanted) for wanted in seen.wanted])
        low, high = line.slope - line.half_width, line.slope + line.half_width
        median = median_slope(seen.x, seen.of(series).bytes)
        if not low <= median <= high and abs(median - line.slope) > 0.1 * abs(line.slope):
            words.append(f"a few moments are far off the line: the median of slopes is {median:,.0f} bytes")
            low, high = min(low, median), max(high, median)
        if line.scaled >= SCALED_FROM:
            words.append("not all of it follows this gauge in a straight line: the interval is wider for that")
        predictions = tuple(
            Prediction(seen.name, wanted, max(0.0, value), max(0.0, value - half), max(0.0, value + half))
            for wanted, (value, half) in zip(seen.wanted, line.predictions)
        )
        count = line.slope / block if block else None
        found: dict[str, Any] = {
            "kind": "slope", "bytes_per_unit": line.slope, "low": low, "high": high, "base_bytes": line.base,
            "r_squared": line.r_squared, "count_per_unit": count, "significant": significant,
            "predictions": predictions,
        }  # fmt: skip
        return Law(**known, **found, notes=tuple(words))

    def with_limit(self, law: Law) -> Law:
        """Return the law of all stacks with what its predictions leave of the limit."""
        header = self.header
        if not header.limit_seen_cs or not header.limit_bytes:
            return law
        beside = header.limit_used_bytes - law.est_bytes
        found = [
            one._replace(
                used_bytes=beside + one.bytes,
                used_low=None if one.low is None else beside + one.low,
                used_high=None if one.high is None else beside + one.high,
            )
            for one in law.predictions
        ]
        return law._replace(predictions=tuple(found))


def _share(seen: _Seen, series: Series) -> float:
    """Return the share of a stack's changes that a line by this gauge explains."""
    x, y = seen.x, [series.bytes[i] for i in seen.places]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    product = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y))
    spread, whole = sum((a - mean_x) ** 2 for a in x), sum((b - mean_y) ** 2 for b in y)
    return product * product / spread / whole if spread and whole else 0.0


def _ratio(now: Estimate, value: int, seen: _Seen, block: Optional[float]) -> dict[str, Any]:
    per = now.value / value if value > 0 else 0.0
    low, high = (None if limit is None or value <= 0 else limit / value for limit in (now.low, now.high))
    predictions = tuple(
        Prediction(seen.name, wanted, per * wanted, low and low * wanted, high and high * wanted)
        for wanted in seen.wanted
    )
    return {
        "kind": "ratio", "bytes_per_unit": per, "low": low, "high": high, "base_bytes": 0.0, "r_squared": None,
        "count_per_unit": per / block if block else None, "significant": False, "predictions": predictions,
    }  # fmt: skip


def _far(wanted: int, seen: _Seen) -> str:
    """Say how far beyond what was seen a value is; empty when it is not."""
    most = max(abs(seen.least), abs(seen.greatest))
    if not most or abs(wanted) <= _BEYOND * most:
        return ""
    times = abs(wanted) / most
    return f"{seen.name}={wanted} is {times:.3g} times the greatest value seen: a straight line up to there is assumed"


def choose(gauges: Sequence[Gauge], name: Optional[str], what_if: Mapping[str, int]) -> list[Gauge]:
    """Return the gauges that are asked about: those with a value.

    Raises:
        QueryError: there is none, or none of a name.
    """
    valued = [gauge for gauge in gauges if gauge.value is not None]
    if not valued:
        raise QueryError(
            "no gauge was set, so there is nothing to lay memory beside: memleak.gauge(NAME).set(N) in the program,"
            " memleak_gauge_set() from C, or memleak gauge PID NAME=N"
        )
    known = {gauge.name for gauge in valued}
    for one in ([] if name is None else [name]) + list(what_if):
        if one not in known:
            raise QueryError(f"no gauge {one!r} was set: there are {', '.join(sorted(known))}")
    if name is not None:
        return [gauge for gauge in valued if gauge.name == name]
    return valued


def laws(
    source: Source,
    groups: Sequence[Group],
    show: Callable[[list[Group]], Sequence[Row]],
    gauges: Sequence[Gauge],
    what_if: Mapping[str, int],
    n: Optional[int],
) -> Scaling:
    """Return what of a recording's stacks follows which gauge; *show* makes the rows of groups that are shown."""
    maker = _Maker(source, groups, gauges, what_if)
    header = source.recording.header
    best = maker.best()
    passed = discoveries([p for p, *_ in best], FALSE_DISCOVERIES)
    made = []
    for (_, group, series, seen, rivals), significant in zip(best, passed):
        if significant:
            made.append((group, maker.law(None, group.sums, series, seen, True, rivals)))
    made.sort(key=lambda pair: (-pair[1].bytes_per_unit, pair[0].order))
    if not made and all(seen.flat for seen in maker.seen):
        held = sorted(zip(groups, maker.series), key=lambda pair: -pair[0].sums.est_bytes)
        made = [
            (group, maker.law(None, group.sums, series, maker.seen[0], False))
            for group, series in held[:n]
            if group.sums.samples
        ]
    made = made[:n]
    rows = show([group for group, _ in made])
    limit = header.limit_bytes if header.limit_seen_cs and header.limit_bytes else None
    found = tuple(law._replace(row=row) for row, (_, law) in zip(rows, made))
    totals = sorted(maker.totals(), key=lambda law: (law.kind != "slope", -(law.r_squared or 0), law.gauge))
    return Scaling(tuple(totals), found, limit, header.limit_name if limit else "")
