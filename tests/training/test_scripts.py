"""The scripts as a user runs them: what they print where, and how they end."""

import csv
import dataclasses
import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import numpy as np
import pytest
import training_toys

import command_line
from data import records
from training.config import TrainConfig
from training.evaluate_checkpoint import EvalConfig
from training.run_folder import RunFolder

ROOT = pathlib.Path(__file__).parents[2]
TRAIN, EVALUATE = "train_image_classifier.py", "eval_image_classifier.py"
SCRIPTS = {TRAIN: TrainConfig, EVALUATE: EvalConfig}
# The smallest network of the table: a process of its own knows no smaller one.
SMALL = ["--model_name=resnet_cifar_v1_20", "--train_image_size=8", "--batch_size=4", "--batch_norm_decay=0.5"]
MINUTES = 240


def start(*arguments, **options):
    """A script in a process of its own, its output in pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def end(process):
    """Waits; returns (status, stdout, stderr)."""
    with process:
        out, err = process.communicate(timeout=MINUTES)
        return process.returncode, out, err


def wait_for(process, pattern):
    """Reads lines of stdout up to one that matches; returns all of them."""
    timer = threading.Timer(MINUTES, process.kill)
    timer.start()
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            break
    timer.cancel()
    assert lines and re.search(pattern, lines[-1]), (lines, process.stderr.read())
    return lines


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_lists_every_flag_and_is_quick(script):
    status, out, err = end(start("-X", "importtime", script, "--help", env=os.environ | {"COLUMNS": "200"}))
    assert status == 0
    flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", out))
    assert {f"--{field.name}" for field in dataclasses.fields(SCRIPTS[script])} <= flags
    assert not any("-" in flag.removeprefix("--") for flag in flags)
    # Every flag has its text, and the default of one that is not None is shown.
    for field in dataclasses.fields(SCRIPTS[script]):
        if field.default not in (None, dataclasses.MISSING):
            assert f"(default: {field.default})" in out
    assert "tyro" in err and not re.search(r"\| +tensorflow", err)


@pytest.fixture(scope="module")
def printed_run(toy_dir, tmp_path_factory):
    """The folder of what a run printed (stdout, stderr) and left (train.json, run); not to be changed."""
    folder = tmp_path_factory.mktemp("printed")
    status, out, err = end(
        start(
            TRAIN,
            *SMALL,
            f"--dataset_dir={toy_dir}",
            f"--train_dir={folder / 'run'}",
            "--num_epochs=2",
            "--log_every_n_steps=4",
            f"--json={folder / 'train.json'}",
        )
    )
    assert status == 0, err
    (folder / "stdout").write_text(out, encoding="utf-8")
    (folder / "stderr").write_text(err, encoding="utf-8")
    return folder


def test_a_run_and_its_evaluation_print_lines_and_nothing_else(printed_run, tmp_path):
    out = (printed_run / "stdout").read_text(encoding="utf-8")
    assert (printed_run / "stderr").read_text(encoding="utf-8") == ""
    lines = out.splitlines()
    assert re.fullmatch(
        r"resnet_cifar_v1_20 \(269,267 parameters\) on toy \(22 images, 8 pixels\), batch 4, (float32|bfloat16), "
        rf"1 device\(s\), folder {re.escape(str(printed_run))}/run: 11 steps",
        lines[0],
    )
    number = r"-?\d+\.\d+"
    steps = [
        re.fullmatch(
            rf"step (\d+)/11  loss {number} \(cross-entropy {number}\)  train top-1 {number}  rate {number}  "
            r"\d+ images/s  \d:\d\d:\d\d left  time: \w+ \d+ %(, \w+ \d+ %)*",
            line,
        )
        for line in lines
    ]
    assert [int(match[1]) for match in steps if match] == [4, 8, 11]
    evaluations = [
        re.fullmatch(rf"step (\d+): test top-1 ({number}), top-5 {number}, cross-entropy {number} \(13 images\)", line)
        for line in lines
    ]
    assert [int(match[1]) for match in evaluations if match] == [6, 11]
    trained = json.loads((printed_run / "train.json").read_text(encoding="utf-8"))
    assert (trained["step"], trained["total_steps"], trained["evaluation"]["count"]) == (11, 11, 13)
    assert re.fullmatch(rf"checkpoint {re.escape(trained['checkpoint'])}, \d+ images/s in training", lines[-3])
    score = f"top-1 {trained['evaluation']['top_1']:.4f}   top-5 1.0000   cross-entropy"
    assert lines[-2] == "13 images scored once each" and lines[-1].startswith(score)
    assert re.fullmatch(r"time \d+\.\d s: \w+ \d+\.\d\d %(, \w+ \d+\.\d\d %){5}", lines[-4])
    assert len(lines) == 1 + 3 + 2 + 4

    again, rows = tmp_path / "eval.json", tmp_path / "rows.csv"
    status, out, err = end(
        start(EVALUATE, f"--checkpoint_path={printed_run / 'run'}", f"--json={again}", f"--predictions={rows}")
    )
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"resnet_cifar_v1_20 from {trained['checkpoint']}, on split test of toy (13 images)")
    assert lines[-1].startswith(score)
    assert [line.split()[1:4] for line in lines[1:-2]] == [
        ["red", "5", "images"],
        ["green", "4", "images"],
        ["blue", "4", "images"],
    ]
    evaluated = json.loads(again.read_text(encoding="utf-8"))
    assert evaluated["confusion_matrix"] == trained["evaluation"]["confusion_matrix"]
    assert evaluated["cross_entropy"] == pytest.approx(trained["evaluation"]["cross_entropy"], rel=1e-4)
    with open(rows, newline="", encoding="utf-8") as file:
        hits = [row["label"] == row["predicted"] for row in csv.DictReader(file)]
    assert np.mean(hits) == pytest.approx(evaluated["top_1"])


@pytest.mark.slow
def test_interrupted_killed_and_taken_up_again(toy_dir, tmp_path):
    """Ctrl-C in training; then a second run in the same folder, SIGKILL, and the same command to the end."""
    run = tmp_path / "run"
    command = [TRAIN, *SMALL, f"--dataset_dir={toy_dir}", f"--train_dir={run}", "--log_every_n_steps=1"]
    endless = [
        *command,
        "--num_epochs=100000",
        "--eval_every_epochs=0",
        "--save_interval_secs=0",
        "--keep_checkpoints=2",
    ]

    process = start(*endless)
    wait_for(process, r"^step 3/")
    process.send_signal(signal.SIGINT)
    status, out, err = end(process)
    assert (status, err) == (130, "")
    last = out.splitlines()[-2:]
    stopped = int(
        re.fullmatch(rf"interrupted at step (\d+) of 550000; saved {re.escape(str(run))}/model.ckpt-\d+", last[0])[1]
    )
    assert last[1] == "the same command goes on from there"
    assert (run / f"model.ckpt-{stopped}.index").exists()

    process = start(*endless)
    # A save begins when the one before is written.
    lines = wait_for(process, rf"^step {stopped + 3}/")
    assert f"from step {stopped} of 550000" in lines[0]
    assert lines[1].startswith(f"step {stopped + 1}/")
    # A second one in this process, while the other goes on.
    with pytest.raises(command_line.UserError, match="another run writes into"):
        RunFolder(run).__enter__()
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL

    kept = sorted(int(path.stem.rpartition("-")[2]) for path in run.glob("model.ckpt-*.index"))
    assert kept[-1] > stopped
    status, out, err = end(start(*command, f"--max_number_of_steps={kept[-1] + 2}", "--eval_every_epochs=0"))
    assert (status, err) == (0, "")
    assert f"from step {kept[-1]} of {kept[-1] + 2}" in out.splitlines()[0]
    assert not list(run.glob(".saving-*"))


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_ctrl_c_while_it_starts(toy_dir, tmp_path, seconds):
    """While tyro or TensorFlow is imported, or the network built: whatever it is, no traceback and no notes."""
    process = start(TRAIN, *SMALL, f"--dataset_dir={toy_dir}", f"--train_dir={tmp_path / 'run'}")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    process.send_signal(signal.SIGINT)
    status, out, err = end(process)
    assert status == 130
    assert err == "error: interrupted\n" or (err == "" and "interrupted at step" in out)


def test_ctrl_c_while_the_network_is_built(toy_dir, tmp_path):
    """From the lock on, the signal is answered before the first step."""
    run = tmp_path / "run"
    process = start(TRAIN, *SMALL, f"--dataset_dir={toy_dir}", f"--train_dir={run}")
    while not (run / ".lock").exists():
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
    process.send_signal(signal.SIGINT)
    status, out, err = end(process)
    assert (status, err) in ((130, ""), (130, "error: interrupted\n"))
    if not err:
        step = re.search(r"interrupted at step (\d+) of 495; (nothing to save yet|saved \S+)$", out, re.MULTILINE)
        assert int(step[1]) <= 1
        assert "the same command goes on from there" in out
    assert not list(run.glob(".saving-*"))


def test_ctrl_c_in_an_evaluation_leaves_no_half_results(printed_run, tmp_path):
    """Thousands of records, one image at a time, take seconds to score."""
    directory = training_toys.make_dataset(tmp_path / "toy", test=1)
    (picture,) = training_toys.pictures(1, 0, 3)
    count = records.write_examples(directory / "toy_test.tfrecord", [picture] * 30_000)
    description = directory / "dataset.json"
    text = description.read_text(encoding="utf-8").replace('"test": 1', f'"test": {count}')
    description.write_text(text, encoding="utf-8")
    process = start(
        EVALUATE,
        f"--checkpoint_path={printed_run / 'run'}",
        f"--dataset_dir={directory}",
        "--batch_size=1",
        f"--predictions={tmp_path / 'rows.csv'}",
        f"--json={tmp_path / 'result.json'}",
    )
    wait_for(process, "on split test of toy .30000 images.")
    # Into the scoring: in the moment before it, while TensorFlow first looks at a list, its native code prints an error
    # of its own about the interruption.
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    status, out, err = end(process)
    assert (status, err) == (130, "error: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def on_a_terminal(columns, *arguments):
    """Runs a script on a terminal of so many columns; returns its status and all that it wrote."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe(sys.executable, [sys.executable, *map(str, arguments)], os.environ | {"TERM": "xterm-256color"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written = b""
    while True:
        try:
            block = os.read(terminal, 65536)
        except OSError:  # What a terminal says when its process has gone.
            break
        if not block:
            break
        written += block
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), written.decode()


CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # It execs at once.
@pytest.mark.slow
def test_a_terminal_shows_a_bar_that_fits(toy_dir, tmp_path):
    status, written = on_a_terminal(
        80,
        TRAIN,
        *SMALL,
        f"--dataset_dir={toy_dir}",
        f"--train_dir={tmp_path / 'run'}",
        "--num_epochs=4",
        "--log_every_n_steps=1",
    )
    assert status == 0
    text = CONTROL.sub("", written)
    assert "\x1b" not in text and "\ufffd" not in text
    frames = [line for line in re.split(r"[\r\n]+", text) if "━" in line]
    assert frames and all(len(line) <= 80 for line in frames)
    # Steps and the time left are whole in every frame.
    assert all(re.match(r"step +\d+/22 .* (-:--:--|\d+:\d\d:\d\d)$", line) for line in frames)
    assert any(line.startswith("step 22/22") for line in frames)
    assert re.search(r"loss \d+\.\d{4} \(cross-entropy \d+\.\d{4}\)  train top-1 \d\.\d{4}  rate \d[\d.e-]*", text)
    assert re.search(r"^time: \w+ \d+ %", text, re.MULTILINE)
    assert text.count("step 22: test top-1") == 1
    # The bar is taken away in the end, and the cursor comes back.
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    ending = text[text.rindex("━") :].splitlines()
    assert ending[-1].startswith("top-1 ") and ending[-2] == "13 images scored once each"
    assert "Traceback" not in text and "WARNING" not in text and "oneDNN" not in text


def test_a_reader_that_leaves_early_is_no_error_of_ours():
    """As in `... --help | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, EVALUATE, "--help"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    _, err = process.communicate(timeout=MINUTES)
    assert "Traceback" not in err
