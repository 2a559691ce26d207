"""The official TensorFlow ResNet in plain operations, for checking: variables are numbered in the order they are made.

It shares nothing with `nets` or with the lists of `places`, so that an error in those shows.

Source: https://github.com/tensorflow/models/tree/r1.13.0/official/resnet (resnet_model.py).
"""

import collections

import tensorflow as tf

UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


class _Layers:
    """Layers that take their variables from `get(name, shape)`, numbered as tf.layers numbered them."""

    def __init__(self, get):
        self._get, self._counts = get, collections.Counter()

    def _named(self, kind):
        number = self._counts[kind]
        self._counts[kind] += 1
        return f"{kind}_{number}" if number else kind

    def convolve(self, net, filters, size, stride):
        kernel = self._get(f"{self._named('conv2d')}/kernel", [size, size, net.shape[-1], filters])
        if stride == 1:
            return tf.nn.conv2d(net, kernel, 1, "SAME")
        before = (size - 1) // 2
        around = [before, size - 1 - before]
        return tf.nn.conv2d(tf.pad(net, [[0, 0], around, around, [0, 0]]), kernel, stride, "VALID")

    def normalize(self, net):
        name, shape = self._named("batch_normalization"), [net.shape[-1]]
        quantities = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, variance = (self._get(f"{name}/{quantity}", shape) for quantity in quantities)
        return (net - mean) * gamma / tf.sqrt(variance + 1e-5) + beta

    def dense(self, net, units):
        kernel = self._get("dense/kernel", [net.shape[-1], units])
        return net @ kernel + self._get("dense/bias", [units])


def forward(structure, get, images, num_classes=None):
    """Logits of the official network.

    Args:
      structure: A places.Structure; only its version, depth and whether it is a CIFAR net are read.
      get: Gives the value of a variable: get("conv2d_3/kernel", shape).
      images: float32 [batch, height, width, 3].
      num_classes: Number of classes; None for the size of the variable dense/bias.

    Returns:
      float32 [batch, num_classes].
    """
    layers = _Layers(get)
    filters, units = (16, ((structure.depth - 2) // 6,) * 3) if structure.cifar else (64, UNITS[structure.depth])
    deep = not structure.cifar and structure.depth >= 50
    net = layers.convolve(tf.convert_to_tensor(images), filters, *((3, 1) if structure.cifar else (7, 2)))
    if structure.version == 1:
        net = tf.nn.relu(layers.normalize(net))
    if not structure.cifar:
        net = tf.nn.max_pool2d(net, 3, 2, "SAME")
    for block, count in enumerate(units):
        for unit in range(count):
            stride = 2 if block and not unit else 1
            net = (_unit_v1 if structure.version == 1 else _unit_v2)(
                layers, net, filters * 2**block, stride, not unit, deep
            )
    if structure.version == 2:
        net = tf.nn.relu(layers.normalize(net))
    return layers.dense(tf.reduce_mean(net, [1, 2]), num_classes or len(get("dense/bias", [])))


def _unit_v1(layers, net, filters, stride, project, deep):
    shortcut = net
    if project:
        shortcut = layers.normalize(layers.convolve(net, filters * (4 if deep else 1), 1, stride))
    steps = [(1, 1), (3, stride), (1, 1)] if deep else [(3, stride), (3, 1)]
    for index, (size, step) in enumerate(steps):
        last = index == len(steps) - 1
        net = layers.normalize(layers.convolve(net, filters * (4 if last and deep else 1), size, step))
        if not last:
            net = tf.nn.relu(net)
    return tf.nn.relu(net + shortcut)


def _unit_v2(layers, net, filters, stride, project, deep):
    shortcut, net = net, tf.nn.relu(layers.normalize(net))
    if project:
        shortcut = layers.convolve(net, filters * (4 if deep else 1), 1, stride)
    steps = [(1, 1), (3, stride), (1, 1)] if deep else [(3, stride), (3, 1)]
    for index, (size, step) in enumerate(steps):
        if index:
            net = tf.nn.relu(layers.normalize(net))
        net = layers.convolve(net, filters * (4 if deep and index == len(steps) - 1 else 1), size, step)
    return net + shortcut
