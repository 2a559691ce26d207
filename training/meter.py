"""What a run measures between two log lines."""

import math
import time


class Meter:
    """Means of the metrics since the last log line, and the pace of training without what is not training.

    The first step traces the network and takes many times as long as the others; the pace leaves it out.
    """

    def __init__(self, first_step, total_steps, batch_size):
        """Args: first_step: steps done before; total_steps: steps of the whole run; batch_size: images of a step."""
        self._first_timed_step = self._logged_step = first_step + 1
        self._total_steps = total_steps
        self._batch_size = batch_size
        self._metrics = []
        self._seconds = self._logged_seconds = 0.0
        self._since = None

    def add(self, metrics):
        """Adds the metrics of a step; their values are fetched when they are logged, so that steps need not wait."""
        self._metrics.append(metrics)
        self.resume()

    def losses_since_log(self):
        """The loss of each step since the last call of `take`."""
        return [float(metrics["loss"]) for metrics in self._metrics]

    def pause(self):
        """Stops the clock."""
        if self._since is not None:
            self._seconds += time.monotonic() - self._since
            self._since = None

    def resume(self):
        """Lets the clock run again."""
        if self._since is None:
            self._since = time.monotonic()

    def take(self, step):
        """Returns the means since the last call, the images/s since then and the seconds to the end at this pace.

        Pace and seconds are None as long as no step was timed.
        """
        metrics = {
            name: math.fsum(float(value[name]) for value in self._metrics) / len(self._metrics)
            for name in self._metrics[0]
        }
        metrics["learning_rate"] = float(self._metrics[-1]["learning_rate"])
        self._metrics = []
        self.pause()
        self.resume()
        if step == self._logged_step:
            return metrics, None, None
        step_seconds = (self._seconds - self._logged_seconds) / (step - self._logged_step)
        self._logged_step, self._logged_seconds = step, self._seconds
        return metrics, self._batch_size / step_seconds, step_seconds * (self._total_steps - step)

    @property
    def images_per_second_of_all(self):
        """Images/s over all logged steps but the first; None before the second."""
        steps = self._logged_step - self._first_timed_step
        return steps * self._batch_size / self._logged_seconds if steps > 0 else None
