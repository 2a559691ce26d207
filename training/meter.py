"""What a run measures between two log lines."""

import math
import time
from typing import NamedTuple

# Where the time of a run goes: the first batch and step, which traces the network; waiting for batches; steps; log
# lines and curves; checkpoints; evaluations (including batch norm's recalibration).
PHASES = ("start", "input", "step", "summary", "checkpoint", "evaluation")
_OF_THE_PACE = ("input", "step", "summary")


class Measured(NamedTuple):
    """What `Meter.take` returns.

    Attributes:
      steps: Steps since the last call.
      metrics: Their means, by name; for the learning rate, the last value.
      images_per_second: Over the same steps; None while no step was timed.
      seconds_left: Until the end of the run at this pace; None likewise.
      seconds: As `Meter.take_seconds`.
    """

    steps: int
    metrics: dict
    images_per_second: float | None
    seconds_left: float | None
    seconds: dict


class Meter:
    """Means of the metrics since the last log line, where the time went, and the pace of training.

    The pace excludes evaluations, checkpoints and the first step, which traces the network and takes many times as long
    as the others.
    """

    def __init__(self, first_step, total_steps, batch_size):
        """Args: first_step: steps done before; total_steps: steps of the whole run; batch_size: images of a step."""
        self._first_timed_step = self._logged_step = first_step + 1
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._metrics = []
        self._traced = False
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._taken = dict(self._seconds)
        self._logged_seconds = 0.0
        self._phase, self._since = "start", time.monotonic()

    def enter(self, phase):
        """Counts the time from here on towards a phase, one of PHASES."""
        now = time.monotonic()
        self._seconds[self._phase] += now - self._since
        self._since = now
        self._phase = phase if self._traced or phase not in _OF_THE_PACE else "start"

    def add(self, metrics):
        """Adds the metrics of a step; their values are fetched only for logging, so that steps need not wait."""
        self._metrics.append(metrics)
        if not self._traced:
            self._traced = True
            self.enter("step")

    def losses_since_log(self):
        """The loss of each step since the last call of `take`."""
        return [float(metrics["loss"]) for metrics in self._metrics]

    def forget_all_but(self, count):
        """Of the steps since the last call of `take`, keeps only the first `count`."""
        del self._metrics[count:]

    def take(self, step):
        """Returns what was Measured since the last call."""
        metrics = {
            name: math.fsum(float(value[name]) for value in self._metrics) / len(self._metrics)
            for name in self._metrics[0]
        }
        metrics["learning_rate"] = float(self._metrics[-1]["learning_rate"])
        steps, self._metrics = len(self._metrics), []
        seconds = self.take_seconds()
        if step == self._logged_step:
            return Measured(steps, metrics, None, None, seconds)
        total = sum(self._seconds[phase] for phase in _OF_THE_PACE)
        step_seconds = (total - self._logged_seconds) / (step - self._logged_step)
        self._logged_step, self._logged_seconds = step, total
        left = step_seconds * (self._total_steps - step)
        return Measured(steps, metrics, self._batch_size / step_seconds, left, seconds)

    def take_seconds(self):
        """Returns the seconds of each phase since the last call."""
        self.enter(self._phase)
        seconds = {phase: self._seconds[phase] - self._taken[phase] for phase in PHASES}
        self._taken = dict(self._seconds)
        return seconds

    @property
    def seconds(self):
        """The seconds of each phase since the meter was made."""
        self.enter(self._phase)
        return dict(self._seconds)

    @property
    def images_per_second_of_all(self):
        """Images/s over all logged steps but the first; None before the second."""
        steps = self._logged_step - self._first_timed_step
        return steps * self._batch_size / self._logged_seconds if steps > 0 else None


def shares_text(seconds, decimals=0):
    """The shares of phases, the largest first, such as "step 97 %, input 3 %"; without decimals, shares that round to
    nothing are left out."""
    total = math.fsum(seconds.values()) or 1.0
    shares = sorted(((100 * value / total, phase) for phase, value in seconds.items()), reverse=True)
    least = 0.5 if decimals == 0 else 0.0
    return ", ".join(f"{phase} {share:.{decimals}f} %" for share, phase in shares if share >= least)
