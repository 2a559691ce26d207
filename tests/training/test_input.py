"""What a run is fed: drawn images, grey images, a data set's own statistics, mixed batches, input from elsewhere."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
from data import records, statistics
from nets import checkpoints, nets_factory
from training import config as configs
from training import loop
from training.clusters import Cluster
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from training.input import Input, open_data
from training.workers import Workers


class Two(Workers):
    """One of two workers, who is told how many records of each divided split the other has."""

    def __init__(self, index, *others):
        super().__init__(Cluster(("one:1", "two:2"), index=index))
        self._others = list(others)

    def sum(self, arrays):
        (counts,) = arrays
        counts[1 - self.index] = self._others.pop(0)
        return [counts]


def resolved(toy_dir, **changes):
    config = dataclasses.replace(training_toys.toy_config(toy_dir, None), **changes)
    network = nets_factory.find_network(config.model_name)
    dataset = open_data(config, network)
    return configs.resolve(config, dataset, network), dataset


def first_batch(toy_dir, **changes):
    config, dataset = resolved(toy_dir, **changes)
    return next(iter(Input(config, dataset).training_batches(0)))


def test_a_run_on_drawn_images_can_be_gone_on_with_and_evaluated(tmp_path):
    config = dataclasses.replace(
        training_toys.toy_config(None, tmp_path),
        dataset_dir=None,
        dataset_name="synthetic",
        synthetic_num_images=20,
        synthetic_num_classes=4,
        preprocessing_name=None,
        num_epochs=1.0,
    )
    result = loop.train(config)
    assert (result.step, result.evaluation["count"]) == (5, 20)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".tfrecord") == []
    scored = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path, batch_size=4))
    assert scored["top_1"] == result.evaluation["top_1"]
    assert scored["cross_entropy"] == pytest.approx(result.evaluation["cross_entropy"], rel=1e-6)
    assert scored["preprocessing"] == "lenet"
    again = loop.train(config)
    assert again.evaluation["cross_entropy"] == pytest.approx(result.evaluation["cross_entropy"], rel=1e-6)
    other = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path, synthetic_num_images=7))
    assert other["count"] == 7


def test_a_folder_of_drawn_images_is_a_contradiction(toy_dir):
    with pytest.raises(UserError, match="leave --dataset_dir out"):
        resolved(toy_dir, dataset_name="synthetic")


def test_grey_images_go_into_a_network_of_one_channel(toy_dir, tmp_path):
    config = training_toys.toy_config(
        toy_dir, tmp_path, use_grayscale=True, preprocessing_name="cifar_mean", max_number_of_steps=2
    )
    loop.train(config)
    model, description = nets_factory.load_model(tmp_path)
    assert model.variables_by_name[f"{training_toys.TINY}/conv1/weights"].shape == [3, 3, 1, 16]
    assert description["preprocessing"]["channels"] == 1
    assert evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path))["count"] == training_toys.TEST_COUNT


def test_a_data_sets_own_statistics_are_measured_once_and_recorded(toy_dir, tmp_path, monkeypatch):
    config = training_toys.toy_config(toy_dir, tmp_path, preprocessing_name="cifar_mean", max_number_of_steps=1)
    loop.train(config)
    recorded = checkpoints.read_description(tmp_path)["preprocessing"]
    _, dataset = resolved(toy_dir)
    means, deviations = statistics.channel_statistics(dataset, "train")
    assert recorded["means"] == list(means) and recorded["standard_deviations"] == list(deviations)
    # A run that goes on keeps the numbers it was trained with.
    recorded["means"] = [1.0, 2.0, 3.0]
    description = checkpoints.read_description(tmp_path) | {"preprocessing": recorded}
    (tmp_path / "model.json").write_text(json.dumps(description))
    loop.train(training_toys.toy_config(toy_dir, tmp_path, preprocessing_name="cifar_mean", max_number_of_steps=2))
    assert checkpoints.read_description(tmp_path)["preprocessing"]["means"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "flags",
    [
        {"random_erasing": 1.0},
        {"rand_augment_layers": 2},
        {"mixup_alpha": 1.0},
        {"cutmix_alpha": 1.0},
    ],
)
def test_each_augmentation_changes_the_batch_and_nothing_else_does(toy_dir, flags):
    plain, plain_labels = first_batch(toy_dir)
    again, _ = first_batch(toy_dir, dataset_num_private_threads=2)
    np.testing.assert_array_equal(again, plain)
    images, labels = first_batch(toy_dir, **flags)
    assert images.shape == plain.shape
    assert not np.allclose(images, plain)
    if "mixup_alpha" in flags or "cutmix_alpha" in flags:
        assert labels.dtype == tf.float32 and labels.shape == [4, 3]
        np.testing.assert_allclose(tf.reduce_sum(labels, axis=1), 1, atol=1e-6)
        # Each image keeps a part of its own label.
        assert (tf.gather(labels, plain_labels, batch_dims=1) > 0).numpy().all()
    else:
        np.testing.assert_array_equal(labels, plain_labels)


def test_a_run_with_everything_on_is_taken_up_again_bit_for_bit(toy_dir, tmp_path):
    flags = {"random_erasing": 0.5, "rand_augment_layers": 1, "mixup_alpha": 0.2, "cutmix_alpha": 1.0}
    flags |= {"learning_rate_decay_type": "constant", "eval_every_epochs": 0.0, "label_smoothing": 0.1}
    whole = loop.train(training_toys.toy_config(toy_dir, tmp_path / "whole", max_number_of_steps=4, **flags))
    loop.train(training_toys.toy_config(toy_dir, tmp_path / "parts", max_number_of_steps=2, **flags))
    parts = loop.train(training_toys.toy_config(toy_dir, tmp_path / "parts", max_number_of_steps=4, **flags))
    training_toys.assert_same_values(
        training_toys.values_in(whole.checkpoint), training_toys.values_in(parts.checkpoint)
    )


@pytest.fixture
def divided_dir(tmp_path):
    """22 records to train on in files of 7, 7 and 8; 13 to evaluate in one."""
    training_toys.divide_files(training_toys.make_dataset(tmp_path / "toy"), "train", 3)
    return tmp_path / "toy"


def test_workers_with_files_of_their_own_see_each_of_their_records_once_an_epoch(divided_dir):
    """Of 22 records in three files, the first worker has the 7 of the first file, the other the 15 of the others."""
    pixels = {"preprocessing_name": "lenet", "shard_policy": "file", "batch_size": 2}
    config, dataset = resolved(divided_dir, **pixels)
    seen = []
    for index, others in ((0, 15), (1, 7)):
        batches = iter(Input(config, dataset, workers=Two(index, others)).training_batches(0))
        epochs = [sorted(next(batches)[0].numpy().tobytes() for _ in range(22 - others)) for _ in range(2)]
        assert epochs[0] == epochs[1] and len(set(epochs[0])) == 22 - others
        seen += epochs[0]
    epoch = Input(config, dataset).training_batches(0).take(11)
    assert sorted(seen) == sorted(image.numpy().tobytes() for images, _ in epoch for image in tf.split(images, 2))


def test_workers_with_files_of_their_own_draw_apart_and_go_on_where_they_were(divided_dir, tmp_path):
    """The same two files for both, so that only what is drawn can tell their images apart."""
    same = tmp_path / "toy" / "toy_train-0.tfrecord"
    (tmp_path / "toy" / "toy_train-2.tfrecord").unlink()
    (tmp_path / "toy" / "toy_train-1.tfrecord").write_bytes(same.read_bytes())
    description = json.loads((divided_dir / "dataset.json").read_text())
    (divided_dir / "dataset.json").write_text(json.dumps(description | {"splits": {"train": 14, "test": 13}}))
    config, dataset = resolved(divided_dir, shard_policy="file", batch_size=14)
    both = [Input(config, dataset, workers=Two(index, 7)) for index in range(2)]
    first, second = ([images.numpy() for images, _ in one.training_batches(0).take(3)] for one in both)
    for ours, theirs in zip(first, second, strict=True):
        assert sorted(image.tobytes() for image in ours) != sorted(image.tobytes() for image in theirs)
    for images, later in zip(both[0].training_batches(1).take(2), first[1:], strict=True):
        np.testing.assert_array_equal(images[0], later)


def test_few_files_are_evaluated_by_turns_and_more_are_divided(divided_dir):
    config, dataset = resolved(divided_dir, shard_policy="file", batch_size=2)
    second = Input(config, dataset, workers=Two(1, 7))
    assert second.places(4) == (4, 2)
    assert [len(labels) for _, labels in second.evaluation_batches(4)] == [4, 1]
    training_toys.divide_files(divided_dir, "test", 2)
    config, dataset = resolved(divided_dir, shard_policy="file", batch_size=2)
    # 7 records of the training come before its own, and 6 of the evaluation.
    second = Input(config, dataset, workers=Two(1, 7, 6))
    assert second.places(4) == (6, 1)
    assert [len(labels) for _, labels in second.evaluation_batches(4)] == [4, 3]


def test_a_run_with_files_of_its_workers_goes_on_with_as_many(toy_dir, tmp_path):
    config = training_toys.toy_config(toy_dir, tmp_path, shard_policy="file", max_number_of_steps=1)
    loop.train(config)
    described = json.loads((tmp_path / "run.json").read_text())
    assert described["workers"] == 1
    (tmp_path / "run.json").write_text(json.dumps(described | {"workers": 2}))
    with pytest.raises(
        UserError, match=r"holds a run of 2 worker\(s\), each with own files, here are 1: go on with as"
    ):
        loop.train(dataclasses.replace(config, max_number_of_steps=2))


def test_a_worker_without_records_is_named(divided_dir):
    for number in range(3):
        (divided_dir / f"toy_train-{number}.tfrecord").unlink()
    records.write_examples(divided_dir / "toy_train-0.tfrecord", training_toys.pictures(22, 0, 3))
    (divided_dir / "toy_train-1.tfrecord").touch()
    config, dataset = resolved(divided_dir, shard_policy="file", batch_size=2)
    with pytest.raises(UserError, match="the files of split 'train' of worker 1 hold no record"):
        Input(config, dataset, workers=Two(0, 0))


def test_files_that_cannot_be_divided_are_named(divided_dir, capsys):
    config, dataset = resolved(divided_dir, shard_policy="file", batch_size=2)
    with pytest.raises(UserError, match=r"hold 21 records, expected 22 by .*dataset.json: restore the missing"):
        Input(config, dataset, workers=Two(1, 6))
    Input(config, dataset, workers=Two(0, 15))
    assert "workers have 7 to 15 records of split 'train'; who has fewer" in capsys.readouterr().err
    config, dataset = resolved(divided_dir, shard_policy="file", dataset_split_name="test", batch_size=2)
    with pytest.raises(
        UserError, match=r"split 'test' of data set 'toy' has 1 file\(s\), expected at least one for each"
    ):
        Input(config, dataset, workers=Two(0, 7))


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"rand_augment_magnitude": 31.0}, "--rand_augment_magnitude is 31.0, expected between 0 and 30"),
        ({"random_erasing": 1.5}, "--random_erasing is 1.5, expected between 0 and 1"),
        ({"mixup_alpha": -1.0}, "--mixup_alpha is -1.0, expected at least 0"),
        ({"dataset_num_private_threads": 0}, "--dataset_num_private_threads is 0, expected at least 1"),
        ({"synthetic_num_images": 0, "dataset_name": "synthetic", "dataset_dir": None}, "0 images"),
    ],
)
def test_numbers_out_of_range(toy_dir, flags, text):
    with pytest.raises(UserError, match=text):
        resolved(toy_dir, **flags)


def test_a_service_that_does_not_answer_is_named_before_anything_is_made(toy_dir, tmp_path):
    config = training_toys.toy_config(toy_dir, tmp_path / "run", data_service_address="grpc://127.0.0.1:9")
    with pytest.raises(UserError, match="no data service answers at grpc://127.0.0.1:9"):
        loop.train(config)
