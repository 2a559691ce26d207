"""Resizing, cropping and flipping for the families; all are TensorFlow ops on one image.

Images are [height, width, channels]. Random functions depend only on their seed, an int [2] tensor.
"""

import tensorflow as tf

from command_line import UserError


def decode(encoded, channels, window_of=None):
    """Decodes a JPEG, PNG, GIF (its first frame) or BMP file; the bytes decide which.

    Args:
      encoded: A scalar string tensor.
      channels: 3 turns grey into RGB and drops alpha, as Slim's decoder does; 1 and 4 likewise. A GIF or BMP, which
        TensorFlow decodes with three only, becomes grey by its luminance, or gets an opaque alpha.
      window_of: From the shape, int32 [3], to (offset, size) as for tf.slice, or None for the whole picture. Of a
        JPEG, only this window is decoded.
    Returns:
      uint8 [height, width, channels].
    """

    def with_channels(count):
        return tf.io.decode_image(encoded, channels=count, expand_animations=False)

    def from_three():
        image = with_channels(3)
        if channels == 1:
            return tf.image.rgb_to_grayscale(image)
        return tf.concat([image, tf.fill(tf.shape(image[..., :1]), tf.constant(255, tf.uint8))], axis=-1)

    def whole():
        if channels == 3:
            image = with_channels(3)
        else:
            kind = tf.strings.substr(encoded, 0, 2)
            image = tf.cond((kind == b"GI") | (kind == b"BM"), from_three, lambda: with_channels(channels))
        return cut_out(tf.ensure_shape(image, [None, None, channels]))

    def cut_out(image):
        return cut(image, window_of(tf.shape(image)) if window_of else None)

    def jpeg_window():
        shape = tf.io.extract_jpeg_shape(encoded)
        offset, size = window_of(tf.concat([shape[:2], [channels]], axis=0))
        box = tf.concat([offset[:2], size[:2]], axis=0)
        return tf.io.decode_and_crop_jpeg(encoded, box, channels=channels)

    # A JPEG has no alpha. A family without a window returns None for any shape.
    if channels == 4 or window_of is None or window_of(tf.constant([8, 8, channels])) is None:
        return whole()
    return tf.ensure_shape(tf.cond(tf.io.is_jpeg(encoded), jpeg_window, whole), [None, None, channels])


def cut(image, window):
    """Cuts a window, (offset, size) as for tf.slice, out of the image; None stands for the whole image."""
    if window is None:
        return image
    return tf.ensure_shape(tf.slice(image, *window), [None, None, image.shape[-1]])


def in_channels(values, channels):
    """One value for each channel, float32 [channels], from values for red, green and blue.

    A grey picture gets the luminance of the three (ITU-R BT.601: 0.299, 0.587, 0.114), since its pixels are the
    luminance of the colours. As many values as channels are taken as they are.

    Raises:
      UserError: If the number of values does not fit the channels.
    """
    if channels == 1 and len(values) == 3:
        values = [sum(weight * value for weight, value in zip((0.299, 0.587, 0.114), values, strict=True))]
    if len(values) != channels:
        raise UserError(
            f"preprocessing has {len(values)} means or deviations for images of {channels} channels: give one for each"
        )
    return tf.constant(values, tf.float32)


def per_channel(operation, image, values):
    """Applies an operation of (image, values) with one value for each channel, float32 [channels].

    Broadcasting three values along the last axis takes twice as long as decoding the image. With the values repeated
    to whole rows, it takes a tenth of that.
    """
    height, width, channels = image.shape
    rows = operation(tf.reshape(image, [height, width * channels]), tf.tile(values, [width]))
    return tf.reshape(rows, [height, width, channels])


def resize_bilinear(image, height, width):
    """Resizes as TensorFlow 1 did: output pixel i samples input i * in / out, ignoring pixel centres.

    TensorFlow 2's tf.image.resize samples half a pixel away from there; published Slim checkpoints were not trained
    that way.

    Returns:
      float32 [height, width, channels], in the range of the input.
    """
    # The raw op, because its v1 wrapper prints a deprecation warning.
    return tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=[height, width])[0]


def resize_antialiased(image, height, width):
    """Resizes as Pillow's BILINEAR does, but without its rounding: an output pixel averages the pixels it covers.

    Returns:
      float32 [height, width, channels], in the range of the input.
    """
    return _antialiased_part(image, [height, width], [0, 0], height, width)


def resize_antialiased_and_crop(image, sides, height, width):
    """As `resize_antialiased` to `sides`, int32 [2], then a central crop; pixels outside it are not computed.

    If an odd number of pixels is left out, half of it rounds to even, as in Python's `round` and so in torchvision.
    """
    return _antialiased_part(image, sides, tf.math.rint((sides - [height, width]) / 2), height, width)


def _antialiased_part(image, sides, corner, height, width):
    sides, corner = tf.cast(sides, tf.float32), tf.cast(corner, tf.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis],
        size=[height, width],
        scale=sides / tf.cast(tf.shape(image)[:2], tf.float32),
        translation=-corner,
        kernel_type="triangle",
        antialias=True,
    )
    return resized[0]


def resize_short_side(image, side, whole=tf.math.rint):
    """Resizes to a short side of `side` pixels, keeping the aspect ratio; `whole` rounds the sides to whole pixels."""
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    size = tf.cast(whole(shape * (tf.cast(side, tf.float32) / tf.reduce_min(shape))), tf.int32)
    return resize_bilinear(image, size[0], size[1])


def central_crop(image, height, width):
    """Cuts out the middle; an odd pixel left out is at the bottom or right."""
    top, left = ((tf.shape(image)[axis] - size) // 2 for axis, size in ((0, height), (1, width)))
    return tf.slice(image, [top, left, 0], [height, width, image.shape[-1]])


def random_crop(image, height, width, seed):
    """Cuts out a window at a uniformly random place."""
    places = tf.shape(image)[:2] - [height, width] + 1
    # Floats, because the integer form takes only one bound for both axes.
    corner = tf.cast(tf.random.stateless_uniform([2], seed) * tf.cast(places, tf.float32), tf.int32)
    return tf.slice(image, [corner[0], corner[1], 0], [height, width, image.shape[-1]])


def random_window(shape, area_range, aspect_ratio_range, seed, min_object_covered=0.0, boxes=None):
    """Draws a window of the image within ranges of area and aspect ratio; the whole image if 100 tries find no window
    that fits.

    Args:
      shape: Shape of the image, int32 [3].
      area_range: Smallest and largest part of the area, each above 0 and at most 1.
      aspect_ratio_range: Smallest and largest width / height.
      seed: An int [2] tensor.
      min_object_covered: Smallest part of one object that has to be in the window.
      boxes: float32 [1, boxes, 4], where the objects are (top, left, bottom, right in 0..1); None for one object, the
        whole image.
    Returns:
      offset and size, each int32 [3], for tf.slice.
    """
    offset, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]) if boxes is None else boxes,
        seed=seed,
        min_object_covered=min_object_covered,
        aspect_ratio_range=aspect_ratio_range,
        area_range=area_range,
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return offset, size


def random_flip(image, seed):
    """Flips left to right, half the time."""
    flip = tf.random.stateless_uniform([], seed) < 0.5
    return tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)


def split_seed(seed, count):
    """A list of `count` seeds that depend only on `seed`."""
    return tf.unstack(tf.random.split(tf.convert_to_tensor(seed), count))
