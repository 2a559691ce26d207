"""Receptive fields: published numbers, hand-worked ones, and where gradients really go."""

import numpy as np
import pytest
import tensorflow as tf
from models import tiny_model

from nets import receptive_field


def field_of(name, end_point, **arguments):
    size = 33 if "cifar" in name else 65
    network = receptive_field.trace(name, 10, size, **arguments)
    return network.fields[network.end_points[f"{name}/{end_point}"].name]


# Distill 2019, table of Slim's networks: 483, 1027 and 1507 pixels, stride 32. Slim's stride on the last unit sees as
# much as the paper's on the first 1x1; v1.5 strides a 3x3 of the next block, which then looks one level finer.
@pytest.mark.parametrize(
    "name, pixels",
    [
        ("resnet_v1_50", 483),
        ("resnet_v2_50", 483),
        # 11 behind the root; block1 3 x 8; block2 8 + 3 x 16; block3 16 + 5 x 32; block4 32 + 2 x 64.
        ("resnet_v1_5_50", 11 + 24 + 56 + 176 + 160),
        pytest.param("resnet_v1_101", 1027, marks=pytest.mark.slow),
        pytest.param("resnet_v1_152", 1507, marks=pytest.mark.slow),
    ],
)
def test_published_receptive_fields(name, pixels):
    field = field_of(name, "block4")
    assert (field.size, field.stride) == (pixels, 32)


@pytest.mark.parametrize("name", ["resnet_cifar_v1_20", "resnet_cifar_v2_20"])
def test_hand_worked_receptive_field_of_20_layers(name):
    # conv1 3; block1 6 convolutions, 2 pixels each; block2 2 + 5 x 4; block3 4 + 5 x 8.
    assert field_of(name, "conv1") == (-1, 1, 1)
    assert [field_of(name, f"block{number}").size for number in (1, 2, 3)] == [15, 37, 81]
    assert [field_of(name, f"block{number}").stride for number in (1, 2, 3)] == [1, 2, 4]


def test_root_of_the_imagenet_networks_by_hand():
    # 7x7 at stride 2 sees 7 pixels from -3 on. SAME pads an even map behind only, the symmetric pool both sides.
    network = receptive_field.trace("resnet_v1_18", 10, 224)
    pool = network.graph.get_operation_by_name("resnet_v1_18/pool1/MaxPool").outputs[0]
    assert network.fields[pool.name] == (-3, 7, 4)
    symmetric = receptive_field.trace("resnet_v1_18", 10, 224, root_pool_padding="symmetric")
    pool = symmetric.graph.get_operation_by_name("resnet_v1_18/pool1/MaxPool").outputs[0]
    assert symmetric.fields[pool.name] == (-5, 5, 4)


def test_atrous_networks_see_what_strided_ones_do():
    strided, dense = field_of("resnet_v1_18", "block4"), field_of("resnet_v1_18", "block4", output_stride=8)
    assert (dense.first, dense.last) == (strided.first, strided.last)
    assert (strided.stride, dense.stride) == (32, 8)


def test_what_is_pooled_has_no_field():
    network = receptive_field.trace("resnet_cifar_v1_20", 10, 32)
    assert network.end_points["global_pool"].name not in network.fields
    assert network.end_points["resnet_cifar_v1_20/logits"].name not in network.fields


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("name", ["resnet_cifar_v1_8", "resnet_cifar_v2_8"])
@pytest.mark.parametrize("arguments", [{}, {"output_stride": 2}, {"shortcut": "avg_pool_pad"}], ids=str)
def test_gradients_reach_just_the_receptive_field(name, arguments):
    model = tiny_model(name, **arguments)
    for variable_name, variable in model.variables_by_name.items():
        # All positive: no ReLU closes and no two paths cancel.
        value = 0.0 if variable_name.endswith(("mean", "beta")) else 1.0
        variable.assign(tf.fill(variable.shape, value))
    field = field_of(name, "block3", **arguments)
    images = tf.ones([1, 65, 65, 3])
    extract = model.feature_extractor(["block3"])
    with tf.GradientTape() as tape:
        tape.watch(images)
        features = extract(images)["block3"]
        middle = features.shape[1] // 2
        value = tf.reduce_sum(features[0, middle, middle])
    reached = np.nonzero(tf.reduce_sum(tape.gradient(value, images), axis=[0, 2, 3]).numpy())[0]
    assert field.size < 65
    assert (reached[0], reached[-1]) == (middle * field.stride + field.first, middle * field.stride + field.last)
