"""The files that docs/weights.md takes for its reader's: weights of other libraries with random values, and records."""

import json

import keras
import numpy as np
import tensorflow as tf
import torch

from data import records
from nets import checkpoints, nets_factory
from weights import official_reference, places, torch_resnet


def make_foreign_files(folder):
    """Makes downloads/ and records/ as the page names them."""
    downloads = folder / "downloads"
    downloads.mkdir()
    keras.utils.set_random_seed(0)
    keras.applications.ResNet50(weights=None).save(downloads / "resnet50.h5")
    nets_factory.create_model("resnet_v2_50", 1001).save(downloads / "resnet_v2_50.ckpt")
    torch.manual_seed(0)
    torch.save(torch_resnet.ResNet(18, 1000).state_dict(), downloads / "resnet18.pth")
    _make_official(downloads / "official" / "model.ckpt")
    _make_records(folder / "records" / "cifar10")


def _make_official(prefix):
    random, values = np.random.default_rng(0), {}

    def get(name, shape):
        return values.setdefault(name, random.uniform(0.1, 0.2, shape).astype(np.float32))

    official_reference.forward(places.structure_of("resnet_cifar_v1_20"), get, np.zeros([1, 32, 32, 3], np.float32), 10)
    checkpoints.write(prefix, {f"resnet_model/{name}": value for name, value in values.items()})


def _make_records(folder):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    pictures = [tf.io.encode_png(random.integers(0, 256, [32, 32, 3]).astype(np.uint8)).numpy() for _ in range(20)]
    examples = [(picture, "png", number % 10, 32, 32) for number, picture in enumerate(pictures)]
    records.write_examples(folder / "cifar10_test.tfrecord", examples)
    names = [f"class {label}" for label in range(10)]
    description = {"name": "cifar10", "splits": {"test": 20}, "class_names": names}
    description["file_pattern"] = "cifar10_{split}.tfrecord"
    (folder / "dataset.json").write_text(json.dumps(description))
