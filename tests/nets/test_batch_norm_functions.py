"""batch_norm eagerly, in tf.function and in GradientTape, in every precision and layout."""

import numpy as np
import pytest
import tensorflow as tf
from batch_norm_expected import CHANNELS, DECAY, EPSILON, NAMES, SHAPES, check, expected, inputs_of, layer, parameters
from nets_testing import VariableKeeper, noise, run_in_graph, value_for

from nets.batch_norm import batch_norm


@pytest.fixture
def keeper():
    """Variables as `value_for` sets them."""
    keeper = VariableKeeper()
    with keeper.scope():
        layer(tf.zeros([1, CHANNELS]), False)
    assert sorted(keeper.variables) == NAMES
    for name, variable in keeper.variables.items():
        variable.assign(value_for(name, variable.shape.as_list()))
    return keeper


def numpy_of(keeper):
    return {name: variable.numpy() for name, variable in keeper.variables.items()}


# Eagerly, in a tf.function and in a GradientTape.


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "function"])
def test_eager_and_function_update_in_place(keeper, rank, training, wrap):
    x = inputs_of(rank)

    @wrap
    def run(images):
        with keeper.scope():
            return layer(images, training)

    check(run(tf.constant(x)), numpy_of(keeper), x, training)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "function"])
def test_is_training_as_a_tensor(keeper, wrap):
    x = inputs_of(4)

    @wrap
    def run(images, mode):
        with keeper.scope():
            return layer(images, mode)

    check(run(tf.constant(x), tf.constant(False)), numpy_of(keeper), x, training=False)
    check(run(tf.constant(x), tf.constant(True)), numpy_of(keeper), x, training=True)


def test_function_updates_on_every_call(keeper):
    x = inputs_of(4)

    @tf.function
    def run(images):
        with keeper.scope():
            layer(images, True)  # the output is not used: the update must not be pruned with it

    gap = keeper.variables["bn/moving_mean"].numpy() - x.mean((0, 1, 2))
    for calls in (1, 2, 3):
        run(tf.constant(x))
        np.testing.assert_allclose(
            keeper.variables["bn/moving_mean"].numpy() - x.mean((0, 1, 2)), gap * DECAY**calls, rtol=1e-4, atol=1e-6
        )


def test_function_of_unknown_batch_size(keeper):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, CHANNELS])])
    def run(images):
        with keeper.scope():
            outputs = layer(images, True)
        assert outputs.shape.as_list() == [None, None, None, CHANNELS]
        return outputs

    x = inputs_of(4)
    check(run(tf.constant(x)), numpy_of(keeper), x, training=True)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "function"])
def test_gradients_equal_those_of_the_definition_in_float64(keeper, training, wrap):
    x, weights = inputs_of(4), noise(*SHAPES["NHWC", 4], seed=1)

    @wrap
    def gradients(images):
        with tf.GradientTape() as tape, keeper.scope():
            tape.watch(images)
            loss = tf.reduce_sum(layer(images, training) * weights)
        return tape.gradient(loss, [images, keeper.variables["bn/gamma"], keeper.variables["bn/beta"]])

    gamma, beta, moving_mean, moving_variance = map(tf.constant, parameters())
    wide = tf.constant(x, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([wide, gamma, beta])
        mean = tf.reduce_mean(wide, [0, 1, 2]) if training else moving_mean
        variance = tf.reduce_mean((wide - mean) ** 2, [0, 1, 2]) if training else moving_variance
        loss = tf.reduce_sum((gamma * (wide - mean) / tf.sqrt(variance + EPSILON) + beta) * weights.astype(np.float64))
    for actual, exact in zip(gradients(tf.constant(x)), tape.gradient(loss, [wide, gamma, beta]), strict=True):
        np.testing.assert_allclose(actual, exact, rtol=1e-4, atol=1e-4)


def test_gradients_with_is_training_as_a_tensor(keeper):
    x = tf.constant(inputs_of(4))
    weights = noise(*SHAPES["NHWC", 4], seed=1)

    @tf.function
    def gradient(mode):
        with tf.GradientTape() as tape, keeper.scope():
            loss = tf.reduce_sum(layer(x, mode) * weights)
        return tape.gradient(loss, keeper.variables["bn/gamma"])

    def normalized(mean, variance):
        return (x - mean) / np.sqrt(variance + EPSILON)

    _, _, moving_mean, moving_variance = parameters(np.float32)
    by_averages = (weights * normalized(moving_mean, moving_variance)).numpy().sum((0, 1, 2))
    by_batch = (weights * normalized(x.numpy().mean((0, 1, 2)), x.numpy().var((0, 1, 2)))).numpy().sum((0, 1, 2))
    np.testing.assert_allclose(gradient(tf.constant(False)), by_averages, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(gradient(tf.constant(True)), by_batch, rtol=1e-3, atol=1e-3)
    assert np.abs(by_averages - by_batch).max() > 0.1


def test_frozen_statistics_stay_while_gamma_and_beta_learn(keeper):
    before = numpy_of(keeper)
    with tf.GradientTape() as tape, keeper.scope():
        loss = tf.reduce_sum(layer(tf.constant(inputs_of(4)), False) ** 2)
    learned = [keeper.variables["bn/gamma"], keeper.variables["bn/beta"]]
    for variable, gradient in zip(learned, tape.gradient(loss, learned), strict=True):
        variable.assign_sub(0.01 * gradient)
    after = numpy_of(keeper)
    for name in NAMES:
        assert (before[name] == after[name]).all() == name.startswith("bn/moving"), name


# Precision, layout and shapes.


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 2e-2), ("float16", 3e-3)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rank", [2, 4])
def test_half_precision_activations_have_float32_statistics(keeper, dtype, tolerance, training, rank):
    x = tf.cast(inputs_of(rank), dtype)

    @tf.function
    def run():
        with keeper.scope():
            return layer(x, training)

    outputs = run()
    assert outputs.dtype == dtype
    assert {variable.dtype for variable in keeper.variables.values()} == {tf.float32}
    # The statistics are those of the rounded activations, to float32's precision: `check` holds them to 1e-5.
    check(tf.cast(outputs, tf.float32), numpy_of(keeper), tf.cast(x, tf.float32), training, tolerance)


def test_half_precision_statistics_survive_many_summands(keeper):
    # 2**14 values near 100 with deviation 1: summed in float16 the mean would be lost altogether.
    x = tf.cast(100 + noise(4, 64, 64, CHANNELS), tf.float16)
    with keeper.scope():
        outputs = layer(x, True)
    check(tf.cast(outputs, tf.float32), numpy_of(keeper), tf.cast(x, tf.float32), training=True, tolerance=3e-3)


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("training", [False, True])
def test_nchw_builds_with_the_channels_second(rank, training):
    with tf.Graph().as_default():
        shape = [4, CHANNELS, 5, 6][:rank]
        outputs = layer(tf.zeros(shape), training, data_format="NCHW")
        assert outputs.shape == shape
        assert {variable.shape[0] for variable in tf.compat.v1.global_variables()} == {CHANNELS}


@pytest.mark.parametrize("training", [False, True])
def test_nchw_of_rank_two_is_nhwc(training):
    x = inputs_of(2)
    check(*run_in_graph(lambda: layer(tf.constant(x), training, data_format="NCHW"), update=True), x, training)


def test_a_single_value_a_channel_leaves_finite_statistics(keeper):
    # Batch 1 with a 1x1 map: n / (n - 1) has no value, and must not poison the average.
    with keeper.scope():
        outputs = layer(tf.ones([1, 1, 1, CHANNELS]), True)
    np.testing.assert_allclose(outputs[0, 0, 0], keeper.variables["bn/beta"], atol=1e-5)
    assert np.isfinite(keeper.variables["bn/moving_variance"].numpy()).all()


def test_a_constant_channel_gives_beta(keeper):
    with keeper.scope():
        outputs = layer(tf.fill([4, 5, 6, CHANNELS], 7.0), True)
    np.testing.assert_allclose(outputs, np.broadcast_to(keeper.variables["bn/beta"], outputs.shape), atol=1e-4)


def test_activation_follows_the_normalization(keeper):
    x = inputs_of(4)
    with keeper.scope():
        outputs = layer(tf.constant(x), False, activation_fn=tf.nn.relu)
    np.testing.assert_allclose(outputs, np.maximum(expected(x, False)[0], 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "shape, kwargs, words",
    [
        ([2, 3, 4], {}, "rank"),
        ([2, 3, 4, 5, 6], {}, "rank"),
        ([2, None], {}, "channels"),
        ([2, 3, 4, 5], {"data_format": "NWHC"}, "NHWC"),
    ],
)
def test_errors(shape, kwargs, words):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=words):
        batch_norm(tf.compat.v1.placeholder(tf.float32, shape), **kwargs)
