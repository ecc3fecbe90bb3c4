"""The stated 95 % limits hold, for programs simulated sample by sample.

Each test replays the sampler's law without its code: gaps uniform on [16, 256] with an equilibrium
first gap, joined with an exponential countdown over bytes. Seeds are fixed. With 400 runs a true
coverage of 95 % shows between 91.7 and 98.3 % (three standard errors); the limits here are the
promised ones, 93 % and 97 %, and the seeds were not chosen.
"""

import random
from bisect import bisect_right
from itertools import accumulate
from math import exp

import pytest

from memleak.estimate import estimate

LEAST, GREATEST = 16, 256
MEAN_INTERVAL = (LEAST + GREATEST) / 2
SAMPLE_BYTES = 4 << 20
ALWAYS = 16 << 20
RUNS = 400


def weight(size):
    """1 / probability that an allocation of *size* bytes is sampled."""
    if size >= ALWAYS:
        return 1.0
    return 1 / (1 - (1 - 1 / MEAN_INTERVAL) * exp(-size / SAMPLE_BYTES))


# P(first gap = k) = P(gap >= k) / E[gap]
_FIRST = list(accumulate(min(1.0, (GREATEST - k + 1) / (GREATEST - LEAST + 1)) for k in range(1, GREATEST + 1)))


def sampled_positions(rng, sizes):
    """Return the positions of the sampled ones of a thread's allocations."""
    found = {position for position, size in enumerate(sizes) if size >= ALWAYS}
    position = bisect_right(_FIRST, rng.random() * _FIRST[-1])
    while position < len(sizes):
        found.add(position)
        position += rng.randint(LEAST, GREATEST)
    ends = list(accumulate(sizes))
    reached = rng.expovariate(1 / SAMPLE_BYTES)
    while reached < ends[-1]:
        position = bisect_right(ends, reached)
        found.add(position)
        # Without memory: what is left of the allocation that was just sampled cannot sample it again.
        reached += rng.expovariate(1 / SAMPLE_BYTES)
    return found


def small(rng, n):
    return [64] * n


def large(rng, n):
    return [3 << 20] * n


def mixed(rng, n):
    return rng.choices((64, 8192, 1 << 20), weights=(90, 9, 1), k=n)


def spread(rng, n):
    return [int(rng.lognormvariate(6, 2)) + 1 for _ in range(n)]


def medium(rng, n):
    return [64 << 10] * n


def coverage(seed, draw, expected_samples, share, what):
    """Return (share of runs whose limits hold the truth, mean relative error).

    A row owns *share* of a thread's allocations, in random order among others of the same kinds; it
    makes as many as give *expected_samples*.
    """
    rng = random.Random(seed)
    pilot = draw(rng, 20_000)
    mine = max(1, round(expected_samples / (sum(1 / weight(size) for size in pilot) / len(pilot))))
    held = 0
    errors = 0.0
    for _ in range(RUNS):
        sizes = draw(rng, mine)
        total = mine if what == "count" else sum(sizes)
        if share == 1:
            positions = sampled_positions(rng, sizes)
            picked = [sizes[position] for position in positions]
        else:
            stream = [0] * round(mine / share)
            for place, size in zip(rng.sample(range(len(stream)), mine), sizes):
                stream[place] = size
            # Others' bytes do not matter to an exponential countdown; their number does to the gaps.
            positions = sampled_positions(rng, stream)
            picked = [stream[position] for position in positions if stream[position]]
        result = estimate((weight(size), 1 if what == "count" else size) for size in picked)
        if result.high is not None:
            held += result.low <= total <= result.high
        errors += result.value / total - 1
    return held / RUNS, errors / RUNS


@pytest.mark.parametrize("what", ["count", "bytes"])
@pytest.mark.parametrize(
    ("draw", "expected_samples", "share"),
    [(small, 30, 0.1), (medium, 30, 0.1), (mixed, 30, 0.1), (large, 100, 0.1)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_random_order_is_covered_as_stated(draw, expected_samples, share, what):
    """A place whose allocations come in random order among others: 93 to 97 % are covered, no bias.

    The mean error of 400 runs of 30 samples has a standard error below 1.5 %, of mixed sizes 3 %.
    """
    held, error = coverage(2024, draw, expected_samples, share, what)
    assert 0.93 <= held <= 0.97
    assert abs(error) < 0.06


@pytest.mark.parametrize("what", ["count", "bytes"])
@pytest.mark.parametrize("draw", [small, medium, large, mixed], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("expected_samples", [30, 100])
def test_a_thread_of_its_own_is_covered(draw, expected_samples, what):
    """A place that makes all allocations of its thread: at least 93 %; regular gaps only help."""
    held, error = coverage(2025, draw, expected_samples, 1, what)
    assert held >= 0.93
    assert abs(error) < 0.06


@pytest.mark.parametrize("expected_samples", [3, 8, 15])
def test_few_samples_are_covered(expected_samples):
    """Far below 30 samples the asymmetric limits still hold."""
    held, _ = coverage(2026, small, expected_samples, 0.1, "bytes")
    assert held >= 0.93


def test_sizes_over_many_orders_of_magnitude_need_more_samples():
    """The documented weakness: 30 samples of very unequal sizes cover about 92 %."""
    assert coverage(2027, spread, 30, 1, "bytes")[0] >= 0.89

