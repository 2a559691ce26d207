"""Turns an image into a network's input; each family has its own file and row.

A family holds its numbers as fields. `settings` gives them as a checkpoint records them; `from_settings` makes the
family from them again. All are TensorFlow ops that work in tf.data, eagerly and in a graph.

    preprocess = get_preprocessing("vgg", is_training=False)
    inputs = preprocess(image, 224, 224)          # uint8 [height, width, 3] -> float32 [224, 224, 3]

For records, `Preprocess` also decodes, and decodes only the part of a JPEG that the network will see.
"""

import dataclasses

import tensorflow as tf

from command_line import UserError
from data.preprocessing import images
from data.preprocessing.augmentation import NO_AUGMENTATION, Augmentation
from data.preprocessing.cifar import Cifar
from data.preprocessing.digits import Digits
from data.preprocessing.family import Preprocessing
from data.preprocessing.inception import Inception
from data.preprocessing.lenet import Lenet
from data.preprocessing.resnet import Resnet
from data.preprocessing.torchvision import Torchvision
from data.preprocessing.vgg import Vgg

_FAMILIES = (
    Vgg(),
    Inception(),
    Inception(fast_mode=False),
    Resnet(),
    Torchvision(),
    Cifar(),
    # CIFAR-10's own; `data.statistics` measures those of another set.
    Cifar(means=(125.307, 122.950, 113.865), standard_deviations=(62.993, 62.089, 66.705)),
    Digits(),
    Lenet(),
)
PREPROCESSING = {family.name: family for family in _FAMILIES}


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """A family at one size, for training or evaluation; `data.records` takes it as `preprocess`.

    Attributes:
      family: A Preprocessing.
      height, width: Size of the network's input, in pixels.
      is_training: Whether images are distorted at random.
      augmentation: Distortions that training adds to the family's own.
    """

    family: Preprocessing
    height: int
    width: int
    is_training: bool = False
    augmentation: Augmentation = NO_AUGMENTATION

    def __call__(self, image, seed=None, boxes=None):
        """Makes a network's input.

        Args:
          image: uint8 [height, width, channels].
          seed: In training, an int [2] tensor, which alone determines the random choices.
          boxes: As in `Preprocessing.window`.
        Returns:
          float32 [self.height, self.width, channels].
        Raises:
          ValueError: If training has no seed.
        """
        if not self.is_training:
            return self._shaped(self.family.evaluate(image, self.height, self.width))
        self._check_seed(seed)
        return self._distorted(images.cut(image, self.family.window(tf.shape(image), seed, boxes)), seed)

    def from_encoded(self, encoded, seed=None, boxes=None):
        """As `__call__`, for the bytes of a JPEG, PNG, GIF or BMP file.

        In training, only the window of a JPEG is decoded. Some pixels at its border (0.3 % of a photograph's windows)
        get other colours than in the whole picture, because colours are stored at half the resolution and interpolated
        between neighbours. Evaluation therefore decodes the whole.
        """
        channels = self.family.channels
        if not self.is_training:
            return self(images.decode(encoded, channels))
        self._check_seed(seed)
        image = images.decode(encoded, channels, lambda shape: self.family.window(shape, seed, boxes))
        return self._distorted(image, seed)

    def _distorted(self, image, seed):
        # The augmentation has its own seed, so the family's random draws do not depend on it.
        own, erasing = images.split_seed(tf.convert_to_tensor(seed) ^ -1, 2)
        image = self.family.distort(image, self.height, self.width, seed)
        image = self.augmentation.recolour(image, own)
        return self._shaped(self.augmentation.erase(self.family.normalize(image), erasing))

    def _shaped(self, inputs):
        return tf.ensure_shape(inputs, [self.height, self.width, self.family.channels])

    def _check_seed(self, seed):
        if seed is None:
            raise ValueError(f"preprocessing {self.family.name!r} needs a seed in training: an int [2] tensor")


def get_preprocessing(family, is_training=False):
    """Returns the function of a family, as research/slim's factory does.

    Args:
      family: A name of PREPROCESSING, a Preprocessing, or the settings that a checkpoint records.
      is_training: Whether images are distorted at random.
    Returns:
      A function (image, output_height, output_width, seed=None) from uint8 [height, width, channels] to float32
      [output_height, output_width, channels]. In training it needs `seed`, an int [2] tensor, which alone determines
      the random choices.
    Raises:
      UserError: If the name or a setting is unknown.
    """
    family = find_family(family)

    def preprocess(image, output_height, output_width, seed=None):
        return Preprocess(family, output_height, output_width, is_training)(image, seed)

    return preprocess


def find_family(family):
    """The Preprocessing for a name or a checkpoint's settings; raises as `from_settings`."""
    if isinstance(family, Preprocessing):
        return family
    return from_settings({"name": family} if isinstance(family, str) else family)


def from_settings(settings):
    """Makes the family that `Preprocessing.settings` described; missing settings have the family's defaults.

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
