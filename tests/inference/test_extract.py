"""Features on disk: what the network gives, in three forms, whole and in order, also after an interruption."""

import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from inference_toys import write_checkpoint

from command_line import UserError
from data import records
from inference import extract as extraction
from inference import feature_files
from inference.extract import ExtractConfig, extract, list_end_points
from nets import nets_factory

END_POINTS = "block2,global_pool"
COUNT = 11


def config(checkpoint, output, *images, **flags):
    flags = {"end_points": END_POINTS, "batch_size": 4, **flags}
    return ExtractConfig(checkpoint_path=checkpoint, images=tuple(map(str, images)), output=output, **flags)


def run(*args, **flags):
    """Returns the counts and the failures of a run."""
    failures = []
    counts = extract(config(*args, **flags), lambda text: None, lambda *failure: failures.append(failure))
    return counts, failures


def loaded(path):
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A data set of eleven images in two files, the labels 0 to 4 in turn."""
    folder = tmp_path_factory.mktemp("records")
    pixels = np.random.default_rng(0).integers(0, 256, [COUNT, 20, 20, 3], np.uint8)
    examples = [(tf.io.encode_png(image).numpy(), "png", n % 5, 20, 20) for n, image in enumerate(pixels)]
    records.write_examples(folder / "toy_test-0.tfrecord", examples[:7])
    records.write_examples(folder / "toy_test-1.tfrecord", examples[7:])
    description = {"name": "toy", "splits": {"test": COUNT}, "class_names": list("abcde")}
    description["file_pattern"] = "toy_{split}-*.tfrecord"
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="module")
def expected(checkpoint, dataset):
    """What the network itself says of the data set."""
    model, _ = nets_factory.load_model(checkpoint)
    images = [
        tf.io.decode_png(tf.train.Example.FromString(record).features.feature["image/encoded"].bytes_list.value[0])
        for name in ("toy_test-0.tfrecord", "toy_test-1.tfrecord")
        for record in tf.data.TFRecordDataset(str(dataset / name)).as_numpy_iterator()
    ]
    resized = tf.compat.v1.image.resize_bilinear(tf.cast(tf.stack(images), tf.float32), [32, 32])
    features = model.features(resized / 127.5 - 1, END_POINTS.split(","))
    return {name: value.numpy() for name, value in features.items()}


NAMES = [f"toy_test-0.tfrecord:{n}" for n in range(7)] + [f"toy_test-1.tfrecord:{n}" for n in range(4)]
LABELS = [n % 5 for n in range(COUNT)]


def test_npz_holds_what_the_network_gives(checkpoint, dataset, expected, tmp_path):
    assert run(checkpoint, tmp_path / "f.npz", dataset) == ((COUNT, 0), [])
    arrays = loaded(tmp_path / "f.npz")
    assert list(arrays) == ["name", "label", "block2", "global_pool"]
    assert [os.path.basename(name) for name in arrays["name"]] == NAMES
    assert arrays["label"].tolist() == LABELS
    for name, values in expected.items():
        assert (arrays[name].dtype, arrays[name].shape) == (np.float32, values.shape)
        np.testing.assert_allclose(arrays[name], values, rtol=1e-3, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_tfrecord_holds_the_same(checkpoint, dataset, tmp_path):
    for ending in ("npz", "tfrecord"):
        run(checkpoint, tmp_path / f"f.{ending}", dataset)
    arrays = loaded(tmp_path / "f.npz")
    features = {
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        "block2": tf.io.FixedLenFeature([16, 16, 32], tf.float32),
        "global_pool": tf.io.FixedLenFeature([1, 1, 64], tf.float32),
    }
    stream = tf.data.TFRecordDataset(str(tmp_path / "f.tfrecord"))
    rows = list(stream.map(lambda row: tf.io.parse_single_example(row, features)).as_numpy_iterator())
    assert [row["image/filename"].decode() for row in rows] == arrays["name"].tolist()
    assert [row["image/class/label"] for row in rows] == LABELS
    for name in ("block2", "global_pool"):
        np.testing.assert_array_equal(np.stack([row[name] for row in rows]), arrays[name])


def test_parquet_holds_the_same(checkpoint, dataset, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the [parquet] extra")
    for ending in ("npz", "parquet"):
        run(checkpoint, tmp_path / f"f.{ending}", dataset)
    arrays = loaded(tmp_path / "f.npz")
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table["name"].to_pylist() == arrays["name"].tolist()
    assert table["label"].to_pylist() == LABELS
    for name in ("block2", "global_pool"):
        shape = json.loads(table.schema.field(name).metadata[b"shape"])
        values = np.array(table[name].to_pylist(), np.float32).reshape(-1, *shape)
        np.testing.assert_array_equal(values, arrays[name])


class Stopped(Exception):
    pass


@pytest.mark.parametrize("ending, parts_before", [("npz", 3), ("tfrecord", 1), ("parquet", 0)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    ending, parts_before, checkpoint, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(extraction, "_BYTES_OF_PART", 1)  # A part for each batch: three.
    run(checkpoint, tmp_path / f"whole.{ending}", dataset)
    add, finish = feature_files.Parts.add, feature_files.Parts.finish

    def stopping_add(self, part):
        if len(self.paths) == parts_before:
            raise Stopped
        add(self, part)

    def stopping_finish(self, *args):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(feature_files.Parts, "add", stopping_add)
        patch.setattr(feature_files.Parts, "finish", stopping_finish)
        with pytest.raises(Stopped):
            run(checkpoint, tmp_path / f"f.{ending}", dataset)
    assert not (tmp_path / f"f.{ending}").exists()
    assert len(list((tmp_path / f"f.{ending}.unfinished").glob("part-*.npz"))) == parts_before
    calls = []
    monkeypatch.setattr(feature_files.Parts, "add", lambda self, part: (calls.append(1), add(self, part)))
    monkeypatch.setattr(feature_files.Parts, "finish", finish)
    assert run(checkpoint, tmp_path / f"f.{ending}", dataset) == ((COUNT, 0), [])
    assert len(calls) == 3 - parts_before
    assert (tmp_path / f"f.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()


def test_going_on_with_other_flags_is_refused(checkpoint, dataset, tmp_path, monkeypatch):
    output = tmp_path / "f.npz"
    with monkeypatch.context() as patch:
        patch.setattr(feature_files.Parts, "finish", lambda *args: (_ for _ in ()).throw(Stopped()))
        with pytest.raises(Stopped):
            run(checkpoint, output, dataset)
    with pytest.raises(UserError, match="was begun with other flags: --end_points was block2,global_pool, is block1; "):
        run(checkpoint, output, dataset, end_points="block1")
    assert run(checkpoint, output, dataset, end_points="block1", overwrite=True)[0] == (COUNT, 0)
    assert "block1" in loaded(output)


def test_images_keep_their_names_and_bad_ones_are_left_out(checkpoint, photos, tmp_path):
    (photos / "b.jpg").write_bytes(b"junk")
    counts, failures = run(checkpoint, tmp_path / "f.npz", photos, batch_size=1)
    assert counts == (3, 1)
    assert failures == [(f"{photos}/b.jpg", "no image that can be read: 4 bytes that begin with b'junk'")]
    arrays = loaded(tmp_path / "f.npz")
    assert "label" not in arrays and "failures" not in arrays
    assert arrays["name"].tolist() == [f"{photos}/{name}" for name in ("a.png", "deep/c.png", "deep/er/d.PNG")]
    assert arrays["block2"].shape == (3, 16, 16, 32)


def test_nothing_is_written_where_nothing_can_be_read(checkpoint, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"junk")
    with pytest.raises(UserError, match="no image of .*images could be read, so .*f.npz is not written"):
        run(checkpoint, tmp_path / "f.npz", images)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_an_interruption_takes_away_no_more_than_a_part(checkpoint, dataset, tmp_path, monkeypatch):
    """Vectors are small: all of a data set's could be one part."""
    monkeypatch.setattr(extraction, "_IMAGES_OF_PART", 8)
    paths = []
    monkeypatch.setattr(feature_files.Parts, "finish", lambda parts, *unused: paths.extend(parts.paths))
    run(checkpoint, tmp_path / "f.npz", dataset, end_points="global_pool", batch_size=3)
    assert [len(loaded(path)["name"]) for path in paths] == [6, 5]


@pytest.mark.parametrize("ending", ["npz", "tfrecord", "parquet"])
def test_names_that_are_no_text_are_kept(ending, checkpoint, photos, tmp_path):
    if ending == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs the [parquet] extra")
    path = os.fsencode(photos) + b"/caf\xe9.png"
    os.rename(photos / "a.png", path)
    output = tmp_path / f"f.{ending}"
    assert run(checkpoint, output, os.fsdecode(path)) == ((1, 0), [])
    if ending == "npz":
        assert os.fsencode(str(loaded(output)["name"][0])) == path
    elif ending == "tfrecord":
        (record,) = tf.data.TFRecordDataset(str(output)).as_numpy_iterator()
        assert tf.train.Example.FromString(record).features.feature["image/filename"].bytes_list.value[:] == [path]
    else:
        assert parquet.read_table(output)["name"].to_pylist() == [f"{photos}/caf\\xe9.png"]


def test_record_files_need_no_description(checkpoint, dataset, tmp_path):
    run(checkpoint, tmp_path / "set.npz", dataset)
    run(checkpoint, tmp_path / "files.npz", f"{dataset}/*.tfrecord")
    assert (tmp_path / "set.npz").read_bytes() == (tmp_path / "files.npz").read_bytes()


def test_records_that_know_their_file_keep_its_name(checkpoint, dataset, tmp_path):
    """Slim's ImageNet records do (build_imagenet_data.py: image/filename)."""
    record = next(tf.data.TFRecordDataset(str(dataset / "toy_test-0.tfrecord")).as_numpy_iterator())
    example = tf.train.Example.FromString(record)
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(record)
        example.features.feature["image/filename"].bytes_list.value.append(b"n01440764_10026.JPEG")
        writer.write(example.SerializeToString())
        example.features.feature["image/encoded"].bytes_list.value[:] = [b"junk"]
        writer.write(example.SerializeToString())
    counts, ((failed, _),) = run(checkpoint, tmp_path / "f.npz", tmp_path / "a.tfrecord")
    assert counts == (2, 1)
    assert loaded(tmp_path / "f.npz")["name"].tolist() == [f"{tmp_path}/a.tfrecord:0", "n01440764_10026.JPEG"]
    assert failed == f"{tmp_path}/a.tfrecord:2"  # Where it is.


def test_a_missing_record_is_an_error(checkpoint, dataset, tmp_path):
    for path in dataset.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "toy_test-1.tfrecord").unlink()
    with pytest.raises(UserError, match="found 7 records in the 'test' split of 'toy' .* expected 11"):
        run(checkpoint, tmp_path / "f.npz", tmp_path)


def test_a_damaged_record_is_named(checkpoint, dataset, tmp_path):
    whole = (dataset / "toy_test-0.tfrecord").read_bytes()
    (tmp_path / "cut.tfrecord").write_bytes(whole[: len(whole) - 5])
    with pytest.raises(UserError, match=r"cut.tfrecord, record 6 .counted from 0.: it cannot be read"):
        run(checkpoint, tmp_path / "f.npz", tmp_path / "cut.tfrecord")
    with tf.io.TFRecordWriter(str(tmp_path / "odd.tfrecord")) as writer:
        writer.write(b"no example")
    with pytest.raises(UserError, match=r"odd.tfrecord, record 0 .counted from 0.: expected a tf.train.Example"):
        run(checkpoint, tmp_path / "f.npz", tmp_path / "odd.tfrecord")


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"end_points": "block9"}, "unknown end point 'block9'; known: resnet_cifar_v1_8/conv1, "),
        ({"end_points": "block1,block1"}, "expected different names apart by commas"),
        ({"end_points": " , "}, "expected different names apart by commas"),
        ({"batch_size": 0}, "--batch_size is 0, expected at least 1"),
        ({"dataset_split_name": "dev"}, "data set 'toy' has no split 'dev'"),
        ({"images": ()}, "--images is missing; give --checkpoint_path, --images and --output"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message, checkpoint, dataset, tmp_path):
    settings = {"checkpoint_path": checkpoint, "images": (str(dataset),), "output": tmp_path / "f.npz"}
    with pytest.raises(UserError, match=message):
        extract(ExtractConfig(**settings | flags), print, print)


def test_outputs_that_cannot_be_are_refused(checkpoint, dataset, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="expected a name that ends in .npz, .tfrecord, .parquet"):
        run(checkpoint, tmp_path / "f.csv", dataset)
    (tmp_path / "f.npz").write_text("mine")
    with pytest.raises(UserError, match="f.npz exists already: give another --output, or --overwrite"):
        run(checkpoint, tmp_path / "f.npz", dataset)
    assert (tmp_path / "f.npz").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[parquet\]'"):
        run(checkpoint, tmp_path / "f.parquet", dataset)


def test_records_and_images_do_not_mix(checkpoint, dataset, photos, tmp_path):
    with pytest.raises(UserError, match="holds records, but .*photos does not"):
        run(checkpoint, tmp_path / "f.npz", f"{dataset}/*.tfrecord", photos)
    with pytest.raises(UserError, match="names data set .* and more"):
        run(checkpoint, tmp_path / "f.npz", dataset, photos)
    with pytest.raises(UserError, match="--dataset_split_name is test, but .* is no folder with a dataset.json"):
        run(checkpoint, tmp_path / "f.npz", photos, dataset_split_name="test")


def test_end_points_of_a_network_without_weights():
    rows = {row[0]: row[1:] for row in list_end_points(ExtractConfig(model_name="resnet_v2_18"))}
    assert rows["block2"] == ((28, 28, 128), 128, 8)
    assert rows["block4/unit_1/basic_v2/conv1"] == ((7, 7, 512), 512, 32)
    assert rows["global_pool"] == ((1, 1, 512), 512, None)
    assert rows["logits"] == ((1, 1, 1000), 1000, None)


def test_end_points_of_a_checkpoint_are_those_of_its_settings(tmp_path):
    thin = {"depth_multiplier": 1 / 16, "min_base_depth": 2}
    model = nets_factory.create_model("resnet_v2_18", 3, output_stride=8, **thin)
    write_checkpoint(tmp_path, model, None, "inception", 64)
    rows = {row[0]: row[1:] for row in list_end_points(ExtractConfig(checkpoint_path=tmp_path))}
    assert rows["block4"] == ((8, 8, 32), 32, 8)
    known = [name.removeprefix("resnet_v2_18/") for name in model.end_point_names]
    assert list(rows) == known
    with pytest.raises(UserError, match="--list_end_points needs --checkpoint_path or --model_name"):
        list_end_points(ExtractConfig())
    with pytest.raises(UserError, match="--image_size is 0, expected at least 1"):
        list_end_points(ExtractConfig(model_name="resnet_v2_18", image_size=0))


def test_end_points_of_a_foreign_checkpoint(checkpoint, tmp_path):
    for path in checkpoint.iterdir():
        if path.name != "model.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = list_end_points(ExtractConfig(checkpoint_path=tmp_path, model_name="resnet_cifar_v1_8"))
    assert rows == list_end_points(ExtractConfig(checkpoint_path=checkpoint))
    with pytest.raises(UserError, match="--model_name is resnet_v1_50, but .* is a resnet_cifar_v1_8"):
        list_end_points(ExtractConfig(checkpoint_path=checkpoint, model_name="resnet_v1_50"))


PLAN = {"images": "a"}


def part_of(values):
    part = feature_files.Part({"pool": (1,)}, labelled=False)
    items = [SimpleNamespace(filename="x", name="x")] * len(values)
    part.add(SimpleNamespace(items=items, failures=[]), {"pool": values})
    return part


def test_one_process_at_a_time(tmp_path):
    output = tmp_path / "f.npz"
    with feature_files.Parts(output, PLAN, False) as parts:
        parts.add(part_of(np.ones([2, 1])))
        with pytest.raises(UserError, match="another process is at work on .*f.npz"):
            feature_files.Parts(output, PLAN, True)
    with feature_files.Parts(output, PLAN, False) as parts:
        assert parts.count() == 2
        assert parts.finish(output, {"pool": (1,)}, False) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_parts_without_their_plan_are_of_no_use(tmp_path):
    """As a kill leaves them while the parts of another plan are dropped."""
    output = tmp_path / "f.npz"
    with feature_files.Parts(output, PLAN, False) as parts:
        parts.add(part_of(np.ones([2, 1])))
        (parts.folder / "plan.json").unlink()
    with feature_files.Parts(output, {"images": "b"}, False) as parts:
        assert parts.count() == 0
