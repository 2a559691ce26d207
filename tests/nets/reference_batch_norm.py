"""A batch norm of plain operations, so that tf-slim's own networks run on today's TensorFlow beside ours.

It shares nothing with nets/batch_norm.py: means and sums instead of the fused operation, any float dtype, variables by
`tf.compat.v1.get_variable` alone. Only inference or training by a python bool, only rank 4, only v1 graphs.
"""

import importlib

import tensorflow as tf
import tf_slim as slim

SLIM_KEY = slim.arg_scope_func_key(slim.batch_norm)


def _batch_norm(
    inputs,
    decay=0.999,
    center=True,
    scale=False,
    epsilon=0.001,
    activation_fn=None,
    updates_collections=tf.compat.v1.GraphKeys.UPDATE_OPS,
    is_training=True,
    fused=None,
    scope=None,
):
    assert center and scale and inputs.shape.rank == 4
    with tf.compat.v1.variable_scope(scope, "BatchNorm", [inputs]):

        def variable(name, value, trainable):
            return tf.compat.v1.get_variable(
                name,
                inputs.shape[-1:],
                inputs.dtype,
                tf.compat.v1.constant_initializer(value),
                trainable=trainable,
                collections=[tf.compat.v1.GraphKeys.GLOBAL_VARIABLES, tf.compat.v1.GraphKeys.MODEL_VARIABLES],
            )

        beta, gamma = variable("beta", 0.0, True), variable("gamma", 1.0, True)
        moving_mean, moving_variance = variable("moving_mean", 0.0, False), variable("moving_variance", 1.0, False)
        mean, variance = tf.identity(moving_mean), tf.identity(moving_variance)
        if is_training:
            mean = tf.reduce_mean(inputs, [0, 1, 2])
            variance = tf.reduce_mean((inputs - mean) ** 2, [0, 1, 2])
            size = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), inputs.dtype)
            for average, value in ((moving_mean, mean), (moving_variance, variance * size / (size - 1))):
                update = tf.compat.v1.assign(average, decay * average + (1 - decay) * value)
                tf.compat.v1.add_to_collection(updates_collections, update)
        # The fused operation raises smaller values of epsilon to this.
        deviation = tf.sqrt(variance + max(epsilon, 1.001e-5))
        outputs = gamma * ((inputs - mean) / deviation) + beta
        return activation_fn(outputs) if activation_fn else outputs


def plain_batch_norm(monkeypatch):
    """Puts the batch norm above in the place of slim.batch_norm, which arg scopes go on to govern."""
    _batch_norm._key_op = SLIM_KEY
    replacement = slim.add_arg_scope(_batch_norm)
    # By their full names: `tf_slim.layers` as an attribute is the inner of the two modules.
    for module in ("tf_slim.layers", "tf_slim.layers.layers"):
        monkeypatch.setattr(importlib.import_module(module), "batch_norm", replacement)
