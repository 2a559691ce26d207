"""The curves that a run keeps: each step once, whatever became of the processes that did it."""

import json
import os
import signal

import pytest
import training_toys

from training import curves, loop
from training.meter import PHASES, Measured

SECONDS = dict.fromkeys(PHASES, 0.5)
SCORES = {"count": 4, "top_1": 0.5, "top_5": 1.0, "cross_entropy": 1.0, "per_class": []}


def measured(loss, steps=10):
    metrics = {"loss": loss, "cross_entropy": loss, "top_1": 0.5, "learning_rate": 0.1}
    return Measured(steps, metrics, 100.0, 1.0, SECONDS)


def losses(folder):
    return [(row["step"], row["loss"]) for row in curves.read(folder) if row["kind"] == curves.TRAIN]


def test_steps_that_a_killed_process_lost_are_written_once(tmp_path):
    first = curves.Curves(tmp_path, 0)
    for step in (10, 20, 30):
        first.add_training(step, measured(float(step)))
    first.add_evaluation(20, "test", SCORES, SECONDS)
    with open(tmp_path / curves.FILE, "a", encoding="utf-8") as file:
        file.write('{"kind": "train", "st')
    # Its last checkpoint was at step 25.
    second = curves.Curves(tmp_path, 25)
    second.add_evaluation(20, "test", SCORES, SECONDS)
    second.add_training(30, measured(31.0, steps=5))
    assert losses(tmp_path) == [(10, 10.0), (20, 20.0), (30, 31.0)]
    assert [row["step"] for row in curves.read(tmp_path) if row["kind"] == curves.EVALUATION] == [20]
    lines = (tmp_path / curves.FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == curves.read(tmp_path)


def test_a_run_whose_checkpoints_are_gone_has_a_new_curve(tmp_path):
    curves.Curves(tmp_path, 0).add_training(10, measured(1.0))
    curves.Curves(tmp_path, 0)
    assert curves.read(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [curves.FILE]


def test_an_interrupted_run_has_the_curve_of_one_that_was_not(toy_dir, tmp_path, monkeypatch):
    """Interrupted after 4 of 11 steps, in the midst of the steps of a log line."""
    whole = training_toys.toy_config(toy_dir, tmp_path / "whole")
    loop.train(whole)
    parts = training_toys.toy_config(toy_dir, tmp_path / "parts")
    with monkeypatch.context() as patch:
        show = loop.Progress.step

        def shown(progress, done):
            show(progress, done)
            if done == 4:
                os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(loop.Progress, "step", shown)
        assert loop.train(parts).step == 4
    loop.train(parts)

    def rows(config):
        return curves.read(config.train_dir)

    def steps_of(config, kind):
        return [(row["step"], row.get("steps")) for row in rows(config) if row["kind"] == kind]

    assert steps_of(whole, curves.TRAIN) == [(3, 3), (6, 3), (9, 3), (11, 2)]
    assert steps_of(parts, curves.TRAIN) == [(3, 3), (4, 1), (6, 2), (9, 3), (11, 2)]
    assert steps_of(whole, curves.EVALUATION) == steps_of(parts, curves.EVALUATION) == [(6, None), (11, None)]
    # The sum over all steps is the same, and so are the scores.
    sums = [sum(row["steps"] * row["loss"] for row in rows(config) if "loss" in row) for config in (whole, parts)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-9)
    scores = [[row["cross_entropy"] for row in rows(config) if "split" in row] for config in (whole, parts)]
    assert scores[0] == scores[1]
    # Both hold where their time went: nothing took none but what did not happen.
    for row in rows(whole):
        assert row["seconds"].keys() == set(PHASES) and all(value >= 0 for value in row["seconds"].values())
    total = {phase: sum(row["seconds"][phase] for row in rows(whole)) for phase in PHASES}
    assert all(total.values())
    assert total["start"] > total["summary"]
