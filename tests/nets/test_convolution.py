"""The convolution in its several ways, against TensorFlow's and tf-slim's own."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from nets import convolution, nets_factory


def normal(*shape):
    return tf.constant(np.random.default_rng(shape).standard_normal(shape, np.float32))


def plain(inputs, weights):
    return tf.nn.conv2d(inputs, weights, strides=1, padding="SAME")


def gradients(function, inputs, weights, second=False):
    """Of a loss that is not linear in the outputs; or of the norm of these gradients."""

    def loss(inputs, weights):
        return tf.reduce_sum(tf.tanh(function(inputs, weights)))

    with tf.GradientTape() as outer:
        outer.watch([inputs, weights])
        with tf.GradientTape() as tape:
            tape.watch([inputs, weights])
            value = loss(inputs, weights)
        first = tape.gradient(value, [inputs, weights])
        norm = tf.add_n([tf.reduce_sum(gradient**2) for gradient in first])
    return outer.gradient(norm, [inputs, weights]) if second else first


# 5 x 3 positions cannot be parted into 4, 4 x 6 can.
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("height, width", [(5, 3), (4, 6), (1, 1)])
@pytest.mark.parametrize(
    "way, size",
    [("products", 1), ("products", 3), ("products", 5), ("long_rows", 1), ("tiles", 3), ("tiles_in_gradients", 3)],
)
def test_results_and_gradients_are_those_of_conv2d(height, width, way, size, second):
    def convolve(inputs, weights):
        return convolution.convolve(inputs, weights, way)

    inputs, weights = normal(3, height, width, 2), normal(size, size, 2, 7)
    np.testing.assert_allclose(convolve(inputs, weights), plain(inputs, weights), rtol=1e-5, atol=1e-5)
    for ours, expected in zip(
        gradients(convolve, inputs, weights, second), gradients(plain, inputs, weights, second), strict=True
    ):
        # Tiles round more, and a second gradient goes through them twice.
        tolerance = 1e-3 if second and way == "tiles" else 1e-4
        np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


def test_a_gradient_by_hand():
    """One image of 1 x 2 positions: only the middle row of the kernel meets it."""
    inputs, upstream = tf.reshape([2.0, 3.0], [1, 1, 2, 1]), tf.reshape([10.0, 100.0], [1, 1, 2, 1])
    found = convolution.gradient_of_weights(inputs, upstream, 3)[:, :, 0, 0]
    # Left: 2 lies left of the second output; middle: 2 * 10 + 3 * 100; right: 3 lies right of the first.
    np.testing.assert_array_equal(found, [[0, 0, 0], [200, 320, 30], [0, 0, 0]])


def test_a_batch_of_unknown_size():
    function = tf.function(
        lambda inputs, upstream: convolution.gradient_of_weights(inputs, upstream, 3),
        input_signature=[tf.TensorSpec([None, 2, 2, 1]), tf.TensorSpec([None, 2, 2, 2])],
        autograph=False,
    )
    inputs, upstream, weights = normal(5, 2, 2, 1), normal(5, 2, 2, 2), normal(3, 3, 1, 2)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        loss = tf.reduce_sum(plain(inputs, weights) * upstream)
    np.testing.assert_allclose(function(inputs, upstream), tape.gradient(loss, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way, size", [("products", 1), ("products", 3), ("tiles_in_gradients", 3)])
def test_nothing_is_copied_before_the_gradient_comes(way, size):
    """A forward pass must not keep the copies that a gradient takes of its activations, nine times their memory."""
    with tf.Graph().as_default():
        inputs = tf.compat.v1.placeholder(tf.float32, [2, 4, 4, 3])
        weights = tf.compat.v1.placeholder(tf.float32, [size, size, 3, 5])
        upstream = tf.compat.v1.placeholder(tf.float32, [2, 4, 4, 5])
        outputs = convolution.convolve(inputs, weights, way)
        of_forward = set(inputs.consumers())
        tf.compat.v1.gradients(outputs, [inputs, weights], upstream)
        added = [operation for operation in inputs.consumers() if operation not in of_forward]
    [copy] = [operation for operation in added if operation.type != "Shape"]
    assert copy.type == "Identity" and upstream.op in ancestors(copy)


def ancestors(operation):
    found, waiting = set(), [operation]
    while waiting:
        for before in (*waiting[-1].control_inputs, *(tensor.op for tensor in waiting.pop().inputs)):
            if before not in found:
                found.add(before)
                waiting.append(before)
    return found


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

    monkeypatch.setattr(convolution, "convolve", fail)
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
