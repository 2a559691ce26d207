"""Data sets read back: what --verify finds, and what it says of those that are broken."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import download_and_convert_data
from command_line import UserError
from data import catalog, records
from data.conversion import command, contact_sheet


@pytest.fixture
def verify(tmp_path):
    """A function of a directory to (report, the lines that were said)."""

    def verify_directory(directory=tmp_path / "out"):
        said = []
        return command.verify(download_and_convert_data.ConvertConfig(verify=directory), show=said.append), said

    return verify_directory


@pytest.fixture
def converted(make_images, run, tmp_path):
    run(source=make_images({"cat": 30, "dog": 10}), validation_fraction=0.2, num_shards=2)
    return tmp_path / "out"


def change(directory, **changes):
    path = directory / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_counts_sizes_and_histogram(converted, verify):
    report, said = verify()
    assert {split: facts["count"] for split, facts in report["splits"].items()} == {"train": 32, "validation": 8}
    train = report["splits"]["train"]
    assert train["class_counts"] == [24, 8]
    assert train["height"] == dict.fromkeys(("0", "5", "50", "95", "100"), 5) and train["width"]["50"] == 7
    assert report["duplicates_across"] == [] and train["duplicates"] == 0
    assert any(line.split() == ["0", "cat", "24", "6", "#" * 30] for line in said)
    assert any(line.split() == ["1", "dog", "8", "2", "#" * 10] for line in said)
    assert "all 40 records are well" in said[-1]
    json.dumps(report)


def test_percentiles(make_images, run, tmp_path, verify):
    source = make_images({"a": 1, "b": 1})
    for side in range(1, 101):
        Image.fromarray(np.full([side, 2 * side, 3], side, np.uint8)).save(source / "a" / f"{side}.png")
    run(source=source, validation_fraction=0.0)
    report, _ = verify()
    # 102 heights, 1 to 100 and two more of 5: the median lies between the 51st, 49, and the 52nd, 50.
    assert report["splits"]["train"]["height"] == {"0": 1, "5": 5, "50": 50, "95": 95, "100": 100}
    assert report["splits"]["train"]["width"]["100"] == 200


def test_contact_sheet_shows_the_images_of_each_class(converted, verify):
    verify()
    with Image.open(converted / "contact_sheet.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(2**24)}
    cat, dog = (sum(name.encode()) % 256 for name in ("cat", "dog"))
    assert len({colour for colour in colours if colour[0] == cat and colour[2] == 6}) == 10
    assert len({colour for colour in colours if colour[0] == dog and colour[2] == 6}) == 8


def test_records_where_nothing_can_be_written_are_verified(converted, verify):
    (converted / "contact_sheet.png").mkdir()  # In the way, for root may write where others may not.
    _, said = verify()
    assert "all 40 records are well" in said[-1] and "no sheet of examples: " in said[-1]


def test_contact_sheet_of_many_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "_MOST_CLASSES", 10)
    encoded = tf.io.encode_png(np.zeros([4, 400, 3], np.uint8)).numpy()
    names = ["x" * 100] * 25
    contact_sheet.write_contact_sheet(tmp_path / "sheet.png", names, [1] * 25, {n: [encoded] for n in range(25)})
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 9 * 76 + 4


def test_duplicates_within_and_across_splits(make_images, run, verify, tmp_path):
    for split in ("train", "test"):
        source = make_images({"a": 4, "b": 4}, folder=f"source/{split}").parent
    # The folder's name is in the pixels: two copies across the splits, in another form, and one within.
    for name in ("000", "001"):
        Image.open(source / "train" / "a" / f"{name}.png").save(source / "test" / "b" / f"copy{name}.bmp")
    Image.open(source / "train" / "b" / "000.png").save(source / "train" / "a" / "copy.png")
    run(source=source)
    report, said = verify()
    (pair,) = report["duplicates_across"]
    assert pair["splits"] == ["train", "test"] and pair["images"] == 2 and len(pair["records"]) == 2
    assert [facts["duplicates"] for facts in report["splits"].values()] == [1, 0]
    assert any(line.startswith("2 images are in both train and test, pixel for pixel: records ") for line in said)


def test_embedded_digits(verify, tmp_path):
    for path in catalog.DATASETS["digits"].directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    report, _ = verify(tmp_path)
    totals = np.sum([facts["class_counts"] for facts in report["splits"].values()], axis=0)
    assert totals.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert report["duplicates_across"] == []


def test_records_without_sizes(verify, tmp_path):
    encoded = tf.io.encode_png(np.zeros([2, 2, 3], np.uint8)).numpy()
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
    }
    with tf.io.TFRecordWriter(str(tmp_path / "flowers_train_00000-of-00001.tfrecord")) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    description = {"name": "mine", "splits": {"train": 1}, "class_names": ["a", "b"], "file_pattern": "flowers_*"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    assert verify(tmp_path)[0]["splits"]["train"]["class_counts"] == [0, 1]


def test_damaged_shard(converted, verify):
    path = converted / "train-00001-of-00002.tfrecord"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"train-00001-of-00002.tfrecord, record \d+ .*the record is damaged"):
        verify()


def test_shard_cut_short_and_missing(converted, verify):
    path = converted / "validation-00000-of-00001.tfrecord"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="validation.*record 7 .*the record is cut short"):
        verify()
    (converted / "train-00001-of-00002.tfrecord").unlink()
    with pytest.raises(UserError, match="found 16 records in the 'train' split of 'out'.*expected 32"):
        verify()


def test_wrong_labels_sizes_and_counts(converted, verify):
    shard = converted / "train-00000-of-00002.tfrecord"
    good = shard.read_bytes()
    encoded = tf.io.encode_png(np.zeros([3, 3, 3], np.uint8)).numpy()
    records.write_examples(shard, [(encoded, "png", 0, 3, 3)] * 15 + [(encoded, "png", 2, 3, 3)])
    with pytest.raises(UserError, match=r"train-00000-of-00002.tfrecord, record 15 .*label 2 is out of range"):
        verify()
    records.write_examples(shard, [(encoded, "png", 0, 3, 3)] * 15 + [(encoded, "png", 0, 4, 3)])
    with pytest.raises(UserError, match="record 15 of split 'train' .* says height 4, but its image has 3; 1 records"):
        verify()
    records.write_examples(shard, [(encoded, "png", 1, 3, 3)] * 16)
    with pytest.raises(UserError, match="split 'train' has .* images of class 'cat', .*dataset.json says 24"):
        verify()
    shard.write_bytes(good)
    change(converted, image_shape=[5, 8, 3])
    with pytest.raises(UserError, match="record 0 of split 'train' .* is not of the 5x8 pixels"):
        verify()


def test_labels_txt_that_disagrees(converted, verify):
    (converted / "labels.txt").write_text("0:dog\n1:cat\n")
    with pytest.raises(UserError, match="name other classes, the first '0:dog' and '0:cat'"):
        verify()


def test_no_data_set(verify, tmp_path):
    with pytest.raises(UserError, match="data directory .*/none does not exist"):
        verify(tmp_path / "none")


def test_command_line(converted, tmp_path):
    script = Path(download_and_convert_data.__file__)
    flags = [f"--verify={converted}", f"--json={tmp_path / 'report.json'}"]
    done = subprocess.run([sys.executable, script, *flags], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "all 40 records are well" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["splits"]["train"]["count"] == 32
