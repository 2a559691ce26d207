"""Small data sets on disk, in which record i is a picture of i."""

import json

import numpy as np
import pytest
import tensorflow as tf

from data import catalog, records

SIDE = 4


def picture_of(number):
    return tf.io.encode_png(np.full([SIDE, SIDE, 1], number, np.uint8)).numpy()


@pytest.fixture
def make_dataset(tmp_path):
    """A function of the records in each shard of "train"; record i has pixels i and label i % num_classes.

    What else it is given stands in dataset.json.
    """

    def make(shards=(10,), num_classes=5, count=None, **more):
        number = 0
        for shard, size in enumerate(shards):
            numbers = range(number, number + size)
            examples = ((picture_of(i), "png", i % num_classes, SIDE, SIDE) for i in numbers)
            records.write_examples(tmp_path / f"toy_train-{shard}.tfrecord", examples)
            number += size
        description = {
            "name": "toy",
            "splits": {"train": number if count is None else count},
            "class_names": [f"class {label}" for label in range(num_classes)],
            "file_pattern": "toy_{split}-*.tfrecord",
            **more,
        }
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        return catalog.open_dataset(directory=tmp_path)

    return make
