"""Workers that are started again by a process of their own; the workers here are scripts of a few lines."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
if sys.argv[-1] != "--max_restarts=0":
    import command_line
    command_line.import_tensorflow()
    from training.restarts import run_again_and_again
    sys.exit(run_again_and_again(1))
{worker}
"""
# Its output is at its end when it has ended itself, whoever waits for it.
WAITS = """
def end(number, frame):
    print("saved", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("running", flush=True)
signal.pause()
"""


@pytest.fixture
def started(tmp_path):
    """A function that starts a worker, and the process that starts it again, from the worker's lines."""
    processes = []

    def start(worker):
        script = tmp_path / "worker.py"
        script.write_text(SCRIPT.format(worker=worker))
        # Of the repository's folder, from which the tests run.
        runner = f"import runpy, sys; sys.argv = [{str(script)!r}]; runpy.run_path(sys.argv[0])"
        command = [sys.executable, "-c", runner]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_saves_and_ends_with_the_process_that_would_start_it_again(started, number):
    process = started(WAITS)
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("saved\n", "")
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)


def test_a_worker_that_is_killed_is_started_as_often_as_asked(started):
    output, error = started("print('running', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)").communicate()
    assert output == 2 * "running\n"
    assert error.splitlines() == [
        "this worker ended, it was killed by SIGKILL; start 1 of 1",
        "this worker ended, it was killed by SIGKILL; no start is left",
    ]


@pytest.mark.parametrize("status", [0, 1])
def test_a_worker_that_ends_itself_is_not_started_again(started, status):
    process = started(f"print('running')\nsys.exit({status})")
    assert process.communicate() == ("running\n", "")
    assert process.returncode == status
