"""Turns on a clock that the contestants move, and statistics worked by hand."""

import math

import numpy as np
import pytest

from benchmarks import rounds


class Clock:
    def __init__(self):
        self.now = 0.0
        self.calls = []

    def contestant(self, name, batch, seconds):
        """A `start` whose batches take a fixed time."""

        def take_batch():
            self.calls.append(name)
            self.now += seconds
            return batch

        def start():
            self.calls.append(f"start {name}")
            self.now += 1000.0  # Making ready is on no clock.
            return take_batch

        return start

    def __call__(self):
        return self.now


def test_contestants_take_turns_and_burn_in_is_not_timed():
    clock = Clock()
    contestants = {"a": clock.contestant("a", 8, 2.0), "b": clock.contestant("b", 8, 4.0)}
    told = []
    rates = rounds.run_rounds(contestants, 2, 4.0, 1.0, clock, lambda *rate: told.append(rate))
    # One batch of burn-in, then until 4 s have gone: two batches of 2 s, or one of 4 s.
    assert clock.calls == ["start a", "a", "a", "a", "start b", "b", "b"] * 2
    assert rates == {"a": [4.0, 4.0], "b": [2.0, 2.0]}
    assert told == [("a", 4.0), ("b", 2.0)] * 2


def test_a_turn_ends_with_the_first_batch_that_ends_later():
    clock = Clock()
    rates = rounds.run_rounds({"a": clock.contestant("a", 6, 3.0)}, 1, 4.0, 0.0, clock)
    assert clock.calls == ["start a", "a", "a", "a"] and rates == {"a": [12 / 6.0]}


def test_a_contestant_is_dropped_before_the_next_starts():
    alive = []

    class Batches:
        def __init__(self):
            assert not alive
            alive.append(self.__class__)

        def __call__(self):
            return 1

        def __del__(self):
            alive.clear()

    rounds.run_rounds({"a": Batches, "b": Batches}, 2, 0.0, 0.0)
    assert not alive


def test_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians():
    ratio = rounds.compare("a over b", [10.0, 20.0, 90.0], [10.0, 10.0, 30.0])
    assert ratio.per_round == (1.0, 2.0, 3.0) and ratio.median == 2.0
    assert 1.0 <= ratio.low <= ratio.median <= ratio.high <= 3.0
    assert str(ratio) == f"a over b: 2.000 (95 % {ratio.low:.3f} to {ratio.high:.3f}, n 3)"


def test_one_round_has_no_interval():
    ratio = rounds.compare("a over b", [3.0], [2.0])
    assert (ratio.median, ratio.low, ratio.high) == (1.5, None, None)
    assert str(ratio) == "a over b: 1.500 (one round, n 1)"


def test_rounds_that_do_not_pair():
    with pytest.raises(ValueError):
        rounds.compare("a over b", [1.0, 2.0], [1.0])


def test_interval_of_two_values():
    """A sample of two has both values a quarter of the time each, and their mean otherwise."""
    assert rounds.bootstrap_interval([1.0, 3.0]) == (1.0, 3.0)
    assert rounds.bootstrap_interval([2.0] * 5) == (2.0, 2.0)


def test_interval_of_many_values_is_that_of_the_theory():
    """Of the median of n normal values the standard deviation is sqrt(pi / 2 / n)."""
    values = np.random.default_rng(3).standard_normal(4001)
    low, high = rounds.bootstrap_interval(values[:401])
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(math.pi / 2 / 401), rel=0.35)
    assert low < 0 < high


def test_interval_is_the_same_in_every_run():
    assert rounds.bootstrap_interval([1.0, 2.0, 4.0]) == rounds.bootstrap_interval([1.0, 2.0, 4.0])
