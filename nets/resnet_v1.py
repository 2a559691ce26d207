"""Residual networks v1: a norm after each convolution, a ReLU after each sum.

Typical use, in a v1 graph or in a tf.function traced with autograph=False:

    with slim.arg_scope(resnet_v1.resnet_arg_scope()):
        logits, end_points = resnet_v1.resnet_v1_50(images, num_classes=1000, is_training=False)

    # features for a dense task: [batch, height / 16, width / 16, 2048]
    with slim.arg_scope(resnet_v1.resnet_arg_scope()):
        net, _ = resnet_v1.resnet_v1_101(images, None, is_training=False, global_pool=False, output_stride=16)

Source: He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385.
"""

import tensorflow as tf
import tf_slim as slim

from command_line import UserError
from nets import depths, layouts, resnet_utils, root_and_head
from nets.convolution import conv2d

resnet_arg_scope = resnet_utils.resnet_arg_scope


@slim.add_arg_scope
def bottleneck(
    inputs,
    depth,
    depth_bottleneck,
    stride,
    rate=1,
    outputs_collections=None,
    scope=None,
    use_bounded_activations=False,
    project=False,
):
    """A unit of three convolutions, 1x1, 3x3 and 1x1; the 3x3 carries stride and rate.

    Args:
      inputs: Activations, [batch, height, width, channels] (or NCHW).
      depth: Channels of the result.
      depth_bottleneck: Channels of the first two convolutions.
      stride: Stride of the unit.
      rate: Atrous rate.
      outputs_collections: Collections that get the result.
      scope: Variable scope, "bottleneck_v1" when None.
      use_bounded_activations: Whether to clip the projected shortcut and the result to [0, 6] and the residual to
        [-6, 6], for quantization.
      project: Whether the shortcut is a convolution even at unchanged depth.

    Returns:
      Activations, [batch, ceil(height / stride), ceil(width / stride), depth].
    """
    with tf.compat.v1.variable_scope(scope, "bottleneck_v1", [inputs]) as unit_scope:
        bounded = tf.nn.relu6 if use_bounded_activations else None
        shortcut = _shortcut(inputs, depth, stride, project, activation_fn=bounded)
        residual = conv2d(inputs, depth_bottleneck, [1, 1], stride=1, scope="conv1")
        residual = resnet_utils.conv2d_same(residual, depth_bottleneck, 3, stride, rate=rate, scope="conv2")
        with resnet_utils.last_norm():
            residual = conv2d(residual, depth, [1, 1], stride=1, activation_fn=None, scope="conv3")
        if use_bounded_activations:
            outputs = tf.nn.relu6(shortcut + tf.clip_by_value(residual, -6.0, 6.0))
        else:
            outputs = tf.nn.relu(shortcut + residual)
        return slim.utils.collect_named_outputs(outputs_collections, unit_scope.name, outputs)


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
    """A unit of two 3x3 convolutions; the first carries the stride.

    Args:
      inputs: Activations, [batch, height, width, channels] (or NCHW).
      depth: Channels of both convolutions.
      stride: Stride of the unit.
      rate: Atrous rate of the first convolution.
      outputs_collections: Collections that get the result.
      scope: Variable scope, "basic_v1" when None.
      project: Whether the shortcut is a convolution even at unchanged depth.
      nominal_stride: Stride of the undilated unit; the second convolution dilates by the part that is not strided.
      shortcut_kind: Shortcut where the depth changes: "projection" (the paper's option B), "identity_pad" (option A) or
        "avg_pool_pad".
      shortcut_connections: False leaves the shortcut out: the paper's plain network.

    Returns:
      Activations, [batch, ceil(height / stride), ceil(width / stride), depth].

    Raises:
      UserError: If the shortcut is unknown, or is avg_pool_pad in a dilated unit, or the arg scope asks for zero_gamma
        without shortcuts: nothing would pass the ReLU at the end, and no gradient.
    """
    if resnet_utils.last_norm_starts_at_zero() and not shortcut_connections:
        raise UserError(
            "zero_gamma does not fit a network with shortcut_connections=False: its units would start as 0 and never "
            "learn; leave one of the two off"
        )
    rest_rate = resnet_utils.rate_after_stride(rate, stride, nominal_stride)
    with tf.compat.v1.variable_scope(scope, "basic_v1", [inputs]) as unit_scope:
        residual = resnet_utils.conv2d_same(inputs, depth, 3, stride, rate=rate, scope="conv1")
        with resnet_utils.last_norm():
            residual = resnet_utils.conv2d_same(
                residual, depth, 3, 1, rate=rest_rate, activation_fn=None, scope="conv2"
            )
        if shortcut_connections:
            if resnet_utils.pads_channels(shortcut_kind, stride, nominal_stride):
                residual += resnet_utils.pad_shortcut(inputs, depth, stride, shortcut_kind)
            else:
                residual += _shortcut(inputs, depth, stride, project)
        return slim.utils.collect_named_outputs(outputs_collections, unit_scope.name, tf.nn.relu(residual))


def _shortcut(inputs, depth, stride, project, activation_fn=None):
    """The subsampled input if depth and `project` allow it, else a 1x1 convolution with its norm."""
    if depth == resnet_utils.channels(inputs) and not project:
        return resnet_utils.subsample(inputs, stride, "shortcut")
    return conv2d(inputs, depth, [1, 1], stride=stride, activation_fn=activation_fn, scope="shortcut")


def resnet_v1(
    inputs,
    blocks,
    num_classes=None,
    is_training=True,
    global_pool=True,
    output_stride=None,
    include_root_block=True,
    spatial_squeeze=True,
    store_non_strided_activations=False,
    reuse=None,
    scope=None,
    *,
    data_format="NHWC",
    root=root_and_head.IMAGENET_ROOT,
    root_pool_padding="same",
):
    """Builds a v1 network of `blocks`.

    For dense tasks use global_pool=False, an `output_stride` of 8 or 16, and image sizes that are a multiple of 32
    plus 1: the corners of the features then align with the corners of the image.

    Args:
      inputs: Images, [batch, height, width, channels], or [batch, channels, height, width] with data_format NCHW.
      blocks: A list of resnet_utils.Block.
      num_classes: Classes; None or 0 returns the features.
      is_training: Whether norms use batch statistics (and update their averages); None leaves it to an outer arg scope.
      global_pool: Whether to average over height and width before the logits.
      output_stride: Input size over output size, 4, 8, 16 or 32 with the ImageNet root; None is the nominal stride.
      include_root_block: Whether the root comes before the blocks.
      spatial_squeeze: Whether logits are [batch, num_classes] instead of [batch, 1, 1, num_classes]; with
        global_pool=False the map before the logits must then be 1x1.
      store_non_strided_activations: As in `resnet_utils.stack_blocks_dense`.
      reuse: Whether to reuse the variables; `scope` must then be given.
      scope: Variable scope, "resnet_v1" when None.
      data_format: NHWC, or NCHW, which TensorFlow runs on GPUs only.
      root: A root_and_head.Root.
      root_pool_padding: "same" or "symmetric", see `root_and_head.apply_root`.

    Returns:
      net: Logits, or features where there are no classes: [batch, 1, 1, depth] when pooled, else
        [batch, height / output_stride, width / output_stride, depth].
      end_points: Activations by name, in the order they were built: every convolution, unit and block under its scope's
        name, then global_pool, <scope>/logits, <scope>/spatial_squeeze, predictions (softmax of the logits).

    Raises:
      ValueError: If `output_stride` cannot be reached, or an argument is not one of its choices.
    """
    with tf.compat.v1.variable_scope(scope, "resnet_v1", [inputs], reuse=reuse) as network_scope:
        collection = network_scope.original_name_scope + "_end_points"
        collectors = [slim.conv2d, bottleneck, basic, resnet_utils.stack_blocks_dense]
        with (
            slim.arg_scope(collectors, outputs_collections=collection),
            resnet_utils.data_format_scope(data_format),
            resnet_utils.training_scope(is_training),
        ):
            net = inputs
            if include_root_block:
                net, output_stride = root_and_head.apply_root(net, root, output_stride, root_pool_padding, data_format)
            net = resnet_utils.stack_blocks_dense(net, blocks, output_stride, store_non_strided_activations)
            end_points = slim.utils.convert_collection_to_dict(collection, clear_collection=True)
            net = root_and_head.classify(
                net, end_points, network_scope.name, num_classes, global_pool, spatial_squeeze, data_format
            )
        return net, end_points


resnet_v1.default_image_size = 224


def resnet_v1_block(
    scope, base_depth, num_units, stride, *, stride_placement="last_unit", projections="where_shapes_differ"
):
    """A block of bottleneck units, 4 * base_depth channels wide; see `layouts.make_block`."""
    unit = {"depth": 4 * base_depth, "depth_bottleneck": base_depth}
    return layouts.make_block(scope, bottleneck, unit, num_units, stride, stride_placement, projections)


def resnet_v1_basic_block(
    scope, base_depth, num_units, stride, *, stride_placement="first_unit", projections="where_shapes_differ"
):
    """A block of basic units, base_depth channels wide; see `layouts.make_block`."""
    return layouts.make_basic_block(scope, basic, base_depth, num_units, stride, stride_placement, projections)


def _variant(name, depth, block_fn=resnet_v1_block, stride_placement="last_unit"):
    """The network function of one depth; its arguments are in research/slim's order, ours are keyword-only."""
    placement = stride_placement

    def network(
        inputs,
        num_classes=None,
        is_training=True,
        global_pool=True,
        output_stride=None,
        spatial_squeeze=True,
        store_non_strided_activations=False,
        min_base_depth=8,
        depth_multiplier=1,
        reuse=None,
        scope=name,
        *,
        data_format="NHWC",
        stride_placement=placement,
        projections="where_shapes_differ",
        root_pool_padding="same",
    ):
        base_depths = layouts.scaled_base_depths(depth_multiplier, min_base_depth)
        units = depths.UNITS_PER_BLOCK[depth]
        return resnet_v1(
            inputs,
            layouts.stack_of_blocks(block_fn, base_depths, units, stride_placement, projections),
            num_classes,
            is_training,
            global_pool=global_pool,
            output_stride=output_stride,
            spatial_squeeze=spatial_squeeze,
            store_non_strided_activations=store_non_strided_activations,
            reuse=reuse,
            scope=scope,
            data_format=data_format,
            root_pool_padding=root_pool_padding,
        )

    return layouts.describe_variant(network, name, "resnet_v1.resnet_v1")


def _with_order_of_152(network):
    """research/slim's 152 and 200 take store_non_strided_activations before spatial_squeeze; so do ours."""

    def reordered(
        inputs,
        num_classes=None,
        is_training=True,
        global_pool=True,
        output_stride=None,
        store_non_strided_activations=False,
        spatial_squeeze=True,
        *rest,
        **keywords,
    ):
        return network(
            inputs,
            num_classes,
            is_training,
            global_pool,
            output_stride,
            spatial_squeeze,
            store_non_strided_activations,
            *rest,
            **keywords,
        )

    layouts.describe_variant(reordered, network.__name__, "resnet_v1.resnet_v1")
    reordered.layout = network.layout
    return reordered


resnet_v1_18 = _variant("resnet_v1_18", 18, resnet_v1_basic_block, "first_unit")
resnet_v1_34 = _variant("resnet_v1_34", 34, resnet_v1_basic_block, "first_unit")
resnet_v1_50 = _variant("resnet_v1_50", 50)
resnet_v1_101 = _variant("resnet_v1_101", 101)
resnet_v1_152 = _with_order_of_152(_variant("resnet_v1_152", 152))
resnet_v1_200 = _with_order_of_152(_variant("resnet_v1_200", 200))

# v1.5: the 3x3 of a block's first unit has the stride, as in torchvision and the official TensorFlow models.
resnet_v1_5_50 = _variant("resnet_v1_5_50", 50, stride_placement="first_unit")
resnet_v1_5_101 = _variant("resnet_v1_5_101", 101, stride_placement="first_unit")
resnet_v1_5_152 = _variant("resnet_v1_5_152", 152, stride_placement="first_unit")
resnet_v1_5_200 = _variant("resnet_v1_5_200", 200, stride_placement="first_unit")
