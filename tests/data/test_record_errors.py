"""Each fault is made on disk; each pass must then name the file, the record and what was expected."""

import functools
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from command_line import UserError
from data import records
from data.conversion import verification
from data.preprocessing import PREPROCESSING, Preprocess

PICTURE = tf.io.encode_png(np.full([4, 4, 1], 3, np.uint8)).numpy()


def as_float(image, seed=None):
    return tf.ensure_shape(tf.cast(image, tf.float32), [4, 4, 3])


def evaluate(dataset, labels_offset=0):
    with records.explain_errors(dataset, "train", labels_offset):
        for _ in records.evaluation_batches(dataset, "train", as_float, 4, labels_offset):
            pass


def train(dataset, labels_offset=0, cached_bytes=0):
    with records.explain_errors(dataset, "train", labels_offset):
        batches = records.training_batches(
            dataset, "train", as_float, 4, 0, labels_offset=labels_offset, cached_bytes=cached_bytes
        )
        for _ in batches.take(8):
            pass


PASSES = pytest.mark.parametrize(
    "run",
    [evaluate, train, functools.partial(train, cached_bytes=2**20)],
    ids=["evaluate", "stream", "cache"],
)


def record_offsets(path):
    """Where each record starts: 8 bytes of length and 4 of its checksum, the data, 4 of its checksum."""
    content = Path(path).read_bytes()
    offsets = [0]
    while offsets[-1] < len(content):
        (length,) = struct.unpack_from("<Q", content, offsets[-1])
        offsets.append(offsets[-1] + 12 + length + 4)
    return offsets


def replace_record(path, number, feature):
    """Writes the file again with record `number` changed: serialised bytes, or a dict of features."""
    held = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    if isinstance(feature, dict):
        feature = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    held[number] = feature
    with tf.io.TFRecordWriter(path) as writer:
        for record in held:
            writer.write(record)


def of_bytes(*values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def of_ints(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def good_features(**changes):
    features = {"image/encoded": of_bytes(PICTURE), "image/class/label": of_ints(2)}
    features.update({key.replace("_", "/"): value for key, value in changes.items()})
    return {key: value for key, value in features.items() if value is not None}


def fault_of(run, dataset, labels_offset=0):
    with pytest.raises(records.DataError) as caught:
        run(dataset, labels_offset)
    message = str(caught.value)
    assert "\n" not in message
    return message


@PASSES
def test_truncated_file(make_dataset, run):
    dataset = make_dataset((6, 6))
    path = dataset.files("train")[1]
    os.truncate(path, record_offsets(path)[4] + 30)
    assert fault_of(run, dataset).startswith(f"{path}, record 4 (counted from 0): the record is cut short")


@PASSES
@pytest.mark.parametrize("place", [4, 40], ids=["length", "data"])
def test_flipped_byte(make_dataset, run, place):
    dataset = make_dataset((6, 6))
    path = dataset.files("train")[1]
    with open(path, "r+b") as file:
        file.seek(record_offsets(path)[3] + place)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    assert fault_of(run, dataset).startswith(f"{path}, record 3 (counted from 0): the record is damaged")


def test_a_file_that_is_no_tfrecord_file(make_dataset):
    dataset = make_dataset((6,))
    path = dataset.files("train")[0]
    with open(path, "wb") as file:
        file.write(b"label,image\n" * 50)
    assert f"{path}, record 0" in fault_of(evaluate, dataset)


@PASSES
@pytest.mark.parametrize("key", ["image/encoded", "image/class/label"])
def test_missing_key(make_dataset, run, key):
    dataset = make_dataset((6,))
    path = dataset.files("train")[0]
    replace_record(path, 5, good_features(**{key: None, "image/format": of_bytes(b"png")}))
    message = fault_of(run, dataset)
    assert message.startswith(f"{path}, record 5 (counted from 0): key {key!r} is missing")
    assert "image/format" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"image_class/label": of_bytes(b"2")},
            "'image/class/label' holds 1 in its bytes_list; expected a class number",
        ),
        ({"image_class/label": of_ints(1, 2)}, "'image/class/label' holds 2 in its int64_list"),
        (
            {"image_encoded": of_bytes()},
            "'image/encoded' holds no value; expected the bytes of an image file",
        ),
    ],
)
def test_key_of_another_kind(make_dataset, changes, expected):
    dataset = make_dataset((6,))
    replace_record(dataset.files("train")[0], 2, good_features(**changes))
    message = fault_of(evaluate, dataset)
    assert "record 2 (counted from 0)" in message
    assert expected in message


def test_a_record_that_is_no_example(make_dataset):
    dataset = make_dataset((6,))
    replace_record(dataset.files("train")[0], 2, b"\xff not a protocol buffer")
    assert "record 2 (counted from 0): not a tf.train.Example" in fault_of(evaluate, dataset)


@PASSES
@pytest.mark.parametrize(
    ("label", "labels_offset", "allowed"),
    [(5, 0, "0 to 4"), (-1, 0, "0 to 4"), (5, 1, "1 to 4"), (0, 1, "1 to 4")],
)
def test_label_outside_the_classes(make_dataset, run, label, labels_offset, allowed):
    dataset = make_dataset((6,))
    path = dataset.files("train")[0]
    for number in range(6):
        replace_record(path, number, good_features())
    replace_record(path, 3, good_features(**{"image_class/label": of_ints(label)}))
    message = fault_of(run, dataset, labels_offset)
    assert message.startswith(f"{path}, record 3 (counted from 0): label {label} is out of range; expected {allowed} ")
    assert ("labels_offset=1" in message) == (labels_offset == 1)


@PASSES
@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"<html>not found</html>",
        PICTURE[:-30],
        tf.io.encode_jpeg(np.zeros([9, 9, 3], np.uint8)).numpy()[:300],
    ],
    ids=["empty", "text", "cut png", "cut jpeg"],
)
def test_image_that_does_not_decode(make_dataset, run, encoded):
    dataset = make_dataset((6,))
    path = dataset.files("train")[0]
    replace_record(path, 1, good_features(image_encoded=of_bytes(encoded)))
    message = fault_of(run, dataset)
    assert message.startswith(f"{path}, record 1 (counted from 0): the image does not decode")
    assert f"{len(encoded)} bytes that begin with {encoded[:8]!r}" in message
    assert "function_node" not in message


def of_floats(*values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def boxes(**changes):
    sides = {"ymin": of_floats(0.1), "xmin": of_floats(0.2), "ymax": of_floats(0.9), "xmax": of_floats(1.0)}
    return {f"image/object/bbox/{side}": value for side, value in (sides | changes).items()}


BAD_BOXES = pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"xmax": of_floats(1.5)}, "bounding box ymin 0.100000001, xmin 0.200000003, .* xmax 1.5 is not within 0 to 1"),
        ({"ymin": of_floats(float("nan"))}, "bounding box ymin nan, .* is not within 0 to 1"),
        ({"ymin": of_floats(0.1, 0.2)}, "its bounding boxes have 2 of image/object/bbox/ymin, 1 of .*xmin"),
        ({"xmin": of_ints(0)}, "key 'image/object/bbox/xmin' holds an int64_list, expected a float_list"),
    ],
    ids=["range", "nan", "count", "kind"],
)


@BAD_BOXES
@pytest.mark.parametrize("cached_bytes", [0, 2**20], ids=["stream", "cache"])
def test_bounding_boxes_that_are_none(make_dataset, changes, fault, cached_bytes):
    dataset = make_dataset((6,))
    replace_record(dataset.files("train")[0], 3, good_features() | boxes(**changes))
    preprocess = Preprocess(PREPROCESSING["resnet"], 8, 8, is_training=True)
    match = f"record 3 .counted from 0.: {fault}"
    with pytest.raises(records.DataError, match=match), records.explain_errors(dataset, "train"):
        for _ in records.training_batches(dataset, "train", preprocess, 4, 0, cached_bytes=cached_bytes).take(8):
            pass
    # A pass without boxes has no use for them.
    train(dataset)


@BAD_BOXES
def test_verification_reads_bounding_boxes(make_dataset, changes, fault):
    dataset = make_dataset((6,))
    verification.verify(dataset.directory)
    replace_record(dataset.files("train")[0], 3, good_features() | boxes())
    verification.verify(dataset.directory)
    replace_record(dataset.files("train")[0], 3, good_features() | boxes(**changes))
    with pytest.raises(records.DataError, match=f"record 3 .counted from 0.: {fault}"):
        verification.verify(dataset.directory)


@PASSES
@pytest.mark.parametrize("promised", [11, 13])
def test_count_that_differs_from_the_description(make_dataset, run, promised):
    dataset = make_dataset((8, 4), count=promised)
    message = fault_of(run, dataset)
    assert message.startswith("found 12 records in the 'train' split of 'toy'")
    assert f"expected {promised} by {dataset.directory / 'dataset.json'}" in message
    assert f"{dataset.files('train')[1]}: 4" in message


@PASSES
def test_shards_without_a_record(make_dataset, run):
    dataset = make_dataset((0, 0), count=3)
    assert fault_of(run, dataset).startswith("found 0 records")


def test_a_file_that_goes_while_it_is_read(make_dataset):
    dataset = make_dataset((6, 6))
    batches = records.evaluation_batches(dataset, "train", as_float, 4)
    os.remove(dataset.files("train")[1])
    with pytest.raises(records.DataError, match="found 6 records"), records.explain_errors(dataset, "train"):
        list(batches)


def test_an_error_that_the_records_do_not_explain_passes_unchanged(make_dataset):
    dataset = make_dataset()
    error = tf.errors.InvalidArgumentError(None, None, "shapes differ")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught, records.explain_errors(dataset, "train"):
        raise error
    assert caught.value is error
    with pytest.raises(KeyError), records.explain_errors(dataset, "train"):
        raise KeyError("no business of the data")


def test_whole_split_has_no_fault(make_dataset):
    assert records.find_fault(make_dataset((6, 0, 6)), "train") is None


@pytest.mark.parametrize("labels_offset", [-1, 5])
def test_labels_offset_that_leaves_no_class(make_dataset, labels_offset):
    with pytest.raises(UserError, match=f"labels_offset is {labels_offset}, expected 0 to 4"):
        evaluate(make_dataset(), labels_offset)


@pytest.mark.parametrize(("setting", "value"), [("batch_size", 0), ("first_step", -1), ("shuffle_buffer", -1)])
def test_settings_out_of_range(make_dataset, setting, value):
    settings = {"batch_size": 4, "seed": 0, setting: value}
    with pytest.raises(UserError, match=f"{setting} is {value}, expected at least"):
        records.training_batches(make_dataset(), "train", as_float, **settings)
