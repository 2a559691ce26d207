"""A network of this zoo in plain PyTorch, for timing: any of `nets_factory`, with its layout and its weights.

It shares nothing with `nets`. PyTorch is an optional extra, so import this module late.
"""

import numpy as np
import torch
from torch import nn

from weights import places

_NAMES = {
    "weights": "convolution.weight",
    "biases": "convolution.bias",
    "gamma": "norm.weight",
    "beta": "norm.bias",
    "moving_mean": "norm.running_mean",
    "moving_variance": "norm.running_var",
}


class Layer(nn.Module):
    """The layers at a place: a convolution, a norm, or both, and perhaps a ReLU."""

    def __init__(self, inputs, outputs, size, quantities, stride=1, relu=False, epsilon=1e-5, momentum=0.003):
        super().__init__()
        self.convolution, self.norm = nn.Identity(), nn.Identity()
        if "weights" in quantities:
            bias = "biases" in quantities
            self.convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=bias)
        if "gamma" in quantities:
            self.norm = nn.BatchNorm2d(outputs, eps=epsilon, momentum=momentum)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, images):
        return self.relu(self.norm(self.convolution(images)))


class Shortcut(nn.Module):
    """Takes every stride-th pixel, and pads missing channels with zeros on both sides."""

    def __init__(self, missing, stride):
        super().__init__()
        self.missing, self.stride = missing, stride

    def forward(self, images):
        if self.stride > 1:
            images = images[:, :, :: self.stride, :: self.stride]
        if self.missing:
            images = nn.functional.pad(images, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        return images


class Unit(nn.Module):
    """A residual unit; the 3x3 of a bottleneck, or the first of two, has the stride."""

    def __init__(self, make_layer, block, number, inputs, width, outputs, stride, bottleneck, preactivation, project):
        super().__init__()

        def layer(role, *arguments, **keywords):
            return make_layer(places.Place(block, number, role), *arguments, **keywords)

        self.preactivation = preactivation
        if preactivation:
            self.preact = layer("preact", inputs, inputs, 1, relu=True)
        if bottleneck:
            self.conv1 = layer("conv1", inputs, width, 1, relu=True)
            self.conv2 = layer("conv2", width, width, 3, stride=stride, relu=True)
            self.conv3 = layer("conv3", width, outputs, 1)
        else:
            self.conv1 = layer("conv1", inputs, outputs, 3, stride=stride, relu=True)
            self.conv2 = layer("conv2", outputs, outputs, 3)
            self.conv3 = nn.Identity()
        self.project = project
        if project:
            self.shortcut = layer("shortcut", inputs, outputs, 1, stride=stride)
        else:
            self.shortcut = Shortcut(outputs - inputs, stride)

    def forward(self, images):
        if not self.preactivation:
            residual = self.conv3(self.conv2(self.conv1(images)))
            return torch.relu(residual + self.shortcut(images))
        activated = self.preact(images)
        residual = self.conv3(self.conv2(self.conv1(activated)))
        return residual + self.shortcut(activated if self.project else images)


class Network(nn.Module):
    """The whole network; images [batch, 3, height, width] to logits [batch, num_classes]."""

    def __init__(self, structure, settings, variable_names):
        """Makes the layers that a SlimModel's variables name.

        Args:
          structure: A places.Structure.
          settings: Those of the SlimModel; its root pool padding must be symmetric if it has a pool.
          variable_names: Those of the SlimModel.
        """
        super().__init__()

        def make_layer(place, *arguments, **keywords):
            return Layer(
                *arguments,
                places.quantities(structure, place),
                epsilon=settings["batch_norm_epsilon"],
                momentum=1 - settings["batch_norm_decay"],
                **keywords,
            )

        def outside(role, *arguments, **keywords):
            return make_layer(places.Place(0, 0, role), *arguments, **keywords)

        preactivation = structure.version == 2
        channels, expansion = (16, 1) if structure.cifar else (64, 4 if structure.bottleneck else 1)
        size, stride = (3, 1) if structure.cifar else (7, 2)
        self.conv1 = outside("conv1", 3, channels, size, stride=stride, relu=not preactivation)
        self.pool = nn.Identity()
        if not structure.cifar:
            # v2 pools values of both signs, and the padding is zeros.
            self.pool = nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, 2))
        blocks, base = [], channels
        for block, count in enumerate(structure.units_per_block, 1):
            width = base * 2 ** (block - 1)
            for number in range(1, count + 1):
                place = places.Place(block, number, "shortcut")
                unit = Unit(
                    make_layer,
                    block,
                    number,
                    channels,
                    width,
                    width * expansion,
                    _stride(settings["stride_placement"], block, number, structure.units_per_block),
                    structure.bottleneck,
                    preactivation,
                    places.variable_name(structure, place, "weights", settings.get("scope")) in variable_names,
                )
                blocks.append((f"block{block}_{number}", unit))
                channels = width * expansion
        self.units = nn.Sequential()
        for name, unit in blocks:
            self.units.add_module(name, unit)
        self.postnorm = outside("postnorm", channels, channels, 1, relu=True) if preactivation else nn.Identity()
        self.logits = outside("logits", channels, settings["num_classes"], 1)

    def forward(self, images):
        net = self.postnorm(self.units(self.pool(self.conv1(images))))
        return self.logits(net.mean(dim=(2, 3), keepdim=True)).flatten(1)


def build(model):
    """The network of a SlimModel with its weights, in PyTorch's channels-last layout.

    Args:
      model: A SlimModel, or an object with its settings and its variables_by_name as arrays.
    """
    structure = places.structure_of(model.settings["model_name"])
    values = {name: np.asarray(variable) for name, variable in model.variables_by_name.items()}
    network = Network(structure, model.settings, values)
    state = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    for place in places.list_places(structure, model.settings["projections"]):
        for quantity in places.quantities(structure, place):
            name = places.variable_name(structure, place, quantity, model.settings.get("scope"))
            if name in values:  # A shortcut may have no parameters.
                value = values[name].transpose([3, 2, 0, 1]) if quantity == "weights" else values[name]
                where = f"units.block{place.block}_{place.unit}." if place.block else ""
                state[f"{where}{place.role}.{_NAMES[quantity]}"] = torch.from_numpy(np.ascontiguousarray(value))
    network.load_state_dict(state, strict=True)
    return network.to(memory_format=torch.channels_last)


def _stride(placement, block, number, units_per_block):
    """The stride of a unit: 2 in the last unit of each block but the last, or in the first of each but the first."""
    if placement == "last_unit":
        return 2 if number == units_per_block[block - 1] and block < len(units_per_block) else 1
    return 2 if number == 1 and block > 1 else 1
