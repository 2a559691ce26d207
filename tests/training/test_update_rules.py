"""Each optimizer against the one of TensorFlow 1 that Slim ran, against Keras', and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from training import update_rules
from training.config import TrainConfig
from training.optimizers import Optimizer, make_optimizer

STEPS = 5
V1 = tf.compat.v1.train
KERAS = tf.keras.optimizers


def flags(**changes):
    return TrainConfig(**{"opt_epsilon": 1e-3, "weight_decay": 0.01, "weight_decay_kind": "l2"} | changes)


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


def apply(optimizer, gradients, rate, keep=None):
    @tf.function(autograph=False)
    def update(keep):
        optimizer.apply([tf.constant(gradient) for gradient in gradients], tf.constant(rate), keep)

    update(None if keep is None else tf.constant(keep))


# Flags, and the optimizer that Slim's trainer made of the same ones; all but the rate differ from the defaults.
SLIMS = {
    "sgd": ({}, lambda rate: V1.GradientDescentOptimizer(rate)),
    "momentum": ({"momentum": 0.7}, lambda rate: V1.MomentumOptimizer(rate, 0.7, name="Momentum")),
    "nesterov": (
        {"optimizer": "momentum", "nesterov": True},
        lambda rate: V1.MomentumOptimizer(rate, 0.9, use_nesterov=True, name="Momentum"),
    ),
    "rmsprop": (
        {"rmsprop_decay": 0.8, "rmsprop_momentum": 0.6},
        lambda rate: V1.RMSPropOptimizer(rate, decay=0.8, momentum=0.6, epsilon=1e-3),
    ),
    "adam": (
        {"adam_beta1": 0.8, "adam_beta2": 0.9},
        lambda rate: V1.AdamOptimizer(rate, beta1=0.8, beta2=0.9, epsilon=1e-3),
    ),
    "adagrad": (
        {"adagrad_initial_accumulator_value": 0.3},
        lambda rate: V1.AdagradOptimizer(rate, initial_accumulator_value=0.3),
    ),
    "adadelta": ({"adadelta_rho": 0.8}, lambda rate: V1.AdadeltaOptimizer(rate, rho=0.8, epsilon=1e-3)),
    "ftrl": (
        {
            "ftrl_learning_rate_power": -0.4,
            "ftrl_initial_accumulator_value": 0.2,
            "ftrl_l1": 0.05,
            "ftrl_l2": 0.03,
        },
        lambda rate: V1.FtrlOptimizer(
            rate,
            learning_rate_power=-0.4,
            initial_accumulator_value=0.2,
            l1_regularization_strength=0.05,
            l2_regularization_strength=0.03,
        ),
    ),
}


def of_tensorflow_1(make):
    """{name: value} of variables and slots after the steps, under the names that a Saver would give them."""
    start = {name: variable.numpy() for name, variable in make_variables().items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, initializer=value) for name, value in start.items()]
        rate = tf.compat.v1.placeholder(tf.float32, [])
        fed = [tf.compat.v1.placeholder(tf.float32, value.shape) for value in start.values()]
        train = make(rate).apply_gradients(zip(fed, variables, strict=True))
        session.run(tf.compat.v1.global_variables_initializer())
        for step in range(STEPS):
            session.run(train, dict(zip(fed, gradients_of(step), strict=True)) | {rate: rate_of(step)})
        return {variable.op.name: session.run(variable) for variable in tf.compat.v1.global_variables()}


@pytest.mark.parametrize("keep", [None, True])
@pytest.mark.parametrize("name", SLIMS)
def test_variables_and_slots_are_those_of_tensorflow_1_with_its_names(name, keep):
    changes, make = SLIMS[name]
    variables = make_variables()
    optimizer = make_optimizer(flags(**{"optimizer": name} | changes), variables)
    for step in range(STEPS):
        apply(optimizer, gradients_of(step), rate_of(step), keep)
    expected = of_tensorflow_1(make)
    ours = variables | optimizer.slots_by_name
    assert ours.keys() == expected.keys()
    for key, value in ours.items():
        np.testing.assert_allclose(value.numpy(), expected[key], rtol=1e-6, atol=1e-7, err_msg=key)


@pytest.mark.parametrize(
    ("changes", "theirs"),
    [
        ({"optimizer": "momentum", "nesterov": True}, lambda: KERAS.SGD(0.1, momentum=0.9, nesterov=True)),
        # Keras adds epsilon before it corrects the bias of the mean square; 0 leaves no difference.
        (
            {"optimizer": "adamw", "opt_epsilon": 1e-12, "weight_decay": 0.2, "weight_decay_kind": "decoupled"},
            lambda: KERAS.AdamW(0.1, weight_decay=0.2, epsilon=1e-12),
        ),
        (
            {"optimizer": "sgd", "weight_decay": 0.2, "weight_decay_kind": "decoupled"},
            lambda: KERAS.SGD(0.1, weight_decay=0.2),
        ),
    ],
    ids=["nesterov", "adamw", "sgd decoupled"],
)
def test_equals_keras(changes, theirs):
    variables, expected = make_variables(), list(make_variables().values())
    optimizer = make_optimizer(flags(**changes, decay_norm_and_bias=True), variables)
    reference = theirs()
    for step in range(STEPS):
        apply(optimizer, gradients_of(step), np.float32(0.1))
        reference.apply_gradients(zip(map(tf.constant, gradients_of(step)), expected, strict=True))
    for variable, value in zip(variables.values(), expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay_norm_and_bias", [False, True])
def test_decoupled_decay_takes_rate_times_decay_off_the_weights(decay_norm_and_bias):
    variables = make_variables()
    start = [variable.numpy() for variable in variables.values()]
    config = flags(
        optimizer="sgd", weight_decay=0.5, weight_decay_kind="decoupled", decay_norm_and_bias=decay_norm_and_bias
    )
    apply(make_optimizer(config, variables), [np.zeros([3, 2], np.float32), np.zeros(4, np.float32)], np.float32(0.1))
    weights, biases = variables.values()
    np.testing.assert_allclose(weights.numpy(), start[0] * 0.95, rtol=1e-6)
    np.testing.assert_allclose(biases.numpy(), start[1] * (0.95 if decay_norm_and_bias else 1.0), rtol=1e-6)


def test_lars_by_hand():
    """|w| = 5 and |g| = 10: trust 0.1 * 5 / (10 + 0.2 * 5) = 1 / 22; a bias moves by the plain rate."""
    weights, biases = tf.Variable([[3.0, 4.0]]), tf.Variable([1.0, 2.0])
    config = flags(optimizer="lars", lars_eta=0.1, weight_decay=0.2, weight_decay_kind="decoupled", momentum=0.5)
    optimizer = make_optimizer(config, {"net/weights": weights, "net/biases": biases})
    apply(optimizer, [np.float32([[6.0, 8.0]]), np.float32([1.0, -1.0])], np.float32(0.5))
    velocity = 0.5 / 22 * (np.array([6.0, 8.0]) + 0.2 * np.array([3.0, 4.0]))
    np.testing.assert_allclose(weights.numpy(), [np.array([3.0, 4.0]) - velocity], rtol=1e-6)
    np.testing.assert_allclose(optimizer.slots_by_name["net/weights/Momentum"].numpy(), [velocity], rtol=1e-6)
    np.testing.assert_allclose(biases.numpy(), [0.5, 2.5], rtol=1e-6)
    # Without a gradient or decay the velocity alone moves it, and halves.
    biases_before = biases.numpy()
    apply(optimizer, [np.zeros([1, 2], np.float32), np.zeros(2, np.float32)], np.float32(0.5))
    np.testing.assert_allclose(biases.numpy(), biases_before + [-0.25, 0.25], rtol=1e-6)


def test_lars_moves_weights_that_are_zero():
    weights = tf.Variable([[0.0, 0.0]])
    config = flags(optimizer="lars", weight_decay_kind="decoupled")
    apply(make_optimizer(config, {"net/weights": weights}), [np.float32([[1.0, 2.0]])], np.float32(0.5))
    np.testing.assert_allclose(weights.numpy(), [[-0.5, -1.0]])


@pytest.mark.parametrize("name", update_rules.RULES)
def test_a_dropped_step_changes_nothing(name):
    variables = make_variables()
    config = flags(optimizer=name, weight_decay_kind="decoupled")
    optimizer = make_optimizer(config, variables)
    apply(optimizer, gradients_of(0), rate_of(0), keep=True)
    everything = [*variables.values(), *optimizer.slots_by_name.values()]
    before = [value.numpy() for value in everything]
    spoilt = [np.full_like(gradient, np.nan) for gradient in gradients_of(1)]
    apply(optimizer, spoilt, rate_of(1), keep=False)
    for value, old in zip(everything, before, strict=True):
        np.testing.assert_array_equal(value.numpy(), old)
    apply(optimizer, gradients_of(1), rate_of(1), keep=True)
    assert all((value.numpy() != old).any() for value, old in zip(everything, before, strict=True))


def test_no_slots_without_need():
    assert Optimizer(make_variables(), update_rules.RULES["sgd"](flags())).slots_by_name == {}
