"""The networks for small images: depths, shapes, and the four kinds of shortcut."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from nets_testing import noise, run_in_graph, value_for

from nets import resnet_cifar
from nets.resnet_utils import resnet_arg_scope, subsample

FAMILY = {"v1": resnet_cifar.resnet_cifar_v1, "v2": resnet_cifar.resnet_cifar_v2}
versions = pytest.mark.parametrize("version", ["v1", "v2"])


def build(version, images, depth=8, num_classes=10, is_training=False, **kwargs):
    with slim.arg_scope(resnet_arg_scope()):
        return FAMILY[version](depth)(images, num_classes, is_training, scope="net", **kwargs)


@versions
@pytest.mark.parametrize("depth", [2, 7, 9, 18, 0, -4, 21])
def test_depths_that_are_not_6n_plus_2_are_errors(version, depth):
    with pytest.raises(ValueError, match=f"6n.*{depth}"):
        FAMILY[version](depth)


@versions
@pytest.mark.parametrize("depth, num_units", [(8, 1), (26, 4)])
def test_any_depth_of_6n_plus_2(version, depth, num_units):
    with tf.Graph().as_default():
        logits, end_points = build(version, tf.zeros([2, 32, 32, 3]), depth)
    assert logits.shape == [2, 10]
    for block, size, channels in ((1, 32, 16), (2, 16, 32), (3, 8, 64)):
        assert end_points[f"net/block{block}"].shape == [2, size, size, channels]
        unit = f"net/block{block}/unit_{num_units}/basic_{version}"
        assert unit in end_points and f"net/block{block}/unit_{num_units + 1}/basic_{version}" not in end_points
        # The stride stands in the first unit of a block.
        assert end_points[f"net/block{block}/unit_1/basic_{version}/conv1"].shape == [2, size, size, channels]
    # 6n + 2 layers with weights: the root, two a unit, the logits.
    assert 1 + 6 * num_units + 1 == depth
    assert end_points["net/conv1"].shape == [2, 32, 32, 16]
    assert list(end_points)[-4:] == ["global_pool", "net/logits", "net/spatial_squeeze", "predictions"]


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
@versions
def test_named_networks(version, depth):
    network = getattr(resnet_cifar, f"resnet_cifar_{version}_{depth}")
    assert network.__name__ == f"resnet_cifar_{version}_{depth}"
    assert network.default_image_size == 32


@versions
def test_scope_and_names(version):
    with tf.Graph().as_default(), slim.arg_scope(resnet_arg_scope()):
        FAMILY[version](8)(tf.zeros([1, 32, 32, 3]), 10)
        names = {variable.op.name for variable in tf.compat.v1.global_variables()}
    assert f"resnet_cifar_{version}_8/conv1/weights" in names
    assert f"resnet_cifar_{version}_8/block1/unit_1/basic_{version}/conv1/weights" in names
    assert [name for name in names if name.endswith("biases")] == [f"resnet_cifar_{version}_8/logits/biases"]


# Shortcuts. The last convolution of each residual branch is set to zero, so that a unit is its shortcut.


def no_residual(name, shape):
    if "/conv2/" in name:
        return {"moving_variance": np.ones, "gamma": np.ones}.get(name.rsplit("/", 1)[1], np.zeros)(shape)
    return value_for(name, shape)


def shortcuts(version, images, **kwargs):
    """Inputs and outputs of the unit that halves the map and doubles the channels, and the variables."""

    def blocks():
        _, end_points = build(version, tf.constant(images), **kwargs)
        return end_points["net/block1"], end_points["net/block2"]

    (before, after), variables = run_in_graph(blocks, values=no_residual)
    return before, after, variables


def padded(net):
    """16 channels in the middle of 32."""
    return np.pad(net, [(0, 0), (0, 0), (0, 0), (8, 8)])


@versions
def test_identity_pad_keeps_every_second_pixel(version):
    before, after, _ = shortcuts(version, noise(2, 8, 10, 3))
    assert np.abs(before).max() > 0.1
    np.testing.assert_allclose(after, padded(before[:, ::2, ::2]), rtol=1e-6, atol=1e-6)


@versions
def test_avg_pool_pad_averages_two_by_two(version):
    before, after, _ = shortcuts(version, noise(2, 8, 10, 3), shortcut="avg_pool_pad")
    windows = before.reshape(2, 4, 2, 5, 2, 16)
    np.testing.assert_allclose(after, padded(windows.mean((2, 4))), rtol=1e-5, atol=1e-6)


@versions
def test_avg_pool_pad_of_an_odd_size_averages_what_is_there(version):
    before, after, _ = shortcuts(version, noise(2, 7, 7, 3), shortcut="avg_pool_pad")
    assert after.shape == (2, 4, 4, 32)
    np.testing.assert_allclose(
        after[:, 3, 0], padded(before[:, 6:, :2].mean((1, 2))[:, None, None])[:, 0, 0], rtol=1e-5
    )


@versions
def test_projection_is_a_strided_convolution(version):
    before, after, variables = shortcuts(version, noise(2, 8, 10, 3), shortcut="projection")
    unit = f"net/block2/unit_1/basic_{version}"

    def normed(net, scope):
        gamma, beta, mean, variance = (
            variables[f"{scope}/{key}"] for key in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (net - mean) / np.sqrt(variance + 1e-5) + beta

    weights = variables[f"{unit}/shortcut/weights"][0, 0]
    if version == "v1":
        expected = np.maximum(normed(before[:, ::2, ::2] @ weights, f"{unit}/shortcut/BatchNorm"), 0)
    else:
        expected = np.maximum(normed(before, f"{unit}/preact"), 0)[:, ::2, ::2] @ weights
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    assert not any("block1" in name and "shortcut" in name for name in variables)


@versions
@pytest.mark.parametrize("shortcut", ["identity_pad", "projection"])
def test_without_shortcut_connections_nothing_passes_by(version, shortcut):
    before, after, variables = shortcuts(version, noise(2, 8, 8, 3), shortcut=shortcut, shortcut_connections=False)
    assert not before.any() and not after.any()
    assert not any("shortcut" in name for name in variables)


@versions
def test_unknown_shortcut_lists_the_known_ones(version):
    with tf.Graph().as_default(), pytest.raises(ValueError) as error:
        build(version, tf.zeros([1, 32, 32, 3]), shortcut="option_c")
    assert all(word in str(error.value) for word in ("option_c", "identity_pad", "avg_pool_pad", "projection"))


@versions
def test_every_first_unit_projects_only_with_projections(version):
    with tf.Graph().as_default(), pytest.raises(ValueError, match="projection"):
        build(version, tf.zeros([1, 32, 32, 3]), projections="every_first_unit")


@versions
@pytest.mark.parametrize("is_training", [True])
def test_zero_padding_does_not_stop_the_gradient(version, is_training):
    def gradients():
        images = tf.constant(noise(2, 16, 16, 3))
        logits, _ = build(version, images, is_training=is_training)
        trainable = tf.compat.v1.trainable_variables()
        # Weighted: the gradient of a plain sum vanishes where the batch is normalized.
        loss = tf.reduce_sum(logits * noise(2, 10, seed=1))
        return dict(zip([v.op.name for v in trainable], tf.gradients(loss, trainable), strict=True))

    values, _ = run_in_graph(gradients)
    assert all(np.abs(value).max() > 1e-6 for value in values.values())


# Dense features.


@versions
@pytest.mark.parametrize("shortcut", ["identity_pad", "projection"])
def test_dense_features_subsampled_equal_nominal_ones(version, shortcut):
    def maps():
        images = tf.constant(noise(1, 18, 19, 3))
        kwargs = {"depth": 8, "num_classes": None, "global_pool": False, "shortcut": shortcut}
        nominal, _ = build(version, images, **kwargs)
        return nominal, [
            subsample(build(version, images, output_stride=stride, reuse=True, **kwargs)[0], 4 // stride)
            for stride in (1, 2, 4)
        ]

    (nominal, dense), _ = run_in_graph(maps)
    assert nominal.shape == (1, 5, 5, 64) and np.abs(nominal).max() > 0.1
    for net in dense:
        np.testing.assert_allclose(net, nominal, rtol=1e-3, atol=1e-4)


@versions
@pytest.mark.parametrize("output_stride, words", [(3, "cannot be reached"), (8, "cannot be reached")])
def test_unreachable_output_strides_raise(version, output_stride, words):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=words):
        build(version, tf.zeros([1, 32, 32, 3]), global_pool=False, output_stride=output_stride)


@versions
def test_avg_pool_pad_cannot_dilate(version):
    # The average of neighbours at stride 1 is another thing than the nominal one.
    with tf.Graph().as_default(), pytest.raises(ValueError, match="avg_pool_pad"):
        build(version, tf.zeros([1, 32, 32, 3]), global_pool=False, output_stride=1, shortcut="avg_pool_pad")


@versions
def test_nchw_builds_the_same_variables(version):
    shapes = []
    for images, data_format in (([1, 32, 32, 3], "NHWC"), ([1, 3, 32, 32], "NCHW")):
        with tf.Graph().as_default():
            logits, end_points = build(version, tf.zeros(images), data_format=data_format)
            assert logits.shape == [1, 10]
            shapes.append({v.op.name: v.shape for v in tf.compat.v1.global_variables()})
    assert shapes[0] == shapes[1]
    assert end_points["net/block2"].shape == [1, 32, 16, 16]
