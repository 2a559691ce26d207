"""The preprocessing of the VGG networks, and of Slim's ResNet v1."""

import dataclasses

import tensorflow as tf

from data.preprocessing.family import Preprocessing
from data.preprocessing.images import (
    central_crop,
    in_channels,
    per_channel,
    random_crop,
    random_flip,
    resize_short_side,
    split_seed,
)


@dataclasses.dataclass(frozen=True)
class Vgg(Preprocessing):
    """Short side to 256 (in training 256..512), crop to 224, minus the RGB means: -124 to 152.

    The sides are for an output of 224 pixels and scale with it: side round(256 * size / 224) for size pixels. So a
    crop always fits (research/slim fails above 256), and every size sees the same part of the picture. At 224
    nothing differs from research/slim.
    """

    name = "vgg"
    means: tuple[float, ...] = (123.68, 116.78, 103.94)
    resize_side: int = 256
    resize_side_min: int = 256
    resize_side_max: int = 512
    size_of_sides: int = 224

    def distort(self, image, height, width, seed):
        low, high = (self._scaled(side, height, width) for side in (self.resize_side_min, self.resize_side_max))
        seeds = split_seed(seed, 3)
        side = tf.random.stateless_uniform([], seeds[0], low, high + 1, dtype=tf.int32)
        image = random_crop(resize_short_side(image, side), height, width, seeds[1])
        return random_flip(image, seeds[2])

    def fit(self, image, height, width):
        side = self._scaled(self.resize_side, height, width)
        return central_crop(resize_short_side(image, side), height, width)

    def normalize(self, image):
        return per_channel(tf.subtract, image, in_channels(self.means, self.channels))

    def _scaled(self, side, height, width):
        # Rounding must not make the side smaller than the crop.
        return max(round(side * max(height, width) / self.size_of_sides), height, width)
