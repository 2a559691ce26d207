"""The crops of `data.preprocessing` for contestants that use Pillow: a window of the picture, resized in one step.

This module does not import TensorFlow, which would take worker processes seconds.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

_TRIES = 10


class Window(NamedTuple):
    """The part of a picture to resize, in pixels, and whether to mirror it."""

    left: float
    top: float
    right: float
    bottom: float
    mirrored: bool = False


@dataclasses.dataclass(frozen=True)
class Crop:
    """Where a family of preprocessing cuts, and how it scales values.

    Attributes:
      family: inception, resnet, torchvision or vgg. In training, inception also shifts colours, which is not done here.
      is_training: Whether windows are random.
      side: Side of the output in pixels.
    """

    family: str
    is_training: bool
    side: int

    def window(self, width, height, random):
        """A Window of a picture; `random` is a numpy Generator."""
        if not self.is_training:
            return self._middle(width, height)
        mirrored = bool(random.random() < 0.5)
        if self.family == "vgg":
            short = round(random.integers(256, 513) * self.side / 224)
            size = self.side * min(width, height) / max(short, self.side)
            left, top = random.random(2) * (width - size, height - size)
            return Window(left, top, left + size, top + size, mirrored)
        # At least a tenth of the picture: see data/preprocessing/inception.py.
        return _random_part(width, height, 0.08 if self.family == "torchvision" else 0.1, random)._replace(
            mirrored=mirrored
        )

    def apply(self, picture, random):
        """Turns a Pillow image into float32 [side, side, 3], in about the family's range of values."""
        window = self.window(*picture.size, random)
        picture = picture.resize([self.side, self.side], Image.Resampling.BILINEAR, box=window[:4])
        pixels = np.asarray(picture)
        if window.mirrored:
            pixels = pixels[:, ::-1]
        # One sum and one product, with numbers in the middle of those of the families.
        return (pixels - np.float32(127.5)) * np.float32(1 / 64)

    def _middle(self, width, height):
        if self.family == "inception":
            across, down = 0.875 * width, 0.875 * height
        else:
            across = down = 0.875 * min(width, height)
        left, top = (width - across) / 2, (height - down) / 2
        return Window(left, top, left + across, top + down)


def _random_part(width, height, least_area, random):
    """Draws a window as torchvision's RandomResizedCrop does; the whole picture if no try fits."""
    for _ in range(_TRIES):
        area = width * height * random.uniform(least_area, 1.0)
        aspect_ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        across, down = round(math.sqrt(area * aspect_ratio)), round(math.sqrt(area / aspect_ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = random.integers(0, [width - across + 1, height - down + 1]).tolist()
            return Window(left, top, left + across, top + down)
    return Window(0, 0, width, height)
