"""The core's own sampler and the reader's own estimates, on simulated programs: unbiased, and covered.

Every run draws its samples with the sampler that traced programs use (sampler_driver.c, linked
against the core's objects) and estimates with memleak.estimate. Seeds are fixed and were not chosen.

Bias: the mean of 400 estimates lies within 1 % of the truth. Every scenario is large enough for the
standard error of that mean to be below a quarter of a percent, so a right sampler fails for one seed
in 10,000 or fewer; that it stays within four of these errors is asserted as well.

Coverage: a true coverage of 95 % shows between 93 and 97 % of 2000 runs with four standard errors to
spare. A program with a rhythm is covered more often: random gaps make its error smaller than stated.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import nativebuild
import pytest
from nativemutant import mutated

from memleak.estimate import Estimate, estimate_bytes, estimate_count
from memleak.records import LiveSums

DRIVER = Path(__file__).with_name("sampler_driver.c")
RUNS = 400
RUNS_FOR_COVERAGE = 2000


class Run(NamedTuple):
    """One place of one run: what it allocated, and the sums over its samples."""

    count: int
    bytes: int
    sums: LiveSums


@pytest.fixture(scope="module")
def driver() -> Path:
    return nativebuild.test_program(DRIVER)


@lru_cache(maxsize=None)
def simulate(driver: Path, scenario: str, runs: int, first_seed: int) -> dict[str, list[Run]]:
    """Return the runs of a scenario, by place."""
    command = [str(driver), scenario, str(runs), str(first_seed)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    found: dict[str, list[Run]] = defaultdict(list)
    for line in output.splitlines():
        place, count, total, *samples = line.split()
        found[place].append(Run(int(count), int(total), sum(map(alike, samples), LiveSums())))
    return found


def alike(text: str) -> LiveSums:
    """Return the sums over n samples of one weight and size, written weight:size:n."""
    weight, size, n = map(int, text.split(":"))
    one = LiveSums.of([(weight / 1024, size)])
    return LiveSums(*(value * n for value in one[:-1]), one.heaviest)


def estimate(run: Run, of_bytes: bool) -> tuple[Estimate, int]:
    """Return (estimate, truth) of a run's bytes or number."""
    return (estimate_bytes(run.sums), run.bytes) if of_bytes else (estimate_count(run.sums), run.count)


def bias(runs: list[Run], *, of_bytes: bool) -> tuple[float, float]:
    """Return the mean relative error and its standard error."""
    pairs = [estimate(run, of_bytes) for run in runs]
    truth = fmean(true for _, true in pairs)
    errors = [(found.value - true) / truth for found, true in pairs]
    return fmean(errors), stdev(errors) / len(errors) ** 0.5


def coverage(runs: list[Run], *, of_bytes: bool) -> float:
    """Return the share of runs whose stated limits hold the truth."""
    pairs = [estimate(run, of_bytes) for run in runs]
    return sum(found.low is not None and found.low <= true <= found.high for found, true in pairs) / len(pairs)


def mean_samples(runs: list[Run]) -> float:
    return fmean(run.sums.samples for run in runs)


# Scenario, place, first seed.
UNBIASED = [
    ("small", "a", 1000),
    ("large", "a", 2000),
    ("mixed", "a", 3000),
    ("requests", "a", 4000),
    ("requests_in_threads", "a", 5000),
    ("threads", "a", 6000),
    ("threads", "b", 6000),
    ("knobs", "a", 7000),
    ("knobs", "b", 7000),
    ("random_order", "f", 8000),
]


@pytest.mark.parametrize(("scenario", "place", "seed"), UNBIASED)
@pytest.mark.parametrize("of_bytes", [False, True], ids=["count", "bytes"])
def test_unbiased_and_covered(driver, scenario, place, seed, of_bytes):
    """The mean estimate is within 1 % of the truth; 93 % of the stated limits hold it."""
    runs = simulate(driver, scenario, RUNS, seed)[place]
    mean, error = bias(runs, of_bytes=of_bytes)
    held = coverage(runs, of_bytes=of_bytes)
    samples = mean_samples(runs)
    print(f"{scenario} {place}: bias {mean:+.2%} ± {error:.2%}, {held:.1%} covered, {samples:.0f} samples a run")
    assert len(runs) == RUNS
    assert abs(mean) < 0.01
    assert error < 0.0025, "the scenario is too small to tell"
    assert abs(mean) < 4 * error
    assert samples >= 30
    assert held >= 0.93


@pytest.mark.parametrize("place", ["a", "b", "c", "d", "e"])
@pytest.mark.parametrize("of_bytes", [False, True], ids=["count", "bytes"])
def test_random_order_is_covered_as_stated(driver, place, of_bytes):
    """In random order 93 to 97 % of the limits hold the truth, where a place makes a part of the traffic.

    A place that makes most of it (f, above) shares the rhythm of the gaps and is covered more often.
    """
    runs = simulate(driver, "random_order", RUNS_FOR_COVERAGE, 10_000)[place]
    mean, error = bias(runs, of_bytes=of_bytes)
    held = coverage(runs, of_bytes=of_bytes)
    print(f"random order {place}: bias {mean:+.2%} ± {error:.2%}, {held:.2%} covered, {mean_samples(runs):.0f} samples")
    assert mean_samples(runs) >= 30
    assert abs(mean) < 0.01 and abs(mean) < 4 * error
    assert 0.93 <= held <= 0.97


def test_off_samples_nothing(driver):
    """Off mode picks no allocation, whatever its size."""
    runs = simulate(driver, "off", 20, 1)["a"]
    assert len(runs) == 20 and all(run.count == 100_000 and run.sums == LiveSums() for run in runs)


def test_many_small_leaks_rank_above_few_large_buffers(driver):
    """100 MB of 64-byte leaks come before three buffers of 3 MiB by estimated bytes, in 99 % of runs."""
    runs = simulate(driver, "ranking", RUNS, 20_000)
    above = 0
    for small, large in zip(runs["a"], runs["b"]):
        above += estimate_bytes(small.sums).value > estimate_bytes(large.sums).value
    assert len(runs["a"]) == len(runs["b"]) == RUNS
    assert above >= 0.99 * RUNS


# ---- a wrong sampler is found ------------------------------------------------------------------------

GAP = "return min + (uint32_t)((sampler_random() >> 32) * range >> 32);"


def test_gap_mutant_is_found(tmp_path):
    """A gap one too long biases by 1/136 = 0.7 %, which more than four standard errors show."""
    program = mutated(tmp_path, DRIVER, "sampler", GAP, GAP.replace("return min", "return 1 + min"))
    mean, error = bias(simulate(program, "small", RUNS, 1000)["a"], of_bytes=False)
    print(f"bias {mean:+.2%} ± {error:.2%}")
    assert mean < -4 * error
