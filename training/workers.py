"""The processes of a run on several machines: who they are, how they meet, what they tell each other.

Every worker runs the same command. Worker 0 is the chief: it alone touches the run's folder. What the others need to
know of it, and every decision that is a matter of one process (a signal, a clock), goes through `Workers.sum`.
"""

import contextlib
import json
import os
import re

import numpy as np
import tensorflow as tf

from command_line import UserError
from training.devices import NO_PARAMETER_SERVERS

LOST = 75  # Exit status of a worker whose peer is gone, or ends: the same command, started anew everywhere, mends it.
_COLLECTIVE_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)


class PeerLost(UserError):
    """Another worker is gone; all go on from the last checkpoint when they are started again."""

    status = LOST


class Workers:
    """The workers of a run, seen from one of them.

    Attributes:
      addresses: HOST:PORT of each, the chief's first; () in a run of one process.
      index: This one's place among them.
      count: How many, at least 1.
      is_chief: Whether this one writes checkpoints, curves and the log.
    """

    def __init__(self, addresses=(), index=0):
        """Args as the attributes; `strategy` is to be set before anything is told."""
        self.addresses = tuple(addresses)
        self.index = index
        self.count = max(1, len(self.addresses))
        self.is_chief = index == 0
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
            # One replica of each worker speaks for it.
            speaks = context.replica_id_in_sync_group % local_replicas == 0
            values = [value if speaks else tf.zeros_like(value) for value in values]
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        totals = self.strategy.run(add, args=[tf.constant(array) for array in arrays])
        return [self.strategy.experimental_local_results(total)[0].numpy() for total in totals]

    def agree(self, *wishes):
        """Whether any worker wishes so; a tuple of bools, the same everywhere."""
        (votes,) = self.sum([np.int32([bool(wish) for wish in wishes])])
        return tuple(bool(vote) for vote in votes)

    def from_chief(self, make):
        """What `make()` gives on the chief, a JSON-able value, on every worker; only the chief calls it."""
        if self.count == 1:
            return make()
        text = json.dumps(make()).encode() if self.is_chief else b""
        (length,) = self.sum([np.int32(len(text))])
        (codes,) = self.sum([np.frombuffer(text.ljust(int(length), b"\0"), np.uint8).astype(np.int32) * self.is_chief])
        return json.loads(codes.astype(np.uint8).tobytes())

    def share(self, variables):
        """Gives every worker's variables the chief's values."""
        if self.count == 1:
            return
        by_dtype = {}
        for variable in variables:
            by_dtype.setdefault(variable.dtype, []).append(variable)
        for same in by_dtype.values():
            # Of a moving statistic, the chief's own: to read the whole would be their mean over the workers.
            local = [self.strategy.experimental_local_results(variable)[0].numpy() for variable in same]
            values = self.sum([value if self.is_chief else np.zeros_like(value) for value in local])
            for variable, value in zip(same, values, strict=True):
                variable.assign(value, read_value=False)

    def check_same(self, described):
        """Sees that all workers are about to do the same; all of them have to call it.

        Args:
          described: A dict of names, as a message may use them, to JSON-able values.

        Raises:
          UserError: If a value is not the chief's, on every worker.
        """
        theirs, ours = self.from_chief(lambda: described), json.loads(json.dumps(described))
        different = [name for name in ours if ours[name] != theirs.get(name)]
        (wrong,) = self.agree(different)
        if different:
            raise UserError(f"worker {self.index} has another {', '.join(different)} than the chief; give all the same")
        if wrong:
            raise UserError("another worker has other data or flags than the chief; its own output says which")

    @contextlib.contextmanager
    def explain_losses(self):
        """Turns what TensorFlow raises when a peer is gone into a PeerLost that names it."""
        try:
            yield
        except _COLLECTIVE_ERRORS as error:
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
      A Workers; of one process where nothing names more.

    Raises:
      UserError: If they contradict each other or themselves.
    """
    if config.worker_hosts is not None:
        addresses = [address.strip() for address in config.worker_hosts.split(",")]
        index, source = config.task_index, "--worker_hosts"
        if index is None:
            raise UserError("--worker_hosts needs --task_index, the place of this worker among them, from 0")
    elif config.task_index is not None:
        raise UserError("--task_index needs --worker_hosts, HOST:PORT of every worker, apart by commas")
    else:
        addresses, index = _of_tf_config()
        source = "TF_CONFIG"
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not (port.isdecimal() and 0 < int(port) < 2**16):
            raise UserError(
                f"{source}: {address!r} is not the address of a worker, expected HOST:PORT with a port of 1 to 65535"
            )
    if len(set(addresses)) < len(addresses):
        raise UserError(f"{source} names a worker twice: {', '.join(addresses)}")
    if addresses and not 0 <= index < len(addresses):
        raise UserError(f"{source} names {len(addresses)} workers, so a task index of {index} is none: 0 is the first")
    return Workers(addresses, index)


def _of_tf_config():
    """Addresses, the chief's first, and the place of this worker among them; ((), 0) without TF_CONFIG."""
    try:
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs, workers = list(cluster.get("chief", ())), list(cluster.get("worker", ()))
        if not chiefs + workers:
            return (), 0
        kind, index = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG is not what TensorFlow writes ({error!r}), expected such as "
            '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
        ) from error
    if cluster.get("ps"):
        raise UserError(f"TF_CONFIG names parameter servers, and {NO_PARAMETER_SERVERS}")
    if kind not in ("chief", "worker"):
        raise UserError(
            f"TF_CONFIG makes this process a {kind!r}, expected chief or worker; for an evaluator start "
            "eval_image_classifier.py --watch"
        )
    return chiefs + workers, index + (len(chiefs) if kind == "worker" else 0)
