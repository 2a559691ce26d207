"""When something is due that a run does every so often."""

import math
from fractions import Fraction


class Every:
    """Every so many steps or epochs, and after the last step."""

    def __init__(self, steps, epochs, steps_per_epoch, total_steps):
        """Makes it.

        Args:
          steps: Steps between; None to go by `epochs`.
          epochs: Epochs between; with neither, or 0, it is due after the last step only.
          steps_per_epoch: A Fraction, so that an epoch's end is never a step late by rounding.
          total_steps: Steps of the run.
        """
        self._interval = Fraction(str(epochs or 0)) * steps_per_epoch if steps is None else steps
        self._total_steps = total_steps

    def next(self, step):
        """The number of steps, above `step`, after which it is due next."""
        if not self._interval or step >= self._total_steps:
            return max(step + 1, self._total_steps)
        return min(math.ceil((step // self._interval + 1) * self._interval), self._total_steps)

    def is_due(self, step):
        """Whether it is due after `step` steps."""
        return step == self.next(step - 1)
