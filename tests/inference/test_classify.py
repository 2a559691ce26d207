"""Predictions of images: the classes and numbers that the network itself gives, whatever the batch."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from inference_toys import NAMES, run, write_checkpoint
from PIL import Image

from command_line import UserError
from inference.classify import ClassifyConfig, classify
from nets import nets_factory


def test_predictions_are_the_networks_softmax(checkpoint, photos):
    results, failures = run(checkpoint, photos / "a.png", top_k=3)
    model, _ = nets_factory.load_model(checkpoint)
    # The digits' preprocessing: bilinear to 32 pixels, -1..1. TensorFlow 1's resizing looks at i * in / out.
    pixels = np.asarray(Image.open(photos / "a.png"))
    resized = tf.compat.v1.image.resize_bilinear(pixels[np.newaxis].astype(np.float32), [32, 32])
    probabilities = tf.nn.softmax(model(resized / 127.5 - 1)[0])[0].numpy()
    best = np.argsort(-probabilities)[:3]
    assert not failures
    assert results[0]["image"] == str(photos / "a.png")
    assert [row["class_id"] for row in results[0]["predictions"]] == best.tolist()
    assert [row["name"] for row in results[0]["predictions"]] == [NAMES[number] for number in best]
    np.testing.assert_allclose(
        [row["probability"] for row in results[0]["predictions"]], probabilities[best], rtol=1e-5
    )


def test_all_classes_are_shown_where_top_k_is_more(checkpoint, photos):
    results, _ = run(checkpoint, photos / "a.png", top_k=50)
    rows = results[0]["predictions"]
    assert sorted(row["class_id"] for row in rows) == list(range(len(NAMES)))
    assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-5)


def test_bad_images_are_named_and_the_batch_does_not_matter(checkpoint, photos):
    (photos / "b.jpg").write_bytes(b"junk")
    outcomes = [run(checkpoint, photos, photos / "none.png", batch_size=batch_size) for batch_size in (1, 2, 32)]
    for results, failures in outcomes:
        assert [result["image"].rpartition("/")[2] for result in results] == ["a.png", "c.png", "d.PNG"]
        assert [name.rpartition("/")[2] for name, _ in failures] == ["b.jpg", "none.png"]
        for result, first in zip(results, outcomes[0][0], strict=True):
            for row, expected in zip(result["predictions"], first["predictions"], strict=True):
                assert row == expected | {"probability": pytest.approx(expected["probability"], rel=1e-4)}


def test_a_checkpoint_without_names_shows_class_ids(photos, tmp_path):
    model = nets_factory.create_model("resnet_cifar_v1_8", 3)
    write_checkpoint(tmp_path, model, None)
    results, _ = run(tmp_path, photos / "a.png")
    assert [row["name"] for row in results[0]["predictions"]] == [None] * 3
    # A foreign one is known by the name of its network alone.
    (tmp_path / "model.json").unlink()
    foreign, _ = run(tmp_path, photos / "a.png", model_name="resnet_cifar_v1_8", preprocessing_name="digits")
    assert foreign == results
    with pytest.raises(UserError, match="no model.json beside checkpoint .*--model_name"):
        run(tmp_path, photos / "a.png")


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"top_k": 0}, "--top_k is 0, expected at least 1"),
        ({"image_size": 0}, "--image_size is 0"),
        ({"model_name": "resnet_v1_50"}, "--model_name is resnet_v1_50, but .* is a resnet_cifar_v1_8"),
        ({"images": ()}, "no images given"),
        ({"preprocessing_name": "sepia"}, "unknown preprocessing 'sepia': known are"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message, checkpoint, photos):
    config = dataclasses.replace(ClassifyConfig((str(photos),), checkpoint), **flags)
    with pytest.raises(UserError, match=message):
        classify(config, print, print)


def test_spoilt_weights_are_an_error(photos, tmp_path):
    model = nets_factory.create_model("resnet_cifar_v1_8", 3)
    model.variables_by_name["resnet_cifar_v1_8/logits/biases"].assign([np.nan, 0, 0])
    write_checkpoint(tmp_path, model, None)
    with pytest.raises(UserError, match="not finite: the weights of .* are spoilt"):
        run(tmp_path, photos / "a.png")


def test_a_network_without_classes_is_refused(photos, tmp_path):
    write_checkpoint(tmp_path, nets_factory.create_model("resnet_cifar_v1_8", None), None)
    with pytest.raises(UserError, match="has no classes: it can only give features"):
        run(tmp_path, photos / "a.png")
