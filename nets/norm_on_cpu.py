"""The arithmetic of batch norm on CPUs, in passes that are faster than the fused op's.

oneDNN's kernel, which TensorFlow calls for its fused batch norm, is several times slower than memory on maps with many
channels; benchmarks/NOTES.md has the measurements. Here the sums over a batch are matrix products. Scale and shift are
a depthwise convolution with a bias, which oneDNN computes in one pass, together with a ReLU after it. The gradient is
the fused op's own.
"""

import tensorflow as tf

from nets.processor import cpu_flags


def pays(images, data_format):
    """Whether `batch_norm` can and should replace the fused op in the graph being built.

    Args:
      images: Activations, [batch, height, width, channels] or [batch, channels, height, width].
      data_format: NHWC or NCHW.
    """
    if tf.executing_eagerly() or not tf.compat.v1.get_default_graph().building_function:
        return False
    if data_format != "NHWC" or images.dtype != tf.float32 or None in images.shape[1:]:
        return False
    # With AVX-512 oneDNN has another kernel, which was not measured; a GPU has its own.
    return "avx512f" not in cpu_flags() and not tf.config.list_physical_devices("GPU")


def batch_norm(
    images, gamma, beta, mean, variance, epsilon, data_format="NHWC", is_training=True, exponential_avg_factor=1.0
):
    """Replaces `tf.compat.v1.nn.fused_batch_norm`, with its arguments and results, for float32 and NHWC.

    Args:
      images: [batch, height, width, channels].
      gamma, beta: [channels].
      mean, variance: [channels]; the moving averages.
      epsilon: Added to the variance.
      data_format: NHWC.
      is_training: Whether to normalize by the batch; a python bool.
      exponential_avg_factor: Weight of the batch in the averages that are returned.

    Returns:
      The normalized activations and, in training, the new moving averages; else the averages as given.
    """
    if not is_training:
        scale = gamma * tf.math.rsqrt(variance + epsilon)
        return _scale_and_shift(images, scale, beta - mean * scale), mean, variance

    @tf.custom_gradient
    def by_batch(images, gamma, beta):
        batch_mean, batch_variance = _moments(images)

        def gradient(upstream, *unused):
            return tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=images,
                scale=gamma,
                reserve_space_1=batch_mean,
                reserve_space_2=batch_variance,
                reserve_space_3=tf.zeros([0]),
                epsilon=epsilon,
                is_training=True,
            )[:3]

        scale = gamma * tf.math.rsqrt(batch_variance + epsilon)
        outputs = _scale_and_shift(images, scale, beta - batch_mean * scale)
        return (outputs, batch_mean, batch_variance), gradient

    outputs, batch_mean, batch_variance = by_batch(images, gamma, beta)
    count = tf.cast(tf.size(images) // images.shape[-1], tf.float32)
    unbiased = batch_variance * count / tf.maximum(count - 1.0, 1.0)
    old = 1.0 - exponential_avg_factor
    return (
        outputs,
        old * mean + exponential_avg_factor * batch_mean,
        old * variance + exponential_avg_factor * unbiased,
    )


def _moments(images):
    """Mean and variance of each channel in a batch, [channels] each, in two passes: no difference of squares."""
    rows = tf.reshape(images, [-1, images.shape[-1]])
    count = tf.shape(rows)[0]
    weights = tf.fill([1, count], 1.0 / tf.cast(count, tf.float32))
    mean = tf.matmul(weights, rows)[0]
    return mean, tf.matmul(weights, tf.math.squared_difference(rows, mean))[0]


def _scale_and_shift(images, scale, shift):
    kernel = tf.reshape(scale, [1, 1, -1, 1])
    # Not tf.nn.depthwise_conv2d, which takes three times as long to make the same operation.
    scaled = tf.raw_ops.DepthwiseConv2dNative(input=images, filter=kernel, strides=[1, 1, 1, 1], padding="SAME")
    return tf.nn.bias_add(scaled, shift)
