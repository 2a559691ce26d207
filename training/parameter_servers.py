"""Training with parameter servers, by TensorFlow's ParameterServerStrategy.

The variables lie on the servers. The chief deals out steps; each worker takes its own batches, computes a step with the
weights as it finds them, and moves them, while others do the same. There is no waiting for each other, and no two runs
are the same. A worker that dies is left out until it is back, and its step is given to another; with a server its
variables are lost, and the chief goes on from the last checkpoint.

Source: Dean et al., Large Scale Distributed Deep Networks, NIPS 2012, section 4.1 (asynchronous SGD).
"""

import collections
import contextlib
import logging
import re
import signal
import sys
import time

import tensorflow as tf

from command_line import UserError
from training import meeting

_BETWEEN_CALLS_SECS = 0.2
# Steps dealt out to each worker: one that it is at, and one that waits for it.
_STEPS_A_WORKER = 2


def check(config):
    """Sees that the flags are such as steps apart from each other can follow.

    Raises:
      UserError: If one is not.
    """
    for name, why in (
        ("sync_batch_norm", "a step is one worker's"),
        ("profile_steps", "no step is done by the process that would trace it"),
        ("data_service_address", "each worker makes its own batches"),
    ):
        if getattr(config, name):
            raise UserError(f"--{name} does not go with parameter servers, where {why}; leave one of them out")
    if config.shard_policy == "file":
        raise UserError(
            "--shard_policy=file does not go with parameter servers: each worker reads all records, in an order of its "
            "own; leave it out"
        )
    if config.dataset_name == "synthetic":
        raise UserError("--dataset_name=synthetic does not go with parameter servers, whose workers read records")


def serve(cluster):
    """Lets this process, a server or a worker of one, do what the chief asks; it ends with the chief's run.

    Args:
      cluster: A clusters.Cluster with servers, in which this process is not the chief.

    Raises:
      UserError: If its port is taken.
    """
    spec = _spec(cluster)
    place = cluster.index if cluster.job == "ps" else cluster.index - 1
    address = spec[cluster.job][place]
    meeting.listen(address, name_of(cluster, cluster.job, place)).close()
    server = tf.distribute.Server(
        tf.train.ClusterSpec(spec), job_name=cluster.job, task_index=place, protocol="grpc", start=True
    )
    print(f"{name_of(cluster, cluster.job, place)} is there for the chief ({cluster.workers[0]})", flush=True)
    while server:  # Its `join` would not let a signal through.
        signal.pause()


def connect(cluster, timeout_secs):
    """Connects the chief with all others.

    Args:
      cluster: A clusters.Cluster with servers, in which this process is the chief.
      timeout_secs: How long to wait for them.

    Returns:
      A tf.distribute.ParameterServerStrategy.

    Raises:
      UserError: If one is not reached in time, by its address, or the chief's own port is taken.
    """
    meeting.listen(cluster.workers[0], "the chief").close()
    logging.getLogger("tensorflow").addFilter(lambda record: _say_in_a_line(cluster, record))
    deadline = time.monotonic() + timeout_secs
    missing = [(job, place) for job in ("worker", "ps") for place in range(len(_spec(cluster)[job]))]
    while missing:
        missing = [other for other in missing if not _is_reached(_spec(cluster)[other[0]][other[1]])]
        if missing and time.monotonic() > deadline:
            who = ", ".join(name_of(cluster, *other) for other in missing)
            raise UserError(f"{who} did not come within {timeout_secs:g} s; start it, or raise --worker_timeout_secs")
        time.sleep(_BETWEEN_CALLS_SECS if missing else 0)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(_spec(cluster)), task_type="chief", task_id=0, rpc_layer="grpc"
    )
    return tf.distribute.ParameterServerStrategy(resolver)


def dismiss(cluster):
    """Ends all other processes of the run, each with status 0."""
    for job in ("worker", "ps"):
        for place in range(len(_spec(cluster)[job])):
            device = f"/job:{job}/replica:0/task:{place}/device:CPU:0"
            with contextlib.suppress(tf.errors.OpError), tf.device(device):
                tf.raw_ops.Abort(error_msg="", exit_without_error=True)


def name_of(cluster, job, place):
    """A process for a message, such as "worker 1 (host:2222)"; TensorFlow counts workers without the chief."""
    if job == "ps":
        return f"parameter server {place} ({cluster.servers[place]})"
    return f"worker {place + 1} ({cluster.workers[place + 1]})"


class Dealer:
    """Deals out training steps to workers."""

    def __init__(self, step, source, workers, stop):
        """Makes the input of each worker.

        Args:
          step: A step.TrainStep made under the strategy.
          source: The input.Input of the run.
          workers: The workers.Workers of the run.
          stop: A StopRequest, after which no more are dealt out.
        """
        self._global_step = step.global_step
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(workers.strategy)
        self._most = _STEPS_A_WORKER * (len(workers.cluster.workers) - 1)
        self._stop = stop
        # Made when a worker has none: it begins anew with one that has come back.
        self._batches = iter(self._coordinator.create_per_worker_dataset(source.batches_of_a_server_worker))

        def next_step(batches):
            return step.step(*next(batches))

        self._next_step = tf.function(next_step, autograph=False)

    def run(self, first_step, last_step):
        """Deals out steps, those from a count of steps to another; after a stop no more.

        Yields:
          The metrics of each, as `TrainStep.step` gives them.
        """
        dealt, values = first_step, collections.deque()
        while True:
            while dealt < last_step and len(values) < self._most and not self._stop:
                values.append(self._coordinator.schedule(self._next_step, args=(self._batches,)))
                dealt += 1
            if not values:
                # A worker that dies may have moved the weights, and its step is done anew all the same.
                self._global_step.assign(dealt)
                return
            try:
                yield values.popleft().fetch()
            except tf.errors.CancelledError:
                self._coordinator.join()  # Another step failed, and this says how.
                raise


def _spec(cluster):
    return {"chief": cluster.workers[:1], "worker": cluster.workers[1:], "ps": cluster.servers}


def _say_in_a_line(cluster, record):
    """Whether TensorFlow's own text is to be shown: of a worker that is lost, what it comes to is said in its place."""
    text = record.getMessage()
    lost = re.match(r"Worker /job:worker/replica:\d+/task:(\d+) failed", text)
    if lost and "/job:ps" not in text:
        who = name_of(cluster, "worker", int(lost[1]))
        print(f"{who} was lost; the others go on, and it may be started again", file=sys.stderr, flush=True)
    return not (lost or "/job:ps" in text)


def _is_reached(address):
    try:
        meeting.connect(address, timeout_secs=10.0).close()
    except OSError:
        return False
    return True
