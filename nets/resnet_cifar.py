"""The residual networks of 6n + 2 layers for 32x32 images, v1 and v2.

A 3x3 root of 16 channels, then three blocks of n basic units with 16, 32 and 64 channels; the first units of blocks 2
and 3 have stride 2. Convolutions have no biases, except the logits.

    with slim.arg_scope(resnet_cifar.resnet_arg_scope(weight_decay=2e-4)):
        logits, end_points = resnet_cifar.resnet_cifar_v1_20(images, num_classes=10, is_training=True)
    resnet_cifar_26 = resnet_cifar.resnet_cifar_v1(26)

Sources: He et al., arXiv:1512.03385, section 4.2 (v1, shortcuts A and B, plain networks); arXiv:1603.05027 (v2).
"""

import tf_slim as slim

from command_line import UserError
from nets import layouts, resnet_utils, resnet_v1, resnet_v2, root_and_head

resnet_arg_scope = resnet_utils.resnet_arg_scope

DEPTHS = (20, 32, 44, 56, 110)
BASE_DEPTHS = (16, 32, 64)


def resnet_cifar_v1(depth):
    """The network function of a v1 net.

    Args:
      depth: Number of layers: 6n + 2 with n at least 1.

    Returns:
      A function with the arguments of `resnet_v1.resnet_v1` from num_classes on, and these differences. output_stride:
      1, 2 or 4; None is 4. shortcut: where the depth changes, "identity_pad" (the paper's option A: every second pixel,
      zero channels added), "avg_pool_pad" (a 2x2 average instead) or "projection" (option B). shortcut_connections:
      False builds the paper's plain network.

    Raises:
      UserError: If `depth` is not 6n + 2.
    """
    return _variant("resnet_cifar_v1", depth, resnet_v1.resnet_v1, resnet_v1.basic, resnet_v1.resnet_v1_basic_block)


def resnet_cifar_v2(depth):
    """The network function of a v2 net; see `resnet_cifar_v1`."""
    return _variant("resnet_cifar_v2", depth, resnet_v2.resnet_v2, resnet_v2.basic, resnet_v2.resnet_v2_basic_block)


def _variant(family, depth, builder, unit_fn, block_fn):
    """The network function of one depth of one family."""
    if depth < 8 or (depth - 2) % 6:
        raise UserError(f"a CIFAR ResNet has 6n + 2 layers (8, 14, 20, ...), not {depth}")
    name = f"{family}_{depth}"
    units_per_block = [(depth - 2) // 6] * len(BASE_DEPTHS)

    def network(
        inputs,
        num_classes=None,
        is_training=True,
        global_pool=True,
        output_stride=None,
        spatial_squeeze=True,
        reuse=None,
        scope=name,
        *,
        store_non_strided_activations=False,
        data_format="NHWC",
        stride_placement="first_unit",
        projections="where_shapes_differ",
        shortcut="identity_pad",
        shortcut_connections=True,
    ):
        if projections == "every_first_unit" and shortcut != "projection":
            raise UserError(f"projections every_first_unit needs shortcut projection, not {shortcut}")
        with (
            slim.arg_scope([slim.conv2d], biases_initializer=None),
            slim.arg_scope([unit_fn], shortcut_kind=shortcut, shortcut_connections=shortcut_connections),
        ):
            return builder(
                inputs,
                layouts.stack_of_blocks(block_fn, BASE_DEPTHS, units_per_block, stride_placement, projections),
                num_classes,
                is_training,
                global_pool=global_pool,
                output_stride=output_stride,
                spatial_squeeze=spatial_squeeze,
                store_non_strided_activations=store_non_strided_activations,
                reuse=reuse,
                scope=scope,
                data_format=data_format,
                root=root_and_head.CIFAR_ROOT,
            )

    return layouts.describe_variant(network, name, f"resnet_cifar.{family}", default_image_size=32)


resnet_cifar_v1_20, resnet_cifar_v1_32, resnet_cifar_v1_44, resnet_cifar_v1_56, resnet_cifar_v1_110 = map(
    resnet_cifar_v1, DEPTHS
)
resnet_cifar_v2_20, resnet_cifar_v2_32, resnet_cifar_v2_44, resnet_cifar_v2_56, resnet_cifar_v2_110 = map(
    resnet_cifar_v2, DEPTHS
)
