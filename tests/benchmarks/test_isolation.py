"""Configurations in processes of their own, some of which are killed."""

import json
import pickle
import re
import signal
import subprocess
import sys

import pytest

import command_line
from benchmarks import grid, isolation, printing, results
from benchmarks import time_forward_backward as script
from command_line import UserError

TINY_FLAGS = "--model resnet_cifar_v1_20 --image_size 16 --num_batches 3 --burn_in 1 --num_classes 10 --no_peak"
TINY = grid.Configuration("resnet_cifar_v1_20", "tensorflow", "float32", 2, 16, 10)


def run(flags):
    """Runs the script in this process; returns its exit status."""
    with pytest.raises(SystemExit) as exit_info:
        command_line.run(script.main, script.TimingConfig, flags.split())
    return exit_info.value.code


def test_isolated_configurations_are_processes_whose_death_is_a_row(tmp_path, monkeypatch, capfd):
    """The second configuration's process is killed, as the kernel kills one that takes too much memory."""
    real_run = subprocess.run
    started = []

    def kill_second(command, *args, **kwargs):
        if "--configuration" not in command:
            return real_run(command, *args, **kwargs)
        started.append(command)
        if len(started) == 2:
            command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
        return real_run(command, *args, **kwargs)

    monkeypatch.setattr(subprocess, "run", kill_second)
    path = tmp_path / "out.json"
    assert run(f"{TINY_FLAGS} --pass forward --batch_size 2,4,3 --isolate --json {path}") == 0
    rows = json.loads(path.read_text())["results"]
    assert [(row["batch_size"], len(row["step_seconds"]), row.get("error")) for row in rows] == [
        (2, 3, None),
        (4, 0, "out of memory: the process was killed by SIGKILL"),
        (3, 3, None),
    ]
    out = capfd.readouterr().out
    assert len(re.findall(r"^2[-0-9]+ [:.0-9]+: Forward across 3 steps, ", out, re.M)) == 2


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """A function of a signal's number: a process then times the forward pass and ends by that signal."""

    def end_by(number):
        setup = results.Setup("fake", "tensorflow", "float32", 2, 16, 10, 1, 1)
        kept = tmp_path / "kept"
        kept.write_bytes(pickle.dumps([results.Result(setup, "forward", 1, (0.5,))]))
        die = f"import os, shutil, sys; shutil.copy({str(kept)!r}, sys.argv[1]); os.kill(os.getpid(), {int(number)})"
        real_run = subprocess.run
        monkeypatch.setattr(subprocess, "run", lambda command: real_run([sys.executable, "-c", die, command[-1]]))

    return end_by


def test_what_was_timed_before_a_process_was_killed_is_kept(killed):
    killed(signal.SIGKILL)
    forward, both = isolation.measure(TINY, printing.Printer.of(TINY))
    assert (forward.pass_name, forward.step_seconds) == ("forward", (0.5,))
    assert (both.pass_name, both.error) == ("forward_backward", "out of memory: the process was killed by SIGKILL")


def test_a_process_that_crashes_ends_the_run_and_leaves_what_was_timed(killed):
    killed(signal.SIGSEGV)
    printer = printing.Printer.of(TINY)
    with pytest.raises(UserError, match="the process that timed .* was ended by SIGSEGV"):
        isolation.measure(TINY, printer)
    assert [one.pass_name for one in printer.done] == ["forward"]


def test_an_interruption_leaves_what_was_timed(killed, monkeypatch):
    """Ctrl-C comes to both processes: the one that waits for the other is told of it by an exception."""
    killed(signal.SIGINT)
    end_by = subprocess.run

    def interrupted(command):
        end_by(command)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    printer = printing.Printer.of(TINY)
    with pytest.raises(KeyboardInterrupt):
        isolation.measure(TINY, printer)
    assert [one.pass_name for one in printer.done] == ["forward"]


def test_an_isolated_process_that_fails_ends_the_run(capfd, tmp_path):
    # Its description is whole, its records are not.
    description = {"name": "toy", "splits": {"train": 3}, "class_names": ["a"], "file_pattern": "{split}.tfrecord"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    (tmp_path / "train.tfrecord").write_bytes(b"no record")
    assert run(f"--model resnet_cifar_v1_20 --dataset_dir {tmp_path} --isolate") == 1
    err = capfd.readouterr().err
    assert "ended with status 1; see its error above" in err
    assert "Traceback" not in err
