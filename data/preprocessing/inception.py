"""The preprocessing of the Inception networks, and of Slim's ResNet v2."""

import dataclasses

import tensorflow as tf

from data.preprocessing.family import Preprocessing
from data.preprocessing.images import random_flip, random_window, resize_bilinear, split_seed


@dataclasses.dataclass(frozen=True)
class Inception(Preprocessing):
    """Training: a random part of the picture, stretched, with shifted colours; evaluation: the middle. In [-1, 1].

    The middle is 87.5 % of each side. In training the part covers 0.1 to 1 of the area, because it must contain a
    tenth of the object, which is the whole picture.
    In fast mode, research/slim's default, resizing is bilinear, and only brightness and saturation are shifted.
    Otherwise ("inception_full") one of four resize methods is drawn (bilinear, nearest neighbour, bicubic, area), and
    brightness, saturation, hue and contrast are shifted in one of four orders. Grey pictures have no saturation and
    no hue.

    Source: tensorflow/models, research/slim/preprocessing/inception_preprocessing.py.
    """

    fast_mode: bool = True
    central_fraction: float = 0.875
    area_range: tuple[float, float] = (0.05, 1.0)
    aspect_ratio_range: tuple[float, float] = (0.75, 1.33)
    min_object_covered: float = 0.1
    max_brightness_delta: float = 32 / 255
    saturation_range: tuple[float, float] = (0.5, 1.5)
    max_hue_delta: float = 0.2
    contrast_range: tuple[float, float] = (0.5, 1.5)

    @property
    def name(self):
        return "inception" if self.fast_mode else "inception_full"

    def window(self, shape, seed, boxes=None):
        seed = split_seed(seed, 3)[0]
        return random_window(shape, self.area_range, self.aspect_ratio_range, seed, self.min_object_covered)

    def evaluation_window(self, shape):
        # As tf.image.central_crop, whose border is truncated.
        sides = tf.cast(shape[:2], tf.float64)
        border = tf.cast((sides - sides * self.central_fraction) / 2.0, tf.int32)
        offset = tf.concat([border, [0]], axis=0)
        return offset, tf.concat([shape[:2] - 2 * border, [-1]], axis=0)

    def distort(self, image, height, width, seed):
        _, flip_seed, colour_seed = split_seed(seed, 3)
        resize_seed, order_seed, hue_seed = split_seed(colour_seed, 3)
        if self.fast_mode:
            image = resize_bilinear(image, height, width)
        else:
            image = _resize_in_one_of_four_ways(image, height, width, resize_seed)
        image = random_flip(tf.ensure_shape(image / 255.0, [height, width, self.channels]), flip_seed)
        shifts = tf.random.stateless_uniform([2], colour_seed)
        if self.fast_mode:
            image = self._saturated(self._brightened(image, shifts[0]), shifts[1])
        else:
            more = tf.random.stateless_uniform([2], hue_seed)
            image = self._recoloured_in_one_of_four_orders(image, *tf.unstack(shifts), *tf.unstack(more), order_seed)
        return tf.clip_by_value(image, 0.0, 1.0) * 255.0

    def fit(self, image, height, width):
        return resize_bilinear(image, height, width)

    def normalize(self, image):
        return image / 127.5 - 1.0

    def _brightened(self, image, draw):
        return image + (2.0 * draw - 1.0) * self.max_brightness_delta

    def _saturated(self, image, draw):
        low, high = self.saturation_range
        return tf.image.adjust_saturation(image, low + (high - low) * draw) if self.channels == 3 else image

    def _hue_turned(self, image, draw):
        return tf.image.adjust_hue(image, (2.0 * draw - 1.0) * self.max_hue_delta) if self.channels == 3 else image

    def _contrasted(self, image, draw):
        low, high = self.contrast_range
        return tf.image.adjust_contrast(image, low + (high - low) * draw)

    def _recoloured_in_one_of_four_orders(self, image, brightness, saturation, hue, contrast, seed):
        steps = {
            "b": lambda image: self._brightened(image, brightness),
            "s": lambda image: self._saturated(image, saturation),
            "h": lambda image: self._hue_turned(image, hue),
            "c": lambda image: self._contrasted(image, contrast),
        }

        def in_order(order):
            result = image
            for step in order:
                result = steps[step](result)
            return result

        # The four orders of research/slim's distort_color.
        orders = [lambda order=order: in_order(order) for order in ("bshc", "sbch", "chbs", "hscb")]
        return tf.switch_case(tf.random.stateless_uniform([], seed, 0, 4, tf.int32), orders)


def _resize_in_one_of_four_ways(image, height, width, seed):
    images, size = image[tf.newaxis], [height, width]
    ways = [
        lambda: tf.raw_ops.ResizeBilinear(images=images, size=size)[0],
        lambda: tf.cast(tf.raw_ops.ResizeNearestNeighbor(images=images, size=size)[0], tf.float32),
        lambda: tf.raw_ops.ResizeBicubic(images=images, size=size)[0],
        lambda: tf.raw_ops.ResizeArea(images=images, size=size)[0],
    ]
    return tf.switch_case(tf.random.stateless_uniform([], seed, 0, 4, tf.int32), ways)
