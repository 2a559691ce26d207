"""The other families, all distortions of inception, other numbers of channels, and decoding."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from preprocessing_toys import (
    FAMILIES,
    MEANS,
    evaluate,
    legacy_bilinear,
    noise_image,
    ramp_image,
    smooth_image,
    train_many,
)

from command_line import UserError
from data import preprocessing


def test_official_resnet_evaluation_is_short_side_256_and_the_middle_224():
    image = ramp_image(64, 96, 2)
    output = evaluate("resnet", image, 224, 224) + MEANS
    resized = legacy_bilinear(image, 256, 384)
    np.testing.assert_allclose(output, resized[16:240, 80:304], atol=1e-3)


def test_official_resnet_truncates_the_longer_side():
    image = smooth_image(150, 203)
    output = evaluate("resnet", image, 224, 224) + MEANS
    # 203 * 256 / 150 = 346.45.
    np.testing.assert_allclose(output, legacy_bilinear(image, 256, 346)[16:240, 61:285], atol=1e-2)
    # 205 * 256 / 150 = 349.87, of which research/slim makes 350.
    image = smooth_image(150, 205)
    output = evaluate("resnet", image, 224, 224) + MEANS
    np.testing.assert_allclose(output, legacy_bilinear(image, 256, 349)[16:240, 62:286], atol=1e-2)
    slims = evaluate("vgg", image, 224, 224) + MEANS
    np.testing.assert_allclose(slims, legacy_bilinear(image, 256, 350)[16:240, 63:287], atol=1e-2)


def test_official_resnet_training_covers_a_tenth_of_a_box():
    family = preprocessing.PREPROCESSING["resnet"]
    box = tf.constant([[[0.7, 0.7, 0.9, 0.9]]])
    shape = tf.constant([200, 300, 3])
    draw = tf.function(lambda seed: family.window(shape, seed, box), autograph=False)
    areas = []
    for number in range(200):
        offset, size = (value.numpy() for value in draw(tf.constant([3, number])))
        covered = [
            max(0, min(offset[axis] + size[axis], 0.9 * whole) - max(offset[axis], 0.7 * whole))
            for axis, whole in ((0, 200), (1, 300))
        ]
        assert covered[0] * covered[1] >= 0.09 * (0.2 * 200) * (0.2 * 300)
        areas.append(size[0] * size[1] / 60_000)
    assert 0.045 < min(areas) < 0.1 and max(areas) > 0.8
    unboxed = [family.window(shape, tf.constant([3, number]))[1].numpy() for number in range(100)]
    assert min(size[0] * size[1] for size in unboxed) / 60_000 >= 0.095  # A tenth of the whole picture.


def test_lenet_crops_or_pads_and_scales_by_128():
    image = ramp_image(4, 6, 30)
    output = evaluate("lenet", image, 6, 4)
    np.testing.assert_array_equal(output[0], np.full([4, 3], -1))  # Zeros around, which become -1.
    np.testing.assert_array_equal(output[1:5], (image[:, 1:5].astype(float) - 128) / 128)
    trained = preprocessing.get_preprocessing("lenet", is_training=True)(image, 6, 4, seed=[1, 2])
    np.testing.assert_array_equal(trained, output)


def test_data_set_means_put_the_mean_colour_around_the_picture():
    family = preprocessing.PREPROCESSING["cifar_mean"]
    image = noise_image(32, 32)
    means, deviations = [125.307, 122.950, 113.865], [62.993, 62.089, 66.705]
    expected = (image - np.array(means)) / deviations
    np.testing.assert_allclose(evaluate("cifar_mean", image, 32, 32), expected, atol=1e-5)
    padded = np.pad(expected, [[4, 4], [4, 4], [0, 0]])
    for output in train_many(family, image, 32, 10):
        fits = [
            np.allclose(output, padded[top : top + 32, left : left + 32][:, ::step], atol=1e-4)
            for top in range(9)
            for left in range(9)
            for step in (1, -1)
        ]
        assert sum(fits) == 1


def test_inception_full_resizes_in_four_ways():
    family = dataclasses.replace(
        preprocessing.PREPROCESSING["inception_full"],
        max_brightness_delta=0.0,
        saturation_range=(1.0, 1.0),
        max_hue_delta=0.0,
        contrast_range=(1.0, 1.0),
        area_range=(0.999, 1.0),
        aspect_ratio_range=(0.999, 1.001),
    )
    # Where pixels meet pixels, as from 48 to 16, three of the four are the same. The cubic kernel swings beyond its
    # input, and must not come to black or white here, where distorted colours are clipped.
    image = noise_image(40, 40) // 2 + 64
    places = np.arange(16) * 5 // 2
    expected = {
        "bilinear": legacy_bilinear(image, 16, 16),
        "nearest": image[places][:, places].astype(float),
        **{
            method.lower(): tf.compat.v1.image.resize(image[np.newaxis].astype(np.float32), [16, 16], method)[0].numpy()
            for method in ("area", "bicubic")
        },
    }
    outputs = [(output + 1) * 127.5 for output in train_many(family, image, 16, 40)]
    found = set()
    for output in outputs:
        names = [
            name
            for name, value in expected.items()
            if np.allclose(output, value, atol=0.02) or np.allclose(output[:, ::-1], value, atol=0.02)
        ]
        assert len(names) == 1
        found.update(names)
    assert found == set(expected)


def test_inception_full_changes_contrast_and_hue_too():
    rows = np.tile(np.uint8([[[150, 100, 100]], [[60, 40, 40]]]), [8, 16, 1])
    plain = dataclasses.replace(
        preprocessing.PREPROCESSING["inception_full"],
        max_brightness_delta=0.0,
        saturation_range=(1.0, 1.0),
        max_hue_delta=0.0,
        area_range=(0.999, 1.0),
        aspect_ratio_range=(0.999, 1.001),
    )
    outputs = (train_many(plain, rows, 16, 100) + 1) * 127.5
    # The two greys lie 90 apart in red: contrast alone moves them, by 0.5 to 1.5.
    spread = (outputs[..., 0].max(axis=(1, 2)) - outputs[..., 0].min(axis=(1, 2))) / 90
    assert 0.45 < spread.min() < 0.6 and 1.4 < spread.max() < 1.55
    turned = dataclasses.replace(plain, max_hue_delta=0.2, contrast_range=(1.0, 1.0))
    outputs = (train_many(turned, rows, 16, 100) + 1) * 127.5
    differences = outputs[:, 0, 0, 1] - outputs[:, 0, 0, 2]
    # Red turns towards yellow (green over blue) and towards violet, by up to 72 degrees of the wheel.
    assert differences.min() < -15 and differences.max() > 15


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_grey_and_colour_images_keep_their_channels(name, channels):
    family = dataclasses.replace(preprocessing.PREPROCESSING[name], channels=channels)
    image = tf.constant(noise_image(40, 50)[..., :channels])
    for is_training in (False, True):
        output = preprocessing.Preprocess(family, 24, 24, is_training)(image, seed=[1, 2])
        assert output.shape == [24, 24, channels]
        assert np.isfinite(output).all()


def test_four_channels_need_four_means():
    image = tf.constant(np.random.RandomState(0).randint(0, 256, [20, 20, 4]), tf.uint8)
    family = dataclasses.replace(preprocessing.PREPROCESSING["vgg"], channels=4)
    with pytest.raises(UserError, match="3 means or deviations for images of 4 channels"):
        preprocessing.Preprocess(family, 16, 16)(image)
    family = dataclasses.replace(family, means=(1.0, 2.0, 3.0, 4.0))
    assert preprocessing.Preprocess(family, 16, 16)(image).shape == [16, 16, 4]
    assert preprocessing.Preprocess(dataclasses.replace(preprocessing.PREPROCESSING["cifar"], channels=4), 16, 16)(
        image
    ).shape == [16, 16, 4]


def test_a_grey_picture_loses_the_luminance_of_the_means():
    family = dataclasses.replace(preprocessing.PREPROCESSING["vgg"], channels=1)
    output = preprocessing.Preprocess(family, 4, 4)(tf.fill([8, 8, 1], tf.constant(200, tf.uint8)))
    luminance = 0.299 * 123.68 + 0.587 * 116.78 + 0.114 * 103.94
    np.testing.assert_allclose(output, np.full([4, 4, 1], 200 - luminance), atol=1e-3)


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_decoding_the_window_of_a_jpeg_equals_cutting_it_out(name, is_training):
    # Flat 16 x 16 squares: the border of a window shares no chroma with what is outside it. (It would within a pixel of
    # a square's border, which none of these windows has.)
    squares = np.random.RandomState(1).randint(0, 256, [6, 8, 3]).astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    encoded = tf.io.encode_jpeg(squares, quality=95)
    preprocess = preprocessing.Preprocess(preprocessing.PREPROCESSING[name], 32, 32, is_training)
    for number in range(4):
        seed = [3, number]
        whole = preprocess(tf.io.decode_jpeg(encoded, channels=3), seed=seed)
        np.testing.assert_allclose(preprocess.from_encoded(encoded, seed=seed), whole, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
def test_any_image_file_is_decoded_to_the_channels_asked_for(encode):
    grey = tf.constant(noise_image(30, 40)[..., :1])
    for channels in (1, 3):
        for name in ("vgg", "inception"):
            family = dataclasses.replace(preprocessing.PREPROCESSING[name], channels=channels)
            for is_training in (False, True):
                preprocess = preprocessing.Preprocess(family, 16, 16, is_training)
                assert preprocess.from_encoded(encode(grey), seed=[0, 1]).shape == [16, 16, channels]


def test_official_resnet_training_flips_and_then_resizes():
    """The other way round, columns of the mirrored picture would be taken at other places (TensorFlow 1's resize)."""
    family = dataclasses.replace(preprocessing.PREPROCESSING["resnet"], means=(0.0, 0.0, 0.0))
    image = noise_image(16, 16)
    flipped = legacy_bilinear(image[:, ::-1], 8, 8)
    assert np.abs(flipped - legacy_bilinear(image, 8, 8)[:, ::-1]).max() > 10
    found = set()
    for number in range(8):
        output = family.distort(tf.constant(image), 8, 8, tf.constant([5, number])).numpy()
        found.add(next(name for name, value in {"plain": legacy_bilinear(image, 8, 8), "flipped": flipped}.items()
                       if np.allclose(output, value, atol=1e-3)))  # fmt: skip
    assert found == {"plain", "flipped"}
