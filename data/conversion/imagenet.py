"""ImageNet (ILSVRC 2012) as research/slim writes it: labels 1 to 1000, and 0 for a background that no image shows.

The source is a folder in one of the usual forms; archives need not be unpacked:

    ILSVRC2012_img_train.tar               or  train/n01440764/n01440764_10026.JPEG, or train/n01440764.tar
    ILSVRC2012_img_val.tar                 or  val/ILSVRC2012_val_00000001.JPEG, or val/n01440764/*.JPEG

with these beside them (`validation/` works as `val/`; train/ and val/ may lie in Kaggle's ILSVRC/Data/CLS-LOC):

    imagenet_2012_validation_synset_labels.txt  or  LOC_val_solution.csv    unless val/ has folders of classes
    imagenet_metadata.txt, synset_words.txt     or  LOC_synset_mapping.txt  optional: names of the classes
    imagenet_2012_bounding_boxes.csv                                        optional: file,xmin,ymin,xmax,ymax in 0..1
"""

import csv
import functools
import io
import os
import re
from pathlib import Path

from command_line import UserError
from data.conversion.image_files import encode_for_records
from data.conversion.image_folder import seeded_order
from data.conversion.plan import Item, Plan, shards_of_splits
from data.conversion.reading import Entry, list_files, list_tar, named, read_text
from data.parsing import FILENAME_KEY

BACKGROUND = "background"
NUM_SHARDS = {"train": 1024, "validation": 128}
_SEED = 12345
_SYNSET = re.compile(r"n\d{8}$")
_TRAIN = ("ILSVRC2012_img_train.tar", "train", "ILSVRC/Data/CLS-LOC/train")
_VALIDATION = ("ILSVRC2012_img_val.tar", "val", "validation", "ILSVRC/Data/CLS-LOC/val")
_VALIDATION_LABELS = ("imagenet_2012_validation_synset_labels.txt", "LOC_val_solution.csv")
_NAMES = ("imagenet_metadata.txt", "synset_words.txt", "LOC_synset_mapping.txt")
_BOXES = "imagenet_2012_bounding_boxes.csv"


def plan_imagenet(request):
    """Plans 1024 and 128 shards, with the training images in one fixed random order, as in Slim.

    Raises:
      UserError: If a part of the source is missing or does not fit the other parts.
    """
    if request.source is None:
        raise UserError(
            "imagenet is not served to the public: get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
            "https://image-net.org with an account, and give their folder with --source"
        )
    folder = Path(request.source)
    if not folder.is_dir():
        raise UserError(f"source {folder} is not a folder: give the one that holds {_TRAIN[0]} or train/")
    train = _by_synset(_list_train(_one_of(folder, _TRAIN)))
    synsets = sorted(train)
    if not synsets:
        raise UserError(f"source {folder} has no training image in a folder or archive of a synset, such as n01440764")
    validation = _list_validation(folder)
    unknown = sorted({synset for synset, _ in validation} - set(synsets))
    if unknown:
        raise UserError(f"{named(unknown)}: validation images of a class that has no training image")
    labels = {synset: label for label, synset in enumerate(synsets, start=1)}
    entries = seeded_order([entry for found in train.values() for entry in found], _SEED)
    splits = {
        "train": [_item(entry, labels[_synset_of(entry)]) for entry in entries],
        "validation": [_item(entry, labels[synset]) for synset, entry in validation],
    }
    names = _read_names(folder)
    return Plan(
        name="imagenet",
        class_names=(BACKGROUND, *(names.get(synset, synset) for synset in synsets)),
        splits=splits,
        encode=functools.partial(encode_for_records, other_format="jpeg"),
        extra_features=functools.partial(_features, synsets, names, _read_boxes(folder / _BOXES)),
        num_shards=shards_of_splits(request.num_shards, splits) or _shards_as_slim(splits),
        file_name="{split}-{shard:05d}-of-{count:05d}",
        unlabelled=(0,),
        settings={"converter": "imagenet", "boxes": (folder / _BOXES).exists(), "names": len(names)},
        source="https://image-net.org/challenges/LSVRC/2012",
        licence="for research and education, by the terms of image-net.org",
        notes=() if len(synsets) == 1000 else (f"the source has {len(synsets)} classes, not ImageNet's 1000",),
    )


def _shards_as_slim(splits):
    return {split: min(NUM_SHARDS[split], len(items)) for split, items in splits.items()}


def _one_of(folder, names):
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        raise UserError(
            f"source {folder} lacks {' or '.join(names[:2])}: expected the folder of ILSVRC 2012's archives"
        )
    return found[0]


def _list_train(path):
    """Entries named synset/file."""
    if path.suffix == ".tar":
        return [entry for inner in list_tar(path) for entry in _list_inner(inner)]
    entries = []
    for entry in list_files(path, None):
        if entry.name.endswith(".tar"):
            outer = Entry(entry.name, os.path.join(entry.location, entry.name), 0, entry.size)
            entries += _list_inner(outer)
        else:
            entries.append(entry)
    return entries


def _list_inner(inner):
    """The files of a class's tar, read in place even if it lies within another tar."""
    synset = Path(inner.name).stem
    return [
        entry._replace(name=f"{synset}/{Path(entry.name).name}") for entry in list_tar(inner.location, inner.offset)
    ]


def _synset_of(entry):
    return entry.name.rpartition("/")[0].rpartition("/")[2]


def _by_synset(entries):
    found = {}
    for entry in sorted(entries):
        if entry.name.lower().endswith((".jpeg", ".jpg", ".png")) and _SYNSET.match(_synset_of(entry)):
            found.setdefault(_synset_of(entry), []).append(entry)
    return found


def _list_validation(folder):
    """[(synset, Entry)] in the order of the names, which mixes the classes."""
    path = _one_of(folder, _VALIDATION)
    entries = list_tar(path) if path.suffix == ".tar" else list_files(path, None)
    entries = sorted(entry for entry in entries if entry.name.lower().endswith((".jpeg", ".jpg", ".png")))
    if not entries:
        raise UserError(f"{path} holds no image")
    if all(_SYNSET.match(_synset_of(entry)) for entry in entries):
        return sorted(((_synset_of(entry), entry) for entry in entries), key=lambda pair: Path(pair[1].name).name)
    truth = _read_validation_labels(folder, entries)
    return [(truth[Path(entry.name).stem], entry) for entry in entries]


def _read_validation_labels(folder, entries):
    """{file name without its extension: synset}."""
    path = next((folder / name for name in _VALIDATION_LABELS if (folder / name).exists()), None)
    if path is None:
        raise UserError(
            f"source {folder} lacks {' or '.join(_VALIDATION_LABELS)}, which say what the validation images show: "
            f"put one there, or the images into folders of their synsets"
        )
    lines = read_text(path).split("\n")
    if path.suffix == ".csv":
        # ImageId,PredictionString, which is one or several times a synset and a box.
        rows = [line.partition(",") for line in lines[1:] if line]
        truth = {image: rest.partition(" ")[0] for image, _, rest in rows}
    else:
        synsets = [line.strip() for line in lines if line.strip()]
        if len(synsets) != len(entries):
            raise UserError(f"{path} has {len(synsets)} lines for {len(entries)} validation images")
        truth = {Path(entry.name).stem: synset for entry, synset in zip(entries, synsets, strict=True)}
    wrong = [synset for synset in truth.values() if not _SYNSET.match(synset)]
    if wrong:
        raise UserError(
            f"{path} holds {wrong[0]!r}, which is not a synset such as n01440764; the numbers of the development kit "
            f"count the classes in another order than Slim does"
        )
    missing = [entry.name for entry in entries if Path(entry.name).stem not in truth]
    if missing:
        raise UserError(f"{path} does not say what {len(missing)} validation images show: {named(missing)}")
    return truth


def _read_names(folder):
    """{synset: name}, from lines of a synset, a tab or space, and its words."""
    path = next((folder / name for name in _NAMES if (folder / name).exists()), None)
    if path is None:
        return {}
    lines = read_text(path).split("\n")
    return {line[:9]: line[10:].strip() for line in lines if _SYNSET.match(line[:9]) and line[10:].strip()}


def _read_boxes(path):
    """{file name: [(xmin, ymin, xmax, ymax)]}, as parts of the width and height; {} without the file."""
    boxes = {}
    if not path.exists():
        return boxes
    with io.StringIO(read_text(path), newline="") as file:
        for row in (reader := csv.reader(file)):
            try:
                name, box = row[0], tuple(float(value) for value in row[1:])
                xmin, ymin, xmax, ymax = box
            except (ValueError, IndexError):
                raise UserError(f"{path}, line {reader.line_num}: expected file,xmin,ymin,xmax,ymax") from None
            if not (0 <= xmin <= xmax <= 1 and 0 <= ymin <= ymax <= 1):
                raise UserError(f"{path}, line {reader.line_num}: {box} is not a box within 0 to 1")
            boxes.setdefault(name, []).append(box)
    return boxes


def _features(synsets, names, boxes, item):
    synset = synsets[item.label - 1]
    filename = Path(item.name).name
    features = {
        "image/format": b"JPEG",
        "image/colorspace": b"RGB",
        "image/channels": 3,
        FILENAME_KEY: filename.encode(),
        "image/class/synset": synset.encode(),
        "image/class/text": names.get(synset, synset).encode(),
    }
    # Without a box the keys are left out, which every reader treats as an empty list.
    if filename in boxes:
        columns = zip(*boxes[filename], strict=True)
        for side, column in zip(("xmin", "ymin", "xmax", "ymax"), columns, strict=True):
            features[f"image/object/bbox/{side}"] = list(column)
        features["image/object/bbox/label"] = [item.label] * len(boxes[filename])
    return features


def _item(entry, label):
    return Item(entry.name, label, entry.location, entry.offset, entry.size)
