"""Estimates against closed forms and tables.

Expected quantiles come from scipy 1.x: `scipy.stats.gamma.ppf(p, shape)` and `norm.ppf(p)`.
"""

import math

import pytest

from memleak.estimate import (
    estimate,
    estimate_bytes,
    estimate_count,
    gamma_quantile,
    is_narrow,
    normal_quantile,
)
from memleak.records import LiveSums

GAMMA = [
    (0.025, 0.01, 3.5226859973137185e-161),
    (0.975, 0.01, 0.047137958431590306),
    (0.025, 0.05, 5.31566188991436e-33),
    (0.975, 0.05, 0.5671737617538583),
    (0.025, 0.5, 0.0004910345585876278),
    (0.975, 0.5, 2.511943093657444),
    (0.025, 1, 0.025317807984289876),
    (0.975, 1, 3.6888794541139354),
    (0.025, 1.5, 0.10789764131194893),
    (0.975, 1.5, 4.674201802248074),
    (0.025, 3, 0.6186721228956014),
    (0.975, 3, 7.22468766772396),
    (0.025, 10, 4.7953886961324335),
    (0.975, 10, 17.084803451419166),
    (0.025, 30.5, 20.651568938653238),
    (0.975, 30.5, 42.23821872140453),
    (0.025, 59.9, 45.69899415686365),
    (0.975, 59.9, 75.9930243206542),
    (0.025, 60, 45.786320950007266),
    (0.975, 60, 76.10570136257577),
    (0.025, 200, 173.24088268145732),
    (0.975, 200, 228.6527409830325),
    (0.025, 5000, 4862.359188694899),
    (0.975, 5000, 5139.535089943795),
]


@pytest.mark.parametrize(("p", "shape", "expected"), GAMMA)
def test_gamma_quantile(p, shape, expected):
    """Right to 1e-8 below shape 60, to 2e-4 above."""
    assert gamma_quantile(p, shape) == pytest.approx(expected, rel=1e-8 if shape < 60 else 2e-4)


@pytest.mark.parametrize("samples", [1, 2, 5, 10, 29])
def test_gamma_quantile_of_whole_shapes_is_poisson(samples):
    """P(G_n <= x) = P(at least n events of mean x): an independent way to the same number."""
    for p in (0.025, 0.5, 0.975):
        x = gamma_quantile(p, samples)
        fewer = sum(math.exp(-x) * x**k / math.factorial(k) for k in range(samples))
        assert 1 - fewer == pytest.approx(p, abs=1e-9)


def test_normal_quantile():
    """Against tabulated values."""
    assert normal_quantile(0.975) == pytest.approx(1.959963984540054, abs=1e-12)
    assert normal_quantile(0.025) == pytest.approx(-1.959963984540054, abs=1e-12)
    assert normal_quantile(0.5) == pytest.approx(0, abs=1e-12)
    assert normal_quantile(1e-6) == pytest.approx(-4.753424308822899, rel=1e-10)


@pytest.mark.parametrize("p", [0, 1, -1, 2])
def test_quantiles_refuse_what_is_no_probability(p):
    """0 and 1 have no quantile here."""
    with pytest.raises(ValueError):
        normal_quantile(p)
    with pytest.raises(ValueError):
        gamma_quantile(p, 1)
    with pytest.raises(ValueError):
        gamma_quantile(0.5, 0)


def test_value_and_error():
    """Sum of w x and the root of the sum of w (w - 1) x^2, by hand."""
    found = estimate([(2, 10), (4, 5)])
    assert found.value == 2 * 10 + 4 * 5
    assert found.se == pytest.approx(math.sqrt(2 * 1 * 100 + 4 * 3 * 25))
    assert found.samples == 2
    assert found.low < found.value < found.high


def test_weight_one_is_exact():
    """What is always sampled has no error, and adds none to what is not."""
    found = estimate([(1, 16 << 20)] * 3)
    assert (found.value, found.se, found.low, found.high) == (48 << 20, 0, 48 << 20, 48 << 20)
    alone = estimate([(136, 64)] * 10)
    mixed = estimate([(136, 64)] * 10 + [(1, 1 << 30)])
    assert mixed.high - (1 << 30) == pytest.approx(alone.high, rel=0.2)
    assert mixed.low >= 1 << 30


def test_lower_limit_is_never_below_what_was_seen():
    """The sampled allocations exist."""
    for samples in ([(136, 64)], [(1.05, 12 << 20)], [(136, 64), (4, 1 << 20)]):
        assert estimate(samples).low >= sum(x for _, x in samples)


def test_limits_are_asymmetric_and_close_with_samples():
    """Few samples: a long way up. Many: like the normal law."""
    few, many = estimate([(136, 1)] * 3), estimate([(136, 1)] * 3000)
    assert few.high - few.value > 1.5 * (few.value - few.low)
    assert many.high - many.value == pytest.approx(1.96 * many.se, rel=0.05)
    assert many.value - many.low == pytest.approx(1.96 * many.se, rel=0.05)


def test_upper_limit_is_garwoods_in_the_poisson_limit():
    """For n equal samples of great weight: gamma quantile of n + 1, times the weight."""
    w = 1e6
    assert estimate([(w, 1)] * 7).high == pytest.approx(w * gamma_quantile(0.975, 8), rel=1e-4)


def test_narrow_gaps_state_no_error():
    """The value stays, the error is not known."""
    found = estimate([(20, 64)], narrow=True)
    assert found == (1280, None, None, None, 1, "narrow gaps")
    assert is_narrow(16, 127) and not is_narrow(16, 128) and not is_narrow(1, 1) and is_narrow(2, 2)


def test_no_samples():
    """Nothing seen: nothing known, or less than three samples' worth."""
    assert estimate([])[:4] == (0, None, None, None)
    bound = estimate([], bound_without_samples=136)
    assert bound.low == 0 and bound.high == pytest.approx(3 * 136, rel=0.01)


def test_sums_give_what_the_samples_give():
    """From sums, also of two parts added, comes what comes from the samples."""
    samples = [(136.0, 64), (4.4, 1 << 20), (1.0, 16 << 20), (100.5, 9000)]
    sums = LiveSums.of(samples[:2]) + LiveSums.of(samples[2:])
    assert estimate_bytes(sums)[:5] == pytest.approx(estimate(samples)[:5])
    count = estimate([(w, 1) for w, _ in samples])
    assert estimate_count(sums)[:3] == pytest.approx(count[:3])


@pytest.mark.parametrize("weight", [1.000001, 1.05, 2.0, 136.0])
@pytest.mark.parametrize("n", [1, 2, 30, 1000])
def test_limits_are_ordered_for_every_weight(weight, n):
    """low <= value <= high, all finite, also where almost everything is sampled."""
    found = estimate([(weight, 100)] * n)
    assert n * 100 <= found.low <= found.value <= found.high < math.inf
