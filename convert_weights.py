"""Turns weights of other libraries into a checkpoint of ours, and back.

    python convert_weights.py --source_format=keras --source=resnet50.h5 --model_name=resnet_v1_50 --output=imported50
    python convert_weights.py --target_format=keras --source=imported50 --output=resnet50.weights.h5

What differs between the libraries' networks is kept in the model.json of the checkpoint, which every other script
reads. `--help` lists all flags.
"""

import dataclasses
import pathlib
from typing import Literal

import command_line
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class ConvertWeightsConfig:
    """Turns weights of other libraries into a checkpoint of ours (--source_format), or back (--target_format)."""

    source: pathlib.Path
    """File or folder of the weights; with --target_format, a checkpoint of ours."""
    output: pathlib.Path
    """Folder that gets the checkpoint; with --target_format, the file."""
    source_format: Literal["slim", "keras", "torchvision", "official"] | None = None
    """Whose weights they are: TF-Slim's, Keras', torchvision's or timm's, the official TensorFlow ResNet's."""
    target_format: Literal["slim", "keras", "torchvision"] | None = None
    """Whose format to write a checkpoint of ours in."""
    model_name: str | None = None
    """Network of ours that the weights are for, such as resnet_v1_50."""
    labels: pathlib.Path | None = None
    """File with the classes' names: one a line, or JSON."""
    labels_offset: int | None = None
    """Taken off the labels of a data set; None for 1 with 1000 classes (Slim's records have a background), else 0."""
    preprocessing_name: str | None = None
    """Preprocessing that the weights were trained with; None for the usual one of the format."""
    image_size: int | None = None
    """Height and width that the weights work best at, in pixels; None for the usual one of the format."""
    use_moving_averages: bool | None = None
    """Take the moving averages of the weights that training kept, not the weights themselves; None for wherever the
    source holds them."""
    verify: bool = False
    """Run the source's own network on the same images, and fail where its logits differ."""
    tolerance: float = 1e-4
    """Largest difference of logits that --verify allows, as a part of the largest logit's magnitude."""
    overwrite: bool = False
    """Replace what an earlier conversion wrote to --output."""
    json: pathlib.Path | None = None
    """File that gets the result as JSON."""


def main(config):
    """Converts one way or the other, and says what came of it."""
    if (config.source_format is None) == (config.target_format is None):
        raise UserError("give --source_format to import weights, or --target_format to write a checkpoint of ours")
    from nets import checkpoints
    from weights import exporting, importing

    convert = importing.import_weights if config.source_format else exporting.export_weights
    result = convert(config, show=print)
    if config.json:
        checkpoints.write_json(config.json, result)


if __name__ == "__main__":
    command_line.run(main, ConvertWeightsConfig)
