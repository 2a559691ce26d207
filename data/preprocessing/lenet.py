"""The preprocessing of Slim's LeNet."""

import dataclasses

import tensorflow as tf

from data.preprocessing.family import Preprocessing


@dataclasses.dataclass(frozen=True)
class Lenet(Preprocessing):
    """A central crop of the picture, or the picture padded with zeros; (x - 128) / 128, from -1 to under 1.

    The same in training, without distortion.

    Source: tensorflow/models, research/slim/preprocessing/lenet_preprocessing.py.
    """

    name = "lenet"

    def distort(self, image, height, width, seed):
        return self.fit(image, height, width)

    def fit(self, image, height, width):
        return tf.cast(tf.image.resize_with_crop_or_pad(image, height, width), tf.float32)

    def normalize(self, image):
        return (image - 128.0) / 128.0
