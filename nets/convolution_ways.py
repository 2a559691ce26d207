"""Convolutions that train faster on CPUs than TensorFlow's own; nets/convolution.py chooses among them.

At stride 1, 3x3 kernels of many channels are computed by tiles (nets/winograd.py). For other kernels only the gradient
of the weights changes: to matrix products of the inputs, shifted for each position of the kernel, with the gradient of
the outputs; or, for 1x1 kernels, to oneDNN's kernel over longer rows. That kernel is much slower on maps with few
positions, or rows as short as 14.

In a precision that the processor has no units for, gradients are computed in float32.
"""

import tensorflow as tf

from nets import winograd

# Products are computed over parts of the batch, one thread each, and summed, which is as exact.
_PARTS = 4


def convolve(inputs, weights, way):
    """A convolution of stride 1, padded SAME, computed in the given way.

    Args:
      inputs: [batch, height, width, channels]; all but the batch must be known.
      weights: [size, size, channels, outputs], size odd.
      way: "products" (of matrices, for the gradient of the weights), "long_rows" (for size 1), "tiles" or
        "tiles_in_gradients" (for size 3).

    Returns:
      [batch, height, width, outputs].

    Raises:
      KeyError: If there is no such way.
    """
    forward, gradient_of_inputs, gradient_of_weights = _WAYS[way]

    @tf.custom_gradient
    def convolution(inputs, weights):
        def gradients(upstream):
            waiting = _waiting(inputs, upstream)
            return gradient_of_inputs(upstream, weights), gradient_of_weights(waiting, upstream, weights.shape[0])

        return forward(inputs, weights), gradients

    return convolution(inputs, weights)


def convolve_with_wide_gradients(inputs, weights, stride, padding):
    """`tf.nn.conv2d` in a lower precision, with gradients that are computed in float32 and rounded once.

    On a processor without units for that precision, TensorFlow's kernels for these gradients take up to twelve times as
    long as in float32 and round several times (benchmarks/NOTES.md). Its kernels for the outputs are used: they are
    fast and sum in float32.

    Args:
      inputs: [batch, height, width, channels], bfloat16 or float16.
      weights: [height, width, channels, outputs], of the same dtype.
      stride: A number for both axes, or a list of two.
      padding: SAME or VALID.

    Returns:
      As `tf.nn.conv2d`, in the dtype of the inputs; so are the gradients.
    """
    strides = [stride] * 2 if isinstance(stride, int) else list(stride)
    settings = {"strides": [1, *strides, 1], "padding": padding}

    @tf.custom_gradient
    def convolution(inputs, weights):
        def gradients(upstream):
            wide = tf.cast(upstream, tf.float32)
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs), filter=tf.cast(weights, tf.float32), out_backprop=wide, **settings
            )
            of_weights = tf.raw_ops.Conv2DBackpropFilter(
                input=tf.cast(_waiting(inputs, upstream), tf.float32),
                filter_sizes=weights.shape,
                out_backprop=wide,
                **settings,
            )
            return tf.cast(of_inputs, inputs.dtype), tf.cast(of_weights, weights.dtype)

        return tf.nn.conv2d(inputs, weights, **settings), gradients

    return convolution(inputs, weights)


def _waiting(inputs, upstream):
    """The inputs, held back until the gradient of the outputs is available.

    Otherwise a function's executor copies the inputs for the gradient of the weights as soon as they are available, and
    keeps the copies, up to nine times the inputs' size, through the forward pass.
    """
    with tf.control_dependencies([upstream]):
        return tf.identity(inputs)


def _forward(inputs, weights):
    return tf.nn.conv2d(inputs, weights, strides=1, padding="SAME")


def _gradient_of_inputs(upstream, weights):
    sizes = tf.concat([tf.shape(upstream)[:3], [weights.shape[2]]], axis=0)
    return tf.nn.conv2d_transpose(upstream, weights, sizes, strides=1, padding="SAME")


def gradient_of_weights(inputs, upstream, size):
    """The gradient of a convolution's weights, stride 1 and padding SAME, as matrix products.

    Args:
      inputs: [batch, height, width, channels].
      upstream: The gradient of the outputs, [batch, height, width, outputs].
      size: Height and width of the kernel, odd.

    Returns:
      [size, size, channels, outputs], in the dtype of the inputs.
    """
    height, width, channels = inputs.shape[1:]
    outputs = upstream.shape[-1]
    border = size // 2
    padded = tf.pad(inputs, [[0, 0], [border, border], [border, border], [0, 0]]) if border else inputs
    # Lower precisions would round each part.
    parts = _PARTS if size > 1 and height * width % _PARTS == 0 and inputs.dtype == tf.float32 else 1

    def product(row, column):
        shifted = padded[:, row : row + height, column : column + width]
        if parts == 1:
            rows = [tf.reshape(shifted, [-1, channels]), tf.reshape(upstream, [-1, outputs])]
            return tf.matmul(*rows, transpose_a=True)
        rows = [tf.reshape(shifted, [parts, -1, channels]), tf.reshape(upstream, [parts, -1, outputs])]
        return tf.reduce_sum(tf.matmul(*rows, transpose_a=True), axis=0)

    products = [product(row, column) for row in range(size) for column in range(size)]
    return tf.reshape(tf.stack(products), [size, size, channels, outputs])


def _gradient_of_weights_over_long_rows(inputs, upstream, size):
    """TensorFlow's gradient for a 1x1 kernel, for which a row may hold any positions of any images."""
    height, width, channels = inputs.shape[1:]
    return tf.raw_ops.Conv2DBackpropFilter(
        input=tf.reshape(inputs, [1, height * width, -1, channels]),
        filter_sizes=[size, size, channels, upstream.shape[-1]],
        out_backprop=tf.reshape(upstream, [1, height * width, -1, upstream.shape[-1]]),
        strides=[1, 1, 1, 1],
        padding="SAME",
    )


def _gradient_of_weights_by_tiles(inputs, upstream, size):
    return winograd.gradient_of_weights(inputs, upstream)


# Functions for the outputs, the gradient of the inputs and the gradient of the weights.
_WAYS = {
    "products": (_forward, _gradient_of_inputs, gradient_of_weights),
    "long_rows": (_forward, _gradient_of_inputs, _gradient_of_weights_over_long_rows),
    "tiles": (winograd.convolve, winograd.gradient_of_inputs, _gradient_of_weights_by_tiles),
    "tiles_in_gradients": (_forward, winograd.gradient_of_inputs, _gradient_of_weights_by_tiles),
}
