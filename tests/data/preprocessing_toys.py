"""Pictures with a known answer, and what the tests of preprocessing do with them."""

import numpy as np
import tensorflow as tf

from data import preprocessing

MEANS = [123.68, 116.78, 103.94]
FAMILIES = sorted(preprocessing.PREPROCESSING)


def legacy_bilinear(image, height, width):
    """TensorFlow 1's resize in NumPy: output i looks at i * in / out, past the end at the last pixel."""

    def along(array, size, axis):
        at = np.arange(size) * (array.shape[axis] / size)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, array.shape[axis] - 1)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
        return np.take(array, low, axis) * (1 - part) + np.take(array, high, axis) * part

    return along(along(np.asarray(image, np.float64), height, 0), width, 1)


def noise_image(height, width):
    return np.random.RandomState(0).randint(0, 256, [height, width, 3]).astype(np.uint8)


def ramp_image(height, width, step):
    """Red grows by `step` a row, green by `step` a column."""
    rows, columns = np.mgrid[:height, :width] * step
    return np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)


def smooth_image(height, width):
    rows, columns = np.mgrid[:height, :width]
    channels = [128 + 120 * np.sin(rows / (5 + k) + columns / (9 - k)) for k in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def evaluate(name, image, height, width):
    return preprocessing.get_preprocessing(name)(image, height, width).numpy()


def train_many(family, image, size, count, seed=7):
    """Training outputs [count, size, size, 3] for seeds (seed, 0), (seed, 1) and on, through tf.data."""
    preprocess = preprocessing.Preprocess(family, size, size, is_training=True)
    positions = tf.data.Dataset.range(count)
    outputs = positions.map(lambda position: preprocess(image, tf.stack([tf.int64.max - seed, position])))
    return next(outputs.batch(count).as_numpy_iterator())
