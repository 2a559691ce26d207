"""Crops by Pillow and by plain tf.image against those of data.preprocessing, and what random ones keep to."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks import input_contestants, made_images
from benchmarks.crops import Crop
from data import preprocessing

# (image, the value of black, the value of white) of each family.
RANGES = {
    "inception": (-1.0, 1.0),
    "torchvision": (
        -np.divide([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225],
    ),
    "resnet": (np.array([-123.68, -116.78, -103.94]), np.array([131.32, 138.22, 151.06])),
    "vgg": (np.array([-123.68, -116.78, -103.94]), np.array([131.32, 138.22, 151.06])),
}


@pytest.fixture(scope="module")
def picture():
    (encoded,) = made_images.make_photographs(1, seed=5, sizes=[(300, 240)])
    # Blurred, so that all filters give nearly the same.
    return Image.open(io.BytesIO(encoded)).filter(ImageFilter.GaussianBlur(4))


@pytest.mark.parametrize("family", RANGES)
def test_evaluation_shows_what_the_zoos_preprocessing_shows(picture, family):
    black, white = RANGES[family]
    expected = preprocessing.get_preprocessing(family)(np.asarray(picture), 96, 96)
    expected = (expected - black) / (white - black) * 255
    crop = Crop(family, is_training=False, side=96)
    found = crop.apply(picture, None) * 64 + 127.5
    plain = input_contestants.plain_crop(np.asarray(picture), crop).numpy()
    for pixels in (found, plain):
        assert pixels.shape == (96, 96, 3) and pixels.dtype == np.float32
        # Half a pixel may differ. Eight pixels off, the part to the left agrees less.
        assert np.corrcoef(pixels.ravel(), np.ravel(expected))[0, 1] > 0.98
        assert np.corrcoef(pixels[:, 8:].ravel(), np.ravel(expected[:, :-8]))[0, 1] < 0.9


@pytest.mark.parametrize("family", RANGES)
def test_random_windows_keep_to_their_family(family):
    crop, random = Crop(family, is_training=True, side=224), np.random.default_rng(0)
    windows = [crop.window(500, 375, random) for _ in range(2000)]
    left, top, right, bottom, mirrored = np.array(windows).T
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 500 and bottom.max() <= 375
    across, down = right - left, bottom - top
    if family == "vgg":
        # 224 pixels of a short side of 256 to 512.
        assert np.allclose(across, down)
        assert across.min() >= 375 * 224 / 512 - 1e-6 and across.max() <= 375 * 224 / 256 + 1e-6
    else:
        area, aspect = across * down / (500 * 375), across / down
        assert area.min() >= (0.08 if family == "torchvision" else 0.1) - 0.005 and area.max() > 0.95
        assert 0.74 < aspect.min() < 0.8 and 1.28 < aspect.max() < 1.35
    assert 0.45 < mirrored.mean() < 0.55
    assert len(set(windows)) > 1900


@pytest.mark.parametrize("family", RANGES)
def test_random_crops_have_the_size(picture, family):
    crop = Crop(family, is_training=True, side=64)
    assert crop.apply(picture, np.random.default_rng(0)).shape == (64, 64, 3)
    assert input_contestants.plain_crop(np.asarray(picture), crop).shape == (64, 64, 3)


def test_a_mirrored_window_is_mirrored(monkeypatch, picture):
    crop = Crop("vgg", is_training=True, side=32)
    window = crop.window(*picture.size, np.random.default_rng(0))
    shown = {}
    for mirrored in (False, True):
        monkeypatch.setattr(Crop, "window", lambda *_, m=mirrored: window._replace(mirrored=m))
        shown[mirrored] = crop.apply(picture, None)
    np.testing.assert_array_equal(shown[True], shown[False][:, ::-1])


def test_a_picture_that_no_window_fits():
    crop = Crop("torchvision", is_training=True, side=8)
    assert crop.window(1000, 1, np.random.default_rng(0))[:4] == (0, 0, 1000, 1)
