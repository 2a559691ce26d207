"""The table of networks, and the function that research/slim's users know."""

import pytest
import tensorflow as tf
import tf_slim as slim

from command_line import UserError
from nets import nets_factory

NAMES = (
    [f"resnet_{family}_{depth}" for family in ("v1", "v2") for depth in (18, 34, 50, 101, 152, 200)]
    + [f"resnet_v1_5_{depth}" for depth in (50, 101, 152, 200)]
    + [f"resnet_cifar_{version}_{depth}" for version in ("v1", "v2") for depth in (20, 32, 44, 56, 110)]
)
THIN = {"depth_multiplier": 1 / 32, "min_base_depth": 2}


def test_the_table_has_these_networks():
    assert set(nets_factory.NETWORKS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_the_table(name):
    row = nets_factory.NETWORKS[name]
    assert row.function.__name__ == name
    assert row.default_image_size == row.function.default_image_size == (32 if "_cifar_" in name else 224)
    # research/slim: v1 was trained with VGG's preprocessing, v2 with Inception's.
    family = name.split("_")[1]
    assert row.preprocessing_name == {"v1": "vgg", "v2": "inception", "cifar": "cifar"}[family]
    assert isinstance(row.arg_scope(weight_decay=0.1), dict)


@pytest.mark.parametrize("function", [nets_factory.get_network_fn, nets_factory.create_model])
def test_an_unknown_name_lists_the_known_ones(function):
    with pytest.raises(ValueError) as error:
        function("resnet_v3_50", 10)
    message = str(error.value)
    assert "resnet_v3_50" in message and all(name in message for name in NAMES)
    assert "\n" not in message


def test_network_fn_has_the_default_image_size_and_name():
    network_fn = nets_factory.get_network_fn("resnet_cifar_v1_20", 10)
    assert network_fn.default_image_size == 32
    assert network_fn.__name__ == "resnet_cifar_v1_20"


@pytest.mark.parametrize("is_training", [False, True])
def test_network_fn_builds_in_its_arg_scope(is_training):
    with tf.Graph().as_default():
        network_fn = nets_factory.get_network_fn("resnet_v1_18", 10, weight_decay=0.5, is_training=is_training)
        logits, end_points = network_fn(tf.zeros([2, 33, 33, 3]), **THIN)
        assert logits.shape == [2, 10]
        assert "resnet_v1_18/block4" in end_points
        # 21 convolutions with a norm each: root, 16 in the units, and four projections (of a root so much wider).
        assert len(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)) == 42 * is_training
        assert len(tf.compat.v1.losses.get_regularization_losses()) == 22
        assert "resnet_v1_18/conv1/biases" not in {v.op.name for v in slim.get_model_variables()}


def test_network_fn_without_weight_decay_has_no_penalty():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        nets_factory.get_network_fn("resnet_v1_18", 10)(tf.zeros([1, 33, 33, 3]), **THIN)
        session.run(tf.compat.v1.global_variables_initializer())
        assert sum(session.run(tf.compat.v1.losses.get_regularization_losses())) == 0


def test_network_fn_forwards_arguments():
    with tf.Graph().as_default():
        network_fn = nets_factory.get_network_fn("resnet_v2_18", 0)
        net, end_points = network_fn(tf.zeros([1, 65, 65, 3]), global_pool=False, output_stride=8, scope="mine", **THIN)
        assert net.shape[1:3] == [9, 9]
        assert "mine/block4" in end_points
        count = len(tf.compat.v1.global_variables())
        network_fn(tf.zeros([1, 65, 65, 3]), reuse=True, scope="mine", **THIN)
        assert len(tf.compat.v1.global_variables()) == count


def test_an_unknown_argument_is_named():
    with tf.Graph().as_default(), pytest.raises(TypeError, match="output_strides"):
        nets_factory.get_network_fn("resnet_v2_18", 10)(tf.zeros([1, 65, 65, 3]), output_strides=8)


def test_a_layout_is_read_from_text():
    given = nets_factory.read_layout("resnet_cifar_v1_20", ["shortcut=projection", "shortcut_connections=False"])
    assert given == {"shortcut": "projection", "shortcut_connections": False}
    assert nets_factory.read_layout("resnet_v1_50", []) == {}


@pytest.mark.parametrize(
    "argument, message",
    [
        ("shortcut_connection=False", "no argument of resnet_cifar_v1_20; its own .*shortcut_connections=True"),
        ("shortcut_connections", "no argument of"),
        ("root_pool_padding=same", "no argument of resnet_cifar_v1_20"),
        ("shortcut_connections=no", "expected shortcut_connections=True or shortcut_connections=False"),
    ],
)
def test_a_layout_that_is_none_is_one_line(argument, message):
    with pytest.raises(UserError, match=message) as error:
        nets_factory.read_layout("resnet_cifar_v1_20", [argument])
    assert "\n" not in str(error.value)
