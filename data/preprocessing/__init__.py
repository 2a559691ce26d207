"""From a decoded image to a network's input, one row a family.

A family holds its numbers as fields and two methods, `train` (random, a function of its seed) and `evaluate`;
`settings` gives the numbers as a checkpoint records them, and `from_settings` makes the family again. All are
TensorFlow ops that work in tf.data, eagerly and in a graph.

    preprocess = get_preprocessing("vgg", is_training=False)
    inputs = preprocess(image, 224, 224)          # uint8 [height, width, 3] -> float32 [224, 224, 3]
"""

import dataclasses

import tensorflow as tf

from command_line import UserError
from data.preprocessing.cifar import Cifar
from data.preprocessing.digits import Digits
from data.preprocessing.family import Preprocessing
from data.preprocessing.inception import Inception
from data.preprocessing.torchvision import Torchvision
from data.preprocessing.vgg import Vgg

PREPROCESSING = {family.name: family for family in (Vgg(), Inception(), Torchvision(), Cifar(), Digits())}


def get_preprocessing(family, is_training=False):
    """Gives the function of a family.

    Args:
      family: A name of PREPROCESSING, a Preprocessing, or the settings that a checkpoint records.
      is_training: Whether images are distorted at random.
    Returns:
      A function (image, output_height, output_width, seed=None) from uint8 [height, width, 3] to float32
      [output_height, output_width, 3]. In training it needs `seed`, an int [2] tensor, of which alone the
      random choices are a function.
    Raises:
      UserError: If the name or a setting is unknown.
    """
    if not isinstance(family, Preprocessing):
        family = from_settings({"name": family} if isinstance(family, str) else family)

    def preprocess(image, output_height, output_width, seed=None):
        if is_training and seed is None:
            raise ValueError(f"preprocessing {family.name!r} needs a seed in training: an int [2] tensor")
        if is_training:
            inputs = family.train(image, output_height, output_width, seed)
        else:
            inputs = family.evaluate(image, output_height, output_width)
        return tf.ensure_shape(inputs, [output_height, output_width, 3])

    return preprocess


def from_settings(settings):
    """Makes the family that `Preprocessing.settings` described; what is left out has the family's default.

    Raises:
      UserError: If the name or a setting is unknown.
    """
    numbers = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    name = numbers.pop("name")
    numbers.pop("image_size", None)
    if name not in PREPROCESSING:
        raise UserError(f"unknown preprocessing {name!r}: known are {', '.join(sorted(PREPROCESSING))}")
    known = {field.name for field in dataclasses.fields(PREPROCESSING[name])}
    if set(numbers) - known:
        raise UserError(
            f"preprocessing {name!r} has no setting {', '.join(sorted(set(numbers) - known))}; it has "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    return dataclasses.replace(PREPROCESSING[name], **numbers)
