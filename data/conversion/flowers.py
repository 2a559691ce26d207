"""TensorFlow's photographs of five flowers, split as in research/slim: 350 random ones for validation."""

import random
from pathlib import Path

from command_line import UserError
from data.conversion.fetching import fetch, is_url
from data.conversion.image_files import encode_for_records
from data.conversion.plan import Item, Plan, shards_of_splits
from data.conversion.reading import list_files, named

URL = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"
CHECKSUM = "sha256:4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c"
CLASS_NAMES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
NUM_IMAGES = 3670
NUM_VALIDATION = 350
_NUM_SHARDS = 5
_SEED = 0


def plan_flowers(request):
    """Plans Slim's 3320 and 350 records in 5 shards each.

    research/slim shuffles the names in the order of the file system, so its split differs between machines. Here they
    are sorted first.

    Raises:
      UserError: If the source is missing, or does not hold the 3670 photographs.
    """
    if request.source is None or is_url(request.source):
        source = fetch(request.source or URL, request.scratch_dir, CHECKSUM)
    else:
        source = Path(request.source)
    found = {}
    for entry in list_files(source, request.scratch_dir):
        *_, folder, name = ("", *entry.name.split("/"))
        if folder in CLASS_NAMES and name.lower().endswith(".jpg"):
            # The same key wherever the photographs lie, because it decides the split.
            found[f"{folder}/{name}"] = Item(
                entry.name, CLASS_NAMES.index(folder), entry.location, entry.offset, entry.size
            )
    if len(found) != NUM_IMAGES:
        lacking = [name for name in CLASS_NAMES if not any(key.startswith(f"{name}/") for key in found)]
        raise UserError(
            f"source {source} holds {len(found)} of the {NUM_IMAGES} photographs"
            + (f" (none of {named(lacking)})" if lacking else "")
            + f": expected flower_photos.tgz or the folder that is in it, with {', '.join(CLASS_NAMES)}; convert "
            "photographs of your own with --dataset_name=image_folder"
        )
    items = [found[key] for key in sorted(found)]
    random.Random(_SEED).shuffle(items)
    splits = {"train": items[NUM_VALIDATION:], "validation": items[:NUM_VALIDATION]}
    num_shards = shards_of_splits(request.num_shards, splits) or dict.fromkeys(splits, _NUM_SHARDS)
    return Plan(
        name="flowers",
        class_names=CLASS_NAMES,
        splits=splits,
        encode=encode_for_records,
        num_shards=num_shards,
        file_name="flowers_{split}_{shard:05d}-of-{count:05d}.tfrecord",
        settings={"converter": "flowers"},
        source=URL,
        licence="CC BY 2.0; photographers in the archive's LICENSE.txt",
    )
