"""The preprocessing of small photographs."""

import dataclasses

import tensorflow as tf

from data.preprocessing.family import Preprocessing
from data.preprocessing.images import central_crop, random_crop, random_flip, resize_short_side, split_seed


@dataclasses.dataclass(frozen=True)
class Cifar(Preprocessing):
    """Zeros around the picture, a random crop and flip; each image to mean 0 and standard deviation 1.

    Other sizes than the output are first resized by the short side and cropped to the middle. The border is 4
    pixels for 32, and as wide a part of other sizes.
    """

    name = "cifar"
    pad_pixels: int = 4
    size_of_pad: int = 32

    def train(self, image, height, width, seed):
        pad = round(self.pad_pixels * max(height, width) / self.size_of_pad)
        seeds = split_seed(seed, 2)
        image = tf.pad(self._fitted(image, height, width), [[pad, pad], [pad, pad], [0, 0]])
        image = random_crop(image, height, width, seeds[0])
        return tf.image.per_image_standardization(random_flip(image, seeds[1]))

    def evaluate(self, image, height, width):
        return tf.image.per_image_standardization(self._fitted(image, height, width))

    def _fitted(self, image, height, width):
        image = central_crop(resize_short_side(image, max(height, width)), height, width)
        return tf.ensure_shape(image, [height, width, 3])
