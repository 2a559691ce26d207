"""Learning rates as functions of the step.

Steps are numbered from 0. A length in steps that was given in epochs need not be an integer.
"""

import dataclasses
from fractions import Fraction

import tensorflow as tf

from command_line import UserError


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A learning rate over a run.

    Attributes:
      kind: A key of KINDS.
      learning_rate: The rate after warm-up, above 0.
      end_learning_rate: Final rate of polynomial and cosine.
      total_steps: Steps of the run, at which polynomial and cosine end.
      warmup_steps: Steps in which a linear ramp rises to the rate; the lower of ramp and schedule applies.
      decay_factor: Factor that each drop multiplies the rate by (step, exponential).
      steps_per_decay: Steps between drops (exponential).
      decay_steps: Steps at which the rate drops (step).
    """

    kind: str
    learning_rate: float
    end_learning_rate: float
    total_steps: int
    warmup_steps: float
    decay_factor: float
    steps_per_decay: float
    decay_steps: tuple[float, ...]

    def __call__(self, step):
        """The rate at a step, a float32 scalar.

        Args:
          step: int64 scalar.

        Raises:
          UserError: If the kind is unknown.
        """
        if self.kind not in KINDS:
            raise UserError(f"learning_rate_decay_type is {self.kind!r}, expected one of: {', '.join(KINDS)}")
        rate = KINDS[self.kind](self, step)
        if self.warmup_steps > 0:
            # The first step has 1 / warmup_steps of the full rate, not 0: a step with rate 0 wastes a batch.
            rate = tf.minimum(rate, self.learning_rate * tf.cast(step + 1, tf.float32) / self.warmup_steps)
        return tf.cast(rate, tf.float32)


def _constant(schedule, step):
    return tf.constant(schedule.learning_rate, tf.float32)


def _step(schedule, step):
    # Boundaries are float64, because large steps would be rounded in float32.
    boundaries = tf.constant(schedule.decay_steps, tf.float64)
    drops = tf.reduce_sum(tf.cast(tf.cast(step, tf.float64) >= boundaries, tf.float32))
    return schedule.learning_rate * schedule.decay_factor**drops


def _exponential(schedule, step):
    interval = max(1, int(schedule.steps_per_decay))
    return schedule.learning_rate * schedule.decay_factor ** tf.cast(step // interval, tf.float32)


def _polynomial(schedule, step):
    return schedule.end_learning_rate + (schedule.learning_rate - schedule.end_learning_rate) * (
        1.0 - _done(schedule, step)
    )


def _cosine(schedule, step):
    half_wave = 0.5 * (1.0 + tf.cos(3.14159265358979 * _done(schedule, step)))
    return schedule.end_learning_rate + (schedule.learning_rate - schedule.end_learning_rate) * half_wave


def _done(schedule, step):
    """The part of the run that is done, in [0, 1]."""
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


def make_schedule(config, total_steps, steps_per_epoch):
    """Makes the schedule that the flags describe.

    Args:
      config: A resolved TrainConfig; each length is given in epochs, in steps or in images.
      total_steps: Steps of the run.
      steps_per_epoch: Records of the training split over the global batch, a Fraction: in floats 15 epochs of 50,000
        records in batches of 48 end after their last step.
    """

    def steps(epochs, steps, images):
        """A length in steps, from whichever of the three units it is given in."""
        if steps is not None:
            return steps
        if images is not None:
            return float(Fraction(str(images)) / config.batch_size)
        return float(Fraction(str(epochs)) * steps_per_epoch)

    scale = config.batch_size / config.base_batch_size if config.base_batch_size else 1.0
    # The paper's ImageNet schedule (30, 60 and 80 of 90 epochs), scaled to a run of any length.
    drops = (total_steps / 3, total_steps * 2 / 3, total_steps * 8 / 9)
    for given, unit in (
        (config.learning_rate_decay_steps, 1),
        (config.learning_rate_decay_images, Fraction(1, config.batch_size)),
        (config.learning_rate_decay_epochs, steps_per_epoch),
    ):
        if given:
            drops = tuple(float(Fraction(str(position)) * unit) for position in given)
    return Schedule(
        kind=config.learning_rate_decay_type,
        learning_rate=config.learning_rate * scale,
        end_learning_rate=config.end_learning_rate * scale,
        total_steps=total_steps,
        warmup_steps=steps(config.warmup_epochs, config.warmup_steps, config.warmup_images),
        decay_factor=config.learning_rate_decay_factor,
        steps_per_decay=steps(config.num_epochs_per_decay, config.num_steps_per_decay, config.num_images_per_decay),
        decay_steps=drops,
    )
