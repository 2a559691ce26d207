"""Atrous networks: features at any output stride, subsampled, are those of the nominal stride."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from families import VALUED, shapes, small
from nets_testing import noise, run_in_graph

from nets.resnet_utils import resnet_arg_scope, stack_blocks_dense

pytestmark = pytest.mark.usefixtures("graph")


LAYOUTS = [{}, {"stride_placement": "first_unit", "projections": "every_first_unit"}]


def plain_stack(net, blocks):
    """Stacks blocks at their nominal strides, knowing nothing of output strides."""
    for block in blocks:
        for index, unit in enumerate(block.args, 1):
            with tf.compat.v1.variable_scope(f"{block.scope}/unit_{index}"):
                net = block.unit_fn(net, **dict(unit, rate=1))
    return net


def check_dense(dense, nominal, sizes, nominal_stride):
    """Asserts that maps {output_stride: map} have these heights and, subsampled, equal the nominal map."""
    assert np.abs(nominal).max() > 0.1
    for output_stride, net in dense.items():
        assert net.shape[1] == sizes[output_stride]
        factor = nominal_stride // output_stride
        np.testing.assert_allclose(
            net[:, ::factor, ::factor], nominal, rtol=1e-3, atol=1e-4, err_msg=f"output stride {output_stride}"
        )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_dense_features_of_blocks_subsampled_equal_nominal_ones(family, layout):
    blocks = family.blocks(*VALUED, **layout)

    def build():
        # An even and an odd size.
        images = tf.constant(noise(1, 30, 31, 3))
        with slim.arg_scope(resnet_arg_scope()), slim.arg_scope([slim.batch_norm], is_training=False):
            nominal = plain_stack(images, blocks)
            tf.compat.v1.get_variable_scope().reuse_variables()
            return {stride: stack_blocks_dense(images, blocks, stride) for stride in (1, 2, 4, 8)}, nominal

    (dense, nominal), _ = run_in_graph(build)
    check_dense(dense, nominal, {1: 30, 2: 15, 4: 8, 8: 4}, nominal_stride=8)


def dense_and_nominal(network):
    """Maps of `network(images, output_stride=..., reuse=...)` at 81 pixels, by output stride."""

    def build():
        images = tf.constant(noise(1, 81, 81, 3))
        nominal, _ = network(images, output_stride=None, reuse=None)
        return {stride: network(images, output_stride=stride, reuse=True)[0] for stride in (4, 8, 16, 32)}, nominal

    (dense, nominal), _ = run_in_graph(build)
    check_dense(dense, nominal, {4: 21, 8: 11, 16: 6, 32: 3}, nominal_stride=32)


def test_dense_features_of_a_network_subsampled_equal_nominal_ones(family):
    def network(images, **kwargs):
        return small(family, images, shape=VALUED, is_training=False, global_pool=False, **kwargs)

    dense_and_nominal(network)


@pytest.mark.parametrize("stride_placement", ["first_unit", "last_unit"])
def test_dense_features_of_basic_units_subsampled_equal_nominal_ones(family, stride_placement):
    # Here two 3x3 convolutions see the stride of their unit differently: the second stands behind it.
    block = getattr(family.module, f"resnet_{family.name}_basic_block")
    rows = [("block1", 8, 1, 2), ("block2", 9, 2, 2), ("block3", 10, 1, 2), ("block4", 10, 1, 1)]
    blocks = [block(*row, stride_placement=stride_placement) for row in rows]

    def network(images, **kwargs):
        with slim.arg_scope(resnet_arg_scope()):
            return family.network(images, blocks, is_training=False, global_pool=False, scope="resnet", **kwargs)

    dense_and_nominal(network)


@pytest.mark.parametrize("output_stride", [None, 4])
def test_non_strided_activations_are_the_same_network(family, output_stride):
    def build():
        images = tf.constant(noise(1, 30, 31, 3))
        ends = {}
        with slim.arg_scope(resnet_arg_scope()), slim.arg_scope([slim.batch_norm], is_training=False):
            for keep in (False, True):
                output = stack_blocks_dense(
                    images,
                    family.blocks(*VALUED),
                    output_stride,
                    store_non_strided_activations=keep,
                    outputs_collections=f"outputs_{keep}",
                )
                tf.compat.v1.get_variable_scope().reuse_variables()
                ends[keep] = dict(slim.utils.convert_collection_to_dict(f"outputs_{keep}"), output=output)
        return ends

    ends, _ = run_in_graph(build)
    np.testing.assert_allclose(ends[True]["output"], ends[False]["output"], rtol=1e-4, atol=1e-4)
    for index, name in enumerate(["block1", "block2", "block3"]):
        strided = output_stride is None or 2**index < output_stride
        kept = ends[True][name][:, ::2, ::2] if strided else ends[True][name]
        np.testing.assert_allclose(kept, ends[False][name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_non_strided_activations_through_the_network(family):
    _, end_points = small(family, tf.zeros([2, 224, 224, 3]), store_non_strided_activations=True)
    assert [shape[1] for shape in shapes(end_points).values()] == [56, 28, 14, 7]


@pytest.mark.parametrize("output_stride, words", [(6, "multiple of 4"), (64, "cannot be reached"), (12, "cannot be")])
def test_unreachable_output_strides_raise(family, output_stride, words):
    # The root has stride 4, this block 2: 4 and 8 can be had.
    with pytest.raises(ValueError, match=words):
        small(family, tf.zeros([1, 65, 65, 3]), shape=[(2, 1, 2)], global_pool=False, output_stride=output_stride)


def test_without_the_root_the_output_stride_is_that_of_the_blocks(family):
    net, _ = small(
        family, tf.zeros([1, 32, 32, 3]), shape=VALUED, global_pool=False, output_stride=2, include_root_block=False
    )
    assert net.shape == [1, 16, 16, 20]
