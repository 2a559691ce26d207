"""The exact mean and standard deviation of a split's pixels."""

import math

import tensorflow as tf

from data import parsing
from data.preprocessing import images
from data.record_errors import explain_errors


def channel_statistics(dataset, split, channels=3):
    """Reads and decodes a whole split.

    Args:
      dataset: A catalog.Dataset.
      channels: As in `images.decode`.
    Returns:
      means and standard deviations of all pixel values (0..255), a tuple of `channels` floats each.
    Raises:
      DataError: If a record is bad.
    """

    def sums(encoded, label):
        # Integers below 2**53, which float64 adds exactly.
        values = tf.cast(images.decode(encoded, channels), tf.float64)
        pixels = tf.cast(tf.size(values) // channels, tf.float64)
        totals = [tf.reduce_sum(values, [0, 1]), tf.reduce_sum(values**2, [0, 1]), tf.fill([channels], pixels)]
        return tf.stack(totals)

    with explain_errors(dataset, split):
        records = tf.data.TFRecordDataset(dataset.files(split)).batch(256)
        encoded = records.map(lambda block: parsing.parse(block)[:2]).unbatch()
        blocks = encoded.map(sums, num_parallel_calls=tf.data.AUTOTUNE).batch(256)
        total = sum(tf.reduce_sum(block, axis=0) for block in blocks).numpy()
    means, deviations = [], []
    for total_value, total_square, pixels in total.T.tolist():
        # In Python's unbounded integers: a difference of rounded squares could be negative.
        value, square, count = int(total_value), int(total_square), int(pixels)
        means.append(value / count)
        deviations.append(math.sqrt(count * square - value * value) / count)
    return tuple(means), tuple(deviations)
