"""The script on a network small enough for a test. No test here asserts a time."""

import dataclasses
import json
import math
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import command_line
from benchmarks import engines, grid, isolation, measuring, printing, results, steps
from benchmarks import time_forward_backward as script
from benchmarks.time_forward_backward import TimingConfig
from nets import nets_factory

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


def test_by_its_path_from_another_folder(tmp_path):
    command = [sys.executable, SCRIPT, *TINY_FLAGS.split(), "--json", "out.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    # Of a machine that is busy there are warnings.
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines())
    check_lines(done.stdout)
    check_document(json.loads((tmp_path / "out.json").read_text()))
    assert [child.name for child in tmp_path.iterdir()] == ["out.json"]


def test_parameters_and_multiply_adds_are_those_of_the_paper():
    # At the network's own 32 pixels. 0.27 M parameters: arXiv:1512.03385, table 6.
    (configuration,) = grid.expand(TimingConfig(model="resnet_cifar_v1_20", batch_size="2", num_classes=10))
    setup, _ = steps.build_steps(configuration)
    assert setup.image_size == 32
    assert setup.parameters / 1e6 == pytest.approx(0.27, abs=0.005)
    assert setup.multiply_adds / 1e6 == pytest.approx(40.55, abs=0.01)


@pytest.fixture(scope="module")
def tiny_steps():
    return runs(TINY)


def runs(configuration):
    """{pass: function} of a configuration."""
    return {name: step.run for name, step in steps.build_steps(configuration)[1].items()}


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
    same_seed = runs(TINY)
    for gradient, same in zip(first, gradients(same_seed), strict=True):
        np.testing.assert_array_equal(gradient, same)
    other_seed = runs(dataclasses.replace(TINY, seed=1))
    assert np.abs(first[0] - gradients(other_seed)[0]).max() > 0


def test_bfloat16_rounds(tiny_steps):
    rounded_steps = runs(dataclasses.replace(TINY, precision="bfloat16"))
    exact, rounded = float(tiny_steps["forward_backward"]()[0]), float(rounded_steps["forward_backward"]()[0])
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.1)


def test_a_training_step_moves_the_weights():
    step = runs(dataclasses.replace(TINY, passes=("train_step",)))["train_step"]
    losses = [float(step()["loss"]) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]


@pytest.fixture(scope="module")
def first_logits():
    """Of a network whose norms have not seen a batch."""
    return np.asarray(runs(TINY)["forward"]())


def test_norms_of_training_use_the_batch(first_logits):
    configuration = dataclasses.replace(TINY, passes=("forward",), forward_mode="training")
    logits = runs(configuration)["forward"]()
    assert np.abs(logits - first_logits).max() > 1e-3


@pytest.mark.parametrize("engine", ["tensorflow", "xla", "onnxruntime", "openvino"])
def test_a_folded_network_computes_the_same_in_every_engine(engine, first_logits):
    if engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine, reason="needs slim-resnets[onnx,openvino]")
    configuration = dataclasses.replace(TINY, passes=("forward",), engine=engine, folded=True)
    step = steps.build_steps(configuration)[1]["forward"]
    step.prepare()
    logits = np.asarray(step.run()).reshape([2, 10])
    np.testing.assert_allclose(logits, first_logits, rtol=1e-4, atol=1e-4)


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
    class Listener(printing.Reporter):
        heard = []

        def step(self, pass_name, index, step_seconds):
            self.heard.append((pass_name, index))

    configuration = dataclasses.replace(TINY, num_batches=2, burn_in=0)
    measured = measuring.time_configuration(configuration, Listener())
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


def test_other_errors_are_no_rows(fake_steps, monkeypatch):
    def build(configuration):
        raise RuntimeError("something else")

    monkeypatch.setattr(steps, "build_steps", build)
    with pytest.raises(RuntimeError, match="something else"):
        measuring.time_configuration(TINY)


def test_a_step_returns_when_its_result_is_there():
    events = []

    def slow(value):
        time.sleep(0.3)
        events.append("done")
        return value

    function = tf.function(lambda value: tf.numpy_function(slow, [value], tf.float32))
    run_step = engines.make_step(lambda: function(1.0))
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
    measuring.time_configuration(dataclasses.replace(TINY, num_batches=2, burn_in=0), Listener())
    first_pass, second_pass = Listener.calls_when_timed[:2], Listener.calls_when_timed[2:]
    assert first_pass[0] == first_pass[1] == 1
    assert second_pass[0] == second_pass[1] == 2


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
    assert run(f"{TINY_FLAGS} --pass forward --batch_size 2,4,3 --isolate --no_peak --json {path}") == 0
    rows = json.loads(path.read_text())["results"]
    assert [(row["batch_size"], len(row["step_seconds"]), row.get("error")) for row in rows] == [
        (2, 3, None),
        (4, 0, "out of memory: the process was killed by SIGKILL"),
        (3, 3, None),
    ]
    out = capfd.readouterr().out
    assert len(re.findall(f"^{TIMESTAMP}: Forward across 3 steps, ", out, re.M)) == 2


def test_what_was_timed_before_a_process_was_killed_is_kept(tmp_path, monkeypatch):
    setup = results.Setup("fake", "tensorflow", "float32", 2, 16, 10, 1, 1)
    kept = tmp_path / "kept"
    kept.write_bytes(pickle.dumps([results.Result(setup, "forward", 1, (0.5,))]))
    die = f"import os, shutil, sys; shutil.copy({str(kept)!r}, sys.argv[1]); os.kill(os.getpid(), 9)"
    real_run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command: real_run([sys.executable, "-c", die, command[-1]]))
    forward, both = isolation.measure(TINY, printing.Reporter())
    assert (forward.pass_name, forward.step_seconds) == ("forward", (0.5,))
    assert (both.pass_name, both.error) == ("forward_backward", "out of memory: the process was killed by SIGKILL")


def test_an_isolated_process_that_fails_ends_the_run(capfd, tmp_path):
    assert run(f"--model resnet_cifar_v1_20 --dataset_name cifar10 --dataset_dir {tmp_path} --isolate") == 1
    err = capfd.readouterr().err
    assert "ended with status 1; see its error above" in err
    assert "Traceback" not in err


def test_images_of_a_data_set_are_preprocessed_before_the_clock_starts(capsys, tmp_path):
    path = tmp_path / "digits.json"
    assert run(f"--model resnet_cifar_v1_20 --dataset_name digits --batch_size 2 --num_batches 2 --json {path}") == 0
    assert "resnet_cifar_v1_20, batch 2, 32 x 32, float32, 10 classes, images of digits;" in capsys.readouterr().out
    assert {result["dataset"] for result in json.loads(path.read_text())["results"]} == {"digits"}


def test_a_data_set_that_is_not_there(capsys):
    assert run("--model resnet_cifar_v1_20 --dataset_name cifar10") == 1
    assert "give the directory that holds its records" in capsys.readouterr().err
