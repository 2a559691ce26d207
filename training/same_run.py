"""Checks that a run is the same on all its workers, and the same as the one its folder already holds."""

import sys

from command_line import UserError
from nets import checkpoints
from training import config as configs
from training import run_description


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
    of_one = {*configs.OF_ONE_WORKER, "checkpoint_path"}
    flags = {name: value for name, value in configs.to_json(config).items() if name not in of_one}
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
        or fewer workers with their own files.
    """
    if folder.newest() is None:
        return None
    description = checkpoints.read_description(folder.path)
    different = configs.differences(description.get("training", {}), config)
    if different:
        raise UserError(
            f"{folder.path} holds another run: {'; '.join(different)}. Give the same flags to go on with it, or "
            "another --train_dir"
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
