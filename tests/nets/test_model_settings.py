"""SlimModel: precision, layout, settings, multiply-adds, export."""

import json

import numpy as np
import pytest
import tensorflow as tf
from models import CLASSES, IMAGES, thin_model, tiny_model
from nets_testing import set_model, value_for

from nets import nets_factory

# Precision and layout.


@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision_is_close_to_float32(tiny, dtype, tolerance):
    half, full = tiny_model(tiny, compute_dtype=dtype), tiny_model(tiny)
    for model in (half, full):
        set_model(model)
    assert {variable.dtype for variable in half.variables_by_name.values()} == {tf.float32}
    logits, end_points = half(IMAGES)
    expected, _ = full(IMAGES)
    assert logits.dtype == tf.float32
    assert end_points[f"{tiny}/block3"].dtype == dtype
    np.testing.assert_allclose(logits, expected, atol=tolerance * np.abs(expected).max())

    with tf.GradientTape() as tape:
        logits, _ = half(IMAGES, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 3, 7], logits))
    gradients = tape.gradient(loss, half.trainable_variables)
    assert {gradient.dtype for gradient in gradients} == {tf.float32}
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    full(IMAGES, training=True)
    # Statistics of the first norm: those of the float32 network, up to the rounding of activations.
    first = next(key for key in full.variables_by_name if key.endswith("moving_variance"))
    np.testing.assert_allclose(half.variables_by_name[first], full.variables_by_name[first], rtol=1e-3)
    before = value_for(first, half.variables_by_name[first].shape)
    assert (half.variables_by_name[first].numpy() != before).all()


def test_an_unknown_dtype_lists_the_known_ones(tiny_networks):
    with pytest.raises(ValueError, match="float32.*bfloat16.*float16"):
        tiny_model(compute_dtype="int8")


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU runs NCHW")
def test_nchw_without_a_gpu_says_so(tiny):
    model = tiny_model(tiny, data_format="NCHW")
    assert sorted(model.variables_by_name) == sorted(tiny_model(tiny).variables_by_name)
    with pytest.raises(ValueError, match="NCHW.*GPU.*NHWC"):
        model(IMAGES)


def test_an_unknown_data_format_lists_the_known_ones(tiny_networks):
    with pytest.raises(ValueError, match="NHWC, NCHW"):
        tiny_model(data_format="NWHC")


# Settings.


def test_settings_make_the_same_network_again(tiny):
    arguments = {
        "batch_norm_epsilon": 0.1,
        "batch_norm_decay": 0.9,
        "weight_decay": 2e-4,
        "shortcut": "projection",
        "projections": "every_first_unit",
        "stride_placement": "last_unit",
    }
    model = tiny_model(tiny, **arguments)
    settings = json.loads(json.dumps(model.settings))
    assert settings["model_name"] == tiny and settings["num_classes"] == CLASSES
    assert {key: settings[key] for key in arguments} == arguments
    again = nets_factory.create_model(**settings)
    assert again.settings == model.settings
    plain = tiny_model(tiny, shortcut="projection", projections="every_first_unit")
    for net in (model, again, plain):
        set_model(net)
    logits = model(IMAGES)[0].numpy()
    np.testing.assert_array_equal(again(IMAGES)[0], logits)
    # The settings matter: the same weights compute something else without them.
    assert np.abs(plain(IMAGES)[0] - logits).max() > 1e-2


def test_root_pool_padding_is_a_setting():
    model = thin_model("resnet_v1_18", root_pool_padding="symmetric")
    assert model.settings["root_pool_padding"] == "symmetric"
    other = thin_model("resnet_v1_18")
    assert other.settings["root_pool_padding"] == "same"
    for net in (model, other):
        set_model(net)
    assert np.abs(model(IMAGES)[0] - other(IMAGES)[0]).max() > 1e-3


@pytest.mark.parametrize("name", ["resnet_v1_18", "resnet_v1_5_50", "resnet_cifar_v2_20"])
def test_settings_record_the_layout(name):
    network = nets_factory.NETWORKS[name].function
    assert {"stride_placement", "projections"} <= set(network.layout)
    assert network.layout["stride_placement"] == "first_unit"


# Multiply-adds of published tables, in 10**9 (CIFAR: 10**6) for one image.


@pytest.mark.parametrize(
    "name, image_size, billions",
    [
        ("resnet_v1_18", 224, 1.814),
        ("resnet_cifar_v1_20", 32, 0.04055),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in [
                ("resnet_v1_34", 224, 3.664),
                ("resnet_v2_50", 224, 3.482),
                ("resnet_v2_50", 299, 3.482 * 1.877),
                ("resnet_v1_50", 224, 3.482),
                ("resnet_v1_5_50", 224, 4.089),
                ("resnet_v1_101", 224, 7.194),
                ("resnet_v1_152", 224, 10.907),
                ("resnet_v1_200", 224, 14.401),
                ("resnet_v1_5_101", 224, 7.801),
                ("resnet_v1_5_152", 224, 11.514),
                ("resnet_v1_5_200", 224, 15.007),
                ("resnet_v2_101", 224, 7.194),
                ("resnet_v2_152", 224, 10.907),
                ("resnet_v2_200", 224, 14.401),
                ("resnet_cifar_v1_110", 32, 0.25289),
                ("resnet_cifar_v2_56", 32, 0.12549),
            ]
        ),
    ],
)
def test_multiply_adds_are_the_published_ones(name, image_size, billions):
    model = nets_factory.create_model(name, num_classes=10 if "cifar" in name else 1000)
    assert model.multiply_adds(image_size) / 1e9 == pytest.approx(billions, rel=4e-4)


def test_multiply_adds_by_hand():
    model = nets_factory.create_model("resnet_cifar_v1_20", num_classes=10)
    root = 32 * 32 * 27 * 16
    block1 = 6 * 32 * 32 * 9 * 16 * 16
    block2 = 16 * 16 * 9 * (16 * 32 + 5 * 32 * 32)
    block3 = 8 * 8 * 9 * (32 * 64 + 5 * 64 * 64)
    assert model.multiply_adds(32) == root + block1 + block2 + block3 + 64 * 10


# Export.


def test_saved_model(tiny, tmp_path):
    model = tiny_model(tiny)
    set_model(model)
    model.features(IMAGES, ["block2", "global_pool"])  # what was asked before does not stand in the way

    class Served(tf.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, None, 3])])
        def logits(self, images):
            return self.model(images)[0]

    tf.saved_model.save(Served(), str(tmp_path))
    served = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(served.logits(IMAGES), model(IMAGES)[0], rtol=1e-4, atol=1e-5)
