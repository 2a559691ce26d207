"""What was timed, the times, and the file that keeps them."""

import contextlib
import dataclasses
import functools
import json
import os
from pathlib import Path

from benchmarks import timing
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class Pass:
    """One kind of step."""

    label: str
    """Its name in the printed lines."""
    forwards: int
    """Its arithmetic in forward passes: backward costs one for the gradients of the activations and
    one for those of the weights. That the images need no gradient (3 % of a ResNet-50) is not subtracted."""


PASSES = {
    "forward": Pass("Forward", forwards=1),
    "forward_backward": Pass("Forward-backward", forwards=3),
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is timed: a network, its input and how it is computed."""

    model: str
    engine: str
    precision: str
    batch_size: int
    image_size: int
    """Pixels, height and width."""
    num_classes: int
    parameters: int
    """Trainable ones."""
    multiply_adds: int
    """Of the forward pass of one image."""
    dataset: str = "synthetic"
    """Where the images come from."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The step times of one pass of a setup."""

    setup: Setup
    pass_name: str
    """A key of PASSES."""
    burn_in: int
    step_seconds: tuple[float, ...]

    @functools.cached_property
    def summary(self):
        return timing.summarize(self.step_seconds)

    @property
    def images_per_second(self):
        """At the median step, which a few disturbed steps do not move."""
        return self.setup.batch_size / self.summary.median

    @property
    def gigaflops_per_second(self):
        """Two operations a multiply-add, at the median step."""
        multiply_adds = self.setup.multiply_adds * PASSES[self.pass_name].forwards
        return 2e-9 * multiply_adds * self.images_per_second

    def to_json(self):
        """Returns a dict that JSON can hold: all raw times, and the figures that were printed from them."""
        return {
            **dataclasses.asdict(self.setup),
            "pass": self.pass_name,
            "burn_in": self.burn_in,
            "statistics": dataclasses.asdict(self.summary),
            "images_per_second": self.images_per_second,
            "gigaflops_per_second": self.gigaflops_per_second,
            "step_seconds": list(self.step_seconds),
        }


def check_json_path(path):
    """Raises a UserError if results could not be written to `path`, before they have cost an hour."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"--json {path} exists and is not a regular file; give the name of a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"--json {path}: its folder {path.parent} does not exist or cannot be written to")


def write_json(path, environment, results):
    """Writes {"environment", "results"} to `path`: whole or, when interrupted, not at all.

    Args:
      path: The file; one that is already there is replaced.
      environment: As `environment.describe_environment` gives it.
      results: A list of Result.
    """
    # What a link points to is replaced, not the link.
    path = Path(path).resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    document = {"environment": environment, "results": [result.to_json() for result in results]}
    try:
        temporary.write_text(json.dumps(document, indent=1) + "\n")
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
