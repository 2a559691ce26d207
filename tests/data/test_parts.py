"""Batches and evaluation passes divided among workers: put together, they are those of one process."""

import numpy as np
import pytest
import tensorflow as tf
from test_records import COUNT, SHARDS, SOURCES, pixel_and_noise

from command_line import UserError
from data import records
from data.mixing import Mixing

BATCH = 8


def picture_and_noise(image, seed=None):
    """float32 [1, 2, 1], as `pixel_and_noise`: what mixing takes for an image."""
    return tf.reshape(pixel_and_noise(image, seed), [1, 2, 1])


def batches_of(dataset, **settings):
    batches = records.training_batches(dataset, "train", picture_and_noise, BATCH, 3, **settings)
    return [(images, labels) for images, labels in batches.take(7).as_numpy_iterator()]


def places_of(worker, workers):
    """By hand: as many places from the front of a batch as from its back."""
    front = np.arange(BATCH // 2).reshape(workers, -1)[worker]
    return np.concatenate([front, BATCH - 1 - front[::-1]])


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize(("shuffle_buffer", "cached_bytes"), SOURCES)
def test_parts_make_up_the_batch_of_one_process(make_dataset, shuffle_buffer, cached_bytes, workers):
    dataset = make_dataset(SHARDS)
    settings = {"shuffle_buffer": shuffle_buffer, "cached_bytes": cached_bytes, "first_step": 2}
    whole = batches_of(dataset, **settings)
    for worker in range(workers):
        own = batches_of(dataset, worker=worker, num_workers=workers, **settings)
        places = places_of(worker, workers)
        for (images, labels), (all_images, all_labels) in zip(own, whole, strict=True):
            np.testing.assert_array_equal(images, all_images[places])
            np.testing.assert_array_equal(labels, all_labels[places])


@pytest.mark.parametrize("mixing", [Mixing(mixup_alpha=1.0), Mixing(cutmix_alpha=1.0)], ids=["mixup", "cutmix"])
def test_images_are_mixed_with_the_images_they_are_mixed_with_in_one_process(make_dataset, mixing):
    dataset = make_dataset(SHARDS)
    whole = batches_of(dataset, mixing=mixing)
    for worker in range(2):
        own = batches_of(dataset, mixing=mixing, worker=worker, num_workers=2)
        for (images, labels), (all_images, all_labels) in zip(own, whole, strict=True):
            np.testing.assert_array_equal(images, all_images[places_of(worker, 2)])
            np.testing.assert_array_equal(labels, all_labels[places_of(worker, 2)])


def test_a_batch_that_parts_cannot_share_is_an_error(make_dataset):
    with pytest.raises(UserError, match="batch_size is 8, expected a multiple of 6, twice the 3 workers"):
        batches_of(make_dataset(), num_workers=3)


# With 23 records in batches of 3, five workers get two batches or one; of ten, two get none.
@pytest.mark.parametrize("workers", [2, 5, 10])
def test_an_evaluation_scores_each_record_on_one_worker(make_dataset, workers):
    dataset = make_dataset(SHARDS)
    found = []
    for worker in range(workers):
        parts = records.evaluation_batches(dataset, "train", pixel_and_noise, 3, worker=worker, num_workers=workers)
        found += [int(images[0]) for batch, _ in parts.as_numpy_iterator() for images in batch]
    assert sorted(found) == list(range(COUNT))


def test_a_wrong_count_is_an_error_on_each_worker(make_dataset):
    dataset = make_dataset(SHARDS, count=COUNT + 1)
    for worker in range(2):
        parts = records.evaluation_batches(dataset, "train", pixel_and_noise, 3, worker=worker, num_workers=2)
        with pytest.raises(records.DataError), records.explain_errors(dataset, "train"):
            list(parts)
