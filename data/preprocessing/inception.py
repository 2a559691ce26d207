"""The preprocessing of the Inception networks, and of Slim's ResNet v2."""

import dataclasses

import tensorflow as tf

from data.preprocessing.family import Preprocessing
from data.preprocessing.images import random_flip, random_window, resize_bilinear, split_seed


@dataclasses.dataclass(frozen=True)
class Inception(Preprocessing):
    """A random part of the picture, stretched, its colours shifted; evaluation: the middle. In [-1, 1].

    The middle is 87.5 % of each side. In training the part covers 0.1 to 1 of the area, since a tenth of the
    object, which is the whole picture, has to be in.
    Training is research/slim's fast mode: bilinear resizing alone, brightness and saturation alone.
    """

    name = "inception"
    central_fraction: float = 0.875
    area_range: tuple[float, float] = (0.05, 1.0)
    aspect_ratio_range: tuple[float, float] = (0.75, 1.33)
    min_object_covered: float = 0.1
    max_brightness_delta: float = 32 / 255
    saturation_range: tuple[float, float] = (0.5, 1.5)

    def train(self, image, height, width, seed):
        seeds = split_seed(seed, 3)
        offset, size = random_window(
            tf.shape(image), self.area_range, self.aspect_ratio_range, seeds[0], self.min_object_covered
        )
        image = resize_bilinear(tf.slice(image, offset, size), height, width) / 255.0
        image = random_flip(tf.ensure_shape(image, [height, width, 3]), seeds[1])
        shifts = tf.random.stateless_uniform([2], seeds[2])
        image += (2.0 * shifts[0] - 1.0) * self.max_brightness_delta
        low, high = self.saturation_range
        image = tf.image.adjust_saturation(image, low + (high - low) * shifts[1])
        return (tf.clip_by_value(image, 0.0, 1.0) - 0.5) * 2.0

    def evaluate(self, image, height, width):
        image = tf.image.central_crop(image, self.central_fraction)
        return (resize_bilinear(image, height, width) / 255.0 - 0.5) * 2.0
