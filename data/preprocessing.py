"""From a decoded image to a network's input, one row a family.

A row holds the family's numbers as fields and two methods, `train` (random, a function of its seed) and
`evaluate`; `settings` gives the numbers as a checkpoint records them. Semantics are research/slim's, so that
its published checkpoints see the pixels they were trained on. All are TensorFlow ops that work in tf.data,
eagerly and in a graph.

    preprocess = get_preprocessing("vgg", is_training=False)
    inputs = preprocess(image, 224, 224)          # uint8 [height, width, 3] -> float32 [224, 224, 3]
"""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from command_line import UserError


def get_preprocessing(name, is_training=False):
    """Looks up a family's function.

    Returns:
      A function (image, output_height, output_width, seed=None) from uint8 [height, width, 3] to float32
      [output_height, output_width, 3]. In training it needs `seed`, an int [2] tensor, of which alone the
      random choices are a function.
    Raises:
      UserError: If the name is unknown.
    """
    if name not in PREPROCESSING:
        raise UserError(f"unknown preprocessing {name!r}: known are {', '.join(sorted(PREPROCESSING))}")
    family = PREPROCESSING[name]

    def preprocess(image, output_height, output_width, seed=None):
        if is_training and seed is None:
            raise ValueError(f"preprocessing {name!r} needs a seed in training: an int [2] tensor")
        if is_training:
            inputs = family.train(image, output_height, output_width, seed)
        else:
            inputs = family.evaluate(image, output_height, output_width)
        return tf.ensure_shape(inputs, [output_height, output_width, 3])

    return preprocess


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What every family has. Subclasses add their numbers, `train` and `evaluate`.

    Both methods take a uint8 [height, width, 3] image and the output size; `train` also an int [2] seed.
    """

    name: ClassVar[str]

    def settings(self, image_size):
        """What a checkpoint records, JSON-able: the family's name, the side in pixels, the family's own."""
        return {"name": self.name, "image_size": image_size, **_json_able(dataclasses.asdict(self))}


@dataclasses.dataclass(frozen=True)
class Vgg(Preprocessing):
    """Short side to 256 (in training 256..512), crop to 224, less the RGB means: -124 to 152.

    The sides are those for 224 pixels, and grow and shrink with the output: side round(256 * size / 224) for
    size pixels. A crop then always fits, where research/slim stops above 256, and every size sees the same
    part of the picture; at 224 nothing differs from research/slim.
    """

    name = "vgg"
    means: tuple[float, float, float] = (123.68, 116.78, 103.94)
    resize_side: int = 256
    resize_side_min: int = 256
    resize_side_max: int = 512
    size_of_sides: int = 224

    def train(self, image, height, width, seed):
        low, high = (self._scaled(side, height, width) for side in (self.resize_side_min, self.resize_side_max))
        seeds = _split(seed, 3)
        side = tf.random.stateless_uniform([], seeds[0], low, high + 1, dtype=tf.int32)
        image = random_crop(resize_short_side(image, side), height, width, seeds[1])
        return random_flip(image, seeds[2]) - tf.constant(self.means)

    def evaluate(self, image, height, width):
        side = self._scaled(self.resize_side, height, width)
        return central_crop(resize_short_side(image, side), height, width) - tf.constant(self.means)

    def _scaled(self, side, height, width):
        # Rounding must not take the side below the crop.
        return max(round(side * max(height, width) / self.size_of_sides), height, width)


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
        seeds = _split(seed, 3)
        offset, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image),
            bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed=seeds[0],
            min_object_covered=self.min_object_covered,
            aspect_ratio_range=self.aspect_ratio_range,
            area_range=self.area_range,
            max_attempts=100,
            use_image_if_no_bounding_boxes=True,
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
        seeds = _split(seed, 2)
        image = tf.pad(self._fitted(image, height, width), [[pad, pad], [pad, pad], [0, 0]])
        image = random_crop(image, height, width, seeds[0])
        return tf.image.per_image_standardization(random_flip(image, seeds[1]))

    def evaluate(self, image, height, width):
        return tf.image.per_image_standardization(self._fitted(image, height, width))

    def _fitted(self, image, height, width):
        image = central_crop(resize_short_side(image, max(height, width)), height, width)
        return tf.ensure_shape(image, [height, width, 3])


@dataclasses.dataclass(frozen=True)
class Digits(Preprocessing):
    """Bilinear resize to the output; in training moved and scaled a little. In [-1, 1].

    Never flipped: a mirrored digit is another sign, or none. What a move uncovers repeats the edge.
    `max_shift` is a part of the side, `max_scale` a part of the size: 0.1 draws from 0.9 to 1.1.
    """

    name = "digits"
    max_shift: float = 0.1
    max_scale: float = 0.1

    def train(self, image, height, width, seed):
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        jitter = tf.random.stateless_uniform([3], seed, -1.0, 1.0)
        # Where an output pixel looks, as input = step * output + offset; without jitter just as
        # `resize_bilinear` does.
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
        return resized[0] / 127.5 - 1.0

    def evaluate(self, image, height, width):
        return resize_bilinear(image, height, width) / 127.5 - 1.0


PREPROCESSING = {family.name: family for family in (Vgg(), Inception(), Cifar(), Digits())}


def resize_bilinear(image, height, width):
    """Resizes as TensorFlow 1 did: output pixel i looks at input i * in / out, not at the centres of pixels.

    TensorFlow 2's tf.image.resize looks half a pixel elsewhere, and published Slim checkpoints were not
    trained on that.

    Returns:
      float32 [height, width, channels], in the range of the input.
    """
    # The op itself: its v1 wrapper warns on the user's terminal that it is old.
    return tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=[height, width])[0]


def resize_short_side(image, side):
    """Resizes to a shorter side of `side` pixels, keeping the aspect; the other side rounds half to even."""
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    size = tf.cast(tf.math.rint(shape * (tf.cast(side, tf.float32) / tf.reduce_min(shape))), tf.int32)
    return resize_bilinear(image, size[0], size[1])


def central_crop(image, height, width):
    """Cuts the middle out; an odd pixel more is left at the bottom and at the right."""
    top, left = ((tf.shape(image)[axis] - size) // 2 for axis, size in ((0, height), (1, width)))
    return tf.slice(image, [top, left, 0], [height, width, 3])


def random_crop(image, height, width, seed):
    """Cuts a window out, each place as likely as another."""
    places = tf.shape(image)[:2] - [height, width] + 1
    # Floats, because the integer form takes one bound for all.
    corner = tf.cast(tf.random.stateless_uniform([2], seed) * tf.cast(places, tf.float32), tf.int32)
    return tf.slice(image, [corner[0], corner[1], 0], [height, width, 3])


def random_flip(image, seed):
    """Mirrors left and right, half the time."""
    flip = tf.random.stateless_uniform([], seed) < 0.5
    return tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)


def _split(seed, count):
    return tf.unstack(tf.random.split(tf.convert_to_tensor(seed), count))


def _json_able(values):
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
