"""Where the examples of a split come from: images or records held in memory, or files read as a stream.

Each source offers the same three methods: `epoch`, a dataset of elements that are cheap to shuffle and to skip;
`take_apart`, which prepares the elements for `example`; and `example`, one preprocessed image with its label.
Bad records raise TensorFlow's own errors; `record_errors.explain_errors` explains them.
"""

import math
import os

import tensorflow as tf

from data import parsing
from data.preprocessing import Preprocess, images
from data.record_errors import DataError, check_labels_offset, count_fault, explain_errors

# The stream of batches depends on this, so it is a constant and not tuned to the machine.
_SHARDS_INTERLEAVED = 8
_RECORDS_PARSED_AT_ONCE = 64


def open_source(dataset, split, preprocess, labels_offset, cached_bytes):
    """Opens a split for training: in memory if it is small, and decoded there if all images have one shape.

    Args:
      preprocess: As in `records.training_batches`.
      cached_bytes: A split is kept in memory if its files are smaller, and decoded if its pixels are, too.
    Returns:
      A source; its `in_memory` says whether its elements are in memory.
    Raises:
      DataError: If a split to be kept in memory is corrupt.
    """
    check_labels_offset(dataset, labels_offset)
    channels = _channels(preprocess)
    if dataset.synthetic:
        return HeldImages(*dataset.synthetic.draw(split, channels, labels_offset), preprocess, labels_offset)
    files = dataset.files(split)
    if sum(os.path.getsize(path) for path in files) > cached_bytes:
        return RecordFiles(dataset, split, preprocess, labels_offset)
    shape = dataset.image_shape
    decoded_bytes = dataset.num_records(split) * math.prod(shape[:2]) * channels if shape else math.inf
    if decoded_bytes <= cached_bytes and not _wants_boxes(preprocess):
        held = _decoded_split(dataset, split, labels_offset, channels)
        return HeldImages(*held, preprocess, labels_offset)
    held = _whole_split(dataset, split, labels_offset)
    return RecordFiles(dataset, split, preprocess, labels_offset, held)


class HeldImages:
    """Decoded images in memory; an element is the index of an image."""

    in_memory = True

    def __init__(self, pixels, labels, preprocess, labels_offset):
        """Takes uint8 [images, height, width, channels] and int64 [images], as they are in the records."""
        self._pixels = pixels
        self._labels = tf.cast(labels - labels_offset, tf.int32)
        self._preprocess = preprocess

    def epoch(self, epoch_seed):
        return tf.data.Dataset.range(len(self._labels))

    def in_order(self):
        """All images once."""
        return self.epoch(None)

    def take_apart(self, numbers):
        return numbers.map(lambda number: (number,))

    def example(self, number, **seed):
        return self._preprocess(self._pixels[number], **seed), self._labels[number]


class RecordFiles:
    """Serialised records from files or, if `held` is given, from memory.

    Each epoch interleaves the files in its own order, unless `in_file_order`. With `decode_whole`, a whole JPEG is
    decoded, as for HeldImages, and not only the window that the preprocessing takes; pixels at the window's border
    differ between the two.
    """

    def __init__(self, dataset, split, preprocess, labels_offset, held=None, in_file_order=False, decode_whole=False):
        self._dataset = dataset
        self._split = split
        self._preprocess = preprocess
        self._labels_offset = labels_offset
        self._held = held
        self._in_file_order = in_file_order
        self._decode_whole = decode_whole

    @property
    def in_memory(self):
        return self._held is not None

    def epoch(self, epoch_seed):
        if self.in_memory:
            return tf.data.Dataset.from_tensor_slices(self._held)
        if self._in_file_order:
            return self.in_order()
        files = tf.random.experimental.stateless_shuffle(tf.constant(self._dataset.files(self._split)), epoch_seed)
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            tf.data.TFRecordDataset,
            cycle_length=_SHARDS_INTERLEAVED,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return self._counted(records)

    def in_order(self):
        """All records once, in file order."""
        return self._counted(tf.data.TFRecordDataset(self._dataset.files(self._split)))

    def take_apart(self, records):
        # In blocks: parsing one record costs as much as parsing a handful together.
        parsed = records.batch(_RECORDS_PARSED_AT_ONCE).map(self._parse, num_parallel_calls=1, deterministic=True)
        return parsed.unbatch()

    def example(self, encoded, label, boxes=None, **seed):
        if isinstance(self._preprocess, Preprocess) and not self._decode_whole:
            more = {"boxes": boxes[tf.newaxis]} if boxes is not None else {}
            return self._preprocess.from_encoded(encoded, **seed, **more), label
        return self._preprocess(images.decode(encoded, _channels(self._preprocess)), **seed), label

    def _counted(self, records):
        return records.apply(tf.data.experimental.assert_cardinality(self._dataset.num_records(self._split)))

    def _parse(self, records):
        encoded, labels, boxes = parsing.parse(records, _wants_boxes(self._preprocess))
        low, high = self._labels_offset, self._dataset.num_classes
        in_range = tf.reduce_all((labels >= low) & (labels < high))
        # Otherwise a bad label reaches the loss, which turns it into NaN or, on some devices, ignores it.
        with tf.control_dependencies([tf.debugging.Assert(in_range, ["label out of range", labels])]):
            labels = tf.cast(labels - low, tf.int32)
        return (encoded, labels) if boxes is None else (encoded, labels, boxes)


def _channels(preprocess):
    return preprocess.family.channels if isinstance(preprocess, Preprocess) else 3


def _wants_boxes(preprocess):
    return isinstance(preprocess, Preprocess) and preprocess.is_training and preprocess.family.uses_boxes


def _whole_split(dataset, split, labels_offset):
    """All records of a split, a string tensor [records]."""
    counts = {}
    held = []
    with explain_errors(dataset, split, labels_offset):
        for path in dataset.files(split):
            # Record by record, crossing from TensorFlow to Python would take longer than reading.
            blocks = list(tf.data.TFRecordDataset(path).batch(1024))
            counts[path] = sum(len(block) for block in blocks)
            held += blocks
    if sum(counts.values()) != dataset.num_records(split):
        raise DataError(count_fault(dataset, split, counts))
    return tf.concat(held, axis=0)


def _decoded_split(dataset, split, labels_offset, channels):
    """All images of a split, uint8 [images, height, width, channels], and their labels, int64 [images]."""
    records = _whole_split(dataset, split, labels_offset)
    allowed = check_labels_offset(dataset, labels_offset)

    def decoded(encoded, label):
        in_range = tf.debugging.Assert((label >= allowed.start) & (label < allowed.stop), ["label out of range", label])
        with tf.control_dependencies([in_range]):
            return tf.ensure_shape(images.decode(encoded, channels), [*dataset.image_shape[:2], channels]), label

    parsed = tf.data.Dataset.from_tensor_slices(records).batch(1024).map(lambda block: parsing.parse(block)[:2])
    examples = parsed.unbatch().map(decoded, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    try:
        with explain_errors(dataset, split, labels_offset):
            blocks = list(examples.batch(1024))
    except tf.errors.InvalidArgumentError as error:
        raise DataError(
            f"the {split!r} split of {dataset.name!r} holds images that are not of the image_shape "
            f"{list(dataset.image_shape)} in {dataset.directory / 'dataset.json'}: mend or remove image_shape there"
        ) from error
    pixels, labels = zip(*blocks, strict=True)
    return tf.concat(pixels, axis=0), tf.concat(labels, axis=0)
