"""The flags of the trainer, and what they become once the data set and the network have had their say."""

import dataclasses
import os
import pathlib
from typing import Literal

from training import checks


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Trains a residual network on TFRecords; without flags, on the embedded digits.

    The same command again goes on from the newest checkpoint of its folder. A default of None is the data set's own
    (data/catalog.py), or the general one named with the flag.
    """

    recipe: str | None = None
    """File of flags: the name of one in recipes/, or a path that ends in .toml; flags beside it come first."""
    model_name: str = "resnet_v2_50"
    """Network; an unknown name lists the known ones."""
    network_arguments: tuple[str, ...] | None = None
    """Arguments of its function as NAME=VALUE, such as shortcut_connections=False (the function's defaults)."""
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
    checkpoint_path: str | None = None
    """Checkpoint to begin with, ours or Slim's: a folder (its newest) or one checkpoint (None: begin at random)."""
    checkpoint_exclude_scopes: str | None = None
    """Scopes of it to leave out, apart by commas."""
    trainable_scopes: str | None = None
    """Scopes to train, apart by commas; all else is frozen (all, or with --fine_tune the last layer)."""
    ignore_missing_vars: bool = False
    """Begin anew what the checkpoint lacks, in place of an error."""
    fine_tune: bool = False
    """Train a new last layer and what --trainable_scopes names, and freeze all else of the checkpoint."""
    update_frozen_batch_norm: bool = False
    """Let norms of frozen scopes use the batch and move their averages, as Slim did."""
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
    gradient_accumulation_steps: int = 1
    """Parts that a step's images pass the network in, one after the other, to save memory."""
    max_number_of_steps: int | None = None
    """Steps of the whole run; takes precedence over --num_epochs."""
    num_epochs: float | None = None
    """Epochs of the whole run (90)."""
    learning_rate: float | None = None
    """Rate after warm-up (0.01)."""
    base_batch_size: int | None = None
    """Batch that the rates are meant for: they grow in proportion to --batch_size (None: as given)."""
    learning_rate_decay_type: Literal["constant", "fixed", "step", "exponential", "polynomial", "cosine"] | None = None
    """Schedule (cosine). fixed is Slim's name of constant."""
    learning_rate_decay_factor: float | None = None
    """What a drop multiplies the rate by (step 0.1, exponential 0.94)."""
    num_epochs_per_decay: float | None = None
    """Epochs between two drops of the exponential schedule (2)."""
    num_steps_per_decay: int | None = None
    """The same in steps."""
    num_images_per_decay: int | None = None
    """The same in images."""
    learning_rate_decay_epochs: tuple[float, ...] | None = None
    """Epochs of the drops of the step schedule (a third, two thirds and eight ninths of the run)."""
    learning_rate_decay_steps: tuple[int, ...] | None = None
    """The same in steps."""
    learning_rate_decay_images: tuple[int, ...] | None = None
    """The same in images."""
    end_learning_rate: float = 0.0
    """Rate at the end of polynomial and cosine."""
    warmup_epochs: float | None = None
    """Epochs in which the rate rises from 0 (0)."""
    warmup_steps: int | None = None
    """The same in steps."""
    warmup_images: int | None = None
    """The same in images."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw", "adagrad", "adadelta", "ftrl", "lars"] = (
        "momentum"
    )
    """How gradients move the weights."""
    momentum: float = 0.9
    """Of momentum and lars."""
    nesterov: bool = False
    """Nesterov's form of momentum and lars."""
    opt_epsilon: float | None = None
    """Keeps adam, adamw and adadelta (1e-08) and rmsprop (1, as Slim) from dividing by zero."""
    adam_beta1: float = 0.9
    """Weight of the past in the mean of adam and adamw."""
    adam_beta2: float = 0.999
    """Weight of the past in the mean square of adam and adamw."""
    rmsprop_momentum: float = 0.9
    """Momentum of rmsprop."""
    rmsprop_decay: float = 0.9
    """Weight of the past in the mean square of rmsprop."""
    adadelta_rho: float = 0.95
    """Weight of the past in the mean squares of adadelta."""
    adagrad_initial_accumulator_value: float = 0.1
    """Where adagrad's sum of squares begins."""
    ftrl_learning_rate_power: float = -0.5
    """Power of ftrl's sum of squares."""
    ftrl_initial_accumulator_value: float = 0.1
    """Where ftrl's sum of squares begins."""
    ftrl_l1: float = 0.0
    """L1 penalty of ftrl."""
    ftrl_l2: float = 0.0
    """L2 penalty of ftrl."""
    lars_eta: float = 0.001
    """Trust coefficient of lars."""
    clip_gradient_norm: float | None = None
    """Longest gradient, over all variables, before it is shortened (None: any)."""
    weight_decay: float | None = None
    """Decay of the weights of convolutions (0.0001)."""
    weight_decay_kind: Literal["l2", "decoupled"] | None = None
    """l2 adds it to the loss, decoupled takes it off the weights (l2; adamw: decoupled)."""
    decay_norm_and_bias: bool = False
    """Decay gamma, beta and biases too."""
    moving_average_decay: float | None = None
    """Weight of the past in averages of all variables, which are then evaluated; such as 0.9999 (None: none)."""
    label_smoothing: float | None = None
    """Part of a label's probability spread over all classes (0)."""
    batch_norm_decay: float | None = None
    """Weight of the past in batch norm's moving averages (0.997, which needs thousands of steps)."""
    zero_gamma: bool = False
    """Start the last norm of each v1 unit with gamma 0."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of the activations; auto takes bfloat16 or float16 where the machine is faster in it."""
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker", "parameter_server"] = "auto"
    """Over what a batch is divided: several workers, several GPUs, or nothing; with parameter servers each worker takes
    batches of its own. auto sees what there is."""
    num_gpus: int | None = None
    """GPUs that this process takes (all)."""
    worker_hosts: str | None = None
    """HOST:PORT of every worker, apart by commas, the chief's first (those of TF_CONFIG, or one process)."""
    ps_hosts: str | None = None
    """HOST:PORT of every parameter server, apart by commas; the first worker then deals out steps, and does none."""
    job_name: Literal["worker", "ps"] = "worker"
    """What this process is: a worker, the chief too, or a parameter server."""
    task_index: int | None = None
    """Place of this process among the workers, or among the parameter servers, from 0."""
    shard_policy: Literal["data", "file"] = "data"
    """How workers share records: by data each reads all and takes its part of each batch, which is then the same on any
    number of workers; by file each reads files of its own alone."""
    worker_timeout_secs: float = 300.0
    """How long to wait for the other workers at the start."""
    max_restarts: int = 0
    """How often to start this worker again when it is killed or another is lost or stopped."""
    sync_batch_norm: bool = False
    """Let batch norm take its statistics over all devices in training, not over each one's part of the batch."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    eval_every_epochs: float | None = None
    """Epochs between two evaluations (1); 0 for one at the end only."""
    eval_every_steps: int | None = None
    """The same in steps."""
    best_metric: Literal["top_1", "top_5", "cross_entropy", "none"] = "top_1"
    """What the checkpoint in the folder best/ is best in; none keeps no such folder."""
    stop_at_top_1: float | None = None
    """Share of right answers in an evaluation at which the run ends early (None: never)."""
    recalibrate_batch_norm: int = 0
    """Training images on which batch norm's statistics are measured anew after the last step; 0 for none. A run that
    has ended without is taken up for it by the same command with this flag. Not with --stop_at_top_1."""
    log_every_n_steps: int = 10
    """Steps between two log lines and two points of the curves."""
    save_interval_secs: float = 600.0
    """Seconds between two checkpoints; each evaluation and the end of the run save too."""
    keep_checkpoints: int = 5
    """Checkpoints kept."""
    profile_steps: tuple[int, int] | None = None
    """First and last step that TensorFlow's profiler traces, for TensorBoard, such as 20 25."""
    json: pathlib.Path | None = None
    """File that gets the result as JSON."""


GENERAL = {
    "batch_size": 32,
    "num_epochs": 90.0,
    "learning_rate": 0.01,
    "learning_rate_decay_type": "cosine",
    "num_epochs_per_decay": 2.0,
    "warmup_epochs": 0.0,
    "weight_decay": 0.0001,
    "label_smoothing": 0.0,
    "batch_norm_decay": 0.997,
    "eval_every_epochs": 1.0,
}

# What may differ between the workers of a run.
OF_ONE_WORKER = (
    "train_dir",
    "num_gpus",
    "job_name",
    "task_index",
    "max_restarts",
    "dataset_dir",
    "dataset_num_private_threads",
    "json",
)

# What may differ between a run and its resumption; anything else would make it another run.
RESUMABLE = {
    "recipe",
    "eval_split_name",
    "max_number_of_steps",
    "num_epochs",
    "eval_every_epochs",
    "eval_every_steps",
    "best_metric",
    "stop_at_top_1",
    "recalibrate_batch_norm",
    "log_every_n_steps",
    "save_interval_secs",
    "keep_checkpoints",
    # The batches are the same wherever they are made, and however many share them; of files, same_run sees to it.
    "strategy",
    *OF_ONE_WORKER,
    "worker_hosts",
    "ps_hosts",
    "worker_timeout_secs",
    "data_service_address",
    "profile_steps",
}


def resolve(config, dataset, network):
    """Fills in what the flags left open.

    Args:
      config: A TrainConfig.
      dataset: A catalog.Dataset; its row's recipe comes before the general defaults.
      network: A row of nets_factory.NETWORKS.

    Returns:
      A TrainConfig in which None means what its flag says of it.

    Raises:
      UserError: If a number is out of its range, or flags contradict each other; the message names them.
    """
    checks.check_given(config)
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
        "opt_epsilon": 1.0 if config.optimizer == "rmsprop" else 1e-8,
        "weight_decay_kind": "decoupled" if config.optimizer in ("adamw", "lars") else "l2",
    }
    resolved = dataclasses.replace(
        config, **{name: value for name, value in defaults.items() if getattr(config, name) is None}
    )
    for name in ("dataset_dir", "checkpoint_path"):
        if getattr(resolved, name) is not None:
            # model.json records it, and whoever reads that may stand in another folder.
            resolved = dataclasses.replace(resolved, **{name: os.path.abspath(getattr(resolved, name))})
    if resolved.learning_rate_decay_factor is None:
        factor = 0.1 if resolved.learning_rate_decay_type == "step" else 0.94
        resolved = dataclasses.replace(resolved, learning_rate_decay_factor=factor)
    checks.check_resolved(resolved)
    return resolved


def differences(before, now):
    """Compares a run's recorded flags with those of its resumption.

    Args:
      before: The dict that `to_json` made of the run.
      now: A resolved TrainConfig.

    Returns:
      A text for each flag that may not differ and does, such as "--batch_size was 32, is 64".
    """
    # A flag that the run knew nothing of did what its default does now; what None became then is not on record.
    known = {name: value for name, value in to_json(TrainConfig()).items() if value is not None} | before
    if known["precision"] == "auto":  # So older versions recorded it; what it came to is not on record.
        del known["precision"]
    return [
        f"--{name} was {known[name]}, is {value}"
        for name, value in to_json(now).items()
        if name not in RESUMABLE and name in known and known[name] != value
    ]


def from_json(recorded):
    """The TrainConfig that `to_json` made this dict of; a flag that is younger has its default."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    return TrainConfig(
        **{
            name: tuple(value) if isinstance(value, list) else pathlib.Path(value) if name == "train_dir" else value
            for name, value in recorded.items()
            if name in known
        }
    )


def to_json(config):
    """The flags as a JSON-able dict."""
    return {
        name: str(value) if isinstance(value, pathlib.Path) else list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }
