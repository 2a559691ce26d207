"""Steps traced by TensorFlow's profiler, for TensorBoard."""

import contextlib
import sys

import tensorflow as tf

from command_line import UserError


class Profile:
    """Traces a range of steps into plugins/profile in the run's folder; a context manager around the run."""

    def __init__(self, steps, first_step, total_steps, folder):
        """Warns of steps that the run has behind it.

        Args:
          steps: (first, last), or None for no trace.
          first_step: Steps done before.
          total_steps: Steps of the run.
          folder: The run's.

        Raises:
          UserError: If the run has no such steps.
        """
        if steps and not 1 <= steps[0] <= steps[1] <= total_steps:
            raise UserError(
                f"--profile_steps is {steps[0]} {steps[1]}, expected the first and the last step to trace, "
                f"1 to {total_steps} in this run"
            )
        if steps and steps[1] <= first_step < total_steps:
            text = f"warning: --profile_steps={steps[0]} {steps[1]} traces nothing: {first_step} steps are done already"
            print(text, file=sys.stderr)
        self._first, self._last = steps or (0, 0)
        self._folder = folder
        self._on = False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._on:
            self._stop()

    @contextlib.contextmanager
    def step(self, number):
        """The context of a step, counted from 1."""
        # A run that is resumed within the range traces the rest of it.
        if not self._on and self._first <= number <= self._last:
            tf.profiler.experimental.start(str(self._folder))
            self._on = True
        if not self._on:
            yield
            return
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            yield
        if number == self._last:
            self._stop()

    def _stop(self):
        self._on = False
        tf.profiler.experimental.stop()
