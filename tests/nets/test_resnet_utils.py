"""The parts of the networks against hand-worked numbers and against their definitions."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from nets_testing import noise, ramp, run_in_graph

from nets import resnet_utils
from nets.resnet_utils import Block, conv2d_same, resnet_arg_scope, stack_blocks_dense, subsample

# The ramp y + x, of 4x4 and 5x5 pixels, convolved (SAME, stride 1) with the kernel y + x of 3x3, worked by hand.
RAMP_4_CONVOLVED = [[14, 28, 43, 26], [28, 48, 66, 37], [43, 66, 84, 46], [26, 37, 46, 22]]
RAMP_5_CONVOLVED = [
    [14, 28, 43, 58, 34],
    [28, 48, 66, 84, 46],
    [43, 66, 84, 102, 55],
    [58, 84, 102, 120, 64],
    [34, 46, 55, 64, 30],
]
RAMP_4_STRIDED = [[14, 43], [43, 84]]
RAMP_5_STRIDED = [[14, 43, 34], [43, 84, 55], [34, 55, 30]]
# The plain SAME convolution of stride 2 pads an even size below and to the right only: another result.
RAMP_4_PLAIN_STRIDED = [[48, 37], [37, 22]]


def ramp_kernel(name, shape):
    """The ramp as a kernel; no bias."""
    if name.endswith("weights"):
        return np.reshape(ramp(1, *shape[:2], 1), shape)
    return np.zeros(shape)


@pytest.mark.parametrize("size, expected", [(3, [[0, 2], [6, 8]]), (4, [[0, 2], [8, 10]])])
def test_subsample_keeps_the_first_pixel_of_each_window(size, expected):
    image = tf.reshape(tf.range(size * size, dtype=tf.float32), [1, size, size, 1])
    np.testing.assert_array_equal(subsample(image, 2)[0, :, :, 0], expected)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_subsample_is_strided_slicing(factor):
    x = noise(2, 7, 8, 3)
    np.testing.assert_array_equal(subsample(tf.constant(x), factor), x[:, ::factor, ::factor])


def test_subsample_by_one_returns_its_input():
    x = tf.zeros([1, 2, 2, 1])
    assert subsample(x, 1) is x


@pytest.mark.parametrize(
    "size, dense, strided, plain",
    [
        (4, RAMP_4_CONVOLVED, RAMP_4_STRIDED, RAMP_4_PLAIN_STRIDED),
        (5, RAMP_5_CONVOLVED, RAMP_5_STRIDED, RAMP_5_STRIDED),
    ],
)
def test_conv2d_same_by_hand(size, dense, strided, plain):
    def build():
        x = tf.constant(ramp(1, size, size, 1))
        with slim.arg_scope([slim.conv2d], activation_fn=None):
            outputs = {"dense": slim.conv2d(x, 1, 3, stride=1, scope="conv")}
            tf.compat.v1.get_variable_scope().reuse_variables()
            outputs["subsampled"] = subsample(outputs["dense"], 2)
            outputs["conv2d_same"] = conv2d_same(x, 1, 3, stride=2, scope="conv")
            outputs["stride 1"] = conv2d_same(x, 1, 3, stride=1, scope="conv")
            outputs["plain"] = slim.conv2d(x, 1, 3, stride=2, scope="conv")
        return outputs

    outputs, _ = run_in_graph(build, values=ramp_kernel)
    expected = {
        "dense": dense,
        "subsampled": strided,
        "conv2d_same": strided,
        "stride 1": dense,
        "plain": plain,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name][0, :, :, 0], values, err_msg=name)


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("height, width", [(8, 9), (11, 12)])
def test_conv2d_same_is_the_dense_convolution_subsampled(kernel_size, stride, height, width):
    def build():
        x = tf.constant(noise(2, height, width, 3))
        dense = slim.conv2d(x, 4, kernel_size, padding="SAME", scope="conv")
        tf.compat.v1.get_variable_scope().reuse_variables()
        return subsample(dense, stride), conv2d_same(x, 4, kernel_size, stride, scope="conv")

    (expected, outputs), _ = run_in_graph(build)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_conv2d_same_dilates():
    # A kernel of rate 2 is the kernel with zeros between its taps.
    x, kernel = noise(1, 9, 9, 1), noise(3, 3, 1, 1, seed=1)
    spread = np.zeros([5, 5, 1, 1], np.float32)
    spread[::2, ::2] = kernel

    def build():
        return conv2d_same(tf.constant(x), 1, 3, stride=1, rate=2, scope="conv")

    outputs, _ = run_in_graph(build, values=lambda name, shape: kernel if name.endswith("weights") else np.zeros(shape))
    expected = np.maximum(tf.nn.conv2d(x, spread, 1, "SAME"), 0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def recording_unit(record):
    """A unit that only strides, and notes the stride and rate that it is given."""

    def unit(net, stride, rate):
        record.append((stride, rate))
        return subsample(net, stride)

    return unit


def strides_and_rates(strides_by_block, **stack_arguments):
    """(stride, rate) of each unit of a stack, and the height of its output for an input of 36 pixels."""
    record = []
    unit = recording_unit(record)
    blocks = [
        Block(f"block{index}", unit, [{"stride": stride} for stride in strides])
        for index, strides in enumerate(strides_by_block, 1)
    ]
    net = stack_blocks_dense(tf.zeros([1, 36, 36, 1]), blocks, **stack_arguments)
    return record, net.shape[1]


@pytest.mark.parametrize(
    "output_stride, expected, height",
    [
        (None, [(1, 1), (2, 1), (1, 1), (3, 1), (4, 1), (1, 1)], 2),
        (24, [(1, 1), (2, 1), (1, 1), (3, 1), (4, 1), (1, 1)], 2),
        (6, [(1, 1), (2, 1), (1, 1), (3, 1), (1, 1), (1, 4)], 6),
        (2, [(1, 1), (2, 1), (1, 1), (1, 1), (1, 3), (1, 12)], 18),
        (1, [(1, 1), (1, 1), (1, 2), (1, 2), (1, 6), (1, 24)], 36),
    ],
)
def test_strides_turn_into_rates_at_the_output_stride(output_stride, expected, height):
    # Strides 1, 2, 1, 3, 4, 1: the reachable output strides are their running products 1, 2, 6 and 24.
    assert strides_and_rates([[1, 2], [1, 3], [4, 1]], output_stride=output_stride) == (expected, height)


@pytest.mark.parametrize("output_stride", [3, 4, 5, 12, 48, 0])
@pytest.mark.parametrize("store_non_strided_activations", [False, True])
def test_unreachable_output_strides_raise(output_stride, store_non_strided_activations):
    with pytest.raises(ValueError, match="cannot be reached"):
        strides_and_rates(
            [[1, 2], [1, 3], [1, 4]],
            output_stride=output_stride,
            store_non_strided_activations=store_non_strided_activations,
        )


@pytest.mark.parametrize(
    "output_stride, expected, height",
    [
        (None, [(1, 1), (1, 1), (1, 1), (1, 1), (1, 1)], 6),
        (2, [(1, 1), (1, 1), (1, 1), (1, 1), (1, 3)], 18),
        (1, [(1, 1), (1, 1), (1, 2), (1, 2), (1, 6)], 36),
    ],
)
def test_non_strided_activations_move_the_stride_behind_the_block(output_stride, expected, height):
    assert strides_and_rates(
        [[1, 2], [1, 3], [1]], output_stride=output_stride, store_non_strided_activations=True
    ) == (expected, height)


def test_arg_scope_sets_what_the_layers_read():
    with tf.Graph().as_default(), slim.arg_scope(resnet_arg_scope(weight_decay=0.5, batch_norm_decay=0.9)):
        net = slim.conv2d(tf.zeros([1, 4, 4, 2]), 3, 1, scope="conv")
        pooled = slim.max_pool2d(net, 3, stride=2)
        assert net.op.type == "Relu"
        assert pooled.shape[1] == 2  # SAME; VALID would leave 1
        names = [variable.op.name for variable in tf.compat.v1.global_variables()]
        assert sorted(names) == ["conv/BatchNorm/" + n for n in ("beta", "gamma", "moving_mean", "moving_variance")] + [
            "conv/weights"
        ]
        assert len(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)) == 2
        (penalty,) = tf.compat.v1.losses.get_regularization_losses()
        with tf.compat.v1.Session() as session:
            (weights,) = [v for v in tf.compat.v1.global_variables() if v.op.name == "conv/weights"]
            session.run(tf.compat.v1.global_variables_initializer())
            value, norm = session.run([penalty, weights])
            # L2 as tf.nn.l2_loss has it: half the sum of squares.
            np.testing.assert_allclose(value, 0.5 * np.sum(norm**2) / 2, rtol=1e-5)


def test_arg_scope_without_batch_norm_has_biases():
    with tf.Graph().as_default(), slim.arg_scope(resnet_arg_scope(use_batch_norm=False, activation_fn=tf.nn.elu)):
        net = slim.conv2d(tf.zeros([1, 4, 4, 2]), 3, 1, scope="conv")
        assert net.op.type == "Elu"
        assert {v.op.name for v in tf.compat.v1.global_variables()} == {"conv/weights", "conv/biases"}


def test_arg_scope_without_scale_has_no_gamma():
    with tf.Graph().as_default(), slim.arg_scope(resnet_arg_scope(batch_norm_scale=False)):
        slim.conv2d(tf.zeros([1, 4, 4, 2]), 3, 1, scope="conv")
        assert "conv/BatchNorm/gamma" not in {v.op.name for v in tf.compat.v1.global_variables()}


def test_arg_scope_puts_updates_where_it_is_told():
    with tf.Graph().as_default(), slim.arg_scope(resnet_arg_scope(batch_norm_updates_collections="mine")):
        slim.conv2d(tf.zeros([1, 4, 4, 2]), 3, 1, scope="conv")
        assert len(tf.compat.v1.get_collection("mine")) == 2


def test_initial_weights_have_the_variance_of_he():
    with tf.Graph().as_default(), slim.arg_scope(resnet_arg_scope()), tf.compat.v1.Session() as session:
        slim.conv2d(tf.zeros([1, 4, 4, 64]), 128, 3, scope="conv")
        session.run(tf.compat.v1.global_variables_initializer())
        weights = session.run(tf.compat.v1.trainable_variables()[0])
    # Variance 2 / fan-in (He et al., arXiv:1502.01852), cut at two deviations.
    assert weights.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 64)), rel=0.02)


def test_arguments_of_research_slim():
    def positional(function):
        parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}

    required = inspect.Parameter.empty
    assert list(positional(subsample).items())[:3] == [("inputs", required), ("factor", required), ("scope", None)]
    assert list(positional(conv2d_same))[:6] == ["inputs", "num_outputs", "kernel_size", "stride", "rate", "scope"]
    assert list(positional(stack_blocks_dense).items()) == [
        ("net", required),
        ("blocks", required),
        ("output_stride", None),
        ("store_non_strided_activations", False),
        ("outputs_collections", None),
    ]
    assert list(positional(resnet_arg_scope).items())[:7] == [
        ("weight_decay", 1e-4),
        ("batch_norm_decay", 0.997),
        ("batch_norm_epsilon", 1e-5),
        ("batch_norm_scale", True),
        ("activation_fn", tf.nn.relu),
        ("use_batch_norm", True),
        ("batch_norm_updates_collections", tf.compat.v1.GraphKeys.UPDATE_OPS),
    ]
    assert Block._fields == ("scope", "unit_fn", "args")
    assert slim.has_arg_scope(resnet_utils.stack_blocks_dense)
