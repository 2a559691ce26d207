"""Checks of the trainer's flags, before they are used."""

import math

from command_line import UserError

# Lengths that can be given in epochs, in steps or in images.
LENGTHS = (
    ("warmup_epochs", "warmup_steps", "warmup_images"),
    ("num_epochs_per_decay", "num_steps_per_decay", "num_images_per_decay"),
    ("learning_rate_decay_epochs", "learning_rate_decay_steps", "learning_rate_decay_images"),
    ("eval_every_epochs", "eval_every_steps"),
    ("save_every_epochs", "save_every_steps"),
)

# The first takes precedence.
RUN_LENGTHS = ("max_number_of_steps", "num_epochs")

_AT_LEAST_1 = (
    "batch_size",
    "train_image_size",
    "log_every_n_steps",
    "keep_checkpoints",
    "save_every_steps",
    "max_number_of_steps",
    "dataset_num_private_threads",
    "base_batch_size",
    "num_steps_per_decay",
    "num_images_per_decay",
    "gradient_accumulation_steps",
)
_ABOVE_0 = (
    "num_epochs",
    "save_every_epochs",
    "learning_rate",
    "num_epochs_per_decay",
    "learning_rate_decay_factor",
    "opt_epsilon",
    "clip_gradient_norm",
    "lars_eta",
    "adagrad_initial_accumulator_value",
)
_AT_LEAST_0 = (
    "warmup_epochs",
    "warmup_steps",
    "warmup_images",
    "weight_decay",
    "eval_every_epochs",
    "eval_every_steps",
    "recalibrate_batch_norm",
    "max_restarts",
    "save_interval_secs",
    "end_learning_rate",
    "rand_augment_layers",
    "mixup_alpha",
    "cutmix_alpha",
    "ftrl_initial_accumulator_value",
    "ftrl_l1",
    "ftrl_l2",
)
_UNDER_1 = (
    "momentum",
    "label_smoothing",
    "adam_beta1",
    "adam_beta2",
    "rmsprop_decay",
    "rmsprop_momentum",
    "adadelta_rho",
    "moving_average_decay",
)


_MOMENTUM, _ADAM = ("momentum", "lars"), ("adam", "adamw")
# Flags that only some schedules or optimizers use: {choosing flag: {flag: its choices that use it}}.
HEEDED_BY = {
    "learning_rate_decay_type": {
        "learning_rate_decay_factor": ("step", "exponential"),
        **dict.fromkeys(LENGTHS[1], ("exponential",)),
        **dict.fromkeys(LENGTHS[2], ("step",)),
        "end_learning_rate": ("polynomial", "cosine"),
    },
    "optimizer": {
        **dict.fromkeys(("momentum", "nesterov"), _MOMENTUM),
        **dict.fromkeys(("adam_beta1", "adam_beta2"), _ADAM),
        "opt_epsilon": (*_ADAM, "adadelta", "rmsprop"),
        **dict.fromkeys(("rmsprop_momentum", "rmsprop_decay"), ("rmsprop",)),
        "adadelta_rho": ("adadelta",),
        "adagrad_initial_accumulator_value": ("adagrad",),
        **dict.fromkeys(
            ("ftrl_learning_rate_power", "ftrl_initial_accumulator_value", "ftrl_l1", "ftrl_l2"), ("ftrl",)
        ),
        "lars_eta": ("lars",),
    },
}


def warnings(given, resolved, num_workers=1):
    """What a user may not expect of what was given: flags that do nothing, and scores of images that were trained on.

    Args:
      given: The TrainConfig of the flags.
      resolved: What `config.resolve` made of it.
      num_workers: How many share each batch.

    Returns:
      A list of texts, such as "--nesterov has no effect with --optimizer=sgd (it is of momentum, lars)".
    """
    defaults = type(given)()
    texts = []
    for chooser, flags in HEEDED_BY.items():
        choice = getattr(resolved, chooser)
        for name, choices in flags.items():
            if getattr(given, name) != getattr(defaults, name) and choice not in choices:
                texts.append(f"--{name} has no effect with --{chooser}={choice} (it is of {', '.join(choices)})")
    if given.update_frozen_batch_norm and not (given.fine_tune or given.trainable_scopes):
        texts.append("--update_frozen_batch_norm has no effect where --fine_tune and --trainable_scopes freeze nothing")
    if resolved.eval_split_name == resolved.dataset_split_name and given.eval_split_name is None:
        name = resolved.eval_split_name
        text = f"evaluations score the images of the training, split {name}; give --eval_split_name if there is another"
        texts.append(text)
    if given.shard_policy == "file" and (num_workers == 1 or resolved.dataset_name == "synthetic"):
        texts.append("--shard_policy=file has no effect where one worker has all files, or images are drawn")
    return texts


def check_given(config):
    """Checks what the user gave, before defaults fill the gaps.

    Raises:
      UserError: If flags contradict each other.
    """
    for names in LENGTHS:
        given = [f"--{name}" for name in names if getattr(config, name) is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} say the same thing in different units; give one of them")
    if config.stop_at_top_1 is not None and config.recalibrate_batch_norm:
        raise UserError(
            "--stop_at_top_1 and --recalibrate_batch_norm do not go together: the score that ends the run is of the "
            "statistics before; leave one out, and give --recalibrate_batch_norm to eval_image_classifier.py"
        )
    if config.sync_batch_norm and config.recalibrate_batch_norm:
        raise UserError(
            "--sync_batch_norm and --recalibrate_batch_norm do not go together: statistics are measured on each device "
            "by itself; leave one out, and give --recalibrate_batch_norm to eval_image_classifier.py"
        )
    if config.sync_batch_norm and config.gradient_accumulation_steps > 1:
        raise UserError(
            "--sync_batch_norm and --gradient_accumulation_steps do not go together: devices cannot talk to each other "
            "within the loop over the parts; leave one of them out"
        )
    if config.weight_decay_kind == "decoupled" and config.optimizer == "ftrl":
        raise UserError(
            "--weight_decay_kind=decoupled does nothing with --optimizer=ftrl, which computes weights from sums: give "
            "--weight_decay_kind=l2 or --ftrl_l2"
        )
    if config.weight_decay_kind is not None and config.optimizer in ("adamw", "lars"):
        raise UserError(
            f"--optimizer={config.optimizer} has a weight decay of its own: leave --weight_decay_kind out"
            + (", or take --optimizer=adam" if config.optimizer == "adamw" else "")
        )


def check_resolved(config):
    """Checks the numbers of a resolved config.

    Raises:
      UserError: If a number is out of its range; the message names the flag.
    """
    for name in _AT_LEAST_1:
        _check(config, name, lambda value: value >= 1, "at least 1")
    for name in _ABOVE_0:
        _check(config, name, lambda value: 0 < value < math.inf, "above 0 and finite")
    for name in _AT_LEAST_0:
        _check(config, name, lambda value: value >= 0, "at least 0")
    for name in _UNDER_1:
        _check(config, name, lambda value: 0 <= value < 1, "at least 0 and under 1")
    _check(config, "warmup_epochs", math.isfinite, "a finite number")
    for name in LENGTHS[2]:
        _check(config, name, lambda values: all(map(math.isfinite, values)), "finite numbers")
    _check(config, "eval_every_epochs", lambda value: value < math.inf, "a finite number (0: at the end only)")
    _check(config, "batch_norm_decay", lambda value: 0 <= value <= 1, "between 0 and 1")
    _check(config, "seed", lambda value: 0 <= value < 2**63, "at least 0 and under 2**63")
    _check(config, "rand_augment_magnitude", lambda value: 0 <= value <= 30, "between 0 and 30")
    _check(config, "random_erasing", lambda value: 0 <= value <= 1, "between 0 and 1")
    _check(config, "stop_at_top_1", lambda value: 0 < value <= 1, "above 0 and at most 1")
    _check(config, "ftrl_learning_rate_power", lambda value: value <= 0, "at most 0")


def _check(config, name, holds, expected):
    value = getattr(config, name)
    if value is not None and not holds(value):
        raise UserError(f"--{name} is {value}, expected {expected}")
