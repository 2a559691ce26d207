"""The processes of a run on several machines, and how they exchange values.

Every worker runs the same command. Worker 0 is the chief, which alone touches the run's folder. What the others need to
know about it, and every decision that starts in one process (a signal, a clock), goes through `Workers.sum`.
"""

import contextlib
import json
import re

import numpy as np
import tensorflow as tf

from command_line import UserError
from training import clusters, parameter_servers

_ONE_PROCESS = clusters.Cluster()
LOST = 75  # Exit status of a worker whose peer is gone or ends: running the same command everywhere again mends it.
_COLLECTIVE_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class PeerLost(UserError):
    """Another worker is gone; all continue from the last checkpoint when they are restarted."""

    status = LOST


class Workers:
    """The workers of a run, seen from one of them.

    Attributes:
      addresses: HOST:PORT of each, the chief first; () in a run of one process.
      index: This one's place among them.
      count: How many, at least 1.
      is_chief: Whether this one writes checkpoints, curves and the log.
      cluster: The clusters.Cluster; if it has servers, only the chief has a Workers, with a count of 1.
    """

    def __init__(self, cluster=_ONE_PROCESS):
        """Args: cluster: a clusters.Cluster. `strategy` has to be set before values are exchanged."""
        self.cluster = cluster
        self.addresses = cluster.workers
        # With servers, only the chief runs this program; the others do what it asks.
        self.count = max(1, len(self.addresses)) if not cluster.servers else 1
        self.index = cluster.index
        self.is_chief = cluster.is_chief
        self.strategy = None

    def sum(self, arrays):
        """Sums arrays over the workers; all of them have to call it, in the same order.

        Args:
          arrays: A list of arrays or tensors, of the same shapes and dtypes everywhere.

        Returns:
          A list of NumPy arrays.
        """
        arrays = [np.asarray(array) for array in arrays]
        if self.count == 1 or not arrays:
            return arrays
        local_replicas = self.strategy.num_replicas_in_sync // self.count

        def add(*values):
            context = tf.distribute.get_replica_context()
            # Only one replica of each worker contributes its values.
            speaks = context.replica_id_in_sync_group % local_replicas == 0
            values = [value if speaks else tf.zeros_like(value) for value in values]
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        totals = self.strategy.run(add, args=[tf.constant(array) for array in arrays])
        return [self.strategy.experimental_local_results(total)[0].numpy() for total in totals]

    def agree(self, *wishes):
        """For each wish, whether any worker has it; a tuple of bools, the same everywhere."""
        (votes,) = self.sum([np.int32([bool(wish) for wish in wishes])])
        return tuple(bool(vote) for vote in votes)

    def from_chief(self, make):
        """Returns on every worker the JSON-able value of `make()` on the chief, which alone calls it."""
        if self.count == 1:
            return make()
        text = json.dumps(make()).encode() if self.is_chief else b""
        (length,) = self.sum([np.int32(len(text))])
        (codes,) = self.sum([np.frombuffer(text.ljust(int(length), b"\0"), np.uint8).astype(np.int32) * self.is_chief])
        return json.loads(codes.astype(np.uint8).tobytes())

    def share(self, variables):
        """Sets every worker's variables to the chief's values."""
        if self.count == 1:
            return
        by_dtype = {}
        for variable in variables:
            by_dtype.setdefault(variable.dtype, []).append(variable)
        for same in by_dtype.values():
            # For a moving statistic, the chief's own value: reading the variable would give the mean over the workers.
            local = [self.strategy.experimental_local_results(variable)[0].numpy() for variable in same]
            values = self.sum([value if self.is_chief else np.zeros_like(value) for value in local])
            for variable, value in zip(same, values, strict=True):
                variable.assign(value, read_value=False)

    def check_same(self, described):
        """Checks that all workers are about to do the same; all of them have to call it.

        Args:
          described: A dict from names, for messages, to JSON-able values.

        Raises:
          UserError: On every worker, if a value of one is not the chief's.
        """
        theirs, ours = self.from_chief(lambda: described), json.loads(json.dumps(described))
        different = [name for name in ours if ours[name] != theirs.get(name)]
        (wrong,) = self.agree(different)
        if different:
            raise UserError(f"worker {self.index} has another {', '.join(different)} than the chief; give all the same")
        if wrong:
            raise UserError("another worker has other data or flags than the chief; its own output says which")

    @contextlib.contextmanager
    def dismissed_at_the_end(self):
        """A context after which parameter servers and their workers end, unless the run is to be restarted."""
        is_lost = False
        try:
            yield
        except PeerLost:
            is_lost = True
            raise
        finally:
            if self.cluster.servers and not is_lost:
                parameter_servers.dismiss(self.cluster)

    @contextlib.contextmanager
    def explain_losses(self):
        """Turns TensorFlow's error for a lost peer into a PeerLost that names it."""
        try:
            yield
        except _COLLECTIVE_ERRORS as error:
            if self.cluster.servers:
                raise PeerLost(parameter_servers.loss(self.cluster, error.message)) from error
            if self.count == 1:
                raise
            found = re.search(r"/job:worker/(?:replica:\d+/)?task:(\d+)", error.message)
            peer = int(found[1]) if found else self.index
            who = f"worker {peer} ({self.addresses[peer]})" if peer != self.index else "another worker"
            raise PeerLost(
                f"worker {self.index}: {who} was lost, its own output may say why; the same command on every worker "
                "goes on from the last checkpoint, and --max_restarts=N does so by itself"
            ) from error


def find_workers(config):
    """The workers that the flags name, or else TF_CONFIG.

    Args:
      config: A TrainConfig.

    Returns:
      A Workers; of one process if nothing names more.

    Raises:
      UserError: If they are wrong or contradict each other.
    """
    return Workers(clusters.find_cluster(config))
