"""Ways to compute a forward pass: each a function of (network, configuration, images) to a Step.

The network is a SlimModel, or a FoldedModel where the configuration is folded; the images are one batch, float32.
"""

import functools
import pathlib
import tempfile
from typing import NamedTuple

from command_line import UserError, stderr_kept_for_errors

_OPENVINO_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class Step(NamedTuple):
    """A step to time.

    Attributes:
      prepare: A function of no arguments that traces, converts or loads, once; the first run may still compile.
      run: A function of no arguments that does the step and returns when its result is there.
    """

    prepare: object
    run: object


def make_step(compute):
    """Makes of `compute`, a function that calls a tf.function, one that waits for its result.

    On a CPU a tf.function returns when it is done; on a GPU, when its kernels are queued. `sync_devices`
    waits for either and itself takes some 30 microseconds. Fetching the logits would wait too, but would put
    their copy to the host on the clock; fetching a part of them, another op.
    """
    import tensorflow as tf

    def run_step():
        result = compute()
        tf.test.experimental.sync_devices()
        return result

    return run_step


def method_step(owner, method, *arguments):
    """The Step of a method that is a tf.function."""
    # It is asked for anew each time: a tf.function that is a method does not keep its object alive.
    return Step(
        lambda: getattr(owner, method).get_concrete_function(*arguments),
        make_step(lambda: getattr(owner, method)(*arguments)),
    )


def forward_step(network, configuration, images):
    """The forward pass in the engine that the configuration names.

    Raises:
      UserError: If the engine is not installed (the message names the extra) or does not have the precision.
    """
    engines = {
        "tensorflow": _tensorflow,
        "xla": functools.partial(_tensorflow, jit_compile=True),
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
    }
    return engines[configuration.engine](network, configuration, images)


def _tensorflow(network, configuration, images, jit_compile=None):
    import tensorflow as tf

    training = configuration.forward_mode == "training"
    forward = tf.function(
        lambda images: network(images, training=training)[0], autograph=False, jit_compile=jit_compile
    )
    return Step(lambda: forward.get_concrete_function(images), make_step(lambda: forward(images)))


def _onnxruntime(network, configuration, images):
    write = _writer("onnx", configuration.engine, configuration.precision)
    images = images.numpy()
    sessions = []

    def prepare():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = configuration.intra_op_threads
        options.inter_op_num_threads = configuration.inter_op_threads
        with tempfile.TemporaryDirectory() as folder:
            path = write(network, configuration, pathlib.Path(folder) / "model.onnx")
            sessions.append(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))

    return Step(prepare, lambda: sessions[0].run(["logits"], {"images": images}))


def _openvino(network, configuration, images):
    # OpenVINO rounds float32 files itself.
    write = _writer("openvino", configuration.engine, "float32")
    images = images.numpy()
    requests = []

    def prepare():
        import openvino

        hint = _OPENVINO_HINTS[configuration.precision]
        properties = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": configuration.intra_op_threads}
        with tempfile.TemporaryDirectory() as folder:
            path = write(network, configuration, pathlib.Path(folder) / "model.xml")
            model = openvino.Core().read_model(path)
            model.reshape(list(images.shape))
            compiled = openvino.Core().compile_model(model, "CPU", properties)
        taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if taken != hint:
            raise UserError(
                f"--engine openvino computes in {taken} on this CPU, not in {hint}: give another --precision"
            )
        requests.append(compiled.create_infer_request())

    return Step(prepare, lambda: requests[0].infer({"images": images}, share_inputs=True, share_outputs=True)["logits"])


def _writer(format_name, engine, precision):
    """A function of (folded network, configuration, path) that writes an export and returns its path.

    Raises:
      UserError: If a library is missing, or the format does not have the precision.
    """
    from exporting import formats
    from exporting.network import ExportedNetwork

    try:
        form = formats.find_format(format_name, precision)
    except UserError as error:
        raise UserError(str(error).replace(f"--format={format_name}", f"--engine={engine}")) from error

    def write(network, configuration, path):
        import tensorflow as tf

        size = configuration.image_size

        def preprocess(image):
            # For signatures of image files, which an export must have and nobody times.
            return tf.image.resize(tf.cast(image, tf.float32), [size, size])

        says = {"label_names": None, "preprocessing": None}
        with stderr_kept_for_errors():
            exported = ExportedNetwork(network, preprocess, size, precision, "NHWC", [], says)
            form.write(exported, path)
        return str(path)

    return write
