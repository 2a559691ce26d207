"""Intervals of medians: ranks of the textbooks' tables, and how often they hold the truth."""

import math

import numpy as np
import pytest

from benchmarks import intervals


@pytest.mark.parametrize(
    ("count", "first", "coverage"),
    [
        # Ranks from 1, and 1 - 2 P(X < rank) of X ~ Binomial(n, 1/2), by hand.
        (2, 1, 1 - 2 / 4),
        (5, 1, 1 - 2 / 32),
        (6, 1, 1 - 2 / 64),
        (8, 1, 1 - 2 / 256),
        (9, 2, 1 - 2 * (1 + 9) / 512),
        (11, 2, 1 - 2 * (1 + 11) / 2048),
        # The usual tables for the sign test: 40 and 61 of 100.
        (100, 40, 0.9648),
    ],
)
def test_ranks_and_coverage(count, first, coverage):
    values = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    interval = intervals.of_median(values)
    assert (interval.low, interval.high) == (first, count + 1 - first)
    assert interval.coverage == pytest.approx(coverage, abs=5e-5)


def test_a_hundred_thousand_values_are_those_of_the_normal_law():
    """Ranks n / 2 -+ 1.96 sqrt(n) / 2."""
    interval = intervals.of_median(np.arange(100_000.0))
    assert interval.low == pytest.approx(50_000 - 1.96 * math.sqrt(100_000) / 2, abs=2)
    assert interval.coverage == pytest.approx(0.95, abs=0.001)


def test_one_value_has_none_nor_have_those_that_are_no_numbers():
    assert intervals.of_median([1.0]) is None
    assert intervals.of_ratio([1.0], [1.0, 2.0]) is None
    assert intervals.of_median([1.0, float("nan"), 2.0]) is None
    assert intervals.describe(intervals.of_median([1.0, 3.0])) == "50 % 1.000 to 3.000"


@pytest.mark.parametrize("count", [3, 7, 9, 31])
def test_it_holds_the_median_as_often_as_it_says(count):
    """Of exponential samples, whose median is log 2: nothing is symmetric."""
    samples = np.random.default_rng(1).exponential(size=[4000, count])
    found = [intervals.of_median(row) for row in samples]
    held = np.mean([one.low <= math.log(2) <= one.high for one in found])
    assert held == pytest.approx(found[0].coverage, abs=4 * math.sqrt(0.25 / 4000))


@pytest.mark.parametrize("counts", [(7, 7), (9, 31)])
def test_one_of_a_ratio_holds_it_more_often(counts):
    random = np.random.default_rng(2)
    found = [
        intervals.of_ratio(3.0 * random.exponential(size=counts[0]), random.exponential(size=counts[1]))
        for _ in range(2000)
    ]
    assert found[0].coverage >= 0.95
    assert np.mean([one.low <= 3.0 <= one.high for one in found]) >= found[0].coverage
