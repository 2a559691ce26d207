"""Step times and their statistics.

The clock and the step are arguments, so that a test can drive them; nothing here depends on TensorFlow. A step
must return only when its result is ready: see `engines.make_step` for how.
"""

import dataclasses
import statistics
import time

import numpy as np

from command_line import UserError


def time_steps(run_step, num_batches=100, burn_in=10, clock=time.perf_counter, on_step=None, seconds=None):
    """Runs `run_step` `burn_in` times untimed, and then `num_batches` times, or for `seconds`, timed.

    Args:
      run_step: A function of no arguments that does one step and returns when the step's result is ready. The
        result is dropped only after the clock was read, so that freeing a large one costs no measured time.
      num_batches: Steps to time, at least 1.
      burn_in: Steps to run before those, at least 0; their times are not in the result.
      clock: A monotonic clock in seconds, read just before and just after each step.
      on_step: Called with (index, step_seconds) after each step, outside the clock. The index counts from 0
        after the burn-in, so it runs from -burn_in upwards.
      seconds: Replaces `num_batches`: steps, at least one, are timed until their times add up to this.

    Returns:
      A list of step times in seconds, in the order in which they were measured.

    Raises:
      UserError: If `num_batches`, `burn_in` or `seconds` is too small.
    """
    check_step_counts(num_batches, burn_in, seconds)
    step_seconds, measured = [], 0.0
    index = -burn_in
    while index < 0 or (index < num_batches if seconds is None else measured < seconds):
        start = clock()
        result = run_step()
        elapsed = clock() - start
        del result  # Before the next step, so that two results are never alive at once.
        if index >= 0:
            step_seconds.append(elapsed)
            measured += elapsed
        if on_step is not None:
            on_step(index, elapsed)
        index += 1
    return step_seconds


def check_step_counts(num_batches, burn_in, seconds=None):
    """Raises a UserError if nothing would be timed; a script calls it before it builds anything."""
    if num_batches < 1:
        raise UserError(f"--num_batches is {num_batches}; at least 1 step must be timed")
    if burn_in < 0:
        raise UserError(f"--burn_in is {burn_in}; give 0 or more steps to run before the clock starts")
    if seconds is not None and not seconds > 0:
        raise UserError(f"--seconds is {seconds}; give more than 0, or --num_batches")


@dataclasses.dataclass(frozen=True)
class Summary:
    """Statistics of stored step times; all but `count` in seconds."""

    count: int
    mean: float
    standard_deviation: float | None
    """Of the sample (divided by count - 1); None for a single step, where it is undefined."""
    median: float
    median_absolute_deviation: float
    """Median distance from the median, unscaled; times 1.4826 it estimates the deviation of normal values."""
    percentile_5: float
    """Percentiles are interpolated linearly between the two nearest samples (NumPy's default)."""
    percentile_95: float
    percentile_99: float
    minimum: float
    maximum: float

    def mean_and_deviation(self):
        """`9.112 +/- 0.153`; for a single step the deviation is `n/a`."""
        deviation = "n/a" if self.standard_deviation is None else f"{self.standard_deviation:.3f}"
        return f"{self.mean:.3f} +/- {deviation}"


def summarize(step_seconds):
    """Computes the statistics of one or more step times.

    They come from the stored samples by exact summation. The shortcut E[x^2] - E[x]^2 of older scripts is
    negative for many constant series, such as 100 times 0.001 s, and then has no square root.

    Returns:
      A Summary.

    Raises:
      ValueError: If there are no times.
    """
    if not step_seconds:
        raise ValueError("no step times to summarize")
    median = statistics.median(step_seconds)
    percentile_5, percentile_95, percentile_99 = np.percentile(step_seconds, [5, 95, 99]).tolist()
    return Summary(
        count=len(step_seconds),
        mean=statistics.mean(step_seconds),
        standard_deviation=statistics.stdev(step_seconds) if len(step_seconds) > 1 else None,
        median=median,
        median_absolute_deviation=statistics.median(abs(seconds - median) for seconds in step_seconds),
        percentile_5=percentile_5,
        percentile_95=percentile_95,
        percentile_99=percentile_99,
        minimum=min(step_seconds),
        maximum=max(step_seconds),
    )
