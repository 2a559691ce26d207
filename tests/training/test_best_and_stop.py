"""Evaluations of a run: when they are due, the best checkpoint, an early end, and an epoch without images."""

import json
import os
import signal

import numpy as np
import pytest
import training_toys

import whole_files
from command_line import UserError
from nets import checkpoints
from training import best, loop
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from training.run_folder import read_evaluation


def result_of(top_1, cross_entropy=1.0):
    return {"count": 10, "top_1": top_1, "top_5": 1.0, "cross_entropy": cross_entropy, "per_class": []}


def fake_checkpoint(folder, step):
    checkpoints.write(folder / f"model.ckpt-{step}", {"global_step": np.int64(step)})
    checkpoints.write_description(folder, {"step": step})
    return folder / f"model.ckpt-{step}"


def files_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("model.ckpt"))


def test_the_best_is_kept_and_of_equal_ones_the_earlier(tmp_path):
    kept = []
    for step, top_1 in enumerate((0.2, 0.5, 0.5, 0.4, 0.6)):
        prefix = fake_checkpoint(tmp_path, step)
        if best.keep(tmp_path, prefix, step, result_of(top_1), "top_1", "test"):
            kept.append(step)
        for path in tmp_path.glob(f"model.ckpt-{step}.*"):  # As if it were one too many.
            path.unlink()
        assert checkpoints.find(tmp_path / "best") == str(tmp_path / "best" / f"model.ckpt-{kept[-1]}")
        assert checkpoints.reader(tmp_path / "best").get_tensor("global_step") == kept[-1]
        assert len(files_in(tmp_path / "best")) == 2
    assert kept == [0, 1, 4]
    assert best.read(tmp_path) == {
        "checkpoint": "model.ckpt-4",
        "step": 4,
        "split": "test",
        "metric": "top_1",
        "value": 0.6,
        "evaluation": {"count": 10, "top_1": 0.6, "top_5": 1.0, "cross_entropy": 1.0},
    }


def test_a_lower_cross_entropy_is_better_and_another_metric_begins_anew(tmp_path):
    prefix = fake_checkpoint(tmp_path, 1)
    assert best.keep(tmp_path, prefix, 1, result_of(0.9, 2.0), "cross_entropy", "test")
    assert not best.keep(tmp_path, prefix, 1, result_of(0.9, 3.0), "cross_entropy", "test")
    assert best.keep(tmp_path, prefix, 1, result_of(0.1, 1.0), "cross_entropy", "test")
    assert best.keep(tmp_path, prefix, 1, result_of(0.05), "top_1", "test")


def test_scores_of_two_splits_are_not_compared(tmp_path):
    """Training images are easier: their best would stay for good."""
    prefix = fake_checkpoint(tmp_path, 1)
    assert best.keep(tmp_path, prefix, 1, result_of(0.99), "top_1", "train")
    assert best.keep(tmp_path, prefix, 1, result_of(0.9), "top_1", "test")
    assert not best.keep(tmp_path, prefix, 1, result_of(0.8), "top_1", "test")
    described = best.read(tmp_path)
    assert (described["split"], described["value"]) == ("test", 0.9)
    # One of an older version knows of no split.
    whole_files.write_json(
        tmp_path / "best" / "best.json", {key: described[key] for key in described if key != "split"}
    )
    assert not best.keep(tmp_path, prefix, 1, result_of(0.8), "top_1", "test")


def test_a_run_keeps_its_best_past_keep_checkpoints(toy_dir, tmp_path, monkeypatch):
    """Evaluations after steps 3, 6, 9 and 11, of which the second is made the best."""
    tops = iter([0.3, 0.9, 0.4, 0.5])
    evaluate = loop.Evaluator.evaluate

    def evaluated(evaluator, batches, class_names, on_batch=None):
        return evaluate(evaluator, batches, class_names, on_batch) | {"top_1": next(tops)}

    monkeypatch.setattr(loop.Evaluator, "evaluate", evaluated)
    config = training_toys.toy_config(toy_dir, tmp_path / "run", eval_every_steps=3, keep_checkpoints=1)
    result = loop.train(config)
    monkeypatch.undo()
    assert next(tops, None) is None and result.finished
    assert files_in(tmp_path / "run") == ["model.ckpt-11.data-00000-of-00001", "model.ckpt-11.index"]
    described = json.loads((tmp_path / "run" / "best" / "best.json").read_text(encoding="utf-8"))
    assert (described["step"], described["value"]) == (6, 0.9)
    scored = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "run" / "best"))
    assert scored["checkpoint"].endswith("best/model.ckpt-6") and scored["count"] == training_toys.TEST_COUNT


def test_no_best_where_none_is_wanted(toy_dir, tmp_path):
    loop.train(training_toys.toy_config(toy_dir, tmp_path / "run", best_metric="none", max_number_of_steps=2))
    assert not (tmp_path / "run" / "best").exists()


def test_the_best_of_a_run_that_is_gone_is_forgotten(toy_dir, tmp_path):
    config = training_toys.toy_config(toy_dir, tmp_path / "run", max_number_of_steps=2)
    loop.train(config)
    recorded = best.read(config.train_dir)
    whole_files.write_json(config.train_dir / "best" / "best.json", recorded | {"value": 2.0, "step": 77})
    for path in config.train_dir.glob("model.ckpt-*"):
        path.unlink()
    loop.train(config)
    assert best.read(config.train_dir) == recorded


def test_a_run_stops_when_it_is_good_enough_and_stays_so(toy_dir, tmp_path, capsys):
    config = training_toys.toy_config(toy_dir, tmp_path / "run", eval_every_steps=2, stop_at_top_1=0.3, num_epochs=9.0)
    result = loop.train(config)
    assert result.finished and result.evaluation["top_1"] >= 0.3
    assert result.step < result.total_steps == 50 and result.step % 2 == 0
    assert "--stop_at_top_1=0.3 is reached" in capsys.readouterr().out
    noted = read_evaluation(config.train_dir)
    assert (noted["step"], noted["finished"], noted["top_1"]) == (result.step, True, result.evaluation["top_1"])
    again = loop.train(config)
    assert again._replace(images_per_second=None) == result._replace(images_per_second=None)
    # Without that wish it goes on.
    longer = training_toys.toy_config(
        toy_dir, tmp_path / "run", eval_every_epochs=0.0, num_epochs=9.0, max_number_of_steps=result.step + 1
    )
    assert loop.train(longer).step == result.step + 1


def test_an_interrupted_evaluation_is_made_up_for(toy_dir, tmp_path, monkeypatch):
    """The best of a run must not depend on when it was interrupted."""
    config = training_toys.toy_config(toy_dir, tmp_path / "run", eval_every_steps=4, max_number_of_steps=6)
    evaluate = loop.Evaluator.evaluate
    steps = []

    def interrupted(evaluator, batches, class_names, on_batch=None):
        steps.append(len(steps))
        if len(steps) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(evaluator, batches, class_names, on_batch)

    monkeypatch.setattr(loop.Evaluator, "evaluate", interrupted)
    first = loop.train(config)
    assert (first.step, first.evaluation, first.finished) == (4, None, False)
    assert loop.train(config).finished
    # The one that was interrupted, the same again, and that of the end.
    assert len(steps) == 3


def test_an_epoch_without_images_is_an_error(tmp_path):
    directory = training_toys.make_dataset(tmp_path / "toy")
    description = directory / "dataset.json"
    content = json.loads(description.read_text(encoding="utf-8"))
    content["splits"]["train"] = 0
    description.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="split 'train' has 0 records, not a count of at least 1"):
        loop.train(training_toys.toy_config(directory, tmp_path / "run"))
