"""What a measurement prints while it runs: lines on stdout, and a progress bar if stderr is a terminal.

A line that starts with `# ` is ours. The others have had the same form in TensorFlow's benchmark scripts since
the AlexNet one, so parsers for those also read these:

    2026-11-22 03:04:05.123456: step 10, duration = 9.012
    2026-11-22 03:04:05.123456: Forward across 100 steps, 9.112 +/- 0.153 sec / batch
"""

import datetime
import sys
import time

import rich.console
import rich.progress

from benchmarks import environment, timing
from benchmarks.results import PASSES

_STEPS_A_LINE = 10
_SECONDS_A_DRAWING = 0.2


class Printer:
    """Prints every tenth step and each result; a context manager that removes the progress bar at its end.

    The docstrings of the methods say when a measurement calls them.

    Attributes:
      done: The results.Result or results.Failure of each pass so far.
    """

    def __init__(self, burn_in, num_batches=None, now=datetime.datetime.now):
        """Makes a printer; num_batches is None if it is not known beforehand."""
        self._burn_in = burn_in
        self._num_batches = num_batches
        self._now = now
        self._progress = _progress_bar()
        self._drawn = float("-inf")
        self._task = None
        self._pass_name = None
        self._step_seconds = []
        self._in_rounds = False
        self.done = []

    @classmethod
    def of(cls, configuration):
        """A printer for the steps of a grid.Configuration."""
        return cls(configuration.burn_in, configuration.num_batches if configuration.seconds is None else None)

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *error):
        self._progress.stop()

    def started(self, setup):
        """A setup was built; nothing has been timed yet."""
        self._print(f"# {describe_setup(setup)}")

    def pass_started(self, pass_name):
        """The first step of a pass, which traces it, comes next."""
        self._pass_name, self._step_seconds = pass_name, []
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(
            PASSES[pass_name].label, total=self._num_batches and self._burn_in + self._num_batches
        )
        self._draw_bar()

    def step(self, pass_name, index, step_seconds):
        """A step is done; `index` is negative in the burn-in."""
        if index >= 0:
            self._step_seconds.append(step_seconds)
            if index % _STEPS_A_LINE == 0:
                self._print(f"{self._timestamp()}: step {index}, duration = {step_seconds:.3f}")
        self._progress.update(self._task, advance=1)
        self._draw_bar()

    def pass_finished(self, result):
        """All steps of a pass are done."""
        self.done.append(result)
        self._step_seconds = []
        label, summary = PASSES[result.pass_name].label, result.summary
        mean = summary.mean_and_deviation()
        self._print(f"{self._timestamp()}: {label} across {summary.count} steps, {mean} sec / batch")
        self._print(f"# {describe_result(result)}")
        # A turn has few steps and says little; the warnings for all rounds come at the end.
        for warning in () if self._in_rounds else result.warnings:
            self.warn(f"{result.setup.model}, {label}: {warning}")

    def pass_failed(self, failure):
        """A pass ran out of memory."""
        self.done.append(failure)
        self._step_seconds = []
        label = PASSES[failure.pass_name].label
        self._print(f"# {label} of {describe_configuration(failure.configuration)}: {failure.error}")

    def done_elsewhere(self, results):
        """Another process has measured, and printed, a list of results and failures."""
        self.done += results

    def round_started(self, number, num_rounds):
        """All configurations are timed once more; `number` counts from 1."""
        self._in_rounds = True
        self._print(f"# round {number} of {num_rounds}")

    def rounds_finished(self, merged):
        """All rounds are done; `merged` holds, for each pass, a result of all rounds or a failure."""
        for result in merged:
            for warning in getattr(result, "warnings", ()):
                label = PASSES[result.pass_name].label
                self.warn(f"{describe_configuration(result.setup)}, {label}, all rounds: {warning}")

    def warn(self, text):
        """Prints a warning on stderr."""
        # Through rich if a bar is drawn on stderr.
        if self._progress.disable:
            print(f"warning: {text}", file=sys.stderr, flush=True)
        else:
            self._progress.console.print(f"warning: {text}", soft_wrap=True, markup=False, highlight=False)

    def interrupted(self):
        """Prints what was measured of an unfinished pass, if anything."""
        if self._step_seconds:
            summary = timing.summarize(self._step_seconds)
            steps = "" if self._num_batches is None else f" of {self._num_batches}"
            self._print(
                f"# interrupted: {PASSES[self._pass_name].label} across {summary.count}{steps} steps, "
                f"{summary.mean_and_deviation()} sec / batch"
            )

    def _print(self, line):
        if self._progress.disable or not sys.stdout.isatty():
            # Flushed, so that lines also reach a pipe or a file immediately.
            print(line, flush=True)
        else:
            # Both are on one terminal, and only rich knows where its bar is, which this line must not run into.
            self._progress.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _draw_bar(self):
        # Not after every step: drawing fills the caches that a short step needs.
        if time.monotonic() - self._drawn >= _SECONDS_A_DRAWING:
            self._progress.refresh()
            self._drawn = time.monotonic()

    def _timestamp(self):
        return self._now().isoformat(sep=" ", timespec="microseconds")


def describe_setup(setup):
    """Returns one line: `resnet_v2_50, batch 32, 224 x 224, float32, ...`."""
    threads = environment.thread_settings()
    norms = ", folded" if setup.folded else ""
    if setup.forward_mode != "inference":
        norms = f", norms of {setup.forward_mode} in forward"
    images = "" if setup.dataset == "synthetic" else f", images of {setup.dataset}"
    return (
        f"{setup.model}, batch {setup.batch_size}, {setup.image_size} x {setup.image_size}, "
        f"{setup.precision}, {setup.num_classes} classes{images}{norms}; {setup.parameters:,} parameters, "
        f"{setup.multiply_adds / 1e9:.3f} G multiply-adds an image; "
        f"{setup.engine}, {environment.usable_cores()} cores, "
        f"threads {threads['intra_op'] or 'auto'} intra-op and {threads['inter_op'] or 'auto'} inter-op"
    )


def describe_configuration(configuration):
    """Returns what is to be timed: shorter than `describe_setup`, and available before anything is built."""
    return (
        f"{configuration.model}, batch {configuration.batch_size}, {configuration.image_size} x "
        f"{configuration.image_size}, {configuration.precision}, {configuration.engine}"
    )


def describe_result(result):
    """Returns one line: median and extremes, and the median as images and operations per second."""
    summary, one_pass = result.summary, PASSES[result.pass_name]
    counted = "multiply-adds" if one_pass.forwards == 1 else f"multiply-adds of {one_pass.forwards} forward passes"
    return (
        f"{one_pass.label}: n {summary.count} after {result.burn_in} of burn-in, "
        f"median {summary.median:.6f} s, min {summary.minimum:.6f} s, max {summary.maximum:.6f} s; "
        f"at the median {result.images_per_second:.2f} images/s, "
        f"{result.gigaflops_per_second:.1f} GFLOP/s (2 x {counted})"
    )


def _progress_bar():
    console = rich.console.Console(stderr=True)
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("time left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        # Drawn only between steps: a drawing thread would take time from the timed step.
        auto_refresh=False,
        # Over all steps so far, because a step may take longer than the 30 s after which rich forgets.
        speed_estimate_period=float("inf"),
        redirect_stdout=False,
        redirect_stderr=False,
    )
