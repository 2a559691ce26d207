"""The preprocessing of the official TensorFlow ResNet."""

import dataclasses

import tensorflow as tf

from data.preprocessing.family import Preprocessing
from data.preprocessing.images import (
    central_crop,
    in_channels,
    per_channel,
    random_flip,
    random_window,
    resize_bilinear,
    resize_short_side,
    split_seed,
)


@dataclasses.dataclass(frozen=True)
class Resnet(Preprocessing):
    """Evaluation: short side to 256, central crop of 224, minus the RGB means: -124 to 152.

    Training: a random part of 5 % to 100 % of the area, 3:4 to 4:3, with at least a tenth of one of the picture's
    bounding boxes (without boxes, of the whole picture), flipped half the time, resized.
    The side is for an output of 224 pixels and scales with the output, as vgg's does.

    Source: tensorflow/models, official/r1/resnet/imagenet_preprocessing.py.
    """

    name = "resnet"
    uses_boxes = True
    means: tuple[float, ...] = (123.68, 116.78, 103.94)
    resize_side: int = 256
    size_of_side: int = 224
    area_range: tuple[float, float] = (0.05, 1.0)
    aspect_ratio_range: tuple[float, float] = (0.75, 1.33)
    min_object_covered: float = 0.1

    def window(self, shape, seed, boxes=None):
        return random_window(
            shape, self.area_range, self.aspect_ratio_range, split_seed(seed, 2)[0], self.min_object_covered, boxes
        )

    def distort(self, image, height, width, seed):
        # Flips first, as the source does: with TensorFlow 1's resize, the other order gives another result.
        return resize_bilinear(random_flip(image, split_seed(seed, 2)[1]), height, width)

    def fit(self, image, height, width):
        side = max(round(self.resize_side * max(height, width) / self.size_of_side), height, width)
        # The source truncates here; research/slim rounds.
        return central_crop(resize_short_side(image, side, whole=tf.floor), height, width)

    def normalize(self, image):
        return per_channel(tf.subtract, image, in_channels(self.means, self.channels))
