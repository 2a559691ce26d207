"""Clipping, accumulation and decay in a step, against steps without them and against their formulas."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
from nets import nets_factory
from training import building, loop
from training.config import TrainConfig

BATCH, CLASSES, SIDE, RATE = 6, 3, training_toys.SIDE, 0.125
CONFIG = TrainConfig(
    model_name=training_toys.TINY,
    optimizer="sgd",
    opt_epsilon=1e-8,
    weight_decay=0.01,
    weight_decay_kind="l2",
    batch_norm_decay=0.5,
    label_smoothing=0.0,
    precision="float32",
)


def make_batch():
    images = np.random.default_rng(0).normal(size=[BATCH, SIDE, SIDE, 3]).astype(np.float32)
    return tf.constant(images), tf.constant([0, 1, 2, 2, 1, 0], tf.int32)


def make(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    model = building.make_model(config, CLASSES, 3, {})
    step, _ = building.make_step(config, model, lambda step: tf.constant(RATE), tf.distribute.get_strategy())
    return model, step


def moves(model, step, batch=None):
    """{name: how far a step moves it}, and the metrics."""
    before = {name: value.numpy() for name, value in model.variables_by_name.items()}
    metrics = step.step(*(batch or make_batch()))
    return {name: value.numpy() - before[name] for name, value in model.variables_by_name.items()}, metrics


def norm(moved):
    return np.sqrt(sum((value**2).sum() for name, value in moved.items() if "/moving_" not in name))


def test_a_long_gradient_is_shortened_to_the_norm_and_keeps_its_direction():
    free, _ = moves(*make())
    assert norm(free) > RATE * 0.5
    clipped, _ = moves(*make(clip_gradient_norm=0.25))
    assert norm(clipped) == pytest.approx(RATE * 0.25, rel=1e-3)
    for name, value in clipped.items():
        if "/moving_" not in name:
            np.testing.assert_allclose(value, free[name] * 0.25 * RATE / norm(free), rtol=1e-3, atol=1e-6, err_msg=name)


def test_a_short_gradient_is_left_alone():
    free, _ = moves(*make())
    clipped, _ = moves(*make(clip_gradient_norm=1e3))
    for name, value in clipped.items():
        np.testing.assert_allclose(value, free[name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_accumulated_parts_are_the_whole_batch_where_norms_stand_still(parts):
    """Norms of a frozen scope do not look at the batch, so no part differs from the whole."""
    frozen = {
        "trainable_scopes": f"{training_toys.TINY}/logits,{training_toys.TINY}/block3/unit_1/basic_v1/conv2/weights"
    }
    whole, whole_metrics = moves(*make(**frozen))
    accumulated, metrics = moves(*make(**frozen, gradient_accumulation_steps=parts))
    assert norm(whole) > 0.01
    for name, value in accumulated.items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for name, value in metrics.items():
        assert float(value) == pytest.approx(float(whole_metrics[name]), rel=1e-5), name


def test_accumulated_parts_move_the_averages_one_after_the_other():
    images, labels = make_batch()
    model, step = make(gradient_accumulation_steps=2)
    step.step(images, labels)
    one_by_one, _ = make()
    for part in (images[:3], images[3:]):
        one_by_one(part, training=True)
    for name, value in model.variables_by_name.items():
        if not value.trainable:
            np.testing.assert_allclose(
                value.numpy(), one_by_one.variables_by_name[name].numpy(), rtol=1e-4, atol=1e-6, err_msg=name
            )


def test_decoupled_decay_leaves_the_loss_and_moves_the_weights():
    plain, plain_metrics = moves(*make(weight_decay=0.0))
    model, step = make(weight_decay=0.5, weight_decay_kind="decoupled")
    before = {name: value.numpy() for name, value in model.variables_by_name.items()}
    decayed, metrics = moves(model, step)
    assert float(metrics["loss"]) == pytest.approx(float(plain_metrics["loss"]), rel=1e-6)
    for name, value in decayed.items():
        share = RATE * 0.5 if name.endswith("/weights") else 0.0
        np.testing.assert_allclose(value, plain[name] - share * before[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_l2_of_norms_and_biases_is_in_the_loss_where_asked_for():
    model, step = make(decay_norm_and_bias=True)
    squares = sum(float((value.numpy() ** 2).sum()) for value in model.trainable_variables)
    gammas = sum(float((value.numpy() ** 2).sum()) for value in model.trainable_variables if value.shape.rank == 1)
    assert gammas > 10  # Ones, as they begin.
    _, metrics = moves(model, step)
    assert float(metrics["loss"] - metrics["cross_entropy"]) == pytest.approx(0.01 * squares / 2, rel=1e-4)


@pytest.mark.slow
def test_every_option_together_goes_on_as_if_never_stopped(toy_dir, tmp_path):
    options = {
        "optimizer": "adamw",
        "learning_rate": 0.005,
        "gradient_accumulation_steps": 2,
        "clip_gradient_norm": 0.5,
        "moving_average_decay": 0.9,
        "warmup_steps": 3,
        "eval_every_epochs": 0.0,
    }
    parts = [
        loop.train(
            training_toys.toy_config(
                toy_dir, tmp_path / "parts", learning_rate_decay_type="constant", max_number_of_steps=steps, **options
            )
        )
        for steps in (4, 11)
    ]
    again = loop.train(
        training_toys.toy_config(
            toy_dir, tmp_path / "constant", learning_rate_decay_type="constant", max_number_of_steps=11, **options
        )
    )
    assert parts[1].evaluation == again.evaluation
    training_toys.assert_same_values(
        training_toys.values_in(parts[1].checkpoint), training_toys.values_in(again.checkpoint)
    )


def test_parts_that_do_not_divide_the_batch(toy_dir, tmp_path):
    config = training_toys.toy_config(toy_dir, tmp_path / "run", gradient_accumulation_steps=3)
    with pytest.raises(UserError, match="--gradient_accumulation_steps is 3, expected a divisor of the 4 images"):
        loop.train(config)


def test_the_settings_of_a_network_that_no_flag_decides_are_kept():
    model = building.make_model(CONFIG, CLASSES, 3, {"batch_norm_epsilon": 0.5, "num_classes": 9})
    assert (model.settings["batch_norm_epsilon"], model.num_classes) == (0.5, CLASSES)
    assert nets_factory.create_model(**model.settings).settings == model.settings
