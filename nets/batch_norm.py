"""Batch normalization, the one layer of tf-slim 1.1.0 that today's TensorFlow cannot run.

`batch_norm` has the arg-scope key of `slim.batch_norm`, so arg scopes written for Slim's layer apply to this one:

    with slim.arg_scope([slim.batch_norm], is_training=False, decay=0.9):
        net = batch_norm(net)                        # is_training False, decay 0.9

Source: Ioffe and Szegedy, Batch Normalization, arXiv:1502.03167.
"""

import functools

import tensorflow as tf
import tf_slim as slim

from nets import norm_on_cpu

_CHANNEL_AXIS = {"NHWC": -1, "NCHW": 1}


def _governed_by(layer):
    """Decorates a function so that `slim.arg_scope([layer], ...)` sets its arguments too."""

    def decorate(function):
        function._key_op = slim.arg_scope_func_key(layer)
        governed = slim.add_arg_scope(function)

        # add_arg_scope replaced the layer's list of arguments under the shared key with ours. The only reader of that
        # list, slim.arg_scoped_arguments(slim.batch_norm), thus names what arg scopes can set on this function.
        return functools.wraps(function)(governed)

    return decorate


@_governed_by(slim.batch_norm)
def batch_norm(
    inputs,
    decay=0.999,
    center=True,
    scale=False,
    epsilon=0.001,
    activation_fn=None,
    param_initializers=None,
    param_regularizers=None,
    updates_collections=tf.compat.v1.GraphKeys.UPDATE_OPS,
    is_training=True,
    reuse=None,
    variables_collections=None,
    outputs_collections=None,
    trainable=True,
    batch_weights=None,
    fused=None,
    data_format="NHWC",
    zero_debias_moving_mean=False,
    scope=None,
    renorm=False,
    renorm_clipping=None,
    renorm_decay=0.99,
    adjustment=None,
    *,
    sync=False,
):
    """Normalizes each channel to zero mean and unit variance, then scales and shifts it.

    Works in a v1 graph, in a tf.function and under tf.distribute. Statistics and parameters are float32 whatever the
    dtype of the activations. Variables, created under `scope`: beta, gamma, moving_mean, moving_variance, each
    [channels]. The moving variance averages the batch variance with Bessel's correction, n / (n - 1), as Slim's fused
    layer does.

    Args:
      inputs: Activations, [batch, channels] or [batch, height, width, channels] ([batch, channels, height, width] with
        data_format NCHW); float32, bfloat16 or float16. The number of channels must be known.
      decay: Weight of the past in the moving averages, a python number in [0, 1]; the batch has weight 1 - decay.
      center: Whether to add `beta`.
      scale: Whether to multiply by `gamma`.
      epsilon: Added to the variance before the square root.
      activation_fn: Applied to the result, or None.
      param_initializers: Initializers by the keys beta, gamma, moving_mean, moving_variance.
      param_regularizers: Regularizers by the keys beta, gamma.
      updates_collections: In a v1 graph, the collections that get the two update ops, which the training op must depend
        on; None runs them with the layer. Inside a function the averages are updated in place and this is ignored.
      is_training: True normalizes by the batch and updates the averages; False normalizes by the averages. A python
        bool, a scalar boolean tensor, or a function that gives one for the name of this norm's variable scope.
      reuse: Whether to reuse the variables; `scope` must then be given.
      variables_collections: Collections of the variables: a list, or a dict of lists by variable name.
      outputs_collections: Collections that get the result under the scope's name.
      trainable: Whether gamma and beta are trained.
      fused, renorm_decay: Accepted for compatibility with Slim, and ignored.
      batch_weights, zero_debias_moving_mean, renorm, renorm_clipping, adjustment: Slim's; only their defaults are
        supported.
      data_format: NHWC or NCHW.
      scope: Variable scope, "BatchNorm" when None.
      sync: Whether, in the replica context of a tf.distribute strategy, batch statistics are computed over all
        replicas, whose local batches must be of equal size.

    Returns:
      Activations of the shape and dtype of `inputs`.

    Raises:
      ValueError: If the data format, the rank or the number of channels is not one named above, or an argument of Slim
        that is not supported is given.
    """
    for name, value in (
        ("batch_weights", batch_weights),
        ("zero_debias_moving_mean", zero_debias_moving_mean),
        ("renorm", renorm),
        ("renorm_clipping", renorm_clipping),
        ("adjustment", adjustment),
    ):
        if value is not None and value is not False:
            raise ValueError(f"batch_norm: {name} is {value!r}, which is not supported here; leave it out")
    if data_format not in _CHANNEL_AXIS:
        raise ValueError(f"batch_norm: data_format is {data_format!r}, expected one of {sorted(_CHANNEL_AXIS)}")
    inputs = tf.convert_to_tensor(inputs)
    if inputs.shape.rank not in (2, 4):
        raise ValueError(f"batch_norm: inputs have shape {inputs.shape}, expected rank 2 or 4")
    channels = inputs.shape[_CHANNEL_AXIS[data_format]]
    if channels is None:
        raise ValueError(f"batch_norm: inputs have shape {inputs.shape}: the number of channels must be known")

    with tf.compat.v1.variable_scope(scope, "BatchNorm", [inputs], reuse=reuse) as variable_scope:
        gamma, beta, moving_mean, moving_variance = _parameters(
            channels, center, scale, trainable, param_initializers, param_regularizers, variables_collections
        )
        images = inputs
        if inputs.shape.rank == 2:
            # [batch, 1, 1, channels] or [batch, channels, 1, 1]: the fused op takes rank 4 only.
            images = inputs[:, None, None, :] if data_format == "NHWC" else inputs[:, :, None, None]
        if callable(is_training):
            is_training = is_training(variable_scope.name)
        on_cpu = norm_on_cpu.pays(images, data_format)
        by_averages = norm_on_cpu.batch_norm if on_cpu else tf.compat.v1.nn.fused_batch_norm
        by_batch = by_averages
        if sync and tf.distribute.get_replica_context() and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            by_batch = _norm_over_replicas
        by_batch, by_averages = (
            functools.partial(function, images, gamma, beta, epsilon=epsilon, data_format=data_format)
            for function in (by_batch, by_averages)
        )
        outputs, new_mean, new_variance = _by_mode(
            is_training, by_batch, by_averages, moving_mean, moving_variance, decay
        )
        if new_mean is not None:
            outputs = _update(outputs, [(moving_mean, new_mean), (moving_variance, new_variance)], updates_collections)
        if inputs.shape.rank == 2:
            outputs = tf.reshape(outputs, tf.shape(inputs))
        outputs.set_shape(inputs.shape)
        if activation_fn is not None:
            outputs = activation_fn(outputs)
        return slim.utils.collect_named_outputs(outputs_collections, variable_scope.name, outputs)


def _parameters(channels, center, scale, trainable, initializers, regularizers, collections):
    """Makes or reuses the variables; returns gamma, beta, moving_mean, moving_variance, each float32 [channels]."""
    initializers, regularizers = initializers or {}, regularizers or {}

    def variable(name, initializer, trainable):
        return slim.model_variable(
            name,
            shape=[channels],
            dtype=tf.float32,
            initializer=initializers.get(name, initializer),
            regularizer=regularizers.get(name) if trainable else None,
            collections=slim.utils.get_variable_collections(collections, name),
            trainable=trainable,
        )

    zeros, ones = tf.compat.v1.zeros_initializer(), tf.compat.v1.ones_initializer()
    beta = variable("beta", zeros, trainable) if center else tf.zeros([channels])
    gamma = variable("gamma", ones, trainable) if scale else tf.ones([channels])
    return gamma, beta, variable("moving_mean", zeros, False), variable("moving_variance", ones, False)


def _by_mode(is_training, by_batch, by_averages, moving_mean, moving_variance, decay):
    """Normalizes by the batch or by the averages; returns outputs and the new averages (None if unchanged)."""
    averages = {"mean": moving_mean, "variance": moving_variance}

    def train():
        # The function itself updates the averages: new = (1 - factor) * old + factor * batch.
        return by_batch(**averages, is_training=True, exponential_avg_factor=1.0 - decay)

    def infer():
        return by_averages(**averages, is_training=False)[0]

    def infer_and_keep():
        return infer(), tf.convert_to_tensor(moving_mean), tf.convert_to_tensor(moving_variance)

    static = tf.get_static_value(is_training) if tf.is_tensor(is_training) else is_training
    if static is None:
        return tf.cond(is_training, train, infer_and_keep)
    return train() if static else (infer(), None, None)


def _norm_over_replicas(images, gamma, beta, mean, variance, is_training, exponential_avg_factor, epsilon, data_format):
    """As fused_batch_norm in training, with batch statistics over all replicas."""
    axes = [0, 1, 2] if data_format == "NHWC" else [0, 2, 3]
    own_mean, own_variance = tf.nn.moments(tf.cast(images, tf.float32), axes, keepdims=True)
    context = tf.distribute.get_replica_context()
    moments = context.all_gather(tf.stack([own_mean, own_variance])[tf.newaxis], axis=0)
    means, variances = moments[:, 0], moments[:, 1]
    all_mean = tf.reduce_mean(means, axis=0)
    # Not E[x^2] - E[x]^2, which cancels where the mean is large.
    all_variance = tf.reduce_mean(variances + tf.math.squared_difference(means, all_mean), axis=0)
    scale, offset = tf.reshape(gamma, own_mean.shape), tf.reshape(beta, own_mean.shape)
    outputs = tf.nn.batch_normalization(tf.cast(images, tf.float32), all_mean, all_variance, offset, scale, epsilon)
    count = tf.cast(tf.size(images) // tf.size(all_mean), tf.float32) * context.num_replicas_in_sync
    corrected = all_variance * count / tf.maximum(count - 1.0, 1.0)
    averages = [
        old + exponential_avg_factor * (tf.reshape(new, [-1]) - old)
        for old, new in ((mean, all_mean), (variance, corrected))
    ]
    return tf.cast(outputs, images.dtype), *averages


def _update(outputs, new_values, updates_collections):
    """Updates the averages now (in a function, or without collections), or adds the updates to the collections."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    if graph is None or graph.building_function:
        for variable, value in new_values:
            variable.assign(value)
        return outputs
    updates = [tf.compat.v1.assign(variable, value) for variable, value in new_values]
    if updates_collections is None:
        with tf.control_dependencies(updates):
            return tf.identity(outputs)
    for update in updates:
        tf.compat.v1.add_to_collections(updates_collections, update)
    return outputs
