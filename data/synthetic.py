"""Images that are drawn, not read: for trials, and for measuring the cost of everything but the input."""

import dataclasses
import zlib

import numpy as np
import tensorflow as tf

from command_line import UserError
from data.catalog import DATASETS, Dataset

NAME = "synthetic"
SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class SyntheticImages:
    """Uniform noise with random labels: nothing to learn. It depends only on these four fields and the split's name."""

    num_images: int
    num_classes: int
    image_size: int
    seed: int = 0

    def draw(self, split, channels, labels_offset=0):
        """Draws a split into memory.

        Returns:
          uint8 [num_images, image_size, image_size, channels] and int64 [num_images], labels from labels_offset up to
          num_classes - 1.
        """
        random = np.random.default_rng([self.seed, zlib.crc32(split.encode())])
        shape = [self.num_images, self.image_size, self.image_size, channels]
        pixels = np.frombuffer(random.bytes(int(np.prod(shape))), np.uint8).reshape(shape)
        return tf.constant(pixels), tf.constant(random.integers(labels_offset, self.num_classes, size=self.num_images))


def synthetic_dataset(num_images, num_classes, image_size, seed=0):
    """Makes a data set of noise with `num_images` in each of its splits train and test; nothing is written.

    Raises:
      UserError: If a number is under 1.
    """
    for name, value in (("images", num_images), ("classes", num_classes), ("pixels a side", image_size)):
        if value < 1:
            raise UserError(f"a synthetic data set of {value} {name}: expected at least 1")
    return Dataset(
        name=NAME,
        directory=None,
        splits=dict.fromkeys(SPLITS, num_images),
        class_names=tuple(f"class {index}" for index in range(num_classes)),
        file_pattern="",
        image_shape=(image_size, image_size, 3),
        row=DATASETS[NAME],
        synthetic=SyntheticImages(num_images, num_classes, image_size, seed),
    )
