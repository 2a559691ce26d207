"""How the scripts fail: one line that says what was wrong, and exit status 1, in this process to be quick."""

import json
import re
import subprocess

import pytest
import tensorflow as tf
import training_toys

import command_line
import eval_image_classifier
import train_image_classifier
from data import records
from training.config import TrainConfig
from training.evaluate_checkpoint import EvalConfig
from training.run_folder import RunFolder


def run_here(capfd, main, config_class, *arguments):
    """A script in this process; returns (status, stdout, stderr)."""
    with pytest.raises(SystemExit) as caught:
        command_line.run(main, config_class, args=list(map(str, arguments)))
    captured = capfd.readouterr()
    return caught.value.code, captured.out, captured.err


def run_train(capfd, *arguments):
    defaults = (f"--model_name={training_toys.TINY}", "--train_image_size=8", "--batch_size=4", "--num_epochs=2")
    return run_here(capfd, train_image_classifier.main, TrainConfig, *defaults, *arguments)


def change_records(path, change):
    pictures = list(training_toys.pictures(training_toys.TRAIN_COUNT, 0, 3))
    change(pictures)
    records.write_examples(path, pictures)


def truncated(directory):
    path = directory / "toy_train.tfrecord"
    path.write_bytes(path.read_bytes()[:-7])
    return "toy_train.tfrecord, record 21 .*the record is cut short"


def label_out_of_range(directory):
    def change(pictures):
        pictures[5] = (*pictures[5][:2], 7, 8, 8)

    change_records(directory / "toy_train.tfrecord", change)
    return "toy_train.tfrecord, record 5 .*label 7 is out of range; expected 0 to 2"


def undecodable(directory):
    def change(pictures):
        pictures[3] = (pictures[3][0][:40], *pictures[3][1:])

    change_records(directory / "toy_train.tfrecord", change)
    return "toy_train.tfrecord, record 3 .*the image does not decode"


def wrong_count(directory):
    path = directory / "dataset.json"
    path.write_text(path.read_text(encoding="utf-8").replace("22", "23"), encoding="utf-8")
    return "found 22 records in the 'train' split of 'toy' .*expected 23 by .*dataset.json"


def missing_folder(directory):
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    return "data directory .* does not exist"


def no_records(directory):
    (directory / "toy_train.tfrecord").unlink()
    return "no file in .* matches 'toy_train.tfrecord'"


@pytest.mark.parametrize("spoil", [truncated, label_out_of_range, undecodable, wrong_count, missing_folder, no_records])
def test_bad_data_is_one_line_and_status_1(tmp_path, capfd, spoil):
    directory = training_toys.make_dataset(tmp_path / "toy")
    message = spoil(directory)
    capfd.readouterr()
    status, _, err = run_train(capfd, f"--dataset_dir={directory}", f"--train_dir={tmp_path / 'run'}")
    assert status == 1
    assert re.fullmatch(rf"error: .*{message}.*\n", err)


def test_other_errors_are_one_line_and_status_1(toy_dir, tmp_path, capfd):
    data, folder = f"--dataset_dir={toy_dir}", f"--train_dir={tmp_path / 'run'}"
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for arguments, message in [
        ([folder, data, "--model_name=resnet_v9"], "unknown network 'resnet_v9'; known: .*resnet_v2_50"),
        ([data, f"--train_dir={tmp_path / 'file'}"], r"--train_dir .*/file is a file"),
        ([data, f"--train_dir={tmp_path / 'file' / 'run'}"], r"Not a directory.*/file/run"),
        ([data, "--train_dir=/proc/nowhere/run"], "No such file or directory.*/proc/nowhere"),
        ([folder, data, "--num_epochs=inf"], "--num_epochs is inf, expected above 0 and finite"),
        ([folder, data, "--learning_rate=nan"], "--learning_rate is nan, expected above 0 and finite"),
        ([folder, data, "--seed=99999999999999999999"], "--seed is 99999999999999999999, expected at least 0"),
        ([folder, "--dataset_name=nosuch"], "unknown data set 'nosuch': known are digits"),
    ]:
        status, out, err = run_train(capfd, *arguments)
        assert (status, out) == (1, "")
        assert re.fullmatch(rf"error: .*{message}.*\n", err), err
    with RunFolder(tmp_path / "run"):
        status, out, err = run_train(capfd, data, folder)
    assert (status, out) == (1, "") and re.fullmatch("error: another run writes into .*\n", err)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model_nam=resnet_v2_50"], "Unrecognized options: --model_nam"),
        (["--batch_size=many"], "many"),
        (["--learning_rate_decay_type=cosinus"], "cosinus"),
        (["resnet_v2_50"], "resnet_v2_50"),
    ],
    ids=str,
)
def test_a_bad_command_line_is_status_2(capfd, arguments, told):
    status, out, err = run_here(capfd, train_image_classifier.main, TrainConfig, *arguments)
    assert status == 2
    assert told in out + err and "Traceback" not in err


def test_errors_of_the_evaluator(tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    for path, message in [
        (tmp_path / "empty", "no checkpoint in folder .*/empty"),
        (tmp_path / "nothing", "no checkpoint at .*/nothing"),
    ]:
        status, out, err = run_here(capfd, eval_image_classifier.main, EvalConfig, f"--checkpoint_path={path}")
        assert (status, out) == (1, "")
        assert re.fullmatch(rf"error: {message}.*\n", err)
    status, out, err = run_here(capfd, eval_image_classifier.main, EvalConfig)
    assert status == 2 and "checkpoint_path" in out + err


def test_a_result_that_cannot_be_written_is_an_error_but_the_run_stays(toy_dir, tmp_path, capfd):
    arguments = [f"--dataset_dir={toy_dir}", f"--train_dir={tmp_path / 'run'}", "--max_number_of_steps=1"]
    status, out, err = run_train(capfd, *arguments, "--json=/proc/nowhere/result.json")
    assert status == 1
    assert re.fullmatch(r"error: /proc/nowhere/result.json could not be written: .*\n", err)
    status, out, err = run_train(capfd, *arguments, f"--json={tmp_path / 'result.json'}")
    assert (status, err) == (0, "")
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["step"] == 1
    # No pace where no step was timed.
    assert f"checkpoint {tmp_path / 'run' / 'model.ckpt-1'}\n" in out


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of one megabyte: the tiny network fits once, not twice."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a disk, so that one can be full")
    yield folder
    # Lazily: the process keeps the file of the curves open.
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(toy_dir, small_disk, capfd):
    arguments = [f"--dataset_dir={toy_dir}", f"--train_dir={small_disk / 'run'}", "--eval_every_epochs=1"]
    status, out, err = run_train(capfd, *arguments)
    assert status == 1
    assert re.fullmatch(
        r"error: checkpoint .*/model.ckpt-11 could not be written: .*No space left on device; nothing was changed\n",
        err,
    )
    assert "step 6: test top-1" in out
    left = sorted(path.name for path in (small_disk / "run").iterdir() if not path.name.startswith("events."))
    checkpoint = ["model.ckpt-6.data-00000-of-00001", "model.ckpt-6.index"]
    noted = ["curves.jsonl", "evaluation.json", "evaluation.npz"]
    assert left == [".lock", "best", "checkpoint", *noted, *checkpoint, "model.json", "run.json"]
    assert training_toys.values_in(small_disk / "run" / "model.ckpt-6")["global_step"] == 6

    filled = small_disk / "run" / "fill"
    with pytest.raises(OSError), open(filled, "wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    status, out, err = run_train(capfd, *arguments)
    assert status == 1
    assert re.fullmatch(r"error: .*/model.json could not be written: .*No space left on device.*\n", err)
    filled.unlink()
    assert json.loads((small_disk / "run" / "model.json").read_text(encoding="utf-8"))["labels_offset"] == 0


@pytest.mark.parametrize("raised", ["ResourceExhaustedError", "KeyboardInterrupt", "OSError"])
def test_what_main_raises_becomes_a_line_and_a_status(capfd, raised):
    def main(config):
        if raised == "ResourceExhaustedError":
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore")
        raise {"KeyboardInterrupt": KeyboardInterrupt(), "OSError": OSError(28, "No space left", "x")}[raised]

    status, out, err = run_here(capfd, main, EvalConfig, "--checkpoint_path=x")
    expected = {
        "ResourceExhaustedError": (1, "no room left, on disk or in memory: OOM when allocating; make room"),
        "KeyboardInterrupt": (130, "interrupted\n"),
        "OSError": (1, "[Errno 28] No space left: 'x'\n"),
    }[raised]
    assert (status, out) == (expected[0], "")
    assert err.startswith(f"error: {expected[1]}") and err.count("\n") == 1


def test_a_bug_is_not_hidden(capfd):
    def main(config):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command_line.run(main, EvalConfig, args=["--checkpoint_path=x"])
