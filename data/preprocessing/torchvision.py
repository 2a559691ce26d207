"""The preprocessing of torchvision's and timm's published weights."""

import dataclasses
import math

import tensorflow as tf

from data.preprocessing.family import Preprocessing
from data.preprocessing.images import (
    in_channels,
    per_channel,
    random_flip,
    resize_antialiased,
    resize_antialiased_and_crop,
    split_seed,
)


@dataclasses.dataclass(frozen=True)
class Torchvision(Preprocessing):
    """Evaluation: short side to 256, central crop of 224, colours standardised: about -2.1 to 2.6.

    Training: a random part of 8 % to 100 % of the area, 3:4 to 4:3, resized; flipped half the time. Resizing averages
    over the pixels that an output pixel covers, as Pillow does. `crop_fraction` is the crop divided by the resized
    short side: 224 / 256, and timm's crop_pct.

    Source: https://github.com/pytorch/vision/tree/main/references/classification (presets.py).
    """

    name = "torchvision"
    means: tuple[float, ...] = (0.485, 0.456, 0.406)
    standard_deviations: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_fraction: float = 0.875
    area_range: tuple[float, float] = (0.08, 1.0)
    aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3)

    def window(self, shape, seed, boxes=None):
        return _random_resized_crop(shape, self.area_range, self.aspect_ratio_range, split_seed(seed, 2)[0])

    def distort(self, image, height, width, seed):
        return random_flip(resize_antialiased(image, height, width), split_seed(seed, 2)[1])

    def fit(self, image, height, width):
        shape = tf.shape(image)[:2]
        short = tf.reduce_min(shape)
        side = int(max(height, width) / self.crop_fraction)
        # torchvision truncates the longer side: int(side * long / short).
        sides = tf.maximum(side * shape // short, side)
        return resize_antialiased_and_crop(image, sides, height, width)

    def normalize(self, image):
        means, deviations = (in_channels(values, self.channels) for values in (self.means, self.standard_deviations))
        shifted = per_channel(tf.subtract, image, 255.0 * means)
        return per_channel(tf.multiply, shifted, 1.0 / (255.0 * deviations))


def _random_resized_crop(shape, area_range, aspect_ratio_range, seed):
    """The window of torchvision's RandomResizedCrop: area and logarithm of the aspect ratio are uniform.

    Of ten draws the first that fits into the image is taken, else the largest central window within the aspect ratios.

    Args:
      shape: Shape of the image, int32 [3].
      area_range: Smallest and largest part of the area.
      aspect_ratio_range: Smallest and largest width / height.
      seed: An int [2] tensor.

    Returns:
      offset and size, each int32 [3], for tf.slice.
    """
    area_seed, ratio_seed, place_seed = split_seed(seed, 3)
    least, most = aspect_ratio_range
    sides = tf.cast(shape[:2], tf.float32)
    areas = tf.reduce_prod(sides) * tf.random.stateless_uniform([10], area_seed, *area_range)
    ratios = tf.exp(tf.random.stateless_uniform([10], ratio_seed, math.log(least), math.log(most)))
    drawn = tf.round(tf.stack([tf.sqrt(areas / ratios), tf.sqrt(areas * ratios)], axis=1))  # Heights, widths.
    fits = tf.reduce_all((drawn >= 1) & (drawn <= sides), axis=1)
    height, width = sides[0], sides[1]
    # Of an image that is too long for all ratios, as much as the nearest ratio allows.
    central = tf.round(tf.stack([tf.minimum(height, width / least), tf.minimum(width, height * most)]))
    is_drawn = tf.reduce_any(fits)
    size = tf.where(is_drawn, drawn[tf.argmax(fits, output_type=tf.int32)], central)
    # Each of the rest + 1 places is as likely as the others.
    rest = sides - size
    uniform = tf.random.stateless_uniform([2], place_seed)
    offset = tf.where(is_drawn, tf.minimum(tf.floor(uniform * (rest + 1)), rest), tf.floor(rest / 2))
    return (
        tf.concat([tf.cast(offset, tf.int32), [0]], axis=0),
        tf.concat([tf.cast(size, tf.int32), shape[2:]], axis=0),
    )
