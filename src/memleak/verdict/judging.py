"""Judge stacks by how they grow: docs/explanation/verdict.md has the reasons and the thresholds' proof.

Growth is tested over windows that end now, the longest first: what was held at a window's beginning, what of that was freed,
what was allocated since and is still there. A stack that has grown is a leak when what it keeps came at a steady rate, what it
does not keep has not grown, and nothing like it was let go before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from ..estimate import Estimate, estimate_bytes
from .series import Part, Series
from .trend import Trend, discoveries, trend, upper_tail

LEAK = "leak"
SATURATING = "growing (saturating)"
STEADY = "steady"
CHURN = "churn"
STEP = "step"
SHRINKING = "shrinking"
TOO_FEW = "too few samples"
VERDICTS = (LEAK, SATURATING, STEADY, CHURN, STEP, SHRINKING, TOO_FEW)

SHORTEST_S = 900.0  # so long a stack is watched before it is judged
SHORTEST_FULL_S = 20.0  # where every allocation is recorded
# Of a process that has ended, or will have met its limit before: a better answer never comes. At this age three leaks in
# five are found, and one in sixteen of what does not leak is called one, of shapes that take minutes to fill or turn over.
SHORTEST_PRESSED_S = 300.0
LEAST_EVENTS = 5.0
CHURNED = 4 * LEAST_EVENTS  # samples taken of what has too few live ones
LEAST_EVENTS_OF_TREND = 8.0
EVENTS_BEHIND_A_START = 80.0  # where most was there early, growth must be shown to be steady by so many
FALSE_DISCOVERIES = 0.01  # of all stacks said to grow, at most so many did not
GREW_Z = 3.0  # of a single window
GROWING_EVENTS = GREW_Z**2  # fewer cannot be so far from chance, whatever their times
SLOWER_Z = 1.645  # a rate falls beyond it: 1 leak in 20 is taken for a cache by it, at one look
SLIGHTEST = (
    -0.2
)  # by less, e^-0.2 in a window, the pace of any program varies, and with many samples all of it is beyond chance
FASTER_Z = 2.33
REPLACED_Z = 2.0  # so far the ages must be from those of blocks that are all freed in the end
LOAD_Z = 2.0
LONGER_THAN_BEFORE, MUCH_LONGER = 3.0, 12.0
FALLS_BY_HALF = -0.69  # the rate of a cache that is half full; a leak's must be told from it ...
HALF_Z = 1.0  # ... by so many standard errors: with more, leaks of 1 MB a minute are not found in half an hour
MISFIT = 4.0  # index of dispersion under the fitted law, of eleven degrees of freedom: beyond it the law is another
LEVEL_Z = 1.9  # 90 % limits, and what choosing the stacks that bend adds to them: measured


class Verdict(NamedTuple):
    """What was found of one stack.

    Attributes:
        verdict: one of `VERDICTS`.
        evidence: why, in one sentence.
        rate: growth of what is kept, bytes per second, with 95 % limits; None unless it grows.
        level: of a saturating stack, bytes at which it will level, with 90 % limits; `high` is None when the samples set
            none; None where no level can be told.
        time_constant_s: of a saturating stack with a level: seconds in which it comes nearer to it by a factor e.
        window_s: seconds over which `rate` was found.
        p: probability that chance alone lets a stack grow like this; 1.0 when it did not grow.
        samples: live samples behind it.
        events: of those that tell the rate, as many of equal weight would vary like them; 0.0 without a rate.
    """

    verdict: str
    evidence: str
    rate: Estimate | None = None
    level: Estimate | None = None
    time_constant_s: float | None = None
    window_s: float = 0.0
    p: float = 1.0
    samples: int = 0
    events: float = 0.0

    @property
    def grows(self) -> bool:
        """Whether it grows: it leaks, or fills up, or too few samples tell which."""
        return self.rate is not None


class Window(NamedTuple):
    """The stretch from *start* to now."""

    start: float
    held: float  # at the start
    freed: float  # of that, since
    born: Part  # what was allocated since and is live
    gain: float
    z: float  # of the gain


def judge(stacks: Sequence[Series], *, shortest_s: float = SHORTEST_S, others: int = 0) -> list[Verdict]:
    """Judge all stacks of one recording together, so that few are said to grow by chance alone.

    Args:
        stacks: one series each.
        shortest_s: stacks that were first seen less than this ago are not judged.
        others: how many more stacks there are that `judge_alone` has judged.
    """
    judged = [_Case(series, shortest_s) for series in stacks]
    grown = discoveries([case.p for case in judged if case.enough], FALSE_DISCOVERIES, others)
    found = iter(grown)
    return [case.verdict(next(found)) if case.enough else case.not_enough() for case in judged]


def judge_alone(series: Series) -> Verdict:
    """Judge a stack of `LEAST_EVENTS` to `GROWING_EVENTS` that was watched long enough: others have no part in it."""
    return _Case(series, 0.0).verdict(False)


def few(samples: int, taken: int) -> Verdict:
    """Return what is said of a stack of too few live samples, of *taken* in all; below `LEAST_EVENTS` they always are."""
    if taken >= CHURNED:
        return Verdict(CHURN, _came_and_went(samples, taken), samples=samples)
    return Verdict(TOO_FEW, f"{samples} live samples; it takes {LEAST_EVENTS:.0f} of equal weight", samples=samples)


def _came_and_went(samples: int, taken: int) -> str:
    return f"{taken} samples were taken of it, {samples} are live"


class _Case:
    """One stack before the judge."""

    def __init__(self, series: Series, shortest_s: float) -> None:
        self.series = series
        self.shortest_s = shortest_s
        self.enough = series.events >= LEAST_EVENTS and series.age >= shortest_s
        may_grow = self.enough and series.events >= GROWING_EVENTS
        self.windows = [self._window(*known) for known in self._beginnings()] if may_grow else []
        best = max((window.z for window in self.windows), default=0.0)
        self.p = min(1.0, upper_tail(best) * len(self.windows)) if best > 0 else 1.0

    # -- windows ---------------------------------------------------------------------------------

    def _beginnings(self) -> Iterator[tuple[float, float]]:
        """Yield of each window, the longest first, when it begins, and what was held then."""
        series = self.series
        lengths = [series.age * 15 / 16, series.age * 3 / 4]
        lengths += [series.age / 2**n for n in range(1, 12)]
        for length in lengths:
            if length < self.shortest_s * 3 / 4:
                return
            known = series.held_near(series.now - length)
            if known is None or series.now - known[0] < length / 2:
                continue
            yield known

    def _shrunk(self) -> Iterator[Window]:
        """Yield those of the two longest windows in which it has lost more than a few tenths of what it held."""
        series = self.series
        if series.nothing_freed or (series.peak is not None and series.bytes >= 0.7 * series.peak[1]):
            return  # whatever it held
        for start, held in islice(self._beginnings(), 2):
            if series.bytes < 0.7 * held:
                yield self._window(start, held)

    def _window(self, start: float, held: float) -> Window:
        series = self.series
        freed = max(0.0, held - series.kept(start))
        born = series.born(start, series.now)
        gain = born.bytes - freed
        noise = math.sqrt(series.grain * (born.bytes + freed))
        return Window(start, held, freed, born, gain, gain / noise if noise else 0.0)

    def _whole(self, window: Window) -> Window:
        """Return the window from the end of the first sixteenth on, when nothing was freed since a later moment.

        The history knows few moments of long ago; the ages of what is live know all.
        """
        start = min(window.start, self.series.first + self.series.age / 16)
        born = self.series.born(start, self.series.now)
        return window._replace(
            start=start, held=self.series.kept(start) + window.freed, born=born, gain=born.bytes - window.freed
        )

    # -- the verdict -----------------------------------------------------------------------------

    def not_enough(self) -> Verdict:
        series = self.series
        if series.events < LEAST_EVENTS:
            return few(series.samples, series.taken)
        sooner = f", or {SHORTEST_FULL_S:.0f} s in full mode" if self.shortest_s > SHORTEST_FULL_S else ""
        return self._said(TOO_FEW, f"seen for {series.age:.0f} s; it takes {self.shortest_s:.0f} s{sooner}")

    def verdict(self, grown: bool) -> Verdict:
        candidates = [window for window in self.windows if window.z >= GREW_Z] if grown else []
        if not candidates or self._stopped():
            return self._of_flat()
        found = self._of_growing(candidates)
        level = found.level
        # It has grown, and is as good as there.
        return self._of_flat() if level is not None and level.value - self.series.bytes < 0.02 * level.value else found

    def _stopped(self) -> bool:
        """Whether it has not grown in the latest half of its life."""
        half = [window for window in self.windows if self.series.now - window.start <= self.series.age * 0.5]
        return bool(half) and half[0].z < 1 and half[0].gain < 0.02 * self.series.bytes and half[-1].z < 1

    def _said(self, verdict: str, evidence: str, **more: object) -> Verdict:
        return Verdict(verdict, evidence, p=self.p, samples=self.series.samples, **more)  # type: ignore[arg-type]

    def _of_flat(self) -> Verdict:
        series = self.series
        for window in self._shrunk():
            if window.z <= -GREW_Z - 1 and not self._rose_again(window):
                lost = 100 * (1 - series.bytes / window.held)
                return self._said(SHRINKING, f"holds {lost:.0f} % less than {_time(series.now - window.start)} ago")
        low, high = series.shortest_with(0.8)
        if high - low <= series.age / 10 and high < series.now - series.age / 4:
            evidence = f"80 % was allocated within {_time(high - low)}, {_time(series.now - high)} ago, and is kept"
            return self._said(STEP, evidence)
        middle = series.held_near(series.now - series.age / 2)
        if middle is not None and middle[1] > 0:
            share = min(1.0, series.kept(middle[0]) / middle[1])
            ago = _time(series.now - middle[0])
            if share < 0.5:
                return self._said(CHURN, f"{100 * (1 - share):.0f} % of what was live {ago} ago has been freed")
            return self._said(STEADY, f"holds as much as {ago} ago, {100 * share:.0f} % of it the same blocks")
        if series.taken >= 4 * series.samples:
            return self._said(CHURN, _came_and_went(self.series.samples, self.series.taken))
        return self._said(STEADY, "does not grow")

    def _rose_again(self, window: Window) -> bool:
        """Whether within the window it rose by half of what it has lost: then it goes up and down."""
        lowest, most = math.inf, 0.0
        for at, value in self.series.points:
            if at >= window.start:
                lowest = min(lowest, value)
                most = max(most, value - lowest)
        return most > (window.held - self.series.bytes) / 2

    def _of_growing(self, candidates: list[Window]) -> Verdict:
        before = self._fell_before(candidates[0])
        if before:
            return self._said(CHURN, before)
        bent: Verdict | None = None
        for window in candidates:
            load = self._load(window)
            if load:
                return self._slowed_by_frees(window) or bent or self._said(CHURN, load)
            pure = window.freed <= 0.2 * window.gain
            if window is candidates[0] and window.freed <= 0.01 * window.gain:
                window = self._whole(window)
            length = self.series.now - window.start
            end = self.series.now - (length / 4 if window.freed > 0.01 * window.gain else 0)
            part = self.series.born(window.start, end)
            if part.events < LEAST_EVENTS_OF_TREND:
                continue
            bend = self._bend(window.start, end, part)
            if self._may_be_replaced(window, bend, end):
                continue
            if self.series.kept(window.start) > 0.4 * self.series.bytes and part.events < EVENTS_BEHIND_A_START:
                return bent or self._saturating(window, part, bend, end)
            if (bend.z >= -SLOWER_Z or bend.k > SLIGHTEST) and bend.z <= FASTER_Z:
                if bent is not None and not self._outgrows(candidates[0], window):
                    return bent
                if bend.k - HALF_Z * bend.se >= FALLS_BY_HALF:
                    return self._leak(window, part, end)
                bent = bent or self._undecided(window, part, end)
                continue
            if bend.k < 0 and bent is None:
                bent = self._saturating(window, part, bend, end)
            elif bend.k > 0 and pure and window is candidates[-1]:
                return self._leak(window, part, end)  # ever faster
        return bent or self._slowed_by_frees(candidates[0]) or self._said(CHURN, "what it keeps is replaced")

    def _fell_before(self, window: Window) -> str:
        """Say so when it has let go before of what had grown, and has not grown much longer since."""
        rise, low_at, fall = self.series.falls()
        since = self.series.now - low_at
        longer = since >= LONGER_THAN_BEFORE * rise and window.gain >= fall
        if not fall or longer or since >= MUCH_LONGER * rise or window.gain >= 3 * fall:
            return ""
        return f"has fallen before, {_time(self.series.now - low_at)} ago, after growing for {_time(rise)}"

    def _load(self, window: Window) -> str:
        """Say so when what is *not* kept grew in the older half of the window: there is more to do, not more that stays."""
        series = self.series
        middle = series.held_near((window.start + series.now) / 2)
        if middle is None:
            return ""
        at, held = middle
        freed_then = held - series.kept(at)
        more = freed_then - window.freed
        noise = math.sqrt(series.grain * max(freed_then + window.freed, series.grain))
        kept_more = series.kept(at) - series.kept(window.start)
        if more > LOAD_Z * noise and more > 0.25 * (kept_more + more):
            return f"grows, but {100 * freed_then / held:.0f} % of what was live {_time(series.now - at)} ago has been freed"
        return ""

    def _bend(self, start: float, end: float, part: Part) -> Trend:
        """Fit a trend to births, with an error that allows for their coming in bursts."""
        bend = trend((part.mean_time - start) / (end - start), part.events)
        return bend._replace(se=bend.se * math.sqrt(self.series.bursts(start, end, bend.k)))

    def _may_be_replaced(self, window: Window, bend: Trend, end: float) -> bool:
        """Whether what is still there may be the rest of blocks that live for as long as those that were freed did."""
        middle = self.series.held_near((window.start + self.series.now) / 2)
        if middle is None or middle[1] <= 0:
            return True
        share = min(1.0, max(self.series.kept(middle[0]) / middle[1], 0.01))
        if share > 0.9:
            return False
        passed = self.series.now - middle[0]
        expected = -math.log(share) * (end - window.start) / passed
        return expected - bend.k < REPLACED_Z * bend.se and not self._frees_the_young(share, passed)

    def _frees_the_young(self, share: float, passed: float) -> bool:
        """Whether more is freed of the youngest blocks than if all lived alike, as *share* of them does after *passed*."""
        series = self.series
        late = series.held_near(series.now - passed / 4)
        if late is None or late[1] <= 0:
            return False
        freed = late[1] - series.kept(late[0])
        expected = late[1] * (1 - share ** ((series.now - late[0]) / passed))
        return bool(freed - expected > REPLACED_Z * math.sqrt(series.grain * max(freed, expected)))

    def _outgrows(self, longest: Window, window: Window) -> bool:
        """Whether the latest growth is more than the fitted slowing law leaves for it: a leak behind a start-up."""
        series = self.series
        part = longest.born
        bend = self._bend(longest.start, series.now, part)
        share = (series.now - window.start) / (series.now - longest.start)
        expected = -math.expm1(bend.k * share) / -math.expm1(bend.k) * math.exp(bend.k * (1 - share))
        seen = window.born.bytes / part.bytes
        return bool(seen > 2 * expected) and seen - expected > 3 * math.sqrt(
            max(expected * (1 - expected), 1e-6) / part.events
        )

    # -- growth that goes on, growth that ends ---------------------------------------------------------

    def _leak(self, window: Window, part: Part, end: float) -> Verdict:
        length = end - window.start
        wider = math.sqrt(self.series.bursts(window.start, end, 0.0))
        rate = _per_second(estimate_bytes(part.sums), length, wider)
        kept = 100 * self.series.kept(window.start) / window.held if window.held else 100.0
        before = (
            f", as is {min(kept, 100):.0f} % of what was live before" if window.held > 0.02 * self.series.bytes else ""
        )
        evidence = (
            f"comes at a steady rate for {_time(length)} and stays: {part.sums.samples} samples are still there{before}"
        )
        return self._said(LEAK, evidence, rate=rate, window_s=length, events=part.events)

    def _undecided(self, window: Window, part: Part, end: float) -> Verdict:
        """Say that it grows, and that it takes more samples to tell how that will go on."""
        leak = self._leak(window, part, end)
        evidence = (
            f"grew for {_time(leak.window_s)}: a leak, or a cache that fills; {part.sums.samples} samples do not tell"
            " whether it comes at a steady rate or at one that has fallen by half"
        )
        return leak._replace(verdict=TOO_FEW, evidence=evidence)

    def _saturating(self, window: Window, part: Part, bend: Trend, end: float) -> Verdict:
        """New blocks come ever more rarely: exponentially, what is to come is part / (e^|k| - 1)."""
        more, least, most = (_to_come(part.bytes, k) for k in (bend.k, *_limits(bend)))
        why = "new blocks come ever more rarely"
        if math.isinf(more):
            return self._levels(window, None, 0.0, 0.0, why)
        if self.series.bursts(window.start, end, bend.k) > MISFIT:
            most = math.inf  # as a logarithm, it need not end
        level = self.series.kept(end) + more
        return self._levels(window, level, more - least, most - more, why, (end - window.start) / -bend.k)

    def _slowed_by_frees(self, window: Window) -> Verdict | None:
        """Blocks come at a steady rate and are freed at an age of their own: they level at rate x age = part / (1 - e^-k)."""
        series = self.series
        part = window.born
        if part.events < LEAST_EVENTS_OF_TREND:
            return None
        bend = self._bend(window.start, series.now, part)
        middle = series.held_near((window.start + series.now) / 2)
        if bend.z <= FASTER_Z or middle is None:
            return None
        first, second = middle[1] - window.held, series.bytes - middle[1]
        halves = math.sqrt(series.grain * (part.bytes + window.freed))
        if series.kept(middle[0]) < 0.2 * middle[1] or first - second < halves:
            return None
        level, most, least = (part.bytes / -math.expm1(-max(k, 1e-3)) for k in (bend.k, *_limits(bend)))
        constant = (series.now - window.start) / bend.k
        return self._levels(window, level, level - least, most - level, "blocks are freed at some age", constant)

    def _levels(
        self, window: Window, value: float | None, below: float, above: float, why: str, constant: float | None = None
    ) -> Verdict:
        series = self.series
        level = None
        if value is not None:
            sums = series.born(-math.inf, series.now).sums
            error = LEVEL_Z * math.sqrt(sums.variance_bytes)
            low = max(float(sums.bytes), value - math.hypot(below, error))
            high = value + math.hypot(above, error)
            level = Estimate(value, None, low, None if math.isinf(high) else high, series.samples)
        length = series.now - window.start
        rate = _per_second(estimate_bytes(series.born(series.now - length / 4, series.now).sums), length / 4, 1.0)
        return self._said(
            SATURATING,
            f"grew ever more slowly over {_time(length)}: {why}",
            rate=rate,
            level=level,
            time_constant_s=constant,
            window_s=length,
            events=window.born.events / 4,
        )


def _limits(bend: Trend) -> tuple[float, float]:
    return bend.k - LEVEL_Z * bend.se, bend.k + LEVEL_Z * bend.se


def _per_second(total: Estimate, seconds: float, wider: float) -> Estimate:
    """Return a rate from a total, its limits *wider* times as far away."""
    value = total.value / seconds
    low, high = (None if at is None else value + wider * (at / seconds - value) for at in (total.low, total.high))
    se = None if total.se is None else wider * total.se / seconds
    return total._replace(value=value, se=se, low=None if low is None else max(0.0, low), high=high)


def _to_come(so_far: float, k: float) -> float:
    return so_far / math.expm1(-k) if k < -1e-3 else math.inf


def _time(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
