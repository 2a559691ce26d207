import json

import pytest

from command_line import UserError
from data import catalog

GOOD = {
    "name": "flowers",
    "splits": {"train": 3320, "validation": 350},
    "class_names": ["daisy", "dandelion", "roses", "sunflowers", "tulips"],
    "file_pattern": "flowers_{split}_*.tfrecord",
}


def described(directory, **changes):
    description = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    (directory / "dataset.json").write_text(json.dumps(description))
    return directory


def test_a_directory_that_has_no_row_opens_with_general_defaults(tmp_path):
    dataset = catalog.open_dataset(directory=described(tmp_path))
    assert dataset.num_classes == 5
    assert dataset.num_records("validation") == 350
    assert (dataset.row.train_split, dataset.row.eval_split) == ("train", "validation")
    assert dataset.row.preprocessing_name is None
    assert dataset.row.defaults == catalog.TrainingDefaults()


@pytest.mark.parametrize(
    ("splits", "roles"),
    [
        ({"dev": 10, "train": 100}, ("train", "dev")),
        ({"test": 10, "train": 100, "valid": 10}, ("train", "valid")),
        ({"held_out": 10, "train": 100}, ("train", "held_out")),
        ({"all": 100}, ("all", "all")),
    ],
)
def test_what_was_trained_on_is_scored_only_where_there_is_nothing_else(tmp_path, splits, roles):
    row = catalog.open_dataset(directory=described(tmp_path, name="birds", splits=splits)).row
    assert (row.train_split, row.eval_split) == roles


def test_files_are_those_of_the_split_in_order_and_no_unfinished_one(tmp_path):
    directory = tmp_path / "odd [name] 1"
    directory.mkdir()
    described(directory)
    names = ["flowers_train_00001-of-00002.tfrecord", "flowers_train_00000-of-00002.tfrecord"]
    for name in (*names, "flowers_validation_0.tfrecord", ".flowers_train_2.tfrecord.partial"):
        (directory / name).touch()
    files = catalog.open_dataset(directory=directory).files("train")
    assert files == [str(directory / name) for name in sorted(names)]


def test_a_row_is_found_by_the_name_in_the_directory(tmp_path):
    dataset = catalog.open_dataset(directory=described(tmp_path, name="digits"))
    assert dataset.row.defaults == catalog.DATASETS["digits"].defaults
    assert dataset.directory == tmp_path


def test_a_known_data_set_is_scored_on_the_validation_split_it_has(tmp_path):
    """CIFAR-10 as arXiv:1512.03385 divides it, section 4.2: 45,000 to train on and 5,000 to choose by."""
    splits = {"train": 45_000, "validation": 5_000, "test": 10_000}
    row = catalog.open_dataset(directory=described(tmp_path, name="cifar10", splits=splits)).row
    assert (row.train_split, row.eval_split, row.preprocessing_name) == ("train", "validation", "cifar")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown data set 'birds': known are digits"):
        catalog.open_dataset("birds")


def test_a_name_that_the_directory_contradicts(tmp_path):
    with pytest.raises(UserError, match=r"dataset.json describes data set 'flowers', not 'digits'"):
        catalog.open_dataset("digits", described(tmp_path))


def test_unknown_split_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="no split 'test'.*dataset.json lists train, validation"):
        catalog.open_dataset(directory=described(tmp_path)).files("test")


def test_no_files_names_directory_pattern_and_count(tmp_path):
    dataset = catalog.open_dataset(directory=described(tmp_path))
    with pytest.raises(UserError, match="matches 'flowers_train_.*tfrecord', expected the 3320 records") as caught:
        dataset.files("train")
    assert str(tmp_path) in str(caught.value)


def test_missing_directory(tmp_path):
    with pytest.raises(UserError, match="data directory .*/none does not exist"):
        catalog.open_dataset(directory=tmp_path / "none")


def test_a_file_for_a_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a directory"):
        catalog.open_dataset(directory=tmp_path / "file")


def test_empty_directory(tmp_path):
    with pytest.raises(UserError, match="is empty: expected TFRecord files and a dataset.json .* such as"):
        catalog.open_dataset(directory=tmp_path)


def test_directory_without_description(tmp_path):
    (tmp_path / "flowers_train_0.tfrecord").touch()
    with pytest.raises(UserError, match="has no dataset.json: expected") as caught:
        catalog.open_dataset(directory=tmp_path)
    # The example in the message is one that works.
    (tmp_path / "dataset.json").write_text(str(caught.value).partition("such as ")[2])
    assert catalog.open_dataset(directory=tmp_path).name == "flowers"


@pytest.mark.parametrize("content", [b'{"name": "flowers",', b"\xff\xfe"])
def test_description_that_is_not_json(tmp_path, content):
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(UserError, match="dataset.json is not valid JSON"):
        catalog.open_dataset(directory=tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"splits": ..., "class_names": ...}, "lacks splits, class_names"),
        ({"splits": {"train": "many"}}, "split 'train' has 'many' records"),
        ({"splits": {"train": 0}}, "split 'train' has 0 records"),
        ({"splits": {"train": True}}, "split 'train' has True records"),
        ({"splits": []}, "splits does not map"),
        ({"class_names": []}, "class_names is not a list"),
        ({"class_names": ["a", 1]}, "class_names is not a list"),
        ({"file_pattern": "all.tfrecord"}, "file_pattern does not say where {split} stands"),
        ({"image_shape": [8, 8]}, "image_shape is not"),
        ({"name": ""}, "name is not a name"),
    ],
)
def test_invalid_description_says_which_entry(tmp_path, changes, problem):
    with pytest.raises(UserError) as caught:
        catalog.open_dataset(directory=described(tmp_path, **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'dataset.json'}: ")
    assert problem in str(caught.value)


def test_description_that_is_a_list(tmp_path):
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(UserError, match="holds a list, not an object"):
        catalog.open_dataset(directory=tmp_path)
