"""Feature extraction in Python: what is computed, what gradients reach, and dense features."""

import re

import numpy as np
import pytest
import tensorflow as tf
from inference_toys import write_checkpoint

from command_line import UserError
from nets import nets_factory

NAME = "resnet_cifar_v1_20"


@pytest.fixture(scope="module")
def model():
    return nets_factory.create_model(NAME, 10)


def noise(*shape):
    return tf.constant(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def test_features_are_the_networks_end_points(model):
    images = noise(2, 32, 32, 3)
    end_points = model(images)[1]
    features = model.feature_extractor(["block2", f"{NAME}/block1", "global_pool"])(images)
    assert list(features) == ["block2", f"{NAME}/block1", "global_pool"]
    for name, full_name in (("block2", f"{NAME}/block2"), (f"{NAME}/block1",) * 2, ("global_pool",) * 2):
        np.testing.assert_allclose(features[name], end_points[full_name], rtol=1e-5, atol=1e-5)


def test_an_unknown_end_point_is_refused_when_the_extractor_is_made(model):
    with pytest.raises(UserError, match=f"unknown end point 'block9'; known: {NAME}/conv1, .*global_pool"):
        model.feature_extractor(["block9"])


def test_the_pruned_graph_holds_no_later_block(model):
    concrete = model.feature_extractor(["block2"]).get_concrete_function(tf.TensorSpec([None, 32, 32, 3]))
    outputs = [tensor.op.name for tensor in concrete.outputs]
    pruned = tf.compat.v1.graph_util.extract_sub_graph(concrete.graph.as_graph_def(), outputs)
    convolutions = [node.name for node in pruned.node if node.op == "Conv2D"]
    assert len(convolutions) == 1 + 2 * 6  # conv1 and two blocks of three units of two.
    # Handles of variables stay, and what hands them out; nothing computes with them.
    later = {node.op for node in pruned.node if "block3" in node.name or "logits" in node.name}
    assert later <= {"Placeholder", "ReadVariableOp"}


def test_gradients_reach_images_and_the_variables_that_were_used(model):
    images = noise(2, 32, 32, 3)
    extract = model.feature_extractor(["block2"])
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_mean(extract(images)["block2"] ** 2)
    to_images, to_variables = tape.gradient(loss, [images, model.trainable_variables])
    assert float(tf.norm(to_images)) > 0
    reached = {
        name
        for name, gradient in zip((v.name for v in model.trainable_variables), to_variables, strict=True)
        if gradient is not None
    }
    assert reached == {v.name for v in model.trainable_variables if not re.search("block3|logits", v.name)}


def test_one_extractor_serves_any_batch_and_size(model):
    extract = model.feature_extractor(["block3"])
    assert extract(noise(1, 32, 32, 3))["block3"].shape == [1, 8, 8, 64]
    assert extract(noise(3, 48, 40, 3))["block3"].shape == [3, 12, 10, 64]


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_loaded_checkpoint_gives_dense_features(output_stride, tmp_path):
    thin = {"depth_multiplier": 1 / 16, "min_base_depth": 2}
    trained = nets_factory.create_model("resnet_v2_18", 5, seed=3, **thin)
    write_checkpoint(tmp_path, trained, None, "inception", 65)
    dense, _ = nets_factory.load_model(tmp_path, output_stride=output_stride)
    images = noise(1, 65, 65, 3)
    wanted = trained.features(images, ["block4"])["block4"]
    features = dense.feature_extractor(["block4"])(images)["block4"]
    side = (65 - 1) // output_stride + 1
    assert features.shape[1:3] == [side, side]
    every = 32 // output_stride
    # Atrous convolution: the strided network's features stand at every second or fourth place of the dense ones.
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(features[:, ::every, ::every], wanted, rtol=1e-3, atol=1e-4)
