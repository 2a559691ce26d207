"""Times the input pipeline beside others, and against the networks that it feeds, on this machine.

    python benchmarks/time_input_pipeline.py --json input.json

makes its own photographs and thumbnails (--dataset_dir gives a data set of JPEGs instead), and measures

* jpeg: images per second and core from JPEG records to float32 crops. Contestants are this zoo, simplejpeg with Pillow
  in single-threaded processes, PyTorch's DataLoader with Pillow, and plain tf.data. All draw their crops as
  --preprocessing does. Pillow averages over the pixels that it leaves out; this zoo does so only for torchvision. Only
  this zoo's inception shifts colours.
* cifar: images per second from a cached, augmented data set of thumbnails, and how many a training ResNet-20 uses.
* step: a training step of --model on batches of JPEG records, and on one batch that is ready.

Contestants run in alternation for --rounds rounds of --seconds; a deep network on a CPU needs some 60. Ratios are
medians over the rounds, with an interval. In jpeg, all get the same --cores and as many threads or processes.
"""

import dataclasses
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Literal

if not __package__:
    # A script run by its path finds only its own folder; this adds the folder of the zoo's packages.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command_line
from benchmarks import environment, grid, input_contestants, input_measures, results
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """Times JPEG records to crops beside other pipelines, and input against training steps."""

    measure: str = ",".join(input_measures.MEASURES)
    """What to measure: any of jpeg, cifar and step."""
    peers: str = ",".join(input_contestants.PEERS)
    """Pipelines to measure beside this zoo in jpeg: any of simplejpeg, torch and tf_data."""
    dataset_dir: Path | None = None
    """Records of JPEGs for jpeg and step; None for photographs made here."""
    split: str | None = None
    """Split of --dataset_dir; None for its training split."""
    preprocessing: Literal["inception", "resnet", "torchvision", "vgg"] = "resnet"
    """Preprocessing whose crops jpeg makes."""
    evaluation: bool = False
    """Make the crops of evaluation in jpeg, instead of those of training."""
    image_size: int = 224
    """Side of the crops in pixels, for jpeg and step."""
    num_images: int = 512
    """Photographs to make, or to take from --dataset_dir for jpeg."""
    num_thumbnails: int = 2000
    """Thumbnails to make for cifar."""
    batch_size: int = 32
    """Images per batch, for jpeg and step."""
    cores: int | None = None
    """Cores, and threads or processes, of each contestant in jpeg; None for all that this process may use."""
    model: str = "resnet_v1_50"
    """Network for step."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    """Dtype of the training steps."""
    rounds: int = 9
    """Turns of each contestant; intervals of at least 95 % need 6, and from 9 on the extreme rounds do not matter."""
    seconds: float = 5.0
    """Length of a turn; the last batch or step may end later."""
    burn_in_seconds: float = 2.0
    """Length of the burn-in before each turn."""
    seed: int = 0
    """Seed for the made images and the weights."""
    json: Path | None = None
    """A file for the results: the rate of every turn, and the machine."""


def main(config):
    _check(config)
    if config.json:
        results.check_path(config.json)
    # Before the work begins, so that it records only the load from others.
    machine = environment.describe_environment()
    measured = []
    with (
        results.finished_kept(config.json, results.write_json, machine, measured),
        tempfile.TemporaryDirectory(prefix="input-") as folder,
    ):
        for name in grid.chosen("measure", config.measure, input_measures.MEASURES):
            measured.append(input_measures.MEASURES[name](config, Path(folder)))
            for line in describe(measured[-1]):
                print(line, flush=True)
    if config.json:
        results.write_json(config.json, machine, measured)


def describe(measured):
    """Yields a line for the setup, for each contestant and for each ratio."""
    setup = ", ".join(f"{key} {value}" for key, value in measured.setup.items())
    yield f"# {measured.measure}: {setup}; {measured.cores} cores"
    for name, rates in measured.per_core().items():
        yield (
            f"{measured.measure}: {name}: median {statistics.median(rates):.2f} images/s/core, "
            f"min {min(rates):.2f}, max {max(rates):.2f}, n {len(rates)}"
        )
    for ratio in measured.ratios:
        yield f"{measured.measure}: {ratio}"


def _check(config):
    grid.chosen("measure", config.measure, input_measures.MEASURES)
    grid.chosen("peers", config.peers, input_contestants.PEERS)
    for name in ("image_size", "num_images", "num_thumbnails", "batch_size", "rounds", "cores"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1")
    if config.cores is not None and config.cores > environment.usable_cores():
        raise UserError(f"--cores is {config.cores}; this process may use {environment.usable_cores()}")
    for name in ("seconds", "burn_in_seconds"):
        if getattr(config, name) < 0:
            raise UserError(f"--{name} is {getattr(config, name)}; it must be at least 0")
    if config.split is not None and config.dataset_dir is None:
        raise UserError("--split is of the records in --dataset_dir, which is not given")


if __name__ == "__main__":
    command_line.run(main, InputConfig)
