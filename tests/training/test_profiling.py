"""Steps traced on request."""

import dataclasses
import os
import signal

import pytest
import training_toys

from command_line import UserError
from training import loop


def traces(config):
    return list(config.train_dir.glob("plugins/profile/*/*.xplane.pb"))


def test_a_trace_holds_the_steps_that_were_asked_for(toy_dir, tmp_path):
    config = training_toys.toy_config(
        toy_dir, tmp_path / "run", max_number_of_steps=4, eval_every_epochs=0.0, profile_steps=(2, 3)
    )
    traced = loop.train(config)
    (path,) = traces(config)
    content = path.read_bytes()
    # The marks of the steps, and what a training step alone does.
    for name in (b"step_num", b"Conv2DBackpropFilter", b"ResourceApplyMomentum"):
        assert name in content
    # The weights do not depend on it.
    plain = training_toys.toy_config(toy_dir, tmp_path / "plain", max_number_of_steps=4, eval_every_epochs=0.0)
    training_toys.assert_same_values(
        training_toys.values_in(traced.checkpoint), training_toys.values_in(loop.train(plain).checkpoint)
    )
    assert not traces(plain)


def test_an_interrupted_run_leaves_the_trace_of_what_it_did(toy_dir, tmp_path, monkeypatch):
    config = training_toys.toy_config(toy_dir, tmp_path / "run", profile_steps=(2, 9))

    def shown(progress, done):
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Progress, "step", shown)
    assert loop.train(config).step == 3
    assert len(traces(config)) == 1


def test_steps_that_are_done_already_are_warned_of(toy_dir, tmp_path, capsys):
    config = training_toys.toy_config(toy_dir, tmp_path / "run", max_number_of_steps=2, eval_every_epochs=0.0)
    loop.train(config)
    loop.train(dataclasses.replace(config, max_number_of_steps=3, profile_steps=(1, 2)))
    assert "--profile_steps=1 2 traces nothing: 2 steps are done already" in capsys.readouterr().err
    assert not traces(config)


@pytest.mark.parametrize("steps", [(0, 2), (3, 2), (5, 12)])
def test_steps_that_the_run_has_not(toy_dir, tmp_path, steps):
    config = training_toys.toy_config(toy_dir, tmp_path / "run", profile_steps=steps)
    message = f"--profile_steps is {steps[0]} {steps[1]}, expected .* 1 to 11 in this run"
    with pytest.raises(UserError, match=message):
        loop.train(config)
