"""MNIST and Fashion-MNIST in IDX form: two files of images and two of labels, gzipped or not."""

import dataclasses
import struct
from pathlib import Path

import numpy as np

from command_line import UserError
from data.conversion.fetching import fetch, is_url
from data.conversion.image_files import encode_pixels
from data.conversion.plan import Item, Plan, shards_of_splits
from data.conversion.reading import plain_copy

SIDE = 28
_IMAGES_MAGIC, _LABELS_MAGIC = 0x803, 0x801
_IMAGES_HEADER_BYTES, _LABELS_HEADER_BYTES = 16, 8
_IMAGE_BYTES = SIDE * SIDE


@dataclasses.dataclass(frozen=True)
class Idx:
    """One of the two data sets.

    Attributes:
      url: URL of the folder on the server.
      files: {split: (file of images, file of labels, number of images)}, names without .gz.
      checksums: {file name without .gz: checksum of the .gz that the publisher serves}.
    """

    name: str
    url: str
    class_names: tuple[str, ...]
    files: dict[str, tuple[str, str, int]]
    checksums: dict[str, str]
    licence: str

    def plan(self, request):
        """Plans the records in the order of the publisher's files.

        Raises:
          UserError: If a file is missing, cut short, of another kind, or differs from what the publisher serves.
        """
        splits = {}
        for split, (images, labels, count) in self.files.items():
            images_path, labels_path = (
                plain_copy(self._local(n, request), request.scratch_dir) for n in (images, labels)
            )
            splits[split] = _items(images_path, labels_path, count, len(self.class_names), images)
        sharded = "" if request.num_shards is None else "_{shard:05d}-of-{count:05d}"
        return Plan(
            name=self.name,
            class_names=self.class_names,
            splits=splits,
            encode=encode_grey,
            num_shards=shards_of_splits(request.num_shards or 1, splits),
            file_name=self.name + "_{split}" + sharded + ".tfrecord",
            image_shape=(SIDE, SIDE, 1),
            settings={"converter": self.name},
            source=self.url,
            licence=self.licence,
        )

    def _local(self, name, request):
        if request.source is None or is_url(request.source):
            base = (request.source or self.url).rstrip("/")
            return fetch(f"{base}/{name}.gz", request.scratch_dir, self.checksums[name])
        folder = Path(request.source)
        if not folder.is_dir():
            raise UserError(f"source {folder} is not a folder: give the one that holds {name}.gz and the other files")
        for path in (folder / f"{name}.gz", folder / name, folder / name.replace("-idx", ".idx")):
            if path.exists():
                return path
        raise UserError(f"source {folder} lacks {name}.gz (or {name}): expected the four files of {self.url}")


def encode_grey(pixels):
    """Encodes the bytes of 28x28 greys as an Encoded PNG, grey as Slim's."""
    return encode_pixels(np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE))


def _items(images_path, labels_path, count, num_classes, name):
    _check_header(images_path, (_IMAGES_MAGIC, count, SIDE, SIDE), _IMAGES_HEADER_BYTES + count * _IMAGE_BYTES)
    _check_header(labels_path, (_LABELS_MAGIC, count), _LABELS_HEADER_BYTES + count)
    labels = np.fromfile(labels_path, np.uint8, offset=_LABELS_HEADER_BYTES)
    if labels.max() >= num_classes:
        raise UserError(f"{labels_path} holds label {labels.max()}, expected 0 to {num_classes - 1}: fetch it again")
    return [
        Item(
            f"{name}/{number}", int(label), str(images_path), _IMAGES_HEADER_BYTES + number * _IMAGE_BYTES, _IMAGE_BYTES
        )
        for number, label in enumerate(labels)
    ]


def _check_header(path, expected, size):
    with open(path, "rb") as file:
        header = file.read(4 * len(expected))
    found = struct.unpack(f">{len(header) // 4}I", header[: len(header) // 4 * 4])
    if found != expected or path.stat().st_size != size:
        raise UserError(
            f"{path} begins with {found} and has {path.stat().st_size} bytes, expected {expected} and {size}: it is "
            f"cut short or another file; fetch it again"
        )


def _files(train, test):
    return {
        "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", train),
        "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", test),
    }


MNIST = Idx(
    name="mnist",
    url="https://storage.googleapis.com/cvdf-datasets/mnist",
    class_names=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    files=_files(60_000, 10_000),
    checksums={
        "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
    licence="none stated; cite Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits",
)
FASHION_MNIST = Idx(
    name="fashion_mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    files=_files(60_000, 10_000),
    checksums={
        "train-images-idx3-ubyte": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
    licence="MIT, Zalando SE",
)
