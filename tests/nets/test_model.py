"""SlimModel: the same network as in a v1 graph; its variables, gradients and features."""

import numpy as np
import pytest
import tensorflow as tf
from make_golden import read
from models import CLASSES, IMAGES, THIN, thin_model, tiny_model, values_of
from nets_testing import assert_same, noise, run_in_graph, set_model, value_for

from nets import nets_factory


@pytest.fixture(scope="module", params=["resnet_v1_18", "resnet_v2_18"])
def thin(request):
    """A model of 18 layers of each family in turn; `test_equal_to_the_graph...` sets its variables."""
    return thin_model(request.param)


@pytest.fixture(scope="module", params=["resnet_cifar_v1_8", "resnet_cifar_v2_8"])
def shared(request, tiny_networks):
    """A model that the tests of this module share; `model` sets it anew."""
    return tiny_model(request.param)


@pytest.fixture
def model(shared):
    """A tiny model whose variables have the values of `value_for`."""
    set_model(shared)
    return shared


def in_graph(model, is_training, **kwargs):
    """Logits, end points and variables behind one update, of the same network and weights in a v1 graph."""

    def build():
        network_fn = nets_factory.get_network_fn(model.name, CLASSES, weight_decay=0.1, is_training=is_training)
        logits, end_points = network_fn(tf.constant(IMAGES), **kwargs)
        return {"logits": logits, **end_points}, tf.add_n(tf.compat.v1.losses.get_regularization_losses())

    (ends, penalty), variables = run_in_graph(build, update=True)
    return ends, penalty, variables


# One network in a graph and in a function.


@pytest.mark.parametrize("training", [False, True])
def test_equal_to_the_graph_with_the_same_weights(thin, training):
    set_model(thin)
    logits, end_points = thin(IMAGES, training=training)
    assert logits.dtype == tf.float32
    ends, _, variables = in_graph(thin, training, **THIN)
    assert ends["logits"].shape == (3, CLASSES) and np.abs(ends["logits"]).max() > 0.1
    expected_order = [key for key in ends if key != "logits"]
    assert sorted(end_points) == sorted(expected_order)
    actual = {"logits": logits.numpy()} | {key: end_points[key].numpy() for key in expected_order}
    # Normalized by a batch of 3 x 2 x 2 values, differences of rounding grow.
    tolerance = 2e-3 if training else 1e-4
    assert_same(actual, ends, rtol=tolerance, atol=tolerance)
    assert sorted(thin.variables_by_name) == sorted(variables)
    assert_same({name: thin.variables_by_name[name].numpy() for name in variables}, variables, 1e-3, 1e-4)
    moved = [key for key, value in variables.items() if (value != value_for(key, list(value.shape))).any()]
    assert sorted(moved) == sorted(key for key in variables if training and "/moving_" in key)


def test_end_points_keep_their_order_inside_a_function(model):
    order = []

    @tf.function(autograph=False)
    def run(images):
        logits, end_points = model(images)
        order.extend(end_points)
        return logits

    logits = run(IMAGES)
    ends, _, _ = in_graph(model, False)
    assert order == [key for key in ends if key != "logits"]
    np.testing.assert_allclose(logits, ends["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_training_as_a_tensor(tiny, training):
    models = [tiny_model(tiny) for _ in range(2)]
    for net in models:
        set_model(net)
    (expected, _), (logits, _) = models[0](IMAGES, training=training), models[1](IMAGES, training=tf.constant(training))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert_same(values_of(models[1]), values_of(models[0]))
    moved = [name for name, value in values_of(models[1]).items() if (value != value_for(name, value.shape)).any()]
    assert len(moved) == training * sum("/moving_" in name for name in models[1].variables_by_name)


def test_any_batch_and_image_size(model):
    whole = model(IMAGES)[0]
    for index in range(3):
        np.testing.assert_allclose(model(IMAGES[index : index + 1])[0][0], whole[index], rtol=1e-4, atol=1e-5)
    assert model(noise(2, 64, 48, 3))[0].shape == (2, CLASSES)


def test_a_function_of_unknown_sizes(tiny):
    model = tiny_model(tiny)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None, None, 3])])
    def run(images):
        logits, _ = model(images)
        assert logits.shape.as_list() == [None, CLASSES]
        return logits

    np.testing.assert_allclose(run(IMAGES), model(IMAGES)[0], rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_trainable_variable(tiny):
    model = tiny_model(tiny)
    set_model(model)

    @tf.function(autograph=False)
    def gradients(images):
        with tf.GradientTape() as tape:
            logits, _ = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 3, 7], logits))
        return tape.gradient(loss, model.trainable_variables)

    found = gradients(IMAGES)
    assert all(np.abs(gradient).max() > 1e-6 for gradient in found)


def test_steps_of_training_lower_the_loss(tiny):
    model, labels = tiny_model(tiny), [0, 3, 7]

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            logits, _ = model(IMAGES, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            variable.assign_sub(0.05 * gradient)
        return loss

    losses = [step().numpy() for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]


# Variables.


@pytest.mark.parametrize("name", ["resnet_cifar_v1_20", "resnet_cifar_v2_20"])
def test_variables_are_those_of_the_golden_list(name):
    model = nets_factory.create_model(name, CLASSES)
    golden, counts = read(name)
    assert {
        key.removeprefix(f"{name}/"): (tuple(variable.shape), variable.trainable)
        for key, variable in model.variables_by_name.items()
    } == golden
    assert {variable.dtype for variable in model.variables_by_name.values()} == {tf.float32}
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == counts["trainable_parameters"]
    by_name = model.variables_by_name.values()
    assert [id(v) for v in model.trainable_variables] == [id(v) for v in by_name if v.trainable]
    for key, variable in model.variables_by_name.items():
        kind = key.rsplit("/", 1)[1]
        if kind != "weights":
            assert (variable.numpy() == {"gamma": 1, "moving_variance": 1}.get(kind, 0)).all(), key


def test_initial_weights_have_the_variance_of_he():
    model = nets_factory.create_model("resnet_cifar_v1_20", CLASSES)
    weights = model.variables_by_name["resnet_cifar_v1_20/block3/unit_2/basic_v1/conv1/weights"].numpy()
    assert weights.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 64)), rel=0.03)
    assert abs(weights.mean()) < 0.002


def test_the_seed_decides_the_initial_weights(tiny):
    first, same, other = (tiny_model(tiny, seed=seed) for seed in (1, 1, 2))
    weights = [name for name in first.variables_by_name if name.endswith("weights")]
    assert_same(values_of(first), values_of(same), rtol=0, atol=0)
    assert all((first.variables_by_name[n].numpy() != other.variables_by_name[n].numpy()).all() for n in weights)
    # No two variables start alike, or units of one shape would learn in step.
    starts = [first.variables_by_name[n].numpy().flat[:16] for n in weights]
    assert len(np.unique(np.stack(starts), axis=0)) == len(weights) == 8


def test_without_a_seed_all_variables_are_zeros(tiny):
    assert not any(np.any(variable.numpy()) for variable in tiny_model(tiny, seed=None).variables_by_name.values())


def test_a_variable_starts_the_same_whatever_else_the_network_has(tiny):
    few, many = (tiny_model(tiny, num_classes).variables_by_name for num_classes in (None, 5))
    assert set(many) - set(few) == {f"{tiny}/logits/weights", f"{tiny}/logits/biases"}
    for name, variable in few.items():
        np.testing.assert_array_equal(variable, many[name])


def test_regularization_loss_is_slims(model):
    _, penalty, variables = in_graph(model, False)
    decayed = [value for name, value in variables.items() if name.endswith("/weights")]
    by_hand = 0.1 * sum(np.sum(np.square(value, dtype=np.float64)) for value in decayed) / 2
    np.testing.assert_allclose(penalty, by_hand, rtol=1e-5)
    # The model's own weight decay is the default 1e-4.
    loss = model.regularization_loss()
    assert loss.shape == [] and loss.dtype == tf.float32
    np.testing.assert_allclose(loss, by_hand * 1e-3, rtol=1e-5)


def test_zero_gamma(tiny_networks):
    model = tiny_model("resnet_cifar_v1_8", zero_gamma=True)
    zero = {name for name, v in model.variables_by_name.items() if name.endswith("gamma") and not v.numpy().any()}
    assert zero == {f"{model.name}/block{block}/unit_1/basic_v1/conv2/BatchNorm/gamma" for block in (1, 2, 3)}
    with pytest.raises(ValueError, match="zero_gamma"):
        tiny_model("resnet_cifar_v2_8", zero_gamma=True)
    with pytest.raises(ValueError, match="zero_gamma does not fit a network with shortcut_connections=False"):
        tiny_model("resnet_cifar_v1_8", zero_gamma=True, shortcut_connections=False)


def test_a_map_of_logits_is_not_squeezed(tiny_networks):
    with pytest.raises(ValueError, match="cannot drop the 8 x 8 positions of the logits; give spatial_squeeze=False"):
        tiny_model("resnet_cifar_v1_8", global_pool=False)(tf.zeros([1, 32, 32, 3]))
    logits, _ = tiny_model("resnet_cifar_v1_8", global_pool=False, spatial_squeeze=False)(tf.zeros([1, 32, 32, 3]))
    assert logits.shape[:3] == (1, 8, 8)


# Features and heads.


def test_features_by_short_and_full_names(model):
    unit = f"block1/unit_1/basic_{model.name.split('_')[2]}"
    names = ["block2", f"{model.name}/block3", "global_pool", f"{unit}/conv1"]
    features = model.features(IMAGES, names)
    _, end_points = model(IMAGES)
    assert list(features) == names or sorted(features) == sorted(names)
    for name in names:
        full = name if name in end_points else f"{model.name}/{name}"
        np.testing.assert_allclose(features[name], end_points[full], rtol=1e-5, atol=1e-5)
    assert features["block2"].shape == (3, 20, 17, 32)


def test_features_follow_the_weights(model):
    first = model.features(IMAGES, ["block1"])["block1"].numpy()
    model.variables_by_name[f"{model.name}/conv1/weights"].assign_add(
        tf.ones_like(model.variables_by_name[f"{model.name}/conv1/weights"])
    )
    assert np.abs(model.features(IMAGES, ["block1"])["block1"] - first).max() > 1e-3


def test_an_unknown_feature_lists_the_known_ones(model):
    with pytest.raises(ValueError) as error:
        model.features(IMAGES, ["block2", "block9"])
    message = str(error.value)
    assert "'block9'" in message and f"{model.name}/block3" in message and "global_pool" in message


@pytest.mark.parametrize("num_classes", [None, 0])
def test_without_classes_the_features_come_back(tiny, num_classes):
    model = tiny_model(tiny, num_classes)
    net, end_points = model(IMAGES)
    assert net.shape == (3, 1, 1, 64) and net.dtype == tf.float32
    np.testing.assert_array_equal(net, end_points["global_pool"])
    assert model.num_classes == num_classes
    assert not any("logits" in name for name in model.variables_by_name)
