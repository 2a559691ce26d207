"""Converts weights of other libraries to a checkpoint of ours, and back.

    python convert_weights.py --source_format=keras --source=resnet50.h5 --model_name=resnet_v1_50 --output=imported50
    python convert_weights.py --target_format=keras --source=imported50 --output=resnet50.weights.h5

Differences between the libraries' networks are recorded in the checkpoint's model.json, which every other script reads.
`--help` lists all flags.
"""

import dataclasses
import pathlib
from typing import Literal

import command_line
from command_line import UserError
from whole_files import write_json


@dataclasses.dataclass(frozen=True)
class ConvertWeightsConfig:
    """Converts weights of other libraries to a checkpoint of ours (--source_format), or back (--target_format)."""

    source: pathlib.Path
    """File or folder with the weights; with --target_format, a checkpoint of ours."""
    output: pathlib.Path
    """Folder to write the checkpoint to; with --target_format, the file to write."""
    source_format: Literal["slim", "keras", "torchvision", "official"] | None = None
    """Origin of the weights: TF-Slim, Keras, torchvision (or timm), or the official TensorFlow ResNet."""
    target_format: Literal["slim", "keras", "torchvision"] | None = None
    """Library in whose format to write the checkpoint."""
    model_name: str | None = None
    """Network of ours that the weights are for, such as resnet_v1_50."""
    labels: pathlib.Path | None = None
    """File with the class names: one per line, or JSON."""
    labels_offset: int | None = None
    """Subtracted from a data set's labels; None for 1 with 1000 classes (Slim's have a background class), else 0."""
    preprocessing_name: str | None = None
    """Preprocessing that the weights were trained with; None for the format's usual one."""
    image_size: int | None = None
    """Height and width that the weights work best at, in pixels; None for the format's usual one."""
    use_moving_averages: bool | None = None
    """Take the weights' moving averages, which training kept, instead of the weights; None takes them wherever the
    source has them."""
    verify: bool = False
    """Run the source's own network on the same images, and fail if its logits differ."""
    tolerance: float = 1e-4
    """Largest difference of logits that --verify allows, relative to the largest logit's magnitude."""
    overwrite: bool = False
    """Replace what an earlier conversion wrote to --output."""
    json: pathlib.Path | None = None
    """JSON file to write the result to."""


def main(config):
    """Converts in one direction or the other, and reports the result."""
    if (config.source_format is None) == (config.target_format is None):
        raise UserError("give --source_format to import weights, or --target_format to write a checkpoint of ours")
    from weights import exporting, importing

    convert = importing.import_weights if config.source_format else exporting.export_weights
    result = convert(config, show=print)
    if config.json:
        write_json(config.json, result)


if __name__ == "__main__":
    command_line.run(main, ConvertWeightsConfig)
