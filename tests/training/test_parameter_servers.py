"""Runs with parameter servers on loopback: a chief, workers and servers, each a process of its own."""

import contextlib
import json
import re
import signal
import socket
import threading
import time

import pytest
import tensorflow as tf
import training_toys
from test_many_workers import SECONDS, STEPS, addresses, config_of, data_dir, end_values, started

from command_line import UserError
from training import parameter_servers
from training.clusters import Cluster
from training.evaluate_checkpoint import EvalConfig, evaluate_checkpoint
from training.workers import LOST, PeerLost, Workers

__all__ = ["data_dir"]  # A fixture of the other module.


class Run:
    """A chief, two workers and a server, and whoever comes in their place."""

    def __init__(self, stack, config):
        hosts = addresses(4)
        self._stack, self._config = stack, config
        self._hosts = {"hosts": ",".join(hosts[:3]), "servers": hosts[3]}
        self.worker, self.other = self.start("worker", 1), self.start("worker", 2)
        self.server, self.chief = self.start("ps", 0), self.start("worker", 0)
        self.said = []
        self._reader = threading.Thread(target=lambda: self.said.extend(self.chief.stdout))
        self._reader.start()

    def start(self, job, index):
        """A process, which does not outlive the test."""
        one = started(self._config, 3, present=[index], job=job, **self._hosts)
        return self._stack.enter_context(one)[0]

    def last_step(self):
        """That of the chief's last log line."""
        steps = re.findall(r"^step (\d+)/", "".join(self.said), re.MULTILINE)
        return int(steps[-1]) if steps else 0

    def wait_for(self, step):
        """Returns when the chief has logged so many steps."""
        deadline = time.monotonic() + SECONDS
        while self.last_step() < step:
            assert self._reader.is_alive(), self.chief.stderr.read()
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def end(self, *processes):
        """Their exit statuses, and what the chief said on stdout and on stderr."""
        deadline = time.monotonic() + SECONDS
        statuses = [one.wait(timeout=max(1, deadline - time.monotonic())) for one in processes]
        self._reader.join()
        return statuses, "".join(self.said), self.chief.stderr.read()


@pytest.fixture
def begin(data_dir, tmp_path):
    """A function of flags to a Run on the toys."""
    with contextlib.ExitStack() as stack:
        yield lambda **flags: Run(stack, config_of(data_dir, tmp_path / "run", **flags))


def test_steps_are_dealt_out_and_every_record_is_scored_once(begin, tmp_path):
    run = begin(
        json=tmp_path / "run.json",
        batch_size=32,
        num_epochs=1.0,
        moving_average_decay=0.9,
        log_every_n_steps=4,
    )
    statuses, _, error = run.end(run.chief, run.worker, run.other, run.server)
    assert (statuses, error) == ([0] * 4, ""), error
    result = json.loads((tmp_path / "run.json").read_text())
    assert result["finished"] and result["step"] == result["total_steps"] == STEPS
    values = end_values(tmp_path / "run")
    assert values["global_step"] == STEPS
    alone = evaluate_checkpoint(EvalConfig(checkpoint_path=tmp_path / "run"))
    assert alone["count"] == result["evaluation"]["count"] == training_toys.TEST_COUNT
    assert alone["confusion_matrix"] == result["evaluation"]["confusion_matrix"]
    assert alone["cross_entropy"] == pytest.approx(result["evaluation"]["cross_entropy"], rel=1e-5)
    assert sorted(training_toys.events_in(tmp_path / "run")["train/loss"]) == [4, STEPS]
    assert alone["top_1"] > 0.5  # A third would be chance.


def test_who_does_not_come_is_named_in_time():
    chief, worker, missing, server = addresses(4)
    there = tf.distribute.Server({"worker": [worker]}, "worker", 0)
    with pytest.raises(UserError) as error:
        parameter_servers.connect(Cluster((chief, worker, missing), (server,)), timeout_secs=0.5)
    del there
    who = f"worker 2 ({missing}), parameter server 0 ({server})"
    assert (
        str(error.value)
        == f"{who} did not come within 0.5 s; start it with the same --ps_hosts, or raise --worker_timeout_secs"
    )


def test_a_server_whose_port_is_taken_says_so():
    with socket.create_server(("", 0)) as taken:
        server = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"^parameter server 0 \({server}\) cannot listen at {server}: "):
            parameter_servers.serve(Cluster(tuple(addresses(2)), (server,), "ps", 0), num_gpus=None)


def test_what_is_no_server_is_not_waited_for_without_end():
    """Another program, or a worker that was started without --ps_hosts."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert not parameter_servers._is_reached(f"127.0.0.1:{other.getsockname()[1]}")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            tf.errors.NotFoundError(None, None, "train.tfrecord; No such file\n/job:worker/replica:0/task:1"),
            "worker 2 (c:1): train.tfrecord; No such file; each worker reads records: see that all have the same files",
        ),
        (tf.errors.DataLossError(None, None, "corrupted record at 12\n"), "a worker: corrupted record at 12; each"),
    ],
    ids=["missing", "damaged"],
)
def test_what_a_worker_cannot_read_is_one_line(error, message):
    cluster = Cluster(("a:1", "b:1", "c:1"), ("d:1",))
    with pytest.raises(UserError) as found, parameter_servers.explain_errors(cluster, "records"):
        raise error
    assert str(found.value).startswith(message) and "\n" not in str(found.value)


def test_a_server_that_has_lost_its_variables_is_a_loss():
    cluster = Cluster(("a:1", "b:1"), ("d:1",))
    error = tf.errors.NotFoundError(None, None, "Resource not found: /job:ps/replica:0/task:0/conv1")
    with (
        pytest.raises(PeerLost) as found,
        Workers(cluster).explain_losses(),
        parameter_servers.explain_errors(cluster, "records"),
    ):
        raise error
    assert str(found.value).startswith("the chief: parameter server 0 (d:1) was lost, its own output may say why; ")
    assert found.value.status == LOST


@pytest.mark.slow
def test_a_worker_that_dies_is_left_out_until_it_is_back(begin, tmp_path):
    run = begin(max_number_of_steps=10**6, log_every_n_steps=20, eval_every_epochs=0.0)
    run.wait_for(20)
    run.other.kill()
    run.wait_for(run.last_step() + 40)
    again = run.start("worker", 2)
    assert again.stdout.readline().startswith("worker 2 (")
    time.sleep(45)  # TensorFlow looks for it every few seconds, and takes none in while another is lost.
    # From here on there is no other.
    run.worker.kill()
    run.wait_for(run.last_step() + 40)
    run.chief.send_signal(signal.SIGTERM)
    statuses, _, error = run.end(run.chief, again, run.server)
    assert statuses == [130, 0, 0], error
    lines = error.splitlines()
    assert [line.split(" (127.0.0.1:")[0] for line in lines] == ["worker 2", "worker 1"], error
    assert all(line.endswith(") was lost; the others go on, and it may be started again") for line in lines), error


@pytest.mark.slow
def test_with_a_server_the_run_goes_back_to_the_last_checkpoint(begin, tmp_path):
    run = begin(max_number_of_steps=60, log_every_n_steps=2, eval_every_steps=10, max_restarts=1)
    run.wait_for(12)
    # The server is a child of a process that starts it again.
    run.server.send_signal(signal.SIGTERM)
    again = run.start("ps", 0)
    statuses, said, error = run.end(run.chief, run.worker, run.other, again)
    assert statuses == [0] * 4, error
    assert "error: the chief: parameter server 0 (127.0.0.1:" in error and "start 1 of 1" in error
    assert re.search(r": from step [1-5]0 of 60\n", said), said
    assert training_toys.values_in(tmp_path / "run" / "model.ckpt-60")["global_step"] == 60


@pytest.mark.slow
def test_a_signal_to_the_chief_saves_and_ends_all(begin, tmp_path):
    run = begin(num_epochs=2000.0, eval_every_epochs=0.0, log_every_n_steps=2)
    run.wait_for(4)
    run.chief.send_signal(signal.SIGINT)
    statuses, said, error = run.end(run.chief, run.worker, run.other, run.server)
    assert (statuses, error) == ([130, 0, 0, 0], "")
    (saved,) = (tmp_path / "run").glob("model.ckpt-*.index")
    step = int(saved.stem.rpartition("-")[2])
    assert training_toys.values_in(saved.with_suffix(""))["global_step"] == step
    assert f"interrupted at step {step} of" in said


@pytest.mark.slow
def test_records_that_a_worker_cannot_read_end_the_run_with_one_line(begin, data_dir):
    """They are all well when the chief looks at them first; its own evaluation comes later."""
    path = data_dir / "toy_train.tfrecord"
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    try:
        run = begin()
        statuses, _, error = run.end(run.chief, run.worker, run.other, run.server)
    finally:
        path.write_bytes(content)
    assert statuses == [1, 0, 0, 0]
    assert re.fullmatch(
        r"error: (a )?worker .*; each worker reads .*toy: see that all have .* finds them well\n", error
    )
