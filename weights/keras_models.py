"""Keras' own networks, for verification and for writing files that Keras reads."""

import numpy as np

from command_line import UserError


def build(structure, num_classes, image_size, epsilon=None, activation=None):
    """A network of Keras Applications without weights.

    Args:
      structure: A places.Structure of version 1 or 2, 50, 101 or 152 layers.
      num_classes: Classes; None for the network without its last layer.
      image_size: Height and width of its images; Keras requires it, but the weights do not depend on it.
      epsilon: Epsilon of all norms; None for Keras' own.
      activation: Activation of the last layer; None gives logits.

    Returns:
      A keras.Model of images float32 [batch, image_size, image_size, 3].
    """
    import keras

    function = getattr(keras.applications, f"ResNet{structure.depth}{'V2' if structure.version == 2 else ''}")
    arguments = {"classes": num_classes, "classifier_activation": activation} if num_classes else {"pooling": "avg"}
    model = function(weights=None, include_top=bool(num_classes), input_shape=(image_size, image_size, 3), **arguments)
    if epsilon is not None:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.epsilon = epsilon
    return model


def set_weights(model, tensors):
    """Gives a network the tensors named "layer/weight"; Keras checks the shapes."""
    for layer in model.layers:
        values = [tensors.get(f"{layer.name}/{weight.name}") for weight in layer.weights]
        absent = [weight.name for weight, value in zip(layer.weights, values, strict=True) if value is None]
        if absent:
            raise UserError(f"Keras' layer {layer.name} has no values for {', '.join(absent)}")
        if values:
            layer.set_weights(values)


def preprocess(structure, pixels):
    """RGB pixels, 0 to 255, after Keras' own preprocessing."""
    import keras

    package = keras.applications.resnet_v2 if structure.version == 2 else keras.applications.resnet
    return package.preprocess_input(np.array(pixels))
