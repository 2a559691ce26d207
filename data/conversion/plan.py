"""What a conversion will write: every image, its label and its place, before any is decoded."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable
from typing import NamedTuple

from command_line import UserError

# One thread can read a shard of this size at once, and a broken copy is quickly replaced.
_BYTES_PER_SHARD = 128 * 2**20


class Item(NamedTuple):
    """One image to convert; small, because a data set has millions.

    `location` is the folder that `name` is relative to. If `offset` is at least 0, it is the file that holds the
    image's `size` bytes at that offset. A `size` below 0 is unknown: the file could not be examined.
    """

    name: str
    label: int
    location: str
    offset: int
    size: int


class Encoded(NamedTuple):
    """An image as stored in its record; `image_format` is the value of image/format."""

    encoded: bytes
    image_format: str
    height: int
    width: int


class BadFileError(Exception):
    """A file holds no usable image; the message is the reason, without the file's name."""


class Shard(NamedTuple):
    """`items[start:stop]` of a split, written to the file `name`."""

    name: str
    split: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a converter decides.

    Attributes:
      name: Name of the data set, for dataset.json.
      class_names: Name of each class; its index is the label.
      splits: Items of each split, in the order of the records.
      encode: A picklable function from a file's bytes to Encoded; raises BadFileError.
      extra_features: A function from an Item to more features of its record, {key: bytes, int or a list of them or of
        floats}.
      num_shards: Number of shards of each split; None for a number that suits its size.
      file_name: Name of a shard, with {split}, {shard} and {count} to be filled in.
      image_shape: (height, width, channels) if all images have the same.
      unlabelled: Classes that may have no training image, such as Slim's background.
      settings: JSON-able settings that the records depend on besides the items.
      notes: Lines for the user.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, list[Item]]
    encode: Callable[[bytes], Encoded]
    extra_features: Callable[[Item], dict] | None = None
    num_shards: dict[str, int] | None = None
    file_name: str = "{split}-{shard:05d}-of-{count:05d}.tfrecord"
    image_shape: tuple[int, int, int] | None = None
    unlabelled: tuple[int, ...] = ()
    settings: dict = dataclasses.field(default_factory=dict)
    source: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()

    @property
    def file_pattern(self):
        """Glob of a split's files, with {split}; see `data.catalog`."""
        return self.file_name.replace("{shard:05d}-of-{count:05d}", "*")

    @functools.cached_property
    def shards(self):
        """Every Shard, split after split; each takes a run of its split's items, all of equal length."""
        shards = []
        for split, items in self.splits.items():
            count = self._count_of_shards(split)
            for number in range(count):
                name = self.file_name.format(split=split, shard=number, count=count)
                start, stop = (len(items) * edge // count for edge in (number, number + 1))
                shards.append(Shard(name, split, start, stop))
        return shards

    def _count_of_shards(self, split):
        items = self.splits[split]
        if self.num_shards is None:
            return max(1, min(len(items), round(sum(max(item.size, 0) for item in items) / _BYTES_PER_SHARD)))
        if self.num_shards[split] > len(items):
            raise UserError(
                f"{self.num_shards[split]} shards for the {len(items)} images of split {split!r}: give a "
                f"--num_shards of at most {len(items)}"
            )
        return self.num_shards[split]

    def fingerprint(self, shard):
        """A digest of everything that decides a shard's bytes, except the content of the files."""
        digest = hashlib.sha256(repr((shard.name, sorted(self.settings.items()))).encode())
        for item in self.splits[shard.split][shard.start : shard.stop]:
            digest.update(b"%s\0%d\0%d\n" % (os.fsencode(item.name), item.label, item.size))
        return digest.hexdigest()


def shards_of_splits(num_shards, splits):
    """The number of shards of each split, from --num_shards for the largest; the others get shards of the same size.

    Args:
      num_shards: As the flag; None for None.
      splits: Items of each split.
    """
    if num_shards is None:
        return None
    if num_shards < 1:
        raise UserError(f"num_shards is {num_shards}, expected at least 1")
    most = max(len(items) for items in splits.values())
    return {split: max(1, -(-num_shards * len(items) // most)) for split, items in splits.items()}
