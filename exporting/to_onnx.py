"""ONNX, by tf2onnx; int8 by onnxruntime's static quantization.

session = onnxruntime.InferenceSession(path)
probabilities = session.run(["probabilities"], {"images": images})[0]
labels = session.get_modelmeta().custom_metadata_map["labels.txt"].splitlines()
"""

import logging
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from exporting.network import INPUT

PRECISIONS = ("float32", "float16", "int8")
SUFFIXES = (".onnx",)
COMPUTE_DTYPES = {"float16": "float16"}
LIBRARIES = {"any": {"onnx": "onnx", "onnxruntime": "onnx", "tf2onnx": "onnx"}}
SIGNATURES = ()
NOTE = "image tensors only: ONNX decodes no JPEG or PNG; export.json in the metadata says how to preprocess"

# Version of the operator set: onnxruntime 1.12 and OpenVINO 2023 read it, and nothing newer is needed here.
OPSET = 17
_CALIBRATION_BATCH = 16


def write(network, path, calibration=None):
    """Writes an ExportedNetwork as the file `path`.

    Args:
      network: The network.
      path: The file.
      calibration: For int8: float32 images of network.input_shape, whose activations give the ranges.
    """
    import onnx

    model = _convert(network)
    _keep_zeros_that_are_pooled(model.graph)
    if network.precision == "int8":
        model = _quantize(model, calibration)
    for value in [*model.graph.input, *model.graph.output]:
        # tf2onnx gives the unknown dimension of each a different name, as if they were not the same batch.
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, network.texts())
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _convert(network):
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    # tf2onnx copies the graph for each of its passes: with the weights in it, the process took 8.5 GB for ResNet-50,
    # without them it takes 1.8 GB.
    function, weights = network.function_of_weights()
    model, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    _put_weights(model.graph, weights)
    return model


def _put_weights(graph, weights):
    """Turns the inputs that stand for weights into initializers, transposed already where the graph transposes them."""
    from onnx import numpy_helper

    kept = []
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in weights:
            order = next(list(attribute.ints) for attribute in node.attribute if attribute.name == "perm")
            value = np.ascontiguousarray(weights[node.input[0]].transpose(order))
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
        else:
            kept.append(node)
    read = {name for node in kept for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items() if name in read)
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.node[:], graph.input[:]
    graph.node.extend(kept)
    graph.input.extend(inputs)


def _keep_zeros_that_are_pooled(graph):
    """Pads the input of a max pool with the smallest normal number above zero, instead of zero.

    onnxruntime (1.31; `pad_fusion.cc`) fuses a Pad with zeros into the MaxPool after it, which pads with minus
    infinity. A v2 network with root_pool_padding symmetric pools values of both signs, so its results would change.
    Pads with other values are not fused.
    """
    import onnx

    types = {value.name: value.data_type for value in graph.initializer}
    computed_in = next(types[node.input[1]] for node in graph.node if node.op_type == "Conv")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(computed_in)
    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    for pad in graph.node:
        if pad.op_type == "Pad" and pad.output[0] in pooled and len(pad.input) == 2:
            value = np.array(np.finfo(dtype).smallest_normal, dtype)
            graph.initializer.append(onnx.numpy_helper.from_array(value, f"{pad.output[0]}/value"))
            pad.input.append(graph.initializer[-1].name)


def _quantize(model, calibration):
    """A model with 8-bit weights and activations (QuantizeLinear and DequantizeLinear around each operation).

    Weights use 7 bits: on CPUs without VNNI the products of two 8-bit values overflow the 16-bit sums of the kernels.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        """Hands the images out in batches, as onnxruntime asks for them."""

        def __init__(self):
            self._batches = iter(tf.data.Dataset.from_tensor_slices(calibration).batch(_CALIBRATION_BATCH))

        def get_next(self):
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantized = (pathlib.Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
        onnx.save(model, str(plain))
        # Symbolic shapes are for transformers: here every size except the batch is known.
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        return onnx.load(str(quantized))
