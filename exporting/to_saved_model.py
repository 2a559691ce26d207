"""TensorFlow's SavedModel, with a signature for image tensors, one for image files and one for decoded images.

    loaded = tf.saved_model.load(path)
    loaded.signatures["image_bytes"](image_bytes=tf.constant([jpeg, png]))["probabilities"]

The description and the labels are in assets.extra/, the folder that TensorFlow leaves for the model's author to use.
"""

import pathlib

import tensorflow as tf

PRECISIONS = ("float32", "float16", "bfloat16")
SUFFIXES = ()
COMPUTE_DTYPES = {"float16": "float16", "bfloat16": "bfloat16"}
LIBRARIES = {"any": {}}
SIGNATURES = ("image_bytes", "raw_images")
NOTE = "signatures serving_default (images), image_bytes (JPEG, PNG, GIF or BMP files), raw_images (decoded, uint8)"
EXTRA_ASSETS = "assets.extra"


def write(network, path, calibration=None):
    """Writes an ExportedNetwork as the folder `path`."""
    del calibration
    image_bytes = _signature(
        lambda image_bytes: network.function(network.preprocess_bytes(image_bytes)),
        tf.TensorSpec([None], tf.string, name="image_bytes"),
    )
    raw_images = _signature(
        lambda raw_images: network.function(network.preprocess_pixels(raw_images)),
        tf.TensorSpec(network.pixels_shape, tf.uint8, name="raw_images"),
    )
    write_signatures(path, serving_default=network.function, image_bytes=image_bytes, raw_images=raw_images)
    folder = pathlib.Path(path) / EXTRA_ASSETS
    folder.mkdir()
    for name, text in network.texts().items():
        (folder / name).write_text(text, encoding="utf-8")


def write_signatures(path, **functions):
    """Writes a SavedModel of tf.functions that have an input signature; other formats are converted from it."""
    module = tf.Module()
    for name, function in functions.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(path), signatures=functions)


def _signature(function, spec):
    return tf.function(function, input_signature=[spec], autograph=False)
