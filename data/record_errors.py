"""Finds the record that broke a pass over a split, and says how to fix it.

TensorFlow's own message names neither file nor record. The pass over records stays fast and reports only that
something failed; `find_fault` then reads the split again, in order, and explains the first bad record.
"""

import contextlib

import tensorflow as tf

from command_line import UserError, first_line
from data import parsing
from data.catalog import DESCRIPTION_FILE
from data.parsing import BOX_KEYS, IMAGE_KEY, LABEL_KEY
from data.preprocessing import images

# What a bad record can raise. Errors of other classes (no memory, cancelled) do not come from the data.
ERRORS_OF_RECORDS = (
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.UnimplementedError,
    tf.errors.UnknownError,
    # If a record is not an Example, TensorFlow quotes it in its message, which then need not be text.
    UnicodeDecodeError,
)
_KINDS_OF_VALUE = ("bytes_list", "int64_list", "float_list")
_FILES_LISTED = 8


class DataError(UserError):
    """A record, or the number of them, is wrong; the message names file and record, counted from 0."""


@contextlib.contextmanager
def explain_errors(dataset, split, labels_offset=0):
    """Turns a TensorFlow error that the split's records explain into a DataError; lets others through.

        with records.explain_errors(dataset, "train"):
            for images, labels in batches: ...

    A TensorFlow error with another cause is raised unchanged, after one pass over the split.
    """
    try:
        yield
    except ERRORS_OF_RECORDS as error:
        # Synthetic images have no records that could be bad.
        fault = None if dataset.synthetic else find_fault(dataset, split, labels_offset)
        if fault is None:
            raise
        raise DataError(fault) from error


def find_fault(dataset, split, labels_offset=0):
    """Reads and decodes a whole split, in file order.

    Returns:
      What is wrong with the first bad record, else with the number of records, else with the first bad bounding
      boxes, which not every pass reads; None if nothing is wrong.
    """
    allowed = check_labels_offset(dataset, labels_offset)
    counts = {}
    for path in dataset.files(split):
        counts[path], at_end = _count_good_records(path, allowed)
        if not at_end:
            return explain_record(path, counts[path], allowed)
    if sum(counts.values()) != dataset.num_records(split):
        return count_fault(dataset, split, counts)
    return _find_bad_boxes(dataset, split)


def count_fault(dataset, split, counts):
    """Says how the record counts of a split's files, {path: count}, differ from dataset.json."""
    files = ", ".join(f"{path}: {count}" for path, count in list(counts.items())[:_FILES_LISTED])
    if len(counts) > _FILES_LISTED:
        files += f" and {len(counts) - _FILES_LISTED} more files"
    return (
        f"found {sum(counts.values())} records in the {split!r} split of {dataset.name!r} ({files}), "
        f"expected {dataset.num_records(split)} by {dataset.directory / DESCRIPTION_FILE}: restore the "
        f"missing or remove the surplus files, or mend the count"
    )


def check_labels_offset(dataset, labels_offset):
    """Returns the range of labels that records may hold, before `labels_offset` is subtracted."""
    if not 0 <= labels_offset < dataset.num_classes:
        raise UserError(
            f"labels_offset is {labels_offset}, expected 0 to {dataset.num_classes - 1} for the "
            f"{dataset.num_classes} classes of data set {dataset.name!r}: it is 1 when class 0 is a "
            f"background that the network leaves out, else 0"
        )
    return range(labels_offset, dataset.num_classes)


def _count_good_records(path, allowed):
    """Returns how many records are good before the first bad one, and whether all are good."""

    def label_and_shape(record):
        encoded, label, _ = parsing.parse(record)
        image = images.decode(encoded, channels=3)
        # Returning the shape makes TensorFlow decode the image: it drops what no output needs.
        return label, tf.shape(image)

    decoded = tf.data.TFRecordDataset(path).map(
        label_and_shape, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    count = 0
    try:
        for label, _ in decoded.as_numpy_iterator():
            if label not in allowed:
                return count, False
            count += 1
    except ERRORS_OF_RECORDS:
        return count, False
    return count, True


def explain_record(path, number, allowed=range(0)):
    """Says what is wrong with record `number` of a file, counted from 0; `allowed` are the labels it may have."""
    return f"{path}, record {number} (counted from 0): {_explain(path, number, allowed)}"


def _explain(path, number, allowed):
    try:
        record = next(tf.data.TFRecordDataset(path).skip(number).take(1).as_numpy_iterator())
    except tf.errors.DataLossError as error:
        kind = "is cut short" if "truncated" in error.message else "is damaged (its checksum is wrong)"
        return f"the record {kind}; expected an uncompressed TFRecord file: copy or convert the file again"
    except ERRORS_OF_RECORDS as error:
        return f"the file cannot be read ({first_line(error)}); expected a file that you may read"
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception:  # protobuf's DecodeError, for which TensorFlow has no public name
        return f"not a tf.train.Example; expected one with {IMAGE_KEY} and {LABEL_KEY}: convert the file again"
    return _explain_example(features, allowed)


def _explain_example(features, allowed):
    encoded, fault = _one_value(features, IMAGE_KEY, "bytes_list", "the bytes of an image file")
    if fault:
        return fault
    label, fault = _one_value(features, LABEL_KEY, "int64_list", "a class number")
    if fault:
        return fault
    if label not in allowed:
        offset = f" and labels_offset={allowed.start}" if allowed.start else ""
        return (
            f"label {label} is out of range; expected {allowed.start} to {allowed.stop - 1} by the "
            f"{allowed.stop} classes of {DESCRIPTION_FILE}{offset}: mend the record, the "
            f"classes or labels_offset"
        )
    try:
        tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except ERRORS_OF_RECORDS as error:
        return (
            f"the image does not decode ({first_line(error)}): {len(encoded)} bytes that begin with "
            f"{encoded[:8]!r}; expected a whole JPEG, PNG, GIF or BMP file: replace it and convert again"
        )
    return "it failed once but reads well now; expected a file that no one writes to meanwhile: run again"


def _find_bad_boxes(dataset, split):
    for path in dataset.files(split):
        for number, record in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator()):
            if fault := _explain_boxes(tf.train.Example.FromString(record).features.feature):
                return (
                    f"{path}, record {number} (counted from 0): {fault}; mend it, or train with a --preprocessing_name "
                    f"that has no use for boxes"
                )
    return None


def _explain_boxes(features):
    sides = [list(features[key].float_list.value) if key in features else [] for key in BOX_KEYS]
    for key in BOX_KEYS:
        kind = features[key].WhichOneof("kind") if key in features else None
        if kind not in (None, "float_list"):
            return f"key {key!r} holds an {kind}, expected a float_list"
    if len({len(side) for side in sides}) > 1:
        held = ", ".join(f"{len(side)} of {key}" for key, side in zip(BOX_KEYS, sides, strict=True))
        return f"its bounding boxes have {held}, expected as many of each"
    for box in zip(*sides, strict=True):
        if not all(0.0 <= value <= 1.0 for value in box):
            top, left, bottom, right = (f"{value:.9g}" for value in box)
            return f"bounding box ymin {top}, xmin {left}, ymax {bottom}, xmax {right} is not within 0 to 1"
    return None


def _one_value(features, key, kind, meaning):
    if key not in features:
        held = ", ".join(sorted(features)) or "none"
        return None, f"key {key!r} is missing (there: {held}); expected {meaning}: convert it again"
    counts = {name: len(getattr(features[key], name).value) for name in _KINDS_OF_VALUE}
    if counts != {**dict.fromkeys(_KINDS_OF_VALUE, 0), kind: 1}:
        held = ", ".join(f"{count} in its {name}" for name, count in counts.items() if count) or "no value"
        return None, f"key {key!r} holds {held}; expected {meaning}, 1 in its {kind}: convert it again"
    return getattr(features[key], kind).value[0], None
