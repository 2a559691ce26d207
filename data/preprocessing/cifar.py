"""The preprocessing for small photographs."""

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
class Cifar(Preprocessing):
    """Zero padding, a random crop and a random flip; each image is scaled to mean 0 and standard deviation 1.

    Images of other sizes than the output are first resized by the short side and cropped to the middle. The padding
    is 4 pixels wide for 32, and in proportion for other sizes.
    `means` and `standard_deviations`, if given ("cifar_mean"), are those of the data set's training images, in 0..255
    for each channel, and are used instead of each image's own. The padding is then the mean colour, which normalizes
    to 0.
    """

    pad_pixels: int = 4
    size_of_pad: int = 32
    means: tuple[float, ...] | None = None
    standard_deviations: tuple[float, ...] | None = None

    @property
    def name(self):
        return "cifar" if self.means is None else "cifar_mean"

    def distort(self, image, height, width, seed):
        pad = round(self.pad_pixels * max(height, width) / self.size_of_pad)
        seeds = split_seed(seed, 2)
        border = 0.0 if self.means is None else in_channels(self.means, self.channels)
        image = tf.pad(self.fit(image, height, width) - border, [[pad, pad], [pad, pad], [0, 0]]) + border
        return random_flip(random_crop(image, height, width, seeds[0]), seeds[1])

    def fit(self, image, height, width):
        image = central_crop(resize_short_side(image, max(height, width)), height, width)
        return tf.ensure_shape(image, [height, width, self.channels])

    def normalize(self, image):
        if self.means is None:
            return tf.image.per_image_standardization(image)
        shifted = per_channel(tf.subtract, image, in_channels(self.means, self.channels))
        return per_channel(tf.divide, shifted, in_channels(self.standard_deviations, self.channels))
