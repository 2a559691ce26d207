"""Processes that take turns: what is made of what they print, and that they compute the same."""

import json
import subprocess
import sys

import numpy as np
import pytest

import command_line
from benchmarks import compare_processes as script
from benchmarks import process_turn
from benchmarks.compare_processes import ProcessesConfig
from command_line import UserError

REQUEST = {"settings": {"model_name": "fake"}, "image_size": 8, "batch_size": 2, "precision": "float32", "steps": 3}
MIB = 2**20


def turns_of(**turns):
    """A `run_turn` whose processes print what a test wants, and the list of who was started."""
    started, printed = [], {name: iter(of_one) for name, of_one in turns.items()}

    def run(request):
        started.append(request["contestant"])
        turn = next(printed[request["contestant"]])
        if isinstance(turn, Exception):
            raise turn
        return turn

    return run, started


def starts(*seconds, value=(1.0, -4.0)):
    return [{"value": value, "seconds": each} for each in seconds]


def test_processes_take_turns_and_the_first_round_is_not_counted():
    run, started = turns_of(slim_resnets=starts(9.0, 2.0, 3.0, 6.0), keras=starts(1.0, 4.0, 4.0, 6.0))
    (measured,) = script.compare("start", ["slim_resnets", "keras"], REQUEST, 3, {}, run)
    assert started == ["slim_resnets", "keras"] * 4
    assert measured.values == {"slim_resnets": [2.0, 3.0, 6.0], "keras": [4.0, 4.0, 6.0]}
    (ratio,) = measured.ratios
    assert (ratio.label, ratio.per_round, ratio.median) == ("slim_resnets over keras", (0.5, 0.75, 1.0), 0.75)
    assert measured.agreements["keras"].difference == 0
    assert json.loads(json.dumps(measured.to_json()))["unit"] == "s"


def test_memory_in_all_and_above_the_imports():
    def turns(imports, *peaks):
        return [{"value": 2.5, "imports": imports * MIB, "peak": peak * MIB} for peak in peaks]

    run, _ = turns_of(slim_resnets=turns(500, 1, 900, 1100), torch=turns(200, 1, 1000, 1000))
    total, above = script.compare("memory", ["slim_resnets", "torch"], REQUEST, 2, {}, run)
    assert total.values == {"slim_resnets": [900, 1100], "torch": [1000, 1000]}
    assert above.values == {"slim_resnets": [400, 600], "torch": [800, 800]}
    assert above.ratios[0].per_round == (0.5, 0.75)
    assert total.setup["steps"] == 3 and above.unit == "MiB"


def test_who_fails_or_computes_something_else_is_left_out():
    # 0.004 of the largest value, 4, are 0.001.
    run, started = turns_of(
        slim_resnets=starts(1.0, 1.0),
        keras=[UserError("the process of keras ended with status 1: no keras")],
        keras_predict=starts(1.0, value=(1.004, -4.0)),
    )
    names = ["slim_resnets", "keras", "keras_predict", "other"]
    (measured,) = script.compare("start", names, REQUEST, 1, {"other": "has no such network"}, run)
    assert list(measured.values) == ["slim_resnets"] and measured.ratios == ()
    assert measured.missing["other"] == "has no such network"
    assert measured.missing["keras"].endswith("no keras")
    assert measured.missing["keras_predict"].startswith("computes something else; differs by 0.001 of the largest")
    assert started == ["slim_resnets", "keras", "keras_predict", "slim_resnets"]


def test_nothing_is_compared_without_this_zoo():
    run, _ = turns_of(slim_resnets=[UserError("ended with status 1: broken")], keras=starts(1.0))
    with pytest.raises(UserError, match="broken"):
        script.compare("start", ["slim_resnets", "keras"], REQUEST, 1, {}, run)


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ('import json, sys; print(json.dumps({"value": json.loads(sys.argv[1])["steps"]})); sys.stderr.write("x")', 3),
        ("raise SystemExit('first\\nno room')", "process of a ended with status 1: no room"),
        ("pass", "process of a ended with status 0"),
    ],
)
def test_a_process_and_its_error(tmp_path, monkeypatch, program, outcome):
    path = tmp_path / "program.py"
    path.write_text(program)
    monkeypatch.setattr(process_turn, "__file__", str(path))
    if isinstance(outcome, int):
        turn = script.run_turn({"contestant": "a", "steps": 3})
        assert turn["value"] == outcome and 0 < turn["seconds"] < 60
    else:
        with pytest.raises(UserError, match=outcome):
            script.run_turn({"contestant": "a"})


def run(flags):
    """Runs the script in this process; returns its exit status."""
    with pytest.raises(SystemExit) as ending:
        command_line.run(script.main, ProcessesConfig, flags.split())
    return ending.value.code


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--measure disk", "--measure has 'disk'"),
        ("--peers caffe", "--peers has 'caffe'"),
        ("--rounds 0", "--rounds is 0"),
        ("--steps 0", "--steps is 0"),
        ("--model resnet_v9_50", "resnet_v2_50"),
        ("--json /no/such/folder/out.json", "/no/such/folder"),
    ],
)
def test_a_bad_flag_is_one_line_and_status_1(capsys, flags, complaint):
    assert run(flags) == 1
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert out == "" and line.startswith("error: ") and complaint in line


@pytest.mark.slow
def test_the_script(tmp_path, capsys):
    pytest.importorskip("torch", reason="needs slim-resnets[torch]")
    path = tmp_path / "processes.json"
    tiny = "--image_size 64 --batch_size 2 --num_classes 10 --steps 2 --rounds 1"
    assert run(f"--model resnet_v2_50 {tiny} --json {path}") == 0
    start, total, above = json.loads(path.read_text())["results"]
    assert start["values"].keys() == {"slim_resnets", "keras", "keras_predict"} and not start["missing"]
    assert total["values"].keys() == above["values"].keys() == {"slim_resnets", "torch"} and not total["missing"]
    # Of a network of 23.5 M parameters a step holds the weights, their gradients and momenta: 270 MiB and more.
    assert all(value > 270 for values in above["values"].values() for value in values)
    assert all(total["values"][name][0] > above["values"][name][0] for name in total["values"])
    assert "start to first prediction: slim_resnets over keras: " in capsys.readouterr().out


@pytest.mark.slow
def test_pytorch_is_measured_without_tensorflow_in_its_process(tmp_path):
    pytest.importorskip("torch", reason="needs slim-resnets[torch]")
    config = ProcessesConfig(model="resnet_cifar_v1_20", batch_size=2, num_classes=10)
    request, _ = script.prepare(config, str(tmp_path), with_keras=False)
    program = (
        "import json, sys; from benchmarks import process_turn; process_turn.main(json.loads(sys.argv[1])); "
        "assert 'torch' in sys.modules and 'tensorflow' not in sys.modules"
    )
    request |= {"measure": "memory", "contestant": "torch"}
    done = subprocess.run([sys.executable, "-c", program, json.dumps(request)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.isfinite(json.loads(done.stdout)["value"])
