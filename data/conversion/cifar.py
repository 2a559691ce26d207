"""CIFAR-10 and CIFAR-100 in their publisher's binary form: one or two label bytes, then three planes of 32x32."""

import dataclasses
from pathlib import Path

import numpy as np

from command_line import UserError
from data.conversion.fetching import check, fetch, is_url
from data.conversion.image_files import encode_pixels
from data.conversion.plan import Item, Plan, shards_of_splits
from data.conversion.reading import list_files

SIDE = 32
_IMAGE_BYTES = 3 * SIDE * SIDE
_LICENCE = "none stated; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"


@dataclasses.dataclass(frozen=True)
class Cifar:
    """One of the two data sets: which files hold which split, and their checksums.

    Attributes:
      checksum: Checksum of the archive.
      files: {split: {file name: checksum}}, in the order of the records.
      label_bytes: Label bytes before each image; the last is the class.
      names_file: Holds a class name on each line.
    """

    name: str
    url: str
    checksum: str
    files: dict[str, dict[str, str]]
    label_bytes: int
    names_file: str

    def plan(self, request):
        """Plans the records in the order of the publisher's files.

        Raises:
          UserError: If the source is missing, incomplete, or differs from what its publisher made.
        """
        found = {Path(entry.name).name: entry for entry in list_files(self._local(request), request.scratch_dir)}
        wanted = [name for files in self.files.values() for name in files]
        missing = [name for name in [*wanted, self.names_file] if name not in found]
        if missing:
            raise UserError(
                f"source {request.source or self.url} lacks {', '.join(missing)}: expected {Path(self.url).name} or "
                f"the folder that is in it (the binary version, not the one for Python or Matlab)"
            )
        class_names = _read_names(found[self.names_file])
        splits = {
            split: [
                item for name, checksum in files.items() for item in self._items(found[name], checksum, class_names)
            ]
            for split, files in self.files.items()
        }
        sharded = "" if request.num_shards is None else "_{shard:05d}-of-{count:05d}"
        return Plan(
            name=self.name,
            class_names=class_names,
            splits=splits,
            encode=encode_planes,
            num_shards=shards_of_splits(request.num_shards or 1, splits),
            file_name=self.name + "_{split}" + sharded + ".tfrecord",
            image_shape=(SIDE, SIDE, 3),
            settings={"converter": self.name},
            source=self.url,
            licence=_LICENCE,
        )

    def _local(self, request):
        if request.source is None or is_url(request.source):
            return fetch(request.source or self.url, request.scratch_dir, self.checksum)
        return Path(request.source)

    def _items(self, entry, checksum, class_names):
        path = _path(entry)
        start = max(entry.offset, 0)
        check(path, checksum, start, entry.size)
        size = self.label_bytes + _IMAGE_BYTES
        # Read, not memory-mapped: pages of a mapped file count as our memory.
        labels = np.fromfile(path, np.uint8, entry.size, offset=start)[self.label_bytes - 1 :: size]
        if len(labels) * size != entry.size or labels.max() >= len(class_names):
            raise UserError(f"{path}: {entry.name} does not hold images of {len(class_names)} classes")
        first = start + self.label_bytes
        stem = Path(entry.name).stem
        return [
            Item(f"{stem}/{number}", int(label), path, first + number * size, _IMAGE_BYTES)
            for number, label in enumerate(labels)
        ]


CIFAR10 = Cifar(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
    files={
        "train": {
            "data_batch_1.bin": "md5:5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "md5:5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "md5:942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "md5:ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "md5:53f37980c15c3d472c316c40844f3f0d",
        },
        "test": {"test_batch.bin": "md5:803d5f7f4d78ea53de84dbe85f74fb6d"},
    },
    label_bytes=1,
    names_file="batches.meta.txt",
)
CIFAR100 = Cifar(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    checksum="md5:03b5dce01913d631647c71ecec9e9cb8",
    files={
        "train": {"train.bin": "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"},
        "test": {"test.bin": "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"},
    },
    label_bytes=2,
    names_file="fine_label_names.txt",
)


def encode_planes(planes):
    """Encodes the bytes of a red, a green and a blue plane of 32x32 as an Encoded PNG."""
    return encode_pixels(np.frombuffer(planes, np.uint8).reshape(3, SIDE, SIDE).transpose(1, 2, 0))


def _path(entry):
    return str(Path(entry.location) / entry.name) if entry.offset < 0 else entry.location


def _read_names(entry):
    with open(_path(entry), "rb") as file:
        file.seek(max(entry.offset, 0))
        return tuple(file.read(entry.size).decode("ascii").split())
