"""The governor's changes do not bias estimates, though each is decided at a sample.

The core's own tracer runs through thousands of changes (governor_driver.c). A change that was made where it is decided
would add a third of a sample's weight each time: 7 % here, where there are few samples between changes.

A right governor fails for one seed in 10,000 or fewer: the mean of the runs lies within four of its standard errors.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from statistics import fmean, stdev

import nativebuild
import pytest
from nativemutant import mutated

DRIVER = Path(__file__).with_name("governor_driver.c")
RUNS = 400
CHANGES = 200


def bias(driver: Path, stream: str, first_seed: int) -> tuple[float, float]:
    """Return the mean relative error of the estimated number of calls and its standard error."""
    command = [str(driver), stream, str(RUNS), str(CHANGES), str(first_seed)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    runs = [tuple(map(float, line.split())) for line in output.splitlines()]
    assert len(runs) == RUNS
    assert all(changes >= CHANGES and samples < 20 * changes for _, _, changes, samples in runs)
    calls = fmean(run[0] for run in runs)
    errors = [(estimate - true) / calls for true, estimate, _, _ in runs]
    print(f"{stream}: bias {fmean(errors):+.3%} ± {stdev(errors) / RUNS**0.5:.3%}, {RUNS * CHANGES} changes")
    return fmean(errors), stdev(errors) / RUNS**0.5


@pytest.mark.parametrize("stream", ["native", "python"])
def test_thousands_of_changes_do_not_bias(stream):
    """The estimated number of calls is the true one, within four standard errors, which are below a thousandth."""
    mean, error = bias(nativebuild.test_program(DRIVER), stream, 30_000)
    assert error < 0.001, "too few changes to tell"
    assert abs(mean) < 4 * error


def test_a_change_where_it_is_decided_is_found(tmp_path):
    """Without the calls in between estimates are too high."""
    wait = "2 * law_max(law) / SAMPLER_EPOCH_CALLS + 1"
    mean, error = bias(mutated(tmp_path, DRIVER, "governor", wait, "1"), "native", 30_000)
    assert mean > 8 * error
