"""The training step against its formula, worked out in NumPy, and against Slim's own collections in a v1 graph."""

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
import training_toys

from nets import nets_factory
from training.optimizers import make_momentum
from training.step import TrainStep

BATCH, CLASSES, SIDE = 6, 3, training_toys.SIDE
RATE = 0.125


def make_batch(seed=0):
    random = np.random.default_rng(seed)
    images = random.normal(size=[BATCH, SIDE, SIDE, 3]).astype(np.float32)
    return tf.constant(images), tf.constant([0, 1, 2, 2, 1, 0], tf.int32)


def make_model(name=training_toys.TINY, **settings):
    return nets_factory.create_model(name, CLASSES, **{"weight_decay": 0.01, "batch_norm_decay": 0.5} | settings)


def make_step(model, label_smoothing=0.0, momentum=0.9):
    trainable = {name: value for name, value in model.variables_by_name.items() if value.trainable}
    return TrainStep(model, make_momentum(trainable, momentum), lambda step: tf.constant(RATE), None, label_smoothing)


def arrays(variables):
    return [variable.numpy() for variable in variables]


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def decay_of(model, weight_decay=0.01):
    weights = [value.numpy() for name, value in model.variables_by_name.items() if name.endswith("/weights")]
    assert len(weights) == 8  # A root, two layers in each of three units, and the logits.
    return weight_decay * sum((np.float64(weight) ** 2).sum() / 2 for weight in weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_and_l2(smoothing):
    model = make_model()
    images, labels = make_batch()
    logits, _ = model(images, training=True)
    log_probabilities = log_softmax(logits)
    targets = np.eye(CLASSES)[labels.numpy()] * (1 - smoothing) + smoothing / CLASSES
    cross_entropy = -(targets * log_probabilities).sum(axis=1).mean()
    decay = decay_of(model)
    assert decay > 0.1  # Else its absence could not show.

    step = make_step(model, smoothing)
    metrics = step.step(images, labels)

    assert sorted(metrics) == ["cross_entropy", "learning_rate", "loss", "top_1"]
    assert float(metrics["cross_entropy"]) == pytest.approx(cross_entropy, rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(cross_entropy + decay, rel=1e-5)
    assert float(metrics["top_1"]) == pytest.approx((logits.numpy().argmax(axis=1) == labels.numpy()).mean())
    assert float(metrics["learning_rate"]) == RATE


def test_smoothing_by_hand():
    """Two classes at even odds cost ln 2 whatever the smoothing; a sure network pays for being sure."""
    step = TrainStep(make_model(), None, None, None, label_smoothing=0.2)
    cross_entropy = step._cross_entropy(tf.constant([0, 0]), tf.constant([[1.0, 1.0], [4.0, 0.0]]))
    # Targets 0.9 and 0.1; -log softmax of (4, 0) is (log(1 + e^-4), 4 + log(1 + e^-4)).
    sure = 0.1 * 4 + np.log1p(np.exp(-4.0))
    np.testing.assert_allclose(cross_entropy, [np.log(2.0), sure], rtol=1e-6)


@pytest.mark.parametrize("name", [training_toys.TINY, "resnet_cifar_v2_8", "resnet_v2_18"])
def test_l2_equals_slims_regularization_losses(name):
    model = make_model(name)
    values = {key: value.numpy() for key, value in model.variables_by_name.items()}
    network_fn = nets_factory.get_network_fn(name, CLASSES, weight_decay=0.01, is_training=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network_fn(tf.zeros([2, 32, 32, 3]))
        losses = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)
        assert losses
        for variable in slim.get_model_variables():
            variable.load(values[variable.op.name], session)
        expected = sum(map(float, session.run(losses)))
    assert float(model.regularization_loss()) == pytest.approx(expected, rel=1e-5)


def test_a_step_moves_weights_by_rate_and_gradient_then_by_velocity():
    model = make_model()
    step = make_step(model, momentum=0.5)
    images, labels = make_batch()
    start = arrays(model.trainable_variables)
    _, gradients = step.forward_backward(images, labels)
    first = [gradient.numpy() for gradient in gradients]
    step.step(images, labels)
    for now, before, gradient in zip(arrays(model.trainable_variables), start, first, strict=True):
        np.testing.assert_allclose(now, before - RATE * gradient, rtol=1e-5, atol=1e-6)

    before_second = arrays(model.trainable_variables)
    second = [gradient.numpy() for gradient in step.forward_backward(images, labels)[1]]
    step.step(images, labels)
    for now, before, one, two in zip(arrays(model.trainable_variables), before_second, first, second, strict=True):
        np.testing.assert_allclose(now, before - RATE * (0.5 * one + two), rtol=1e-5, atol=1e-6)
    assert int(step.global_step) == 2


def test_the_gradient_of_a_bias_free_of_decay_and_of_the_logits_by_hand():
    """d loss / d logits bias = mean of (softmax - one hot), with no decay in it."""
    model = make_model()
    images, labels = make_batch()
    logits, _ = model(images, training=True)
    expected = (np.exp(log_softmax(logits)) - np.eye(CLASSES)[labels.numpy()]).mean(axis=0)
    model.variables_by_name[f"{training_toys.TINY}/logits/biases"].assign([0.0, 0.0, 0.0])
    step = make_step(model)
    _, gradients = step.forward_backward(images, labels)
    names = [name for name, value in model.variables_by_name.items() if value.trainable]
    bias = gradients[names.index(f"{training_toys.TINY}/logits/biases")]
    np.testing.assert_allclose(bias, expected, rtol=1e-4, atol=1e-6)


def test_forward_backward_moves_averages_but_no_weight():
    model = make_model()
    step = make_step(model)
    images, labels = make_batch()
    start = arrays(model.trainable_variables)
    averages = [value for value in model.variables_by_name.values() if not value.trainable]
    averages_before = arrays(averages)
    loss, gradients = step.forward_backward(images, labels)
    assert loss.shape == [] and loss.dtype == tf.float32
    assert [gradient.shape for gradient in gradients] == [value.shape for value in model.trainable_variables]
    for now, before in zip(arrays(model.trainable_variables), start, strict=True):
        np.testing.assert_array_equal(now, before)
    assert all((now != before).any() for now, before in zip(arrays(averages), averages_before, strict=True))
    assert int(step.global_step) == 0


def test_forward_is_inference():
    model = make_model()
    images, _ = make_batch()
    before = arrays(model.variables_by_name.values())
    step = make_step(model)
    logits = step.forward(images)
    np.testing.assert_allclose(logits, model(images, training=False)[0], rtol=1e-6)
    for now, old in zip(arrays(model.variables_by_name.values()), before, strict=True):
        np.testing.assert_array_equal(now, old)


def test_a_checkpoint_of_a_step_names_everything():
    model = make_model()
    names = make_step(model).variables_by_name
    trainable = [name for name, value in model.variables_by_name.items() if value.trainable]
    assert list(names) == [
        "global_step",
        *(f"{name}/Momentum" for name in trainable),
        "loss_scale",
        "loss_scale_finite_steps",
    ]


def test_a_step_without_an_optimizer_serves_the_benchmark():
    step = TrainStep(make_model(), optimizer=None, learning_rate_fn=None)
    assert np.isfinite(step.forward_backward(*make_batch())[0])
    assert "global_step" in step.variables_by_name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_training_learns_in_every_precision(dtype):
    """The same batch over and over: the loss must fall far below that of guessing, ln 3."""
    step = make_step(make_model(compute_dtype=dtype, weight_decay=0.0))
    images, labels = make_batch()
    first = float(step.step(images, labels)["cross_entropy"])
    for _ in range(11):
        last = step.step(images, labels)
    assert first > 0.5
    assert float(last["cross_entropy"]) < 0.2 * first
    assert float(last["top_1"]) == 1.0


def test_low_precision_computes_in_low_precision_and_keeps_float32_weights():
    images, labels = make_batch()
    exact = make_model()
    rough = make_model(compute_dtype="bfloat16")
    assert all(value.dtype == tf.float32 for value in rough.variables_by_name.values())
    difference = np.abs(exact(images)[0] - rough(images)[0]).max()
    assert 0 < difference < 0.1
    step = make_step(rough)
    gradients = step.forward_backward(images, labels)[1]
    assert all(gradient.dtype == tf.float32 for gradient in gradients)


def test_only_float16_scales_its_loss():
    for dtype, scale in (("float32", 1.0), ("bfloat16", 1.0), ("float16", 2.0**15)):
        held = make_step(make_model(compute_dtype=dtype)).loss_scale.variables_by_name
        assert held["loss_scale"].numpy() == scale


def test_a_float16_step_is_a_float32_step_whatever_the_scale():
    """The scale must cancel out of the update."""
    images, labels = make_batch()
    exact = make_model()
    step = make_step(exact)
    step.step(images, labels)
    for scale in (1.0, 1024.0):
        rough = make_model(compute_dtype="float16")
        step = make_step(rough)
        step.loss_scale.variables_by_name["loss_scale"].assign(scale)
        step.step(images, labels)
        start = make_model()
        for name, value in start.variables_by_name.items():
            wanted = exact.variables_by_name[name] - value
            np.testing.assert_allclose(rough.variables_by_name[name] - value, wanted, atol=0.03, err_msg=name)


def test_forward_backward_takes_the_scale_off_its_gradients():
    images, labels = make_batch()
    step = make_step(make_model(compute_dtype="float16"))
    found = []
    for scale in (1.0, 1024.0):
        step.loss_scale.variables_by_name["loss_scale"].assign(scale)
        _, gradients = step.forward_backward(images, labels)
        found.append(np.concatenate([gradient.numpy().ravel() for gradient in gradients]))
    assert np.linalg.norm(found[1] - found[0]) < 0.05 * np.linalg.norm(found[0])


def test_an_overflow_in_float16_drops_the_step():
    model = make_model(compute_dtype="float16")
    step = make_step(model)
    images, labels = make_batch()
    for _ in range(2):
        step.step(images, labels)
    held = step.variables_by_name
    weights = arrays(model.trainable_variables)
    velocities = [value.numpy() for name, value in held.items() if name.endswith("/Momentum")]
    assert all(np.abs(velocity).max() > 0 for velocity in velocities)
    # No float16 holds the loss times this.
    held["loss_scale"].assign(2.0**30)
    step.step(images, labels)
    for now, before in zip(arrays(model.trainable_variables), weights, strict=True):
        np.testing.assert_array_equal(now, before)
    after = [value.numpy() for name, value in held.items() if name.endswith("/Momentum")]
    for now, before in zip(after, velocities, strict=True):
        np.testing.assert_array_equal(now, before)
    assert held["loss_scale"].numpy() == 2.0**29
    assert held["loss_scale_finite_steps"].numpy() == 0
    assert int(step.global_step) == 3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mixed_label_counts_by_its_parts(smoothing):
    model = make_model()
    images, labels = make_batch()
    parts = np.float32(0.75 * np.eye(CLASSES)[labels.numpy()] + 0.25 * np.eye(CLASSES)[labels.numpy()[::-1]])
    log_probabilities = log_softmax(model(images, training=True)[0])
    targets = parts * (1 - smoothing) + smoothing / CLASSES
    step = make_step(model, smoothing)
    metrics = step.step(images, tf.constant(parts))
    assert float(metrics["cross_entropy"]) == pytest.approx(-(targets * log_probabilities).sum(axis=1).mean(), rel=1e-5)
    # An image of two classes is right as the greater part.
    hits = log_probabilities.argmax(axis=1) == labels.numpy()
    assert float(metrics["top_1"]) == pytest.approx(hits.mean())


def test_parts_of_one_class_are_that_class():
    images, labels = make_batch()
    steps = [make_step(make_model()) for _ in range(2)]
    results = [
        step.step(images, given) for step, given in zip(steps, (labels, tf.one_hot(labels, CLASSES)), strict=True)
    ]
    for name in ("loss", "top_1"):
        assert float(results[0][name]) == pytest.approx(float(results[1][name]), rel=1e-6)


def test_decay_waits_for_the_other_gradients():
    """An executor that may choose computes it first, and keeps the memory of all weights through the step."""
    step = make_step(make_model())  # Kept, since the function holds it weakly.
    graph = step.step.get_concrete_function(*make_batch()).graph
    operations = graph.get_operations()
    gradients = {operation for operation in operations if operation.type == "Conv2DBackpropFilter"}
    decays = [operation for operation in operations if operation.type == "L2Loss"]
    assert len(gradients) == 7 and len(decays) == 8  # That of the logits' 1x1 is a matrix product.
    for operation in decays:
        read = operation.inputs[0].op
        assert read.type == "ReadVariableOp" and gradients <= set(read.control_inputs)
