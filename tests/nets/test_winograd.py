"""Convolutions by tiles, against sums written out, and against what the method promises."""

import numpy as np
import pytest
import tensorflow as tf

from nets import winograd


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape)


def shifted(inputs):
    """The pixels that each place of a 3x3 kernel, row by row, meets: nine arrays like `inputs`, padded SAME."""
    height, width = inputs.shape[1:3]
    padded = np.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]


def exact(inputs, weights):
    """A convolution of stride 1, padded SAME, as a sum in float64."""
    return sum(
        part @ place for part, place in zip(shifted(inputs), weights.reshape(9, *weights.shape[2:]), strict=True)
    )


def exact_of_weights(inputs, upstream):
    """Its gradient for the weights, likewise."""
    products = [np.tensordot(part, upstream, axes=([0, 1, 2], [0, 1, 2])) for part in shifted(inputs)]
    return np.reshape(products, [3, 3, *products[0].shape])


def single(array):
    return tf.constant(array, tf.float32)


def test_a_pixel_gives_the_kernel_turned_round():
    """What is no neighbour of the pixel gets nothing, but for the rounding of the transforms."""
    inputs, weights = np.zeros([1, 6, 6, 1]), np.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    inputs[0, 2, 3] = 2.0
    expected = np.zeros([6, 6])
    expected[1:4, 2:5] = 2.0 * weights[::-1, ::-1, 0, 0]
    np.testing.assert_allclose(winograd.convolve(single(inputs), single(weights))[0, :, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("height, width", [(8, 8), (7, 9), (14, 14), (1, 3)])
def test_results_are_those_of_sums(height, width):
    inputs, weights, upstream = normal(2, height, width, 5), normal(3, 3, 5, 3), normal(2, height, width, 3)
    turned = weights[::-1, ::-1].swapaxes(2, 3)
    for found, expected in [
        (winograd.convolve(single(inputs), single(weights)), exact(inputs, weights)),
        (winograd.gradient_of_inputs(single(upstream), single(weights)), exact(upstream, turned)),
        (winograd.gradient_of_weights(single(inputs), single(upstream)), exact_of_weights(inputs, upstream)),
    ]:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=3e-5)


def test_the_rounding_error_is_what_the_points_are_chosen_for():
    """With the paper's points 0, +-1 and +-2 the error is 2.7e-6 and misses this bound."""
    inputs, weights = np.maximum(normal(4, 16, 16, 256), 0.0), normal(3, 3, 256, 64)
    expected = exact(inputs, weights)
    error = winograd.convolve(single(inputs), single(weights)) - expected
    assert np.sqrt(np.mean(np.square(error))) < 1.6e-6 * expected.std()


def test_multiplications_are_a_quarter():
    """arXiv:1509.09308, section 4.3: 36 products for 16 outputs of 9 each."""
    channels, outputs = 64, 32
    with tf.Graph().as_default() as graph:
        winograd.convolve(tf.zeros([1, 8, 8, channels]), tf.zeros([3, 3, channels, outputs]))
        [products] = [operation for operation in graph.get_operations() if operation.type == "BatchMatMulV2"]
        with tf.compat.v1.Session() as session:
            tiles, kernels = session.run(list(products.inputs))
    places, rows, _ = tiles.shape
    assert kernels.shape == (places, channels, outputs)
    assert 4 * places * rows * channels * outputs == 8 * 8 * 9 * channels * outputs


def test_kernels_are_transformed_when_their_layer_comes():
    """Or all kernels of a network would be held at four times their size from the start of a step on."""
    with tf.Graph().as_default():
        inputs = tf.compat.v1.placeholder(tf.float32, [2, 4, 4, 3])
        weights = tf.compat.v1.placeholder(tf.float32, [3, 3, 3, 5])
        winograd.convolve(inputs, weights)
        [consumer] = weights.consumers()
    assert consumer.type == "Identity" and consumer.control_inputs == [inputs.op]


def test_a_batch_of_unknown_size():
    function = tf.function(
        winograd.gradient_of_weights,
        input_signature=[tf.TensorSpec([None, 6, 5, 2]), tf.TensorSpec([None, 6, 5, 3])],
        autograph=False,
    )
    for batch in (1, 3):
        inputs, upstream = normal(batch, 6, 5, 2), normal(batch, 6, 5, 3)
        found = function(single(inputs), single(upstream))
        np.testing.assert_allclose(found, exact_of_weights(inputs, upstream), rtol=1e-5, atol=3e-5)
