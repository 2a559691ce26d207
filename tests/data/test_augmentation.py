"""Random erasing, mixup and cutmix against what their papers say."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from data import preprocessing
from data.mixing import Mixing
from data.preprocessing.augmentation import Augmentation


def seeds(count):
    return [tf.constant([11, number], tf.int64) for number in range(count)]


def test_erasing_fills_one_rectangle_of_the_drawn_area_in_the_drawn_share_of_images():
    image = tf.zeros([40, 60, 3])
    erase = tf.function(Augmentation(random_erasing=0.7).erase, autograph=False)
    outputs = [erase(image, seed).numpy() for seed in seeds(300)]
    masks = [(output != 0).all(axis=-1) for output in outputs]
    erased = [mask for mask in masks if mask.any()]
    assert 0.6 < len(erased) / 300 < 0.8
    areas, ratios, corners = [], [], set()
    for mask in erased:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns)  # One rectangle, without holes.
        areas.append(mask.sum() / mask.size)
        ratios.append(len(rows) / len(columns))
        corners.add((rows[0], columns[0]))
    assert 0.01 < min(areas) < 0.06 and 0.3 < max(areas) < 0.42
    assert min(ratios) < 0.5 and max(ratios) > 2
    assert len(corners) > 100
    noise = np.concatenate([output[mask] for output, mask in zip(outputs, masks, strict=True)])
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)


def test_nothing_is_added_by_default():
    family = preprocessing.PREPROCESSING["cifar"]
    image = tf.constant(np.random.default_rng(0).integers(0, 256, [32, 32, 3]), tf.uint8)
    plain = family.normalize(family.distort(image, 32, 32, [1, 2]))
    preprocess = preprocessing.Preprocess(family, 32, 32, is_training=True)
    np.testing.assert_array_equal(preprocess(image, [1, 2]), plain)
    erasing = dataclasses.replace(preprocess, augmentation=Augmentation(random_erasing=1.0))
    changed = (erasing(image, [1, 2]) != plain).numpy().any(axis=-1)
    # The rest of the picture is as it was: erasing draws from a seed of its own.
    assert 0.01 < changed.mean() < 0.45
    augmented = dataclasses.replace(preprocess, augmentation=Augmentation(rand_augment_layers=2))
    outputs = {augmented(image, [1, number]).numpy().tobytes() for number in range(5)}
    assert len(outputs) == 5


IMAGES = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones([4, 20, 30, 3], np.float32)
LABELS = np.array([0, 1, 2, 2], np.int32)


def test_mixup_weighs_each_image_with_the_batch_in_reverse_order():
    parts = []
    for seed in seeds(400):
        images, targets = Mixing(mixup_alpha=0.4).mix(tf.constant(IMAGES), tf.constant(LABELS), 3, seed)
        part = targets[0, 0].numpy()
        parts.append(part)
        np.testing.assert_allclose(images, part * IMAGES + (1 - part) * IMAGES[::-1], atol=1e-5)
        np.testing.assert_allclose(targets, part * np.eye(3)[LABELS] + (1 - part) * np.eye(3)[LABELS[::-1]], atol=1e-6)
    # Beta(0.4, 0.4): mean 1/2, variance 1 / (4 (2 * 0.4 + 1)).
    assert np.mean(parts) == pytest.approx(0.5, abs=0.06)
    assert np.var(parts) == pytest.approx(1 / 7.2, abs=0.02)


def test_cutmix_puts_in_a_rectangle_and_weighs_labels_by_what_is_left():
    parts = []
    for seed in seeds(300):
        images, targets = Mixing(cutmix_alpha=1.0).mix(tf.constant(IMAGES), tf.constant(LABELS), 3, seed)
        other = (images.numpy() != IMAGES).all(axis=-1)
        assert (other == other[0]).all()  # Neighbours in reverse order differ everywhere: 0|3, 1|2.
        rows, columns = other[0].any(axis=1), other[0].any(axis=0)
        assert other[0].sum() == rows.sum() * columns.sum()
        np.testing.assert_array_equal(images.numpy()[other], IMAGES[::-1][other])
        part = 1 - other[0].mean()
        parts.append(part)
        np.testing.assert_allclose(targets, part * np.eye(3)[LABELS] + (1 - part) * np.eye(3)[LABELS[::-1]], atol=1e-6)
    # What is cut off at the border makes the own part larger than the 1/2 of Beta(1, 1).
    assert 0.5 < np.mean(parts) < 0.75
    assert min(parts) < 0.2 and max(parts) > 0.97


def test_both_mixtures_share_the_batches():
    mixing = Mixing(mixup_alpha=1.0, cutmix_alpha=1.0)
    blended = 0
    for seed in seeds(100):
        images, targets = mixing.mix(tf.constant(IMAGES), tf.constant(LABELS), 3, seed)
        np.testing.assert_allclose(tf.reduce_sum(targets, axis=1), 1, atol=1e-6)
        blended += not np.isin(images.numpy(), [0, 1, 2, 3]).all()
    assert 30 <= blended <= 70
    again, _ = mixing.mix(tf.constant(IMAGES), tf.constant(LABELS), 3, seed)
    np.testing.assert_array_equal(again, images)


def test_mixing_is_off_by_default():
    assert not Mixing().is_on
