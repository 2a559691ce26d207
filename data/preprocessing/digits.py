"""The preprocessing for handwritten digits."""

import dataclasses

import tensorflow as tf

from data.preprocessing.family import Preprocessing
from data.preprocessing.images import resize_bilinear


@dataclasses.dataclass(frozen=True)
class Digits(Preprocessing):
    """Bilinear resize to the output size; in training, small random shifts and scales. In [-1, 1].

    Never flips: a mirrored digit is a different sign or none. Uncovered pixels repeat the edge.
    `max_shift` is a part of the side, `max_scale` a part of the size: 0.1 draws from 0.9 to 1.1.
    """

    name = "digits"
    max_shift: float = 0.1
    max_scale: float = 0.1

    def distort(self, image, height, width, seed):
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        jitter = tf.random.stateless_uniform([3], seed, -1.0, 1.0)
        # Where an output pixel samples the input: input = step * output + offset. Without jitter, the same as in
        # `resize_bilinear`.
        steps = shape / tf.constant([height, width], tf.float32)
        scale = 1.0 + self.max_scale * jitter[2]
        middle = (shape - steps) / 2.0
        offsets = middle * (1.0 - scale) + self.max_shift * shape * jitter[:2]
        steps *= scale
        resized = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(image, tf.float32)[tf.newaxis],
            transforms=tf.stack([[steps[1], 0.0, offsets[1], 0.0, steps[0], offsets[0], 0.0, 0.0]]),
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        )
        return resized[0]

    def fit(self, image, height, width):
        return resize_bilinear(image, height, width)

    def normalize(self, image):
        return image / 127.5 - 1.0
