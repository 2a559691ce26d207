"""Ways to compute a forward pass: each is a function from (network, configuration, images) to a Step.

The network is a SlimModel, or a FoldedModel if the configuration is folded; the images are one batch, float32.
"""

import functools
import pathlib
import tempfile
from typing import NamedTuple

from command_line import UserError, stderr_kept_for_errors

# Precision -> OpenVINO's name for it as a hint, and as a capability of a device.
_OPENVINO_NAMES = {"float32": ("f32", "FP32"), "bfloat16": ("bf16", "BF16"), "float16": ("f16", "FP16")}
# OpenVINO rounds float32 files itself.
_EXPORTS = {"onnxruntime": ("onnx", None), "openvino": ("openvino", "float32")}


class Step(NamedTuple):
    """A step to time.

    Attributes:
      prepare: A function of no arguments that traces, converts or loads, once; the first run may still compile.
      run: A function of no arguments that does the step and returns when its result is ready.
    """

    prepare: object
    run: object


def make_step(compute):
    """Wraps `compute`, a function that calls a tf.function, in one that waits for its result.

    On a CPU a tf.function returns when it is done; on a GPU, when its kernels are queued. `sync_devices`
    waits in both cases and itself takes some 30 microseconds. Fetching the logits would also wait, but would
    time their copy to the host; fetching a part of them would time another op.
    """
    import tensorflow as tf

    def run_step():
        result = compute()
        tf.test.experimental.sync_devices()
        return result

    return run_step


def method_step(owner, method, *arguments):
    """The Step of a method that is a tf.function."""
    # Looked up each time: a tf.function that is a method does not keep its object alive.
    return Step(
        lambda: getattr(owner, method).get_concrete_function(*arguments),
        make_step(lambda: getattr(owner, method)(*arguments)),
    )


def check_engine(engine, precision):
    """Raises a UserError if an engine is not installed (the message names the extra) or lacks the precision."""
    if engine not in _EXPORTS:
        return
    from exporting import formats

    format_name, file_precision = _EXPORTS[engine]
    try:
        formats.find_format(format_name, file_precision or precision)
    except UserError as error:
        raise UserError(str(error).replace(f"--format={format_name}", f"--engine={engine}")) from error
    if engine == "openvino":
        import openvino

        abilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if _OPENVINO_NAMES[precision][1] not in abilities:
            raise UserError(
                f"--engine openvino computes no {precision} on this CPU, which has {', '.join(abilities)}; give "
                "another --precision"
            )


def forward_step(network, configuration, images):
    """The forward pass in the engine that the configuration names.

    Raises:
      UserError: As `check_engine`.
    """
    check_engine(configuration.engine, configuration.precision)
    return ENGINES[configuration.engine](network, configuration, images)


def _tensorflow(network, configuration, images, jit_compile=None):
    import tensorflow as tf

    training = configuration.forward_mode == "training"
    forward = tf.function(
        lambda images: network(images, training=training)[0], autograph=False, jit_compile=jit_compile
    )
    return Step(lambda: forward.get_concrete_function(images), make_step(lambda: forward(images)))


def _onnxruntime(network, configuration, images):
    images = images.numpy()
    sessions = []

    def prepare():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = configuration.intra_op_threads
        options.inter_op_num_threads = configuration.inter_op_threads
        with tempfile.TemporaryDirectory() as folder:
            path = _export(network, configuration, pathlib.Path(folder) / "model.onnx")
            sessions.append(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))

    return Step(prepare, lambda: sessions[0].run(["logits"], {"images": images}))


def _openvino(network, configuration, images):
    images = images.numpy()
    requests = []

    def prepare():
        import openvino

        properties = {
            "INFERENCE_PRECISION_HINT": _OPENVINO_NAMES[configuration.precision][0],
            "INFERENCE_NUM_THREADS": configuration.intra_op_threads,
        }
        with tempfile.TemporaryDirectory() as folder:
            path = _export(network, configuration, pathlib.Path(folder) / "model.xml")
            model = openvino.Core().read_model(path)
            model.reshape(list(images.shape))
            compiled = openvino.Core().compile_model(model, "CPU", properties)
        requests.append(compiled.create_infer_request())

    return Step(prepare, lambda: requests[0].infer({"images": images}, share_inputs=True, share_outputs=True)["logits"])


def _export(network, configuration, path):
    """Writes a folded network in the format of the configuration's engine; returns the path as a string."""
    import tensorflow as tf

    from exporting import formats
    from exporting.network import ExportedNetwork

    format_name, file_precision = _EXPORTS[configuration.engine]
    size = configuration.image_size

    def preprocess(image):
        # For the signatures for image files, which an export must have but which are not timed.
        return tf.image.resize(tf.cast(image, tf.float32), [size, size])

    says = {"label_names": None, "preprocessing": None}
    with stderr_kept_for_errors():
        precision = file_precision or configuration.precision
        exported = ExportedNetwork(network, preprocess, size, precision, "NHWC", [], says)
        formats.FORMATS[format_name].write(exported, path)
    return str(path)


ENGINES = {
    "tensorflow": _tensorflow,
    "xla": functools.partial(_tensorflow, jit_compile=True),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
