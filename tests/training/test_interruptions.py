"""Runs that are interrupted: they save, and taken up again they end as if nothing had been."""

import os
import signal

import pytest
import training_toys
from training_toys import STEPS

from data import catalog
from nets import nets_factory
from training import config as configs
from training import interrupts, loop
from training.input import Input
from training.interrupts import StopRequest
from training.run_evaluation import RunEvaluation
from training.workers import Workers


def interrupt_at(monkeypatch, step, number=signal.SIGINT):
    """Sends this process a signal once `step` steps are done."""

    def shown(progress, done):
        show(progress, done)
        if done == step:
            os.kill(os.getpid(), number)

    show = loop.Progress.step
    monkeypatch.setattr(loop.Progress, "step", shown)


def interrupt_in(monkeypatch, owner, name, number=signal.SIGINT):
    """Sends this process a signal at each call of a function."""

    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    function = getattr(owner, name)
    monkeypatch.setattr(owner, name, interrupted)


def test_an_interrupted_run_ends_as_one_that_was_not(finished, toy_dir, tmp_path):
    """Stopped in an epoch, in an evaluation and in the last step, by Ctrl-C and by SIGTERM."""
    _, uninterrupted = finished
    config = training_toys.toy_config(toy_dir, tmp_path / "run")

    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 2)
        result = loop.train(config)
    assert (result.step, result.total_steps, result.evaluation) == (2, STEPS, None)
    assert result.checkpoint == str(tmp_path / "run" / "model.ckpt-2")

    with pytest.MonkeyPatch.context() as patch:
        interrupt_in(patch, loop.Evaluator, "evaluate", signal.SIGTERM)
        result = loop.train(config)
    assert result.step == 6
    assert result.checkpoint == str(tmp_path / "run" / "model.ckpt-6")

    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, STEPS, signal.SIGTERM)
        result = loop.train(config)
    assert (result.step, result.evaluation) == (STEPS, None)

    result = loop.train(config)
    assert result._replace(checkpoint=None, images_per_second=None) == uninterrupted._replace(
        checkpoint=None, images_per_second=None
    )
    for step in (6, STEPS):
        training_toys.assert_same_values(
            training_toys.values_in(tmp_path / "run" / f"model.ckpt-{step}"),
            training_toys.values_in(finished[0].train_dir / f"model.ckpt-{step}"),
        )


def test_a_signal_between_two_steps_loses_no_step(toy_dir, tmp_path, monkeypatch):
    """It may come after the loop has looked whether it is to save, and before it looks whether it is to stop."""
    config = training_toys.toy_config(toy_dir, tmp_path / "run")
    asked = []

    def is_due(every, step):
        if step == 3 and not asked:
            asked.append(step)
            os.kill(os.getpid(), signal.SIGINT)
        return original(every, step)

    original = loop.Every.is_due
    monkeypatch.setattr(loop.Every, "is_due", is_due)
    result = loop.train(config)
    assert result.step == 3
    assert result.checkpoint == str(tmp_path / "run" / f"model.ckpt-{result.step}")
    assert training_toys.values_in(result.checkpoint)["global_step"] == result.step


def test_a_signal_before_the_first_step(toy_dir, tmp_path, monkeypatch):
    config = training_toys.toy_config(toy_dir, tmp_path / "run")
    interrupt_in(monkeypatch, nets_factory, "create_model")
    result = loop.train(config)
    assert (result.step, result.checkpoint, result.evaluation) == (0, None, None)
    assert not list((tmp_path / "run").glob("model.ckpt*"))


def test_a_signal_in_an_evaluation_leaves_it(finished, toy_dir, tmp_path, monkeypatch):
    """And an earlier evaluation of the run is not taken for that of its last step."""
    config = training_toys.toy_config(toy_dir, tmp_path / "run")
    scored = []

    def predictions(evaluator, batches):
        for batch in original(evaluator, batches):
            scored.append(batch)
            # 13 images in batches of 4 are 4 batches: this is the second of the second evaluation, which is the last.
            if len(scored) == 6:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    original = loop.Evaluator.predictions
    with monkeypatch.context() as patch:
        patch.setattr(loop.Evaluator, "predictions", predictions)
        result = loop.train(config)
    assert (result.step, result.evaluation, len(scored)) == (STEPS, None, 6)
    assert loop.train(config).evaluation == finished[1].evaluation


def test_a_second_signal_stops_at_once_and_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_job_that_is_terminated_as_a_whole_stops_once(monkeypatch):
    """The signal comes from the scheduler and, passed on, from the process that restarts this one."""
    now = [100.0]
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: now[0])
    with StopRequest() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            now[0] += 0.5
        assert stop
        now[0] += 1.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_before_an_evaluation_is_told_within_it(toy_dir, tmp_path):
    """Workers evaluate together: one that left before the others came would leave them waiting for it."""
    began = []

    class Evaluator:
        def evaluate(self, batches, class_names, on_batch=None):
            began.append("evaluation")
            for _ in batches:
                began.append("batch")

    stop = StopRequest()
    stop.requested = True
    config = training_toys.toy_config(toy_dir, tmp_path, eval_split_name="test")
    evaluation = RunEvaluation(config, Evaluator(), None, None, stop, Workers())
    dataset = catalog.open_dataset(directory=str(toy_dir))
    source = Input(configs.resolve(config, dataset, nets_factory.find_network(config.model_name)), dataset)
    assert evaluation.run(source, 4, training_toys.CLASS_NAMES, 3, None, None) is None
    assert began == ["evaluation"]
