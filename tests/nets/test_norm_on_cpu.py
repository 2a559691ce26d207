"""Batch norm in passes of its own, against the fused op and against float64."""

import numpy as np
import pytest
import tensorflow as tf

from nets import norm_on_cpu

# The fused op takes no smaller one than 1.001e-5.
EPSILON = 1e-3


def values(shape, offset=0.0):
    random = np.random.default_rng(shape)
    images = (random.standard_normal(shape) + offset).astype(np.float32)
    gamma, beta, mean = random.standard_normal([3, shape[-1]]).astype(np.float32)
    variance = random.uniform(0.5, 2, shape[-1]).astype(np.float32)
    return [tf.constant(value) for value in (images, gamma, beta, mean, variance)]


def fused(*arguments, **keywords):
    return tf.compat.v1.nn.fused_batch_norm(*arguments, epsilon=EPSILON, **keywords)


def ours(*arguments, **keywords):
    return norm_on_cpu.batch_norm(*arguments, epsilon=EPSILON, **keywords)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 4, 7), (2, 1, 1, 3), (1, 1, 1, 2), (4, 8, 8, 64)])
def test_results_are_those_of_the_fused_op(shape, is_training):
    arguments = values(shape)
    found = ours(*arguments, is_training=is_training, exponential_avg_factor=0.25)
    expected = fused(*arguments, is_training=is_training, exponential_avg_factor=0.25)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def test_a_large_mean_costs_no_digits():
    """E[x ** 2] - E[x] ** 2 in float32 would be off by about 60 here, for a variance of about 1."""
    images, gamma, beta, mean, variance = values([8, 6, 6, 5], offset=3e4)
    exact = np.asarray(images, np.float64)
    _, found_mean, found_variance = ours(images, gamma, beta, mean, variance, exponential_avg_factor=1.0)
    np.testing.assert_allclose(found_mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found_variance, exact.var(axis=(0, 1, 2), ddof=1), rtol=1e-2)


@pytest.mark.parametrize("second", [False, True])
def test_gradients_are_those_of_the_fused_op(second):
    images, gamma, beta, mean, variance = values([3, 4, 5, 6])

    def gradients(function):
        inputs = [images, gamma, beta]
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(tf.tanh(function(images, gamma, beta, mean, variance, is_training=True)[0]) ** 3)
            first = tape.gradient(loss, inputs)
            norm = tf.add_n([tf.reduce_sum(gradient**2) for gradient in first])
        return outer.gradient(norm, inputs) if second else first

    for one, other in zip(gradients(ours), gradients(fused), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    "flags, dtype, data_format, expected",
    [
        ({"avx2"}, tf.float32, "NHWC", True),
        ({"avx2", "avx512f"}, tf.float32, "NHWC", False),
        ({"avx2"}, tf.bfloat16, "NHWC", False),
        ({"avx2"}, tf.float32, "NCHW", False),
    ],
)
def test_where_it_was_measured_to_pay(monkeypatch, flags, dtype, data_format, expected):
    monkeypatch.setattr(norm_on_cpu, "cpu_flags", lambda: flags)
    found = []

    def build(images):
        found.append(norm_on_cpu.pays(images, data_format))
        return images

    tf.function(build, autograph=False)(tf.zeros([1, 2, 2, 3], dtype))
    assert found == [expected]
    assert not norm_on_cpu.pays(tf.zeros([1, 2, 2, 3]), "NHWC")  # Eagerly.
