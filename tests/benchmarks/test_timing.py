"""Step times against a clock that the test moves; the expected figures are worked by hand."""

import math

import pytest

from benchmarks import timing
from command_line import UserError


class FakeClock:
    """A clock that stands still but for the steps, which take the given seconds, and for `skip`."""

    def __init__(self, step_seconds):
        self.now = 1000.0
        self.steps_done = 0
        self._step_seconds = iter(step_seconds)

    def __call__(self):
        return self.now

    def run_step(self):
        self.steps_done += 1
        self.skip(next(self._step_seconds))

    def skip(self, seconds):
        self.now += seconds


def test_burn_in_is_excluded_exactly():
    clock = FakeClock([64.0, 32.0, 1.0, 2.0, 4.0])
    step_seconds = timing.time_steps(clock.run_step, num_batches=3, burn_in=2, clock=clock)
    assert step_seconds == [1.0, 2.0, 4.0]
    assert clock.steps_done == 5


def test_defaults_are_10_of_burn_in_and_100_timed_steps():
    clock = FakeClock([50.0] * 10 + [0.25] * 100)
    assert timing.time_steps(clock.run_step, clock=clock) == [0.25] * 100
    assert clock.steps_done == 110


def test_no_burn_in_times_the_first_step():
    clock = FakeClock([8.0, 1.0])
    assert timing.time_steps(clock.run_step, num_batches=2, burn_in=0, clock=clock) == [8.0, 1.0]


def test_a_time_budget_ends_with_the_step_that_fills_it():
    clock = FakeClock([64.0, 1.0, 2.0, 4.0, 8.0])
    # Neither the burn-in nor what the listener does is on the budget.
    step_seconds = timing.time_steps(
        clock.run_step, burn_in=1, clock=clock, on_step=lambda index, seconds: clock.skip(9.0), seconds=5.0
    )
    assert step_seconds == [1.0, 2.0, 4.0]


def test_a_time_budget_is_for_one_step_at_least():
    clock = FakeClock([64.0, 7.0])
    assert timing.time_steps(clock.run_step, burn_in=1, clock=clock, seconds=0.001) == [7.0]


def test_what_the_listener_does_is_not_on_the_clock():
    clock = FakeClock([1.0, 2.0, 4.0])
    heard = []

    def on_step(index, step_seconds):
        heard.append((index, step_seconds))
        clock.skip(512.0)

    assert timing.time_steps(clock.run_step, 2, 1, clock, on_step) == [2.0, 4.0]
    assert heard == [(-1, 1.0), (0, 2.0), (1, 4.0)]


def test_a_result_lives_until_its_step_was_timed_and_not_longer():
    events = []

    class Large:
        def __del__(self):
            events.append("freed")

    def run_step():
        events.append("step")
        return Large()

    def clock():
        events.append("clock")
        return 0.0

    timing.time_steps(run_step, num_batches=2, burn_in=0, clock=clock)
    assert events == ["clock", "step", "clock", "freed"] * 2


@pytest.mark.parametrize(("counts", "flag"), [((0, 10), "--num_batches"), ((100, -1), "--burn_in")])
def test_impossible_counts_name_their_flag_and_run_nothing(counts, flag):
    clock = FakeClock([])
    with pytest.raises(UserError, match=flag):
        timing.time_steps(clock.run_step, *counts, clock=clock)
    assert clock.steps_done == 0


def test_known_series():
    # Squared distances from the mean 5: 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32, over 8 - 1.
    summary = timing.summarize([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert summary.count == 8
    assert summary.mean == 5.0
    assert summary.standard_deviation == pytest.approx(math.sqrt(32 / 7), rel=1e-15)
    assert summary.median == 4.5
    assert (summary.minimum, summary.maximum) == (2.0, 9.0)
    assert summary.mean_and_deviation() == "5.000 +/- 2.138"


def test_known_percentiles_and_median_absolute_deviation():
    summary = timing.summarize([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    # Places 0.35, 6.65 and 6.93 of 0 to 7, on the line between the neighbours.
    assert summary.percentile_5 == pytest.approx(2 + 0.35 * 2)
    assert summary.percentile_95 == pytest.approx(7 + 0.65 * 2)
    assert summary.percentile_99 == pytest.approx(7 + 0.93 * 2)
    # Distances from 4.5: five times 0.5, twice 2.5, once 4.5.
    assert summary.median_absolute_deviation == 0.5
    assert timing.summarize([1.0, 2.0, 4.0, 8.0, 16.0]).median_absolute_deviation == 3.0


def test_order_does_not_matter():
    assert timing.summarize([9.0, 1.0, 2.0]) == timing.summarize([1.0, 2.0, 9.0])


def test_the_mean_of_an_odd_count_is_not_its_median():
    summary = timing.summarize([1.0, 2.0, 9.0])
    assert (summary.mean, summary.median) == (4.0, 2.0)


@pytest.mark.parametrize("seconds", [0.001, 0.1, 9.112, 1e-6])
def test_a_constant_series_has_no_deviation(seconds):
    summary = timing.summarize([seconds] * 100)
    assert summary.standard_deviation == 0.0
    assert summary.mean == summary.median == seconds


def test_the_constant_series_that_the_shortcut_formula_fails_on():
    total = squares = 0.0
    for _ in range(100):
        total += 0.001
        squares += 0.001 * 0.001
    assert squares / 100 - (total / 100) ** 2 < 0  # No square root: the trap is real.
    assert timing.summarize([0.001] * 100).mean_and_deviation() == "0.001 +/- 0.000"


def test_a_single_step_has_no_deviation_to_state():
    summary = timing.summarize([0.25])
    assert summary.count == 1
    assert summary.standard_deviation is None
    assert summary.mean_and_deviation() == "0.250 +/- n/a"


def test_no_steps_have_no_statistics():
    with pytest.raises(ValueError, match="no step times"):
        timing.summarize([])
