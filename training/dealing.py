"""Hands out training steps to the workers of a run with parameter servers."""

import contextlib
import queue
import sys
import threading
import time

import tensorflow as tf

from command_line import UserError

_BETWEEN_FETCHES_SECS = 0.2
# Steps handed out per worker: one in progress, and one that waits for the first worker that is free.
_STEPS_A_WORKER = 2
# How long no step may finish before a warning, and how long one may still take after a stop.
_PATIENCE_SECS = 120.0


def make_dealer(step, source, workers, stop):
    """Makes the Dealer of a run.

    Args:
      step: A step.TrainStep made under the workers' strategy.
      source: The input.Input of the run.
      workers: Its workers.Workers.
      stop: A StopRequest.
    """
    coordinator = tf.distribute.coordinator.ClusterCoordinator(workers.strategy)
    batches = iter(coordinator.create_per_worker_dataset(source.batches_of_a_server_worker))
    next_step = tf.function(lambda batches: step.step(*next(batches)), autograph=False)
    most = _STEPS_A_WORKER * (len(workers.cluster.workers) - 1)
    return Dealer(coordinator, next_step, batches, step.global_step, most, stop)


class Dealer:
    """Hands out training steps to workers."""

    def __init__(self, coordinator, next_step, batches, global_step, most, stop):
        """Makes it from its parts.

        Args:
          coordinator: A tf.distribute.coordinator.ClusterCoordinator.
          next_step: A function from a worker's batches to the metrics of a step; runs on that worker.
          batches: An iterator of the coordinator, one for each worker.
          global_step: The variable that counts steps.
          most: Steps that are handed out at a time.
          stop: True once no more are to be handed out.
        """
        self._coordinator = coordinator
        self._next_step = next_step
        self._batches = batches
        self._global_step = global_step
        self._most = most
        self._stop = stop

    def run(self, first_step, last_step, is_late):
        """Hands out steps: none after a stop, and only one if it is late from the start.

        Args:
          first_step: Steps done before.
          last_step: Steps that may be done in total.
          is_late: A function that tells whether the chief is due to save by the clock.

        Yields:
          The metrics of each step, as from `TrainStep.step`, when it is done. At the end, all started steps are done.

        Raises:
          UserError: If no step finishes for a long time after a stop.
        """
        dealt, at_work, is_over, results = first_step, 0, False, queue.SimpleQueue()
        while True:
            while dealt < last_step and at_work < self._most and not is_over:
                # At least one step: a run that is late may be late again at once.
                is_over = bool(self._stop) or (dealt > first_step and is_late())
                if not is_over:
                    value = self._coordinator.schedule(self._next_step, args=(self._batches,))
                    # Waiting for it here would mean waiting for the slowest worker.
                    threading.Thread(target=_fetch, args=(value, results), daemon=True).start()
                    dealt, at_work = dealt + 1, at_work + 1
            if not at_work:
                # A worker that died may have updated the weights although its step was repeated.
                self._global_step.assign(dealt)
                return
            result = self._next_result(results)
            at_work -= 1
            if isinstance(result, tf.errors.CancelledError):
                self._coordinator.join()  # Another step failed; this raises its error.
            if isinstance(result, BaseException):
                raise result
            yield result

    def _next_result(self, results):
        since, is_told = time.monotonic(), False
        while True:
            # In short waits, so that a second Ctrl-C can end them.
            with contextlib.suppress(queue.Empty):
                return results.get(timeout=1.0)
            if time.monotonic() - since > _PATIENCE_SECS:
                if self._stop:
                    raise UserError(
                        f"no worker has ended a step in {_PATIENCE_SECS:g} s, so the last ones are not saved; the same "
                        "command goes on from the last checkpoint"
                    )
                if not is_told:
                    text = f"warning: no worker has ended a step in {_PATIENCE_SECS:g} s; Ctrl-C stops the run"
                    print(text, file=sys.stderr, flush=True)
                is_told = True


def _fetch(value, results):
    """Puts the result of a step, or the error that it ended with, into the results."""
    give_up = time.monotonic() + _PATIENCE_SECS
    while True:
        try:
            results.put(value.fetch())
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            # Its worker died after doing it, and another repeats it.
            if "/job:ps" not in error.message and time.monotonic() < give_up:
                time.sleep(_BETWEEN_FETCHES_SECS)
                continue
            results.put(error)
        except Exception as error:
            results.put(error)
        return
