"""Folders, archives and lists of images of one's own."""

import json
import os
import tarfile

import numpy as np
import pytest

from command_line import UserError
from data import catalog


def test_a_folder_becomes_a_data_set(make_images, run, read, tmp_path):
    source = make_images({"two words": 20, "ñandú 鳥": 10})
    result, said = run(source=source)
    assert result["splits"] == {"train": 27, "validation": 3}
    dataset = catalog.open_dataset(directory=tmp_path / "out")
    assert dataset.class_names == ("two words", "ñandú 鳥")
    assert (tmp_path / "out" / "labels.txt").read_text("utf-8") == "0:two words\n1:ñandú 鳥\n"
    description = json.loads((tmp_path / "out" / "dataset.json").read_text("utf-8"))
    assert description["class_counts"] == {"train": [18, 9], "validation": [2, 1]}
    assert "27 train, 3 validation images of 2 classes" in said[-1]
    # Each image once, with its class: the pixels say which it is.
    records = read(tmp_path / "out", "train") + read(tmp_path / "out", "validation")
    found = sorted((label, int(pixels[0, 0, 1])) for pixels, label, _ in records)
    assert found == [(0, number) for number in range(20)] + [(1, number) for number in range(10)]
    assert {features["image/height"].int64_list.value[0] for *_, features in records} == {5}
    assert {features["image/width"].int64_list.value[0] for *_, features in records} == {7}
    assert not (tmp_path / "out" / "unfinished").exists()


def test_training_records_are_mixed(make_images, run, read, tmp_path):
    run(source=make_images({"a": 20, "b": 20}))
    labels = [label for _, label, _ in read(tmp_path / "out")]
    assert np.count_nonzero(np.diff(labels)) > 5


def test_splits_of_the_source_are_kept(make_images, run, tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        source = make_images({"a": count, "b": count}, folder=f"source/{split}").parent
    result, _ = run(source=source)
    assert result["splits"] == {"train": 8, "validation": 4, "test": 6}
    with pytest.raises(UserError, match="validation_fraction is given, but the source has a validation split"):
        run(source=source, dataset_dir=tmp_path / "other", validation_fraction=0.1)


def test_split_folders_by_other_names(make_images, run, tmp_path):
    for split, count in (("Training", 4), ("valid", 2), ("TEST", 3)):
        source = make_images({"a": count, "b": count}, folder=f"source/{split}").parent
    result, _ = run(source=source)
    assert result["splits"] == {"train": 8, "validation": 4, "test": 6}
    assert catalog.open_dataset(directory=tmp_path / "out").class_names == ("a", "b")


def test_splits_are_not_taken_for_classes(make_images, run):
    make_images({"a": 2, "b": 2}, "source/train")
    source = make_images({"a": 2, "b": 2}, "source/holdout").parent
    with pytest.raises(UserError, match="has train with folders in it, as a split has, beside holdout"):
        run(source=source)
    (source / "train").rename(source / "val")
    (source / "holdout").rename(source / "test")
    with pytest.raises(UserError, match="has test, val, but no train folder to train on"):
        run(source=source)


def test_splits_within_classes_are_not_mixed(make_images, run):
    source = make_images({"cat/train": 5, "cat/test": 2, "dog/train": 5, "dog/test": 2})
    with pytest.raises(UserError, match="the classes of source .* have test, train in them: .*train/cat/"):
        run(source=source)


def test_a_class_may_be_called_train(make_images, run, tmp_path):
    run(source=make_images({"train": 3, "car": 3}))
    assert catalog.open_dataset(directory=tmp_path / "out").class_names == ("car", "train")


@pytest.mark.parametrize("split", ["", "train/"])
def test_an_empty_class_folder(make_images, run, split):
    source = make_images({"a": 2, "c": 2}, f"source/{split}")
    (source / "b").mkdir()
    (source / "b" / "notes.txt").touch()
    with pytest.raises(UserError, match=f"class folder .*source/{split}b holds no image"):
        run(source=source.parent if split else source)


def test_a_class_may_be_absent_from_the_validation_split(make_images, run):
    make_images({"a": 2, "b": 2}, "source/train")
    source = make_images({"a": 2}, "source/val").parent
    (source / "val" / "b").mkdir()
    assert run(source=source)[0]["splits"] == {"train": 4, "validation": 2}


def test_seed_and_fraction_make_the_split(make_images, run, files_of, tmp_path):
    source = make_images({"a": 20, "b": 20})
    results = {}
    for name, flags in {"1": {}, "2": {}, "seed": {"seed": 1}, "half": {"validation_fraction": 0.5}}.items():
        result, _ = run(source=source, dataset_dir=tmp_path / name, **flags)
        results[name] = result["splits"], files_of(tmp_path / name)["train-00000-of-00001.tfrecord"]
    assert results["1"] == results["2"]
    assert results["1"][0] == results["seed"][0] and results["1"][1] != results["seed"][1]
    assert results["half"][0] == {"train": 20, "validation": 20}
    assert run(source=source, dataset_dir=tmp_path / "none", validation_fraction=0.0)[0]["splits"] == {"train": 40}


def test_archive_and_folder_give_the_same_records(make_images, run, files_of, tmp_path):
    source = make_images({"a": 5, "b": 5})
    run(source=source)
    for mode in ("w", "w:gz"):
        archive = tmp_path / f"photos{mode.replace(':', '.')}.tar{'.gz' if 'gz' in mode else ''}"
        with tarfile.open(archive, mode) as file:
            file.add(source, arcname=".")
        out = tmp_path / f"out-{mode[2:]}"
        run(source=archive, dataset_dir=out)
        for name in ("train-00000-of-00001.tfrecord", "labels.txt"):
            assert files_of(out)[name] == files_of(tmp_path / "out")[name]


def test_links_in_an_archive(make_images, run, read, tmp_path):
    source = make_images({"a": 2, "b": 1})
    # tar writes the second name of a file as a link.
    os.link(source / "b" / "000.png", source / "b" / "zzz.png")
    (source / "b" / "soft.png").symlink_to("../a/001.png")
    with tarfile.open(tmp_path / "photos.tar", "w") as file:
        file.add(source, arcname="photos")
    run(source=tmp_path / "photos.tar", validation_fraction=0.0)
    found = sorted((label, pixels[0, 0].tolist()) for pixels, label, _ in read(tmp_path / "out"))
    a, b = ord("a"), ord("b")
    assert found == [(0, [a, 0, 6]), (0, [a, 1, 6]), (1, [a, 1, 6]), (1, [b, 0, 6]), (1, [b, 0, 6])]
    (source / "b" / "soft.png").unlink()
    (source / "b" / "soft.png").symlink_to("nowhere.png")
    with tarfile.open(tmp_path / "broken.tar", "w") as file:
        file.add(source, arcname="photos")
    with pytest.raises(UserError, match="1 of 5 files .*photos/b/soft.png: it cannot be read"):
        run(source=tmp_path / "broken.tar", validation_fraction=0.0, dataset_dir=tmp_path / "other")


def test_top_folder_of_an_archive_is_no_class(make_images, run, tmp_path):
    source = make_images({"a": 3, "b": 3})
    with tarfile.open(tmp_path / "photos.tgz", "w:gz") as file:
        file.add(source, arcname="photos")
    run(source=tmp_path / "photos.tgz")
    assert catalog.open_dataset(directory=tmp_path / "out").class_names == ("a", "b")


@pytest.mark.parametrize("heading", ["", "path,label\n"])
def test_csv(make_images, run, read, tmp_path, heading):
    make_images({"a": 3, "b": 3})
    lines = [f"source/{folder}/{n:03d}.png,{n * 5}\n" for folder in "ab" for n in range(3)]
    (tmp_path / "list.csv").write_text(heading + "".join(lines))
    run(source=tmp_path / "list.csv", validation_fraction=0.0)
    # Numbers sort as numbers.
    assert catalog.open_dataset(directory=tmp_path / "out").class_names == ("0", "5", "10")
    assert {(int(pixels[0, 0, 1]), label) for pixels, label, _ in read(tmp_path / "out")} == {(0, 0), (1, 1), (2, 2)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "list.csv lists no image"),
        ("a.png\n", r"list.csv, line 1: \['a.png'\] is not a path and a label"),
        ("a.png,x\nb.png,y\na.png,y\n", "line 3: a.png is on line 1 already"),
        ("a.png,x\nb.png,x\n", "the only class is 'x'"),
    ],
)
def test_bad_csv(run, tmp_path, text, problem):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=problem):
        run(source=tmp_path / "list.csv")


def test_csv_with_a_missing_file(make_images, run, tmp_path):
    make_images({"a": 2, "b": 2})
    (tmp_path / "list.csv").write_text("source/a/000.png,a\nsource/b/000.png,b\nsource/b/none.png,b\n")
    with pytest.raises(UserError, match="1 of 3 files.*source/b/none.png: it cannot be read .No such file"):
        run(source=tmp_path / "list.csv", validation_fraction=0.0)


def test_no_source(run, tmp_path):
    with pytest.raises(UserError, match="needs --source"):
        run()
    with pytest.raises(UserError, match="source /none does not exist"):
        run(source="/none")
    (tmp_path / "photos.zip").touch()
    with pytest.raises(UserError, match="photos.zip is no folder, archive"):
        run(source=tmp_path / "photos.zip")
    assert not (tmp_path / "out").exists()


def test_empty_folder(run, tmp_path):
    (tmp_path / "source" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no files and no image .*expected SOURCE/class/image.jpg"):
        run(source=tmp_path / "source")
    (tmp_path / "source" / "a" / "x.txt").touch()
    with pytest.raises(UserError, match="holds 1 files of other kinds .a/x.txt. and no image"):
        run(source=tmp_path / "source")


def test_one_class(make_images, run):
    with pytest.raises(UserError, match="the only class is 'a', and a classifier needs two"):
        run(source=make_images({"a": 3}))


def test_class_without_training_images(make_images, run):
    make_images({"a": 2, "b": 2}, "source/train")
    source = make_images({"a": 2, "c": 2}, "source/validation").parent
    with pytest.raises(UserError, match="'c' has images in other splits, but none to train on"):
        run(source=source)


def test_class_of_bad_files_only(make_images, run, tmp_path):
    source = make_images({"a": 2, "b": 1})
    (source / "b" / "000.png").write_text("no")
    with pytest.raises(UserError, match="'b': no image to train on .1 files were left out"):
        run(source=source, on_error="skip", validation_fraction=0.0)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_images_outside_class_folders(make_images, run):
    source = make_images({"a": 2, "b": 2})
    (source / "a" / "000.png").rename(source / "stray.png")
    with pytest.raises(UserError, match="1 images of .* are in no class folder .stray.png"):
        run(source=source)


def test_unlabelled_test_folder(make_images, run):
    source = make_images({"a": 2, "b": 2}, "source/train").parent
    (source / "test").mkdir()
    (source / "train" / "a" / "000.png").rename(source / "test" / "000.png")
    with pytest.raises(UserError, match="1 images of .* are in no class folder .test/000.png"):
        run(source=source)


def test_symlink_loop(make_images, run):
    source = make_images({"a": 2, "b": 2})
    (source / "b" / "again").symlink_to(source)
    with pytest.raises(UserError, match="b/again is a link to a folder that it is in"):
        run(source=source)


def test_a_folder_that_cannot_be_read(make_images, run, monkeypatch):
    source = make_images({"a": 2, "b": 2})
    listed = os.scandir

    def scandir(path):
        # Not by its permissions, which the superuser does not feel.
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"source/b cannot be read \(Permission denied\): mend its permissions"):
        run(source=source)


def test_linked_class_folder(make_images, run):
    source = make_images({"a": 2, "b": 2})
    (source / "b").rename(source.parent / "elsewhere")
    (source / "b").symlink_to(source.parent / "elsewhere")
    assert run(source=source, validation_fraction=0.0)[0]["splits"] == {"train": 4}


def test_output_in_the_source(make_images, run):
    source = make_images({"a": 2, "b": 2})
    with pytest.raises(UserError, match="lies in the source"):
        run(source=source, dataset_dir=source / "records")


def test_name_of_the_catalog_is_not_taken(make_images, run, tmp_path):
    run(source=make_images({"a": 2, "b": 2}), dataset_dir=tmp_path / "digits", validation_fraction=0.0)
    dataset = catalog.open_dataset(directory=tmp_path / "digits")
    assert dataset.name == "digits_images" and dataset.row.preprocessing_name is None


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fraction_out_of_range(make_images, run, fraction):
    with pytest.raises(UserError, match="validation_fraction is"):
        run(source=make_images({"a": 2, "b": 2}), validation_fraction=fraction)


def test_damaged_archive(make_images, run, tmp_path):
    source = make_images({"a": 3, "b": 3})
    with tarfile.open(tmp_path / "photos.tar", "w") as file:
        file.add(source, arcname=".")
    whole = (tmp_path / "photos.tar").read_bytes()
    (tmp_path / "photos.tar").write_bytes(whole[:3000])
    with pytest.raises(UserError, match="photos.tar is damaged or cut short|not a whole tar archive"):
        run(source=tmp_path / "photos.tar")
    (tmp_path / "photos.tar").write_bytes(whole[:2560] + b"x" * 512 + whole[3072:])
    with pytest.raises(UserError, match="photos.tar is damaged or cut short|not a whole tar archive"):
        run(source=tmp_path / "photos.tar")
    (tmp_path / "photos.tgz").write_bytes(b"\x1f\x8b\x08 no")
    with pytest.raises(UserError, match="photos.tgz is damaged or cut short"):
        run(source=tmp_path / "photos.tgz")


def test_one_image_of_each_class(make_images, run):
    with pytest.raises(UserError, match="every class has one image only"):
        run(source=make_images({"a": 1, "b": 1}))
