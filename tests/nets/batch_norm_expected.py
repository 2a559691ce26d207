"""What batch_norm should give, by its definition, in float64 NumPy."""

import numpy as np
from nets_testing import noise, value_for

from nets.batch_norm import batch_norm

CHANNELS = 3
SHAPES = {
    ("NHWC", 2): (7, CHANNELS),
    ("NHWC", 4): (4, 5, 6, CHANNELS),
}
NAMES = ["bn/beta", "bn/gamma", "bn/moving_mean", "bn/moving_variance"]
DECAY, EPSILON = 0.8, 1e-3


def parameters(dtype=np.float64):
    """gamma, beta, moving mean, moving variance as `value_for` sets them."""
    names = ["bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"]
    return [value_for(name, [CHANNELS]).astype(dtype) for name in names]


def expected(x, training, decay=DECAY):
    """Outputs, new moving mean and new moving variance, by the definition, in float64."""
    x = np.asarray(x, np.float64)
    gamma, beta, moving_mean, moving_variance = parameters()
    axes = tuple(range(x.ndim - 1))
    if training:
        mean, variance = x.mean(axes), x.var(axes)
        count = x.size // x.shape[-1]
        new_mean = decay * moving_mean + (1 - decay) * mean
        new_variance = decay * moving_variance + (1 - decay) * variance * count / (count - 1)
    else:
        mean, variance = new_mean, new_variance = moving_mean, moving_variance
    return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta, new_mean, new_variance


def layer(inputs, is_training, **kwargs):
    return batch_norm(inputs, DECAY, scale=True, epsilon=EPSILON, is_training=is_training, scope="bn", **kwargs)


def inputs_of(rank):
    return 2 + 3 * noise(*SHAPES["NHWC", rank])


def check(outputs, variables, x, training, tolerance=1e-5):
    """Asserts outputs (within `tolerance`) and moving statistics (always within float32's precision)."""
    expected_outputs, mean, variance = expected(x, training)
    np.testing.assert_allclose(np.asarray(outputs, np.float64), expected_outputs, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(variables["bn/moving_mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variables["bn/moving_variance"], variance, rtol=1e-5, atol=1e-6)
