"""TensorFlow Lite (LiteRT), one file.

    runner = Interpreter(path).get_signature_runner()
    probabilities = runner(images=images)["probabilities"]
    labels = zipfile.ZipFile(path).read("labels.txt").decode().splitlines()

Description and labels are in a zip archive appended to the model, where TFLite keeps a model's associated files.
"""

import tempfile
import zipfile

import tensorflow as tf

from exporting import to_saved_model
from exporting.network import INPUT

PRECISIONS = ("float32", "float16", "int8")
SUFFIXES = (".tflite",)
COMPUTE_DTYPES = {}
LIBRARIES = {"any": {}}
SIGNATURES = ()
NOTE = "image tensors only: TFLite decodes no JPEG or PNG; export.json, in the zip archive, says how to preprocess"


def write(network, path, calibration=None):
    """Writes an ExportedNetwork as the file `path`; arguments as `to_onnx.write`.

    float16 keeps weights in 16 bits and computes in float32; int8 computes in 8 bits between a float32 input and
    float32 outputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        to_saved_model.write_signatures(f"{folder}/saved_model", serving_default=network.function)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            f"{folder}/saved_model", signature_keys=["serving_default"]
        )
        if network.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if network.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if network.precision == "int8":
            converter.representative_dataset = lambda: ({INPUT: image[None]} for image in calibration)
        content = converter.convert()
    with open(path, "wb") as file:
        file.write(content)
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in network.texts().items():
            archive.writestr(name, text)
