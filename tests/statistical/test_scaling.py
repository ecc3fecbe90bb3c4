"""The line through live bytes and a gauge: its 95 % interval holds, for programs simulated block by block.

Seeds are fixed and were not chosen. With 400 runs a true coverage of 95 % shows between 91.7 and 98.3 % (three standard errors);
what is promised is 93 % where sampling is all that is uncertain, and 85 % where the program drifts, too: a drift of a size
near that of the sampling error is told from it only sometimes.
"""

import random

import pytest

from memleak.regression import Series, fit
from memleak.verdict import discoveries

RUNS = 400
SIZE = 1000
WANTED = 5000.0


def ramp(rng):
    return [100 * i for i in range(1, 11)]


def long_ramp(rng):
    return [25 * i for i in range(1, 41)]


def cycles(rng):
    return [500 + round(400 * min(i % 12, 12 - i % 12) / 6) for i in range(40)]


def three_steps(rng):
    return [300] * 6 + [600] * 6 + [900] * 6


def wandering(rng):
    found = [500]
    for _ in range(40):
        found.append(max(100, found[-1] + rng.choice((-50, -30, 30, 50))))
    return found


def piled(rng, levels, p, renewed=0.0, shuffled=False):
    """Return estimated bytes at each level: a block for each unit, each sampled with probability *p*; those taken off are
    the newest, or any. A share *renewed* is replaced from level to level."""
    live, found = [], []
    for level in levels:
        if shuffled:
            rng.shuffle(live)
        live = [rng.random() < p if rng.random() < renewed else one for one in live[:level]]
        live += [rng.random() < p for _ in range(level - len(live))]
        found.append(sum(live) * SIZE / p)
    return found


def drifting(rng, levels, p):
    """The same beside memory that wanders by itself."""
    beside, found = 0.0, []
    for held in piled(rng, levels, p):
        beside += rng.gauss(0, 20 * SIZE)
        found.append(max(0.0, held + beside))
    return found


def coverage(levels_of, held_of, p, runs=RUNS):
    """Return the shares of runs in which slope and prediction are right, and the median widths of the slope's interval."""
    right = foretold = 0
    halves = []
    for seed in range(runs):
        rng = random.Random(seed)
        levels = levels_of(rng)
        held = held_of(rng, levels, p)
        line = fit([float(one) for one in levels], Series(held, [(1 / p - 1) * SIZE * one for one in held]), [WANTED])
        right += abs(line.slope - SIZE) <= line.half_width
        value, half = line.predictions[0]
        foretold += abs(value - WANTED * SIZE) <= half
        halves.append(line.half_width / SIZE)
    return right / runs, foretold / runs, sorted(halves)[runs // 2]


PROGRAMS = {
    "piles up": lambda rng, levels, p: piled(rng, levels, p),
    "drops any": lambda rng, levels, p: piled(rng, levels, p, shuffled=True),
    "replaces a third": lambda rng, levels, p: piled(rng, levels, p, renewed=0.3),
    "replaces all": lambda rng, levels, p: piled(rng, levels, p, renewed=1.0),
}


@pytest.mark.parametrize("levels_of", [ramp, long_ramp, cycles, three_steps, wandering])
@pytest.mark.parametrize("program", PROGRAMS)
def test_intervals_hold(levels_of, program):
    """Whatever the program does with its blocks."""
    right, foretold, half = coverage(levels_of, PROGRAMS[program], 0.1)
    print(f"{program}, {levels_of.__name__}: slope {right:.3f}, prediction {foretold:.3f}, half a width {half:.3f}")
    assert right >= 0.93 and foretold >= 0.93
    assert half < 1.2  # it says something


@pytest.mark.parametrize("levels_of", [ramp, long_ramp, cycles])
def test_width_is_that_of_the_error(levels_of):
    """Of a program that piles up: 1000 units, sampled one in ten, are known to 10 %; half an interval is about twice that."""
    right, _, half = coverage(levels_of, PROGRAMS["piles up"], 0.1)
    assert right <= 0.985 and half < 0.26


@pytest.mark.parametrize("levels_of", [ramp, long_ramp, cycles, three_steps, wandering])
@pytest.mark.parametrize("p", [0.1, 1.0])
def test_drift_widens(levels_of, p):
    """Memory that does not follow the gauge: sampled, and in full mode, where nothing else is uncertain."""
    right, foretold, half = coverage(levels_of, drifting, p)
    print(f"{levels_of.__name__}, p {p}: slope {right:.3f}, prediction {foretold:.3f}, half a width {half:.3f}")
    assert right >= 0.85 and foretold >= 0.85


def test_within_three_percent():
    """10,000 objects of 548,584 bytes, sampled each 512 KiB: 65 % of them. 1.1 % is the error, so 3 % is passed once in 150."""
    p, errors = 0.649, []
    for seed in range(40):
        rng = random.Random(seed)
        levels = [2000, 4000, 6000, 8000, 10000]
        held = [one / SIZE * 548_584 for one in piled(rng, levels, p)]
        line = fit([float(one) for one in levels], Series(held, [(1 / p - 1) * 548_584 * one for one in held]))
        errors.append(abs(line.slope / 548_584 - 1))
    assert sum(error <= 0.03 for error in errors) >= 38


def test_false_discoveries():
    """Of 50 stacks that have nothing to do with the gauge, five of them beside ten that follow it: at most the share that is promised."""
    false = found = 0
    for seed in range(60):
        rng = random.Random(seed)
        levels = wandering(rng)
        x = [float(one) for one in levels]
        p_values = []
        for stack in range(60):
            if stack < 10:
                held = piled(rng, levels, 0.1)
            else:
                held = [rng.gauss(100, 10) * SIZE for _ in levels]
            p_values.append(fit(x, Series(held, [9 * SIZE * one for one in held])).p)
        passed = discoveries(p_values, 0.05)
        found += sum(passed)
        false += sum(passed[10:])
    assert found >= 60 * 5 and false <= 0.08 * found
