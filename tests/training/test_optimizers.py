"""Momentum against TensorFlow's own optimizer; the loss scale by hand."""

import numpy as np
import pytest
import tensorflow as tf

from training.optimizers import LossScale, make_momentum

STEPS = 6


def gradients_of(step):
    random = np.random.default_rng(step)
    return [random.normal(size=[3, 2]).astype(np.float32), random.normal(size=[4]).astype(np.float32)]


def rate_of(step):
    return np.float32(0.3 / (step + 1))


def make_variables():
    start = np.random.default_rng(99)
    return {
        "net/weights": tf.Variable(start.normal(size=[3, 2]).astype(np.float32)),
        "net/biases": tf.Variable(start.normal(size=[4]).astype(np.float32)),
    }


def reference(momentum):
    """What tf.compat.v1.train.MomentumOptimizer makes of the same start and gradients in a v1 graph."""
    start = [variable.numpy() for variable in make_variables().values()]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(name, initializer=value)
            for name, value in zip(("weights", "biases"), start, strict=True)
        ]
        rate = tf.compat.v1.placeholder(tf.float32, [])
        fed = [tf.compat.v1.placeholder(tf.float32, value.shape) for value in start]
        optimizer = tf.compat.v1.train.MomentumOptimizer(rate, momentum)
        train = optimizer.apply_gradients(zip(fed, variables, strict=True))
        session.run(tf.compat.v1.global_variables_initializer())
        for step in range(STEPS):
            session.run(train, dict(zip(fed, gradients_of(step), strict=True)) | {rate: rate_of(step)})
        slots = [optimizer.get_slot(variable, "momentum") for variable in variables]
        assert [slot.op.name for slot in slots] == ["weights/Momentum", "biases/Momentum"]
        return session.run([variables, slots])


def apply(optimizer, gradients, rate, keep=None):
    @tf.function(autograph=False)
    def update(keep):
        optimizer.apply([tf.constant(gradient) for gradient in gradients], tf.constant(rate), keep)

    update(None if keep is None else tf.constant(keep))


@pytest.mark.parametrize("keep", [None, True])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_momentum_equals_tensorflows_optimizer(momentum, keep):
    variables = make_variables()
    optimizer = make_momentum(variables, momentum)
    for step in range(STEPS):
        apply(optimizer, gradients_of(step), rate_of(step), keep)
    expected_variables, expected_slots = reference(momentum)
    for variable, expected in zip(variables.values(), expected_variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected)
    for slot, expected in zip(optimizer.slots_by_name.values(), expected_slots, strict=True):
        np.testing.assert_array_equal(slot.numpy(), expected)


def test_momentum_by_hand():
    variable = tf.Variable([1.0])
    optimizer = make_momentum({"w": variable}, 0.5)
    # velocity 2, then 0.5 * 2 + 4 = 5; weight 1 - 0.1 * 2 = 0.8, then 0.8 - 0.1 * 5 = 0.3.
    apply(optimizer, [np.float32([2.0])], np.float32(0.1))
    apply(optimizer, [np.float32([4.0])], np.float32(0.1))
    assert optimizer.slots_by_name["w/Momentum"].numpy() == pytest.approx(5.0)
    assert variable.numpy() == pytest.approx(0.3)


def test_slots_carry_slims_names_and_are_not_trained():
    optimizer = make_momentum(make_variables())
    assert list(optimizer.slots_by_name) == ["net/weights/Momentum", "net/biases/Momentum"]
    assert not any(slot.trainable for slot in optimizer.slots_by_name.values())


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
def test_a_dropped_step_changes_nothing(spoilt):
    variables = make_variables()
    optimizer = make_momentum(variables)
    apply(optimizer, gradients_of(0), rate_of(0))
    everything = [*variables.values(), *optimizer.slots_by_name.values()]
    before = [value.numpy() for value in everything]
    apply(optimizer, [np.full_like(gradient, spoilt) for gradient in gradients_of(1)], np.float32(np.nan), keep=False)
    for value, old in zip(everything, before, strict=True):
        np.testing.assert_array_equal(value.numpy(), old)


def unscale(loss_scale, *values):
    gradients, keep = loss_scale.unscale([tf.constant(value, tf.float32) for value in values])
    return [float(gradient) for gradient in gradients], keep


def test_a_loss_scale_that_is_not_dynamic_does_nothing():
    loss_scale = LossScale(dynamic=False)
    gradients, keep = unscale(loss_scale, 3.0, np.inf)
    assert gradients == [3.0, np.inf]
    assert keep is None
    assert float(loss_scale.scale(tf.constant(2.0))) == 2.0
    assert loss_scale.variables_by_name["loss_scale"].numpy() == 1.0


def test_a_dynamic_scale_multiplies_the_loss_and_divides_the_gradients():
    loss_scale = LossScale(dynamic=True, start=8.0)
    assert float(loss_scale.scale(tf.constant(2.0))) == 16.0
    gradients, keep = unscale(loss_scale, 16.0, -4.0)
    assert gradients == [2.0, -0.5]
    assert bool(keep)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
def test_an_overflow_halves_the_scale_drops_the_step_and_counts_anew(spoilt):
    loss_scale = LossScale(dynamic=True, start=8.0, steps_to_double=3)
    held = loss_scale.variables_by_name
    unscale(loss_scale, 1.0)
    _, keep = unscale(loss_scale, 1.0, spoilt)
    assert not bool(keep)
    assert (held["loss_scale"].numpy(), held["loss_scale_finite_steps"].numpy()) == (4.0, 0)


def test_the_scale_doubles_after_as_many_finite_steps_in_a_row():
    loss_scale = LossScale(dynamic=True, start=8.0, steps_to_double=3)
    scales = []
    for value in (1.0, 1.0, np.inf, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        unscale(loss_scale, value)
        scales.append(float(loss_scale.variables_by_name["loss_scale"].numpy()))
    assert scales == [8.0, 8.0, 4.0, 4.0, 4.0, 8.0, 8.0, 8.0, 16.0]


def test_the_scale_never_falls_under_one():
    loss_scale = LossScale(dynamic=True, start=2.0)
    for _ in range(3):
        unscale(loss_scale, np.nan)
    assert loss_scale.variables_by_name["loss_scale"].numpy() == 1.0
