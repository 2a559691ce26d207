"""Checks that a run is the same on all its workers, and the same as the one its folder already holds."""

import sys

from command_line import UserError
from nets import checkpoints
from training import config as configs
from training import run_description

# Flags that may differ between the workers of a run.
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

# Flags that a resumed run may change; a change of any other flag would make it a different run.
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
    "save_every_epochs",
    "save_every_steps",
    "keep_checkpoints",
    # Batches are the same wherever they are made and however many share them; --shard_policy=file is checked below.
    "strategy",
    *OF_ONE_WORKER,
    "worker_hosts",
    "ps_hosts",
    "worker_timeout_secs",
    "data_service_address",
    "profile_steps",
}


def shared_flags(config):
    """The flags that are the same on all workers of a run, a JSON-able dict."""
    return {name: value for name, value in configs.to_json(config).items() if name not in OF_ONE_WORKER}


def check_workers(workers, dataset, config):
    """Checks that all workers have the same data and flags; each may have the data set at another path.

    Args:
      workers: The workers.Workers of the run, all of which have to call this.
      dataset: A catalog.Dataset.
      config: A TrainConfig, resolved for that data set.

    Raises:
      UserError: On every worker, if one differs from the chief.
    """
    # Only the chief needs the checkpoint to start from. Its path is absolute by now; it was compared as given.
    flags = shared_flags(config)
    del flags["checkpoint_path"]
    data = dataset.fingerprint((config.dataset_split_name, config.eval_split_name))
    workers.check_same({"data set": data} | {f"--{name}": value for name, value in flags.items()})


def earlier_description(folder, dataset, config, num_workers):
    """What model.json says about the run that a folder's checkpoint comes from.

    Args:
      folder: The RunFolder.
      dataset: The catalog.Dataset of the new run.
      config: Its resolved TrainConfig.
      num_workers: How many workers it has.

    Returns:
      The dict of `checkpoints.read_description`; None without a checkpoint.

    Raises:
      UserError: If that was a different run: with other flags, another order of classes, more or fewer images, or more
        or fewer workers with their own files; or if the folder holds a checkpoint that no run saved.
    """
    if folder.newest() is None:
        _check_no_other_checkpoint(folder)
        return None
    description = checkpoints.read_description(
        folder.path, f"to begin with these weights, give another --train_dir and --checkpoint_path={folder.path}"
    )
    different = differences(description.get("training", {}), config)
    if different:
        fits = description["network"]["model_name"] == config.model_name and config.optimizer != "ftrl"
        raise UserError(
            f"{folder.path} holds another run: {'; '.join(different)}. Give the same flags to go on with it, or "
            f"another --train_dir{f' (--checkpoint_path={folder.path} begins with its weights)' if fits else ''}"
        )
    count = dataset.num_records(config.dataset_split_name)
    begun_on = run_description.read(folder.path).get("train_images", count)
    if begun_on != count:
        raise UserError(
            f"{folder.path} holds a run on {begun_on} images, the data set has {count} now; its weights begin another "
            f"run with another --train_dir and --checkpoint_path={folder.path}"
        )
    earlier_workers = run_description.read(folder.path).get("workers", num_workers)
    if config.shard_policy == "file" and earlier_workers != num_workers:
        raise UserError(
            f"{folder.path} holds a run of {earlier_workers} worker(s), each with own files, here are {num_workers}: "
            f"go on with as many, or begin another run with another --train_dir and --checkpoint_path={folder.path}"
        )
    renamed = dataset.check_class_names(description["label_names"], config.labels_offset)
    if renamed:
        print(f"warning: {renamed}", file=sys.stderr)
    return description


def differences(before, now):
    """Compares a run's recorded flags with those of its resumption.

    Args:
      before: The dict that `config.to_json` made for the run.
      now: A resolved TrainConfig.

    Returns:
      A text for each flag that differs but must not, such as "--batch_size was 32, is 64".
    """
    # A run older than a flag behaved as its default does now; how it resolved a default of None is not on record.
    defaults = configs.to_json(configs.TrainConfig())
    known = {name: value for name, value in defaults.items() if value is not None} | before
    if known["precision"] == "auto":  # Recorded by older versions; what it resolved to is not on record.
        del known["precision"]
    return [
        f"--{name} was {known[name]}, is {value}"
        for name, value in configs.to_json(now).items()
        if name not in RESUMABLE and name in known and known[name] != value
    ]


def _check_no_other_checkpoint(folder):
    """A new run would replace the model.json of imported weights."""
    if folder.is_ours and (other := checkpoints.newest_in(folder.path)):
        raise UserError(
            f"--train_dir {folder.path} holds {other}, which is no run's; to begin with these weights, give another "
            f"--train_dir and --checkpoint_path={folder.path}"
        )
