"""A run in numbers: for its first line, and for its folder, which describes the process that trained last."""

import pathlib

import tensorflow as tf

from benchmarks.environment import describe_environment
from whole_files import read_json, write_json

FILE = "run.json"


def describe(model, **numbers):
    """The sizes of a run as a dict: `numbers`, and the parameters and precision of its SlimModel."""
    parameters = sum(int(tf.size(variable)) for variable in model.trainable_variables)
    return numbers | {"parameters": parameters, "precision": model.compute_dtype.name}


def headline(config, description):
    """The first line of a run.

    Args:
      config: A resolved TrainConfig.
      description: As `describe` returns it, with first_step, total_steps, train_images, devices and more.
    """
    first_step, total_steps = description["first_step"], description["total_steps"]
    start = f"from step {first_step} of {total_steps}" if first_step else f"{total_steps} steps"
    if first_step >= total_steps:
        more = "--max_number_of_steps" if config.max_number_of_steps else "--num_epochs"
        start = f"already at step {first_step} of {total_steps} ({more} or another --train_dir trains on)"
    return (
        f"{config.model_name} ({description['parameters']:,} parameters) on {config.dataset_name} "
        f"({description['train_images']} images, {config.train_image_size} pixels), batch {config.batch_size}, "
        f"{description['precision']}, {description['devices']} device(s), folder {config.train_dir}: {start}"
    )


def write(folder, description):
    """Writes FILE: the description, and the environment of this process."""
    write_json(pathlib.Path(folder) / FILE, description | {"environment": describe_environment()})


def read(folder):
    """The dict that `write` wrote; {} without one."""
    return read_json(pathlib.Path(folder) / FILE) or {}
