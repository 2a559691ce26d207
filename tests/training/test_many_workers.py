"""Runs of several worker processes on loopback; each is worker.py, the trainer with the tiny networks."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import training_toys

from nets import nets_factory
from training import loop, mistakes
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from training.workers import LOST

FOLDER = pathlib.Path(__file__).parent
SECONDS = 900  # Only what hangs takes longer, even where the machine has other work.
STEPS = 6


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """192 images to train on: 3 steps of 64 an epoch."""
    return training_toys.make_dataset(tmp_path_factory.mktemp("data") / "toy", train=192)


@pytest.fixture(scope="module")
def frozen():
    """Flags that train the weights and leave all of batch norm alone."""
    names = nets_factory.create_model(training_toys.TINY, 3).variables_by_name
    weights = [name for name in names if name.endswith("/weights") or "/logits/" in name]
    return {"trainable_scopes": ",".join(weights)}


def config_of(data_dir, train_dir, **changes):
    settings = {"batch_size": 64, "log_every_n_steps": 1, "precision": "float32"}
    return training_toys.toy_config(data_dir, train_dir, **settings | changes)


def addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    hosts = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return hosts


@contextlib.contextmanager
def started(config, count, present=None, environments=None, hosts=None, servers=None, job="worker"):
    """The processes of `count` workers (of those of `present`), which do not outlive the body."""
    hosts = hosts or ",".join(addresses(count))
    paths = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])
    processes = []
    try:
        for index in range(count) if present is None else present:
            flags = [f"--{name}={value}" for name, value in flags_of(config) if not isinstance(value, bool)]
            switches = [f"--{name}" for name, value in flags_of(config) if value is True]
            if servers:
                switches += [f"--ps_hosts={servers}", f"--job_name={job}"]
            command = [sys.executable, FOLDER / "worker.py", *flags, *switches]
            environment = os.environ | {"PYTHONPATH": paths} | (environments or {}).get(index, {})
            processes.append(
                subprocess.Popen(
                    [*command, f"--worker_hosts={hosts}", f"--task_index={index}"],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def flags_of(config):
    """What differs from the defaults, as (name, value)."""
    defaults = type(config)()
    return [(name, value) for name, value in vars(config).items() if value != getattr(defaults, name)]


def ends_of(processes):
    """(status, stdout, stderr) of each."""
    deadline = time.monotonic() + SECONDS
    texts = [process.communicate(timeout=max(1, deadline - time.monotonic())) for process in processes]
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


def run(config, count, **settings):
    """Runs all workers to their end; the outputs of the chief and the others, which have to end well."""
    with started(config, count, **settings) as processes:
        ends = ends_of(processes)
    assert [end[0] for end in ends] == [0] * count, ends
    return ends


def curve(train_dir):
    """The loss of each step."""
    losses = training_toys.events_in(train_dir)["train/loss"]
    return [losses[step] for step in sorted(losses)]


def end_values(train_dir):
    return training_toys.values_in(train_dir / f"model.ckpt-{STEPS}")


def assert_one_trained_as_the_other(ours, theirs, rtol, atol):
    assert len(curve(ours)) == STEPS
    np.testing.assert_allclose(curve(ours), curve(theirs), rtol=rtol)
    our_values, their_values = end_values(ours), end_values(theirs)
    assert our_values.keys() == their_values.keys()
    for name, value in their_values.items():
        np.testing.assert_allclose(our_values[name], value, rtol=rtol, atol=atol, err_msg=name)


def assert_same_mistakes(ours, theirs):
    ours, theirs = mistakes.read(ours)["mistakes"], mistakes.read(theirs)["mistakes"]
    assert sorted(mistake.record for mistake in ours) == sorted(mistake.record for mistake in theirs)
    pictures = {mistake.record: mistake.picture for mistake in theirs}
    for mistake in ours:
        np.testing.assert_array_equal(mistake.picture, pictures[mistake.record])


def test_two_workers_of_32_train_as_one_of_64(data_dir, frozen, tmp_path):
    """With batch norm frozen, a step is the same function of its 64 images however they are divided."""
    shared = {"eval_every_epochs": 0.0, "learning_rate": 0.01} | frozen
    one = loop.train(config_of(data_dir, tmp_path / "one", **shared))
    (_, chief_says, _), (_, other_says, _) = run(
        config_of(data_dir, tmp_path / "two", json=tmp_path / "two.json", **shared), 2
    )
    assert_one_trained_as_the_other(tmp_path / "two", tmp_path / "one", rtol=1e-4, atol=1e-6)
    # Scored by both together, and each image once.
    evaluation = json.loads((tmp_path / "two.json").read_text())["evaluation"]
    assert evaluation["count"] == training_toys.TEST_COUNT
    assert evaluation["confusion_matrix"] == one.evaluation["confusion_matrix"]
    np.testing.assert_allclose(evaluation["cross_entropy"], one.evaluation["cross_entropy"], rtol=1e-4)
    assert_same_mistakes(tmp_path / "two", tmp_path / "one")
    assert "2 device(s)" in chief_says and f"step {STEPS}/{STEPS}" in chief_says
    # The log is the chief's; what came of the run, all say.
    assert "loss" not in other_says and chief_says.splitlines()[-1] == other_says.splitlines()[-1]


def test_workers_with_files_of_their_own_score_every_record_once(tmp_path):
    directory = training_toys.make_dataset(tmp_path / "toy", train=192)
    training_toys.divide_files(directory, "train", 4)
    training_toys.divide_files(directory, "test", 3)
    config = config_of(
        directory, tmp_path / "run", shard_policy="file", json=tmp_path / "run.json", learning_rate=1e-5, num_epochs=1.0
    )
    run(config, 2)
    evaluation = json.loads((tmp_path / "run.json").read_text())["evaluation"]
    alone = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "run"))
    assert alone["count"] == evaluation["count"] == training_toys.TEST_COUNT
    assert alone["confusion_matrix"] == evaluation["confusion_matrix"]
    np.testing.assert_allclose(evaluation["cross_entropy"], alone["cross_entropy"], rtol=1e-5)
    # So short a run leaves some. The report numbers the records of all files, whoever scored them; record i of the
    # toys has label i % 3.
    found = mistakes.read(tmp_path / "run")["mistakes"]
    assert len({mistake.record for mistake in found}) == round((1 - alone["top_1"]) * alone["count"]) > 0
    assert all(mistake.label == mistake.record % 3 for mistake in found)


def test_a_worker_that_never_comes_is_named_in_time(data_dir, tmp_path):
    config = config_of(data_dir, tmp_path / "run", worker_timeout_secs=2)
    with started(config, 2, present=[0]) as processes:
        ((status, _, error),) = ends_of(processes)
    assert status == 1
    assert len(error.splitlines()) == 1 and error.startswith("error: worker 1 (127.0.0.1:"), error
    assert error.endswith(") did not come within 2 s; start it, or raise --worker_timeout_secs\n"), error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_four_workers_with_norms_over_all_train_as_one(data_dir, tmp_path):
    """Every image counts: mixtures, statistics, the moving averages and the evaluation are those of one process."""
    shared = {
        "sync_batch_norm": True,
        "mixup_alpha": 0.4,
        "moving_average_decay": 0.9,
        "clip_gradient_norm": 1.0,
        "weight_decay": 0.01,
        "eval_every_epochs": 0.0,
    }
    one = loop.train(config_of(data_dir, tmp_path / "one", **shared))
    run(config_of(data_dir, tmp_path / "four", json=tmp_path / "four.json", **shared), 4)
    assert_one_trained_as_the_other(tmp_path / "four", tmp_path / "one", rtol=1e-3, atol=1e-5)
    evaluation = json.loads((tmp_path / "four.json").read_text())["evaluation"]
    assert evaluation["confusion_matrix"] == one.evaluation["confusion_matrix"]


@pytest.fixture(scope="module")
def calm(data_dir, tmp_path_factory):
    """The folder of a run of two workers that nothing happened to."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    run(config_of(data_dir, folder), 2)
    return folder


def assert_ended_as_if_calm(folder, calm_folder):
    calm, killed = end_values(calm_folder), end_values(folder)
    moving = [name for name in calm if "/moving_" in name]
    training_toys.assert_same_values(
        *({name: value for name, value in values.items() if name not in moving} for values in (calm, killed))
    )
    # Each worker goes on from the mean of both, so that these are equal but for the rounding.
    for name in moving:
        np.testing.assert_allclose(killed[name], calm[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert curve(calm_folder) == curve(folder)


@pytest.mark.parametrize("index", [pytest.param(0, id="chief"), pytest.param(1, id="other", marks=pytest.mark.slow)])
def test_a_run_one_of_whose_workers_is_killed_ends_as_one_of_whose_none_was(data_dir, tmp_path, calm, index):
    """It dies in the second epoch; both start again, and do again what came after the last checkpoint."""
    died = tmp_path / "died"
    config = config_of(data_dir, tmp_path / "killed", max_restarts=2)
    ends = run(config, 2, environments={index: {"DIE_AT": str(STEPS - 1), "DIED": str(died)}})
    assert died.exists()
    assert "this worker ended, another was lost or stopped; start 1 of 2" in ends[1 - index][2]
    assert "this worker ended, it was killed by SIGKILL; start 1 of 2" in ends[index][2]
    assert f"from step 3 of {STEPS}" in ends[0][1]
    assert_ended_as_if_calm(tmp_path / "killed", calm)


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_may_come_back(data_dir, tmp_path, calm):
    """As machines that can be taken away do: SIGTERM, and later another one in its place."""
    hosts = ",".join(addresses(2))
    config = config_of(data_dir, tmp_path / "told", max_restarts=1)
    environment = {"DIE_AT": str(STEPS - 1), "DIE_BY": "SIGTERM", "DIED": str(tmp_path / "died")}
    with started(config, 2, environments={1: environment}, hosts=hosts) as (chief, other):
        assert other.wait(timeout=SECONDS) == 130
        with started(config, 2, present=[1], hosts=hosts) as (again,):
            ends = ends_of([chief, again])
    assert [end[0] for end in ends] == [0, 0], ends
    assert ends[0][2] == "this worker ended, another was lost or stopped; start 1 of 1\n"
    assert_ended_as_if_calm(tmp_path / "told", calm)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1], ids=["chief", "other"])
def test_a_peer_that_is_lost_ends_the_others_with_one_line(data_dir, tmp_path, index):
    environments = {index: {"DIE_AT": "4", "DIED": str(tmp_path / "died")}}
    with started(config_of(data_dir, tmp_path / "run"), 2, environments=environments) as processes:
        ends = ends_of(processes)
    (status, _, error), (killed, _, _) = ends[1 - index], ends[index]
    assert (status, killed) == (LOST, -signal.SIGKILL)
    assert len(error.splitlines()) == 1 and error.startswith(f"error: worker {1 - index}: "), error
    assert "was lost" in error and "--max_restarts=N" in error


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_all_at_the_same_step(data_dir, tmp_path):
    config = config_of(data_dir, tmp_path / "run", num_epochs=2000.0, eval_every_epochs=0.0)
    with started(config, 2) as processes:
        for line in processes[0].stdout:
            if line.startswith("step 3/"):
                break
        processes[1].send_signal(signal.SIGTERM)
        ends = ends_of(processes)
    # Whoever was not asked itself ends as one to be started again, where somebody does so.
    assert [end[0] for end in ends] == [LOST, 130], ends
    said = [next(line for line in end[1].splitlines() if "interrupted at step" in line) for end in ends]
    assert said[0] == f"another worker was {said[1]}"
    steps = [file.suffixes[-2] for file in (tmp_path / "run").glob("model.ckpt-*.index")]
    assert steps == [f".ckpt-{said[1].split()[3]}"]
