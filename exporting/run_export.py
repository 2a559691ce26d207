"""Runs an export in its own runtime, in a process without our code: `python -P run_export.py FORMAT PATH`.

It first writes the runtime's name and version to stdout. Then it reads pickled (signature, {input name: array}) from
stdin, one after the other, and writes {output name: array} for each. What libraries print goes to stderr.
"""

import os
import pickle
import sys


def saved_model(path):
    """TensorFlow's own loader."""
    import tensorflow as tf

    signatures = tf.saved_model.load(path).signatures

    def run(signature, inputs):
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in signatures[signature](**tensors).items()}

    return f"tensorflow {tf.__version__}", run


def onnx(path):
    """onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(signature, inputs):
        return dict(zip(names, session.run(names, inputs), strict=True))

    return f"onnxruntime {onnxruntime.__version__}", run


def openvino(path):
    """OpenVINO on the CPU, in the file's own precision: by default it computes in bfloat16 if the CPU has it."""
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(signature, inputs):
        return {output.any_name: value for output, value in compiled(inputs).items()}

    return f"openvino {openvino.__version__.partition('-')[0]}", run


def tflite(path):
    """TensorFlow's interpreter of TFLite files."""
    import tensorflow as tf

    runner = tf.lite.Interpreter(model_path=path).get_signature_runner()

    def run(signature, inputs):
        return runner(**inputs)

    return f"tensorflow {tf.__version__} (tf.lite)", run


def main():
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    version, run = {"saved_model": saved_model, "onnx": onnx, "openvino": openvino, "tflite": tflite}[sys.argv[1]](
        sys.argv[2]
    )
    pickle.dump(version, replies)
    replies.flush()
    while True:
        try:
            signature, inputs = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(run(signature, inputs), replies)
        replies.flush()


if __name__ == "__main__":
    main()
