"""Checkpoints of the official TensorFlow ResNet; its layout in plain operations says what is right."""

import numpy as np
import pytest
import tensorflow as tf
from weights_toys import CLASSES, assert_same_logits, flags, kind_of, value_for

from command_line import UserError
from nets import checkpoints, nets_factory
from weights import official_reference, places
from weights.importing import import_weights


class Variables(dict):
    """Values that are made when they are first asked for; at once 0 where only shapes are of interest."""

    def __init__(self, random=True):
        super().__init__()
        self._random = np.random.default_rng(2) if random else None

    def __call__(self, name, shape):
        if name not in self:
            value = value_for(shape, kind_of(name), self._random) if self._random else np.zeros(shape, np.float32)
            self[name] = value
        return self[name]


def official(model_name, classes, images, **arguments):
    variables = Variables(**arguments)
    logits = official_reference.forward(places.structure_of(model_name), variables, images, classes)
    return variables, logits


# Trainable parameters with 1001 (CIFAR: 10) classes, worked out from the published layer tables.
@pytest.mark.parametrize(
    "model_name, classes, parameters",
    [
        ("resnet_v1_18", 1001, 11_694_249),
        ("resnet_v2_18", 1001, 11_692_329),
        ("resnet_v1_5_50", 1001, 25_559_081),
        ("resnet_v2_50", 1001, 25_551_401),
        ("resnet_cifar_v1_20", 10, 272_762),
        ("resnet_cifar_v2_20", 10, 272_538),
    ],
)
def test_the_reference_has_the_official_counts(model_name, classes, parameters):
    variables, _ = official(model_name, classes, np.zeros([1, 32, 32, 3], np.float32), random=False)
    trainable = [value.size for name, value in variables.items() if "moving" not in name]
    assert sum(trainable) == parameters


def write(folder, variables, scope="resnet_model/"):
    """A checkpoint as the Estimator wrote it, optimizer and step with it."""
    values = {scope + name: value for name, value in variables.items()}
    slots = {f"{name}/Momentum": np.zeros_like(value) for name, value in values.items() if "moving" not in name}
    checkpoints.write(folder / "model.ckpt-90", values | slots | {"global_step": np.int64(90)})
    return folder / "model.ckpt-90"


CASES = [
    ("resnet_cifar_v1_20", 32, "cifar", "resnet_model/"),
    ("resnet_cifar_v2_20", 32, "cifar", ""),
    ("resnet_v1_18", 65, "resnet", "resnet_model/"),
    ("resnet_v2_18", 64, "resnet", "resnet_model/"),
    pytest.param("resnet_v1_34", 64, "resnet", "", marks=pytest.mark.slow),
    pytest.param("resnet_v1_5_50", 64, "resnet", "resnet_model/", marks=pytest.mark.slow),
    pytest.param("resnet_v2_50", 65, "resnet", "resnet_model/", marks=pytest.mark.slow),
    pytest.param("resnet_v1_5_101", 64, "resnet", "", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("model_name, side, preprocessing_name, scope", CASES)
def test_logits_are_the_official_networks(tmp_path, model_name, side, preprocessing_name, scope):
    images = np.random.default_rng(3).normal(size=[3, side, side, 3]).astype(np.float32)
    variables, expected = official(model_name, CLASSES, images)
    source = write(tmp_path, variables, scope)
    config = {"source_format": "official", "model_name": model_name, "verify": True}
    result = import_weights(flags(source, tmp_path / "ours", **config))
    assert result["verification"]["difference"] < 1e-4
    assert sorted(result["files"]) == ["model.ckpt-90.data-00000-of-00001", "model.ckpt-90.index"]
    model, description = nets_factory.load_model(tmp_path / "ours")
    assert description["preprocessing"]["name"] == preprocessing_name
    assert description["labels_offset"] == 0
    assert_same_logits(model(images)[0], expected)


def test_another_version_or_depth_is_refused_with_the_right_one(tmp_path):
    variables, _ = official("resnet_cifar_v2_20", 10, np.zeros([1, 32, 32, 3], np.float32), random=False)
    source = write(tmp_path, variables)
    for model_name in ("resnet_cifar_v1_20", "resnet_cifar_v2_32", "resnet_v2_50"):
        with pytest.raises(UserError, match="they are a resnet_cifar_v2_20's: give --model_name=resnet_cifar_v2_20"):
            import_weights(flags(source, tmp_path / "ours", source_format="official", model_name=model_name))


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoints.write(tmp_path / "a.ckpt", {"resnet_v1_50/conv1/weights": tf.zeros([7, 7, 3, 64])})
    with pytest.raises(UserError, match="holds no conv2d, batch_normalization or dense"):
        import_weights(
            flags(tmp_path / "a.ckpt", tmp_path / "ours", source_format="official", model_name="resnet_v2_50")
        )
