"""Times forward passes, forward and backward passes and training steps of networks, on this machine.

    python benchmarks/time_forward_backward.py --model resnet_v2_152

builds the network with random weights, feeds it one batch of images that is ready before the clock starts (random
ones, or a data set's as training would see them), and prints a line every 10 steps and one for each pass:

    2026-11-22 03:04:05.123456: step 10, duration = 9.012
    2026-11-22 03:04:05.123456: Forward across 100 steps, 9.112 +/- 0.153 sec / batch

Forward is inference: batch norm uses its moving averages, and there are no gradients. Forward-backward
computes what training does, the loss and the gradients of all trainable variables, but leaves the weights
unchanged. A train-step also updates them. The deviation is that of the sample. Tables with all figures come last.

    python benchmarks/time_forward_backward.py --model "resnet_v2_*" --batch_size 1,32 --engine tensorflow,openvino
    python benchmarks/time_forward_backward.py --compare before.json after.json --fail_on_regression 5

docs/benchmarks.md explains every figure.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

if not __package__:
    # A script run by its path finds only its own folder; this adds the folder of the zoo's packages.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command_line
from benchmarks import comparison, disturbance, environment, grid, isolation, measuring, printing, results, tables
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class TimingConfig:
    """Times networks: every combination of the given models, engines, precisions, batch sizes and image sizes."""

    model: str = "resnet_v2_152"
    """Networks of nets/nets_factory.py, as names or wildcards (resnet_v2_*), separated by commas."""
    passes: Annotated[str, tyro.conf.arg(name="pass")] = "forward,forward_backward"
    """What to time: any of forward, forward_backward and train_step, or all. Engines other than tensorflow, and folded
    networks, have only forward."""
    engine: str = "tensorflow"
    """Engines: any of tensorflow, xla, onnxruntime and openvino, separated by commas."""
    batch_size: str = "32"
    """Images in a step; several are separated by commas."""
    image_size: str | None = None
    """Height and width of the images in pixels, several separated by commas; None for the network's own (224 for
    ImageNet networks)."""
    precision: str = "float32"
    """Dtypes of the activations: any of float32, bfloat16, float16 and auto (what training would use on this device),
    separated by commas."""
    forward_mode: Literal["inference", "training"] = "inference"
    """Mode of the forward pass; in training, norms use batch statistics and update their averages."""
    folded: bool = False
    """Fold norms into convolutions; onnxruntime and openvino always get folded networks."""
    num_batches: int = 100
    """Steps to time in each pass."""
    seconds: float | None = None
    """How long to time each pass, instead of --num_batches."""
    burn_in: int = 10
    """Burn-in steps before those; one more step comes first, which traces."""
    num_classes: int = 1000
    """Width of the last layer; for a data set with records, its number of classes is used."""
    dataset_name: str | None = None
    """Data set that the images come from; None, or synthetic, for random images."""
    dataset_dir: str | None = None
    """Folder of that data set's TFRecords."""
    intra_op_threads: int = 0
    """Threads within an operation; 0 lets the engine choose."""
    inter_op_threads: int = 0
    """Operations at a time; 0 lets the engine choose."""
    rounds: int = 1
    """Rounds in which all configurations run these steps in alternation, A B A B ..., so that they meet the same
    machine."""
    isolate: bool = False
    """Run each configuration (with --rounds, each turn) in its own process."""
    peak: bool = True
    """Measure the machine's peak speeds, about a second for each precision."""
    seed: int = 0
    """Seed for the weights and the images."""
    json: Path | None = None
    """A file for the results: every step time, and the machine they were measured on."""
    csv: Path | None = None
    """A file with a row for every step time."""
    compare: tuple[Path, ...] | None = None
    """Two files from --json, the earlier first: nothing is timed, but their medians are compared. One file with
    rounds: its rows are compared with the first of the same pass, batch and image size, round by round."""
    fail_on_regression: float | None = None
    """With --compare: exit status 1 if anything became, or is, slower by more than this percentage."""


def main(config):
    """Times or compares; returns the exit status."""
    if config.compare:
        return compare(config)
    if config.fail_on_regression is not None:
        raise UserError("--fail_on_regression goes with --compare A.json B.json")
    for flag in ("json", "csv"):
        if getattr(config, flag):
            results.check_path(getattr(config, flag), flag)
    configurations = grid.expand(config)
    environment.set_threads(config.intra_op_threads, config.inter_op_threads)
    # Before the work begins, so that it records only the load from others.
    machine = environment.describe_environment()
    machine["others_share"] = disturbance.look_around()
    busy = disturbance.describe_others(machine["others_share"], "before the first step")
    with printing.Printer.of(configurations[0]) as printer:
        if busy:
            printer.warn(busy)
        time_one = isolation.measure if config.isolate else measuring.time_configuration
        with (
            results.finished_kept(config.json, results.write_json, machine, printer.done),
            results.finished_kept(config.csv, results.write_csv, machine, printer.done),
        ):
            try:
                measured = measuring.time_rounds(configurations, config.rounds, printer, time_one)
            except KeyboardInterrupt:
                printer.interrupted()
                raise
            peaks = _peaks(configurations) if config.peak else []
    if config.json:
        results.write_json(config.json, machine, measured, peaks=[dataclasses.asdict(peak) for peak in peaks])
    if config.csv:
        results.write_csv(config.csv, machine, measured)
    tables.print_tables(measured, peaks)


def compare(config):
    """Prints how the second file of --compare differs from the first, or the rows of one; returns the exit status."""
    documents = [comparison.read(path) for path in config.compare]
    if len(documents) not in (1, 2):
        raise UserError(f"--compare has {len(documents)} files; give two, or one that was timed in rounds")
    rows, alone = comparison.compare(*documents) if len(documents) == 2 else (comparison.compare_rows(*documents), [])
    for line in comparison.describe(rows, alone, documents):
        print(line)
    percent = config.fail_on_regression
    if percent is None:
        return 0
    regressed = [row for row in rows if row.regressed(percent)]
    for row in regressed:
        print(f"error: {row.label} is slower by more than {percent:g} %, or failed", file=sys.stderr)
    return 1 if regressed else 0


def _peaks(configurations):
    from benchmarks import roofline

    return [roofline.measure_peak(name) for name in dict.fromkeys(one.precision for one in configurations)]


if __name__ == "__main__":
    command_line.run(main, TimingConfig)
