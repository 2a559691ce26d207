"""A configuration in a process of its own: nothing of another is left in its memory, and its death is a row.

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
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class Request:
    """Times one configuration; started by `benchmarks/time_forward_backward.py --isolate`."""

    configuration: Path
    """A pickled grid.Configuration."""
    results: Path
    """File that gets the pickled results."""


def measure(configuration, reporter):
    """As `measuring.time_configuration`, in a process of its own, which prints its own lines.

    Returns:
      A list of results.Result and results.Failure; failures where the process was killed.

    Raises:
      UserError: If it ended with an error, which it has printed.
    """
    from benchmarks import measuring

    with tempfile.TemporaryDirectory(prefix="isolated-") as folder:
        request, reply = Path(folder) / "configuration", Path(folder) / "results"
        request.write_bytes(pickle.dumps(configuration))
        sys.stdout.flush()
        status = subprocess.run(
            [sys.executable, str(Path(__file__)), "--configuration", str(request), "--results", str(reply)]
        ).returncode
        if status == 0:
            return pickle.loads(reply.read_bytes())
    if status in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if status > 0:
        raise UserError(f"the process that timed {configuration.model} ended with status {status}; see its error above")
    error = f"out of memory: the process was killed by {signal.Signals(-status).name}"
    return measuring.fail(configuration, configuration.passes, error, reporter)


def main(request):
    """Reads, measures, writes."""
    from benchmarks import environment, measuring, printing

    configuration = pickle.loads(request.configuration.read_bytes())
    environment.set_threads(configuration.intra_op_threads, configuration.inter_op_threads)
    with printing.Printer.of(configuration) as printer:
        try:
            measured = measuring.time_configuration(configuration, printer)
        except KeyboardInterrupt:
            printer.interrupted()
            raise
    request.results.write_bytes(pickle.dumps(measured))


if __name__ == "__main__":
    command_line.run(main, Request)
