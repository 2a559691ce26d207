"""Runs of a tiny network: what they leave, how they go on, and how they fail."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import training_toys
from training_toys import STEPS

from command_line import UserError
from data import records
from nets import checkpoints, nets_factory
from training import curves, devices, loop
from training.config import TrainConfig
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from training.interrupts import StopRequest
from training.optimizers import LossScale
from training.workers import Workers


def copy_of(finished, path, **changes):
    """The config of a copy of the finished run."""
    config, _ = finished
    shutil.copytree(config.train_dir, path)
    return training_toys.toy_config(config.dataset_dir, path, **changes)


def test_a_run_says_what_it_did(finished):
    config, result = finished
    assert (result.step, result.total_steps) == (STEPS, STEPS)
    assert result.checkpoint == str(config.train_dir / f"model.ckpt-{STEPS}")
    assert result.images_per_second > 0
    assert result.evaluation["count"] == training_toys.TEST_COUNT
    assert json.loads(json.dumps(result._asdict())) == result._asdict()


def test_a_run_leaves_checkpoints_a_description_and_curves(finished):
    config, result = finished
    names = {path.name for path in config.train_dir.iterdir() if not path.name.startswith("events.")}
    # Evaluations, and so checkpoints, at the ends of the epochs: steps 5.5 and 11.
    files = {f"model.ckpt-{step}.{end}" for step in (6, STEPS) for end in ("index", "data-00000-of-00001")}
    others = {"model.json", "run.json", "curves.jsonl", "evaluation.json", "evaluation.npz"}
    assert names == {".lock", "checkpoint", "best", *others, *files}
    curves = training_toys.events_in(config.train_dir)
    # Every third step, and the last.
    for name in ("loss", "cross_entropy", "top_1", "learning_rate"):
        assert list(curves[f"train/{name}"]) == [3, 6, 9, STEPS]
    for name in ("top_1", "top_5", "cross_entropy"):
        assert list(curves[f"test/{name}"]) == [6, STEPS]
        assert curves[f"test/{name}"][STEPS] == pytest.approx(result.evaluation[name], rel=1e-6)
    # Cosine from 0.05: the rate of step k (from 0) is 0.025 * (1 + cos(pi * k / 11)); points stand at k + 1.
    for step, rate in curves["train/learning_rate"].items():
        assert rate == pytest.approx(0.025 * (1 + np.cos(np.pi * (step - 1) / STEPS)), rel=1e-4)


def test_a_checkpoint_holds_slims_names_and_all_that_goes_on(finished):
    _, result = finished
    values = training_toys.values_in(result.checkpoint)
    model = nets_factory.create_model(training_toys.TINY, 3)
    trainable = {name for name, value in model.variables_by_name.items() if value.trainable}
    assert values.keys() == {
        *model.variables_by_name,
        *(f"{name}/Momentum" for name in trainable),
        "global_step",
        "loss_scale",
        "loss_scale_finite_steps",
    }
    assert values["global_step"] == STEPS


def test_a_tf1_saver_reads_a_checkpoint(finished):
    _, result = finished
    values = training_toys.values_in(result.checkpoint)
    name = f"{training_toys.TINY}/conv1/weights"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable(name, shape=[3, 3, 3, 16])
        tf.compat.v1.train.Saver([variable]).restore(session, result.checkpoint)
        np.testing.assert_array_equal(session.run(variable), values[name])


def test_a_finished_run_is_evaluated_and_left_as_it_is(finished, tmp_path, capsys):
    config = copy_of(finished, tmp_path / "run")
    before = {str(path): path.read_bytes() for path in config.train_dir.rglob("*") if path.is_file()}
    result = loop.train(config)
    assert result.evaluation == finished[1].evaluation
    assert (result.step, result.images_per_second) == (STEPS, None)
    assert "already at step 11 of 11 (--num_epochs or another" in capsys.readouterr().out
    after = {str(path): path.read_bytes() for path in config.train_dir.rglob("*") if path.is_file()}
    for name in before:
        if name != str(config.train_dir / "model.json"):  # It holds the folder's own name.
            assert after[name] == before[name], name
    assert all("/events." in name for name in after.keys() - before.keys())


def test_more_epochs_go_on_from_the_end(finished, tmp_path, capsys):
    config = copy_of(finished, tmp_path / "run", num_epochs=2.5, log_every_n_steps=1, keep_checkpoints=3)
    result = loop.train(config)
    assert result.step == 14
    out = capsys.readouterr().out
    assert "from step 11 of 14" in out and "step 12/14" in out and "step 11/14" not in out
    # The cosine of the longer run, at its twelfth step.
    rate = float(re.search(r"step 12/14 .* rate (\S+)", out)[1])
    assert rate == pytest.approx(0.025 * (1 + np.cos(np.pi * 11 / 14)), abs=1e-5)


def test_other_flags_in_the_same_folder_are_named_with_both_values(finished):
    config, _ = finished
    other = training_toys.toy_config(
        config.dataset_dir, config.train_dir, batch_size=8, learning_rate=0.1, seed=3, num_epochs=5.0
    )
    with pytest.raises(UserError) as caught:
        loop.train(other)
    message = str(caught.value)
    assert str(config.train_dir) in message
    for difference in ("--batch_size was 4, is 8", "--learning_rate was 0.05, is 0.1", "--seed was 0, is 3"):
        assert difference in message
    assert "num_epochs" not in message and "--train_dir" in message


def test_arguments_of_the_network_are_trained_and_recorded(toy_dir, tmp_path):
    """A plain network: without shortcuts, a last unit whose last norm gives nothing leaves nothing at all."""
    config = training_toys.toy_config(
        toy_dir, tmp_path / "run", max_number_of_steps=1, network_arguments=("shortcut_connections=False",)
    )
    loop.train(config)
    model, description = nets_factory.load_model(config.train_dir)
    assert description["network"]["shortcut_connections"] is False
    for kind in ("gamma", "beta"):
        variable = model.variables_by_name[f"{training_toys.TINY}/block3/unit_1/basic_v1/conv2/BatchNorm/{kind}"]
        variable.assign(tf.zeros_like(variable))
    images = np.random.default_rng(0).normal(size=[2, 8, 8, 3]).astype(np.float32)
    np.testing.assert_array_equal(model.features(tf.constant(images), ["block3"])["block3"], 0)


def test_the_default_step_schedule_drops_at_a_third_two_thirds_and_eight_ninths(toy_dir, tmp_path, capsys):
    config = training_toys.toy_config(
        toy_dir, tmp_path / "run", learning_rate_decay_type="step", max_number_of_steps=10, log_every_n_steps=1
    )
    loop.train(config)
    rates = [float(rate) for rate in re.findall(r"rate (\S+)", capsys.readouterr().out)]
    # Steps (from 0) from 3.33, 6.67 and 8.89 on.
    assert rates == pytest.approx([0.05] * 4 + [0.005] * 3 + [0.0005] * 2 + [0.00005], abs=1e-5)


def test_a_run_does_not_go_on_with_other_data(toy_dir, tmp_path, capsys):
    data_dir, folder = tmp_path / "data", tmp_path / "run"
    shutil.copytree(toy_dir, data_dir)
    config = training_toys.toy_config(data_dir, folder, max_number_of_steps=1, eval_every_epochs=0.0)
    loop.train(config)
    description = json.loads((data_dir / "dataset.json").read_text())

    def described(**changes):
        (data_dir / "dataset.json").write_text(json.dumps(description | changes))

    described(class_names=["green", "red", "blue"])
    with pytest.raises(UserError, match="class 0 is 'red' in the checkpoint, but 'green'.*the same labels in another"):
        loop.train(config)
    described(class_names=["crimson", "green", "blue"])
    loop.train(config)
    assert "warning: class 0 is 'red' in the checkpoint, but 'crimson' in data set toy" in capsys.readouterr().err
    described(splits={"train": 21, "test": training_toys.TEST_COUNT})
    with pytest.raises(UserError, match="holds a run on 22 images, the data set has 21 now; .*--checkpoint_path="):
        loop.train(config)


def test_steps_of_epochs_are_counted_without_rounding(tmp_path):
    """15 epochs of 50,000 images in batches of 48 are 15,625 steps; in floats, 15,625.000000000002 and so one more."""
    flags = {"dataset_name": "synthetic", "synthetic_num_images": 50_000, "batch_size": 48, "num_epochs": 15.0}
    config = dataclasses.replace(training_toys.toy_config("", tmp_path, **flags), dataset_dir=None)
    stop = StopRequest()
    stop.requested = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "StopRequest", lambda: contextlib.nullcontext(stop))
        assert loop.train(config).total_steps == 15_625


def test_another_seed_is_another_run(finished, toy_dir, tmp_path):
    config = training_toys.toy_config(toy_dir, tmp_path / "run", seed=1, max_number_of_steps=6, eval_every_epochs=0.0)
    values = training_toys.values_in(loop.train(config).checkpoint)
    others = training_toys.values_in(finished[0].train_dir / "model.ckpt-6")
    weights = [name for name in values if name.endswith("/weights")]
    assert weights and not any(np.array_equal(values[name], others[name]) for name in weights)
    assert not (tmp_path / "run" / "model.ckpt-5.index").exists()


def spoilt_run(toy_dir, path, **changes):
    config = training_toys.toy_config(toy_dir, path, learning_rate_decay_type="constant", learning_rate=1e20, **changes)
    with pytest.raises(UserError) as caught:
        loop.train(config)
    return str(caught.value)


def test_a_loss_that_is_not_finite_names_step_rate_and_last_good_checkpoint(toy_dir, tmp_path):
    """Weights of 1e19 are finite, their squares are not: the loss of the second step is the first that is spoilt."""
    message = spoilt_run(toy_dir, tmp_path / "run", save_interval_secs=0.0)
    assert re.match(r"the loss is (inf|nan) at step 2, learning rate 1e\+20; lower --learning_rate", message)
    good = tmp_path / "run" / "model.ckpt-1"
    assert f"last good checkpoint: {good}, with" in message and message.endswith(f"--checkpoint_path={good}")
    assert "\n" not in message


def test_a_spoilt_network_is_neither_saved_nor_scored_between_two_log_lines(toy_dir, tmp_path):
    """The evaluation at step 6 comes long before the first log line."""
    message = spoilt_run(toy_dir, tmp_path / "run", log_every_n_steps=100)
    assert re.match(r"the loss is (inf|nan) at step 2, learning rate 1e\+20", message)
    assert message.endswith("last good checkpoint: none")
    assert not list((tmp_path / "run").glob("model.ckpt*"))
    # What was learnt until then can be seen: the one step whose loss is finite.
    (row,) = curves.read(tmp_path / "run")
    assert (row["kind"], row["step"], row["steps"]) == ("train", 1, 1) and math.isfinite(row["loss"])


def test_weights_that_are_spoilt_by_a_step_of_finite_loss_are_not_saved(toy_dir, tmp_path):
    """Gradients of the decay are 10 times the weights, which times 1e38 no float32 holds."""
    message = spoilt_run(toy_dir, tmp_path / "run", save_interval_secs=0.0, weight_decay=1e20)
    assert message.startswith("a weight or a moving average is not finite at step 1, learning rate 1e+20")
    assert not list((tmp_path / "run").glob("model.ckpt*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name": "resnet_v3"}, "unknown network 'resnet_v3'; known: resnet_v1_18, "),
        ({"preprocessing_name": "alexnet"}, "unknown preprocessing 'alexnet': known are cifar, .*, vgg"),
        ({"dataset_split_name": "dev"}, "no split 'dev'.*lists train, test"),
        ({"eval_split_name": "dev"}, "no split 'dev'.*lists train, test"),
        ({"dataset_name": "flowers"}, "describes data set 'toy', not 'flowers'"),
        ({"dataset_dir": "/nowhere"}, "data directory /nowhere does not exist"),
        ({"labels_offset": 3}, "labels_offset is 3, expected 0 to 2"),
        ({"labels_offset": -1}, "labels_offset is -1, expected 0 to 2"),
        ({"batch_size": 0}, "--batch_size is 0, expected at least 1"),
    ],
    ids=str,
)
def test_bad_flags(toy_dir, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        loop.train(dataclasses.replace(training_toys.toy_config(toy_dir, tmp_path / "run"), **changes))
    assert not list(tmp_path.glob("run/model.ckpt*"))


def test_a_bad_record_ends_a_run_with_its_place(tmp_path):
    directory = training_toys.make_dataset(tmp_path / "toy")
    pictures = list(training_toys.pictures(22, 0, 3))
    pictures[17] = (pictures[17][0], "png", 3, 8, 8)
    records.write_examples(directory / "toy_train.tfrecord", pictures)
    with pytest.raises(UserError, match=r"toy_train.tfrecord, record 17 .*label 3 is out of range; expected 0 to 2"):
        loop.train(training_toys.toy_config(directory, tmp_path / "run"))


def test_a_background_class_is_left_out(finished, tmp_path):
    """The same pictures with labels one higher and a background class: the same run, bit for bit."""
    directory = training_toys.make_dataset(tmp_path / "toy", ("background", *training_toys.CLASS_NAMES))
    for seed, (split, count) in enumerate({"train": 22, "test": 13}.items()):
        shifted = (
            (encoded, kind, label + 1, height, width)
            for encoded, kind, label, height, width in training_toys.pictures(count, seed, 3)
        )
        records.write_examples(directory / f"toy_{split}.tfrecord", shifted)
    config = training_toys.toy_config(directory, tmp_path / "run", labels_offset=1)
    result = loop.train(config)
    assert result.evaluation == finished[1].evaluation
    assert [row["name"] for row in result.evaluation["per_class"]] == ["red", "green", "blue"]
    training_toys.assert_same_values(
        training_toys.values_in(result.checkpoint), training_toys.values_in(finished[1].checkpoint)
    )

    again = evaluate_checkpoint(EvalConfig(checkpoint_path=config.train_dir, batch_size=4))
    assert again["labels_offset"] == 1
    assert again["confusion_matrix"] == result.evaluation["confusion_matrix"]
    with pytest.raises(UserError, match="network has 3 classes, but data set toy 4 .*--labels_offset=0"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=config.train_dir, labels_offset=0))

    records.write_examples(directory / "toy_train.tfrecord", training_toys.pictures(22, 0, 3))
    with pytest.raises(UserError, match="record 0 .*label 0 is out of range; expected 1 to 3"):
        loop.train(training_toys.toy_config(directory, tmp_path / "bad", labels_offset=1))


def put_other_network(config):
    other = nets_factory.create_model("resnet_cifar_v2_8", 3)
    other.save(config.train_dir / f"model.ckpt-{STEPS}")


def test_a_checkpoint_of_another_network_is_listed_against_ours(finished, tmp_path):
    config = copy_of(finished, tmp_path / "run")
    put_other_network(config)
    for use in (lambda: loop.train(config), lambda: evaluate_checkpoint(EvalConfig(checkpoint_path=config.train_dir))):
        with pytest.raises(UserError) as caught:
            use()
        message = str(caught.value)
        assert "model.ckpt-11 does not fit the network" in message.splitlines()[0]
        assert re.search(r"^  missing in the file +unexpected in the file$", message, re.MULTILINE)
        assert re.search(r"^  resnet_cifar_v1_8/\S+ +resnet_cifar_v2_8/\S+", message, re.MULTILINE)


@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("keep", [0, 100])
def test_a_damaged_checkpoint_is_an_error_of_one_line(finished, tmp_path, ending, keep):
    config = copy_of(finished, tmp_path / "run")
    file = config.train_dir / f"model.ckpt-{STEPS}.{ending}"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model.ckpt-11.* cannot be read") as caught:
        evaluate_checkpoint(EvalConfig(checkpoint_path=config.train_dir))
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_stops_a_resumption(finished, tmp_path):
    config = copy_of(finished, tmp_path / "run", num_epochs=3.0)
    file = config.train_dir / f"model.ckpt-{STEPS}.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:-100])
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"model.ckpt-11.* cannot be read"):
        loop.train(config)
    assert file.read_bytes() == before


def test_a_folder_whose_description_is_gone_is_not_trained_on(finished, tmp_path):
    config = copy_of(finished, tmp_path / "run")
    (config.train_dir / "model.json").unlink()
    with pytest.raises(UserError, match=r"no model.json beside checkpoint"):
        loop.train(config)


def test_a_float16_run_is_scored_as_the_evaluator_scores_it(toy_dir, tmp_path):
    result = loop.train(training_toys.toy_config(toy_dir, tmp_path, precision="float16", num_epochs=0.5))
    evaluated = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path, batch_size=4))
    assert evaluated["precision"] == "float32"
    assert evaluated["cross_entropy"] == pytest.approx(result.evaluation["cross_entropy"], rel=1e-6)


def test_float16_shows_its_loss_scale(toy_dir, tmp_path):
    loop.train(training_toys.toy_config(toy_dir, tmp_path, precision="float16", max_number_of_steps=3))
    (row,) = (row for row in curves.read(tmp_path) if row["kind"] == curves.TRAIN)
    assert (row["loss_scale"], row["dropped"]) == (2.0**15, 0.0)
    assert training_toys.events_in(tmp_path)["train/loss_scale"] == {3: 2.0**15}


def test_a_float16_run_whose_gradients_always_overflow_ends(toy_dir, tmp_path, monkeypatch):
    """Each step would be dropped, and the run end untrained, with a finite loss."""
    monkeypatch.setattr("training.step.LossScale", functools.partial(LossScale, start=2.0))
    monkeypatch.setattr(LossScale, "divide", lambda scale, gradients: [gradient * np.inf for gradient in gradients])
    config = training_toys.toy_config(toy_dir, tmp_path, precision="float16", eval_every_epochs=0.0, num_epochs=9.0)
    with pytest.raises(UserError, match=r"gradients of 12 steps overflow, with the loss scale at 1, at step 15, .*"):
        loop.train(config)
    shares = [(row["loss_scale"], row["dropped"]) for row in curves.read(tmp_path)]
    assert shares == [((2.0 + 1.0 + 1.0) / 3, 1.0), *[(1.0, 1.0)] * 4]


def test_checkpoints_come_every_so_many_steps_where_asked_for(toy_dir, tmp_path):
    config = training_toys.toy_config(toy_dir, tmp_path, eval_every_epochs=0.0, save_every_steps=4)
    loop.train(config)
    assert checkpoints.steps_in(tmp_path) == [4, 8, 11]
    assert [row["step"] for row in curves.read(tmp_path) if row["kind"] == curves.EVALUATION] == [11]


@pytest.mark.parametrize(("visible", "warned"), [(None, True), ("0", True), ("", False), ("-1", False)])
def test_a_gpu_that_tensorflow_does_not_find_is_warned_of(monkeypatch, capsys, visible, warned):
    """A wheel without CUDA's libraries trains on the CPU without a word; GPUs that are hidden are meant to be."""
    monkeypatch.setattr(devices, "_NVIDIA", os.devnull)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config = TrainConfig(strategy="one_device")
    devices.make_strategy(config, Workers(), {})
    assert ("finds no GPU and computes on the CPU" in capsys.readouterr().err) == warned


def test_imported_weights_are_not_taken_for_a_new_folder(toy_dir, tmp_path):
    """As convert_weights.py leaves them; the run would have replaced their model.json."""
    nets_factory.create_model(training_toys.TINY, 3).save(tmp_path / "model.ckpt")
    tf.compat.v1.train.update_checkpoint_state(str(tmp_path), "model.ckpt", ["model.ckpt"])
    (tmp_path / "model.json").write_text("theirs", encoding="utf-8")
    with pytest.raises(UserError, match=f"no run's; .* another --train_dir and --checkpoint_path={tmp_path}"):
        loop.train(training_toys.toy_config(toy_dir, tmp_path))
    assert (tmp_path / "model.json").read_text(encoding="utf-8") == "theirs"


def test_scores_of_the_training_split_have_curves_of_their_own(toy_dir, tmp_path):
    loop.train(training_toys.toy_config(toy_dir, tmp_path, eval_split_name="train", num_epochs=1.0))
    events = training_toys.events_in(tmp_path)
    assert set(events["train/top_1"]) == {3, 6} and set(events["eval_train/top_1"]) == {6}
