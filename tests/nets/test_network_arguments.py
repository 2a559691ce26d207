"""Arguments of the networks: names, order and defaults of research/slim, layouts, scopes, reuse and modes."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from families import ONE, shapes, small
from nets_testing import noise, run_in_graph

from nets import resnet_utils, resnet_v1, resnet_v2
from nets.resnet_utils import resnet_arg_scope

pytestmark = pytest.mark.usefixtures("graph")


# Arguments of the variants.


@pytest.mark.parametrize("depth", [50, *(pytest.param(d, marks=pytest.mark.slow) for d in (101, 152, 200))])
def test_depth_multiplier_and_min_base_depth(family, depth):
    with slim.arg_scope(resnet_arg_scope()):
        # 64, 128, 256 and 512 by 1/32, but no less than 3.
        _, end_points = family.variant(depth)(
            tf.zeros([1, 64, 64, 3]), 10, scope="resnet", depth_multiplier=1 / 32, min_base_depth=3
        )
    assert end_points["resnet/conv1"].shape == [1, 32, 32, 64]
    assert shapes(end_points) == {
        "block1": [1, 8, 8, 12],
        "block2": [1, 4, 4, 16],
        "block3": [1, 2, 2, 32],
        "block4": [1, 2, 2, 64],
    }
    units = [sum(f"/block{b}/" in key and key.endswith(family.unit) for key in end_points) for b in (1, 2, 3, 4)]
    assert units == {50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3], 200: [3, 24, 36, 3]}[depth]
    # One L2 term for each convolution: root, three a unit, four projections, logits; 54 in the fifties.
    penalties = tf.compat.v1.losses.get_regularization_losses()
    assert len(penalties) == 1 + 3 * sum(units) + 4 + 1 == {50: 54, 101: 105, 152: 156, 200: 204}[depth]


def test_base_depth_is_at_least_eight_by_default(family):
    with slim.arg_scope(resnet_arg_scope()):
        _, end_points = family.variant(18)(tf.zeros([1, 32, 32, 3]), scope="resnet", depth_multiplier=0.0)
    assert {shape[-1] for shape in shapes(end_points).values()} == {8}


@pytest.mark.parametrize("depth, units", [(18, [2, 2, 2, 2]), pytest.param(34, [3, 4, 6, 3], marks=pytest.mark.slow)])
def test_basic_networks_are_those_of_the_paper(family, depth, units):
    with slim.arg_scope(resnet_arg_scope()):
        _, end_points = family.variant(depth)(tf.zeros([1, 224, 224, 3]), 10, scope="resnet")
    assert shapes(end_points) == {
        "block1": [1, 56, 56, 64],
        "block2": [1, 28, 28, 128],
        "block3": [1, 14, 14, 256],
        "block4": [1, 7, 7, 512],
    }
    unit = f"basic_{family.name}"
    assert units == [sum(f"/block{b}/" in key and key.endswith(unit) for key in end_points) for b in (1, 2, 3, 4)]
    # The first block keeps depth and size, so it does not project.
    assert sorted(key for key in end_points if key.endswith("shortcut")) == [
        f"resnet/block{block}/unit_1/{unit}/shortcut" for block in (2, 3, 4)
    ]


HEAD = ["inputs", "num_classes", "is_training", "global_pool", "output_stride"]
V1_TAIL = ["min_base_depth", "depth_multiplier", "reuse", "scope"]
POSITIONAL = {
    "resnet_v1_50": HEAD + ["spatial_squeeze", "store_non_strided_activations"] + V1_TAIL,
    "resnet_v1_101": HEAD + ["spatial_squeeze", "store_non_strided_activations"] + V1_TAIL,
    "resnet_v1_152": HEAD + ["store_non_strided_activations", "spatial_squeeze"] + V1_TAIL,
    "resnet_v1_200": HEAD + ["store_non_strided_activations", "spatial_squeeze"] + V1_TAIL,
    "resnet_v2_50": HEAD + ["spatial_squeeze", "reuse", "scope"],
    "resnet_v2_101": HEAD + ["spatial_squeeze", "reuse", "scope"],
    "resnet_v2_152": HEAD + ["spatial_squeeze", "reuse", "scope"],
    "resnet_v2_200": HEAD + ["spatial_squeeze", "reuse", "scope"],
}
# What each argument is by default, and another value that shows where it went; min_base_depth and depth_multiplier
# show in the base depth of the first block.
DEFAULTS = {
    "num_classes": None,
    "is_training": True,
    "global_pool": True,
    "output_stride": None,
    "spatial_squeeze": True,
    "store_non_strided_activations": False,
    "reuse": None,
}
OTHERS = {
    "inputs": "images",
    "num_classes": 7,
    "is_training": None,
    "global_pool": "pool?",
    "output_stride": 16,
    "spatial_squeeze": "squeeze?",
    "store_non_strided_activations": "store?",
    "min_base_depth": 20,
    "depth_multiplier": 0.5,
    "reuse": "reuse?",
    "scope": "mine",
}


@pytest.fixture
def built(monkeypatch):
    """What the variants hand to the builders, instead of building."""
    calls = []
    for module, name in ((resnet_v1, "resnet_v1"), (resnet_v2, "resnet_v2")):
        signature = inspect.signature(getattr(module, name))

        def record(*args, signature=signature, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            calls.append(bound.arguments)

        monkeypatch.setattr(module, name, record)
    return calls


@pytest.mark.parametrize("name", sorted(POSITIONAL))
def test_positional_arguments_of_research_slim(name, built):
    function = getattr(resnet_v1 if "_v1_" in name else resnet_v2, name)
    function("images")
    assert {argument: built[0][argument] for argument in DEFAULTS} == DEFAULTS
    assert built[0]["scope"] == name
    assert [block.args[0]["depth_bottleneck"] for block in built[0]["blocks"]] == [64, 128, 256, 512]
    function(*[OTHERS[argument] for argument in POSITIONAL[name]])
    given = {argument: OTHERS[argument] for argument in POSITIONAL[name] if argument in built[1]}
    assert {argument: built[1][argument] for argument in given} == given
    if "depth_multiplier" in POSITIONAL[name]:
        assert [block.args[0]["depth_bottleneck"] for block in built[1]["blocks"]] == [32, 64, 128, 256]
    assert function.default_image_size == 224


@pytest.mark.parametrize("name", sorted(POSITIONAL))
def test_every_argument_by_keyword(name, built):
    function = getattr(resnet_v1 if "_v1_" in name else resnet_v2, name)
    function(**OTHERS | {"min_base_depth": 48})
    given = {argument: value for argument, value in OTHERS.items() if argument in built[0]}
    assert {argument: built[0][argument] for argument in given} == given
    assert [block.args[0]["depth_bottleneck"] for block in built[0]["blocks"]] == [48, 64, 128, 256]


def test_positional_arguments_of_the_builders(family):
    parameters = inspect.signature(inspect.unwrap(family.network)).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    store = ["store_non_strided_activations"] if family.name == "v1" else []
    expected = ["inputs", "blocks", "num_classes", "is_training", "global_pool", "output_stride", "include_root_block"]
    expected += ["spatial_squeeze", *store, "reuse", "scope"]
    assert positional[: len(expected)] == expected
    for argument in set(expected[2:]) & set(DEFAULTS):
        assert parameters[argument].default == DEFAULTS[argument], argument
    assert parameters["include_root_block"].default is True
    assert family.network.default_image_size == 224
    block = [p.name for p in inspect.signature(family.block).parameters.values()]
    assert block[:4] == ["scope", "base_depth", "num_units", "stride"]
    unit = list(inspect.signature(inspect.unwrap(family.module.bottleneck)).parameters)
    assert unit[:7] == ["inputs", "depth", "depth_bottleneck", "stride", "rate", "outputs_collections", "scope"]
    assert slim.has_arg_scope(family.module.bottleneck)
    assert family.module.resnet_arg_scope is resnet_utils.resnet_arg_scope


def test_blocks_of_research_slim(family):
    block = family.block("block7", base_depth=2, num_units=3, stride=2)
    assert block.scope == "block7"
    assert block.unit_fn is family.module.bottleneck
    assert [{key: unit[key] for key in ("depth", "depth_bottleneck", "stride")} for unit in block.args] == [
        {"depth": 8, "depth_bottleneck": 2, "stride": stride} for stride in (1, 1, 2)
    ]


def test_stride_placement(family):
    def strides(**kwargs):
        return [unit["stride"] for unit in family.block("b", base_depth=2, num_units=3, stride=2, **kwargs).args]

    assert strides() == strides(stride_placement="last_unit") == [1, 1, 2]
    assert strides(stride_placement="first_unit") == [2, 1, 1]


@pytest.mark.parametrize("argument", ["stride_placement", "projections"])
def test_unknown_layouts_list_the_known_ones(family, argument):
    choices = {
        "stride_placement": ["last_unit", "first_unit"],
        "projections": ["where_shapes_differ", "every_first_unit"],
    }
    with pytest.raises(ValueError) as error:
        family.block("b", base_depth=2, num_units=3, stride=2, **{argument: "middle_unit"})
    assert all(word in str(error.value) for word in ["middle_unit", *choices[argument]])


@pytest.mark.parametrize("projections, projecting", [("where_shapes_differ", [2]), ("every_first_unit", [1, 2])])
def test_which_units_project(family, projections, projecting):
    with slim.arg_scope(resnet_arg_scope()):
        # The input has the depth of block1: nothing differs there.
        blocks = family.blocks((2, 1, 1), (3, 2, 2), projections=projections)
        _, end_points = family.network(tf.zeros([1, 9, 9, 8]), blocks, include_root_block=False, scope="resnet")
    assert sorted(key for key in end_points if key.endswith("shortcut")) == [
        f"resnet/block{block}/unit_1/{family.unit}/shortcut" for block in projecting
    ]


# Scopes, reuse and modes.


def test_reuse_shares_variables_and_gives_the_same_outputs(family):
    def build():
        images = tf.constant(noise(2, 33, 33, 3))
        first, _ = small(family, images, 10, shape=ONE, is_training=False)
        count = len(tf.compat.v1.global_variables())
        second, end_points = small(family, images, 10, shape=ONE, is_training=False, reuse=True)
        assert len(tf.compat.v1.global_variables()) == count
        assert "resnet/logits" in end_points
        return first, second

    (first, second), _ = run_in_graph(build)
    np.testing.assert_array_equal(first, second)


def test_a_scope_is_not_taken_twice(family):
    small(family, tf.zeros([1, 33, 33, 3]), shape=ONE)
    with pytest.raises(ValueError, match="already exists"):
        small(family, tf.zeros([1, 33, 33, 3]), shape=ONE)


def test_the_default_scope_is_the_name_of_the_family(family):
    small(family, tf.zeros([1, 33, 33, 3]), shape=ONE, scope=None)
    assert {v.op.name.split("/")[0] for v in tf.compat.v1.global_variables()} == {f"resnet_{family.name}"}


@pytest.mark.parametrize("is_training, count", [(True, 2), (False, 0)])
def test_is_training_reaches_every_norm(family, is_training, count):
    small(family, tf.zeros([1, 33, 33, 3]), shape=ONE, is_training=is_training)
    norms = sum(v.op.name.endswith("moving_mean") for v in tf.compat.v1.global_variables())
    # v1: the root, three in the unit and its projection; v2: the pre-activation, two in the unit, postnorm.
    assert norms == {"v1": 5, "v2": 4}[family.name]
    assert len(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)) == count * norms


@pytest.mark.parametrize("outer, count", [(True, 2), (False, 0)])
def test_is_training_none_leaves_the_mode_to_an_outer_arg_scope(family, outer, count):
    with slim.arg_scope(resnet_arg_scope()), slim.arg_scope([slim.batch_norm], is_training=outer):
        family.network(tf.zeros([1, 33, 33, 3]), family.blocks(*ONE), is_training=None, scope="resnet")
    norms = sum(v.op.name.endswith("moving_mean") for v in tf.compat.v1.global_variables())
    assert len(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)) == count * norms
