"""A run's folder watched from outside: each checkpoint once, in order, to the end of the run."""

import json
import shutil
import threading

import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
from training import best, loop, watching
from training.evaluate_checkpoint import EvalConfig, Scorer, evaluate_checkpoint


@pytest.fixture(scope="module")
def run(toy_dir, tmp_path_factory):
    """The folder of a finished run with checkpoints 3, 6, 9 and 11; not to be changed."""
    folder = tmp_path_factory.mktemp("watched") / "run"
    loop.train(training_toys.toy_config(toy_dir, folder, eval_every_steps=3))
    return folder


def config_of(folder, **changes):
    settings = {"checkpoint_path": folder, "watch": True, "batch_size": 4, "watch_timeout_secs": 0.0}
    return EvalConfig(**settings | changes)


def lines_of(folder):
    text = (folder / "eval_test" / "evaluations.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def copy_of(run, path):
    shutil.copytree(run, path)
    return path


def test_each_checkpoint_of_a_finished_run_is_scored_once(run, tmp_path):
    folder, shown = copy_of(run, tmp_path / "run"), []
    lines = watching.watch(config_of(folder, watch_timeout_secs=60.0), shown.append)
    assert [line["step"] for line in lines] == [3, 6, 9, 11]
    assert lines == lines_of(folder)
    noted = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    for name in ("count", "top_1", "top_5", "cross_entropy"):
        assert lines[-1][name] == noted[name]
    assert len(shown) == 4 and shown[-1].startswith("step 11: test top-1 ")
    curves = {}
    for file in (folder / "eval_test").glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append(event.step)
    assert curves == {f"test/{name}": [3, 6, 9, 11] for name in ("top_1", "top_5", "cross_entropy")}


def test_what_was_scored_before_is_not_scored_again(run, tmp_path, monkeypatch):
    folder = copy_of(run, tmp_path / "run")
    first = watching.watch(config_of(folder))
    path = folder / "eval_test" / "evaluations.jsonl"
    text = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # Stopped while it wrote the last line.
    path.write_text("".join(text[:2]) + text[2][:20], encoding="utf-8")
    scored = []
    score = Scorer.score
    monkeypatch.setattr(Scorer, "score", lambda scorer, prefix: scored.append(prefix) or score(scorer, prefix))
    assert watching.watch(config_of(folder)) == first
    assert [prefix.rpartition("-")[2] for prefix in scored] == ["9", "11"]
    assert len(lines_of(folder)) == 4


@pytest.mark.parametrize("changes", [{"moving_averages": False}, {"precision": "bfloat16"}, {"eval_image_size": 9}])
def test_other_flags_have_scores_of_their_own(run, tmp_path, changes):
    folder = copy_of(run, tmp_path / "run")
    first = watching.watch(config_of(folder))
    others = watching.watch(config_of(folder, **changes))
    assert [line["step"] for line in others] == [3, 6, 9, 11]
    assert all(line["how"] != other["how"] for line, other in zip(first, others, strict=True))
    assert len(lines_of(folder)) == 8
    assert watching.watch(config_of(folder)) == first
    assert len(lines_of(folder)) == 8


def test_a_checkpoint_that_was_written_anew_is_scored_anew(run, tmp_path):
    """As by a run that was begun again in its folder."""
    folder = copy_of(run, tmp_path / "run")
    first = watching.watch(config_of(folder))
    for ending in ("data-00000-of-00001", "index"):
        shutil.copyfile(folder / f"model.ckpt-11.{ending}", folder / f"model.ckpt-6.{ending}")
    again = watching.watch(config_of(folder))
    assert [line["step"] for line in again] == [3, 6, 9, 11] and len(lines_of(folder)) == 5
    assert again[1]["cross_entropy"] == first[3]["cross_entropy"] != first[1]["cross_entropy"]


def test_checkpoints_that_come_while_it_watches(run, toy_dir, tmp_path):
    """The watcher starts before there is a folder, in a thread; the run takes place meanwhile."""
    folder, found = tmp_path / "later", []
    watcher = threading.Thread(
        target=lambda: found.extend(watching.watch(config_of(folder, watch_timeout_secs=120.0))), daemon=True
    )
    watcher.start()
    for path in [run / "model.json", *sorted(run.glob("model.ckpt-3.*")), *sorted(run.glob("model.ckpt-11.*"))]:
        folder.mkdir(exist_ok=True)
        # Data come before the index, as they sort; each is whole when it gets its name.
        shutil.copyfile(path, tmp_path / "part")
        (tmp_path / "part").rename(folder / path.name)
    shutil.copyfile(run / "evaluation.json", tmp_path / "part")
    (tmp_path / "part").rename(folder / "evaluation.json")
    watcher.join(timeout=200)
    assert not watcher.is_alive()
    assert [line["step"] for line in found] == [3, 11]


def test_it_gives_up_when_nothing_comes(run, tmp_path):
    folder, shown = copy_of(run, tmp_path / "run"), []
    (folder / "evaluation.json").unlink()
    assert len(watching.watch(config_of(folder, watch_timeout_secs=0.01), shown.append)) == 4
    assert shown[-1] == "no new checkpoint in 0.01 seconds"
    with pytest.raises(UserError, match="no checkpoint came into .*nowhere in 0.01 seconds"):
        watching.watch(config_of(tmp_path / "nowhere", watch_timeout_secs=0.01))


def test_a_run_whose_checkpoints_are_gone_is_not_at_its_end(run, tmp_path):
    folder = copy_of(run, tmp_path / "run")
    for path in folder.glob("model.ckpt-*"):
        path.unlink()
    with pytest.raises(UserError, match="no checkpoint came into"):
        watching.watch(config_of(folder, watch_timeout_secs=0.01))


def test_the_best_is_kept_whatever_the_run_deletes(run, tmp_path):
    folder = copy_of(run, tmp_path / "run")
    lines = watching.watch(config_of(folder))
    kept = best.read(folder / "eval_test")
    # Of equal ones the first.
    expected = max(lines, key=lambda line: (line["top_1"], -line["step"]))
    assert (kept["step"], kept["value"], kept["metric"]) == (expected["step"], expected["top_1"], "top_1")
    for path in folder.glob("model.ckpt-*"):
        path.unlink()
    again = evaluate_checkpoint(EvalConfig(checkpoint_path=folder / "eval_test" / "best", batch_size=4))
    assert again["cross_entropy"] == expected["cross_entropy"]


def test_a_watcher_that_was_stopped_before_it_kept_the_best_keeps_it_later(run, tmp_path, monkeypatch):
    folder, keep = copy_of(run, tmp_path / "run"), best.keep

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(best, "keep", stopped)
    with pytest.raises(KeyboardInterrupt):
        watching.watch(config_of(folder))
    monkeypatch.setattr(best, "keep", keep)
    lines = watching.watch(config_of(folder))
    assert best.read(folder / "eval_test")["value"] == max(line["top_1"] for line in lines)


def test_one_that_the_run_is_deleting_is_passed_over(run, tmp_path):
    """A run deletes the data of a checkpoint before its index."""
    folder = copy_of(run, tmp_path / "run")
    data, index = folder / "model.ckpt-6.data-00000-of-00001", folder / "model.ckpt-6.index"
    data.unlink()
    deletes = threading.Timer(2.0, index.unlink)
    deletes.start()
    lines = watching.watch(config_of(folder, watch_timeout_secs=60.0))
    deletes.join()
    assert [line["step"] for line in lines] == [3, 9, 11]


def test_an_index_without_data_does_not_hold_up_the_others(run, tmp_path):
    """As a run leaves it that is killed while it deletes a checkpoint."""
    folder = copy_of(run, tmp_path / "run")
    (folder / "model.ckpt-3.data-00000-of-00001").unlink()
    assert [line["step"] for line in watching.watch(config_of(folder))] == [6, 9, 11]


def test_a_folder_of_another_trainer_has_a_best_too(run, toy_dir, tmp_path):
    folder = copy_of(run, tmp_path / "run")
    (folder / "model.json").unlink()
    lines = watching.watch(config_of(folder, model_name=training_toys.TINY, dataset_dir=str(toy_dir)))
    kept = best.read(folder / "eval_test")
    assert kept["value"] == max(line["top_1"] for line in lines)
    assert not (folder / "eval_test" / "best" / "model.json").exists()


def test_a_checkpoint_that_is_deleted_meanwhile_is_passed_over(run, tmp_path, monkeypatch):
    folder = copy_of(run, tmp_path / "run")
    score = Scorer.score

    def deleted(scorer, prefix):
        if prefix.endswith("-6"):
            for path in folder.glob("model.ckpt-6.*"):
                path.unlink()
        return score(scorer, prefix)

    monkeypatch.setattr(Scorer, "score", deleted)
    assert [line["step"] for line in watching.watch(config_of(folder))] == [3, 9, 11]


def test_a_damaged_checkpoint_is_an_error(run, tmp_path):
    folder = copy_of(run, tmp_path / "run")
    (folder / "model.ckpt-6.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(UserError, match="model.ckpt-6.* cannot be read"):
        watching.watch(config_of(folder))


def test_flags_that_do_not_go_with_it(run, tmp_path):
    with pytest.raises(UserError, match="--watch needs the folder of a run, but --checkpoint_path is .*model.ckpt-6"):
        watching.watch(config_of(run / "model.ckpt-6"))
    with pytest.raises(UserError, match="--watch_timeout_secs is -1.0, expected at least 0"):
        watching.watch(config_of(run, watch_timeout_secs=-1.0))
    with pytest.raises(UserError, match="--predictions holds one"):
        watching.watch(config_of(run, predictions=tmp_path / "rows.csv"))
