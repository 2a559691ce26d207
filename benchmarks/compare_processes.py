"""Compares start-up time and training memory with those of other systems; each contestant runs in its own process.

    python benchmarks/compare_processes.py --model resnet_v2_50 --rounds 7 --json processes.json

start: from the start of the process to the first logits of one image: imports, the network, its weights from a file,
the prediction. Contestants are this zoo, and Keras Applications called as a function (keras) and by predict.

memory: the peak resident memory of a process in some training steps, in total and above what the imports take.
Contestants are this zoo and PyTorch (eager).

All run in alternation, A B A B. A first round, which is not counted, warms the disk cache and compares results. Ratios
are medians over the rounds, with an interval; below 1, this zoo needs less. Linux only.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Literal

import numpy as np

if not __package__:
    # A script run by its path finds only its own folder; this adds the folder of the zoo's packages.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command_line
from benchmarks import disturbance, environment, grid, peer_rounds, process_turn, results, rounds
from command_line import UserError

_CONTESTANTS = {"start": process_turn.STARTS, "memory": process_turn.MEMORIES}
# Each once, in their order.
PEERS = tuple(dict.fromkeys(name for table in _CONTESTANTS.values() for name in table if name != peer_rounds.OURS))


@dataclasses.dataclass(frozen=True)
class ProcessesConfig:
    """Measures start-up time and memory of processes."""

    measure: str = ",".join(_CONTESTANTS)
    """What to measure: start, memory or both."""
    model: str = "resnet_v2_50"
    """The network, a name of nets/nets_factory.py."""
    peers: str = ",".join(PEERS)
    """Systems to measure beside this zoo: keras and keras_predict for start, torch for memory."""
    batch_size: int = 32
    """Images in a training step."""
    image_size: int | None = None
    """Height and width of the images in pixels; None for the network's own."""
    num_classes: int = 1000
    """Width of the last layer."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the activations in training."""
    steps: int = 3
    """Training steps in a turn."""
    rounds: int = 9
    """Turns of each contestant; intervals of at least 95 % need 6, and from 9 on the extreme rounds do not matter."""
    seed: int = 0
    """Seed for the weights and the images."""
    json: Path | None = None
    """A file for the results: the value of every turn, the ratios, and the machine."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """One measure of all contestants.

    Attributes:
      measure: What was measured.
      unit: s or MiB.
      setup: JSON-able.
      values: {contestant: [a value for each round]}.
      ratios: A tuple of rounds.Ratio: ours over each other one.
      agreements: {contestant: peer_rounds.Agreement}.
      missing: {contestant: why it was left out}.
    """

    measure: str
    unit: str
    setup: dict
    values: dict
    ratios: tuple
    agreements: dict
    missing: dict

    def to_json(self):
        """Returns a dict that JSON can hold, with every value."""
        return dataclasses.asdict(self)


def main(config):
    """Measures, and prints a line for each contestant and each ratio."""
    for name in ("batch_size", "image_size", "num_classes", "steps", "rounds"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1")
    measures = grid.chosen("measure", config.measure, _CONTESTANTS)
    peers = grid.chosen("peers", config.peers, PEERS)
    if config.json:
        results.check_path(config.json)
    machine = environment.describe_environment()
    machine["others_share"] = disturbance.look_around()
    busy = disturbance.describe_others(machine["others_share"], "before the first process")
    if busy:
        print(f"warning: {busy}", file=sys.stderr)
    measured = []
    with (
        results.finished_kept(config.json, results.write_json, machine, measured),
        tempfile.TemporaryDirectory(prefix="processes-") as folder,
    ):
        request, missing = prepare(config, folder, "start" in measures and {"keras", "keras_predict"} & set(peers))
        for measure in measures:
            names = [name for name in (peer_rounds.OURS, *peers) if name in _CONTESTANTS[measure]]
            for one in compare(measure, names, request, config.rounds, missing):
                measured.append(one)
                for line in describe(one):
                    print(line, flush=True)
    if config.json:
        results.write_json(config.json, machine, measured)


def prepare(config, folder, with_keras):
    """Writes weights, images and labels; returns the request for a turn, and {contestant: why it cannot take part}."""
    task = peer_rounds.make_task(types.SimpleNamespace(**vars(config), intra_op_threads=0), "train_step")
    settings = task.model.settings
    task.model.save(f"{folder}/model.ckpt")
    np.savez(f"{folder}/weights.npz", **{name: value.numpy() for name, value in task.model.variables_by_name.items()})
    np.save(f"{folder}/image.npy", task.images.numpy()[:1])
    np.save(f"{folder}/images.npy", task.images.numpy())
    np.save(f"{folder}/labels.npy", task.labels.numpy())
    request = {
        "folder": folder,
        "settings": settings,
        "image_size": task.configuration.image_size,
        "batch_size": config.batch_size,
        "precision": config.precision,
        "steps": config.steps,
    }
    missing = {}
    if with_keras:
        from benchmarks import peers

        try:
            network = peers.keras_network(task)
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else peer_rounds.describe_failure(error)
            missing |= dict.fromkeys(("keras", "keras_predict"), reason)
        else:
            network.save_weights(f"{folder}/keras.weights.h5")
            version2 = "V2" if settings["model_name"].startswith("resnet_v2") else ""
            request["keras"] = f"ResNet{settings['model_name'].rpartition('_')[2]}{version2}"
    return request, missing


def compare(measure, names, request, num_rounds, missing, run=None):
    """Runs contestants in alternation and prints each value; returns a list of Measured: one for start, two for memory.

    Args:
      measure: start or memory.
      names: Contestants, slim_resnets first.
      request: As `prepare` returns it.
      num_rounds: Counted turns of each.
      missing: {contestant: why it cannot take part}.
      run: As `run_turn`.

    Raises:
      UserError: If this zoo's process fails.
    """
    run = run or run_turn
    agreements, missing = _first_round(measure, names, request, missing, run)
    takes_part = [name for name in names if name == names[0] or name in agreements]
    turns = [{} for _ in range(num_rounds)]
    for turn in turns:
        for name in takes_part:
            turn[name] = run(_turn(request, measure, name))
            _, unit, value = _VALUES[measure][0]
            print(f"# {measure}: {name}: {value(turn[name]):.3f} {unit}", flush=True)
    setup = {"model": request["settings"]["model_name"], "image_size": request["image_size"]}
    if measure == "memory":
        setup |= {name: request[name] for name in ("batch_size", "precision", "steps")}
    found = []
    for title, unit, value in _VALUES[measure]:
        values = {name: [value(turn[name]) for turn in turns] for name in takes_part}
        ours = values[names[0]]
        ratios = tuple(rounds.compare(f"{names[0]} over {name}", ours, values[name]) for name in takes_part[1:])
        found.append(Measured(title, unit, setup, values, ratios, agreements, missing))
    return found


def _turn(request, measure, contestant):
    return {**request, "measure": measure, "contestant": contestant}


def _first_round(measure, names, request, missing, run):
    """Runs each once; returns {contestant: Agreement} for those that agree, {contestant: reason} for others."""
    missing = {name: reason for name, reason in missing.items() if name in names}
    tolerance = peer_rounds.TOLERANCES["float32" if measure == "start" else request["precision"]]
    agreements, ours = {}, None
    for name in [name for name in names if name not in missing]:
        try:
            value = np.array(run(_turn(request, measure, name))["value"], np.float32)
        except UserError as error:
            if name == names[0]:
                raise
            missing[name] = str(error)
            continue
        if name == names[0]:
            ours = value
            continue
        one = peer_rounds.agreement(ours, value)
        if one.difference <= tolerance:
            agreements[name] = one
        else:
            missing[name] = f"computes something else{peer_rounds.describe_agreement(one)}, tolerance {tolerance:g}"
    return agreements, missing


_VALUES = {
    "start": [("start to first prediction", "s", lambda turn: turn["seconds"])],
    "memory": [
        ("peak memory of training", "MiB", lambda turn: turn["peak"] / 2**20),
        ("peak memory of training above the imports", "MiB", lambda turn: (turn["peak"] - turn["imports"]) / 2**20),
    ],
}


def run_turn(request):
    """Runs a process; returns what it printed, with the seconds until then.

    Raises:
      UserError: If it fails; the message contains the last line of its error.
    """
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, process_turn.__file__, json.dumps(request)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            line = process.stdout.readline()
            seconds = time.perf_counter() - start
        if process.returncode or not line:
            errors.seek(0)
            last = errors.read().strip().rpartition("\n")[2]
            raise UserError(f"the process of {request['contestant']} ended with status {process.returncode}: {last}")
    return {**json.loads(line), "seconds": seconds}


def describe(measured):
    """Yields a line for the setup, for each missing contestant, for each contestant and for each ratio."""
    yield f"# {measured.measure}: {', '.join(f'{name} {value}' for name, value in measured.setup.items())}"
    for name, reason in measured.missing.items():
        yield f"# {measured.measure}: without {name}: {reason}"
    for name, values in measured.values.items():
        line = (
            f"{measured.measure}: {name}: median {statistics.median(values):.3f} {measured.unit}, "
            f"min {min(values):.3f}, max {max(values):.3f}, n {len(values)}"
        )
        yield line + peer_rounds.describe_agreement(measured.agreements.get(name))
    for ratio in measured.ratios:
        yield f"{measured.measure}: {ratio}"


if __name__ == "__main__":
    command_line.run(main, ProcessesConfig)
