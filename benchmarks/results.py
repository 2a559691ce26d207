"""What was timed, the times, and the files that hold them."""

import contextlib
import csv
import dataclasses
import functools
import io
import itertools
import json
import os
import sys
import types
from pathlib import Path

import whole_files
from benchmarks import timing
from command_line import UserError
from whole_files import part_of


@dataclasses.dataclass(frozen=True)
class Pass:
    """One kind of step."""

    label: str
    """Its name in the printed lines."""
    forwards: int
    """Its arithmetic in forward passes. Backward costs one for the gradients of the activations and one for
    those of the weights. The images need no gradient (3 % of a ResNet-50), which is not subtracted."""


PASSES = {
    "forward": Pass("Forward", forwards=1),
    "forward_backward": Pass("Forward-backward", forwards=3),
    "train_step": Pass("Train-step", forwards=3),
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is timed: a network, its input and how it is computed."""

    model: str
    engine: str
    precision: str
    batch_size: int
    image_size: int
    """Height and width in pixels."""
    num_classes: int
    parameters: int
    """Only trainable ones."""
    multiply_adds: int
    """For the forward pass of one image."""
    dataset: str = "synthetic"
    """Where the images come from."""
    forward_mode: str = "inference"
    """Mode of the forward pass: inference, or training, in which norms use batch statistics."""
    folded: bool = False
    """Whether the forward pass is that of the folded network."""
    activation_values: int = 0
    """Those that convolutions read and write for one image."""
    weight_values: int = 0
    """Convolution weights, read once per batch."""


# Fields that a Result and its row in a file share.
_MEASURED = (
    "burn_in",
    "prepare_seconds",
    "first_step_seconds",
    "peak_memory_bytes",
    "others_share",
    "warnings",
    "round_steps",
)


@dataclasses.dataclass(frozen=True)
class Result:
    """The step times of one pass of a setup."""

    setup: Setup
    pass_name: str
    """A key of PASSES."""
    burn_in: int
    step_seconds: tuple[float, ...]
    prepare_seconds: float = 0.0
    """Time for tracing, or for converting and loading."""
    first_step_seconds: float = 0.0
    """Time of the step before the burn-in, which compiles."""
    peak_memory_bytes: int | None = None
    """Peak resident memory of the process during the pass."""
    others_share: float | None = None
    """Part of the usable cores' time that other processes took during the timed steps."""
    warnings: tuple[str, ...] = ()
    """Reasons to doubt the times."""
    round_steps: tuple[int, ...] = ()
    """Number of `step_seconds` in each round; empty if there was one round."""

    @functools.cached_property
    def summary(self):
        return timing.summarize(self.step_seconds)

    @property
    def rounds(self):
        """The step times as a list of tuples, one for each round."""
        ends = list(itertools.accumulate(self.round_steps or (len(self.step_seconds),)))
        return [self.step_seconds[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def images_per_second(self):
        """At the median step, which a few disturbed steps do not change."""
        return self.setup.batch_size / self.summary.median

    @property
    def gigaflops_per_second(self):
        """At the median step, with two operations per multiply-add."""
        multiply_adds = self.setup.multiply_adds * PASSES[self.pass_name].forwards
        return 2e-9 * multiply_adds * self.images_per_second

    @property
    def gigabytes_per_second(self):
        """Least memory traffic of the convolutions, at the median step: every value is moved once."""
        values = self.setup.activation_values * self.setup.batch_size + self.setup.weight_values
        item_size = 4 if self.setup.precision == "float32" else 2
        return 1e-9 * item_size * values * PASSES[self.pass_name].forwards / self.summary.median

    def to_json(self):
        """Returns a JSON-able dict: all raw times, and the figures that were printed from them."""
        return {
            **dataclasses.asdict(self.setup),
            "pass": self.pass_name,
            **{name: getattr(self, name) for name in _MEASURED},
            "statistics": dataclasses.asdict(self.summary),
            "images_per_second": self.images_per_second,
            "gigaflops_per_second": self.gigaflops_per_second,
            "gigabytes_per_second": self.gigabytes_per_second,
            "step_seconds": list(self.step_seconds),
        }


_FAILURE_NAMES = ("model", "engine", "precision", "batch_size", "image_size", "num_classes", "forward_mode", "folded")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A pass of a configuration that ran out of memory."""

    configuration: object
    """A grid.Configuration."""
    pass_name: str
    error: str
    """What happened, one line."""

    def to_json(self):
        """Returns a JSON-able dict: what was to be timed, the error, and no times."""
        return {
            **{name: getattr(self.configuration, name) for name in _FAILURE_NAMES},
            "dataset": self.configuration.dataset_name or "synthetic",
            "pass": self.pass_name,
            "error": self.error,
            "step_seconds": [],
        }


def from_json(row):
    """The Result or the Failure that a row of a file was written from.

    Older files lack some fields, which then have their defaults.

    Raises:
      KeyError, TypeError, ValueError: If the row is something else.
    """
    known = {field.name for field in dataclasses.fields(Setup)}
    if row["pass"] not in PASSES:
        raise ValueError(f"the pass is {row['pass']!r}")
    if "error" in row:
        what = types.SimpleNamespace(dataset_name=row["dataset"], **{name: row[name] for name in _FAILURE_NAMES})
        return Failure(what, row["pass"], row["error"])
    measured = {name: row[name] for name in _MEASURED if name in row}
    measured |= {name: tuple(row[name]) for name in ("warnings", "round_steps") if name in row}
    step_seconds = tuple(map(float, row["step_seconds"]))
    if not step_seconds or min(step_seconds) <= 0:
        raise ValueError("step_seconds has no times above 0")
    return Result(
        Setup(**{name: value for name, value in row.items() if name in known}),
        row["pass"],
        step_seconds=step_seconds,
        **measured,
    )


def check_path(path, flag="json"):
    """Raises a UserError if results cannot be written to `path`, before an hour is spent on them."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"--{flag} {path} exists and is not a regular file; give the name of a file")
    part_of(path)  # Refuses what it would refuse at the end.
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"--{flag} {path}: its folder {path.parent} does not exist or cannot be written to")


@contextlib.contextmanager
def finished_kept(path, write, environment, done):
    """A context that, if its body fails, writes what was finished to NAME.unfinished.json (or .csv) beside `path`.

    Args:
      path: The file meant for all results; None for none.
      write: A function such as `write_json`.
      environment: As in `write_json`.
      done: A list that the body appends to.
    """
    try:
        yield
    except BaseException:
        if path and done:
            path = path.with_name(f"{path.stem}.unfinished{path.suffix}")
            write(path, environment, done)
            print(f"{len(done)} finished rows are in {path}", file=sys.stderr)
        raise


def write_json(path, environment, results, **more):
    """Writes {"environment", **more, "results"} to `path`: completely or, if interrupted, not at all.

    Args:
      path: The file; an existing one is replaced.
      environment: As `environment.describe_environment` returns it.
      results: A list of objects with a `to_json`.
      **more: Further JSON-able keys.
    """
    document = {"environment": environment, **more, "results": [result.to_json() for result in results]}
    whole_files.write(path, json.dumps(document, indent=1) + "\n")


def write_csv(path, environment, results):
    """Writes every step time as a row, below comment lines (`# name: value`) with the environment.

    Args:
      path, environment: As in `write_json`.
      results: A list of Result and Failure; a failure has one row, with an error and no time.
    """
    names = ("model", "engine", "precision", "batch_size", "image_size", "num_classes", "dataset", "forward_mode")
    names += ("folded", "pass")
    text = io.StringIO(newline="")
    for name, value in environment.items():
        text.write(f"# {name}: {value if isinstance(value, str) else json.dumps(value)}\n")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*names, "round", "step", "seconds", "error"])
    for result in results:
        document = result.to_json()
        setup = [document[name] for name in names]
        if isinstance(result, Failure):
            rows.writerow([*setup, "", "", "", result.error])
        else:
            for number, turn in enumerate(result.rounds, 1):
                rows.writerows([*setup, number, step, repr(seconds), ""] for step, seconds in enumerate(turn))
    whole_files.write(path, text.getvalue())
