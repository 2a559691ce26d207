"""Makes TFRecords of labelled images, or checks those that are there.

    python download_and_convert_data.py --dataset_name=image_folder --source=photos --dataset_dir=records/photos
    python download_and_convert_data.py --dataset_name=cifar10 --dataset_dir=records/cifar10
    python download_and_convert_data.py --verify=records/photos

With --beam_options the workers of an Apache Beam runner write the shards, byte for byte the same:

    python download_and_convert_data.py --dataset_name=image_folder --source=/nfs/photos \\
        --dataset_dir=/nfs/records/photos --beam_options="--runner=FlinkRunner --flink_master=host:8081"

The same command again goes on with what is missing, and leaves a finished data set as it is. `--help` lists all flags.
"""

import dataclasses
import pathlib
from typing import Literal

import command_line
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Makes TFRecords of labelled images, with labels.txt and dataset.json, or checks those that are there."""

    dataset_name: str | None = None
    """What to convert: image_folder for images of your own; an unknown name lists the known ones."""
    dataset_dir: pathlib.Path | None = None
    """Folder that the records go to."""
    source: str | None = None
    """Folder, archive or URL of the images, for image_folder also a CSV of path,label; else the publisher's URL."""
    validation_fraction: float | None = None
    """Part of each class to hold back from training (image_folder without a split of its own: 0.1)."""
    seed: int = 0
    """Seed of the split and of the order of image_folder's records."""
    on_error: Literal["fail", "skip"] = "fail"
    """What files that do not decode do; either way bad_files.csv names them."""
    num_shards: int | None = None
    """Files of the training split, with other splits in proportion (of about 128 MiB each)."""
    shard_range: str | None = None
    """A:B writes the shards A to B-1 of all only, as many machines do at once; the last to finish makes the set."""
    beam_options: str | None = None
    """Apache Beam's own flags, as "--runner=FlinkRunner --flink_master=host:8081": its workers write the same shards,
    on machines that share --source and --dataset_dir under the same absolute paths (extra `beam`)."""
    verify: pathlib.Path | None = None
    """Data set to read, decode and check instead of converting."""
    json: pathlib.Path | None = None
    """File that gets the result as JSON."""


def main(config):
    """Converts or verifies, and says what came of it."""
    if (config.verify is None) == (config.dataset_name is None):
        raise UserError("give --dataset_name with --dataset_dir to convert, or --verify=DIR to check")
    from data.conversion import command
    from nets import checkpoints

    result = command.verify(config) if config.verify else command.convert(config)
    if config.json:
        checkpoints.write_json(config.json, result)


if __name__ == "__main__":
    command_line.run(main, ConvertConfig)
