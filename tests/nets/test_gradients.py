"""Gradients of a tiny network against finite differences.

TensorFlow's fused batch norm knows no float64, and in float32 finite differences are noise. So the differences are
taken, in float64, of tf-slim's own network with a batch norm of plain operations: `test_reference.py` shows that it is
the same function.
"""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from nets_testing import noise, run_in_graph, set_variables, value_for
from reference_batch_norm import plain_batch_norm

BLOCKS = [(2, 1, 2), (3, 2, 1)]
STEP = 1e-6


def loss_of(network, blocks, images, labels, is_training, **kwargs):
    logits, _ = network(images, blocks, 5, is_training, scope="net", **kwargs)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.squeeze(logits, [1, 2]))
    return tf.reduce_mean(losses)


@pytest.mark.parametrize("is_training", [False, True])
def test_gradients_equal_finite_differences(family, monkeypatch, is_training):
    images, labels = noise(4, 17, 17, 3), [0, 3, 1, 4]

    def build():
        with slim.arg_scope(family.module.resnet_arg_scope()):
            loss = loss_of(
                family.network, family.blocks(*BLOCKS), tf.constant(images), labels, is_training, spatial_squeeze=False
            )
        trainable = tf.compat.v1.trainable_variables()
        return loss, dict(zip([v.op.name for v in trainable], tf.gradients(loss, trainable), strict=True))

    (loss, gradients), _ = run_in_graph(build)

    plain_batch_norm(monkeypatch)
    reads = {}

    def feedable(getter, name, trainable=True, **kwargs):
        variable = getter(name, trainable=trainable, **kwargs)
        return reads.setdefault(name, tf.identity(variable)) if trainable else variable

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        with (
            slim.arg_scope(family.reference.resnet_arg_scope()),
            tf.compat.v1.variable_scope("", custom_getter=feedable),
        ):
            blocks = family.blocks(*BLOCKS, module=family.reference)
            network = getattr(family.reference, f"resnet_{family.name}")
            exact = loss_of(network, blocks, tf.constant(images, tf.float64), labels, is_training)
        set_variables(session, {variable.op.name: variable for variable in tf.compat.v1.global_variables()})
        np.testing.assert_allclose(loss, session.run(exact), rtol=1e-5)
        assert sorted(reads) == sorted(gradients)

        values = {name: value_for(name, gradient.shape).astype(np.float64) for name, gradient in gradients.items()}

        def loss_at(changed_name, change):
            # All are fed at every call: TensorFlow optimizes the graph anew for every other set of feeds.
            return session.run(
                exact,
                {reads[name]: value + change if name == changed_name else value for name, value in values.items()},
            )

        for name, gradient in gradients.items():
            for direction in directions(gradient):
                above, below = (loss_at(name, step * direction) for step in (STEP, -STEP))
                difference = (above - below) / (2 * STEP)
                np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-3, atol=1e-5, err_msg=name)
    # Every variable matters to the loss, but for v2's biases, which the norm behind them takes away in training.
    idle = {name.rsplit("/", 1)[1] for name, gradient in gradients.items() if np.abs(gradient).max() < 1e-5}
    assert idle == ({"biases"} if family.name == "v2" and is_training else set())


def directions(gradient):
    """The gradient's own direction, where an error of its size shows best, and a random one."""
    steepest = gradient / max(np.linalg.norm(gradient), 1e-12)
    random = np.random.default_rng(0).normal(size=gradient.shape)
    return steepest.astype(np.float64), random / np.linalg.norm(random)
