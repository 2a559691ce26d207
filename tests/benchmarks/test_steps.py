"""What is computed in the steps that are timed, on a network small enough for a test."""

import dataclasses
import math
import time

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import engines, grid, measuring, printing, steps
from benchmarks.time_forward_backward import TimingConfig
from nets import nets_factory

TINY = grid.Configuration(
    model="resnet_cifar_v1_20",
    engine="tensorflow",
    precision="float32",
    batch_size=2,
    image_size=16,
    num_classes=10,
    num_batches=3,
    burn_in=1,
)


def test_parameters_and_multiply_adds_are_those_of_the_paper():
    # At the network's own 32 pixels. 0.27 M parameters: arXiv:1512.03385, table 6.
    (configuration,) = grid.expand(TimingConfig(model="resnet_cifar_v1_20", batch_size="2", num_classes=10))
    setup, _ = steps.build_steps(configuration)
    assert setup.image_size == 32
    assert setup.parameters / 1e6 == pytest.approx(0.27, abs=0.005)
    assert setup.multiply_adds / 1e6 == pytest.approx(40.55, abs=0.01)


@pytest.fixture(scope="module")
def tiny_steps():
    return runs(TINY)


def runs(configuration):
    """{pass: function} of a configuration."""
    return {name: step.run for name, step in steps.build_steps(configuration)[1].items()}


def test_what_the_steps_compute(tiny_steps):
    logits = tiny_steps["forward"]()
    assert logits.shape == (2, 10)
    np.testing.assert_array_equal(logits, tiny_steps["forward"]())
    loss, gradients = tiny_steps["forward_backward"]()
    assert math.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert max(np.abs(gradient).max() for gradient in gradients) > 0
    # No update: the same step gives the same gradients, though batch norm saw a batch in between.
    _, again = tiny_steps["forward_backward"]()
    for gradient, same in zip(gradients, again, strict=True):
        np.testing.assert_array_equal(gradient, same)


def test_the_seed_decides_the_numbers(tiny_steps):
    def gradients(steps):
        return steps["forward_backward"]()[1]

    first = gradients(tiny_steps)
    same_seed = runs(TINY)
    for gradient, same in zip(first, gradients(same_seed), strict=True):
        np.testing.assert_array_equal(gradient, same)
    other_seed = runs(dataclasses.replace(TINY, seed=1))
    assert np.abs(first[0] - gradients(other_seed)[0]).max() > 0


def test_bfloat16_rounds(tiny_steps):
    rounded_steps = runs(dataclasses.replace(TINY, precision="bfloat16"))
    exact, rounded = float(tiny_steps["forward_backward"]()[0]), float(rounded_steps["forward_backward"]()[0])
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.1)


def test_a_training_step_moves_the_weights():
    step = runs(dataclasses.replace(TINY, passes=("train_step",)))["train_step"]
    losses = [float(step()["loss"]) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]


@pytest.fixture(scope="module")
def first_logits():
    """Of a network whose norms have not seen a batch."""
    return np.asarray(runs(TINY)["forward"]())


def test_norms_of_training_use_the_batch(first_logits):
    configuration = dataclasses.replace(TINY, passes=("forward",), forward_mode="training")
    logits = runs(configuration)["forward"]()
    assert np.abs(logits - first_logits).max() > 1e-3


@pytest.mark.parametrize(
    "engine", ["tensorflow", "xla", "onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_a_folded_network_computes_the_same_in_every_engine(engine, first_logits):
    if engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine, reason="needs slim-resnets[onnx,openvino]")
    configuration = dataclasses.replace(TINY, passes=("forward",), engine=engine, folded=True)
    step = steps.build_steps(configuration)[1]["forward"]
    step.prepare()
    logits = np.asarray(step.run()).reshape([2, 10])
    np.testing.assert_allclose(logits, first_logits, rtol=1e-4, atol=1e-4)


def test_a_step_returns_when_its_result_is_there():
    events = []

    def slow(value):
        time.sleep(0.3)
        events.append("done")
        return value

    function = tf.function(lambda value: tf.numpy_function(slow, [value], tf.float32))
    run_step = engines.make_step(lambda: function(1.0))
    # On a CPU only this mode returns before the work is done, as a GPU always does.
    tf.config.experimental.set_synchronous_execution(False)
    try:
        run_step()
        events.append("returned")
    finally:
        tf.config.experimental.set_synchronous_execution(True)
    assert events == ["done", "returned"]


def test_nothing_is_traced_on_the_clock(monkeypatch):
    create_model = nets_factory.create_model
    traced = []

    class CountingModel:
        def __init__(self, model):
            self._model = model

        def __call__(self, *args, **kwargs):
            traced.append(None)
            return self._model(*args, **kwargs)

        def __getattr__(self, name):
            return getattr(self._model, name)

    class Listener(printing.Printer):
        calls_when_timed = []

        def step(self, pass_name, index, step_seconds):
            self.calls_when_timed.append(len(traced))

    monkeypatch.setattr(nets_factory, "create_model", lambda *a, **k: CountingModel(create_model(*a, **k)))
    configuration = dataclasses.replace(TINY, num_batches=2, burn_in=0)
    measuring.time_configuration(configuration, Listener.of(configuration))
    first_pass, second_pass = Listener.calls_when_timed[:2], Listener.calls_when_timed[2:]
    assert first_pass[0] == first_pass[1] == 1
    assert second_pass[0] == second_pass[1] == 2
