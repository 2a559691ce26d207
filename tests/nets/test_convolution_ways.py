"""The convolution in its several ways, against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from nets import convolution_ways


def normal(*shape):
    return tf.constant(np.random.default_rng(shape).standard_normal(shape, np.float32))


def plain(inputs, weights):
    return tf.nn.conv2d(inputs, weights, strides=1, padding="SAME")


def gradients(function, inputs, weights, second=False):
    """Of a loss that is not linear in the outputs; or of the norm of these gradients."""

    def loss(inputs, weights):
        return tf.reduce_sum(tf.tanh(function(inputs, weights)))

    with tf.GradientTape() as outer:
        outer.watch([inputs, weights])
        with tf.GradientTape() as tape:
            tape.watch([inputs, weights])
            value = loss(inputs, weights)
        first = tape.gradient(value, [inputs, weights])
        norm = tf.add_n([tf.reduce_sum(gradient**2) for gradient in first])
    return outer.gradient(norm, [inputs, weights]) if second else first


# 5 x 3 positions cannot be parted into 4, 4 x 6 can.
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("height, width", [(5, 3), (4, 6), (1, 1)])
@pytest.mark.parametrize(
    "way, size",
    [("products", 1), ("products", 3), ("products", 5), ("long_rows", 1), ("tiles", 3), ("tiles_in_gradients", 3)],
)
def test_results_and_gradients_are_those_of_conv2d(height, width, way, size, second):
    def convolve(inputs, weights):
        return convolution_ways.convolve(inputs, weights, way)

    inputs, weights = normal(3, height, width, 2), normal(size, size, 2, 7)
    np.testing.assert_allclose(convolve(inputs, weights), plain(inputs, weights), rtol=1e-5, atol=1e-5)
    for ours, expected in zip(
        gradients(convolve, inputs, weights, second), gradients(plain, inputs, weights, second), strict=True
    ):
        # Tiles round more, and a second gradient goes through them twice.
        tolerance = 1e-3 if second and way == "tiles" else 1e-4
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


def test_a_gradient_by_hand():
    """One image of 1 x 2 positions: only the middle row of the kernel meets it."""
    inputs, upstream = tf.reshape([2.0, 3.0], [1, 1, 2, 1]), tf.reshape([10.0, 100.0], [1, 1, 2, 1])
    found = convolution_ways.gradient_of_weights(inputs, upstream, 3)[:, :, 0, 0]
    # Left: 2 lies left of the second output; middle: 2 * 10 + 3 * 100; right: 3 lies right of the first.
    np.testing.assert_array_equal(found, [[0, 0, 0], [200, 320, 30], [0, 0, 0]])


def test_a_batch_of_unknown_size():
    function = tf.function(
        lambda inputs, upstream: convolution_ways.gradient_of_weights(inputs, upstream, 3),
        input_signature=[tf.TensorSpec([None, 2, 2, 1]), tf.TensorSpec([None, 2, 2, 2])],
        autograph=False,
    )
    inputs, upstream, weights = normal(5, 2, 2, 1), normal(5, 2, 2, 2), normal(3, 3, 1, 2)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        loss = tf.reduce_sum(plain(inputs, weights) * upstream)
    np.testing.assert_allclose(function(inputs, upstream), tape.gradient(loss, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way, size", [("products", 1), ("products", 3), ("tiles_in_gradients", 3)])
def test_nothing_is_copied_before_the_gradient_comes(way, size):
    """A forward pass must not keep the copies that a gradient takes of its activations, nine times their memory."""
    with tf.Graph().as_default():
        inputs = tf.compat.v1.placeholder(tf.float32, [2, 4, 4, 3])
        weights = tf.compat.v1.placeholder(tf.float32, [size, size, 3, 5])
        upstream = tf.compat.v1.placeholder(tf.float32, [2, 4, 4, 5])
        outputs = convolution_ways.convolve(inputs, weights, way)
        of_forward = set(inputs.consumers())
        tf.compat.v1.gradients(outputs, [inputs, weights], upstream)
        added = [operation for operation in inputs.consumers() if operation not in of_forward]
    [copy] = [operation for operation in added if operation.type != "Shape"]
    assert copy.type == "Identity" and upstream.op in ancestors(copy)


def ancestors(operation):
    found, waiting = set(), [operation]
    while waiting:
        for before in (*waiting[-1].control_inputs, *(tensor.op for tensor in waiting.pop().inputs)):
            if before not in found:
                found.add(before)
                waiting.append(before)
    return found


@pytest.mark.parametrize(
    "stride, padding, size", [(1, "SAME", 3), (2, "SAME", 3), ([2, 1], "VALID", 3), (2, "VALID", 1)]
)
@pytest.mark.parametrize("dtype, bits", [("bfloat16", 8), ("float16", 11)])
def test_wide_gradients_are_rounded_once(dtype, bits, stride, padding, size):
    """Each is the exact gradient of the rounded numbers, to half of the last bit; TensorFlow's own are several off."""
    inputs, weights = (tf.cast(value, dtype) for value in (normal(8, 9, 9, 16), normal(size, size, 16, 5)))
    strides = [stride] * 2 if isinstance(stride, int) else stride

    def plain(inputs, weights):
        return tf.nn.conv2d(inputs, weights, strides, padding)

    def wide(inputs, weights):
        return convolution_ways.convolve_with_wide_gradients(inputs, weights, stride, padding)

    outputs = wide(inputs, weights)
    np.testing.assert_array_equal(tf.cast(outputs, tf.float64), tf.cast(plain(inputs, weights), tf.float64))
    upstream = tf.cast(normal(*outputs.shape), dtype)
    exact = of_upstream(plain, *(tf.cast(value, tf.float64) for value in (inputs, weights, upstream)))
    for ours, expected in zip(of_upstream(wide, inputs, weights, upstream), exact, strict=True):
        assert ours.dtype == dtype
        # What sums of float32 add to the rounding shows where the sum cancels.
        np.testing.assert_allclose(tf.cast(ours, tf.float64), expected, rtol=1.01 * 2.0**-bits, atol=1e-4)


def of_upstream(function, inputs, weights, upstream):
    with tf.GradientTape() as tape:
        tape.watch([inputs, weights])
        outputs = function(inputs, weights)
    return tape.gradient(outputs, [inputs, weights], upstream)
