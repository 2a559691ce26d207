"""What the tests of foreign weights share: values for every kind of tensor, flags, and the comparison of logits."""

import numpy as np

from convert_weights import ConvertWeightsConfig

CLASSES = 7
SIDE = 64


def value_for(shape, kind, random):
    """A value that no two tensors share, and that keeps activations of a size that float32 compares well.

    `kind` is kernel, gamma, variance or any other; gammas and variances are away from 0 and from 1.
    """
    if kind == "kernel":
        fan_in = np.prod(shape[:-1])
        return (random.normal(size=shape) * np.sqrt(1.5 / fan_in)).astype(np.float32)
    if kind in ("gamma", "variance"):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    return random.normal(scale=0.2, size=shape).astype(np.float32)


def kind_of(name):
    """The kind of a tensor, by TensorFlow's, Keras' or Slim's name."""
    leaf = name.split("/")[-1].split(":")[0]
    return {"weights": "kernel", "kernel": "kernel", "gamma": "gamma", "moving_variance": "variance"}.get(leaf, "other")


def pictures(count=3, side=SIDE):
    """RGB pixels, 0 to 255, float32 [count, side, side, 3]."""
    return np.random.default_rng(5).integers(0, 256, [count, side, side, 3]).astype(np.float32)


def flags(source, output, **changes):
    """The flags of an import or an export; images of SIDE pixels."""
    size = {"image_size": SIDE} if "source_format" in changes else {}
    return ConvertWeightsConfig(source=source, output=output, **size | changes)


def assert_same_logits(actual, expected, tolerance=1e-4):
    """Logits agree to `tolerance` of the largest; and they do depend on the picture, or the test would say nothing."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    scale = np.abs(expected).max()
    assert actual.shape == expected.shape
    assert np.ptp(expected, axis=0).max() > 0.01 * scale
    assert np.abs(actual - expected).max() <= tolerance * scale
