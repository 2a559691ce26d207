"""Describes a network, as a table and a drawing: units, map sizes, receptive fields, parameters and multiply-adds.

    python describe_network.py --model_name=resnet_v2_50
    python describe_network.py --model_name=resnet_v1_152 --output=resnet_v1_152.svg

`--help` lists all flags.
"""

import dataclasses
import pathlib

import command_line
from whole_files import write_json


@dataclasses.dataclass(frozen=True)
class DescribeConfig:
    """Describes a network as a table, as JSON, and as a drawing."""

    model_name: str = "resnet_v2_50"
    """Network; an unknown name lists the known ones."""
    image_size: int | None = None
    """Height and width of the image in pixels; None for the network's own."""
    num_classes: int | None = None
    """Number of classes; None for 1000 (10 for the CIFAR networks)."""
    output: pathlib.Path | None = None
    """File for a drawing; its ending sets the format: .svg, .png or .pdf."""
    overwrite: bool = False
    """Replace an existing drawing."""
    json: pathlib.Path | None = None
    """JSON file to write the description to."""


def main(config):
    """Prints the table, and writes what was asked for."""
    import rich.console

    from reports import network_drawing, network_table

    if config.output:
        network_drawing.check_output(config.output)
        if config.output.exists() and not config.overwrite:
            raise command_line.UserError(f"{config.output} exists already: give another --output, or --overwrite")
    description = network_table.describe(config.model_name, config.image_size, config.num_classes)
    console = rich.console.Console(highlight=False)
    if not console.is_terminal:
        # In a file or a pipe, rows are not wrapped.
        console = rich.console.Console(highlight=False, width=140)
    network_table.print_table(description, console)
    if config.output:
        network_drawing.draw(description, config.output)
    if config.json:
        write_json(config.json, description)


if __name__ == "__main__":
    command_line.run(main, DescribeConfig)
