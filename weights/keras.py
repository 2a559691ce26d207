"""ResNets of Keras Applications, v1 and v2.

v1 strides in the first 1x1 convolution of a stage, ours in the 3x3 before it. Both compute the same function, because
the layers between are 1x1 or pointwise. Convolutions of Keras' v1 have biases, and it expects BGR images. v2 is Slim's
network, with a root pool padded on both sides.

Source: https://github.com/keras-team/keras/tree/master/keras/src/applications (resnet.py, resnet_v2.py).
"""

import logging
import string

import numpy as np

from command_line import UserError
from weights import keras_files, targets
from weights.foreign import check_exists
from weights.places import NORM, list_places, quantities

MODEL_NAMES = tuple(f"resnet_{version}_{depth}" for version in ("v1", "v2", "v1_5") for depth in (50, 101, 152))
EPSILON = 1.001e-5
# Layers that Keras' ResNets have or had. Those whose names begin with Random do nothing in inference.
_KINDS = ("InputLayer", "ZeroPadding2D", "Conv2D", "BatchNormalization", "Activation", "ReLU", "Softmax", "Add")
_KINDS += ("MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "Flatten", "Dropout", "Dense")
SUFFIXES = (".h5", ".keras")
_OWN_PREPROCESSING = {1: "vgg", 2: "inception"}  # By version: our equivalent of Keras' preprocess_input.
LEAVES = {"weights": "kernel", "biases": "bias", **{quantity: quantity for quantity in NORM}}
_OLD_ROOT = {"conv1": ("conv1", "bn_conv1")}
_ROOT = {"conv1": ("conv1_conv", "conv1_bn"), "postnorm": (None, "post_bn")}
_OLD_BRANCHES = {"shortcut": "1", "conv1": "2a", "conv2": "2b", "conv3": "2c"}
_LEAST_SIZE = 32  # Keras' minimum image size, in pixels.
_BRANCHES = {"shortcut": "0", "conv1": "1", "conv2": "2", "conv3": "3", "preact": "preact"}


def read(path, use_moving_averages):
    """Reads a file or folder; see `keras_files.read`."""
    if use_moving_averages:
        raise UserError("--use_moving_averages does not fit Keras files: they hold no moving averages of the weights")
    check_exists(path)
    return keras_files.read(path)


def projections(structure):
    """Where the shortcuts are convolutions; see `layouts.make_block`."""
    return "where_shapes_differ"


def names(structure, tensors, projections):
    """Maps (place, quantity) to the name in a Keras file, for all that Keras may have there.

    There are two generations of names; which one it is, and what the last layer is called, is read off the file.
    """
    # Keras had no v2 yet when it used the old names.
    old = structure.version == 1 and any(name.startswith("bn_conv1/") for name in tensors)
    dense = [name for name, value in tensors.items() if name.endswith("/kernel") and value.ndim == 2]
    head = dense[0].removesuffix("/kernel") if len(dense) == 1 else "predictions"
    found = {}
    for place in list_places(structure, projections):
        if place.role == "logits":
            convolution, norm = head, None
        else:
            convolution, norm = _old_layers(place) if old else _layers(place)
        # v1 also has biases in front of its norms.
        biases = ("biases",) if structure.version == 1 and place.role != "logits" else ()
        for quantity in (*quantities(structure, place), *biases):
            layer = norm if quantity in NORM else convolution
            found[place, quantity] = f"{layer}/{LEAVES[quantity]}"
    return found


def _layers(place):
    """Names of the convolution and of the norm at a place."""
    if not place.block:
        return _ROOT[place.role]
    name = f"conv{place.block + 1}_block{place.unit}_{_BRANCHES[place.role]}"
    return f"{name}_conv", f"{name}_bn"


def _old_layers(place):
    if not place.block:
        return _OLD_ROOT.get(place.role, (None, None))
    unit = string.ascii_lowercase[place.unit - 1] if place.unit <= 26 else f"{place.unit}"
    name = f"{place.block + 1}{unit}_branch{_OLD_BRANCHES.get(place.role)}"
    return f"res{name}", f"bn{name}"


def to_ours(place, quantity, value):
    """A value in our layout: a Dense kernel becomes a 1x1 convolution's."""
    return value[None, None] if place.role == "logits" and quantity == "weights" else value


def from_ours(place, quantity, value):
    """The inverse of `to_ours`."""
    return value[0, 0] if place.role == "logits" and quantity == "weights" else value


def settings(structure, foreign):
    """Arguments of `create_model` for the network of a file.

    Raises:
      UserError: If the file describes a network that `structure` is not.
    """
    layers = {layer["name"]: layer for layer in foreign.facts.get("layers", ())}
    old = any(name.startswith("bn_conv1/") for name in foreign.tensors)
    if layers:
        _check_kinds(foreign.facts["layers"])
        _check_strides(structure, layers, old)
        _check_root_pool(foreign.facts["layers"])
    elif "_v1_5_" in structure.model_name:
        raise UserError(
            "a Keras file of weights alone is taken for Keras Applications', which has no v1.5 network; give "
            f"--model_name={structure.model_name.replace('_5', '', 1)}, or the whole model with its configuration"
        )
    # Without a configuration: the default of the Keras that used the old names, else the value in today's networks.
    epsilons = {layer["epsilon"] for layer in layers.values() if layer["class_name"] == "BatchNormalization"}
    if len(epsilons) > 1:
        raise UserError(f"the norms of the file have several epsilons, {sorted(epsilons)}; ours share one")
    epsilon = epsilons.pop() if epsilons else 1e-3 if old else EPSILON
    return {"root_pool_padding": "symmetric", "batch_norm_epsilon": epsilon}


def _check_kinds(layers):
    """Refuses layers that no network here has: without weights, their names would not show it."""
    for layer in layers:
        kind = layer["class_name"]
        if kind in ("Rescaling", "Normalization", "Lambda"):
            raise UserError(
                f"the file's layer {layer['name']} ({kind}) preprocesses images, which no network here does; save the "
                "model without it, and give --preprocessing_name"
            )
        if kind not in _KINDS and not kind.startswith("Random"):
            raise UserError(f"the file's layer {layer['name']} is a {kind}, which no network here has")


def _check_strides(structure, layers, old):
    """Refuses v1.5 weights for v1 and vice versa: their names and shapes are the same."""
    if structure.version == 2:
        return
    names = ("res3a_branch2a", "res3a_branch2b") if old else ("conv3_block1_1_conv", "conv3_block1_2_conv")
    if not layers.keys() >= set(names):
        return  # Another network, as the names of its tensors will show.
    strides = [list(layers[name]["strides"]) for name in names]
    placed = {"resnet_v1_": [[2, 2], [1, 1]], "resnet_v1_5_": [[1, 1], [2, 2]]}
    wanted = "resnet_v1_5_" if "_v1_5_" in structure.model_name else "resnet_v1_"
    if strides != placed[wanted]:
        fitting = [prefix for prefix, value in placed.items() if value == strides]
        advice = f"give --model_name={fitting[0]}{structure.depth}" if fitting else "no network here has these"
        raise UserError(f"the file's {names[0]} and {names[1]} have strides {strides}, {structure.model_name} "
                        f"{placed[wanted]}; {advice}")  # fmt: skip


def _check_root_pool(layers):
    """Raises a UserError unless the first max pool follows a zero padding."""
    for before, layer in zip(layers, layers[1:], strict=False):
        if layer["class_name"] == "MaxPooling2D":
            if before["class_name"] != "ZeroPadding2D":
                raise UserError(
                    f"the file's {layer['name']} pools without padding, as Keras before 2.2 did; no network here does"
                )
            return


def reverse_channels(structure, preprocessing_name):
    """Whether the network expects BGR: v1 with Keras' own preprocessing, which is our vgg."""
    return structure.version == 1 and preprocessing_name == _OWN_PREPROCESSING[1]


def preprocessing(structure, foreign):
    """Name and numbers of the preprocessing, and the image size, that fit Keras Applications' weights."""
    # For v1, Keras converts RGB to BGR, then subtracts Caffe's means.
    numbers = {"means": (123.68, 116.779, 103.939)} if structure.version == 1 else {}
    return _OWN_PREPROCESSING[structure.version], numbers, _image_size(foreign.facts.get("layers", ()))


def _image_size(layers):
    """Height and width of the images that the input layer states, if it does and they are equal; else 224."""
    for layer in layers:
        shape = layer.get("batch_shape") or layer.get("batch_input_shape")
        if layer["class_name"] == "InputLayer" and shape and len(shape) == 4 and shape[1] == shape[2] and shape[1]:
            return shape[1]
    return 224


def run_source(structure, source, inputs, preprocessing):
    """Runs Keras' own network with the file's weights; see `verification.compare`.

    Returns:
      What was run, and its logits.
    """
    import keras

    from weights import keras_models

    if "_v1_5_" in structure.model_name:
        raise UserError("--verify needs a network of Keras Applications, which has no v1.5; leave the flag out")
    keys = names(structure, source.tensors, projections(structure))
    heads = [name for (place, quantity), name in keys.items() if place.role == "logits" and quantity == "biases"]
    num_classes = len(source.tensors[heads[0]]) if heads[0] in source.tensors else None
    epsilon = settings(structure, source)["batch_norm_epsilon"]
    model = keras_models.build(structure, num_classes, inputs.shape[1], epsilon)
    # Today's names for tensors that the file may name differently.
    today = names(structure, {}, projections(structure))
    tensors = {today[key]: source.tensors[name] for key, name in keys.items() if name in source.tensors}
    keras_models.set_weights(model, tensors)
    if preprocessing["name"] == _OWN_PREPROCESSING[structure.version]:
        inputs = keras_models.preprocess(structure, _pixels(inputs, preprocessing))
    application = f"keras.applications.ResNet{structure.depth}{'V2' if structure.version == 2 else ''}"
    return f"Keras {keras.__version__}'s {application}", np.asarray(model(inputs, training=False))


def _pixels(inputs, preprocessing):
    """The pictures, 0 to 255, that our preprocessing made `inputs` from."""
    if preprocessing["name"] == "vgg":
        return inputs + np.float32(preprocessing["means"])
    return (inputs + 1) * np.float32(127.5)


def check_target(structure, settings, image_size):
    """Raises a UserError if no network of Keras Applications computes what ours does."""
    targets.check(
        structure,
        settings,
        image_size,
        library="Keras Applications",
        has=structure.bottleneck and structure.depth <= 152,
        stride_placement="last_unit",
        root_pool_padding="symmetric",
    )


def write(path, structure, tensors, num_classes, preprocessing):
    """Writes a file with Keras' own network: .weights.h5 for the weights only, .h5 or .keras for the whole model."""
    from weights import keras_models

    size, weights_alone = preprocessing["image_size"], path.name.endswith(".weights.h5")
    if size < _LEAST_SIZE and not weights_alone:
        raise UserError(
            f"Keras makes no network for images under {_LEAST_SIZE} pixels, this one's have {size}; its weights alone "
            "go into an --output that ends in .weights.h5"
        )
    model = keras_models.build(structure, num_classes, max(size, _LEAST_SIZE), activation="softmax")
    keras_models.set_weights(model, tensors)
    if weights_alone:
        model.save_weights(path)
        return
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)  # Keras advises against .h5, which is what was asked for.
    try:
        model.save(path)
    finally:
        logger.setLevel(level)
