"""What all families keep to, and vgg, inception, cifar and digits in detail."""

import dataclasses
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
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
from data.preprocessing import images


def test_resize_by_hand():
    # Output 0..3 look at input 0, 0.5, 1 and 1.5, and past the last pixel stands the last pixel.
    image = np.float32([[[0], [100]]])
    np.testing.assert_allclose(images.resize_bilinear(image, 1, 4)[0, :, 0], [0, 50, 100, 100])


@pytest.mark.parametrize("size", [(9, 31), (40, 17), (13, 21)])
def test_resize_against_numpy(size):
    image = noise_image(13, 21)
    np.testing.assert_allclose(images.resize_bilinear(image, *size), legacy_bilinear(image, *size), atol=1e-3)


def test_vgg_evaluation_by_hand():
    # At 28 the short side is 32 = 256 * 28 / 224, which it has: the crop starts at row 2 and column 10.
    outputs = evaluate("vgg", ramp_image(32, 48, 1), 28, 28)
    np.testing.assert_allclose(outputs[0, 0], [2 - 123.68, 10 - 116.78, -103.94], rtol=1e-6)
    np.testing.assert_allclose(outputs[-1, -1], [29 - 123.68, 37 - 116.78, -103.94], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "resized", "corner"),
    [
        ((300, 400), 224, (256, 341), (16, 58)),  # 400 * 256 / 300 = 341.33; research/slim's own numbers
        ((50, 40), 28, (40, 32), (6, 2)),
        ((20, 30), 299, (342, 513), (21, 107)),  # 256 * 299 / 224 = 341.7: larger than research/slim can crop
    ],
)
def test_vgg_evaluation_against_numpy(shape, size, resized, corner):
    image = noise_image(*shape)
    top, left = corner
    expected = legacy_bilinear(image, *resized)[top : top + size, left : left + size] - MEANS
    # TensorFlow places its samples in float32: up to 1e-5 pixels off, of 255 greys each.
    np.testing.assert_allclose(evaluate("vgg", image, size, size), expected, atol=1e-2)


def test_inception_evaluation_by_hand():
    # 87.5 % of 16 leave 14 from row 1 on, of which 7 outputs look at each other one: 1, 3, ... 13.
    outputs = evaluate("inception", ramp_image(16, 16, 10), 7, 7)
    np.testing.assert_allclose(outputs[:, 0, 0], np.arange(10, 140, 20) / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(outputs[0, :, 1], np.arange(10, 140, 20) / 127.5 - 1, atol=1e-6)


def test_inception_evaluation_against_numpy():
    # (61 - 53.375) / 2 = 3.8 and (40 - 35) / 2 = 2.5 are cut to 3 and 2; the aspect is not kept.
    image = noise_image(61, 40)
    expected = legacy_bilinear(image[3:58, 2:38], 32, 32) / 127.5 - 1
    np.testing.assert_allclose(evaluate("inception", image, 32, 32), expected, atol=1e-5)


def test_cifar_evaluation_by_hand():
    # Half 0 and half 200 have mean 100 and standard deviation 100.
    image = np.zeros([32, 32, 3], np.uint8)
    image[:16] = 200
    outputs = evaluate("cifar", image, 32, 32)
    np.testing.assert_allclose(outputs[:16], 1, rtol=1e-5)
    np.testing.assert_allclose(outputs[16:], -1, rtol=1e-5)


def test_cifar_evaluation_of_another_size_resizes_by_the_short_side():
    image = noise_image(48, 30)
    window = legacy_bilinear(image, 26, 16)[5:21]  # 48 * 16 / 30 = 25.6
    expected = (window - window.mean()) / window.std()
    np.testing.assert_allclose(evaluate("cifar", image, 16, 16), expected, atol=1e-4)


def test_digits_evaluation_against_numpy():
    image = noise_image(8, 8)
    np.testing.assert_allclose(evaluate("digits", image, 32, 32), legacy_bilinear(image, 32, 32) / 127.5 - 1, atol=1e-5)


def test_vgg_training_cuts_a_window_out_and_mirrors_half_of_them():
    # The side is fixed at 40 pixels, which the image has, so that windows keep its pixels.
    family = dataclasses.replace(preprocessing.PREPROCESSING["vgg"], resize_side_min=320, resize_side_max=320)
    image = noise_image(40, 40)
    outputs = np.rint(train_many(family, image, 28, 200) + MEANS).astype(np.uint8)
    places = {}
    for top in range(13):
        for left in range(13):
            window = image[top : top + 28, left : left + 28]
            places[window.tobytes()] = (top, left, False)
            places[window[:, ::-1].tobytes()] = (top, left, True)
    found = [places[np.ascontiguousarray(output).tobytes()] for output in outputs]
    tops, lefts, mirrored = zip(*found, strict=True)
    assert set(tops) == set(lefts) == set(range(13))
    assert 75 <= sum(mirrored) <= 125


def test_vgg_training_draws_the_side_from_once_to_twice_the_evaluation_side():
    # A row of the image is 4 darker than the next, and 64 rows become `side`: a step of 4 * 64 / side.
    outputs = train_many(preprocessing.PREPROCESSING["vgg"], ramp_image(64, 64, 4), 28, 300)
    sides = 256 / np.median(np.diff(outputs[:, :, 0, 0], axis=1), axis=1)
    assert sides.min() == pytest.approx(32, abs=0.6)
    assert sides.max() == pytest.approx(64, abs=0.6)
    assert sides.mean() == pytest.approx(48, abs=2)


def test_inception_training_stretches_a_part_of_the_image_and_mirrors_half_of_them():
    family = dataclasses.replace(
        preprocessing.PREPROCESSING["inception"], max_brightness_delta=0.0, saturation_range=(1.0, 1.0)
    )
    outputs = (train_many(family, ramp_image(64, 64, 4), 16, 200) + 1) * 127.5
    # Pixels of the image that an output pixel steps over, and from them the size of the part.
    heights = np.median(np.diff(outputs[:, :, 0, 0], axis=1), axis=1) / 4 * 16
    widths = np.median(np.diff(outputs[:, 0, :, 1], axis=1), axis=1) / 4 * 16
    assert 70 <= np.sum(widths < 0) <= 130
    widths = abs(widths)
    areas = heights * widths / 64**2
    # Drawn from 0.05 on, but a tenth of the object has to be in, and the object is the whole image.
    assert areas.min() == pytest.approx(0.1, abs=0.03)
    assert 0.85 < areas.max() < 1.02
    assert np.all((widths / heights > 0.75 * 0.9) & (widths / heights < 1.33 * 1.1))
    assert np.std(widths / heights) > 0.1


def test_inception_training_shifts_brightness_and_saturation():
    image = np.tile(np.uint8([150, 100, 100]), [16, 16, 1])
    colours = (train_many(preprocessing.PREPROCESSING["inception"], image, 4, 300)[:, 0, 0] + 1) * 127.5
    # Saturation keeps the largest channel, which brightness alone moves: by at most 32 of 255.
    moved = colours[:, 0] - 150
    assert -32 <= moved.min() < -29 and 29 < moved.max() <= 32
    saturation = (1 - colours[:, 1] / colours[:, 0]) / (50 / (150 + moved))
    assert saturation.min() == pytest.approx(0.5, abs=0.03)
    assert saturation.max() == pytest.approx(1.5, abs=0.03)


def test_cifar_training_moves_by_up_to_four_pixels_and_mirrors_half_of_them():
    image = noise_image(32, 32)
    padded = np.pad(image, [[4, 4], [4, 4], [0, 0]]).astype(np.float64)
    places = []
    for output in train_many(preprocessing.PREPROCESSING["cifar"], image, 32, 60):
        fits = []
        for top in range(9):
            for left in range(9):
                window = padded[top : top + 32, left : left + 32]
                window = (window - window.mean()) / window.std()
                fits += [(top, left, False)] * np.allclose(output, window, atol=1e-4)
                fits += [(top, left, True)] * np.allclose(output, window[:, ::-1], atol=1e-4)
        assert len(fits) == 1
        places += fits
    tops, lefts, mirrored = zip(*places, strict=True)
    assert set(tops) == set(lefts) == set(range(9))
    assert 15 <= sum(mirrored) <= 45


def test_digits_training_without_jitter_is_evaluation():
    family = preprocessing.Digits(max_shift=0.0, max_scale=0.0)
    image = noise_image(8, 8)
    np.testing.assert_allclose(train_many(family, image, 32, 1)[0], evaluate("digits", image, 32, 32), atol=1e-5)


def test_digits_training_moves_by_up_to_a_tenth_and_never_mirrors():
    image = ramp_image(8, 8, 30)
    outputs = train_many(preprocessing.PREPROCESSING["digits"], image, 32, 200)
    still = evaluate("digits", image, 32, 32)
    # How far from its place the middle, which scaling leaves alone, looks: 30 greys are a pixel of the image.
    moved = (outputs - still)[:, 15:17, 15:17, :2].mean(axis=(1, 2)) * 127.5 / 30
    assert 0.7 < abs(moved).max() <= 0.8 + 1e-3
    assert moved.min() < -0.6 and moved.max() > 0.6
    # Rows grow downwards and columns to the right, by 0.9 to 1.1 times the unscaled step.
    for channel, step in ((0, np.diff(outputs[:, 10:20, 14, 0])), (1, np.diff(outputs[:, 14, 10:20, 1]))):
        scale = step.mean(axis=1) * 127.5 / 30 * 4
        assert 0.9 - 1e-3 <= scale.min() < 0.92 and 1.08 < scale.max() <= 1.1 + 1e-3, channel


@pytest.mark.parametrize("name", FAMILIES)
def test_training_is_a_function_of_its_seed(name):
    image = noise_image(40, 50)
    preprocess = preprocessing.get_preprocessing(name, is_training=True)
    one, again, other = (preprocess(image, 24, 24, seed=[5, seed]).numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.allclose(one, other) == (name == "lenet")  # It distorts nothing.
    positions = tf.data.Dataset.from_tensors([5, 1])
    in_pipeline = next(positions.map(lambda seed: preprocess(image, 24, 24, seed=seed)).as_numpy_iterator())
    np.testing.assert_allclose(in_pipeline, one, atol=1e-5)


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize(("name", "low", "high"), [
    ("vgg", -124, 152), ("inception", -1, 1), ("digits", -1, 1), ("cifar", -8, 8)
])  # fmt: skip
def test_range_type_and_static_shape(name, low, high, is_training):
    preprocess = preprocessing.get_preprocessing(name, is_training)
    images = tf.data.Dataset.from_generator(
        lambda: [noise_image(8, 8), noise_image(70, 33), noise_image(9, 90)],
        output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
    )
    outputs = images.map(lambda image: preprocess(image, 20, 28, seed=[0, 1]))
    assert outputs.element_spec == tf.TensorSpec([20, 28, 3], tf.float32)
    for output in outputs.as_numpy_iterator():
        assert low <= output.min() < output.max() <= high


def test_training_without_a_seed():
    with pytest.raises(ValueError, match="'cifar' needs a seed"):
        preprocessing.get_preprocessing("cifar", is_training=True)(noise_image(8, 8), 8, 8)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown preprocessing 'resnet_50': known are cifar, .*digits, .*vgg"):
        preprocessing.get_preprocessing("resnet_50")


def test_recorded_settings_make_the_family_again():
    recorded = preprocessing.PREPROCESSING["vgg"].settings(224) | {"means": [1.0, 2.0, 3.0]}
    image = noise_image(60, 50)
    plain, shifted = (preprocessing.get_preprocessing(family)(image, 32, 32) for family in ("vgg", recorded))
    np.testing.assert_allclose(shifted - plain, np.broadcast_to(np.array(MEANS) - [1, 2, 3], [32, 32, 3]), atol=1e-4)


def test_an_unknown_setting_is_named():
    with pytest.raises(UserError, match="'cifar' has no setting mean; it has .*pad_pixels"):
        preprocessing.from_settings({"name": "cifar", "image_size": 32, "mean": 1})


@pytest.mark.parametrize("name", FAMILIES)
def test_settings_survive_json(name):
    settings = preprocessing.PREPROCESSING[name].settings(224)
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["name"], settings["image_size"]) == (name, 224)


def test_settings_hold_the_familys_numbers():
    assert preprocessing.PREPROCESSING["vgg"].settings(224)["means"] == MEANS
    assert preprocessing.PREPROCESSING["inception"].settings(299)["central_fraction"] == 0.875


@pytest.mark.parametrize(
    ("width", "resized_width", "left"),
    # As torchvision does it: the short side to 256, the long one truncated; of an odd rest, half rounds to even.
    [(201, 343, 60), (200, 341, 58), (199, 339, 58), (150, 256, 16)],
)
def test_torchvision_evaluation_equals_pillows_resize_and_crop(width, resized_width, left):
    image = smooth_image(150, width)
    resized = np.asarray(Image.fromarray(image).resize((resized_width, 256), Image.Resampling.BILINEAR), np.float32)
    crop = resized[16 : 16 + 224, left : left + 224] / 255.0
    expected = (crop - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    output = preprocessing.get_preprocessing("torchvision")(image, 224, 224)
    # Pillow rounds to whole numbers: half of one is 0.5 / 255 / 0.224, and it does so twice.
    np.testing.assert_allclose(output, expected, atol=0.018)


@pytest.mark.parametrize("shape", [(375, 500), (40, 900), (64, 64)])
def test_torchvisions_crops_are_drawn_as_torchvision_draws_them(shape):
    transforms = pytest.importorskip("torchvision.transforms")
    torch = pytest.importorskip("torch")
    family = preprocessing.PREPROCESSING["torchvision"]

    @tf.function
    def draw(seed):
        offset, size = family.window(tf.constant([*shape, 3]), seed)
        return tf.concat([offset[:2], size[:2]], axis=0)

    seeds = tf.stack([tf.range(1500, dtype=tf.int64), tf.ones([1500], tf.int64)], axis=1)
    ours = tf.map_fn(draw, seeds, fn_output_signature=tf.int32).numpy()
    torch.manual_seed(0)
    image = torch.zeros(3, *shape)
    draw_theirs = transforms.RandomResizedCrop.get_params
    theirs = np.array([draw_theirs(image, family.area_range, family.aspect_ratio_range) for _ in range(1500)])
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= shape).all()
    # Means and quartiles of offsets and sizes; a mean of 1,500 varies by a fortieth of its deviation.
    deviations = np.maximum(theirs.std(axis=0), 1.0)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 0.15 * deviations).all()
    quartiles = np.abs(np.quantile(ours, [0.25, 0.75], axis=0) - np.quantile(theirs, [0.25, 0.75], axis=0))
    assert (quartiles <= 0.25 * deviations + 1).all()


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PNG"])
@pytest.mark.parametrize("channels", [1, 4])
def test_every_kind_of_file_has_the_channels_that_are_asked_for(kind, channels):
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 100, 50)).save(buffer, kind)
    pixels = images.decode(tf.constant(buffer.getvalue()), channels).numpy()
    assert pixels.shape == (4, 6, channels)
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.
    expected = [124] if channels == 1 else [200, 100, 50, 255]
    assert np.abs(pixels[0, 0].astype(int) - expected).max() <= 1
