"""Files divided among workers: every record is one worker's, and numbers are known before anything is read."""

import numpy as np
import pytest
import tensorflow as tf
from test_records import pixel_and_noise

from data import catalog, records, sharding

SHARDS = (3, 1, 4, 2, 5)


def records_of(part):
    """The records of a split, in order; of `make_dataset`, whose pixels are their numbers."""
    passed = records.evaluation_batches(part, "train", pixel_and_noise, batch_size=4)
    return [int(image[0]) for images, _ in passed.as_numpy_iterator() for image in images]


# By hand: worker i of n has the files from 5 i // n on to 5 (i + 1) // n.
@pytest.mark.parametrize(
    ("workers", "counts"), [(1, [15]), (2, [4, 11]), (3, [3, 5, 7]), (5, [3, 1, 4, 2, 5])], ids=["1", "2", "3", "5"]
)
def test_each_record_is_in_one_part_and_parts_follow_each_other(make_dataset, workers, counts):
    dataset = make_dataset(SHARDS)
    parts = [sharding.own_part(dataset, "train", worker, workers) for worker in range(workers)]
    assert [part.num_records("train") for part in parts] == counts
    assert sum(map(records_of, parts), []) == list(range(15))
    assert dataset.num_records("train") == 15 and len(dataset.files("train")) == 5


def test_records_are_counted_as_tensorflow_reads_them(tmp_path):
    digits = catalog.open_dataset()
    for split in digits.splits:
        files = digits.files(split)
        assert sum(map(sharding.count_records, files)) == digits.num_records(split)
        for path in files:
            assert sharding.count_records(path) == len(list(tf.data.TFRecordDataset(path)))
    (tmp_path / "empty").touch()
    assert sharding.count_records(tmp_path / "empty") == 0


@pytest.mark.parametrize("left_out", [1, 4, 5, 100], ids=["a_byte", "the_checksum", "more_than_it", "the_record"])
def test_a_file_that_is_cut_short_is_named_with_its_record(make_dataset, left_out):
    path = make_dataset((3,)).directory / "toy_train-0.tfrecord"
    content = path.read_bytes()
    path.write_bytes(content[:-left_out])
    with pytest.raises(
        records.DataError, match=r"toy_train-0.tfrecord, record 2 \(counted from 0\): the record is cut"
    ):
        sharding.count_records(path)


def test_a_length_that_cannot_be_one_is_damage(make_dataset):
    path = make_dataset((3,)).directory / "toy_train-0.tfrecord"
    content = bytearray(path.read_bytes())
    content[7] = 255  # The highest byte of the length of the first record.
    path.write_bytes(content)
    with pytest.raises(records.DataError, match=r"record 0 \(counted from 0\): the record is damaged"):
        sharding.count_records(path)


def test_an_epoch_of_a_part_holds_its_records_once(make_dataset):
    part = sharding.own_part(make_dataset(SHARDS), "train", 1, 3)
    for cached_bytes in (0, 2**20):
        batches = records.training_batches(part, "train", pixel_and_noise, 5, seed=1, cached_bytes=cached_bytes)
        for images, _ in batches.take(3).as_numpy_iterator():
            np.testing.assert_array_equal(np.sort(images[:, 0]), [3, 4, 5, 6, 7])
