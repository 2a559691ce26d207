"""Makes TFRecords of labelled images, or checks existing ones.

    python download_and_convert_data.py --dataset_name=image_folder --source=photos --dataset_dir=records/photos
    python download_and_convert_data.py --dataset_name=cifar10 --dataset_dir=records/cifar10
    python download_and_convert_data.py --verify=records/photos

With --beam_options, the workers of an Apache Beam runner write the same shards, byte for byte:

    python download_and_convert_data.py --dataset_name=image_folder --source=/nfs/photos \\
        --dataset_dir=/nfs/records/photos --beam_options="--runner=FlinkRunner --flink_master=host:8081"

The same command again writes only what is missing, and leaves a finished data set as it is. `--help` lists all flags.
"""

import dataclasses
import pathlib
from typing import Literal

import command_line
from command_line import UserError
from whole_files import write_json


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Makes TFRecords of labelled images, with labels.txt and dataset.json, or checks existing ones."""

    dataset_name: str | None = None
    """What to convert: image_folder for images of your own; an unknown name lists the known ones."""
    dataset_dir: pathlib.Path | None = None
    """Folder to write the records to."""
    source: str | None = None
    """Folder, archive or URL of the images (image_folder: also a CSV of path,label); None for the publisher's URL."""
    validation_fraction: float | None = None
    """Part of each class to hold out from training; None for 0.1 in an image_folder without splits."""
    seed: int = 0
    """Seed of the split and of the order of image_folder's records."""
    on_error: Literal["fail", "skip"] = "fail"
    """What to do about files that do not decode; either way bad_files.csv lists them."""
    num_shards: int | None = None
    """Shards of the training split, other splits in proportion; None for shards of about 128 MiB."""
    shard_range: str | None = None
    """A:B writes only shards A to B-1, to share the work among machines; the last to finish completes the set."""
    beam_options: str | None = None
    """Apache Beam's own flags, as "--runner=FlinkRunner --flink_master=host:8081": its workers write the same shards.
    Their machines must share --source and --dataset_dir under the same absolute paths (extra `beam`)."""
    verify: pathlib.Path | None = None
    """Data set to read, decode and check instead of converting."""
    json: pathlib.Path | None = None
    """JSON file to write the result to."""


def main(config):
    """Converts or verifies, and reports the result."""
    if (config.verify is None) == (config.dataset_name is None):
        raise UserError("give --dataset_name with --dataset_dir to convert, or --verify=DIR to check")
    from data.conversion import command

    result = command.verify(config) if config.verify else command.convert(config)
    if config.json:
        write_json(config.json, result)


if __name__ == "__main__":
    command_line.run(main, ConvertConfig)
