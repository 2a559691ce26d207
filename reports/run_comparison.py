"""Draws the error rates of several runs in one figure, and prints their last and best in a table.

    python -m reports.run_comparison runs/plain_20 runs/plain_56 runs/resnet_20 runs/resnet_56 --output=errors.png

As in figure 6 of arXiv:1512.03385, thin lines are training errors and bold lines are evaluation errors. A training
error is measured on the augmented images of the steps, while the network was still changing.
"""

import dataclasses
import itertools
import pathlib
from typing import Annotated

import numpy as np
import tyro

import command_line
import whole_files
from command_line import UserError
from reports.drawing import BLUE, GREEN, GREY, ORANGE, RED, new_figure, png

_POINTS = 120  # Points of a training curve; each is a mean over consecutive log lines.


@dataclasses.dataclass(frozen=True)
class ComparisonConfig:
    """Draws the errors of several runs, and prints a table of them."""

    folders: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional]
    """Folders of the runs."""
    output: pathlib.Path = pathlib.Path("errors.png")
    """File to write the figure to."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The data of a run that is drawn.

    Attributes:
      name: Name of its folder.
      train: Epoch and error, in percent, of each log line: float [lines, 2].
      evaluations: The same for each evaluation.
      count: Number of images in an evaluation.
    """

    name: str
    train: np.ndarray
    evaluations: np.ndarray
    count: int


def main(config):
    """Writes the figure and prints the table."""
    runs = [read(folder) for folder in config.folders]
    if not runs:
        raise UserError("no run is named; give the folders of some, such as runs/a runs/b")
    whole_files.write(config.output, figure(runs))
    width = max(len(run.name) for run in runs)
    print(f"{'run':{width}}  epochs  train error  test error   best  images")
    for run in runs:
        (epoch, error), best = run.evaluations[-1], run.evaluations[:, 1].min()
        print(
            f"{run.name:{width}}  {epoch:6.1f}  {run.train[-1, 1]:9.2f} %  {error:8.2f} %  {best:5.2f}  {run.count:6}"
        )
    print(f"wrote {config.output}")


def read(folder):
    """Reads a run's folder; returns a Run.

    Raises:
      UserError: If it is not a run, or has not been evaluated yet.
    """
    from training import curves, run_description

    numbers, rows = run_description.read(folder), curves.read(folder)
    train = [row for row in rows if row["kind"] == curves.TRAIN]
    evaluations = [row for row in rows if row["kind"] == curves.EVALUATION]
    # Errors on two splits make no curve, and a resumed run may have switched to another split.
    evaluations = [row for row in evaluations if row.get("split") == evaluations[-1].get("split")]
    if not numbers or not train or not evaluations:
        raise UserError(f"{folder} holds no run that was evaluated: expected curves.jsonl with both kinds of rows")

    def errors(rows):
        return np.array([[row["step"] / numbers["steps_per_epoch"], 100 * (1 - row["top_1"])] for row in rows])

    return Run(pathlib.Path(folder).name, errors(train), errors(evaluations), evaluations[-1]["count"])


def figure(runs):
    """Draws the errors of Runs by epoch; returns PNG bytes."""
    drawn, axes = new_figure(7.4, 4.4)
    for run, color in zip(runs, itertools.cycle((BLUE, RED, GREEN, ORANGE, GREY)), strict=False):
        parts = np.array_split(run.train, min(_POINTS, len(run.train)))
        axes.plot(*np.array([part.mean(axis=0) for part in parts]).T, color=color, linewidth=0.8)
        axes.plot(*run.evaluations.T, color=color, linewidth=2, marker="o", markersize=3, label=run.name)
    axes.set(xlabel="epoch", ylabel="error, % (thin: training, bold: test)", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)
    return png(drawn)


if __name__ == "__main__":
    command_line.run(main, ComparisonConfig)
