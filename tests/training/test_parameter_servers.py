"""Runs with parameter servers on loopback: a chief, workers and servers, each a process of its own."""

import contextlib
import json
import signal
import socket
import time

import pytest
import training_toys
from test_many_workers import SECONDS, STEPS, addresses, config_of, data_dir, end_values, started

from command_line import UserError
from training import parameter_servers
from training.clusters import Cluster
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint

__all__ = ["data_dir"]  # A fixture of the other module.


class Run:
    """A chief, two workers and a server, and whoever comes in their place."""

    def __init__(self, stack, config):
        hosts = addresses(4)
        self._stack, self._config = stack, config
        self._hosts = {"hosts": ",".join(hosts[:3]), "servers": hosts[3]}
        self.worker, self.other = self.start("worker", 1), self.start("worker", 2)
        self.server, self.chief = self.start("ps", 0), self.start("worker", 0)

    def start(self, job, index):
        """A process, which does not outlive the test."""
        one = started(self._config, 3, present=[index], job=job, **self._hosts)
        return self._stack.enter_context(one)[0]

    def wait_for(self, start):
        """Reads what the chief says up to a line that begins so."""
        for line in self.chief.stdout:
            if line.startswith(start):
                return
        raise AssertionError(self.chief.stderr.read())

    def end(self, *processes):
        """Their exit statuses, and what the chief said on stderr; the last may take all the time."""
        deadline = time.monotonic() + SECONDS
        error = self.chief.communicate(timeout=SECONDS)[1]
        return [one.wait(timeout=max(1, deadline - time.monotonic())) for one in processes], error


@pytest.fixture
def begin(data_dir, tmp_path):
    """A function of flags to a Run on the toys."""
    with contextlib.ExitStack() as stack:
        yield lambda **flags: Run(stack, config_of(data_dir, tmp_path / "run", **flags))


def test_steps_are_dealt_out_and_every_record_is_scored_once(begin, tmp_path):
    run = begin(json=tmp_path / "run.json", batch_size=32, num_epochs=1.0, moving_average_decay=0.9)
    statuses, error = run.end(run.chief, run.worker, run.other, run.server)
    assert (statuses, error) == ([0] * 4, ""), error
    result = json.loads((tmp_path / "run.json").read_text())
    assert result["finished"] and result["step"] == result["total_steps"] == STEPS
    values = end_values(tmp_path / "run")
    assert values["global_step"] == STEPS
    alone = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "run"))
    assert alone["count"] == result["evaluation"]["count"] == training_toys.TEST_COUNT
    assert alone["confusion_matrix"] == result["evaluation"]["confusion_matrix"]
    assert alone["cross_entropy"] == pytest.approx(result["evaluation"]["cross_entropy"], rel=1e-5)
    # Every step has moved the weights, and none was left out of the log.
    assert sorted(training_toys.events_in(tmp_path / "run")["train/loss"]) == list(range(1, STEPS + 1))
    assert alone["top_1"] > 0.5


def test_who_does_not_come_is_named_in_time():
    with socket.create_server(("127.0.0.1", 0)) as there:
        worker = f"127.0.0.1:{there.getsockname()[1]}"
        chief, missing, server = addresses(3)
        with pytest.raises(UserError) as error:
            parameter_servers.connect(Cluster((chief, worker, missing), (server,)), timeout_secs=0.5)
    who = f"worker 2 ({missing}), parameter server 0 ({server})"
    assert str(error.value) == f"{who} did not come within 0.5 s; start it, or raise --worker_timeout_secs"


def test_a_server_whose_port_is_taken_says_so():
    with socket.create_server(("", 0)) as taken:
        server = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"^parameter server 0 \({server}\) cannot listen at {server}: "):
            parameter_servers.serve(Cluster(tuple(addresses(2)), (server,), "ps", 0))


@pytest.mark.slow
def test_a_worker_that_dies_is_left_out_until_it_is_back(begin, tmp_path):
    run = begin(max_number_of_steps=60, log_every_n_steps=2, eval_every_epochs=0.0)
    run.wait_for("step 4/")
    run.other.kill()
    again = run.start("worker", 2)
    statuses, error = run.end(run.chief, run.worker, again, run.server)
    assert statuses == [0] * 4, error
    assert error.startswith("worker 2 (127.0.0.1:"), error
    assert error.endswith(") was lost; the others go on, and it may be started again\n"), error
    assert training_toys.values_in(tmp_path / "run" / "model.ckpt-60")["global_step"] == 60


@pytest.mark.slow
def test_with_a_server_the_run_goes_back_to_the_last_checkpoint(begin, tmp_path):
    run = begin(max_number_of_steps=60, log_every_n_steps=2, eval_every_steps=10, max_restarts=1)
    run.wait_for("step 12/")
    # The server is a child of a process that starts it again.
    run.server.send_signal(signal.SIGTERM)
    again = run.start("ps", 0)
    statuses, error = run.end(run.chief, run.worker, run.other, again)
    assert statuses == [0] * 4, error
    assert "parameter server 0 (127.0.0.1:" in error and "start 1 of 1" in error
    assert training_toys.values_in(tmp_path / "run" / "model.ckpt-60")["global_step"] == 60


@pytest.mark.slow
def test_a_signal_to_the_chief_saves_and_ends_all(begin, tmp_path):
    run = begin(num_epochs=2000.0, eval_every_epochs=0.0, log_every_n_steps=2)
    run.wait_for("step 4/")
    run.chief.send_signal(signal.SIGINT)
    statuses, error = run.end(run.chief, run.worker, run.other, run.server)
    assert (statuses, error) == ([130, 0, 0, 0], "")
    (saved,) = (tmp_path / "run").glob("model.ckpt-*.index")
    assert training_toys.values_in(saved.with_suffix(""))["global_step"] == int(saved.stem.rpartition("-")[2])
