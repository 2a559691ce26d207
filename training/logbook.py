"""What a run writes down: log lines, curves and checkpoints, never of values that are not finite."""

import contextlib
import math

import tensorflow as tf

from command_line import UserError

# Steps in a row without an update, at the smallest loss scale, that end a run.
_MOST_DROPPED = 10


class Logbook:
    """Writes the steps that a meter holds, and the values of variables."""

    def __init__(self, folder, model, values, schedule, meter, progress, curves):
        """Makes it from the parts of a run.

        Args:
          folder: The run's RunFolder.
          model: Its SlimModel.
          values: All variables of a checkpoint, by name.
          schedule: A function from the step to the learning rate.
          meter: A meter.Meter, which holds the steps since the last log line.
          progress: A Progress, which shows log lines.
          curves: The run's curves.Curves.
        """
        self._folder = folder
        self._model = model
        self._values = values
        self._schedule = schedule
        self._meter = meter
        self._progress = progress
        self._curves = curves
        self._dropped = 0

    def save(self, step):
        """Starts to save the values; returns the prefix of the checkpoint.

        A run can always resume from the newest checkpoint in its folder.

        Raises:
          UserError: If a loss or a value is not finite; nothing is saved then.
        """
        self._check_losses(step)
        self._meter.enter("checkpoint")
        values = self._model.variables_by_name.values()
        if not all(bool(tf.reduce_all(tf.math.is_finite(value))) for value in values):
            self._record(step)
            raise self._diverged("a weight or a moving average is not finite", step)
        return self._folder.save(step, self._values)

    def log(self, step):
        """Shows and records the steps since the last log line.

        Raises:
          UserError: If a loss is not finite, or no gradient is, whatever the loss scale of float16.
        """
        self._check_losses(step)  # Waits for the steps of a device that is still running.
        measured = self._record(step)
        self._progress.log(step, measured)
        all_dropped = measured.metrics.get("loss_scale") == measured.metrics.get("dropped") == 1.0
        self._dropped = self._dropped + measured.steps if all_dropped else 0
        if self._dropped >= _MOST_DROPPED:
            raise self._diverged(f"the gradients of {self._dropped} steps overflow, with the loss scale at 1,", step)

    def add_evaluation(self, step, split, result):
        """Records the result of `Evaluator.evaluate`."""
        self._curves.add_evaluation(step, split, result, self._meter.take_seconds())

    def _check_losses(self, step):
        losses = self._meter.losses_since_log()
        for step_of_loss, loss in enumerate(losses, start=step - len(losses) + 1):
            if not math.isfinite(loss):
                self._meter.forget_all_but(step_of_loss - 1 - (step - len(losses)))
                self._record(step_of_loss - 1)
                raise self._diverged(f"the loss is {loss}", step_of_loss)

    def _diverged(self, finding, step):
        rate = float(self._schedule(tf.constant(step - 1, tf.int64)))
        with contextlib.suppress(UserError):  # A failure to write the last one is not what ends the run.
            self._folder.wait()
        message = f"{finding} at step {step}, learning rate {rate:.6g}; lower --learning_rate or warm up longer "
        message += "(--warmup_epochs)"
        if not self._folder.is_ours:  # Only the chief's folder holds checkpoints.
            return UserError(message)
        newest = self._folder.newest()
        begin = f", with which a run in another --train_dir begins by --checkpoint_path={newest}" if newest else ""
        return UserError(f"{message}; last good checkpoint: {newest or 'none'}{begin}")

    def _record(self, step):
        """Adds the steps since the last log line, if any, to the curves; returns their meter.Measured."""
        if not self._meter.losses_since_log():
            return None
        self._meter.enter("summary")
        measured = self._meter.take(step)
        for name, value in measured.metrics.items():
            tf.summary.scalar(f"train/{name}", value, step)
        if measured.images_per_second:
            tf.summary.scalar("train/images_per_second", measured.images_per_second, step)
        self._curves.add_training(step, measured)
        return measured
