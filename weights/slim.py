"""Checkpoints of research/slim's ResNets, and of networks trained with it; the names are ours.

Source: https://github.com/tensorflow/models/tree/master/research/slim.
"""

import numpy as np

from command_line import UserError
from nets import nets_factory
from nets.checkpoints import AVERAGE
from weights import targets, tensorflow_files
from weights.foreign import Foreign
from weights.places import list_places, quantities, variable_name

# All networks here are Slim functions, so a Saver may have written any of them; research/slim has only these.
MODEL_NAMES = tuple(nets_factory.NETWORKS)
_OF_RESEARCH_SLIM = tuple(f"resnet_{version}_{depth}" for version in ("v1", "v2") for depth in (50, 101, 152, 200))
EPSILON = 1e-5
SUFFIXES = (".ckpt",)
_ROOT = "/conv1/weights"


def read(path, use_moving_averages):
    """Reads a checkpoint. Tensors are named within the network's scope: "block1/unit_1/bottleneck_v1/conv1/weights".

    Args:
      path: The checkpoint.
      use_moving_averages: Whether to take the moving averages; None takes them if it holds some.

    Returns:
      A Foreign, whose facts are the checkpoint's "prefix", the network's "scope", the names of the "shadows" that were
      taken and, where the checkpoint has them, "mean_rgb".

    Raises:
      UserError: If it is damaged, or has no network with (or without) moving averages.
    """
    prefix, found, files = tensorflow_files.read(path)
    shadows = {name.removesuffix(AVERAGE): value for name, value in found.items() if name.endswith(AVERAGE)}
    plain = {name: value for name, value in found.items() if not name.endswith(AVERAGE)}
    if use_moving_averages and not shadows:
        raise UserError(
            f"{path} holds no moving averages (.../ExponentialMovingAverage); leave out --use_moving_averages"
        )
    taken = {} if use_moving_averages is False else shadows
    tensors = plain | taken
    roots = sorted((name for name in tensors if name.endswith(_ROOT)), key=len)
    if not roots:
        only = "moving averages only; leave out --use_moving_averages=False"
        hint = only if shadows else f"no .../conv1/weights; {_few(plain)}"
        raise UserError(f"{path} holds {hint}")
    scope = roots[0].removesuffix(_ROOT)
    inside = {name.removeprefix(f"{scope}/"): value for name, value in tensors.items() if name.startswith(f"{scope}/")}
    facts = {"prefix": prefix, "scope": scope, "shadows": sorted(taken)}
    if "mean_rgb" in inside:
        facts["mean_rgb"] = [float(value) for value in inside.pop("mean_rgb")]
    return Foreign(inside, files, facts)


def _few(names):
    return f"it holds {', '.join(sorted(names)[:6])}" if names else "it is empty"


def projections(structure):
    """Where the shortcuts are convolutions; see `places.list_places`."""
    return "nowhere" if structure.cifar else "where_shapes_differ"


def names(structure, tensors, projections):
    """Maps (place, quantity) to the name within the network's scope."""
    return {
        (place, quantity): variable_name(structure, place, quantity).removeprefix(f"{structure.model_name}/")
        for place in list_places(structure, projections)
        for quantity in quantities(structure, place)
    }


def to_ours(place, quantity, value):
    """A value in our layout, which is Slim's."""
    return value


def from_ours(place, quantity, value):
    """The inverse of `to_ours`."""
    return value


def settings(structure, source):
    """Arguments of `create_model`: none, because Slim's networks are the same as ours."""
    return {}


def preprocessing(structure, source):
    """Name and numbers of the preprocessing, and the image size: of Slim's published weights, if there are any."""
    network = nets_factory.NETWORKS[structure.model_name]
    name, size = network.preprocessing_name, network.default_image_size
    if structure.version == 2 and structure.model_name in _OF_RESEARCH_SLIM:
        size = 299
    means = source.facts.get("mean_rgb") if name == "vgg" else None
    return name, {"means": tuple(round(mean, 3) for mean in means)} if means else {}, size


def reverse_channels(structure, preprocessing_name):
    """Whether the network expects BGR: never."""
    return False


def run_source(structure, source, inputs, preprocessing):
    """Runs Slim's function in a TensorFlow 1 graph, restored from the source by a Saver; see `verification.compare`.

    Returns:
      What was run, and its logits.
    """
    import tensorflow as tf

    num_classes = len(source.tensors["logits/biases"]) if "logits/biases" in source.tensors else None
    network_fn = nets_factory.get_network_fn(structure.model_name, num_classes)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = tf.compat.v1.placeholder(tf.float32, [None, *inputs.shape[1:]])
        logits, _ = network_fn(images, scope=source.facts["scope"])
        shadows = set(source.facts["shadows"])
        variables = {
            name + AVERAGE if name in shadows else name: variable
            for variable in tf.compat.v1.global_variables()
            for name in [variable.op.name]
        }
        tf.compat.v1.train.Saver(variables).restore(session, source.facts["prefix"])
        return "Slim's function in a TensorFlow 1 graph", np.asarray(session.run(logits, {images: inputs}))


def check_target(structure, settings, image_size):
    """Raises a UserError if no network of research/slim computes what ours does."""
    targets.check(
        structure,
        settings,
        image_size,
        library="Slim",
        has=structure.model_name in _OF_RESEARCH_SLIM,
        stride_placement="last_unit",
        root_pool_padding="same",
    )


def write(path, structure, tensors, num_classes, preprocessing):
    """Writes a V2 checkpoint at prefix `path`, with the means that Slim's own v1 checkpoints carry."""
    from nets import checkpoints

    means = preprocessing.get("means") if preprocessing["name"] == "vgg" else None
    values = tensors | ({"mean_rgb": np.float32(means)} if means else {})
    checkpoints.write(path, {f"{structure.model_name}/{name}": value for name, value in values.items()})
