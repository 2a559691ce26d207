"""Moving averages against TensorFlow's own, and their place in a run."""

import json

import numpy as np
import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
from inference import network
from nets import checkpoints, nets_factory
from nets.checkpoints import AVERAGE
from training import loop
from training.averages import MovingAverages
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint

VALUES = [1.0, 5.0, 2.0, 8.0]


def moved(decay):
    """(weight, average) after the values, one a step."""
    weight = tf.Variable(VALUES[0], name="net/weights")
    averages = MovingAverages({"net/weights": weight}, decay)
    (average,) = averages.variables_by_name.values()
    update = tf.function(averages.update, autograph=False)
    for step, value in enumerate(VALUES[1:]):
        weight.assign(value)
        update(tf.constant(step, tf.int64))
    return weight, average, averages


@pytest.mark.parametrize("decay", [0.15, 0.99])
def test_equals_tensorflows_average_with_its_name(decay):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        weight = tf.compat.v1.get_variable("net/weights", initializer=VALUES[0])
        steps = tf.compat.v1.placeholder(tf.int64, [])
        theirs = tf.train.ExponentialMovingAverage(decay, num_updates=steps)
        update = theirs.apply([weight])
        session.run(tf.compat.v1.global_variables_initializer())
        for step, value in enumerate(VALUES[1:]):
            weight.load(value, session)
            session.run(update, {steps: step})
        expected, name = session.run(theirs.average(weight)), theirs.average_name(weight)
    weight, average, averages = moved(decay)
    assert float(average) == pytest.approx(expected, rel=1e-6)
    assert list(averages.variables_by_name) == [name]
    assert float(weight) == VALUES[-1]


def test_in_place_and_back_again():
    weight, average, averages = moved(0.5)
    with pytest.raises(RuntimeError), averages.in_place():
        assert float(weight) == float(average) != VALUES[-1]
        raise RuntimeError
    assert float(weight) == VALUES[-1]
    averages.start()
    assert float(average) == VALUES[-1]


@pytest.fixture(scope="module")
def averaged(toy_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged") / "run"
    return folder, loop.train(training_toys.toy_config(toy_dir, folder, moving_average_decay=0.9))


def test_a_run_is_the_same_with_averages_and_scores_them(averaged, toy_dir, tmp_path):
    folder, result = averaged
    plain = loop.train(training_toys.toy_config(toy_dir, tmp_path / "plain"))
    values, plain_values = training_toys.values_in(result.checkpoint), training_toys.values_in(plain.checkpoint)
    names = [name for name in values if name.endswith("/ExponentialMovingAverage")]
    training_toys.assert_same_values({name: values[name] for name in values if name not in names}, plain_values)
    assert len(names) == sum(
        not name.endswith("/Momentum") for name in plain_values if name.startswith(training_toys.TINY)
    )
    assert result.evaluation["cross_entropy"] != plain.evaluation["cross_entropy"]
    again = evaluate_checkpoint(EvalConfig(checkpoint_path=folder, batch_size=4))
    assert again["cross_entropy"] == result.evaluation["cross_entropy"]
    unaveraged = evaluate_checkpoint(EvalConfig(checkpoint_path=folder, batch_size=4, moving_averages=False))
    assert unaveraged["cross_entropy"] == plain.evaluation["cross_entropy"]
    with pytest.raises(UserError, match="holds no moving averages: train with --moving_average_decay"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "plain", moving_averages=True))


def averages_in(prefix):
    values = training_toys.values_in(prefix)
    return {name: values[name + AVERAGE] for name in values if name + AVERAGE in values}


def test_whoever_loads_the_network_gets_what_was_scored(averaged):
    """Export, prediction, features and conversion load networks so."""
    folder, result = averaged
    expected = averages_in(result.checkpoint)
    for model in (nets_factory.load_model(folder)[0], network.load(folder).model):
        found = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
        training_toys.assert_same_values(found, expected)
    weights = training_toys.values_in(result.checkpoint)
    model.restore(folder, moving_averages=False)
    for name, variable in model.variables_by_name.items():
        np.testing.assert_array_equal(variable, weights[name])


def test_what_has_no_average_is_taken_as_it_is(tmp_path):
    """Many programs average what they train, and batch norm's statistics not again."""
    model = nets_factory.create_model(training_toys.TINY, 3, seed=1)
    other = nets_factory.create_model(training_toys.TINY, 3, seed=2)
    values = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
    trained = {name + AVERAGE: other.variables_by_name[name].numpy() + 1 for name in values if "/moving_" not in name}
    checkpoints.write(tmp_path / "model.ckpt", values | trained)
    model.restore(tmp_path / "model.ckpt")
    for name, variable in model.variables_by_name.items():
        np.testing.assert_array_equal(variable, trained.get(name + AVERAGE, values[name]), err_msg=name)


def test_a_run_begins_with_the_averages_of_its_source(averaged, toy_dir, tmp_path, capsys):
    """Steps of rate 1e-30 and averages that stand still change nothing: what is saved is what was restored."""
    folder, source = averaged
    options = {"learning_rate": 1e-30, "batch_norm_decay": 1.0, "max_number_of_steps": 2}
    config = training_toys.toy_config(toy_dir, tmp_path / "run", checkpoint_path=str(folder), **options)
    result = loop.train(config)
    found, expected = training_toys.values_in(result.checkpoint), averages_in(source.checkpoint)
    training_toys.assert_same_values({name: found[name] for name in expected}, expected)
    assert result.evaluation["cross_entropy"] == source.evaluation["cross_entropy"]
    report = json.loads((tmp_path / "run" / "fine_tuning.json").read_text(encoding="utf-8"))
    assert report["moving_averages"] is True and sorted(report["restored"]) == sorted(expected)
    assert not {name + AVERAGE for name in expected} & set(report["skipped"])
    assert f"{len(expected)} moving averages of variables restored" in capsys.readouterr().out
