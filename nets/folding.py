"""The inference form of a network: the norm after a convolution is folded into its weights and a bias.

    folded = FoldedModel(model)
    logits, end_points = folded(images)          # as model(images), with about a third of the operations

In inference a norm is y = x * scale + shift with scale = gamma / sqrt(moving_variance + epsilon) and
shift = beta - moving_mean * scale. After a convolution, the scale goes into the weights of each filter and the shift
becomes a bias. TensorFlow, oneDNN and every other engine then fuse convolution, bias, sum and ReLU into one pass. The
norms that open a v2 unit (preact) and end a v2 network (postnorm) have a sum before and a ReLU after them. They stay
norms by the moving averages, which is one scale and shift.

Weights are constants of the graph, not variables, so that engines can lay them out once.
"""

import functools

import numpy as np
import tensorflow as tf
import tf_slim as slim

from command_line import UserError
from nets import resnet_utils

_NORM_PARTS = ("gamma", "beta", "moving_mean", "moving_variance")


class FoldedModel(tf.Module):
    """The inference form of a SlimModel, with the values that its variables had when it was folded.

    Attributes:
      settings, default_image_size, num_classes, compute_dtype: As those of SlimModel.
      values_by_name: A dict of name -> float32 array, as `fold` gives it.
    """

    def __init__(self, model):
        super().__init__(name=model.name)
        # Bypasses tf.Module's own __setattr__, which wraps dicts for tracking.
        object.__setattr__(self, "settings", model.settings)
        object.__setattr__(self, "_functions", {})
        self.num_classes = model.num_classes
        self.default_image_size = model.default_image_size
        self.compute_dtype = model.compute_dtype
        self._model = model
        values = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
        object.__setattr__(self, "values_by_name", fold(values, model.settings["batch_norm_epsilon"]))

    def __call__(self, images, training=False):
        """Runs the network.

        Args:
          images: Preprocessed images, [batch, height, width, channels].
          training: Must be False; accepted so that this can replace a SlimModel.

        Returns:
          logits: float32 [batch, num_classes], or features where there are no classes.
          end_points: Activations by name, as the SlimModel names them.

        Raises:
          UserError: If `training` is not False.
        """
        if training is not False:
            raise UserError("a folded network has no norms to train: train the network it was made of, then fold again")
        if tf.executing_eagerly():
            return self._function(None)(tf.convert_to_tensor(images))
        return self.build(images, {})

    def features(self, images, end_points):
        """Computes chosen activations; arguments, result and errors are those of `SlimModel.features`."""
        return self._function(tuple(end_points))(tf.convert_to_tensor(images))

    def build(self, images, values):
        """Traces the network into the current graph with some values in place of its constants.

        Args:
          images: Preprocessed images, [batch, height, width, channels].
          values: A dict of name -> tensor of `compute_dtype`; all others are constants.

        Returns:
          As `__call__`.
        """
        getter = functools.partial(self._value, values)
        return self._model.build_inference(images, getter, normalizer_fn=_add_bias, weights_regularizer=None)

    def full_end_point_name(self, name):
        """As `SlimModel.full_end_point_name`."""
        return self._model.full_end_point_name(name)

    def _function(self, names):
        """The traced function for all results (None) or for the end points `names`."""
        if names not in self._functions:

            def compute(images):
                logits, known = self.build(images, {})
                if names is None:
                    return logits, known
                return {name: known[self.full_end_point_name(name)] for name in names}

            self._functions[names] = tf.function(compute, autograph=False, reduce_retracing=True)
        return self._functions[names]

    def _value(self, values, getter, name, dtype=tf.float32, **unused):
        """Gives a value to the network; a constant is rounded once to the dtype that the network computes in."""
        if name in values:
            return values[name]
        return tf.constant(self.values_by_name[name], dtype=dtype, name=name.replace("/", "_"))


def fold(values, epsilon):
    """Folds every norm that follows a convolution into it.

    Args:
      values: A dict of Slim name -> array, such as a checkpoint holds; names of other kinds pass through.
      epsilon: What the norms add to the variance.

    Returns:
      A new dict: for a convolution with a norm, <layer>/weights and <layer>/biases, float32, in place of its weights
      and the four <layer>/BatchNorm/...; all else is unchanged.
    """
    folded = dict(values)
    for name in values:
        layer, _, kind = name.rpartition("/")
        if kind != "weights" or f"{layer}/BatchNorm/moving_variance" not in values:
            continue
        # float64: one rounding to float32, at the end.
        gamma, beta, mean, variance = (
            np.asarray(folded.pop(f"{layer}/BatchNorm/{part}"), np.float64) for part in _NORM_PARTS
        )
        scale = gamma / np.sqrt(variance + epsilon)
        folded[name] = (values[name] * scale).astype(np.float32)
        folded[f"{layer}/biases"] = (beta - mean * scale).astype(np.float32)
    return folded


def _add_bias(net, **unused_norm_params):
    """Replaces a convolution's norm, in the convolution's scope, and adds <layer>/biases."""
    data_format = resnet_utils.current_data_format()
    biases = slim.model_variable("biases", shape=[resnet_utils.channels(net)], dtype=net.dtype)
    return tf.nn.bias_add(net, biases, data_format=data_format)
