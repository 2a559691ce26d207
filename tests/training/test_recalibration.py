"""Batch norm's statistics measured anew, against statistics worked out in NumPy; and the warning that asks for it."""

import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
from nets import checkpoints, nets_factory
from training import curves, loop, recalibration
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from training.evaluation import Evaluator
from training.workers import Workers

NET = training_toys.TINY
# Few steps with slow averages: they are almost where they began, at mean 0 and variance 1.
SLOW = {"batch_norm_decay": 0.999, "eval_every_epochs": 0.0, "num_epochs": 4.0}


def one_process():
    workers = Workers()
    workers.strategy = tf.distribute.get_strategy()
    return workers


def make_batches(count=3):
    random = np.random.default_rng(0)
    return [tf.constant(random.normal(number, 2.0, [4, 8, 8, 3]).astype(np.float32)) for number in range(count)]


def make_model():
    return nets_factory.create_model(NET, 3, batch_norm_decay=0.9)


def of_norms(values):
    return {name: value for name, value in values.items() if "/moving_" in name and "/Exponential" not in name}


def test_statistics_are_the_mean_of_those_of_the_batches():
    """Of the first norm by hand: what the root's convolution gives, its mean and its variance with n - 1."""
    model, batches = make_model(), make_batches()
    before = {name: value.numpy() for name, value in model.variables_by_name.items()}
    statistics, count = recalibration.estimate(model, batches, 12)
    assert count == 12
    kernel = model.variables_by_name[f"{NET}/conv1/weights"]
    outputs = [tf.nn.conv2d(images, kernel, 1, "SAME").numpy().reshape(-1, 16) for images in batches]
    np.testing.assert_allclose(
        statistics[f"{NET}/conv1/BatchNorm/moving_mean"],
        np.mean([values.mean(axis=0) for values in outputs], axis=0),
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        statistics[f"{NET}/conv1/BatchNorm/moving_variance"],
        np.mean([values.var(axis=0, ddof=1) for values in outputs], axis=0),
        rtol=1e-4,
    )
    assert statistics.keys() == of_norms(before).keys()
    for name, value in model.variables_by_name.items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)


def test_the_order_of_the_batches_does_not_matter():
    model, batches = make_model(), make_batches(4)
    forwards, _ = recalibration.estimate(model, batches, 16)
    backwards, _ = recalibration.estimate(model, batches[::-1], 16)
    for name, value in forwards.items():
        np.testing.assert_allclose(value, backwards[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_of_a_batch_in_parts_each_part_is_normalized_by_itself():
    model, batches = make_model(), make_batches()
    halves = [half for images in batches for half in tf.split(images, 2)]
    expected, _ = recalibration.estimate(model, halves, 12)
    statistics, count = recalibration.estimate(model, batches, 12, parts=2)
    whole, _ = recalibration.estimate(model, batches, 12)
    assert count == 12
    for name, value in expected.items():
        np.testing.assert_array_equal(statistics[name], value, err_msg=name)
    assert any(np.abs(whole[name] - value).max() > 1e-3 for name, value in expected.items())


def test_no_more_batches_are_taken_than_are_needed():
    batches = iter(make_batches(4))
    _, count = recalibration.estimate(make_model(), batches, 5)
    assert count == 8 and len(list(batches)) == 2


def test_norms_that_do_not_use_the_batch_keep_their_statistics():
    model = make_model()
    for name, value in of_norms(model.variables_by_name).items():
        value.assign(tf.fill(value.shape, 0.3 if name.endswith("mean") else 1.7))
    statistics, _ = recalibration.estimate(model, make_batches(), 12, lambda scope: "/block3/" in scope)
    for name, value in statistics.items():
        kept = (value == np.float32(0.3 if name.endswith("mean") else 1.7)).all()
        assert kept == ("/block3/" not in name), name


@pytest.fixture(scope="module")
def slow_run(toy_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow") / "run"
    return folder, loop.train(training_toys.toy_config(toy_dir, folder, **SLOW))


def test_a_run_ends_with_statistics_that_fit_its_weights(slow_run, toy_dir, tmp_path, capsys):
    folder, slow = slow_run
    config = training_toys.toy_config(toy_dir, tmp_path / "run", **SLOW, recalibrate_batch_norm=30)
    result = loop.train(config)
    assert "batch norm's statistics measured anew on 32 training images" in capsys.readouterr().out
    assert result.evaluation["cross_entropy"] < 0.5 * slow.evaluation["cross_entropy"]
    ours, theirs = training_toys.values_in(result.checkpoint), training_toys.values_in(slow.checkpoint)
    different = {name for name in ours if np.asarray(ours[name]).tobytes() != np.asarray(theirs[name]).tobytes()}
    assert different == set(of_norms(ours))

    # The evaluator does the same to a run that has ended without: the same batches, the same numbers.
    later = evaluate_checkpoint(EvalConfig(checkpoint_path=folder, batch_size=4, recalibrate_batch_norm=30))
    assert later["cross_entropy"] == pytest.approx(result.evaluation["cross_entropy"], rel=1e-5)
    assert later["confusion_matrix"] == result.evaluation["confusion_matrix"]


def test_where_all_norms_are_frozen_nothing_is_measured(slow_run, toy_dir, tmp_path, capsys):
    folder, _ = slow_run
    changes = {"checkpoint_path": str(folder), "fine_tune": True, "max_number_of_steps": 1}
    config = training_toys.toy_config(toy_dir, tmp_path / "run", **SLOW | changes, recalibrate_batch_norm=8)
    loop.train(config)
    said = capsys.readouterr().out
    assert "--recalibrate_batch_norm has no effect: all norms are frozen" in said and "measured anew" not in said


def test_a_run_that_has_ended_without_is_taken_up_for_it(slow_run, toy_dir, tmp_path, monkeypatch):
    """It ends as one that was begun with the flag; stopped while it measures, it is taken up once more."""
    folder, slow = slow_run
    shutil.copytree(folder, tmp_path / "later")
    wanted = SLOW | {"recalibrate_batch_norm": 30}
    at_once = loop.train(training_toys.toy_config(toy_dir, tmp_path / "at_once", **wanted))
    config = training_toys.toy_config(toy_dir, tmp_path / "later", **wanted)

    def stopped(model, batches, *args):
        os.kill(os.getpid(), signal.SIGTERM)
        return estimate(model, batches, *args)

    estimate = recalibration.estimate
    with monkeypatch.context() as patch:
        patch.setattr(recalibration, "estimate", stopped)
        assert not loop.train(config).finished
    assert training_toys.values_in(tmp_path / "later" / f"model.ckpt-{slow.step}").keys()
    later = loop.train(config)
    assert (later.step, later.evaluation) == (slow.step, at_once.evaluation)
    training_toys.assert_same_values(
        training_toys.values_in(later.checkpoint), training_toys.values_in(at_once.checkpoint)
    )
    *_, last = curves.read(tmp_path / "later")
    assert (last["kind"], last["step"], last["top_1"]) == ("evaluation", slow.step, later.evaluation["top_1"])
    # Once is enough.
    monkeypatch.setattr(recalibration, "estimate", None)
    assert loop.train(config).evaluation == later.evaluation


def test_of_moving_averages_it_is_their_own_statistics_that_are_measured(toy_dir, tmp_path):
    options = SLOW | {"recalibrate_batch_norm": 30, "moving_average_decay": 0.5, "max_number_of_steps": 6}
    result = loop.train(training_toys.toy_config(toy_dir, tmp_path / "run", **options))
    values = training_toys.values_in(result.checkpoint)
    for name, value in of_norms(values).items():
        average = values[f"{name}/ExponentialMovingAverage"]
        if name.endswith("/moving_variance"):
            # The weights' own have hardly moved from 1 in six steps; those of the averages were measured.
            assert np.abs(value - 1.0).max() < 0.1 < np.abs(average - 1.0).max(), name
    again = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "run", batch_size=4))
    assert again["cross_entropy"] == result.evaluation["cross_entropy"]


def test_a_foreign_checkpoint_has_no_training_batches(toy_dir, tmp_path):
    model = nets_factory.create_model(NET, 3)
    model.save(tmp_path / "foreign.ckpt")
    config = EvalConfig(
        checkpoint_path=tmp_path / "foreign.ckpt", model_name=NET, dataset_dir=str(toy_dir), recalibrate_batch_norm=8
    )
    with pytest.raises(UserError, match="--recalibrate_batch_norm needs the batches of the training, but no m"):
        evaluate_checkpoint(config)


class Sure:
    """Stands for a network that answers what the first pixel says."""

    def __call__(self, images, training=False):
        return images[:, 0, 0, :], {}


def check_after(top_1, right, batch_size=32, count=2):
    """The warning after steps of a training top-1 where so many images of each batch are right in evaluation."""
    check = recalibration.ModeCheck(one_process(), batch_size)
    images = np.zeros([batch_size, 2, 2, 3], np.float32)
    images[:, :, :, 1] = 1.0
    labels = np.int32([1] * right + [2] * (batch_size - right))
    for _ in range(count):
        check.add(tf.constant(images), tf.constant(labels), {"top_1": tf.constant(top_1)})
    return check.warning(Evaluator(Sure()))


def test_modes_that_are_apart_are_warned_of_with_the_flags_that_help():
    text = check_after(top_1=1.0, right=16)
    assert text.startswith("warning: on the last 64 training images top-1 is 1.0000 with") and "but 0.5000 with" in text
    assert "--batch_norm_decay" in text and "--recalibrate_batch_norm" in text and "\n" not in text


# Better in evaluation is what averaged weights do, and nothing to mend.
@pytest.mark.parametrize(("top_1", "right", "count"), [(0.5, 16, 2), (0.59, 16, 2), (1.0, 16, 1), (0.3, 32, 2)])
def test_modes_that_agree_and_too_few_images_are_not(top_1, right, count):
    assert check_after(top_1, right, count=count) is None


def test_only_the_last_steps_count():
    check = recalibration.ModeCheck(one_process(), 32)
    images, labels = tf.zeros([32, 2, 2, 3]), tf.zeros([32], tf.int32)
    for top_1 in (0.0, 0.0, 1.0, 1.0, 1.0, 1.0):
        check.add(images, labels, {"top_1": tf.constant(top_1)})
    assert check.warning(Evaluator(Sure())) is None


def test_mixed_images_count_as_their_greater_part():
    check = recalibration.ModeCheck(one_process(), 64)
    parts = tf.constant([[0.7, 0.3, 0.0]] * 64)
    check.add(tf.zeros([64, 2, 2, 3]), parts, {"top_1": tf.constant(1.0)})
    assert check.warning(Evaluator(Sure())) is None


def test_a_run_whose_averages_trail_behind_warns(tmp_path, toy_dir, capsys):
    """Batches of 16 images, so that the last steps show 64."""
    config = training_toys.toy_config(toy_dir, tmp_path / "run", **SLOW | {"batch_size": 16, "num_epochs": 8.0})
    loop.train(config)
    err = capsys.readouterr().err
    assert err.startswith("warning: on the last") and err.count("\n") == 1
    assert checkpoints.find(config.train_dir).endswith("model.ckpt-11")


def test_of_moving_averages_it_is_their_network_that_is_compared(tmp_path, toy_dir, monkeypatch):
    seen = {}

    def warning(check, evaluator):
        seen.update({name: value.numpy() for name, value in evaluator._model.variables_by_name.items()})

    monkeypatch.setattr(recalibration.ModeCheck, "warning", warning)
    options = {"moving_average_decay": 0.5, "eval_every_epochs": 0.0, "max_number_of_steps": 3}
    values = training_toys.values_in(loop.train(training_toys.toy_config(toy_dir, tmp_path, **options)).checkpoint)
    averages = {name: values[f"{name}/ExponentialMovingAverage"] for name in seen}
    training_toys.assert_same_values(seen, averages)
    assert any(np.abs(values[name] - average).max() > 1e-3 for name, average in averages.items())
