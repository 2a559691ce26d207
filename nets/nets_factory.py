"""The table of networks, and the ways to build one: as a Slim function, as an object, from a checkpoint."""

import functools
from typing import NamedTuple

import tf_slim as slim

from command_line import UserError
from nets import checkpoints, resnet_cifar, resnet_utils, resnet_v1, resnet_v2
from nets.model import SlimModel


class Network(NamedTuple):
    """A row of NETWORKS.

    Attributes:
      function: The network function.
      preprocessing_name: The preprocessing its published weights were trained with, or the usual one of its data set.
      arg_scope: Makes the arg scope that the network is built in.
    """

    function: object
    preprocessing_name: str
    arg_scope: object = resnet_utils.resnet_arg_scope

    @property
    def default_image_size(self):
        return self.function.default_image_size

    @property
    def default_num_classes(self):
        """Classes of the data set it was designed for: ImageNet, or CIFAR-10 at 32 pixels."""
        return 10 if self.default_image_size == 32 else 1000


NETWORKS = {
    "resnet_v1_18": Network(resnet_v1.resnet_v1_18, "vgg"),
    "resnet_v1_34": Network(resnet_v1.resnet_v1_34, "vgg"),
    "resnet_v1_50": Network(resnet_v1.resnet_v1_50, "vgg"),
    "resnet_v1_101": Network(resnet_v1.resnet_v1_101, "vgg"),
    "resnet_v1_152": Network(resnet_v1.resnet_v1_152, "vgg"),
    "resnet_v1_200": Network(resnet_v1.resnet_v1_200, "vgg"),
    "resnet_v1_5_50": Network(resnet_v1.resnet_v1_5_50, "vgg"),
    "resnet_v1_5_101": Network(resnet_v1.resnet_v1_5_101, "vgg"),
    "resnet_v1_5_152": Network(resnet_v1.resnet_v1_5_152, "vgg"),
    "resnet_v1_5_200": Network(resnet_v1.resnet_v1_5_200, "vgg"),
    "resnet_v2_18": Network(resnet_v2.resnet_v2_18, "inception"),
    "resnet_v2_34": Network(resnet_v2.resnet_v2_34, "inception"),
    "resnet_v2_50": Network(resnet_v2.resnet_v2_50, "inception"),
    "resnet_v2_101": Network(resnet_v2.resnet_v2_101, "inception"),
    "resnet_v2_152": Network(resnet_v2.resnet_v2_152, "inception"),
    "resnet_v2_200": Network(resnet_v2.resnet_v2_200, "inception"),
    "resnet_cifar_v1_20": Network(resnet_cifar.resnet_cifar_v1_20, "cifar"),
    "resnet_cifar_v1_32": Network(resnet_cifar.resnet_cifar_v1_32, "cifar"),
    "resnet_cifar_v1_44": Network(resnet_cifar.resnet_cifar_v1_44, "cifar"),
    "resnet_cifar_v1_56": Network(resnet_cifar.resnet_cifar_v1_56, "cifar"),
    "resnet_cifar_v1_110": Network(resnet_cifar.resnet_cifar_v1_110, "cifar"),
    "resnet_cifar_v2_20": Network(resnet_cifar.resnet_cifar_v2_20, "cifar"),
    "resnet_cifar_v2_32": Network(resnet_cifar.resnet_cifar_v2_32, "cifar"),
    "resnet_cifar_v2_44": Network(resnet_cifar.resnet_cifar_v2_44, "cifar"),
    "resnet_cifar_v2_56": Network(resnet_cifar.resnet_cifar_v2_56, "cifar"),
    "resnet_cifar_v2_110": Network(resnet_cifar.resnet_cifar_v2_110, "cifar"),
}


def find_network(name):
    """Returns the row of `name`.

    Raises:
      UserError: If there is none; the message lists the known names.
    """
    if name not in NETWORKS:
        raise UserError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def get_network_fn(name, num_classes, weight_decay=0.0, is_training=False):
    """Makes a function that builds a network in its arg scope, as research/slim's factory does.

    Args:
      name: A name of NETWORKS.
      num_classes: Classes; None or 0 for features.
      weight_decay: L2 penalty on the weights of convolutions.
      is_training: Whether norms use batch statistics.

    Returns:
      network_fn(images, **network_arguments) -> (net, end_points), with the attribute default_image_size.

    Raises:
      UserError: If the name is unknown.
    """
    network = find_network(name)

    @functools.wraps(network.function)
    def network_fn(images, **network_arguments):
        with slim.arg_scope(network.arg_scope(weight_decay=weight_decay)):
            return network.function(images, num_classes, is_training=is_training, **network_arguments)

    return network_fn


def create_model(
    model_name,
    num_classes,
    *,
    weight_decay=0.0001,
    batch_norm_decay=0.997,
    batch_norm_epsilon=1e-5,
    zero_gamma=False,
    data_format="NHWC",
    input_channels=3,
    compute_dtype="float32",
    seed=0,
    sync_batch_norm=False,
    **network_arguments,
):
    """Makes a network that owns its variables.

    `create_model(**model.settings)` makes the same network again; compute_dtype, sync_batch_norm and seed are not among
    the settings.

    Args:
      model_name: A name of NETWORKS.
      num_classes: Classes; None or 0 for features.
      weight_decay, batch_norm_decay, batch_norm_epsilon, zero_gamma: As in `resnet_utils.resnet_arg_scope`.
      data_format: Layout inside the network, NHWC or NCHW (GPU only); images are always [batch, height, width,
        channels].
      input_channels: Channels of the images.
      compute_dtype: Dtype of the activations: float32, bfloat16 or float16. Variables and statistics stay float32.
      sync_batch_norm: Whether norms, in training, compute statistics over all replicas of a tf.distribute strategy.
      seed: Seed of the initial weights; a variable's initial value depends only on the seed and its name. None makes
        all variables zeros, which is faster, for models whose weights are restored next.
      **network_arguments: Arguments of the network function, such as output_stride or root_pool_padding.

    Returns:
      A SlimModel.

    Raises:
      UserError: If the name or a choice is unknown.
    """
    network = find_network(model_name)
    arg_scope = {
        "weight_decay": weight_decay,
        "batch_norm_decay": batch_norm_decay,
        "batch_norm_epsilon": batch_norm_epsilon,
        "zero_gamma": zero_gamma,
    }
    network_arguments = network.function.layout | network_arguments

    def network_fn(images, is_training, **conv2d_arguments):
        with (
            slim.arg_scope(network.arg_scope(**arg_scope)),
            slim.arg_scope([slim.conv2d], **conv2d_arguments),
            slim.arg_scope([slim.batch_norm], sync=sync_batch_norm),
        ):
            return network.function(
                images, num_classes, is_training=is_training, data_format=data_format, **network_arguments
            )

    settings = {"model_name": model_name, "num_classes": num_classes, **arg_scope}
    settings |= {"data_format": data_format, "input_channels": input_channels}
    return SlimModel(
        network_fn,
        settings | network_arguments,
        default_image_size=network.default_image_size,
        compute_dtype=compute_dtype,
        seed=seed,
    )


def read_layout(model_name, arguments):
    """Parses arguments of a network function.

    Args:
      model_name: A name of NETWORKS.
      arguments: Texts NAME=VALUE, such as "shortcut=projection" or "shortcut_connections=False".

    Returns:
      A dict for `create_model`.

    Raises:
      UserError: If a text has no "=", the network has no such argument, or True or False was expected.
    """
    layout = find_network(model_name).function.layout
    given = {}
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if not separator or name not in layout:
            known = ", ".join(f"{known}={default}" for known, default in layout.items())
            raise UserError(f"{argument!r} is no argument of {model_name}; its own and their defaults: {known}")
        if isinstance(layout[name], bool):
            if value not in ("True", "False"):
                raise UserError(f"{argument!r}: expected {name}=True or {name}=False")
            value = value == "True"
        given[name] = value
    return given


def load_model(path, compute_dtype="float32", **settings):
    """Makes the network that a checkpoint's model.json describes, with the checkpoint's weights.

    If the checkpoint holds moving averages, these are the weights, as in evaluation; see `SlimModel.restore`.

    Args:
      path: The checkpoint's folder (its newest), prefix or file.
      compute_dtype: As in `create_model`.
      **settings: Settings of `create_model` that replace the recorded ones, such as output_stride.

    Returns:
      A SlimModel, and the description as `checkpoints.read_description` gives it.

    Raises:
      UserError: If there is no checkpoint, no description, or they do not fit each other.
    """
    prefix = checkpoints.find(path)
    description = checkpoints.read_description(
        prefix, "convert_weights.py --source_format makes a checkpoint that has one from foreign weights"
    )
    model = create_described(description["network"] | settings, prefix, compute_dtype)
    model.restore(prefix)
    return model, description


def foreign_description(path, model_name):
    """What a model.json would say of a checkpoint that has none.

    Args:
      path: As in `checkpoints.find`.
      model_name: The network that it holds.

    Returns:
      A dict with "network" (its number of classes from the file, None without logits), "preprocessing" (the name of
      the network's own) and "label_names" (None).

    Raises:
      UserError: If there is no checkpoint or no such network, or the checkpoint is damaged.
    """
    network = find_network(model_name)
    logits = checkpoints.reader(path).get_variable_to_shape_map().get(f"{model_name}/logits/weights")
    return {
        "network": {"model_name": model_name, "num_classes": logits[-1] if logits else None},
        "preprocessing": {"name": network.preprocessing_name},
        "label_names": None,
    }


def create_described(settings, path, compute_dtype="float32"):
    """Makes the network that the model.json beside a checkpoint describes, with all variables zero.

    Args:
      settings: Arguments of `create_model`.
      path: The checkpoint, for messages.
      compute_dtype: As in `create_model`.

    Returns:
      A SlimModel.

    Raises:
      UserError: If a setting is missing, or unknown to this version.
    """
    try:
        return create_model(**settings, compute_dtype=compute_dtype, seed=None)
    except TypeError as error:
        raise UserError(
            f"{checkpoints.DESCRIPTION} beside {path} describes a network that this version cannot make ({error}); "
            "take another copy of it, or the version that wrote it"
        ) from error
