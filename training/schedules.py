"""Learning rates as functions of the step.

A step counts batches from 0; an epoch is steps_per_epoch of them, which need not be whole.
"""

import dataclasses

import tensorflow as tf

from command_line import UserError


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A learning rate over a run.

    Attributes:
      kind: A key of KINDS.
      learning_rate: The rate after warm-up, above 0.
      end_learning_rate: Rate at the end of polynomial and cosine.
      total_steps: Steps of the run, at which polynomial and cosine end.
      steps_per_epoch: Records of the training split over the global batch.
      warmup_epochs: Epochs in which a ramp rises to the rate in a straight line; the lower of ramp and schedule holds.
      decay_factor: What a drop multiplies the rate by (step, exponential).
      epochs_per_decay: Epochs between two drops (exponential).
      decay_epochs: Epochs of the drops (step).
    """

    kind: str
    learning_rate: float
    end_learning_rate: float
    total_steps: int
    steps_per_epoch: float
    warmup_epochs: float
    decay_factor: float
    epochs_per_decay: float
    decay_epochs: tuple[float, ...]

    def __call__(self, step):
        """The rate of a step, a float32 scalar.

        Args:
          step: int64 scalar.

        Raises:
          UserError: If the kind is unknown.
        """
        if self.kind not in KINDS:
            raise UserError(f"learning_rate_decay_type is {self.kind!r}, expected one of: {', '.join(KINDS)}")
        rate = KINDS[self.kind](self, step)
        warmup_steps = self.warmup_epochs * self.steps_per_epoch
        if warmup_steps > 0:
            # The first step has rate 1 / warmup_steps of the whole, not 0: a step of rate 0 is a wasted batch.
            rate = tf.minimum(rate, self.learning_rate * tf.cast(step + 1, tf.float32) / warmup_steps)
        return tf.cast(rate, tf.float32)


def _constant(schedule, step):
    return tf.constant(schedule.learning_rate, tf.float32)


def _step(schedule, step):
    # Boundaries as float64: int64 steps times epochs would round at large steps in float32.
    boundaries = tf.constant([epoch * schedule.steps_per_epoch for epoch in schedule.decay_epochs], tf.float64)
    drops = tf.reduce_sum(tf.cast(tf.cast(step, tf.float64) >= boundaries, tf.float32))
    return schedule.learning_rate * schedule.decay_factor**drops


def _exponential(schedule, step):
    decay_steps = max(1, int(schedule.steps_per_epoch * schedule.epochs_per_decay))
    return schedule.learning_rate * schedule.decay_factor ** tf.cast(step // decay_steps, tf.float32)


def _polynomial(schedule, step):
    return schedule.end_learning_rate + (schedule.learning_rate - schedule.end_learning_rate) * (
        1.0 - _done(schedule, step)
    )


def _cosine(schedule, step):
    half_wave = 0.5 * (1.0 + tf.cos(3.14159265358979 * _done(schedule, step)))
    return schedule.end_learning_rate + (schedule.learning_rate - schedule.end_learning_rate) * half_wave


def _done(schedule, step):
    """The part of the run that lies behind, in [0, 1]."""
    done = tf.cast(step, tf.float64) / float(max(1, schedule.total_steps))
    return tf.cast(tf.clip_by_value(done, 0.0, 1.0), tf.float32)


KINDS = {
    "constant": _constant,
    "fixed": _constant,  # Slim's name for it.
    "step": _step,
    "exponential": _exponential,  # Staircase, as Slim's.
    "polynomial": _polynomial,  # Of power 1, as Slim's.
    "cosine": _cosine,
}
