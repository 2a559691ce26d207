"""What the tests of the networks share: inputs, weights that depend on the variable's name only, ways to run a net.

Nothing here takes part in what is asserted: expected values stand in the tests.
"""

import zlib

import numpy as np
import tensorflow as tf
import tf_slim as slim

UPDATE_OPS = tf.compat.v1.GraphKeys.UPDATE_OPS


def ramp(batch, height, width, channels):
    """Images whose value at (y, x) is y + x, float32 [batch, height, width, channels]."""
    plane = np.arange(height)[:, None] + np.arange(width)[None, :]
    return np.tile(plane[None, :, :, None], [batch, 1, 1, channels]).astype(np.float32)


def noise(*shape, seed=0):
    """Normal noise, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def value_for(name, shape, seed=0):
    """A value for the variable `name`: the same on every call, different for each name, none of them special.

    Weights keep the scale of activations; statistics and parameters of batch norm stay away from 0 and 1.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    kind = name.rsplit("/", 1)[-1]
    if kind == "weights":
        return rng.normal(size=shape, scale=np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, size=shape).astype(np.float32)
    if kind in ("beta", "biases", "moving_mean"):
        return rng.normal(size=shape, scale=0.3).astype(np.float32)
    raise AssertionError(f"unknown kind of variable: {name}")


def run_in_graph(build, values=value_for, feed=None, update=False):
    """Builds in a new v1 graph, sets every variable to `values(name, shape)`, and runs in a session.

    Args:
      build: A function of nothing that returns what to fetch: a tensor or a dict or list of them.
      values: A function of the variable's name and shape.
      feed: What to feed, by the tensor's name without ":0".
      update: Whether to run the update ops, in a session call of its own after the fetch.

    Returns:
      What was fetched, and the values of all variables after the run, by name.
    """
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        fetches = build()
        feed_dict = {f"{name}:0": value for name, value in (feed or {}).items()}
        variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
        set_variables(session, variables, values)
        fetched = session.run(fetches, feed_dict)
        if update:
            session.run(tf.compat.v1.get_collection(UPDATE_OPS), feed_dict)
        return fetched, session.run(variables)


def set_variables(session, variables, values=value_for):
    """Sets the variables {name: variable} of a v1 graph through their initializers."""
    feed = {}
    for name, variable in variables.items():
        value = np.asarray(values(name, variable.shape.as_list()), variable.dtype.base_dtype.as_numpy_dtype)
        feed[variable.initializer.inputs[1]] = value
    # One call: TensorFlow optimizes the whole graph anew for every other set of fetches.
    session.run([variable.initializer for variable in variables.values()], feed)


def set_model(model, values=value_for):
    """Sets the variables of a SlimModel."""
    for name, variable in model.variables_by_name.items():
        variable.assign(values(name, variable.shape.as_list()))


class VariableKeeper:
    """Holds the variables that a Slim function asks for outside a v1 graph, by name."""

    def __init__(self):
        self.variables = {}

    def scope(self):
        return tf.compat.v1.variable_scope("", custom_getter=self._get)

    def _get(self, getter, name, shape=None, dtype=tf.float32, initializer=None, trainable=True, **unused):
        del getter, unused
        if name not in self.variables:
            with tf.init_scope():
                self.variables[name] = tf.Variable(initializer(shape, dtype), trainable=trainable, name=name)
        return self.variables[name]


def assert_same(actual, expected, rtol=1e-4, atol=1e-5):
    """Asserts that two dicts of arrays have the same keys, shapes and values."""
    assert list(actual) == list(expected)
    for key in expected:
        assert actual[key].shape == expected[key].shape, key
        np.testing.assert_allclose(actual[key], expected[key], rtol=rtol, atol=atol, err_msg=key)


def in_scope(arg_scope, function, *args, **kwargs):
    """Calls `function` under `arg_scope`."""
    with slim.arg_scope(arg_scope):
        return function(*args, **kwargs)
