"""Every format, read by the program it is for."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from exporting_toys import CLASS_NAMES, TEST_COUNT, TRAIN_COUNT, config, encode, picture

from data.preprocessing import get_preprocessing
from exporting.export import describe, export
from nets import nets_factory

SUFFIX = {"saved_model": "", "onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}
END_POINTS = ["block2", "resnet_cifar_v1_20/block3/unit_1/basic_v1", "global_pool"]

# onnxruntime and OpenVINO are run by the exporter in a process of their own; here they are imported as a user would.
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")


def open_onnx(path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the [onnx] extra")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def open_openvino(path):
    openvino = pytest.importorskip("openvino", reason="needs the [openvino] extra")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: {output.any_name: value for output, value in compiled({"images": images}).items()}


def open_tflite(path):
    runner = tf.lite.Interpreter(model_path=str(path)).get_signature_runner()
    return lambda images: runner(images=images)


def open_saved_model(path):
    loaded = tf.saved_model.load(str(path))

    def run(images):
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return {name: value.numpy() for name, value in outputs.items()}

    return run


OPEN = {"saved_model": open_saved_model, "onnx": open_onnx, "openvino": open_openvino, "tflite": open_tflite}


def texts_of(form, path):
    """export.json and labels.txt, read as the format's users do."""
    if form == "saved_model":
        return {name: (path / "assets.extra" / name).read_text("utf-8") for name in ("export.json", "labels.txt")}
    if form == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime", reason="needs the [onnx] extra")
        return onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    if form == "openvino":
        model = pytest.importorskip("openvino", reason="needs the [openvino] extra").Core().read_model(str(path))
        return {name: model.get_rt_info([name]).value for name in ("export.json", "labels.txt")}
    archive = zipfile.ZipFile(path)
    return {name: archive.read(name).decode() for name in ("export.json", "labels.txt")}


@pytest.fixture(scope="module", params=SUFFIX)
def exported(request, cifar_v1, tmp_path_factory):
    """resnet_cifar_v1_20 in each format: (format, path, result)."""
    path = tmp_path_factory.mktemp(request.param) / f"model{SUFFIX[request.param]}"
    result = export(config(cifar_v1, request.param, path, end_points=",".join(END_POINTS)))
    return request.param, path, result


def test_a_runtime_of_the_format_gives_what_the_checkpoint_gives(exported, cifar_v1):
    form, path, _ = exported
    run, model = OPEN[form](path), nets_factory.load_model(cifar_v1)[0]
    for batch in (1, 3):
        images = np.random.default_rng(batch).normal(size=[batch, 32, 32, 3]).astype(np.float32)
        outputs, (logits, end_points) = run(images), model(images)
        expected = {name: end_points[model.full_end_point_name(name)] for name in END_POINTS}
        expected |= {"logits": logits, "probabilities": tf.nn.softmax(logits)}
        assert outputs.keys() == expected.keys() | {"classes"}
        for name, value in expected.items():
            assert outputs[name].dtype == np.float32 and outputs[name].shape == value.shape
            assert np.abs(outputs[name] - value).max() < 1e-5 * np.abs(value).max(), name
        assert outputs["classes"].dtype == np.int64
        np.testing.assert_array_equal(outputs["classes"], np.argmax(logits, axis=-1))


def test_labels_and_preprocessing_travel(exported):
    form, path, _ = exported
    texts = texts_of(form, path)
    assert texts["labels.txt"].splitlines() == list(CLASS_NAMES)
    description = json.loads(texts["export.json"])
    assert description["preprocessing"]["name"] == "cifar" and description["preprocessing"]["image_size"] == 32
    assert description["label_names"] == list(CLASS_NAMES)
    assert description["input"] == {
        "name": "images",
        "shape": [None, 32, 32, 3],
        "dtype": "float32",
        "layout": "NHWC",
    }
    assert description["outputs"]["probabilities"] == {"shape": [None, 10], "dtype": "float32"}


def test_figures_say_what_was_compared(exported):
    form, path, result = exported
    figures = result["comparison"]
    assert (figures["images"], figures["batch_sizes"]) == (TEST_COUNT, [1, 3, 4])
    assert figures["outputs"].keys() == {"logits", "probabilities", *END_POINTS}
    assert all(0 < output["relative"] < 1e-5 for output in figures["outputs"].values())
    assert figures["classes_that_differ"] == 0
    assert figures["top_1"]["checkpoint"] == figures["top_1"]["export"]
    assert json.loads(json.dumps(result)) == result
    assert "compared in" in describe(result) and "9 images of split test of toy" in describe(result)
    assert sorted(other.name for other in path.parent.iterdir()) == (
        ["model.bin", "model.xml"] if form == "openvino" else [path.name]
    )


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("saved_model", marks=pytest.mark.slow),
        "onnx",
        pytest.param("openvino", marks=pytest.mark.slow),
        pytest.param("tflite", marks=pytest.mark.slow),
    ],
)
def test_pre_activation_networks_and_nchw(form, v2, tmp_path):
    path = tmp_path / f"model{SUFFIX[form]}"
    result = export(config(v2, form, path, input_format="NCHW", end_points="block4"))
    assert result["data"] is None and result["comparison"]["top_1"] is None
    assert result["input"]["shape"] == [None, 3, 64, 64]
    images = np.random.default_rng(0).normal(size=[2, 3, 64, 64], scale=60).astype(np.float32)
    outputs = OPEN[form](path)(images)
    model, _ = nets_factory.load_model(v2)
    logits, end_points = model(images.transpose([0, 2, 3, 1]))
    for name, value in {"logits": logits, "block4": end_points["resnet_v2_18/block4"]}.items():
        assert outputs[name].shape == value.shape
        assert np.abs(outputs[name] - value).max() < 1e-5 * np.abs(value).max(), name


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        pytest.param("saved_model", "float16", marks=pytest.mark.slow),
        pytest.param("saved_model", "bfloat16", marks=pytest.mark.slow),
        ("onnx", "float16"),
        ("onnx", "int8"),
        pytest.param("openvino", "float16", marks=pytest.mark.slow),
        pytest.param("openvino", "int8", marks=pytest.mark.slow),
        pytest.param("tflite", "float16", marks=pytest.mark.slow),
        ("tflite", "int8"),
    ],
)
def test_lower_precisions_are_smaller_and_near(form, precision, tiny_v2, tmp_path):
    path = tmp_path / f"model{SUFFIX[form]}"
    result = export(config(tiny_v2, form, path, precision=precision, input_format="NCHW"))
    # Rounding by 2 ** -11 and 2 ** -9, and steps of 1 / 128: none could be as near as float32 is.
    low, high = {"float16": (1e-5, 0.01), "bfloat16": (1e-4, 0.05), "int8": (1e-3, 0.4)}[precision]
    assert low < result["comparison"]["outputs"]["logits"]["relative"] < high
    assert result["calibration_images"] == (TRAIN_COUNT if precision == "int8" else None)
    # The graph itself takes some 40 to 150 kB.
    assert result["bytes"] < {"float16": 2, "bfloat16": 2, "int8": 1}[precision] * 78_042 + 150_000 < 4 * 78_042


SERVING = """
import sys
import numpy as np
import tensorflow as tf

path, folder = sys.argv[1:]
signatures = tf.saved_model.load(path).signatures
images = np.load(folder + "/images.npy")
files = [open(f"{folder}/{name}", "rb").read() for name in ("0.jpeg", "1.png", "2.gif")]
pixels = tf.io.decode_image(files[1], channels=3, expand_animations=False)
by_tensor = signatures["serving_default"](images=tf.constant(images))
by_bytes = signatures["image_bytes"](image_bytes=tf.constant(files))
by_pixels = signatures["raw_images"](raw_images=pixels[None])
one = signatures["serving_default"](images=tf.constant(images[1:2]))
np.testing.assert_array_equal(by_bytes["logits"], by_tensor["logits"])
np.testing.assert_array_equal(by_pixels["logits"], one["logits"])
np.save(folder + "/probabilities.npy", by_bytes["probabilities"])
assert not {"nets", "data", "exporting", "command_line", "tf_slim"} & set(sys.modules)
"""


@pytest.mark.parametrize("exported", ["saved_model"], indirect=True)
def test_tensorflow_serves_image_files_without_our_code(exported, cifar_v1, tmp_path):
    _, path, _ = exported
    preprocess = get_preprocessing("cifar")
    inputs = []
    for number, kind in enumerate(("jpeg", "png", "gif")):
        file = encode(picture(number), kind)
        (tmp_path / f"{number}.{kind}").write_bytes(file)
        inputs.append(preprocess(tf.io.decode_image(file, channels=3, expand_animations=False), 32, 32))
    np.save(tmp_path / "images.npy", np.stack(inputs))
    command = [sys.executable, "-I", "-c", SERVING, str(path), str(tmp_path)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    logits, _ = nets_factory.load_model(cifar_v1)[0](np.stack(inputs))
    np.testing.assert_allclose(np.load(tmp_path / "probabilities.npy"), tf.nn.softmax(logits), atol=1e-5)
