"""The known data sets, and how each describes itself.

A data set is a directory of TFRecord files with a `dataset.json` beside them, which alone defines its
splits, counts and classes:

    {"name": "flowers", "splits": {"train": 3320, "validation": 350}, "class_names": ["daisy", ...],
     "file_pattern": "flowers_{split}_*.tfrecord"}

A row of `DATASETS` adds what records cannot say: the preprocessing and the training defaults that suit the data set. A
directory without a row also works, with general defaults.

    dataset = catalog.open_dataset()                                # the embedded digits
    dataset = catalog.open_dataset(directory="/data/flowers")       # what its dataset.json describes
"""

import dataclasses
import glob
import json
import os
from pathlib import Path

from command_line import UserError

DEFAULT_DATASET = "digits"
DESCRIPTION_FILE = "dataset.json"
_EXAMPLE = (
    '{"name": "flowers", "splits": {"train": 3320, "validation": 350}, "class_names": ["daisy", "roses"], '
    '"file_pattern": "flowers_{split}_*.tfrecord"}'
)


@dataclasses.dataclass(frozen=True)
class TrainingDefaults:
    """Training defaults that suit a data set; None leaves the trainer's general default."""

    batch_size: int | None = None
    num_epochs: float | None = None
    learning_rate: float | None = None
    warmup_epochs: float | None = None
    weight_decay: float | None = None
    batch_norm_decay: float | None = None
    eval_every_epochs: float | None = None


@dataclasses.dataclass(frozen=True)
class DatasetRow:
    """Settings that suit a data set; None leaves the choice to the network.

    `image_size` is the side, in pixels, of the network's input images. `directory` holds the embedded files; it is
    None if the data set has to be fetched. The splits are those that `dataset.json` has, chosen when it is opened.
    """

    preprocessing_name: str | None = None
    image_size: int | None = None
    train_split: str = "train"
    eval_split: str = "test"
    directory: Path | None = None
    defaults: TrainingDefaults = TrainingDefaults()


# https://arxiv.org/abs/1512.03385, section 4.2: batches of 128, 64,000 steps, rate 0.1, weight decay 0.0001.
_CIFAR_DEFAULTS = TrainingDefaults(batch_size=128, num_epochs=164, learning_rate=0.1, weight_decay=1e-4)

DATASETS = {
    "digits": DatasetRow(
        preprocessing_name="digits",
        image_size=32,
        directory=Path(__file__).parent / "digits",
        # Trains resnet_v2_50 in a few minutes. So few steps need fast moving averages and no higher rate than this.
        defaults=TrainingDefaults(
            batch_size=32,
            num_epochs=8,
            learning_rate=0.01,
            warmup_epochs=1,
            batch_norm_decay=0.9,
            eval_every_epochs=2,
        ),
    ),
    "cifar10": DatasetRow(preprocessing_name="cifar", image_size=32, defaults=_CIFAR_DEFAULTS),
    "cifar100": DatasetRow(preprocessing_name="cifar", image_size=32, defaults=_CIFAR_DEFAULTS),
    # A mirrored digit is a different sign or none, so the digits' preprocessing never flips.
    "mnist": DatasetRow(preprocessing_name="digits", image_size=28),
    "fashion_mnist": DatasetRow(preprocessing_name="cifar", image_size=28),
    "flowers": DatasetRow(),
    "imagenet": DatasetRow(),
    # Neither distorts nor resizes, so that the input costs as little as possible.
    "synthetic": DatasetRow(preprocessing_name="lenet"),
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened data set.

    Attributes:
      splits: Records in each split.
      class_names: Name of each class; its index is the label in the records.
      image_shape: (height, width, channels) of every image; None if they differ.
      file_pattern: Glob for a split's files within `directory`, in which `{split}` stands for the split's name.
      synthetic: The `synthetic.SyntheticImages` used instead of files; None if there are files.
      own_files: For a split of which this process reads only a part (`sharding.own_part`), the paths of its files.
    """

    name: str
    directory: Path
    splits: dict[str, int]
    class_names: tuple[str, ...]
    file_pattern: str
    image_shape: tuple[int, int, int] | None = None
    source: str = ""
    licence: str = ""
    row: DatasetRow = DatasetRow()
    synthetic: object | None = None
    own_files: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self):
        return len(self.class_names)

    def check_class_names(self, names, labels_offset):
        """Compares the class names of a network with those of this data set.

        Args:
          names: The network's class names, as many as this data set has from `labels_offset` on.
          labels_offset: First classes of this data set that the network leaves out.
        Returns:
          The difference, as a sentence without its full stop; None if all names agree.
        Raises:
          UserError: If the numbers of names differ, or the same names come in another order.
        """
        theirs = list(self.class_names[labels_offset:])
        names = list(names)
        if names == theirs:
            return None
        if len(names) != len(theirs):
            raise UserError(f"the checkpoint names {len(names)} labels, but data set {self.name} has {len(theirs)}")
        number = next(index for index, pair in enumerate(zip(names, theirs, strict=True)) if pair[0] != pair[1])
        text = f"class {number} is {names[number]!r} in the checkpoint, but {theirs[number]!r} in data set {self.name}"
        if sorted(names) == sorted(theirs):
            raise UserError(f"{text}: the same labels in another order; mend class_names in its {DESCRIPTION_FILE}")
        return text

    def fingerprint(self, splits):
        """A JSON-able dict that tells two data sets apart without reading their records.

        Args:
          splits: Names of the splits to include.
        Returns:
          Name, class names and, for each split, the number of records and the names and bytes of its files.
        Raises:
          UserError: As `files`.
        """
        files = {} if self.synthetic else {split: self.files(split) for split in splits}
        return {
            "name": self.name,
            "class_names": list(self.class_names),
            "records": {split: self.num_records(split) for split in splits},
            "files": {split: [[Path(path).name, os.path.getsize(path)] for path in files[split]] for split in files},
        }

    def num_records(self, split):
        """Number of records according to dataset.json; UserError for a split that it does not list."""
        if split not in self.splits:
            where = f"{self.directory / DESCRIPTION_FILE} lists" if self.directory else "it has"
            raise UserError(f"data set {self.name!r} has no split {split!r}: {where} {', '.join(self.splits)}")
        return self.splits[split]

    def files(self, split):
        """Paths of the split's files, sorted.

        Raises:
          UserError: If the split is unknown, or no file matches.
        """
        count = self.num_records(split)
        if split in self.own_files:
            return self.own_files[split]
        pattern = self.file_pattern.replace("{split}", glob.escape(split))
        names = sorted(glob.glob(pattern, root_dir=self.directory))
        if not names:
            raise UserError(
                f"no file in {self.directory} matches {pattern!r}, expected the {count} records of the "
                f"{split!r} split of data set {self.name!r} there: give the directory that holds them, or "
                f"mend file_pattern in {DESCRIPTION_FILE}"
            )
        return [str(self.directory / name) for name in names]


def open_dataset(name=None, directory=None):
    """Opens a data set by name, by directory, or both; given neither, the embedded digits.

    Args:
      name: A row of DATASETS or, with a directory, the name in its dataset.json.
      directory: Where the records and dataset.json are; None for a row with embedded files.
    Raises:
      UserError: If the name is unknown, the directory or its dataset.json is missing or invalid, or the two
        disagree.
    """
    if directory is None:
        name = name or DEFAULT_DATASET
        if name not in DATASETS:
            raise UserError(
                f"unknown data set {name!r}: known are {', '.join(DATASETS)}; for records of your own, give "
                f"the directory that holds them and their {DESCRIPTION_FILE}"
            )
        directory = DATASETS[name].directory
        if name == "synthetic":
            raise UserError("synthetic images are drawn, not opened: scripts make them by --dataset_name=synthetic")
        if directory is None:
            raise UserError(f"data set {name!r} has no embedded files: give the directory that holds its records")
    directory = Path(directory)
    path = directory / DESCRIPTION_FILE
    dataset = _from_description(_read_description(path), directory, path)
    if name is not None and name != dataset.name:
        raise UserError(
            f"{path} describes data set {dataset.name!r}, not {name!r}: give that name or another directory"
        )
    return dataset


def _read_description(path):
    directory = path.parent
    if not directory.exists():
        raise UserError(f"data directory {directory} does not exist: give the directory that holds the records")
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory: give the directory that holds the records, not a file in it")
    if not path.exists():
        held = "is empty" if not any(directory.iterdir()) else f"has no {DESCRIPTION_FILE}"
        raise UserError(
            f"data directory {directory} {held}: expected TFRecord files and a {DESCRIPTION_FILE} (docs/data.md writes "
            f"one) such as {_EXAMPLE}"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): expected something like {_EXAMPLE}") from None


def _from_description(description, directory, path):
    def expect(holds, problem):
        if not holds:
            raise UserError(f"{path}: {problem}; expected something like {_EXAMPLE}")

    expect(isinstance(description, dict), f"holds a {type(description).__name__}, not an object")
    missing = [key for key in ("name", "splits", "class_names", "file_pattern") if key not in description]
    expect(not missing, f"lacks {', '.join(missing)}")
    name, splits = description["name"], description["splits"]
    class_names, file_pattern = description["class_names"], description["file_pattern"]
    image_shape = description.get("image_shape")

    expect(isinstance(name, str) and name, "name is not a name")
    expect(
        isinstance(splits, dict) and splits,
        "splits does not map the name of each split to its number of records",
    )
    for split, count in splits.items():
        expect(
            type(count) is int and count > 0,
            f"split {split!r} has {count!r} records, not a count of at least 1",
        )
    expect(_is_list(class_names, str) and class_names, "class_names is not a list of names")
    expect(isinstance(file_pattern, str) and file_pattern, "file_pattern is not a file name pattern")
    expect(len(splits) == 1 or "{split}" in file_pattern, "file_pattern does not say where {split} stands")
    expect(
        image_shape is None or (_is_list(image_shape, int) and len(image_shape) == 3),
        "image_shape is not [height, width, channels]",
    )
    return Dataset(
        name=name,
        directory=directory,
        splits=splits,
        class_names=tuple(class_names),
        file_pattern=file_pattern,
        image_shape=image_shape and tuple(image_shape),
        source=str(description.get("source", "")),
        licence=str(description.get("licence", "")),
        row=dataclasses.replace(DATASETS.get(name, DatasetRow()), **_usual_splits(splits)),
    )


def _is_list(value, kind):
    return isinstance(value, list) and all(type(element) is kind for element in value)


def _usual_splits(splits):
    """Which of its splits a data set is trained and evaluated on, if nothing else is asked for."""
    names = list(splits)
    train_split = "train" if "train" in splits else names[0]
    others = [name for name in names if name != train_split]
    usual = ("validation", "val", "valid", "dev", "eval", "test")
    eval_split = next((name for name in usual if name in others), others[-1] if others else train_split)
    return {"train_split": train_split, "eval_split": eval_split}
