"""ImageNet's conversion on a made-up tree of three classes, in each form that the archives come in."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from command_line import UserError
from data import catalog

SYNSETS = ("n01440764", "n01443537", "n02119789")
NAMES = ("tench, Tinca tinca", "goldfish, Carassius auratus", "kit fox, Vulpes macrotis")
VALIDATION = (2, 0, 1, 1, 0)


def jpeg(colour, mode="RGB", image_format="JPEG"):
    buffer = io.BytesIO()
    Image.fromarray(np.full([6, 8, 3], colour, np.uint8)).convert(mode).save(buffer, image_format)
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path):
    """A folder with train/synset/*.JPEG, val/*.JPEG, the labels of val and the names of the classes."""
    folder = tmp_path / "ilsvrc"
    for label, synset in enumerate(SYNSETS):
        (folder / "train" / synset).mkdir(parents=True)
        for number in range(4):
            path = folder / "train" / synset / f"{synset}_{number}.JPEG"
            path.write_bytes(jpeg([80 * label, 20 * number, 0]))
    (folder / "val").mkdir()
    for number, label in enumerate(VALIDATION, start=1):
        (folder / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(jpeg([80 * label, 0, 200]))
    truth = "".join(f"{SYNSETS[label]}\n" for label in VALIDATION)
    (folder / "imagenet_2012_validation_synset_labels.txt").write_text(truth)
    words = "".join(f"{synset}\t{name}\n" for synset, name in zip(SYNSETS, NAMES, strict=True))
    (folder / "imagenet_metadata.txt").write_text("n00004475\torganism, being\n" + words)
    return folder


def tar_of(folder, members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in members:
            archive.add(path, arcname=path.relative_to(folder))
    return buffer.getvalue()


def check(directory, read):
    dataset = catalog.open_dataset("imagenet", directory)
    assert dataset.class_names == ("background", *NAMES)
    assert dataset.splits == {"train": 12, "validation": 5}
    train = read(directory, "train")
    assert all(abs(int(pixels[0, 0, 0]) - 80 * (label - 1)) < 5 for pixels, label, _ in train)
    assert sorted(label for _, label, _ in train) == [1] * 4 + [2] * 4 + [3] * 4
    assert [label for _, label, _ in read(directory, "validation")] == [label + 1 for label in VALIDATION]
    return train


def test_folders_become_slims_records(source, run, read, tmp_path):
    _, said = run("imagenet", source=source, num_shards=3)
    assert said[0] == "the source has 3 classes, not ImageNet's 1000"
    train = check(tmp_path / "out", read)
    assert sorted(path.name for path in (tmp_path / "out").glob("*-of-*")) == [
        *(f"train-0000{number}-of-00003" for number in range(3)),
        *(f"validation-0000{number}-of-00002" for number in range(2)),
    ]
    features = train[0][2]
    label = train[0][1]
    text = {key: features[f"image/{key}"].bytes_list.value[0].decode() for key in ("format", "colorspace", "filename")}
    assert text["format"] == "JPEG" and text["colorspace"] == "RGB"
    assert text["filename"].startswith(SYNSETS[label - 1])
    assert features["image/channels"].int64_list.value == [3]
    assert features["image/class/synset"].bytes_list.value == [SYNSETS[label - 1].encode()]
    assert features["image/class/text"].bytes_list.value == [NAMES[label - 1].encode()]
    assert (tmp_path / "out" / "labels.txt").read_text().startswith("0:background\n1:tench, Tinca tinca\n2:goldfish")
    description = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert description["class_counts"]["train"] == [0, 4, 4, 4]


def as_tars(source):
    for synset in SYNSETS:
        inner = tar_of(source / "train" / synset, sorted((source / "train" / synset).iterdir()))
        (source / "train" / f"{synset}.tar").write_bytes(inner)
        shutil.rmtree(source / "train" / synset)
    return source


def as_archives(source):
    as_tars(source)
    outer = tar_of(source / "train", sorted((source / "train").iterdir()))
    (source / "ILSVRC2012_img_train.tar").write_bytes(outer)
    (source / "ILSVRC2012_img_val.tar").write_bytes(tar_of(source / "val", sorted((source / "val").iterdir())))
    shutil.rmtree(source / "train")
    shutil.rmtree(source / "val")
    return source


def as_validation_folders(source):
    for number, label in enumerate(VALIDATION, start=1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (source / "validation" / SYNSETS[label]).mkdir(parents=True, exist_ok=True)
        (source / "val" / name).rename(source / "validation" / SYNSETS[label] / name)
    (source / "val").rmdir()
    (source / "imagenet_2012_validation_synset_labels.txt").unlink()
    return source


def as_kaggle(source):
    top = source / "ILSVRC" / "Data" / "CLS-LOC"
    top.mkdir(parents=True)
    for name in ("train", "val"):
        (source / name).rename(top / name)
    (source / "imagenet_2012_validation_synset_labels.txt").unlink()
    lines = [f"ILSVRC2012_val_{n:08d},{SYNSETS[label]} 1 2 3 4 \n" for n, label in enumerate(VALIDATION, start=1)]
    (source / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(reversed(lines)))
    (source / "imagenet_metadata.txt").rename(source / "LOC_synset_mapping.txt")
    return source


@pytest.mark.parametrize("form", [as_tars, as_archives, as_validation_folders, as_kaggle])
def test_every_form_gives_the_same_records(source, run, read, tmp_path, form):
    run("imagenet", source=source, dataset_dir=tmp_path / "folders", num_shards=2)
    run("imagenet", source=form(source), num_shards=2)
    check(tmp_path / "out", read)
    for split in ("train", "validation"):
        held = [
            [features["image/encoded"].bytes_list.value[0] for *_, features in read(directory, split)]
            for directory in (tmp_path / "folders", tmp_path / "out")
        ]
        assert held[0] == held[1]


def test_png_and_cmyk_files_named_jpeg(source, run, read, tmp_path):
    odd = {"n01440764_0.JPEG": ("RGB", "PNG"), "n01440764_1.JPEG": ("CMYK", "JPEG"), "n01440764_2.JPEG": ("L", "JPEG")}
    for name, kind in odd.items():
        (source / "train" / "n01440764" / name).write_bytes(jpeg([0, 0, 0], *kind))
    run("imagenet", source=source, num_shards=2)
    train = check(tmp_path / "out", read)
    for _, _, features in train:
        name = features["image/filename"].bytes_list.value[0].decode()
        encoded = features["image/encoded"].bytes_list.value[0]
        with Image.open(io.BytesIO(encoded)) as image:
            assert image.format == "JPEG" and image.mode == ("L" if name == "n01440764_2.JPEG" else "RGB")
        if name not in odd or odd[name][0] == "L":
            assert encoded == (source / "train" / name[:9] / name).read_bytes()


def test_bounding_boxes(source, run, read, tmp_path):
    (source / "imagenet_2012_bounding_boxes.csv").write_text(
        "n01443537_2.JPEG,0.25,0.125,0.75,1.0\nn01443537_2.JPEG,0.0,0.5,0.5,0.625\n"
    )
    run("imagenet", source=source, num_shards=2)
    boxes = {}
    for _, _, features in check(tmp_path / "out", read):
        keys = [f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax")]
        parsed = tf.io.parse_single_example(
            tf.train.Example(features=tf.train.Features(feature=dict(features))).SerializeToString(),
            {key: tf.io.VarLenFeature(tf.float32) for key in keys},
        )
        name = features["image/filename"].bytes_list.value[0].decode()
        boxes[name] = [parsed[key].values.numpy().tolist() for key in keys]
        if name == "n01443537_2.JPEG":
            assert features["image/object/bbox/label"].int64_list.value == [2, 2]
    assert boxes["n01443537_2.JPEG"] == [[0.25, 0.0], [0.125, 0.5], [0.75, 0.5], [1.0, 0.625]]
    assert boxes["n01443537_1.JPEG"] == [[], [], [], []]


def test_what_is_missing(source, run, tmp_path):
    def problem():
        with pytest.raises(UserError) as caught:
            run("imagenet", source=source)
        return str(caught.value)

    truth = source / "imagenet_2012_validation_synset_labels.txt"
    good = truth.read_text()
    truth.write_text(good.partition("\n")[2])
    assert "has 4 lines for 5 validation images" in problem()
    truth.write_text("490\n361\n171\n822\n297\n")
    assert "holds '490', which is not a synset such as n01440764" in problem()
    truth.write_text(good.replace("n01440764", "n09999999"))
    assert "n09999999: validation images of a class that has no training image" in problem()
    truth.unlink()
    assert "lacks imagenet_2012_validation_synset_labels.txt or LOC_val_solution.csv" in problem()
    shutil.rmtree(source / "val")
    assert "lacks ILSVRC2012_img_val.tar or val" in problem()
    with pytest.raises(UserError, match="imagenet is not served to the public: get ILSVRC2012_img_train.tar"):
        run("imagenet")


def test_bad_boxes(source, run):
    for line in ("a.JPEG,0.1,0.2", "a.JPEG,0.1,0.2,x,0.3", "a.JPEG,0.5,0.2,0.4,0.3", "a.JPEG,0.1,0.2,1.5,0.3"):
        (source / "imagenet_2012_bounding_boxes.csv").write_text(line + "\n")
        with pytest.raises(UserError, match="imagenet_2012_bounding_boxes.csv, line 1: "):
            run("imagenet", source=source)


def test_damaged_archives(source, run):
    as_archives(source)
    path = source / "ILSVRC2012_img_train.tar"
    whole = path.read_bytes()
    at = whole.index(b"n01443537_1.JPEG")
    path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    with pytest.raises(UserError, match="ILSVRC2012_img_train.tar is (damaged or cut|not a whole tar archive)"):
        run("imagenet", source=source)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="ILSVRC2012_img_train.tar is (damaged or cut|not a whole tar archive)"):
        run("imagenet", source=source)
