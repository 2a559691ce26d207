"""`slim.conv2d` without its layer objects, and with a faster gradient of its weights on CPUs.

`conv2d` has the arguments, arg scopes, variables and results of `slim.conv2d`. In a graph it makes its variables and
operations itself: the objects that Slim makes for each layer cost a tenth of the time from process start to first
prediction.

In a function that trains on a CPU, some convolutions are computed in ways that are faster than the oneDNN kernels that
TensorFlow calls. nets/convolution_ways.py implements these ways, and `_way` chooses one. Evaluation, prediction and
export use TensorFlow's plain convolution.
"""

import tensorflow as tf
import tf_slim as slim

from nets import convolution_ways, winograd
from nets.batch_norm import batch_norm
from nets.processor import computes_in, cpu_flags

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
      **given: Further arguments of `slim.conv2d`; they override those of an arg scope.

    Returns:
      Activations, [batch, height, width, num_outputs] (or NCHW); stride and padding determine height and width.

    Raises:
      ValueError: As `slim.conv2d`: if the inputs are not a batch of images, or their channels are unknown.
    """
    arguments = _scoped(slim.conv2d) | given
    inputs = tf.convert_to_tensor(inputs)
    # Slim raises errors that explain these.
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
    """The way of `convolution_ways.convolve` that trains fastest, or None for TensorFlow's convolution.

    benchmarks/NOTES.md has the measurements.

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
    """`slim.conv2d` with `kernel` = [height, width] and `rate` 1; the other arguments are Slim's."""
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
        outputs = _convolve(inputs, tf.convert_to_tensor(weights), stride, padding, data_format)
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


def _convolve(inputs, weights, stride, padding, data_format):
    """TensorFlow's convolution; in training on a CPU, one with the same results and faster gradients."""
    if data_format == "NHWC" and _trains_on_cpu():
        if not computes_in(inputs.dtype.name):
            return convolution_ways.convolve_with_wide_gradients(inputs, weights, stride, padding)
        way = _way_of(inputs, weights) if (stride, padding) == (1, "SAME") else None
        if way:
            return convolution_ways.convolve(inputs, weights, way)
    return tf.nn.conv2d(inputs, weights, strides=stride, padding=padding, data_format=data_format)


def _trains_on_cpu():
    """Whether the graph being built is a function that may need gradients, on a machine without GPUs."""
    if not tf.compat.v1.get_default_graph().building_function or tf.config.list_physical_devices("GPU"):
        return False
    return _scoped(batch_norm).get("is_training", True) is not False


def _way_of(inputs, weights):
    """`_way` for tensors; None if the size of the map is unknown."""
    height, width, channels = inputs.shape[1:]
    if None in (height, width):
        return None
    return _way(weights.shape.as_list()[:2], height, width, channels, weights.shape[-1], inputs.dtype)
