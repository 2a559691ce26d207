"""The SavedModel's signature for image files, beside what `classify_images.py` says of the same files."""

import exporting_toys
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from exporting.export import export
from inference.classify import ClassifyConfig, classify


def probabilities_of(checkpoint, paths):
    """[files, classes] of classify_images.py, by class."""
    results = []
    config = ClassifyConfig(tuple(map(str, paths)), checkpoint, top_k=len(exporting_toys.CLASS_NAMES))
    assert classify(config, results.append, print) == (len(paths), 0)
    rows = [sorted(result["predictions"], key=lambda row: row["class_id"]) for result in results]
    return np.array([[row["probability"] for row in predictions] for predictions in rows])


@pytest.mark.parametrize("channels", [1, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_image_files_get_the_probabilities_that_classify_images_gives(channels, tiny_network, tmp_path):
    checkpoint = exporting_toys.make_checkpoint(tmp_path / "run", tiny_network, 32, "digits", channels=channels)
    kinds = {3: {"a.jpeg": "RGB", "b.png": "RGB", "c.gif": "P", "d.png": "RGBA", "e.jpeg": "L", "f.png": "I;16"},
             1: {"a.png": "L", "b.png": "RGB", "c.jpeg": "L"}, 4: {"a.png": "RGBA", "b.png": "RGB"}}  # fmt: skip
    paths = []
    for number, (name, mode) in enumerate(kinds[channels].items()):
        pixels = exporting_toys.picture(number)
        if mode == "RGBA":  # Alpha of its own, which a network of four channels sees.
            image = Image.fromarray(np.dstack([pixels, pixels[..., 0] // 2]))
        elif mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256 + 7)
        else:
            image = Image.fromarray(pixels).convert(mode)
        paths.append(tmp_path / name)
        image.save(paths[-1])
    result = export(exporting_toys.config(checkpoint, "saved_model", tmp_path / "model"))
    assert result["input"]["shape"] == [None, 32, 32, channels]
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["image_bytes"]
    outputs = served(image_bytes=tf.constant([path.read_bytes() for path in paths]))
    np.testing.assert_allclose(outputs["probabilities"], probabilities_of(checkpoint, paths), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_grey_network_is_quantized_on_grey_records(tiny_network, toy_dir, tmp_path):
    checkpoint = exporting_toys.make_checkpoint(tmp_path / "run", tiny_network, 32, "digits", toy_dir, channels=1)
    result = export(exporting_toys.config(checkpoint, "tflite", tmp_path / "model.tflite", precision="int8"))
    assert result["input"]["shape"] == [None, 32, 32, 1]
    assert result["comparison"]["images"] == exporting_toys.TEST_COUNT
