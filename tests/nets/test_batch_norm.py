"""batch_norm in a v1 graph with a session: values, updates, variables, arg scopes, defaults."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from batch_norm_expected import CHANNELS, EPSILON, NAMES, check, inputs_of, layer
from nets_testing import UPDATE_OPS, run_in_graph, set_variables, value_for

from nets.batch_norm import batch_norm

# In a v1 graph with a session.


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("use_resource", [False, True])
def test_graph_with_update_ops(rank, training, use_resource):
    x = inputs_of(rank)

    def build():
        with tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), use_resource=use_resource):
            outputs = layer(tf.constant(x), training)
        assert len(tf.compat.v1.get_collection(UPDATE_OPS)) == (2 if training else 0)
        assert outputs.shape == x.shape
        return outputs

    outputs, untouched = run_in_graph(build)
    np.testing.assert_array_equal(untouched["bn/moving_mean"], value_for("bn/moving_mean", [CHANNELS]))
    np.testing.assert_array_equal(untouched["bn/moving_variance"], value_for("bn/moving_variance", [CHANNELS]))
    outputs, variables = run_in_graph(build, update=True)
    check(outputs, variables, x, training)


@pytest.mark.parametrize("training", [False, True])
def test_graph_with_updates_in_place(training):
    x = inputs_of(4)

    def build():
        outputs = layer(tf.constant(x), training, updates_collections=None)
        assert not tf.compat.v1.get_collection(UPDATE_OPS)
        return outputs

    check(*run_in_graph(build), x, training)


def test_graph_with_a_collection_of_its_own():
    def build():
        outputs = layer(tf.constant(inputs_of(4)), True, updates_collections="mine")
        assert len(tf.compat.v1.get_collection("mine")) == 2
        assert not tf.compat.v1.get_collection(UPDATE_OPS)
        return outputs

    run_in_graph(build)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("updates_collections", [UPDATE_OPS, None])
def test_graph_with_a_placeholder_for_is_training(training, updates_collections):
    x = inputs_of(4)

    def build():
        mode = tf.compat.v1.placeholder(tf.bool, [], name="mode")
        return layer(tf.constant(x), mode, updates_collections=updates_collections)

    outputs, variables = run_in_graph(build, feed={"mode": training}, update=True)
    check(outputs, variables, x, training)


def test_graph_gradients_reach_gamma_and_beta_only():
    def build():
        outputs = layer(tf.constant(inputs_of(4)), True)
        trainable = tf.compat.v1.trainable_variables()
        assert sorted(variable.op.name for variable in trainable) == ["bn/beta", "bn/gamma"]
        return tf.gradients(outputs**2, trainable)

    gradients, _ = run_in_graph(build)
    assert all(np.abs(gradient).min() > 0 for gradient in gradients)


def test_variables_are_model_variables_in_the_collections_asked_for():
    with tf.Graph().as_default():
        layer(
            tf.zeros([2, CHANNELS]),
            True,
            variables_collections={"gamma": ["gammas"]},
            outputs_collections="outputs",
            param_regularizers={"beta": slim.l2_regularizer(1.0)},
        )
        assert sorted(variable.op.name for variable in slim.get_model_variables()) == NAMES
        assert [variable.op.name for variable in tf.compat.v1.get_collection("gammas")] == ["bn/gamma"]
        assert list(slim.utils.convert_collection_to_dict("outputs")) == ["bn"]
        assert len(tf.compat.v1.losses.get_regularization_losses()) == 1


@pytest.mark.parametrize(
    "kwargs, names, trainable",
    [
        ({}, ["beta", "moving_mean", "moving_variance"], ["beta"]),
        ({"center": False}, ["moving_mean", "moving_variance"], []),
        ({"center": False, "scale": True}, ["gamma", "moving_mean", "moving_variance"], ["gamma"]),
        ({"trainable": False, "scale": True}, ["beta", "gamma", "moving_mean", "moving_variance"], []),
    ],
)
def test_which_variables_there_are(kwargs, names, trainable):
    with tf.Graph().as_default():
        batch_norm(tf.zeros([2, CHANNELS]), **kwargs)
        assert sorted(variable.op.name for variable in tf.compat.v1.global_variables()) == [
            f"BatchNorm/{name}" for name in names
        ]
        assert [variable.op.name for variable in tf.compat.v1.trainable_variables()] == [
            f"BatchNorm/{name}" for name in trainable
        ]


def test_initial_values():
    def build():
        first = layer(tf.zeros([2, CHANNELS]), True)
        second = batch_norm(
            tf.zeros([2, CHANNELS]),
            scale=True,
            scope="zero",
            param_initializers={"gamma": tf.compat.v1.zeros_initializer()},
        )
        return [first, second]

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        build()
        session.run(tf.compat.v1.global_variables_initializer())
        variables = {variable.op.name: session.run(variable) for variable in tf.compat.v1.global_variables()}
    initial = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
    for name, value in variables.items():
        scope, kind = name.split("/")
        np.testing.assert_array_equal(value, [0.0 if (scope, kind) == ("zero", "gamma") else initial[kind]] * CHANNELS)


def test_reuse_shares_the_variables():
    with tf.Graph().as_default():
        layer(tf.zeros([2, CHANNELS]), True)
        layer(tf.zeros([2, CHANNELS]), True, reuse=True)
        assert len(tf.compat.v1.global_variables()) == 4
        with pytest.raises(ValueError, match="bn/"):
            layer(tf.zeros([2, CHANNELS]), True)


# As slim.batch_norm: arg scopes and defaults.


def test_arg_scope_of_slim_batch_norm_governs_it():
    x = inputs_of(4)

    def build():
        with slim.arg_scope([slim.batch_norm], is_training=False, scale=True, epsilon=EPSILON, scope="bn"):
            return batch_norm(tf.constant(x))

    outputs, variables = run_in_graph(build, update=True)
    check(outputs, variables, x, training=False)


def test_arg_scope_of_slim_batch_norm_governs_it_as_a_normalizer():
    def build():
        with slim.arg_scope([slim.batch_norm], decay=0.25, updates_collections=None):
            return slim.conv2d(
                tf.constant(inputs_of(4)), 5, 1, normalizer_fn=batch_norm, activation_fn=None, scope="conv"
            )

    outputs, variables = run_in_graph(build)
    weights = value_for("conv/weights", [1, 1, CHANNELS, 5])[0, 0]
    mean = (inputs_of(4) @ weights).mean((0, 1, 2))
    before = value_for("conv/BatchNorm/moving_mean", [5])
    np.testing.assert_allclose(
        variables["conv/BatchNorm/moving_mean"], 0.25 * before + 0.75 * mean, rtol=1e-4, atol=1e-5
    )


def test_an_argument_beats_the_arg_scope():
    x = inputs_of(4)

    def build():
        with slim.arg_scope([batch_norm], is_training=True, epsilon=EPSILON, scale=True):
            return batch_norm(tf.constant(x), is_training=False, scope="bn")

    check(*run_in_graph(build, update=True), x, training=False)


def test_defaults_and_order_are_those_of_slim_batch_norm():
    ours = inspect.signature(inspect.unwrap(batch_norm)).parameters
    slims = inspect.signature(inspect.unwrap(slim.batch_norm)).parameters
    # `sync`, the last, is no argument of Slim's.
    assert list(ours)[-1] == "sync"
    shared = list(ours)[:-1]
    assert {name: ours[name].default for name in shared} == {name: slims[name].default for name in shared}
    # By position up to `trainable`, from where Slim has arguments that few call sites use and none by position.
    shared = list(slims)[: list(slims).index("trainable") + 1]
    assert list(ours)[: len(shared)] == shared


def test_slims_own_layer_is_left_alone():
    assert slim.batch_norm.__module__.startswith("tf_slim")
    assert slim.batch_norm is slim.layers.batch_norm


def test_variables_of_one_name_are_shared_by_graph_and_checkpoint(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        layer(tf.zeros([2, CHANNELS]), True)
        variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
        set_variables(session, variables)
        path = tf.compat.v1.train.Saver().save(session, str(tmp_path / "bn"))
    reader = tf.train.load_checkpoint(path)
    assert sorted(reader.get_variable_to_shape_map()) == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(reader.get_tensor(name), value_for(name, [CHANNELS]))


@pytest.mark.parametrize(
    "arguments", [{"renorm": True}, {"zero_debias_moving_mean": True}, {"batch_weights": tf.ones([2])}], ids=str
)
def test_what_slim_has_and_this_norm_has_not_is_named(arguments):
    """The defaults of Slim's own signature are taken, as an arg scope may set them."""
    images = tf.zeros([2, 4, 4, 3])
    defaults = {"renorm": False, "renorm_decay": 0.99, "zero_debias_moving_mean": False, "adjustment": None}
    with tf.Graph().as_default(), slim.arg_scope([slim.batch_norm], **defaults):
        batch_norm(tf.zeros([2, 4, 4, 3]))
        (name,) = arguments
        with pytest.raises(ValueError, match=f"batch_norm: {name} is .*, which is not supported here; leave it out"):
            batch_norm(images, **arguments)
