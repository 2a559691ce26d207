"""Whether what begins is one and the same run: on all its workers, and as what its folder already holds."""

import sys

from command_line import UserError
from nets import checkpoints
from training import config as configs
from training import run_description


def check_workers(workers, dataset, config):
    """Sees that all workers have the same data and flags; each has the data set in a place of its own.

    Args:
      workers: The workers.Workers of the run, all of which have to call this.
      dataset: A catalog.Dataset.
      config: A TrainConfig, resolved by what that data set says.

    Raises:
      UserError: If one has others than the chief, on every worker.
    """
    # The path of a checkpoint to begin with is the chief's alone, and absolute by now; as given, it was compared.
    of_one = {*configs.OF_ONE_WORKER, "checkpoint_path"}
    flags = {name: value for name, value in configs.to_json(config).items() if name not in of_one}
    data = dataset.fingerprint((config.dataset_split_name, config.eval_split_name))
    workers.check_same({"data set": data} | {f"--{name}": value for name, value in flags.items()})


def earlier_description(folder, dataset, config, num_workers):
    """What model.json says of the run that a folder's checkpoint comes from.

    Args:
      folder: The RunFolder.
      dataset: The catalog.Dataset of the run that begins.
      config: Its resolved TrainConfig.
      num_workers: How many it has.

    Returns:
      The dict of `checkpoints.read_description`; None without a checkpoint.

    Raises:
      UserError: If that was another run than this one: of other flags, in another order of classes, on more or fewer
        images, or of more or fewer workers with files of their own.
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
