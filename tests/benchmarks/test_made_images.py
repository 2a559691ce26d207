"""Made images have the sizes and the spectrum of photographs, and are the same for a seed."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import made_images
from data import records
from data.conversion import verification


def opened(encoded):
    return Image.open(io.BytesIO(encoded))


def test_photographs_are_jpegs_of_imagenets_size_and_weight():
    images = list(made_images.make_photographs(6, seed=0))
    assert [opened(encoded).size for encoded in images] == list(made_images.PHOTOGRAPH_SIZES)
    assert {opened(encoded).format for encoded in images} == {"JPEG"}
    # 1,281,167 images of ImageNet are 138 GiB.
    assert np.mean([len(encoded) for encoded in images]) == pytest.approx(138 * 2**30 / 1_281_167, rel=0.15)


def test_a_seed_makes_the_same_images():
    one, two, other = (list(made_images.make_photographs(2, seed, [(60, 40)])) for seed in (0, 0, 1))
    assert one == two and one[0] != one[1] and set(one).isdisjoint(other)


def test_amplitudes_fall_as_one_over_frequency():
    (encoded,) = made_images.make_photographs(1, seed=2, sizes=[(512, 512)])
    grey = np.asarray(opened(encoded).convert("L"), float)
    amplitudes = np.abs(np.fft.fft2(grey - grey.mean()))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512)))
    bands = [(0.01, 0.02), (0.02, 0.04), (0.04, 0.08), (0.08, 0.16)]
    means = [np.log(amplitudes[(low <= frequency) & (frequency < high)].mean()) for low, high in bands]
    slopes = np.diff(means) / np.log(2)
    np.testing.assert_allclose(slopes, -1.0, atol=0.25)


def test_thumbnails_keep_their_pixels_in_records(tmp_path):
    images = list(made_images.make_thumbnails(5, seed=0, side=32))
    dataset = made_images.write_dataset(tmp_path / "set", "thumbs", images, "png", ["a", "b"], [32, 32, 3])
    assert dataset.splits == {"train": 5} and dataset.image_shape == (32, 32, 3)
    ((pixels, labels),) = records.evaluation_batches(dataset, "train", lambda image: image, batch_size=5)
    assert labels.numpy().tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_array_equal(pixels, [np.asarray(opened(encoded)) for encoded in images])
    report, _ = verification.verify(dataset.directory)
    assert report["splits"]["train"]["duplicates"] == 0
