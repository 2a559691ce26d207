"""The interface of every family of preprocessing."""

import abc
import dataclasses
from typing import ClassVar

import tensorflow as tf

from data.preprocessing.images import cut


@dataclasses.dataclass(frozen=True)
class Preprocessing(abc.ABC):
    """A family. Subclasses add their numbers as fields, and the four steps below.

    Attributes:
      channels: Channels of the images and of the network's input: 3 for RGB, 1 for grey, 4 with alpha.
    """

    name: ClassVar[str]
    uses_boxes: ClassVar[bool] = False
    channels: int = 3

    def window(self, shape, seed, boxes=None):
        """The only part of the picture that training uses; the rest of a JPEG need not be decoded.

        Args:
          shape: Shape of the image, int32 [3].
          seed: An int [2] tensor, the same that `distort` gets.
          boxes: float32 [1, boxes, 4], bounding boxes of objects (top, left, bottom, right in 0..1), if uses_boxes.
        Returns:
          offset and size, each int32 [3] for tf.slice; or None for the whole picture.
        """
        return None

    def evaluation_window(self, shape):
        """As `window`, for evaluation."""
        return None

    @abc.abstractmethod
    def distort(self, image, height, width, seed):
        """Makes the training image from the window: resized, cropped, flipped, recoloured; float32 in 0..255."""

    @abc.abstractmethod
    def fit(self, image, height, width):
        """Makes the evaluation image from the window: resized, cropped; float32 in 0..255."""

    @abc.abstractmethod
    def normalize(self, image):
        """From float32 in 0..255 to the network's input range."""

    def evaluate(self, image, height, width):
        """From uint8 [height, width, channels] to the network's input."""
        return self.normalize(self.fit(cut(image, self.evaluation_window(tf.shape(image))), height, width))

    def settings(self, image_size):
        """What a checkpoint records, as a JSON-able dict: the family's name, the side in pixels, its own numbers."""
        return {"name": self.name, "image_size": image_size, **_json_able(dataclasses.asdict(self))}


def _json_able(values):
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
