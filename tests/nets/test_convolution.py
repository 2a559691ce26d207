"""The convolution's layer, against tf-slim's own, and which way it takes."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import convolution, convolution_ways, nets_factory, processor


def normal(*shape):
    return tf.constant(np.random.default_rng(shape).standard_normal(shape, np.float32))


@pytest.mark.parametrize(
    "kernel, side, channels, outputs, dtype, flags, expected",
    [
        (1, 7, 2048, 512, tf.float32, {"avx2"}, "products"),
        (1, 14, 1024, 256, tf.float32, {"avx2"}, "long_rows"),
        (1, 14, 512, 1024, tf.float32, {"avx2"}, "products"),
        (1, 14, 1024, 256, tf.float32, {"avx2", "avx512f"}, None),
        (1, 56, 256, 64, tf.float32, {"avx2"}, None),
        (1, 14, 1024, 256, tf.bfloat16, {"avx512f"}, "products"),
        (3, 56, 64, 64, tf.float32, {"avx2"}, "tiles_in_gradients"),
        (3, 28, 128, 128, tf.float32, {"avx2"}, "tiles"),
        (3, 4, 512, 512, tf.float32, {"avx2"}, "tiles"),
        (3, 2, 512, 512, tf.float32, {"avx2"}, "products"),
        (3, 56, 64, 64, tf.float32, {"avx2", "avx512f"}, None),
        (3, 28, 128, 128, tf.float32, set(), None),
        (3, 7, 512, 512, tf.float32, {"avx2", "avx512f"}, "products"),
        (3, 28, 128, 128, tf.bfloat16, {"avx512f"}, None),
        (3, 32, 16, 16, tf.float32, {"avx2"}, None),
        (3, 16, 64, 64, tf.float32, {"avx2"}, None),
        (7, 7, 512, 512, tf.float32, {"avx2"}, None),
    ],
)
def test_which_way_was_measured_to_pay(monkeypatch, kernel, side, channels, outputs, dtype, flags, expected):
    monkeypatch.setattr(convolution, "cpu_flags", lambda: flags)
    assert convolution._way([kernel, kernel], side, side, channels, outputs, dtype) == expected


def step_of(model, images, labels):
    with tf.GradientTape() as tape:
        logits, end_points = model(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return logits, end_points, tape.gradient(loss, model.trainable_variables)


def filter_gradients_of_onednn(function):
    return sum("Conv2DBackpropFilter" in operation.type for operation in function.graph.get_operations())


@pytest.mark.parametrize("name", ["resnet_v1_18", pytest.param("resnet_v2_18", marks=pytest.mark.slow)])
def test_a_network_trains_as_with_slims_convolution(monkeypatch, name):
    images, labels = normal(4, 33, 33, 3), tf.constant([0, 1, 2, 1])
    model = nets_factory.create_model(name, num_classes=3, batch_norm_decay=0.5)
    monkeypatch.setattr(convolution, "cpu_flags", lambda: {"avx2"})
    found, kernels = [], []
    for way in (convolution._way, lambda *unused: None):
        monkeypatch.setattr(convolution, "_way", way)
        step = tf.function(lambda: step_of(model, images, labels), autograph=False)
        kernels.append(filter_gradients_of_onednn(step.get_concrete_function()))
        found.append(step())
    # 20 convolutions and the logits; oneDNN's are those with a stride and the 3x3 of 64 channels.
    assert kernels[1] == 21 and kernels[0] < 12
    (logits, end_points, ours), (expected_logits, expected_points, expected) = found
    np.testing.assert_allclose(logits, expected_logits, rtol=1e-4, atol=1e-4)
    assert list(end_points) == list(expected_points)
    for variable, one, other in zip(model.trainable_variables, ours, expected, strict=True):
        # A bias that norms follow has a gradient of nought, and of what rounding leaves.
        error = np.linalg.norm(one - other) / max(np.linalg.norm(other), 1e-3)
        assert error < 1e-3, variable.name


@pytest.mark.parametrize("dtype, unit", [("bfloat16", "amx_bf16"), ("float16", "amx_fp16")])
def test_gradients_are_float32_where_the_processor_lacks_the_precision(monkeypatch, dtype, unit):
    """Strides and the root's 7x7 too."""
    images, labels = normal(2, 65, 65, 3), tf.constant([0, 1])
    model = nets_factory.create_model("resnet_v2_18", num_classes=3, compute_dtype=dtype)
    dtypes = []
    for flags in ({"avx2"}, {"avx2", unit}):
        monkeypatch.setattr(processor, "cpu_flags", lambda flags=flags: flags)
        step = tf.function(lambda: step_of(model, images, labels)[2], autograph=False)
        kernels = [operation for operation in operations_of(step) if "Conv2DBackprop" in operation.type]
        dtypes.append({kernel.get_attr("T").name for kernel in kernels})
    assert dtypes == [{"float32"}, {dtype}]


def operations_of(function):
    return function.get_concrete_function().graph.get_operations()


class Variables(dict):
    """Makes variables by name, or gives those that are there, which have to be as asked again."""

    def __init__(self):
        super().__init__()
        self.regularizers = {}

    def getter(self, getter, name, shape, dtype, initializer, regularizer=None, **unused):
        made = (tuple(shape), dtype)
        self.regularizers[name] = regularizer
        if name not in self:
            # Of the name, so that the contestants meet the same numbers whatever their initializers draw.
            self[name] = np.random.default_rng([*shape, len(name)]).standard_normal(shape, np.float32), made
        value, expected = self[name]
        assert expected == made
        return tf.constant(value)


def layer(function, images, variables, **arguments):
    """The outputs of one layer in a function, and what it put into a collection."""

    def build():
        with tf.compat.v1.variable_scope("outer", custom_getter=variables.getter):
            outputs = function(images, 6, **{"kernel_size": 3, "outputs_collections": "kept"} | arguments)
        return outputs, dict(slim.utils.convert_collection_to_dict("kept"))

    return tf.function(build, autograph=False)()


def halve(net, by=2.0):
    return net / by


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scope": "one"},
        {"kernel_size": [1, 3], "padding": "VALID", "scope": "one"},
        {"kernel_size": 1, "stride": 2, "activation_fn": None},
        {"stride": 2, "biases_initializer": None},
        {"normalizer_fn": halve, "normalizer_params": {"by": 3.0}},
        {"normalizer_fn": halve, "normalizer_params": None, "activation_fn": tf.tanh},
        {"weights_regularizer": tf.nn.l2_loss, "biases_regularizer": tf.reduce_sum},
        {"rate": 2},
        {"trainable": False},
    ],
    ids=lambda arguments: ",".join(arguments) or "defaults",  # Two workers must agree on it: no addresses of functions.
)
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_the_layer_is_slims(arguments, data_format):
    images, variables = normal(2, 6, 6, 6), Variables()
    (expected, expected_points), (found, points) = (
        layer(function, images, variables, data_format=data_format, **arguments)
        for function in (slim.conv2d, convolution.conv2d)
    )
    # Slim's layer applies the regularizers itself, ours leaves that to the variables.
    assert list(variables.regularizers.values())[0] is arguments.get("weights_regularizer")
    assert list(variables.regularizers.values())[-1] is arguments.get("biases_regularizer")
    assert len(variables) == ("normalizer_fn" not in arguments and "biases_initializer" not in arguments) + 1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert list(points) == list(expected_points) and len(points) == 1
    np.testing.assert_array_equal(next(iter(points.values())), found)


def test_a_v1_graph_holds_the_same_variables_and_losses():
    def contents(function):
        with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
            regularizer = slim.l2_regularizer(0.5)
            with slim.arg_scope(
                [slim.conv2d], weights_regularizer=regularizer, biases_initializer=tf.ones_initializer()
            ):
                images = tf.ones([1, 4, 4, 2])
                net = function(images, 3, 3, weights_initializer=tf.ones_initializer(), scope="one")
                again = function(images, 3, 3, scope="one", reuse=True)
                other = function(net, 5, 1, weights_initializer=tf.ones_initializer())
            session.run(tf.compat.v1.global_variables_initializer())
            names = {
                key: [variable.name for variable in graph.get_collection(key)]
                for key in ("variables", "trainable_variables", "model_variables", "regularization_losses")
            }
            losses = graph.get_collection("regularization_losses")
            return names, session.run([losses, net, again, other])

    (names, values), (expected_names, expected) = contents(convolution.conv2d), contents(slim.conv2d)
    # Half of 0.5 for each weight of 1: 3 * 3 * 2 * 3 and 3 * 5 of them. Names of losses are the layer object's own.
    assert values[0] == [0.25 * 54, 0.25 * 15] == expected[0]
    del names["regularization_losses"], expected_names["regularization_losses"]
    assert names == expected_names and len(names["model_variables"]) == 4
    for ours, others in zip(values[1:], expected[1:], strict=True):
        np.testing.assert_allclose(ours, others, rtol=1e-6)


@pytest.mark.parametrize(
    "images", [np.ones([2, 5, 5, 3], np.float32), np.ones([2, 5, 3], np.float32)], ids=["images", "rows"]
)
def test_what_is_no_batch_of_images_is_answered_by_slim(images):
    """An array is taken; three dimensions are refused, or taken, as Slim does."""

    def answer(function):
        with tf.Graph().as_default():
            try:
                return function(images, 4, 3).shape.as_list()
            except ValueError as error:
                return str(error)

    assert answer(convolution.conv2d) == answer(slim.conv2d)


def test_biases_are_zero_where_nothing_else_is_asked():
    asked = {}

    def getter(getter, name, shape, initializer, **unused):
        asked[name] = initializer(shape, tf.float32)
        return asked[name]

    def build():
        with tf.compat.v1.variable_scope("", custom_getter=getter):
            return convolution.conv2d(tf.zeros([1, 2, 2, 3]), 4, 3, scope="one"), asked

    _, made = tf.function(build, autograph=False)()
    np.testing.assert_array_equal(made["one/biases"], np.zeros(4))
    # Xavier's uniform draw, sqrt(6 / (fan in + fan out)), is wider than its bound divided by 2 and no wider than it.
    assert 0.15 < np.abs(made["one/weights"]).max() <= np.sqrt(6 / (9 * (3 + 4)))


def test_inference_and_slims_graphs_have_no_products(monkeypatch):
    def fail(*unused, **unused_too):
        raise AssertionError("must not be called")

    monkeypatch.setattr(convolution_ways, "convolve", fail)
    images = tf.zeros([1, 8, 8, 256])
    with slim.arg_scope([convolution.batch_norm], is_training=False):
        assert layer(convolution.conv2d, images, Variables(), kernel_size=1)[0].shape == [1, 8, 8, 6]
    with tf.Graph().as_default():
        assert convolution.conv2d(tf.zeros([1, 8, 8, 256]), 4, 1, scope="one").shape == [1, 8, 8, 4]
    with pytest.raises(AssertionError, match="must not be called"):
        layer(convolution.conv2d, images, Variables(), kernel_size=1)


def test_channels_that_are_not_known_are_refused_in_words():
    with tf.Graph().as_default(), pytest.raises(ValueError, match="channel dimension of the inputs should be defined"):
        convolution.conv2d(tf.compat.v1.placeholder(tf.float32, [2, 4, 4, None]), 3, 3)
