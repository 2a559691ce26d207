"""Moving averages against TensorFlow's own, and their place in a run."""

import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
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
    with pytest.raises(UserError, match="--moving_averages, but .* holds none"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "plain", moving_averages=True))
