"""RandAugment: operations drawn from a set of fourteen, all applied with the same magnitude.

Cubuk et al., arXiv:1909.13719. The operations compute what Pillow's do. How strong a magnitude makes them is
torchvision's: from 0 (little or no effect) to 30 (the strongest).
"""

import functools
import math

import tensorflow as tf

from data.preprocessing.images import split_seed

MAX_MAGNITUDE = 30.0


def rand_augment(image, layers, magnitude, seed):
    """Applies `layers` operations, each drawn uniformly from OPERATIONS.

    Args:
      image: uint8 [height, width, channels], 1 or 3 channels, height and width known.
      layers: How many; the same one may be drawn again.
      magnitude: 0 to 30.
      seed: An int [2] tensor.
    Returns:
      uint8, the shape of the image.
    """
    shape = image.shape
    for layer_seed in split_seed(seed, layers):
        kind_seed, sign_seed = split_seed(layer_seed, 2)
        sign = tf.where(tf.random.stateless_uniform([], sign_seed) < 0.5, -1.0, 1.0)
        strength = magnitude / MAX_MAGNITUDE
        kind = tf.random.stateless_uniform([], kind_seed, 0, len(OPERATIONS), tf.int32)
        branches = [functools.partial(operation, image, strength, sign) for operation in OPERATIONS.values()]
        image = tf.ensure_shape(tf.switch_case(kind, branches), shape)
    return image


def auto_contrast(image, strength, sign):
    """Stretches each channel to 0..255."""
    values = tf.cast(image, tf.float32)
    low = tf.reduce_min(values, [0, 1], keepdims=True)
    high = tf.reduce_max(values, [0, 1], keepdims=True)
    scale = tf.math.divide_no_nan(255.0, high - low)
    # Pillow truncates.
    stretched = tf.cast(tf.floor(values * scale - low * scale + 1e-3), tf.uint8)
    return tf.where(high > low, stretched, image)


def equalize(image, strength, sign):
    """Equalizes the histogram of each channel."""

    def channel(values):
        counts = tf.math.bincount(tf.cast(values, tf.int32), minlength=256, maxlength=256)
        counts = tf.reshape(counts, [256])
        used = tf.boolean_mask(counts, counts > 0)
        step = (tf.reduce_sum(used) - used[-1]) // 255
        table = (tf.cumsum(counts, exclusive=True) + step // 2) // tf.maximum(step, 1)
        table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
        return tf.cast(tf.gather(table, tf.cast(values, tf.int32)), tf.uint8)

    return tf.stack([channel(image[..., index]) for index in range(image.shape[-1])], axis=-1)


def posterize(image, strength, sign):
    """Keeps the 8 to 4 highest bits."""
    dropped = round(4.0 * strength)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


def solarize(image, strength, sign):
    """Inverts values at or above a threshold, from 255 at strength 0 (white only) to 0 at strength 1 (all)."""
    return tf.where(tf.cast(image, tf.float32) >= 255.0 * (1.0 - strength), 255 - image, image)


def identity(image, strength, sign):
    """Does nothing."""
    return image


def color(image, strength, sign):
    """Moves towards grey or away from it."""
    return _blend(_grey(image), image, 1.0 + sign * 0.9 * strength)


def contrast(image, strength, sign):
    """Moves towards the mean grey or away from it."""
    mean = tf.floor(tf.reduce_mean(_grey(image)[..., 0]) + 0.5)
    return _blend(mean, image, 1.0 + sign * 0.9 * strength)


def brightness(image, strength, sign):
    """Moves towards black or away from it."""
    return _blend(0.0, image, 1.0 + sign * 0.9 * strength)


def sharpness(image, strength, sign):
    """Moves towards a smoothed picture or away from it; the border is unchanged."""
    values = tf.cast(image, tf.float32)
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]])[:, :, None, None] / 13.0
    channels = image.shape[-1]
    smooth = tf.nn.depthwise_conv2d(values[None], tf.tile(kernel, [1, 1, channels, 1]), [1, 1, 1, 1], "VALID")[0]
    smooth = tf.floor(smooth + 0.5)
    inside = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]]) > 0
    smooth = tf.where(inside, tf.pad(smooth, [[1, 1], [1, 1], [0, 0]]), values)
    return _blend(smooth, image, 1.0 + sign * 0.9 * strength)


def rotate(image, strength, sign):
    """Rotates about the middle by up to 30 degrees, counterclockwise for a positive sign."""
    angle = -sign * strength * 30.0 * math.pi / 180.0
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The middle of the picture, in coordinates of pixel corners, stays in place.
    y, x = (image.shape[0] - 1) / 2.0, (image.shape[1] - 1) / 2.0
    return _transformed(image, [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])


def shear_x(image, strength, sign):
    """Moves each row sideways, by up to 0.3 of its distance from the top."""
    return _transformed(image, [1.0, sign * 0.3 * strength, 0.0, 0.0, 1.0, 0.0])


def shear_y(image, strength, sign):
    """Moves each column up or down, by up to 0.3 of its distance from the left."""
    return _transformed(image, [1.0, 0.0, 0.0, sign * 0.3 * strength, 1.0, 0.0])


def translate_x(image, strength, sign):
    """Moves sideways by up to 150 / 331 of the width."""
    return _transformed(image, [1.0, 0.0, _whole(sign * strength * image.shape[1]), 0.0, 1.0, 0.0])


def translate_y(image, strength, sign):
    """Moves up or down by up to 150 / 331 of the height."""
    return _transformed(image, [1.0, 0.0, 0.0, 0.0, 1.0, _whole(sign * strength * image.shape[0])])


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        identity,
        auto_contrast,
        equalize,
        rotate,
        solarize,
        color,
        posterize,
        contrast,
        brightness,
        sharpness,
        shear_x,
        shear_y,
        translate_x,
        translate_y,
    )
}


def _whole(pixels_of_331):
    """Pixels of a translation, without their fraction, as torchvision has them."""
    pixels = pixels_of_331 * 150.0 / 331.0
    return tf.sign(pixels) * tf.floor(tf.abs(pixels))


def _grey(image):
    """Pillow's luminance, float32 [height, width, 1]: integers, from weights in units of 1 / 65,536."""
    if image.shape[-1] == 1:
        return tf.cast(image, tf.float32)
    weighted = tf.cast(image, tf.int32) * tf.constant([19595, 38470, 7471])
    return tf.cast((tf.reduce_sum(weighted, -1, keepdims=True) + 32768) // 65536, tf.float32)


def _blend(degenerate, image, factor):
    """As Pillow's ImageEnhance: factor 0 gives the degenerate picture, 1 the image; clipped to 0..255, truncated."""
    values = degenerate + (tf.cast(image, tf.float32) - degenerate) * factor
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)


def _transformed(image, transform):
    """Takes for each pixel (x, y) the pixel nearest to (a x + b y + c, d x + e y + f); black outside."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack([tf.stack([tf.cast(value, tf.float32) for value in transform] + [0.0, 0.0])]),
        output_shape=image.shape[:2],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
