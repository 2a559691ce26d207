"""OpenVINO's IR, a pair of files .xml and .bin; int8 from the quantized ONNX.

compiled = openvino.Core().compile_model("model.xml", "CPU")
probabilities = compiled(images)["probabilities"]
labels = openvino.Core().read_model("model.xml").get_rt_info(["labels.txt"]).value.splitlines()
"""

import pathlib
import tempfile

from exporting import to_onnx, to_saved_model

PRECISIONS = ("float32", "float16", "int8")
SUFFIXES = (".xml", ".bin")
COMPUTE_DTYPES = {}
LIBRARIES = {
    "any": {"openvino": "openvino"},
    # nncf, OpenVINO's own quantizer, would bring PyTorch; OpenVINO reads what onnxruntime quantizes.
    "int8": {"openvino": "openvino", **{library: "onnx,openvino" for library in to_onnx.LIBRARIES["any"]}},
}
SIGNATURES = ()
NOTE = "image tensors only: OpenVINO decodes no JPEG or PNG; export.json in rt_info says how to preprocess"


def write(network, path, calibration=None):
    """Writes an ExportedNetwork as the file `path` and the .bin beside it; arguments as `to_onnx.write`."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        if network.precision == "int8":
            source = pathlib.Path(folder) / "model.onnx"
            to_onnx.write(network, source, calibration)
        else:
            source = pathlib.Path(folder) / "saved_model"
            to_saved_model.write_signatures(source, serving_default=network.function)
        model = openvino.convert_model(source)
        for name, text in network.texts().items():
            model.set_rt_info(text, [name])
        openvino.save_model(model, str(path), compress_to_fp16=network.precision == "float16")
