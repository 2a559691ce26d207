"""The preprocessing of torchvision's and timm's published weights."""

import dataclasses

import tensorflow as tf

from data.preprocessing.family import Preprocessing
from data.preprocessing.images import (
    in_channels,
    per_channel,
    random_flip,
    random_window,
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
        return random_window(shape, self.area_range, self.aspect_ratio_range, split_seed(seed, 2)[0])

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
