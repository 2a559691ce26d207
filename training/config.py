"""The flags of the trainer, and what they become once the data set and the network have had their say."""

import dataclasses
import math
import os
import pathlib
from typing import Literal

from command_line import UserError


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Trains a residual network on TFRecords; without flags, on the embedded digits.

    The same command again goes on from the newest checkpoint of its folder. A default of None is the data set's own
    (data/catalog.py), or the general one named with the flag.
    """

    model_name: str = "resnet_v2_50"
    """Network; an unknown name lists the known ones."""
    dataset_name: str | None = None
    """Data set: digits when neither name nor folder is given."""
    dataset_dir: str | None = None
    """Folder with TFRecords and their dataset.json."""
    dataset_split_name: str | None = None
    """Split to train on (train)."""
    eval_split_name: str | None = None
    """Split to evaluate on (validation or test, as the data set has it)."""
    train_dir: pathlib.Path | None = None
    """Folder of checkpoints and curves (runs/DATASET-MODEL)."""
    preprocessing_name: str | None = None
    """Preprocessing (the network's own)."""
    train_image_size: int | None = None
    """Height and width of the images fed to the network, in pixels (the network's own)."""
    labels_offset: int = 0
    """Taken off each label; 1 leaves out the background class of Slim's ImageNet records."""
    use_grayscale: bool = False
    """Turn images grey, and make a network of one input channel."""
    rand_augment_layers: int = 0
    """Operations that RandAugment draws for each image; 0 for none."""
    rand_augment_magnitude: float = 9.0
    """How strong RandAugment's operations are, 0 to 30."""
    random_erasing: float = 0.0
    """Share of images of which a rectangle is erased."""
    mixup_alpha: float = 0.0
    """Mix each image with another, weights from Beta(alpha, alpha); 0 for no mixup."""
    cutmix_alpha: float = 0.0
    """Put a rectangle of another image into each, areas from Beta(alpha, alpha); 0 for no cutmix."""
    synthetic_num_images: int = 1024
    """Images in each split of --dataset_name=synthetic."""
    synthetic_num_classes: int = 1000
    """Classes of --dataset_name=synthetic."""
    dataset_num_private_threads: int | None = None
    """Threads that read and preprocess (half of the CPUs)."""
    data_service_address: str | None = None
    """grpc://HOST:PORT of a tf.data service whose workers read and preprocess; see data/service.py."""
    batch_size: int | None = None
    """Images of a step over all devices (32)."""
    max_number_of_steps: int | None = None
    """Steps of the whole run; takes precedence over --num_epochs."""
    num_epochs: float | None = None
    """Epochs of the whole run (90)."""
    learning_rate: float | None = None
    """Rate after warm-up (0.01)."""
    learning_rate_decay_type: Literal["constant", "fixed", "step", "exponential", "polynomial", "cosine"] | None = None
    """Schedule (cosine). fixed is Slim's name of constant."""
    learning_rate_decay_factor: float | None = None
    """What a drop multiplies the rate by (step 0.1, exponential 0.94)."""
    num_epochs_per_decay: float = 2.0
    """Epochs between two drops of the exponential schedule."""
    learning_rate_decay_epochs: tuple[float, ...] | None = None
    """Epochs of the drops of the step schedule (a third, two thirds and eight ninths of the run)."""
    end_learning_rate: float = 0.0
    """Rate at the end of polynomial and cosine."""
    warmup_epochs: float | None = None
    """Epochs in which the rate rises from 0 (0)."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float | None = None
    """L2 penalty on the weights of convolutions (0.0001)."""
    label_smoothing: float | None = None
    """Part of a label's probability spread over all classes (0)."""
    batch_norm_decay: float | None = None
    """Weight of the past in batch norm's moving averages (0.997, which needs thousands of steps)."""
    zero_gamma: bool = False
    """Start the last norm of each v1 unit with gamma 0."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of the activations; auto takes bfloat16 or float16 where the machine is faster in it."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    eval_every_epochs: float | None = None
    """Epochs between two evaluations (1); 0 for one at the end only."""
    log_every_n_steps: int = 10
    """Steps between two log lines and two points of the curves."""
    save_interval_secs: float = 600.0
    """Seconds between two checkpoints; each evaluation and the end of the run save too."""
    max_to_keep: int = 5
    """Checkpoints kept."""
    json: pathlib.Path | None = None
    """File that gets the result as JSON."""


GENERAL = {
    "batch_size": 32,
    "num_epochs": 90.0,
    "learning_rate": 0.01,
    "learning_rate_decay_type": "cosine",
    "warmup_epochs": 0.0,
    "weight_decay": 0.0001,
    "label_smoothing": 0.0,
    "batch_norm_decay": 0.997,
    "eval_every_epochs": 1.0,
}

# What may differ between a run and its resumption; anything else would make it another run.
RESUMABLE = {
    "train_dir",
    "dataset_dir",
    "eval_split_name",
    "max_number_of_steps",
    "num_epochs",
    "eval_every_epochs",
    "log_every_n_steps",
    "save_interval_secs",
    "max_to_keep",
    # The batches are the same wherever they are made.
    "dataset_num_private_threads",
    "data_service_address",
    "json",
}


def resolve(config, dataset, network):
    """Fills in what the flags left open.

    Args:
      config: A TrainConfig.
      dataset: A catalog.Dataset; its row's recipe comes before the general defaults.
      network: A row of nets_factory.NETWORKS.

    Returns:
      A TrainConfig without None, but for max_number_of_steps, dataset_dir and learning_rate_decay_epochs.

    Raises:
      UserError: If a number is out of its range; the message names the flag.
    """
    row = dataset.row
    recipe = {name: value for name, value in dataclasses.asdict(row.recipe).items() if value is not None}
    defaults = {
        **GENERAL,
        **recipe,
        "dataset_name": dataset.name,
        "dataset_split_name": row.train_split,
        "eval_split_name": row.eval_split,
        "train_dir": pathlib.Path("runs") / f"{dataset.name}-{config.model_name}",
        "preprocessing_name": row.preprocessing_name or network.preprocessing_name,
        "train_image_size": row.image_size or network.default_image_size,
    }
    resolved = dataclasses.replace(
        config, **{name: value for name, value in defaults.items() if getattr(config, name) is None}
    )
    if resolved.dataset_dir is not None:
        # model.json records it, and whoever reads that may stand in another folder.
        resolved = dataclasses.replace(resolved, dataset_dir=os.path.abspath(resolved.dataset_dir))
    if resolved.learning_rate_decay_factor is None:
        factor = 0.1 if resolved.learning_rate_decay_type == "step" else 0.94
        resolved = dataclasses.replace(resolved, learning_rate_decay_factor=factor)
    _check_ranges(resolved)
    return resolved


def _check_ranges(config):
    for name in ("batch_size", "train_image_size", "log_every_n_steps", "max_to_keep"):
        _check(config, name, getattr(config, name) >= 1, "at least 1")
    for name in ("max_number_of_steps", "dataset_num_private_threads"):
        value = getattr(config, name)
        _check(config, name, value is None or value >= 1, "at least 1")
    for name in ("num_epochs", "learning_rate", "num_epochs_per_decay", "learning_rate_decay_factor"):
        _check(config, name, 0 < getattr(config, name) < math.inf, "above 0 and finite")
    for name in (
        "warmup_epochs",
        "weight_decay",
        "eval_every_epochs",
        "save_interval_secs",
        "end_learning_rate",
        "rand_augment_layers",
        "mixup_alpha",
        "cutmix_alpha",
    ):
        _check(config, name, getattr(config, name) >= 0, "at least 0")
    for name in ("momentum", "label_smoothing"):
        _check(config, name, 0 <= getattr(config, name) < 1, "at least 0 and under 1")
    _check(config, "batch_norm_decay", 0 <= config.batch_norm_decay <= 1, "between 0 and 1")
    _check(config, "seed", 0 <= config.seed < 2**63, "at least 0 and under 2**63")
    _check(config, "rand_augment_magnitude", 0 <= config.rand_augment_magnitude <= 30, "between 0 and 30")
    _check(config, "random_erasing", 0 <= config.random_erasing <= 1, "between 0 and 1")


def _check(config, name, holds, expected):
    if not holds:
        raise UserError(f"--{name} is {getattr(config, name)}, expected {expected}")


def differences(before, now):
    """Compares a run's recorded flags with those of its resumption.

    Args:
      before: The dict that `to_json` made of the run.
      now: A resolved TrainConfig.

    Returns:
      A text for each flag that may not differ and does, such as "--batch_size was 32, is 64".
    """
    # A flag that the run knew nothing of did what its default does now.
    before = to_json(TrainConfig()) | before
    return [
        f"--{name} was {before[name]}, is {value}"
        for name, value in to_json(now).items()
        if name not in RESUMABLE and before[name] != value
    ]


def to_json(config):
    """The flags as a JSON-able dict."""
    return {
        name: str(value) if isinstance(value, pathlib.Path) else list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }
