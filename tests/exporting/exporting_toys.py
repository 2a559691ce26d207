"""What the tests of exporting share: a checkpoint with special values everywhere, and records of pictures."""

import dataclasses
import io
import json
import zlib

import numpy as np
from PIL import Image

from data import preprocessing, records
from exporting.config import ExportConfig
from nets import checkpoints, nets_factory

CLASS_NAMES = ("café", "dog", "egg", "fox", "goat", "hat", "ink", "jam", "kite", "lamp")
TEST_COUNT, TRAIN_COUNT = 9, 12


def special_value(name, shape):
    """A value that depends on the name; statistics and parameters of norms stay away from 0 and 1."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    kind = name.rsplit("/", 1)[-1]
    if kind == "weights":
        return random.normal(size=shape, scale=np.sqrt(2 / np.prod(shape[:-1])))
    if kind in ("gamma", "moving_variance"):
        return random.uniform(0.5, 1.5, size=shape)
    return random.normal(size=shape, scale=0.3)


def make_checkpoint(folder, name, size, family, dataset_dir=None, channels=3, **settings):
    """Writes a checkpoint as the trainer leaves it; returns its folder."""
    model = nets_factory.create_model(name, len(CLASS_NAMES), input_channels=channels, **settings)
    model.save(folder / "model.ckpt-1")
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n', encoding="utf-8")
    values = {name: special_value(name, variable.shape) for name, variable in model.variables_by_name.items()}
    checkpoints.write(folder / "model.ckpt-1", {name: value.astype(np.float32) for name, value in values.items()})
    training = {"dataset_name": "toy", "dataset_dir": str(dataset_dir)} if dataset_dir else {}
    checkpoints.write_description(
        folder,
        {
            "network": model.settings,
            "preprocessing": dataclasses.replace(preprocessing.PREPROCESSING[family], channels=channels).settings(size),
            "labels_offset": 0,
            "label_names": list(CLASS_NAMES),
            "training": training,
        },
    )
    return folder


def picture(number):
    """A photograph's stand-in: runs of colour and some noise, of a size of its own."""
    random = np.random.default_rng(number)
    patches = Image.fromarray(random.integers(0, 256, [5, 6, 3], np.uint8))
    pixels = np.asarray(patches.resize((40 + 3 * number % 17, 37 + 5 * number % 13), Image.Resampling.BICUBIC), int)
    return np.clip(pixels + random.integers(-9, 10, pixels.shape), 0, 255).astype(np.uint8)


def encode(pixels, kind):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def examples(count, first):
    for number in range(first, first + count):
        pixels, kind = picture(number), ("jpeg", "png")[number % 2]
        yield encode(pixels, kind), kind, number % len(CLASS_NAMES), *pixels.shape[:2]


def make_dataset(folder, class_names=CLASS_NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, first in (("train", TRAIN_COUNT, 100), ("test", TEST_COUNT, 0)):
        records.write_examples(folder / f"toy_{split}.tfrecord", examples(count, first))
    description = {
        "name": "toy",
        "splits": {"train": TRAIN_COUNT, "test": TEST_COUNT},
        "class_names": list(class_names),
        "file_pattern": "toy_{split}.tfrecord",
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


def config(checkpoint, form, output, **changes):
    """A quick export."""
    return ExportConfig(**{"checkpoint_path": checkpoint, "format": form, "output": output, "batch_size": 4} | changes)
