"""Trains one step on two logical CPUs under MirroredStrategy and compares it with each half on its own.

A program and not a test, because devices are divided before TensorFlow starts: test_mirrored.py runs it and reads its
last line, "equal", or the AssertionError.
"""

import pathlib
import sys
import tempfile
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
import tensorflow as tf
from nets_testing import noise, set_model

from nets import nets_factory, resnet_cifar

NAME = "resnet_cifar_v1_8"
LABELS = np.array([0, 3, 7, 1, 2, 2, 9, 4])
IMAGES = noise(8, 16, 16, 3) * np.linspace(0.5, 3, 8, dtype=np.float32)[:, None, None, None]


def forward_backward(model, images, labels):
    with tf.GradientTape() as tape:
        logits, _ = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return logits, tape.gradient(loss, model.trainable_variables)


def values_of(model):
    return {name: tf.convert_to_tensor(variable).numpy() for name, variable in model.variables_by_name.items()}


def halves_of_the_batch(model):
    """Logits, gradients and variables of the images of each replica in turn, on one device."""
    run = tf.function(forward_backward, autograph=False)
    halves = []
    for half in (slice(4), slice(4, 8)):
        set_model(model)
        logits, gradients = run(model, tf.constant(IMAGES[half]), tf.constant(LABELS[half]))
        halves.append((logits.numpy(), [gradient.numpy() for gradient in gradients], values_of(model)))
    return halves


def main():
    warnings.simplefilter("ignore")
    devices = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(devices[0], [tf.config.LogicalDeviceConfiguration()] * 2)
    nets_factory.NETWORKS[NAME] = nets_factory.Network(resnet_cifar.resnet_cifar_v1(8), "cifar")

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        model = nets_factory.create_model(NAME, 10)
        set_model(model)

    def replica_step(images, labels):
        logits, gradients = forward_backward(model, images, labels)
        gradients = tf.distribute.get_replica_context().all_reduce("mean", gradients)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            variable.assign_sub(0.1 * gradient)
        return logits, gradients

    @tf.function(autograph=False)
    def step(images, labels):
        return strategy.run(replica_step, args=(images, labels))

    def shard(array):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(array[4 * context.replica_id_in_sync_group :][:4])
        )

    before = values_of(model)
    logits, gradients = step(shard(IMAGES), shard(LABELS))
    after = values_of(model)
    plain = nets_factory.create_model(NAME, 10)
    halves = halves_of_the_batch(plain)

    # Each replica normalizes by its own images.
    for found, (expected, _, _) in zip(strategy.experimental_local_results(logits), halves, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Moving statistics, read from outside, are the mean of the replicas', which differ.
    for name, found in after.items():
        first, second = (variables[name] for _, _, variables in halves)
        if "/moving_" in name:
            assert np.abs(first - second).max() > 1e-6, name
            np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-4, atol=1e-6, err_msg=name)
    # Gradients are averaged and the weights move by them, on both replicas alike.
    by_position = zip(model.trainable_variables, gradients, *(half[1] for half in halves), strict=True)
    names = [name for name in model.variables_by_name if "/moving_" not in name]
    for name, (variable, found, first, second) in zip(names, by_position, strict=True):
        mean = (first + second) / 2
        scale = max(np.abs(mean).max(), 1e-4)
        for copy in strategy.experimental_local_results(found):
            np.testing.assert_allclose(copy, mean, rtol=1e-3, atol=1e-3 * scale, err_msg=name)
        for copy in strategy.experimental_local_results(variable):
            np.testing.assert_allclose(copy, before[name] - 0.1 * mean, rtol=1e-3, atol=1e-4 * scale, err_msg=name)

    # A checkpoint of the mirrored model is a plain one, and comes back into both.
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.ckpt")
        plain.restore(f"{folder}/model.ckpt")
        set_model(model)
        model.restore(f"{folder}/model.ckpt")
    for restored in (values_of(plain), values_of(model)):
        for name, value in after.items():
            np.testing.assert_allclose(restored[name], value, rtol=1e-6, atol=1e-7, err_msg=name)
    print("equal")


if __name__ == "__main__":
    main()
