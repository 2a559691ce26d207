"""Learning rates against hand-worked values and against TensorFlow's own schedules."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from command_line import UserError
from training.config import TrainConfig
from training.schedules import KINDS, Schedule, make_schedule

# 90 epochs of 10 steps, as the paper's ImageNet run in small.
PAPER = Schedule(
    kind="step",
    learning_rate=0.1,
    end_learning_rate=0.0,
    total_steps=900,
    warmup_steps=0.0,
    decay_factor=0.1,
    steps_per_decay=20.0,
    decay_steps=(300.0, 600.0, 800.0),
)
# The embedded digits at batch 32: an epoch that is no whole number of steps.
EPOCH = 1437 / 32
DIGITS = dataclasses.replace(
    PAPER, steps_per_decay=2 * EPOCH, decay_steps=(30 * EPOCH, 60 * EPOCH, 80 * EPOCH), total_steps=4042
)


def rate(schedule, step):
    value = schedule(tf.constant(step, tf.int64))
    assert value.dtype == tf.float32 and value.shape == []
    return float(value)


@pytest.mark.parametrize("kind", ["constant", "fixed"])
@pytest.mark.parametrize("step", [0, 1, 450, 899, 5000])
def test_constant(kind, step):
    assert rate(dataclasses.replace(PAPER, kind=kind), step) == np.float32(0.1)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.1), (299, 0.1), (300, 0.01), (599, 0.01), (600, 0.001), (799, 0.001), (800, 0.0001), (2000, 0.0001)],
)
def test_step_drops_at_30_60_and_80_epochs(step, expected):
    assert rate(PAPER, step) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("step", "expected"), [(1347, 0.1), (1348, 0.01), (2694, 0.01), (2695, 0.001)])
def test_step_drops_at_the_first_step_past_an_epoch_that_ends_within_a_batch(step, expected):
    # 30 epochs are 1347.1875 steps, 60 are 2694.375.
    assert rate(DIGITS, step) == pytest.approx(expected, rel=1e-6)


def test_step_tells_large_neighbouring_steps_apart():
    # 2**24 + 1 is no float32.
    boundary = 2**24 + 1
    schedule = dataclasses.replace(PAPER, decay_steps=(float(boundary),))
    assert rate(schedule, boundary - 1) == pytest.approx(0.1)
    assert rate(schedule, boundary) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("step", "expected"),
    # Slim's decay_steps is int(1437 / 32 * 2) = 89.
    [(0, 0.1), (88, 0.1), (89, 0.094), (177, 0.094), (178, 0.08836), (890, 0.1 * 0.94**10)],
)
def test_exponential_is_slims_staircase(step, expected):
    schedule = dataclasses.replace(DIGITS, kind="exponential", decay_factor=0.94)
    assert rate(schedule, step) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("step", [0, 88, 89, 500, 4041])
def test_exponential_equals_tensorflows(step):
    schedule = dataclasses.replace(DIGITS, kind="exponential", decay_factor=0.94)
    theirs = tf.compat.v1.train.exponential_decay(0.1, tf.constant(step, tf.int64), 89, 0.94, staircase=True)()
    assert rate(schedule, step) == pytest.approx(float(theirs), rel=1e-6)


def test_exponential_with_less_than_a_step_between_drops_still_drops_once_a_step():
    schedule = dataclasses.replace(PAPER, kind="exponential", decay_factor=0.5, steps_per_decay=0.5)
    assert [rate(schedule, step) for step in range(3)] == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize("end", [0.0, 0.02])
@pytest.mark.parametrize("step", [0, 1, 225, 450, 899, 900, 1000])
def test_polynomial_equals_tensorflows(step, end):
    schedule = dataclasses.replace(PAPER, kind="polynomial", end_learning_rate=end)
    theirs = tf.keras.optimizers.schedules.PolynomialDecay(0.1, 900, end_learning_rate=end, power=1.0)
    assert rate(schedule, step) == pytest.approx(float(theirs(step)), rel=1e-5, abs=1e-9)


def test_polynomial_by_hand():
    schedule = dataclasses.replace(PAPER, kind="polynomial", end_learning_rate=0.02)
    assert [rate(schedule, step) for step in (0, 225, 450, 900)] == pytest.approx([0.1, 0.08, 0.06, 0.02])


@pytest.mark.parametrize("end", [0.0, 0.02])
@pytest.mark.parametrize("step", [0, 1, 225, 450, 899, 900, 1000])
def test_cosine_equals_tensorflows(step, end):
    schedule = dataclasses.replace(PAPER, kind="cosine", end_learning_rate=end)
    theirs = tf.keras.optimizers.schedules.CosineDecay(0.1, 900, alpha=end / 0.1)
    assert rate(schedule, step) == pytest.approx(float(theirs(step)), rel=1e-5, abs=1e-8)


def test_cosine_by_hand():
    schedule = dataclasses.replace(PAPER, kind="cosine")
    # The cosines of 0, 60, 90 and 180 degrees are 1, 1/2, 0 and -1.
    assert [rate(schedule, step) for step in (0, 300, 450, 900)] == pytest.approx([0.1, 0.075, 0.05, 0.0], abs=1e-8)


def test_warmup_rises_in_a_straight_line_from_its_first_part():
    schedule = dataclasses.replace(PAPER, kind="constant", warmup_steps=5.0)
    # Five steps of ramp: a fifth, two fifths, ..., the whole.
    assert [rate(schedule, step) for step in range(7)] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1])


def test_warmup_holds_the_lower_of_ramp_and_schedule():
    schedule = dataclasses.replace(PAPER, kind="polynomial", warmup_steps=600.0)
    # Ramp 0.1 * (step + 1) / 600 meets 0.1 * (1 - step / 900) near step 359.
    assert rate(schedule, 0) == pytest.approx(0.1 / 600)
    assert rate(schedule, 299) == pytest.approx(0.05)
    assert rate(schedule, 450) == pytest.approx(0.05)
    assert rate(schedule, 599) == pytest.approx(0.1 * (1 - 599 / 900), rel=1e-5)


def test_warmup_of_less_than_a_step_changes_nothing():
    schedule = dataclasses.replace(PAPER, kind="constant", warmup_steps=0.5)
    assert rate(schedule, 0) == np.float32(0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_is_the_same_inside_a_function(kind):
    schedule = dataclasses.replace(DIGITS, kind=kind, warmup_steps=EPOCH)
    inside = tf.function(schedule, autograph=False)
    for step in (0, 17, 1400, 4041):
        assert math.isclose(float(inside(tf.constant(step, tf.int64))), rate(schedule, step), rel_tol=1e-6)


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(UserError, match="'cosinus'.*constant, fixed, step, exponential, polynomial, cosine"):
        rate(dataclasses.replace(PAPER, kind="cosinus"), 0)


def resolved(**changes):
    """A config as make_schedule takes it: batches of 50, rate 0.4."""
    settings = {"batch_size": 50, "learning_rate": 0.4, "learning_rate_decay_type": "constant", "warmup_epochs": 0.0}
    settings |= {"learning_rate_decay_factor": 0.1, "num_epochs_per_decay": 2.0}
    return TrainConfig(**settings | changes)


@pytest.mark.parametrize(
    "changes", [{"warmup_epochs": 2.5}, {"warmup_steps": 10}, {"warmup_images": 500}], ids=lambda changes: [*changes][0]
)
def test_warmup_in_each_unit(changes):
    """Epochs of 4 steps: 2.5 of them, 10 steps and 500 images are as long."""
    schedule = make_schedule(resolved(**changes), 100, Fraction(4))
    assert [rate(schedule, step) for step in (0, 4, 9, 10)] == pytest.approx([0.04, 0.2, 0.4, 0.4])


@pytest.mark.parametrize(
    "changes", [{"num_epochs_per_decay": 2.5}, {"num_steps_per_decay": 10}, {"num_images_per_decay": 500}]
)
def test_staircase_in_each_unit(changes):
    schedule = make_schedule(resolved(learning_rate_decay_type="exponential", **changes), 100, Fraction(4))
    assert [rate(schedule, step) for step in (9, 10, 19, 20)] == pytest.approx([0.4, 0.04, 0.04, 0.004])


@pytest.mark.parametrize("unit", [{"epochs": (2.5, 5.0)}, {"steps": (10, 20)}, {"images": (500, 1000)}], ids=str)
def test_drops_in_each_unit(unit):
    changes = {f"learning_rate_decay_{name}": value for name, value in unit.items()}
    schedule = make_schedule(resolved(learning_rate_decay_type="step", **changes), 100, Fraction(4))
    assert [rate(schedule, step) for step in (9, 10, 19, 20)] == pytest.approx([0.4, 0.04, 0.04, 0.004])


def test_rates_grow_in_proportion_to_the_batch():
    """0.1 for 256 images is 0.4 for 1024, as in arXiv:1706.02677; the end of the schedule too."""
    config = resolved(learning_rate=0.1, end_learning_rate=0.02, batch_size=1024, base_batch_size=256)
    schedule = make_schedule(dataclasses.replace(config, learning_rate_decay_type="polynomial"), 100, Fraction(4))
    assert [rate(schedule, step) for step in (0, 50, 100)] == pytest.approx([0.4, 0.24, 0.08])


def test_a_drop_comes_with_the_first_step_after_its_epochs_whatever_the_batch():
    """15 epochs of 50,000 images are 15,625 steps of 48; in floats they are a little more."""
    assert 15 * (50_000 / 48) > 15_625
    changes = {"learning_rate_decay_type": "step", "learning_rate_decay_epochs": (15.0,)}
    schedule = make_schedule(resolved(**changes), 100_000, Fraction(50_000, 48))
    assert [rate(schedule, step) for step in (15_624, 15_625)] == pytest.approx([0.4, 0.04])
