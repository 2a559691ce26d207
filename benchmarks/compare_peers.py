"""Times a network of this zoo beside the same network, with the same weights, in other systems, on this machine.

    python benchmarks/compare_peers.py --model resnet_v2_50 --batch_size 16 --json peers.json

Contestants are this zoo (as it is, and folded), Keras Applications, PyTorch (eager and compiled), ONNX Runtime and
OpenVINO. One that is not installed, or has no such network, is named and left out. The first result of each, logits or
the cross-entropy of a training step, must agree with this zoo's. Then they run in alternation for --rounds rounds of
--seconds. The ratios are medians over the rounds, with an interval.

The root pool of the network is padded on all sides here, as in the other systems.
"""

import contextlib
import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

if not __package__:
    # A script run by its path finds only its own folder; this adds the folder of the zoo's packages.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command_line
from benchmarks import disturbance, environment, grid, peer_rounds, results
from command_line import UserError


@dataclasses.dataclass(frozen=True)
class PeersConfig:
    """Times a network beside the same network in other systems."""

    model: str = "resnet_v2_50"
    """The network, a name of nets/nets_factory.py."""
    passes: Annotated[str, tyro.conf.arg(name="pass")] = "forward,train_step"
    """What to time: forward, train_step or both."""
    peers: str = ",".join(peer_rounds.PEERS)
    """Systems to time beside this zoo."""
    batch_size: int = 16
    """Images in a step."""
    image_size: int | None = None
    """Height and width of the images in pixels; None for the network's own."""
    num_classes: int = 1000
    """Width of the last layer."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the activations."""
    intra_op_threads: int = 0
    """Threads of each contestant; 0 for as many as there are cores, logical ones where cores have two threads."""
    rounds: int = 9
    """Turns of each contestant; intervals of at least 95 % need 6, and from 9 on the extreme rounds do not matter."""
    seconds: float = 5.0
    """Length of a turn; the last step may end later."""
    burn_in_seconds: float = 1.0
    """Length of the burn-in before each turn."""
    seed: int = 0
    """Seed for the weights and the images."""
    json: Path | None = None
    """A file for the results: the rate of every turn, the ratios, the differences of outputs, and the machine."""


def main(config):
    """Measures each pass, and prints a line for each contestant and each ratio."""
    _check(config)
    passes = grid.chosen("pass", config.passes, peer_rounds.PASSES)
    peers = grid.chosen("peers", config.peers, peer_rounds.PEERS)
    if config.json:
        results.check_path(config.json)
    environment.set_threads(config.intra_op_threads, 0)
    # Before the work begins, so that it records only the load from others.
    machine = environment.describe_environment()
    _warn(disturbance.look_around(), "before the first step")
    measured = []
    with results.finished_kept(config.json, results.write_json, machine, measured):
        for pass_name in passes:
            measured.append(peer_rounds.measure(config, pass_name, peers))
            for line in describe(measured[-1]):
                print(line, flush=True)
            _warn(measured[-1].others_share, f"during the rounds of {pass_name}")
    if config.json:
        results.write_json(config.json, machine, measured)


def describe(measured):
    """Yields a line for the setup, for each missing contestant, for each contestant and for each ratio."""
    setup = ", ".join(f"{key} {value}" for key, value in measured.setup.items())
    yield f"# {measured.pass_name}: {setup}"
    for name, reason in measured.missing.items():
        yield f"# {measured.pass_name}: without {name}: {reason}"
    for name, rates in measured.rates.items():
        line = (
            f"{measured.pass_name}: {name}: median {statistics.median(rates):.2f} images/s, min {min(rates):.2f}, "
            f"max {max(rates):.2f}, n {len(rates)}"
        )
        yield line + peer_rounds.describe_agreement(measured.agreements.get(name))
    for ratio in measured.ratios:
        yield f"{measured.pass_name}: {ratio}"


def _warn(others_share, when):
    busy = disturbance.describe_others(others_share, when)
    if busy:
        print(f"warning: {busy}", file=sys.stderr)


def _check(config):
    for name in ("batch_size", "image_size", "num_classes", "rounds"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1")
    for name in ("seconds", "burn_in_seconds", "intra_op_threads"):
        if getattr(config, name) < 0:
            raise UserError(f"--{name} is {getattr(config, name)}; it must be at least 0")


if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        # PyTorch's builds for CUDA bring Triton, which crashes if TensorFlow was imported before it.
        import triton  # noqa: F401
    command_line.run(main, PeersConfig)
