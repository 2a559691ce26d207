"""Checkpoints of a SlimModel: its own files, a TF1 Saver's, and what does not fit."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from models import values_of
from nets_testing import assert_same, noise, set_model, set_variables, value_for

from command_line import UserError
from nets import checkpoints, nets_factory

NAME = "resnet_cifar_v1_8"
CLASSES = 10
IMAGES = noise(2, 16, 16, 3)


def create(num_classes=CLASSES, name=NAME, **kwargs):
    return nets_factory.create_model(name, num_classes, **kwargs)


@pytest.fixture(scope="module")
def shared(tiny_networks):
    return create(), create(seed=1)


@pytest.fixture
def model(shared):
    """A model whose variables have the values of `value_for`."""
    set_model(shared[0])
    return shared[0]


@pytest.fixture
def other(shared):
    """A second model of the same network; all its values are other ones."""
    set_model(shared[1], lambda name, shape: value_for(name, shape, seed=1))
    return shared[1]


def graph_of(is_training=False):
    """Builds the network of NAME in the current v1 graph; returns its images and logits."""
    images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 3])
    logits, _ = nets_factory.get_network_fn(NAME, CLASSES, is_training=is_training)(images)
    return images, logits


# Round trips.


def test_save_and_restore(model, other, tmp_path):
    prefix = str(tmp_path / "model.ckpt-7")
    model.save(prefix)
    assert np.abs(other(IMAGES)[0] - model(IMAGES)[0]).max() > 1e-3
    assert other.restore(prefix) == prefix
    assert_same(values_of(other), values_of(model), rtol=0, atol=0)
    np.testing.assert_array_equal(other(IMAGES)[0], model(IMAGES)[0])


def test_save_makes_the_folder_and_leaves_nothing_else(model, tmp_path):
    model.save(tmp_path / "new" / "folder" / "model.ckpt")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
    ]


def test_save_replaces_an_older_file(model, other, tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    other.save(prefix)
    model.save(prefix)
    other.restore(prefix)
    assert_same(values_of(other), values_of(model), rtol=0, atol=0)


def test_an_older_file_that_is_replaced_only_in_part_is_no_checkpoint(model, other, tmp_path, monkeypatch):
    """New data under the old index would be a damaged checkpoint, which stands in the way of the one before."""
    other.save(tmp_path / "model.ckpt-1")
    other.save(tmp_path / "model.ckpt-2")
    replace = pathlib.Path.replace

    def fail_at_the_index(path, target):
        if path.suffix == ".index":
            raise OSError("no power")
        return replace(path, target)

    monkeypatch.setattr(pathlib.Path, "replace", fail_at_the_index)
    with pytest.raises(UserError, match="model.ckpt-2 could not be written: no power; .* may be gone"):
        model.save(tmp_path / "model.ckpt-2")
    assert checkpoints.find(tmp_path) == str(tmp_path / "model.ckpt-1")


def test_an_impossible_place_is_an_error_of_one_line(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError) as error:
        model.save(tmp_path / "file" / "model.ckpt")
    assert "file/model.ckpt" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_any_file_of_a_checkpoint_means_it(model, other, tmp_path, ending):
    model.save(tmp_path / "model.ckpt-3")
    assert other.restore(tmp_path / f"model.ckpt-3{ending}") == str(tmp_path / "model.ckpt-3")
    assert_same(values_of(other), values_of(model), rtol=0, atol=0)


def test_a_folder_means_its_newest_checkpoint(model, other, tmp_path):
    other.save(tmp_path / "model.ckpt-9")
    model.save(tmp_path / "model.ckpt-10")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-10"\n')
    other.restore(tmp_path)
    assert_same(values_of(other), values_of(model), rtol=0, atol=0)


def test_a_folder_whose_newest_was_removed_means_the_one_before(model, tmp_path):
    for step in (9, 10):
        model.save(tmp_path / f"model.ckpt-{step}")
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt-10"\nall_model_checkpoint_paths: "model.ckpt-9"\n'
        'all_model_checkpoint_paths: "model.ckpt-10"\n'
    )
    assert checkpoints.find(tmp_path) == str(tmp_path / "model.ckpt-10")
    (tmp_path / "model.ckpt-10.index").unlink()
    assert checkpoints.find(tmp_path) == str(tmp_path / "model.ckpt-9")


def test_a_folder_without_its_state_file_means_the_highest_step(model, tmp_path):
    for step in (9, 10):
        model.save(tmp_path / f"model.ckpt-{step}")
    assert checkpoints.find(tmp_path) == str(tmp_path / "model.ckpt-10")


@pytest.mark.parametrize("name", ["lr[0.1]", "a\\b"])
def test_what_tensorflow_could_not_read_is_not_written(model, tmp_path, name):
    with pytest.raises(UserError, match="in its name, so TensorFlow could write but not read a checkpoint there"):
        model.save(tmp_path / name / "model.ckpt-1")
    assert not list(tmp_path.iterdir())


def test_one_that_tensorflow_cannot_read_where_it_is_says_why(model, tmp_path):
    (tmp_path / "plain").mkdir()
    model.save(tmp_path / "plain" / "model.ckpt-1")
    (tmp_path / "plain").rename(tmp_path / "lr[0.1]")
    with pytest.raises(UserError, match=r"lr\[0.1\].* in its name.*give the folder another name"):
        model.restore(tmp_path / "lr[0.1]")


# Files of TF1 and for TF1.


def test_load_checkpoint_reads_our_file(model, tmp_path):
    model.save(tmp_path / "model.ckpt")
    reader = tf.train.load_checkpoint(str(tmp_path / "model.ckpt"))
    shapes = reader.get_variable_to_shape_map()
    assert shapes == {name: value.shape.as_list() for name, value in model.variables_by_name.items()}
    for name in shapes:
        np.testing.assert_array_equal(reader.get_tensor(name), value_for(name, shapes[name]))


def test_a_saver_in_a_v1_graph_reads_our_file(model, tmp_path):
    prefix = str(tmp_path / "model.ckpt")
    model.save(prefix)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images, logits = graph_of()
        tf.compat.v1.train.Saver().restore(session, prefix)
        found = session.run(logits, {images: IMAGES})
    np.testing.assert_allclose(found, model(IMAGES)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_files_of_a_saver_restore_into_ours(model, other, tmp_path, version):
    write_version = getattr(tf.compat.v1.train.SaverDef, version)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        _, logits = graph_of(is_training=True)
        network = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
        # What a training run's file holds besides: step, momentum slots, a stray mean as in the archives of 2016.
        step = tf.compat.v1.train.get_or_create_global_step()
        tf.compat.v1.get_variable(f"{NAME}/mean_rgb", [3])
        tf.compat.v1.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(logits), global_step=step)
        session.run(tf.compat.v1.global_variables_initializer())
        set_variables(session, network)
        saver = tf.compat.v1.train.Saver(write_version=write_version)
        prefix = saver.save(session, str(tmp_path / "model.ckpt"), global_step=12)
        names = [variable.op.name for variable in tf.compat.v1.global_variables()]
    assert f"{NAME}/conv1/weights/Momentum" in names and len(names) > len(network) + 2
    assert (tmp_path / "model.ckpt-12.index").exists() == (version == "V2")
    other.restore(prefix)
    assert_same(values_of(other), values_of(model), rtol=0, atol=0)
    # And through the folder, whose `checkpoint` file the Saver wrote.
    other.variables_by_name[f"{NAME}/conv1/weights"].assign_add(other.variables_by_name[f"{NAME}/conv1/weights"])
    other.restore(tmp_path)
    assert_same(values_of(other), values_of(model), rtol=0, atol=0)


# What does not fit.


def mismatch(model, path):
    """The message of a failed restore, which must not have changed a thing."""
    before = values_of(model)
    with pytest.raises(ValueError) as error:
        model.restore(path)
    assert_same(values_of(model), before, rtol=0, atol=0)
    return str(error.value)


def test_another_number_of_classes_is_of_another_shape(other, tmp_path):
    create(7).save(tmp_path / "model.ckpt")
    message = mismatch(other, tmp_path / "model.ckpt")
    assert str(tmp_path / "model.ckpt") in message
    for name, found, wanted in (("weights", "(1, 1, 64, 7)", "(1, 1, 64, 10)"), ("biases", "(7,)", "(10,)")):
        (row,) = [line for line in message.splitlines() if f"{NAME}/logits/{name}" in line]
        assert found in row and wanted in row
    assert not any("conv1" in line for line in message.splitlines())


def test_missing_and_unexpected_stand_side_by_side(other, tmp_path):
    create(name="resnet_cifar_v2_8").save(tmp_path / "model.ckpt")
    message = mismatch(other, tmp_path / "model.ckpt")
    beside = [line for line in message.splitlines() if f"{NAME}/" in line and "resnet_cifar_v2_8/" in line]
    assert beside
    assert all(line.index(f"{NAME}/") < line.index("resnet_cifar_v2_8/") for line in beside)
    # Every variable is missing: the names differ in the scope.
    assert f"{len(other.variables_by_name)} missing" in message and "unexpected" in message


def test_all_three_kinds_at_once(other, tmp_path):
    values = values_of(other)
    changed = f"{NAME}/conv1/weights"
    dropped = f"{NAME}/block1/unit_1/basic_v1/conv1/weights"
    values[changed] = np.zeros([3, 3, 1, 16], np.float32)
    del values[dropped]
    values[f"{NAME}/stray"] = np.zeros([2, 5], np.float32)
    prefix = str(tmp_path / "model.ckpt")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {name: tf.Variable(value) for name, value in values.items()}
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, prefix, write_meta_graph=False)
    message = mismatch(other, prefix)
    (row,) = [line for line in message.splitlines() if changed in line]
    assert "(3, 3, 1, 16)" in row and "(3, 3, 3, 16)" in row
    (row,) = [line for line in message.splitlines() if dropped in line]
    assert row.index(dropped) < row.index(f"{NAME}/stray") and "(2, 5)" in row
    for words in ("1 of another shape", "1 missing", "1 unexpected"):
        assert words in message


def test_a_path_without_a_checkpoint_names_what_is_there(other, model, tmp_path):
    with pytest.raises(ValueError, match="none"):
        other.restore(tmp_path / "model.ckpt")
    model.save(tmp_path / "model.ckpt-5")
    with pytest.raises(ValueError, match="model.ckpt-5"):
        other.restore(tmp_path / "model.ckpt-6")


def test_a_folder_without_a_checkpoint_says_so(other, tmp_path):
    with pytest.raises(ValueError, match="no checkpoint"):
        other.restore(tmp_path)


@pytest.mark.parametrize("ending, content", [(".index", b"garbage"), (".data-00000-of-00001", b"")])
def test_a_damaged_file_is_an_error_of_one_line(model, other, tmp_path, ending, content):
    model.save(tmp_path / "model.ckpt")
    (tmp_path / f"model.ckpt{ending}").write_bytes(content)
    message = mismatch(other, tmp_path / "model.ckpt")
    assert "model.ckpt" in message and "\n" not in message


def test_a_lost_data_file_is_an_error(model, other, tmp_path):
    model.save(tmp_path / "model.ckpt")
    (tmp_path / "model.ckpt.data-00000-of-00001").unlink()
    assert "model.ckpt" in mismatch(other, tmp_path / "model.ckpt")


@pytest.mark.parametrize("content", [b"", b"model_checkpoint_path: \xff\xfe"], ids=["empty", "no text"])
def test_a_damaged_state_file_names_the_checkpoints_beside_it(model, tmp_path, content):
    """As a loss of power leaves it."""
    model.save(tmp_path / "model.ckpt-7")
    (tmp_path / "checkpoint").write_bytes(content)
    with pytest.raises(UserError, match="checkpoint is damaged; remove it, and name .* beside it: model.ckpt-7$"):
        checkpoints.find(tmp_path)
