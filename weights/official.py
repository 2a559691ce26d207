"""Checkpoints of the official TensorFlow ResNet, models/official of TensorFlow 1: v1.5 and v2, ImageNet and CIFAR.

Its variables are numbered in the order in which the program made them: conv2d, conv2d_1, ... Its bottlenecks stride in
the 3x3 of a block's first unit, and the first unit of every block projects. No convolution has biases.

Source: https://github.com/tensorflow/models/tree/r1.13.0/official/resnet (resnet_model.py).
"""

import itertools
import re

import numpy as np

from command_line import UserError
from weights import tensorflow_files
from weights.foreign import Foreign
from weights.places import NORM, has_norm, list_places

MODEL_NAMES = (
    *(f"resnet_v1_{depth}" for depth in (18, 34)),
    *(f"resnet_v1_5_{depth}" for depth in (50, 101, 152, 200)),
    *(f"resnet_v2_{depth}" for depth in (18, 34, 50, 101, 152, 200)),
    *(f"resnet_cifar_{version}_{depth}" for version in ("v1", "v2") for depth in (20, 32, 44, 56, 110)),
)
_VARIABLE = re.compile(r"(?:.*/)?((?:conv2d|batch_normalization|dense)(?:_\d+)?/\w+)")


def read(path, use_moving_averages):
    """Reads a checkpoint; the scope, resnet_model in later releases, is removed from the names.

    Raises:
      UserError: If it is damaged, or holds no such names.
    """
    if use_moving_averages:
        raise UserError("--use_moving_averages does not fit format official: its checkpoints hold none")
    _, found, files = tensorflow_files.read(path)
    matches = {name: _VARIABLE.fullmatch(name) for name in found}
    tensors = {match[1]: found[name] for name, match in matches.items() if match}
    if not tensors:
        raise UserError(f"{path} holds no conv2d, batch_normalization or dense: it is none of the official ResNet's")
    return Foreign(tensors, files, {})


def projections(structure):
    """Where the shortcuts are convolutions; see `layouts.make_block`."""
    return "every_first_unit"


def names(structure, tensors, projections):
    """Maps (place, quantity) to the numbered name."""
    convolutions, norms = _numbered("conv2d"), _numbered("batch_normalization")
    found = {}
    for place in list_places(structure, projections):
        if place.role == "logits":
            found |= {(place, "weights"): "dense/kernel", (place, "biases"): "dense/bias"}
            continue
        norm_alone = place.role in ("preact", "postnorm")
        if not norm_alone:
            found[place, "weights"] = f"{next(convolutions)}/kernel"
        if norm_alone or has_norm(structure, place):
            norm = next(norms)
            found |= {(place, quantity): f"{norm}/{quantity}" for quantity in NORM}
    return found


def _numbered(name):
    return itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))


def to_ours(place, quantity, value):
    """A value in our layout: a dense kernel becomes a 1x1 convolution's."""
    return value[None, None] if place.role == "logits" and quantity == "weights" else value


def settings(structure, source):
    """Arguments of `create_model` for the official layout."""
    layout = {"stride_placement": "first_unit", "projections": "every_first_unit"}
    return layout | {"shortcut": "projection"} if structure.cifar else layout


def preprocessing(structure, source):
    """Name and numbers of the preprocessing, and the image size, that the official programs used."""
    return ("cifar", {}, 32) if structure.cifar else ("resnet", {}, 224)


def reverse_channels(structure, preprocessing_name):
    """Whether the network expects BGR: never."""
    return False


def run_source(structure, source, inputs, preprocessing):
    """Runs the official layout, written in plain operations, on the numbered tensors; see `verification.compare`.

    Returns:
      What was run, and its logits.
    """
    from weights import official_reference

    logits = official_reference.forward(structure, lambda name, shape: source.tensors[name], inputs)
    return "the official layout in plain operations", np.asarray(logits)
