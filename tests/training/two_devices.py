"""Training on two devices, checked in a process of its own, since TensorFlow divides its CPU once, at the start.

    python two_devices.py FOLDER

FOLDER holds the toy data set and gets the runs. Prints, as the last line, {check: None or its traceback} as JSON;
test_two_devices.py runs this file and reads it.
"""

import functools
import json
import pathlib
import sys
import traceback

import numpy as np
import tensorflow as tf
import training_toys

from command_line import UserError
from nets import checkpoints, nets_factory
from training import building, devices, loop
from training.config import TrainConfig
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from training.evaluation import Evaluator
from training.optimizers import make_momentum, make_optimizer
from training.step import TrainStep

CLASSES, SIDE = 3, training_toys.SIDE
HALF = np.random.default_rng(0).normal(size=[4, SIDE, SIDE, 3]).astype(np.float32)
OTHER_HALF = np.random.default_rng(1).normal(loc=1.0, size=[4, SIDE, SIDE, 3]).astype(np.float32)
HALF_LABELS = np.int32([0, 1, 2, 1])


@functools.cache
def make_strategy():
    # One for all: each strategy numbers its collectives from the same number on, and TensorFlow takes those of two
    # strategies for one and the same.
    return tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])


def make(strategy, **settings):
    with strategy.scope():
        model = nets_factory.create_model(
            training_toys.TINY, CLASSES, weight_decay=0.01, batch_norm_decay=0.5, **settings
        )
        trainable = {name: value for name, value in model.variables_by_name.items() if value.trainable}
        optimizer = make_momentum(trainable)
    return model, TrainStep(model, optimizer, lambda step: tf.constant(0.1), strategy, label_smoothing=0.1)


def run_steps(strategy, step, images, labels, count=3):
    """The same batch again and again, each device's part of it by hand: a distributed iterator is slow to delete."""

    def parts_of(values):
        parts = np.split(values, strategy.num_replicas_in_sync)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    return [step.step(parts_of(images), parts_of(labels)) for _ in range(count)]


def trained(strategy, images, labels, **settings):
    model, step = make(strategy, **settings)
    metrics = run_steps(strategy, step, images, labels)
    return model, step, metrics


@functools.cache
def trained_on_different_halves(**settings):
    """The strategy, and what `trained` makes of a batch whose halves differ; not to be trained further."""
    strategy = make_strategy()
    return strategy, *trained(strategy, *halves(OTHER_HALF), **settings)


def halves(second=HALF):
    return np.concatenate([HALF, second]), np.concatenate([HALF_LABELS, HALF_LABELS])


def values_of(model, step):
    return {name: tf.convert_to_tensor(value).numpy() for name, value in (model.variables_by_name | step).items()}


def check_two_devices_do_what_one_does(folder):
    """Both hold the same half, so that the statistics of each are those of the whole."""
    mirrored = make_strategy()
    assert mirrored.num_replicas_in_sync == 2
    model, step, metrics = trained(mirrored, *halves())
    one_device = tf.distribute.OneDeviceStrategy("/cpu:0")
    one_model, one_step, one_metrics = trained(one_device, *halves())
    # The moving variance holds n / (n - 1) of n images: that of one device with a half is the one to compare with.
    half_model, _, _ = trained(one_device, HALF, HALF_LABELS)
    ours, theirs = values_of(model, step.variables_by_name), values_of(one_model, one_step.variables_by_name)
    assert ours.keys() == theirs.keys()
    start = nets_factory.create_model(training_toys.TINY, CLASSES)
    for name, value in ours.items():
        moving_variance = name.endswith("/moving_variance")
        wanted = half_model.variables_by_name[name].numpy() if moving_variance else theirs[name]
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-5, err_msg=name)
    for name, value in start.variables_by_name.items():
        assert (value.numpy() != ours[name]).any(), f"{name} has not moved"
    assert ours["global_step"] == 3
    for got, wanted in zip(metrics, one_metrics, strict=True):
        assert got.keys() == wanted.keys()
        for name in wanted:
            np.testing.assert_allclose(got[name], wanted[name], rtol=1e-4, err_msg=name)


def check_weights_and_velocities_stay_equal_on_both_devices(folder):
    strategy, model, step, _ = trained_on_different_halves()
    mirrored = {name: value for name, value in model.variables_by_name.items() if value.trainable}
    for name, value in (mirrored | step.variables_by_name).items():
        first, second = (local.numpy() for local in strategy.experimental_local_results(value))
        np.testing.assert_array_equal(first, second, err_msg=name)


def check_norms_over_both_devices_do_what_they_do_on_one(folder):
    """On halves that differ; the moving variances, and the gradient's way through the statistics, too."""
    _, model, step, metrics = trained_on_different_halves(sync_batch_norm=True)
    one = tf.distribute.OneDeviceStrategy("/cpu:0")
    one_model, one_step, one_metrics = trained(one, *halves(OTHER_HALF), sync_batch_norm=True)
    ours, theirs = values_of(model, step.variables_by_name), values_of(one_model, one_step.variables_by_name)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(metrics[-1]["loss"], one_metrics[-1]["loss"], rtol=1e-4)
    # Norms of each half by itself would have given something else.
    _, _, _, apart = trained_on_different_halves()
    assert abs(float(apart[-1]["loss"]) - float(metrics[-1]["loss"])) > 1e-3


def check_the_gradient_is_that_of_the_mean_over_the_whole_batch(folder):
    """One step from the start is minus the rate times the mean of the halves' gradients."""
    strategy = make_strategy()
    model, step = make(strategy)
    run_steps(strategy, step, *halves(OTHER_HALF), count=1)
    start, alone = make(tf.distribute.OneDeviceStrategy("/cpu:0"))
    # Gradients in training do not depend on the moving averages, which the first call moves.
    gradients = [
        alone.forward_backward(tf.constant(images), tf.constant(HALF_LABELS))[1] for images in (HALF, OTHER_HALF)
    ]
    rows = zip(model.trainable_variables, start.trainable_variables, *gradients, strict=True)
    for now, before, first, second in rows:
        wanted = before.numpy() - 0.1 * (first.numpy() + second.numpy()) / 2
        np.testing.assert_allclose(now.numpy(), wanted, rtol=1e-4, atol=1e-5, err_msg=before.name)


def check_moving_averages_differ_by_device_and_are_read_saved_and_scored_as_their_mean(folder):
    strategy, model, step, _ = trained_on_different_halves()
    averages = {name: value for name, value in model.variables_by_name.items() if not value.trainable}
    means = {}
    for name, value in averages.items():
        first, second = (local.numpy() for local in strategy.experimental_local_results(value))
        assert (first != second).any(), name
        means[name] = (first + second) / 2
        np.testing.assert_allclose(tf.convert_to_tensor(value), means[name], rtol=1e-6, err_msg=name)
    prefix = folder / "averages" / "model.ckpt-3"
    checkpoints.write(prefix, model.variables_by_name | step.variables_by_name)
    saved = training_toys.values_in(prefix)
    for name, mean in means.items():
        np.testing.assert_allclose(saved[name], mean, rtol=1e-6, err_msg=name)

    alone = nets_factory.create_model(training_toys.TINY, CLASSES)
    alone.restore(prefix)
    batch = [(tf.constant(HALF), tf.constant(HALF_LABELS))]
    ours = Evaluator(model).evaluate(batch, "abc")
    theirs = Evaluator(alone).evaluate(batch, "abc")
    np.testing.assert_allclose(ours["cross_entropy"], theirs["cross_entropy"], rtol=1e-5)

    again, again_step = make(strategy)
    checkpoints.restore(prefix, again.variables_by_name | again_step.variables_by_name)
    for name, value in (again.variables_by_name | again_step.variables_by_name).items():
        for local in strategy.experimental_local_results(value):
            np.testing.assert_array_equal(local.numpy(), saved[name], err_msg=name)


def check_both_devices_score_every_image_once_and_in_order(folder):
    strategy, model, _, _ = trained_on_different_halves()
    alone = nets_factory.create_model(training_toys.TINY, CLASSES)
    for name, value in model.variables_by_name.items():
        alone.variables_by_name[name].assign(tf.convert_to_tensor(value))
    images = np.concatenate([HALF, OTHER_HALF, -HALF])[:11]
    labels = np.arange(11, dtype=np.int32) % CLASSES
    # Three full turns of two devices would be 12: the last turn is one batch, and that is short.
    batches = list(tf.data.Dataset.from_tensor_slices((images, labels)).batch(4))
    evaluator = Evaluator(model, strategy.extended.worker_devices)
    for _ in range(2):
        ours, theirs = evaluator.predictions(batches), Evaluator(alone).predictions(batches)
        for got, wanted in zip(ours, theirs, strict=True):
            for name in ("labels", "top_5", "images"):
                np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
            np.testing.assert_allclose(got.cross_entropy, wanted.cross_entropy, rtol=1e-5)
        # A later pass scores later weights.
        for network in (model, alone):
            name = next(name for name in network.variables_by_name if name.endswith("logits/weights"))
            network.variables_by_name[name].assign(-network.variables_by_name[name])
    places = {variable.device for _, copy in evaluator._networks for variable in copy.trainable_variables}
    assert {place[-5:] for place in places} == {"CPU:0", "CPU:1"}, places


def check_an_overflow_halves_the_scale_once(folder):
    strategy = make_strategy()
    model, step, _ = trained(strategy, *halves(OTHER_HALF), compute_dtype="float16")
    held = step.variables_by_name
    before = values_of(model, held)
    held["loss_scale"].assign(2.0**30)
    run_steps(strategy, step, *halves(OTHER_HALF), count=1)
    for local in strategy.experimental_local_results(held["loss_scale"]):
        assert local.numpy() == 2.0**29
    after = values_of(model, held)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    moving = [name for name, value in model.variables_by_name.items() if not value.trainable]
    assert set(changed) <= {*moving, "global_step", "loss_scale", "loss_scale_finite_steps"}, changed
    assert after["global_step"] == 4


def statistics_come_back_to_each_device(strategy, model, step, averages):
    """After halves that differ, each device has statistics of its own, and has them again after the averages."""
    run_steps(strategy, step, *halves(OTHER_HALF), count=1)

    def locals_of():
        values = [value for value in model.variables_by_name.values() if not value.trainable]
        return [local.numpy() for value in values for local in strategy.experimental_local_results(value)]

    before = locals_of()
    with averages.in_place():
        assert any((now != old).any() for now, old in zip(locals_of(), before, strict=True))
    assert (before[0] != before[1]).any()
    for now, old in zip(locals_of(), before, strict=True):
        np.testing.assert_array_equal(now, old)


def check_options_do_on_two_devices_what_they_do_on_one(folder):
    """Both hold the same halves again; the order of a batch of two parts is such that norms see the same parts."""
    config = TrainConfig(
        model_name=training_toys.TINY,
        optimizer="adam",
        opt_epsilon=0.1,
        weight_decay=0.01,
        weight_decay_kind="decoupled",
        batch_norm_decay=0.5,
        label_smoothing=0.1,
        clip_gradient_norm=0.5,
        gradient_accumulation_steps=2,
        moving_average_decay=0.9,
        precision="float32",
    )
    found = []
    for strategy, batch in ((make_strategy(), halves()), (tf.distribute.OneDeviceStrategy("/cpu:0"), None)):
        with strategy.scope():
            model = building.make_model(config, CLASSES, 3, {})
        step, averages = building.make_step(config, model, lambda step: tf.constant(0.1), strategy)
        metrics = run_steps(strategy, step, *(batch or (HALF, HALF_LABELS)))
        found.append((values_of(model, step.variables_by_name), metrics))
        before = values_of(model, {})
        with averages.in_place():
            held = values_of(model, {})
            for name, value in model.variables_by_name.items():
                average = found[-1][0][f"{name}/ExponentialMovingAverage"]
                np.testing.assert_allclose(tf.convert_to_tensor(value).numpy(), average, rtol=1e-6, err_msg=name)
        assert any((held[name] != before[name]).any() for name in before)
        for name, value in values_of(model, {}).items():
            np.testing.assert_array_equal(value, before[name], err_msg=name)
        if strategy.num_replicas_in_sync == 2:
            statistics_come_back_to_each_device(strategy, model, step, averages)
    (ours, our_metrics), (theirs, their_metrics) = found
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-3, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(our_metrics[-1]["loss"], their_metrics[-1]["loss"], rtol=1e-4)


def check_an_overflow_is_dropped_by_adam_on_both_devices(folder):
    strategy = make_strategy()
    with strategy.scope():
        model = nets_factory.create_model(training_toys.TINY, CLASSES, compute_dtype="float16")
        trainable = {name: value for name, value in model.variables_by_name.items() if value.trainable}
        optimizer = make_optimizer(TrainConfig(optimizer="adam", opt_epsilon=1e-3, weight_decay_kind="l2"), trainable)
    step = TrainStep(model, optimizer, lambda step: tf.constant(0.1), strategy)
    run_steps(strategy, step, *halves(OTHER_HALF), count=1)
    held = step.variables_by_name
    before = values_of(model, held)
    held["loss_scale"].assign(2.0**30)
    run_steps(strategy, step, *halves(OTHER_HALF), count=1)
    after = values_of(model, held)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    moving = {name for name, value in model.variables_by_name.items() if not value.trainable}
    assert changed <= moving | {"global_step", "loss_scale", "loss_scale_finite_steps"}, changed


def check_the_trainer_runs_on_two_devices(folder):
    config = training_toys.toy_config(folder / "toy", folder / "run")
    result = loop.train(config)
    assert result.step == 11
    again = evaluate_checkpoint(EvalConfig(checkpoint_path=config.train_dir))
    assert again["confusion_matrix"] == result.evaluation["confusion_matrix"]
    np.testing.assert_allclose(again["cross_entropy"], result.evaluation["cross_entropy"], rtol=1e-4)


def check_a_batch_that_the_devices_cannot_share_is_an_error(folder):
    config = training_toys.toy_config(folder / "toy", folder / "odd", batch_size=3)
    try:
        loop.train(config)
    except UserError as error:
        assert "--batch_size is 3, expected a multiple of the 2 devices" in str(error)
    else:
        raise AssertionError("no error")


CHECKS = {name: value for name, value in list(globals().items()) if name.startswith("check_")}


def main(folder):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    training_toys.add_tiny_networks(nets_factory.NETWORKS)
    devices.make_strategy = lambda config, workers, flags: setattr(workers, "strategy", make_strategy())
    results = {}
    for name, check in CHECKS.items():
        try:
            check(folder)
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
    print(json.dumps(results))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
