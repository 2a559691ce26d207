"""What the networks of both families return: end points by name, and shapes worked by hand."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from families import ONE, SMALL, shapes, small
from nets_testing import noise, ramp, run_in_graph

from nets import resnet_v2
from nets.resnet_utils import resnet_arg_scope, stack_blocks_dense

pytestmark = pytest.mark.usefixtures("graph")


# End points.


def test_convolutions_are_end_points_by_name(family):
    with slim.arg_scope(resnet_arg_scope()), tf.compat.v1.variable_scope("tiny"):
        with slim.arg_scope([slim.conv2d], outputs_collections="end_points"):
            stack_blocks_dense(tf.constant(ramp(2, 32, 16, 3)), family.blocks((1, 2, 2), (2, 2, 1)))
        end_points = slim.utils.convert_collection_to_dict("end_points")
    # Only the first unit of a block changes the depth, so only it projects.
    assert sorted(end_points) == sorted(
        f"tiny/{block}/{unit}/{family.unit}/{conv}"
        for block in ("block1", "block2")
        for unit, convs in (
            ("unit_1", ("shortcut", "conv1", "conv2", "conv3")),
            ("unit_2", ("conv1", "conv2", "conv3")),
        )
        for conv in convs
    )


def test_end_points_of_a_network_and_their_shapes(family):
    logits, end_points = small(family, tf.zeros([2, 224, 224, 3]), num_classes=10)
    expected = ["resnet/conv1"]
    for block, (_, num_units, _) in enumerate(SMALL, 1):
        for unit in range(1, num_units + 1):
            name = f"resnet/block{block}/unit_{unit}/{family.unit}"
            expected += [f"{name}/{conv}" for conv in (["shortcut"] * (unit == 1) + ["conv1", "conv2", "conv3"])]
            expected.append(name)
        expected.append(f"resnet/block{block}")
    expected += ["global_pool", "resnet/logits", "resnet/spatial_squeeze", "predictions"]
    assert list(end_points) == expected  # in this order
    assert end_points["resnet/conv1"].shape == [2, 112, 112, 64]
    assert shapes(end_points) == {
        "block1": [2, 28, 28, 4],
        "block2": [2, 14, 14, 8],
        "block3": [2, 7, 7, 16],
        "block4": [2, 7, 7, 32],
    }
    assert end_points["global_pool"].shape == [2, 1, 1, 32]
    assert end_points["resnet/logits"].shape == [2, 1, 1, 10]
    assert logits.shape == end_points["predictions"].shape == [2, 10]


@pytest.mark.parametrize("is_training", [True, None])
def test_unsqueezed_logits(family, is_training):
    logits, end_points = small(
        family, tf.zeros([2, 224, 224, 3]), num_classes=10, shape=ONE, is_training=is_training, spatial_squeeze=False
    )
    assert logits.op.name.startswith("resnet/logits")
    assert logits.shape == [2, 1, 1, 10]
    assert end_points["predictions"].shape == [2, 1, 1, 10]
    assert end_points["global_pool"].shape == [2, 1, 1, 8]
    assert end_points["resnet/logits"] is logits
    assert "resnet/spatial_squeeze" not in end_points


def test_squeezed_logits(family):
    logits, end_points = small(family, tf.zeros([2, 9, 9, 3]), num_classes=10, shape=ONE)
    assert logits.shape == end_points["predictions"].shape == [2, 10]
    assert end_points["resnet/spatial_squeeze"] is logits
    assert end_points["resnet/logits"].shape == [2, 1, 1, 10]
    assert logits.op.name == "resnet/SpatialSqueeze"


def test_predictions_are_the_softmax_of_the_logits(family):
    def build():
        return small(family, tf.constant(noise(2, 33, 33, 3)), num_classes=5, shape=ONE, is_training=False)

    (logits, end_points), _ = run_in_graph(build)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(end_points["predictions"], exponentials / exponentials.sum(-1, keepdims=True), rtol=1e-5)


def test_global_pool_is_the_mean_of_the_last_map(family):
    def build():
        images = tf.constant(noise(2, 9, 9, 3))
        pooled, _ = small(family, images, shape=ONE, is_training=False)
        last_map, _ = small(family, images, shape=ONE, is_training=False, global_pool=False, reuse=True)
        return pooled, last_map

    (pooled, last_map), _ = run_in_graph(build)
    assert last_map.shape == (2, 3, 3, 8)
    assert last_map.min() >= 0 and last_map.max() > 0  # behind a ReLU: v1's sum, v2's postnorm
    np.testing.assert_allclose(pooled, last_map.mean((1, 2), keepdims=True), rtol=1e-5, atol=1e-6)


def test_block4_of_v2_is_the_sum_before_postnorm():
    def build():
        with slim.arg_scope(resnet_arg_scope()):
            blocks = [resnet_v2.resnet_v2_block("block1", base_depth=2, num_units=1, stride=1)]
            return resnet_v2.resnet_v2(
                tf.constant(noise(2, 9, 9, 3)), blocks, is_training=False, global_pool=False, scope="resnet"
            )

    (net, end_points), variables = run_in_graph(build)
    last = end_points["resnet/block1"]
    assert last.min() < 0
    norm = {key: variables[f"resnet/postnorm/{key}"] for key in ("gamma", "beta", "moving_mean", "moving_variance")}
    normalized = (last - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-5)
    np.testing.assert_allclose(net, np.maximum(normalized * norm["gamma"] + norm["beta"], 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_classes", [None, 0])
@pytest.mark.parametrize("global_pool, shape", [(True, [2, 1, 1, 8]), (False, [2, 3, 3, 8])])
def test_without_classes_the_features_are_returned(family, num_classes, global_pool, shape):
    net, end_points = small(family, tf.zeros([2, 9, 9, 3]), num_classes, shape=ONE, global_pool=global_pool)
    assert net.shape == shape
    assert ("global_pool" in end_points) == global_pool
    assert not any("logits" in key or "predictions" in key for key in end_points)
    assert not any("logits" in variable.op.name for variable in tf.compat.v1.global_variables())


def test_spatial_squeeze_needs_one_pixel(family):
    def logits(size, **kwargs):
        return small(family, tf.zeros([2, size, size, 3]), 10, shape=ONE, global_pool=False, **kwargs)[0]

    assert logits(9, spatial_squeeze=False).shape == [2, 3, 3, 10]
    assert logits(4, reuse=True).shape == [2, 10]
    with pytest.raises(ValueError, match="(?i)squeeze"):
        logits(9, reuse=True)


# Shapes.


def test_fully_convolutional_shapes(family):
    _, end_points = small(family, tf.zeros([2, 321, 321, 3]), 10, global_pool=False, spatial_squeeze=False)
    assert shapes(end_points) == {
        "block1": [2, 41, 41, 4],
        "block2": [2, 21, 21, 8],
        "block3": [2, 11, 11, 16],
        "block4": [2, 11, 11, 32],
    }


def test_shapes_without_the_root(family):
    _, end_points = small(
        family, tf.zeros([2, 128, 128, 3]), 10, global_pool=False, include_root_block=False, spatial_squeeze=False
    )
    assert "resnet/conv1" not in end_points
    assert shapes(end_points) == {
        "block1": [2, 64, 64, 4],
        "block2": [2, 32, 32, 8],
        "block3": [2, 16, 16, 16],
        "block4": [2, 16, 16, 32],
    }


def test_atrous_shapes(family):
    _, end_points = small(
        family, tf.zeros([2, 321, 321, 3]), 10, global_pool=False, output_stride=8, spatial_squeeze=False
    )
    assert shapes(end_points) == {f"block{i + 1}": [2, 41, 41, depth] for i, depth in enumerate((4, 8, 16, 32))}


def test_shapes_with_the_stride_in_the_first_unit(family):
    with slim.arg_scope(resnet_arg_scope()):
        blocks = family.blocks((1, 1, 1), (2, 2, 2), (4, 1, 2), (8, 1, 2), stride_placement="first_unit")
        _, end_points = family.network(tf.zeros([2, 224, 224, 3]), blocks, scope="resnet")
    # As in the paper's table: 56, 28, 14, 7; the stride is felt from the 3x3 of the first unit on.
    assert shapes(end_points) == {
        "block1": [2, 56, 56, 4],
        "block2": [2, 28, 28, 8],
        "block3": [2, 14, 14, 16],
        "block4": [2, 7, 7, 32],
    }
    assert end_points[f"resnet/block2/unit_1/{family.unit}/conv1"].shape == [2, 56, 56, 2]
    assert end_points[f"resnet/block2/unit_1/{family.unit}/conv2"].shape == [2, 28, 28, 2]
    assert end_points[f"resnet/block2/unit_1/{family.unit}/shortcut"].shape == [2, 28, 28, 8]


def test_unknown_batch_size(family):
    def build():
        images = tf.compat.v1.placeholder(tf.float32, [None, 65, 65, 3], name="images")
        logits, _ = small(family, images, num_classes=10, spatial_squeeze=False)
        assert logits.shape.as_list() == [None, 1, 1, 10]
        return logits

    assert run_in_graph(build, feed={"images": ramp(2, 65, 65, 3)})[0].shape == (2, 1, 1, 10)


@pytest.mark.parametrize("output_stride, size", [(None, 3), (8, 9)])
def test_unknown_height_and_width(family, output_stride, size):
    def build():
        images = tf.compat.v1.placeholder(tf.float32, [2, None, None, 3], name="images")
        net, _ = small(family, images, global_pool=False, output_stride=output_stride)
        assert net.shape.as_list() == [2, None, None, 32]
        return net

    assert run_in_graph(build, feed={"images": ramp(2, 65, 65, 3)})[0].shape == (2, size, size, 32)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(family, channels):
    assert small(family, tf.zeros([2, 33, 33, channels]), 10, shape=ONE)[0].shape == [2, 10]
