"""Residual networks v2: a norm and a ReLU before each convolution, nothing after the sum.

Typical use, in a v1 graph or in a tf.function traced with autograph=False:

    with slim.arg_scope(resnet_v2.resnet_arg_scope()):
        logits, end_points = resnet_v2.resnet_v2_50(images, num_classes=1001, is_training=False)

The end point block4 is the plain sum of the last unit, before the network's last norm and ReLU.
Convolutions not followed by a norm (root, shortcut, the last of a unit) have biases, as in Slim.

Source: He et al., Identity Mappings in Deep Residual Networks, arXiv:1603.05027.
"""

import tensorflow as tf
import tf_slim as slim

from command_line import UserError
from nets import depths, layouts, resnet_utils, root_and_head
from nets.batch_norm import batch_norm
from nets.convolution import conv2d

resnet_arg_scope = resnet_utils.resnet_arg_scope


@slim.add_arg_scope
def bottleneck(inputs, depth, depth_bottleneck, stride, rate=1, outputs_collections=None, scope=None, project=False):
    """A pre-activation unit of three convolutions, 1x1, 3x3 and 1x1; the 3x3 carries stride and rate.

    Args:
      inputs: Activations, [batch, height, width, channels] (or NCHW).
      depth: Channels of the result.
      depth_bottleneck: Channels of the first two convolutions.
      stride: Stride of the unit.
      rate: Atrous rate.
      outputs_collections: Collections that get the result.
      scope: Variable scope, "bottleneck_v2" when None.
      project: Whether the shortcut is a convolution even at unchanged depth.

    Returns:
      Activations, [batch, ceil(height / stride), ceil(width / stride), depth].
    """
    with tf.compat.v1.variable_scope(scope, "bottleneck_v2", [inputs]) as unit_scope:
        preact = batch_norm(inputs, activation_fn=tf.nn.relu, scope="preact")
        shortcut = _shortcut(inputs, preact, depth, stride, project)
        residual = conv2d(preact, depth_bottleneck, [1, 1], stride=1, scope="conv1")
        residual = resnet_utils.conv2d_same(residual, depth_bottleneck, 3, stride, rate=rate, scope="conv2")
        residual = conv2d(residual, depth, [1, 1], stride=1, normalizer_fn=None, activation_fn=None, scope="conv3")
        return slim.utils.collect_named_outputs(outputs_collections, unit_scope.name, shortcut + residual)


@slim.add_arg_scope
def basic(
    inputs,
    depth,
    stride,
    rate=1,
    outputs_collections=None,
    scope=None,
    project=False,
    nominal_stride=1,
    shortcut_kind="projection",
    shortcut_connections=True,
):
    """A pre-activation unit of two 3x3 convolutions; the first carries the stride.

    Args:
      inputs: Activations, [batch, height, width, channels] (or NCHW).
      depth: Channels of both convolutions.
      stride: Stride of the unit.
      rate: Atrous rate of the first convolution.
      outputs_collections: Collections that get the result.
      scope: Variable scope, "basic_v2" when None.
      project: Whether the shortcut is a convolution even at unchanged depth.
      nominal_stride: As in `resnet_v1.basic`.
      shortcut_kind: As in `resnet_v1.basic`; a projection starts from the pre-activation, the others from the input.
      shortcut_connections: False leaves the shortcut out.

    Returns:
      Activations, [batch, ceil(height / stride), ceil(width / stride), depth].

    Raises:
      UserError: If the shortcut is unknown, or is avg_pool_pad in a dilated unit.
    """
    rest_rate = resnet_utils.rate_after_stride(rate, stride, nominal_stride)
    with tf.compat.v1.variable_scope(scope, "basic_v2", [inputs]) as unit_scope:
        preact = batch_norm(inputs, activation_fn=tf.nn.relu, scope="preact")
        residual = resnet_utils.conv2d_same(preact, depth, 3, stride, rate=rate, scope="conv1")
        residual = resnet_utils.conv2d_same(
            residual, depth, 3, 1, rate=rest_rate, normalizer_fn=None, activation_fn=None, scope="conv2"
        )
        if shortcut_connections:
            if resnet_utils.pads_channels(shortcut_kind, stride, nominal_stride):
                residual += resnet_utils.pad_shortcut(inputs, depth, stride, shortcut_kind)
            else:
                residual += _shortcut(inputs, preact, depth, stride, project)
        return slim.utils.collect_named_outputs(outputs_collections, unit_scope.name, residual)


def _shortcut(inputs, preact, depth, stride, project):
    """The subsampled input if depth and `project` allow it, else a linear 1x1 convolution of the pre-activation."""
    if depth == resnet_utils.channels(inputs) and not project:
        return resnet_utils.subsample(inputs, stride, "shortcut")
    return conv2d(preact, depth, [1, 1], stride=stride, normalizer_fn=None, activation_fn=None, scope="shortcut")


def resnet_v2(
    inputs,
    blocks,
    num_classes=None,
    is_training=True,
    global_pool=True,
    output_stride=None,
    include_root_block=True,
    spatial_squeeze=True,
    reuse=None,
    scope=None,
    *,
    store_non_strided_activations=False,
    data_format="NHWC",
    root=root_and_head.IMAGENET_ROOT,
    root_pool_padding="same",
):
    """Builds a v2 network of `blocks`.

    Args and returns are those of `resnet_v1.resnet_v1`, except that `scope` is "resnet_v2" when None.

    Raises:
      ValueError: If `output_stride` cannot be reached, an argument is not one of its choices, or the arg scope asks for
        zero_gamma: the ReLU after a unit's last norm has no gradient at 0, so the unit could never learn.
    """
    if resnet_utils.last_norm_starts_at_zero():
        raise UserError(
            "zero_gamma does not fit a v2 network: a ReLU follows the last norm of its units and passes no gradient at "
            "gamma = 0; leave zero_gamma off, or use a v1 network"
        )
    with tf.compat.v1.variable_scope(scope, "resnet_v2", [inputs], reuse=reuse) as network_scope:
        collection = network_scope.original_name_scope + "_end_points"
        collectors = [slim.conv2d, bottleneck, basic, resnet_utils.stack_blocks_dense]
        with (
            slim.arg_scope(collectors, outputs_collections=collection),
            resnet_utils.data_format_scope(data_format),
            resnet_utils.training_scope(is_training),
        ):
            net = inputs
            if include_root_block:
                # The first unit's pre-activation applies norm and ReLU, so the root does not.
                net, output_stride = root_and_head.apply_root(
                    net, root, output_stride, root_pool_padding, data_format, normalizer_fn=None, activation_fn=None
                )
            net = resnet_utils.stack_blocks_dense(net, blocks, output_stride, store_non_strided_activations)
            net = batch_norm(net, activation_fn=tf.nn.relu, scope="postnorm")
            end_points = slim.utils.convert_collection_to_dict(collection, clear_collection=True)
            net = root_and_head.classify(
                net, end_points, network_scope.name, num_classes, global_pool, spatial_squeeze, data_format
            )
        return net, end_points


resnet_v2.default_image_size = 224


def resnet_v2_block(
    scope, base_depth, num_units, stride, *, stride_placement="last_unit", projections="where_shapes_differ"
):
    """A block of bottleneck units, 4 * base_depth channels wide; see `layouts.make_block`."""
    unit = {"depth": 4 * base_depth, "depth_bottleneck": base_depth}
    return layouts.make_block(scope, bottleneck, unit, num_units, stride, stride_placement, projections)


def resnet_v2_basic_block(
    scope, base_depth, num_units, stride, *, stride_placement="first_unit", projections="where_shapes_differ"
):
    """A block of basic units, base_depth channels wide; see `layouts.make_block`."""
    return layouts.make_basic_block(scope, basic, base_depth, num_units, stride, stride_placement, projections)


def _variant(name, depth, block_fn=resnet_v2_block, stride_placement="last_unit"):
    """The network function of one depth; its arguments are in research/slim's order, ours are keyword-only."""
    placement = stride_placement

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
        min_base_depth=8,
        depth_multiplier=1,
        data_format="NHWC",
        stride_placement=placement,
        projections="where_shapes_differ",
        root_pool_padding="same",
    ):
        base_depths = layouts.scaled_base_depths(depth_multiplier, min_base_depth)
        units = depths.UNITS_PER_BLOCK[depth]
        return resnet_v2(
            inputs,
            layouts.stack_of_blocks(block_fn, base_depths, units, stride_placement, projections),
            num_classes,
            is_training,
            global_pool=global_pool,
            output_stride=output_stride,
            spatial_squeeze=spatial_squeeze,
            reuse=reuse,
            scope=scope,
            store_non_strided_activations=store_non_strided_activations,
            data_format=data_format,
            root_pool_padding=root_pool_padding,
        )

    return layouts.describe_variant(network, name, "resnet_v2.resnet_v2")


resnet_v2_18 = _variant("resnet_v2_18", 18, resnet_v2_basic_block, "first_unit")
resnet_v2_34 = _variant("resnet_v2_34", 34, resnet_v2_basic_block, "first_unit")
resnet_v2_50 = _variant("resnet_v2_50", 50)
resnet_v2_101 = _variant("resnet_v2_101", 101)
resnet_v2_152 = _variant("resnet_v2_152", 152)
resnet_v2_200 = _variant("resnet_v2_200", 200)
