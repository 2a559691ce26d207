"""Turns on a clock that the contestants move, and statistics worked by hand."""

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
    assert str(ratio) == "a over b: 2.000 (75 % 1.000 to 3.000, n 3)"


def test_one_round_has_no_interval():
    ratio = rounds.compare("a over b", [3.0], [2.0])
    assert (ratio.median, ratio.interval) == (1.5, None)
    assert str(ratio) == "a over b: 1.500 (one round, n 1)"


def test_rounds_that_do_not_pair():
    with pytest.raises(ValueError):
        rounds.compare("a over b", [1.0, 2.0], [1.0])
