"""The script on a network small enough for a test. No test here asserts a time."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import command_line
from benchmarks import engines, grid, measuring, printing, results, roofline, steps
from benchmarks import time_forward_backward as script
from benchmarks.time_forward_backward import TimingConfig

SCRIPT = Path(script.__file__)
TINY = grid.Configuration(
    model="resnet_cifar_v1_20",
    engine="tensorflow",
    precision="float32",
    batch_size=2,
    image_size=16,
    num_classes=10,
    num_batches=3,
    burn_in=1,
)
TINY_FLAGS = "--model resnet_cifar_v1_20 --batch_size 2 --image_size 16 --num_batches 3 --burn_in 1 --num_classes 10"

TIMESTAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"
SECONDS = r"\d+\.\d{3}"


def run(flags):
    """Runs the script in this process; returns its exit status."""
    with pytest.raises(SystemExit) as exit_info:
        command_line.run(script.main, TimingConfig, flags.split())
    return exit_info.value.code


def check_lines(text):
    lines = text.splitlines()
    assert lines[0].startswith("# resnet_cifar_v1_20, batch 2, 16 x 16, float32, 10 classes; ")
    for label, printed in (("Forward", lines[1:4]), ("Forward-backward", lines[4:7])):
        assert re.fullmatch(f"{TIMESTAMP}: step 0, duration = {SECONDS}", printed[0])
        across = f"{TIMESTAMP}: {label} across 3 steps, {SECONDS} \\+/- {SECONDS} sec / batch"
        assert re.fullmatch(across, printed[1])
        assert printed[2].startswith(f"# {label}: n 3 after 1 of burn-in, median ")
        assert re.search(r"images/s, [\d.]+ GFLOP/s", printed[2])
    assert lines[7].startswith("# this machine: ")
    assert [line.split()[1] for line in lines[8:]] == ["times"] * 3 + ["speed"] * 3
    assert [line.split()[4] for line in lines[8:]] == ["pass", "forward", "forward_backward"] * 2


def check_document(document):
    assert document.keys() == {"environment", "peaks", "results"}
    assert [peak["precision"] for peak in document["peaks"]] == ["float32"]
    assert all(peak["gigaflops_per_second"] > 0 < peak["gigabytes_per_second"] for peak in document["peaks"])
    assert document["environment"]["versions"]["tensorflow"] == tf.__version__
    assert [result["pass"] for result in document["results"]] == ["forward", "forward_backward"]
    for result in document["results"]:
        expected = {
            "model": "resnet_cifar_v1_20",
            "engine": "tensorflow",
            "precision": "float32",
            "batch_size": 2,
            "image_size": 16,
            "num_classes": 10,
            "burn_in": 1,
            "forward_mode": "inference",
            "folded": False,
        }
        assert result["prepare_seconds"] > 0 and result["first_step_seconds"] > 0
        assert {key: result[key] for key in expected} == expected
        step_seconds = result["step_seconds"]
        assert len(step_seconds) == 3
        assert all(seconds > 0 for seconds in step_seconds)
        statistics = result["statistics"]
        assert statistics["count"] == 3
        assert statistics["median"] == np.median(step_seconds)
        assert statistics["mean"] == pytest.approx(np.mean(step_seconds), rel=1e-12)
        assert statistics["standard_deviation"] == pytest.approx(np.std(step_seconds, ddof=1), rel=1e-9)
        assert (statistics["minimum"], statistics["maximum"]) == (min(step_seconds), max(step_seconds))


@pytest.mark.slow
def test_by_its_path_from_another_folder(tmp_path):
    command = [sys.executable, SCRIPT, *TINY_FLAGS.split(), "--json", "out.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    # Of a machine that is busy there are warnings.
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines())
    check_lines(done.stdout)
    check_document(json.loads((tmp_path / "out.json").read_text()))
    assert [child.name for child in tmp_path.iterdir()] == ["out.json"]


@pytest.fixture
def fake_steps(monkeypatch):
    """Replaces the network by a counter; returns the list of pass names that grows with each step."""
    done = []

    def build(configuration):
        return results.Setup("fake", "tensorflow", "float32", configuration.batch_size, 16, 10, 1, 1), {
            name: engines.Step(lambda: None, lambda name=name: done.append(name)) for name in configuration.passes
        }

    monkeypatch.setattr(steps, "build_steps", build)
    return done


def test_one_step_comes_before_the_burn_in(fake_steps):
    class Listener(printing.Printer):
        heard = []

        def step(self, pass_name, index, step_seconds):
            self.heard.append((pass_name, index))

    configuration = dataclasses.replace(TINY, num_batches=2, burn_in=0)
    measured = measuring.time_configuration(configuration, Listener.of(configuration))
    # The first call of each pass compiles; even without a burn-in it is not among the timed ones.
    assert fake_steps == ["forward"] * 3 + ["forward_backward"] * 3
    assert Listener.heard == [(name, index) for name in TINY.passes for index in (0, 1)]
    assert [len(result.step_seconds) for result in measured] == [2, 2]


def test_what_runs_out_of_memory_is_a_row_and_the_rest_goes_on(fake_steps, monkeypatch, capsys, tmp_path):
    build = steps.build_steps

    def exhaust():
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nmore")

    def build_small(configuration):
        if configuration.batch_size == 64:
            raise MemoryError
        setup, made = build(configuration)
        if configuration.batch_size == 32:
            made["forward_backward"] = engines.Step(exhaust, None)
        return setup, made

    monkeypatch.setattr(steps, "build_steps", build_small)
    path, table = tmp_path / "out.json", tmp_path / "out.csv"
    flags = f"{TINY_FLAGS} --batch_size 64,32,2 --no_peak --json {path} --csv {table}"
    assert run(flags) == 0
    rows = json.loads(path.read_text())["results"]
    assert [(row["batch_size"], row["pass"], len(row["step_seconds"])) for row in rows] == [
        (64, "forward", 0),
        (64, "forward_backward", 0),
        (32, "forward", 3),
        (32, "forward_backward", 0),
        (2, "forward", 3),
        (2, "forward_backward", 3),
    ]
    assert rows[3]["error"] == "out of memory: OOM when allocating tensor"
    out = capsys.readouterr().out
    assert "# Forward-backward of resnet_cifar_v1_20, batch 32, 16 x 16, float32, tensorflow: out of memory: OOM" in out
    assert sum("out_of_memory" in line for line in out.splitlines() if line.startswith("# times ")) == 3
    lines = [line for line in table.read_text().splitlines() if not line.startswith("# ")]
    assert len(lines) == 1 + 3 * 3 + 3
    assert sum(line.endswith(",out of memory: OOM when allocating tensor") for line in lines) == 1


def test_in_rounds_configurations_take_turns(fake_steps, monkeypatch, capsys, tmp_path):
    build = steps.build_steps
    built = []

    def build_and_note(configuration):
        built.append(configuration.batch_size)
        return build(configuration)

    monkeypatch.setattr(steps, "build_steps", build_and_note)
    path = tmp_path / "out.json"
    flags = f"{TINY_FLAGS} --batch_size 2,4 --pass forward --rounds 3 --no_peak --json {path}"
    assert run(flags) == 0
    assert built == [2, 4] * 3
    for row in json.loads(path.read_text())["results"]:
        assert (len(row["step_seconds"]), row["round_steps"], row["statistics"]["count"]) == (9, [3, 3, 3], 9)
        assert [len(turn) for turn in results.from_json(row).rounds] == [3, 3, 3]
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("# round ")] == [
        f"# round {n} of 3" for n in (1, 2, 3)
    ]


def test_what_fails_in_a_round_is_a_row_that_says_so(fake_steps):
    setup, _ = steps.build_steps(TINY)
    turns = iter(
        [
            results.Result(setup, "forward", 1, (1.0, 2.0), 3.0, 4.0, 100, 0.01),
            results.Failure(TINY, "train_step", "out of memory: first"),
            results.Result(setup, "forward", 1, (3.0,), 5.0, 8.0, 200, 0.0),
            results.Result(setup, "train_step", 1, (9.0,)),
        ]
    )
    printer = printing.Printer.of(TINY)
    forward, step = measuring.time_rounds([TINY], 2, printer, lambda *_: [next(turns), next(turns)])
    assert (forward.step_seconds, forward.round_steps) == ((1.0, 2.0, 3.0), (2, 1))
    assert forward.rounds == [(1.0, 2.0), (3.0,)]
    assert (forward.prepare_seconds, forward.first_step_seconds) == (4.0, 6.0)
    assert (forward.peak_memory_bytes, forward.others_share) == (200, 0.01)
    # The deviation of 1, 2 and 3 is 1: half of the median.
    assert [warning.partition(" of")[0] for warning in forward.warnings] == ["the deviation is 50%"]
    assert step.error == "out of memory: first"


def test_other_errors_are_no_rows(fake_steps, monkeypatch):
    def build(configuration):
        raise RuntimeError("something else")

    monkeypatch.setattr(steps, "build_steps", build)
    with pytest.raises(RuntimeError, match="something else"):
        measuring.time_configuration(TINY, printing.Printer.of(TINY))


def test_interrupted(fake_steps, monkeypatch, capsys, tmp_path):
    setup, made = steps.build_steps(TINY)

    def interrupted():
        if len(fake_steps) == 5:
            raise KeyboardInterrupt
        fake_steps.append("forward")

    made["forward"] = engines.Step(lambda: None, interrupted)
    monkeypatch.setattr(steps, "build_steps", lambda configuration: (setup, made))
    path = tmp_path / "out.json"
    path.write_text("previous")
    assert run(f"--burn_in 2 --json {path}") == 130
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("# interrupted: Forward across 2 of 100 steps, ")
    assert err.endswith("error: interrupted\n")
    assert path.read_text() == "previous"
    assert [one.name for one in tmp_path.iterdir()] == ["out.json"]


def test_finished_rows_outlive_an_interruption(fake_steps, monkeypatch, capsys, tmp_path):
    """The second of two passes is interrupted."""
    setup, made = steps.build_steps(TINY)

    def interrupted():
        raise KeyboardInterrupt

    first, second = made
    made[second] = engines.Step(lambda: None, interrupted)
    monkeypatch.setattr(steps, "build_steps", lambda configuration: (setup, made))
    path = tmp_path / "out.json"
    assert run(f"--num_batches 3 --burn_in 0 --json {path}") == 130
    kept = json.loads((tmp_path / "out.unfinished.json").read_text())["results"]
    assert [(row["pass"], len(row["step_seconds"])) for row in kept] == [(first, 3)] and not path.exists()
    assert f"1 finished rows are in {tmp_path / 'out.unfinished.json'}" in capsys.readouterr().err


def test_steps_outlive_an_interruption_while_the_peak_is_measured(fake_steps, monkeypatch, tmp_path):
    def interrupted(precision):
        raise KeyboardInterrupt

    monkeypatch.setattr(roofline, "measure_peak", interrupted)
    path = tmp_path / "out.json"
    assert run(f"--num_batches 3 --burn_in 0 --pass forward --json {path}") == 130
    (row,) = json.loads((tmp_path / "out.unfinished.json").read_text())["results"]
    assert len(row["step_seconds"]) == 3 and not path.exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--num_batches 0", "--num_batches is 0"),
        ("--burn_in -1", "--burn_in is -1"),
        ("--batch_size 0", "--batch_size is 0"),
        ("--image_size 0", "--image_size is 0"),
        ("--num_classes 0", "--num_classes is 0"),
        ("--image_size 32,large", "--image_size is 32,large"),
        ("--seconds 0", "--seconds is 0"),
        ("--rounds 0", "--rounds is 0"),
        ("--intra_op_threads -1", "--intra_op_threads is -1"),
        ("--precision float64", "bfloat16"),
        ("--engine tensorflow,tpu", "--engine has 'tpu'"),
        ("--pass backward", "forward_backward"),
        ("--pass train_step --folded", "a folded network computes the forward pass only"),
        ("--pass train_step --engine xla", "--engine xla computes the forward pass only"),
        ("--forward_mode training --engine openvino", "--forward_mode training needs norms"),
        ("--engine onnxruntime --precision bfloat16 --model resnet_cifar_v1_20", "--engine=onnxruntime has no"),
        ("--model vgg_*", "resnet_v2_50"),
        ("--fail_on_regression 5", "--compare A.json B.json"),
        ("--json /no/such/folder/out.json", "/no/such/folder"),
        ("--csv /no/such/folder/out.csv", "/no/such/folder"),
        ("--model resnet_v9_50", "resnet_v2_50"),
    ],
)
def test_a_bad_flag_is_one_line_and_status_1(capsys, flags, complaint):
    assert run(flags) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ")
    assert complaint in line


def test_images_of_a_data_set_are_preprocessed_before_the_clock_starts(capsys, tmp_path):
    path = tmp_path / "digits.json"
    assert run(f"--model resnet_cifar_v1_20 --dataset_name digits --batch_size 2 --num_batches 2 --json {path}") == 0
    assert "resnet_cifar_v1_20, batch 2, 32 x 32, float32, 10 classes, images of digits;" in capsys.readouterr().out
    assert {result["dataset"] for result in json.loads(path.read_text())["results"]} == {"digits"}


def test_a_data_set_that_is_not_there(capsys):
    assert run("--model resnet_cifar_v1_20 --dataset_name cifar10") == 1
    assert "give the directory that holds its records" in capsys.readouterr().err
