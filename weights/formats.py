"""The table of formats. A format is a module with these members:

MODEL_NAMES                                     the networks of ours that it can hold
read(path, use_moving_averages)                 a foreign.Foreign
projections(structure)                          as in `layouts.make_block`
names(structure, tensors, projections)          a dict of (place, quantity) -> name of the tensor
to_ours(place, quantity, value)                 an array in our layout: height, width, input and output channels
settings(structure, source)                     arguments of `create_model` that the network needs
preprocessing(structure, source)                name and numbers of the preprocessing, image size in pixels
reverse_channels(structure, preprocessing_name) whether the first convolution expects BGR
"""

from weights import keras

FORMATS = {"keras": keras}


def library(name):
    """The module of a format."""
    return FORMATS[name]
