"""What ./bench computes, with numbers that can be checked by hand."""

from __future__ import annotations

import math

import pytest
from benching import figures
from benching.figures import Spread


def test_quartiles_lie_between_neighbours_by_proportion():
    assert figures.spread([5, 1, 3, 2, 4]) == Spread(2.0, 3.0, 4.0, 5)
    assert figures.spread([4.0, 1.0]) == Spread(1.75, 2.5, 3.25, 2)
    assert figures.spread([7.0]) == Spread(7.0, 7.0, 7.0, 1)
    with pytest.raises(ValueError, match="no values"):
        figures.spread([])


def test_a_figure_is_shown_with_its_spread():
    assert figures.spread([1.0, 1.1, 1.2]).words() == "1.100 [1.050 … 1.150]"
    assert Spread(0.1, 0.25, 0.5, 3).words(1, 100) == "25.0 [10.0 … 50.0]"


def test_neighbours_make_a_pair_whoever_came_first():
    assert figures.order(2) == "ABBAABBA"
    assert figures.pairs("ABBA", [10, 11, 22, 20]) == [(10, 11), (20, 22)]
    assert figures.ratios([(10, 11), (20, 22), (0, 5)]) == pytest.approx([1.1, 1.1])
    with pytest.raises(ValueError, match="3 values for a sequence of 4"):
        figures.pairs("ABBA", [1, 2, 3])


def test_a_machine_that_gets_slower_at_an_even_rate_favours_nobody():
    """A and B are equal; each run takes a hundredth more than the one before."""
    sequence = figures.order(3)
    values = [1.0 + 0.01 * number for number in range(len(sequence))]
    ratios = figures.ratios(figures.pairs(sequence, values))
    assert figures.spread(ratios).median == pytest.approx(1.0, abs=0.001)
    always_first = [values[number + 1] / values[number] for number in range(0, len(values), 2)]
    assert figures.spread(always_first).median > 1.009


def test_the_error_is_the_root_of_the_mean_square():
    assert figures.rms_relative_error([10, 10], [10, 10]) == 0
    assert figures.rms_relative_error([10, 100], [13, 60]) == pytest.approx(math.sqrt((0.09 + 0.16) / 2))
    assert figures.rms_relative_error([5], [0]) == 1
    with pytest.raises(ValueError, match="0 estimates for 0 truths"):
        figures.rms_relative_error([], [])


def test_the_median_of_a_histogram():
    assert figures.weighted_median({20: 1, 40: 3, 1000: 2}) == 40
    assert figures.weighted_median({100: 1}) == 100
    with pytest.raises(ValueError, match="no median"):
        figures.weighted_median({})
