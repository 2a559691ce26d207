"""Where the images of a feature extraction come from: image files, or records."""

import glob
import hashlib
import os
import re
from typing import NamedTuple

import tensorflow as tf

from command_line import UserError, first_line
from data import catalog
from data.parsing import FILENAME_KEY, IMAGE_KEY, LABEL_KEY
from data.record_errors import DataError, count_fault
from inference.image_files import ImageItem, list_images

_RECORDS_BY_NAME = re.compile(r"\.tfrecords?\b|-\d{5}-of-\d{5}$")


class Source(NamedTuple):
    """Images in a fixed order.

    Attributes:
      items: A function: the number of items to skip -> an iterator of the ImageItems after them.
      count: How many there are; None if only reading tells.
      labelled: Whether the items have labels.
      files: Paths of what is read; empty for standard input.
    """

    items: object
    count: int | None
    labelled: bool
    files: list

    def digest(self):
        """Changes when a file is added, removed, renamed, or changes its size."""
        sums = hashlib.sha256()
        for path in self.files:
            size = os.path.getsize(path) if os.path.exists(path) else -1
            sums.update(os.fsencode(f"{path}\0{size}\0"))
        return sums.hexdigest()[:16]


def open_source(images, split=None):
    """Opens what `--images` names.

    Args:
      images: Paths: one folder with a dataset.json; or TFRecord files (.tfrecord in the name, or -00000-of-00001 at its
        end) and patterns of them; or images as `image_files.list_images` takes them.
      split: Split of the data set; None for its evaluation split. Only for a data set.

    Returns:
      A Source.

    Raises:
      UserError: If nothing is found, the split is unknown or does not apply, or records and images are mixed.
    """
    images = list(map(str, images))
    folders = [path for path in images if os.path.exists(os.path.join(path, catalog.DESCRIPTION_FILE))]
    if folders:
        if len(images) > 1:
            raise UserError(f"--images names data set {folders[0]} and more; give one data set alone")
        return _dataset_source(folders[0], split)
    if split is not None:
        raise UserError(f"--dataset_split_name is {split}, but {images[0]} is no folder with a dataset.json")
    record_files = [path for pattern in images for path in _record_files(pattern)]
    if not record_files:
        items = list_images(images)
        return Source(lambda start: iter(items[start:]), len(items), False, [i.name for i in items if i.data is None])
    stray = [pattern for pattern in images if not _record_files(pattern)]
    if stray:
        raise UserError(f"{record_files[0]} holds records, but {stray[0]} does not; give records alone or images alone")
    return Source(lambda start: _records(record_files, start), None, True, record_files)


def _dataset_source(folder, split):
    dataset = catalog.open_dataset(directory=folder)
    split = split or dataset.row.eval_split
    files, count = dataset.files(split), dataset.num_records(split)

    def items(start):
        counts = {}
        yield from _records(files, start, counts)
        if sum(counts.values()) != count:
            raise DataError(count_fault(dataset, split, counts))

    return Source(items, count, True, files)


def _record_files(pattern):
    """The TFRecord files that a path or pattern names; none if it names something else."""
    if not _RECORDS_BY_NAME.search(os.path.basename(pattern)):
        return []
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        found = [pattern] if os.path.isfile(pattern) else []
    else:
        found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not found:
        raise UserError(f"no TFRecord file at {pattern}: give the path of one, or of a folder with a dataset.json")
    return found


def _records(files, start, counts=None):
    """Yields an ImageItem for each record after the first `start`; `counts` gets the number of records of each file."""
    position = 0
    for path in files:
        number = 0
        try:
            for number, record in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator(), 1):
                if position >= start:
                    yield _item(path, number - 1, record)
                position += 1
        except tf.errors.OpError as error:
            raise DataError(
                f"{path}, record {number} (counted from 0): it cannot be read ({first_line(error)}); expected an "
                "uncompressed TFRecord file: copy or convert the file again"
            ) from error
        if counts is not None:
            counts[path] = number


def _item(path, number, record):
    name = f"{path}:{number}"
    try:
        features = tf.train.Example.FromString(record).features.feature
        (data,), (label,) = features[IMAGE_KEY].bytes_list.value, features[LABEL_KEY].int64_list.value
        filename = os.fsdecode(b"".join(features[FILENAME_KEY].bytes_list.value)) if FILENAME_KEY in features else None
    except Exception:  # protobuf's DecodeError, for which TensorFlow has no public name, and keys without a value.
        raise DataError(
            f"{path}, record {number} (counted from 0): expected a tf.train.Example with one {IMAGE_KEY} and one "
            f"{LABEL_KEY}; --verify of download_and_convert_data.py says more"
        ) from None
    return ImageItem(name, data, label, filename, upright=False)
