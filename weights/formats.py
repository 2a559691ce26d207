"""The table of formats. A format is a module with these members:

MODEL_NAMES                                     our networks that it can hold
read(path, use_moving_averages)                 a foreign.Foreign
projections(structure)                          as in `places.list_places`
names(structure, tensors, projections)          a dict of (place, quantity) -> name of the tensor
to_ours(place, quantity, value)                 an array in our layout: height, width, input and output channels
settings(structure, source)                     arguments of `create_model` that the network needs
preprocessing(structure, source)                name and numbers of the preprocessing, image size in pixels
reverse_channels(structure, preprocessing_name) whether the first convolution expects BGR
run_source(structure, source, inputs, preprocessing)  what was run, and its logits

A format that our checkpoints can be written in also has:

EPSILON, SUFFIXES                               epsilon of its norms, endings of its files
check_target(structure, settings, image_size)   raises a UserError if the library cannot compute the same function
from_ours(place, quantity, value)               the inverse of to_ours
write(path, structure, tensors, num_classes, preprocessing)  writes a dict of its own names -> array
"""

from weights import keras, official, slim, torchvision

FORMATS = {"slim": slim, "keras": keras, "torchvision": torchvision, "official": official}
