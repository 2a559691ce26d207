"""The same network in several systems: whether it is the same, and what is told of those that are not."""

import json
import types

import numpy as np
import pytest

import command_line
from benchmarks import compare_peers as script
from benchmarks import grid, peer_rounds, peers
from benchmarks.compare_peers import PeersConfig
from command_line import UserError

TINY = "--batch_size 2 --num_classes 10 --rounds 2 --seconds 0 --burn_in_seconds 0"
LOGITS = np.array([[1.0, 2.0, -4.0], [3.0, 1.0, 2.0]], np.float32)


def run(flags):
    """Runs the script in this process; returns its exit status."""
    with pytest.raises(SystemExit) as exit_info:
        command_line.run(script.main, PeersConfig, flags.split())
    return exit_info.value.code


def contestants_of(model, pass_name, names, image_size=None):
    """First results of contestants, with norms that have seen something."""
    config = PeersConfig(model=model, batch_size=2, num_classes=10, image_size=image_size)
    task = peer_rounds.make_task(config, pass_name)
    random = np.random.default_rng(1)
    for name, variable in task.model.variables_by_name.items():
        if name.endswith("moving_mean") or name.endswith("beta"):
            variable.assign(random.normal(0, 0.1, variable.shape))
        elif name.endswith("moving_variance") or name.endswith("gamma"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    made = [peers.CONTESTANTS[name](task) for name in names]
    return [contestant.value(contestant.step()) for contestant in made]


CIFAR = ["resnet_cifar_v1_20", "resnet_cifar_v2_20"]
IMAGENET = ["resnet_v1_18", "resnet_v1_50", "resnet_v1_5_50", "resnet_v2_18", "resnet_v2_50"]


@pytest.mark.parametrize("pass_name", ["forward", "train_step"])
@pytest.mark.parametrize("model", [*CIFAR, *(pytest.param(name, marks=pytest.mark.slow) for name in IMAGENET)])
def test_the_network_in_pytorch_is_the_same(model, pass_name):
    pytest.importorskip("torch", reason="needs slim-resnets[torch]")
    # An even size and an odd one: both ways to pad a pool.
    for image_size in (32,) if model in CIFAR else (64, 65):
        ours, theirs = contestants_of(model, pass_name, ["slim_resnets", "torch"], image_size)
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max()
        assert np.isfinite(ours).all() and np.abs(ours).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("pass_name", ["forward", "train_step"])
@pytest.mark.parametrize("model", ["resnet_v1_50", "resnet_v2_50"])
def test_the_network_in_keras_is_the_same(model, pass_name):
    ours, theirs = contestants_of(model, pass_name, ["slim_resnets", "keras"], 64)
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(ours).max()


def test_a_difference_as_a_part_of_the_largest_value():
    actual = LOGITS.copy()
    actual[1, 2] = 3.2
    # 1.2 of 4; of the second image the last class is now the most probable.
    found = peer_rounds.agreement(LOGITS, actual)
    assert (found.difference, found.top_1) == (pytest.approx(0.3), 0.5)
    assert peer_rounds.agreement(np.float32(2.0), np.float32(1.0)) == peer_rounds.Agreement(0.5, None)


@pytest.fixture
def fake(monkeypatch):
    """Contestants that give what a test wants: a dict of name -> function of no arguments, called for each step."""
    steps = {"slim_resnets": lambda: LOGITS}
    configuration = grid.Configuration("fake", "tensorflow", "float32", 2, 32, 3)
    monkeypatch.setattr(peer_rounds, "make_task", lambda *args: types.SimpleNamespace(configuration=configuration))

    def contestant(name):
        def make(task):
            if isinstance(steps[name], Exception):
                raise steps[name]
            return peers.Contestant(steps[name], np.asarray)

        return make

    monkeypatch.setattr(peers, "CONTESTANTS", {name: contestant(name) for name in ("slim_resnets", *peer_rounds.PEERS)})
    return steps


def fail():
    raise RuntimeError("no compiler\nmore")


def test_what_is_missing_or_another_network_is_named_and_the_rest_goes_on(fake):
    fake["keras"] = UserError("has no such network")
    fake["torch"] = ImportError("no torch")
    fake["torch_compile"] = fail
    fake["onnxruntime"] = lambda: LOGITS + np.float32(0.001)
    fake["openvino"] = lambda: LOGITS * np.float32(1.00001)
    config = PeersConfig(rounds=3, seconds=0.0, burn_in_seconds=0.0, batch_size=2)
    measured = peer_rounds.measure(config, "forward", [name for name in peer_rounds.PEERS if name in fake])
    assert measured.missing.keys() == {"keras", "torch", "torch_compile", "onnxruntime"}
    assert measured.missing["keras"] == "has no such network"
    assert measured.missing["torch"] == "no torch"
    assert measured.missing["torch_compile"] == "failed: RuntimeError: no compiler"
    # 0.001 of 4.
    assert measured.missing["onnxruntime"].startswith("computes something else; differs by 0.00025 of the largest")
    assert {name: len(rates) for name, rates in measured.rates.items()} == {"slim_resnets": 3, "openvino": 3}
    (ratio,) = measured.ratios
    ours, theirs = measured.rates.values()
    assert ratio.label == "slim_resnets over openvino"
    assert ratio.per_round == pytest.approx(np.divide(ours, theirs))
    lines = list(script.describe(measured))
    assert lines[1] == "# forward: without keras: has no such network"
    assert lines[-2].startswith("forward: openvino: median ") and lines[-2].endswith("top-1 the same for 100%")


def test_one_that_cannot_be_made_is_named_unless_it_is_ours(fake):
    fake["keras"] = ValueError("Input size must be at least 32x32\nmore")
    config = PeersConfig(rounds=1, seconds=0.0, burn_in_seconds=0.0)
    measured = peer_rounds.measure(config, "forward", ["keras"])
    assert measured.missing == {"keras": "failed: ValueError: Input size must be at least 32x32"}
    fake["slim_resnets"] = ValueError("ours")
    with pytest.raises(ValueError, match="ours"):
        peer_rounds.measure(config, "forward", ["keras"])


def test_not_a_number_is_another_result(fake):
    fake["keras"] = lambda: LOGITS * np.nan
    config = PeersConfig(rounds=1, seconds=0.0, burn_in_seconds=0.0)
    measured = peer_rounds.measure(config, "forward", ["keras"])
    assert list(measured.rates) == ["slim_resnets"] and "keras" in measured.missing


def test_the_script(tmp_path, capsys):
    path = tmp_path / "peers.json"
    flags = f"--model resnet_cifar_v1_20 --peers slim_resnets_folded,keras --json {path} {TINY}"
    assert run(flags) == 0
    forward, step = json.loads(path.read_text())["results"]
    assert (forward["pass"], forward["model"], forward["image_size"]) == ("forward", "resnet_cifar_v1_20", 32)
    assert {name: len(rates) for name, rates in forward["images_per_second"].items()} == {
        "slim_resnets": 2,
        "slim_resnets_folded": 2,
    }
    assert forward["agreements"]["slim_resnets_folded"]["top_1"] == 1.0
    assert forward["missing"]["keras"] == "Keras Applications has no network like resnet_cifar_v1_20"
    assert step["pass"] == "train_step" and list(step["images_per_second"]) == ["slim_resnets"]
    assert step["missing"]["slim_resnets_folded"] == "computes the forward pass only"
    assert "forward: slim_resnets over slim_resnets_folded: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--peers keras,caffe", "--peers has 'caffe'"),
        ("--pass backward", "--pass has 'backward'"),
        ("--rounds 0", "--rounds is 0"),
        ("--batch_size 0", "--batch_size is 0"),
        ("--seconds -1", "--seconds is -1"),
        ("--model resnet_v9_50", "resnet_v2_50"),
        ("--json /no/such/folder/out.json", "/no/such/folder"),
    ],
)
def test_a_bad_flag_is_one_line_and_status_1(capsys, flags, complaint):
    assert run(flags) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: ") and complaint in line


def test_the_folded_network_is_compared_with_other_systems_too():
    rates = {"slim_resnets": [2.0, 2.0], "slim_resnets_folded": [6.0, 6.0], "keras": [4.0, 3.0]}
    found = {ratio.label: tuple(ratio.per_round) for ratio in peer_rounds.compare_ours(rates)}
    assert found == {
        "slim_resnets over slim_resnets_folded": (2 / 6, 2 / 6),
        "slim_resnets over keras": (2 / 4, 2 / 3),
        "slim_resnets_folded over keras": (6 / 4, 6 / 3),
    }
