"""Runs that begin with a checkpoint: what they restore, what they leave, and what they say of it."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
from nets import checkpoints, nets_factory
from training import fine_tuning, loop
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint

NET = training_toys.TINY
HEAD = f"{NET}/logits"


@pytest.fixture(scope="module")
def source(toy_dir, tmp_path_factory):
    """The folder of a finished run on three classes; not to be changed."""
    folder = tmp_path_factory.mktemp("source") / "run"
    loop.train(training_toys.toy_config(toy_dir, folder, eval_every_epochs=0.0))
    return folder


@pytest.fixture(scope="module")
def other_dir(tmp_path_factory):
    """A data set of the three colours, bright and dark: six classes."""
    return training_toys.make_dataset(tmp_path_factory.mktemp("other"), [f"class {number}" for number in range(6)])


def config_of(dataset_dir, folder, source, **changes):
    settings = {"checkpoint_path": str(source), "max_number_of_steps": 3, "eval_every_epochs": 0.0}
    return training_toys.toy_config(dataset_dir, folder, **settings | changes)


def values_of(folder):
    return training_toys.values_in(checkpoints.find(folder))


def report_of(folder):
    return json.loads((folder / "fine_tuning.json").read_text(encoding="utf-8"))


def of_network(values):
    return {name: value for name, value in values.items() if name.startswith(f"{NET}/") and "/Momentum" not in name}


def test_a_run_begins_with_weights_and_statistics(source, toy_dir, tmp_path, capsys):
    """Steps of rate 1e-30 and averages that stand still change nothing: what is saved is what was restored."""
    config = config_of(toy_dir, tmp_path / "run", source, learning_rate=1e-30, batch_norm_decay=1.0)
    result = loop.train(config)
    before, after = of_network(values_of(source)), of_network(values_of(tmp_path / "run"))
    training_toys.assert_same_values(before, after)
    assert any(name.endswith("/moving_variance") for name in after)
    evaluation = evaluate_checkpoint(EvalConfig(checkpoint_path=source, batch_size=4))
    assert result.evaluation == {name: evaluation[name] for name in result.evaluation}
    report = report_of(tmp_path / "run")
    assert (sorted(report["restored"]), report["new"], report["frozen"]) == (sorted(before), [], [])
    assert report["skipped"] == sorted(set(values_of(source)) - set(before)) and "global_step" in report["skipped"]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("from "))
    assert f"{len(before)} variables restored, 0 begin anew" in line and "0 frozen" in line


def test_frozen_layers_see_images_as_they_did_before(source, other_dir, tmp_path):
    """The source's own numbers go with the name of its preprocessing, whatever this zoo has under that name."""
    folder = tmp_path / "source"
    shutil.copytree(source, folder)
    description = json.loads((folder / "model.json").read_text())
    assert description["preprocessing"]["name"] == "cifar"
    description["preprocessing"] |= {"name": "torchvision", "means": [0.5, 0.5, 0.5]}
    description["preprocessing"] = {
        key: value for key, value in description["preprocessing"].items() if key in ("name", "means", "image_size")
    }
    (folder / "model.json").write_text(json.dumps(description))
    config = config_of(other_dir, tmp_path / "run", folder, fine_tune=True, preprocessing_name="torchvision")
    loop.train(config)
    recorded = json.loads((tmp_path / "run" / "model.json").read_text())["preprocessing"]
    assert (recorded["name"], recorded["means"]) == ("torchvision", [0.5, 0.5, 0.5])


def test_a_rule_that_would_forget_what_is_restored_is_refused(source, other_dir, tmp_path):
    with pytest.raises(UserError, match="--optimizer=ftrl computes weights from sums that begin at 0"):
        loop.train(config_of(other_dir, tmp_path / "run", source, optimizer="ftrl", fine_tune=True))


def test_fine_tune_trains_a_new_head_and_leaves_all_else(source, other_dir, tmp_path, capsys):
    config = config_of(other_dir, tmp_path / "run", source, fine_tune=True)
    loop.train(config)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("from "))
    blocks = ", ".join(f"{NET}/{scope}" for scope in ("conv1", "block1", "block2", "block3"))
    assert f"2 ({NET}/logits) begin anew" in line and f" ({blocks}) frozen" in line
    # Slots of the source's optimizer, the layer that begins anew, and where the source was.
    skipped = re.search(r"\d+ \(([^)]*)\) of the file not used", line)[1]
    step = {"global_step", "loss_scale", "loss_scale_finite_steps"}
    assert set(skipped.split(", ")) == {"Momentum", f"{NET}/logits"} | step
    before, after = of_network(values_of(source)), values_of(tmp_path / "run")
    head = {f"{HEAD}/weights", f"{HEAD}/biases"}
    for name in set(before) - head:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert after[f"{HEAD}/weights"].shape == (1, 1, 64, 6)
    fresh = nets_factory.create_model(NET, 6)
    assert all((after[name] != fresh.variables_by_name[name].numpy()).any() for name in head)
    assert {name for name in after if name.endswith("/Momentum")} == {f"{name}/Momentum" for name in head}
    report = report_of(tmp_path / "run")
    assert set(report["new"]) == head
    assert set(report["restored"]) == set(report["frozen"]) == set(before) - head


def test_statistics_of_frozen_scopes_move_only_on_demand(source, other_dir, tmp_path):
    loop.train(config_of(other_dir, tmp_path / "run", source, fine_tune=True, update_frozen_batch_norm=True))
    before, after = of_network(values_of(source)), values_of(tmp_path / "run")
    for name in before:
        if not name.startswith(HEAD):
            assert (after[name] != before[name]).any() == ("/moving_" in name), name
    assert report_of(tmp_path / "run")["frozen_statistics_move"] is True


def test_scopes_name_what_begins_anew_and_what_is_trained(source, other_dir, tmp_path):
    scopes = f"{HEAD}, {NET}/block3"
    config = config_of(
        other_dir, tmp_path / "run", source, checkpoint_exclude_scopes=HEAD, trainable_scopes=scopes, keep_checkpoints=1
    )
    loop.train(config)
    before, after = of_network(values_of(source)), values_of(tmp_path / "run")
    for name in before:
        if name.startswith(HEAD):
            continue
        # The norms of the trained block use the batch and move; those of the others do neither.
        assert (after[name] != before[name]).any() == name.startswith(f"{NET}/block3"), name


def test_fine_tune_with_scopes_trains_these_and_the_new_head(source, other_dir, tmp_path, capsys):
    config = config_of(other_dir, tmp_path / "run", source, fine_tune=True, trainable_scopes=f"{NET}/block3")
    loop.train(config)
    before, after = of_network(values_of(source)), values_of(tmp_path / "run")
    frozen = {name for name in before if not name.startswith((HEAD, f"{NET}/block3"))}
    assert set(report_of(tmp_path / "run")["frozen"]) == frozen
    for name in frozen:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert {name for name in after if name.startswith(HEAD) and name.endswith("/Momentum")} == {
        f"{HEAD}/weights/Momentum",
        f"{HEAD}/biases/Momentum",
    }
    assert "warning" not in capsys.readouterr().err


def test_what_begins_anew_and_is_frozen_is_warned_of(source, other_dir, tmp_path, capsys):
    options = {"checkpoint_exclude_scopes": HEAD, "trainable_scopes": f"{NET}/block3", "max_number_of_steps": 1}
    loop.train(config_of(other_dir, tmp_path / "run", source, **options))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert f"2 variables begin anew and are frozen, {HEAD}/biases, {HEAD}/weights among them" in line
    assert "--trainable_scopes" in line


def test_a_frozen_norm_normalizes_by_its_averages(source):
    model = nets_factory.create_model(NET, 3, batch_norm_decay=0.5)
    model.restore(source)
    images = tf.constant(np.random.default_rng(0).normal(loc=3.0, size=[4, 8, 8, 3]).astype(np.float32))
    by_averages, by_batch = model(images)[0], model(images, training=True)[0]
    model.restore(source)
    asked = []

    def mode(scope):
        asked.append(scope)
        return False

    np.testing.assert_allclose(model(images, training=mode)[0], by_averages, rtol=1e-5)
    assert np.abs(by_averages - by_batch).max() > 0.01
    norms = {name.removesuffix("/moving_mean") for name in model.variables_by_name if name.endswith("/moving_mean")}
    assert set(asked) == norms


def test_a_run_that_goes_on_does_not_begin_again(source, other_dir, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(source, moved)
    settings = {"fine_tune": True, "learning_rate_decay_type": "constant"}
    whole = loop.train(config_of(other_dir, tmp_path / "whole", moved, **settings, max_number_of_steps=6))
    loop.train(config_of(other_dir, tmp_path / "parts", moved, **settings))
    report = report_of(tmp_path / "parts")
    shutil.rmtree(moved)  # It is not needed any more.
    parts = loop.train(config_of(other_dir, tmp_path / "parts", moved, **settings, max_number_of_steps=6))
    assert parts.step == 6
    assert report_of(tmp_path / "parts") == report
    assert parts.evaluation == whole.evaluation
    training_toys.assert_same_values(values_of(tmp_path / "parts"), values_of(tmp_path / "whole"))


def test_averages_begin_with_what_was_restored(source, toy_dir, tmp_path):
    config = config_of(toy_dir, tmp_path / "run", source, learning_rate=1e-30, moving_average_decay=0.9)
    loop.train(config)
    after, before = values_of(tmp_path / "run"), of_network(values_of(source))
    for name in before:
        if "/moving_" not in name:
            average = after[f"{name}/ExponentialMovingAverage"]
            np.testing.assert_allclose(average, before[name], rtol=1e-6, err_msg=name)


def test_a_v1_file_of_a_saver_without_description(source, toy_dir, tmp_path):
    """As Slim's published checkpoints: one file, with a global step, without model.json."""
    values = of_network(values_of(source))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, initializer=value) for name, value in values.items()]
        variables.append(tf.compat.v1.get_variable("global_step", initializer=np.int64(9)))
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables, write_version=tf.compat.v1.train.SaverDef.V1)
        prefix = saver.save(session, str(tmp_path / "slim.ckpt"))
    config = config_of(toy_dir, tmp_path / "run", prefix, learning_rate=1e-30, batch_norm_decay=1.0)
    loop.train(config)
    training_toys.assert_same_values(of_network(values_of(tmp_path / "run")), values)
    assert report_of(tmp_path / "run")["skipped"] == ["global_step"]


def test_a_head_of_other_classes_names_the_flags_that_help(source, other_dir, tmp_path):
    with pytest.raises(UserError) as caught:
        loop.train(config_of(other_dir, tmp_path / "run", source))
    message = str(caught.value)
    assert (
        f"{HEAD}/" in message and f"--checkpoint_exclude_scopes={HEAD}, or train it alone with --fine_tune" in message
    )
    assert "3)" in message and "6)" in message and "\n" not in message
    loop.train(config_of(other_dir, tmp_path / "run", source, checkpoint_exclude_scopes=HEAD))


def test_a_head_of_one_class_less_names_the_offset_that_keeps_it(source, toy_dir, tmp_path):
    """Published networks of 1000 classes and records of 1001: the first is a background."""
    directory = training_toys.make_dataset(tmp_path / "four", [f"class {number}" for number in range(4)])
    with pytest.raises(UserError, match="; if they differ by a background class, --labels_offset=1 keeps it"):
        loop.train(config_of(directory, tmp_path / "run", source))


def test_a_head_of_other_classes_of_the_same_number_is_warned_of(source, tmp_path, capsys):
    directory = training_toys.make_dataset(tmp_path / "animals", ["red", "dog", "eel"])
    loop.train(config_of(directory, tmp_path / "run", source, max_number_of_steps=1))
    warning = "warning: class 1 is 'green' in "
    assert warning in (said := capsys.readouterr().err)
    assert f"but 'dog' in the data; --checkpoint_exclude_scopes={HEAD} or --fine_tune" in said
    loop.train(config_of(directory, tmp_path / "tuned", source, max_number_of_steps=1, fine_tune=True))
    assert warning not in capsys.readouterr().err


def test_a_root_of_other_channels_names_its_own_scope(source, toy_dir, tmp_path):
    with pytest.raises(UserError, match=rf"{NET}/conv1/weights has shape .* --checkpoint_exclude_scopes={NET}/conv1$"):
        loop.train(config_of(toy_dir, tmp_path / "run", source, use_grayscale=True))


def test_what_the_checkpoint_lacks_is_an_error_or_begins_anew(source, toy_dir, tmp_path):
    values = of_network(values_of(source))
    lacking = {name: value for name, value in values.items() if "/moving_" not in name}
    checkpoints.write(tmp_path / "lacking.ckpt", lacking)
    config = config_of(toy_dir, tmp_path / "run", tmp_path / "lacking.ckpt")
    with pytest.raises(UserError, match=r"lacks \d+ of \d+ variables: .*moving_mean.*--ignore_missing_vars"):
        loop.train(config)
    loop.train(config_of(toy_dir, tmp_path / "run", tmp_path / "lacking.ckpt", ignore_missing_vars=True))
    assert set(report_of(tmp_path / "run")["missing"]) == set(values) - set(lacking)


def test_another_network_is_an_error_even_where_missing_ones_are_ignored(toy_dir, tmp_path):
    other = nets_factory.create_model("resnet_cifar_v2_8", 3)
    other.save(tmp_path / "other.ckpt")
    config = config_of(toy_dir, tmp_path / "run", tmp_path / "other.ckpt", ignore_missing_vars=True)
    with pytest.raises(
        UserError, match="holds another network: it has none of resnet_cifar_v1_8/.* but resnet_cifar_v2"
    ):
        loop.train(config)


def test_a_source_of_another_model_name(source, toy_dir, tmp_path):
    config = config_of(toy_dir, tmp_path / "run", source, model_name="resnet_cifar_v2_8")
    with pytest.raises(UserError, match="--model_name is resnet_cifar_v2_8, but .* is a resnet_cifar_v1_8"):
        loop.train(config)


def test_another_preprocessing_is_warned_of(source, toy_dir, tmp_path, capsys):
    loop.train(config_of(toy_dir, tmp_path / "run", source, preprocessing_name="vgg", max_number_of_steps=1))
    assert "was trained with preprocessing cifar, this run has vgg" in capsys.readouterr().err


def test_settings_of_the_source_that_no_flag_decides_are_taken_over(source, toy_dir, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(source, folder)
    description = checkpoints.read_description(folder)
    description["network"]["batch_norm_epsilon"] = 0.25
    checkpoints.write_description(folder, description)
    for _ in range(2):  # At the start, and when it goes on.
        loop.train(config_of(toy_dir, tmp_path / "run", folder, max_number_of_steps=1))
        assert checkpoints.read_description(tmp_path / "run")["network"]["batch_norm_epsilon"] == 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint_path": None, "fine_tune": True}, "--fine_tune needs --checkpoint_path"),
        ({"checkpoint_path": None, "checkpoint_exclude_scopes": "a"}, "--checkpoint_exclude_scopes needs --check"),
        ({"checkpoint_path": "/nowhere"}, "no checkpoint at /nowhere"),
        ({"trainable_scopes": "resnet_v1_50/logits"}, "begins with 'resnet_v1_50/logits'; scopes: .*block1, "),
        ({"trainable_scopes": ""}, "--trainable_scopes: no variable's name begins with ''"),
        ({"checkpoint_exclude_scopes": "logits"}, "--checkpoint_exclude_scopes: no variable's name begins with 'logi"),
    ],
    ids=str,
)
def test_bad_flags(source, toy_dir, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        loop.train(config_of(toy_dir, tmp_path / "run", source, **changes))


def test_scopes_of_statistics_alone_train_nothing(source, toy_dir, tmp_path):
    scope = f"{NET}/block1/unit_1/basic_v1/conv1/BatchNorm/moving_mean"
    with pytest.raises(UserError, match="holds no variable that can be trained"):
        loop.train(config_of(toy_dir, tmp_path / "run", source, trainable_scopes=scope))
    assert fine_tuning.REPORT == "fine_tuning.json"
