"""The flags of the trainer, and how the data set and the network fill in those that are not given."""

import dataclasses
import os
import pathlib
from typing import Literal

from training import checks


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Trains a residual network on TFRecords; without flags, on the embedded digits.

    The same command again resumes from the newest checkpoint in its folder. A default of None is the data set's own
    (data/catalog.py), or else the general one in parentheses.
    """

    recipe: str | None = None
    """File of flags: a name in recipes/, or a path that ends in .toml; flags on the command line override it."""
    model_name: str = "resnet_v2_50"
    """Network; an unknown name lists the known ones."""
    network_arguments: tuple[str, ...] | None = None
    """Arguments of the network function as NAME=VALUE, such as shortcut_connections=False (its own defaults)."""
    dataset_name: str | None = None
    """Data set (digits if neither name nor folder is given)."""
    dataset_dir: str | None = None
    """Folder with TFRecords and their dataset.json."""
    dataset_split_name: str | None = None
    """Split to train on (train)."""
    eval_split_name: str | None = None
    """Split to evaluate on (validation or test, whichever the data set has)."""
    train_dir: pathlib.Path | None = None
    """Folder for checkpoints and curves (runs/DATASET-MODEL)."""
    checkpoint_path: str | None = None
    """Checkpoint to start from, ours or Slim's: a folder (its newest) or one checkpoint (None: random weights)."""
    checkpoint_exclude_scopes: str | None = None
    """Scopes to initialize instead of restoring, separated by commas."""
    trainable_scopes: str | None = None
    """Scopes to train, separated by commas; the rest is frozen (all, or with --fine_tune the last layer)."""
    ignore_missing_vars: bool = False
    """Initialize what the checkpoint lacks, instead of raising an error."""
    fine_tune: bool = False
    """Train a new last layer and what --trainable_scopes names; freeze the rest of the checkpoint."""
    update_frozen_batch_norm: bool = False
    """Let norms in frozen scopes use batch statistics and update their moving averages, as Slim did."""
    preprocessing_name: str | None = None
    """Preprocessing (the network's own)."""
    train_image_size: int | None = None
    """Height and width of the images fed to the network, in pixels (the network's own)."""
    labels_offset: int = 0
    """Subtracted from each label; 1 leaves out the background class of Slim's ImageNet records."""
    use_grayscale: bool = False
    """Convert images to grayscale and build a network with one input channel."""
    rand_augment_layers: int = 0
    """Operations that RandAugment draws for each image; 0 for none."""
    rand_augment_magnitude: float = 9.0
    """How strong RandAugment's operations are, 0 to 30."""
    random_erasing: float = 0.0
    """Probability of erasing a rectangle of an image."""
    mixup_alpha: float = 0.0
    """Mix each image with another, weights from Beta(alpha, alpha); 0 for no mixup."""
    cutmix_alpha: float = 0.0
    """Paste a rectangle of another image into each, areas from Beta(alpha, alpha); 0 for no cutmix."""
    synthetic_num_images: int = 1024
    """Images in each split of --dataset_name=synthetic."""
    synthetic_num_classes: int = 1000
    """Classes of --dataset_name=synthetic."""
    dataset_num_private_threads: int | None = None
    """Threads that read and preprocess (half of the CPUs)."""
    data_service_address: str | None = None
    """grpc://HOST:PORT of a tf.data service whose workers read and preprocess; see data/service.py."""
    batch_size: int | None = None
    """Global batch size: images per step over all devices (32)."""
    gradient_accumulation_steps: int = 1
    """Split each step into this many parts, run one after the other, to save memory."""
    max_number_of_steps: int | None = None
    """Total steps of the run; takes precedence over --num_epochs."""
    num_epochs: float | None = None
    """Total epochs of the run (90)."""
    learning_rate: float | None = None
    """Learning rate before any decay (0.01); with warm-up, the rate is the lower of the ramp and the schedule."""
    base_batch_size: int | None = None
    """Batch size that the rates are meant for; they scale linearly with --batch_size (None: as given)."""
    learning_rate_decay_type: Literal["constant", "fixed", "step", "exponential", "polynomial", "cosine"] | None = None
    """Schedule (cosine). fixed is Slim's name for constant."""
    learning_rate_decay_factor: float | None = None
    """Factor that each drop multiplies the rate by (step 0.1, exponential 0.94)."""
    num_epochs_per_decay: float | None = None
    """Epochs between drops of the exponential schedule (2)."""
    num_steps_per_decay: int | None = None
    """The same in steps."""
    num_images_per_decay: int | None = None
    """The same in images."""
    learning_rate_decay_epochs: tuple[float, ...] | None = None
    """Epochs at which the step schedule drops (a third, two thirds and eight ninths of the run)."""
    learning_rate_decay_steps: tuple[int, ...] | None = None
    """The same in steps."""
    learning_rate_decay_images: tuple[int, ...] | None = None
    """The same in images."""
    end_learning_rate: float = 0.0
    """Final rate of polynomial and cosine."""
    warmup_epochs: float | None = None
    """Epochs in which the rate rises from 0 (0)."""
    warmup_steps: int | None = None
    """The same in steps."""
    warmup_images: int | None = None
    """The same in images."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw", "adagrad", "adadelta", "ftrl", "lars"] = (
        "momentum"
    )
    """Optimizer."""
    momentum: float = 0.9
    """Momentum of momentum and lars."""
    nesterov: bool = False
    """Use Nesterov momentum in momentum and lars."""
    opt_epsilon: float | None = None
    """Keeps adam, adamw and adadelta (1e-08) and rmsprop (1, as in Slim) from dividing by zero."""
    adam_beta1: float = 0.9
    """Decay of the mean of gradients in adam and adamw."""
    adam_beta2: float = 0.999
    """Decay of the mean of squared gradients in adam and adamw."""
    rmsprop_momentum: float = 0.9
    """Momentum of rmsprop."""
    rmsprop_decay: float = 0.9
    """Decay of the mean of squared gradients in rmsprop."""
    adadelta_rho: float = 0.95
    """Decay of the means of squares in adadelta."""
    adagrad_initial_accumulator_value: float = 0.1
    """Initial value of adagrad's sum of squares."""
    ftrl_learning_rate_power: float = -0.5
    """Exponent of ftrl's sum of squares."""
    ftrl_initial_accumulator_value: float = 0.1
    """Initial value of ftrl's sum of squares."""
    ftrl_l1: float = 0.0
    """L1 penalty of ftrl."""
    ftrl_l2: float = 0.0
    """L2 penalty of ftrl."""
    lars_eta: float = 0.001
    """Trust coefficient of lars."""
    clip_gradient_norm: float | None = None
    """Clip the global norm of all gradients to this value (None: no clipping)."""
    weight_decay: float | None = None
    """Weight decay of the convolutions (0.0001)."""
    weight_decay_kind: Literal["l2", "decoupled"] | None = None
    """l2 adds decay to the loss, decoupled subtracts it from the weights (l2; adamw: decoupled)."""
    decay_norm_and_bias: bool = False
    """Also decay gamma, beta and biases."""
    moving_average_decay: float | None = None
    """Decay of moving averages of all variables, such as 0.9999; these are evaluated (None: no averages)."""
    label_smoothing: float | None = None
    """Part of a label's probability spread over all classes (0)."""
    batch_norm_decay: float | None = None
    """Decay of batch norm's moving averages (0.997, which needs thousands of steps)."""
    zero_gamma: bool = False
    """Initialize gamma of the last norm in each v1 unit to 0."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of the activations; auto picks bfloat16 or float16 where the machine is faster in it."""
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker", "parameter_server"] = "auto"
    """How to divide a batch: among several workers, among several GPUs, or not at all. With parameter servers each
    worker takes its own batches. auto picks by what there is."""
    num_gpus: int | None = None
    """GPUs that this process uses (all)."""
    worker_hosts: str | None = None
    """HOST:PORT of every worker, separated by commas, the chief first (those of TF_CONFIG, or one process)."""
    ps_hosts: str | None = None
    """HOST:PORT of every parameter server, separated by commas; the first worker then hands out steps and runs none."""
    job_name: Literal["worker", "ps"] = "worker"
    """Role of this process: worker (also for the chief) or parameter server."""
    task_index: int | None = None
    """Index of this process among the workers, or among the parameter servers, from 0."""
    shard_policy: Literal["data", "file"] = "data"
    """How workers share records. data: each reads all and takes its part of each batch, so batches are the same on any
    number of workers. file: each reads only its own files."""
    worker_timeout_secs: float = 300.0
    """How long to wait for the other workers at the start."""
    max_restarts: int = 0
    """How often to restart this worker when it is killed, or when another is lost or stopped."""
    sync_batch_norm: bool = False
    """In training, compute batch norm's statistics over all devices, not over each device's part of the batch."""
    seed: int = 0
    """Seed for weights, record order and augmentation."""
    eval_every_epochs: float | None = None
    """Epochs between evaluations (1); 0 evaluates only at the end."""
    eval_every_steps: int | None = None
    """The same in steps."""
    best_metric: Literal["top_1", "top_5", "cross_entropy", "none"] = "top_1"
    """Metric that selects the checkpoint kept in the folder best/; none keeps no such folder."""
    stop_at_top_1: float | None = None
    """Evaluation top-1, as a fraction, at which the run ends early (None: never)."""
    recalibrate_batch_norm: int = 0
    """Training images on which to measure batch norm's statistics again after the last step; 0 for none. To recalibrate
    a run that ended without, repeat its command with this flag. Not with --stop_at_top_1 or --sync_batch_norm."""
    log_every_n_steps: int = 10
    """Steps between log lines, and between points of the curves."""
    save_interval_secs: float = 600.0
    """Seconds between checkpoints; each evaluation and the end of the run also save one."""
    save_every_epochs: float | None = None
    """Epochs between checkpoints besides, such as for an evaluator with --watch (None: none)."""
    save_every_steps: int | None = None
    """The same in steps."""
    keep_checkpoints: int = 5
    """Newest checkpoints to keep."""
    profile_steps: tuple[int, int] | None = None
    """First and last step to trace with TensorFlow's profiler, for TensorBoard, such as 20 25."""
    json: pathlib.Path | None = None
    """File to write the result to, as JSON."""


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


def resolve(config, dataset, network):
    """Fills in the flags that were not given.

    Args:
      config: A TrainConfig.
      dataset: A catalog.Dataset; its row's defaults take precedence over the general ones.
      network: A row of nets_factory.NETWORKS.

    Returns:
      A TrainConfig in which None means what its flag's help says.

    Raises:
      UserError: If a number is out of its range, or flags contradict each other; the message names them.
    """
    checks.check_given(config)
    row = dataset.row
    suited = {name: value for name, value in dataclasses.asdict(row.defaults).items() if value is not None}
    defaults = {
        **GENERAL,
        **suited,
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
            # model.json records the path, and its reader may run in another working directory.
            resolved = dataclasses.replace(resolved, **{name: os.path.abspath(getattr(resolved, name))})
    if resolved.learning_rate_decay_factor is None:
        factor = 0.1 if resolved.learning_rate_decay_type == "step" else 0.94
        resolved = dataclasses.replace(resolved, learning_rate_decay_factor=factor)
    checks.check_resolved(resolved)
    return resolved


def from_json(recorded):
    """The TrainConfig that `to_json` made this dict from; a newer flag has its default."""
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
