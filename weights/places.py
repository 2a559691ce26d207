"""Where the weights of a residual network are, independent of a library's names.

A place is a layer: its block, its unit and its role. Every format names the same places, so a format is a function from
a place to names (see `slim`, `keras`, `torchvision`, `official`), and this file is the only list of places.
"""

import re
from typing import NamedTuple

from nets import depths

NORM = ("gamma", "beta", "moving_mean", "moving_variance")


class Place(NamedTuple):
    """A layer of the network.

    Attributes:
      block: 1 for the first block; 0 outside of blocks.
      unit: 1 for the first unit of a block; 0 outside.
      role: conv1, conv2, conv3, shortcut, preact, postnorm or logits.
    """

    block: int
    unit: int
    role: str


class Structure(NamedTuple):
    """What a network's name says about its layers.

    Attributes:
      model_name: Its name in `nets_factory.NETWORKS`.
      version: 1 or 2; 1.5 counts as 1, since strides hold no weights.
      cifar: Whether it is one of the nets for 32x32 images.
      depth: Layers.
    """

    model_name: str
    version: int
    cifar: bool
    depth: int

    @property
    def units_per_block(self):
        return ((self.depth - 2) // 6,) * 3 if self.cifar else depths.UNITS_PER_BLOCK[self.depth]

    @property
    def bottleneck(self):
        return not self.cifar and self.depth >= 50

    @property
    def unit_scope(self):
        """Scope of a unit in Slim's variable names."""
        return f"{'bottleneck' if self.bottleneck else 'basic'}_v{self.version}"


def structure_of(model_name):
    """Parses a name of `nets_factory.NETWORKS` into a Structure."""
    cifar, version, depth = re.fullmatch(r"resnet_(cifar_)?v([12])(?:_5)?_(\d+)", model_name).groups()
    return Structure(model_name, int(version), bool(cifar), int(depth))


def list_places(structure, projections="where_shapes_differ"):
    """Lists the places of a network in the order of the data flow, a unit's shortcut before its convolutions.

    Args:
      structure: A Structure.
      projections: As in `layouts.make_block`, with the shortcuts of option B; or "nowhere", with those of option A.
    """
    convolutions = ["conv1", "conv2", "conv3"] if structure.bottleneck else ["conv1", "conv2"]
    found = [Place(0, 0, "conv1")]
    for block, units in enumerate(structure.units_per_block, 1):
        for unit in range(1, units + 1):
            roles = ["preact"] if structure.version == 2 else []
            projects = structure.bottleneck or block > 1 or projections == "every_first_unit"
            if unit == 1 and projects and projections != "nowhere":
                roles.append("shortcut")
            found += [Place(block, unit, role) for role in roles + convolutions]
    if structure.version == 2:
        found.append(Place(0, 0, "postnorm"))
    return [*found, Place(0, 0, "logits")]


def has_norm(structure, place):
    """Whether a convolution is followed by a norm of its own."""
    last = "conv3" if structure.bottleneck else "conv2"
    if place.role == "logits":
        return False
    return structure.version == 1 or (place.block > 0 and place.role not in ("shortcut", last))


def quantities(structure, place):
    """What a place holds in our networks, of weights, biases, gamma, beta, moving_mean and moving_variance."""
    if place.role in ("preact", "postnorm"):
        return NORM
    if has_norm(structure, place):
        return ("weights", *NORM)
    # The CIFAR nets have no biases except those of the logits.
    return ("weights",) if structure.cifar and place.role != "logits" else ("weights", "biases")


def variable_name(structure, place, quantity, scope=None):
    """The name of a variable of ours, which is Slim's."""
    unit = f"/block{place.block}/unit_{place.unit}/{structure.unit_scope}" if place.block else ""
    norm = "/BatchNorm" if quantity in NORM and place.role not in ("preact", "postnorm") else ""
    return f"{scope or structure.model_name}{unit}/{place.role}{norm}/{quantity}"
