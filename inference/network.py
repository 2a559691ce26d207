"""A checkpoint ready for use: the network, and the preprocessing from pixels to its input."""

from typing import NamedTuple

import tensorflow as tf

from command_line import UserError
from data import preprocessing
from nets import checkpoints, nets_factory
from nets.model import SlimModel


class TrainedNetwork(NamedTuple):
    """A network with its weights.

    Attributes:
      model: A SlimModel.
      preprocess: A tf.function from uint8 [height, width, channels] to float32 [image_size, image_size, channels].
      image_size: Height and width of the network's input in pixels.
      channels: Channels of its input.
      label_names: A name for each class; None when the checkpoint has none.
      checkpoint: The prefix that was read.
    """

    model: SlimModel
    preprocess: object
    image_size: int
    channels: int
    label_names: list | None
    checkpoint: str


def load(checkpoint_path, model_name=None, preprocessing_name=None, image_size=None):
    """Loads a checkpoint of ours, or a foreign one given the name of its network.

    Args:
      checkpoint_path: A folder (its newest checkpoint), a prefix or a file.
      model_name: Network of a checkpoint without model.json; else None, or the name that model.json has.
      preprocessing_name: None for the recorded one; with a foreign checkpoint, the network's own.
      image_size: None for the recorded one, or the network's own.

    Returns:
      A TrainedNetwork.

    Raises:
      UserError: If the checkpoint is missing or damaged, or does not fit the names.
    """
    if image_size is not None and image_size < 1:
        raise UserError(f"--image_size is {image_size}, expected at least 1")
    prefix, description = describe(checkpoint_path, model_name)
    # The weights do not depend on the data format, and a CPU supports only this one.
    model = nets_factory.create_described(description["network"] | {"data_format": "NHWC"}, prefix)
    model.restore(prefix)
    recorded = description["preprocessing"]
    channels = model.settings.get("input_channels", 3)
    own = preprocessing_name in (None, recorded["name"])
    settings = recorded if own else {"name": preprocessing_name, "channels": channels}
    size = image_size or recorded.get("image_size") or model.default_image_size
    preprocess = _preprocess(settings, size, channels)
    return TrainedNetwork(model, preprocess, size, channels, description["label_names"], prefix)


def describe(checkpoint_path, model_name=None):
    """Finds a checkpoint and what its model.json says, or would say of a foreign one with the named network.

    Args:
      checkpoint_path, model_name: As in `load`.

    Returns:
      The prefix, and a dict with at least "network", "preprocessing" and "label_names".

    Raises:
      UserError: If the checkpoint is missing or damaged, or holds another network.
    """
    prefix = checkpoints.find(checkpoint_path)
    if model_name and not checkpoints.has_description(prefix):
        return prefix, nets_factory.foreign_description(prefix, model_name)
    description = checkpoints.read_description(prefix)
    recorded_name = description["network"]["model_name"]
    if model_name not in (None, recorded_name):
        raise UserError(f"--model_name is {model_name}, but {prefix} is a {recorded_name}; leave the flag out")
    return prefix, description


def _preprocess(settings, size, channels):
    function = preprocessing.get_preprocessing(settings, is_training=False)
    signature = [tf.TensorSpec([None, None, channels], tf.uint8)]
    return tf.function(lambda image: function(image, output_height=size, output_width=size), signature, autograph=False)
