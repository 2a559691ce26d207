"""Augmentation that training may add to any family: RandAugment and random erasing."""

import dataclasses
import math

import tensorflow as tf

from data.preprocessing.images import split_seed
from data.preprocessing.rand_augment import rand_augment


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Distortions besides a family's own; all off by default.

    Attributes:
      rand_augment_layers: Operations that RandAugment draws for an image; 0 for none (arXiv:1909.13719, N).
      rand_augment_magnitude: How strong they are, 0 to 30 (M).
      random_erasing: Probability of erasing a rectangle of an image (arXiv:1708.04896, p).
      erased_area_range: Smallest and largest part of the area that is erased (s_l, s_h).
      erased_aspect_ratio: Largest height / width, and the inverse of the smallest (1 / r_1).
    """

    rand_augment_layers: int = 0
    rand_augment_magnitude: float = 9.0
    random_erasing: float = 0.0
    erased_area_range: tuple[float, float] = (0.02, 0.4)
    erased_aspect_ratio: float = 1 / 0.3

    def recolour(self, image, seed):
        """Applies RandAugment to a float32 image in 0..255, between the family's distortions and its scaling."""
        if not self.rand_augment_layers:
            return image
        # The operations are defined on integers, as photographs hold them.
        image = tf.cast(tf.clip_by_value(tf.math.rint(image), 0.0, 255.0), tf.uint8)
        image = rand_augment(image, self.rand_augment_layers, self.rand_augment_magnitude, seed)
        return tf.cast(image, tf.float32)

    def erase(self, inputs, seed):
        """Fills a rectangle of some of the network's inputs with standard normal noise, drawn for each value.

        This replaces the paper's R (uniform noise in 0..255), because the inputs are already scaled.
        """
        if not self.random_erasing:
            return inputs
        height, width = inputs.shape[0], inputs.shape[1]
        seeds = split_seed(seed, 2)
        draws = tf.random.stateless_uniform([5], seeds[0])
        low, high = self.erased_area_range
        area = (low + (high - low) * draws[0]) * height * width
        log_ratio = math.log(self.erased_aspect_ratio)
        ratio = tf.exp((2.0 * draws[1] - 1.0) * log_ratio)
        # A rectangle longer than the picture is cut off; the paper draws again.
        sides = [tf.minimum(tf.sqrt(area * ratio), height), tf.minimum(tf.sqrt(area / ratio), width)]
        sides = [tf.cast(tf.math.rint(side), tf.int32) for side in sides]
        top, left = (
            tf.cast(draw * tf.cast(whole - side + 1, tf.float32), tf.int32)
            for draw, whole, side in zip(tf.unstack(draws[2:4]), (height, width), sides, strict=True)
        )
        rows, columns = tf.range(height)[:, None], tf.range(width)[None, :]
        inside = (rows >= top) & (rows < top + sides[0]) & (columns >= left) & (columns < left + sides[1])
        inside &= draws[4] < self.random_erasing
        noise = tf.random.stateless_normal(inputs.shape, seeds[1])
        return tf.where(inside[:, :, None], noise, inputs)


NO_AUGMENTATION = Augmentation()
