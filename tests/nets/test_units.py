"""What single parts of a network compute: units, the root, NCHW, the start with zero gammas."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from families import ONE, small
from nets_testing import noise, run_in_graph

from nets import resnet_v1, resnet_v2
from nets.resnet_utils import resnet_arg_scope

pytestmark = pytest.mark.usefixtures("graph")


# The meaning of a unit, from the paper's figures.


def unit_and_convolutions(unit, images):
    """The outputs of a bottleneck unit of stride 2 and 8 channels, and of its convolutions."""
    with (
        slim.arg_scope(resnet_arg_scope()),
        slim.arg_scope([slim.batch_norm], is_training=False),
        slim.arg_scope([slim.conv2d], outputs_collections="convs"),
    ):
        outputs = unit(tf.constant(images), 8, 2, stride=2, scope="unit")
    return dict(slim.utils.convert_collection_to_dict("convs"), outputs=outputs)


def test_v1_unit_is_relu_of_shortcut_plus_residual():
    def build():
        return unit_and_convolutions(resnet_v1.bottleneck, noise(2, 6, 7, 3))

    ends, _ = run_in_graph(build)
    assert ends["unit/shortcut"].min() < 0 and ends["unit/conv3"].min() < 0
    assert ends["unit/conv1"].min() == ends["unit/conv2"].min() == 0
    assert ends["unit/conv1"].shape[1:3] == (6, 7) and ends["unit/conv2"].shape[1:3] == (3, 4)
    np.testing.assert_allclose(ends["outputs"], np.maximum(ends["unit/shortcut"] + ends["unit/conv3"], 0), rtol=1e-6)


def test_v2_unit_is_the_plain_sum():
    images = noise(2, 6, 7, 8)

    def build():
        return unit_and_convolutions(resnet_v2.bottleneck, images)

    ends, _ = run_in_graph(build)
    assert "unit/shortcut" not in ends
    # The identity is the raw input, not what the pre-activation made of it.
    np.testing.assert_allclose(ends["outputs"], images[:, ::2, ::2] + ends["unit/conv3"], rtol=1e-5, atol=1e-6)


def test_bounded_activations_of_v1():
    def build():
        with slim.arg_scope(resnet_arg_scope()), slim.arg_scope([slim.batch_norm], is_training=False):
            unit = {"depth": 8, "depth_bottleneck": 2, "stride": 1, "scope": "unit"}
            images = tf.constant(100 * noise(2, 5, 5, 3))
            bounded = resnet_v1.bottleneck(images, use_bounded_activations=True, **unit)
            tf.compat.v1.get_variable_scope().reuse_variables()
            return bounded, resnet_v1.bottleneck(images, **unit)

    (bounded, free), _ = run_in_graph(build)
    assert free.max() > 6
    assert bounded.min() == 0 and bounded.max() == 6


# The root.


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [28, 30, 33])
def test_root_pool_padding(family, padding, size):
    def build():
        with slim.arg_scope(resnet_arg_scope()):
            blocks = family.blocks((2, 1, 1))
            _, end_points = family.network(
                tf.constant(noise(2, size, size, 3)),
                blocks,
                is_training=False,
                root_pool_padding=padding,
                scope="resnet",
            )
        unit = f"resnet/block1/unit_1/{family.unit}/conv1"
        return end_points["resnet/conv1"], end_points[unit]

    (conv1, after), variables = run_in_graph(build)
    height = conv1.shape[1]
    if padding == "symmetric" or height % 2:
        before, behind = 1, 1
    else:
        before, behind = 0, 1  # TensorFlow's SAME on an even size
    # v1 pools what a ReLU gave, and v2 pools signed values, where -inf and not 0 pads SAME.
    fill = -np.inf if padding == "same" else 0
    padded = np.pad(conv1, [(0, 0), (before, behind), (before, behind), (0, 0)], constant_values=fill)
    out = -(-height // 2)
    pooled = np.max([padded[:, y::2, x::2][:, :out, :out] for y in range(3) for x in range(3)], axis=0)

    def norm(net, scope):
        gamma, beta, mean, variance = (
            variables[f"{scope}/{key}"] for key in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return np.maximum(gamma * (net - mean) / np.sqrt(variance + 1e-5) + beta, 0)

    unit = f"resnet/block1/unit_1/{family.unit}"
    inputs = norm(pooled, f"{unit}/preact") if family.name == "v2" else pooled
    expected = norm(inputs @ variables[f"{unit}/conv1/weights"][0, 0], f"{unit}/conv1/BatchNorm")
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)


def test_unknown_root_pool_padding_lists_the_known_ones(family):
    with pytest.raises(ValueError, match="same, symmetric"):
        small(family, tf.zeros([1, 33, 33, 3]), shape=ONE, root_pool_padding="valid")


# NCHW.


@pytest.mark.parametrize("num_classes, spatial_squeeze", [(10, True), (None, True)])
def test_nchw_builds_the_same_variables(family, num_classes, spatial_squeeze):
    def build(images, data_format):
        with tf.Graph().as_default():
            net, end_points = small(
                family,
                tf.zeros(images),
                num_classes,
                shape=[(2, 1, 2), (3, 1, 1)],
                data_format=data_format,
                spatial_squeeze=spatial_squeeze,
            )
            return (
                net.shape,
                list(end_points),
                {v.op.name: v.shape for v in tf.compat.v1.global_variables()},
                {key: value.shape for key, value in end_points.items() if "/block" in key},
            )

    nhwc = build([2, 64, 64, 3], "NHWC")
    nchw = build([2, 3, 64, 64], "NCHW")
    assert nchw[1:3] == nhwc[1:3]
    if num_classes and spatial_squeeze:
        assert nchw[0] == nhwc[0] == [2, 10]
    else:
        assert nchw[0] == [2, num_classes or 12, 1, 1]
    for key, (batch, height, width, channels) in nhwc[3].items():
        assert nchw[3][key] == [batch, channels, height, width], key


def test_nchw_at_an_output_stride_and_with_symmetric_padding(family):
    net, _ = small(
        family,
        tf.zeros([2, 3, 65, 65]),
        shape=[(2, 1, 2), (3, 2, 2)],
        global_pool=False,
        data_format="NCHW",
        output_stride=8,
        root_pool_padding="symmetric",
    )
    assert net.shape == [2, 12, 9, 9]


def test_unknown_data_format_lists_the_known_ones(family):
    with pytest.raises(ValueError, match="NHWC, NCHW"):
        small(family, tf.zeros([1, 33, 33, 3]), shape=ONE, data_format="NWHC")


# Zero gamma.


def initial_values(build):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        fetches = build()
        session.run(tf.compat.v1.global_variables_initializer())
        variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
        return session.run([fetches, variables])


@pytest.mark.parametrize("unit", ["bottleneck", "basic"])
@pytest.mark.parametrize("is_training", [True, False])
def test_zero_gamma_makes_a_v1_unit_its_shortcut(unit, is_training):
    images = np.abs(noise(2, 5, 5, 8))

    def build():
        depths = {"depth": 8, "depth_bottleneck": 2} if unit == "bottleneck" else {"depth": 8}
        with (
            slim.arg_scope(resnet_arg_scope(zero_gamma=True)),
            slim.arg_scope([slim.batch_norm], is_training=is_training),
        ):
            return getattr(resnet_v1, unit)(tf.constant(images), stride=1, scope="unit", **depths)

    outputs, variables = initial_values(build)
    np.testing.assert_array_equal(outputs, images)
    zero = {name for name, value in variables.items() if name.endswith("gamma") and not value.any()}
    assert zero == {f"unit/{'conv3' if unit == 'bottleneck' else 'conv2'}/BatchNorm/gamma"}


def test_zero_gamma_leaves_projections_and_the_root_alone():
    def build():
        with slim.arg_scope(resnet_arg_scope(zero_gamma=True)):
            blocks = [resnet_v1.resnet_v1_block(f"block{i}", 2 * i, 2, 2) for i in (1, 2)]
            return resnet_v1.resnet_v1(tf.zeros([1, 32, 32, 3]), blocks, 10, scope="resnet")[0]

    _, variables = initial_values(build)
    zero = {name for name, value in variables.items() if name.endswith("gamma") and not value.any()}
    assert zero == {
        f"resnet/block{block}/unit_{unit}/bottleneck_v1/conv3/BatchNorm/gamma" for block in (1, 2) for unit in (1, 2)
    }


def test_gamma_starts_at_one_by_default(family):
    _, variables = initial_values(lambda: small(family, tf.zeros([1, 33, 33, 3]), 10, shape=ONE)[0])
    assert all((value == 1).all() for name, value in variables.items() if name.endswith("gamma"))


def test_zero_gamma_is_refused_by_v2():
    # A ReLU follows its last norm: with gamma and beta at zero no gradient would pass, ever.
    with slim.arg_scope(resnet_arg_scope(zero_gamma=True)), pytest.raises(ValueError, match="zero_gamma"):
        resnet_v2.resnet_v2(
            tf.zeros([1, 33, 33, 3]), [resnet_v2.resnet_v2_block("block1", 2, 1, 1)], 10, scope="resnet"
        )
