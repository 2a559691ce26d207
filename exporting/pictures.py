"""Pictures to compare and calibrate an export on: records, or generated pictures if there are none."""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from command_line import UserError
from data import records
from data.record_errors import IMAGE_KEY

# Sizes of the first batches, to check that any batch size works.
FIRST_BATCHES = (1, 3)
NUM_GENERATED = 8


class Batch(NamedTuple):
    """Some pictures.

    Attributes:
      images: float32 [batch, size, size, channels], preprocessed.
      encoded: bytes object [batch], the image files.
      labels: int32 [batch], of the network's classes, or None.
    """

    images: np.ndarray
    encoded: np.ndarray
    labels: np.ndarray | None


def from_records(dataset, split, preprocess, labels_offset, count, batch_size):
    """Gives the first `count` records of a split as Batches of 1, 3, then `batch_size` each.

    Args:
      dataset: A `data.catalog.Dataset`.
      split: Its split.
      preprocess: A `data.preprocessing.Preprocess`.
      labels_offset: Subtracted from each label.
      count: At most this many.
      batch_size: Size of the later batches.

    Returns:
      A generator, which raises a DataError at a bad record.

    Raises:
      UserError: If the split is missing or has fewer records than the first batches.
    """
    count = min(count, dataset.num_records(split))
    if count < sum(FIRST_BATCHES):
        raise UserError(
            f"split {split} of data set {dataset.name} has {count} records, expected at least {sum(FIRST_BATCHES)}: "
            "name a larger one with --dataset_split_name, or --num_images=0 for generated pictures"
        )
    return _read(dataset, split, preprocess, labels_offset, count, batch_size)


def _read(dataset, split, preprocess, labels_offset, count, batch_size):
    examples = records.evaluation_batches(dataset, split, preprocess, 1, labels_offset).unbatch()
    files = tf.data.TFRecordDataset(dataset.files(split)).map(_encoded)
    with records.explain_errors(dataset, split, labels_offset):
        stream = tf.data.Dataset.zip(examples, files).take(count).as_numpy_iterator()
        for size in itertools.chain(FIRST_BATCHES, itertools.repeat(batch_size)):
            group = list(itertools.islice(stream, size))
            if not group:
                return
            yield Batch(
                np.stack([images for (images, _), _ in group]),
                np.array([file for _, file in group], object),
                np.array([label for (_, label), _ in group]),
            )


def generated(preprocess, size):
    """Yields generated pictures, blurred patches of colour, as Batches of 1, 3 and the rest."""
    random = np.random.default_rng(0)
    encoded = []
    for _ in range(NUM_GENERATED):
        patches = random.uniform(0, 255, [6, 7, 3])
        pixels = tf.image.resize(patches, [size * 8 // 7 + 3, size * 9 // 7], "bicubic")
        encoded.append(tf.io.encode_png(tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8)).numpy())
    borders = [0, *itertools.accumulate(FIRST_BATCHES), NUM_GENERATED]
    for start, stop in itertools.pairwise(borders):
        files = encoded[start:stop]
        images = np.stack([preprocess.from_encoded(file).numpy() for file in files])
        yield Batch(images, np.array(files, object), None)


def for_calibration(dataset, preprocess, labels_offset, count):
    """Draws images of the training split, in an order that mixes the classes.

    Returns:
      float32 [min(count, records), size, size, channels].

    Raises:
      UserError: If `count` is not at least 1.
      DataError: If a record is bad.
    """
    if count < 1:
        raise UserError(f"--num_calibration_images is {count}, expected at least 1: int8 takes its ranges from images")
    split = dataset.row.train_split
    count = min(count, dataset.num_records(split))
    with records.explain_errors(dataset, split, labels_offset):
        batches = records.training_batches(
            dataset,
            split,
            preprocess,
            batch_size=1,
            seed=0,
            labels_offset=labels_offset,
            shuffle_buffer=10 * count,
        )
        return np.concatenate([images for images, _ in batches.take(count).as_numpy_iterator()])


def _encoded(record):
    return tf.io.parse_single_example(record, {IMAGE_KEY: tf.io.FixedLenFeature([], tf.string)})[IMAGE_KEY]
