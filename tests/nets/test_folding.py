"""The inference form of networks: the same function, without the norms behind convolutions."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from nets_testing import noise, set_model

from command_line import UserError
from nets import nets_factory
from nets.folding import FoldedModel, fold

CASES = {
    "resnet_cifar_v1_20": (32, {}),
    "resnet_cifar_v2_20": (32, {"shortcut": "projection", "projections": "every_first_unit"}),
    "resnet_v1_18": (64, {"depth_multiplier": 1 / 8, "batch_norm_epsilon": 1e-3}),
    "resnet_v1_5_50": (64, {"depth_multiplier": 1 / 8, "root_pool_padding": "symmetric"}),
    "resnet_v2_18": (64, {"depth_multiplier": 1 / 8, "root_pool_padding": "symmetric"}),
    "resnet_v2_50": (65, {"depth_multiplier": 1 / 8, "output_stride": 8}),
}


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    """A model with values that are all special, and its folded form: (model, folded, images)."""
    size, settings = CASES[request.param]
    model = nets_factory.create_model(request.param, 10, **settings)
    set_model(model)
    return model, FoldedModel(model), noise(2, size, size, 3)


def operations(function, images):
    graph = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec(images.shape)).graph
    return collections.Counter(operation.type for operation in graph.get_operations())


def test_the_folded_network_is_the_same_function(pair):
    model, folded, images = pair
    logits, end_points = model(images)
    folded_logits, folded_end_points = folded(images)
    assert list(folded_end_points) == list(end_points)
    for actual, expected in [
        (folded_logits, logits),
        *zip(folded_end_points.values(), end_points.values(), strict=True),
    ]:
        assert actual.shape == expected.shape
        assert np.abs(actual - expected).max() < 1e-5 * np.abs(expected).max()


def test_only_pre_activation_norms_are_left(pair):
    model, folded, images = pair
    before, after = operations(model, images), operations(folded, images)
    units = sum("preact/gamma" in name for name in model.variables_by_name)
    # Where it pays a norm is a scale and a shift: a depthwise convolution and a bias.
    norms_before, norms_after = (
        count["FusedBatchNormV3"] + count["DepthwiseConv2dNative"] for count in (before, after)
    )
    # The norms of a v2 network that no convolution precedes: each unit's first, and the last of all.
    assert norms_after == (units + 1 if "_v2_" in model.name else 0) < norms_before
    assert after["Conv2D"] == before["Conv2D"]
    # Each norm that went has left a bias.
    assert after["FusedBatchNormV3"] + after["BiasAdd"] == before["FusedBatchNormV3"] + before["BiasAdd"]
    # Constants: nothing is read while it runs, nothing is computed for a regularizer that is not asked for.
    assert not {"ReadVariableOp", "L2Loss", "ResourceGather"} & set(after)
    assert after["Placeholder"] == 1


def test_folding_one_convolution_by_hand():
    # gamma / sqrt(variance + epsilon) = 6 / sqrt(3 + 1) = 3; 5 - 2 * 3 = -1.
    norm = {"gamma": [6.0], "beta": [5.0], "moving_mean": [2.0], "moving_variance": [3.0]}
    values = {f"net/conv1/BatchNorm/{part}": np.float32(value) for part, value in norm.items()}
    values |= {"net/conv1/weights": np.full([1, 1, 2, 1], 7.0, np.float32), "net/logits/biases": np.float32([9.0])}
    folded = fold(values, epsilon=1.0)
    assert folded.keys() == {"net/conv1/weights", "net/conv1/biases", "net/logits/biases"}
    np.testing.assert_array_equal(folded["net/conv1/weights"], np.full([1, 1, 2, 1], 21.0))
    np.testing.assert_array_equal(folded["net/conv1/biases"], [-1.0])
    assert {value.dtype for value in folded.values()} == {np.dtype(np.float32)}
    assert len(values) == 6


def test_later_changes_of_the_variables_do_not_reach_a_folded_network():
    model = nets_factory.create_model("resnet_cifar_v1_20", 3)
    folded, images = FoldedModel(model), noise(1, 8, 8, 3)
    before = folded(images)[0].numpy()
    set_model(model)
    np.testing.assert_array_equal(folded(images)[0], before)


@pytest.mark.parametrize("name", ["resnet_cifar_v1_20", "resnet_cifar_v2_20"])
def test_half_precision_computes_in_it(name):
    model = nets_factory.create_model(name, 10, compute_dtype="bfloat16")
    set_model(model)
    images = noise(2, 16, 16, 3)
    folded = FoldedModel(model)
    logits, end_points = folded(images)
    assert logits.dtype == tf.float32
    assert end_points[f"{name}/block3"].dtype == tf.bfloat16
    exact = FoldedModel(_in_float32(model))(images)[0]
    # bfloat16 has 8 bits: 2 ** -9 a rounding, over some 20 layers.
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def _in_float32(model):
    other = nets_factory.create_model(**model.settings)
    set_model(other)
    return other


def test_features_by_short_and_full_names():
    model = nets_factory.create_model("resnet_cifar_v1_20", 10)
    folded, images = FoldedModel(model), noise(2, 16, 16, 3)
    names = ["block1", "resnet_cifar_v1_20/block2", "global_pool"]
    features = folded.features(images, names)
    assert set(features) == set(names)
    assert [features[name].shape for name in names] == [[2, 16, 16, 16], [2, 8, 8, 32], [2, 1, 1, 64]]
    with pytest.raises(UserError, match=r"unknown end point 'block9'; known: .*resnet_cifar_v1_20/block3"):
        folded.features(images, ["block9"])


def test_a_folded_network_cannot_be_trained():
    folded = FoldedModel(nets_factory.create_model("resnet_cifar_v1_20", 10))
    with pytest.raises(UserError, match="train the network it was made of"):
        folded(noise(1, 8, 8, 3), training=True)
