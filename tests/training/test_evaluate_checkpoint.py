"""A folder of a run says all that is needed to score it."""

import csv
import functools
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import training_toys

from command_line import UserError
from data import catalog, parsing, preprocessing, records
from inference import network
from nets import checkpoints, nets_factory
from training import loop
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint


@pytest.fixture(scope="module")
def run(toy_dir, tmp_path_factory):
    """(folder, the trainer's last evaluation) of a run that has learnt something; the folder is not to be changed."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    result = loop.train(training_toys.toy_config(toy_dir, folder, num_epochs=4.0, eval_every_epochs=0.0))
    evaluation = result.evaluation
    assert evaluation["top_1"] > 0.5, "a constant network would hide errors"
    return folder, evaluation


def shared(result, evaluation):
    return {name: result[name] for name in evaluation}


def test_a_folder_alone_gives_the_trainers_numbers(run):
    folder, evaluation = run
    shown = []
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=folder, batch_size=4), shown.append)
    assert shared(result, evaluation) == evaluation
    assert {name: value for name, value in result.items() if name not in evaluation} == {
        "checkpoint": str(folder / "model.ckpt-22"),
        "model_name": training_toys.TINY,
        "dataset": "toy",
        "split": "test",
        "preprocessing": "cifar",
        "image_size": training_toys.SIDE,
        "labels_offset": 0,
        "precision": "float32",
    }
    assert len(shown) == 1 and "split test of toy (13 images), preprocessing cifar at 8 pixels" in shown[0]
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("batch_size", [1, 100])
def test_other_batches_give_the_trainers_numbers(run, batch_size):
    folder, evaluation = run
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=folder, batch_size=batch_size))
    assert result["confusion_matrix"] == evaluation["confusion_matrix"]
    assert result["cross_entropy"] == pytest.approx(evaluation["cross_entropy"], rel=1e-5)


def test_a_checkpoint_may_be_named_by_one_of_its_files(run):
    folder, evaluation = run
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=folder / "model.ckpt-22.index", batch_size=4))
    assert shared(result, evaluation) == evaluation


def test_another_split(run):
    folder, _ = run
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=folder, dataset_split_name="train"))
    assert (result["split"], result["count"]) == ("train", training_toys.TRAIN_COUNT)


def test_a_moved_folder_scores_alike(run, tmp_path):
    folder, evaluation = run
    shutil.copytree(folder, tmp_path / "moved")
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "moved", batch_size=4))
    assert result["checkpoint"] == str(tmp_path / "moved" / "model.ckpt-22")
    assert shared(result, evaluation) == evaluation


def test_a_flag_that_contradicts_the_checkpoint_is_obeyed_with_a_warning(run, capsys):
    folder, evaluation = run
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=folder, preprocessing_name="vgg", eval_image_size=16))
    assert (result["preprocessing"], result["image_size"]) == ("vgg", 16)
    assert result["cross_entropy"] != pytest.approx(evaluation["cross_entropy"], rel=1e-3)
    assert capsys.readouterr().err.splitlines() == [
        "warning: --preprocessing_name=vgg, but the checkpoint's network was trained with cifar",
        "warning: --eval_image_size=16, but the checkpoint's network was trained with 8",
    ]


def test_a_flag_that_agrees_does_not_warn(run, capsys):
    folder, evaluation = run
    config = EvalConfig(
        checkpoint_path=folder,
        model_name=training_toys.TINY,
        preprocessing_name="cifar",
        eval_image_size=8,
        labels_offset=0,
        batch_size=4,
    )
    assert shared(evaluate_checkpoint(config), evaluation) == evaluation
    assert capsys.readouterr().err == ""


def test_predictions_are_those_of_the_records_in_file_order(run, toy_dir, tmp_path):
    folder, evaluation = run
    path = tmp_path / "predictions.csv"
    evaluate_checkpoint(EvalConfig(checkpoint_path=folder, batch_size=4, predictions=path))
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["record"] for row in rows] == [str(number) for number in range(training_toys.TEST_COUNT)]

    model = nets_factory.create_model(training_toys.TINY, 3)
    model.restore(folder)
    preprocess = preprocessing.get_preprocessing("cifar")
    confusion = np.zeros([3, 3], int)
    for row, (encoded, _, label, _, _) in zip(rows, training_toys.pictures(13, 1, 3), strict=True):
        image = preprocess(tf.io.decode_image(encoded), training_toys.SIDE, training_toys.SIDE)
        logits = model(image[None])[0].numpy()[0].astype(np.float64)
        probabilities = np.exp(logits) / np.exp(logits).sum()
        assert int(row["label"]) == label
        assert row["top_5"].split() == [str(number) for number in np.argsort(-logits)]
        assert row["predicted"] == row["top_5"][0]
        assert float(row["probability"]) == pytest.approx(probabilities.max(), rel=1e-4)
        confusion[label, int(row["predicted"])] += 1
    assert confusion.tolist() == evaluation["confusion_matrix"]


def test_predictions_name_the_files_that_records_name(run, tmp_path):
    """Slim's ImageNet records do, and those of image_folder."""
    folder, _ = run
    directory = training_toys.make_dataset(tmp_path / "toy")
    names = [b"cat/1.png", b"", b"caf\xe9.png", *[None] * (training_toys.TEST_COUNT - 3)]
    with tf.io.TFRecordWriter(str(directory / "toy_test.tfrecord")) as writer:
        for (encoded, _, label, _, _), name in zip(training_toys.pictures(13, 1, 3), names, strict=True):
            named = {"image/filename": name} if name is not None else {}
            writer.write(parsing.serialize({"image/encoded": encoded, "image/class/label": label} | named))
    path = tmp_path / "predictions.csv"
    evaluate_checkpoint(EvalConfig(checkpoint_path=folder, dataset_dir=str(directory), predictions=path))
    rows = list(csv.DictReader(path.read_bytes().decode("latin1").splitlines()))
    assert [row["filename"] for row in rows[:4]] == ["cat/1.png", "", "caf\xe9.png", ""]


def test_a_bad_record_leaves_no_predictions(run, tmp_path):
    folder, _ = run
    directory = training_toys.make_dataset(tmp_path / "toy")
    pictures = list(training_toys.pictures(13, 1, 3))
    pictures[9] = (b"no image", "png", 0, 8, 8)
    records.write_examples(directory / "toy_test.tfrecord", pictures)
    config = EvalConfig(
        checkpoint_path=folder, dataset_dir=str(directory), batch_size=4, predictions=tmp_path / "predictions.csv"
    )
    with pytest.raises(UserError, match=r"toy_test.tfrecord, record 9 .*does not decode"):
        evaluate_checkpoint(config)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_data_set_of_other_classes(run):
    """The embedded digits have ten."""
    folder, _ = run
    with pytest.raises(UserError, match="network has 3 classes, but data set digits 10 .*--labels_offset=0"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=folder, dataset_name="digits"))


def test_a_foreign_checkpoint_of_other_classes_names_the_offset(run, toy_dir, tmp_path):
    """Slim's ImageNet records have a background class that many published networks do not."""
    nets_factory.create_model(training_toys.TINY, 2).save(tmp_path / "two.ckpt")
    config = EvalConfig(checkpoint_path=tmp_path / "two.ckpt", model_name=training_toys.TINY, dataset_dir=str(toy_dir))
    with pytest.raises(UserError, match="network has 2 classes, but data set toy 3 .*--labels_offset=0"):
        evaluate_checkpoint(config)


def test_a_foreign_checkpoint_of_another_network_lists_what_differs(run, toy_dir, tmp_path):
    nets_factory.create_model(training_toys.TINY, 3).save(tmp_path / "foreign.ckpt")
    config = EvalConfig(tmp_path / "foreign.ckpt", model_name="resnet_cifar_v1_20", dataset_dir=str(toy_dir))
    with pytest.raises(UserError, match="does not fit the network: 0 of another shape, .* missing in the file"):
        evaluate_checkpoint(config)


def test_eval_dir_is_of_watch(run, tmp_path, capsys):
    evaluate_checkpoint(EvalConfig(checkpoint_path=run[0], eval_dir=tmp_path / "eval"))
    assert "--eval_dir has no effect without --watch" in capsys.readouterr().err
    assert not (tmp_path / "eval").exists()


def test_another_model_name(run):
    folder, _ = run
    with pytest.raises(UserError, match="--model_name is resnet_v1_50, but .* is a resnet_cifar_v1_8"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=folder, model_name="resnet_v1_50"))


def test_an_unknown_split(run):
    folder, _ = run
    with pytest.raises(UserError, match="no split 'dev'"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=folder, dataset_split_name="dev"))


def test_a_batch_of_none(run):
    folder, _ = run
    with pytest.raises(UserError, match="--batch_size is 0, expected at least 1"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=folder, batch_size=0))


def test_an_empty_folder_and_a_missing_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in folder"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path))
    with pytest.raises(UserError, match="no checkpoint at .*model.ckpt-3; in its folder: none"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "model.ckpt-3"))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"network": {"model_name": "resnet_v2_50"}}', '{"network": {}}'], ids=repr
)
def test_a_description_that_is_none(run, tmp_path, content):
    folder, _ = run
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "model.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="model.json is not a description of a network"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "run"))


def test_a_foreign_checkpoint_is_described_by_flags(run, toy_dir, tmp_path):
    folder, evaluation = run
    model = nets_factory.create_model(training_toys.TINY, 3)
    model.restore(folder)
    model.save(tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="no model.json beside checkpoint .*--model_name"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "foreign.ckpt", dataset_dir=str(toy_dir)))
    config = EvalConfig(
        checkpoint_path=tmp_path / "foreign.ckpt",
        model_name=training_toys.TINY,
        dataset_dir=str(toy_dir),
        eval_image_size=training_toys.SIDE,
        batch_size=4,
    )
    assert shared(evaluate_checkpoint(config), evaluation) == evaluation


def test_bfloat16_scores_about_the_same(run):
    folder, evaluation = run
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=folder, precision="bfloat16"))
    assert result["precision"] == "bfloat16"
    assert result["cross_entropy"] == pytest.approx(evaluation["cross_entropy"], rel=0.1)
    assert result["cross_entropy"] != evaluation["cross_entropy"]


def test_the_description_makes_the_same_network_again(run):
    folder, _ = run
    description = checkpoints.read_description(folder)
    model, loaded_description = nets_factory.load_model(folder)
    assert loaded_description == description
    assert description["label_names"] == list(training_toys.CLASS_NAMES)
    assert description["preprocessing"]["name"] == "cifar"
    assert description["training"]["batch_norm_decay"] == 0.5
    size = description["preprocessing"]["image_size"]
    dataset = catalog.open_dataset(directory=description["training"]["dataset_dir"])
    function = functools.partial(preprocessing.get_preprocessing("cifar"), output_height=size, output_width=size)
    images, _ = next(iter(records.evaluation_batches(dataset, "test", function, 4)))
    assert model(images)[0].shape == [4, 3]


def test_a_data_set_of_other_labels_is_warned_of_and_the_same_in_another_order_refused(run, toy_dir, tmp_path, capsys):
    folder, _ = run
    for names in (["red", "green", "grey"], ["green", "red", "blue"]):
        other = tmp_path / names[0]
        shutil.copytree(toy_dir, other)
        description = json.loads((other / "dataset.json").read_text(encoding="utf-8"))
        (other / "dataset.json").write_text(json.dumps(description | {"class_names": names}), encoding="utf-8")
    evaluate_checkpoint(EvalConfig(checkpoint_path=folder, dataset_dir=str(tmp_path / "red")))
    assert capsys.readouterr().err.startswith(
        "warning: class 2 is 'blue' in the checkpoint, but 'grey' in data set toy\n"
    )
    with pytest.raises(UserError, match="class 0 is 'red' in the checkpoint, but 'green' .* same labels in another"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=folder, dataset_dir=str(tmp_path / "green")))


@pytest.mark.parametrize(
    "flag", ["eval_image_size", "batch_size", "synthetic_num_images", "dataset_num_private_threads"]
)
def test_numbers_under_one_are_refused(run, flag):
    with pytest.raises(UserError, match=f"--{flag} is 0, expected at least 1"):
        evaluate_checkpoint(EvalConfig(checkpoint_path=run[0], **{flag: 0}))


def test_a_grey_network_takes_another_preprocessing(toy_dir, tmp_path):
    loop.train(training_toys.toy_config(toy_dir, tmp_path / "run", use_grayscale=True, max_number_of_steps=1))
    result = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "run", preprocessing_name="vgg"))
    assert (result["preprocessing"], result["count"]) == ("vgg", training_toys.TEST_COUNT)
    assert network.load(tmp_path / "run", preprocessing_name="vgg").preprocess(np.zeros([9, 9, 1], np.uint8)).shape == (
        training_toys.SIDE,
        training_toys.SIDE,
        1,
    )


@pytest.mark.parametrize(
    "changed, message",
    [({"num_classes": ...}, "missing 1 required"), ({"num_heads": 8}, "unexpected keyword argument 'num_heads'")],
    ids=["a setting is missing", "a setting of another version"],
)
def test_a_description_that_this_version_cannot_follow_is_one_line(run, tmp_path, changed, message):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    settings = description["network"] | changed
    description["network"] = {name: value for name, value in settings.items() if value is not ...}
    (folder / "model.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(UserError, match=f"model.json beside .* this version cannot make .*{message}"):
        nets_factory.load_model(folder)
