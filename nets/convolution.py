"""`slim.conv2d` without its layer objects, with a faster gradient of its weights on CPUs.

`conv2d` has the arguments, arg scopes, variables and results of `slim.conv2d`. In a graph it makes its variables and
operations itself: the objects that Slim makes for each layer cost a tenth of the time from a process's start to its
first prediction.

In a function that trains on a CPU, some convolutions of stride 1 are computed in ways that are faster than oneDNN's
kernels, which TensorFlow calls; `_way` says which. 3x3 kernels of many channels go by tiles (nets/winograd.py). Of
others only the gradient of the weights is made of matrix products: of the inputs, shifted for each position of the
kernel, with the gradient of the outputs. oneDNN's kernel for it is far from the speed of such a product where a map has
few positions, or rows as short as 14. Evaluation, prediction and export have TensorFlow's plain convolution.
"""

import tensorflow as tf
import tf_slim as slim

from nets import winograd
from nets.batch_norm import batch_norm
from nets.processor import cpu_flags

# Products over parts of the batch, then summed: one thread each, and as exact.
_PARTS = 4
_ZEROS = tf.compat.v1.zeros_initializer()
_OWN_ARGUMENTS = {
    "stride",
    "rate",
    "padding",
    "data_format",
    "activation_fn",
    "normalizer_fn",
    "normalizer_params",
    "weights_initializer",
    "weights_regularizer",
    "biases_initializer",
    "biases_regularizer",
    "outputs_collections",
    "scope",
}


def conv2d(inputs, num_outputs, kernel_size, **given):
    """Convolves as `slim.conv2d` does, under its arg scopes.

    Args:
      inputs: Activations, [batch, height, width, channels] (or NCHW).
      num_outputs: Filters.
      kernel_size: Height and width of the kernel: a number, or a list of two.
      **given: Further arguments of `slim.conv2d`; they come before those of an arg scope.

    Returns:
      Activations, [batch, height, width, num_outputs] (or NCHW); stride and padding make height and width.

    Raises:
      ValueError: As `slim.conv2d`: if the inputs are no batch of images, or their channels are not known.
    """
    arguments = _scoped(slim.conv2d) | given
    inputs = tf.convert_to_tensor(inputs)
    # What Slim refuses, it explains.
    refused = inputs.shape.rank != 4 or _channels(inputs, arguments.get("data_format")) is None
    of_slim_only = arguments.get("rate", 1) != 1 or not set(arguments) <= _OWN_ARGUMENTS
    if tf.executing_eagerly() or refused or of_slim_only:
        return slim.conv2d(inputs, num_outputs, kernel_size, **given)
    kernel = [kernel_size] * 2 if isinstance(kernel_size, int) else list(kernel_size)
    return _layer(inputs, num_outputs, kernel, **arguments)


def _scoped(layer):
    return slim.current_arg_scope().get(slim.arg_scope_func_key(layer), {})


def _channels(inputs, data_format):
    return inputs.shape[1 if data_format == "NCHW" else -1]


def _way(kernel, height, width, channels, outputs, dtype):
    """Which of `_WAYS` is the fastest in training, or None for TensorFlow's; benchmarks/NOTES.md has the measurements.

    Args:
      kernel: Height and width.
      height, width: Of the map.
      channels: Of the inputs.
      outputs: Channels of the outputs.
      dtype: Of the inputs.
    """
    positions = height * width
    small_map = positions <= 8 * 8
    # Measured on AVX2 only; with AVX-512 oneDNN has other kernels.
    measured = dtype == tf.float32 and "avx2" in cpu_flags() and "avx512f" not in cpu_flags()
    if kernel == [1, 1]:
        if small_map or dtype == tf.bfloat16:
            return "products"
        if measured and positions <= 16 * 16:
            return "products" if channels * outputs >= 512 * 1024 else "long_rows"
        return None
    if kernel != [3, 3]:
        return None
    if measured and min(height, width) >= winograd.TILE:
        if channels >= 128:
            return "tiles"
        return "tiles_in_gradients" if channels >= 64 and positions >= 56 * 56 else None
    limit = 14 * 14 if dtype == tf.bfloat16 else 8 * 8
    return "products" if positions <= limit and channels >= 128 else None


def _layer(
    inputs,
    num_outputs,
    kernel,
    *,
    stride=1,
    rate=1,
    padding="SAME",
    data_format=None,
    activation_fn=tf.nn.relu,
    normalizer_fn=None,
    normalizer_params=None,
    weights_initializer=None,
    weights_regularizer=None,
    biases_initializer=_ZEROS,
    biases_regularizer=None,
    outputs_collections=None,
    scope=None,
):
    """`slim.conv2d` with a kernel of `kernel` = [height, width]; the other arguments as there, `rate` 1."""
    dtype, data_format = inputs.dtype.base_dtype, data_format or "NHWC"
    channels = _channels(inputs, data_format)
    with tf.compat.v1.variable_scope(scope, "Conv", [inputs]) as variable_scope:
        weights = slim.model_variable(
            "weights",
            shape=[*kernel, channels, num_outputs],
            dtype=dtype,
            initializer=weights_initializer or slim.xavier_initializer(),
            regularizer=weights_regularizer,
        )
        way = _way_in_training(inputs, num_outputs, kernel, stride, padding, data_format)
        if way:
            outputs = convolve(inputs, tf.convert_to_tensor(weights), way)
        else:
            outputs = tf.nn.conv2d(inputs, weights, strides=stride, padding=padding, data_format=data_format)
        if normalizer_fn is not None:
            outputs = normalizer_fn(outputs, **(normalizer_params or {}))
        elif biases_initializer is not None:
            biases = slim.model_variable(
                "biases", [num_outputs], dtype, initializer=biases_initializer, regularizer=biases_regularizer
            )
            outputs = tf.nn.bias_add(outputs, biases, data_format=data_format)
        if activation_fn is not None:
            outputs = activation_fn(outputs)
        return slim.utils.collect_named_outputs(outputs_collections, variable_scope.name, outputs)


def _way_in_training(inputs, outputs, kernel, stride, padding, data_format):
    """`_way`, or None where no gradients will be asked for, or the ways do not hold."""
    if not tf.compat.v1.get_default_graph().building_function or tf.config.list_physical_devices("GPU"):
        return None
    if _scoped(batch_norm).get("is_training", True) is False:
        return None
    if (stride, padding, data_format) != (1, "SAME", "NHWC"):
        return None
    height, width, channels = inputs.shape[1:]
    return None if None in (height, width) else _way(kernel, height, width, channels, outputs, inputs.dtype)


def convolve(inputs, weights, way):
    """A convolution of stride 1, padded SAME, computed in a way of its own.

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
            # Else a function's executor makes all copies that the gradient of the weights takes of the inputs, up to
            # nine times their size, as soon as the inputs are there, and keeps them through the forward pass.
            with tf.control_dependencies([upstream]):
                waiting = tf.identity(inputs)
            return gradient_of_inputs(upstream, weights), gradient_of_weights(waiting, upstream, weights.shape[0])

        return forward(inputs, weights), gradients

    return convolution(inputs, weights)


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
    """TensorFlow's, of a 1x1 kernel, to which it is the same which positions of which images make a row."""
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


# Each: the outputs, the gradient of the inputs and that of the weights.
_WAYS = {
    "products": (_forward, _gradient_of_inputs, gradient_of_weights),
    "long_rows": (_forward, _gradient_of_inputs, _gradient_of_weights_over_long_rows),
    "tiles": (winograd.convolve, winograd.gradient_of_inputs, _gradient_of_weights_by_tiles),
    "tiles_in_gradients": (_forward, winograd.gradient_of_inputs, _gradient_of_weights_by_tiles),
}
