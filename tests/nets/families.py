"""The two families of residual networks, v1 and v2, ours beside tf-slim's own, and small networks of them."""

import dataclasses
import types

import tf_slim as slim
import tf_slim.nets.resnet_v1 as reference_v1
import tf_slim.nets.resnet_v2 as reference_v2

from nets import resnet_v1, resnet_v2
from nets.resnet_utils import resnet_arg_scope


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of networks: ours and tf-slim's own."""

    name: str
    module: types.ModuleType
    reference: types.ModuleType

    @property
    def network(self):
        return getattr(self.module, f"resnet_{self.name}")

    @property
    def block(self):
        return getattr(self.module, f"resnet_{self.name}_block")

    @property
    def unit(self):
        """The scope of a bottleneck unit."""
        return f"bottleneck_{self.name}"

    def variant(self, depth):
        return getattr(self.module, f"resnet_{self.name}_{depth}")

    def blocks(self, *shape, module=None, **block_arguments):
        """Blocks block1, block2... of (base_depth, num_units, stride) each."""
        block = getattr(module, f"resnet_{self.name}_block") if module else self.block
        return [
            block(f"block{i + 1}", base_depth=base_depth, num_units=num_units, stride=stride, **block_arguments)
            for i, (base_depth, num_units, stride) in enumerate(shape)
        ]


FAMILIES = {
    "v1": Family("v1", resnet_v1, reference_v1),
    "v2": Family("v2", resnet_v2, reference_v2),
}

# (base_depth, num_units, stride) of each block; the output of a bottleneck block has four times its base depth.
# Few units: TensorFlow takes some 30 ms to build each convolution.
SMALL = [(1, 2, 2), (2, 1, 2), (4, 1, 2), (8, 1, 1)]
VALUED = [(2, 1, 2), (3, 2, 2), (4, 1, 2), (5, 1, 1)]  # wide enough that some of every map is positive
ONE = [(2, 1, 1)]


def small(family, inputs, num_classes=None, shape=SMALL, scope="resnet", **kwargs):
    """A shallow and thin network of the family, within its arg scope."""
    with slim.arg_scope(resnet_arg_scope()):
        return family.network(inputs, family.blocks(*shape), num_classes, scope=scope, **kwargs)


def shapes(end_points, scope="resnet"):
    return {key: end_points[f"{scope}/{key}"].shape.as_list() for key in ("block1", "block2", "block3", "block4")}
