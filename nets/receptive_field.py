"""The part of the image that an activation can depend on, derived from the graph of a network.

Each layer sees an interval of positions of the layer before it. Traced back to the image along the height, an
activation at index i sees the pixels from i * stride + first to i * stride + last. Where branches join, the interval
covers those of both. Padding moves the interval but does not narrow it: at the border it extends past the image.

Source: Araujo et al., Computing Receptive Fields of Convolutional Neural Networks, Distill 2019.
"""

import warnings
from typing import NamedTuple

import tensorflow as tf

from nets import nets_factory

_WINDOWS = ("Conv2D", "MaxPool", "AvgPool")
_SETTINGS_WITHOUT_SHAPE = ("weight_decay", "batch_norm_decay", "batch_norm_epsilon", "zero_gamma", "data_format")


class Field(NamedTuple):
    """What the activation at index 0 sees, along the height.

    Attributes:
      first: The first pixel; negative before the image.
      last: The last pixel.
      stride: Pixels from one activation to the next: input size over output size.
    """

    first: int
    last: int
    stride: int

    @property
    def size(self):
        """The receptive field in pixels."""
        return self.last - self.first + 1


class NetworkGraph(NamedTuple):
    """A traced network without weights.

    Attributes:
      graph: A tf.Graph with the network and its v1 variables.
      end_points: Tensors by name, as the network function returns them.
      fields: A Field by tensor name, for every tensor with spatial positions, so for none after a global pool.
    """

    graph: tf.Graph
    end_points: dict
    fields: dict


def trace(model_name, num_classes, image_size, input_channels=3, **settings):
    """Builds a network for one image of image_size x image_size, without weights.

    Args:
      model_name: A name of `nets_factory.NETWORKS`.
      num_classes: Classes; None or 0 for features.
      image_size: Height and width in pixels.
      input_channels: Channels of the image.
      **settings: Other settings of `nets_factory.create_model`; those that change no shape are ignored.

    Returns:
      A NetworkGraph.

    Raises:
      UserError: If the name or a choice is unknown.
    """
    network_fn = nets_factory.get_network_fn(model_name, num_classes)
    network_arguments = {name: value for name, value in settings.items() if name not in _SETTINGS_WITHOUT_SHAPE}
    with tf.Graph().as_default() as graph, warnings.catch_warnings():
        # tf-slim calls TensorFlow's legacy layers by deprecated names, which warns once for each layer.
        warnings.simplefilter("ignore", UserWarning)
        images = tf.compat.v1.placeholder(tf.float32, [1, image_size, image_size, input_channels])
        _, end_points = network_fn(images, **network_arguments)
    return NetworkGraph(graph, end_points, receptive_fields(graph, images))


def receptive_fields(graph, images):
    """Finds the receptive field of every tensor that depends on `images` and still has spatial positions.

    Args:
      graph: A tf.Graph whose layers are NHWC.
      images: Its input, [batch, height, width, channels].

    Returns:
      A dict of tensor name -> Field.
    """
    fields = {images.name: Field(0, 0, 1)}
    # A graph lists its operations in the order they were made: inputs first.
    for operation in graph.get_operations():
        seen = [fields[tensor.name] for tensor in operation.inputs if tensor.name in fields]
        if not seen or not operation.outputs or operation.outputs[0].shape.rank != 4:
            continue
        field = _through(operation, _union(seen))
        if field is not None:
            fields.update((output.name, field) for output in operation.outputs if output.shape.rank == 4)
    return fields


def _union(fields):
    return Field(min(field.first for field in fields), max(field.last for field in fields), fields[0].stride)


def _through(operation, field):
    """The Field after an operation; None if spatial positions end there."""
    if operation.type in _WINDOWS:
        return _through_window(operation, field)
    if operation.type == "Pad":
        return _moved(field, int(tf.get_static_value(operation.inputs[1])[1][0]))
    if operation.type == "SpaceToBatchND":
        rate, before = (int(tf.get_static_value(value).flat[0]) for value in operation.inputs[1:])
        return _moved(field, before)._replace(stride=field.stride * rate)
    if operation.type == "BatchToSpaceND":
        rate, cropped = (int(tf.get_static_value(value).flat[0]) for value in operation.inputs[1:])
        return _moved(field._replace(stride=field.stride // rate), -cropped)
    return None if operation.type == "Mean" else field


def _moved(field, before):
    """The Field after padding with `before` positions in front."""
    return field._replace(first=field.first - before * field.stride, last=field.last - before * field.stride)


def _through_window(operation, field):
    """The Field after a convolution or a pool."""
    if operation.type == "Conv2D":
        kernel = 1 + (operation.inputs[1].shape[0] - 1) * operation.get_attr("dilations")[1]
    else:
        kernel = operation.get_attr("ksize")[1]
    stride = operation.get_attr("strides")[1]
    if operation.get_attr("padding") == b"SAME":
        sizes = operation.inputs[0].shape[1], operation.outputs[0].shape[1]
        field = _moved(field, max((sizes[1] - 1) * stride + kernel - sizes[0], 0) // 2)
    return Field(field.first, field.last + (kernel - 1) * field.stride, field.stride * stride)
