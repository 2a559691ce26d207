"""Times a configuration in its own process: its memory holds nothing of others, and running out of it is a row.

`measure` starts this file as a script, which reads the configuration from one file and writes the results to another.
"""

import dataclasses
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command_line
from benchmarks import printing
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class Request:
    """Times one configuration; started by `benchmarks/time_forward_backward.py --isolate`."""

    configuration: Path
    """A pickled grid.Configuration."""
    results: Path
    """File to write the pickled results to, each as soon as it is known."""


def measure(configuration, reporter):
    """As `measuring.time_configuration`, but in a separate process, which prints its own lines.

    Returns:
      A list of results.Result and results.Failure; failures stand for what was not done when the process was killed.

    Raises:
      UserError: If the process ended with an error, which it has printed, or by a signal not due to lack of memory.
    """
    from benchmarks import measuring

    with tempfile.TemporaryDirectory(prefix="isolated-") as folder:
        request, reply = Path(folder) / "configuration", Path(folder) / "results"
        request.write_bytes(pickle.dumps(configuration))
        sys.stdout.flush()
        measured = []
        try:
            status = subprocess.run(
                [sys.executable, str(Path(__file__)), "--configuration", str(request), "--results", str(reply)]
            ).returncode
        finally:
            # Also after Ctrl-C, which comes to both processes.
            measured += pickle.loads(reply.read_bytes()) if reply.exists() else []
            reporter.done_elsewhere(measured)
    if status in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if status > 0:
        raise UserError(f"the process that timed {configuration.model} ended with status {status}; see its error above")
    if status < 0 and -status not in (signal.SIGKILL, signal.SIGABRT):
        raise UserError(f"the process that timed {configuration.model} was ended by {signal.Signals(-status).name}")
    if status < 0:
        error = f"out of memory: the process was killed by {signal.Signals(-status).name}"
        done = [one.pass_name for one in measured]
        measured += measuring.fail(
            configuration, [one for one in configuration.passes if one not in done], error, reporter
        )
    return measured


class _KeepingPrinter(printing.Printer):
    """A printer that also writes the results so far, because this process may be killed in its next pass."""

    def keep_in(self, path):
        self._path, self._kept = path, []

    def pass_finished(self, result):
        super().pass_finished(result)
        self._keep(result)

    def pass_failed(self, failure):
        super().pass_failed(failure)
        self._keep(failure)

    def _keep(self, one):
        self._kept.append(one)
        temporary = self._path.with_suffix(".part")
        temporary.write_bytes(pickle.dumps(self._kept))
        temporary.replace(self._path)


def main(request):
    """Reads, measures and writes."""
    from benchmarks import environment, measuring

    configuration = pickle.loads(request.configuration.read_bytes())
    environment.set_threads(configuration.intra_op_threads, configuration.inter_op_threads)
    with _KeepingPrinter.of(configuration) as printer:
        printer.keep_in(request.results)
        try:
            measuring.time_configuration(configuration, printer)
        except KeyboardInterrupt:
            printer.interrupted()
            raise


if __name__ == "__main__":
    command_line.run(main, Request)
