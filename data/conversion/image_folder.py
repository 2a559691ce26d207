"""Plans the conversion of a user's own images, in a folder for each class or listed in a CSV."""

import csv
import functools
import hashlib
import os
from pathlib import Path

from command_line import UserError
from data import catalog
from data.conversion.fetching import fetch, is_url
from data.conversion.image_files import EXTENSIONS, encode_for_records
from data.conversion.plan import Item, Plan, shards_of_splits
from data.conversion.reading import ARCHIVE_EXTENSIONS, Entry, is_hidden, list_files, named
from data.parsing import FILENAME_KEY

# The keys are lower-case names.
_SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}
_DEFAULT_VALIDATION_FRACTION = 0.1
_EXPECTED = "expected SOURCE/class/image.jpg or SOURCE/train/class/image.jpg"


def plan_image_folder(request):
    """Plans a folder or archive of class folders, with or without {train,validation,test} above them, or a CSV.

    The order of a split's images depends only on `seed` and their names, not on the file system. If the source has no
    validation split, `validation_fraction` of each class is split off in the same way.

    Args:
      request: A `converters.Request`.
    Raises:
      UserError: If the source is missing or empty, or has no usable classes.
    """
    if request.source is None:
        raise UserError("image_folder needs --source: a folder of class folders, an archive of one, or a CSV file")
    source = _local(request)
    if source.suffix.lower() == ".csv":
        found, ignored = _read_csv(source), []
    else:
        _check_not_inside(request.dataset_dir, source)
        found, ignored = _sort_into_classes(list_files(source, request.scratch_dir), source)
    _check_classes(found)
    class_names = class_names_of(found)
    splits = _make_splits(found, class_names, request)
    notes = [f"ignored {len(ignored)} files that are no images by their name: {named(ignored)}"] if ignored else []
    return Plan(
        name=_name_of(request.dataset_dir),
        class_names=class_names,
        splits=splits,
        # Upright is how people saw the pictures when they sorted them, and how `inference` sees those it classifies.
        encode=functools.partial(encode_for_records, upright=True),
        extra_features=_filename,
        num_shards=shards_of_splits(request.num_shards, splits),
        settings={"converter": "image_folder", "class_names_digest": _digest_of(class_names), "filenames": True},
        source=str(request.source),
        notes=tuple(notes),
    )


def _filename(item):
    """So that a prediction or a feature can be traced to the file it is of."""
    return {FILENAME_KEY: os.fsencode(item.name)}


def class_names_of(found):
    """Class names in the order of their labels: sorted, as numbers if all are numbers.

    Args:
      found: {split: {class name: [Entry]}}.
    """
    names = {name for classes in found.values() for name in classes}
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if numbers else name))


def seeded_order(entries, seed):
    """Entries or Items shuffled by a digest of seed and name, the same for any version of Python and file system."""
    return sorted(entries, key=lambda entry: hashlib.sha256(b"%d/%s" % (seed, os.fsencode(entry.name))).digest())


def _local(request):
    if is_url(request.source):
        return fetch(request.source, request.scratch_dir)
    source = Path(request.source)
    if not source.exists():
        raise UserError(f"source {source} does not exist: give a folder, an archive or a CSV file")
    if not source.is_dir() and not source.name.lower().endswith((*ARCHIVE_EXTENSIONS, ".csv")):
        raise UserError(
            f"source {source} is no folder, archive ({', '.join(ARCHIVE_EXTENSIONS)}) or CSV file (.csv): {_EXPECTED}"
        )
    return source


def _check_not_inside(dataset_dir, source):
    if source.is_dir() and Path(dataset_dir).resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"dataset_dir {dataset_dir} lies in the source {source}, where its files would be taken for the "
            f"source's: give a folder outside"
        )


def _name_of(dataset_dir):
    name = Path(dataset_dir).resolve().name or "images"
    # With a name from the catalog, it would get that data set's preprocessing.
    return f"{name}_images" if name in catalog.DATASETS else name


def _sort_into_classes(entries, source):
    """Returns ({split: {class name: [Entry]}}, names of the files that are not images)."""
    images = [entry for entry in entries if entry.name.lower().endswith(EXTENSIONS)]
    ignored = [entry.name for entry in entries if not entry.name.lower().endswith(EXTENSIONS)]
    if not images:
        held = f"{len(ignored)} files of other kinds ({named(ignored)})" if ignored else "no files"
        raise UserError(f"source {source} holds {held} and no image ({', '.join(EXTENSIONS)}): {_EXPECTED}")
    depth = _common_depth(images)
    has_splits = _has_splits(images, depth, source)
    if not has_splits:
        _check_no_splits_within_classes(images, depth, source)
    found, stray = {}, []
    for entry in images:
        folders = entry.name.split("/")[depth:-1]
        split = _SPLIT_OF_FOLDER[folders.pop(0).lower()] if has_splits and folders else "train"
        if not folders:
            stray.append(entry.name)
            continue
        found.setdefault(split, {}).setdefault(folders[0], []).append(entry)
    if stray:
        raise UserError(
            f"{len(stray)} images of {source} are in no class folder ({named(stray)}): {_EXPECTED}; move them into "
            f"one, or out of the source"
        )
    if source.is_dir():
        _check_no_empty_class(source, images[0].name.split("/")[:depth], has_splits, set(class_names_of(found)))
    return found, ignored


def _has_splits(images, depth, source):
    """Whether the folders at `depth` are splits: all are named like one, and hold folders of images.

    Raises:
      UserError: If only some are splits, or none is for training. Taken for classes, they would train a network to
        tell the splits apart.
    """
    tops = {entry.name.split("/")[depth] for entry in images if entry.name.count("/") > depth}
    splits = {top for top in tops if top.lower() in _SPLIT_OF_FOLDER}
    # A folder "train" that holds only images is the class of trains.
    if not any(entry.name.count("/") > depth + 1 and entry.name.split("/")[depth] in splits for entry in images):
        return False
    if others := sorted(tops - splits):
        raise UserError(
            f"source {source} has {named(sorted(splits))} with folders in it, as a split has, beside {named(others)}, "
            f"which is no split: expected classes alone, or train, validation and test alone; move one kind away, or "
            f"rename a class that is named like a split"
        )
    if not any(_SPLIT_OF_FOLDER[top.lower()] == "train" for top in splits):
        raise UserError(f"source {source} has {named(sorted(splits))}, but no train folder to train on: add one")
    return True


def _check_no_splits_within_classes(images, depth, source):
    """Refuses class/split/*, whose test images would be trained on."""
    within = {"".join(entry.name.split("/")[depth + 1 : -1][:1]) for entry in images}
    if len({_SPLIT_OF_FOLDER.get(name.lower()) for name in within} - {None}) > 1:
        splits = named(sorted(name for name in within if name.lower() in _SPLIT_OF_FOLDER))
        raise UserError(
            f"the classes of source {source} have {splits} in them: expected the splits above the classes, as in "
            "train/cat/*.jpg; move them, or list the training images in a CSV"
        )


def _check_no_empty_class(source, above, has_splits, class_names):
    """A class folder without images would go unnoticed and shift the labels of those after it."""
    parents = [source.joinpath(*above)]
    if has_splits:
        parents = [folder for folder in parents[0].iterdir() if folder.name.lower() in _SPLIT_OF_FOLDER]
    for parent in parents:
        for folder in sorted(parent.iterdir()):
            if folder.is_dir() and not is_hidden(folder.name) and folder.name not in class_names:
                raise UserError(
                    f"class folder {folder} holds no image ({', '.join(EXTENSIONS)}): add some, or move it out of the "
                    f"source, in which each folder is a class"
                )


def _common_depth(images):
    """Number of folder levels above the classes that hold nothing else, such as an archive's top folder."""
    first = images[0].name.split("/")[:-1]
    last = images[-1].name.split("/")[:-1]
    # The names are sorted, so all share what the first and the last share. The class folder itself must stay.
    common = os.path.commonprefix([first, last])
    return min(len(common), max(0, min(entry.name.count("/") for entry in images) - 1)) if len(common) > 0 else 0


def _read_csv(path):
    """Reads lines of path,class; a first line "path,label" counts as a heading. Paths are relative to the CSV."""
    found, lines = {}, {}
    root = str(path.parent.resolve())
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row in (reader := csv.reader(file)):
                if not row or (reader.line_num == 1 and [cell.strip().lower() for cell in row] == ["path", "label"]):
                    continue
                if len(row) != 2 or not row[0] or not row[1].strip():
                    raise UserError(f"{path}, line {reader.line_num}: {row!r} is not a path and a label")
                name, label = row[0], row[1].strip()
                if name in lines:
                    raise UserError(f"{path}, line {reader.line_num}: {name} is on line {lines[name]} already")
                lines[name] = reader.line_num
                found.setdefault("train", {}).setdefault(label, []).append(_entry(name, root))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8 ({error}): expected lines of path,label") from None
    if not found:
        raise UserError(f"{path} lists no image: expected lines of path,label")
    return found


def _entry(name, root):
    try:
        size = os.path.getsize(os.path.join(root, name))
    except OSError:
        size = -1
    return Entry(name, root, -1, size)


def _check_classes(found):
    names = class_names_of(found)
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"class name {name!r} is not UTF-8: rename the folder") from None
        if not name.isprintable():
            raise UserError(f"class name {name!r} holds a character that does not print: rename it")
    if len(names) == 1:
        raise UserError(f"the only class is {names[0]!r}, and a classifier needs two: {_EXPECTED}")
    without = [name for name in names if name not in found["train"]]
    if without:
        raise UserError(
            f"{named(map(repr, without))} has images in other splits, but none to train on: add some, or remove the "
            f"class"
        )


def _make_splits(found, class_names, request):
    """Items of each split; empties `found`."""
    labels = {name: label for label, name in enumerate(class_names)}
    fraction = request.validation_fraction
    if "validation" in found and fraction is not None:
        raise UserError("validation_fraction is given, but the source has a validation split: give one of the two")
    if fraction is None:
        # A source with its own test split is evaluated on that.
        fraction = 0.0 if len(found) > 1 else _DEFAULT_VALIDATION_FRACTION
    if not 0.0 <= fraction < 1.0:
        raise UserError(f"validation_fraction is {fraction}, expected at least 0 and below 1")
    if fraction:
        found.update(_split_off(found["train"], fraction, request.seed))
    splits = {}
    for split in ("train", "validation", "test"):
        if split in found:
            items = _take_items(found.pop(split), labels)
            splits[split] = seeded_order(items, request.seed)
    return splits


def _take_items(classes, labels):
    """Turns the Entries of {class name: [Entry]} into Items; empties it, so that millions are not in memory twice."""
    items = []
    while classes:
        name, entries = classes.popitem()
        items += [Item(entry.name, labels[name], entry.location, entry.offset, entry.size) for entry in entries]
    return items


def _split_off(classes, fraction, seed):
    train, validation = {}, {}
    for name, entries in classes.items():
        # At least one image of a class is left to train on; of two or more, at least one is held back.
        count = min(max(1, round(fraction * len(entries))), len(entries) - 1)
        ordered = seeded_order(entries, seed)
        train[name] = ordered[count:]
        if count:
            validation[name] = ordered[:count]
    if not validation:
        raise UserError(
            "every class has one image only, which leaves none to hold back: add images, or give "
            "--validation_fraction=0 to train without a validation split"
        )
    return {"train": train, "validation": validation}


def _digest_of(class_names):
    return hashlib.sha256("\n".join(class_names).encode()).hexdigest()
