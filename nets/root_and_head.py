"""The layers of a residual network before and after its blocks: root and head."""

from typing import NamedTuple

import tensorflow as tf
import tf_slim as slim

from command_line import UserError
from nets.convolution import conv2d
from nets.resnet_utils import check_choice, conv2d_same, pad_image

ROOT_POOL_PADDINGS = ("same", "symmetric")


class Root(NamedTuple):
    """The layers before the blocks: a convolution and an optional 3x3 max pool of stride 2."""

    depth: int
    kernel_size: int
    stride: int
    pool: bool

    @property
    def output_stride(self):
        """Input size over output size."""
        return self.stride * (2 if self.pool else 1)


IMAGENET_ROOT = Root(depth=64, kernel_size=7, stride=2, pool=True)
CIFAR_ROOT = Root(depth=16, kernel_size=3, stride=1, pool=False)


def apply_root(net, root, output_stride, root_pool_padding, data_format, **conv2d_arguments):
    """Runs the root of a network.

    Args:
      net: Images, [batch, height, width, channels] (or NCHW).
      root: A Root.
      output_stride: Output stride of the whole network, or None.
      root_pool_padding: "same" as in Slim and the official models (an even size is padded below and to the right only),
        or "symmetric" as in Keras Applications and torchvision (one pixel of zeros on each side).
      data_format: NHWC or NCHW.
      **conv2d_arguments: Further arguments of the convolution.

    Returns:
      Activations and the output stride that remains for the blocks (None for None).

    Raises:
      UserError: If the padding is unknown.
      ValueError: If `output_stride` is not a multiple of the root's.
    """
    check_choice("root_pool_padding", root_pool_padding, ROOT_POOL_PADDINGS)
    if output_stride is not None:
        if output_stride % root.output_stride:
            raise ValueError(f"The output_stride needs to be a multiple of {root.output_stride}, not {output_stride}.")
        output_stride //= root.output_stride
    net = conv2d_same(net, root.depth, root.kernel_size, stride=root.stride, scope="conv1", **conv2d_arguments)
    if root.pool and root_pool_padding == "symmetric":
        net = slim.max_pool2d(pad_image(net, 1, 1, data_format), [3, 3], stride=2, padding="VALID", scope="pool1")
    elif root.pool:
        net = slim.max_pool2d(net, [3, 3], stride=2, scope="pool1")
    return net, output_stride


def classify(net, end_points, scope_name, num_classes, global_pool, spatial_squeeze, data_format):
    """Runs the head of a network: global pool, logits, softmax; each step is optional and goes into `end_points`.

    Args:
      net: Activations, [batch, height, width, channels] (or NCHW).
      end_points: Dict that gets global_pool, <scope_name>/logits, <scope_name>/spatial_squeeze and predictions.
      scope_name: Name of the network's variable scope.
      num_classes: Classes; None or 0 returns the features.
      global_pool: Whether to average over height and width.
      spatial_squeeze: Whether to drop height and width, which must be 1.
      data_format: NHWC or NCHW.

    Returns:
      Logits, [batch, num_classes], [batch, 1, 1, num_classes] or [batch, height, width, num_classes]; or features.

    Raises:
      UserError: If the logits are to be squeezed, but are larger than 1 x 1.
    """
    image_axes = [data_format.index("H"), data_format.index("W")]
    if global_pool:
        net = tf.reduce_mean(net, image_axes, name="pool5", keepdims=True)
        end_points["global_pool"] = net
    if not num_classes:
        return net
    net = conv2d(
        net,
        num_classes,
        [1, 1],
        activation_fn=None,
        normalizer_fn=None,
        biases_initializer=tf.compat.v1.zeros_initializer(),
        data_format=data_format,
        scope="logits",
    )
    end_points[scope_name + "/logits"] = net
    if spatial_squeeze:
        sizes = [net.shape[axis] for axis in image_axes]
        if any(size not in (1, None) for size in sizes):
            raise UserError(
                f"{scope_name}: spatial_squeeze cannot drop the {sizes[0]} x {sizes[1]} positions of the logits; give "
                "spatial_squeeze=False, or leave global_pool on"
            )
        net = tf.squeeze(net, image_axes, name="SpatialSqueeze")
        end_points[scope_name + "/spatial_squeeze"] = net
    if data_format == "NCHW" and not spatial_squeeze:
        end_points["predictions"] = tf.nn.softmax(net, axis=1, name="predictions")
    else:
        end_points["predictions"] = slim.softmax(net, scope="predictions")
    return net
