"""What the tests of training share: a tiny network, a tiny data set, and a model whose logits are its images."""

import json

import numpy as np
import tensorflow as tf

from data import records
from nets import nets_factory, resnet_cifar
from training.config import TrainConfig

TINY = "resnet_cifar_v1_8"
SIDE = 8
CLASS_NAMES = ("red", "green", "blue")
TRAIN_COUNT, TEST_COUNT = 22, 13
STEPS = 11  # 22 records, batches of 4, 2 epochs; an epoch is 5.5 steps.


def add_tiny_networks(networks):
    """Puts rows of eight layers into the table: a run takes seconds, and every kind of layer is there."""
    networks[TINY] = nets_factory.Network(resnet_cifar.resnet_cifar_v1(8), "cifar")
    networks["resnet_cifar_v2_8"] = nets_factory.Network(resnet_cifar.resnet_cifar_v2(8), "cifar")


def pictures(count, seed, classes):
    """Examples for write_examples: noise, with the label in the colour that is brightest and in how bright it is."""
    random = np.random.default_rng(seed)
    for number in range(count):
        label = number % classes
        pixels = random.integers(0, 100, [SIDE, SIDE, 3])
        pixels[:, :, label % 3] += 100 + 50 * (label // 3 % 2)
        yield tf.io.encode_png(pixels.astype(np.uint8)).numpy(), "png", label, SIDE, SIDE


def make_dataset(directory, class_names=CLASS_NAMES, train=TRAIN_COUNT, test=TEST_COUNT):
    """Writes a data set of the splits train and test; neither is a multiple of the batch sizes in use."""
    directory.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": train, "test": test}.items()):
        records.write_examples(directory / f"toy_{split}.tfrecord", pictures(count, seed, len(class_names)))
    description = {
        "name": "toy",
        "splits": {"train": train, "test": test},
        "class_names": list(class_names),
        "file_pattern": "toy_{split}.tfrecord",
    }
    (directory / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return directory


def divide_files(directory, split, files):
    """Divides the file of a split of `make_dataset` into several."""
    path = directory / f"toy_{split}.tfrecord"
    contents = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    path.unlink()
    for file in range(files):
        with tf.io.TFRecordWriter(str(directory / f"toy_{split}-{file}.tfrecord")) as writer:
            for record in contents[file * len(contents) // files : (file + 1) * len(contents) // files]:
                writer.write(record)
    description = json.loads((directory / "dataset.json").read_text())
    description["file_pattern"] = "toy_{split}*.tfrecord"
    (directory / "dataset.json").write_text(json.dumps(description))


def toy_config(dataset_dir, train_dir, **changes):
    """A run of STEPS steps over 2 epochs, with an evaluation after each."""
    settings = {
        "model_name": TINY,
        "dataset_dir": str(dataset_dir),
        "train_dir": train_dir,
        "preprocessing_name": "cifar",
        "train_image_size": SIDE,
        "batch_size": 4,
        "num_epochs": 2.0,
        "learning_rate": 0.05,
        "batch_norm_decay": 0.5,
        "log_every_n_steps": 3,
    }
    return TrainConfig(**settings | changes)


class LogitsModel:
    """Stands for a network: the images are the logits."""

    def __call__(self, images, training=False):
        assert training is False
        return images, {}


def values_in(prefix):
    """Every value of a checkpoint by name, as arrays."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def events_in(path):
    """{tag: {step: value}} of the curves in a folder."""
    curves = {}
    for file in sorted(path.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                curves.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return curves


def assert_same_values(first, second):
    """Both dicts hold the same names and, bit for bit, the same arrays."""
    assert first.keys() == second.keys()
    different = [name for name in first if np.asarray(first[name]).tobytes() != np.asarray(second[name]).tobytes()]
    assert not different
