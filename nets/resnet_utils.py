"""Parts of all residual networks here: blocks of units, strided convolutions, shortcuts and arg scope.

Sources: He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385 (v1); He et al., Identity Mappings in
Deep Residual Networks, arXiv:1603.05027 (v2); Chen et al., DeepLab, arXiv:1606.00915 (atrous convolution).
"""

import contextlib
from typing import NamedTuple

import tensorflow as tf
import tf_slim as slim

from command_line import UserError
from nets.batch_norm import batch_norm
from nets.convolution import conv2d

DATA_FORMATS = ("NHWC", "NCHW")
SHORTCUTS = ("identity_pad", "avg_pool_pad", "projection")


class Block(NamedTuple):
    """A group of residual units that share a variable scope.

    Attributes:
      scope: Variable scope of the block, such as "block1".
      unit_fn: The unit: takes activations, `rate` and the keywords of one entry of `args`; returns activations.
      args: A dict of keywords for each unit, including `stride`.
    """

    scope: str
    unit_fn: object
    args: list


def check_choice(argument, value, choices):
    """Raises a UserError that lists `choices` unless `value` is one of them."""
    if value not in choices:
        raise UserError(f"{argument} is {value!r}, expected one of: {', '.join(choices)}")


def channels(inputs):
    """The static number of channels of [batch, height, width, channels], or of NCHW if the arg scope says so."""
    return inputs.shape[current_data_format().index("C")]


@slim.add_arg_scope
def current_data_format(data_format="NHWC"):
    """The layout that `data_format_scope` has set."""
    return data_format


def rate_after_stride(rate, stride, nominal_stride):
    """The atrous rate after a unit's strided convolution: it grows by the part of the stride that was not applied."""
    return rate * max(nominal_stride, stride) // stride


@slim.add_arg_scope
def subsample(inputs, factor, scope=None, data_format="NHWC"):
    """Keeps every `factor`-th row and column, starting with the first.

    Args:
      inputs: Activations, [batch, height, width, channels] (or NCHW).
      factor: 1 returns `inputs`.
      scope: Name scope.
      data_format: NHWC or NCHW.

    Returns:
      Activations, [batch, ceil(height / factor), ceil(width / factor), channels].
    """
    if factor == 1:
        return inputs
    return slim.max_pool2d(inputs, [1, 1], stride=factor, data_format=data_format, scope=scope)


@slim.add_arg_scope
def pad_shortcut(inputs, depth, stride, kind, data_format="NHWC"):
    """A shortcut without parameters for a unit that changes the depth: the paper's option A.

    Zero channels are added equally on both sides (an odd one at the end).

    Args:
      inputs: Activations, [batch, height, width, channels] (or NCHW), channels at most `depth`.
      depth: Channels of the result.
      stride: Stride of the unit.
      kind: "identity_pad" keeps every `stride`-th pixel, as in the paper; "avg_pool_pad" averages windows of
        stride x stride pixels (at the lower and right border, of the pixels that remain).
      data_format: NHWC or NCHW.

    Returns:
      Activations, [batch, ceil(height / stride), ceil(width / stride), depth].

    Raises:
      UserError: If the unit has fewer channels than its input.
    """
    channel_axis = data_format.index("C")
    missing = depth - inputs.shape[channel_axis]
    if missing < 0:
        raise UserError(f"shortcut {kind} cannot go from {inputs.shape[channel_axis]} down to {depth} channels")
    if kind == "avg_pool_pad" and stride > 1:
        net = slim.avg_pool2d(inputs, stride, stride=stride, padding="SAME", data_format=data_format)
    else:
        net = subsample(inputs, stride, data_format=data_format)
    paddings = [[0, 0]] * 4
    paddings[channel_axis] = [missing // 2, missing - missing // 2]
    return tf.pad(net, paddings) if missing else net


def pads_channels(shortcut_kind, stride, nominal_stride):
    """Whether a shortcut of this kind is `pad_shortcut` (else it is a projection).

    Raises:
      UserError: If the kind is unknown, or cannot dilate and the unit is dilated.
    """
    check_choice("shortcut", shortcut_kind, SHORTCUTS)
    if shortcut_kind == "avg_pool_pad" and nominal_stride > stride:
        raise UserError(
            "shortcut avg_pool_pad has no atrous form; with an output_stride use identity_pad or projection"
        )
    return shortcut_kind != "projection"


@slim.add_arg_scope
def conv2d_same(inputs, num_outputs, kernel_size, stride, rate=1, scope=None, data_format="NHWC", **conv2d_arguments):
    """A convolution whose strided result is the stride-1 SAME result, subsampled.

    A plain strided SAME convolution differs when the size is even: it pads less above and to the left.

    Args:
      inputs: Activations, [batch, height, width, channels] (or NCHW).
      num_outputs: Filters.
      kernel_size: Height and width of the kernel.
      stride: Output stride.
      rate: Atrous rate.
      scope: Variable scope.
      data_format: NHWC or NCHW.
      **conv2d_arguments: Further arguments of `slim.conv2d`.

    Returns:
      Activations, [batch, ceil(height / stride), ceil(width / stride), num_outputs].
    """
    padding = "SAME"
    if stride > 1:
        pad_total = (kernel_size - 1) * rate
        inputs = pad_image(inputs, pad_total // 2, pad_total - pad_total // 2, data_format)
        padding = "VALID"
    return conv2d(
        inputs,
        num_outputs,
        kernel_size,
        stride=stride,
        rate=rate,
        padding=padding,
        data_format=data_format,
        scope=scope,
        **conv2d_arguments,
    )


def pad_image(inputs, before, after, data_format):
    """Adds `before` rows and columns of zeros above and to the left, `after` below and to the right."""
    return tf.pad(inputs, [[before, after] if axis in "HW" else [0, 0] for axis in data_format])


@slim.add_arg_scope
def stack_blocks_dense(net, blocks, output_stride=None, store_non_strided_activations=False, outputs_collections=None):
    """Stacks `blocks` and keeps the output at `output_stride`.

    Args:
      net: Activations, [batch, height, width, channels] (or NCHW).
      blocks: A list of Block.
      output_stride: Input size over output size: the product of the unit strides up to some unit. Units after that one
        dilate (rate 2, 4, ...) instead of striding. None is the nominal stride.
      store_non_strided_activations: Whether a block's output is taken before its last unit's stride, which becomes a
        subsampling after the block: the same network, but that unit costs about four times as much.
      outputs_collections: Collections that get the output of each block.

    Returns:
      Activations, [batch, height / output_stride, width / output_stride, channels].

    Raises:
      ValueError: If the blocks cannot reach `output_stride`.
    """
    current_stride = 1
    rate = 1

    def advance(stride):
        nonlocal current_stride
        current_stride *= stride
        if output_stride is not None and current_stride > output_stride:
            raise ValueError(f"The target output_stride {output_stride} cannot be reached.")

    for block in blocks:
        with tf.compat.v1.variable_scope(block.scope, "block", [net]) as block_scope:
            block_stride = 1
            for index, unit in enumerate(block.args):
                if store_non_strided_activations and index == len(block.args) - 1:
                    block_stride = unit.get("stride", 1)
                    unit = dict(unit, stride=1)
                with tf.compat.v1.variable_scope(f"unit_{index + 1}", values=[net]):
                    if current_stride == output_stride:
                        net = block.unit_fn(net, rate=rate, **dict(unit, stride=1))
                        rate *= unit.get("stride", 1)
                    else:
                        net = block.unit_fn(net, rate=1, **unit)
                        advance(unit.get("stride", 1))
            net = slim.utils.collect_named_outputs(outputs_collections, block_scope.name, net)
            if current_stride == output_stride:
                rate *= block_stride
            else:
                net = subsample(net, block_stride)
                advance(block_stride)

    if output_stride is not None and current_stride != output_stride:
        raise ValueError(f"The target output_stride {output_stride} cannot be reached.")
    return net


@slim.add_arg_scope
def last_norm_starts_at_zero(zero_gamma=False):
    """Whether the arg scope makes the norm at the end of a residual branch start with gamma = 0."""
    return zero_gamma


def training_scope(is_training):
    """An arg scope that sets the mode of all norms; None leaves it to an outer arg scope."""
    return contextlib.nullcontext() if is_training is None else slim.arg_scope([batch_norm], is_training=is_training)


def last_norm():
    """An arg scope for the layer whose norm ends a residual branch; see `resnet_arg_scope`, zero_gamma."""
    if not last_norm_starts_at_zero():
        return contextlib.nullcontext()
    return slim.arg_scope([batch_norm], param_initializers={"gamma": tf.compat.v1.zeros_initializer()})


def data_format_scope(data_format):
    """An arg scope that sets the layout of every layer of a network.

    Raises:
      UserError: If `data_format` is neither NHWC nor NCHW.
    """
    check_choice("data_format", data_format, DATA_FORMATS)
    layers = [slim.conv2d, slim.max_pool2d, slim.avg_pool2d, batch_norm]
    layers += [conv2d_same, subsample, pad_shortcut, current_data_format]
    return slim.arg_scope(layers, data_format=data_format)


def resnet_arg_scope(
    weight_decay=0.0001,
    batch_norm_decay=0.997,
    batch_norm_epsilon=1e-5,
    batch_norm_scale=True,
    activation_fn=tf.nn.relu,
    use_batch_norm=True,
    batch_norm_updates_collections=tf.compat.v1.GraphKeys.UPDATE_OPS,
    zero_gamma=False,
):
    """The arg scope that the networks here must be built in; without it convolutions have biases and no norm.

    Args:
      weight_decay: L2 penalty on the weights of convolutions: weight_decay * sum(w ** 2) / 2.
      batch_norm_decay: Weight of the past in the moving averages. 0.997 suits long runs; in a run of a few hundred
        steps the averages stay near their initial values and evaluation collapses, so lower it.
      batch_norm_epsilon: Added to the variance.
      batch_norm_scale: Whether norms have a gamma.
      activation_fn: Activation of convolutions.
      use_batch_norm: False builds convolutions without norms: with biases, but for those of the CIFAR networks, where
        only the logits have some.
      batch_norm_updates_collections: As in `batch_norm`.
      zero_gamma: Whether the last norm of each v1 unit starts with gamma = 0, so that the unit starts as its shortcut
        (Goyal et al., arXiv:1706.02677, 5.1). v2 networks refuse it: a ReLU follows their last norm.

    Returns:
      An arg scope for `slim.arg_scope`.
    """
    batch_norm_params = {
        "decay": batch_norm_decay,
        "epsilon": batch_norm_epsilon,
        "scale": batch_norm_scale,
        "updates_collections": batch_norm_updates_collections,
    }
    with (
        slim.arg_scope(
            [slim.conv2d],
            weights_regularizer=slim.l2_regularizer(float(weight_decay)),
            weights_initializer=slim.variance_scaling_initializer(),
            activation_fn=activation_fn,
            normalizer_fn=batch_norm if use_batch_norm else None,
            normalizer_params=batch_norm_params,
        ),
        slim.arg_scope([batch_norm], **batch_norm_params),
        slim.arg_scope([last_norm_starts_at_zero], zero_gamma=zero_gamma),
        # The paper's code pads pool1 as VALID; SAME aligns features with the image, for dense prediction.
        slim.arg_scope([slim.max_pool2d], padding="SAME") as arg_scope,
    ):
        return arg_scope
