"""The script on a network small enough for a test. No test here asserts a time."""

import dataclasses
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import command_line
from benchmarks import printing, results
from benchmarks import time_forward_backward as script
from benchmarks.time_forward_backward import TimingConfig
from nets import nets_factory
from training import devices

SCRIPT = Path(script.__file__)
TINY = TimingConfig(model="resnet_cifar_v1_20", batch_size=2, image_size=16, num_batches=3, burn_in=1, num_classes=10)
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
    assert len(lines) == 7


def check_document(document):
    assert document.keys() == {"environment", "results"}
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
        }
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


def test_by_its_path_from_another_folder(tmp_path):
    command = [sys.executable, SCRIPT, *TINY_FLAGS.split(), "--json", "out.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    check_lines(done.stdout)
    check_document(json.loads((tmp_path / "out.json").read_text()))
    assert [child.name for child in tmp_path.iterdir()] == ["out.json"]


def test_parameters_and_multiply_adds_are_those_of_the_paper():
    # At the network's own 32 pixels. 0.27 M parameters: arXiv:1512.03385, table 6.
    setup, _ = script.build_steps(TimingConfig(model="resnet_cifar_v1_20", batch_size=2, num_classes=10))
    assert setup.image_size == 32
    assert setup.parameters / 1e6 == pytest.approx(0.27, abs=0.005)
    assert setup.multiply_adds / 1e6 == pytest.approx(40.55, abs=0.01)


@pytest.fixture(scope="module")
def tiny_steps():
    return script.build_steps(TINY)[1]


def test_what_the_steps_compute(tiny_steps):
    logits = tiny_steps["forward"]()
    assert logits.shape == (2, 10)
    np.testing.assert_array_equal(logits, tiny_steps["forward"]())
    loss, gradients = tiny_steps["forward_backward"]()
    assert math.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert max(np.abs(gradient).max() for gradient in gradients) > 0
    # No update: the same step gives the same gradients, though batch norm saw a batch in between.
    _, again = tiny_steps["forward_backward"]()
    for gradient, same in zip(gradients, again, strict=True):
        np.testing.assert_array_equal(gradient, same)


def test_the_seed_decides_the_numbers(tiny_steps):
    def gradients(steps):
        return steps["forward_backward"]()[1]

    first = gradients(tiny_steps)
    _, same_seed = script.build_steps(TINY)
    for gradient, same in zip(first, gradients(same_seed), strict=True):
        np.testing.assert_array_equal(gradient, same)
    _, other_seed = script.build_steps(dataclasses.replace(TINY, seed=1))
    assert np.abs(first[0] - gradients(other_seed)[0]).max() > 0


def test_auto_is_stated_and_used_as_what_the_device_choice_makes_it(tiny_steps, monkeypatch):
    monkeypatch.setattr(devices, "resolve_precision", {"auto": "bfloat16"}.get)
    setup, steps = script.build_steps(dataclasses.replace(TINY, precision="auto"))
    assert setup.precision == "bfloat16"
    exact, rounded = float(tiny_steps["forward_backward"]()[0]), float(steps["forward_backward"]()[0])
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.1)


@pytest.fixture
def fake_steps(monkeypatch):
    """Replaces the network by a counter; returns the list of pass names that grows with each step."""
    setup = results.Setup("fake", "tensorflow", "float32", 2, 16, 10, 1, 1)
    done = []
    steps = {name: lambda name=name: done.append(name) for name in results.PASSES}
    monkeypatch.setattr(script, "build_steps", lambda config: (setup, steps))
    return done


def test_one_step_comes_before_the_burn_in(fake_steps):
    class Listener(printing.Reporter):
        heard = []

        def step(self, pass_name, index, step_seconds):
            self.heard.append((pass_name, index))

    measured = script.time_network(TimingConfig(num_batches=2, burn_in=0), Listener())
    # The first call of each pass traces it; even without a burn-in it is not among the timed ones.
    assert fake_steps == ["forward"] * 3 + ["forward_backward"] * 3
    assert Listener.heard == [(name, index) for name in results.PASSES for index in (0, 1)]
    assert [len(result.step_seconds) for result in measured] == [2, 2]


def test_a_step_returns_when_its_result_is_there():
    events = []

    def slow(value):
        time.sleep(0.3)
        events.append("done")
        return value

    function = tf.function(lambda value: tf.numpy_function(slow, [value], tf.float32))
    run_step = script.make_step(lambda: function(1.0))
    # On a CPU only this mode returns before the work is done, as a GPU always does.
    tf.config.experimental.set_synchronous_execution(False)
    try:
        run_step()
        events.append("returned")
    finally:
        tf.config.experimental.set_synchronous_execution(True)
    assert events == ["done", "returned"]


def test_nothing_is_traced_on_the_clock(monkeypatch):
    create_model = nets_factory.create_model
    traced = []

    class CountingModel:
        def __init__(self, model):
            self._model = model

        def __call__(self, *args, **kwargs):
            traced.append(None)
            return self._model(*args, **kwargs)

        def __getattr__(self, name):
            return getattr(self._model, name)

    class Listener(printing.Reporter):
        calls_when_timed = []

        def step(self, pass_name, index, step_seconds):
            self.calls_when_timed.append(len(traced))

    monkeypatch.setattr(nets_factory, "create_model", lambda *a, **k: CountingModel(create_model(*a, **k)))
    script.time_network(dataclasses.replace(TINY, num_batches=2, burn_in=0), Listener())
    first_pass, second_pass = Listener.calls_when_timed[:2], Listener.calls_when_timed[2:]
    assert first_pass[0] == first_pass[1] == 1
    assert second_pass[0] == second_pass[1] == 2


def test_interrupted(fake_steps, monkeypatch, capsys, tmp_path):
    setup, steps = script.build_steps(TINY)

    def interrupted():
        if len(fake_steps) == 5:
            raise KeyboardInterrupt
        fake_steps.append("forward")

    monkeypatch.setattr(script, "build_steps", lambda config: (setup, {**steps, "forward": interrupted}))
    path = tmp_path / "out.json"
    path.write_text("previous")
    assert run(f"--burn_in 2 --json {path}") == 130
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("# interrupted: Forward across 2 of 100 steps, ")
    assert err == "error: interrupted\n"
    assert path.read_text() == "previous"


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--num_batches 0", "--num_batches is 0"),
        ("--burn_in -1", "--burn_in is -1"),
        ("--batch_size 0", "--batch_size is 0"),
        ("--image_size 0", "--image_size is 0"),
        ("--num_classes 0", "--num_classes is 0"),
        ("--json /no/such/folder/out.json", "/no/such/folder"),
        ("--model resnet_v9_50", "resnet_v2_50"),
    ],
)
def test_a_bad_flag_is_one_line_and_status_1(capsys, flags, complaint):
    assert run(flags) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert complaint in err
    assert err.count("\n") == 1


def test_a_precision_that_is_none_is_a_bad_command_line(capsys):
    assert run("--precision float64") == 2
    assert "bfloat16" in capsys.readouterr().err


def test_images_of_a_data_set_are_preprocessed_before_the_clock_starts(capsys, tmp_path):
    path = tmp_path / "digits.json"
    assert run(f"--model resnet_cifar_v1_20 --dataset_name digits --batch_size 2 --num_batches 2 --json {path}") == 0
    assert "resnet_cifar_v1_20, batch 2, 32 x 32, float32, 10 classes, images of digits;" in capsys.readouterr().out
    assert {result["dataset"] for result in json.loads(path.read_text())["results"]} == {"digits"}


def test_a_data_set_that_is_not_there(capsys):
    assert run("--model resnet_cifar_v1_20 --dataset_name cifar10") == 1
    assert "give the directory that holds its records" in capsys.readouterr().err
