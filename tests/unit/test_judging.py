"""memleak.verdict: what is said of series made by hand."""

from __future__ import annotations

import math

import pytest

from memleak.estimate import Estimate
from memleak.verdict import (
    CHURN,
    LEAK,
    SATURATING,
    SHRINKING,
    STEADY,
    STEP,
    TOO_FEW,
    Series,
    Verdict,
    forecast,
    judge,
)  # fmt: skip

HOUR = 3600.0


def history_of(samples, freed, now, step=60.0):
    """Return what was held every *step* seconds, of samples and of (born, died, bytes) that are gone."""
    events = [(born, weight * size) for born, weight, size in samples]
    for born, died, size in freed:
        events += [(born, size), (died, -size)]
    events.sort()
    points, total, at = [], 0.0, 0
    for n in range(1, int(now / step) + 1):
        while at < len(events) and events[at][0] <= n * step:
            total += events[at][1]
            at += 1
        points.append((n * step, total))
    return points


def series(samples, freed=(), now=HOUR, first=0.0, taken=0):
    return Series(samples, history_of(samples, freed, now), first, now, None, taken)


def verdict_of(*args, **kwargs):
    return judge([series(*args, **kwargs)])[0]


def steady(n, begin, end, size=1000, weight=100.0):
    return [(begin + (end - begin) * (i + 0.5) / n, weight, size) for i in range(n)]


def test_what_stays_and_comes_steadily_is_a_leak_with_its_rate():
    found = verdict_of(steady(200, 0, HOUR))
    assert found.verdict == LEAK
    assert found.rate.value == pytest.approx(200 * 100 * 1000 / HOUR, rel=0.02)
    assert found.rate.low < found.rate.value < found.rate.high
    assert found.p < 1e-6


def test_a_leak_is_seen_behind_churn_at_its_stack():
    freed = [(t, t + 20.0, 100_000.0) for t in range(0, 3580, 2)]
    samples = steady(200, 0, HOUR) + [(t + 0.5, 100.0, 1000) for t in range(3580, 3600, 2)]
    found = judge([Series(samples, history_of(samples, freed, HOUR, 4.0), 0, HOUR)])[0]
    assert found.verdict == LEAK
    assert found.rate.value == pytest.approx(200 * 100 * 1000 / HOUR, rel=0.1)


def test_what_came_at_once_and_stays_is_a_step():
    assert verdict_of(steady(200, 0, 5)).verdict == STEP


def test_what_is_replaced_is_churn():
    freed = [(t, t + 100.0, 100_000.0) for t in range(0, 3500, 5)]
    samples = [(float(t), 100.0, 1000) for t in range(3500, 3600, 5)]
    assert verdict_of(samples, freed).verdict == CHURN


def test_what_comes_ever_more_rarely_levels():
    samples = [(-900 * math.log1p(-(i + 0.5) / 400), 100.0, 1000) for i in range(400)]
    samples = [sample for sample in samples if sample[0] < 1500]
    found = verdict_of(samples, now=1500.0)
    assert found.verdict == SATURATING
    assert found.level.low < 400 * 100_000 < found.level.high
    assert found.time_constant_s == pytest.approx(900, rel=0.3)


def test_what_has_fallen_before_is_no_leak():
    samples = steady(100, HOUR - 800, HOUR)
    freed = [(t, HOUR - 810.0, 100_000.0) for t in range(0, 2790, 8)]
    assert verdict_of(samples, freed).verdict == CHURN


def test_what_falls_is_shrinking():
    freed = [(10.0, 900.0 + 5 * i, 100_000.0) for i in range(400)]
    assert verdict_of(steady(40, 0, 10), freed).verdict == SHRINKING


@pytest.mark.parametrize("now", [3050.0, 3100.0, 3250.0])
def test_what_falls_and_rises_is_churn_wherever_it_is_looked_at(now):
    """Batches of 500 s, each freed as a whole; at the beginning of one it holds less than it mostly did."""
    samples = [(float(at), 100.0, 1000) for at in range(3000, int(now))]
    freed = [(float(at), at // 500 * 500 + 499.5, 100_000.0) for at in range(3000)]
    assert verdict_of(samples, freed, now=now).verdict == CHURN


def test_what_held_nothing_in_the_middle_is_churn():
    """Batches, of which the default knobs sample few blocks; what is known of the middle was just after one was freed."""
    samples = [(3592.0 + n, 100.0, 1000) for n in range(8)]
    points = [(at + 1.0, 0.0 if at == 1800 else 8e5) for at in range(100, 3600, 100)]
    (found,) = judge([Series(samples, points, 0, HOUR, None, 300)])
    assert found.verdict == CHURN


def test_what_holds_its_blocks_is_steady():
    freed = [(10.0 * i, 1600.0 + 10 * i, 100_000.0) for i in range(30)]
    assert verdict_of(steady(100, 0, 1500) + steady(28, 1600, 1900), freed).verdict == STEADY


@pytest.mark.parametrize(
    ("samples", "now", "word"), [(steady(4, 0, HOUR), HOUR, "4 live samples"), (steady(100, 0, 60), 60.0, "60 s")]
)
def test_too_little_is_said_to_be_too_little(samples, now, word):
    found = verdict_of(samples, now=now)
    assert found.verdict == TOO_FEW
    assert word in found.evidence
    assert found.rate is None and found.p == 1.0


def test_many_taken_and_few_left_is_churn():
    assert verdict_of(steady(2, 0, HOUR), taken=500).verdict == CHURN


def test_a_minute_is_enough_where_all_is_recorded():
    samples = steady(300, 0, 60, weight=1.0)
    found = judge([Series(samples, history_of(samples, (), 60, 4.0), 0, 60)], shortest_s=20)[0]
    assert found.verdict == LEAK
    assert found.rate.low == found.rate.value == found.rate.high


@pytest.mark.parametrize("late", [0.0, 0.5, 1.0])
def test_a_pace_that_varies_a_little_is_steady_however_many_samples_tell(late):
    """A program that was not scheduled for a moment at the end has not begun to level."""
    samples = steady(30_000, 0, 60 - late, weight=1.0)
    (found,) = judge([Series(samples, history_of(samples, (), 60, 4.0), 0, 60)], shortest_s=20)
    assert found.verdict == LEAK
    assert found.rate.value == pytest.approx(500_000, rel=0.05)


def test_a_cache_that_has_begun_to_level_is_told_by_many_samples():
    samples = [(-200 * math.log1p(-(i + 0.5) / 100_000), 1.0, 1000) for i in range(28_000)]
    (found,) = judge([Series(samples, history_of(samples, (), 65, 4.0), 0, 65)], shortest_s=20)
    assert found.verdict == SATURATING
    assert found.level.low < 1e8 < found.level.high


def test_what_grows_as_a_logarithm_has_no_upper_limit():
    samples = [(2 * math.expm1((i + 0.5) / 6000), 1.0, 120) for i in range(18_000)]
    now = samples[-1][0]
    (found,) = judge([Series(samples, history_of(samples, (), now, 4.0), 0, now)], shortest_s=20)
    assert found.verdict == SATURATING
    assert found.level.high is None and found.level.low >= 18_000 * 120


def test_nothing_and_nonsense_do_not_raise():
    assert judge([]) == []
    for odd in (
        Series([], [], 0, 0),
        Series([], [(1.0, 5.0)], 0, HOUR),
        Series([(HOUR, 1.0, 0)] * 50, [], 0, HOUR),
        Series([(5.0, 1e6, 1 << 40)] * 50, [(1.0, 1e30), (2.0, -5.0)], 0, HOUR, (3.0, 1e40)),
        Series([(-50.0, 1.0, 10)] * 50 + [(2 * HOUR, 1.0, 10)] * 50, [(10.0, 1.0)], 0, HOUR),
        Series(steady(100, 0, HOUR), [(t, float("inf")) for t in range(10, 3000, 10)], 0, HOUR),
    ):
        (found,) = judge([odd])
        assert found.verdict


def test_small_blocks_behind_enormous_ones():
    """Sums over all time have not the digits for both: those over a stretch of it are added up again."""
    pools = [(float(n), 1.0, 16 << 30) for n in range(8)]
    for size in (1, 24, 300):
        one = Series([*pools, *((10 + n / 2, 1.0, size) for n in range(2000))], [(9.0, 8.0 * (16 << 30))], 0.0, 1010.0)
        part = one.born(10, 1010)
        assert part.bytes == 1999 * size
        assert part.events == pytest.approx(1999) and part.mean_time == pytest.approx(510, abs=0.5)
        (found,) = judge([one], shortest_s=20.0)
        assert found.verdict != LEAK


def test_chance_is_shared_by_all_stacks():
    """A p value that is rare for one stack is not among a thousand."""
    weak = series(steady(14, 0, HOUR))
    flat = [series(steady(12, 0, 600)) for _ in range(1000)]
    assert judge([weak])[0].grows
    assert not judge([weak, *flat])[0].grows


@pytest.mark.parametrize("samples", [10, 20])
def test_so_few_samples_do_not_tell_a_leak_from_a_cache_that_fills(samples):
    """The pace of a cache falls by half until half of it is full, and so few samples may seem steady by chance."""
    (found,) = judge([series(steady(samples, 0, HOUR))])
    assert (found.verdict, found.grows) == (TOO_FEW, True)
    assert found.rate.low < 100 * samples * 1000 / HOUR < found.rate.high
    assert "a leak, or a cache that fills" in found.evidence
    assert judge([series(steady(30, 0, HOUR))])[0].verdict == LEAK


# -- the forecast --------------------------------------------------------------------------------------


def leak(rate, low, high):
    return Verdict(LEAK, "", Estimate(rate, None, low, high, 50))


def test_a_leak_meets_the_limit_when_its_rate_has_used_up_what_is_left():
    found = forecast([(leak(100.0, 80.0, 125.0), 1e6)], 2_000_000, 1_000_000.0)
    expected, soonest, latest = found.seconds
    assert expected == pytest.approx(10_000, rel=1e-6)
    assert soonest == pytest.approx(8_000, rel=1e-6)
    assert latest == pytest.approx(12_500, rel=1e-6)
    assert found.levels_above is None


def test_what_may_be_a_cache_goes_on_like_a_leak_and_may_end_at_once():
    unsure = leak(100.0, 80.0, 125.0)._replace(verdict=TOO_FEW)
    found = forecast([(unsure, 1e6)], 2_000_000, 1_000_000.0)
    assert found.seconds[:2] == (pytest.approx(10_000, rel=1e-6), pytest.approx(8_000, rel=1e-6))
    assert found.seconds[2] is None and found.levels_above is None
    assert found.rate[0] == 100.0


def test_what_levels_below_the_limit_never_meets_it_and_what_levels_above_does():
    level = Estimate(52e9, None, 49e9, 56e9, 100)
    filling = Verdict(SATURATING, "", Estimate(1e6, None, 9e5, 1.1e6, 50), level, 20_000.0)
    met = forecast([(filling, 10e9)], int(16e9), 12e9)
    assert met.seconds[0] == pytest.approx(-20_000 * math.log1p(-4 / 42), rel=1e-6)
    assert met.levels_above == pytest.approx(38e9, rel=1e-3)
    never = forecast([(filling, 10e9)], int(80e9), 12e9)
    assert never.seconds == (None, None, None)
    assert never.levels_above is None


def test_a_limit_that_is_passed_already_is_met_now():
    assert forecast([(leak(1.0, 0.5, 2.0), 1e6)], 1000, 2000.0).seconds == (0.0, 0.0, 0.0)


def test_an_exact_rate_of_few_blocks_is_no_certain_future():
    exact = leak(100.0, 100.0, 100.0)._replace(events=25.0)
    found = forecast([(exact, 1e6)], 2_000_000, 1_000_000.0)
    assert found.seconds[1] < 0.8 * found.seconds[0] < found.seconds[0] < found.seconds[2]
